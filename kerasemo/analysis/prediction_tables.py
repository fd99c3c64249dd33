"""What networks answer to clips: of one network, or of several pooled over all folds; NumPy only.

`answers.csv` keeps pools: a row a clip and network, with COLUMNS. Whoever has the file can score and compare the answers again
(`python -m kerasemo.compare`), without the records, the network or TensorFlow.
"""

import csv
import dataclasses
import gzip
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS, canonical_emotion, in_order

NEEDED = ("id", "speaker", "emotion", "answer")
"""The columns that a file of answers must have, in any order."""

COLUMNS = (
    "stage",
    "source",
    "side",
    "protocol",
    "network",
    "seed",
    "fold",
    *NEEDED,
    "answer_without_corpus",
    "among",
    "stamps",
)
"""Those of `answers.csv`. `network` counts those that answered the same clips; `fold` is that of the source; `among` has the emotions
that could be answered, with spaces between them."""


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


def of_answers(
    clips: Sequence[tuple[int, str]],
    speakers: Sequence[str],
    labels: np.ndarray,
    answers: np.ndarray,
    *,
    seeds: Sequence[int] = (0,),
    without_corpus: np.ndarray | None = None,
) -> Pool:
    """Return a pool of which nothing but the answers to clips is known; see `Pool`.

    >>> of_answers([(0, "a.wav"), (3, "b.wav")], ["x:1", "x:2"], np.array([0, 5]), np.array([[0, 6]])).folds
    (0, 3)
    """
    return Pool(
        folds=tuple(sorted({fold for fold, _ in clips})),
        seeds=tuple(seeds),
        clips=tuple(clips),
        speakers=tuple(speakers),
        labels=labels,
        answers=answers,
        without_corpus=np.full_like(answers, -1) if without_corpus is None else without_corpus,
        items=np.zeros((*answers.shape, len(EMOTIONS)), int),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """A pool and what is to be known of it."""

    pool: Pool
    emotions: tuple[str, ...]
    """Those that could be answered."""
    side: str = ""
    """`validation`, `test`; empty where the file does not say."""
    protocol: str = ""
    """How the sides were made; empty where the file does not say."""
    stamps: tuple[str, ...] = ()
    """Such as `deduplicated: ...`, `transductive: ...`."""


def write(path: Path, kept: Mapping[tuple[str, str], Kept]) -> None:
    """Write pools by (stage, source) as CSV, under a temporary name first."""
    temporary = path.with_name(path.name + ".tmp")
    names = (*EMOTIONS, "")  # -1 is the last
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (stage, source), own in kept.items():
            pool, among, stamps = own.pool, " ".join(own.emotions), "; ".join(own.stamps)
            for network, seed in enumerate(pool.seeds):
                place = (stage, source, own.side, own.protocol, network, seed)
                columns = (
                    pool.clips,
                    pool.speakers,
                    pool.labels,
                    pool.answers[network],
                    pool.without_corpus[network],
                )
                for (fold, clip), speaker, *said in zip(*columns, strict=True):
                    writer.writerow(
                        (
                            *place,
                            fold,
                            clip,
                            speaker,
                            *(names[index] for index in said),
                            among,
                            stamps,
                        )
                    )
    os.replace(temporary, path)


def read(path: Path) -> dict[tuple[str, str], Kept]:
    """Return the pools of a CSV, by (stage, source); a pool keeps no answers of faces or segments (`items` is 0).

    Args:
        path: With a row a clip, separated by commas, and the columns NEEDED, whoever made it. Emotions may be synonyms
            (`pipelines.core.labels.SYNONYMS`); speakers may be empty, all of them. The others of COLUMNS may be missing or empty: then the
            stage is the file's name (which may end in .gz), `network`, `seed` and `fold` are 0, and what could be answered is what is
            in `emotion` or `answer`.

    Raises:
        InputError: No such file, no CSV of such columns, an emotion that is none, a clip twice, or networks of one stage that
            were not asked about the same clips.
    """
    places: dict[tuple[str, str], dict[tuple[str, int], dict[tuple[int, str], _Row]]] = {}
    facts: dict[tuple[str, str], tuple[str, ...]] = {}
    for line, row in _rows(path):
        place = (
            row.get("stage") or Path(path.name.removesuffix(".gz")).stem,
            row.get("source", ""),
        )
        said = tuple(row.get(name, "") for name in ("side", "protocol", "among", "stamps"))
        if facts.setdefault(place, said) != said:
            raise InputError(
                f"{path}, line {line}: another side, protocol, among or stamps than in the rows before; keep what differs apart"
            )
        seed, fold = (_number(path, line, name, row.get(name) or "0") for name in ("seed", "fold"))
        own = places.setdefault(place, {}).setdefault((row.get("network", ""), seed), {})
        if (fold, row["id"]) in own:
            raise InputError(
                f"{path}, line {line}: clip {row['id']!r} for the second time; expected one answer of each network to a clip (columns "
                "seed or network tell networks apart, fold the folds in which a clip is asked)"
            )
        label, answer = (_index(path, line, name, row[name]) for name in ("emotion", "answer"))
        without = (
            _index(path, line, name, row[name]) if row.get(name := "answer_without_corpus") else -1
        )
        own[fold, row["id"]] = _Row(row["speaker"], label, answer, without, line)
    return {place: _kept(path, place, networks, facts[place]) for place, networks in places.items()}


class _Row(NamedTuple):
    """What a row says of its clip."""

    speaker: str
    label: int
    answer: int
    without: int
    line: int


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV, each with its line, without the spaces around cells."""
    expected = f"expected a CSV in UTF-8 with the columns {', '.join(NEEDED)}, such as answers.csv beside the tables of kerasemo.reproduce"
    try:
        with (gzip.open if path.suffix == ".gz" else open)(
            path, "rt", newline="", encoding="utf-8-sig"
        ) as file:
            reader = csv.reader(file)
            cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(
            f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else 'a folder'}; {expected}"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: no text of a CSV ({error}); {expected}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: no whole gzip file ({error}); {expected}") from error
    cells = [(line, row) for line, row in cells if any(row)]
    if not cells:
        raise InputError(f"{path}: the file is empty; {expected}")
    columns = [name.lower() for name in cells.pop(0)[1]]
    if missing := [name for name in NEEDED if name not in columns]:
        other = next(
            (
                f"separated by {name}? "
                for sign, name in ((";", "semicolons"), ("\t", "tabs"))
                if sign in columns[0]
            ),
            "",
        )
        raise InputError(
            f"{path}: no column {missing[0]!r} among {', '.join(columns)}; {other}{expected}"
        )
    if twice := [name for name in COLUMNS if columns.count(name) > 1]:
        raise InputError(f"{path}: column {twice[0]!r} is there twice; rename what is not meant")
    if not cells:
        raise InputError(f"{path}: no row below the names of the columns; {expected}")
    for line, row in cells:
        if len(row) != len(columns):
            raise InputError(
                f"{path}, line {line}: {len(row)} cells, expected {len(columns)} as in the first line; is the file cut off?"
            )
    return [(line, dict(zip(columns, row, strict=True))) for line, row in cells]


def _index(path: Path, line: int, column: str, name: str) -> int:
    emotion = canonical_emotion(name)
    if emotion is None:
        raise InputError(
            f"{path}, line {line}: {column} {name!r}; expected {', '.join(EMOTIONS)} or a synonym"
        )
    return EMOTIONS.index(emotion)


def _number(path: Path, line: int, column: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise InputError(
            f"{path}, line {line}: {column} {text[:20]!r}; expected a whole number from 0"
        )
    return int(text)


def _kept(
    path: Path,
    place: tuple[str, str],
    networks: Mapping[tuple[str, int], Mapping[tuple[int, str], _Row]],
    facts: Sequence[str],
) -> Kept:
    """Return the pool of some networks, by (network, seed), the clips, (fold, id), in the order of the first."""
    (first, clips), *others = networks.items()
    for name, own in others:
        if own.keys() != clips.keys() or any(
            own[clip][:2] != row[:2] for clip, row in clips.items()
        ):
            of = " of ".join(filter(None, place))
            raise InputError(
                f"{path}: two networks ({of}; seeds {first[1]} and {name[1]}) were not asked about the same clips of the same folds, "
                "speakers and emotions; keep each kind of network in a file, or a stage, of its own"
            )
    unnamed = [row.line for row in clips.values() if not row.speaker]
    if 0 < len(unnamed) < len(clips):
        raise InputError(
            f"{path}, line {unnamed[0]}: no speaker, where other clips have one; name the speaker of every clip, or of none"
        )
    answers, without = (
        np.array([[getattr(own[clip], name) for clip in clips] for own in networks.values()])
        for name in ("answer", "without")
    )
    side, protocol, among, stamps = facts
    if unknown := [name for name in among.split() if name not in EMOTIONS]:
        raise InputError(
            f"{path}: among {unknown[0]!r}; expected some of {', '.join(EMOTIONS)} with spaces between them"
        )
    labels = np.array([row.label for row in clips.values()])
    speakers, seeds = [row.speaker for row in clips.values()], [seed for _, seed in networks]
    pool = of_answers(list(clips), speakers, labels, answers, seeds=seeds, without_corpus=without)
    emotions = in_order(among.split() or (EMOTIONS[index] for index in {*labels, *answers.flat}))
    return Kept(pool, tuple(emotions), side, protocol, tuple(filter(None, stamps.split("; "))))
