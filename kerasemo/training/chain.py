"""Runs the stages of an experiment in a run folder: what is there is reused, what was interrupted goes on."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasemo.config.schema import Experiment, StageConfig
from kerasemo.datasets import splits
from kerasemo.datasets.catalog import Holdings, side_of
from kerasemo.datasets.sources import Source
from kerasemo.runs import run_folder
from kerasemo.training.devices import Choice, choose, replica_count, strategy_for, workers
from kerasemo.training.stage_task import Assignment
from kerasemo.training.trainer import Training
from pipelines.core.errors import InputError, KerasemoError, raise_all
from pipelines.core.labels import EMOTIONS, in_order


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training is asked for."""

    experiment: Experiment
    records: Path
    folder: Path
    protocol: str = "speaker-independent"
    fold: int = 0
    seed: int = 0
    epochs: int | None = None
    """Of every stage that runs, in place of its own."""
    replicas: int | None = None
    """None: every GPU there is."""
    parents: Path | None = None
    """The run folder that holds the stages before the last; None: `folder`."""
    scored: str = "test"
    """The side whose clips are scored at the end: `test`, or `validation`, and then test clips are not looked at."""
    precision: str = "auto"
    compiler: str = "auto"
    """See `kerasemo.training.devices.choose`."""
    checkpoint_seconds: float = 10.0
    profile: tuple[int, int] | None = None
    """See `kerasemo.training.stage_task.Assignment`."""
    keep_copies: bool = False
    """Whether copies of test clips inside a publisher's split stay in training; see `kerasemo.datasets.splits.gate`."""


def per_step(stage: StageConfig) -> int:
    """Return how many examples, or pairs of examples, a step of a stage has: what is split over devices."""
    return stage.batch if stage.kind == "supervised" else stage.batch // 2


def most_replicas(devices: int, stages: Sequence[StageConfig]) -> int:
    """Return the largest number of devices, of those there are, that divides the steps of every stage.

    >>> most_replicas(3, [StageConfig("a", "supervised", ("x/audio",), batch=64)])
    2
    """
    return next(
        count
        for count in range(devices, 0, -1)
        if not any(per_step(stage) % (count * stage.accumulate) for stage in stages)
    )


def gated_sides(
    records_folder: Path,
    sources: Sequence[str],
    *,
    trained_on: Sequence[str],
    protocol: str,
    fold: int,
    keep_copies: bool = False,
) -> splits.Sides:
    """Return the sides of some sources and of those trained on, through the gate; a corpus that is not trained on is all test."""
    held = Holdings(records_folder, sorted({*sources, *trained_on}))
    return held.sides(protocol=protocol, fold=fold, trained_on=trained_on, keep_copies=keep_copies)


