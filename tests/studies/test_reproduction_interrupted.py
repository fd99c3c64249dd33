"""A reproduction that is interrupted, damaged or wrongly asked for: what is lost is made again, what is wrong is told first."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.reproductions import FAST, STAGES, begun, options, row
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo import reproduce
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.runs import test_set_log
from kerasemo.studies import reproduction
from kerasemo.training import loop
from kerasemo.training.trainer import StageTrainer
from pipelines.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]


def test_an_interrupted_cell_goes_on_to_the_same_bytes(toy_given, toy_run, tmp_path, monkeypatch):
    made, count = loop.StepLoop.step, 0

    def stop(*words):
        nonlocal count
        count += 1
        if count == 9:
            raise KeyboardInterrupt
        return made(*words)

    with monkeypatch.context() as patch:
        patch.setattr(loop.StepLoop, "step", stop)
        with pytest.raises(KeyboardInterrupt):
            reproduction.reproduce(options(toy_given, tmp_path, stages=("transfer",)))
    log = []
    reproduction.reproduce(options(toy_given, tmp_path, stages=("transfer",)), log=log.append)
    assert begun(log)[-1] == "transfer, fold 0, seed 0"
    for path in (tmp_path / "stages").glob("*/weights.safetensors"):
        assert path.read_bytes() == (toy_run[0] / path.relative_to(tmp_path)).read_bytes()


def test_a_cell_that_fails_is_named_and_costs_itself_and_those_behind_it(
    toy_given, toy_copy, monkeypatch, capsys
):
    """Of five networks three are there; of the others one fails, and the last starts from it."""
    real = StageTrainer.run

    def fail(self):
        if self._stage.name == "transfer" and self._work.key["fold"] == 1:
            raise RuntimeError("the sky fell")
        return real(self)

    monkeypatch.setattr(StageTrainer, "run", fail)
    words = [
        "--experiment",
        toy_given[1],
        "--records",
        toy_given[0],
        "--run",
        toy_copy,
        "--folds",
        "0,1",
    ]
    assert reproduce.main(list(map(str, words))) == 1
    out, err = capsys.readouterr()
    assert "3 are there, 2 to train" in err
    assert "[4/5] transfer, fold 1, seed 0: failed: RuntimeError: the sky fell" in err
    assert (
        "[5/5] transfer-2, fold 1, seed 0: failed: the stage it starts from failed (transfer, fold 1, seed 0)"
        in err
    )
    assert "FAILED: transfer, fold 1, seed 0: RuntimeError: the sky fell" in out
    document = json.loads((toy_copy / "tables" / "tables.json").read_text())
    assert (
        row(document, "transfer-2", "emodb/audio")["folds"] == [0] and len(document["failed"]) == 2
    )


def test_a_fold_that_is_not_there_is_told_before_anything_runs(toy_given, tmp_path):
    with pytest.raises(
        InputError,
        match="--folds 7: these corpora have 6 folds under speaker-independent; expected 0 to 5",
    ):
        reproduction.reproduce(options(toy_given, tmp_path, folds=(0, 7)))
    assert not list(tmp_path.iterdir())


def test_a_cluster_is_told_before_anything_runs(toy_given, tmp_path, monkeypatch):
    cluster = {"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(
        InputError, match="TF_CONFIG names 2 machines; a reproduction runs on one, so leave it out"
    ):
        reproduction.reproduce(options(toy_given, tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_a_folder_is_told_before_anything_runs(toy_given, tmp_path):
    (tmp_path / "file").touch()
    for name in ("run", "out"):
        with pytest.raises(
            InputError, match=f"file: a file, expected a folder; name another --{name}"
        ):
            reproduction.reproduce(
                options(toy_given, **{"run": tmp_path / "run", name: tmp_path / "file"})
            )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_copies_are_kept_only_where_a_stage_is_of_a_corpus_with_copies(toy_given, tmp_path):
    """Also where the experiment has such a corpus, but no stage that is asked for."""
    alone = STAGES["transfer_2"] | {"start_from": ""}
    for other in ({}, {"pretrain": STAGES["pretrain"]}):
        experiment = write_experiment(tmp_path / "mine.toml", alone=alone, **other)
        with pytest.raises(
            InputError,
            match="--keep-copies is for corpora that their publisher split, such as FER-2013; no stage is of one",
        ):
            reproduction.reproduce(
                options(
                    (toy_given[0], experiment),
                    tmp_path / "run",
                    stages=("alone",),
                    keep_copies=True,
                )
            )


@pytest.mark.endurance
def test_a_command_that_was_killed_goes_on(toy_given, toy_run, tmp_path):
    words = [
        sys.executable,
        "-m",
        "kerasemo.reproduce",
        "--experiment",
        toy_given[1],
        "--records",
        toy_given[0],
        "--run",
        tmp_path,
        "--folds",
        "0,3",
    ]
    words = list(map(str, words))
    with subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        while process.poll() is None and not list(
            tmp_path.glob("stages/transfer-*/checkpoints/step-*")
        ):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    finished = subprocess.run(
        [*words, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "[1/4] pretrain, fold 0, seed 0: done before, reused" in finished.stderr
    assert json.loads(finished.stdout)["rows"] == toy_run[1]["rows"]


def test_looks_that_are_damaged_are_told_and_a_last_line_cut_off_is_left_out(tmp_path):
    given = {"keys": ["a"], "records": {"x/audio": "1"}, "said": {"stages": ["s"]}, "words": ["w"]}
    assert [
        test_set_log.log_test_evaluation(tmp_path, **given),
        test_set_log.log_test_evaluation(tmp_path, **given | {"keys": ["a", "b"]}),
        test_set_log.log_test_evaluation(tmp_path, **given),
    ] == [1, 2, 1]
    with open(tmp_path / test_set_log.NAME, "a") as file:
        file.write('{"date"')
    assert len(test_set_log.read_test_set_log(tmp_path)) == 2
    assert test_set_log.log_test_evaluation(tmp_path, **given | {"records": {"x/audio": "2"}}) == 3
    assert [look["look"] for look in test_set_log.read_test_set_log(tmp_path)] == [1, 2, 3]
    (tmp_path / test_set_log.NAME).write_text("{\n{}\n")
    with pytest.raises(InputError, match="line 1 is damaged"):
        test_set_log.read_test_set_log(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        "half a row",
        "gone",
        *(
            pytest.param(rare, marks=pytest.mark.endurance)
            for rare in ("a row lost", "empty", "no text")
        ),
    ],
)
def test_answers_that_are_damaged_are_asked_for_again(toy_given, toy_run, toy_copy, damage):
    path = sorted(toy_copy.glob("stages/transfer-2-*/validation-predictions.csv"))[0]
    held = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        cut = {
            "a row lost": held[: held.rstrip().rfind(b"\n") + 1],
            "half a row": held[: len(held) // 2],
            "empty": b"",
            "no text": b"\xff\xfe",
        }
        path.write_bytes(cut[damage])
    again = reproduction.reproduce(options(toy_given, toy_copy))
    assert (
        again["rows"] == toy_run[1]["rows"] and again["failed"] == [] and path.read_bytes() == held
    )


def test_a_network_whose_weights_are_gone_costs_itself_alone(toy_given, toy_copy):
    sorted(toy_copy.glob("stages/transfer-2-*/weights.safetensors"))[0].unlink()
    document = reproduction.reproduce(options(toy_given, toy_copy, final=True))
    (failed,) = document["failed"]
    assert (
        failed["cell"].startswith("transfer-2, fold ")
        and "no such file; remove its folder" in failed["reason"]
    )


def test_a_log_of_looks_that_was_removed_begins_anew_and_no_answer_stands_without_a_look(
    toy_given, toy_copy
):
    words = options(toy_given, toy_copy, stages=("pretrain",), final=True)
    reproduction.reproduce(words)
    (toy_copy / test_set_log.NAME).unlink()
    document = reproduction.reproduce(words)
    assert [(look["look"], look["of_these"]) for look in document["looks"]] == [(1, 1)]
    for line in ("[1]", '{"date": 1}'):
        (toy_copy / test_set_log.NAME).write_text(f"{line}\n{{}}\n")
        with pytest.raises(InputError, match="line 1 is damaged"):
            reproduction.reproduce(words)


def test_rates_of_listeners_are_looked_at_before_anything_is_trained(toy_given, tmp_path):
    rates = tmp_path / "erkennung.txt"
    rates.write_text(
        "Nr. Satz erkannt natuerlich\n1 03a01Fa.wav 90,00 80,00\n", encoding="iso-8859-1"
    )
    with pytest.raises(InputError, match="must hold every clip"):
        reproduction.reproduce(options(toy_given, tmp_path / "run", listeners=rates))
    other = write_experiment(tmp_path / "other.toml", voice={"sources": ["ravdess/audio"], **FAST})
    with pytest.raises(
        InputError, match="--listeners is for emodb/audio, and there is ravdess/audio"
    ):
        reproduction.reproduce(
            options((toy_given[0], other), tmp_path / "run", folds=(0,), listeners=rates)
        )
    assert not (tmp_path / "run").exists()


def test_records_that_are_built_anew_meanwhile_are_not_trained_on(toy_given, tmp_path):
    shutil.copytree(toy_given[0] / "emodb", tmp_path / "emodb")
    held = RecordCatalog(tmp_path, ["emodb/audio"])
    shutil.rmtree(tmp_path / "emodb")
    write_set(tmp_path, "emodb/audio", speakers=5)
    with pytest.raises(InputError, match="emodb/audio: was built anew while this command ran"):
        held.source("emodb/audio")
