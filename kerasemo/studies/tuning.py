"""Search the settings of a stage with keras-tuner, and write the best ones as an experiment."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from kerasemo.config.loading import load_experiment
from kerasemo.studies import search_space
from kerasemo.training.experiment import TrainingOptions, prepare_records
from pipelines.core.errors import RunError
from pipelines.core.logs import ContextLogger

logger = logging.getLogger(__name__)

SEARCHES = ("random", "hyperband", "bayesian")


@dataclasses.dataclass(frozen=True)
class SearchOptions(TrainingOptions):
    """The options of a search on the command line.

    `epochs` is the number of epochs of a trial; with Hyperband, the largest number.
    """

    search: str = SEARCHES[0]
    trials: int = 20
    over: tuple[str, ...] = ()
    """Names of `search_space.SEARCH_SPACE`; empty: all that apply to the stage."""


def search_settings(options: SearchOptions) -> dict[str, Any]:
    """Search the settings of a stage.

    Earlier stages are trained first, unless they are finished.

    Args:
        options: The stage, its experiment and the kind of the search.

    Returns:
        `{"stage", "objective", "best": {"settings", "score"}, "trials": [...], "experiment":
        path}`. The best trial is the first.

    Raises:
        InputError: A setting is wrong, keras-tuner is missing, or the folder holds another search.
        DataError: Records or results are damaged.
        RunError: Every trial failed, or the disk is full.
    """
    from kerasemo.datasets.catalog import RecordCatalog
    from kerasemo.studies.search import StageSearch, sort_trials
    from kerasemo.training import devices
    from kerasemo.training.chain import RunSettings

    devices.check_one_machine("a search")
    experiment = load_experiment(options.experiment, options.settings)
    if options.epochs:
        experiment = search_space.with_trial_values(
            experiment, options.stage, {}, epochs=options.epochs
        )
    folder = options.run or Path("runs") / experiment.name
    settings = RunSettings(
        experiment,
        folder,
        protocol=options.protocol,
        fold=options.fold,
        seed=options.seed,
        replicas=options.replicas,
        precision=options.precision,
        compiler=options.compiler,
        checkpoint_seconds=options.checkpoint_seconds,
    )
    parameters = search_space.search_parameters(experiment, options.stage, options.over)
    stage = experiment.stage(options.stage)
    search = StageSearch(options.search, settings, stage, parameters, options.trials)
    with search.open_oracle() as oracle:
        chain = experiment.chain(options.stage)
        catalog = RecordCatalog(
            prepare_records(options, experiment, folder),
            required=sorted({source for stage_config in chain for source in stage_config.sources}),
        )
        search.claim_folder()
        ContextLogger(logger, options.stage).info(
            "%s search by %s over %s",
            options.search,
            search.objective,
            ", ".join(parameter.name for parameter in parameters),
        )
        search.train_parents(catalog)
        trials = sort_trials(list(search.run_trials(oracle, catalog)))
    best = trials[0]
    if best.failure:
        raise RunError(
            f"{search.folder}: all {len(trials)} trials failed; the first: {best.failure}"
        )
    return {
        "stage": options.stage,
        "objective": search.objective,
        "best": {"settings": dict(best.settings), "score": best.score},
        "trials": [trial.to_json() for trial in trials],
        "experiment": str(search.write_best(trials)),
    }