class Chain:
    """The stages of one run: their keys, what of them is there, and the training of what is not.

    Args:
        run: What is asked for.
        stages: Those of the run, each behind the one it starts from; the last is the one that is asked for.
        log: Called with each line about what is done or reused.
        held: The records of these sources at least, where they are read for several runs; None: read here.
        folder_of: Names the folder of a stage by its name and the digest of its key; None: `RUN/STAGE`.
    """

    def __init__(
        self,
        run: Run,
        stages: Sequence[StageConfig],
        *,
        log: Callable[[str], None] = lambda line: None,
        held: Holdings | None = None,
        folder_of: Callable[[str, str], Path] | None = None,
    ):
        self._run = run
        self._stages = {stage.name: stage for stage in stages}
        self._log = log
        self._folder_of = folder_of
        sources = list(dict.fromkeys(source for stage in stages for source in stage.sources))
        self._held = held or Holdings(run.records, sources)
        self._sides = self._held.sides(
            protocol=run.protocol, fold=run.fold, keep_copies=run.keep_copies
        )
        self._folds = self._held.folds(sources, protocol=run.protocol)
        if folder_of is None and run.fold >= (
            folds := max(self._folds.values())
        ):  # of several stages fold k is k mod K
            raise InputError(
                f"--fold {run.fold}: these corpora have {folds} folds under {run.protocol}; expected 0 to {folds - 1}"
            )
        alone = workers() == 1
        self._replicas = (alone and run.replicas) or replica_count(None)
        if alone and not run.replicas:
            self._replicas = most_replicas(self._replicas, stages)

    def check(self) -> dict[str, Training]:
        """Check every stage's folder, settings and records, before the first is trained; return the trainings that are to be.

        Raises:
            InputError: Tells everything at once: folders that hold a stage that was trained otherwise, batches that do not
                divide over the devices or are larger than the corpus, sides without a class, damaged records.
        """
        problems, waiting = [], []
        for stage in self._stages.values():
            try:
                if self.result(stage) is not None:
                    continue
                waiting.append(stage)
                if per_step(stage) % (self._replicas * stage.accumulate):
                    unit = "examples" if stage.kind == "supervised" else "pairs"
                    parts = f" in {stage.accumulate} parts" if stage.accumulate > 1 else ""
                    uneven = f"{per_step(stage)} {unit} a step do not divide over {self._replicas} devices{parts}"
                    problems.append(
                        f"stage {stage.name!r}: {uneven}; set batch{', accumulate' if parts else ''} or --replicas"
                    )
            except KerasemoError as error:
                problems.append(str(error))
        raise_all(problems)  # before records are read, which takes its time
        if not waiting:
            return {}
        if workers() > 1:
            self._log(f"waits until all {workers()} machines of TF_CONFIG are there")
        strategy = strategy_for(self._run.replicas if workers() > 1 else self._replicas)
        choice = choose(self._run.precision, self._run.compiler, strategy)
        self._log(f"computes in {choice.line}")
        trainings = {}
        for stage in waiting:
            try:
                trainings[stage.name] = self._training(stage, strategy, choice)
            except KerasemoError as error:
                problems.append(f"stage {stage.name!r}: {error}")
        raise_all(problems)
        return trainings

    def run(self) -> list[dict[str, Any]]:
        """Train the stages that are not there yet, in order, and return the result of each."""
        trainings = self.check()
        results = []
        for stage in self._stages.values():
            if stage.name not in trainings:
                self._log(f"{stage.name}: done before, reused")
                results.append(self.result(stage))
                continue
            self._log(f"{stage.name}: {stage.kind} on {' + '.join(stage.sources)}")
            for source in stage.sources:
                self._log(f"{stage.name}: {source}: {describe_sides(self._sides, source)}")
            results.append(trainings.pop(stage.name).run())
        return results

    def result(self, stage: StageConfig) -> dict[str, Any] | None:
        """Return the result of a stage that is done with this very key, None when it must be trained or go on.

        Raises:
            InputError: The folder holds the stage with another key; the message names what differs.
        """
        folder = self.folder(stage)
        try:
            held = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
            held["key"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder / 'stage.json'}: damaged ({error}); remove the folder or name another --run"
            ) from error
        differences = list(run_folder.differences(held["key"], self.key(stage)))
        if differences:
            raise InputError(
                f"{folder}: holds stage {stage.name!r} trained otherwise ({'; '.join(differences)}); ask for the same, "
                f"name another --run, or remove the folder"
            )
        result = run_folder.finished(folder)
        if result and folder.parent == self._run.folder and result["scored"] != self._run.scored:
            raise InputError(
                f"{folder}: scored on the {result['scored']} side, {self._run.scored} asked; name another --run"
            )
        return result

    def source(self, name: str) -> Source:
        """Return a source's arrays, read once."""
        return self._held.source(name)

    def lineage(self, stage: StageConfig) -> list[StageConfig]:
        """Return a stage with those that it starts from, itself last."""
        parent = self._parent(stage)
        return [*(self.lineage(parent) if parent else ()), stage]

    def folder(self, stage: StageConfig) -> Path:
        """Return the folder of a stage."""
        if self._folder_of is not None:
            return self._folder_of(stage.name, run_folder.digest(self.key(stage)))
        last = list(self._stages)[-1]
        return (
            self._run.folder if stage.name == last else self._run.parents or self._run.folder
        ) / stage.name

    def _parent(self, stage: StageConfig) -> StageConfig | None:
        return self._stages[stage.start_from] if stage.start_from else None

    def _resolved(self, stage: StageConfig) -> StageConfig:
        """Return a stage with the epochs that it is to have: --epochs is for those that run, not for those that are done."""
        if self._run.epochs is None:
            return stage
        if self._folder_of is not None:  # other epochs are another key, in a folder of its own
            return dataclasses.replace(stage, epochs=self._run.epochs)
        done = run_folder.finished(self.folder(stage))
        asked_for = stage.name == list(self._stages)[-1]
        return dataclasses.replace(
            stage, epochs=done["epochs"] if done and not asked_for else self._run.epochs
        )

    def key(self, stage: StageConfig) -> dict[str, Any]:
        """Return all that a stage's result depends on, as JSON gives it back.

        Its `fold` is the first of those in which the corpora of its lineage are split alike: of a publisher's split, which is the
        same in every fold, 0.
        """
        parent = self._parent(stage)
        sources = {source for own in self.lineage(stage) for source in own.sources}
        document = {
            "stage": dataclasses.asdict(self._resolved(stage)),
            "network": dataclasses.asdict(self._run.experiment.network),
            "records": {source: self._held.manifests[source] for source in stage.sources},
            "sides": {source: self._sides.digests[source] for source in stage.sources},
            "emotions": {source: self._held.emotions[source] for source in stage.sources},
            "protocol": self._run.protocol,
            "fold": self._run.fold % math.lcm(*(self._folds[source] for source in sources)),
            "seed": self._run.seed,
            "parent": run_folder.digest(self.key(parent)) if parent else "",
        }
        document["keep_copies"] = self._run.keep_copies and any(
            self._sides.splits[source.partition("/")[0]].publisher for source in sources
        )
        return json.loads(json.dumps(document))

    def _drawn_seed(self, stage: StageConfig, fold: int) -> int:
        return drawn_seed(self._run.seed, stage.drawn_as or stage.name, fold)

    def _emotions(self, stage: StageConfig) -> list[str]:
        """Return the emotions that the network has been trained on once a stage is done."""
        parent = self._parent(stage)
        emotions = set(self._emotions(parent)) if parent else set()
        for name in stage.sources:
            emotions |= {
                EMOTIONS[label] for label in side_of(self.source(name), self._sides, "train").labels
            }
        return in_order(emotions)

    def _training(
        self, stage: StageConfig, strategy: tf.distribute.Strategy | None, choice: Choice
    ) -> Training:
        parent, key = self._parent(stage), self.key(stage)
        assignment = Assignment(
            stage=self._resolved(stage),
            network=self._run.experiment.network,
            folder=self.folder(stage),
            key=key,
            sides={
                side: [side_of(self.source(name), self._sides, side) for name in stage.sources]
                for side in splits.SIDES
            },
            emotions=self._emotions(stage),
            split={source: self._sides.report["sources"][source] for source in stage.sources},
            parent=self.folder(parent) if parent else None,
            seed=self._drawn_seed(stage, key["fold"]),
            strategy=strategy,
            choice=choice,
            scored=self._run.scored,
            records=self._run.records.absolute(),
            experiment=self._run.experiment.name,
            checkpoint_seconds=self._run.checkpoint_seconds,
            profile=self._run.profile,
        )
        return Training(assignment, log=self._log)


def drawn_seed(seed: int, stage: str, fold: int) -> int:
    """Return what a stage's network, order and random changes are drawn by: another for each fold, or every fold would begin alike.

    Where folds are compared speaker by speaker, a draw that is good or bad would count in each of them.

    >>> drawn_seed(0, "joint", 0) != drawn_seed(0, "joint", 1) != drawn_seed(1, "joint", 1)
    True
    """
    of_fold = f" {fold}" if fold else ""
    return int(hashlib.sha256(f"{seed} {stage}{of_fold}".encode()).hexdigest()[:7], 16)


def describe_sides(sides: splits.Sides, source: str) -> str:
    """Return how many clips of a source are on each side, and what the gate dropped."""
    facts = sides.report["sources"][source]
    counts = ", ".join(f"{facts[side]} {side}" for side in splits.SIDES)
    return "; ".join(filter(None, (f"{counts} clips", splits.stamp(facts))))
