"""The three kinds of training: supervised, contrastive and joint.

Each is a functional `keras.Model` whose steps are built on one `compute_loss`: `step` and `measure`
for a loop of one's own, `train_step` and `test_step` for `fit` and `evaluate`. A batch is a dict of
tensors whose first axis is the examples or the pairs, so that a strategy can split it over
replicas:

| key | supervised | contrastive, joint |
|---|---|---|
| `image` | uint8 or float32 [batch, 64, 64, 3] | [pairs, 2, 64, 64, 3] |
| `domain`, `seed` | int32 [batch] | [pairs, 2] |
| `label` (of EMOTIONS) | int32 [batch] | [pairs, 2] |
| `mask` (emotions of the example's corpus) | float32 [batch, 10] | [pairs, 2, 10] |
| `source` (index among the stage's sources) | int32 [batch] | [pairs, 2] |
| of mixed examples: `mix_label` (of the partner) | int32 [batch] | [pairs, 2] |
| and `mix_weight` (the partner's share of the image) | float32 [batch] | [pairs, 2] |

Every source has the same share of the examples of a batch. The examples of a replica, or of a part
of an accumulated batch, may have other shares, but all replicas and all parts have equally many
examples or pairs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor, ops

from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.networks.network import build_network, head_weights
from kerasemo.training.objectives import Objective
from pipelines.core.errors import InputError

Batch = Mapping[str, Any]
Values = dict[str, KerasTensor]


class StageModel(keras.Model):
    """What the three kinds share: the steps, and the mean of every term of the loss.

    The model wraps the inputs and outputs of the network for one training. Checkpoints hold the
    weights of the network by name.

    Args:
        inputs: The inputs of `kerasemo.networks.network.build_network`.
        outputs: Its outputs; logits [batch, heads, 10] have a head for each source.
        config: The settings of the stage.
        class_weights: See `objectives.Objective`.
        name: The name of the model.
    """

    def __init__(
        self,
        inputs: Mapping[str, KerasTensor],
        outputs: Mapping[str, KerasTensor],
        config: StageConfig,
        *,
        class_weights: np.ndarray | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(inputs, outputs, name=name)
        self.objective = Objective(config, class_weights)
        self.clip_norm = config.clip_norm
        self.accumulate = config.accumulate
        self._means = {
            term: keras.metrics.Mean(name=term) for term in ("loss", *self.objective.names)
        }

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means, which Keras resets at the start of an epoch."""
        return list(self._means.values())

    @property
    def learnt_weights(self) -> list[keras.Variable]:
        """The weights that the stage trains."""
        return self.trainable_weights

    def compute_loss(self, batch: Batch, training: bool = True) -> Values:
        """Return `loss` and the values of its terms for a batch, divided by the replicas."""
        examples = self._examples(batch)
        inputs = {
            "image": ops.cast(examples["image"], "float32"),
            "domain": examples["domain"],
            "seed": examples["seed"],
        }
        return self.objective.batch_losses(examples, self(inputs, training=training))

    def _examples(self, batch: Batch) -> Batch:
        """Return a batch whose first axis is the examples."""
        return batch

    def step(self, batch: Batch) -> Values:
        """Make one step of the optimiser, and return `loss` and the values of its terms."""
        weights = self.learnt_weights
        values, gradients = self._accumulate_gradients(batch, weights)
        if self.clip_norm:
            gradients = _clip_gradients(gradients, self.clip_norm)
        self.optimizer.apply(gradients, weights)
        return _times_replicas(values)

    def measure(self, batch: Batch) -> Values:
        """Return what `step` returns, without training."""
        return _times_replicas(self.compute_loss(batch, training=False))

    def train_step(self, batch: Batch) -> Values:
        """Make one step of the optimiser, and return the running mean of every value."""
        return self._running_means(self.step(batch), batch)

    def test_step(self, batch: Batch) -> Values:
        """Return the running mean of every value without training."""
        return self._running_means(self.measure(batch), batch)

    def _running_means(self, values: Values, batch: Batch) -> Values:
        for name, value in values.items():
            self._means[name].update_state(value, sample_weight=ops.shape(batch["label"])[0])
        return {name: mean.result() for name, mean in self._means.items()}

    def _gradients(self, batch: Batch, weights: list[keras.Variable]) -> tuple[Values, list[Any]]:
        with tf.GradientTape() as tape:
            values = self.compute_loss(batch, training=True)
        return values, tape.gradient(values["loss"], weights)

    def _accumulate_gradients(
        self, batch: Batch, weights: list[keras.Variable]
    ) -> tuple[Values, list[Any]]:
        """Return values and gradients of a batch as the means over its equal parts.

        The share of a source in a part does not matter, because the weights of the losses are those
        of the whole batch.
        """
        n_parts = self.accumulate
        if n_parts == 1:
            return self._gradients(batch, weights)
        n_examples = batch["label"].shape[0]
        if n_examples is not None and n_examples % n_parts:
            raise ValueError(
                f"accumulate must divide the {n_examples} examples or pairs of each replica's "
                f"batch; received {n_parts}"
            )
        parts = {
            key: ops.reshape(value, (n_parts, -1, *value.shape[1:])) for key, value in batch.items()
        }
        zero_values = dict.fromkeys(("loss", *self.objective.names), tf.zeros([]))
        zero_gradients = [tf.zeros(weight.shape) for weight in weights]

        def add_part(index: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
            part = {key: value[index] for key, value in parts.items()}
            of_part = self._gradients(part, weights)
            return index + 1, tf.nest.map_structure(
                lambda total, value: total + value / n_parts, sums, of_part
            )

        _, sums = tf.while_loop(
            lambda index, _: index < n_parts,
            add_part,
            (0, (zero_values, zero_gradients)),
            maximum_iterations=n_parts,
            parallel_iterations=1,
        )
        return sums


def _times_replicas(values: Values) -> Values:
    # Keras divides a loss by the number of replicas, because gradients are summed over them.
    n_replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return {name: value * n_replicas for name, value in values.items()}


def _clip_gradients(gradients: list[Any], max_norm: float) -> list[Any]:
    """Return the gradients of the whole batch, scaled to a norm of at most `max_norm`, by replica.

    The clipping of an optimiser sees the gradients of one replica, before they are summed.
    """
    context = tf.distribute.get_replica_context()
    gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    norm = tf.linalg.global_norm(gradients)
    scale = max_norm / (tf.maximum(norm, max_norm) * context.num_replicas_in_sync)
    return [gradient * scale for gradient in gradients]


class SupervisedModel(StageModel):
    """Softmax cross-entropy on one source (Eq. 1 of the paper)."""


class PairModel(StageModel):
    """What contrastive and joint share: both items of every pair pass the network at once."""

    def _examples(self, batch: Batch) -> Batch:
        return {key: ops.reshape(value, (-1, *value.shape[2:])) for key, value in batch.items()}


class ContrastiveModel(PairModel):
    """The contrastive loss alone (Eq. 2 of the paper)."""

    @property
    def learnt_weights(self) -> list[keras.Variable]:
        """All weights but those of the head, which the loss does not reach."""
        of_head = {id(weight) for weight in head_weights(self)}
        return [weight for weight in self.trainable_weights if id(weight) not in of_head]


class JointModel(PairModel):
    """A cross-entropy for every source, plus the contrastive loss over pairs across sources."""


STAGE_MODELS: Mapping[str, type[StageModel]] = {
    "supervised": SupervisedModel,
    "contrastive": ContrastiveModel,
    "joint": JointModel,
}
"""The model of each kind of stage."""


def build_stage_model(
    config: StageConfig,
    network: NetworkConfig,
    *,
    n_heads: int = 1,
    class_weights: np.ndarray | None = None,
) -> StageModel:
    """Return a new network as the model of a stage, with its frozen layers.

    Args:
        config: The settings of the stage.
        network: The shape of the network.
        n_heads: The number of heads.
        class_weights: See `objectives.Objective`.

    Raises:
        InputError: `freeze` names no layer, or leaves nothing to train.
    """
    model = STAGE_MODELS[config.kind](
        *build_network(network, heads=n_heads), config, class_weights=class_weights
    )
    freeze_layers(model, config.freeze)
    return model


def freeze_layers(model: StageModel, prefixes: Sequence[str]) -> None:
    """Exclude layers whose names begin with one of `prefixes` from training.

    Call it before the optimiser is built.

    Raises:
        InputError: A prefix is that of no layer with weights, or nothing is left to train.
    """
    layers = {layer.name: layer for layer in model.layers if layer.trainable_weights}
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in layers):
            raise InputError(
                f"freeze: no layer's name begins with {prefix!r}; the layers are "
                f"{', '.join(layers)}"
            )
    for name, layer in layers.items():
        if name.startswith(tuple(prefixes)):
            layer.trainable = False
    if not model.learnt_weights:
        raise InputError(
            f"freeze: {', '.join(prefixes)} leave nothing to train; the layers are "
            f"{', '.join(layers)}"
        )
