import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from helpers.networks import network, some_inputs
from kerasemo.losses import classification
from kerasemo.networks import layers
from kerasemo.networks import network as network_module
from kerasemo.networks.network import build_network
from kerasemo.networks.random import random_uniform
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

ROOT = Path(__file__).resolve().parents[2]


# The network.


def test_the_default_network_has_at_most_600_000_parameters():
    default = keras.Model(*build_network())
    assert 100_000 < default.count_params() <= 600_000
    assert default.get_layer("image").batch_shape == (None, 64, 64, 3)


def test_shapes_after_every_stage():
    """Each stage of convolutions halves height and width; the last is pooled to as many features as it has channels."""
    default = keras.Model(*build_network())
    shapes = [default.get_layer(f"stage{stage}_conv2_relu").output.shape for stage in (1, 2, 3, 4)]
    assert shapes == [(None, 32, 32, 32), (None, 16, 16, 64), (None, 8, 8, 96), (None, 4, 4, 128)]
    assert {name: value.shape for name, value in default.output.items()} == {
        "embedding": (None, 256),
        "logits": (None, 10),
    }


@pytest.mark.parametrize("batch", [1, 7])
def test_outputs_are_finite_and_embeddings_of_unit_length(random, batch):
    outputs = network()(some_inputs(random, batch=batch))
    assert outputs["logits"].shape == (batch, len(EMOTIONS)) and outputs["embedding"].shape == (
        batch,
        8,
    )
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, rtol=1e-5)
    assert np.isfinite(outputs["logits"]).all()


def test_an_example_knows_nothing_of_the_rest_of_its_batch(random):
    """GroupNorm, unlike BatchNorm, has no statistics of the batch; nor has the dropout."""
    net, inputs = network(), some_inputs(random)
    for training in (False, True):
        together = net(inputs, training=training)
        alone = net({name: value[2:3] for name, value in inputs.items()}, training=training)
        for name, value in alone.items():
            np.testing.assert_allclose(value[0], together[name][2], rtol=1e-4, atol=1e-5)


def test_paths_of_weights_are_unique_and_know_nothing_of_the_model_around_them():
    paths = [weight.path for weight in network().weights]
    assert len(set(paths)) == len(paths) and paths == [weight.path for weight in network().weights]
    assert {"head/kernel", "normalization/mean", "stage1_conv1/kernel"} <= set(paths)


def test_the_domain_decides_by_its_statistics_alone(random):
    net, inputs = network(), some_inputs(random)
    as_visual, as_audio = ({**inputs, "domain": np.full(5, index, np.int32)} for index in range(2))
    np.testing.assert_array_equal(net(as_visual)["logits"], net(as_audio)["logits"])
    net.get_layer("normalization").fit("audio", inputs["image"])
    assert np.abs(net(as_visual)["logits"] - net(as_audio)["logits"]).max() > 1e-3


# Normalisation.


