"""A finished stage with its parent stages, and the splits of their training."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.leakage_gate import GatedSplits
from kerasemo.networks.inference import TrainedNetwork
from kerasemo.runs import run_folder
from kerasemo.runs.paths import check_run_folder
from kerasemo.runs.run_folder import FinishedStage
from pipelines.core.errors import DataError, InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Lineage:
    """A finished stage and the stages that it started from."""

    stages: Sequence[FinishedStage]
    """The stage itself is the last."""

    @property
    def last(self) -> FinishedStage:
        """The stage itself."""
        return self.stages[-1]

    @property
    def trained_on(self) -> list[str]:
        """Every source that one of the stages was trained on, sorted."""
        return sorted({source for stage in self.stages for source in stage.trained_on})

    def split(
        self, catalog: RecordCatalog, sources: Collection[str] = (), *, foreign_is_test: bool = True
    ) -> GatedSplits:
        """Return the splits of sources, through the gate, as they were in the training.

        Args:
            catalog: The records of the training.
            sources: The sources, besides those that the stages were trained on.
            foreign_is_test: Whether a corpus that no stage was trained on is all test; else the
                corpus is split as if a stage had been trained on it.

        Raises:
            InputError: Records that a stage was trained on are missing.
            DataError: Records were split otherwise, so that a test clip may have been trained on.
        """
        missing = [source for source in self.trained_on if source not in catalog.sources]
        if missing:
            raise InputError(
                f"{catalog.folder}: {', '.join(missing)} are missing, which stage "
                f"{self.last.name!r} was trained on, so nothing shows that no test clip was "
                "trained on; name the records of the training"
            )
        key = self.last.key
        splits = catalog.split(
            sorted({*sources, *self.trained_on}),
            protocol=key.protocol,
            fold=key.fold,
            trained_on=self.trained_on if foreign_is_test else None,
            keep_copies=key.keep_copies,
        )
        for stage in self.stages:
            for source, digest in stage.key.sides.items():
                if splits.digests.get(source, digest) != digest:
                    raise DataError(
                        f"{catalog.folder / source}: stage {stage.name!r} was trained on another "
                        "split of these records, so a test clip may have been trained on; name "
                        "the records of the training, or train again"
                    )
        return splits

    def load_network(self, index: int = -1) -> TrainedNetwork:
        """Return the network of a stage, by default of the last.

        Raises:
            CheckpointError: The weights are missing, damaged, or of another network.
        """
        return self.stages[index].load_network()


def find_lineage(run: Path, stage: str | None) -> Lineage:
    """Return a finished stage of a run folder with the stages that it started from.

    Args:
        run: The run folder.
        stage: The stage; None: `joint` if it is finished, else the stage that was finished last.

    Raises:
        InputError: The run folder or the finished stage does not exist.
        DataError: The result of a stage is damaged.
    """
    check_run_folder(run)
    result_files = sorted(
        run.glob(f"*/{run_folder.RESULT_FILE}"), key=lambda path: path.stat().st_mtime_ns
    )
    finished = [path.parent.name for path in result_files]
    if stage is None:
        if not finished:
            raise InputError(
                f"{run}: no finished stage; train one with python -m kerasemo.train --run {run}"
            )
        stage = "joint" if "joint" in finished else finished[-1]
    stages: list[FinishedStage] = []
    name = stage
    while name:
        if name not in finished:
            raise InputError(
                f"{run}: stage {name!r} is not finished in this run folder; finished are "
                f"{', '.join(sorted(finished)) or 'none'}"
            )
        finished_stage = run_folder.read_finished_stage(run / name)
        if finished_stage is None:
            raise DataError(f"{run / name}: removed while it was read; train the stage again")
        stages.insert(0, finished_stage)
        name = finished_stage.config.start_from
        by_key = run_folder.folder_name(name, finished_stage.key.parent)
        if name and by_key in finished:
            name = by_key
    return Lineage(stages)
