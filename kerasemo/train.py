"""`python -m kerasemo.train`: train a stage of an experiment, and first the stages before it."""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import PROTOCOLS
from kerasemo.training.experiment import TrainingOptions, check_records_option, train_experiment
from pipelines.core.cli import Parser, natural_int, positive_int, run_main
from pipelines.core.errors import KerasemoError
from pipelines.core.tensorflow_loading import load_tensorflow


def seconds(text: str) -> float:
    """Parse a number of seconds of at least 0 (an argparse type)."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(
        f"expected a number of seconds of at least 0; received {text!r}"
    )


def step_range(text: str) -> tuple[int, int]:
    """Parse the first and the last step of a range, such as 10,15 (an argparse type)."""
    first, _, last = text.partition(",")
    if first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise argparse.ArgumentTypeError(f"expected FIRST,LAST, such as 10,15; received {text!r}")


def add_options(parser: Parser) -> None:
    """Add the options that `kerasemo.tune` also has."""
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
        help="the fold (default: %(default)s)",
    )
    parser.add_argument(
        "--replicas",
        type=positive_int,
        metavar="N",
        help="devices to train on (default: every GPU, or one CPU)",
    )
    parser.add_argument(
        "--epochs", type=positive_int, metavar="N", help="epochs of every stage that runs"
    )
    parser.add_argument(
        "--seed",
        type=natural_int,
        default=0,
        metavar="N",
        help="the seed of every random choice (default: %(default)s)",
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
        help="default: bfloat16 on GPUs with units for it",
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
        help="print one JSON document instead of the tables",
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.train",
        description="Train a stage of an experiment, after its unfinished parent stages.",
    )
    add_options(parser)
    parser.add_argument(
        "--checkpoint-seconds",
        type=seconds,
        default=10.0,
        metavar="S",
        help="within an epoch, save the state every S seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--profile",
        type=step_range,
        metavar="FIRST,LAST",
        help="profile these steps of every stage for TensorBoard",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, train, print, and return the exit status."""
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    as_json = arguments.pop("json")
    options = TrainingOptions(**arguments | {"settings": tuple(arguments["settings"])})
    try:
        experiment = load_experiment(options.experiment, options.settings)
        experiment.stage(options.stage)
    except KerasemoError as error:
        parser.error(str(error))

    def work() -> int:
        from kerasemo.reporting import terminal

        check_records_option(options, experiment)
        load_tensorflow()
        result = train_experiment(options)
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            terminal.print_training(result)
        return 0

    return run_main(work, prog=parser.prog)


if __name__ == "__main__":
    sys.exit(main())
