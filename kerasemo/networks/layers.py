"""Layers of the network: input normalisation per domain, seeded dropout, fast group normalisation."""

import keras
import numpy as np
from keras import layers, ops

from kerasemo.networks.random import random_uniform
from pipelines.core.domains import DOMAINS


@keras.saving.register_keras_serializable("kerasemo")
class DomainNormalization(layers.Layer):
    """Subtracts the mean and divides by the scale of an input's domain, per row (Mel bin) and channel.

    The statistics are weights, so that what is trained is what is served. `fit` sets them, once a domain.

    Input: image float32 [batch, 64, 64, 3] and domain int32 [batch], an index of `pipelines.core.domains.DOMAINS`.
    """

    def build(self, input_shape) -> None:
        (_, rows, _, channels), _ = input_shape
        shape = (len(DOMAINS), rows, 1, channels)
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=shape, initializer="ones", trainable=False)
        self.fitted = self.add_weight(
            name="fitted", shape=(len(DOMAINS),), initializer="zeros", trainable=False
        )

    def fit(self, domain: str, inputs: np.ndarray) -> None:
        """Set a domain's statistics from its training inputs, [n, 64, 64, 3]: per Mel bin for audio, over all rows for faces."""
        if domain not in DOMAINS:
            raise ValueError(f"domain must be one of {', '.join(DOMAINS)}; received {domain!r}")
        if not len(inputs):
            raise ValueError(
                f"inputs must hold at least one training input of {domain}; received shape {inputs.shape}"
            )
        index = DOMAINS.index(domain)
        axes = 1 if domain == "audio" else (0, 1)  # of [rows, columns, channels]

        def total(
            change,
        ) -> np.ndarray:  # block by block: no copy of the whole, float64 only in the sums
            parts = (
                inputs[start : start + 1024].astype(np.float32)
                for start in range(0, len(inputs), 1024)
            )
            return sum(np.add.reduce(change(part), axis=0, dtype=np.float64) for part in parts).sum(
                axes, keepdims=True
            )

        count = (
            len(inputs)
            * np.prod(inputs.shape[1:3])
            // (inputs.shape[1] if domain == "audio" else 1)
        )
        mean = total(lambda part: part) / count  # [rows or 1, 1, channels]
        variance = total(lambda part: np.square(part - mean.astype(np.float32))) / count
        if not np.isfinite(variance).all():
            raise ValueError(f"inputs of {domain} must be finite; received NaN or infinity")
        for weight, value in (
            (self.mean, mean),
            (self.scale, np.sqrt(variance) + 1e-3),
            (self.fitted, 1.0),
        ):
            values = ops.convert_to_numpy(weight).copy()
            values[index] = value
            weight.assign(values)

    def call(self, inputs):
        image, domain = inputs
        return (image - ops.take(self.mean, domain, axis=0)) / ops.take(self.scale, domain, axis=0)


@keras.saving.register_keras_serializable("kerasemo")
class ExampleDropout(layers.Layer):
    """Dropout whose mask is a pure function of a seed carried by each example.

    So the mask does not depend on how a batch is split over devices, and a resumed training draws the same ones.

    Input: features float [batch, n] and seed int32 [batch]; the seed is not used outside training. Layers of other `stream`s
    draw other masks of one seed.
    """

    def __init__(self, rate: float, *, stream: int = 0, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1); received {rate!r}")
        if stream < 0:
            raise ValueError(f"stream must be at least 0; received {stream!r}")
        self.rate = rate
        self.stream = stream

    def get_config(self) -> dict:
        return super().get_config() | {"rate": self.rate, "stream": self.stream}

    def call(self, inputs, training=False):
        features, seed = inputs
        if not training or self.rate == 0:
            return features
        n = features.shape[-1]
        kept = random_uniform(seed, n, first=self.stream * n) >= self.rate
        return features * ops.cast(kept, features.dtype) / (1 - self.rate)


@keras.saving.register_keras_serializable("kerasemo")
class GroupNormalization(layers.Layer):
    """What `keras.layers.GroupNormalization` computes, with the same weights `gamma` and `beta`, in half of its time on a processor.

    Mean and variance come from sums over each channel, in float32 whatever the precision; normalising, scaling and
    shifting are one multiplication and one addition, and so are their gradients (Wu & He 2018, Eq. 1 to 6). The variance is
    that of the squares less the squared mean: a millionth of the latter is where float32 loses it.

    Input and output: float [batch, rows, columns, channels], of which `groups` divides the channels.
    """

    def __init__(self, groups: int, *, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape) -> None:
        channels = input_shape[-1]
        if channels % self.groups:
            raise ValueError(f"groups must divide the {channels} channels; received {self.groups}")
        self.gamma = self.add_weight(
            name="gamma", shape=(channels,), initializer="ones", autocast=False
        )
        self.beta = self.add_weight(
            name="beta", shape=(channels,), initializer="zeros", autocast=False
        )

    def get_config(self) -> dict:
        return super().get_config() | {"groups": self.groups, "epsilon": self.epsilon}

    def call(self, inputs):
        _, rows, columns, channels = inputs.shape
        x = ops.reshape(ops.cast(inputs, "float32"), (-1, rows * columns, channels))
        gamma, beta = (ops.reshape(weight, (1, 1, channels)) for weight in (self.gamma, self.beta))
        normal = _normalized(x, gamma, beta, self.groups, self.epsilon)
        return ops.cast(ops.reshape(normal, (-1, rows, columns, channels)), self.compute_dtype)


def _normalized(x, gamma, beta, groups: int, epsilon: float):
    """Return x, float32 [batch, pixels, channels], normalised over the pixels and channels of each group."""
    _, pixels, channels = x.shape
    count = pixels * channels // groups

    same = np.arange(channels) // (channels // groups)  # each channel's group
    averaging = (same[:, None] == same) / np.float32(count)

    def group_mean(
        sums,
    ):  # of the channels' sums [batch, 1, channels], the mean of each channel's group: one product, quick to trace
        return ops.matmul(sums, averaging)

    @ops.custom_gradient
    def normalized(x, gamma, beta):
        mean = group_mean(ops.sum(x, axis=1, keepdims=True))
        variance = group_mean(ops.sum(ops.square(x), axis=1, keepdims=True)) - ops.square(mean)
        inverse = ops.rsqrt(ops.maximum(variance, 0.0) + epsilon)
        factor = gamma * inverse

        def gradient(*arguments, upstream=None):
            (upstream,) = arguments if upstream is None else (upstream,)
            of_beta = ops.sum(upstream, axis=1, keepdims=True)  # [batch, 1, channels]
            of_gamma = (ops.sum(upstream * x, axis=1, keepdims=True) - mean * of_beta) * inverse
            slope = -ops.square(inverse) * group_mean(gamma * of_gamma)
            of_x = factor * upstream + (
                slope * x - (inverse * group_mean(gamma * of_beta) + mean * slope)
            )
            return (
                of_x,
                ops.sum(of_gamma, axis=0, keepdims=True),
                ops.sum(of_beta, axis=0, keepdims=True),
            )

        return x * factor + (beta - mean * factor), gradient

    return normalized(x, gamma, beta)
