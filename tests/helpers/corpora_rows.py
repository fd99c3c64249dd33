"""Manifest rows of whole corpora that are never written, for tests of splits, folds and leaks."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kerasemo.config.schema import PROTOCOLS
from kerasemo.datasets.splits import SPLITS

INDEPENDENT, DEPENDENT = PROTOCOLS

Row = dict[str, Any]
RowsBySource = dict[str, list[Row]]


def row(
    clip_id: str,
    speaker: str,
    emotion: str,
    *,
    utterance: str,
    sentence: str = "",
    split: str = "",
    sha256: str | None = None,
) -> Row:
    """Return the row of a clip whose content no other clip has, unless `sha256` says so."""
    return {
        "id": clip_id,
        "speaker": speaker,
        "emotion": emotion,
        "utterance": utterance,
        "sentence": sentence,
        "take": "",
        "split": split,
        "sha256": sha256 or f"content of {clip_id}",
    }


def corpus(
    name: str,
    *,
    speakers: Iterable[object],
    emotions: Sequence[str],
    sentences: Iterable[str],
    takes: int = 1,
    domains: Sequence[str] = ("audio",),
) -> RowsBySource:
    """Return the sets of a corpus in which each speaker says each sentence with each emotion.

    Args:
        name: The name of the corpus.
        speakers: The names of the speakers, without the name of the corpus.
        emotions: The emotions.
        sentences: The names of the sentences.
        takes: How often a speaker says a sentence with an emotion.
        domains: The domains; a file for each domain of each utterance.
    """
    suffixes = {"audio": ".wav", "visual": ".avi"}
    acts = list(itertools.product(speakers, emotions, sentences, range(takes)))
    return {
        f"{name}/{domain}": [
            row(
                f"{speaker}/{emotion}{sentence}-{take}{suffixes[domain]}",
                f"{name}:{speaker}",
                emotion,
                utterance=f"{name}:{speaker}:{emotion}:{sentence}:{take}",
                sentence=sentence,
            )
            for speaker, emotion, sentence, take in acts
        ]
        for domain in domains
    }


SEVEN_EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
CORPORA = {
    "savee": corpus(
        "savee",
        speakers=("DC", "JE", "JK", "KL"),
        emotions=SEVEN_EMOTIONS,
        sentences="abcdefghijklmno",
        domains=("visual", "audio"),
    ),
    "emodb": corpus(
        "emodb",
        speakers=(3, *range(8, 17)),
        emotions=SEVEN_EMOTIONS,
        sentences=("a01", "a02", "b01"),
        takes=2,
    ),
    "ravdess": corpus(
        "ravdess",
        speakers=[f"{i:02d}" for i in range(1, 25)],
        emotions=SEVEN_EMOTIONS,
        sentences=("01", "02"),
        takes=2,
    ),
    "half": corpus(
        "half",
        speakers=[f"{i:02d}" for i in range(1, 13)],
        emotions=SEVEN_EMOTIONS,
        sentences=("01", "02"),
        takes=2,
    ),
    "enterface": corpus(
        "enterface",
        speakers=[i for i in range(1, 45) if i != 6],
        emotions=SEVEN_EMOTIONS[:6],
        sentences="12345",
        domains=("visual", "audio"),
    ),
}
"""Corpus -> source -> rows, with the speakers, emotions and sentences of the published corpora."""


def stills(splits: Iterable[str], *, name: str = "fer", per_class: int = 10) -> list[Row]:
    """Return the rows of a published split: `per_class` stills of two emotions in each split."""
    rows = []
    for split, emotion, i in itertools.product(splits, ("anger", "fear"), range(per_class)):
        clip_id = f"{split}/{emotion}/{i}.jpg"
        rows.append(row(clip_id, "", emotion, utterance=f"{name}:{clip_id}", split=split))
    return rows


def assert_disjoint(values_by_split: Mapping[str, set[str]]) -> None:
    """Check that no two splits share a value."""
    for first, second in itertools.combinations(SPLITS, 2):
        assert not values_by_split[first] & values_by_split[second]
