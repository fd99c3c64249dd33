"""Masked cross-entropy: a value for each example, and the `keras.losses.Loss`."""

import keras
from keras import KerasTensor, ops

MASKED_LOGIT = -1e9
"""The logit of an emotion that a corpus does not have; its probability is 0."""


def mask_logits(logits: KerasTensor, mask: KerasTensor) -> KerasTensor:
    """Return logits in which the emotions that a mask leaves out have probability 0.

    Args:
        logits: float [..., emotions].
        mask: [..., emotions]: 1 for an emotion that can occur, else 0.
    """
    return ops.where(ops.cast(mask, "bool"), logits, ops.cast(MASKED_LOGIT, logits.dtype))


def smooth_targets(
    labels: KerasTensor, mask: KerasTensor, *, label_smoothing: float = 0.0
) -> KerasTensor:
    """Return the target distribution: the label's emotion, smoothed over the emotions of the mask.

    Args:
        labels: int [...], indices of emotions.
        mask: float [..., emotions] of 0 and 1; 1 at the label.
        label_smoothing: The fraction of the probability that is spread evenly, in [0, 1).

    Returns:
        float32 [..., emotions], each row of sum 1.
    """
    mask = ops.cast(mask, "float32")
    one_hot = ops.one_hot(labels, mask.shape[-1], dtype="float32")
    n_emotions = ops.sum(mask, axis=-1, keepdims=True)
    return (1 - label_smoothing) * one_hot + label_smoothing * mask / n_emotions


def cross_entropy(targets: KerasTensor, logits: KerasTensor) -> KerasTensor:
    """Return the softmax cross-entropy, -sum_c t_c log p_c (Eq. 1 of the paper), of each example.

    Args:
        targets: float32 [..., emotions], distributions.
        logits: float [..., emotions], masked by `mask_logits`.

    Returns:
        float32 [...], at least 0.
    """
    return -ops.sum(targets * ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axis=-1)


@keras.saving.register_keras_serializable("kerasemo")
class CrossEntropy(keras.losses.Loss):
    """The mean `cross_entropy` of target distributions and masked logits."""

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return the loss of each example."""
        return cross_entropy(y_true, y_pred)
