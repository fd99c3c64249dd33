"""Which epoch is kept, what the bar says, what is profiled, and what a broken loss is told as."""

import pytest
import tensorflow as tf

from helpers.messages import mentions
from kerasemo.config.schema import StageConfig
from kerasemo.runs.checkpoints import CheckpointFolder
from kerasemo.training import monitoring


@pytest.mark.parametrize(
    ("scores", "losses", "best"),
    [
        ((0.2, 0.5, 0.4, 0.6), (1, 1, 1, 1), 3),
        ((0.2, 0.6, 0.4, 0.5), (1, 9, 0, 0), 1),
        ((0.5, 0.5, 0.5), (0.9, 0.7, 0.8), 1),
        ((0.5, 0.5), (0.7, 0.7), 0),
    ],
)
def test_the_best_epoch_has_the_largest_score_then_the_lowest_loss_then_is_the_first(
    scores, losses, best
):
    history = [
        {"val_pair_auc": score, "val_loss": loss, "loss": 0.0}
        for score, loss in zip(scores, losses, strict=True)
    ]
    assert monitoring.best_epoch(history, "val_pair_auc") == best


class Bar:
    """Remembers what a progress bar is told."""

    def __init__(self):
        self.told = []

    def start(self, total):
        self.told.append(total)

    def advance(self, note="", count=1):
        self.told.append((count, note))


STAGE = StageConfig("joint", "joint", ("a/visual", "b/visual"), epochs=3, batch=8)


def test_progress_bar_counts_the_remaining_images(monkeypatch):
    clock = iter([0.0, 10.0, 12.0, 13.0, 17.0])
    monkeypatch.setattr(monitoring.time, "monotonic", lambda: next(clock))
    bar = Bar()
    progress = monitoring.StageProgress(bar, STAGE, steps=5)
    progress.start(4)
    assert progress.advance({"loss": 1.5, "cross_entropy_a_visual": 0.25}, 1) == pytest.approx(
        8 / 2
    )
    progress.set_validation("val_ua", 0.125)
    assert progress.advance({"loss": 1.0}, 2) == pytest.approx(16 / 4), (
        "the time of the validation is not the steps'"
    )
    assert bar.told == [
        88,
        (8, "epoch 1/3, step 5/5, loss 1.500, ce_a_visual 0.250"),
        (16, "epoch 2/3, step 2/5, loss 1.000, validation ua 0.125"),
    ]


def test_error_of_a_non_finite_loss_names_the_last_good_weights(tmp_path):
    error = monitoring.non_finite_error(
        STAGE, "epoch 1, step 2 of 5", ["loss", "contrastive"], CheckpointFolder(tmp_path)
    )
    words = ("joint", "epoch 1, step 2 of 5", "loss, contrastive", "NaN", "no epoch")
    assert mentions(str(error), *words)
    for epoch in (2, 10):
        (tmp_path / f"best-{epoch:08d}.safetensors").touch()
    assert f"{tmp_path}/best-00000010.safetensors" in str(
        monitoring.non_finite_error(STAGE, "", ["loss"], CheckpointFolder(tmp_path))
    )
    assert "--set joint.learning_rate=0.0001" in str(error)


@pytest.mark.parametrize(
    ("steps", "trained_steps"),
    [((3, 4), range(1, 7)), ((3, 4), range(4, 7)), (None, range(1, 4)), ((9, 9), range(1, 4))],
)
def test_requested_steps_are_profiled(tmp_path, monkeypatch, steps, trained_steps):
    """Also where the training goes on behind the first of them: then there is nothing to end."""
    calls = []

    def stop():
        calls.append("stop")
        if "start" not in calls:
            raise tf.errors.UnavailableError(None, None, "no profiler is running")

    monkeypatch.setattr(tf.profiler.experimental, "start", lambda folder: calls.append("start"))
    monkeypatch.setattr(tf.profiler.experimental, "stop", stop)
    for step in trained_steps:
        with monitoring.profiled_step(tmp_path, steps, step):
            calls.append(step)
    expected = {
        (1, 7): [1, 2, "start", 3, 4, "stop", 5, 6],
        (4, 7): [4, "stop", 5, 6],
        (1, 4): [1, 2, 3],
    }
    assert calls == expected[trained_steps.start, trained_steps.stop]
