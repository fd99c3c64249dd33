"""Layers of the network: input normalisation, seeded dropout and fast group normalisation."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops

from kerasemo.networks.random import random_uniform
from pipelines.core.domains import DOMAINS, domain_facts

BLOCK_ITEMS = 1024
"""The number of inputs in one sum of `DomainNormalization.fit`."""


@keras.saving.register_keras_serializable("kerasemo")
class DomainNormalization(layers.Layer):
    """Subtract the mean of an input's domain and divide by its scale, per row and channel.

    The statistics are weights, so that training and service use the same. `fit` sets them, once for
    each domain.

    Input: image float32 [batch, 64, 64, 3] and domain int32 [batch], an index of
    `pipelines.core.domains.DOMAINS`.
    """

    def build(self, input_shape: Any) -> None:
        """Create the statistics of every domain."""
        (_, rows, _, channels), _ = input_shape
        shape = (len(DOMAINS), rows, 1, channels)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", trainable=False)
        self.fitted = self.add_weight(
            name="fitted", shape=(len(DOMAINS),), initializer="zeros", trainable=False
        )

    def fit(self, domain: str, inputs: Any) -> None:
        """Set the statistics of a domain from its training inputs.

        They are those of each Mel bin for audio, and of all rows together for faces.

        Args:
            domain: One of DOMAINS.
            inputs: [n, 64, 64, 3], an array, or an object with the same interface.

        Raises:
            ValueError: The domain does not exist, or there is no input, or an input is not finite.
        """
        if domain not in DOMAINS:
            raise ValueError(f"domain must be one of {', '.join(DOMAINS)}; received {domain!r}")
        if not len(inputs):
            raise ValueError(
                f"inputs must hold at least one training input of {domain}; "
                f"received shape {inputs.shape}"
            )
        index = DOMAINS.index(domain)
        axes = domain_facts(domain).mean_axes  # of [rows, columns, channels]

        def total(transform: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            # Block by block, so that there is no copy of all inputs; float64 in the sums alone.
            sums = [
                np.add.reduce(
                    transform(inputs[start : start + BLOCK_ITEMS].astype(np.float32)),
                    axis=0,
                    dtype=np.float64,
                )
                for start in range(0, len(inputs), BLOCK_ITEMS)
            ]
            return sum(sums).sum(axes, keepdims=True)

        count = len(inputs) * math.prod(inputs.shape[1 + axis] for axis in axes)
        mean = total(lambda part: part) / count  # [rows or 1, 1, channels]
        variance = total(lambda part: np.square(part - mean.astype(np.float32))) / count
        if not np.isfinite(variance).all():
            raise ValueError(f"inputs of {domain} must be finite; received NaN or infinity")
        scale = np.sqrt(variance) + 1e-3
        for weight, value in ((self.mean, mean), (self.scale, scale), (self.fitted, 1.0)):
            values = ops.convert_to_numpy(weight).copy()
            values[index] = value
            weight.assign(values)

    def call(self, inputs: tuple[KerasTensor, KerasTensor]) -> KerasTensor:
        """Return the normalised image."""
        image, domain = inputs
        return (image - ops.take(self.mean, domain, axis=0)) / ops.take(self.scale, domain, axis=0)


@keras.saving.register_keras_serializable("kerasemo")
class ExampleDropout(layers.Layer):
    """Dropout whose mask is a pure function of a seed that each example carries.

    So the mask does not depend on how a batch is split over devices, and a resumed training draws
    the same masks.

    Input: features float [batch, n] and seed int32 [batch]. Outside training the seed is not used.

    Args:
        rate: The fraction of features that become 0, in [0, 1).
        stream: Layers of different streams draw different masks from one seed.
    """

    def __init__(self, rate: float, *, stream: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1); received {rate!r}")
        if stream < 0:
            raise ValueError(f"stream must be at least 0; received {stream!r}")
        self.rate = rate
        self.stream = stream

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        return super().get_config() | {"rate": self.rate, "stream": self.stream}

    def call(self, inputs: tuple[KerasTensor, KerasTensor], training: bool = False) -> KerasTensor:
        """Return the features, in training with some set to 0 and the others scaled up."""
        features, seed = inputs
        if not training or self.rate == 0:
            return features
        n = features.shape[-1]
        is_kept = random_uniform(seed, n, first=self.stream * n) >= self.rate
        return features * ops.cast(is_kept, features.dtype) / (1 - self.rate)


@keras.saving.register_keras_serializable("kerasemo")
class GroupNormalization(layers.Layer):
    """Compute what `keras.layers.GroupNormalization` computes, in half of its time on a CPU.

    The weights are the same, `gamma` and `beta`. Mean and variance come from sums over each
    channel, in float32 whatever the precision. Normalising, scaling and shifting are one
    multiplication and one addition, and so are their gradients (Wu & He 2018, Eq. 1 to 6). The
    variance is the mean square minus the squared mean, which float32 loses where the variance is a
    millionth of the squared mean.

    Input and output: float [batch, rows, columns, channels].

    Args:
        groups: The number of groups, which divides the channels.
        epsilon: Added to the variance.
    """

    def __init__(self, groups: int, *, epsilon: float = 1e-5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape: Any) -> None:
        """Create scale and shift of every channel."""
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"groups must divide the {channels} channels; received {self.groups}")
        self.gamma = self.add_weight(
            name="gamma", shape=(channels,), initializer="ones", autocast=False
        )
        self.beta = self.add_weight(
            name="beta", shape=(channels,), initializer="zeros", autocast=False
        )

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        return super().get_config() | {"groups": self.groups, "epsilon": self.epsilon}

    def call(self, inputs: KerasTensor) -> KerasTensor:
        """Return the normalised inputs."""
        _, rows, columns, channels = inputs.shape
        x = ops.reshape(ops.cast(inputs, "float32"), (-1, rows * columns, channels))
        gamma, beta = (ops.reshape(weight, (1, 1, channels)) for weight in (self.gamma, self.beta))
        normalized = _group_normalized(x, gamma, beta, self.groups, self.epsilon)
        normalized = ops.reshape(normalized, (-1, rows, columns, channels))
        return ops.cast(normalized, self.compute_dtype)


def _group_normalized(
    x: KerasTensor, gamma: KerasTensor, beta: KerasTensor, groups: int, epsilon: float
) -> KerasTensor:
    """Return x, float32 [batch, pixels, channels], normalised over each group."""
    _, pixels, channels = x.shape
    count = pixels * channels // groups
    group_of = np.arange(channels) // (channels // groups)  # [channels]
    averaging = (group_of[:, None] == group_of) / np.float32(count)

    def group_mean(sums: KerasTensor) -> KerasTensor:
        """Map sums of channels [batch, 1, channels] to the mean of each channel's group."""
        return ops.matmul(sums, averaging)  # one product, which is quick to trace

    @ops.custom_gradient
    def normalized(x: KerasTensor, gamma: KerasTensor, beta: KerasTensor) -> Any:
        mean = group_mean(ops.sum(x, axis=1, keepdims=True))
        variance = group_mean(ops.sum(ops.square(x), axis=1, keepdims=True)) - ops.square(mean)
        inverse = ops.rsqrt(ops.maximum(variance, 0.0) + epsilon)
        factor = gamma * inverse

        def gradient(*arguments: Any, upstream: Any = None) -> Any:
            (upstream,) = arguments if upstream is None else (upstream,)
            of_beta = ops.sum(upstream, axis=1, keepdims=True)  # [batch, 1, channels]
            of_gamma = (ops.sum(upstream * x, axis=1, keepdims=True) - mean * of_beta) * inverse
            slope = -ops.square(inverse) * group_mean(gamma * of_gamma)
            offset = inverse * group_mean(gamma * of_beta) + mean * slope
            of_x = factor * upstream + (slope * x - offset)
            return (
                of_x,
                ops.sum(of_gamma, axis=0, keepdims=True),
                ops.sum(of_beta, axis=0, keepdims=True),
            )

        return x * factor + (beta - mean * factor), gradient

    return normalized(x, gamma, beta)
