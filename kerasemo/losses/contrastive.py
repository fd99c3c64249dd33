"""Contrastive loss of pairs: a pure function with one value per pair, and the `keras.losses.Loss` that calls it."""

import keras
from keras import ops


def contrastive(same, embeddings, *, margin: float):
    """Return the contrastive loss y D^2 + (1 - y) max(0, m - D)^2 of pairs, one value per pair.

    D is the Euclidean distance. That Eq. 2 of the paper has this form, on embeddings of unit length and with m = 0.6, is
    the project's choice.

    Args:
        same: 1 where both show the same emotion, else 0; [pairs].
        embeddings: float [pairs, 2, n].
        margin: m, the distance that different emotions are pushed to.

    Returns:
        float32 [pairs], at least 0.
    """
    embeddings = ops.cast(embeddings, "float32")
    same = ops.cast(same, "float32")
    square = ops.sum(ops.square(embeddings[:, 0] - embeddings[:, 1]), axis=-1)
    distance = ops.sqrt(ops.maximum(square, 1e-12))  # the root of 0 has no gradient
    return same * square + (1 - same) * ops.square(ops.maximum(0.0, margin - distance))


@keras.saving.register_keras_serializable("kerasemo")
class Contrastive(keras.losses.Loss):
    """`contrastive` of [pairs] 0/1 and [pairs, 2, n] embeddings."""

    def __init__(self, margin: float = 0.6, name: str = "contrastive", **kwargs):
        super().__init__(name=name, **kwargs)
        if not 0 < margin <= 2:
            raise ValueError(
                f"margin must be in (0, 2], the largest distance of two unit vectors; received {margin!r}"
            )
        self.margin = margin

    def call(self, y_true, y_pred):
        return contrastive(y_true, y_pred, margin=self.margin)

    def get_config(self) -> dict:
        return super().get_config() | {"margin": self.margin}
