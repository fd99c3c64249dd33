"""Tests of reproductions that are interrupted, damaged or called with invalid options.

Lost results are computed again. A wrong option is an error before the first training.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from helpers.messages import key_words
from helpers.paths import ROOT
from helpers.reproductions import (
    FAST,
    NETWORKS,
    ToyStudy,
    reproduce_logged,
    score_row,
    trained_networks,
)
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo import reproduce
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.runs import test_set_log
from kerasemo.training import chain
from kerasemo.training.loop import StepLoop
from kerasemo.training.trainer import StageTrainer
from pipelines.core.errors import DataError, InputError


def command_arguments(study: ToyStudy, run, folds: str) -> list[str]:
    """Return the arguments of `kerasemo.reproduce` for the same study in another run folder."""
    arguments = ["--experiment", study.experiment, "--records", study.records, "--run", run]
    return [*map(str, arguments), "--folds", folds]


def test_interrupted_network_resumes_to_the_same_bytes(toy_study, tmp_path, monkeypatch):
    step, n_steps = StepLoop.step, 0

    def interrupt(*arguments):
        nonlocal n_steps
        n_steps += 1
        if n_steps == 9:
            raise KeyboardInterrupt
        return step(*arguments)

    options = toy_study.options(tmp_path, stages=("transfer",))
    with monkeypatch.context() as patch:
        patch.setattr(StepLoop, "step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            reproduce_logged(options)
    _, lines = reproduce_logged(options)
    assert trained_networks(lines)[-1] == NETWORKS[1]
    paths = list((tmp_path / "stages").glob("*/weights.safetensors"))
    assert len(paths) == 2
    for path in paths:
        expected = toy_study.run / path.relative_to(tmp_path)
        assert path.read_bytes() == expected.read_bytes()


def test_failure_of_a_network_costs_only_its_descendants(
    toy_study, toy_study_copy, monkeypatch, capsys
):
    """Three of five networks are finished. The fourth fails, and the fifth starts from it."""

    class FailingTrainer(StageTrainer):
        def __init__(self, task):
            super().__init__(task)
            self._fails = (task.name, task.key.fold) == ("transfer", 1)

        def run(self):
            if self._fails:
                raise RuntimeError("planted")
            return super().run()

    monkeypatch.setattr(chain, "StageTrainer", FailingTrainer)
    assert reproduce.main(command_arguments(toy_study, toy_study_copy, "0,1")) == 1
    printed, logged = capsys.readouterr()
    failed, dependent = "transfer, fold 1, seed 0", "transfer-2, fold 1, seed 0"
    assert re.search("3 finished.* 2 to train", logged)
    assert re.search(rf"\[4/5\] {failed}: failed: RuntimeError: planted", logged)
    (line,) = [line for line in logged.splitlines() if f"{dependent}: failed" in line]
    assert f"({failed})" in line
    assert re.search(rf"FAILED: {failed}: RuntimeError: planted", printed)
    document = json.loads((toy_study_copy / "tables" / "tables.json").read_text())
    assert score_row(document, "transfer-2", "emodb/audio")["folds"] == [0]
    assert len(document["failed"]) == 2


def test_unknown_fold_is_an_error_before_a_training(toy_study, tmp_path):
    with pytest.raises(InputError, match=key_words("--folds 7", "6 folds", "0 to 5")):
        reproduce_logged(toy_study.options(tmp_path, folds=(0, 7)))
    assert not list(tmp_path.iterdir())


def test_cluster_is_an_error_before_a_training(toy_study, tmp_path, monkeypatch):
    cluster = {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(InputError, match=key_words("TF_CONFIG", "2 machines")):
        reproduce_logged(toy_study.options(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["run", "out"])
def test_file_in_place_of_a_folder_is_an_error_before_a_training(toy_study, tmp_path, option):
    file = tmp_path / "file"
    file.touch()
    folders = {"run": tmp_path / "run"} | {option: file}
    with pytest.raises(InputError, match=key_words(str(file), "folder", f"--{option}")):
        reproduce_logged(toy_study.options(**folders))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.endurance
def test_killed_command_resumes(toy_study, tmp_path):
    arguments = command_arguments(toy_study, tmp_path, "0,3")
    command = [sys.executable, "-m", "kerasemo.reproduce", *arguments]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True, **silent) as process:
        checkpoints = "stages/transfer-*/checkpoints/step-*"
        while process.poll() is None and not list(tmp_path.glob(checkpoints)):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    finished = subprocess.run(
        [*command, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert re.search(rf"\[1/4\] {NETWORKS[0]}.* already trained", finished.stderr)
    assert json.loads(finished.stdout)["rows"] == toy_study.document["rows"]


def test_damaged_test_set_log_is_an_error_and_a_truncated_last_line_does_not_count(tmp_path):
    def log_evaluation(keys=("a",), manifest_hash="1"):
        return test_set_log.log_test_evaluation(
            tmp_path,
            keys=keys,
            records={"x/audio": manifest_hash},
            facts={"stages": ["s"]},
            command=["command"],
        )

    path = tmp_path / test_set_log.FILE_NAME
    assert [log_evaluation(), log_evaluation(keys=("a", "b")), log_evaluation()] == [1, 2, 1]
    with open(path, "a") as file:
        file.write('{"date"')
    assert len(test_set_log.read_test_set_log(tmp_path)) == 2
    assert log_evaluation(manifest_hash="2") == 3
    assert [entry["look"] for entry in test_set_log.read_test_set_log(tmp_path)] == [1, 2, 3]
    path.write_text("{\n{}\n")
    with pytest.raises(DataError, match=key_words(str(path), "line 1", "damaged")):
        test_set_log.read_test_set_log(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        "half a row",
        "missing file",
        *(
            pytest.param(rare, marks=pytest.mark.endurance)
            for rare in ("missing row", "empty file", "no text")
        ),
    ],
)
def test_damaged_predictions_are_computed_again(toy_study, toy_study_copy, damage):
    path = sorted(toy_study_copy.glob("stages/transfer-2-*/validation-predictions.csv"))[0]
    content = path.read_bytes()
    if damage == "missing file":
        path.unlink()
    else:
        damaged = {
            "missing row": content[: content.rstrip().rfind(b"\n") + 1],
            "half a row": content[: len(content) // 2],
            "empty file": b"",
            "no text": b"\xff\xfe",
        }
        path.write_bytes(damaged[damage])
    document, _ = reproduce_logged(toy_study.options(toy_study_copy))
    assert document["rows"] == toy_study.document["rows"]
    assert document["failed"] == []
    assert path.read_bytes() == content


def test_only_the_network_without_weights_fails(toy_study, toy_study_copy):
    path = sorted(toy_study_copy.glob("stages/transfer-2-*/weights.safetensors"))[0]
    path.unlink()
    document, _ = reproduce_logged(toy_study.options(toy_study_copy, final=True))
    (failure,) = document["failed"]
    assert failure["cell"].startswith("transfer-2, fold ")
    assert path.name in failure["reason"]


def test_predictions_without_an_entry_in_the_test_set_log_are_a_new_evaluation(
    toy_study, toy_study_copy
):
    options = toy_study.options(toy_study_copy, stages=("pretrain",), final=True)
    reproduce_logged(options)
    path = toy_study_copy / test_set_log.FILE_NAME
    path.unlink()
    document, _ = reproduce_logged(options)
    assert [(entry["look"], entry["of_these"]) for entry in document["looks"]] == [(1, 1)]
    for line in ("[1]", '{"date": 1}'):
        path.write_text(f"{line}\n{{}}\n")
        with pytest.raises(DataError, match=key_words(str(path), "line 1", "damaged")):
            reproduce_logged(options)


def test_listener_rates_are_checked_before_a_training(toy_study, tmp_path):
    rates, run = tmp_path / "erkennung.txt", tmp_path / "run"
    text = "Nr. Satz erkannt natuerlich\n1 03a01Fa.wav 90,00 80,00\n"
    rates.write_text(text, encoding="iso-8859-1")
    with pytest.raises(DataError, match=key_words("every clip", rates.name)):
        reproduce_logged(toy_study.options(run, listeners=rates))
    experiment = write_experiment(
        tmp_path / "ravdess.toml", voice={"sources": ["ravdess/audio"], **FAST}
    )
    options = toy_study.options(run, experiment=experiment, folds=(0,), listeners=rates)
    with pytest.raises(InputError, match=key_words("--listeners", "emodb/audio", "ravdess/audio")):
        reproduce_logged(options)
    assert not run.exists()


def test_records_that_are_rebuilt_during_a_command_are_an_error(toy_study, tmp_path):
    shutil.copytree(toy_study.records / "emodb", tmp_path / "emodb")
    catalog = RecordCatalog(tmp_path)
    catalog.require(["emodb/audio"])
    shutil.rmtree(tmp_path / "emodb")
    write_set(tmp_path, "emodb/audio", speakers=5)
    with pytest.raises(DataError, match=key_words("emodb/audio", "built")):
        catalog.load("emodb/audio")
