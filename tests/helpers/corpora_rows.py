"""Rows of manifests of whole corpora that are never written, for tests of splits, folds and leaks."""

import itertools

from kerasemo.config.schema import PROTOCOLS
from kerasemo.datasets.splits import SPLITS

INDEPENDENT, DEPENDENT = PROTOCOLS


def row(id, speaker, emotion, *, utterance, sentence="", split="", sha256=None):
    return {
        "id": id,
        "speaker": speaker,
        "emotion": emotion,
        "utterance": utterance,
        "sentence": sentence,
        "take": "",
        "split": split,
        "sha256": sha256 or f"content of {id}",
    }


def corpus(name, *, speakers, emotions, sentences, takes=1, domains=("audio",), suffixes=None):
    """The sets of a corpus in which each speaker says each sentence `takes` times with each emotion; a file for each domain."""
    suffixes = suffixes or {"audio": ".wav", "visual": ".avi"}
    sets = {}
    for domain in domains:
        sets[f"{name}/{domain}"] = [
            row(
                f"{speaker}/{emotion}{sentence}-{take}{suffixes[domain]}",
                f"{name}:{speaker}",
                emotion,
                utterance=f"{name}:{speaker}:{emotion}:{sentence}:{take}",
                sentence=sentence,
            )
            for speaker, emotion, sentence, take in itertools.product(
                speakers, emotions, sentences, range(takes)
            )
        ]
    return sets


SEVEN = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
CORPORA = {
    "savee": corpus(
        "savee",
        speakers=("DC", "JE", "JK", "KL"),
        emotions=SEVEN,
        sentences="abcdefghijklmno",
        domains=("visual", "audio"),
    ),
    "emodb": corpus(
        "emodb",
        speakers=(3, *range(8, 17)),
        emotions=SEVEN,
        sentences=("a01", "a02", "b01"),
        takes=2,
    ),
    "ravdess": corpus(
        "ravdess",
        speakers=[f"{i:02d}" for i in range(1, 25)],
        emotions=SEVEN,
        sentences=("01", "02"),
        takes=2,
    ),
    "half": corpus(
        "half",
        speakers=[f"{i:02d}" for i in range(1, 13)],
        emotions=SEVEN,
        sentences=("01", "02"),
        takes=2,
    ),
    "enterface": corpus(
        "enterface",
        speakers=[i for i in range(1, 45) if i != 6],
        emotions=SEVEN[:6],
        sentences="12345",
        domains=("visual", "audio"),
    ),
}


def stills(sides, *, name="fer", per_class=10):
    """A corpus that its publisher split: `per_class` stills of each of two emotions on each of `sides`."""
    return [
        row(id := f"{side}/{emotion}/{i}.jpg", "", emotion, utterance=f"{name}:{id}", split=side)
        for side, emotion, i in itertools.product(sides, ("anger", "fear"), range(per_class))
    ]


def assert_apart(values):
    for one, other in itertools.combinations(SPLITS, 2):
        assert not values[one] & values[other]
