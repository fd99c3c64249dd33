"""What a training is watched by: its best epoch, the bar of a stage, the profile, the error of a loss that breaks."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from kerasemo.config.schema import StageConfig
from pipelines.core import progress
from pipelines.core.errors import InputError

Logs = dict[str, float]


def best_epoch(history: Sequence[Logs], watch: str) -> int:
    """Return the epoch, from 0, with the largest score; of equals the one of the lower validation loss, then the first.

    >>> best_epoch([{"val_ua": 0.5, "val_loss": 0.9}, {"val_ua": 0.5, "val_loss": 0.7}, {"val_ua": 0.2, "val_loss": 0.1}], "val_ua")
    1
    """
    return max(
        range(len(history)), key=lambda epoch: (history[epoch][watch], -history[epoch]["val_loss"])
    )


class StageBar:
    """Counts the images of a stage on standard error, with epoch, step, the loss and its terms, and the last validation score.

    Args:
        bar: What is shown; its unit is images.
        stage: The stage.
        steps: Of an epoch.
    """

    def __init__(self, bar: progress.Bar, stage: StageConfig, *, steps: int):
        self._bar = bar
        self._stage = stage
        self._steps = steps
        self._step = 0
        self._told = time.monotonic()
        self.validated = ""
        """What the last validation gave."""

    def start(self, step: int) -> None:
        """Begin at a step of the stage, from 0."""
        self._step = step
        self._told = time.monotonic()
        self._bar.start((self._steps * self._stage.epochs - step) * self._stage.batch)

    def advance(self, values: Mapping[str, float], steps: int) -> float:
        """Count some steps, the last of which had these values; return how many images a second they were."""
        self._step += steps
        epoch, step = divmod(self._step - 1, self._steps)
        terms = ", ".join(
            f"{name.replace('cross_entropy', 'ce')} {value:.3f}" for name, value in values.items()
        )
        place = f"epoch {epoch + 1}/{self._stage.epochs}, step {step + 1}/{self._steps}"
        self._bar.advance(
            ", ".join(filter(None, (place, terms, self.validated))), steps * self._stage.batch
        )
        now = time.monotonic()
        taken, self._told = now - self._told, now
        return steps * self._stage.batch / max(taken, 1e-9)

    def validate(self, name: str, score: float) -> None:
        """Note a validation, whose time is not the steps'."""
        self.validated = f"validation {name.removeprefix('val_')} {score:.3f}"
        self._told = time.monotonic()


def not_finite(
    stage: StageConfig, place: str, names: Sequence[str], checkpoints: Path
) -> InputError:
    """Return the error of a training in which something became NaN or infinite."""
    kept = sorted(checkpoints.glob("best-*.safetensors"))
    last = f"the last good weights are {kept[-1]}" if kept else "no epoch was finished"
    lower = f"lower the learning rate (--set {stage.name}.learning_rate={stage.learning_rate / 10:g}) with another --run"
    return InputError(
        f"{stage.name}: {place}: {', '.join(names)} became NaN or infinite; {last}; {lower}"
    )


@contextlib.contextmanager
def profile_ended(steps: tuple[int, int] | None) -> Iterator[None]:
    """End the profile with what is in here, also where the last of its steps is never made."""
    try:
        yield
    finally:
        if steps:
            with contextlib.suppress(tf.errors.UnavailableError):  # it has ended
                tf.profiler.experimental.stop()


@contextlib.contextmanager
def profiled(logs: Path, steps: tuple[int, int] | None, step: int) -> Iterator[None]:
    """Profile for TensorBoard from the first to the last of some steps, from 1; everything else passes."""
    if steps and step == steps[0]:
        tf.profiler.experimental.start(str(logs))
    marked = steps and steps[0] <= step <= steps[1]
    with (
        tf.profiler.experimental.Trace("train", step_num=step, _r=1)
        if marked
        else contextlib.nullcontext()
    ):
        yield
    if steps and step == steps[1]:
        with contextlib.suppress(
            tf.errors.UnavailableError
        ):  # none runs: the training went on behind the first step
            tf.profiler.experimental.stop()
