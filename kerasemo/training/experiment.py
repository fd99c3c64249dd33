"""Train a stage of an experiment and the stages that it starts from, and score every source."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import PROTOCOLS, Experiment
from kerasemo.runs.paths import check_records
from pipelines.core.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """What a training is asked for on the command line."""

    stage: str
    experiment: str = "sample"
    records: Path | None = None
    """None: the sample corpora, synthesised when they are not there."""
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
    """How much of the work within an epoch a killed training does again, at most."""
    profile: tuple[int, int] | None = None
    """The first and the last step of every stage that runs to profile, from 1."""


def train(options: Options, *, log=lambda line: None) -> dict[str, Any]:
    """Train a stage and those before it whose result is not there yet, and score every source of the experiment.

    Args:
        options: What to train.
        log: Called with each line about what is done or reused.

    Returns:
        `{"stage", "protocol", "fold", "trained_on", "sources", "not_scored", "stages", "run"}`; see `evaluator.evaluate`.

    Raises:
        InputError: Anything that the user can mend, before the first step where it can be known by then.
    """
    from kerasemo.evaluation import evaluator
    from kerasemo.runs import lineage
    from kerasemo.training import chain

    experiment = load_experiment(options.experiment, options.settings)
    stages = experiment.chain(options.stage)
    folder = options.run or Path("runs") / experiment.name
    records = records_folder(options, experiment, folder, log=log)
    same = (
        "protocol",
        "fold",
        "seed",
        "epochs",
        "replicas",
        "precision",
        "compiler",
        "checkpoint_seconds",
        "profile",
    )
    run = chain.Run(experiment, records, folder, **{name: getattr(options, name) for name in same})
    work = chain.Chain(run, stages, log=log)
    there = [source for source in experiment.sources if source in lineage.sources_in(records)]
    trained_on = [source for stage in stages for source in stage.sources]
    chain.gated_sides(
        records, there, trained_on=trained_on, protocol=options.protocol, fold=options.fold
    )  # what is scored at the end
    results = work.run()
    scored = evaluator.evaluate(
        evaluator.Options(folder, records, options.stage, experiment.sources), load=work.source
    )
    summary = [
        {
            key: result[key]
            for key in ("stage", "kind", "trained_on", "epochs", "best_epoch", "sources")
        }
        for result in results
    ]
    return scored | {"stages": summary, "run": str(folder)}


def records_folder(
    options: Options, experiment: Experiment, folder: Path, *, log: Callable[[str], None]
) -> Path:
    """Return the folder of the records; where none is named, that of the sample corpora, made below the run folder."""
    check_given_records(options, experiment)
    return options.records or make_sample_records(folder, experiment.sources, log=log)


def check_given_records(options: Options, experiment: Experiment) -> None:
    """Raise InputError where records are needed and none were named, or there are none; asked before anything heavy is loaded."""
    if options.records is not None:
        check_records(options.records)
    elif options.experiment != "sample":
        needs = ", ".join(experiment.sources)
        raise InputError(
            f"--records DIR is missing: {experiment.name!r} needs {needs}; make them with python -m pipelines.build"
        )


def make_sample_records(folder: Path, sources: Sequence[str], *, log) -> Path:
    """Synthesise the sample corpora below a run folder and build their records, both unless they are there; return the records."""
    media, records = folder / "data" / "media", folder / "data" / "records"
    if all((records / source / "manifest.json").is_file() for source in sources):
        log(f"sample corpora: made before in {records}, reused")
        return records
    log(f"no --records given: synthesises the sample corpora in {media}")
    _command("pipelines.sample", "--out", str(media))
    for corpus in sorted({source.partition("/")[0] for source in sources}):
        _command(
            "pipelines.build",
            "--corpus",
            corpus,
            "--media",
            str(media / corpus),
            "--out",
            str(records),
        )
    return records


def _command(module: str, *words: str) -> None:
    """Run one of the pipelines' commands, its table on standard error."""
    finished = subprocess.run(
        [sys.executable, "-m", module, *words], stdout=sys.stderr, check=False
    )
    if finished.returncode:
        raise InputError(
            f"python -m {module} {' '.join(words)} ended with status {finished.returncode}; its message stands above"
        )
