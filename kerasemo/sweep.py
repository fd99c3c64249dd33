"""Every fold and seed of the stages of an experiment: a cell is one network, and cells of equal keys are one.

`RUN/stages/STAGE-DIGEST/` holds a stage by the beginning of its key's digest, so that what does not depend on the fold is trained once
for all of them. What is finished is reused, what was interrupted goes on, and a cell that fails costs itself and those that start from it.
"""

import dataclasses
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kerasemo import answers, looks, runs
from kerasemo.chain import Chain, Run
from kerasemo.holdings import Holdings
from kerasemo.lineage import Lineage
from kerasemo.settings import Experiment, Stage
from pipelines import records
from pipelines.spec import InputError

STAGES = "stages"
"""The folder of the stages in a run folder."""


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
    settings: tuple[tuple[str, Any], ...] = ()
    """More fields of `chain.Run`: precision, compiler, replicas."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network: a stage of one fold and seed."""

    stage: Stage
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


class Sweep:
    """The cells of a plan, and what is done with them.

    Args:
        plan: What is asked for.
        held: The records, of every source of the experiment that is there.
        log: Called with each line about what is done or reused.

    Raises:
        InputError: There is no such fold, or something would leak from one side to another in one.
    """

    def __init__(self, plan: Plan, held: Holdings, *, log: Callable[[str], None] = lambda line: None):
        self.plan, self.held = plan, held
        self._log = log
        self.failed: dict[str, str] = {}
        """Digest -> why the cell failed."""
        self.seconds: dict[str, float] = {}
        """Digest -> how long this command has trained the cell."""
        lineages = [plan.experiment.chain(name) for name in plan.stages]
        self._stages = [stage for stage in plan.experiment.stages if any(stage in lineage for lineage in lineages)]
        self.fold_counts = held.folds(held.sources, protocol=plan.protocol)
        own = max(self.fold_counts[source] for stage in self._stages for source in stage.sources)
        self.folds = tuple(range(own)) if plan.folds is None else plan.folds
        count = max(self.fold_counts.values())  # fold k is k mod K where there are fewer
        if wrong := [fold for fold in self.folds if fold >= count]:
            raise InputError(f"--folds {wrong[0]}: these corpora have {count} folds under {plan.protocol}; expected 0 to {count - 1}")
        if plan.keep_copies and not any(
            split.publisher for split in held.sides(protocol=plan.protocol, fold=0, keep_copies=True).splits.values()
        ):
            raise InputError("--keep-copies is for corpora that their publisher split, such as FER-2013; there is none: leave it out")
        self.cells = self._planned()

    def _run(self, fold: int, seed: int) -> Run:
        plan = self.plan
        options = {"protocol": plan.protocol, "fold": fold, "seed": seed, "epochs": plan.epochs, "keep_copies": plan.keep_copies}
        return Run(plan.experiment, self.held.folder, plan.run, **options, scored="validation", **dict(plan.settings))

    def _folder_of(self, stage: str, digest: str) -> Path:
        return self.plan.run / STAGES / runs.folder_name(stage, digest)

    def _chain(self, stages: Sequence[Stage], fold: int, seed: int, **options: Any) -> Chain:
        return Chain(self._run(fold, seed), stages, held=self.held, folder_of=self._folder_of, **options)

    def _planned(self) -> list[Cell]:
        """Return every cell once, those that others start from before them; seed after seed, fold after fold."""
        cells: dict[str, Cell] = {}
        for seed in self.plan.seeds:
            for fold in self.folds:
                chain = self._chain(self._stages, fold, seed)
                for stage in self._stages:
                    key = chain.key(stage)
                    before = tuple(runs.digest(chain.key(own)) for own in chain.lineage(stage)[:-1])
                    asked = stage.name in self.plan.stages
                    digest = runs.digest(key)
                    cells.setdefault(digest, Cell(stage, key["fold"], seed, digest, chain.folder(stage), before, asked))
        return list(cells.values())

    def train(self) -> None:
        """Train every cell that is not there, and ask each about the validation side of every source."""
        done = {cell.digest for cell in self.cells if self.result(cell) is not None}
        what = f"{counted(len(self._stages), 'stage')}, folds {spelt(self.folds)}, seeds {spelt(self.plan.seeds)}"
        there = f"{len(done)} are there, {len(self.cells) - len(done)} to train"
        self._log(f"{counted(len(self.cells), 'network')} ({what}): {there}, in {self.plan.run / STAGES}")
        for place, cell in enumerate(self.cells, 1):
            begun, label = time.monotonic(), f"[{place}/{len(self.cells)}] {cell}"
            if cell.digest not in done:
                self._log(f"{label}: {cell.stage.kind} on {' + '.join(cell.stage.sources)}")
            self._guarded(cell, label, lambda cell=cell: self._one(cell))
            if cell.digest in self.failed:
                continue
            took = time.monotonic() - begun
            if cell.digest in done:
                self._log(f"{label}: done before, reused")
            else:
                self.seconds[cell.digest] = took
                left = [other for other in self.cells[place:] if other.digest not in done]
                self._log(f"{label}: {self._scored_line(cell)}, {spent(took)}; {self._left(left)}")

    def _one(self, cell: Cell) -> None:
        if failed := [digest for digest in cell.before if digest in self.failed]:
            raise InputError(f"the stage it starts from failed ({next(other for other in self.cells if other.digest == failed[0])})")
        own, kind = f"{cell.stage.name}: ", f": {cell.stage.kind} on "  # stages before are cells of their own, the kind is told

        def log(line: str) -> None:
            if line.startswith(own) and kind not in line:
                self._log(f"  {line}")

        stages = self.plan.experiment.chain(cell.stage.name)
        chain = self._chain(stages, cell.fold, cell.seed, log=log)
        begun = time.monotonic()
        if chain.result(stages[-1]) is None:
            chain.run()
            records.write_json(cell.folder / "time.json", {"seconds": round(time.monotonic() - begun, 1)})
        if cell.asked:
            self.ask(cell, "validation")

    def _guarded(self, cell: Cell, label: str, work: Callable[[], None]) -> None:
        """Do something of a cell; what goes wrong is told and kept, and the others go on, but for a disk that is full."""
        try:
            work()
        except InputError as error:
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
                raise
            self.failed[cell.digest] = " ".join(str(error).split())
        except OSError:
            raise
        except Exception as error:  # such as one of TensorFlow's: the others may well do
            traceback.print_exc()
            self.failed[cell.digest] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        finally:
            keras.backend.clear_session()
            gc.collect()
        if cell.digest in self.failed:
            self._log(f"{label}: failed: {self.failed[cell.digest]}")

    def _scored_line(self, cell: Cell) -> str:
        result = self.result(cell)
        figures = [f"{source} UA {score['ua']:.3f} WA {score['wa']:.3f}" for source, score in result["sources"].items()]
        return f"validation {', '.join(figures)} (epoch {result['best_epoch']} of {result['epochs']})"

    def _left(self, cells: Sequence[Cell]) -> str:
        """Return how long some cells will take, by what those of their stages took, and how many are trained an hour."""
        if not cells:
            return "none left"
        by_stage: dict[str, list[float]] = {}
        for cell in self.cells:
            if cell.digest in self.seconds:
                by_stage.setdefault(cell.stage.name, []).append(self.seconds[cell.digest])
        mean = {stage: sum(values) / len(values) for stage, values in by_stage.items()}
        usual = sum(self.seconds.values()) / len(self.seconds)
        return f"{3600 / usual:.1f} an hour, {len(cells)} left, about {spent(sum(mean.get(cell.stage.name, usual) for cell in cells))}"

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Return what the `metrics.json` of a cell says, None where it is not finished."""
        return runs.finished(cell.folder)

    def lineage(self, cell: Cell) -> Lineage:
        """Return a finished cell with those that it starts from."""
        own = [*(next(other for other in self.cells if other.digest == digest) for digest in cell.before), cell]
        return Lineage([one.folder for one in own], [self.result(one) for one in own])

    def ask(self, cell: Cell, side: str) -> None:
        """Ask a finished cell about a side of every source, unless its answers are there."""
        of = self.lineage(cell)
        expected = answers.header(of, self.held)
        if answers.read(cell.folder, side, expected) is None:
            answered, document = answers.ask(of, self.held, side, load=self.held.source)
            answers.write(cell.folder, side, answered, expected | document)

    def said(self, cell: Cell, side: str) -> tuple[dict[str, answers.Answers], dict[str, Any]] | None:
        """Return the answers of a cell that are there, and what is to be known of them; see `answers.ask`."""
        if self.result(cell) is None:
            return None
        return answers.read(cell.folder, side, answers.header(self.lineage(cell), self.held))

    def look(self, words: Sequence[str]) -> None:
        """Ask every finished cell about the test side, and write the look down first; answers that are there are no new look."""
        asked = [cell for cell in self.cells if cell.asked and cell.digest not in self.failed]
        written = {key for one in looks.read(self.plan.run) for key in one["keys"]}
        new = [cell for cell in asked if cell.digest not in written or self.said(cell, "test") is None]
        if not new:
            self._log(
                f"test side: all {counted(len(asked), 'network')} were asked before; their answers are read again, which is no new look"
            )
            return
        said = {"stages": list(self.plan.stages), "protocol": self.plan.protocol, "folds": list(self.folds), "seeds": list(self.plan.seeds)}
        if self.plan.keep_copies:
            said["keep_copies"] = True
        keys = [cell.digest for cell in new]
        number = looks.look(self.plan.run, keys=keys, records=self.held.manifests, said=said, words=words)
        self._log(f"test side: look {number}, by {counted(len(new), 'network')} ({len(asked) - len(new)} were asked before)")
        begun = time.monotonic()
        for place, cell in enumerate(new, 1):
            label = f"[{place}/{len(new)}] {cell}"
            self._guarded(cell, label, lambda cell=cell: self.ask(cell, "test"))
            if cell.digest not in self.failed:
                each = (time.monotonic() - begun) / place
                self._log(f"{label}: asked about the test side; {60 / each:.1f} a minute, about {spent(each * (len(new) - place))} left")


def spent(seconds: float) -> str:
    """Return a time in words.

    >>> spent(12.3), spent(192), spent(7500)
    ('12 s', '3 min 12 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(number: int, name: str) -> str:
    """Return how many there are of something.

    >>> counted(1, "network"), counted(2, "network")
    ('1 network', '2 networks')
    """
    return f"{number} {name}{'s' * (number != 1)}"


def spelt(numbers: Sequence[int]) -> str:
    """Return numbers as a text in which three or more in a row are one entry.

    >>> spelt([0, 1, 2, 3, 8]), spelt([4, 5])
    ('0-3, 8', '4, 5')
    """
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    return ", ".join(f"{row[0]}-{row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows)
