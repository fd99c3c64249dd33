"""The network: one small convolutional network that reads faces and log-Mel segments alike.

It uses only `keras.layers` and `keras.ops`, so that it trains on any backend of Keras. Depth,
widths, embedding and dropout are the project's choices (the paper's are not known). The paper cites
GroupNorm and LeakyReLU.

To add a block of convolutions, add a function to `BLOCKS` and its name to `NetworkConfig.blocks`;
to add a pooling, add a function to `POOLINGS` and its name to `NetworkConfig.pool`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import KerasTensor, layers

from kerasemo.config.schema import NetworkConfig
from kerasemo.networks.layers import DomainNormalization, ExampleDropout, GroupNormalization
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec

LEAKY_SLOPE = 0.01


def build_network(
    config: NetworkConfig = NetworkConfig(), *, spec: Spec = Spec(), heads: int = 1
) -> tuple[dict[str, KerasTensor], dict[str, KerasTensor]]:
    """Return inputs and outputs of the functional network, for `keras.Model` or a stage model.

    In mixed precision only the convolutions compute in half precision: the input would lose digits,
    and after the pooling there is little to gain.

    Args:
        config: The shape of the network.
        spec: Gives the size of the images.
        heads: The number of heads.

    Returns:
        Inputs: `image` float32 [batch, 64, 64, 3] (faces as 0..255, segments in dB), `domain` int32
        [batch] (an index of DOMAINS) and `seed` int32 [batch] (of the dropout mask; anything
        outside training). Outputs: `embedding` float32 [batch, embedding] of unit length, and
        `logits` float32 [batch, 10], one for each of EMOTIONS. With several heads `logits` is
        [batch, heads, 10]; their kernels are one, [embedding, heads * 10]. With several members
        `embedding` is [batch, members * embedding], `logits` is the mean over members, and
        `logits_member1`, `logits_member2` and so on are the logits of each member. The names of the
        layers of all members
        but the first end in their number, such as `head_member2`.

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
    normalization = DomainNormalization(name="normalization", dtype="float32")
    normalized = normalization([inputs["image"], inputs["domain"]])
    members = [
        _build_member(normalized, inputs["seed"], config, heads=heads, member=member)
        for member in range(config.members)
    ]
    features, logits = members[0]
    outputs = {}
    if config.members > 1:
        features_of, logits_of = zip(*members, strict=True)
        features = layers.Concatenate(name="members_features", dtype="float32")(list(features_of))
        logits = layers.Average(name="members_logits", dtype="float32")(list(logits_of))
        outputs = {
            f"logits_member{number}": member_logits
            for number, member_logits in enumerate(logits_of, start=1)
        }
    embedding = layers.UnitNormalization(name="embedding", dtype="float32")(features)
    return inputs, {"embedding": embedding, "logits": logits} | outputs


def head_weights(model: keras.Model) -> list[keras.Variable]:
    """Return the weights that give the logits, of every member.

    Returns:
        Kernels [embedding, heads * 10] and biases [heads * 10].
    """
    head_layers = (
        layer
        for layer in model.layers
        if layer.name == "head" or layer.name.startswith("head_member")
    )
    return [weight for layer in head_layers for weight in layer.weights]


def _build_member(
    x: KerasTensor, seed: KerasTensor, config: NetworkConfig, *, heads: int, member: int
) -> tuple[KerasTensor, KerasTensor]:
    """Return features and logits of one member from normalised inputs."""
    suffix = f"_member{member + 1}" if member else ""
    for stage, width in enumerate(config.widths, start=1):
        # [batch, 64 / 2^stage, 64 / 2^stage, width]
        x = _build_stage(x, f"stage{stage}", width=width, config=config, suffix=suffix)
    x = POOLINGS[config.pool](x, suffix)
    features = layers.Dense(config.embedding, name=f"features{suffix}", dtype="float32")(x)
    dropout = ExampleDropout(
        config.dropout, stream=member, name=f"dropout{suffix}", dtype="float32"
    )
    head = layers.Dense(heads * len(EMOTIONS), name=f"head{suffix}", dtype="float32")
    logits = head(dropout([features, seed]))
    if heads > 1:
        shape = (heads, len(EMOTIONS))
        logits = layers.Reshape(shape, name=f"heads{suffix}", dtype="float32")(logits)
    return features, logits


