"""Replicas do not change the mathematics: steps on two equal those on one device with the same global batch.

The optimiser is SGD, because Adam hides an error of scale. Logical devices must be set before TensorFlow starts, so each
set of devices is a process of its own: this file, run as a script, trains every case and writes an npz.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
STEPS, RATE, CLIP = 3, 0.1, 0.02
KINDS = {  # name -> kind of stage, number of sources
    "supervised": ("supervised", 1),
    "contrastive of one source": ("contrastive", 1),
    "contrastive": ("contrastive", 2),
    "contrastive of three": ("contrastive", 3),
    "joint": ("joint", 2),
    "joint of three": ("joint", 3),
}
FEATURES = {
    "plain": {},
    "dropout": {"dropout": 0.4},
    "clipped": {"clip_norm": CLIP},
    "decay": {"weight_decay": 0.5},
    "average": {"ema": 0.7},
    "parts": {"accumulate": 3},
    "frozen": {"freeze": ("stage1", "head"), "weight_decay": 0.5},
    "all": {"dropout": 0.4, "clip_norm": CLIP, "weight_decay": 0.5, "ema": 0.7, "accumulate": 3, "changes": True},
    "Adam": {"adam": True},
    "bfloat16": {"bfloat16": True},
    "hard": {"hardness": 0.9},
    "heads": {"heads": True},
    "mixed": {"mixup": 1.0, "dropout": 0.4, "changes": True},
    "balanced": {"balanced": True},
    "mixed parts": {"mixup": 0.5, "balanced": True, "accumulate": 3},
}
EACH = [(kind, feature) for feature in list(FEATURES)[:10] for kind in ("supervised", "joint")]
CASES = [
    *EACH,
    *((kind, "plain") for kind in KINDS if (kind, "plain") not in EACH),
    *(("contrastive", feature) for feature in ("dropout", "parts", "all", "bfloat16", "hard")),
    *(("joint of three", feature) for feature in ("parts", "all", "hard", "heads")),
    *(("joint", feature) for feature in ("hard", "heads")),
    *((kind, feature) for kind in ("supervised", "joint") for feature in ("mixed", "balanced", "mixed parts")),
    ("joint of three", "mixed parts"),
]
FITTED = [("supervised", "all"), ("contrastive", "dropout"), ("joint of three", "heads")]
MEASURED = ("supervised", "contrastive", "joint of three")
PLANTED = [("reduced by hand", "plain"), ("clipped by the optimiser", "plain")]
TOLERANCES = {"Adam": 1e-5, "bfloat16": 2e-3}
"""Of weights and values, else 1e-6: Adam divides small gradients by themselves, bfloat16 has eight binary digits."""


def prepare(strategy, kind: str, options: dict):
    """Return the compiled model, its sources and the indices of `STEPS` steps."""
    import contextlib

    import keras
    from keras import ops
    from sources import SIZE, random_source, whole

    from kerasemo import losses, plans, preparation, scores, stages
    from kerasemo.config import Network
    from kerasemo.model import build_network
    from pipelines.spec import Spec

    class ReducedByHand(stages.SupervisedModel):
        """What is forbidden: a mean that knows nothing of replicas."""

        def compute_loss(self, batch, training=True):
            logits = losses.mask_logits(self._forward(batch, training)["logits"], batch["mask"])
            loss = ops.mean(losses.cross_entropy(losses.smoothed_targets(batch["label"], batch["mask"]), logits))
            return dict.fromkeys(("loss", *self.term_names()), loss)

    stage, count = KINDS.get(kind, ("supervised", 1))
    emotions = (("anger", "fear", "sadness"), ("anger", "fear", "sadness", "calm"), ("fear", "sadness", "surprise"))
    names = ("a/visual", "b/visual", "c/audio")
    sources = [random_source(names[i], emotions[i] * (9 - 2 * i), items=(2, 1, 3), seed=i) for i in range(count)]
    sides = [whole(source) for source in sources]
    plan = plans.labelled_plan(sides[0], batch=12, seed=3) if stage == "supervised" else plans.pair_plan(sides, pairs=6, seed=3)
    keras.utils.set_random_seed(7)
    keras.config.set_dtype_policy("mixed_bfloat16" if "bfloat16" in options else "float32")
    with strategy.scope() if strategy else contextlib.nullcontext():
        config = Network(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=options.get("dropout", 0.0))
        network = build_network(config, spec=Spec(face_size=SIZE), heads=count if "heads" in options else 1)
        model = (ReducedByHand if kind == "reduced by hand" else stages.MODELS[stage])(
            *network,
            sources=[source.name for source in sources],
            label_smoothing=0.1,
            contrastive_weight=2.0,
            margin=1.2,
            class_weights=preparation.class_weights(sides) if "balanced" in options else None,
            **{key: options[key] for key in ("clip_norm", "accumulate") if key in options},
        )
        stages.freeze(model, options.get("freeze", ()))
        rates = {"weight_decay": options.get("weight_decay"), "use_ema": "ema" in options, "ema_momentum": options.get("ema", 0.9)}
        clipped = {"global_clipnorm": CLIP} if kind == "clipped by the optimiser" else {}
        kind_of = keras.optimizers.Adam if "adam" in options else keras.optimizers.SGD
        model.compile(optimizer=kind_of(RATE / 10 if "adam" in options else RATE, name="optimizer", **rates, **clipped))
        model.optimizer.build(model.trainable_weights)
    for source in sources:
        model.get_layer("normalization").fit(source.name.partition("/")[2], source.inputs)
    drawn = plan(0)
    if "hardness" in options:
        predict = scores.predictor(model)
        embeddings = [predict(source.inputs, source.domain)["embedding"] for source in sources]
        drawn = plans.with_hard_negatives(drawn, sides, embeddings, hardness=options["hardness"], seed=3, epoch=0)
    if "mixup" in options:
        drawn = plans.mixed(drawn, alpha=options["mixup"], seed=3, epoch=0)
    return model, sources, {key: value[:STEPS] for key, value in drawn.items()}


def state(model, when) -> dict[str, np.ndarray]:
    variables = {f"weight {weight.path}": weight for weight in model.weights}
    variables |= {f"optimizer {variable.path}": variable for variable in model.optimizer.variables}
    return {f"{when} {name}": variable.numpy().astype(np.float64) for name, variable in variables.items()}


def train(strategy, kind: str, feature: str, *, fitted: bool = False) -> dict[str, np.ndarray]:
    """Make `STEPS` steps by `step` or by `fit`; return weights, state of the optimiser and values before and after each."""
    import tensorflow as tf
    from keras import callbacks

    from kerasemo import data
    from kerasemo.config import USUAL_CHANGES, Augment

    model, sources, drawn = prepare(strategy, kind, FEATURES[feature])
    changes = USUAL_CHANGES if "changes" in FEATURES[feature] else Augment()
    batches, _ = data.batches(sources, lambda epoch: drawn, epochs=1, changes=changes)
    found = state(model, 0)
    if fitted:

        def keep(epoch, logs):
            found.update(state(model, epoch + 1) | {f"{epoch + 1} value {name}": value for name, value in logs.items()})

        kept = callbacks.LambdaCallback(on_epoch_end=keep)
        model.fit(batches.repeat(), steps_per_epoch=1, epochs=STEPS, shuffle=False, verbose=0, callbacks=[kept])
        return found
    replicas = strategy.num_replicas_in_sync if strategy else 1

    def share(batch):
        """Split a batch over the replicas."""
        if strategy is None:
            return batch
        parts = [{name: np.split(value, replicas)[index] for name, value in batch.items()} for index in range(replicas)]
        return strategy.experimental_distribute_values_from_function(lambda context: parts[context.replica_id_in_sync_group])

    def compiled(function):
        def everywhere(batch):
            values = strategy.run(function, args=(batch,))
            return {name: strategy.reduce("MEAN", value, axis=None) for name, value in values.items()}

        return tf.function(everywhere if strategy else function, jit_compile=(kind, feature) == ("joint", "all") and not strategy)

    step = compiled(model.step)
    for number, batch in enumerate(batches.as_numpy_iterator(), start=1):
        values = step(share(batch))
        found |= state(model, number) | {f"{number} value {name}": value for name, value in values.items()}
    if feature == "plain" and kind in MEASURED:
        found |= {f"measured {name}": value for name, value in compiled(model.measure)(share(batch)).items()}
        odd = {name: tf.constant(np.concatenate([value, value[:5]])) for name, value in batch.items()}  # a full batch and 5 more
        found |= {f"odd measured {name}": value for name, value in model.measure(odd).items()}
        tested = model.evaluate(tf.data.Dataset.from_tensor_slices(odd).batch(len(batch["seed"])), return_dict=True, verbose=0)
        found |= {f"odd tested {name}": value for name, value in tested.items()}
    return found


def main(devices: str, out: str) -> None:
    from kerasemo.devices import strategy_for

    strategy = strategy_for({"one": 1, "two": 2}[devices])
    assert (strategy.num_replicas_in_sync if strategy else 1) == (1 if devices == "one" else 2)
    arrays = {}
    for case in [*CASES, *PLANTED]:
        arrays |= {f"{' '.join(case)}: {name}": value for name, value in train(strategy, *case).items()}
    for case in FITTED:
        arrays |= {f"{' '.join(case)} fitted: {name}": value for name, value in train(strategy, *case, fitted=True).items()}
    np.savez(out, **arrays)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every case, by devices: the npz of a process each."""
    folder = tmp_path_factory.mktemp("replicas")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    commands = {devices: [sys.executable, __file__, devices, folder / f"{devices}.npz"] for devices in ("one", "two")}
    options = {"stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = {devices: subprocess.Popen(command, **options) for devices, command in commands.items()}
    for devices, process in processes.items():
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, f"{devices}: {errors[-4000:]}"
    return {devices: dict(np.load(folder / f"{devices}.npz")) for devices in processes}


def of(arrays: dict[str, np.ndarray], kind: str, feature: str, rest: str = "") -> dict[str, np.ndarray]:
    start = f"{kind} {feature}: {rest}"
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}


def difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys() and one
    return max(np.abs(one[name] - other[name]).max() for name in one)


def moved(arrays, kind: str, feature: str, step: int) -> dict[str, np.ndarray]:
    before, after = (of(arrays, kind, feature, f"{number} weight ") for number in (step - 1, step))
    return {name: after[name] - before[name] for name in after}


@pytest.mark.parametrize(("kind", "feature"), CASES)
def test_two_replicas_equal_one_device(trained, kind, feature):
    """Weights, the optimiser's state (with the averages of the weights) and every value, after each step."""
    one, two = (of(trained[devices], kind, feature) for devices in ("one", "two"))
    assert {f"{STEPS} value loss", f"{STEPS} weight head/kernel", f"{STEPS} optimizer optimizer/iteration"} <= one.keys()
    assert difference(one, two) < TOLERANCES.get(feature, 1e-6)


@pytest.mark.parametrize(("kind", "feature"), CASES)
def test_the_steps_that_are_compared_train(trained, kind, feature):
    """Else equality would say nothing: every step moves the weights, and every feature moves them elsewhere than without it."""
    for step in range(1, STEPS + 1):
        assert max(np.abs(change).max() for change in moved(trained["one"], kind, feature, step).values()) > 1e-4
    first, last = (of(trained["one"], kind, feature, f"{step} weight ") for step in (0, STEPS))
    assert difference(first, last) > 8 * TOLERANCES.get(feature, 1e-4)
    alike = feature in ("plain", "parts", "average", "heads") or (kind, feature) == ("contrastive", "dropout")  # after the embedding
    assert alike or difference(last, of(trained["one"], kind, "plain", f"{STEPS} weight ")) > 1e-4


