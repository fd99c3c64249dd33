"""Tests of searches over the settings of a stage."""

import contextlib
import csv
import dataclasses
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.logs import logged_lines
from helpers.messages import key_words
from helpers.paths import ROOT
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo import tune
from kerasemo.config import schema
from kerasemo.config.loading import load_experiment, shipped_experiments
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.runs.checkpoints import FolderInUseError, training_lock
from kerasemo.studies.search_space import (
    SearchParameter,
    experiment_toml,
    search_parameters,
    with_trial_values,
)
from kerasemo.studies.tuning import SearchOptions, search_settings
from kerasemo.training.experiment import TrainingOptions, train_experiment
from pipelines.core.errors import InputError, RunError
from pipelines.core.logs import handled_by

pytest.importorskip("keras_tuner")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner.*")

SOURCES = ["enterface/visual", "savee/visual"]
STAGES = {
    "pretrain": {
        "kind": "supervised",
        "sources": ["enterface/visual"],
        "epochs": 1,
        "batch": 16,
        "learning_rate": 1e-2,
    },
    "joint": {
        "kind": "joint",
        "sources": SOURCES,
        "start_from": "pretrain",
        "epochs": 1,
        "batch": 16,
    },
    "contrastive": {
        "kind": "contrastive",
        "sources": SOURCES,
        "start_from": "pretrain",
        "epochs": 1,
        "batch": 16,
    },
}


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records")
    write_set(out, "enterface/visual", items=2)
    write_set(out, "savee/visual", speakers=4, items=2, seed=1)
    return out


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> str:
    return str(write_experiment(tmp_path_factory.mktemp("experiment") / "toy.toml", **STAGES))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder that the searches share, so that stage pretrain is trained once."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def random_search(records_folder, experiment, run) -> tuple[SearchOptions, dict]:
    """The options and the result of a search with two trials of the joint stage."""
    options = SearchOptions("joint", experiment, records_folder, run, trials=2, compiler="none")
    return options, search_settings(options)


def in_order(result: dict) -> list[dict]:
    """Return the trials of a search in the order in which they were proposed."""
    return sorted(result["trials"], key=lambda trial: trial["trial"])


def settings_in_order(result: dict) -> list[dict]:
    return [trial["settings"] for trial in in_order(result)]


def read_metrics(trial: dict, stage: str) -> dict:
    return json.loads((Path(trial["folder"]) / stage / "metrics.json").read_text())


