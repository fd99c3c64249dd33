import os
import signal
import types

import numpy as np
import pytest
import tensorflow as tf

from kerasemo.datasets.batches import BatchShare
from kerasemo.training import loop


class Model:
    """What the loop asks of a model: a step that gives the mean of a batch, and its square."""

    objective = types.SimpleNamespace(names=["square"])

    def step(self, batch):
        mean = tf.reduce_mean(batch["value"])
        return {"square": mean * mean, "loss": mean}


def test_step_returns_its_values_in_the_order_of_their_names():
    step_loop = loop.StepLoop(Model(), strategy=None, jit_compile=False)
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
def test_first_non_finite_step_and_its_terms_are_found(values, expected):
    assert loop.first_non_finite(np.array(values, np.float32)) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_interrupt_is_noted_and_second_interrupt_is_raised(number):
    before = signal.getsignal(number)
    with loop.InterruptionHandler() as interruption:
        assert not interruption.is_requested
        os.kill(os.getpid(), number)
        assert interruption.is_requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


class Cluster:
    """A strategy as far as its place in a cluster goes."""

    def __init__(self, kind, index, **tasks):
        self.num_replicas_in_sync = 6
        self.cluster_resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(tasks), task_type=kind, task_id=index
        )


def test_place_in_a_cluster():
    tasks = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    places = [
        loop.worker_position(Cluster(kind, index, **tasks))
        for kind, index in (("chief", 0), ("worker", 0), ("worker", 1))
    ]
    assert places == [(0, 3), (1, 3), (2, 3)]
    assert loop.worker_position(None) == (0, 1)
    assert loop.worker_position(Cluster("worker", 0, worker=["a:1"])) == (0, 1)
    step_loop = loop.StepLoop.__new__(loop.StepLoop)
    step_loop._strategy = Cluster("worker", 1, **tasks)
    assert step_loop.share == BatchShare(4, 2, 6)


def test_precision_applies_to_layers_made_within_the_context():
    import keras

    before = keras.config.dtype_policy().name
    with loop.dtype_policy("mixed_bfloat16"):
        assert keras.layers.Dense(2).dtype_policy.name == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == before
