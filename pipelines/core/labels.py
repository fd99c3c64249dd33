"""The emotions, their published synonyms and their order."""

from collections.abc import Iterable

EMOTIONS = (
    "anger",
    "boredom",
    "calm",
    "contempt",
    "disgust",
    "fear",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
)
"""The canonical emotions, in the order of the network's outputs."""

SYNONYMS = {
    "angry": "anger",
    "bored": "boredom",
    "contemptuous": "contempt",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "anxiety": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
"""Name in a corpus, in lower case -> the canonical emotion."""


def canonical_emotion(name: str) -> str | None:
    """Return the canonical emotion of a name in any case; None for an unknown name.

    >>> canonical_emotion("Happy"), canonical_emotion("anger"), canonical_emotion("smug")
    ('happiness', 'anger', None)
    """
    name = name.strip().lower()
    return name if name in EMOTIONS else SYNONYMS.get(name)


def in_order(emotions: Iterable[str]) -> list[str]:
    """Return emotions in the order of EMOTIONS.

    >>> in_order({"surprise", "anger"})
    ['anger', 'surprise']
    """
    wanted = set(emotions)
    return [emotion for emotion in EMOTIONS if emotion in wanted]
