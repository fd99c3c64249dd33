"""Replicas do not change the mathematics: steps on two equal those on one device with the same global batch.

The optimiser is SGD, because Adam hides an error of scale. Logical devices must be set before TensorFlow starts, so each
set of devices is a process of its own: this file, run as a script, trains every case and writes an npz.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
STEPS = 4
KINDS = {  # case -> kind of stage, number of sources
    "supervised": ("supervised", 1),
    "contrastive of one source": ("contrastive", 1),
    "contrastive": ("contrastive", 2),
    "contrastive of three": ("contrastive", 3),
    "joint": ("joint", 2),
    "joint of three": ("joint", 3),
}
CASES = [(case, 0.0) for case in KINDS] + [(case, 0.4) for case in ("supervised", "contrastive", "joint", "joint of three")]
FIRST = [("supervised", 0.4), ("contrastive", 0.4), ("joint", 0.4)]
PLANTED = ("reduced by hand", 0.0)


def train(strategy, case: str, dropout: float) -> dict[str, np.ndarray]:
    """Train `STEPS` steps, an epoch each, and one epoch of two steps; return weights and logs after each epoch."""
    import contextlib

    import keras
    from keras import ops
    from sources import SIZE, random_source, whole

    from kerasemo import data, losses, plans, stages
    from kerasemo.config import Network
    from kerasemo.model import build_network
    from pipelines.spec import Spec

    class ReducedByHand(stages.SupervisedModel):
        """What is forbidden: a mean that knows nothing of replicas."""

        def compute_loss(self, batch, training=True):
            logits = losses.mask_logits(self._forward(batch, training)["logits"], batch["mask"])
            loss = ops.mean(losses.cross_entropy(losses.smoothed_targets(batch["label"], batch["mask"]), logits))
            self._log({"loss": loss}, ops.shape(batch["label"])[0])
            return loss

    kind, count = KINDS.get(case, ("supervised", 1))
    emotions = (("anger", "fear", "sadness"), ("anger", "fear", "sadness", "calm"), ("fear", "sadness", "surprise"))
    names = ("a/visual", "b/visual", "c/audio")
    sources = [random_source(names[i], emotions[i] * (9 - 2 * i), items=(2, 1, 3), seed=i) for i in range(count)]
    sides = [whole(source) for source in sources]
    plan = plans.labelled_plan(sides[0], batch=12, seed=3) if kind == "supervised" else plans.pair_plan(sides, pairs=6, seed=3)
    keras.utils.set_random_seed(7)
    with strategy.scope() if strategy else contextlib.nullcontext():
        network = build_network(Network(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=dropout), spec=Spec(face_size=SIZE))
        model_of = stages.MODELS[kind] if case in KINDS else ReducedByHand
        model = model_of(*network, sources=[source.name for source in sources], label_smoothing=0.1, contrastive_weight=2.0)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
    for source in sources:
        model.get_layer("normalization").fit(source.name.partition("/")[2], source.inputs)
    found = {}

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            found.update({f"{epoch} weight {weight.path}": ops.convert_to_numpy(weight) for weight in model.weights})
            found.update({f"{epoch} log {name}": value for name, value in logs.items()})

    batches, _ = data.batches(sources, plan)
    model.fit(batches, steps_per_epoch=1, epochs=STEPS, shuffle=False, verbose=0, callbacks=[Keep()])
    batches, _ = data.batches(sources, plan, first_epoch=1)
    last = {"initial_epoch": STEPS, "epochs": STEPS + 1}
    model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0, callbacks=[Keep()], **last)
    tested = model.evaluate(data.batches(sources, plan, epochs=1)[0], return_dict=True, verbose=0)
    return found | {f"tested log {name}": value for name, value in tested.items()}


def main(devices: str, out: str) -> None:
    import tensorflow as tf

    if devices == "one":
        strategy, cases = None, [*CASES, PLANTED]
    elif devices == "two":
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy, cases = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), [*CASES, PLANTED]
    else:
        from kerasemo.chain import strategy_for

        strategy, cases = strategy_for(2), FIRST
    assert strategy is None or strategy.num_replicas_in_sync == 2
    arrays = {}
    for case, dropout in cases:
        arrays |= {f"{case} {dropout} {name}": value for name, value in train(strategy, case, dropout).items()}
    np.savez(out, **arrays)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every case, by devices: the npz of a process each."""
    folder = tmp_path_factory.mktemp("replicas")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    processes = {
        devices: subprocess.Popen(
            [sys.executable, __file__, devices, folder / f"{devices}.npz"], stderr=subprocess.PIPE, text=True, env=environment
        )
        for devices in ("one", "two", "chain")
    }
    for devices, process in processes.items():
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, f"{devices}: {errors[-4000:]}"
    return {devices: dict(np.load(folder / f"{devices}.npz")) for devices in processes}


def of(arrays: dict[str, np.ndarray], case: str, dropout: float, rest: str = "") -> dict[str, np.ndarray]:
    start = f"{case} {dropout} {rest}"
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}


def largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys() and one
    return max(np.abs(one[name].astype(np.float64) - other[name]).max() for name in one)


@pytest.mark.parametrize(("devices", "case", "dropout"), [("two", *case) for case in CASES] + [("chain", *case) for case in FIRST])
def test_two_replicas_equal_one_device(trained, devices, case, dropout):
    one, two = (of(trained[name], case, dropout) for name in ("one", devices))
    for step in [*map(str, range(STEPS + 1)), "tested"]:
        names = [name for name in one if name.startswith(step)]
        assert any(" log loss" in name for name in names)
        assert largest_difference({name: one[name] for name in names}, {name: two[name] for name in names}) < 1e-6, step


@pytest.mark.parametrize(("case", "dropout"), CASES)
def test_the_steps_that_are_compared_train(trained, case, dropout):
    """Else equality would say nothing: every step moves the weights, and dropout moves them elsewhere."""
    after = [of(trained["one"], case, dropout, f"{step} weight ") for step in range(STEPS + 1)]
    assert all(largest_difference(before, now) > 1e-4 for before, now in itertools.pairwise(after))
    if dropout and not case.startswith("contrastive"):  # whose loss is of the embedding, before the dropout
        assert largest_difference(after[0], of(trained["one"], case, 0.0, "0 weight ")) > 1e-4


@pytest.mark.parametrize("case", KINDS)
def test_every_term_is_logged(trained, case):
    kind, count = KINDS[case]
    names = [f"cross_entropy_{name}" for name in ("a_visual", "b_visual", "c_audio")[:count]] if kind != "contrastive" else []
    expected = {"loss", *names, *(["contrastive"] if kind != "supervised" else [])}
    logs = of(trained["two"], case, 0.0, "0 log ")
    assert set(logs) == expected
    total = sum(logs[name] for name in names) + (0 if kind == "supervised" else logs["contrastive"] * (2 if kind == "joint" else 1))
    assert logs["loss"] == pytest.approx(total, rel=1e-5) and logs["loss"] > 0.01


def test_a_loss_reduced_by_hand_is_caught(trained):
    """Gradients are summed over replicas, so a mean that knows nothing of them makes steps of twice the length."""
    one, two = (of(trained[devices], *PLANTED, "0 weight ") for devices in ("one", "two"))
    assert largest_difference(one, two) > 1e-3


if __name__ == "__main__":
    main(*sys.argv[1:])