def test_statistics_are_per_mel_bin_and_channel_for_audio_and_per_channel_for_faces(random):
    """Against NumPy, on inputs whose every row, column and channel differs; 1e-3 keeps a constant row finite."""
    segments = (
        random.normal(size=(2500, 16, 16, 3)) * np.arange(1, 4) + np.arange(16)[:, None, None] * 5
    ).astype(np.float32)
    faces = random.integers(0, 256, size=(7, 16, 16, 3)).astype(np.uint8) // np.array(
        [1, 2, 5], np.uint8
    )
    layer = network().get_layer("normalization")
    layer.fit("audio", segments)
    assert ops.convert_to_numpy(layer.fitted).tolist() == [0, 1]
    assert (ops.convert_to_numpy(layer.mean)[0] == 0).all() and (
        ops.convert_to_numpy(layer.scale)[0] == 1
    ).all()
    layer.fit("visual", faces)
    assert ops.convert_to_numpy(layer.fitted).tolist() == [1, 1]
    visual, audio = (DOMAINS.index(domain) for domain in ("visual", "audio"))
    mean, scale = ops.convert_to_numpy(layer.mean), ops.convert_to_numpy(layer.scale)
    assert mean.shape == scale.shape == (2, 16, 1, 3)
    wide = segments.astype(np.float64)
    np.testing.assert_allclose(mean[audio], wide.mean(axis=(0, 2))[:, None], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scale[audio], wide.std(axis=(0, 2))[:, None] + 1e-3, rtol=1e-6)
    np.testing.assert_allclose(
        mean[visual], np.broadcast_to(faces.mean(axis=(0, 1, 2)), (16, 1, 3)), rtol=1e-6
    )
    np.testing.assert_allclose(
        scale[visual], np.broadcast_to(faces.std(axis=(0, 1, 2)) + 1e-3, (16, 1, 3)), rtol=1e-6
    )
    normal = layer([segments[:9], np.full(9, audio, np.int32)])
    np.testing.assert_allclose(
        normal, (segments[:9] - mean[audio]) / scale[audio], rtol=1e-5, atol=1e-5
    )
    mixed = layer(
        [np.stack([faces[0], segments[0]]).astype(np.float32), np.array([visual, audio], np.int32)]
    )
    np.testing.assert_allclose(
        mixed[0], (faces[0] - mean[visual]) / scale[visual], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(mixed[1], normal[0], rtol=1e-5, atol=1e-5)


def test_an_input_that_never_changes_stays_finite():
    layer = network().get_layer("normalization")
    layer.fit("visual", np.full((3, 16, 16, 3), 7, np.uint8))
    normal = ops.convert_to_numpy(
        layer([np.full((1, 16, 16, 3), 7, np.float32), np.zeros(1, np.int32)])
    )
    assert not normal.any()


@pytest.mark.parametrize(
    ("domain", "inputs", "message"),
    [
        (
            "video",
            np.zeros((1, 16, 16, 3)),
            "domain must be one of visual, audio; received 'video'",
        ),
        (
            "audio",
            np.zeros((0, 16, 16, 3)),
            r"inputs must hold at least one training input of audio; received shape \(0, 16, 16, 3\)",
        ),
        ("audio", np.full((1, 16, 16, 3), np.nan), "inputs of audio must be finite"),
        ("audio", np.full((1, 16, 16, 3), -np.inf), "inputs of audio must be finite"),
    ],
)
def test_statistics_of_nothing_are_refused_and_nothing_is_set(domain, inputs, message):
    layer = network().get_layer("normalization")
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        layer.fit(domain, inputs)
    assert (
        not ops.convert_to_numpy(layer.fitted).any() and not ops.convert_to_numpy(layer.mean).any()
    )


# Dropout.


def kept(seeds, *, rate=0.3, n=256):
    """Return which features of all ones are kept, bool [seeds, n]."""
    features = np.ones((len(seeds), n), np.float32)
    return (
        ops.convert_to_numpy(
            layers.ExampleDropout(rate)([features, np.asarray(seeds, np.int32)], training=True)
        )
        > 0
    )


def test_random_numbers_are_those_of_the_hash(random):
    """Against the same integer arithmetic in Python's unbounded integers; seeds at both ends of int32."""

    def mixed(bits):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = ((bits ^ (bits >> shift)) * factor) % 2**32
        return bits ^ (bits >> 16)

    seeds = [0, 1, -1, 2**31 - 1, -(2**31), 123456789]
    columns = [mixed(column * 0x9E3779B9 % 2**32) for column in range(1, 6)]
    expected = [
        [(mixed(mixed(seed % 2**32) ^ column) >> 8) / 2**24 for column in columns] for seed in seeds
    ]
    found = ops.convert_to_numpy(random_uniform(np.array(seeds, np.int32), 5))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_random_numbers_are_uniform(random):
    numbers = ops.convert_to_numpy(
        random_uniform(random.integers(0, 2**31, 2000).astype(np.int32), 100)
    )
    assert 0 <= numbers.min() < 1e-4 and 1 - 1e-4 < numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    # Chi-square of 19 degrees of freedom: mean 19, standard deviation sqrt(38); five of these above the mean.
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 19 + 5 * np.sqrt(38)


def test_the_mask_is_a_function_of_the_seed_alone(random):
    seeds = random.integers(0, 2**31, 40)
    order = random.permutation(40)
    masks = kept(seeds)
    np.testing.assert_array_equal(kept(seeds[order]), masks[order])
    np.testing.assert_array_equal(kept(seeds[7:8]), masks[7:8])
    assert len(np.unique(masks, axis=0)) == 40


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_that_is_kept(rate):
    """Of 2000 x 256 features a share 1 - rate, to five standard deviations sqrt(rate (1 - rate) / n), also in each column and row."""
    masks = kept(np.arange(2000), rate=rate)
    for axis, count in ((None, masks.size), (0, 2000), (1, 256)):
        assert np.abs(masks.mean(axis=axis) - (1 - rate)).max() < 5.5 * np.sqrt(
            rate * (1 - rate) / count
        )


@pytest.mark.parametrize(
    "seeds",
    [np.arange(1000), np.arange(1000) * 65536, np.random.default_rng(0).integers(0, 2**31, 1000)],
)
def test_neither_rows_nor_columns_are_correlated(seeds):
    """Correlations of independent bits are about normal, of deviation 1 / sqrt(n): of so many pairs none beyond six."""
    masks = kept(seeds.astype(np.int32), rate=0.5, n=200)
    for bits in (masks, masks.T):
        correlations = np.corrcoef(bits)[np.triu_indices(len(bits), k=1)]
        assert np.abs(correlations).max() < 6 / np.sqrt(bits.shape[1])
        assert correlations.std() == pytest.approx(1 / np.sqrt(bits.shape[1]), rel=0.05)


def test_the_scale_is_kept(random):
    features = random.uniform(1, 2, size=(2000, 64)).astype(np.float32)
    dropped = ops.convert_to_numpy(
        layers.ExampleDropout(0.4)([features, np.arange(2000, dtype=np.int32)], training=True)
    )
    np.testing.assert_allclose(dropped[dropped > 0], (features / 0.6)[dropped > 0], rtol=1e-6)
    assert dropped.mean() == pytest.approx(features.mean(), rel=0.02)


def test_outside_training_nothing_is_dropped(random):
    features, seed = random.normal(size=(3, 8)).astype(np.float32), np.zeros(3, np.int32)
    for layer, training in (
        (layers.ExampleDropout(0.5), False),
        (layers.ExampleDropout(0.0), True),
    ):
        np.testing.assert_array_equal(layer([features, seed], training=training), features)
    net, inputs = network(), some_inputs(random)
    other = {**inputs, "seed": inputs["seed"] + 1}
    np.testing.assert_array_equal(
        net(inputs, training=False)["logits"], net(other, training=False)["logits"]
    )
    assert (
        np.abs(net(inputs, training=True)["logits"] - net(other, training=True)["logits"]).max()
        > 1e-3
    )
    np.testing.assert_array_equal(
        net(inputs, training=True)["embedding"], net(other, training=True)["embedding"]
    )


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\); received"):
        layers.ExampleDropout(rate)


