"""The network: one small convolutional network that reads faces and log-Mel segments alike.

Only `keras.layers` and `keras.ops`, so that it trains on any backend of Keras. Depth, widths, embedding and dropout are
the project's choices (the paper's are not known); GroupNorm and LeakyReLU are what the paper cites.
"""

import keras
from keras import layers

from kerasemo.config.schema import NetworkConfig
from kerasemo.networks.layers import DomainNormalization, ExampleDropout, GroupNormalization
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec

LEAKY_SLOPE = 0.01


def build_network(
    config: NetworkConfig = NetworkConfig(), *, spec: Spec = Spec(), heads: int = 1
) -> tuple[dict, dict]:
    """Return the inputs and outputs of the functional network, for `keras.Model` or one of `kerasemo.training.stage_models`.

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


def _member(x, seed, config: NetworkConfig, *, heads: int, place: int):
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


def _stage(x, name: str, *, width: int, config: NetworkConfig, ending: str):
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