def modification_times(folder: Path) -> dict[Path, int]:
    """Return the modification time of each file of the trainings of a search."""
    files = (path for path in folder.rglob("trial-*/*/*") if path.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_trials_are_scored_only_on_the_validation_split(random_search, records_folder, run):
    _, result = random_search
    splits = RecordCatalog(records_folder).split(SOURCES, protocol="speaker-independent", fold=0)
    validation = {
        (source, clip_id) for source in SOURCES for clip_id in splits.clip_ids[source]["validation"]
    }
    assert (result["stage"], result["objective"]) == ("joint", "val_ua")
    scores = [trial["score"] for trial in result["trials"]]
    assert scores == sorted(scores, reverse=True)
    assert result["best"] == {name: result["trials"][0][name] for name in ("settings", "score")}
    for trial in result["trials"]:
        metrics = read_metrics(trial, "joint")
        epoch_scores = [epoch["val_ua"] for epoch in metrics["history"]]
        assert trial["score"] == epoch_scores[trial["epoch"] - 1] == max(epoch_scores)
        assert metrics["scored"] == "validation"
        folder = Path(trial["folder"])
        with open(folder / "joint" / "predictions.csv", newline="") as file:
            predicted = {(row["source"], row["id"]) for row in csv.DictReader(file)}
        assert predicted == validation
        # Stage pretrain is in the run folder that the trials share.
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["joint"]
    assert (run / "pretrain" / "metrics.json").is_file()


def test_tensorboard_compares_the_trials(random_search, run):
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.plugins.hparams.metadata import (
        SESSION_START_INFO_TAG,
        parse_session_start_info_plugin_data,
    )

    _, result = random_search
    events = EventMultiplexer().AddRunsFromDirectory(str(run / "tune" / "joint"))
    events.Reload()
    contents = {
        name.partition("/")[0]: by_tag
        for name, by_tag in events.PluginRunToTagToContent("hparams").items()
    }
    for trial in result["trials"]:
        content = contents[Path(trial["folder"]).name][SESSION_START_INFO_TAG]
        hparams = parse_session_start_info_plugin_data(content).hparams
        learning_rate = trial["settings"]["learning_rate"]
        assert hparams["learning_rate"].number_value == learning_rate


def test_best_settings_are_an_experiment(random_search, experiment):
    _, result = random_search
    best, searched = load_experiment(result["experiment"]), load_experiment(experiment)
    stage, settings = best.stage("joint"), result["best"]["settings"]
    of_stage = {name: value for name, value in settings.items() if name != "augmentation"}
    assert {name: getattr(stage, name) for name in of_stage} == of_stage
    assert settings["learning_rate"] != 1e-3
    expected_shift = schema.DEFAULT_AUGMENT.shift * settings["augmentation"]
    assert stage.augment.shift == pytest.approx(expected_shift, rel=1e-2)
    assert best.network == searched.network
    for name in ("pretrain", "contrastive"):
        assert best.stage(name) == searched.stage(name)
    comment = Path(result["experiment"]).read_text().partition("[network]")[0]
    for word in ("random search", "stage joint", "experiment toy", "2 trials (0", "seed 0"):
        assert word in comment
    assert f"val_ua {result['best']['score']:.4f}" in comment


def test_best_experiment_trains_to_the_score_of_its_trial(random_search, records_folder, run):
    """Stage pretrain of the run folder is reused, so the chain is the same."""
    _, result = random_search
    train_experiment(
        TrainingOptions("joint", result["experiment"], records_folder, run, compiler="none")
    )
    metrics = json.loads((run / "joint" / "metrics.json").read_text())
    best_epoch = metrics["history"][metrics["best_epoch"] - 1]
    assert best_epoch["val_ua"] == result["best"]["score"]


def test_same_command_trains_no_trial_again_and_more_trials_extend_the_search(random_search, run):
    options, result = random_search
    before = modification_times(run / "tune" / "joint")
    assert before
    assert search_settings(options) == result
    longer = search_settings(dataclasses.replace(options, trials=3))
    assert settings_in_order(longer)[:2] == settings_in_order(result)
    assert len({json.dumps(settings) for settings in settings_in_order(longer)}) == 3
    after = modification_times(run / "tune" / "joint")
    assert before.items() < after.items()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"search": "bayesian"}, ["search: 'random'", "'bayesian'"]),
        ({"seed": 1}, ["seed: 0", "1"]),
        ({"epochs": 2}, ["stage.epochs: 1", "2"]),
        ({"settings": ("joint.heads='corpus'",)}, ["stage.heads: 'masked'", "'corpus'"]),
        ({"over": ("margin",)}, ["space.batch: [8, 16, 32]", "None"]),
    ],
)
def test_search_with_changed_options_in_the_same_folder_is_an_error(random_search, change, words):
    options, _ = random_search
    with pytest.raises(InputError, match=key_words(*words, "--run")):
        search_settings(dataclasses.replace(options, **change))


def test_hyperband_trains_the_best_trial_again_with_more_epochs(records_folder, experiment, run):
    options = SearchOptions(
        "pretrain",
        experiment,
        records_folder,
        run,
        search="hyperband",
        trials=4,
        epochs=3,
        over=("width", "dropout"),
        compiler="none",
    )
    *first, promoted = in_order(search_settings(options))
    assert [trial["epochs"] for trial in first] == [1, 1, 1]
    assert promoted["epochs"] == 3
    assert promoted["settings"] == max(first, key=lambda trial: trial["score"])["settings"]
    for trial in (*first, promoted):
        metrics = read_metrics(trial, "pretrain")
        assert len(metrics["history"]) == trial["epochs"]
        network = metrics["key"]["network"]
        assert network["dropout"] == trial["settings"]["dropout"]
        factor = trial["settings"]["width"]
        assert network["widths"] == [round(width * factor / 4) * 4 for width in (8, 16)]


