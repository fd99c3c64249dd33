"""Train and predict with every fold and seed of the stages of an experiment.

A `StudyNetwork` is one network. Folds in which a stage has the same key share a network.
`RUN/stages/STAGE-DIGEST/` holds a stage by the digest of its key, so that a stage that does not
depend on the fold is trained once. Finished networks are reused, and interrupted networks resume.
If a network fails, only the network and its descendants are left out.
"""

import dataclasses
import functools
import gc
import logging
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kerasemo.config.schema import Experiment, StageConfig
from kerasemo.datasets.catalog import RecordCatalog, corpora_of
from kerasemo.evaluation.stage_predictions import (
    StagePredictions,
    predict_split,
    prediction_header,
    read_stage_predictions,
    write_stage_predictions,
)
from kerasemo.runs import run_folder, test_set_log
from kerasemo.runs.checkpoints import FolderInUseError
from kerasemo.runs.lineage import Lineage
from kerasemo.runs.run_folder import FinishedStage
from kerasemo.studies.executor import ParallelExecutor
from kerasemo.training.chain import Chain, RunSettings
from pipelines.core import files
from pipelines.core.errors import InputError, KerasemoError, RunError, StorageError
from pipelines.core.text import format_duration, format_ranges, pluralize

logger = logging.getLogger(__name__)

STAGES_FOLDER = "stages"
"""The folder of the stages in a run folder."""


@dataclasses.dataclass(frozen=True)
class StudyPlan:
    """The networks, the folder and the options of a study."""

    experiment: Experiment
    run: Path
    sources: tuple[str, ...]
    """The sources that are predicted."""
    stages: tuple[str, ...]
    protocol: str
    folds: tuple[int, ...] | None
    """None: every fold."""
    seeds: tuple[int, ...]
    epochs: int | None = None
    keep_copies: bool = False
    jobs: int = 1
    """The number of networks that are trained in parallel, each in a process."""
    precision: str = "auto"
    compiler: str = "auto"


@dataclasses.dataclass(frozen=True)
class StudyNetwork:
    """One network: a stage with a fold and a seed."""

    stage: StageConfig
    fold: int
    """The first fold in which the stage has this key."""
    seed: int
    digest: str
    """The digest of the key."""
    folder: Path
    parents: tuple[str, ...]
    """The digests of the networks that it starts from, in the order of their trainings."""
    is_requested: bool
    """Whether the stage is requested, and not only trained for another stage."""

    def __str__(self) -> str:
        return f"{self.stage.name}, fold {self.fold}, seed {self.seed}"


