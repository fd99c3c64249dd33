"""Patterns for messages: key words, in any order, so that a test does not fix a sentence."""

import re


def key_words(*words: str) -> str:
    """Return a pattern for `pytest.raises(match=...)`: each of `words` is in the message."""
    return "(?s)" + "".join(f"(?=.*{re.escape(word)})" for word in words)
