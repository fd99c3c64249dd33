"""Train every fold and seed of an experiment, and write one table of the pooled scores."""

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import PROTOCOLS, Experiment
from pipelines.core.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked for on the command line."""

    experiment: str
    records: Path
    run: Path | None = None
    """None: `runs/reproduce-EXPERIMENT`."""
    protocol: str = PROTOCOLS[0]
    folds: tuple[int, ...] | None = None
    """None: every one."""
    seeds: tuple[int, ...] = (0,)
    stages: tuple[str, ...] = ()
    """Empty: every stage of the experiment."""
    final: bool = False
    """Whether the test side is looked at."""
    epochs: int | None = None
    settings: tuple[str, ...] = ()
    keep_copies: bool = False
    compare: tuple[tuple[str, str], ...] = ()
    listeners: Path | None = None
    out: Path | None = None
    """Of the tables; None: `RUN/tables`."""
    precision: str = "auto"
    compiler: str = "auto"
    jobs: int = 1
    """How many networks are trained side by side."""
    words: tuple[str, ...] = ()
    """Of the command, for the log of the looks and the tables."""


def reproduce(
    options: Options, *, log: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Train what is not there yet, score it, write the tables, and return what `tables.json` says; see `results.study_results`.

    Args:
        options: What is asked for.
        log: Called with each line about what is done or reused.

    Raises:
        InputError: Anything that the user can mend and that does not concern a single network.
    """
    from kerasemo.datasets import catalog
    from kerasemo.runs import lineage
    from kerasemo.studies import results, sweep
    from kerasemo.training import devices

    devices.check_one_machine("a reproduction")
    experiment = chosen(options)
    names = options.stages or tuple(stage.name for stage in experiment.stages)
    run = options.run or Path("runs") / f"reproduce-{experiment.name}"
    out = options.out or run / "tables"
    if wrong := next(
        (folder for folder in (run, out) if folder.exists() and not folder.is_dir()), None
    ):
        raise InputError(
            f"{wrong}: a file, expected a folder; name another {'--run' if wrong == run else '--out'}"
        )  # not after hours
    there = lineage.sources_in(options.records)
    needed = {
        source for name in names for stage in experiment.chain(name) for source in stage.sources
    }
    held = catalog.Holdings(
        options.records,
        [source for source in experiment.sources if source in there or source in needed],
    )
    if options.listeners is not None:
        results.check_listener_rates(held, options.listeners)  # not after hours of training
    plan = sweep.Plan(
        experiment=experiment,
        run=run,
        stages=names,
        protocol=options.protocol,
        folds=options.folds,
        seeds=options.seeds,
        epochs=options.epochs,
        keep_copies=options.keep_copies,
        jobs=options.jobs,
        settings=(("precision", options.precision), ("compiler", options.compiler)),
    )
    work = sweep.Sweep(plan, held, log=log)
    work.train()
    if options.final:
        work.look(options.words)
    predictions = results.collect_predictions(work, "test" if options.final else "validation")
    result = results.study_results(
        work,
        predictions,
        compare=options.compare,
        listener_rates=options.listeners,
        command=shlex.join(options.words),
    )
    results.write_study(out, result, predictions.pools)
    return result


def chosen(options: Options) -> Experiment:
    """Return the experiment with the options' settings; InputError where it is none, or a stage is not in it."""
    experiment = load_experiment(options.experiment, options.settings)
    compared = [name for pair in options.compare for side in pair for name in side.split("+")]
    for name in (*options.stages, *compared):
        experiment.stage(name)
    asked = options.stages or tuple(stage.name for stage in experiment.stages)
    if missing := [name for name in compared if name not in asked]:
        raise InputError(
            f"--compare: stage {missing[0]!r} is not among --stages {','.join(asked)}; add it there"
        )
    return experiment
