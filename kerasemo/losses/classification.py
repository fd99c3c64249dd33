"""Masked cross-entropy: a pure function with one value per example, and the `keras.losses.Loss` that calls it."""

import keras
from keras import ops

MASKED_LOGIT = -1e9
"""The logit of an emotion that a corpus does not have: its probability is 0."""


def mask_logits(logits, mask):
    """Return the logits with those of a mask's zeros pushed to where their probability is 0.

    Args:
        logits: float [..., emotions].
        mask: 1 for an emotion that can occur, else 0; [..., emotions].
    """
    return ops.where(ops.cast(mask, "bool"), logits, ops.cast(MASKED_LOGIT, logits.dtype))


def smoothed_targets(labels, mask, *, label_smoothing: float = 0.0):
    """Return the target distribution: the label's emotion, smoothed over those that the mask lets occur.

    Args:
        labels: int [...], indices of emotions.
        mask: float [..., emotions] of 0 and 1; the label's own is 1.
        label_smoothing: The share of the probability that is spread evenly, in [0, 1).

    Returns:
        float32 [..., emotions], each row of sum 1.
    """
    mask = ops.cast(mask, "float32")
    one_hot = ops.one_hot(labels, mask.shape[-1], dtype="float32")
    return (1 - label_smoothing) * one_hot + label_smoothing * mask / ops.sum(
        mask, axis=-1, keepdims=True
    )


def cross_entropy(targets, logits):
    """Return the softmax cross-entropy, -sum_c t_c log p_c (Eq. 1 of the paper), one value per example.

    Args:
        targets: float32 [..., emotions], distributions.
        logits: float [..., emotions], masked by `mask_logits`.

    Returns:
        float32 [...], at least 0.
    """
    return -ops.sum(targets * ops.log_softmax(ops.cast(logits, "float32"), axis=-1), axis=-1)


@keras.saving.register_keras_serializable("kerasemo")
class CrossEntropy(keras.losses.Loss):
    """`cross_entropy` of target distributions and masked logits."""

    def call(self, y_true, y_pred):
        return cross_entropy(y_true, y_pred)
