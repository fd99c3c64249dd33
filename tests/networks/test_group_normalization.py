import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasemo.networks.layers import GroupNormalization


@pytest.fixture
def random():
    return np.random.default_rng(1803)


def outputs_and_gradients(layer, x, upstream, *, jit=False):
    """Return what a layer puts out, and the gradients of its input, gamma and beta."""

    @tf.function(jit_compile=jit)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, *tape.gradient(
            y, [x, layer.gamma.value, layer.beta.value], output_gradients=tf.cast(upstream, y.dtype)
        )

    return [ops.convert_to_numpy(ops.cast(value, "float32")) for value in run(tf.constant(x))]


def both_layers(random, groups, shape, **options):
    layers = (
        GroupNormalization(groups, epsilon=1e-5, **options),
        keras.layers.GroupNormalization(groups, epsilon=1e-5, **options),
    )
    values = random.normal(size=(2, shape[-1])).astype(np.float32)
    for layer in layers:
        layer.build(shape)
        layer.gamma.assign(values[0])
        layer.beta.assign(values[1])
    return layers


SHAPES = [(8, (3, 5, 4, 32)), (1, (2, 3, 3, 6)), (6, (2, 3, 3, 6)), (4, (1, 2, 2, 8))]
"""Groups and shapes; compiled by XLA, all but the first are for the long run."""


@pytest.mark.parametrize(
    ("groups", "shape", "jit"),
    [
        *((*one, False) for one in SHAPES),
        (*SHAPES[0], True),
        *(pytest.param(*one, True, marks=pytest.mark.endurance) for one in SHAPES[1:]),
    ],
)
def test_equals_that_of_keras_forward_and_backward(random, groups, shape, jit):
    x = (
        random.normal(size=shape) * np.arange(1, shape[-1] + 1) + np.linspace(-3, 3, shape[-1])
    ).astype(np.float32)
    upstream = random.normal(size=shape).astype(np.float32)
    ours, theirs = (
        outputs_and_gradients(layer, x, upstream, jit=jit)
        for layer in both_layers(random, groups, shape)
    )
    assert np.abs(ours[1]).max() > 1e-3
    for found, expected in zip(ours, theirs, strict=True):
        assert found.shape == expected.shape
        np.testing.assert_allclose(
            found, expected, rtol=1e-5, atol=1e-5 * max(1, np.abs(expected).max())
        )


def test_by_hand():
    """Two groups of one channel over two pixels: 1, 3 has mean 2 and deviation 1; a constant leaves beta alone."""
    layer = GroupNormalization(2, epsilon=0.0001)
    layer.build((1, 1, 2, 2))
    layer.gamma.assign([2.0, 5.0])
    layer.beta.assign([10.0, -1.0])
    found = ops.convert_to_numpy(layer(np.array([[[[1, 7], [3, 7]]]], np.float32)))
    np.testing.assert_allclose(found, [[[[8, -1], [12, -1]]]], atol=2e-4)


def test_statistics_are_float32_under_bfloat16(random):
    """A mean of 100 is worth 0.5 in bfloat16: sums in it would lose the small differences of its inputs."""
    (layer, _) = both_layers(random, 2, (2, 8, 8, 4), dtype="mixed_bfloat16")
    (exact, _) = both_layers(np.random.default_rng(1803), 2, (2, 8, 8, 4))
    x = ops.cast(
        random.integers(64, 128, (2, 8, 8, 4)), "bfloat16"
    )  # whole numbers that bfloat16 holds
    upstream = random.integers(-4, 5, (2, 8, 8, 4)).astype(np.float32)
    assert (
        keras.backend.standardize_dtype(layer(x).dtype) == "bfloat16"
        and layer.gamma.dtype == "float32"
    )
    found = outputs_and_gradients(layer, x, upstream)
    expected = outputs_and_gradients(exact, ops.cast(x, "float32"), upstream)
    np.testing.assert_allclose(found[0], expected[0], rtol=2**-7, atol=2**-7)
    for one, other in zip(found[2:], expected[2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)


def test_names_of_weights_are_those_of_keras(random):
    inputs = keras.Input((4, 4, 8))
    ours = keras.Model(inputs, GroupNormalization(4, name="norm")(inputs))
    theirs = keras.Model(inputs, keras.layers.GroupNormalization(4, name="norm")(inputs))
    assert [(weight.path, weight.shape) for weight in ours.weights] == [
        (weight.path, weight.shape) for weight in theirs.weights
    ]
    again = keras.Model.from_config(ours.get_config())
    assert again.get_layer("norm").groups == 4 and again.get_layer("norm").epsilon == 1e-5


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="groups must divide the 6 channels; received 4"):
        GroupNormalization(4)(np.zeros((1, 2, 2, 6), np.float32))
