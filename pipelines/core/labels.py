"""The emotions, their order, their published synonyms, and the words of a user."""

import dataclasses
import functools
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipelines.core.errors import DataError, InputError

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

_SYNONYMS_OF = {
    "anger": ("angry", "ang", "frustrated", "frustration", "fru"),
    "boredom": ("bored",),
    "calm": ("calmness", "relaxed"),
    "contempt": ("contemptuous",),
    "disgust": ("disgusted", "dis"),
    "fear": ("fearful", "afraid", "anxiety", "anxious", "scared", "fea"),
    "happiness": ("happy", "joy", "joyful", "excited", "excitement", "hap", "exc"),
    "neutral": ("neutrality", "neu"),
    "sadness": ("sad", "sorrow"),
    "surprise": ("surprised", "pleasant surprise", "pleasant surprised", "ps", "sur"),
}
SYNONYMS = {synonym: emotion for emotion, synonyms in _SYNONYMS_OF.items() for synonym in synonyms}
"""Folded word (see `fold_word`) -> the canonical emotion.

They are the words of RAVDESS, CREMA-D, TESS, IEMOCAP, MELD, nEMO and SAVEE. Excitement counts as
happiness, as is usual for IEMOCAP. That frustration counts as anger is the project's choice.
"""


def fold_word(word: str) -> str:
    """Return a word in the form in which words are compared.

    Case, composition of letters, invisible characters, and spaces, hyphens and underscores do not
    matter.

    >>> fold_word(" Pleasant_Surprise"), fold_word("W\u00dcTEND") == fold_word("wu\u0308tend")
    ('pleasant surprise', True)
    """
    text = unicodedata.normalize("NFKC", word).casefold()
    text = "".join(letter for letter in text if unicodedata.category(letter) != "Cf")
    return " ".join(re.split(r"[\s_-]+", text)).strip()


def canonical_emotion(name: str) -> str | None:
    """Return the canonical emotion of a name in any case; None for an unknown name.

    >>> canonical_emotion("Happy"), canonical_emotion("anger"), canonical_emotion("smug")
    ('happiness', 'anger', None)
    """
    word = fold_word(name)
    return word if word in EMOTIONS else SYNONYMS.get(word)


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """The emotions of a user's own words, in any language.

    >>> LabelMap({"froh": "happiness"}).emotion_of("Froh")
    'happiness'

    Attributes:
        emotion_by_word: Word -> canonical emotion. These words come before the published synonyms.
    """

    emotion_by_word: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def _emotion_by_folded_word(self) -> dict[str, str]:
        return {fold_word(word): emotion for word, emotion in self.emotion_by_word.items()}

    def emotion_of(self, word: str) -> str | None:
        """Return the canonical emotion of a word; None for an unknown word."""
        return self._emotion_by_folded_word.get(fold_word(word)) or canonical_emotion(word)


PUBLISHED_WORDS = LabelMap()
"""The label map without words of a user."""


def read_label_map(path: Path) -> LabelMap:
    """Read the table `[labels]` of a TOML file: words to emotions or to their synonyms.

    Args:
        path: The file, such as `[labels]` with the line `"Angst" = "fear"`.

    Raises:
        InputError: The file does not exist.
        DataError: The file is not TOML, has no table `[labels]`, or has a word that is empty, is
            there twice with two emotions, or names no emotion.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: not a TOML file in UTF-8 ({error}); correct the file") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); name a TOML file with a table [labels]"
        ) from None
    table = document.get("labels")
    if not isinstance(table, dict) or not table or document.keys() != {"labels"}:
        raise DataError(
            f"{path}: expected one table [labels] of words and emotions, such as "
            '"Angst" = "fear"; received '
            f"{', '.join(map(repr, document)) or 'an empty file'}"
        )
    emotion_by_word: dict[str, str] = {}
    folded: dict[str, str] = {}
    for word, name in table.items():
        emotion = canonical_emotion(name) if isinstance(name, str) else None
        if emotion is None or not fold_word(word):
            raise DataError(
                f"{path}: {word!r} must be a word with one of {', '.join(EMOTIONS)}; "
                f"received {name!r}"
            )
        if folded.setdefault(fold_word(word), emotion) != emotion:
            raise DataError(
                f"{path}: {word!r} is spelled in two ways with two emotions, "
                f"{folded[fold_word(word)]} and {emotion}; keep one"
            )
        emotion_by_word[word] = emotion
    return LabelMap(emotion_by_word)


def in_order(emotions: Iterable[str]) -> list[str]:
    """Return emotions in the order of EMOTIONS.

    >>> in_order({"surprise", "anger"})
    ['anger', 'surprise']
    """
    wanted = set(emotions)
    return [emotion for emotion in EMOTIONS if emotion in wanted]
