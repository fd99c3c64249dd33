"""The terms of each kind of stage's loss, for training and for validation.

To add a term, write its pure function into `kerasemo.losses`, a `LossTerm` here into `LOSS_TERMS`,
and its weight into `StageConfig`.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import KerasTensor, ops

from kerasemo.config.schema import StageConfig
from kerasemo.datasets.sampling import Draw
from kerasemo.datasets.sources import Subset
from kerasemo.evaluation import scoring
from kerasemo.losses.classification import (
    CrossEntropy,
    cross_entropy,
    mask_logits,
    smooth_targets,
)
from kerasemo.losses.contrastive import ContrastiveLoss, contrastive_loss
from kerasemo.networks.inference import NetworkOutputs

Examples = Mapping[str, KerasTensor]
"""A batch whose first axis is the examples; see `kerasemo.training.stage_models`."""


@dataclasses.dataclass(frozen=True, eq=False)
class ValidationOutputs:
    """The outputs of a network for the validation split of a stage."""

    subsets: Sequence[Subset]
    """The validation items of each source."""
    outputs: Sequence[NetworkOutputs]
    """The outputs for the items of each source."""
    pairs: Draw | None
    """Pairs of the items; None for a supervised stage."""


class LossTerm(abc.ABC):
    """A term of the loss; it may have a value for each source."""

    kinds: tuple[str, ...]
    """The kinds of stage that have the term."""

    @abc.abstractmethod
    def names(self, config: StageConfig) -> list[str]:
        """Return the names of the values, as they are logged."""

    def weight(self, config: StageConfig) -> float:
        """Return the weight of every value in the loss."""
        del config
        return 1.0

    @abc.abstractmethod
    def of_batch(
        self, objective: "Objective", examples: Examples, outputs: Mapping[str, KerasTensor]
    ) -> dict[str, KerasTensor]:
        """Return the values of a training batch, by name.

        Args:
            objective: The settings of the loss.
            examples: The batch; pairs are two examples in a row.
            outputs: The outputs of the network for the examples.
        """

    @abc.abstractmethod
    def of_validation(self, config: StageConfig, validation: ValidationOutputs) -> dict[str, float]:
        """Return the values of the validation split, by name."""


class CrossEntropyTerm(LossTerm):
    """The cross-entropy of each source, over the emotions of its corpus (Eq. 1 of the paper)."""

    kinds = ("supervised", "joint")

    def names(self, config: StageConfig) -> list[str]:
        """Return a name for each source."""
        return [self._name(source) for source in config.sources]

    def _name(self, source: str) -> str:
        return f"cross_entropy_{source.replace('/', '_')}"

    def of_batch(
        self, objective: "Objective", examples: Examples, outputs: Mapping[str, KerasTensor]
    ) -> dict[str, KerasTensor]:
        """Return the mean over the examples of each source.

        With several members, the mean over members.

        The validation has the cross-entropy of all members together, which is never more than that
        mean.
        """
        member_logits = [
            logits for name, logits in outputs.items() if name.startswith("logits_member")
        ] or [outputs["logits"]]
        of_members = [self._of_logits(objective, examples, logits) for logits in member_logits]
        return {
            name: sum(values[name] for values in of_members) / len(of_members)
            for name in of_members[0]
        }

    def _of_logits(
        self, objective: "Objective", examples: Examples, logits: KerasTensor
    ) -> dict[str, KerasTensor]:
        """Return the values for logits [examples, emotions] or [examples, sources, emotions]."""
        n_sources = len(objective.config.sources)
        if len(logits.shape) == 3:
            own_head = ops.one_hot(examples["source"], n_sources, dtype=logits.dtype)
            logits = ops.sum(logits * own_head[:, :, None], axis=1)
        targets = objective.weighted_targets(examples, examples["label"])
        if "mix_label" in examples:
            share = examples["mix_weight"][:, None]
            mixed = objective.weighted_targets(examples, examples["mix_label"])
            targets = (1 - share) * targets + share * mixed
        masked = mask_logits(logits, examples["mask"])
        loss, values = CrossEntropy(), {}
        for index, name in enumerate(self.names(objective.config)):
            # Each source has 1 / n of the batch, so the mean over all examples with weight n for
            # those of the source is the mean over these.
            is_here = ops.cast(ops.equal(examples["source"], index), "float32")
            values[name] = loss(targets, masked, sample_weight=is_here * n_sources)
        return values

    def of_validation(self, config: StageConfig, validation: ValidationOutputs) -> dict[str, float]:
        """Return the mean over the items of each source, without class weights."""
        return {
            self._name(subset.source.name): self._of_items(config, subset, outputs)
            for subset, outputs in zip(validation.subsets, validation.outputs, strict=True)
        }

    def _of_items(self, config: StageConfig, subset: Subset, outputs: NetworkOutputs) -> float:
        if outputs.logits is None:
            raise ValueError(f"outputs of {subset.source.name} must have logits; received None")
        mask = np.broadcast_to(subset.source.mask, outputs.logits.shape)
        targets = smooth_targets(subset.labels, mask, label_smoothing=config.label_smoothing)
        values = cross_entropy(targets, mask_logits(outputs.logits, mask))
        return _mean(values)


class ContrastiveTerm(LossTerm):
    """The contrastive loss of pairs (Eq. 2 of the paper)."""

    kinds = ("contrastive", "joint")

    def names(self, config: StageConfig) -> list[str]:
        """Return the name."""
        del config
        return ["contrastive"]

    def weight(self, config: StageConfig) -> float:
        """Return the weight next to the cross-entropies of a joint stage."""
        return config.contrastive_weight if config.kind == "joint" else 1.0

    def of_batch(
        self, objective: "Objective", examples: Examples, outputs: Mapping[str, KerasTensor]
    ) -> dict[str, KerasTensor]:
        """Return the mean over the pairs."""
        size = outputs["embedding"].shape[-1]
        embeddings = ops.reshape(outputs["embedding"], (-1, 2, size))  # [pairs, 2, n]
        loss = ContrastiveLoss(objective.config.margin)
        return {"contrastive": loss(_pair_equality(examples), embeddings)}

    def of_validation(self, config: StageConfig, validation: ValidationOutputs) -> dict[str, float]:
        """Return the mean over the pairs."""
        if validation.pairs is None:
            raise ValueError("pairs must be given for the contrastive loss; received None")
        embeddings = scoring.pair_embeddings(
            validation.pairs,
            validation.subsets,
            [outputs.embedding for outputs in validation.outputs],
        )
        same = scoring.pairs_are_equal(validation.pairs, validation.subsets).astype(np.float32)
        return {"contrastive": _mean(contrastive_loss(same, embeddings, margin=config.margin))}


def _mean(values: Any) -> float:
    return float(np.mean(ops.convert_to_numpy(values), dtype=np.float64))


def _pair_equality(examples: Examples) -> KerasTensor:
    """Return float32 [pairs]: 1 if both items show the same emotion, else 0.

    For mixed examples: the probability that a part of one and a part of the other do.
    """

    def pairs(name: str) -> KerasTensor:
        return ops.reshape(examples[name], (-1, 2, *examples[name].shape[1:]))

    labels = pairs("label")
    if "mix_label" not in examples:
        return ops.cast(ops.equal(labels[:, 0], labels[:, 1]), "float32")
    share, n_emotions = pairs("mix_weight")[..., None], examples["mask"].shape[-1]
    parts = (1 - share) * ops.one_hot(labels, n_emotions) + share * ops.one_hot(
        pairs("mix_label"), n_emotions
    )  # [pairs, 2, emotions]
    return ops.sum(parts[:, 0] * parts[:, 1], axis=-1)


LOSS_TERMS: tuple[LossTerm, ...] = (CrossEntropyTerm(), ContrastiveTerm())
"""Every term, in the order in which the loss adds them."""


class Objective:
    """The loss of a stage: the weighted sum of its terms.

    The weights, 1 for every cross-entropy and `contrastive_weight`, are the project's choice.

    Args:
        config: The settings of the stage.
        class_weights: float32 [sources, emotions]: the weight of an example of each class of each
            source in the cross-entropy; None: all have the same. Each part of a mixed example has
            the weight of its class.
    """

    def __init__(self, config: StageConfig, class_weights: np.ndarray | None = None) -> None:
        self.config = config
        self._class_weights = (
            None if class_weights is None else np.asarray(class_weights, np.float32)
        )
        self._terms = [term for term in LOSS_TERMS if config.kind in term.kinds]

    @property
    def names(self) -> list[str]:
        """The names of all values of the terms, as they are logged."""
        return [name for term in self._terms for name in term.names(self.config)]

    def batch_losses(
        self, examples: Examples, outputs: Mapping[str, KerasTensor]
    ) -> dict[str, KerasTensor]:
        """Return `loss` and the values of its terms for a training batch.

        See `LossTerm.of_batch`.
        """
        values: dict[str, KerasTensor] = {}
        for term in self._terms:
            values |= term.of_batch(self, examples, outputs)
        return {"loss": self._total(values), **values}

    def validation_losses(self, validation: ValidationOutputs) -> dict[str, float]:
        """Return `loss` and the values of its terms for the validation split."""
        values: dict[str, float] = {}
        for term in self._terms:
            values |= term.of_validation(self.config, validation)
        return {"loss": self._total(values), **values}

    def _total(self, values: Mapping[str, Any]) -> Any:
        return sum(
            term.weight(self.config) * values[name]
            for term in self._terms
            for name in term.names(self.config)
        )

    def weighted_targets(self, examples: Examples, labels: KerasTensor) -> KerasTensor:
        """Return the targets of labels, [examples, emotions], times the weights of their classes.

        The cross-entropy of targets w t is w times that of t, so a mixture needs only the sum of
        targets.
        """
        targets = smooth_targets(
            labels, examples["mask"], label_smoothing=self.config.label_smoothing
        )
        if self._class_weights is None:
            return targets
        places = examples["source"] * self._class_weights.shape[1] + labels
        return targets * ops.take(self._class_weights.ravel(), places)[:, None]
