"""Every fold and seed of the stages of an experiment: a cell is one network, and cells of equal keys are one.

`RUN/stages/STAGE-DIGEST/` holds a stage by the beginning of its key's digest, so that what does not depend on the fold is trained once
for all of them. What is finished is reused, what was interrupted goes on, and a cell that fails costs itself and those that start from it.
"""

import dataclasses
import functools
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kerasemo.analysis import prediction_tables
from kerasemo.config.schema import Experiment, StageConfig
from kerasemo.datasets.catalog import Holdings, corpora_of
from kerasemo.evaluation import stage_predictions
from kerasemo.runs import run_folder, test_set_log
from kerasemo.runs.lineage import Lineage
from kerasemo.studies import executor
from kerasemo.training.chain import Chain, Run
from pipelines.core import files
from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.text import format_duration, format_ranges, pluralize


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep is asked for."""

    experiment: Experiment
    run: Path
    stages: tuple[str, ...]
    protocol: str
    folds: tuple[int, ...] | None
    """None: every one."""
    seeds: tuple[int, ...]
    epochs: int | None = None
    keep_copies: bool = False
    jobs: int = 1
    """How many networks are trained side by side, by a process each."""
    settings: tuple[tuple[str, Any], ...] = ()
    """More fields of `chain.Run`: precision, compiler, replicas."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network: a stage of one fold and seed."""

    stage: StageConfig
    fold: int
    """The first of the folds in which it is the same."""
    seed: int
    digest: str
    """Of its key."""
    folder: Path
    before: tuple[str, ...]
    """The digests of those that it starts from, the first first."""
    asked: bool
    """Whether it is of a stage that is asked for, and not only one that another starts from."""

    def __str__(self) -> str:
        return f"{self.stage.name}, fold {self.fold}, seed {self.seed}"


STAGES = "stages"
"""The folder of the stages in a run folder."""


