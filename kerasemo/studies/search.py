"""Search the settings of a stage: keras-tuner proposes trials, validation scores them.

`RUN/tune/STAGE/` holds `search.json` with the options of the search, and `best.toml`. Each trial
has a run folder `trial-001`, `trial-002`, ... with its `experiment.toml`. An interrupted search
starts again from its seed: the oracle proposes the same trials, finished trials are read, and the
interrupted trial resumes. An interruption therefore does not change the trials, and more trials can
be requested later.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import Experiment, StageConfig
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.runs import run_folder
from kerasemo.runs.checkpoints import FolderInUseError
from kerasemo.studies.search_space import (
    SearchParameter,
    experiment_toml,
    round_value,
    with_trial_values,
)
from kerasemo.training.chain import Chain, RunSettings
from pipelines.core import files
from pipelines.core.errors import InputError, KerasemoError, StorageError
from pipelines.core.logs import ContextLogger
from pipelines.core.text import printable

logger = logging.getLogger(__name__)

ORACLES = {
    "random": "RandomSearchOracle",
    "hyperband": "HyperbandOracle",
    "bayesian": "BayesianOptimizationOracle",
}
"""Kind of search -> the class of `keras_tuner.oracles`."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A finished trial of a search."""

    number: int
    """From 1."""
    epochs: int
    settings: Mapping[str, float | int]
    """Name of a `SearchParameter` -> its value."""
    folder: Path
    score: float | None
    """The score of the best epoch; None if the trial failed."""
    best_epoch: int | None
    """From 1; None if the trial failed."""
    failure: str | None
    """The reason of the failure; None if the trial succeeded."""

    def to_json(self) -> dict[str, Any]:
        """Return the trial as the command prints it with `--json`."""
        return {
            "trial": self.number,
            "epochs": self.epochs,
            "settings": dict(self.settings),
            "folder": str(self.folder),
            "score": self.score,
            "epoch": self.best_epoch,
            "failed": self.failure,
        }


