"""`python -m kerasemo.train`: a stage of an experiment, and first those before it that are not there yet."""

import argparse
import contextlib
import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kerasemo.config import Experiment, read_experiment
from kerasemo.folders import check_records
from pipelines.cli import Parser, load_tensorflow, natural_int, positive_int, run_main
from pipelines.spec import InputError

PROTOCOLS = ("speaker-independent", "speaker-dependent")


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
        `{"stage", "protocol", "fold", "trained_on", "sources", "not_scored", "stages", "run"}`; see `evaluate.evaluate`.

    Raises:
        InputError: Anything that the user can mend, before the first step where it can be known by then.
    """
    from kerasemo import chain, evaluate, lineage

    experiment = read_experiment(options.experiment, options.settings)
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
    scored = evaluate.evaluate(
        evaluate.Options(folder, records, options.stage, experiment.sources), load=work.source
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


def seconds(text: str) -> float:
    """Parse a number of seconds of at least 0 (an argparse type)."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(
        f"expected a number of seconds of at least 0; received {text!r}"
    )


def step_range(text: str) -> tuple[int, int]:
    """Parse the first and the last of some steps, such as 10,15 (an argparse type)."""
    first, _, last = text.partition(",")
    if first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise argparse.ArgumentTypeError(f"expected FIRST,LAST, such as 10,15; received {text!r}")


def add_options(parser: Parser) -> None:
    """Add the options that a search has as well."""
    parser.add_argument(
        "--stage", required=True, metavar="S", help="a stage of the experiment, such as joint"
    )
    parser.add_argument(
        "--experiment",
        default="sample",
        metavar="NAME",
        help="such as open, or a .toml file (default: %(default)s)",
    )
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="sets of records (default: sample corpora, synthesised)",
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="the run folder (default: runs/EXPERIMENT)"
    )
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--fold",
        type=natural_int,
        default=0,
        metavar="K",
        help="which fold is tested (default: %(default)s)",
    )
    parser.add_argument(
        "--replicas",
        type=positive_int,
        metavar="N",
        help="devices to train on (default: every GPU; logical CPUs without)",
    )
    parser.add_argument(
        "--epochs", type=positive_int, metavar="N", help="epochs of every stage that runs"
    )
    parser.add_argument(
        "--seed",
        type=natural_int,
        default=0,
        metavar="N",
        help="of every random choice (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="STAGE.KEY=VALUE",
        help="such as joint.margin=0.8",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="default: bfloat16 on GPUs made for it",
    )
    parser.add_argument(
        "--compiler",
        choices=("auto", "xla", "none"),
        default="auto",
        help="default: XLA on one GPU",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON document on standard output instead of the tables",
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.train",
        description="Train a stage of an experiment, and first those before it whose result is not there yet.",
    )
    add_options(parser)
    parser.add_argument(
        "--checkpoint-seconds",
        type=seconds,
        default=10.0,
        metavar="S",
        help="within an epoch, save after so long (default: %(default)g)",
    )
    parser.add_argument(
        "--profile",
        type=step_range,
        metavar="FIRST,LAST",
        help="steps of every stage that runs to profile for TensorBoard",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, train, print, and return the exit status."""
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    as_json = arguments.pop("json")
    options = Options(**arguments | {"settings": tuple(arguments["settings"])})
    try:
        experiment = read_experiment(options.experiment, options.settings)
        experiment.stage(options.stage)
    except InputError as error:
        parser.error(str(error))

    def work() -> int:
        from kerasemo import tables

        check_given_records(options, experiment)
        load_tensorflow()
        result = train(options, log=lambda line: print(line, file=sys.stderr, flush=True))
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            tables.print_training(result)
        return 0

    return run_main(work, prog=parser.prog)


if __name__ == "__main__":
    sys.exit(main())
