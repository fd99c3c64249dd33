"""Predict the emotions of media files with a bundle.

May import `kerasemo.serving`, `kerasemo.metrics` and `pipelines`. Never imports Keras.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.inference.clip_prediction import ClipPrediction, captions
    from kerasemo.inference.predictor import ReadingOptions, expand_clips, predict_clips

__all__ = ["ClipPrediction", "ReadingOptions", "captions", "expand_clips", "predict_clips"]

_MODULE_OF = {
    "ClipPrediction": "clip_prediction",
    "ReadingOptions": "predictor",
    "captions": "clip_prediction",
    "expand_clips": "predictor",
    "predict_clips": "predictor",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