@dataclasses.dataclass(frozen=True)
class StageSearch:
    """The settings and the method of a search."""

    kind: str
    """A key of ORACLES."""
    settings: RunSettings
    """The run folder with the earlier stages. The experiment has the most epochs of a trial."""
    stage: StageConfig
    parameters: tuple[SearchParameter, ...]
    n_trials: int

    @property
    def objective(self) -> str:
        """The name in the history of the score that the search maximises."""
        return "val_pair_auc" if self.stage.kind == "contrastive" else "val_ua"

    @property
    def folder(self) -> Path:
        """The folder of the search."""
        return self.settings.folder / "tune" / self.stage.name

    def claim_folder(self) -> None:
        """Write `search.json`, or check that the folder holds the same search.

        Raises:
            InputError: The folder holds another search; the message has the differences.
            StorageError: The folder cannot be written.
        """
        document = {
            "search": self.kind,
            "seed": self.settings.seed,
            "protocol": self.settings.protocol,
            "fold": self.settings.fold,
            "space": {
                parameter.name: parameter.choices or (parameter.low, parameter.high)
                for parameter in self.parameters
            },
            "stage": dataclasses.asdict(self.stage),
            "network": dataclasses.asdict(self.settings.experiment.network),
            "keras-tuner": importlib.metadata.version("keras-tuner"),
        }
        document = json.loads(json.dumps(document))
        with files.storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "search.json"
        stored = files.read_json(path)
        if stored is None:
            if any(self.folder.glob("trial-*")):
                raise InputError(
                    f"{self.folder}: has trials but no undamaged search.json; remove the folder "
                    "or name another --run"
                )
            with files.storage_errors(path):
                files.write_json(path, document)
            return
        differences = list(run_folder.key_differences(stored, document))
        if differences:
            raise InputError(
                f"{self.folder}: holds another search ({'; '.join(differences)}); repeat its "
                "settings, name another --run, or remove the folder"
            )

    def train_parents(self, catalog: RecordCatalog) -> None:
        """Train the unfinished stages before the searched stage.

        Raises:
            InputError, DataError: These stages, or the searched stage with its own settings, cannot
                be trained on these records.
            RunError: A training failed.
        """
        stages = self.settings.experiment.chain(self.stage.name)
        unused_folder = self.folder / "none"
        trial_settings = self._trial_settings(unused_folder, self.settings.experiment)
        Chain(trial_settings, stages, catalog).check()
        if stages[:-1]:
            Chain(self.settings, stages[:-1], catalog).run()

    def _trial_settings(self, folder: Path, experiment: Experiment) -> RunSettings:
        return dataclasses.replace(
            self.settings,
            experiment=experiment,
            folder=folder,
            parents_folder=self.settings.folder,
            scored_split="validation",
        )

    def trial_experiment(self, values: Mapping[str, Any], epochs: int) -> Experiment:
        """Return the experiment of a trial."""
        return with_trial_values(self.settings.experiment, self.stage.name, values, epochs=epochs)

    @contextlib.contextmanager
    def open_oracle(self) -> Iterator[Any]:
        """Yield the oracle of keras-tuner.

        The files of keras-tuner are removed: it writes them in place, so a kill could damage them.

        Raises:
            InputError: keras-tuner, or a package that the kind of search needs, is not installed.
        """
        try:
            oracle = self._create_oracle()
        except ImportError as error:
            raise InputError(
                f"{self.kind} search: {error}; install what it needs with pip install "
                "'kerasemo[tune]'"
            ) from error
        oracle.max_trials = self.n_trials
        oracle.verbose = 0  # else it prints on standard output
        with tempfile.TemporaryDirectory(prefix="kerasemo-tune-") as folder:
            oracle._set_project_dir(folder, "oracle")  # as the tuners of keras-tuner do
            yield oracle

    def _create_oracle(self) -> Any:
        """Return the oracle; raise ImportError if a package is missing."""
        import keras_tuner

        hyperparameters = keras_tuner.HyperParameters()
        for parameter in self.parameters:
            if parameter.choices:
                choices = list(map(float, parameter.choices))
                hyperparameters.Choice(parameter.name, choices, ordered=True)
            else:
                sampling = "log" if parameter.logarithmic else "linear"
                hyperparameters.Float(
                    parameter.name, parameter.low, parameter.high, sampling=sampling
                )
        arguments: dict[str, Any] = {}
        if self.kind == "hyperband":  # its brackets repeat until the last trial
            arguments = {"max_epochs": self.stage.epochs, "hyperband_iterations": None}
        elif self.kind == "bayesian":  # by default three times as many are drawn at random
            arguments = {"num_initial_points": len(self.parameters)}
        # Neighbouring seeds would give the same numbers, shifted by one parameter.
        seed_hash = hashlib.sha256(f"{self.settings.seed} search".encode()).hexdigest()
        return getattr(keras_tuner.oracles, ORACLES[self.kind])(
            objective=keras_tuner.Objective(self.objective, "max"),
            hyperparameters=hyperparameters,
            allow_new_entries=False,
            seed=int(seed_hash[:7], 16),
            max_consecutive_failed_trials=self.n_trials + 1,  # failed trials never end a search
            **arguments,
        )

    def run_trials(self, oracle: Any, catalog: RecordCatalog) -> Iterator[Trial]:
        """Yield each trial when it is finished.

        Args:
            oracle: See `open_oracle`.
            catalog: The records.

        Raises:
            InputError: The folder of a trial holds another training.
            FolderInUseError: Another command trains in the folder of a trial.
            StorageError: The disk is full.
        """
        log = ContextLogger(logger, self.stage.name)
        for number in range(1, self.n_trials + 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a Gaussian process with few points
                proposal = oracle.create_trial("tune")
            if proposal.status != "RUNNING":
                log.info("the search has no other trials than these %d", number - 1)
                return
            drawn = proposal.hyperparameters.values
            values = {
                parameter.name: round_value(parameter, drawn[parameter.name])
                for parameter in self.parameters
            }
            epochs = drawn.get("tuner/epochs", self.stage.epochs)
            log.info(
                "trial %d of %d: %s; %d epochs",
                number,
                self.n_trials,
                describe_values(values),
                epochs,
            )
            trial = self._train_trial(number, values, epochs, catalog)
            if trial.failure:
                log.error("trial %d failed: %s", number, trial.failure)
                proposal.status, proposal.message = "FAILED", trial.failure
            else:
                log.info(
                    "trial %d: %s %.4f at epoch %d",
                    number,
                    self.objective,
                    trial.score,
                    trial.best_epoch,
                )
                proposal.status = "COMPLETED"
                oracle.update_trial(
                    proposal.trial_id, {self.objective: trial.score}, step=trial.best_epoch
                )
            oracle.end_trial(proposal)
            yield trial

    def _train_trial(
        self, number: int, values: Mapping[str, Any], epochs: int, catalog: RecordCatalog
    ) -> Trial:
        """Train the stage with the settings of a trial, unless it is finished."""
        folder = self.folder / f"trial-{number:03}"
        path = folder / "experiment.toml"
        with files.storage_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            files.write_text(path, experiment_toml(self.trial_experiment(values, epochs)))
        # The training uses exactly the settings in the file.
        settings = self._trial_settings(folder, load_experiment(str(path)))
        chain = Chain(settings, settings.experiment.chain(self.stage.name), catalog)
        chain.finished(chain.last)  # another training in the folder is not a failed trial
        score = best_epoch = failure = None
        try:
            stage = chain.run_last().stage
            best_epoch = stage.best_epoch
            score = stage.history[best_epoch - 1][self.objective]
        except (StorageError, FolderInUseError):
            raise
        except KerasemoError as error:
            failure = " ".join(str(error).split())
        except tf.errors.ResourceExhaustedError as error:
            failure = f"not enough memory: {error.message.splitlines()[0]}"
        return Trial(number, epochs, values, folder, score, best_epoch, failure)

    def write_best(self, trials: Sequence[Trial]) -> Path:
        """Write the experiment of the best trial with a comment on the search; return its file.

        Args:
            trials: See `sort_trials`.

        Raises:
            StorageError: The file cannot be written.
        """
        best, settings = trials[0], self.settings
        n_failed = sum(trial.failure is not None for trial in trials)
        tuner_version = importlib.metadata.version("keras-tuner")
        lines = (
            f"Found by python -m kerasemo.tune: {self.kind} search over stage {self.stage.name} of "
            f"experiment {settings.experiment.name},",
            f"{len(trials)} trials ({n_failed} failed), {settings.protocol}, fold "
            f"{settings.fold}, seed {settings.seed}, keras-tuner {tuner_version}.",
            f"Best: trial {best.number}, {self.objective} {best.score:.4f} (validation) at epoch "
            f"{best.best_epoch} of {best.epochs},",
            f"with {describe_values(best.settings)}.",
        )
        path = self.folder / "best.toml"
        comment = "".join(f"# {printable(line)}\n" for line in lines)
        toml = experiment_toml(self.trial_experiment(best.settings, best.epochs))
        with files.storage_errors(path):
            files.write_text(path, f"{comment}\n{toml}")
        return path


def sort_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials by falling score; of equal scores the earlier first, failed trials last."""
    return sorted(trials, key=lambda trial: (trial.failure is not None, -(trial.score or 0)))


def describe_values(values: Mapping[str, Any]) -> str:
    """Return the values of a trial as text.

    >>> describe_values({"batch": 32, "margin": 0.8})
    'batch 32, margin 0.8'
    """
    return ", ".join(f"{name} {value:g}" for name, value in values.items())
