import keras
import numpy as np
import pytest

from kerasemo import monitor
from pipelines.spec import InputError


class Bar:
    """Remembers what a progress bar is told."""

    def __init__(self):
        self.totals, self.notes = [], []

    def start(self, total):
        self.totals.append(total)

    def advance(self, note=""):
        self.notes.append(note)


def epochs_of(callback, *scores, first_epoch=0, loss=()):
    """Tell a callback of epochs with these validation scores; the validation loss is 1 where none is given."""
    for epoch, score in enumerate(scores, start=first_epoch):
        callback.on_epoch_end(epoch, {"loss": 0.5, "val_loss": dict(enumerate(loss)).get(epoch, 1.0), "val_ua": score})


@pytest.fixture
def saves():
    return []


@pytest.fixture
def checkpoints(saves):
    return monitor.Checkpoints(lambda history, best: saves.append((len(history), best)), history=[], watch="val_ua")


def test_every_epoch_is_saved_and_the_best_so_far_is_told(checkpoints, saves):
    epochs_of(checkpoints, 0.2, 0.5, 0.4, 0.6)
    assert saves == [(1, True), (2, True), (3, False), (4, True)] and checkpoints.best_epoch == 3


def test_of_equal_scores_the_lower_loss_is_the_best(checkpoints, saves):
    epochs_of(checkpoints, 0.5, 0.5, 0.5, loss=(0.9, 0.7, 0.8))
    assert [best for _, best in saves] == [True, True, False] and checkpoints.best_epoch == 1


def test_a_training_that_goes_on_remembers_the_best_epoch_of_before(saves):
    history = [{"loss": 1.0, "val_loss": 1.0, "val_ua": score} for score in (0.3, 0.7)]
    checkpoints = monitor.Checkpoints(lambda history, best: saves.append((len(history), best)), history=history, watch="val_ua")
    epochs_of(checkpoints, 0.6, 0.8, first_epoch=2)
    assert saves == [(3, False), (4, True)] and checkpoints.best_epoch == 3
    assert len(history) == 2, "the caller's list stays as it was"


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_loss_that_breaks_ends_the_training_and_is_not_saved(checkpoints, saves, broken):
    epochs_of(checkpoints, 0.2)
    with pytest.raises(InputError, match="epoch 2: contrastive, loss became NaN or infinite; .* lower the learning rate"):
        checkpoints.on_epoch_end(1, {"loss": broken, "contrastive": broken, "val_loss": 1.0, "val_ua": 0.9})
    assert saves == [(1, True)] and len(checkpoints.history) == 1


def test_the_history_is_ready_for_json(checkpoints):
    checkpoints.on_epoch_end(0, {"loss": np.float32(0.5), "val_loss": np.float64(1), "val_ua": np.float32(0.25)})
    assert checkpoints.history == [{"loss": 0.5, "val_loss": 1.0, "val_ua": 0.25}]
    assert {type(value) for value in checkpoints.history[0].values()} == {float}


def test_the_bar_counts_the_steps_that_are_left():
    bar = Bar()
    shown = monitor.ProgressBar(bar, steps=3, first_epoch=1, epochs=3, watch="val_ua")
    shown.on_train_begin()
    for epoch, score in ((1, 0.25), (2, 0.5)):
        for step in range(3):
            shown.on_train_batch_end(step, {})
        shown.on_epoch_end(epoch, {"val_ua": score})
    assert bar.totals == [6]
    assert bar.notes == ["epoch 2/3"] * 3 + ["epoch 3/3, validation ua 0.250"] * 3


def test_a_fit_with_everything_around_it(tmp_path, saves):
    """Validation scores reach the history, and TensorBoard, with every term and the rate; epochs go on where they stood."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 8)), loss="mse")
    asked = []

    def scores():
        asked.append(1)
        return {"ua": 0.1 * len(asked)}

    checkpoints = monitor.Checkpoints(lambda history, best: saves.append(best), history=[{"val_ua": 0.15, "val_loss": 1.0}], watch="val_ua")
    bar = Bar()
    model.fit(
        np.ones((4, 2)),
        np.ones((4, 1)),
        batch_size=2,
        initial_epoch=1,
        epochs=3,
        validation_data=(np.ones((2, 2)), np.ones((2, 1))),
        verbose=0,
        callbacks=[
            monitor.Validation(scores),
            checkpoints,
            monitor.tensorboard(tmp_path),
            monitor.ProgressBar(bar, steps=2, first_epoch=1, epochs=3, watch="val_ua"),
        ],
    )
    assert saves == [False, True] and [logs["val_ua"] for logs in checkpoints.history] == pytest.approx([0.15, 0.1, 0.2])
    assert set(checkpoints.history[1]) == {"loss", "val_loss", "val_ua"}
    assert bar.totals == [4] and len(bar.notes) == 4
    written = {}
    for side in ("train", "validation"):
        events = EventAccumulator(str(tmp_path / side)).Reload()
        for tag in events.Tags()["tensors"]:
            written[f"{side} {tag}"] = [event.step for event in events.Tensors(tag)]
    names = ("train epoch_loss", "train epoch_learning_rate", "validation epoch_loss", "validation epoch_ua")
    assert all(written[name] == [1, 2] for name in names)
