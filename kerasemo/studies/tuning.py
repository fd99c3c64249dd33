"""Search the settings of a stage with keras-tuner, and write the best of them as an experiment."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kerasemo.config.loading import load_experiment
from kerasemo.studies import search_space
from kerasemo.training import experiment
from kerasemo.training.experiment import records_folder
from pipelines.core.errors import InputError

SEARCHES = ("random", "hyperband", "bayesian")


@dataclasses.dataclass(frozen=True)
class Options(experiment.Options):
    """What a search is asked for on the command line; `epochs` are those of a trial, with Hyperband at most."""

    search: str = SEARCHES[0]
    trials: int = 20
    over: tuple[str, ...] = ()
    """Names of `search_space.SPACE`; empty: all that apply to the stage."""


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
    from kerasemo.studies.search import Search, best_first
    from kerasemo.training import chain, devices

    devices.check_one_machine("a search")
    searched = load_experiment(options.experiment, options.settings)
    if options.epochs:
        searched = search_space.with_values(searched, options.stage, {}, epochs=options.epochs)
    folder = options.run or Path("runs") / searched.name
    same = ("protocol", "fold", "seed", "replicas", "precision", "compiler", "checkpoint_seconds")
    run = chain.Run(searched, Path(), folder, **{name: getattr(options, name) for name in same})
    entries = search_space.entries(searched, options.stage, options.over)
    search = Search(options.search, run, searched.stage(options.stage), entries, options.trials)
    with search.oracle() as oracle:
        run = dataclasses.replace(run, records=records_folder(options, searched, folder, log=log))
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
