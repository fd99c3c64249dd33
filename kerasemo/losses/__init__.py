"""The losses of the method in `keras.ops`: a pure function and a Keras loss for each term.

Imports no other package of the project, and no backend.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.losses.classification import (
        CrossEntropy,
        cross_entropy,
        mask_logits,
        smooth_targets,
    )
    from kerasemo.losses.contrastive import ContrastiveLoss, contrastive_loss

__all__ = [
    "ContrastiveLoss",
    "CrossEntropy",
    "contrastive_loss",
    "cross_entropy",
    "mask_logits",
    "smooth_targets",
]

_MODULE_OF = {
    "ContrastiveLoss": "contrastive",
    "CrossEntropy": "classification",
    "contrastive_loss": "contrastive",
    "cross_entropy": "classification",
    "mask_logits": "classification",
    "smooth_targets": "classification",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
