"""The network: one small convolutional network that reads faces and log-Mel segments alike.

Only `keras.layers` and `keras.ops`, so that it trains on any backend of Keras. Depth, widths, embedding and dropout are
the project's choices (the paper's are not known); GroupNorm and LeakyReLU are what the paper cites.
"""

import keras
import numpy as np
from keras import layers, ops

from kerasemo.config import Network
from kerasemo.normalization import GroupNormalization
from pipelines.spec import DOMAINS, EMOTIONS, Spec

LEAKY_SLOPE = 0.01


@keras.saving.register_keras_serializable("kerasemo")
class DomainNormalization(layers.Layer):
    """Subtracts the mean and divides by the scale of an input's domain, per row (Mel bin) and channel.

    The statistics are weights, so that what is trained is what is served. `fit` sets them, once a domain.

    Input: image float32 [batch, 64, 64, 3] and domain int32 [batch], an index of `pipelines.spec.DOMAINS`.
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


def random_uniform(seed, n: int, *, first: int = 0):
    """Return uniform random numbers that are a pure function of one seed a row.

    The seed and the column's index are mixed by a 32-bit integer hash (two rounds of multiply and xor-shift).

    Args:
        seed: int32 [batch].
        n: Numbers a row.
        first: The index of the first of them: others are other numbers of the same seed.

    Returns:
        float32 [batch, n] in [0, 1).
    """

    def uint32(value):
        return ops.cast(value, "uint32")

    def mixed(bits):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = ops.bitwise_xor(bits, ops.right_shift(bits, uint32(shift))) * uint32(factor)
        return ops.bitwise_xor(bits, ops.right_shift(bits, uint32(16)))

    column = mixed(uint32(ops.arange(first + 1, first + n + 1, dtype="int32")) * uint32(0x9E3779B9))
    bits = mixed(ops.bitwise_xor(mixed(uint32(seed))[:, None], column[None, :]))
    return ops.cast(ops.right_shift(bits, uint32(8)), "float32") * (1 / 2**24)


def build_network(
    config: Network = Network(), *, spec: Spec = Spec(), heads: int = 1
) -> tuple[dict, dict]:
    """Return the inputs and outputs of the functional network, for `keras.Model` or one of `kerasemo.stages`.

    Inputs: `image` float32 [batch, 64, 64, 3] (faces as 0..255, segments as dB), `domain` int32 [batch] (index of
    DOMAINS) and `seed` int32 [batch] (of the dropout mask; anything outside training). Outputs: `embedding` float32
    [batch, embedding] of unit length, and `logits` float32 [batch, 10], one for each of EMOTIONS; of several heads
    [batch, heads, 10], whose kernels stand side by side in one, [embedding, heads * 10]. Several members stand side by side:
    `embedding` is [batch, members * embedding], `logits` the mean of theirs, and `logits_member1`, `logits_member2` and so on
    are there as well; the layers of all but the first end in their number, `head_member2`. In mixed precision the convolutions
    alone compute in it: it would cost the input digits, and past the pooling there is little to gain.

    >>> inputs, outputs = build_network()
    >>> keras.Model(inputs, outputs).count_params() < 600_000
    True
    """
    size = spec.face_size
    inputs = {
        "image": keras.Input((size, size, 3), name="image"),
        "domain": keras.Input((), name="domain", dtype="int32"),
        "seed": keras.Input((), name="seed", dtype="int32"),
    }
    x = DomainNormalization(name="normalization", dtype="float32")(
        [inputs["image"], inputs["domain"]]
    )
    members = [
        _member(x, inputs["seed"], config, heads=heads, place=place)
        for place in range(config.members)
    ]
    features, logits = members[0]
    outputs = {}
    if config.members > 1:
        features = layers.Concatenate(name="members_features", dtype="float32")(
            [own for own, _ in members]
        )
        logits = layers.Average(name="members_logits", dtype="float32")([own for _, own in members])
        outputs = {f"logits_member{place}": own for place, (_, own) in enumerate(members, start=1)}
    embedding = layers.UnitNormalization(name="embedding", dtype="float32")(features)
    return inputs, {"embedding": embedding, "logits": logits} | outputs


def head_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights that give the logits, of every member: kernels [embedding, heads * 10] and biases [heads * 10]."""
    heads = (
        layer
        for layer in model.layers
        if layer.name == "head" or layer.name.startswith("head_member")
    )
    return [weight for layer in heads for weight in layer.weights]


