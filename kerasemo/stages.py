"""The three kinds of training: supervised, contrastive and joint.

Each is a functional `keras.Model` with one `compute_loss`, which its `train_step` and `test_step` share. A batch is a
dict of tensors whose first axis is the examples or the pairs, so that a strategy can split it over replicas:

| key | supervised | contrastive, joint |
|---|---|---|
| `image` | uint8 or float32 [batch, 64, 64, 3] | [pairs, 2, 64, 64, 3] |
| `domain`, `seed` | int32 [batch] | [pairs, 2] |
| `label` (of EMOTIONS) | int32 [batch] | [pairs, 2] |
| `mask` (emotions of the example's corpus) | float32 [batch, 10] | [pairs, 2, 10] |
| `source` (index among the stage's sources) | int32 [batch] | [pairs, 2] |

Every source has the same share of the examples of a batch.
"""

import keras
import tensorflow as tf
from keras import ops

from kerasemo.losses import Contrastive, CrossEntropy, mask_logits, smoothed_targets


class StageModel(keras.Model):
    """What the three kinds share: the steps, and a mean of every term of the loss.

    It wraps the network's inputs and outputs for one training; what is kept are the network's weights, by name.
    """

    def __init__(self, inputs, outputs, name=None, *, sources=(), label_smoothing=0.0, margin=0.6, contrastive_weight=1.0, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.sources = tuple(sources)
        self.label_smoothing = label_smoothing
        self.contrastive_weight = contrastive_weight
        self.cross_entropy = CrossEntropy()
        self.contrastive = Contrastive(margin)
        self._terms = {term: keras.metrics.Mean(name=term) for term in ("loss", *self.term_names())}

    def term_names(self) -> list[str]:
        """Return the names of the terms of the loss, as they are logged."""
        raise NotImplementedError

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._terms.values())

    def train_step(self, batch: dict) -> dict:
        """Make one step of the optimiser and return the running mean of every term."""
        with tf.GradientTape() as tape:
            loss = self.compute_loss(batch, training=True)
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, self.trainable_weights)
        # The head has no part in a contrastive loss, so it has no gradient.
        used = [(gradient, weight) for gradient, weight in zip(gradients, self.trainable_weights, strict=True) if gradient is not None]
        self.optimizer.apply(*zip(*used, strict=True))
        return self._results()

    def test_step(self, batch: dict) -> dict:
        """Return the running mean of every term without training."""
        self.compute_loss(batch, training=False)
        return self._results()

    def _results(self) -> dict:
        return {name: mean.result() for name, mean in self._terms.items()}

    def _log(self, terms: dict, examples) -> None:
        # Keras divides a Loss by the number of replicas, because gradients are summed over them.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for name, value in terms.items():
            self._terms[name].update_state(value * replicas, sample_weight=examples)

    def _forward(self, batch: dict, training: bool) -> dict:
        image = ops.cast(batch["image"], "float32")
        return self({"image": image, "domain": batch["domain"], "seed": batch["seed"]}, training=training)

    def _source_cross_entropies(self, batch: dict, logits) -> dict:
        """Return each source's mean cross-entropy, from the examples of all sources: [examples, emotions] logits."""
        targets = smoothed_targets(batch["label"], batch["mask"], label_smoothing=self.label_smoothing)
        masked = mask_logits(logits, batch["mask"])
        losses = {}
        for index, name in enumerate(self._cross_entropy_names()):
            # The mean over all examples of a 0/n weight is the mean over the 1/n of them that are this source's.
            weight = ops.cast(ops.equal(batch["source"], index), "float32") * len(self.sources)
            losses[name] = self.cross_entropy(targets, masked, sample_weight=weight)
        return losses

    def _cross_entropy_names(self) -> list[str]:
        return [f"cross_entropy_{source.replace('/', '_')}" for source in self.sources]


class SupervisedModel(StageModel):
    """Softmax cross-entropy on one source (Eq. 1 of the paper)."""

    def term_names(self) -> list[str]:
        return self._cross_entropy_names()

    def compute_loss(self, batch: dict, training: bool = True):
        """Return the loss of a batch and log its terms."""
        terms = self._source_cross_entropies(batch, self._forward(batch, training)["logits"])
        loss = sum(terms.values())
        self._log({"loss": loss, **terms}, ops.shape(batch["label"])[0])
        return loss


class PairModel(StageModel):
    """What contrastive and joint share: both halves of every pair go through the network at once."""

    def _forward_pairs(self, batch: dict, training: bool) -> tuple[dict, dict, object]:
        """Return the batch and the outputs with pairs laid out as examples, and the contrastive loss."""
        flat = {key: ops.reshape(value, (-1, *value.shape[2:])) for key, value in batch.items()}
        outputs = self._forward(flat, training)
        embeddings = ops.reshape(outputs["embedding"], (-1, 2, outputs["embedding"].shape[-1]))  # [pairs, 2, n]
        same = ops.equal(batch["label"][:, 0], batch["label"][:, 1])
        return flat, outputs, self.contrastive(ops.cast(same, "float32"), embeddings)


class ContrastiveModel(PairModel):
    """The contrastive loss alone (Eq. 2 of the paper)."""

    def term_names(self) -> list[str]:
        return ["contrastive"]

    def compute_loss(self, batch: dict, training: bool = True):
        """Return the loss of a batch and log its terms."""
        _, _, loss = self._forward_pairs(batch, training)
        self._log({"loss": loss, "contrastive": loss}, ops.shape(batch["label"])[0])
        return loss


class JointModel(PairModel):
    """A cross-entropy for every source and the contrastive loss over pairs across sources, together.

    L = sum_n CE_n + w L_contrastive; the weights, 1 for every cross-entropy and w, are the project's choice.
    """

    def term_names(self) -> list[str]:
        return [*self._cross_entropy_names(), "contrastive"]

    def compute_loss(self, batch: dict, training: bool = True):
        """Return the loss of a batch and log its terms."""
        flat, outputs, contrastive = self._forward_pairs(batch, training)
        terms = self._source_cross_entropies(flat, outputs["logits"])
        loss = sum(terms.values()) + self.contrastive_weight * contrastive
        self._log({"loss": loss, **terms, "contrastive": contrastive}, ops.shape(batch["label"])[0])
        return loss


MODELS = {"supervised": SupervisedModel, "contrastive": ContrastiveModel, "joint": JointModel}
"""The model of each kind of stage."""
