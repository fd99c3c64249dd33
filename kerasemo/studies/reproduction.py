"""Train every fold and seed of an experiment, and write one table of the pooled scores."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import PROTOCOLS, Experiment
from pipelines.core.errors import InputError


@dataclasses.dataclass(frozen=True)
class ReproductionOptions:
    """What a reproduction is told on the command line."""

    experiment: str
    records: Path
    run: Path | None = None
    """None: `runs/reproduce-EXPERIMENT`."""
    protocol: str = PROTOCOLS[0]
    folds: tuple[int, ...] | None = None
    """None: every fold."""
    seeds: tuple[int, ...] = (0,)
    stages: tuple[str, ...] = ()
    """Empty: every stage of the experiment."""
    final: bool = False
    """Whether the test split is predicted."""
    epochs: int | None = None
    settings: tuple[str, ...] = ()
    keep_copies: bool = False
    compare: tuple[tuple[str, str], ...] = ()
    """Pairs of stages; `A+B` is the mean of A and B."""
    listeners: Path | None = None
    """`erkennung.txt` of EMO-DB."""
    out: Path | None = None
    """The folder of the tables; None: `RUN/tables`."""
    precision: str = "auto"
    compiler: str = "auto"
    jobs: int = 1
    """The number of networks that are trained side by side."""
    words: tuple[str, ...] = ()
    """The words of the command, for the test-set log and the tables."""


def reproduce(options: ReproductionOptions) -> dict[str, Any]:
    """Train what is not finished, score it, write the tables and return their content.

    Args:
        options: What to reproduce.

    Returns:
        The content of `tables.json`; see `results.study_results`.

    Raises:
        InputError: A setting, a source or a folder is wrong.
        DataError: Records or results are damaged, or something would be in two splits.
        RunError: No fold is finished with every seed, or the disk is full. A network that fails
            does not raise an error; it is listed in the result.
    """
    from kerasemo.datasets.catalog import RecordCatalog
    from kerasemo.studies import results
    from kerasemo.studies.sweep import StudyPlan, Sweep
    from kerasemo.training import devices

    devices.check_one_machine("a reproduction")
    experiment = load_reproduced_experiment(options)
    stages = options.stages or tuple(stage.name for stage in experiment.stages)
    run = options.run or Path("runs") / f"reproduce-{experiment.name}"
    out = options.out or run / "tables"
    # Checked now, not after hours of training.
    for option, folder in (("--run", run), ("--out", out)):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: a file, expected a folder; name another {option}")
    trained_on = {
        source for name in stages for stage in experiment.chain(name) for source in stage.sources
    }
    catalog = RecordCatalog(options.records, required=sorted(trained_on))
    sources = tuple(
        source for source in experiment.sources if source in catalog.sources or source in trained_on
    )
    if options.listeners is not None:
        results.check_listener_rates(catalog, sources, options.listeners)
    plan = StudyPlan(
        experiment=experiment,
        run=run,
        sources=sources,
        stages=stages,
        protocol=options.protocol,
        folds=options.folds,
        seeds=options.seeds,
        epochs=options.epochs,
        keep_copies=options.keep_copies,
        jobs=options.jobs,
        precision=options.precision,
        compiler=options.compiler,
    )
    sweep = Sweep(plan, catalog)
    sweep.train()
    if options.final:
        sweep.evaluate_test_split(options.words)
    predictions = results.collect_predictions(sweep, "test" if options.final else "validation")
    study = results.study_results(
        sweep,
        predictions,
        compare=options.compare,
        listener_rates=options.listeners,
        command=shlex.join(options.words),
    )
    results.write_study(out, study, predictions.pools)
    return study


def load_reproduced_experiment(options: ReproductionOptions) -> Experiment:
    """Return the experiment with the settings of the options.

    Raises:
        InputError: The experiment does not exist, or has no such stage.
    """
    experiment = load_experiment(options.experiment, options.settings)
    compared = [name for pair in options.compare for side in pair for name in side.split("+")]
    for name in (*options.stages, *compared):
        experiment.stage(name)
    stages = options.stages or tuple(stage.name for stage in experiment.stages)
    for name in compared:
        if name not in stages:
            raise InputError(
                f"--compare: stage {name!r} is not among --stages {','.join(stages)}; add it"
            )
    return experiment
