"""What can befall a training: damaged checkpoints, a full disk, NaN, Ctrl-C, a second training in its folder."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.logs import logged_lines
from helpers.synthetic_sets import write_experiment, write_set
from helpers.trainings import train_only
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.runs import checkpoints
from kerasemo.training import experiment, loop, monitoring
from pipelines.core.errors import RunError, StorageError

ROOT = Path(__file__).resolve().parents[2]
STAGE = {
    "kind": "supervised",
    "sources": ["enterface/visual"],
    "batch": 8,
    "epochs": 5,
    "learning_rate": 1e-2,
}


@pytest.fixture(scope="module")
def toy_inputs(tmp_path_factory) -> tuple[Path, Path]:
    """Records and an experiment of one stage."""
    folder = tmp_path_factory.mktemp("toy_inputs")
    write_set(folder / "records", "enterface/visual", speakers=5)
    return folder / "records", write_experiment(folder / "toy.toml", pretrain=STAGE)


def options(toy_inputs, run: Path, **changes) -> experiment.TrainingOptions:
    return experiment.TrainingOptions(
        "pretrain", str(toy_inputs[1]), toy_inputs[0], run, **{"checkpoint_seconds": 0.0} | changes
    )


@pytest.fixture(scope="module")
def whole(toy_inputs, tmp_path_factory) -> Path:
    """The folder of a stage that was let be."""
    run = tmp_path_factory.mktemp("whole")
    train_only(options(toy_inputs, run))
    return run / "pretrain"


def stopped_at(toy_inputs, run: Path, step: int, error: BaseException, **changes) -> None:
    """Train, and stop with an error in the place of a step, from 1."""
    original_step, count = loop.StepLoop.step, 0

    def stop(*words):
        nonlocal count
        count += 1
        if count == step:
            raise error
        return original_step(*words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.StepLoop, "step", stop)
        with pytest.raises(type(error)):
            experiment.train_experiment(options(toy_inputs, run, **changes))


@pytest.fixture(scope="module")
def stopped(toy_inputs, tmp_path_factory) -> Path:
    """The run folder of a stage that was stopped in its third epoch; not to be changed."""
    run = tmp_path_factory.mktemp("stopped")
    stopped_at(toy_inputs, run, 15, RuntimeError("stop"))
    return run


@pytest.fixture
def run(stopped, tmp_path) -> Path:
    """A copy of that folder, to go on in."""
    shutil.copytree(stopped, tmp_path / "run")
    return tmp_path / "run"


def damage(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize("damaged", [1, pytest.param(2, marks=pytest.mark.endurance), 3])
def test_damaged_checkpoint_falls_back_to_the_checkpoint_before(toy_inputs, whole, run, damaged):
    states = checkpoints.CheckpointFolder(run / "pretrain" / "checkpoints").state_paths()
    assert len(states) == 3
    for path in states[:damaged]:
        damage(path)
    with logged_lines() as log:
        train_only(options(toy_inputs, run))
    warnings = [line for line in log if "damaged" in line and ".safetensors" in line]
    assert [path.name in line for path, line in zip(states, warnings, strict=False)] == [
        True
    ] * damaged
    assert any("resuming after epoch 2/5" in line for line in log) == (damaged < 3)
    assert any("from the start" in line for line in log) == (damaged == 3)
    for name in ("weights.safetensors", "metrics.json", "predictions.csv"):
        assert (run / "pretrain" / name).read_bytes() == (whole / name).read_bytes(), name


def test_damaged_best_weights_are_computed_again(toy_inputs, whole, run):
    for path in (run / "pretrain" / "checkpoints").glob("best-*"):
        damage(path)
    with logged_lines() as log:
        train_only(options(toy_inputs, run))
    assert any("best-" in line and "damaged" in line for line in log)
    assert (run / "pretrain" / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("writes", [3, pytest.param(8, marks=pytest.mark.endurance)])
def test_full_disk_is_a_storage_error_and_the_same_command_resumes(
    toy_inputs, whole, tmp_path, monkeypatch, writes
):
    original_fsync, count = os.fsync, 0

    def fsync(file):
        nonlocal count
        count += 1
        if count > writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original_fsync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match=r"No space left.*free space.*same command"):
            experiment.train_experiment(options(toy_inputs, tmp_path))
    for path in (tmp_path / "pretrain" / "checkpoints").glob("*.safetensors"):
        checkpoints.load_arrays(path)
    assert not list((tmp_path / "pretrain" / "checkpoints").glob("*.tmp"))
    train_only(options(toy_inputs, tmp_path))
    assert (tmp_path / "pretrain" / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()


def test_nan_loss_names_step_and_term_and_keeps_the_best_weights(toy_inputs, tmp_path, monkeypatch):
    """The images of one step are NaN from the second epoch on."""
    original_step, count = loop.StepLoop.step, 0

    def step(self, feed):
        nonlocal count
        count += 1
        values = original_step(self, feed)
        return values * np.array([1, np.nan], np.float32) if count == 9 else values

    monkeypatch.setattr(loop.StepLoop, "step", step)
    words = r"pretrain: epoch 2, step 3 of 6: cross_entropy_enterface_visual became NaN or infinite; the last good weights are .*best-00000001"
    with pytest.raises(
        RunError, match=words + r".*--set pretrain.learning_rate=0.001\) with another --run"
    ):
        experiment.train_experiment(options(toy_inputs, tmp_path))
    checkpoints.load_arrays(tmp_path / "pretrain" / "checkpoints" / "best-00000001.safetensors")


def test_diverging_training_stops(toy_inputs, tmp_path):
    with pytest.raises(
        RunError, match=r"pretrain: epoch \d+, step \d+.*6: .* became NaN.*infinite"
    ):
        experiment.train_experiment(
            options(
                toy_inputs,
                tmp_path,
                settings=("pretrain.learning_rate=9", "pretrain.weight_decay=0.99"),
                epochs=400,
            )
        )
    for path in (tmp_path / "pretrain" / "checkpoints").glob("*.safetensors"):
        assert all(
            np.isfinite(values).all() for values in checkpoints.load_arrays(path)[0].values()
        ), path


def command(toy_inputs, run: Path, *words: str) -> list[str]:
    paths = ["--experiment", str(toy_inputs[1]), "--records", str(toy_inputs[0]), "--run", str(run)]
    return [sys.executable, "-m", "kerasemo.train", "--stage", "pretrain", *paths, *words]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.endurance)]
)
def test_interrupt_saves_a_checkpoint_and_names_the_remedy(toy_inputs, tmp_path, number):
    """The default time between checkpoints, so that none but the interrupt's own is in the middle of an epoch."""
    words = command(toy_inputs, tmp_path, "--epochs", "4000")
    process = subprocess.Popen(
        words, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while (
        not list((tmp_path / "pretrain" / "checkpoints").glob("step-*")) and process.poll() is None
    ):
        time.sleep(0.02)
    if number == signal.SIGINT:
        second = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert second.returncode == 1 and "another training" in second.stderr
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in stderr
    epochs, steps = map(
        int,
        re.search(
            r"interrupted; saved after (\d+) epochs and (\d+) steps; the same command resumes",
            stderr,
        ).groups(),
    )
    newest = checkpoints.CheckpointFolder(tmp_path / "pretrain" / "checkpoints").state_paths()[0]
    tensors, state = checkpoints.load_arrays(newest)
    assert (len(state["history"]), len(tensors["position/values"])) == (epochs, steps)
    assert newest.name == f"step-{6 * epochs + steps:08d}.safetensors"


def test_checkpoint_of_another_training_is_left_out(toy_inputs, whole, run):
    """Its file fits in shape, but was copied from elsewhere."""
    newest = checkpoints.CheckpointFolder(run / "pretrain" / "checkpoints").state_paths()[0]
    tensors, state = checkpoints.load_arrays(newest)
    checkpoints.save_arrays(newest, tensors, state | {"digest": "0" * 64})
    with logged_lines() as log:
        train_only(options(toy_inputs, run))
    assert any(
        f"{newest.name}: of another training" in line and "state before" in line for line in log
    )
    assert json.loads((run / "pretrain" / "metrics.json").read_text()) == json.loads(
        (whole / "metrics.json").read_text()
    )


def test_oldest_checkpoint_has_its_best_weights(toy_inputs, whole, tmp_path, monkeypatch):
    """A state an epoch, each the best of its time."""
    monkeypatch.setattr(monitoring, "best_epoch", lambda history, watch: len(history) - 1)
    stopped_at(toy_inputs, tmp_path, 30, RuntimeError("stop"), checkpoint_seconds=1e9)
    for path in checkpoints.CheckpointFolder(tmp_path / "pretrain" / "checkpoints").state_paths()[
        :2
    ]:
        damage(path)
    with logged_lines() as log:
        train_only(options(toy_inputs, tmp_path))
    assert any("resuming after epoch 2/5" in line for line in log), log


def test_training_resumes_without_its_logs(toy_inputs, whole, run):
    shutil.rmtree(run / "pretrain" / "logs")
    with logged_lines() as log:
        train_only(options(toy_inputs, run))
    assert any("events are missing" in line for line in log)
    assert (run / "pretrain" / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()


def test_change_of_precision_is_logged(toy_inputs, run):
    with logged_lines() as log:
        train_only(options(toy_inputs, run, precision="bfloat16"))
    assert "pretrain: computed in float32 so far, in mixed_bfloat16 from here on" in log


def test_training_with_other_settings_is_refused_after_another_has_begun(
    toy_inputs, whole, tmp_path
):
    """It found the folder empty when it looked."""
    from kerasemo.config.loading import load_experiment
    from kerasemo.training import chain

    late = chain.Chain(
        chain.RunSettings(load_experiment(str(toy_inputs[1])), tmp_path, seed=1),
        load_experiment(str(toy_inputs[1])).stages,
        RecordCatalog(toy_inputs[0]),
    )
    waiting = late._prepare([late.last])["pretrain"]
    train_only(options(toy_inputs, tmp_path))
    with pytest.raises(
        RunError,
        match="another command began.*training.*other settings.* name another --run",
    ):
        waiting.run()
    assert (tmp_path / "pretrain" / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()


def test_a_profile_ends_with_its_stage(toy_inputs, tmp_path):
    """Its last step is never made; the next stage can be profiled."""
    for folder in ("one", "other"):
        train_only(options(toy_inputs, tmp_path / folder, profile=(5, 1000), epochs=1))
        assert list((tmp_path / folder / "pretrain" / "logs").rglob("*.xplane.pb"))
