"""What networks answer to clips: of one network, or of several pooled over all folds; NumPy only.

`answers.csv` keeps pools: a row a clip and network, with COLUMNS. Whoever has the file can score and compare the answers again
(`python -m kerasemo.compare`), without the records, the network or TensorFlow.
"""

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.spec import EMOTIONS, InputError, canonical_emotion

NEEDED = ("id", "speaker", "emotion", "answer")
"""The columns that a file of answers must have, in any order."""

COLUMNS = ("stage", "source", "network", "seed", "fold", *NEEDED)
"""Those of `answers.csv`. `network` counts those that answered the same clips; `fold` is that of the source."""


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """What one network answers to the clips of one side of one source."""

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    """Of each clip; empty where none is known."""
    labels: np.ndarray
    """int [clips], indices of EMOTIONS."""
    answers: np.ndarray
    """int [clips]: the most probable emotion, the first of equals."""
    probabilities: np.ndarray
    """float [clips, 10], of the emotions alone that the corpus and the network both have."""
    without_corpus: np.ndarray
    """int [clips]: the answer among all that the network knows; -1 where it cannot answer without the corpus."""
    items: np.ndarray
    """int [clips, 10]: how many of the clip's faces or segments got each answer."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """The clips of all folds, and what was answered to them."""

    folds: tuple[int, ...]
    """Those that are pooled, of the source's own."""
    seeds: tuple[int, ...]
    """Of each row of `answers`."""
    clips: tuple[tuple[int, str], ...]
    """(fold, id) of each clip."""
    speakers: tuple[str, ...]
    labels: np.ndarray
    """int [clips], indices of EMOTIONS."""
    answers: np.ndarray
    """int [rows, clips]."""
    without_corpus: np.ndarray
    """int [rows, clips], or -1; see `Answers`."""
    items: np.ndarray
    """int [rows, clips, 10]: how many of a clip's faces or segments got each answer."""


def write(path: Path, pools: Mapping[tuple[str, str], Pool]) -> None:
    """Write pools by (stage, source) as CSV, under a temporary name first."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (stage, source), pool in pools.items():
            for network, (seed, own) in enumerate(zip(pool.seeds, pool.answers, strict=True)):
                for (fold, clip), speaker, *said in zip(pool.clips, pool.speakers, pool.labels, own, strict=True):
                    writer.writerow((stage, source, network, seed, fold, clip, speaker, *(EMOTIONS[index] for index in said)))
    os.replace(temporary, path)


def read(path: Path) -> dict[tuple[str, str], Pool]:
    """Return the pools of a CSV, by (stage, source); a pool keeps no answers of faces or segments (`items` is 0).

    Args:
        path: With a row a clip and the columns NEEDED, whoever made it. Emotions may be synonyms (`pipelines.spec.SYNONYMS`), a speaker
            may be empty. Without a column `stage` the file's name is the stage, without `source` that is empty, without
            `network` it is the seed, without `seed` and `fold` they are 0.

    Raises:
        InputError: No such file, no CSV of such columns, an emotion that is none, a clip twice, or networks of one stage that
            were not asked about the same clips.
    """
    places: dict[tuple[str, str], dict[str, list[_Row]]] = {}
    there = set()
    for line, row in _rows(path):
        place, network = (row.get("stage", path.stem), row.get("source", "")), row.get("network", row.get("seed", "0"))
        seed, fold = (_number(path, line, name, row.get(name, "0")) for name in ("seed", "fold"))
        if (*place, network, fold, row["id"]) in there:
            raise InputError(
                f"{path}, line {line}: clip {row['id']!r} for the second time; expected one answer of each network to a clip "
                "(a column network, or seed, tells several networks apart)"
            )
        there.add((*place, network, fold, row["id"]))
        label, answer = (_index(path, line, name, row[name]) for name in ("emotion", "answer"))
        places.setdefault(place, {}).setdefault(network, []).append(_Row(seed, (fold, row["id"]), row["speaker"], label, answer))
    return {place: _pool(path, place, networks) for place, networks in places.items()}


class _Row(NamedTuple):
    seed: int
    clip: tuple[int, str]
    speaker: str
    label: int
    answer: int


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV, each with its line."""
    expected = f"expected a CSV with the columns {', '.join(NEEDED)}, such as answers.csv beside the tables of kerasemo.reproduce"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval=None)
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or ()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else 'a folder'}; {expected}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no text of a CSV ({error}); {expected}") from error
    if missing := [name for name in NEEDED if name not in columns]:
        raise InputError(f"{path}: no column {missing[0]!r} ({', '.join(map(str, columns)) or 'the file is empty'}); {expected}")
    if not rows:
        raise InputError(f"{path}: no row below the names of the columns; {expected}")
    for line, row in rows:
        if None in row or None in row.values():
            raise InputError(f"{path}, line {line}: expected {len(columns)} cells as in the first line; is the file cut off?")
    return rows


def _index(path: Path, line: int, column: str, name: str) -> int:
    emotion = canonical_emotion(name)
    if emotion is None:
        raise InputError(f"{path}, line {line}: {column} {name!r}; expected {', '.join(EMOTIONS)} or a synonym")
    return EMOTIONS.index(emotion)


def _number(path: Path, line: int, column: str, text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{path}, line {line}: {column} {text!r}; expected a whole number from 0")
    return int(text)


def _pool(path: Path, place: tuple[str, str], networks: Mapping[str, Sequence[_Row]]) -> Pool:
    """Return the pool of some networks, the clips in the order of the first."""
    (first, clips), *others = networks.items()
    for name, own in others:
        if {row[1:4] for row in own} != {row[1:4] for row in clips}:
            of = " of ".join(filter(None, place))
            raise InputError(
                f"{path}: networks {first} and {name} ({of}) were not asked about the same clips of the same folds, speakers and "
                "emotions; keep each kind of network in a file, or a stage, of its own"
            )
    said = [{row.clip: row.answer for row in own} for own in networks.values()]
    answers = np.array([[own[row.clip] for row in clips] for own in said])
    return Pool(
        folds=tuple(sorted({row.clip[0] for row in clips})),
        seeds=tuple(own[0].seed for own in networks.values()),
        clips=tuple(row.clip for row in clips),
        speakers=tuple(row.speaker for row in clips),
        labels=np.array([row.label for row in clips]),
        answers=answers,
        without_corpus=np.full_like(answers, -1),
        items=np.zeros((*answers.shape, len(EMOTIONS)), int),
    )
