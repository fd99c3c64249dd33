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
    events_of = {}
    for path in files(folder):
        run_events = events_of.setdefault(path.parent.relative_to(folder).as_posix(), [])
        for event in LegacyEventFileLoader(str(path)).Load():
            run_events += [
                (value.tag, event.step, tensor_util.make_ndarray(value.tensor).tolist())
                for value in event.summary.value
            ]
    return events_of


def begin(folder: Path, event_sizes=None) -> TensorBoardWriter:
    writer = TensorBoardWriter(folder, event_sizes=event_sizes)
    writer.write_configuration({"stage": {"name": "joint", "margin": 0.6, "sources": ["a|b"]}})
    return writer


def train(writer: TensorBoardWriter, epoch: int, steps=range(STEPS)) -> None:
    """Write what an epoch, from 0, has; its validation too when the last step is among those asked for."""
    for step in (epoch * STEPS + step for step in steps):
        writer.write_steps([(step, {"loss": 1 / (step + 1), "contrastive": step / 7})])
        writer.write_speed(step, 400.0)
    if STEPS - 1 in steps:
        writer.write_epoch(
            epoch,
            {
                "loss": 0.5,
                "learning_rate": 0.001,
                "val_loss": 0.25 + epoch,
                "val_ua_savee_visual": 0.75,
            },
        )
        writer.write_recall(epoch, "savee/visual", EMOTIONS, CONFUSION + epoch)
        writer.write_histograms(epoch, {"head/kernel": np.arange(6.0).reshape(2, 3) * epoch})


def end(writer: TensorBoardWriter) -> None:
    writer.write_hparams({"batch": 8}, {"test_ua": 0.5})
    writer.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of three epochs that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    writer = begin(folder)
    for epoch in range(3):
        train(writer, epoch)
    end(writer)
    return folder


def test_every_value_is_under_its_run_tag_and_step(whole):
    events_of_runs = events(whole)
    assert set(events_of_runs) == {".", "train", "validation", "steps", "speed", "results"}
    table = b'| name | value |\n|---|---|\n| stage.name | "joint" |\n| stage.margin | 0.6 |\n| stage.sources | ["a\\|b"] |\n'
    assert events_of_runs["."] == [("configuration", 0, table)]
    steps = [
        (tag, step, value)
        for step in range(9)
        for tag, value in (("step_loss", 1 / (step + 1)), ("step_contrastive", step / 7))
    ]
    assert [row[:2] for row in events_of_runs["steps"]] == [row[:2] for row in steps]
    assert [row[2] for row in events_of_runs["steps"]] == pytest.approx([row[2] for row in steps])
    assert events_of_runs["speed"] == [("images_per_second", step, 400.0) for step in range(9)]
    train = {
        tag: [(step, value) for name, step, value in events_of_runs["train"] if name == tag]
        for tag, _, _ in events_of_runs["train"]
    }
    assert set(train) == {"epoch_loss", "epoch_learning_rate", "head/kernel"}
    assert train["epoch_loss"] == [(epoch, 0.5) for epoch in range(3)]
    (left, *_), *_, (_, right, count) = train["head/kernel"][2][1]
    assert (left, right, count) == (0.0, 10.0, 1.0), "of 0, 2, ... 10"
    first = {tag: value for tag, step, value in events_of_runs["validation"] if step == 0}
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
def test_events_after_the_checkpoint_are_written_once(whole, tmp_path, epoch, lost):
    """A checkpoint after the first step of an epoch; `lost` more steps are on the disk when the training dies."""
    writer = begin(tmp_path)
    for done in range(epoch):
        train(writer, done)
    train(writer, epoch, range(1))
    event_sizes = writer.flush()
    if lost:
        train(writer, epoch, range(1, STEPS))
        writer.flush()
    writer = begin(tmp_path, event_sizes)
    train(writer, epoch, range(1, STEPS))
    for left in range(epoch + 1, 3):
        train(writer, left)
    end(writer)
    assert events(tmp_path) == events(whole)


def test_results_are_written_once_after_a_kill_at_the_end(whole, tmp_path):
    writer = begin(tmp_path)
    for epoch in range(3):
        train(writer, epoch)
    event_sizes = writer.flush()
    end(writer)
    end(begin(tmp_path, event_sizes))
    assert events(tmp_path) == events(whole)


def test_training_from_the_start_removes_older_events(whole, tmp_path):
    end(begin(tmp_path / "logs"))
    (tmp_path / "logs" / "old").mkdir()
    writer = begin(tmp_path / "logs")
    assert [path.name for path in (tmp_path / "logs").iterdir() if path.is_dir()] == []
    for epoch in range(3):
        train(writer, epoch)
    end(writer)
    assert events(tmp_path / "logs") == events(whole)