@pytest.mark.parametrize(("kind", "feature"), FITTED)
def test_fit_makes_the_same_steps(trained, kind, feature):
    one, fitted = of(trained["one"], kind, feature), of(trained["two"], kind, f"{feature} fitted")
    assert difference({name: one[name] for name in fitted}, fitted) < 1e-6
    assert {f"{STEPS} value loss", f"{STEPS} weight head/kernel"} <= fitted.keys()


@pytest.mark.parametrize("kind", ["supervised", "contrastive", "joint", "joint of three"])
def test_parts_of_a_batch_make_the_step_of_the_whole(trained, kind):
    """Also where a part is one pair of three sources: each source has another share of it."""
    for devices in ("one", "two"):
        parts = of(trained[devices], kind, "parts")
        assert difference(parts, {name: of(trained["one"], kind, "plain")[name] for name in parts}) < 1e-6


@pytest.mark.parametrize("kind", ["supervised", "joint"])
@pytest.mark.parametrize("devices", ["one", "two"])
def test_the_norm_of_all_gradients_together_is_clipped(trained, devices, kind):
    """SGD moves the weights by the rate times the gradients, whose norm without clipping is larger on every step."""
    for step in range(1, STEPS + 1):
        changes = [moved(trained[devices], kind, feature, step).values() for feature in ("clipped", "plain")]
        clipped, plain = (np.sqrt(sum((change**2).sum() for change in all_weights)) for all_weights in changes)
        assert clipped == pytest.approx(RATE * CLIP, rel=1e-3) and plain > 1.5 * clipped


