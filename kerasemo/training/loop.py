"""The loop over the steps of a stage: one compiled call a step, on one device or split over the replicas of a strategy.

It stands in the place of `fit`, which begins with whole epochs only and does not run on several machines.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasemo.datasets.batches import Share
from kerasemo.training.stage_models import StageModel
from pipelines.core.errors import InputError


class Loop:
    """Makes the steps of a model one by one.

    Args:
        model: One of `kerasemo.training.stage_models`, with its optimiser, made in the scope of the strategy.
        strategy: What a batch is split over; None: one device.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(
        self, model: StageModel, *, strategy: tf.distribute.Strategy | None, jit_compile: bool
    ):
        self.names = ("loss", *model.term_names())
        self._strategy = strategy

        def values(batch: dict):
            logs = model.step(batch)
            return ops.stack([logs[name] for name in self.names])

        if strategy is None:
            self._step = tf.function(values, jit_compile=jit_compile)
        else:
            self._step = tf.function(
                lambda batch: strategy.reduce(
                    "MEAN", strategy.run(values, args=(batch,)), axis=None
                )
            )

    @property
    def share(self) -> Share:
        """Which parts of every batch are this process's, one for each of its replicas."""
        if self._strategy is None:
            return Share()
        total, (worker, workers) = (
            self._strategy.num_replicas_in_sync,
            place_in_cluster(self._strategy),
        )
        return Share(worker * total // workers, total // workers, total)

    def feed(self, dataset: tf.data.Dataset) -> Iterator:
        """Return an iterator for `step`; `dataset` holds the parts of each batch in turn, as `share` says, without end."""
        self._fed = dataset  # what it holds is needed as long as the iterator, which is asked by a strategy alone
        if self._strategy is None:
            return iter(dataset)
        return iter(self._strategy.distribute_datasets_from_function(lambda context: dataset))

    def step(self, feed: Iterator) -> tf.Tensor:
        """Make one step on the next batch of `feed`; return the value of each of `names` over the whole batch, float32 [terms].

        Raises:
            InputError: Another worker of the cluster cannot be reached any more.
        """
        try:
            return self._step(next(feed))
        except tf.errors.OpError as error:
            raise self._lost(error) from error

    def fetch(self, values: Sequence[tf.Tensor]) -> np.ndarray:
        """Wait for the values of some steps, float32 [steps, terms]; raises what `step` does."""
        try:
            return np.stack([value.numpy() for value in values])
        except tf.errors.OpError as error:
            raise self._lost(error) from error

    def agree(self, number: int, what: str) -> None:
        """Wait for all workers, and check that all have come with the same number.

        Args:
            number: Below 2^24.
            what: What it stands for, for the error.

        Raises:
            InputError: They have not, or one cannot be reached any more.
        """
        if self._strategy is None or place_in_cluster(self._strategy)[1] == 1:
            return

        @tf.function
        def mean_and_square(value):
            context = tf.distribute.get_replica_context()
            return context.all_reduce("MEAN", tf.stack([value, value * value]))

        try:
            reduced = self._strategy.run(mean_and_square, args=(tf.constant(number, tf.float64),))
            mean, square = self._strategy.experimental_local_results(reduced)[0].numpy()
        except tf.errors.OpError as error:
            raise self._lost(error) from error
        if square != mean * mean:
            raise InputError(
                f"{what} is not that of the other workers; all need the same run folder, records and command"
            )

    def _lost(self, error: tf.errors.OpError) -> Exception:
        """Return what an error of a step means to the user: among several workers, that one of them is gone."""
        if self._strategy is None or place_in_cluster(self._strategy)[1] == 1:
            return error
        reason = str(error.message).splitlines()[0][:200]
        return InputError(
            f"a worker of the cluster stopped or cannot be reached ({reason}); start all of them again with the same command"
        )


def place_in_cluster(strategy: tf.distribute.Strategy | None) -> tuple[int, int]:
    """Return this process's number among the workers of a strategy, from 0, and how many there are; number 0 is the chief."""
    resolver = strategy and strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict() if resolver else {}
    tasks = [
        (kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, ())))
    ]
    return (
        (tasks.index((resolver.task_type, resolver.task_id)), len(tasks))
        if len(tasks) > 1
        else (0, 1)
    )


def first_broken(values: np.ndarray) -> tuple[int, list[int]] | None:
    """Return the first step whose values are not all finite, and which of them are not; None when all are.

    Args:
        values: float [steps, terms].
    """
    steps, terms = np.nonzero(~np.isfinite(values))
    return (int(steps[0]), terms[steps == steps[0]].tolist()) if len(steps) else None


class Interruption:
    """Takes note of Ctrl-C and of SIGTERM, so that a step ends before the training does; the second one is not waited for."""

    def __init__(self):
        self.asked = False
        self._before = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            heard = [
                number
                for number in (signal.SIGINT, signal.SIGTERM)
                if signal.getsignal(number) is not signal.SIG_IGN
            ]
            self._before = {number: signal.signal(number, self._hear) for number in heard}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, *_) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Let the layers that are made here compute by a policy of Keras, such as `mixed_bfloat16`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
