"""The errors that users meet."""

from collections.abc import Sequence

from pipelines.core.text import numbered


def raise_all(problems: Sequence[str]) -> None:
    """Raise one InputError that tells all problems, where there are any."""
    if problems:
        raise InputError(numbered(list(dict.fromkeys(problems))))


class InputError(ValueError):
    """A user's mistake: the message is one line that says what was expected, what came and the remedy."""


class MediaError(ValueError):
    """A media file that cannot be used; the message is the reason that its quarantine row gives."""