def _member(x, seed, config: Network, *, heads: int, place: int):
    """Return the features and the logits that one member gives of normalised inputs."""
    ending = f"_member{place + 1}" if place else ""
    for stage, width in enumerate(config.widths, start=1):
        x = _stage(
            x, f"stage{stage}", width=width, config=config, ending=ending
        )  # [batch, 64 / 2^stage, 64 / 2^stage, width]
    if config.pool == "rows":
        x = layers.AveragePooling2D((1, x.shape[2]), name=f"pool{ending}", dtype="float32")(
            x
        )  # [batch, rows, 1, width]
        x = layers.Flatten(name=f"rows{ending}", dtype="float32")(x)  # [batch, rows * width]
    else:
        x = layers.GlobalAveragePooling2D(name=f"pool{ending}", dtype="float32")(
            x
        )  # [batch, width]
    features = layers.Dense(config.embedding, name=f"features{ending}", dtype="float32")(x)
    dropped = ExampleDropout(
        config.dropout, stream=place, name=f"dropout{ending}", dtype="float32"
    )([features, seed])
    logits = layers.Dense(heads * len(EMOTIONS), name=f"head{ending}", dtype="float32")(dropped)
    if heads > 1:
        logits = layers.Reshape((heads, len(EMOTIONS)), name=f"heads{ending}", dtype="float32")(
            logits
        )
    return features, logits


def _stage(x, name: str, *, width: int, config: Network, ending: str):
    """Return what a stage of convolutions makes of float [batch, rows, columns, channels]: [batch, rows / 2, columns / 2, width]."""
    entered = x
    for convolution in range(1, config.convolutions + 1):
        own = f"{name}_conv{convolution}"
        x = _convolved(
            x,
            own,
            width,
            groups=config.groups,
            size=3,
            strides=2 if convolution == 1 else 1,
            ending=ending,
        )
        if convolution < config.convolutions:
            x = layers.LeakyReLU(negative_slope=LEAKY_SLOPE, name=f"{own}_relu{ending}")(x)
    if config.squeeze:
        mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze{ending}")(
            x
        )  # [batch, 1, 1, width]
        few = layers.Dense(
            width // config.squeeze, activation="relu", name=f"{name}_excite1{ending}"
        )(mean)
        shares = layers.Dense(width, activation="sigmoid", name=f"{name}_excite2{ending}")(few)
        x = layers.Multiply(name=f"{name}_excited{ending}")([x, shares])
    if config.blocks == "residual":
        kept = _convolved(
            entered,
            f"{name}_shortcut",
            width,
            groups=config.groups,
            size=1,
            strides=2,
            ending=ending,
        )
        x = layers.Add(name=f"{name}_sum{ending}")([x, kept])
    return layers.LeakyReLU(
        negative_slope=LEAKY_SLOPE, name=f"{name}_conv{config.convolutions}_relu{ending}"
    )(x)


def _convolved(x, name: str, width: int, *, groups: int, size: int, strides: int, ending: str):
    """Return a convolution without bias, normalised."""
    kernel = {"use_bias": False, "kernel_initializer": "he_normal", "name": name + ending}
    x = layers.Conv2D(width, size, strides=strides, padding="same", **kernel)(x)
    return GroupNormalization(groups, epsilon=1e-5, name=f"{name}_norm{ending}")(x)
