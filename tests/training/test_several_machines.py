"""Training over several machines of TF_CONFIG, here two local processes: as one device, and what happens when one dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.synthetic_sets import write_two_sources

ROOT = Path(__file__).resolve().parents[2]
FAST = {"batch": 8, "learning_rate": 1e-2, "clip_norm": 0.5}
BOTH = ["enterface/visual", "savee/audio"]
STAGES = {
    "pretrain": {
        "kind": "supervised",
        "sources": ["enterface/visual"],
        "epochs": 2,
        "augment": True,
        **FAST,
    },
    "joint": {
        "kind": "joint",
        "sources": BOTH,
        "start_from": "pretrain",
        "epochs": 2,
        "hard_negatives": 0.5,
        **FAST,
    },
}


@pytest.fixture(scope="module")
def toy_inputs(tmp_path_factory) -> tuple[Path, Path]:
    return write_two_sources(tmp_path_factory.mktemp("toy_inputs"), **STAGES)


def words(toy_inputs, run: Path, stage: str, *more: str) -> list[str]:
    options = [
        "--experiment",
        str(toy_inputs[1]),
        "--records",
        str(toy_inputs[0]),
        "--run",
        str(run),
        "--checkpoint-seconds",
        "0",
        *more,
    ]
    return [sys.executable, "-m", "kerasemo.train", "--stage", stage, *options]


def cluster(count: int) -> list[dict[str, str]]:
    """Return the environment of each of some workers on this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    tasks = [
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        for index in range(count)
    ]
    return [{**os.environ, "TF_CONFIG": json.dumps(task)} for task in tasks]


def start(toy_inputs, run: Path, stage: str, *more: str) -> list[subprocess.Popen]:
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return [
        subprocess.Popen(words(toy_inputs, run, stage, *more), env=environment, **pipes)
        for environment in cluster(2)
    ]


def test_two_workers_equal_one_device(toy_inputs, tmp_path):
    """AdamW divides by the root of a mean square, so that rounding may grow."""
    on_one_device = subprocess.run(
        words(toy_inputs, tmp_path / "one", "joint"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert on_one_device.returncode == 0, on_one_device.stderr[-3000:]
    for process in start(toy_inputs, tmp_path / "two", "joint"):
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0, stderr[-3000:]
        assert (
            "2 CPU devices of 2 machines" in stderr
            and "joint: joint on enterface/visual + savee/audio" in stderr
        )
    for stage in STAGES:
        ours, theirs = (
            load_file(tmp_path / run / stage / "weights.safetensors") for run in ("two", "one")
        )
        assert ours.keys() == theirs.keys()
        for name, values in theirs.items():
            np.testing.assert_allclose(ours[name], values, atol=2e-4, err_msg=f"{stage} {name}")
        ours, theirs = (
            json.loads((tmp_path / run / stage / "metrics.json").read_text())
            for run in ("two", "one")
        )
        assert ours["key"] == theirs["key"]
        for epoch, their_epoch in zip(ours["history"], theirs["history"], strict=True):
            assert epoch.keys() == their_epoch.keys() and epoch["loss"] == pytest.approx(
                their_epoch["loss"], abs=1e-4
            )


def test_dead_worker_stops_the_others_and_a_restart_resumes(toy_inputs, tmp_path):
    chief, worker = start(toy_inputs, tmp_path, "pretrain", "--epochs", "30")
    folder = tmp_path / "pretrain"
    while not list((folder / "checkpoints").glob("step-*")) and chief.poll() is None:
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    _, stderr = chief.communicate(timeout=120)
    assert chief.returncode == 1 and "Traceback" not in stderr
    last = stderr.strip().splitlines()[-1]
    assert "worker" in last and "same command" in last
    assert not (folder / "metrics.json").exists()
    for process in start(toy_inputs, tmp_path, "pretrain", "--epochs", "30"):
        _, stderr = process.communicate(timeout=300)
        assert process.returncode == 0 and "pretrain: resuming after epoch" in stderr, stderr[
            -3000:
        ]
    assert len(json.loads((folder / "metrics.json").read_text())["history"]) == 30
