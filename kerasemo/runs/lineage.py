"""A finished stage with those that it started from: their results, networks, and the sides of the records they were trained on."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.datasets import splits
from kerasemo.datasets.catalog import Holdings
from kerasemo.networks import inference
from kerasemo.runs import run_folder
from kerasemo.runs.paths import check_records, check_run
from pipelines.core.errors import InputError
from pipelines.records import reader


@dataclasses.dataclass(frozen=True, eq=False)
class Lineage:
    """A finished stage and those it started from."""

    folders: Sequence[Path]
    """Where each stands, the stage itself last."""
    stages: Sequence[dict[str, Any]]
    """What the `metrics.json` of each says."""

    @property
    def result(self) -> dict[str, Any]:
        """The stage itself."""
        return self.stages[-1]

    @property
    def trained_on(self) -> list[str]:
        """Every source that one of the stages was trained on, sorted."""
        return sorted({source for stage in self.stages for source in stage["trained_on"]})

    def sides(
        self,
        records_folder: Path,
        *,
        asked: Sequence[str],
        there: Sequence[str],
        held: Holdings | None = None,
        foreign: bool = True,
    ) -> splits.Sides:
        """Return the sides of some sources, through the gate, as they were in the training.

        Args:
            records_folder: Those of the training.
            asked: The sources.
            there: All that are in the folder.
            held: The same records, where they are read already: then its sources, and not those asked for, pass the gate together.
            foreign: Whether a corpus that no stage was trained on is all test; else it is split as if it had been.

        Raises:
            InputError: A test clip could have been trained on: records that a stage was trained on are missing, or split otherwise.
        """
        absent = [source for source in self.trained_on if source not in there]
        if absent:
            raise InputError(
                f"{records_folder}: lacks {', '.join(absent)}, which stage {self.result['stage']!r} comes from, so nothing shows that "
                "no test clip was trained on; name the records of the training"
            )
        held = held or Holdings(records_folder, sorted({*asked, *self.trained_on}))
        split = {key: self.result[key] for key in ("protocol", "fold")} | {
            "keep_copies": self.result["key"]["keep_copies"]
        }
        sides = held.sides(**split, trained_on=self.trained_on if foreign else None)
        for stage in self.stages:
            for source, digest in stage["key"]["sides"].items():
                if source in sides.digests and sides.digests[source] != digest:
                    raise InputError(
                        f"{records_folder}/{source}: its sides are not those that stage {stage['stage']!r} was trained on, so a test "
                        "clip could have been trained on; name the records of the training, or train again"
                    )
        return sides

    def network(self, index: int = -1) -> tuple[Callable, np.ndarray]:
        """Return what runs the network of a stage (see `inference.predictor`), and bool [domains]: which it has been trained on."""
        result = self.stages[index]
        network = run_folder.load_network(self.folders[index], result)
        return inference.predictor(
            network, heads=run_folder.heads_of(result["key"])
        ), run_folder.seen_domains(network)


def find(run: Path, stage: str | None) -> Lineage:
    """Return a finished stage of a run folder; None: joint if it is done, else the stage that was finished last.

    Raises:
        InputError: There is none.
    """
    check_run(run)
    done = sorted(run.glob("*/metrics.json"), key=lambda path: path.stat().st_mtime_ns)
    names = [path.parent.name for path in done]
    if stage is None:
        if not names:
            raise InputError(
                f"{run}: no finished stage in it; train one with python -m kerasemo.train --run {run}"
            )
        stage = "joint" if "joint" in names else names[-1]
    folders: list[Path] = []
    stages: list[dict[str, Any]] = []
    while stage:
        if stage not in names:
            raise InputError(
                f"{run}: stage {stage!r} is not finished there; it has {', '.join(sorted(names)) or 'none'}"
            )
        folders.insert(0, run / stage)
        stages.insert(0, run_folder.finished(run / stage))
        stage, key = stages[0]["key"]["stage"]["start_from"], stages[0]["key"]
        if stage and (by_key := run_folder.folder_name(stage, key["parent"])) in names:
            stage = by_key
    return Lineage(folders, stages)


def sources_in(folder: Path) -> list[str]:
    """Return the sources whose sets stand in a folder of records; InputError where there is none."""
    check_records(folder)
    there = [
        f"{path.parent.name}/{path.name}"
        for path in reader.find_sets(folder)
        if path.parent.parent == folder
    ]
    if not there:
        raise InputError(
            f"{folder}: no set NAME/DOMAIN of records in it; name the folder that was given as --out to python -m pipelines.build"
        )
    return there