def test_bayesian_search_proposes_by_the_first_trials(records_folder, experiment, run):
    """The first of two trials is drawn at random, the second by a Gaussian process.

    The same command proposes the same trials again.
    """
    options = SearchOptions(
        "contrastive",
        experiment,
        records_folder,
        run,
        search="bayesian",
        trials=2,
        over=("margin",),
        compiler="none",
    )
    result = search_settings(options)
    assert result["objective"] == "val_pair_auc"
    first, second = (settings["margin"] for settings in settings_in_order(result))
    seed = int(hashlib.sha256(b"0 search").hexdigest()[:7], 16)
    # keras-tuner draws a margin between 0.2 and 1.6 with the next seed for every trial.
    random_margins = [0.2 + 1.4 * random.Random(seed + number).random() for number in range(2)]
    assert first == pytest.approx(random_margins[0], rel=1e-2)
    assert second != pytest.approx(random_margins[1], rel=1e-2)
    assert 0.2 <= second <= 1.6
    with logged_lines() as lines:
        assert search_settings(options) == result
    assert len([line for line in lines if line.startswith("contrastive: already")]) == 2


def test_failed_trial_is_reported_and_the_search_continues(
    records_folder, experiment, tmp_path, capsys
):
    """Of the batches 16, 32 and 64 the last is larger than the 36 training items."""
    options = SearchOptions(
        "pretrain",
        experiment,
        records_folder,
        tmp_path,
        trials=9,
        settings=("pretrain.batch=32",),
        over=("batch",),
        compiler="none",
    )
    with logged_lines() as lines:
        result = search_settings(options)
    *trained, failed = result["trials"]
    assert sorted(trial["settings"]["batch"] for trial in trained) == [16, 32]
    assert failed["settings"]["batch"] == 64
    assert "batch of 64" in failed["failed"]
    assert failed["score"] is None
    assert "3" in lines[-1] and "trials" in lines[-1]
    tune.print_search(result)
    assert f"trial {failed['trial']} failed (batch 64)" in capsys.readouterr().out
    assert "3 trials (1 failed)" in Path(result["experiment"]).read_text()


def test_search_whose_trials_all_fail_is_an_error(records_folder, experiment, tmp_path):
    """Each step with learning rate 9 and decay 0.9 makes the weights 7 times larger.

    float32 cannot hold them after 60 steps.
    """
    options = SearchOptions(
        "pretrain",
        experiment,
        records_folder,
        tmp_path,
        settings=(
            "pretrain.learning_rate=9",
            "pretrain.weight_decay=0.9",
            "pretrain.batch=2",
            "pretrain.epochs=8",
        ),
        compiler="none",
        trials=1,
        over=("width",),
    )
    with pytest.raises(RunError, match=key_words("1 trials failed", "pretrain", "epoch", "NaN")):
        search_settings(options)


@pytest.fixture
def two_trials(records_folder, experiment, tmp_path) -> SearchOptions:
    """The options of a search with two trials in `tmp_path`."""
    return SearchOptions(
        "pretrain",
        experiment,
        records_folder,
        tmp_path,
        compiler="none",
        trials=2,
        over=("batch",),
    )


def test_trials_without_the_file_of_their_search_are_an_error(two_trials, tmp_path):
    (tmp_path / "tune" / "pretrain" / "trial-001").mkdir(parents=True)
    with pytest.raises(InputError, match=key_words("trials", "search.json")):
        search_settings(two_trials)


