"""Networks with several heads, in mixed precision, and with other blocks and poolings."""

from typing import Any

import keras
import numpy as np
import pytest

from helpers.networks import random_inputs, tiny_network
from kerasemo.config.schema import NetworkConfig
from kerasemo.networks.network import build_network
from pipelines.core.labels import EMOTIONS


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(20200311)


# Several heads.


def test_several_heads_change_only_the_shape_of_the_logits():
    single, several = tiny_network(), tiny_network(heads=3)
    assert [weight.path for weight in several.weights] == [weight.path for weight in single.weights]
    assert [value.name for value in several.inputs] == [value.name for value in single.inputs]
    assert {name: value.shape for name, value in several.output.items()} == {
        "embedding": (None, 8),
        "logits": (None, 3, len(EMOTIONS)),
    }


def test_each_head_predicts_as_a_network_with_this_head_alone():
    """The kernels and biases of the heads are side by side; here heads of factors 1, 2 and -1."""
    inputs = random_inputs(np.random.default_rng(3))
    single, several = tiny_network(), tiny_network(heads=3)
    for weight, single_weight in zip(several.weights, single.weights, strict=True):
        value = keras.ops.convert_to_numpy(single_weight)
        if weight.path.startswith("head/"):
            value = np.concatenate([value, 2 * value, -value], axis=-1)
        weight.assign(value)
    outputs, expected = several(inputs), single(inputs)
    np.testing.assert_array_equal(outputs["embedding"], expected["embedding"])
    for head, factor in enumerate((1, 2, -1)):
        logits = outputs["logits"][:, head]
        np.testing.assert_allclose(logits, factor * expected["logits"], rtol=1e-5, atol=1e-6)


# Mixed precision.


@pytest.fixture
def mixed_precision_network() -> keras.Model:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return tiny_network()
    finally:
        keras.config.set_dtype_policy("float32")


def test_only_convolutions_compute_in_half_precision(mixed_precision_network):
    """A convolution, its normalisation and its activation; all weights are float32."""
    dtype_by_layer = {
        layer.name: layer.compute_dtype
        for layer in mixed_precision_network.layers
        if "stage1" in layer.name or layer.weights
    }
    of_stage = {name for name in dtype_by_layer if name.startswith("stage1")}
    assert len(of_stage) == 3
    assert {name for name, dtype in dtype_by_layer.items() if dtype == "bfloat16"} == of_stage
    assert {weight.dtype for weight in mixed_precision_network.weights} == {"float32"}


def test_inputs_are_normalized_before_they_lose_digits(mixed_precision_network):
    """bfloat16 would round -100.125 to -100."""
    layer = mixed_precision_network.get_layer("normalization")
    image = np.full((1, 16, 16, 3), -100.125, np.float32)
    normalized = layer([image, np.zeros(1, np.int32)])
    np.testing.assert_array_equal(normalized, image / layer.scale[:1])


@pytest.mark.parametrize("training", [False, True])
def test_outputs_of_mixed_precision_are_float32(mixed_precision_network, random, training):
    outputs = mixed_precision_network(random_inputs(random), training=training)
    assert {name: value.dtype.name for name, value in outputs.items()} == {
        "embedding": "float32",
        "logits": "float32",
    }
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, rtol=1e-6)


def test_mixed_precision_changes_embeddings_little(mixed_precision_network, random):
    """But it does change them: half precision is used."""
    inputs = random_inputs(random)
    embedding, expected = (
        model(inputs)["embedding"] for model in (mixed_precision_network, tiny_network())
    )
    assert 1e-5 < np.abs(embedding - expected).max() < 0.05


# Blocks and poolings.


def full_size_network(**settings: Any) -> keras.Model:
    """Return a network of images of 64 x 64 pixels with an embedding of 16 features."""
    keras.utils.set_random_seed(5)
    return keras.Model(*build_network(NetworkConfig(groups=2, embedding=16, **settings)))


def inputs_of(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the inputs of faces."""
    zeros = np.zeros(len(images), np.int32)
    return {"image": images, "domain": zeros, "seed": zeros}


def layer_outputs(model: keras.Model, names: list[str], random: np.random.Generator) -> Any:
    """Return the outputs of layers for random images."""
    images = random.normal(size=(2, 64, 64, 3)).astype(np.float32)
    layers = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    return [keras.ops.convert_to_numpy(value) for value in layers(inputs_of(images))]


def test_pooling_by_rows_distinguishes_the_rows_of_a_pattern():
    """Two images have the same stripe in other rows, both far from the edges.

    The mean over the whole map differs little between the images.
    """
    images = np.zeros((2, 64, 64, 3), np.float32)
    images[0, 8:16] = images[1, 40:48] = 100
    distance = {}
    for pool, n_rows in (("average", 1), ("rows", 16)):
        model = full_size_network(widths=(8, 8), pool=pool)
        assert model.get_layer("features").kernel.shape == (n_rows * 8, 16)
        first, second = keras.ops.convert_to_numpy(model(inputs_of(images))["embedding"])
        distance[pool] = np.linalg.norm(first - second)
    assert distance["rows"] > 3 * distance["average"]


def test_residual_stage_adds_its_projected_input(random):
    """With gamma 0 in its last normalisation, only the shortcut is left.

    The output is max(x, 0.01 x) of the normalised shortcut x.
    """
    model = full_size_network(widths=(8,), blocks="residual", squeeze=4)
    model.get_layer("stage1_conv2_norm").gamma.assign(np.zeros(8))
    shortcut, output = layer_outputs(model, ["stage1_shortcut_norm", "stage1_conv2_relu"], random)
    np.testing.assert_allclose(output, np.maximum(shortcut, 0.01 * shortcut), rtol=1e-5, atol=1e-6)


def test_squeeze_and_excite_scales_channels_by_a_gate(random):
    """With kernel and bias 0, the gate is sigmoid(0) = 1/2 for every channel."""
    model = full_size_network(widths=(8,), squeeze=2)
    for weight in model.get_layer("stage1_excite2").weights:
        weight.assign(np.zeros(weight.shape))
    before, after = layer_outputs(model, ["stage1_conv2_norm", "stage1_excited"], random)
    np.testing.assert_allclose(after, before / 2, rtol=1e-6)
