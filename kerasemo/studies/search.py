"""A search over a stage's settings: keras-tuner proposes trials, each is a training of the stage, judged on the validation side.

`RUN/tune/STAGE/` holds `search.json` (what is searched), a run folder `trial-001`, `trial-002`, ... for each trial, with its
`experiment.toml`, and `best.toml`. A search that was interrupted is made again from its seed: the oracle proposes the same
trials, those that are there answer at once, and the one that was interrupted goes on from its checkpoint. So a search has the
same trials however often it was stopped, and more trials can be asked for later.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import Experiment, StageConfig
from kerasemo.runs import run_folder
from kerasemo.studies import search_space
from kerasemo.training import chain
from pipelines.core import files
from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.text import printable

ORACLES = {
    "random": "RandomSearchOracle",
    "hyperband": "HyperbandOracle",
    "bayesian": "BayesianOptimizationOracle",
}
"""Of each search, in `keras_tuner.oracles`."""


@dataclasses.dataclass(frozen=True)
class Search:
    """What is searched, and how."""

    kind: str
    """Of ORACLES."""
    run: chain.Run
    """The run folder with the stages before; its experiment has the epochs that a trial has, with Hyperband at most."""
    stage: StageConfig
    entries: tuple[search_space.Entry, ...]
    trials: int

    @property
    def objective(self) -> str:
        """The score of a trial's best epoch, of its history; the higher the better."""
        return "val_pair_auc" if self.stage.kind == "contrastive" else "val_ua"

    @property
    def folder(self) -> Path:
        return self.run.folder / "tune" / self.stage.name

    def experiment(self, settings: Mapping[str, Any], epochs: int) -> Experiment:
        """Return the experiment of a trial."""
        return search_space.with_values(
            self.run.experiment, self.stage.name, settings, epochs=epochs
        )

    def claim(self) -> None:
        """Write down in the folder what is searched, or check that it is the same.

        Raises:
            InputError: The folder holds another search; the message names what differs.
        """
        key = {
            "search": self.kind,
            **{name: getattr(self.run, name) for name in ("seed", "protocol", "fold")},
            "space": {
                entry.name: entry.choices or (entry.low, entry.high) for entry in self.entries
            },
            "stage": dataclasses.asdict(self.stage),
            "network": dataclasses.asdict(self.run.experiment.network),
            "keras-tuner": importlib.metadata.version("keras-tuner"),
        }
        key = json.loads(json.dumps(key))
        self.folder.mkdir(parents=True, exist_ok=True)
        held = files.read_json(self.folder / "search.json")
        if held is None and any(self.folder.glob("trial-*")):
            raise InputError(
                f"{self.folder}: trials without a whole search.json; remove the folder or name another --run"
            )
        differences = [] if held is None else list(run_folder.differences(held, key))
        if differences:
            remedy = "ask for the same, name another --run, or remove the folder"
            raise InputError(
                f"{self.folder}: holds another search ({'; '.join(differences)}); {remedy}"
            )
        if held is None:
            files.write_json(self.folder / "search.json", key)

    def _run_of(self, folder: Path, experiment: Experiment) -> chain.Run:
        return dataclasses.replace(
            self.run,
            experiment=experiment,
            folder=folder,
            parents=self.run.folder,
            scored="validation",
        )

    def train_before(self, *, log: Callable[[str], None]) -> None:
        """Train the stages before the searched one that are not there yet.

        Raises:
            InputError: They, or the searched stage with its own settings, cannot be trained on these records.
        """
        stages = self.run.experiment.chain(self.stage.name)
        chain.Chain(
            self._run_of(self.folder / "none", self.run.experiment), stages, log=log
        ).check()
        if stages[:-1]:
            chain.Chain(self.run, stages[:-1], log=log).run()

    @contextlib.contextmanager
    def oracle(self) -> Iterator[Any]:
        """Give the oracle. Its own files are not kept: they are written in place, so that a kill can break them.

        Raises:
            InputError: keras-tuner, or what the search needs beside it, is not installed.
        """
        try:
            import keras_tuner

            parameters = keras_tuner.HyperParameters()
            for entry in self.entries:
                if entry.choices:
                    parameters.Choice(entry.name, list(map(float, entry.choices)), ordered=True)
                else:
                    parameters.Float(
                        entry.name,
                        entry.low,
                        entry.high,
                        sampling="log" if entry.logarithmic else "linear",
                    )
            own = {
                "random": {},
                "hyperband": {
                    "max_epochs": self.stage.epochs,
                    "hyperband_iterations": None,
                },  # sweeps until the last trial
                "bayesian": {
                    "num_initial_points": len(self.entries)
                },  # by default three times as many are drawn at random
            }[self.kind]
            oracle = getattr(keras_tuner.oracles, ORACLES[self.kind])(
                objective=keras_tuner.Objective(self.objective, "max"),
                hyperparameters=parameters,
                allow_new_entries=False,
                # Neighbouring seeds would give the same numbers, shifted by one parameter.
                seed=int(hashlib.sha256(f"{self.run.seed} search".encode()).hexdigest()[:7], 16),
                max_consecutive_failed_trials=self.trials + 1,  # failed trials never end a search
                **own,
            )
        except ImportError as error:
            raise InputError(
                f"{self.kind} search: {error}; install what it needs with pip install 'kerasemo[tune]'"
            ) from error
        oracle.max_trials = self.trials
        oracle.verbose = 0  # it prints on standard output
        with tempfile.TemporaryDirectory(prefix="kerasemo-tune-") as folder:
            oracle._set_project_dir(folder, "oracle")  # as keras-tuner's own tuners do
            yield oracle

    def run_trials(self, oracle: Any, *, log: Callable[[str], None]) -> Iterator[dict[str, Any]]:
        """Yield each trial once it is done: `trial` (from 1), `epochs`, `settings`, `score`, `epoch`, `failed` (why), `folder`."""
        for number in range(1, self.trials + 1):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a Gaussian process with few points
                proposed = oracle.create_trial("tune")
            if proposed.status != "RUNNING":
                log(f"{self.stage.name}: the search has no other trials than these {number - 1}")
                return
            drawn = proposed.hyperparameters.values
            settings = {
                entry.name: search_space.rounded(entry, drawn[entry.name]) for entry in self.entries
            }
            epochs = drawn.get("tuner/epochs", self.stage.epochs)
            label = f"{self.stage.name}: trial {number}"
            log(f"{label} of {self.trials}: {described(settings)}; {epochs} epochs")
            folder = self.folder / f"trial-{number:03}"
            trial = {"trial": number, "epochs": epochs, "settings": settings, "folder": str(folder)}
            trial |= self._train(folder, self.experiment(settings, epochs), log=log)
            if trial["failed"]:
                log(f"{label}: failed: {trial['failed']}")
                proposed.status, proposed.message = "FAILED", trial["failed"]
            else:
                log(f"{label}: {self.objective} {trial['score']:.4f} at epoch {trial['epoch']}")
                proposed.status = "COMPLETED"
                oracle.update_trial(
                    proposed.trial_id, {self.objective: trial["score"]}, step=trial["epoch"]
                )
            oracle.end_trial(proposed)
            yield trial

    def _train(
        self, folder: Path, experiment: Experiment, *, log: Callable[[str], None]
    ) -> dict[str, Any]:
        """Train the stage as a trial asks, unless it is there; return `score`, `epoch` and `failed`."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "experiment.toml"
        write_text(file, search_space.toml(experiment))
        run = self._run_of(
            folder, load_experiment(str(file))
        )  # what is trained is what the file says
        own = f"{self.stage.name}: "  # each trial would say the same of the stages before
        stages = run.experiment.chain(self.stage.name)
        work = chain.Chain(
            run, stages, log=lambda line: log(f"  {line}") if line.startswith(own) else None
        )
        work.result(stages[-1])  # another training in the folder is refused, and no failed trial
        try:
            result = work.run()[-1]
            score, failed = result["history"][result["best_epoch"] - 1][self.objective], None
            return {"score": score, "epoch": result["best_epoch"], "failed": failed}
        except KerasemoError as error:
            if isinstance(error.__cause__, OSError):  # a full disk is no trial's fault
                raise
            return {"score": None, "epoch": None, "failed": " ".join(str(error).split())}
        except tf.errors.ResourceExhaustedError as error:
            return {
                "score": None,
                "epoch": None,
                "failed": f"not enough memory: {error.message.splitlines()[0]}",
            }

    def write_best(self, trials: Sequence[Mapping[str, Any]]) -> Path:
        """Write the experiment of the first of the trials, with a comment that tells how it was found; return the file."""
        best = trials[0]
        failed = sum(trial["failed"] is not None for trial in trials)
        versions = f"keras-tuner {importlib.metadata.version('keras-tuner')}"
        lines = (
            f"Found by python -m kerasemo.tune: {self.kind} search over stage {self.stage.name} of experiment {self.run.experiment.name},",
            f"{len(trials)} trials ({failed} failed), {self.run.protocol}, fold {self.run.fold}, seed {self.run.seed}, {versions}.",
            f"Best: trial {best['trial']}, {self.objective} {best['score']:.4f} (validation) at epoch {best['epoch']} of {best['epochs']},",
            f"with {described(best['settings'])}.",
        )
        path = self.folder / "best.toml"
        comment = "".join(f"# {printable(line)}\n" for line in lines)
        write_text(
            path,
            f"{comment}\n{search_space.toml(self.experiment(best['settings'], best['epochs']))}",
        )
        return path


def best_first(trials: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return trials by falling score, of equal ones the earlier first, the failed ones last."""
    return sorted(trials, key=lambda trial: (trial["failed"] is not None, -(trial["score"] or 0)))


def described(settings: Mapping[str, Any]) -> str:
    """Return a trial's settings as a text.

    >>> described({"batch": 32, "margin": 0.8})
    'batch 32, margin 0.8'
    """
    return ", ".join(f"{name} {value:g}" for name, value in settings.items())


def write_text(path: Path, text: str) -> None:
    """Write a text under a temporary name and rename it into place."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
