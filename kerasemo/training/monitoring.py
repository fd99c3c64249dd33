"""Watch a training: its best epoch, progress bar, profile, and losses that are NaN."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from kerasemo.config.schema import StageConfig
from kerasemo.runs.checkpoints import CheckpointFolder
from pipelines.core import progress
from pipelines.core.errors import RunError


def best_epoch(history: Sequence[Mapping[str, float]], watched: str) -> int:
    """Return the epoch, from 0, with the highest score.

    Of equal scores the epoch with the lower validation loss is the best, then the earlier epoch.

    >>> history = [{"val_ua": 0.5, "val_loss": 0.9}, {"val_ua": 0.5, "val_loss": 0.7}]
    >>> best_epoch([*history, {"val_ua": 0.2, "val_loss": 0.1}], "val_ua")
    1
    """
    return max(
        range(len(history)),
        key=lambda epoch: (history[epoch][watched], -history[epoch]["val_loss"]),
    )


class StageProgress:
    """Shows epoch, step, losses, the last validation score and the rate of a stage's training.

    Args:
        bar: The progress bar, which counts images.
        config: The settings of the stage.
        steps: Steps in an epoch.
    """

    def __init__(self, bar: progress.ProgressBar, config: StageConfig, *, steps: int) -> None:
        self._bar = bar
        self._config = config
        self._steps = steps
        self._step = 0
        self._last_time = time.monotonic()
        self._validation_text = ""

    def start(self, step: int) -> None:
        """Start at a step of the stage, from 0."""
        self._step = step
        self._last_time = time.monotonic()
        self._bar.start((self._steps * self._config.epochs - step) * self._config.batch)

    def advance(self, values: Mapping[str, float], steps: int) -> float:
        """Count steps, and return the rate of these steps in images per second.

        Args:
            values: The losses of the last of the steps.
            steps: The number of steps.
        """
        self._step += steps
        epoch, step = divmod(self._step - 1, self._steps)
        losses = ", ".join(
            f"{name.replace('cross_entropy', 'ce')} {value:.3f}" for name, value in values.items()
        )
        place = f"epoch {epoch + 1}/{self._config.epochs}, step {step + 1}/{self._steps}"
        note = ", ".join(filter(None, (place, losses, self._validation_text)))
        self._bar.advance(note, steps * self._config.batch)
        now = time.monotonic()
        seconds, self._last_time = now - self._last_time, now
        return steps * self._config.batch / max(seconds, 1e-9)

    def set_validation(self, name: str, score: float) -> None:
        """Show a validation score.

        The time of the validation does not count for the rate of the steps.
        """
        self._validation_text = f"validation {name.removeprefix('val_')} {score:.3f}"
        self._last_time = time.monotonic()


def non_finite_error(
    config: StageConfig, place: str, names: Sequence[str], checkpoints: CheckpointFolder
) -> RunError:
    """Return the error for a training in which a value became NaN or infinite.

    Args:
        config: The settings of the stage.
        place: Epoch and step.
        names: The names of the values.
        checkpoints: The checkpoints of the training.
    """
    best_paths = checkpoints.best_paths()
    last = f"the last good weights are {best_paths[0]}" if best_paths else "no epoch was finished"
    return RunError(
        f"{config.name}: {place}: {', '.join(names)} became NaN or infinite; {last}; lower the "
        f"learning rate (--set {config.name}.learning_rate={config.learning_rate / 10:g}) with "
        "another --run"
    )


@contextlib.contextmanager
def profile_ended(steps: tuple[int, int] | None) -> Iterator[None]:
    """End the profile with the block, even if the last profiled step was never made."""
    try:
        yield
    finally:
        if steps:
            _stop_profiler()


@contextlib.contextmanager
def profiled_step(logs: Path, steps: tuple[int, int] | None, step: int) -> Iterator[None]:
    """Profile the block for TensorBoard if its step is one of the profiled steps.

    Args:
        logs: The folder of the event files.
        steps: The first and the last profiled step, from 1; None: no step is profiled.
        step: The step of the block, from 1.
    """
    if steps and step == steps[0]:
        tf.profiler.experimental.start(str(logs))
    if steps and steps[0] <= step <= steps[1]:
        with tf.profiler.experimental.Trace("train", step_num=step, _r=1):
            yield
    else:
        yield
    if steps and step == steps[1]:
        _stop_profiler()


def _stop_profiler() -> None:
    # A training that resumed after the first profiled step runs no profiler.
    with contextlib.suppress(tf.errors.UnavailableError):
        tf.profiler.experimental.stop()
