"""The network with several heads, and in mixed precision."""

import keras
import numpy as np
import pytest

from helpers.networks import SMALL, TINY, network, some_inputs
from kerasemo.config import schema
from kerasemo.networks.network import build_network
from pipelines.core.labels import EMOTIONS


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def test_several_heads_stand_side_by_side_in_one():
    """Each gives what a network with it alone would; nothing else of the network is another one."""
    inputs = some_inputs(np.random.default_rng(3))
    one = network()
    keras.utils.set_random_seed(1)
    three = keras.Model(*build_network(TINY, spec=SMALL, heads=3))
    assert [weight.path for weight in three.weights] == [weight.path for weight in one.weights]
    assert {name: value.shape for name, value in three.output.items()} == {
        "embedding": (None, 8),
        "logits": (None, 3, len(EMOTIONS)),
    }
    assert [value.name for value in three.inputs] == [value.name for value in one.inputs]
    for weight, single in zip(three.weights, one.weights, strict=True):
        weight.assign(
            np.concatenate([single, 2 * single, -single], axis=-1)
            if weight.path.startswith("head/")
            else single
        )
    outputs, expected = three(inputs), one(inputs)
    np.testing.assert_array_equal(outputs["embedding"], expected["embedding"])
    for head, factor in enumerate((1, 2, -1)):
        np.testing.assert_allclose(
            outputs["logits"][:, head], factor * expected["logits"], rtol=1e-5, atol=1e-6
        )


def test_the_convolutions_alone_compute_in_mixed_precision(random):
    """Faces and decibels keep their digits until they are normalised; weights, embedding and logits are float32."""
    inputs = some_inputs(random)
    expected = network()(inputs)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = network()
    finally:
        keras.config.set_dtype_policy("float32")
    dtypes = {
        layer.name: layer.compute_dtype
        for layer in mixed.layers
        if "stage1" in layer.name or layer.weights
    }
    halves = {name for name, dtype in dtypes.items() if dtype == "bfloat16"}
    assert halves == {name for name in dtypes if name.startswith("stage1")} and len(halves) == 3
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    large = np.full((1, 16, 16, 3), -100.125, np.float32)  # of which bfloat16 keeps -100
    layer = mixed.get_layer("normalization")
    np.testing.assert_array_equal(layer([large, np.zeros(1, np.int32)]), large / layer.scale[:1])
    for training in (False, True):
        outputs = mixed(inputs, training=training)
        assert {name: value.dtype.name for name, value in outputs.items()} == {
            "embedding": "float32",
            "logits": "float32",
        }
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, rtol=1e-6)
    error = np.abs(mixed(inputs)["embedding"] - expected["embedding"]).max()
    assert 1e-5 < error < 0.05


def pictures(random) -> dict[str, np.ndarray]:
    """Return two inputs of the usual size."""
    image = random.normal(size=(2, 64, 64, 3)).astype(np.float32)
    return {"image": image, "domain": np.zeros(2, np.int32), "seed": np.zeros(2, np.int32)}


def test_rows_of_the_last_map_are_told_apart(random):
    """Pooled over rows, a network feels whether a pattern is up or down; over the whole map it is told little of that."""
    image = np.zeros((2, 64, 64, 3), np.float32)
    image[0, 8:16], image[1, 40:48] = 100.0, 100.0  # far from the edges: the same but for the place
    inputs = {"image": image, "domain": np.zeros(2, np.int32), "seed": np.zeros(2, np.int32)}
    distance = {}
    for pool, rows in (("average", 1), ("rows", 16)):
        keras.utils.set_random_seed(5)
        made = keras.Model(
            *build_network(schema.NetworkConfig(widths=(8, 8), groups=2, embedding=16, pool=pool))
        )
        assert made.get_layer("features").kernel.shape == (rows * 8, 16)
        one, other = keras.ops.convert_to_numpy(made(inputs)["embedding"])
        distance[pool] = np.linalg.norm(one - other)
    assert distance["rows"] > 3 * distance["average"]


def test_a_residual_stage_without_convolutions_passes_its_projected_input_on(random):
    """With gamma 0 in the last normalisation nothing is left of the convolutions: max(x W, 0.01 x W) of the shortcut, normalised."""
    made = keras.Model(
        *build_network(
            schema.NetworkConfig(widths=(8,), groups=2, embedding=16, blocks="residual", squeeze=4)
        )
    )
    made.get_layer("stage1_conv2_norm").gamma.assign(np.zeros(8))
    inputs = pictures(random)
    parts = keras.Model(
        made.inputs,
        [made.get_layer("stage1_shortcut_norm").output, made.get_layer("stage1_conv2_relu").output],
    )
    shortcut, passed = (keras.ops.convert_to_numpy(value) for value in parts(inputs))
    np.testing.assert_allclose(passed, np.maximum(shortcut, 0.01 * shortcut), rtol=1e-5, atol=1e-6)


def test_squeezed_channels_are_weighed_by_their_means(random):
    """An excitation of sigmoid(bias), its kernels 0, halves every channel where the bias is 0."""
    inputs = pictures(random)
    made = keras.Model(
        *build_network(schema.NetworkConfig(widths=(8,), groups=2, embedding=16, squeeze=2))
    )
    for weight in made.get_layer("stage1_excite2").weights:
        weight.assign(np.zeros(weight.shape))
    parts = keras.Model(
        made.inputs,
        [made.get_layer("stage1_conv2_norm").output, made.get_layer("stage1_excited").output],
    )
    before, after = (keras.ops.convert_to_numpy(value) for value in parts(inputs))
    np.testing.assert_allclose(after, before / 2, rtol=1e-6)
