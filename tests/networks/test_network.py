"""The network, the normalisation of its inputs, its dropout, and other backends of Keras."""

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

from helpers.networks import random_inputs, tiny_network
from helpers.paths import ROOT
from kerasemo.losses import classification, contrastive
from kerasemo.networks import layers, network
from kerasemo.networks import random as random_module
from kerasemo.networks.layers import ExampleDropout
from kerasemo.networks.network import build_network
from kerasemo.networks.random import random_uniform
from kerasemo.runs import checkpoints
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

VISUAL, AUDIO = DOMAINS.index("visual"), DOMAINS.index("audio")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20200311)


# The network.


def test_default_network_has_at_most_600_000_parameters():
    model = keras.Model(*build_network())
    assert 100_000 < model.count_params() <= 600_000
    assert model.get_layer("image").batch_shape == (None, 64, 64, 3)


def test_each_stage_halves_height_and_width():
    model = keras.Model(*build_network())
    shapes = [model.get_layer(f"stage{stage}_conv2_relu").output.shape for stage in (1, 2, 3, 4)]
    assert shapes == [(None, 32, 32, 32), (None, 16, 16, 64), (None, 8, 8, 96), (None, 4, 4, 128)]
    assert {name: value.shape for name, value in model.output.items()} == {
        "embedding": (None, 256),
        "logits": (None, len(EMOTIONS)),
    }


@pytest.mark.parametrize("batch", [1, 7])
def test_logits_are_finite_and_embeddings_have_unit_length(random, batch):
    outputs = tiny_network()(random_inputs(random, batch=batch))
    assert outputs["logits"].shape == (batch, len(EMOTIONS))
    assert outputs["embedding"].shape == (batch, 8)
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, rtol=1e-5)
    assert np.isfinite(outputs["logits"]).all()


@pytest.mark.parametrize("training", [False, True])
def test_output_of_an_example_does_not_depend_on_the_batch(random, training):
    """Group normalisation, unlike batch normalisation, and dropout use the example alone."""
    model, inputs = tiny_network(), random_inputs(random)
    of_batch = model(inputs, training=training)
    of_example = model({name: value[2:3] for name, value in inputs.items()}, training=training)
    for name, value in of_example.items():
        np.testing.assert_allclose(value[0], of_batch[name][2], rtol=1e-4, atol=1e-5)


def test_paths_of_weights_are_unique_and_the_same_in_every_model():
    paths = [weight.path for weight in tiny_network().weights]
    assert len(set(paths)) == len(paths)
    assert paths == [weight.path for weight in tiny_network().weights]
    assert {"head/kernel", "normalization/mean", "stage1_conv1/kernel"} <= set(paths)


def test_domain_changes_only_the_statistics_of_the_inputs(random):
    model, inputs = tiny_network(), random_inputs(random)
    visual, audio = ({**inputs, "domain": np.full(5, index, np.int32)} for index in (VISUAL, AUDIO))
    np.testing.assert_array_equal(model(visual)["logits"], model(audio)["logits"])
    model.get_layer("normalization").fit("audio", inputs["image"])
    assert np.abs(model(visual)["logits"] - model(audio)["logits"]).max() > 1e-3


# Normalisation of the inputs.


def normalization_layer() -> layers.DomainNormalization:
    return tiny_network().get_layer("normalization")