def test_layers_are_rebuilt_from_their_configuration():
    again = keras.layers.deserialize(
        keras.layers.serialize(layers.ExampleDropout(0.25, name="dropout"))
    )
    assert type(again) is layers.ExampleDropout and again.rate == 0.25


# Any backend of Keras.


@pytest.mark.parametrize("module", [network_module, classification])
def test_network_and_losses_are_free_of_tensorflow(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imported |= {
        node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert imported - sys.stdlib_module_names <= {"keras", "numpy", "kerasemo", "pipelines"}
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & {
        "tf",
        "tensorflow",
    }


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


IN_JAX = """
import sys
from pathlib import Path
import jax, keras, numpy as np
from kerasemo.config.schema import Network
from kerasemo.losses import classification, contrastive
from kerasemo.networks import network
from kerasemo.runs import checkpoints
from pipelines.core.spec import Spec

assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
keras.utils.set_random_seed(1)
config = Network(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.5)
net = keras.Model(*network.build_network(config, spec=Spec(face_size=16)))
random = np.random.default_rng(0)
inputs = {"domain": np.zeros(8, "int32"), "seed": np.arange(8, dtype="int32")}
inputs["image"] = random.uniform(0, 255, (8, 16, 16, 3)).astype("float32")
net.get_layer("normalization").fit("visual", inputs["image"])
labels, mask = np.arange(8) % 3, np.repeat([[1] * 3 + [0] * 7], 8, axis=0).astype("float32")
targets = np.asarray(classification.smoothed_targets(labels, mask, label_smoothing=0.1))
pairs = np.asarray(net(inputs)["embedding"]).reshape(4, 2, -1)
gradient = jax.grad(lambda e: contrastive.Contrastive(0.6)(np.array([1.0, 0, 1, 0]), e))(pairs)
assert np.isfinite(gradient).all() and np.any(gradient)

class Masked(classification.CrossEntropy):
    def call(self, y_true, y_pred):
        return super().call(y_true, classification.mask_logits(y_pred, mask))

net = keras.Model(net.inputs, net.output)
net.compile(optimizer=keras.optimizers.AdamW(0.01), loss={"logits": Masked(), "embedding": None})
history = net.fit(inputs, {"logits": targets}, batch_size=8, epochs=20, verbose=0).history["loss"]
assert history[-1] < 0.8 * history[0], history
checkpoints.save(Path(sys.argv[1]) / "weights.safetensors", checkpoints.arrays(net.weights), {})
for training in (False, True):
    outputs = net(inputs, training=training)
    np.savez(Path(sys.argv[1]) / f"{training}.npz", **inputs, **{k: np.asarray(v) for k, v in outputs.items()})
"""


def test_it_trains_in_jax_and_its_weights_load_here(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip(
            "jax is not installed; pip install jax to check the network under KERAS_BACKEND=jax"
        )
    from kerasemo.runs import checkpoints

    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    finished = subprocess.run(
        [sys.executable, "-c", IN_JAX, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    net = network()
    tensors, _ = checkpoints.load_arrays(tmp_path / "weights.safetensors")
    checkpoints.assign_variables(net.weights, tensors, where=tmp_path)
    for training in (False, True):
        held = dict(np.load(tmp_path / f"{training}.npz"))
        outputs = net({name: held[name] for name in ("image", "domain", "seed")}, training=training)
        for name, value in outputs.items():
            np.testing.assert_allclose(value, held[name], rtol=1e-3, atol=1e-4)
