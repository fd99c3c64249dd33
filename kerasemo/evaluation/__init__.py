"""Run a network or a bundle on a split: predictions and scores of clips.

May import `kerasemo.runs`, `kerasemo.analysis`, `kerasemo.serving` and what these import.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.evaluation.bundle_scoring import evaluate_bundle
    from kerasemo.evaluation.evaluator import evaluate_run, evaluate_stage
    from kerasemo.evaluation.fused_scoring import fit_served_fusion
    from kerasemo.evaluation.scoring import (
        class_means,
        clip_items,
        clip_probabilities,
        emotion_mask,
        head_logits,
        pair_area_under_curve,
        pair_embeddings,
        pairs_are_equal,
        predict_subset,
        scatter_to_source,
        score_clips,
        score_embeddings,
        score_outputs,
        write_predictions,
    )
    from kerasemo.evaluation.stage_predictions import (
        StagePredictions,
        predict_split,
        prediction_header,
        read_stage_predictions,
        write_stage_predictions,
    )

__all__ = [
    "StagePredictions",
    "class_means",
    "clip_items",
    "clip_probabilities",
    "emotion_mask",
    "evaluate_bundle",
    "evaluate_run",
    "evaluate_stage",
    "fit_served_fusion",
    "head_logits",
    "pair_area_under_curve",
    "pair_embeddings",
    "pairs_are_equal",
    "predict_split",
    "predict_subset",
    "prediction_header",
    "read_stage_predictions",
    "scatter_to_source",
    "score_clips",
    "score_embeddings",
    "score_outputs",
    "write_predictions",
    "write_stage_predictions",
]

_MODULE_OF = {
    "StagePredictions": "stage_predictions",
    "class_means": "scoring",
    "clip_items": "scoring",
    "clip_probabilities": "scoring",
    "emotion_mask": "scoring",
    "evaluate_bundle": "bundle_scoring",
    "evaluate_run": "evaluator",
    "evaluate_stage": "evaluator",
    "fit_served_fusion": "fused_scoring",
    "head_logits": "scoring",
    "pair_area_under_curve": "scoring",
    "pair_embeddings": "scoring",
    "pairs_are_equal": "scoring",
    "predict_split": "stage_predictions",
    "predict_subset": "scoring",
    "prediction_header": "stage_predictions",
    "read_stage_predictions": "stage_predictions",
    "scatter_to_source": "scoring",
    "score_clips": "scoring",
    "score_embeddings": "scoring",
    "score_outputs": "scoring",
    "write_predictions": "scoring",
    "write_stage_predictions": "stage_predictions",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
