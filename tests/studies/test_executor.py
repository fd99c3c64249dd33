"""Tests of networks that are trained in parallel: equal results, and no finished work is lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.reproductions import FAST, reproduction_options
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.studies.reproduction import reproduce
from pipelines.core.labels import EMOTIONS

STAGES = {
    "first": {"sources": ["ravdess/audio"], **FAST},
    "second": {"sources": ["emodb/audio"], "start_from": "first", **FAST},
}
NETWORKS = ["first, fold 0, seed 0", "second, fold 0, seed 0", "second, fold 3, seed 0"]


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    """Records of two corpora, of three and of six speakers."""
    out = tmp_path_factory.mktemp("records")
    write_set(out, "ravdess/audio", speakers=3, emotions=EMOTIONS[:4], takes=3, seed=1)
    write_set(out, "emodb/audio", speakers=6, takes=2, seed=2)
    return out


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment") / "toy.toml", **STAGES)


@pytest.fixture(scope="module")
def sequential_run(records_folder, experiment, tmp_path_factory) -> tuple[Path, dict]:
    """The run folder and the results of a single process, which trains the networks in turn."""
    run = tmp_path_factory.mktemp("sequential")
    return run, reproduce(reproduction_options(records_folder, experiment, run, final=True))


def parallel_command(records_folder: Path, experiment: Path, run: Path, *options: str) -> list[str]:
    """Return the command that trains two networks in parallel."""
    paths = {"--experiment": experiment, "--records": records_folder, "--run": run}
    arguments = [str(word) for option in paths.items() for word in option]
    command = [sys.executable, "-m", "kerasemo.reproduce", *arguments]
    return [*command, "--folds", "0,3", "--jobs", "2", *options]


def start(command: list[str]) -> subprocess.Popen:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **streams)


def training_processes(parent: int) -> list[int]:
    """Return the ids of the child processes that train. Python also starts a resource tracker."""
    process_ids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent_of_process = int(process_state(folder)[1])
            command = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent_of_process == parent and b"spawn_main" in command:
            process_ids.append(int(folder.name))
    return process_ids


def process_state(folder: Path) -> list[str]:
    """Return the words of `/proc/ID/stat` from the state on."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def is_alive(process_id: int) -> bool:
    try:
        return process_state(Path(f"/proc/{process_id}"))[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, process: subprocess.Popen, seconds: float = 120.0) -> None:
    """Wait until a condition is true while a process lives."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        if condition():
            return
        time.sleep(0.05)
    errors = process.communicate()[1] if process.poll() is not None else ""
    raise AssertionError(f"the condition stayed false; exit status {process.poll()}\n{errors}")


def copy_first_stage(sequential_run, run: Path) -> None:
    """Copy the network that the second stage starts from, without its test predictions."""
    (first,) = sequential_run[0].glob("stages/first-*")
    shutil.copytree(first, run / "stages" / first.name, ignore=shutil.ignore_patterns("test-*"))


def folds_with_checkpoint(run: Path) -> set[int]:
    """Return the folds of the second stage whose training has saved its state within an epoch."""
    checkpoints = run.glob("stages/second-*/checkpoints/step-*.safetensors")
    key_files = {path.parents[1] / "stage.json" for path in checkpoints}
    return {json.loads(path.read_text())["key"]["fold"] for path in key_files}


@pytest.fixture(scope="module")
def parallel_result(records_folder, experiment, tmp_path_factory) -> tuple[dict, str]:
    """The results and the log of a command that trains two networks in parallel."""
    run = tmp_path_factory.mktemp("parallel")
    with start(parallel_command(records_folder, experiment, run, "--final", "--json")) as process:
        printed, logged = process.communicate(timeout=300)
    assert process.returncode == 0, logged
    return json.loads(printed), logged


def test_networks_trained_in_parallel_equal_networks_trained_in_turn(
    sequential_run, parallel_result
):
    document, logged = parallel_result
    expected = sequential_run[1]
    names = ("stage", "source", "level", "n", "folds")
    for row, expected_row in zip(document["rows"], expected["rows"], strict=True):
        assert [row[name] for name in names] == [expected_row[name] for name in names]
        # The number of threads changes the last digits.
        assert row["ua"] == pytest.approx(expected_row["ua"], abs=0.1)
    assert document["looks"][0]["networks"] == 3
    assert document["failed"] == []
    assert len(re.findall(r"^.*predicted.* test split", logged, re.M)) == 3
    assert "Traceback" not in logged


def test_network_is_trained_after_the_network_that_it_starts_from(parallel_result):
    """The networks of the second stage are trained in parallel. Each log line has its network."""
    _, logged = parallel_result
    started = re.findall(r"^\[\d/3\] (\w+, fold \d, seed 0): supervised on", logged, re.M)
    assert started[0] == NETWORKS[0]
    assert sorted(started) == NETWORKS
    before, _, _ = logged.partition("[1/3] first, fold 0, seed 0: validation")
    assert "second" not in before.partition("to train")[2]
    last_start = max(logged.index(f"{network}: supervised on") for network in NETWORKS)
    first_end = min(logged.index(f"{network}: validation") for network in NETWORKS[1:])
    assert last_start < first_end
    process_lines = re.findall(r"^  (.*)$", logged, re.M)  # progress, if a training takes a while
    assert all(line.startswith(tuple(NETWORKS)) for line in process_lines)


def test_process_that_dies_loses_only_its_network_and_the_same_command_resumes(
    records_folder, experiment, sequential_run, tmp_path
):
    copy_first_stage(sequential_run, tmp_path)
    options = ("--set", "second.epochs=60")
    command = parallel_command(records_folder, experiment, tmp_path, *options)
    with start(command) as process:
        wait_until(lambda: 0 in folds_with_checkpoint(tmp_path), process)
        # The process that was started first trains the first fold.
        os.kill(min(training_processes(process.pid)), signal.SIGKILL)
        printed, logged = process.communicate(timeout=300)
    assert process.returncode == 1
    assert re.search("1 finished.* 2 to train", logged)
    assert re.search(rf"\[1/3\] {NETWORKS[0]}.* already trained", logged)
    assert "Traceback" not in logged
    pattern = r"^\[\d/3\] (second, fold \d, seed 0): failed: .*killed"
    assert re.findall(pattern, logged, re.M) == [NETWORKS[1]]
    assert re.search(rf"FAILED: {NETWORKS[1]}: .*killed", printed)
    assert f"\n  {NETWORKS[2]}: " in logged  # the progress of the network that is left
    with start(command) as process:
        _, logged = process.communicate(timeout=300)
    assert process.returncode == 0, logged
    assert re.search("2 finished.* 1 to train", logged)
    assert "resuming" in logged


@pytest.mark.parametrize(
    "signal_number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.endurance)]
)
def test_stopped_command_ends_all_its_processes(
    records_folder, experiment, sequential_run, tmp_path, signal_number
):
    """SIGTERM lets the processes save their state first."""
    copy_first_stage(sequential_run, tmp_path)
    options = ("--set", "second.epochs=400")
    with start(parallel_command(records_folder, experiment, tmp_path, *options)) as process:
        wait_until(lambda: len(folds_with_checkpoint(tmp_path)) == 2, process)
        process_ids = training_processes(process.pid)
        process.send_signal(signal_number)
        _, logged = process.communicate(timeout=120)
    assert len(process_ids) == 2
    is_killed = signal_number == signal.SIGKILL
    assert process.returncode == (-signal_number if is_killed else 130)
    deadline = time.monotonic() + 30
    while any(map(is_alive, process_ids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, process_ids))
    assert "Traceback" not in logged
    if not is_killed:
        assert "resumes" in logged
        assert len(re.findall("interrupted.* saved", logged)) == 2