@pytest.mark.parametrize("kind", ["supervised", "joint"])
@pytest.mark.parametrize("devices", ["one", "two"])
def test_frozen_layers_stay_and_weight_decay_does_not_wear_them(trained, devices, kind):
    for step in range(1, STEPS + 1):
        changes = moved(trained[devices], kind, "frozen", step)
        assert {name for name, change in changes.items() if change.any()} == {"features/kernel", "features/bias"}


@pytest.mark.parametrize("kind", ["supervised", "joint"])
def test_the_average_is_that_of_the_weights_after_each_step(trained, kind):
    arrays, average = of(trained["two"], kind, "average"), None
    for step in range(1, STEPS + 1):
        weight = arrays[f"{step} weight features/kernel"]
        average = weight if average is None else 0.7 * average + 0.3 * weight
        (found,) = (value for name, value in arrays.items() if name.startswith(f"{step} optimizer ") and "features_kernel" in name)
        np.testing.assert_allclose(found, average, atol=1e-6)
    assert np.abs(average - weight).max() > 1e-4


@pytest.mark.parametrize("kind", MEASURED)
def test_every_term_is_there(trained, kind):
    stage, count = KINDS[kind]
    names = [f"cross_entropy_{name}" for name in ("a_visual", "b_visual", "c_audio")[:count]] if stage != "contrastive" else []
    expected = {"loss", *names, *(["contrastive"] if stage != "supervised" else [])}
    for when in ("1 value ", "measured ", "odd measured ", "odd tested "):
        terms = of(trained["two"], kind, "plain", when)
        assert set(terms) == expected
        total = sum(terms[name] for name in names) + (0 if stage == "supervised" else terms["contrastive"] * (2 if stage == "joint" else 1))
        assert terms["loss"] == pytest.approx(total, rel=1e-5) and terms["loss"] > 0.01


@pytest.mark.parametrize("kind", MEASURED)
def test_a_last_odd_batch_is_measured_rightly(trained, kind):
    """`evaluate` splits 5 examples over two replicas as 3 and 2; `measure` outside the strategy takes any number at once."""
    expected = of(trained["one"], kind, "plain", "odd measured ")
    for devices, way in (("one", "tested"), ("two", "measured"), ("two", "tested")):
        assert difference(of(trained[devices], kind, "plain", f"odd {way} "), expected) < 1e-6
    assert difference(of(trained["one"], kind, "plain", "measured "), expected) > 1e-4


@pytest.mark.parametrize("kind", ["reduced by hand", "clipped by the optimiser"])
def test_what_is_wrong_is_caught(trained, kind):
    """Gradients are summed over replicas: a mean that knows nothing of them makes steps of twice the length; Keras clips before the sum."""
    one, two = (of(trained[devices], kind, "plain", "1 weight ") for devices in ("one", "two"))
    assert difference(one, two) > 1e-4


if __name__ == "__main__":
    main(*sys.argv[1:])
