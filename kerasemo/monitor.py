"""What happens around the steps of a training: validation by clips, checkpoints, TensorBoard, the progress bar."""

import math
from collections.abc import Callable
from pathlib import Path

import keras

from pipelines import progress
from pipelines.spec import InputError

Logs = dict[str, float]


def check_finite(epoch: int, logs: Logs) -> None:
    """Raise an InputError that names the terms and scores of an epoch that are NaN or infinite."""
    broken = sorted(name for name, value in logs.items() if not math.isfinite(value))
    if broken:
        names = ", ".join(broken)
        raise InputError(f"epoch {epoch + 1}: {names} became NaN or infinite; the last good epoch is kept; lower the learning rate")


class Validation(keras.callbacks.Callback):
    """Adds the scores of the validation clips to every epoch's logs."""

    def __init__(self, scores: Callable[[], Logs]):
        super().__init__()
        self._scores = scores

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        check_finite(epoch, logs)  # a network of NaN has no scores
        logs.update({f"val_{name}": value for name, value in self._scores().items()})


class Checkpoints(keras.callbacks.Callback):
    """Keeps the history of a training, and saves it with the state after every epoch.

    Args:
        save: Called as `save(history, best)`; `best` tells whether this epoch is the best so far.
        history: The logs of the epochs before, when a training goes on.
        watch: What the best epoch is chosen by, the largest; of equals the one of the lower validation loss.
    """

    def __init__(self, save: Callable[[list[Logs], bool], None], *, history: list[Logs], watch: str):
        super().__init__()
        self._save = save
        self.history = list(history)
        self._watch = watch

    @property
    def best_epoch(self) -> int:
        """The best epoch, from 0."""
        return best_epoch(self.history, self._watch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        check_finite(epoch, logs)
        self.history.append({name: float(value) for name, value in logs.items()})
        self._save(self.history, self.best_epoch == epoch)


def best_epoch(history: list[Logs], watch: str) -> int:
    """Return the epoch, from 0, with the largest score; of equals the one of the lower validation loss."""
    return max(range(len(history)), key=lambda epoch: (history[epoch][watch], -history[epoch]["val_loss"]))


class ProgressBar(keras.callbacks.Callback):
    """Counts the steps of a stage on standard error, with the validation score of the last epoch."""

    def __init__(self, bar: progress.Bar, *, steps: int, first_epoch: int, epochs: int, watch: str):
        super().__init__()
        self._bar = bar
        self._steps = steps * (epochs - first_epoch)
        self._epochs = epochs
        self._watch = watch
        self._note = f"epoch {first_epoch + 1}/{epochs}"

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._bar.start(self._steps)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._bar.advance(self._note)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        name = self._watch.removeprefix("val_")
        self._note = f"epoch {min(epoch + 2, self._epochs)}/{self._epochs}, validation {name} {logs[self._watch]:.3f}"


def tensorboard(folder: Path) -> keras.callbacks.TensorBoard:
    """Return the callback that writes every term, score and the learning rate of each epoch for TensorBoard."""
    return keras.callbacks.TensorBoard(str(folder), write_graph=False, update_freq="epoch", profile_batch=0)
