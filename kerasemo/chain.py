"""Runs the stages of an experiment in a run folder: what is there is reused, what was interrupted goes on."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasemo import data, devices, runs, scores, splits
from kerasemo.assignment import Assignment
from kerasemo.config import Experiment, Stage
from kerasemo.settings import numbered
from kerasemo.training import Training
from pipelines import records
from pipelines.spec import EMOTIONS, InputError


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
    """See `kerasemo.devices.choose`."""
    checkpoint_seconds: float = 10.0
    profile: tuple[int, int] | None = None
    """See `kerasemo.assignment.Assignment`."""


def per_step(stage: Stage) -> int:
    """Return how many examples, or pairs of examples, a step of a stage has: what is split over devices."""
    return stage.batch if stage.kind == "supervised" else stage.batch // 2


def most_replicas(devices: int, stages: Sequence[Stage]) -> int:
    """Return the largest number of devices, of those there are, that divides the steps of every stage.

    >>> most_replicas(3, [Stage("a", "supervised", ("x/audio",), batch=64)])
    2
    """
    return next(count for count in range(devices, 0, -1) if not any(per_step(stage) % (count * stage.accumulate) for stage in stages))


def rows_by_source(records_folder: Path, sources: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the manifests' rows of every set that there is of the corpora of some sources."""
    folders, problems = {}, []
    for source in sources:
        try:
            folders[source] = data.set_folder(records_folder, source)
        except InputError as error:
            problems.append(str(error))
    raise_all(problems)
    for corpus in sorted({source.partition("/")[0] for source in sources}):
        folders |= {f"{corpus}/{folder.name}": folder for folder in records.find_sets(records_folder / corpus)}
    return {source: records.read_manifest(folder)["clips"] for source, folder in sorted(folders.items())}


def raise_all(problems: Sequence[str]) -> None:
    """Raise one InputError that tells all problems, where there are any."""
    if problems:
        raise InputError(numbered(list(dict.fromkeys(problems))))


def gated_sides(records_folder: Path, sources: Sequence[str], *, trained_on: Sequence[str], protocol: str, fold: int) -> splits.Sides:
    """Return the sides of some sources and of those trained on, through the gate; a corpus that is not trained on is all test."""
    rows = rows_by_source(records_folder, sorted({*sources, *trained_on}))
    trained = {source.partition("/")[0] for source in trained_on}
    rows = {source: clips for source, clips in rows.items() if clips or source in trained_on}
    return splits.sides(rows, protocol=protocol, fold=fold, foreign={source.partition("/")[0] for source in rows} - trained)


def side_of(source: data.Source, sides: splits.Sides, side: str) -> data.Side:
    """Return the items of a source's clips that are on a side."""
    ids = set(sides.ids[source.name][side])
    return data.Side(source, source.items_of([index for index, row in enumerate(source.rows) if row["id"] in ids]))


