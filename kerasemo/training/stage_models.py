"""The three kinds of training: supervised, contrastive and joint.

Each is a functional `keras.Model` with one `compute_loss`, on which all its steps are built: `step` and `measure` for a loop of
one's own, `train_step` and `test_step` for `fit` and `evaluate`. A batch is a dict of tensors whose first axis is the examples
or the pairs, so that a strategy can split it over replicas:

| key | supervised | contrastive, joint |
|---|---|---|
| `image` | uint8 or float32 [batch, 64, 64, 3] | [pairs, 2, 64, 64, 3] |
| `domain`, `seed` | int32 [batch] | [pairs, 2] |
| `label` (of EMOTIONS) | int32 [batch] | [pairs, 2] |
| `mask` (emotions of the example's corpus) | float32 [batch, 10] | [pairs, 2, 10] |
| `source` (index among the stage's sources) | int32 [batch] | [pairs, 2] |
| where examples are mixed: `mix_label` (of the other one) | int32 [batch] | [pairs, 2] |
| and `mix_weight` (its share of the image) | float32 [batch] | [pairs, 2] |

Every source has the same share of the examples of a batch; those of a replica, or of a part of an accumulated batch, may have
other shares, but all replicas and all parts have the same number of examples or pairs.
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kerasemo.losses.classification import CrossEntropy, mask_logits, smoothed_targets
from kerasemo.losses.contrastive import Contrastive
from kerasemo.networks.network import head_weights
from pipelines.core.errors import InputError


class StageModel(keras.Model):
    """What the three kinds share: the steps, and a mean of every term of the loss.

    It wraps the network's inputs and outputs for one training; what is kept are the network's weights, by name.

    Args:
        inputs: Of `kerasemo.networks.network.build_network`.
        outputs: Of the same; logits of [batch, heads, 10] are a head for each source.
        sources: Names of the stage's sources.
        label_smoothing: See `kerasemo.losses.classification.smoothed_targets`.
        margin: Of the contrastive loss.
        contrastive_weight: Of the contrastive loss beside the cross-entropies.
        clip_norm: The largest norm of the gradients of the whole batch, all weights and replicas together; 0: no limit.
        accumulate: Parts that a step's batch goes through the network in, one after the other; divides each replica's examples
            or pairs.
        class_weights: What the cross-entropy of an example of each class of each source weighs, [sources, emotions]; None: all the
            same. Of a mixed example each part weighs what its class does.
    """

    def __init__(
        self,
        inputs,
        outputs,
        name=None,
        *,
        sources=(),
        label_smoothing=0.0,
        margin=0.6,
        contrastive_weight=1.0,
        clip_norm=0.0,
        accumulate=1,
        class_weights=None,
        **kwargs,
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.sources = tuple(sources)
        self.label_smoothing = label_smoothing
        self.contrastive_weight = contrastive_weight
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.class_weights = (
            None if class_weights is None else np.asarray(class_weights, np.float32)
        )
        self.cross_entropy = CrossEntropy()
        self.contrastive = Contrastive(margin)
        self._means = {term: keras.metrics.Mean(name=term) for term in ("loss", *self.term_names())}

    def term_names(self) -> list[str]:
        """Return the names of the terms of the loss, as they are logged."""
        raise NotImplementedError

    def compute_loss(self, batch: dict, training: bool = True) -> dict:
        """Return `loss` and every term of it, float32 scalars that Keras has divided by the number of replicas."""
        raise NotImplementedError

    @property
    def learnt_weights(self) -> list[keras.Variable]:
        """The weights that a step moves: the trainable ones that the loss depends on."""
        return self.trainable_weights

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    def step(self, batch: dict) -> dict:
        """Make one step of the optimiser; return this step's `loss` and terms, the means over this replica's examples."""
        weights = self.learnt_weights
        terms, gradients = self._accumulated(batch, weights)
        if self.clip_norm:
            gradients = _clipped(gradients, self.clip_norm)
        self.optimizer.apply(gradients, weights)
        return _unscaled(terms)

    def measure(self, batch: dict) -> dict:
        """Return what `step` does, without training."""
        return _unscaled(self.compute_loss(batch, training=False))

    def train_step(self, batch: dict) -> dict:
        """Make one step of the optimiser and return the running mean of every term."""
        return self._running_means(self.step(batch), batch)

    def test_step(self, batch: dict) -> dict:
        """Return the running mean of every term without training."""
        return self._running_means(self.measure(batch), batch)

    def _running_means(self, terms: dict, batch: dict) -> dict:
        for name, value in terms.items():
            self._means[name].update_state(value, sample_weight=ops.shape(batch["label"])[0])
        return {name: mean.result() for name, mean in self._means.items()}

    def _gradients(self, batch: dict, weights: list) -> tuple[dict, list]:
        with tf.GradientTape() as tape:
            terms = self.compute_loss(batch, training=True)
        return terms, tape.gradient(terms["loss"], weights)

    def _accumulated(self, batch: dict, weights: list) -> tuple[dict, list]:
        """Return the terms and gradients of a batch: the means over its parts, which are of one size and go one after the other.

        A source's share of a part does not matter, because the weights of the losses are those of the whole batch.
        """
        count = self.accumulate
        if count == 1:
            return self._gradients(batch, weights)
        examples = batch["label"].shape[0]
        if examples is not None and examples % count:
            raise ValueError(
                f"accumulate must divide the {examples} examples or pairs of each replica's batch; received {count}"
            )
        parts = {
            key: ops.reshape(value, (count, -1, *value.shape[1:])) for key, value in batch.items()
        }
        zeros = (
            dict.fromkeys(("loss", *self.term_names()), tf.zeros([])),
            [tf.zeros(weight.shape) for weight in weights],
        )

        def add(index, sums):
            found = self._gradients({key: value[index] for key, value in parts.items()}, weights)
            return index + 1, tf.nest.map_structure(
                lambda total, value: total + value / count, sums, found
            )

        return tf.while_loop(
            lambda index, _: index < count,
            add,
            (0, zeros),
            maximum_iterations=count,
            parallel_iterations=1,
        )[1]

    def _forward(self, batch: dict, training: bool) -> dict:
        image = ops.cast(batch["image"], "float32")
        return self(
            {"image": image, "domain": batch["domain"], "seed": batch["seed"]}, training=training
        )

    def _source_cross_entropies(self, batch: dict, outputs: dict) -> dict:
        """Return each source's mean cross-entropy, from the examples of all sources; of several members the mean of their own.

        What is validated is the cross-entropy of all members together, which is never more than that mean.
        """
        own = [logits for name, logits in outputs.items() if name.startswith("logits_member")]
        terms = [self._cross_entropies_of(batch, logits) for logits in own or [outputs["logits"]]]
        return {name: sum(one[name] for one in terms) / len(terms) for name in terms[0]}

    def _cross_entropies_of(self, batch: dict, logits) -> dict:
        """Return `_source_cross_entropies` of logits [examples, emotions], or [examples, sources, emotions] of a head for each source."""
        if len(logits.shape) == 3:
            own = ops.one_hot(batch["source"], len(self.sources), dtype=logits.dtype)
            logits = ops.sum(logits * own[:, :, None], axis=1)
        targets = self._weighted_targets(batch, batch["label"])
        if "mix_label" in batch:
            share = batch["mix_weight"][:, None]
            targets = (1 - share) * targets + share * self._weighted_targets(
                batch, batch["mix_label"]
            )
        masked = mask_logits(logits, batch["mask"])
        losses = {}
        for index, name in enumerate(self._cross_entropy_names()):
            # The mean over all examples of a 0/n weight is the mean over the 1/n of them that are this source's.
            weight = ops.cast(ops.equal(batch["source"], index), "float32") * len(self.sources)
            losses[name] = self.cross_entropy(targets, masked, sample_weight=weight)
        return losses

    def _weighted_targets(self, batch: dict, labels):
        """Return the targets of labels of a batch's examples, [examples, emotions], times the weights of their classes.

        Of targets t with weight w the cross-entropy is w times that of t, so that a mixture of targets needs no more than their sum.
        """
        targets = smoothed_targets(labels, batch["mask"], label_smoothing=self.label_smoothing)
        if self.class_weights is None:
            return targets
        places = batch["source"] * self.class_weights.shape[1] + labels
        return targets * ops.take(self.class_weights.ravel(), places)[:, None]

    def _cross_entropy_names(self) -> list[str]:
        return [f"cross_entropy_{source.replace('/', '_')}" for source in self.sources]


def _unscaled(terms: dict) -> dict:
    # Keras divides a Loss by the number of replicas, because gradients are summed over them.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return {name: value * replicas for name, value in terms.items()}


def _clipped(gradients: list, most: float) -> list:
    """Return the gradients of the whole batch scaled to a norm of at most `most`, and divided by the number of replicas.

    An optimiser's own clipping sees one replica's gradients, before it sums them.
    """
    context = tf.distribute.get_replica_context()
    gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    norm = tf.linalg.global_norm(gradients)
    scale = most / (tf.maximum(norm, most) * context.num_replicas_in_sync)
    return [gradient * scale for gradient in gradients]


def freeze(model: StageModel, prefixes: Sequence[str]) -> None:
    """Keep the layers whose names begin with one of `prefixes` from being trained; call it before the optimiser is built.

    Raises:
        InputError: A prefix is that of no layer with weights, or nothing is left to train.
    """
    layers = {layer.name: layer for layer in model.layers if layer.trainable_weights}
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in layers):
            raise InputError(
                f"freeze: no layer's name begins with {prefix!r}; those that train are {', '.join(layers)}"
            )
    for name, layer in layers.items():
        if name.startswith(tuple(prefixes)):
            layer.trainable = False
    if not model.learnt_weights:
        raise InputError(
            f"freeze: {', '.join(prefixes)} leave nothing to train; leave out one of {', '.join(layers)}"
        )


class SupervisedModel(StageModel):
    """Softmax cross-entropy on one source (Eq. 1 of the paper)."""

    def term_names(self) -> list[str]:
        return self._cross_entropy_names()

    def compute_loss(self, batch: dict, training: bool = True) -> dict:
        terms = self._source_cross_entropies(batch, self._forward(batch, training))
        return {"loss": sum(terms.values()), **terms}


class PairModel(StageModel):
    """What contrastive and joint share: both halves of every pair go through the network at once."""

    def _forward_pairs(self, batch: dict, training: bool) -> tuple[dict, dict, object]:
        """Return the batch and the outputs with pairs laid out as examples, and the contrastive loss."""
        flat = {key: ops.reshape(value, (-1, *value.shape[2:])) for key, value in batch.items()}
        outputs = self._forward(flat, training)
        embeddings = ops.reshape(
            outputs["embedding"], (-1, 2, outputs["embedding"].shape[-1])
        )  # [pairs, 2, n]
        return flat, outputs, self.contrastive(_same(batch), embeddings)


def _same(batch: dict):
    """Return float32 [pairs]: 1 where both show the same emotion, else 0; of mixed examples how likely a part of each does."""
    if "mix_label" not in batch:
        return ops.cast(ops.equal(batch["label"][:, 0], batch["label"][:, 1]), "float32")
    share, emotions = batch["mix_weight"][..., None], batch["mask"].shape[-1]
    parts = (1 - share) * ops.one_hot(batch["label"], emotions) + share * ops.one_hot(
        batch["mix_label"], emotions
    )  # [pairs, 2, emotions]
    return ops.sum(parts[:, 0] * parts[:, 1], axis=-1)


class ContrastiveModel(PairModel):
    """The contrastive loss alone (Eq. 2 of the paper)."""

    def term_names(self) -> list[str]:
        return ["contrastive"]

    @property
    def learnt_weights(self) -> list[keras.Variable]:
        head = {id(weight) for weight in head_weights(self)}
        return [weight for weight in self.trainable_weights if id(weight) not in head]

    def compute_loss(self, batch: dict, training: bool = True) -> dict:
        _, _, loss = self._forward_pairs(batch, training)
        return {"loss": loss, "contrastive": loss}


class JointModel(PairModel):
    """A cross-entropy for every source and the contrastive loss over pairs across sources, together.

    L = sum_n CE_n + w L_contrastive; the weights, 1 for every cross-entropy and w, are the project's choice.
    """

    def term_names(self) -> list[str]:
        return [*self._cross_entropy_names(), "contrastive"]

    def compute_loss(self, batch: dict, training: bool = True) -> dict:
        flat, outputs, contrastive = self._forward_pairs(batch, training)
        terms = self._source_cross_entropies(flat, outputs)
        return {
            "loss": sum(terms.values()) + self.contrastive_weight * contrastive,
            **terms,
            "contrastive": contrastive,
        }


MODELS = {"supervised": SupervisedModel, "contrastive": ContrastiveModel, "joint": JointModel}
"""The model of each kind of stage."""
