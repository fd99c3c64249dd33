"""The stages of an experiment in a run folder.

Finished stages are reused, and interrupted stages resume.
"""

import dataclasses
import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import tensorflow as tf

from kerasemo.config.schema import Experiment, StageConfig
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.leakage_gate import GatedSplits, copies_stamp
from kerasemo.datasets.sources import corpus_of
from kerasemo.datasets.splits import SPLITS
from kerasemo.runs import run_folder
from kerasemo.runs.run_folder import FinishedStage, StageKey
from kerasemo.training.devices import (
    ComputeSettings,
    choose_compute_settings,
    create_strategy,
    replica_count,
    worker_count,
)
from kerasemo.training.stage_results import StageResult
from kerasemo.training.stage_task import StageTask, load_stage_data
from kerasemo.training.trainer import StageTrainer
from pipelines.core.errors import DataError, InputError, raise_all
from pipelines.core.labels import in_order
from pipelines.core.logs import ContextLogger

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What is trained, where, and how."""

    experiment: Experiment
    folder: Path
    """The run folder."""
    protocol: str = "speaker-independent"
    fold: int = 0
    seed: int = 0
    epochs: int | None = None
    """The epochs of every stage that runs; None: those of its settings."""
    replicas: int | None = None
    """The number of devices; None: every GPU."""
    parents_folder: Path | None = None
    """The run folder of the stages before the last; None: `folder`."""
    scored_split: str = "test"
    """The split whose clips are scored at the end; with `validation` no test clip is scored."""
    precision: str = "auto"
    """See `devices.choose_compute_settings`."""
    compiler: str = "auto"
    """See `devices.choose_compute_settings`."""
    checkpoint_seconds: float = 10.0
    """See `StageTask`."""
    profiled_steps: tuple[int, int] | None = None
    """See `StageTask`."""
    keep_copies: bool = False
    """Whether copies of test clips stay in training; see `leakage_gate.pass_gate`."""


def units_per_step(config: StageConfig) -> int:
    """Return the number of examples, or of pairs, in a step: what is split over devices."""
    return config.batch if config.kind == "supervised" else config.batch // 2


def largest_replica_count(n_devices: int, stages: Sequence[StageConfig]) -> int:
    """Return the largest number of devices, up to `n_devices`, that divides all steps.

    >>> largest_replica_count(3, [StageConfig("a", "supervised", ("x/audio",), batch=64)])
    2
    """
    return next(
        count
        for count in range(n_devices, 0, -1)
        if not any(units_per_step(config) % (count * config.accumulate) for config in stages)
    )


class Chain:
    """The stages of one run.

    Args:
        settings: What is trained, where, and how.
        stages: The stages, each after the stage that it starts from; the last is the requested one.
        catalog: The records.
        folder_of: Returns the folder of a stage for its name and the digest of its key; None: the
            folder is `RUN/STAGE`.

    Raises:
        InputError: A source is missing, a corpus cannot be split, or the fold does not exist.
        DataError: The records of a source are damaged, or something would be in two splits.
    """

    def __init__(
        self,
        settings: RunSettings,
        stages: Sequence[StageConfig],
        catalog: RecordCatalog,
        *,
        folder_of: Callable[[str, str], Path] | None = None,
    ) -> None:
        self._settings = settings
        self._stages = {stage.name: stage for stage in stages}
        self._catalog = catalog
        self._folder_of = folder_of
        self._keys: dict[str, StageKey] = {}
        sources = list(dict.fromkeys(source for stage in stages for source in stage.sources))
        self._splits: GatedSplits = catalog.split(
            sources,
            protocol=settings.protocol,
            fold=settings.fold,
            keep_copies=settings.keep_copies,
        )
        n_folds = max(catalog.fold_count(source, protocol=settings.protocol) for source in sources)
        # With folders by key, fold k of a corpus with K folds is fold k mod K.
        if folder_of is None and settings.fold >= n_folds:
            raise InputError(
                f"--fold {settings.fold}: these corpora have {n_folds} folds with protocol "
                f"{settings.protocol}; expected 0 to {n_folds - 1}"
            )
        has_one_machine = worker_count() == 1
        self._n_replicas = (has_one_machine and settings.replicas) or replica_count(None)
        if has_one_machine and not settings.replicas:
            self._n_replicas = largest_replica_count(self._n_replicas, stages)

    @property
    def last(self) -> StageConfig:
        """The requested stage."""
        return list(self._stages.values())[-1]

    def run(self) -> list[StageResult]:
        """Train the stages that are not finished, in order, and return the result of each.

        Raises:
            InputError, DataError: See `check`.
            RunError, StorageError: See `StageTrainer.run`.
        """
        trainers = self._prepare(list(self._stages.values()))
        for trainer in list(trainers.values())[:1]:
            logger.info("computing in %s", trainer.compute.description)
        results = []
        for config in self._stages.values():
            log = ContextLogger(logger, config.name)
            finished = self.finished(config)
            if finished is not None:
                log.info("already trained, reused")
                results.append(StageResult(finished))
                continue
            log.info("%s on %s", config.kind, " + ".join(config.sources))
            for source in config.sources:
                log.info("%s: %s", source, describe_splits(self._splits, source))
            results.append(trainers.pop(config.name).run())
        return results

    def run_last(self) -> StageResult:
        """Train the last stage alone, unless it is finished; raise what `run` raises."""
        finished = self.finished(self.last)
        if finished is not None:
            ContextLogger(logger, self.last.name).info("already trained, reused")
            return StageResult(finished)
        return self._prepare([self.last])[self.last.name].run()

    def check(self) -> None:
        """Check folders, settings and records of every stage, without training.

        Raises:
            InputError: The message lists every problem: folders that hold a stage with another key,
                batches that do not divide over the devices or exceed the corpus, splits without
                clips.
            DataError: Records or results are damaged.
        """
        self._prepare(list(self._stages.values()))

    def _prepare(self, stages: Sequence[StageConfig]) -> dict[str, StageTrainer]:
        """Return the trainers of the stages that are not finished, by name.

        Raise what `check` raises.
        """
        errors: list[Exception] = []
        waiting = []
        for config in stages:
            try:
                if self.finished(config) is None:
                    waiting.append(config)
                    self._check_batch(config)
            except (InputError, DataError) as error:
                errors.append(error)
        _raise_errors(errors)  # before records are read, which takes its time
        if not waiting:
            return {}
        if worker_count() > 1:
            logger.info("waiting for all %d machines of TF_CONFIG", worker_count())
        strategy = create_strategy(
            self._settings.replicas if worker_count() > 1 else self._n_replicas
        )
        compute = choose_compute_settings(
            self._settings.precision, self._settings.compiler, strategy
        )
        trainers = {}
        for config in waiting:
            try:
                trainers[config.name] = StageTrainer(self._task(config, strategy, compute))
            except (InputError, DataError) as error:
                errors.append(type(error)(f"stage {config.name!r}: {error}"))
        _raise_errors(errors)
        return trainers

    def _check_batch(self, config: StageConfig) -> None:
        """Raise InputError if the steps of a stage do not divide over the devices."""
        n_units = units_per_step(config)
        if n_units % (self._n_replicas * config.accumulate):
            unit = "examples" if config.kind == "supervised" else "pairs"
            parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
            remedy = f"set batch{', accumulate' if parts else ''} or --replicas"
            raise InputError(
                f"stage {config.name!r}: {n_units} {unit} in a step do not divide over "
                f"{self._n_replicas} devices{parts}; {remedy}"
            )

    def finished(self, config: StageConfig) -> FinishedStage | None:
        """Return the result of a stage if it is finished with this key; None if it must be trained.

        Raises:
            InputError: The folder holds the stage with another key; the message has the
                differences.
            DataError: The key or the result in the folder is damaged.
        """
        folder = self.folder(config)
        stored = run_folder.read_stored_key(folder)
        if stored is None:
            return None
        differences = list(run_folder.key_differences(stored, self.key(config).to_json()))
        if differences:
            raise InputError(
                f"{folder}: holds stage {config.name!r} trained with other settings "
                f"({'; '.join(differences)}); use the same settings, name another --run, or "
                "remove the folder"
            )
        stage = run_folder.read_finished_stage(folder)
        scored_split = self._settings.scored_split
        if (
            stage is not None
            and folder.parent == self._settings.folder
            and stage.scored_split != scored_split
        ):
            raise InputError(
                f"{folder}: scored on the {stage.scored_split} split, {scored_split} requested; "
                "name another --run"
            )
        return stage

    def lineage(self, config: StageConfig) -> list[StageConfig]:
        """Return the stages that a stage starts from, and the stage itself as the last."""
        parent = self._parent(config)
        return [*(self.lineage(parent) if parent else ()), config]

    def folder(self, config: StageConfig) -> Path:
        """Return the folder of a stage."""
        settings = self._settings
        if self._folder_of is not None:
            return self._folder_of(config.name, self.key(config).digest)
        if config.name == self.last.name:
            return settings.folder / config.name
        return (settings.parents_folder or settings.folder) / config.name

    def key(self, config: StageConfig) -> StageKey:
        """Return the key of a stage.

        Its `fold` is the first fold in which the corpora of its lineage are split like this. A
        publisher's split is the same in every fold.
        """
        if config.name not in self._keys:
            self._keys[config.name] = self._build_key(config)
        return self._keys[config.name]

    def _build_key(self, config: StageConfig) -> StageKey:
        settings, catalog = self._settings, self._catalog
        parent = self._parent(config)
        of_lineage = {source for stage in self.lineage(config) for source in stage.sources}
        fold_counts = [
            catalog.fold_count(source, protocol=settings.protocol) for source in of_lineage
        ]
        has_publisher = any(
            self._splits.corpus_splits[corpus_of(source)].publisher for source in of_lineage
        )
        return StageKey(
            stage=self._with_epochs(config),
            network=settings.experiment.network,
            records={source: catalog.manifest_hash(source) for source in config.sources},
            sides={source: self._splits.digests[source] for source in config.sources},
            emotions={source: catalog.emotions(source) for source in config.sources},
            protocol=settings.protocol,
            fold=settings.fold % math.lcm(*fold_counts),
            seed=settings.seed,
            parent=self.key(parent).digest if parent else "",
            keep_copies=settings.keep_copies and has_publisher,
        )

    def _parent(self, config: StageConfig) -> StageConfig | None:
        return self._stages[config.start_from] if config.start_from else None

    def _with_epochs(self, config: StageConfig) -> StageConfig:
        """Return a stage with the requested epochs.

        A finished stage before the last keeps its own.
        """
        n_epochs = self._settings.epochs
        if n_epochs is None:
            return config
        # With folders by key, other epochs are another key in another folder.
        if self._folder_of is None and config.name != self.last.name:
            finished = run_folder.read_finished_stage(self.folder(config))
            if finished is not None:
                n_epochs = finished.config.epochs
        return dataclasses.replace(config, epochs=n_epochs)

    def _trained_emotions(self, config: StageConfig) -> list[str]:
        """Return the emotions that the network is trained on once a stage is finished."""
        emotions: set[str] = set()
        for stage in self.lineage(config):
            for source in stage.sources:
                ids = set(self._splits.clip_ids[source]["train"])
                rows = self._catalog.rows(source)
                emotions |= {row["emotion"] for row in rows if row["id"] in ids}
        return in_order(emotions)

    def _task(
        self, config: StageConfig, strategy: tf.distribute.Strategy | None, compute: ComputeSettings
    ) -> StageTask:
        settings, key, parent = self._settings, self.key(config), self._parent(config)
        trained_emotions = self._trained_emotions(config)
        seed = draw_seed(settings.seed, config.drawn_as or config.name, key.fold)
        return StageTask(
            key,
            self.folder(config),
            load_stage_data(
                key,
                self._catalog,
                self._splits,
                trained_emotions=trained_emotions,
                draw_seed=seed,
            ),
            trained_emotions=trained_emotions,
            parent=self.folder(parent) if parent else None,
            draw_seed=seed,
            strategy=strategy,
            compute=compute,
            records_folder=self._catalog.folder.absolute(),
            experiment=settings.experiment.name,
            scored_split=settings.scored_split,
            checkpoint_seconds=settings.checkpoint_seconds,
            profiled_steps=settings.profiled_steps,
        )


def _raise_errors(errors: Sequence[Exception]) -> None:
    """Raise one error with all messages: a DataError if all are, else an InputError."""
    only_data = all(isinstance(error, DataError) for error in errors)
    raise_all([str(error) for error in errors], DataError if only_data else InputError)


def draw_seed(seed: int, stage: str, fold: int) -> int:
    """Return the seeds of a stage's weights, of its order of examples, and of random changes.

    It differs between folds: with one seed, a lucky draw would count in every fold, and folds are
    compared speaker by speaker.

    >>> draw_seed(0, "joint", 0) != draw_seed(0, "joint", 1) != draw_seed(1, "joint", 1)
    True
    """
    of_fold = f" {fold}" if fold else ""
    return int(hashlib.sha256(f"{seed} {stage}{of_fold}".encode()).hexdigest()[:7], 16)


def describe_splits(splits: GatedSplits, source: str) -> str:
    """Return how many clips of a source are in each split, and what the gate dropped."""
    facts = splits.facts(source)
    counts = ", ".join(f"{facts[split]} {split}" for split in SPLITS)
    return "; ".join(filter(None, (f"{counts} clips", copies_stamp(facts))))
