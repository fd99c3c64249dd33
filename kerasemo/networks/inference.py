"""A trained network outside training: logits and embeddings of any number of items."""

import dataclasses
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from kerasemo.networks.layers import DomainNormalization
from pipelines.core.domains import DOMAIN_FACTS

ITEMS_PER_CALL = 256
"""The number of items in one pass through the network."""


class Sliceable(Protocol):
    """An array, or an object with its interface; see `kerasemo.datasets.lazy_arrays`."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkOutputs:
    """The outputs of a network for the items of one source."""

    embedding: np.ndarray
    """float32 [items, n], of unit length."""
    logits: np.ndarray | None
    """float32 [items, 10]; None if the network has a head for each of several sources, and none for
    this source."""
    knows_corpus: bool = False
    """Whether the logits come from the source's own head, so that a prediction needs the corpus."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its weights, and how it predicts."""

    model: keras.Model
    """See `kerasemo.networks.network.build_network`."""
    heads: tuple[str, ...] = ()
    """The source of each head; empty for a single head."""
    test_mirror: bool = False
    """Whether the logits of a face are the mean over the face and its mirror image: the geometric
    mean of both predictions, whatever mask follows."""

    def outputs(self, image: tf.Tensor, domain: tf.Tensor | int) -> dict[str, tf.Tensor]:
        """Return `logits` and `embedding` of inputs of one domain; also within a graph.

        Args:
            image: float32 [items, 64, 64, 3].
            domain: int32 [], an index of DOMAINS.

        Returns:
            `logits` float32 [items, 10], or [items, heads, 10], and `embedding` float32 [items, n].
        """
        outputs = self._call(image, domain)
        if not self.test_mirror:
            return outputs

        def mean_logits() -> tf.Tensor:
            columns = range(image.shape[2] - 1, -1, -1)
            mirrored = tf.gather(image, columns, axis=2)  # ONNX has no ReverseV2
            return (outputs["logits"] + self._call(mirrored, domain)["logits"]) / 2

        can_mirror = [facts.is_mirrorable for facts in DOMAIN_FACTS]
        if isinstance(domain, int):
            return {**outputs, "logits": mean_logits()} if can_mirror[domain] else outputs
        is_mirrorable = tf.gather(tf.constant(can_mirror), domain)
        logits = tf.cond(is_mirrorable, mean_logits, lambda: outputs["logits"])
        return {**outputs, "logits": logits}

    def _call(self, image: tf.Tensor, domain: tf.Tensor | int) -> dict[str, tf.Tensor]:
        domains = tf.fill(tf.shape(image)[:1], domain)
        inputs = {"image": image, "domain": domains, "seed": tf.zeros_like(domains)}
        outputs = self.model(inputs, training=False)
        return {name: outputs[name] for name in ("embedding", "logits")}

    def trained_domains(self) -> np.ndarray:
        """Return bool [domains]: the domains that the network was trained on."""
        return trained_domains(self.model)

    def predictor(self) -> "NetworkPredictor":
        """Return the network as a function of NumPy arrays."""
        return NetworkPredictor(self)


class NetworkPredictor:
    """Runs a network on any number of items, `ITEMS_PER_CALL` at a time.

    Args:
        network: The network. Its weights may change later; every call uses the weights of that
            moment.
    """

    def __init__(self, network: TrainedNetwork) -> None:
        self.heads = network.heads
        signature = [
            tf.TensorSpec(network.model.get_layer("image").batch_shape),
            tf.TensorSpec([], tf.int32),
        ]
        # One concrete function: TensorFlow warns of many tf.functions as if they were retraced.
        self._outputs = tf.function(
            network.outputs, input_signature=signature
        ).get_concrete_function()

    def __call__(self, inputs: Sliceable, domain: int, *, source: str = "") -> NetworkOutputs:
        """Return the outputs for items.

        Args:
            inputs: [items, 64, 64, 3]: uint8 or float32 faces, 0 to 255, or float32 segments in dB.
            domain: An index of DOMAINS.
            source: The source of the items, which chooses among several heads.
        """
        parts = [
            self._outputs(inputs[start : start + ITEMS_PER_CALL].astype(np.float32), domain)
            for start in range(0, len(inputs), ITEMS_PER_CALL)
        ]
        logits = np.concatenate([part["logits"].numpy() for part in parts])
        embedding = np.concatenate([part["embedding"].numpy() for part in parts])
        if not self.heads:
            return NetworkOutputs(embedding, logits)
        if source not in self.heads:
            return NetworkOutputs(embedding, None)
        return NetworkOutputs(embedding, logits[:, self.heads.index(source)], knows_corpus=True)


def normalization_layer(model: keras.Model) -> DomainNormalization:
    """Return the layer that normalises the inputs of a network."""
    return model.get_layer("normalization")


def trained_domains(model: keras.Model) -> np.ndarray:
    """Return bool [domains]: the domains whose input statistics a network has."""
    return keras.ops.convert_to_numpy(normalization_layer(model).fitted) > 0
