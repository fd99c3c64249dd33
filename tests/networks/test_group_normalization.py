import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from kerasemo.networks.layers import GroupNormalization


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(1803)


def output_and_gradients(layer, inputs, upstream, *, is_compiled: bool = False) -> list[np.ndarray]:
    """Return the output of a layer, and the gradients of its inputs, gamma and beta, in float32."""

    @tf.function(jit_compile=is_compiled)
    def run(inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = layer(inputs)
        variables = [inputs, layer.gamma.value, layer.beta.value]
        upstream_gradient = tf.cast(upstream, output.dtype)
        return output, *tape.gradient(output, variables, output_gradients=upstream_gradient)

    return [ops.convert_to_numpy(ops.cast(value, "float32")) for value in run(tf.constant(inputs))]


def built_layers(random, groups, shape, **options):
    """Return the layer of the project and the layer of Keras with the same random weights."""
    layers = (
        GroupNormalization(groups, epsilon=1e-5, **options),
        keras.layers.GroupNormalization(groups, epsilon=1e-5, **options),
    )
    gamma, beta = random.normal(size=(2, shape[-1])).astype(np.float32)
    for layer in layers:
        layer.build(shape)
        layer.gamma.assign(gamma)
        layer.beta.assign(beta)
    return layers


GROUPS_AND_SHAPES = [(8, (3, 5, 4, 32)), (1, (2, 3, 3, 6)), (6, (2, 3, 3, 6)), (4, (1, 2, 2, 8))]


@pytest.mark.parametrize(
    ("groups", "shape", "is_compiled"),
    [
        *((groups, shape, False) for groups, shape in GROUPS_AND_SHAPES),
        (*GROUPS_AND_SHAPES[0], True),
        *(
            pytest.param(groups, shape, True, marks=pytest.mark.endurance)
            for groups, shape in GROUPS_AND_SHAPES[1:]
        ),
    ],
)
def test_output_and_gradients_equal_those_of_keras(random, groups, shape, is_compiled):
    """Also compiled by XLA; all shapes but one only in the endurance run."""
    n_channels = shape[-1]
    scales, means = np.arange(1, n_channels + 1), np.linspace(-3, 3, n_channels)
    inputs = (random.normal(size=shape) * scales + means).astype(np.float32)
    upstream = random.normal(size=shape).astype(np.float32)
    values, expected_values = (
        output_and_gradients(layer, inputs, upstream, is_compiled=is_compiled)
        for layer in built_layers(random, groups, shape)
    )
    input_gradient = values[1]
    assert np.abs(input_gradient).max() > 1e-3
    for value, expected in zip(values, expected_values, strict=True):
        assert value.shape == expected.shape
        atol = 1e-5 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=atol)


def test_output_by_hand():
    """Two groups of one channel over two pixels: 1, 3 has mean 2 and deviation 1, so -1, 1.

    With gamma 2 and beta 10: 8, 12. A constant channel becomes beta, -1.
    """
    layer = GroupNormalization(2, epsilon=0.0001)
    layer.build((1, 1, 2, 2))
    layer.gamma.assign([2.0, 5.0])
    layer.beta.assign([10.0, -1.0])
    output = ops.convert_to_numpy(layer(np.array([[[[1, 7], [3, 7]]]], np.float32)))
    np.testing.assert_allclose(output, [[[[8, -1], [12, -1]]]], atol=2e-4)


def test_statistics_are_float32_under_bfloat16(random):
    """Numbers near 100 have steps of 0.5 in bfloat16, so sums in bfloat16 would be wrong.

    The inputs are whole numbers that bfloat16 represents exactly.
    """
    shape = (2, 8, 8, 4)
    layer, _ = built_layers(random, 2, shape, dtype="mixed_bfloat16")
    float32_layer, _ = built_layers(np.random.default_rng(1803), 2, shape)
    inputs = ops.cast(random.integers(64, 128, shape), "bfloat16")
    upstream = random.integers(-4, 5, shape).astype(np.float32)
    assert keras.backend.standardize_dtype(layer(inputs).dtype) == "bfloat16"
    assert layer.gamma.dtype == "float32"
    output, _, *weight_gradients = output_and_gradients(layer, inputs, upstream)
    expected_output, _, *expected_gradients = output_and_gradients(
        float32_layer, ops.cast(inputs, "float32"), upstream
    )
    np.testing.assert_allclose(output, expected_output, rtol=2**-7, atol=2**-7)
    for gradient, expected in zip(weight_gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3)


def test_weights_have_the_names_and_shapes_of_keras():
    inputs = keras.Input((4, 4, 8))
    model = keras.Model(inputs, GroupNormalization(4, name="norm")(inputs))
    keras_model = keras.Model(inputs, keras.layers.GroupNormalization(4, name="norm")(inputs))
    assert [(weight.path, weight.shape) for weight in model.weights] == [
        (weight.path, weight.shape) for weight in keras_model.weights
    ]


def test_layer_is_built_again_from_its_configuration():
    inputs = keras.Input((4, 4, 8))
    model = keras.Model(inputs, GroupNormalization(4, epsilon=1e-4, name="norm")(inputs))
    rebuilt = keras.Model.from_config(model.get_config()).get_layer("norm")
    assert type(rebuilt) is GroupNormalization
    assert rebuilt.groups == 4
    assert rebuilt.epsilon == 1e-4


def test_groups_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="groups .*6 channels; received 4"):
        GroupNormalization(4)(np.zeros((1, 2, 2, 6), np.float32))