class TrialLocker(logging.Handler):
    """Locks the folder of the first trial when the log announces the trial."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack):
        super().__init__()
        self._folder, self._stack = folder, stack

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("trial 1 of 2"):
            self._folder.mkdir(parents=True)
            self._stack.enter_context(training_lock(self._folder))


def test_folder_of_a_trial_that_is_in_use_stops_the_search(two_trials, tmp_path):
    """The settings of the trial are valid, so the trial does not count as failed."""
    folder = tmp_path / "tune" / "pretrain" / "trial-001" / "pretrain"
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(logged_lines())
        stack.enter_context(handled_by(TrialLocker(folder, stack)))
        with pytest.raises(FolderInUseError, match=key_words(str(folder))):
            search_settings(two_trials)
    assert any("trial 1 of 2" in line for line in lines)
    assert not any("failed" in line or "trial 2" in line for line in lines)


@pytest.mark.parametrize("package", ["keras_tuner", "sklearn"])
def test_missing_package_of_a_search_is_named_with_the_command_that_installs_it(
    records_folder, experiment, tmp_path, monkeypatch, package
):
    if package == "sklearn":
        monkeypatch.setattr("keras_tuner.src.tuners.bayesian.sklearn", None)
    else:
        monkeypatch.setitem(sys.modules, package, None)
    run = tmp_path / "run"
    with pytest.raises(
        InputError, match=key_words("bayesian search", "pip install", "kerasemo[tune]")
    ):
        search_settings(SearchOptions("joint", experiment, records_folder, run, search="bayesian"))
    assert not run.exists()


@pytest.mark.endurance
def test_killed_search_resumes_to_the_same_trials(records_folder, experiment, tmp_path):
    killed_run = tmp_path / "killed"
    options = {
        "--stage": "pretrain",
        "--experiment": experiment,
        "--records": records_folder,
        "--run": killed_run,
        "--trials": 2,
        "--epochs": 12,
        "--over": "learning_rate,width",
        "--compiler": "none",
    }
    arguments = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "kerasemo.tune", *arguments, "--json"]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, cwd=ROOT, **silent)
    second = killed_run / "tune" / "pretrain" / "trial-002" / "pretrain"
    deadline = time.monotonic() + 120
    while (
        not list(second.glob("checkpoints/step-*.safetensors"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    assert process.poll() is None, "the search ended before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (second / "metrics.json").exists()
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert "resuming after" in finished.stderr
    uninterrupted = search_settings(
        SearchOptions(
            "pretrain",
            experiment,
            records_folder,
            tmp_path / "uninterrupted",
            trials=2,
            epochs=12,
            over=("learning_rate", "width"),
            compiler="none",
        )
    )
    resumed_trials = json.loads(finished.stdout)["trials"]
    for resumed, expected in zip(resumed_trials, uninterrupted["trials"], strict=True):
        assert resumed | {"folder": ""} == expected | {"folder": ""}


@pytest.mark.parametrize("name", [*shipped_experiments(), "toy"])
@pytest.mark.parametrize("end", ["low", "high"])
def test_experiment_of_each_end_of_the_search_space_is_read_back_unchanged(
    experiment, tmp_path, name, end
):
    searched = load_experiment(experiment if name == "toy" else name)
    for stage in searched.stages:
        parameters = search_parameters(searched, stage.name)
        of_network = {"dropout", "width"} & {parameter.name for parameter in parameters}
        if stage.start_from:
            assert of_network == set()
        elif stage.kind == "supervised":
            assert of_network == {"width", "dropout"}
        else:  # the search space has no dropout for stages of pairs
            assert of_network == {"width"}
        values = {parameter.name: end_of(parameter, end) for parameter in parameters}
        changed = with_trial_values(searched, stage.name, values, epochs=7)
        path = tmp_path / f"{searched.name}.toml"
        path.write_text(experiment_toml(changed), encoding="utf-8")
        assert load_experiment(str(path)) == changed
        assert changed.stage(stage.name).epochs == 7
        assert changed.stage(stage.name).learning_rate == values["learning_rate"]


def end_of(parameter: SearchParameter, end: str) -> float:
    """Return the lowest or the highest value of a parameter."""
    if parameter.choices:
        return parameter.choices[0 if end == "low" else -1]
    return parameter.low if end == "low" else parameter.high


def test_stronger_augmentation_has_the_same_number_of_masks_and_variants():
    augment = "{time_masks = 3, variants = 4, speed = 0.4, noise = 0.1, flip = 0.2}"
    searched = load_experiment("sample", [f"joint.augment={augment}"])
    changed = with_trial_values(searched, "joint", {"augmentation": 1.5}, epochs=1)
    strengths = changed.stage("joint").augment
    assert (strengths.time_masks, strengths.frequency_masks, strengths.variants) == (3, 1, 4)
    assert (strengths.speed, strengths.noise, strengths.flip) == (0.5, 0.15, 0.3)
