"""The network outside training: logits and embeddings of any number of items."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from pipelines.core.domains import DOMAINS

ITEMS_AT_ONCE = 256

Predict = Callable[[np.ndarray, int], dict[str, np.ndarray]]
"""(inputs [items, 64, 64, 3], domain) -> `logits` float32 [items, 10] and `embedding` float32 [items, n].

Of a network with a head for each of some sources the logits are [items, heads, 10]; see `forward`."""


def predictor(model: keras.Model, *, heads: Sequence[str] = ()) -> Predict:
    """Return a function that runs a network over any number of items, with the batches that fit.

    Args:
        model: The network.
        heads: The source of each of its heads, where it has several.
    """

    @tf.function(
        input_signature=[
            tf.TensorSpec(model.get_layer("image").batch_shape),
            tf.TensorSpec([], tf.int32),
        ]
    )
    def forward(image, domain):
        return network_outputs(model, image, domain)

    forward = (
        forward.get_concrete_function()
    )  # TensorFlow warns of every network after the first few as if it were one retraced

    def predict(inputs: np.ndarray, domain: int) -> dict[str, np.ndarray]:
        parts = [
            forward(inputs[start : start + ITEMS_AT_ONCE].astype(np.float32), domain)
            for start in range(0, len(inputs), ITEMS_AT_ONCE)
        ]
        return {
            key: np.concatenate([part[key].numpy() for part in parts])
            for key in ("logits", "embedding")
        }

    predict.heads = tuple(heads)
    return predict


def network_outputs(
    model: keras.Model, image: tf.Tensor, domain: tf.Tensor | int
) -> dict[str, tf.Tensor]:
    """Return a network's `logits` and `embedding` outside training for inputs of one domain, float32 [items, 64, 64, 3]; in a graph too.

    Where the stage has `test_mirror`, said by the model's attribute `mirror`, the logits of a face are the mean of its own and those of
    its mirror image: the geometric mean of both answers, whatever mask comes after.
    """
    domains = tf.fill(tf.shape(image)[:1], domain)

    def asked(image):
        given = model(
            {"image": image, "domain": domains, "seed": tf.zeros_like(domains)}, training=False
        )
        return {name: given[name] for name in ("embedding", "logits")}  # of the members together

    outputs = asked(image)
    if not getattr(model, "mirror", False):
        return outputs

    def of_both():
        turned = tf.gather(
            image, range(image.shape[2] - 1, -1, -1), axis=2
        )  # ONNX has no ReverseV2
        return (outputs["logits"] + asked(turned)["logits"]) / 2

    if isinstance(domain, int):
        return {**outputs, "logits": of_both()} if domain == DOMAINS.index("visual") else outputs
    is_face = tf.equal(domain, DOMAINS.index("visual"))
    return {**outputs, "logits": tf.cond(is_face, of_both, lambda: outputs["logits"])}