def test_reading_tensorboard_drops_repeated_events(tmp_path):
    """Steps 3 and epoch 0 of before the kill are read; then come the files of the training that goes on at step 2."""
    writer = begin(tmp_path)
    train(writer, 0, range(2))
    event_sizes = writer.flush()
    train(writer, 0, range(2, STEPS))
    writer.write_steps([(3, {"loss": 77.0})])
    writer.flush()
    readers = {
        run: EventAccumulator(str(tmp_path / run)).Reload()
        for run in ("steps", "train", "validation")
    }
    assert [event.step for event in readers["steps"].Tensors("step_loss")] == [0, 1, 2, 3]
    writer = begin(tmp_path, event_sizes)
    train(writer, 0, range(2, STEPS))
    train(writer, 1)
    writer.flush()
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


def test_every_file_begins_with_its_version_and_first_step(whole):
    for path in files(whole):
        version, start, first, *_ = LegacyEventFileLoader(str(path)).Load()
        assert version.file_version == "brain.Event:2"
        assert start.session_log.status == SessionLog.START and start.step == first.step


def test_writers_of_one_second_have_separate_files_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "time", types.SimpleNamespace(time=lambda: 1e9))
    monkeypatch.setattr(tensorboard.os, "getpid", iter(range(100, 0, -1)).__next__)
    event_sizes = {}
    for step in range(12):
        writer = TensorBoardWriter(tmp_path, event_sizes=event_sizes)
        writer.write_steps([(step, {"loss": float(step)})])
        event_sizes = writer.flush()
        writer.close()
    assert len(files(tmp_path)) == 12 and [
        step for _, step, _ in events(tmp_path)["steps"]
    ] == list(range(12))


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_lost_file_is_named_and_its_run_continues(tmp_path, damage):
    writer = begin(tmp_path / "joint" / "logs")
    train(writer, 0)
    event_sizes = writer.flush()
    (path,) = files(tmp_path / "joint" / "logs" / "train")
    if damage == "missing":
        path.unlink()
    else:
        os.truncate(path, 50)
    again = TensorBoardWriter(tmp_path / "joint" / "logs", event_sizes=event_sizes)
    assert again.lost_files == [f"train/{path.name}"]
    train(again, 1)
    left = again.flush()
    assert left.get(f"train/{path.name}", 0) == (
        0 if damage == "missing" else 50
    ) and left.items() >= {
        (name, size) for name, size in event_sizes.items() if name not in again.lost_files
    }
    again.close()
    TensorBoardWriter(tmp_path / "joint" / "logs", event_sizes=left)
    assert (1, 0.5) in [
        (step, value)
        for tag, step, value in events(tmp_path / "joint" / "logs")["train"]
        if tag == "epoch_loss"
    ]


def test_full_disk_is_a_storage_error(tmp_path):
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


def test_flushed_events_survive_a_kill(tmp_path):
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
    writer = TensorBoardWriter(tmp_path, event_sizes={name: size})
    writer.write_steps([(500, {"loss": 3.0})])
    writer.close()
    assert events(tmp_path)["steps"] == [("step_loss", step, 1.0) for step in range(500)] + [
        ("step_loss", 500, 3.0)
    ]


def test_projector_has_label_vector_and_picture_of_each_clip(tmp_path):
    embeddings = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    pictures = np.stack([np.full((64, 64, 3), 50 * clip, np.uint8) for clip in range(5)])
    rows = [{"emotion": "fear", "speaker": f"savee:{clip}", "clip": "a\tb\nc"} for clip in range(5)]
    TensorBoardWriter(tmp_path, event_sizes=None).write_projector(embeddings, rows, pictures)
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


def test_large_sprite_has_reduced_pictures(monkeypatch):
    monkeypatch.setattr(tensorboard, "LARGEST_SPRITE", 128)
    pictures = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    sprite, side = tensorboard.sprite(pictures)
    assert side == 32 and sprite.shape == (128, 128, 3)
    assert sprite[32, 96, 1] == pictures[7, :2, :2, 1].mean().astype(np.uint8)


def test_matrix_is_dark_at_frequent_predictions(tmp_path):
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
    writer = TensorBoardWriter(tmp_path, event_sizes=None)
    writer.write_hparams(
        {"stage": "joint", "rate": 1e-3, "ema": True, "batch": 8}, {"test_ua_savee_visual": 0.5}
    )
    writer.close()
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