class Chain:
    """The stages of one run: their keys, what of them is there, and the training of what is not."""

    def __init__(self, run: Run, stages: Sequence[Stage], *, log: Callable[[str], None] = lambda line: None):
        self._run = run
        self._stages = {stage.name: stage for stage in stages}
        self._log = log
        sources = list(dict.fromkeys(source for stage in stages for source in stage.sources))
        rows = rows_by_source(run.records, sources)
        self._corpus_emotions = {
            source: scores.in_order(
                {row["emotion"] for other in rows if other.split("/")[0] == source.split("/")[0] for row in rows[other]}
            )
            for source in sources
        }
        self._sides = splits.sides(rows, protocol=run.protocol, fold=run.fold)
        folds = max(split.folds for split in self._sides.splits.values())
        if run.fold >= folds:
            raise InputError(f"--fold {run.fold}: these corpora have {folds} folds under {run.protocol}; expected 0 to {folds - 1}")
        self._manifests = {source: data.manifest_hash(data.set_folder(run.records, source)) for source in sources}
        alone = devices.workers() == 1
        self._replicas = (alone and run.replicas) or devices.replica_count(None)
        if alone and not run.replicas:
            self._replicas = most_replicas(self._replicas, stages)
        self._loaded: dict[str, data.Source] = {}

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
                    problems.append(f"stage {stage.name!r}: {uneven}; set batch{', accumulate' if parts else ''} or --replicas")
            except InputError as error:
                problems.append(str(error))
        raise_all(problems)  # before records are read, which takes its time
        if not waiting:
            return {}
        if devices.workers() > 1:
            self._log(f"waits until all {devices.workers()} machines of TF_CONFIG are there")
        strategy = devices.strategy_for(self._run.replicas if devices.workers() > 1 else self._replicas)
        choice = devices.choose(self._run.precision, self._run.compiler, strategy)
        self._log(f"computes in {choice.line}")
        trainings = {}
        for stage in waiting:
            try:
                trainings[stage.name] = self._training(stage, strategy, choice)
            except InputError as error:
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

    def result(self, stage: Stage) -> dict[str, Any] | None:
        """Return the result of a stage that is done with this very key, None when it must be trained or go on.

        Raises:
            InputError: The folder holds the stage with another key; the message names what differs.
        """
        folder = self._folder(stage)
        try:
            held = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
            held["key"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / 'stage.json'}: damaged ({error}); remove the folder or name another --run") from error
        differences = list(runs.differences(held["key"], self._key(stage)))
        if differences:
            raise InputError(
                f"{folder}: holds stage {stage.name!r} trained otherwise ({'; '.join(differences)}); ask for the same, "
                f"name another --run, or remove the folder"
            )
        result = runs.finished(folder)
        if result and folder.parent == self._run.folder and result["scored"] != self._run.scored:
            raise InputError(f"{folder}: scored on the {result['scored']} side, {self._run.scored} asked; name another --run")
        return result

    def source(self, name: str) -> data.Source:
        """Return a source's arrays, read once."""
        if name not in self._loaded:
            self._loaded[name] = data.read_source(self._run.records, name)
        return self._loaded[name]

    def _folder(self, stage: Stage) -> Path:
        last = list(self._stages)[-1]
        return (self._run.folder if stage.name == last else self._run.parents or self._run.folder) / stage.name

    def _parent(self, stage: Stage) -> Stage | None:
        return self._stages[stage.start_from] if stage.start_from else None

    def _resolved(self, stage: Stage) -> Stage:
        """Return a stage with the epochs that it is to have: --epochs is for those that run, not for those that are done."""
        if self._run.epochs is None:
            return stage
        done = runs.finished(self._folder(stage))
        asked_for = stage.name == list(self._stages)[-1]
        return dataclasses.replace(stage, epochs=done["epochs"] if done and not asked_for else self._run.epochs)

    def _key(self, stage: Stage) -> dict[str, Any]:
        """Return all that a stage's result depends on, as JSON gives it back."""
        parent = self._parent(stage)
        document = {
            "stage": dataclasses.asdict(self._resolved(stage)),
            "network": dataclasses.asdict(self._run.experiment.network),
            "records": {source: self._manifests[source] for source in stage.sources},
            "sides": {source: self._sides.digests[source] for source in stage.sources},
            "emotions": {source: self._corpus_emotions[source] for source in stage.sources},
            "protocol": self._run.protocol,
            "fold": self._run.fold,
            "seed": self._run.seed,
            "parent": runs.digest(self._key(parent)) if parent else "",
        }
        return json.loads(json.dumps(document))

    def _emotions(self, stage: Stage) -> list[str]:
        """Return the emotions that the network has been trained on once a stage is done."""
        parent = self._parent(stage)
        emotions = set(self._emotions(parent)) if parent else set()
        for name in stage.sources:
            emotions |= {EMOTIONS[label] for label in side_of(self.source(name), self._sides, "train").labels}
        return scores.in_order(emotions)

    def _training(self, stage: Stage, strategy: tf.distribute.Strategy | None, choice: devices.Choice) -> Training:
        parent = self._parent(stage)
        assignment = Assignment(
            stage=self._resolved(stage),
            network=self._run.experiment.network,
            folder=self._folder(stage),
            key=self._key(stage),
            sides={side: [side_of(self.source(name), self._sides, side) for name in stage.sources] for side in splits.SIDES},
            emotions=self._emotions(stage),
            split={source: self._sides.report["sources"][source] for source in stage.sources},
            parent=self._folder(parent) if parent else None,
            seed=int(hashlib.sha256(f"{self._run.seed} {stage.name}".encode()).hexdigest()[:7], 16),
            strategy=strategy,
            choice=choice,
            scored=self._run.scored,
            records=self._run.records.absolute(),
            checkpoint_seconds=self._run.checkpoint_seconds,
            profile=self._run.profile,
        )
        return Training(assignment, log=self._log)


def describe_sides(sides: splits.Sides, source: str) -> str:
    """Return how many clips of a source are on each side, and what the gate dropped."""
    facts = sides.report["sources"][source]
    counts = ", ".join(f"{facts[side]} {side}" for side in splits.SIDES)
    dropped = facts["dropped_train"] + facts["dropped_validation"]
    return f"{counts} clips" + (f"; deduplicated: {dropped} copies of clips on a later side left out" if dropped else "")
