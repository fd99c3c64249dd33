"""kerasemo's network in plain JAX, which `many_training.py` trains many of at once. Not a benchmark itself.

Here is one network; `jax.vmap` puts many side by side. A convolution is a product of patches and kernel, so that those of many networks are
one batched product of matrices, which an accelerator does at full speed. Weights have the paths and shapes that
`kerasemo.model.build_network` gives them, the statistics of the inputs excepted.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from kerasemo.settings import Network
from pipelines.spec import EMOTIONS, Spec

LEAKY_SLOPE = 0.01
EPSILON = 1e-5

Weights = Mapping[str, jax.Array]
"""Path -> values, float32, such as `stage1_conv1/kernel` [3, 3, 3, 32]."""


def kernel_shapes(config: Network) -> dict[str, tuple[int, ...]]:
    """Return the shape of each layer's kernel: [size, size, in, out] of convolutions, which have a norm, [in, out] of dense ones."""
    shapes, channels = {}, 3
    for stage, width in enumerate(config.widths, start=1):
        for convolution in range(1, config.convolutions + 1):
            shapes[f"stage{stage}_conv{convolution}"] = (3, 3, channels if convolution == 1 else width, width)
        if config.squeeze:
            shapes[f"stage{stage}_excite1"] = (width, width // config.squeeze)
            shapes[f"stage{stage}_excite2"] = (width // config.squeeze, width)
        if config.blocks == "residual":
            shapes[f"stage{stage}_shortcut"] = (1, 1, channels, width)
        channels = width
    rows = Spec().mel_filters >> len(config.widths) if config.pool == "rows" else 1
    return shapes | {"features": (rows * channels, config.embedding), "head": (config.embedding, len(EMOTIONS))}


def initial_weights(key: jax.Array, config: Network) -> dict[str, jax.Array]:
    """Return the weights that a training starts from: He's for convolutions, Glorot's for the rest, normal."""
    shapes = kernel_shapes(config)
    edges = np.cumsum([math.prod(shape) for shape in shapes.values()])
    drawn = jnp.split(jax.random.normal(key, (edges[-1],)), edges[:-1])  # all at once: each draw is seconds of compiling
    weights = {}
    for (name, shape), own in zip(shapes.items(), drawn, strict=True):
        *inputs, width = shape
        convolution = len(shape) == 4
        deviation = math.sqrt(2 / (math.prod(inputs) + (0 if convolution else width)))
        weights[f"{name}/kernel"] = deviation * own.reshape(shape)
        if convolution:
            weights |= {f"{name}_norm/gamma": jnp.ones(width), f"{name}_norm/beta": jnp.zeros(width)}
        else:
            weights[f"{name}/bias"] = jnp.zeros(width)
    return weights


def logits(weights: Weights, images: jax.Array, config: Network, *, kept: jax.Array | None = None, dtype=jnp.float32) -> jax.Array:
    """Return the network's answers, float32 [batch, 10].

    Args:
        weights: Of one network.
        images: float32 [batch, 64, 64, 3], normalised.
        config: The network's shape.
        kept: float32 [batch, embedding]: what dropout leaves of the features, scaled; None: all.
        dtype: What the convolutions compute in.
    """
    x = images.astype(dtype)
    for stage in range(1, len(config.widths) + 1):
        x = _stage(weights, f"stage{stage}", x, config)  # [batch, 64 / 2^stage, 64 / 2^stage, width]
    x = x.astype(jnp.float32)
    pooled = x.mean(axis=2).reshape(len(x), -1) if config.pool == "rows" else x.mean(axis=(1, 2))
    features = _dense(weights, "features", pooled)  # [batch, embedding]
    return _dense(weights, "head", features if kept is None else features * kept)


def _stage(weights: Weights, name: str, entered: jax.Array, config: Network) -> jax.Array:
    x = entered
    for convolution in range(1, config.convolutions + 1):
        x = _convolved(weights, f"{name}_conv{convolution}", x, strides=2 if convolution == 1 else 1, groups=config.groups)
        if convolution < config.convolutions:
            x = _leaky_relu(x)
    if config.squeeze:
        mean = x.astype(jnp.float32).mean(axis=(1, 2))  # [batch, width]
        few = jax.nn.relu(_dense(weights, f"{name}_excite1", mean))
        share = jax.nn.sigmoid(_dense(weights, f"{name}_excite2", few))
        x = x * share[:, None, None].astype(x.dtype)
    if config.blocks == "residual":
        x = x + _convolved(weights, f"{name}_shortcut", entered, strides=2, groups=config.groups)
    return _leaky_relu(x)


def _leaky_relu(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, LEAKY_SLOPE * x)


def _dense(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def _convolved(weights: Weights, name: str, x: jax.Array, *, strides: int, groups: int) -> jax.Array:
    """Return a convolution without bias, normalised over groups of channels."""
    kernel = weights[f"{name}/kernel"]
    size, _, _, width = kernel.shape
    patches = _patches(x, size, strides)  # [batch, rows, columns, size * size * channels]
    *places, values = patches.shape
    product = patches.reshape(-1, values) @ kernel.reshape(values, width).astype(x.dtype)
    y = product.reshape(*places, width)
    return _group_norm(y, weights[f"{name}_norm/gamma"], weights[f"{name}_norm/beta"], groups=groups)


def _patches(x: jax.Array, size: int, strides: int) -> jax.Array:
    """Return what a kernel sees at every place, "same" padding as TensorFlow has it: with strides of 2 only behind the last."""
    rows, columns = x.shape[1] // strides, x.shape[2] // strides
    if size == 1:
        return x[:, ::strides, ::strides]
    edge = (1, 1) if strides == 1 else (0, 1)
    x = jnp.pad(x, ((0, 0), edge, edge, (0, 0)))
    row_ends, column_ends = strides * (rows - 1) + 1, strides * (columns - 1) + 1
    shifted = [x[:, r : r + row_ends : strides, c : c + column_ends : strides] for r in range(size) for c in range(size)]
    return jnp.concatenate(shifted, axis=-1)


def _group_norm(x: jax.Array, gamma: jax.Array, beta: jax.Array, *, groups: int) -> jax.Array:
    """Return x normalised over the places and channels of each group, in float32, of the type of x."""
    batch, rows, columns, channels = x.shape
    y = x.astype(jnp.float32).reshape(batch, rows * columns, groups, channels // groups)
    mean = y.mean(axis=(1, 3), keepdims=True)
    variance = jnp.square(y).mean(axis=(1, 3), keepdims=True) - jnp.square(mean)
    y = (y - mean) * jax.lax.rsqrt(jnp.maximum(variance, 0) + EPSILON)
    return (y.reshape(x.shape) * gamma + beta).astype(x.dtype)
