"""A killed training ends as one that was let be: weights, predictions, scores and TensorBoard, to the bit.

Every training is a process of its own: this file, run as a script. It kills itself (SIGKILL) at a moment that a seed chooses
among all steps, and before and after all writing of files, of the stage that is under way.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import PYTHONPATH
from helpers.synthetic_sets import write_two_sources
from helpers.trainings import train_only

ROOT = Path(__file__).resolve().parents[2]
BOTH = ["enterface/visual", "savee/audio"]
EVERYTHING = {
    "batch": 8,
    "epochs": 3,
    "learning_rate": 1e-2,
    "clip_norm": 0.5,
    "ema": 0.9,
    "augment": True,
}
RECIPE = {
    "steps": 6,
    "mixup": 0.4,
    "balance": "classes",
    "warmup": 0.2,
    "labelled": 4,
    "test_hop_frames": 17,
}
RECIPE |= {"augment": {"noise": 0.1, "speed": 0.1, "time_mask": 0.2, "time_masks": 2, "flip": 0.5}}
STAGES = {
    "pretrain": {
        "kind": "supervised",
        "sources": ["enterface/visual"],
        "batch": 8,
        "epochs": 4,
        "learning_rate": 1e-2,
    },
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "accumulate": 2,
        **EVERYTHING,
        **RECIPE,
    },
    "contrastive": {
        "kind": "contrastive",
        "sources": BOTH,
        "start_from": "transfer",
        "hard_negatives": 0.8,
        **EVERYTHING,
    },
    "joint": {
        "kind": "joint",
        "sources": BOTH,
        "start_from": "transfer",
        "hard_negatives": 0.8,
        "freeze": ["stage1"],
        "accumulate": 2,
        **EVERYTHING,
        **RECIPE,
    },
}
BEFORE = {
    "pretrain": (),
    "transfer": ("pretrain",),
    "contrastive": ("pretrain", "transfer"),
    "joint": ("pretrain", "transfer"),
}
"""Each stage with those that it starts from."""
QUICK = ("joint",)
"""Killed twice by default: the one with everything that a stage may have; it starts from what goes before it."""


def main(run: str, records: str, experiment: str, stages: str, kill_at: str) -> None:
    """Train stages, `A,B`. Be killed at a moment from 1; 0: count them into `RUN/STAGE/moments`."""
    from kerasemo.evaluation import scoring
    from kerasemo.runs import checkpoints
    from kerasemo.training import loop, tensorboard
    from kerasemo.training.experiment import TrainingOptions
    from pipelines.core import files
    from pipelines.core.logs import shown_on_stderr

    moments = 0

    def moment() -> None:
        nonlocal moments
        moments += 1
        if moments == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    def killable(owner, name: str) -> None:
        whole = getattr(owner, name)

        def wrapped(*words, **options):
            moment()
            result = whole(*words, **options)
            moment()
            return result

        setattr(owner, name, wrapped)

    for owner, name in (
        (loop.StepLoop, "step"),
        (checkpoints, "save_arrays"),
        (tensorboard.TensorBoardWriter, "flush"),
        (tensorboard.TensorBoardWriter, "write_epoch"),
        (os, "replace"),
        (os, "fsync"),
        (scoring, "write_predictions"),
        (files, "write_json"),
    ):
        killable(owner, name)
    for stage in stages.split(","):
        moments = 0
        options = TrainingOptions(
            stage, experiment, Path(records), Path(run), checkpoint_seconds=0.0
        )
        with shown_on_stderr():
            train_only(options)
        (Path(run) / stage / "moments").write_text(str(moments))


def train_stage(
    run: Path, toy_inputs: tuple[Path, Path], stages: str, kill_at: int = 0
) -> subprocess.CompletedProcess:
    words = [sys.executable, __file__, run, *toy_inputs, stages, str(kill_at)]
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment
    )


def events(logs: Path) -> dict[str, list]:
    """Return (tag, step, value) of every event below each run of a logs folder, in the order of the files."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    events_of = {}
    for folder in sorted(path for path in logs.iterdir() if path.is_dir() and path.name != "speed"):
        run_events = events_of[folder.name] = []
        for path in sorted(folder.glob("events.*")):
            for event in LegacyEventFileLoader(str(path)).Load():
                run_events += [
                    (value.tag, event.step, value.tensor.SerializeToString())
                    for value in event.summary.value
                ]
    return events_of


def outcome(folder: Path) -> dict[str, object]:
    names = ("weights.safetensors", "predictions.csv", "metrics.json")
    return {name: (folder / name).read_bytes() for name in names} | {
        "events": events(folder / "logs")
    }


@pytest.fixture(scope="module")
def toy_inputs(tmp_path_factory) -> tuple[Path, Path]:
    return write_two_sources(tmp_path_factory.mktemp("toy_inputs"), waveform=True, **STAGES)


@pytest.fixture(scope="module")
def whole(toy_inputs, tmp_path_factory):
    """A function that returns a run with a stage, and its earlier stages, without interruption."""
    run = tmp_path_factory.mktemp("whole")

    def with_stage(stage: str) -> Path:
        names = (*BEFORE[stage], stage)
        missing = [name for name in names if not (run / name / "moments").exists()]
        if missing:
            finished = train_stage(run, toy_inputs, ",".join(missing))
            assert finished.returncode == 0, finished.stderr[-3000:]
        return run

    return with_stage


def killed_and_resumed(whole: Path, toy_inputs, stage: str, folder: Path, seeds) -> None:
    moments = int((whole / stage / "moments").read_text())
    for name in BEFORE[stage]:
        folder.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (folder / name).symlink_to(whole / name)
    for seed in seeds:
        # A training that goes on has fewer moments left than a whole one; one that ends before its moment is finished.
        finished = train_stage(
            folder, toy_inputs, stage, random.Random(f"{stage} {seed}").randint(1, moments * 2 // 3)
        )
        assert finished.returncode in (-signal.SIGKILL, 0), finished.stderr[-3000:]
    last = train_stage(folder, toy_inputs, stage)
    assert last.returncode == 0, last.stderr[-3000:]
    ours, theirs = outcome(folder / stage), outcome(whole / stage)
    assert ours["events"].keys() == theirs["events"].keys() >= {"train", "validation"}
    for run, resumed_events in ours["events"].items():
        assert [entry[:2] for entry in resumed_events] == [
            entry[:2] for entry in theirs["events"][run]
        ], run
        assert resumed_events == theirs["events"][run], run
    assert ours == theirs


@pytest.mark.parametrize(
    "stage",
    [
        stage if stage in QUICK else pytest.param(stage, marks=pytest.mark.endurance)
        for stage in STAGES
    ],
)
def test_two_kills_change_nothing(whole, toy_inputs, tmp_path, stage):
    killed_and_resumed(whole(stage), toy_inputs, stage, tmp_path / "run", range(2))


@pytest.mark.endurance
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("stage", STAGES)
def test_twenty_kills_change_nothing(whole, toy_inputs, tmp_path, stage, seed):
    killed_and_resumed(
        whole(stage), toy_inputs, stage, tmp_path / "run", (100 + 2 * seed, 101 + 2 * seed)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