def statistics_of(layer: layers.DomainNormalization, domain: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale of a domain, [rows, 1, channels]."""
    mean, scale = ops.convert_to_numpy(layer.mean), ops.convert_to_numpy(layer.scale)
    assert mean.shape == scale.shape == (2, 16, 1, 3)
    return mean[domain], scale[domain]


def random_segments(random: np.random.Generator) -> np.ndarray:
    """Return 2500 segments whose rows and channels have different means and scales, float32."""
    values = random.normal(size=(2500, 16, 16, 3)) * np.arange(1, 4)
    return (values + np.arange(16)[:, None, None] * 5).astype(np.float32)


def random_faces(random: np.random.Generator) -> np.ndarray:
    """Return 7 faces whose channels have different means and scales, uint8."""
    faces = random.integers(0, 256, size=(7, 16, 16, 3)).astype(np.uint8)
    return faces // np.array([1, 2, 5], np.uint8)


def test_statistics_of_audio_are_per_mel_bin_and_channel(random):
    """2500 segments are more than one block of the sums. 1e-3 keeps a constant row finite."""
    segments, layer = random_segments(random), normalization_layer()
    layer.fit("audio", segments)
    mean, scale = statistics_of(layer, AUDIO)
    exact = segments.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2))[:, None], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scale, exact.std(axis=(0, 2))[:, None] + 1e-3, rtol=1e-6)


def test_statistics_of_faces_are_per_channel(random):
    faces, layer = random_faces(random), normalization_layer()
    layer.fit("visual", faces)
    mean, scale = statistics_of(layer, VISUAL)
    expected_mean, expected_scale = faces.mean(axis=(0, 1, 2)), faces.std(axis=(0, 1, 2)) + 1e-3
    np.testing.assert_allclose(mean, np.broadcast_to(expected_mean, (16, 1, 3)), rtol=1e-6)
    np.testing.assert_allclose(scale, np.broadcast_to(expected_scale, (16, 1, 3)), rtol=1e-6)


def test_fit_of_a_domain_leaves_the_other_domain(random):
    layer = normalization_layer()
    layer.fit("audio", random_segments(random))
    assert ops.convert_to_numpy(layer.fitted)[[VISUAL, AUDIO]].tolist() == [0, 1]
    mean, scale = statistics_of(layer, VISUAL)
    assert (mean == 0).all()
    assert (scale == 1).all()
    audio_statistics = statistics_of(layer, AUDIO)
    layer.fit("visual", random_faces(random))
    assert ops.convert_to_numpy(layer.fitted)[[VISUAL, AUDIO]].tolist() == [1, 1]
    np.testing.assert_array_equal(statistics_of(layer, AUDIO), audio_statistics)


def test_each_input_is_normalized_by_the_statistics_of_its_domain(random):
    segments, faces, layer = random_segments(random), random_faces(random), normalization_layer()
    layer.fit("audio", segments)
    layer.fit("visual", faces)
    images = np.stack([faces[0], segments[0], segments[1]]).astype(np.float32)
    normalized = layer([images, np.array([VISUAL, AUDIO, AUDIO], np.int32)])
    for index, domain in enumerate((VISUAL, AUDIO, AUDIO)):
        mean, scale = statistics_of(layer, domain)
        expected = (images[index] - mean) / scale
        np.testing.assert_allclose(normalized[index], expected, rtol=1e-4, atol=1e-5)


def test_constant_input_is_normalized_to_zero():
    layer = normalization_layer()
    layer.fit("visual", np.full((3, 16, 16, 3), 7, np.uint8))
    image = np.full((1, 16, 16, 3), 7, np.float32)
    assert not ops.convert_to_numpy(layer([image, np.array([VISUAL], np.int32)])).any()


@pytest.mark.parametrize(
    ("domain", "inputs", "message"),
    [
        ("video", np.zeros((1, 16, 16, 3)), "domain .*visual, audio; received 'video'"),
        (
            "audio",
            np.zeros((0, 16, 16, 3)),
            r"inputs .*at least one .*audio; received shape \(0, 16, 16, 3\)",
        ),
        ("audio", np.full((1, 16, 16, 3), np.nan), "inputs of audio .*finite"),
        ("audio", np.full((1, 16, 16, 3), -np.inf), "inputs of audio .*finite"),
    ],
    ids=["unknown domain", "no input", "NaN", "infinity"],
)
def test_refused_inputs_leave_the_statistics(domain, inputs, message):
    layer = normalization_layer()
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
        layer.fit(domain, inputs)
    assert not ops.convert_to_numpy(layer.fitted).any()
    assert not ops.convert_to_numpy(layer.mean).any()


# Random numbers.


def test_random_numbers_are_those_of_the_integer_hash():
    """Python computes the hash in unbounded integers; the seeds include both ends of int32."""

    def mixed(bits: int) -> int:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = ((bits ^ (bits >> shift)) * factor) % 2**32
        return bits ^ (bits >> 16)

    seeds = [0, 1, -1, 2**31 - 1, -(2**31), 123456789]
    columns = [mixed(column * 0x9E3779B9 % 2**32) for column in range(1, 6)]
    expected = [
        [(mixed(mixed(seed % 2**32) ^ column) >> 8) / 2**24 for column in columns] for seed in seeds
    ]
    numbers = ops.convert_to_numpy(random_uniform(np.array(seeds, np.int32), 5))
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, np.array(expected, np.float32))


def test_random_numbers_are_uniform(random):
    """200 000 numbers in 20 bins.

    Chi-square with 19 degrees of freedom has mean 19 and deviation sqrt(38). The limit is five
    deviations above the mean.
    """
    seeds = random.integers(0, 2**31, 2000).astype(np.int32)
    numbers = ops.convert_to_numpy(random_uniform(seeds, 100))
    assert 0 <= numbers.min() < 1e-4
    assert 1 - 1e-4 < numbers.max() < 1
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 19 + 5 * np.sqrt(38)


# Dropout.


def dropout_mask(seeds: np.ndarray, *, rate: float = 0.3, n_features: int = 256) -> np.ndarray:
    """Return which features are kept, bool [seeds, features]."""
    features = np.ones((len(seeds), n_features), np.float32)
    dropped = ExampleDropout(rate)([features, seeds.astype(np.int32)], training=True)
    return ops.convert_to_numpy(dropped) > 0


def test_dropout_mask_is_a_function_of_the_seed_alone(random):
    seeds, order = random.integers(0, 2**31, 40), random.permutation(40)
    masks = dropout_mask(seeds)
    np.testing.assert_array_equal(dropout_mask(seeds[order]), masks[order])
    np.testing.assert_array_equal(dropout_mask(seeds[7:8]), masks[7:8])
    assert len(np.unique(masks, axis=0)) == 40


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_fraction_one_minus_rate(rate):
    """Of all features, and of each feature and each example, within 5.5 standard deviations.

    The standard deviation of a mean of n features is sqrt(rate (1 - rate) / n).
    """
    masks = dropout_mask(np.arange(2000), rate=rate)
    for axis, n in ((None, masks.size), (0, 2000), (1, 256)):
        deviation = np.sqrt(rate * (1 - rate) / n)
        assert np.abs(masks.mean(axis=axis) - (1 - rate)).max() < 5.5 * deviation


@pytest.mark.parametrize(
    "seeds",
    [np.arange(1000), np.arange(1000) * 65536, np.random.default_rng(0).integers(0, 2**31, 1000)],
    ids=["successive", "high bits", "random"],
)
def test_dropout_masks_are_not_correlated(seeds):
    """Neither between examples nor between features.

    Correlations of n independent bits are about normal with deviation 1 / sqrt(n). None is
    expected beyond six deviations.
    """
    masks = dropout_mask(seeds, rate=0.5, n_features=200)
    for rows in (masks, masks.T):
        deviation = 1 / np.sqrt(rows.shape[1])
        correlations = np.corrcoef(rows)[np.triu_indices(len(rows), k=1)]
        assert np.abs(correlations).max() < 6 * deviation
        assert correlations.std() == pytest.approx(deviation, rel=0.05)


def test_dropout_keeps_the_mean_of_features(random):
    features = random.uniform(1, 2, size=(2000, 64)).astype(np.float32)
    seeds = np.arange(2000, dtype=np.int32)
    dropped = ops.convert_to_numpy(ExampleDropout(0.4)([features, seeds], training=True))
    is_kept = dropped > 0
    np.testing.assert_allclose(dropped[is_kept], (features / 0.6)[is_kept], rtol=1e-6)
    assert dropped.mean() == pytest.approx(features.mean(), rel=0.02)


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_dropout_outside_training_or_of_rate_zero_changes_nothing(random, rate, training):
    features, seeds = random.normal(size=(3, 8)).astype(np.float32), np.zeros(3, np.int32)
    output = ExampleDropout(rate)([features, seeds], training=training)
    np.testing.assert_array_equal(output, features)


def test_seed_changes_only_the_logits_in_training(random):
    model, inputs = tiny_network(), random_inputs(random)
    other_inputs = {**inputs, "seed": inputs["seed"] + 1}
    predicted, other_predicted = (model(x, training=False) for x in (inputs, other_inputs))
    trained, other_trained = (model(x, training=True) for x in (inputs, other_inputs))
    np.testing.assert_array_equal(other_predicted["logits"], predicted["logits"])
    np.testing.assert_array_equal(other_trained["embedding"], trained["embedding"])
    assert np.abs(other_trained["logits"] - trained["logits"]).max() > 1e-3


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5])
def test_dropout_rate_outside_of_its_range_is_refused(rate):
    with pytest.raises(ValueError, match=rf"rate .*\[0, 1\); received {rate}"):
        ExampleDropout(rate)


def test_dropout_is_built_again_from_its_configuration():
    layer = ExampleDropout(0.25, stream=2, name="dropout")
    rebuilt = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(rebuilt) is ExampleDropout
    assert rebuilt.rate == 0.25
    assert rebuilt.stream == 2


# Other backends of Keras.


@pytest.mark.parametrize(
    "module",
    [network, layers, random_module, classification, contrastive],
    ids=lambda module: module.__name__,
)
def test_network_and_losses_do_not_import_tensorflow(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    packages = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            packages.add(node.module.partition(".")[0])
    assert packages - sys.stdlib_module_names <= {"keras", "numpy", "kerasemo", "pipelines"}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"tf", "tensorflow"}


JAX_TRAINING = """
import sys
from pathlib import Path

import jax, keras, numpy as np

from kerasemo.config.schema import NetworkConfig
from kerasemo.losses.classification import CrossEntropy, mask_logits, smooth_targets
from kerasemo.losses.contrastive import ContrastiveLoss
from kerasemo.networks.network import build_network
from kerasemo.runs.checkpoints import save_arrays, variable_arrays
from pipelines.core.spec import Spec

assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
folder = Path(sys.argv[1])
keras.utils.set_random_seed(1)
config = NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.5)
model = keras.Model(*build_network(config, spec=Spec(face_size=16)))
images = np.random.default_rng(0).uniform(0, 255, (8, 16, 16, 3)).astype("float32")
inputs = {"image": images, "domain": np.zeros(8, "int32"), "seed": np.arange(8, dtype="int32")}
model.get_layer("normalization").fit("visual", images)

