"""Scores in NumPy and SciPy: classification, verification, calibration, significance, fusion.

Imports no other package of the project. Never imports TensorFlow or Keras.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.metrics.calibration import calibration_error
    from kerasemo.metrics.classification import (
        accuracy,
        class_balanced,
        classification_scores,
        clip_means,
        confusion_matrix,
        macro_f1,
        masked_softmax,
        mean_probabilities,
        unweighted_average_recall,
    )
    from kerasemo.metrics.fusion import MIN_PROBABILITY, Fusion, fit_fusion, fuse
    from kerasemo.metrics.significance import (
        Statistic,
        holm_correction,
        mean_paired_difference,
        score_interval,
        scores_by_speaker,
    )
    from kerasemo.metrics.verification import (
        PAIRS_SEED,
        EmbeddedClips,
        area_under_curve,
        clip_embeddings,
        score_pairs,
    )

__all__ = [
    "LEAST",
    "PAIRS_SEED",
    "Clips",
    "Fusion",
    "Statistic",
    "area_under_curve",
    "calibration_error",
    "class_balanced",
    "clip_answers",
    "clip_embeddings",
    "clip_means",
    "confusion_matrix",
    "evaluate",
    "fit",
    "fuse",
    "holm",
    "interval",
    "macro_f1",
    "masked_softmax",
    "paired_over",
    "per_speaker",
    "score_pairs",
    "unweighted_accuracy",
    "weighted_accuracy",
]

_MODULE_OF = {
    "Clips": "verification",
    "Fusion": "fusion",
    "LEAST": "fusion",
    "PAIRS_SEED": "verification",
    "Statistic": "significance",
    "area_under_curve": "classification",
    "calibration_error": "calibration",
    "class_balanced": "significance",
    "clip_answers": "classification",
    "clip_embeddings": "verification",
    "clip_means": "classification",
    "confusion_matrix": "classification",
    "evaluate": "classification",
    "fit": "fusion",
    "fuse": "fusion",
    "holm": "significance",
    "interval": "significance",
    "macro_f1": "classification",
    "masked_softmax": "classification",
    "paired_over": "significance",
    "per_speaker": "significance",
    "score_pairs": "verification",
    "unweighted_accuracy": "classification",
    "weighted_accuracy": "classification",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
