"""The errors that users meet.

A message names in one line the expected, the received, the remedy.
"""

from collections.abc import Sequence

from pipelines.core.text import number_problems


class KerasemoError(Exception):
    """Base of every error that the project raises on purpose."""


class InputError(KerasemoError, ValueError):
    """A user's mistake: an argument, a setting, a folder that does not exist."""


class DataError(KerasemoError, ValueError):
    """A file that is damaged, incomplete, or of another format version."""


class MediaError(DataError):
    """A media file that cannot be used. The message is the reason that the quarantine gives."""


class RunError(KerasemoError, RuntimeError):
    """What a run could not do although its input is valid: a lost worker, a loss that is NaN."""


class StorageError(RunError, OSError):
    """A disk that is full, or a folder that cannot be written."""


def raise_all(problems: Sequence[str], error: type[KerasemoError] = InputError) -> None:
    """Raise one error that lists all problems, each once; return if there is none.

    >>> raise_all([])
    >>> raise_all(["no stage 'a'", "batch must be even", "no stage 'a'"])
    Traceback (most recent call last):
    pipelines.core.errors.InputError: 2 problems: (1) no stage 'a'; (2) batch must be even
    """
    if problems:
        raise error(number_problems(list(dict.fromkeys(problems))))