pairs = np.asarray(model(inputs)["embedding"]).reshape(4, 2, -1)
same = np.array([1.0, 0, 1, 0])
gradient = jax.grad(lambda embeddings: ContrastiveLoss(0.6)(same, embeddings))(pairs)
assert np.isfinite(gradient).all() and np.any(gradient)

labels, mask = np.arange(8) % 3, np.repeat([[1] * 3 + [0] * 7], 8, axis=0).astype("float32")
targets = np.asarray(smooth_targets(labels, mask, label_smoothing=0.1))

class MaskedCrossEntropy(CrossEntropy):
    def call(self, y_true, y_pred):
        return super().call(y_true, mask_logits(y_pred, mask))

losses = {"logits": MaskedCrossEntropy(), "embedding": None}
model.compile(optimizer=keras.optimizers.AdamW(0.01), loss=losses)
history = model.fit(inputs, {"logits": targets}, batch_size=8, epochs=20, verbose=0).history["loss"]
assert history[-1] < 0.8 * history[0], history
save_arrays(folder / "weights.safetensors", variable_arrays(model.weights), {})
for training in (False, True):
    outputs = {name: np.asarray(value) for name, value in model(inputs, training=training).items()}
    np.savez(folder / f"{training}.npz", **inputs, **outputs)
"""
"""Trains the tiny network in JAX, and saves its weights and its outputs."""


def test_weights_of_a_training_in_jax_give_the_same_outputs_in_tensorflow(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install jax")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    finished = subprocess.run(
        [sys.executable, "-c", JAX_TRAINING, tmp_path],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    model, path = tiny_network(), tmp_path / "weights.safetensors"
    arrays, _ = checkpoints.load_arrays(path)
    checkpoints.assign_variables(model.weights, arrays, path=path)
    for training in (False, True):
        saved = dict(np.load(tmp_path / f"{training}.npz"))
        inputs = {name: saved[name] for name in ("image", "domain", "seed")}
        for name, value in model(inputs, training=training).items():
            np.testing.assert_allclose(value, saved[name], rtol=1e-3, atol=1e-4)