class Sweep:
    """The cells of a plan, and what is done with them.

    Args:
        plan: What is asked for.
        held: The records, of every source of the experiment that is there.
        log: Called with each line about what is done or reused.

    Raises:
        InputError: There is no such fold, or something would leak from one side to another in one.
    """

    def __init__(
        self, plan: Plan, held: Holdings, *, log: Callable[[str], None] = lambda line: None
    ):
        self.plan, self.held = plan, held
        self._log = log
        self.failed: dict[str, str] = {}
        """Digest -> why the cell failed."""
        self.seconds: dict[str, float] = {}
        """Digest -> how long this command has trained the cell."""
        lineages = [plan.experiment.chain(name) for name in plan.stages]
        self._stages = [
            stage
            for stage in plan.experiment.stages
            if any(stage in lineage for lineage in lineages)
        ]
        self.fold_counts = held.folds(held.sources, protocol=plan.protocol)
        own = max(self.fold_counts[source] for stage in self._stages for source in stage.sources)
        self.folds = tuple(range(own)) if plan.folds is None else plan.folds
        count = max(self.fold_counts.values())  # fold k is k mod K where there are fewer
        if wrong := [fold for fold in self.folds if fold >= count]:
            raise InputError(
                f"--folds {wrong[0]}: these corpora have {count} folds under {plan.protocol}; expected 0 to {count - 1}"
            )
        if plan.keep_copies:
            splits = held.sides(protocol=plan.protocol, fold=0, keep_copies=True).splits
            if not any(
                splits[corpus].publisher
                for stage in self._stages
                for corpus in corpora_of(stage.sources)
            ):
                raise InputError(
                    "--keep-copies is for corpora that their publisher split, such as FER-2013; no stage is of one: leave it out"
                )
        self.cells = self._planned()

    def _run(self, fold: int, seed: int) -> Run:
        plan = self.plan
        options = {
            "protocol": plan.protocol,
            "fold": fold,
            "seed": seed,
            "epochs": plan.epochs,
            "keep_copies": plan.keep_copies,
        }
        return Run(
            plan.experiment,
            self.held.folder,
            plan.run,
            **options,
            scored="validation",
            **dict(plan.settings),
        )

    def _folder_of(self, stage: str, digest: str) -> Path:
        return self.plan.run / STAGES / run_folder.folder_name(stage, digest)

    def _chain(self, stages: Sequence[StageConfig], fold: int, seed: int, **options: Any) -> Chain:
        return Chain(
            self._run(fold, seed), stages, held=self.held, folder_of=self._folder_of, **options
        )

    def _planned(self) -> list[Cell]:
        """Return every cell once, those that others start from before them; seed after seed, fold after fold."""
        cells: dict[str, Cell] = {}
        for seed in self.plan.seeds:
            for fold in self.folds:
                chain = self._chain(self._stages, fold, seed)
                for stage in self._stages:
                    key = chain.key(stage)
                    before = tuple(
                        run_folder.digest(chain.key(own)) for own in chain.lineage(stage)[:-1]
                    )
                    asked = stage.name in self.plan.stages
                    digest = run_folder.digest(key)
                    cells.setdefault(
                        digest,
                        Cell(stage, key["fold"], seed, digest, chain.folder(stage), before, asked),
                    )
        return list(cells.values())

    def train(self) -> None:
        """Train every cell that is not there, and ask each about the validation side of every source."""
        done = {cell.digest for cell in self.cells if self.result(cell) is not None}
        there = [cell for cell in self.cells if {cell.digest, *cell.before} <= done]
        to_train = [cell for cell in self.cells if not {cell.digest, *cell.before} <= done]
        what = f"{pluralize(len(self._stages), 'stage')}, folds {format_ranges(self.folds)}, seeds {format_ranges(self.plan.seeds)}"
        counts = f"{len(there)} are there, {len(to_train)} to train"
        self._log(
            f"{pluralize(len(self.cells), 'network')} ({what}): {counts}, in {self.plan.run / STAGES}"
        )

        def begun(cell: Cell) -> None:
            self._log(f"{self._label(cell)}: {cell.stage.kind} on {' + '.join(cell.stage.sources)}")

        def ended(cell: Cell, seconds: float) -> None:
            self.seconds[cell.digest] = seconds
            left = [
                other
                for other in to_train
                if other.digest not in self.seconds and other.digest not in self.failed
            ]
            self._log(
                f"{self._label(cell)}: {self._scored_line(cell)}, {format_duration(seconds)}; {self._left(left)}"
            )

        def reused(cell: Cell, _: float) -> None:
            self._log(f"{self._label(cell)}: done before, reused")

        self._do(
            "train", there, lambda cell: None, reused, jobs=1
        )  # at most a few answers are missing
        self._do("train", to_train, begun, ended, jobs=self.plan.jobs)

    def _label(self, cell: Cell) -> str:
        return f"[{self.cells.index(cell) + 1}/{len(self.cells)}] {cell}"

    def _do(
        self,
        work: str,
        cells: Sequence[Cell],
        begun: Callable[[Cell], None],
        ended: Callable[[Cell, float], None],
        *,
        jobs: int,
    ) -> None:
        """Do one of WORKS to some cells, each after those that it starts from; tell of each, and keep why one failed."""
        of = {cell.digest: cell for cell in cells}

        def refused(digest: str) -> str:
            failed = next((before for before in of[digest].before if before in self.failed), None)
            return (
                ""
                if failed is None
                else f"the stage it starts from failed ({self._by_digest(failed)})"
            )

        def over(digest: str, reason: str, seconds: float) -> None:
            if reason:
                self.failed[digest] = reason
                self._log(f"{self._label(of[digest])}: failed: {reason}")
            else:
                ended(of[digest], seconds)

        if jobs > 1 and len(cells) > 1:
            again = functools.partial(remade, self.plan, self.held.folder, self.held.sources)
            starts_from = {cell.digest: cell.before for cell in cells}
            with executor.Crew(again, jobs=min(jobs, len(cells)), log=self._log) as workers:
                workers.do(
                    work,
                    starts_from,
                    refused=refused,
                    begun=lambda digest: begun(of[digest]),
                    ended=over,
                )
            return
        for cell in cells:
            if reason := refused(cell.digest):
                over(cell.digest, reason, 0.0)
                continue
            begun(cell)
            start = time.monotonic()
            reason = "" if work == "train" and self._is_done(cell) else self.guarded(cell, work)
            over(cell.digest, reason, time.monotonic() - start)

    def _is_done(self, cell: Cell) -> bool:
        """Tell whether a cell is trained and, where it is asked for, has been asked about the validation side."""
        return self.result(cell) is not None and (
            not cell.asked or self.said(cell, "validation") is not None
        )

    def _by_digest(self, digest: str) -> Cell:
        return next(cell for cell in self.cells if cell.digest == digest)

    def _one(self, cell: Cell) -> None:
        own, kind = (
            f"{cell.stage.name}: ",
            f": {cell.stage.kind} on ",
        )  # stages before are cells of their own, the kind is told

        def log(line: str) -> None:
            if line.startswith(own) and kind not in line:
                self._log(f"  {line}")

        stages = self.plan.experiment.chain(cell.stage.name)
        chain = self._chain(stages, cell.fold, cell.seed, log=log)
        begun = time.monotonic()
        if chain.result(stages[-1]) is None:
            chain.run()
            files.write_json(
                cell.folder / "time.json", {"seconds": round(time.monotonic() - begun, 1)}
            )
        if cell.asked:
            self.ask(cell, "validation")

    def guarded(self, cell: Cell, work: str) -> str:
        """Do one of WORKS to a cell; return what goes wrong in one line, empty where nothing does.

        Raises:
            InputError: A disk is full, so that others would fail as well; OSError likewise.
        """
        try:
            WORKS[work](self, cell)
        except KerasemoError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(
                error.__cause__, FileNotFoundError
            ):
                raise
            return " ".join(str(error).split())
        except OSError:
            raise
        except Exception as error:  # such as one of TensorFlow's: the others may well do
            traceback.print_exc()
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        finally:
            keras.backend.clear_session()
            gc.collect()
        return ""

    def _scored_line(self, cell: Cell) -> str:
        result = self.result(cell)
        figures = [
            f"{source} UA {score['ua']:.3f} WA {score['wa']:.3f}"
            for source, score in result["sources"].items()
        ]
        return (
            f"validation {', '.join(figures)} (epoch {result['best_epoch']} of {result['epochs']})"
        )

    def _left(self, cells: Sequence[Cell]) -> str:
        """Return how long some cells will take, by what those of their stages took, and how many are trained an hour."""
        if not cells:
            return "none left"
        by_stage: dict[str, list[float]] = {}
        for cell in self.cells:
            if cell.digest in self.seconds:
                by_stage.setdefault(cell.stage.name, []).append(self.seconds[cell.digest])
        mean = {stage: sum(values) / len(values) for stage, values in by_stage.items()}
        usual, at_once = sum(self.seconds.values()) / len(self.seconds), self.plan.jobs
        expected = sum(mean.get(cell.stage.name, usual) for cell in cells) / at_once
        return f"{3600 * at_once / usual:.1f} an hour, {len(cells)} left, about {format_duration(expected)}"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Return what the `metrics.json` of a cell says, None where it is not finished."""
        return run_folder.finished(cell.folder)

    def lineage(self, cell: Cell) -> Lineage:
        """Return a finished cell with those that it starts from."""
        own = [*map(self._by_digest, cell.before), cell]
        return Lineage([one.folder for one in own], [self.result(one) for one in own])

    def ask(self, cell: Cell, side: str) -> None:
        """Ask a finished cell about a side of every source, unless its answers are there."""
        of = self.lineage(cell)
        expected = stage_predictions.header(of, self.held)
        if stage_predictions.read(cell.folder, side, expected) is None:
            answered, document = stage_predictions.ask(of, self.held, side, load=self.held.source)
            stage_predictions.write(cell.folder, side, answered, expected | document)

    def said(
        self, cell: Cell, side: str
    ) -> tuple[dict[str, prediction_tables.Predictions], dict[str, Any]] | None:
        """Return the answers of a cell that are there, and what is to be known of them; see `stage_predictions.ask`."""
        if self.result(cell) is None:
            return None
        return stage_predictions.read(
            cell.folder, side, stage_predictions.header(self.lineage(cell), self.held)
        )

    def look(self, words: Sequence[str]) -> None:
        """Ask every finished cell about the test side, and write the look down first; answers that are there are no new look."""
        asked = [cell for cell in self.cells if cell.asked and cell.digest not in self.failed]
        written = {key for one in test_set_log.read(self.plan.run) for key in one["keys"]}
        new = [
            cell for cell in asked if cell.digest not in written or self.said(cell, "test") is None
        ]
        if not new:
            self._log(
                f"test side: all {pluralize(len(asked), 'network')} were asked before; their answers are read again, which is no new look"
            )
            return
        said = {
            "stages": list(self.plan.stages),
            "protocol": self.plan.protocol,
            "folds": list(self.folds),
            "seeds": list(self.plan.seeds),
        }
        if self.plan.keep_copies:
            said["keep_copies"] = True
        keys = [cell.digest for cell in new]
        number = test_set_log.look(
            self.plan.run, keys=keys, records=self.held.manifests, said=said, words=words
        )
        self._log(
            f"test side: look {number}, by {pluralize(len(new), 'network')} ({len(asked) - len(new)} were asked before)"
        )
        start, places = time.monotonic(), iter(range(1, len(new) + 1))

        def ended(cell: Cell, seconds: float) -> None:
            place = next(places)
            each = (time.monotonic() - start) / place
            label = f"[{place}/{len(new)}] {cell}"
            self._log(
                f"{label}: asked about the test side; {60 / each:.1f} a minute, about {format_duration(each * (len(new) - place))} left"
            )

        self._do("test", new, lambda cell: None, ended, jobs=self.plan.jobs)


def remade(
    plan: Plan, records_folder: Path, sources: Sequence[str], *, log: Callable[[str], None]
) -> Sweep:
    """Return a sweep again, in another process."""
    return Sweep(plan, Holdings(records_folder, sources), log=log)


WORKS: dict[str, Callable[[Sweep, Cell], None]] = {
    "train": Sweep._one,
    "test": lambda sweep, cell: sweep.ask(cell, "test"),
}
"""What is done to a cell, by its name: a process is told it by the name."""
