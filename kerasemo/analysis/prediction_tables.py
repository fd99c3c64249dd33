"""Tables of predictions of one network or of all folds and seeds, in memory and in CSV.

`answers.csv` holds a row for each clip and network, with the columns COLUMNS. The file is enough to
score and compare predictions again (`python -m kerasemo.compare`), without records or networks.
"""

import csv
import dataclasses
import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.core.errors import DataError, InputError
from pipelines.core.files import atomic_path
from pipelines.core.labels import EMOTIONS, canonical_emotion, in_order

REQUIRED_COLUMNS = ("id", "speaker", "emotion", "answer")
"""The columns that a CSV file must have, in any order."""

COLUMNS = (
    "stage",
    "source",
    "side",
    "protocol",
    "network",
    "seed",
    "fold",
    *REQUIRED_COLUMNS,
    "answer_without_corpus",
    "among",
    "stamps",
)
"""The columns of `answers.csv`. `side` is the split, `network` counts the networks that predicted
the same clips, `fold` is that of the source, `answer` is the prediction, `among` holds the emotions
that could be predicted, separated by spaces."""

NO_PREDICTION = -1
"""The class of a clip that a network cannot predict without knowing its corpus."""


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one network for the clips of one split of one source."""

    ids: tuple[str, ...]
    """The id of each clip."""
    speakers: tuple[str, ...]
    """The speaker of each clip; empty where unknown."""
    labels: np.ndarray
    """int [clips], indices of EMOTIONS."""
    predictions: np.ndarray
    """int [clips]: the most probable emotion of those that corpus and network share, the first of
    equal ones."""
    probabilities: np.ndarray
    """float [clips, 10], over the emotions that corpus and network share."""
    open_predictions: np.ndarray
    """int [clips]: the most probable of all emotions of the network; NO_PREDICTION where the
    network needs the corpus."""
    item_counts: np.ndarray
    """int [clips, 10]: how many items of the clip have each prediction."""


@dataclasses.dataclass(frozen=True, eq=False)
class PooledPredictions:
    """The predictions of several networks for the clips of all folds."""

    folds: tuple[int, ...]
    """The pooled folds of the source."""
    seeds: tuple[int, ...]
    """The seed of each row of `predictions`."""
    clips: tuple[tuple[int, str], ...]
    """(fold, id) of each clip."""
    speakers: tuple[str, ...]
    """The speaker of each clip; empty where unknown."""
    labels: np.ndarray
    """int [clips], indices of EMOTIONS."""
    predictions: np.ndarray
    """int [rows, clips]; see `Predictions`."""
    open_predictions: np.ndarray
    """int [rows, clips]; see `Predictions`."""
    item_counts: np.ndarray
    """int [rows, clips, 10]; see `Predictions`."""

    def at(self, indices: Sequence[int] | np.ndarray) -> "PooledPredictions":
        """Return the clips at some indices, in that order."""
        return dataclasses.replace(
            self,
            clips=tuple(self.clips[index] for index in indices),
            speakers=tuple(self.speakers[index] for index in indices),
            labels=self.labels[indices],
            predictions=self.predictions[:, indices],
            open_predictions=self.open_predictions[:, indices],
            item_counts=self.item_counts[:, indices],
        )


def pooled_predictions(
    clips: Sequence[tuple[int, str]],
    speakers: Sequence[str],
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    seeds: Sequence[int] = (0,),
    open_predictions: np.ndarray | None = None,
) -> PooledPredictions:
    """Return pooled predictions of clips whose items are not known; see `PooledPredictions`.

    >>> clips = [(0, "a.wav"), (3, "b.wav")]
    >>> pooled_predictions(clips, ["x:1", "x:2"], np.array([0, 5]), np.array([[0, 6]])).folds
    (0, 3)
    """
    if open_predictions is None:
        open_predictions = np.full_like(predictions, NO_PREDICTION)
    return PooledPredictions(
        folds=tuple(sorted({fold for fold, _ in clips})),
        seeds=tuple(seeds),
        clips=tuple(clips),
        speakers=tuple(speakers),
        labels=labels,
        predictions=predictions,
        open_predictions=open_predictions,
        item_counts=np.zeros((*predictions.shape, len(EMOTIONS)), int),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class PredictionTable:
    """Pooled predictions of one stage for one source, and how they were made."""

    pool: PooledPredictions
    emotions: tuple[str, ...]
    """The emotions that could be predicted."""
    split: str = ""
    """`validation`, `test`, or empty where the file does not say."""
    protocol: str = ""
    """The protocol of the splits; empty where the file does not name one."""
    stamps: tuple[str, ...] = ()
    """Remarks on the score, such as `deduplicated: ...`, `transductive: ...`."""


def write_prediction_tables(path: Path, tables: Mapping[tuple[str, str], PredictionTable]) -> None:
    """Write prediction tables by (stage, source) as one CSV file, atomically."""
    names = (*EMOTIONS, "")  # the index NO_PREDICTION is the last
    with (
        atomic_path(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for (stage, source), table in tables.items():
            pool, emotions, stamps = table.pool, " ".join(table.emotions), "; ".join(table.stamps)
            for row, seed in enumerate(pool.seeds):
                network = (stage, source, table.split, table.protocol, row, seed)
                for clip, (fold, clip_id) in enumerate(pool.clips):
                    classes = (
                        pool.labels[clip],
                        pool.predictions[row, clip],
                        pool.open_predictions[row, clip],
                    )
                    writer.writerow(
                        (
                            *network,
                            fold,
                            clip_id,
                            pool.speakers[clip],
                            *(names[index] for index in classes),
                            emotions,
                            stamps,
                        )
                    )


def read_prediction_tables(path: Path) -> dict[tuple[str, str], PredictionTable]:
    """Read the prediction tables of a CSV file, by (stage, source); item counts are 0.

    Args:
        path: A CSV file, possibly compressed (`.gz`), with a row for each clip, commas as
            separators, and REQUIRED_COLUMNS, whoever made it. Emotions may be synonyms
            (`pipelines.core.labels.SYNONYMS`). Speakers may be empty, all of them. The other
            COLUMNS may be missing or empty: then the stage is the name of the file, `network`,
            `seed` and `fold` are 0, and the possible emotions are those of `emotion` and `answer`.

    Raises:
        InputError: The file does not exist.
        DataError: The file is no such CSV, an emotion is unknown, a clip occurs twice, or networks
            of one stage predict different clips.
    """
    stage_of_file = Path(path.name.removesuffix(".gz")).stem
    networks: dict[tuple[str, str], dict[tuple[str, int], _ClipRows]] = {}
    facts: dict[tuple[str, str], tuple[str, ...]] = {}
    for line, row in _read_rows(path):
        key = (row.get("stage") or stage_of_file, row.get("source", ""))
        facts_of_row = tuple(row.get(name, "") for name in ("side", "protocol", "among", "stamps"))
        if facts.setdefault(key, facts_of_row) != facts_of_row:
            raise DataError(
                f"{path}, line {line}: side, protocol, among and stamps must be those of the rows "
                "before; write different tables into different files or stages"
            )
        seed, fold = (_parse_number(path, line, name, row.get(name)) for name in ("seed", "fold"))
        clips = networks.setdefault(key, {}).setdefault((row.get("network", ""), seed), {})
        if (fold, row["id"]) in clips:
            raise DataError(
                f"{path}, line {line}: duplicate clip {row['id']!r}; expected one row for each "
                "network and clip; the columns seed or network distinguish networks, fold "
                "distinguishes folds"
            )
        clips[fold, row["id"]] = _parse_clip_row(path, line, row)
    return {key: _build_table(path, key, of_key, facts[key]) for key, of_key in networks.items()}


class _ClipRow(NamedTuple):
    """The facts about a clip in a row of a file."""

    speaker: str
    label: int
    prediction: int
    open_prediction: int
    line: int


_ClipRows = dict[tuple[int, str], _ClipRow]
"""(fold, id) -> row."""


def _parse_clip_row(path: Path, line: int, row: Mapping[str, str]) -> _ClipRow:
    open_name = "answer_without_corpus"
    open_prediction = NO_PREDICTION
    if row.get(open_name):
        open_prediction = _parse_emotion(path, line, open_name, row[open_name])
    return _ClipRow(
        row["speaker"],
        _parse_emotion(path, line, "emotion", row["emotion"]),
        _parse_emotion(path, line, "answer", row["answer"]),
        open_prediction,
        line,
    )


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a CSV file, each with its line number; spaces around cells are removed."""
    expected = (
        f"expected a CSV file in UTF-8 with the columns {', '.join(REQUIRED_COLUMNS)}, such as "
        "answers.csv of kerasemo.reproduce"
    )
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {expected}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: a folder, not a file; {expected}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file ({error}); {expected}") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: a damaged gzip file ({error}); {expected}") from error
    rows = [(line, values) for line, values in rows if any(values)]
    if not rows:
        raise DataError(f"{path}: the file is empty; {expected}")
    columns = [name.lower() for name in rows.pop(0)[1]]
    _check_columns(path, columns, expected)
    if not rows:
        raise DataError(f"{path}: no row below the column names; {expected}")
    for line, values in rows:
        if len(values) != len(columns):
            raise DataError(
                f"{path}, line {line}: {len(values)} cells, expected {len(columns)} as in the "
                "first line; is the file truncated?"
            )
    return [(line, dict(zip(columns, values, strict=True))) for line, values in rows]


