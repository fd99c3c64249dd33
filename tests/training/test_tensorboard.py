"""The event files of a stage: what they hold, and that a killed training leaves what an uninterrupted one does."""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util import tensor_util

from kerasemo.training import tensorboard
from kerasemo.training.tensorboard import TensorBoardWriter

EMOTIONS = ("anger", "fear", "sadness")
CONFUSION = np.array([[3, 1, 0], [0, 0, 0], [2, 0, 2]])
STEPS = 3


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("events.*"))


def events(folder: Path) -> dict[str, list]:
    """Return (tag, step, value) of each run's events in the order of the files."""
    found = {}
    for path in files(folder):
        held = found.setdefault(path.parent.relative_to(folder).as_posix(), [])
        for event in LegacyEventFileLoader(str(path)).Load():
            held += [
                (value.tag, event.step, tensor_util.make_ndarray(value.tensor).tolist())
                for value in event.summary.value
            ]
    return found


def begin(folder: Path, held=None) -> TensorBoardWriter:
    shown = TensorBoardWriter(folder, event_sizes=held)
    shown.write_configuration({"stage": {"name": "joint", "margin": 0.6, "sources": ["a|b"]}})
    return shown


def train(shown: TensorBoardWriter, epoch: int, steps=range(STEPS)) -> None:
    """Write what an epoch, from 0, has; its validation too when the last step is among those asked for."""
    for step in (epoch * STEPS + step for step in steps):
        shown.write_steps([(step, {"loss": 1 / (step + 1), "contrastive": step / 7})])
        shown.write_speed(step, 400.0)
    if STEPS - 1 in steps:
        shown.write_epoch(
            epoch,
            {
                "loss": 0.5,
                "learning_rate": 0.001,
                "val_loss": 0.25 + epoch,
                "val_ua_savee_visual": 0.75,
            },
        )
        shown.write_recall(epoch, "savee/visual", EMOTIONS, CONFUSION + epoch)
        shown.write_histograms(epoch, {"head/kernel": np.arange(6.0).reshape(2, 3) * epoch})


def end(shown: TensorBoardWriter) -> None:
    shown.write_hparams({"batch": 8}, {"test_ua": 0.5})
    shown.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of three epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    shown = begin(folder)
    for epoch in range(3):
        train(shown, epoch)
    end(shown)
    return folder


def test_every_value_is_under_its_run_tag_and_step(whole):
    found = events(whole)
    assert set(found) == {".", "train", "validation", "steps", "speed", "results"}
    table = b'| name | value |\n|---|---|\n| stage.name | "joint" |\n| stage.margin | 0.6 |\n| stage.sources | ["a\\|b"] |\n'
    assert found["."] == [("configuration", 0, table)]
    steps = [
        (tag, step, value)
        for step in range(9)
        for tag, value in (("step_loss", 1 / (step + 1)), ("step_contrastive", step / 7))
    ]
    assert [row[:2] for row in found["steps"]] == [row[:2] for row in steps]
    assert [row[2] for row in found["steps"]] == pytest.approx([row[2] for row in steps])
    assert found["speed"] == [("images_per_second", step, 400.0) for step in range(9)]
    train = {
        tag: [(step, value) for name, step, value in found["train"] if name == tag]
        for tag, _, _ in found["train"]
    }
    assert set(train) == {"epoch_loss", "epoch_learning_rate", "head/kernel"}
    assert train["epoch_loss"] == [(epoch, 0.5) for epoch in range(3)]
    (left, *_), *_, (_, right, count) = train["head/kernel"][2][1]
    assert (left, right, count) == (0.0, 10.0, 1.0), "of 0, 2, ... 10"
    first = {tag: value for tag, step, value in found["validation"] if step == 0}
    recalls = {
        "recall_savee_visual/anger": 0.75,
        "recall_savee_visual/sadness": 0.5,
    }  # no clip of fear
    assert {tag: value for tag, value in first.items() if tag.startswith("recall")} == recalls
    assert (first["epoch_loss"], first["epoch_ua_savee_visual"]) == (0.25, 0.75)
    width, height, picture = first["confusion/savee_visual"]
    assert picture[:4] == b"\x89PNG" and min(int(width), int(height)) > 3 * tensorboard.CELL


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("lost", [0, 2])
def test_what_was_written_after_the_checkpoint_comes_once(whole, tmp_path, epoch, lost):
    """A checkpoint after the first step of an epoch; `lost` more steps are on the disk when the training dies."""
    shown = begin(tmp_path)
    for done in range(epoch):
        train(shown, done)
    train(shown, epoch, range(1))
    held = shown.flush()
    if lost:
        train(shown, epoch, range(1, STEPS))
        shown.flush()
    shown = begin(tmp_path, held)
    train(shown, epoch, range(1, STEPS))
    for left in range(epoch + 1, 3):
        train(shown, left)
    end(shown)
    assert events(tmp_path) == events(whole)


