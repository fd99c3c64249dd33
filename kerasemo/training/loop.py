"""The loop over the steps of a stage, on one device or several replicas.

`keras.Model.fit` cannot take its place: it starts with whole epochs only, and not on several
machines.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasemo.datasets.batches import BatchShare, BatchStream
from kerasemo.training.stage_models import StageModel
from pipelines.core.errors import InputError, RunError


class StepLoop:
    """Makes the steps of a model one by one.

    Args:
        model: A model of `kerasemo.training.stage_models` with its optimiser, built in the scope of
            the strategy.
        strategy: The devices that a batch is split over; None for one device.
        jit_compile: Whether XLA compiles the step.

    Attributes:
        value_names: `loss` and its terms, in the order of the values of a step.
    """

    def __init__(
        self, model: StageModel, *, strategy: tf.distribute.Strategy | None, jit_compile: bool
    ) -> None:
        self.value_names = ("loss", *model.objective.names)
        self._strategy = strategy
        self._stream: BatchStream | None = None

        def step_values(batch: dict[str, tf.Tensor]) -> tf.Tensor:
            values = model.step(batch)
            return ops.stack([values[name] for name in self.value_names])

        if strategy is None:
            self._step = tf.function(step_values, jit_compile=jit_compile)
        else:
            self._step = tf.function(
                lambda batch: strategy.reduce(
                    "MEAN", strategy.run(step_values, args=(batch,)), axis=None
                )
            )

    @property
    def share(self) -> BatchShare:
        """The parts of every batch that this process takes, one for each of its replicas."""
        if self._strategy is None:
            return BatchShare()
        n_replicas = self._strategy.num_replicas_in_sync
        worker, n_workers = worker_position(self._strategy)
        return BatchShare(worker * n_replicas // n_workers, n_replicas // n_workers, n_replicas)

    def iterate(self, stream: BatchStream) -> Iterator[Any]:
        """Return an iterator for `step`.

        Args:
            stream: The parts of each batch one after the other, as `share` says, without end.
        """
        self._stream = stream  # must stay referenced while its dataset is used
        if self._strategy is None:
            return iter(stream.dataset)
        return iter(
            self._strategy.distribute_datasets_from_function(lambda context: stream.dataset)
        )

    def step(self, batches: Iterator[Any]) -> tf.Tensor:
        """Make one step on the next batch and return its values: float32 [values].

        Raises:
            RunError: Another worker of the cluster cannot be reached.
        """
        try:
            return self._step(next(batches))
        except tf.errors.OpError as error:
            raise self._step_error(error) from error

    def fetch(self, values: Sequence[tf.Tensor]) -> np.ndarray:
        """Wait for the values of steps, and return them: float32 [steps, values].

        Raises:
            RunError: Another worker of the cluster cannot be reached.
        """
        try:
            return np.stack([of_step.numpy() for of_step in values])
        except tf.errors.OpError as error:
            raise self._step_error(error) from error

    def check_agreement(self, number: int, description: str) -> None:
        """Wait for all workers, and check that all have the same number.

        Args:
            number: Below 2^24.
            description: What the number stands for, for the message.

        Raises:
            InputError: Another worker has another number.
            RunError: Another worker of the cluster cannot be reached.
        """
        if self._strategy is None or worker_position(self._strategy)[1] == 1:
            return

        @tf.function
        def mean_and_mean_square(value: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            return context.all_reduce("MEAN", tf.stack([value, value * value]))

        try:
            reduced = self._strategy.run(
                mean_and_mean_square, args=(tf.constant(number, tf.float64),)
            )
            mean, mean_square = self._strategy.experimental_local_results(reduced)[0].numpy()
        except tf.errors.OpError as error:
            raise self._step_error(error) from error
        if mean_square != mean * mean:
            raise InputError(
                f"{description} differs from that of the other workers; give all workers the same "
                "run folder, records and command"
            )

    def _step_error(self, error: tf.errors.OpError) -> Exception:
        """Return the error to raise for an error of a step, such as the loss of a worker."""
        if self._strategy is None or worker_position(self._strategy)[1] == 1:
            return error
        reason = str(error.message).splitlines()[0][:200]
        return RunError(
            f"a worker of the cluster stopped or cannot be reached ({reason}); start all workers "
            "again with the same command"
        )


def worker_position(strategy: tf.distribute.Strategy | None) -> tuple[int, int]:
    """Return this process's number among the workers, from 0, and the number of workers.

    Worker 0 is the chief.
    """
    resolver = strategy.cluster_resolver if strategy else None
    if resolver is None:
        return 0, 1
    cluster = resolver.cluster_spec().as_dict()
    tasks = [
        (kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, ())))
    ]
    if len(tasks) <= 1:
        return 0, 1
    return tasks.index((resolver.task_type, resolver.task_id)), len(tasks)


def first_non_finite(values: np.ndarray) -> tuple[int, list[int]] | None:
    """Return the first step with a value that is NaN or infinite, and the columns of these values.

    Args:
        values: float [steps, values].

    Returns:
        None if all are finite.
    """
    steps, columns = np.nonzero(~np.isfinite(values))
    return (int(steps[0]), columns[steps == steps[0]].tolist()) if len(steps) else None


class InterruptionHandler:
    """Notes Ctrl-C and SIGTERM, so that the training can end after a step.

    The second one ends it at once.

    Attributes:
        is_requested: Whether the user has asked to stop.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._handlers_before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Install the handlers, in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            handled = [
                number
                for number in (signal.SIGINT, signal.SIGTERM)
                if signal.getsignal(number) is not signal.SIG_IGN
            ]
            self._handlers_before = {
                number: signal.signal(number, self._handle) for number in handled
            }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Restore the handlers."""
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Give the layers made in the block a dtype policy, such as `mixed_bfloat16`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