def _check_columns(path: Path, columns: Sequence[str], expected: str) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        separators = {";": "semicolons", "\t": "tabs"}
        used = [word for sign, word in separators.items() if sign in columns[0]]
        hint = f"is the separator {used[0]}? " if used else ""
        raise DataError(
            f"{path}: no column {missing[0]!r} among {', '.join(columns)}; {hint}{expected}"
        )
    duplicates = [name for name in COLUMNS if columns.count(name) > 1]
    if duplicates:
        raise DataError(f"{path}: duplicate column {duplicates[0]!r}; rename one of the two")


def _parse_emotion(path: Path, line: int, column: str, name: str) -> int:
    emotion = canonical_emotion(name)
    if emotion is None:
        raise DataError(
            f"{path}, line {line}: {column} {name!r}; expected {', '.join(EMOTIONS)} or a synonym"
        )
    return EMOTIONS.index(emotion)


def _parse_number(path: Path, line: int, column: str, text: str | None) -> int:
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 9:
        raise DataError(
            f"{path}, line {line}: {column} {text[:20]!r}; expected a whole number from 0"
        )
    return int(text)


def _build_table(
    path: Path,
    key: tuple[str, str],
    networks: Mapping[tuple[str, int], _ClipRows],
    facts: Sequence[str],
) -> PredictionTable:
    """Return the table of the networks of one stage and source.

    Clips are in the order of the first.
    """
    (first_network, first), *further_networks = networks.items()
    for network, rows in further_networks:
        same_clips = rows.keys() == first.keys()
        # Speaker and label are the first two fields of a row.
        if not same_clips or any(rows[clip][:2] != row[:2] for clip, row in first.items()):
            name = " of ".join(filter(None, key))
            raise DataError(
                f"{path}: the networks of {name} with seeds {first_network[1]} and {network[1]} "
                "have different clips, folds, speakers or emotions; write each kind of network "
                "into its own file or stage"
            )
    without_speaker = [row.line for row in first.values() if not row.speaker]
    if 0 < len(without_speaker) < len(first):
        raise DataError(
            f"{path}, line {without_speaker[0]}: no speaker, although other clips have one; name "
            "the speaker of every clip, or of none"
        )
    split, protocol, among, stamps = facts
    unknown = [name for name in among.split() if name not in EMOTIONS]
    if unknown:
        raise DataError(
            f"{path}: among {unknown[0]!r}; expected some of {', '.join(EMOTIONS)}, separated by "
            "spaces"
        )
    rows_by_network = [[rows[clip] for clip in first] for rows in networks.values()]
    predictions = np.array([[row.prediction for row in rows] for rows in rows_by_network])
    open_predictions = np.array([[row.open_prediction for row in rows] for rows in rows_by_network])
    labels = np.array([row.label for row in first.values()])
    pool = pooled_predictions(
        list(first),
        [row.speaker for row in first.values()],
        labels,
        predictions,
        seeds=[seed for _, seed in networks],
        open_predictions=open_predictions,
    )
    used_emotions = {EMOTIONS[index] for index in {*labels, *predictions.flat}}
    return PredictionTable(
        pool,
        tuple(in_order(among.split() or used_emotions)),
        split,
        protocol,
        tuple(filter(None, stamps.split("; "))),
    )