def test_a_training_that_dies_after_its_last_checkpoint_has_its_results_once(whole, tmp_path):
    shown = begin(tmp_path)
    for epoch in range(3):
        train(shown, epoch)
    held = shown.flush()
    end(shown)
    end(begin(tmp_path, held))
    assert events(tmp_path) == events(whole)


def test_a_training_that_is_begun_anew_leaves_nothing_of_before(whole, tmp_path):
    end(begin(tmp_path / "logs"))
    (tmp_path / "logs" / "old").mkdir()
    shown = begin(tmp_path / "logs")
    assert [path.name for path in (tmp_path / "logs").iterdir() if path.is_dir()] == []
    for epoch in range(3):
        train(shown, epoch)
    end(shown)
    assert events(tmp_path / "logs") == events(whole)


def test_a_tensorboard_that_had_read_further_drops_what_comes_twice(tmp_path):
    """Steps 3 and epoch 0 of before the kill are read; then come the files of the training that goes on at step 2."""
    shown = begin(tmp_path)
    train(shown, 0, range(2))
    held = shown.flush()
    train(shown, 0, range(2, STEPS))
    shown.write_steps([(3, {"loss": 77.0})])
    shown.flush()
    readers = {
        run: EventAccumulator(str(tmp_path / run)).Reload()
        for run in ("steps", "train", "validation")
    }
    assert [event.step for event in readers["steps"].Tensors("step_loss")] == [0, 1, 2, 3]
    shown = begin(tmp_path, held)
    train(shown, 0, range(2, STEPS))
    train(shown, 1)
    shown.flush()
    for reader in readers.values():
        reader.Reload()
    assert [event.step for event in readers["steps"].Tensors("step_loss")] == [0, 1, 2, 3, 4, 5]
    assert [event.tensor_proto.float_val[0] for event in readers["steps"].Tensors("step_loss")][
        3
    ] == pytest.approx(1 / 4)
    assert [event.step for event in readers["train"].Tensors("epoch_loss")] == [0, 1]
    assert [event.step for event in readers["validation"].Tensors("confusion/savee_visual")] == [
        0,
        1,
    ]


def test_every_file_begins_with_its_version_and_a_start_of_its_first_step(whole):
    for path in files(whole):
        version, start, first, *_ = LegacyEventFileLoader(str(path)).Load()
        assert version.file_version == "brain.Event:2"
        assert start.session_log.status == SessionLog.START and start.step == first.step


def test_boards_of_one_second_have_files_of_their_own_in_the_order_they_were_begun(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tensorboard, "time", types.SimpleNamespace(time=lambda: 1e9))
    monkeypatch.setattr(tensorboard.os, "getpid", iter(range(100, 0, -1)).__next__)
    held = {}
    for step in range(12):
        shown = TensorBoardWriter(tmp_path, event_sizes=held)
        shown.write_steps([(step, {"loss": float(step)})])
        held = shown.flush()
        shown.close()
    assert len(files(tmp_path)) == 12 and [
        step for _, step, _ in events(tmp_path)["steps"]
    ] == list(range(12))


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_file_that_was_lost_is_named_and_its_run_goes_on(tmp_path, damage):
    shown = begin(tmp_path / "joint" / "logs")
    train(shown, 0)
    held = shown.flush()
    (path,) = files(tmp_path / "joint" / "logs" / "train")
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 50)
    again = TensorBoardWriter(tmp_path / "joint" / "logs", event_sizes=held)
    assert again.lost_files == [f"train/{path.name}"]
    train(again, 1)
    left = again.flush()
    assert left.get(f"train/{path.name}", 0) == (
        0 if damage == "missing" else 50
    ) and left.items() >= {
        (name, size) for name, size in held.items() if name not in again.lost_files
    }
    again.close()
    TensorBoardWriter(tmp_path / "joint" / "logs", event_sizes=left)
    assert (1, 0.5) in [
        (step, value)
        for tag, step, value in events(tmp_path / "joint" / "logs")["train"]
        if tag == "epoch_loss"
    ]


def test_a_full_disk_is_one_clear_error(tmp_path):
    """Found by the flush, and on the way."""
    code = (
        "import pathlib, sys\nfrom kerasemo.training.tensorboard import TensorBoardWriter\nfrom pipelines.core.errors import StorageError\n"
        "for steps in (1, 999):\n    board = TensorBoardWriter(pathlib.Path(sys.argv[1]), event_sizes=None)\n"
        "    board.write_speed(1, 2.0)\n    board._files['steps'] = open('/dev/full', 'wb')\n"
        "    try:\n        board.write_steps([(step, {'loss': 1.0}) for step in range(steps)])\n        board.flush()\n"
        "    except StorageError as error:\n        print(error)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60
    )
    lines = process.stdout.splitlines()
    assert len(lines) == 2 and "OSError" not in process.stderr, process.stderr
    for line in lines:
        assert (
            line.startswith(f"{tmp_path}/steps: No space left on device") and "free space" in line
        )


