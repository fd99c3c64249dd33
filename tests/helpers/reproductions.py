"""A reproduction of toys, made once: records of a publisher's corpus, with copies, and of two others; its helpers."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
"""Of emodb's six; of ravdess' three they are one and the same."""
NETWORKS = [
    "pretrain, fold 0, seed 0",
    "transfer, fold 0, seed 0",
    "transfer-2, fold 0, seed 0",
    "transfer-2, fold 3, seed 0",
]


class ToySweep(NamedTuple):
    """What a finished reproduction was given, and what it made; no test clip was predicted."""

    given: tuple[Path, Path]
    """The records and the experiment."""
    run: tuple[Path, dict, list[str]]
    """Its folder, its document and what was said."""


def make_sweep(folder: Path) -> dict[str, Any]:
    """Make a reproduction in a folder; return what `sweep_of` takes, ready for JSON."""
    sides = ("train", "train", "validation", "test")
    write_set(
        folder / "records", "fer/visual", speakers=4, items=1, takes=3, published=sides, copies=4
    )
    write_set(
        folder / "records", "ravdess/audio", speakers=3, emotions=EMOTIONS[:4], takes=3, seed=1
    )
    write_set(folder / "records", "emodb/audio", speakers=6, takes=2, seed=2)
    given = (folder / "records", write_experiment(folder / "toy.toml", **STAGES))
    with logged_lines() as lines:
        document = reproduce(options(given, folder / "run"))
    assert json.loads(json.dumps(document)) == document  # so that nothing of it is lost on the way
    return {
        "given": list(map(str, given)),
        "run": str(folder / "run"),
        "document": document,
        "log": lines,
    }


def sweep_of(made: Mapping[str, Any]) -> ToySweep:
    records, experiment = map(Path, made["given"])
    return ToySweep((records, experiment), (Path(made["run"]), made["document"], made["log"]))


def options(given, run: Path, **other) -> ReproductionOptions:
    return ReproductionOptions(
        str(given[1]), given[0], run, **{"folds": FOLDS, "words": ("reproduce", "again")} | other
    )


def predictions(run: Path, side: str, stage: str) -> list[dict[str, str]]:
    rows = []
    for path in sorted((run / "stages").glob(f"{stage}-*/{side}-predictions.csv")):
        if re.fullmatch(rf"{stage}-[0-9a-f]{{12}}", path.parent.name):
            with open(path, newline="") as file:
                rows += csv.DictReader(file)
    return rows


def row(document: dict, stage: str, source: str, level: str = "clip") -> dict:
    (found,) = [
        own
        for own in document["rows"]
        if (own["stage"], own["source"], own["level"]) == (stage, source, level)
    ]
    return found


def begun(log: list[str]) -> list[str]:
    """Return the networks whose training was announced."""
    return [
        line.partition("] ")[2].partition(": ")[0]
        for line in log
        if re.match(r"\[\d+/\d+\] .*: supervised on", line)
    ]
