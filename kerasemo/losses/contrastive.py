"""Contrastive loss: a value for each pair, and the `keras.losses.Loss`."""

from typing import Any

import keras
from keras import KerasTensor, ops


def contrastive_loss(same: KerasTensor, embeddings: KerasTensor, *, margin: float) -> KerasTensor:
    """Return the contrastive loss y D^2 + (1 - y) max(0, m - D)^2 of each pair.

    D is the Euclidean distance. The form of Eq. 2 of the paper, unit length of the embeddings, and
    m = 0.6 are the project's choices.

    Args:
        same: [pairs]: 1 if both items show the same emotion, else 0.
        embeddings: float [pairs, 2, n].
        margin: m, the distance to which different emotions are pushed apart.

    Returns:
        float32 [pairs], at least 0.
    """
    embeddings = ops.cast(embeddings, "float32")
    same = ops.cast(same, "float32")
    square = ops.sum(ops.square(embeddings[:, 0] - embeddings[:, 1]), axis=-1)
    distance = ops.sqrt(ops.maximum(square, 1e-12))  # the root of 0 has no gradient
    return same * square + (1 - same) * ops.square(ops.maximum(0.0, margin - distance))


@keras.saving.register_keras_serializable("kerasemo")
class ContrastiveLoss(keras.losses.Loss):
    """The mean `contrastive_loss` of [pairs] 0/1 and embeddings [pairs, 2, n].

    Args:
        margin: The distance to which different emotions are pushed apart, in (0, 2].
        name: The name of the loss.
    """

    def __init__(self, margin: float = 0.6, name: str = "contrastive", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not 0 < margin <= 2:
            raise ValueError(
                "margin must be in (0, 2], because the distance of unit vectors is at most 2; "
                f"received {margin!r}"
            )
        self.margin = margin

    def call(self, y_true: KerasTensor, y_pred: KerasTensor) -> KerasTensor:
        """Return the loss of each pair."""
        return contrastive_loss(y_true, y_pred, margin=self.margin)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the loss."""
        return super().get_config() | {"margin": self.margin}
