"""The loop of steps, interruptions, and the place of a worker in a cluster."""

import os
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from kerasemo.datasets.batches import BatchShare
from kerasemo.training import loop


class MeanModel:
    """A model with the interface that the loop uses; its losses are the mean and its square."""

    objective = types.SimpleNamespace(names=["square"])

    def step(self, batch):
        mean = tf.reduce_mean(batch["value"])
        return {"square": mean * mean, "loss": mean}


def test_values_of_a_step_are_in_the_order_of_their_names():
    step_loop = loop.StepLoop(MeanModel(), strategy=None, jit_compile=False)
    dataset = tf.data.Dataset.from_tensor_slices({"value": [[1.0, 3.0], [5.0, 7.0]]})
    batches = step_loop.iterate(types.SimpleNamespace(dataset=dataset))
    assert step_loop.value_names == ("loss", "square")
    assert [step_loop.step(batches).numpy().tolist() for _ in range(2)] == [[2, 4], [6, 36]]
    assert step_loop.share == BatchShare(0, 1, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1, 2], [3, 4]], None),
        ([[1, 2], [3, np.nan], [np.nan, np.nan]], (1, [1])),
        ([[np.inf, -np.inf], [3, np.nan]], (0, [0, 1])),
    ],
)
def test_first_non_finite_returns_the_step_and_its_columns(values, expected):
    assert loop.first_non_finite(np.array(values, np.float32)) == expected


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_first_interrupt_is_noted_and_second_stops_at_once(signal_number):
    former_handler = signal.getsignal(signal_number)
    with loop.InterruptionHandler() as interruption:
        assert not interruption.is_requested
        os.kill(os.getpid(), signal_number)
        assert interruption.is_requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal_number)
    assert signal.getsignal(signal_number) is former_handler


class ClusterStrategy:
    """A strategy of which only the place in a cluster is used."""

    def __init__(self, task_type, task_index, **tasks):
        self.num_replicas_in_sync = 6
        self.cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(tasks), task_type=task_type, task_id=task_index
        )


def test_position_of_a_worker_follows_the_order_chief_then_workers():
    tasks = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    positions = [
        loop.worker_position(ClusterStrategy(task_type, task_index, **tasks))
        for task_type, task_index in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert positions == [(0, 3), (1, 3), (2, 3)]
    assert loop.worker_position(None) == (0, 1)
    assert loop.worker_position(ClusterStrategy("worker", 0, worker=["a:1"])) == (0, 1)
    step_loop = loop.StepLoop.__new__(loop.StepLoop)
    step_loop._strategy = ClusterStrategy("worker", 1, **tasks)
    assert step_loop.share == BatchShare(4, 2, 6)


def test_dtype_policy_holds_only_within_the_block():
    import keras

    former_policy = keras.config.dtype_policy().name
    with loop.dtype_policy("mixed_bfloat16"):
        assert keras.layers.Dense(2).dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == former_policy