def test_what_was_flushed_survives_a_kill(tmp_path):
    code = (
        "import json, os, signal, pathlib, sys\nfrom kerasemo.training.tensorboard import TensorBoardWriter\n"
        "board = TensorBoardWriter(pathlib.Path(sys.argv[1]), event_sizes=None)\n"
        "board.write_steps([(step, {'loss': 1.0}) for step in range(500)])\nheld = board.flush()\nprint(json.dumps(held), flush=True)\n"
        "board.write_steps([(step, {'loss': 2.0}) for step in range(500, 900)])\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    ((name, size),) = json.loads(process.stdout).items()
    assert (tmp_path / name).stat().st_size > size, (
        "some of what came later is there, perhaps half a record"
    )
    shown = TensorBoardWriter(tmp_path, event_sizes={name: size})
    shown.write_steps([(500, {"loss": 3.0})])
    shown.close()
    assert events(tmp_path)["steps"] == [("step_loss", step, 1.0) for step in range(500)] + [
        ("step_loss", 500, 3.0)
    ]


def test_the_projector_has_a_label_a_vector_and_a_picture_for_each_clip(tmp_path):
    embeddings = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    shown = np.stack([np.full((64, 64, 3), 50 * clip, np.uint8) for clip in range(5)])
    rows = [{"emotion": "fear", "speaker": f"savee:{clip}", "clip": "a\tb\nc"} for clip in range(5)]
    TensorBoardWriter(tmp_path, event_sizes=None).write_projector(embeddings, rows, shown)
    folder = tmp_path / "results"
    np.testing.assert_allclose(
        np.loadtxt(folder / "tensors.tsv", delimiter="\t"), embeddings, rtol=1e-5
    )
    lines = (folder / "metadata.tsv").read_text().splitlines()
    assert lines == ["emotion\tspeaker\tclip"] + [f"fear\tsavee:{clip}\ta b c" for clip in range(5)]
    sprite = np.asarray(Image.open(folder / "sprite.png"))
    assert sprite.shape == (192, 192, 3)
    assert [sprite[64 * (clip // 3) + 30, 64 * (clip % 3) + 30, 0] for clip in range(5)] == [
        0,
        50,
        100,
        150,
        200,
    ]
    assert all(
        name in (folder / "projector_config.pbtxt").read_text()
        for name in ("tensors.tsv", "metadata.tsv", "sprite.png")
    )
    assert files(folder), "TensorBoard looks for the projector where events are"


def test_a_sprite_that_would_be_too_large_has_smaller_pictures(monkeypatch):
    monkeypatch.setattr(tensorboard, "LARGEST_SPRITE", 128)
    shown = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    sprite, side = tensorboard.sprite(shown)
    assert side == 32 and sprite.shape == (128, 128, 3)
    assert sprite[32, 96, 1] == shown[7, :2, :2, 1].mean().astype(np.uint8)


def test_the_matrix_is_dark_where_the_answers_are(tmp_path):
    """Pixels near the corners of cells: the whole row, half of it, none."""
    picture = tensorboard.draw_confusion(np.array([[4, 0], [3, 3]]), ("a", "b"), title="t").convert(
        "L"
    )
    left, top = (
        picture.width - 12 - 2 * tensorboard.CELL,
        picture.height - 12 - 2 * tensorboard.CELL,
    )
    grey = np.array(
        [
            [
                picture.getpixel(
                    (left + tensorboard.CELL * column + 6, top + tensorboard.CELL * row + 6)
                )
                for column in (0, 1)
            ]
            for row in (0, 1)
        ]
    )
    assert (
        grey[0, 0] < 70
        and grey[0, 1] > 250
        and 120 < grey[1, 0] < 180
        and abs(grey[1, 0] - grey[1, 1]) < 3
    )


def test_settings_and_results_are_a_finished_session_of_hparams(tmp_path):
    shown = TensorBoardWriter(tmp_path, event_sizes=None)
    shown.write_hparams(
        {"stage": "joint", "rate": 1e-3, "ema": True, "batch": 8}, {"test_ua_savee_visual": 0.5}
    )
    shown.close()
    reader = EventAccumulator(str(tmp_path / "results")).Reload()
    content = {
        tag: reader.SummaryMetadata(tag).plugin_data.content for tag in reader.Tags()["tensors"]
    }
    start = hparams_metadata.parse_session_start_info_plugin_data(
        content["_hparams_/session_start_info"]
    )
    values = {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    }
    assert values == {"stage": "joint", "rate": 1e-3, "ema": True, "batch": 8}
    assert (
        hparams_metadata.parse_session_end_info_plugin_data(
            content["_hparams_/session_end_info"]
        ).status
        == 1
    )
    assert reader.Tensors("test_ua_savee_visual")[0].tensor_proto.float_val[0] == 0.5
