"""The command `kerasemo.tune`: search the settings of a stage by validation score."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasemo import train
from kerasemo.config.loading import load_experiment
from kerasemo.studies import search_space
from kerasemo.studies.tuning import SEARCHES, SearchOptions, search_settings
from kerasemo.training.experiment import check_records_option
from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.errors import KerasemoError
from pipelines.core.tensorflow_loading import load_tensorflow


def print_search(result: Mapping[str, Any]) -> None:
    """Print the trials as a table, the best first, and the next commands."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from kerasemo.reporting.terminal import FILE_WIDTH
    from kerasemo.studies.search import describe_values

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
    print(f"Trials of stage {result['stage']} (validation split)")
    Console(
        file=sys.stdout, width=None if sys.stdout.isatty() else FILE_WIDTH, highlight=False
    ).print(table)
    for trial in result["trials"]:
        if trial["failed"]:
            print(
                f"trial {trial['trial']} failed ({describe_values(trial['settings'])}): "
                f"{trial['failed']}"
            )
    path = result["experiment"]
    print(
        f"The best settings: {path} (python -m kerasemo.train --stage {result['stage']} "
        f"--experiment {path} ...)"
    )
    print(f"Compare the trials: tensorboard --logdir {Path(path).parent}")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.tune",
        description="Search the settings of a stage with keras-tuner. The stages before it are "
        "trained once. The score of a trial is that\n"
        "of its best epoch on the validation split; no test clip is used. The same command "
        "resumes an interrupted search.",
        epilog="Hyperband chooses the epochs of a trial. It trains a promising trial again from "
        "the start with more epochs, because\n"
        "the learning rate falls over all epochs of a trial. Width and dropout are settings of "
        "the network: a search varies\nthem only for a stage that starts from no other stage. "
        "--epochs N: the epochs of a trial; the most with hyperband.",
    )
    train.add_options(parser)
    parameter_names = ", ".join(parameter.name for parameter in search_space.SEARCH_SPACE)
    parser.add_argument(
        "--search", choices=SEARCHES, default=SEARCHES[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--trials",
        type=positive_int,
        default=20,
        metavar="N",
        help="default: %(default)s; more can be requested later",
    )
    parser.add_argument(
        "--over",
        default="",
        metavar="NAME,...",
        help=f"what to vary: {parameter_names} (default: all that apply)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, search, print, and return the exit status."""
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    as_json = arguments.pop("json")
    over = tuple(name for name in arguments["over"].split(",") if name)
    options = SearchOptions(**arguments | {"settings": tuple(arguments["settings"]), "over": over})
    try:
        experiment = load_experiment(options.experiment, options.settings)
        search_space.search_parameters(experiment, options.stage, options.over)
    except KerasemoError as error:
        parser.error(str(error))

    def work() -> int:
        check_records_option(options, experiment)
        load_tensorflow()
        result = search_settings(options)
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            print_search(result)
        return 0

    return run_main(work, prog=parser.prog)


if __name__ == "__main__":
    sys.exit(main())
