"""Train a stage of an experiment and the stages that it starts from, and score every source."""

import dataclasses
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import PROTOCOLS, Experiment
from kerasemo.runs.paths import check_records_folder
from pipelines.core.errors import InputError, RunError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """The options of a training on the command line."""

    stage: str
    experiment: str = "sample"
    records: Path | None = None
    """None: the sample corpora, which are synthesised if they are missing."""
    run: Path | None = None
    """None: `runs/EXPERIMENT`."""
    protocol: str = PROTOCOLS[0]
    fold: int = 0
    replicas: int | None = None
    epochs: int | None = None
    seed: int = 0
    settings: tuple[str, ...] = ()
    precision: str = "auto"
    compiler: str = "auto"
    checkpoint_seconds: float = 10.0
    """Within an epoch, the state is saved after so many seconds."""
    profile: tuple[int, int] | None = None
    """The first and the last profiled step of every stage that runs, from 1."""


def train_experiment(options: TrainingOptions) -> dict[str, Any]:
    """Train a stage, and first the stages before it that are not finished, and score every source.

    Args:
        options: What to train.

    Returns:
        `{"stage", "protocol", "fold", "trained_on", "sources", "not_scored", "matching", "stages",
        "run"}`; see `evaluator.evaluate_stage`.

    Raises:
        InputError: A setting, a source or a folder is wrong; raised before the first step if it can
            be known by then.
        DataError: Records or results are damaged.
        RunError: A loss became NaN, a worker is lost, or the disk is full.
    """
    from kerasemo.datasets.catalog import RecordCatalog
    from kerasemo.evaluation.evaluator import evaluate_stage
    from kerasemo.runs.lineage import find_lineage
    from kerasemo.training.chain import Chain, RunSettings

    experiment = load_experiment(options.experiment, options.settings)
    stages = experiment.chain(options.stage)
    folder = options.run or Path("runs") / experiment.name
    trained_on = {source for stage in stages for source in stage.sources}
    catalog = RecordCatalog(
        prepare_records(options, experiment, folder), required=sorted(trained_on)
    )
    settings = RunSettings(
        experiment,
        folder,
        protocol=options.protocol,
        fold=options.fold,
        seed=options.seed,
        epochs=options.epochs,
        replicas=options.replicas,
        precision=options.precision,
        compiler=options.compiler,
        checkpoint_seconds=options.checkpoint_seconds,
        profiled_steps=options.profile,
    )
    chain = Chain(settings, stages, catalog)
    existing = {source for source in experiment.sources if source in catalog.sources}
    # What is scored at the end must pass the gate before hours of training.
    catalog.split(
        sorted(existing | trained_on),
        protocol=options.protocol,
        fold=options.fold,
        trained_on=trained_on,
    )
    results = chain.run()
    evaluation = evaluate_stage(
        find_lineage(folder, options.stage),
        catalog,
        sources=experiment.sources,
        test_outputs=results[-1].outputs,
    )
    summary = [
        {
            "stage": result.stage.name,
            "kind": result.stage.config.kind,
            "trained_on": list(result.stage.trained_on),
            "epochs": result.stage.config.epochs,
            "best_epoch": result.stage.best_epoch,
            "sources": result.stage.scores,
        }
        for result in results
    ]
    return evaluation | {"stages": summary, "run": str(folder)}


def prepare_records(options: TrainingOptions, experiment: Experiment, folder: Path) -> Path:
    """Return the folder of the records.

    If no records are named, the sample corpora are made in the run folder.

    Raises:
        InputError: The records do not exist, or --records is required but missing.
        RunError: The sample corpora cannot be made.
    """
    check_records_option(options, experiment)
    return options.records or make_sample_records(folder, experiment.sources)


def check_records_option(options: TrainingOptions, experiment: Experiment) -> None:
    """Raise InputError if the records do not exist, or if --records is required but missing.

    Call it before heavy imports.
    """
    if options.records is not None:
        check_records_folder(options.records)
    elif options.experiment != "sample":
        sources = ", ".join(experiment.sources)
        raise InputError(
            f"--records DIR is missing: {experiment.name!r} needs {sources}; make them with "
            "python -m pipelines.build"
        )


def make_sample_records(folder: Path, sources: Sequence[str]) -> Path:
    """Synthesise the sample corpora in a run folder and build their records, if they are missing.

    Returns:
        The folder of the records.

    Raises:
        RunError: A command failed.
    """
    media, records = folder / "data" / "media", folder / "data" / "records"
    if all((records / source / "manifest.json").is_file() for source in sources):
        logger.info("sample corpora: already made in %s, reused", records)
        return records
    logger.info("no --records given: synthesising the sample corpora in %s", media)
    _run_module("pipelines.sample", "--out", str(media))
    for corpus in sorted({source.partition("/")[0] for source in sources}):
        _run_module(
            "pipelines.build",
            "--corpus",
            corpus,
            "--media",
            str(media / corpus),
            "--out",
            str(records),
        )
    return records


def _run_module(module: str, *arguments: str) -> None:
    """Run a command of `pipelines`, with its table on standard error.

    Raises:
        RunError: The command failed.
    """
    finished = subprocess.run(
        [sys.executable, "-m", module, *arguments], stdout=sys.stderr, check=False
    )
    if finished.returncode:
        raise RunError(
            f"python -m {module} {' '.join(arguments)} ended with status {finished.returncode}; "
            "see its message above"
        )
