"""A small reproduction that all tests share, and functions that read its results.

The records are of three corpora. The publisher of the first split it, and it has copies.
"""

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from helpers.logs import logged_lines
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.studies.reproduction import ReproductionOptions, reproduce
from pipelines.core.labels import EMOTIONS

FAST = {"kind": "supervised", "batch": 8, "epochs": 2, "learning_rate": 1e-2}
STAGES = {
    "pretrain": {"sources": ["fer/visual"], **FAST},
    "transfer": {"sources": ["ravdess/audio"], "start_from": "pretrain", **FAST},
    "transfer_2": {"sources": ["emodb/audio"], "start_from": "transfer", **FAST},
}
FOLDS = (0, 3)
"""Two of the six folds of emodb. Ravdess has three folds, so fold 3 is fold 0."""
NETWORKS = [
    "pretrain, fold 0, seed 0",
    "transfer, fold 0, seed 0",
    "transfer-2, fold 0, seed 0",
    "transfer-2, fold 3, seed 0",
]


@dataclass(frozen=True)
class ToyStudy:
    """A finished reproduction: its inputs and its results. No test clip was predicted."""

    records: Path
    experiment: Path
    run: Path
    document: Mapping[str, Any]
    """The content of `tables.json`."""
    lines: list[str]
    """The log lines."""

    def options(
        self, run: Path, *, experiment: Path | None = None, **changes: Any
    ) -> ReproductionOptions:
        """Return the options of the same reproduction in another run folder."""
        return reproduction_options(self.records, experiment or self.experiment, run, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        paths = {name: str(getattr(self, name)) for name in ("records", "experiment", "run")}
        return {**paths, "document": self.document, "lines": self.lines}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Return the reproduction that `to_json` describes."""
        records, experiment, run = (
            Path(document[name]) for name in ("records", "experiment", "run")
        )
        return cls(records, experiment, run, document["document"], document["lines"])


def make_toy_study(folder: Path) -> ToyStudy:
    """Make a reproduction in a folder."""
    splits = ("train", "train", "validation", "test")
    records = folder / "records"
    write_set(records, "fer/visual", speakers=4, items=1, takes=3, published=splits, copies=4)
    write_set(records, "ravdess/audio", speakers=3, emotions=EMOTIONS[:4], takes=3, seed=1)
    write_set(records, "emodb/audio", speakers=6, takes=2, seed=2)
    experiment, run = write_experiment(folder / "toy.toml", **STAGES), folder / "run"
    document, lines = reproduce_logged(reproduction_options(records, experiment, run))
    assert json.loads(json.dumps(document)) == document  # processes get it as JSON
    return ToyStudy(records, experiment, run, document, lines)


def reproduction_options(
    records: Path, experiment: Path, run: Path, **changes: Any
) -> ReproductionOptions:
    """Return options of a reproduction of the folds FOLDS."""
    options = {"folds": FOLDS, "words": ("reproduce", "again")} | changes
    return ReproductionOptions(str(experiment), records, run, **options)


def reproduce_logged(options: ReproductionOptions) -> tuple[dict[str, Any], list[str]]:
    """Return the results of a reproduction and its log lines."""
    with logged_lines() as lines:
        document = reproduce(options)
    return document, lines


def prediction_rows(run: Path, split: str, stage: str, source: str) -> list[dict[str, str]]:
    """Return the stored predictions of all networks of a stage for the clips of a source."""
    rows = []
    for path in sorted((run / "stages").glob(f"{stage}-*/{split}-predictions.csv")):
        if re.fullmatch(rf"{stage}-[0-9a-f]{{12}}", path.parent.name):
            with open(path, newline="") as file:
                rows += [row for row in csv.DictReader(file) if row["source"] == source]
    return rows


def score_row(
    document: Mapping[str, Any], stage: str, source: str, level: str = "clip"
) -> dict[str, Any]:
    """Return the scores of a stage on a source in the results of a reproduction."""
    (row,) = [
        row
        for row in document["rows"]
        if (row["stage"], row["source"], row["level"]) == (stage, source, level)
    ]
    return row


def trained_networks(lines: list[str]) -> list[str]:
    """Return the networks whose training the log announces."""
    matches = (re.match(r"\[\d+/\d+\] (.*): supervised on", line) for line in lines)
    return [match[1] for match in matches if match]
