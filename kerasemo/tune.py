"""`python -m kerasemo.tune`: searches a stage's settings with keras-tuner, by its score on the validation side."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasemo import space, train
from kerasemo.config import read_experiment
from pipelines.cli import Parser, load_tensorflow, positive_int, run_main
from pipelines.spec import InputError

SEARCHES = ("random", "hyperband", "bayesian")


@dataclasses.dataclass(frozen=True)
class Options(train.Options):
    """What a search is asked for on the command line; `epochs` are those of a trial, with Hyperband at most."""

    search: str = SEARCHES[0]
    trials: int = 20
    over: tuple[str, ...] = ()
    """Names of `space.SPACE`; empty: all that apply to the stage."""


def tune(options: Options, *, log: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Search a stage's settings; the stages before it are trained first, unless they are there.

    Args:
        options: What to search.
        log: Called with each line about what is done or reused.

    Returns:
        `{"stage", "objective", "best": {"settings", "score"}, "trials": [...], "experiment": path}`, the best trial first.

    Raises:
        InputError: Anything that the user can mend, such as keras-tuner missing; or every trial failed.
    """
    from kerasemo import chain, devices
    from kerasemo.search import Search, best_first

    devices.check_one_machine("a search")
    experiment = read_experiment(options.experiment, options.settings)
    if options.epochs:
        experiment = space.with_values(experiment, options.stage, {}, epochs=options.epochs)
    folder = options.run or Path("runs") / experiment.name
    same = ("protocol", "fold", "seed", "replicas", "precision", "compiler", "checkpoint_seconds")
    run = chain.Run(experiment, Path(), folder, **{name: getattr(options, name) for name in same})
    entries = space.entries(experiment, options.stage, options.over)
    search = Search(options.search, run, experiment.stage(options.stage), entries, options.trials)
    with search.oracle() as oracle:
        run = dataclasses.replace(
            run, records=train.records_folder(options, experiment, folder, log=log)
        )
        search = dataclasses.replace(search, run=run)
        search.claim()
        log(
            f"{options.stage}: {options.search} search by {search.objective} over {', '.join(entry.name for entry in entries)}"
        )
        search.train_before(log=log)
        trials = best_first(list(search.run_trials(oracle, log=log)))
    if trials[0]["failed"]:
        raise InputError(
            f"{search.folder}: all {len(trials)} trials failed; the first: {trials[0]['failed']}"
        )
    return {
        "stage": options.stage,
        "objective": search.objective,
        "best": {name: trials[0][name] for name in ("settings", "score")},
        "trials": trials,
        "experiment": str(search.write_best(trials)),
    }


def print_search(result: Mapping[str, Any]) -> None:
    """Print the trials as a table, the best first, and what to do with them."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    from kerasemo.search import described
    from kerasemo.tables import WIDTH_OF_FILES

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
    known = ", ".join(entry.name for entry in space.SPACE)
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
        experiment = read_experiment(options.experiment, options.settings)
        space.entries(experiment, options.stage, options.over)
    except InputError as error:
        parser.error(str(error))

    def work() -> int:
        train.check_given_records(options, experiment)
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
