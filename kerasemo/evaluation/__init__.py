"""Run a network or a bundle on a split: predictions and scores of clips.

May import `kerasemo.runs`, `kerasemo.analysis`, `kerasemo.serving` and what these import.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.evaluation.bundle_scoring import evaluate
    from kerasemo.evaluation.evaluator import Options
    from kerasemo.evaluation.fused_scoring import fitted
    from kerasemo.evaluation.scoring import (
        embedded_pair_auc,
        embedded_pairs,
        emotion_mask,
        forward,
        same_emotion,
        score_embeddings,
        score_logits,
        score_outputs,
        side_items,
        spread,
        write_predictions,
    )
    from kerasemo.evaluation.stage_predictions import ask, header, read, write

__all__ = [
    "Options",
    "ask",
    "embedded_pair_auc",
    "embedded_pairs",
    "emotion_mask",
    "evaluate",
    "fitted",
    "forward",
    "header",
    "read",
    "same_emotion",
    "score_embeddings",
    "score_logits",
    "score_outputs",
    "side_items",
    "spread",
    "write",
    "write_predictions",
]

_MODULE_OF = {
    "Options": "evaluator",
    "ask": "stage_predictions",
    "embedded_pair_auc": "scoring",
    "embedded_pairs": "scoring",
    "emotion_mask": "scoring",
    "evaluate": "bundle_scoring",
    "fitted": "fused_scoring",
    "forward": "scoring",
    "header": "stage_predictions",
    "read": "stage_predictions",
    "same_emotion": "scoring",
    "score_embeddings": "scoring",
    "score_logits": "scoring",
    "score_outputs": "scoring",
    "side_items": "scoring",
    "spread": "scoring",
    "write": "stage_predictions",
    "write_predictions": "scoring",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
