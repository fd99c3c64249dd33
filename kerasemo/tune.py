"""`python -m kerasemo.tune`: searches a stage's settings with keras-tuner, by its score on the validation side."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasemo import train
from kerasemo.config.loading import load_experiment
from kerasemo.studies import search_space
from kerasemo.studies.tuning import SEARCHES, Options, tune
from kerasemo.training.experiment import check_given_records
from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.errors import KerasemoError
from pipelines.core.tensorflow_loading import load_tensorflow


def print_search(result: Mapping[str, Any]) -> None:
    """Print the trials as a table, the best first, and what to do with them."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from kerasemo.reporting.terminal import WIDTH_OF_FILES
    from kerasemo.studies.search import described

    names = list(result["best"]["settings"])
    table = Table(box=SIMPLE, pad_edge=False)
    for column in (
        "trial",
        result["objective"],
        "epoch",
        *(name.replace("_", "_\n") for name in names),
    ):
        table.add_column(column, justify="right", overflow="fold")
    for trial in result["trials"]:
        if not trial["failed"]:
            settings = (f"{trial['settings'][name]:g}" for name in names)
            table.add_row(
                str(trial["trial"]),
                f"{trial['score']:.4f}",
                f"{trial['epoch']} of {trial['epochs']}",
                *settings,
            )
    print(f"Trials of stage {result['stage']} (validation side)")
    Console(
        file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False
    ).print(table)
    for trial in result["trials"]:
        if trial["failed"]:
            print(
                f"trial {trial['trial']} failed ({described(trial['settings'])}): {trial['failed']}"
            )
    path = result["experiment"]
    print(
        f"The best settings: {path} (python -m kerasemo.train --stage {result['stage']} --experiment {path} ...)"
    )
    print(f"Compare the trials: tensorboard --logdir {Path(path).parent}")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.tune",
        description="Search a stage's settings with keras-tuner. The stages before it are trained once. A trial is judged by its best\n"
        "epoch on the validation side; the test side is not looked at. The same command goes on with an interrupted search.",
        epilog="With hyperband the search says how many epochs a trial has, and a trial that is promoted is trained anew with more:\n"
        "the learning rate falls along all epochs of a trial. Widths and dropout are the network's: they are searched for a stage\n"
        "that starts from no other one. --epochs are those of a trial, with hyperband at most.",
    )
    train.add_options(parser)
    known = ", ".join(entry.name for entry in search_space.SPACE)
    parser.add_argument(
        "--search", choices=SEARCHES, default=SEARCHES[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--trials",
        type=positive_int,
        default=20,
        metavar="N",
        help="default: %(default)s; more can be asked for later",
    )
    parser.add_argument(
        "--over",
        default="",
        metavar="NAME,...",
        help=f"what is varied, of {known} (default: all that apply)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, search, print, and return the exit status."""
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    as_json = arguments.pop("json")
    over = tuple(name for name in arguments["over"].split(",") if name)
    options = Options(**arguments | {"settings": tuple(arguments["settings"]), "over": over})
    try:
        experiment = load_experiment(options.experiment, options.settings)
        search_space.entries(experiment, options.stage, options.over)
    except KerasemoError as error:
        parser.error(str(error))

    def work() -> int:
        check_given_records(options, experiment)
        load_tensorflow()
        result = tune(options, log=lambda line: print(line, file=sys.stderr, flush=True))
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            print_search(result)
        return 0

    return run_main(work, prog=parser.prog)


if __name__ == "__main__":
    sys.exit(main())
