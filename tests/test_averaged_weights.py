"""The benchmark of averaged weights and mirror images compares answers of one training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_sets import write_experiment, write_set

from kerasemo import answered, reproduce
from pipelines.spec import EMOTIONS

ROOT = Path(__file__).resolve().parents[1]
STAGE = {"kind": "supervised", "sources": ["a/audio"], "batch": 8, "epochs": 1, "steps": 24, "learning_rate": 3e-3}
"""One epoch, which is kept whatever it is worth."""


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records")
    write_set(out, "a/audio", speakers=4, takes=3)
    return out


def trained(records: Path, folder: Path, *, folds: tuple[int, ...] = (0, 1), **settings) -> Path:
    """Train a network for each of some folds; return the run folder."""
    experiment = write_experiment(folder / "toy.toml", speech={**STAGE, **settings})
    reproduce.reproduce(reproduce.Options(str(experiment), records, folder / "run", folds=folds))
    return folder / "run"


def ran(run: Path, records: Path, *more: str, stage: str = "speech", expected: int = 0) -> str:
    words = [sys.executable, "benchmarks/averaged_weights.py", run, "--stage", stage, "--records", records, "--out", run / "both", *more]
    environment = {**os.environ, "COLUMNS": "200"}
    finished = subprocess.run([*map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert finished.returncode == expected, finished.stdout + finished.stderr[-2000:]
    assert "Traceback" not in finished.stderr
    return finished.stdout + finished.stderr


def answers_of(path: Path, stage: str, *, source: str = "a/audio") -> list:
    pool = answered.read(path)[stage, source].pool
    return sorted(zip(pool.clips, pool.answers[0].tolist(), strict=True))


def test_both_are_of_one_training(records, tmp_path):
    """The average is what the run kept, the last weights are those of the same training without an average."""
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    averaged, last = trained(records, tmp_path / "with", ema=0.9), trained(records, tmp_path / "without")
    said = ran(averaged, records)
    assert "fold 0, seed 0: " in said and "fold 1, seed 0: " in said and "averaged \N{MINUS SIGN} last" in said
    both = averaged / "both" / "a-audio.csv"
    assert answers_of(both, "averaged") == answers_of(averaged / "tables" / "answers.csv", "speech")
    assert answers_of(both, "last") == answers_of(last / "tables" / "answers.csv", "speech")
    assert answers_of(both, "last") != answers_of(both, "averaged")
    assert {(own.side, own.protocol, own.stamps) for own in answered.read(both).values()} == {("validation", "speaker-independent", ())}


@pytest.mark.endurance
def test_what_is_frozen_has_no_average_and_other_kinds_are_refused(records, tmp_path):
    (tmp_path / "frozen").mkdir()
    (tmp_path / "pairs").mkdir()
    (tmp_path / "last").mkdir()
    last = trained(records, tmp_path / "last")
    assert "trained without a moving average of the weights; name a stage that has `ema`" in ran(last, records, expected=1)
    frozen = trained(records, tmp_path / "frozen", ema=0.9, freeze=["stage1"])
    ran(frozen, records)
    both = frozen / "both" / "a-audio.csv"
    assert answers_of(both, "averaged") == answers_of(frozen / "tables" / "answers.csv", "speech")
    assert "no finished network of stage 'voices'" in ran(frozen, records, stage="voices", expected=1)
    for state in frozen.glob("stages/*/checkpoints/step-*"):
        state.unlink()
    assert "no state after epoch 1, the last; train the stage again" in ran(frozen, records, expected=1)
    pairs = trained(records, tmp_path / "pairs", ema=0.9, kind="contrastive")
    assert "a contrastive stage; name a supervised one" in ran(pairs, records, expected=1)


@pytest.mark.endurance
def test_a_mirror_image_is_asked_of_the_network_that_was_kept(records, tmp_path):
    """What the run kept was answered with it, so the benchmark's plain answers are those of a run without."""
    write_set(tmp_path / "records", "a/visual", speakers=4, emotions=EMOTIONS[:7], takes=6, items=1)
    run = trained(tmp_path / "records", tmp_path, sources=["a/visual"], test_mirror=True, steps=12)
    assert "mirrored" in ran(run, tmp_path / "records", "--part", "mirror")
    both = run / "both" / "a-visual.csv"
    assert answers_of(both, "mirrored", source="a/visual") == answers_of(run / "tables" / "answers.csv", "speech", source="a/visual")
    assert answers_of(both, "plain", source="a/visual") != answers_of(both, "mirrored", source="a/visual")
    (tmp_path / "voices").mkdir()
    voices = trained(records, tmp_path / "voices", folds=(0,))
    assert "only faces have mirror images" in ran(voices, records, "--part", "mirror", expected=1)


@pytest.mark.endurance
def test_stamps_are_kept(tmp_path):
    """Of a publisher's split with copies: those of test clips were left out."""
    write_set(
        tmp_path / "records", "fer/visual", speakers=4, items=1, takes=3, published=("train", "train", "validation", "test"), copies=4
    )
    run = trained(tmp_path / "records", tmp_path, folds=(0,), ema=0.9, sources=["fer/visual"])
    ran(run, tmp_path / "records")
    kept, both = (answered.read(path) for path in (run / "tables" / "answers.csv", run / "both" / "fer-visual.csv"))
    stamp = both["averaged", "fer/visual"].stamps
    assert stamp[0].startswith("deduplicated: ") and stamp[0] in kept["speech", "fer/visual"].stamps
    assert answers_of(run / "both" / "fer-visual.csv", "averaged", source="fer/visual") == answers_of(
        run / "tables" / "answers.csv", "speech", source="fer/visual"
    )