class Sweep:
    """The networks of a study: trains them and predicts with them.

    Args:
        plan: The networks, the folder and the options of the study.
        catalog: The records.

    Attributes:
        networks: Every network once, after its parents.
        folds: The folds of the study.
        fold_counts: Source -> the number of folds of its corpus.
        failures: Digest -> the reason of the network's failure.

    Raises:
        InputError: A fold does not exist, or a corpus cannot be split.
        DataError: A speaker, an utterance or a content would be in two splits.
    """

    def __init__(self, plan: StudyPlan, catalog: RecordCatalog) -> None:
        self.plan = plan
        self.catalog = catalog
        self.failures: dict[str, str] = {}
        self._seconds: dict[str, float] = {}  # digest -> the training time in this process
        catalog.require(plan.sources)
        lineages = [plan.experiment.chain(name) for name in plan.stages]
        self._stages = [
            stage
            for stage in plan.experiment.stages
            if any(stage in lineage for lineage in lineages)
        ]
        self.fold_counts: Mapping[str, int] = {
            source: catalog.fold_count(source, protocol=plan.protocol) for source in plan.sources
        }
        self.folds = self._choose_folds()
        if plan.keep_copies:
            self._check_keep_copies()
        for fold in self.folds:
            # The leakage gate covers all predicted sources, also sources without a training.
            catalog.split(
                plan.sources, protocol=plan.protocol, fold=fold, keep_copies=plan.keep_copies
            )
        self.networks = self._plan_networks()
        self._by_digest = {network.digest: network for network in self.networks}

    def _choose_folds(self) -> tuple[int, ...]:
        plan = self.plan
        if plan.folds is None:
            trained_on = {source for stage in self._stages for source in stage.sources}
            return tuple(range(max(self.fold_counts[source] for source in trained_on)))
        n_folds = max(self.fold_counts.values())  # fold k of a corpus with K folds is k mod K
        for fold in plan.folds:
            if fold >= n_folds:
                raise InputError(
                    f"--folds {fold}: these corpora have {n_folds} folds with protocol "
                    f"{plan.protocol}; expected 0 to {n_folds - 1}"
                )
        return plan.folds

    def _check_keep_copies(self) -> None:
        """Raise InputError if no stage is of a corpus that its publisher split."""
        splits = self.catalog.split(
            self.plan.sources, protocol=self.plan.protocol, fold=0, keep_copies=True
        )
        corpora = corpora_of(source for stage in self._stages for source in stage.sources)
        if not any(splits.corpus_splits[corpus].publisher for corpus in corpora):
            raise InputError(
                "--keep-copies is for corpora that their publisher split, such as FER-2013; no "
                "stage is of such a corpus: leave the option out"
            )

    def _plan_networks(self) -> list[StudyNetwork]:
        networks: dict[str, StudyNetwork] = {}
        for seed in self.plan.seeds:
            for fold in self.folds:
                chain = self._chain(self._stages, fold, seed)
                for stage in self._stages:
                    key = chain.key(stage)
                    if key.digest in networks:
                        continue
                    networks[key.digest] = StudyNetwork(
                        stage,
                        key.fold,
                        seed,
                        key.digest,
                        chain.folder(stage),
                        tuple(chain.key(parent).digest for parent in chain.lineage(stage)[:-1]),
                        stage.name in self.plan.stages,
                    )
        return list(networks.values())

    def _chain(self, stages: Sequence[StageConfig], fold: int, seed: int) -> Chain:
        plan = self.plan
        settings = RunSettings(
            plan.experiment,
            plan.run,
            protocol=plan.protocol,
            fold=fold,
            seed=seed,
            epochs=plan.epochs,
            scored_split="validation",
            precision=plan.precision,
            compiler=plan.compiler,
            keep_copies=plan.keep_copies,
        )
        return Chain(settings, stages, self.catalog, folder_of=self._folder_of)

    def _folder_of(self, stage: str, digest: str) -> Path:
        return self.plan.run / STAGES_FOLDER / run_folder.folder_name(stage, digest)

    def train(self) -> None:
        """Train every unfinished network, and predict the validation split of every source.

        Raises:
            StorageError: The disk is full, so that other networks would fail as well.
        """
        finished = {
            network.digest for network in self.networks if self.finished(network) is not None
        }
        reused: list[StudyNetwork] = []
        waiting: list[StudyNetwork] = []
        for network in self.networks:
            is_complete = {network.digest, *network.parents} <= finished
            (reused if is_complete else waiting).append(network)
        logger.info(
            "%s (%s, folds %s, seeds %s): %d finished, %d to train, in %s",
            pluralize(len(self.networks), "network"),
            pluralize(len(self._stages), "stage"),
            format_ranges(self.folds),
            format_ranges(self.plan.seeds),
            len(reused),
            len(waiting),
            self.plan.run / STAGES_FOLDER,
        )

        def on_start(network: StudyNetwork) -> None:
            stage = network.stage
            logger.info("%s: %s on %s", self._label(network), stage.kind, " + ".join(stage.sources))

        def on_end(network: StudyNetwork, seconds: float) -> None:
            self._seconds[network.digest] = seconds
            remaining = [
                candidate
                for candidate in waiting
                if candidate.digest not in self._seconds and candidate.digest not in self.failures
            ]
            logger.info(
                "%s: %s, %s; %s",
                self._label(network),
                self._describe_scores(network),
                format_duration(seconds),
                self._describe_remaining(remaining),
            )

        def on_reuse(network: StudyNetwork, _: float) -> None:
            logger.info("%s: already trained, reused", self._label(network))

        # A finished network may lack only its predictions.
        self._run_work("train", reused, on_start=lambda network: None, on_end=on_reuse, jobs=1)
        self._run_work("train", waiting, on_start=on_start, on_end=on_end, jobs=self.plan.jobs)

    def _label(self, network: StudyNetwork) -> str:
        return f"[{self.networks.index(network) + 1}/{len(self.networks)}] {network}"

    def _run_work(
        self,
        work: str,
        networks: Sequence[StudyNetwork],
        *,
        on_start: Callable[[StudyNetwork], None],
        on_end: Callable[[StudyNetwork, float], None],
        jobs: int,
    ) -> None:
        """Do a work of WORKS with networks, each after those that it starts from; note failures.

        Args:
            work: The name of the work.
            networks: The networks.
            on_start: Called with each network before its work.
            on_end: Called with each network that did not fail, and the seconds of its work.
            jobs: The number of processes.
        """

        def finish(digest: str, failure: str, seconds: float) -> None:
            network = self._by_digest[digest]
            if failure:
                self.failures[digest] = failure
                logger.error("%s: failed: %s", self._label(network), failure)
            else:
                on_end(network, seconds)

        if jobs > 1 and len(networks) > 1:
            create_sweep = functools.partial(open_sweep, self.plan, self.catalog.folder)
            with ParallelExecutor(create_sweep, jobs=min(jobs, len(networks))) as executor:
                executor.run(
                    work,
                    {network.digest: network.parents for network in networks},
                    reason_to_skip=self._reason_to_skip,
                    on_start=lambda digest: on_start(self._by_digest[digest]),
                    on_end=finish,
                )
            return
        for network in networks:
            failure = self._reason_to_skip(network.digest)
            if failure:
                finish(network.digest, failure, 0.0)
                continue
            on_start(network)
            start = time.monotonic()
            if work != "train" or not self._is_trained(network):
                failure = self.run_guarded(network, work)
            finish(network.digest, failure, time.monotonic() - start)

    def _reason_to_skip(self, digest: str) -> str:
        """Return why a network cannot be trained; empty if it can."""
        for parent in self._by_digest[digest].parents:
            if parent in self.failures:
                return f"the stage that it starts from failed ({self._by_digest[parent]})"
        return ""

    def _is_trained(self, network: StudyNetwork) -> bool:
        """Return whether a network is finished, with its validation predictions if requested."""
        if self.finished(network) is None:
            return False
        return not network.is_requested or self.predictions(network, "validation") is not None

    def run_guarded(self, network: StudyNetwork, work: str) -> str:
        """Do a work of WORKS with a network, and return why it failed; empty if it did not.

        Raises:
            StorageError, OSError: The disk is full, so that other networks would fail as well.
            FolderInUseError: Another command trains in the run folder.
        """
        try:
            WORKS[work](self, network)
        except (StorageError, FolderInUseError):
            raise
        except KerasemoError as error:
            return " ".join(str(error).split())
        except OSError:
            raise
        except Exception as error:  # such as an error of TensorFlow: other networks may succeed
            logger.error("%s", traceback.format_exc())
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        finally:
            keras.backend.clear_session()
            gc.collect()
        return ""

    def train_network(self, network: StudyNetwork) -> None:
        """Train a network unless it is finished; predict the validation split if requested."""
        stages = self.plan.experiment.chain(network.stage.name)
        chain = self._chain(stages, network.fold, network.seed)
        start = time.monotonic()
        if chain.finished(stages[-1]) is None:
            chain.run_last()
            seconds = round(time.monotonic() - start, 1)
            with files.storage_errors(network.folder):
                files.write_json(network.folder / "time.json", {"seconds": seconds})
        if network.is_requested:
            self.predict(network, "validation")

    def _describe_scores(self, network: StudyNetwork) -> str:
        stage = self._require_finished(network)
        scores = [
            f"{source} UA {score['ua']:.3f} WA {score['wa']:.3f}"
            for source, score in stage.scores.items()
        ]
        return f"validation {', '.join(scores)} (epoch {stage.best_epoch}/{stage.config.epochs})"

    def _describe_remaining(self, networks: Sequence[StudyNetwork]) -> str:
        """Return the rate and the remaining time, from the training times of the stages."""
        if not networks:
            return "none left"
        seconds_by_stage: dict[str, list[float]] = {}
        for network in self.networks:
            if network.digest in self._seconds:
                seconds = seconds_by_stage.setdefault(network.stage.name, [])
                seconds.append(self._seconds[network.digest])
        means = {name: sum(values) / len(values) for name, values in seconds_by_stage.items()}
        overall_mean = sum(self._seconds.values()) / len(self._seconds)
        total = sum(means.get(network.stage.name, overall_mean) for network in networks)
        rate = 3600 * self.plan.jobs / overall_mean
        remaining = format_duration(total / self.plan.jobs)
        return f"{rate:.1f} an hour, {len(networks)} left, about {remaining}"

    def finished(self, network: StudyNetwork) -> FinishedStage | None:
        """Return the result of a network; None if it is not finished."""
        return run_folder.read_finished_stage(network.folder)

    def _require_finished(self, network: StudyNetwork) -> FinishedStage:
        stage = self.finished(network)
        if stage is None:
            raise RunError(
                f"{network.folder}: {network} is not finished; run the same command again"
            )
        return stage

    def lineage(self, network: StudyNetwork) -> Lineage:
        """Return a finished network with the networks that it starts from."""
        networks = [*(self._by_digest[digest] for digest in network.parents), network]
        return Lineage([self._require_finished(part) for part in networks])

    def predict(self, network: StudyNetwork, split: str) -> None:
        """Predict a split of every source with a finished network, unless this was done before."""
        lineage = self.lineage(network)
        header = prediction_header(lineage.last, self.catalog, self.plan.sources)
        if read_stage_predictions(network.folder, split, header) is None:
            predictions = predict_split(lineage, self.catalog, split, sources=self.plan.sources)
            write_stage_predictions(network.folder, split, predictions, header)

    def predictions(self, network: StudyNetwork, split: str) -> StagePredictions | None:
        """Return the stored predictions of a network for a split, or None."""
        stage = self.finished(network)
        if stage is None:
            return None
        header = prediction_header(stage, self.catalog, self.plan.sources)
        return read_stage_predictions(network.folder, split, header)

    def evaluate_test_split(self, command: Sequence[str]) -> None:
        """Predict the test split with every finished network, after an entry in the test-set log.

        Stored predictions are read again, which is not a new evaluation.

        Args:
            command: The words of the command, for the log.
        """
        plan = self.plan
        requested = [
            network
            for network in self.networks
            if network.is_requested and network.digest not in self.failures
        ]
        logged = {
            digest for entry in test_set_log.read_test_set_log(plan.run) for digest in entry["keys"]
        }
        new = [
            network
            for network in requested
            if network.digest not in logged or self.predictions(network, "test") is None
        ]
        if not new:
            logger.info(
                "test split: all %s have predicted it before; their predictions are read again, "
                "which is not a new evaluation",
                pluralize(len(requested), "network"),
            )
            return
        facts: dict[str, Any] = {
            "stages": list(plan.stages),
            "protocol": plan.protocol,
            "folds": list(self.folds),
            "seeds": list(plan.seeds),
        }
        if plan.keep_copies:
            facts["keep_copies"] = True
        number = test_set_log.log_test_evaluation(
            plan.run,
            keys=[network.digest for network in new],
            records={source: self.catalog.manifest_hash(source) for source in plan.sources},
            facts=facts,
            command=command,
        )
        logger.info(
            "test split: evaluation %d, by %s (%d have predicted it before)",
            number,
            pluralize(len(new), "network"),
            len(requested) - len(new),
        )
        start, places = time.monotonic(), iter(range(1, len(new) + 1))

        def on_end(network: StudyNetwork, _: float) -> None:
            place = next(places)
            seconds_each = (time.monotonic() - start) / place
            logger.info(
                "[%d/%d] %s: predicted the test split; %.1f a minute, about %s left",
                place,
                len(new),
                network,
                60 / seconds_each,
                format_duration(seconds_each * (len(new) - place)),
            )

        self._run_work("test", new, on_start=lambda network: None, on_end=on_end, jobs=plan.jobs)


def open_sweep(plan: StudyPlan, records_folder: Path) -> Sweep:
    """Return the sweep of a plan with a new catalog, for a process without the sweep."""
    return Sweep(plan, RecordCatalog(records_folder))


WORKS: Mapping[str, Callable[[Sweep, StudyNetwork], None]] = {
    "train": Sweep.train_network,
    "test": lambda sweep, network: sweep.predict(network, "test"),
}
"""The works on a network by name; a process receives the name."""