def _pool_all(x: KerasTensor, suffix: str) -> KerasTensor:
    """Return the mean over rows and columns: [batch, width]."""
    return layers.GlobalAveragePooling2D(name=f"pool{suffix}", dtype="float32")(x)


def _pool_rows(x: KerasTensor, suffix: str) -> KerasTensor:
    """Return the mean of each row: [batch, rows * width]."""
    row_means = layers.AveragePooling2D(
        (1, x.shape[2]), name=f"pool{suffix}", dtype="float32"
    )  # [batch, rows, 1, width]
    return layers.Flatten(name=f"rows{suffix}", dtype="float32")(row_means(x))


POOLINGS: Mapping[str, Callable[[KerasTensor, str], KerasTensor]] = {
    "average": _pool_all,
    "rows": _pool_rows,
}
"""Functions that turn the last feature map into a vector, by `NetworkConfig.pool`."""


def _build_stage(
    x: KerasTensor, name: str, *, width: int, config: NetworkConfig, suffix: str
) -> KerasTensor:
    """Map [batch, rows, columns, channels] to [batch, rows / 2, columns / 2, width]."""
    stage_input = x
    for number in range(1, config.convolutions + 1):
        conv_name = f"{name}_conv{number}"
        strides = 2 if number == 1 else 1
        x = _convolve(
            x, conv_name, width, groups=config.groups, size=3, strides=strides, suffix=suffix
        )
        if number < config.convolutions:
            x = layers.LeakyReLU(negative_slope=LEAKY_SLOPE, name=f"{conv_name}_relu{suffix}")(x)
    if config.squeeze:
        x = _squeeze_and_excite(x, name, width // config.squeeze, suffix)
    x = BLOCKS[config.blocks](x, stage_input, name, width, config.groups, suffix)
    relu_name = f"{name}_conv{config.convolutions}_relu{suffix}"
    return layers.LeakyReLU(negative_slope=LEAKY_SLOPE, name=relu_name)(x)


def _squeeze_and_excite(x: KerasTensor, name: str, units: int, suffix: str) -> KerasTensor:
    """Scale each channel by a gate that sees the mean of all channels (Hu et al. 2018)."""
    width = x.shape[-1]
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze{suffix}")(x)
    hidden = layers.Dense(units, activation="relu", name=f"{name}_excite1{suffix}")(mean)
    gates = layers.Dense(width, activation="sigmoid", name=f"{name}_excite2{suffix}")(hidden)
    return layers.Multiply(name=f"{name}_excited{suffix}")([x, gates])


def _plain_block(x: KerasTensor, *_: Any) -> KerasTensor:
    """Return the output of the convolutions."""
    return x


def _residual_block(
    x: KerasTensor, stage_input: KerasTensor, name: str, width: int, groups: int, suffix: str
) -> KerasTensor:
    """Return the output of the convolutions plus a 1x1 convolution of their input."""
    shortcut = _convolve(
        stage_input, f"{name}_shortcut", width, groups=groups, size=1, strides=2, suffix=suffix
    )
    return layers.Add(name=f"{name}_sum{suffix}")([x, shortcut])


BLOCKS: Mapping[str, Callable[..., KerasTensor]] = {
    "plain": _plain_block,
    "residual": _residual_block,
}
"""How a stage ends after its convolutions, by the values of `NetworkConfig.blocks`. A function gets
the output of the convolutions, the input of the stage, its name, its width, the groups of the
normalisation and the suffix of the member."""


def _convolve(
    x: KerasTensor, name: str, width: int, *, groups: int, size: int, strides: int, suffix: str
) -> KerasTensor:
    """Return a convolution without bias, normalised."""
    convolution = layers.Conv2D(
        width,
        size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name + suffix,
    )
    normalization = GroupNormalization(groups, epsilon=1e-5, name=f"{name}_norm{suffix}")
    return normalization(convolution(x))
