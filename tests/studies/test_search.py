"""Searches over a stage's settings, with trainings of seconds."""

import contextlib
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.synthetic_sets import write_experiment, write_set
from kerasemo import tune
from kerasemo.config import loading, schema
from kerasemo.datasets import leakage_gate
from kerasemo.runs import checkpoints
from kerasemo.studies import search_space, tuning
from kerasemo.training.experiment import TrainingOptions, train_experiment
from pipelines.core.errors import InputError
from pipelines.records import reader

pytest.importorskip("keras_tuner")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner.*")

ROOT = Path(__file__).resolve().parents[2]
BOTH = ["enterface/visual", "savee/visual"]
STAGES = {
    "pretrain": {
        "kind": "supervised",
        "sources": ["enterface/visual"],
        "epochs": 1,
        "batch": 16,
        "learning_rate": 1e-2,
    },
    "joint": {"kind": "joint", "sources": BOTH, "start_from": "pretrain", "epochs": 1, "batch": 16},
    "contrastive": {
        "kind": "contrastive",
        "sources": BOTH,
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
def experiment(tmp_path_factory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment") / "toy.toml", **STAGES)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder that the searches share, so that the stage before is trained once."""
    return tmp_path_factory.mktemp("run")


def settings_of(result: dict) -> list[dict]:
    return [
        trial["settings"] for trial in sorted(result["trials"], key=lambda trial: trial["trial"])
    ]


def stamps(folder: Path) -> dict[Path, int]:
    """When each file of the trainings below a folder was written."""
    return {
        path: path.stat().st_mtime_ns
        for path in sorted(folder.rglob("trial-*/*/*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def random_search(records_folder, experiment, run):
    """Two trials of the joint stage: the options and the result."""
    options = tuning.SearchOptions(
        "joint", str(experiment), records_folder, run, trials=2, compiler="none"
    )
    return options, tuning.search_settings(options)


def test_a_search_is_judged_on_the_validation_side_alone(random_search, records_folder, run):
    _, result = random_search
    rows = {source: reader.read_manifest(records_folder / source)["clips"] for source in BOTH}
    ids = leakage_gate.split_sources(rows, protocol="speaker-independent", fold=0).ids
    validation = {(source, clip) for source in BOTH for clip in ids[source]["validation"]}
    assert (result["stage"], result["objective"]) == ("joint", "val_ua")
    assert [trial["score"] for trial in result["trials"]] == sorted(
        (trial["score"] for trial in result["trials"]), reverse=True
    )
    assert result["best"] == {name: result["trials"][0][name] for name in ("settings", "score")}
    for trial in result["trials"]:
        folder = Path(trial["folder"]) / "joint"
        metrics = json.loads((folder / "metrics.json").read_text())
        assert (
            trial["score"]
            == metrics["history"][trial["epoch"] - 1]["val_ua"]
            == max(epoch["val_ua"] for epoch in metrics["history"])
        )
        assert metrics["scored"] == "validation"
        with open(folder / "predictions.csv", newline="") as file:
            assert {(row["source"], row["id"]) for row in csv.DictReader(file)} == validation
        assert [path.name for path in Path(trial["folder"]).iterdir() if path.is_dir()] == [
            "joint"
        ]  # those before are the run's
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
    told = {
        name.partition("/")[0]: tags
        for name, tags in events.PluginRunToTagToContent("hparams").items()
    }
    for trial in result["trials"]:
        started = parse_session_start_info_plugin_data(
            told[Path(trial["folder"]).name][SESSION_START_INFO_TAG]
        )
        assert started.hparams["learning_rate"].number_value == trial["settings"]["learning_rate"]


def test_the_best_settings_are_an_experiment_that_trains_to_the_same_score(
    random_search, records_folder, experiment, run
):
    _, result = random_search
    best = loading.load_experiment(result["experiment"])
    stage, settings = best.stage("joint"), result["best"]["settings"]
    assert {name: getattr(stage, name) for name in settings if name != "augmentation"} | {
        "augmentation": settings["augmentation"]
    } == settings
    assert settings["learning_rate"] != 1e-3
    assert stage.augment.shift == pytest.approx(
        schema.DEFAULT_AUGMENT.shift * settings["augmentation"], rel=1e-2
    )
    own = loading.load_experiment(str(experiment))
    assert (best.network, best.stage("pretrain"), best.stage("contrastive")) == (
        own.network,
        own.stages[0],
        own.stages[2],
    )
    comment = Path(result["experiment"]).read_text().partition("[network]")[0]
    for told in (
        "random search over stage joint of experiment toy",
        "2 trials (0 failed)",
        "seed 0",
        f"val_ua {result['best']['score']:.4f}",
    ):
        assert told in comment
    train_experiment(
        TrainingOptions("joint", result["experiment"], records_folder, run, compiler="none")
    )  # pretrain is reused: the same chain
    metrics = json.loads((run / "joint" / "metrics.json").read_text())
    assert metrics["history"][metrics["best_epoch"] - 1]["val_ua"] == result["best"]["score"]


def test_the_same_command_trains_nothing_twice_and_more_trials_go_on(random_search, run):
    options, result = random_search
    before = stamps(run / "tune" / "joint")
    assert before and tuning.search_settings(options) == result
    longer = tuning.search_settings(tuning.SearchOptions(**vars(options) | {"trials": 3}))
    assert settings_of(longer)[:2] == settings_of(result)
    assert len({json.dumps(settings) for settings in settings_of(longer)}) == 3
    after = stamps(run / "tune" / "joint")
    assert before.items() < after.items()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"search": "bayesian"}, "search: 'random' there, 'bayesian' asked"),
        ({"seed": 1}, "seed: 0 there, 1 asked"),
        ({"epochs": 2}, "stage.epochs: 1 there, 2 asked"),
        ({"settings": ("joint.heads='corpus'",)}, "stage.heads: 'masked' there, 'corpus' asked"),
        ({"over": ("margin",)}, r"space.batch: \[8, 16, 32\] there, None asked"),
    ],
)
def test_another_search_is_refused_with_what_differs(random_search, change, expected):
    options, _ = random_search
    with pytest.raises(InputError, match=f"holds another search .*{expected}.*name another --run"):
        tuning.search_settings(tuning.SearchOptions(**vars(options) | change))


def test_hyperband_promotes_the_best_to_more_epochs(records_folder, experiment, run):
    asked = {
        "search": "hyperband",
        "trials": 4,
        "epochs": 3,
        "over": ("width", "dropout"),
        "compiler": "none",
    }
    result = tuning.search_settings(
        tuning.SearchOptions("pretrain", str(experiment), records_folder, run, **asked)
    )
    trials = sorted(result["trials"], key=lambda trial: trial["trial"])
    assert [trial["epochs"] for trial in trials] == [1, 1, 1, 3]
    assert trials[3]["settings"] == max(trials[:3], key=lambda trial: trial["score"])["settings"]
    for trial in trials:
        metrics = json.loads((Path(trial["folder"]) / "pretrain" / "metrics.json").read_text())
        assert len(metrics["history"]) == trial["epochs"]
        assert metrics["key"]["network"]["dropout"] == trial["settings"]["dropout"]
        assert metrics["key"]["network"]["widths"] == [
            round(width * trial["settings"]["width"] / 4) * 4 for width in (8, 16)
        ]


def test_bayesian_search_of_a_contrastive_stage(records_folder, experiment, run):
    options = tuning.SearchOptions(
        "contrastive",
        str(experiment),
        records_folder,
        run,
        search="bayesian",
        trials=2,
        over=("margin",),
        compiler="none",
    )
    result = tuning.search_settings(options)
    assert result["objective"] == "val_pair_auc"
    margins = [settings["margin"] for settings in settings_of(result)]
    seed = int(hashlib.sha256(b"0 search").hexdigest()[:7], 16)
    at_random = [
        0.2 + 1.4 * random.Random(seed + number).random() for number in range(2)
    ]  # what keras-tuner draws
    assert margins[0] == pytest.approx(at_random[0], rel=1e-2)
    assert margins[1] != pytest.approx(at_random[1], rel=1e-2) and 0.2 <= margins[1] <= 1.6
    log = []
    assert (
        tuning.search_settings(options, log=log.append) == result
    )  # the Gaussian process proposes the same ones again
    assert log.count("  contrastive: done before, reused") == 2


def test_a_failed_trial_is_named_and_the_search_goes_on(
    records_folder, experiment, tmp_path, capsys
):
    """Of the batches 16, 32 and 64 the last is larger than the 36 training items."""
    settings = {"settings": ("pretrain.batch=32",), "over": ("batch",), "compiler": "none"}
    log = []
    result = tuning.search_settings(
        tuning.SearchOptions(
            "pretrain", str(experiment), records_folder, tmp_path, trials=9, **settings
        ),
        log=log.append,
    )
    assert [trial["settings"]["batch"] for trial in result["trials"]][2:] == [64]
    assert (
        "fewer than a batch of 64" in result["trials"][2]["failed"]
        and result["trials"][2]["score"] is None
    )
    assert log[-1].endswith("no other trials than these 3")
    tune.print_search(result)
    out = capsys.readouterr().out
    assert f"trial {result['trials'][2]['trial']} failed (batch 64): " in out
    assert "3 trials (1 failed)" in Path(result["experiment"]).read_text()


def test_a_search_whose_trials_all_fail_is_one_clear_error(records_folder, experiment, tmp_path):
    """Steps of 9 with a decay of 0.9 make the weights 7 times larger each, beyond what float32 holds within 60 steps."""
    settings = (
        "pretrain.learning_rate=9",
        "pretrain.weight_decay=0.9",
        "pretrain.batch=2",
        "pretrain.epochs=8",
    )
    options = tuning.SearchOptions(
        "pretrain",
        str(experiment),
        records_folder,
        tmp_path,
        settings=settings,
        compiler="none",
        trials=1,
        over=("width",),
    )
    with pytest.raises(
        InputError,
        match="all 1 trials failed; the first: pretrain: epoch .* became NaN or infinite",
    ):
        tuning.search_settings(options)


def test_what_is_no_fault_of_a_trial_stops_the_search(records_folder, experiment, tmp_path):
    """Another process that trains the very trial; a full disk is told likewise."""
    folder = tmp_path / "tune" / "pretrain" / "trial-001" / "pretrain"
    options = tuning.SearchOptions(
        "pretrain",
        str(experiment),
        records_folder,
        tmp_path,
        compiler="none",
        trials=2,
        over=("batch",),
    )
    folder.mkdir(parents=True)
    with pytest.raises(InputError, match="trials without a whole search.json"):
        tuning.search_settings(options)
    shutil.rmtree(tmp_path / "tune")
    log = []

    def hold_first_trial(line: str) -> None:
        log.append(line)
        if "trial 1 of 2" in line:
            folder.mkdir(parents=True)
            locks.enter_context(checkpoints.training_lock(folder))

    with (
        contextlib.ExitStack() as locks,
        pytest.raises(InputError, match="another training is at work there"),
    ):
        tuning.search_settings(options, log=hold_first_trial)
    assert not any("failed" in line or "trial 2" in line for line in log)


@pytest.mark.parametrize("missing", ["keras_tuner", "sklearn"])
def test_a_search_without_its_packages_says_what_to_install(
    records_folder, experiment, tmp_path, monkeypatch, missing
):
    if missing == "sklearn":
        monkeypatch.setattr("keras_tuner.src.tuners.bayesian.sklearn", None)
    else:
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"bayesian search: .*pip install 'kerasemo\[tune\]'"):
        tuning.search_settings(
            tuning.SearchOptions(
                "joint", str(experiment), records_folder, tmp_path / "run", search="bayesian"
            )
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.endurance
def test_a_killed_search_goes_on_and_ends_as_if_it_had_not_been(
    records_folder, experiment, tmp_path
):
    paths = map(
        str, ("--experiment", experiment, "--records", records_folder, "--run", tmp_path / "killed")
    )
    options = (
        "--trials",
        "2",
        "--epochs",
        "12",
        "--over",
        "learning_rate,width",
        "--compiler",
        "none",
        "--json",
    )
    words = [sys.executable, "-m", "kerasemo.tune", "--stage", "pretrain", *paths, *options]
    process = subprocess.Popen(
        words, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    second = tmp_path / "killed" / "tune" / "pretrain" / "trial-002" / "pretrain"
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
    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "goes on after" in again.stderr
    changed = {"trials": 2, "epochs": 12, "over": ("learning_rate", "width"), "compiler": "none"}
    whole = tuning.search_settings(
        tuning.SearchOptions(
            "pretrain", str(experiment), records_folder, tmp_path / "whole", **changed
        )
    )
    for killed, trial in zip(json.loads(again.stdout)["trials"], whole["trials"], strict=True):
        assert killed | {"folder": ""} == trial | {"folder": ""}


@pytest.mark.parametrize("name", [*loading.shipped_experiments(), "toy"])
@pytest.mark.parametrize("end", ["low", "high"])
def test_every_end_of_the_space_is_an_experiment_that_is_read_back_as_it_was(
    experiment, tmp_path, name, end
):
    own = loading.load_experiment(str(experiment) if name == "toy" else name)
    for stage in own.stages:
        entries = search_space.search_parameters(own, stage.name)
        of_network = (
            {"width", "dropout"} if stage.kind == "supervised" else {"width"}
        )  # pairs go without dropout in the space
        assert {"dropout", "width"} & {entry.name for entry in entries} == (
            set() if stage.start_from else of_network
        )
        at = {"low": (0, "low"), "high": (-1, "high")}[end]
        values = {
            entry.name: entry.choices[at[0]] if entry.choices else getattr(entry, at[1])
            for entry in entries
        }
        made = search_space.with_trial_values(own, stage.name, values, epochs=7)
        path = tmp_path / f"{own.name}.toml"
        path.write_text(search_space.experiment_toml(made), encoding="utf-8")
        assert loading.load_experiment(str(path)) == made
        assert (
            made.stage(stage.name).epochs == 7
            and made.stage(stage.name).learning_rate == values["learning_rate"]
        )


def test_stronger_changes_are_of_as_many_masks_and_versions():
    own = loading.load_experiment(
        "sample",
        ["joint.augment={time_masks = 3, variants = 4, speed = 0.4, noise = 0.1, flip = 0.2}"],
    )
    changed = (
        search_space.with_trial_values(own, "joint", {"augmentation": 1.5}, epochs=1)
        .stage("joint")
        .augment
    )
    assert (changed.time_masks, changed.frequency_masks, changed.variants) == (3, 1, 4)
    assert (changed.speed, changed.noise, changed.flip) == (0.5, 0.15, 0.3)
