"""Scores in NumPy and SciPy: classification, verification, calibration, significance, fusion.

Imports no other package of the project. Never imports TensorFlow or Keras.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.metrics.calibration import calibration_error
    from kerasemo.metrics.classification import (
        METRICS,
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
    "METRICS",
    "MIN_PROBABILITY",
    "PAIRS_SEED",
    "EmbeddedClips",
    "Fusion",
    "Statistic",
    "accuracy",
    "area_under_curve",
    "calibration_error",
    "class_balanced",
    "classification_scores",
    "clip_embeddings",
    "clip_means",
    "confusion_matrix",
    "fit_fusion",
    "fuse",
    "holm_correction",
    "macro_f1",
    "masked_softmax",
    "mean_paired_difference",
    "mean_probabilities",
    "score_interval",
    "score_pairs",
    "scores_by_speaker",
    "unweighted_average_recall",
]

_MODULE_OF = {
    "EmbeddedClips": "verification",
    "Fusion": "fusion",
    "METRICS": "classification",
    "MIN_PROBABILITY": "fusion",
    "PAIRS_SEED": "verification",
    "Statistic": "significance",
    "accuracy": "classification",
    "area_under_curve": "verification",
    "calibration_error": "calibration",
    "class_balanced": "classification",
    "classification_scores": "classification",
    "clip_embeddings": "verification",
    "clip_means": "classification",
    "confusion_matrix": "classification",
    "fit_fusion": "fusion",
    "fuse": "fusion",
    "holm_correction": "significance",
    "macro_f1": "classification",
    "masked_softmax": "classification",
    "mean_paired_difference": "significance",
    "mean_probabilities": "classification",
    "score_interval": "significance",
    "score_pairs": "verification",
    "scores_by_speaker": "significance",
    "unweighted_average_recall": "classification",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
