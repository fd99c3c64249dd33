"""Patterns for messages: key words, in any order, so that a test does not fix a sentence."""

import re
from collections.abc import Iterable


def key_words(*words: str) -> str:
    """Return a pattern for `pytest.raises(match=...)`: each of `words` is in the message."""
    return "(?s)" + "".join(f"(?=.*{re.escape(word)})" for word in words)


def mentions(text: str, *words: str) -> bool:
    """Return whether each of `words` is in a text."""
    return all(word in text for word in words)


def message_with(messages: Iterable[str], *words: str) -> str:
    """Return the only message that has each of `words`."""
    matches = [message for message in messages if mentions(message, *words)]
    assert len(matches) == 1, f"{words} in {len(matches)} of {list(messages)}"
    return matches[0]
