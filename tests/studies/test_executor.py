"""Networks trained side by side: as one after the other, and a process that dies or is told to end loses nothing."""

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

from helpers.reproductions import FAST
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.studies import reproduction
from pipelines.core.labels import EMOTIONS

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "first": {"sources": ["ravdess/audio"], **FAST},
    "second": {"sources": ["emodb/audio"], "start_from": "first", **FAST},
}


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> tuple[Path, Path]:
    """Records of two corpora of three and of six speakers; an experiment on them."""
    folder = tmp_path_factory.mktemp("given")
    write_set(
        folder / "records", "ravdess/audio", speakers=3, emotions=EMOTIONS[:4], takes=3, seed=1
    )
    write_set(folder / "records", "emodb/audio", speakers=6, takes=2, seed=2)
    return folder / "records", write_experiment(folder / "toy.toml", **STAGES)


def command(given, run: Path, *more: str) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "kerasemo.reproduce",
        "--experiment",
        given[1],
        "--records",
        given[0],
        "--run",
        run,
        "--folds",
        "0,3",
    ]
    return [*map(str, words), *more]


def started(words: list[str], **options) -> subprocess.Popen:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, cwd=ROOT, start_new_session=True, **streams, **options)


def members(parent: int) -> list[int]:
    """Return the processes of a command that train, which are children of it and no helper of Python's own."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            owner = int(path.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            words = path.joinpath("cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if owner == parent and b"spawn_main" in words:
            found.append(int(path.name))
    return found


def wait_for(what, process: subprocess.Popen, seconds: float = 120.0):
    """Return what `what` does once that is true, while the process lives."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(
        f"did not come: exit status {process.poll()}\n{process.communicate()[1] if process.poll() is not None else ''}"
    )


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module")
def alone(given, tmp_path_factory) -> tuple[Path, dict]:
    """What one process makes, one network after the other: its folder and its document."""
    run = tmp_path_factory.mktemp("alone")
    return run, reproduction.reproduce(
        reproduction.ReproductionOptions(
            str(given[1]), given[0], run, folds=(0, 3), final=True, words=("reproduce",)
        )
    )


def with_first(alone, run: Path) -> None:
    """Lay into a run folder the network that the others start from, which was not asked about the test side there."""
    (first,) = alone[0].glob("stages/first-*")
    shutil.copytree(first, run / "stages" / first.name, ignore=shutil.ignore_patterns("test-*"))


def test_two_at_once_make_what_one_after_the_other_does(given, alone, tmp_path):
    with started(command(given, tmp_path, "--jobs", "2", "--final", "--json")) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    document, expected = json.loads(out), alone[1]
    keep = ("stage", "source", "level", "n", "folds")
    assert [[row[name] for name in keep] for row in document["rows"]] == [
        [row[name] for name in keep] for row in expected["rows"]
    ]
    for ours, theirs in zip(
        document["rows"], expected["rows"], strict=True
    ):  # as many threads or not, but for the last digits
        assert ours["ua"] == pytest.approx(theirs["ua"], abs=0.1)
    assert document["looks"][0]["networks"] == 3 and document["failed"] == []
    begun = re.findall(r"^\[\d/3\] (\w+, fold \d, seed 0): supervised on", err, re.M)
    assert begun[0] == "first, fold 0, seed 0" and sorted(begun[1:]) == [
        "second, fold 0, seed 0",
        "second, fold 3, seed 0",
    ]
    last_begun = max(err.index(f"{cell}: supervised on") for cell in begun)
    assert last_begun < min(err.index(f"{cell}: validation") for cell in begun[1:])  # side by side
    assert all(
        f"\n  {cell}: " in err for cell in begun
    )  # what each process says is told with its network
    before, _, _ = err.partition("[1/3] first, fold 0, seed 0: validation")
    assert "second" not in before.partition("to train")[2]  # what it starts from is there first
    assert err.count("asked about the test side") == 3 and "Traceback" not in err


def saved(run: Path) -> dict[int, Path]:
    """Return the folders of the networks of the second stage that have been saved while they are trained, by their folds."""
    folders = {
        path.parents[1] for path in run.glob("stages/second-*/checkpoints/step-*.safetensors")
    }
    return {
        json.loads((folder / "stage.json").read_text())["key"]["fold"]: folder for folder in folders
    }


def test_a_process_that_dies_costs_its_network_alone_and_the_same_command_goes_on(
    given, alone, tmp_path
):
    with_first(alone, tmp_path)
    words = command(given, tmp_path, "--jobs", "2", "--set", "second.epochs=60")
    with started(words) as process:
        wait_for(lambda: 0 in saved(tmp_path), process)
        os.kill(
            min(members(process.pid)), signal.SIGKILL
        )  # the first to start is at the first fold
        out, err = process.communicate(timeout=300)
    assert (
        process.returncode == 1
        and "1 are there, 2 to train" in err
        and "[1/3] first, fold 0, seed 0: done before, reused" in err
    )
    (failed,) = re.findall(
        r"^\[\d/3\] (second, fold \d, seed 0): failed: its process was killed", err, re.M
    )
    assert failed == "second, fold 0, seed 0"
    assert f"FAILED: {failed}: its process was killed" in out and "Traceback" not in err
    with started(words) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "goes on after epoch" in err, err
    assert "2 are there, 1 to train" in err


@pytest.mark.parametrize(
    "sign", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.endurance)]
)
def test_when_it_is_told_to_end_all_processes_save_and_end(given, alone, tmp_path, sign):
    with_first(alone, tmp_path)
    words = command(given, tmp_path, "--jobs", "2", "--set", "second.epochs=400")
    with started(words) as process:
        wait_for(lambda: len(saved(tmp_path)) == 2, process)
        there = members(process.pid)
        process.send_signal(sign)
        _, err = process.communicate(timeout=120)
    assert len(there) == 2 and process.returncode == (-sign if sign == signal.SIGKILL else 130)
    end = time.monotonic() + 30
    while any(map(alive, there)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, there)) and "Traceback" not in err
    if sign != signal.SIGKILL:
        assert (
            "interrupted; the same command resumes" in err
            and err.count("interrupted; saved after") == 2
        )
