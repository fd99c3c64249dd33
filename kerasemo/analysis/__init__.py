"""Prediction tables and what follows from them: pooled scores, comparisons, reference figures.

May import `kerasemo.metrics`. Never imports TensorFlow or Keras, so that `kerasemo.compare` starts
fast.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.analysis.comparison import compare_files
    from kerasemo.analysis.differences import (
        correct_for_number,
        differences_of_metrics,
        mean_over_sources,
    )
    from kerasemo.analysis.pooling import pool_folds, score_pool, split_into_items
    from kerasemo.analysis.prediction_tables import (
        NO_PREDICTION,
        PooledPredictions,
        Predictions,
        PredictionTable,
        pooled_predictions,
        write_prediction_tables,
    )
    from kerasemo.analysis.references import listener_scores, published_results, read_listener_rates

__all__ = [
    "NO_PREDICTION",
    "PooledPredictions",
    "PredictionTable",
    "Predictions",
    "compare_files",
    "correct_for_number",
    "differences_of_metrics",
    "listener_scores",
    "mean_over_sources",
    "pool_folds",
    "pooled_predictions",
    "published_results",
    "read_listener_rates",
    "score_pool",
    "split_into_items",
    "write_prediction_tables",
]

_MODULE_OF = {
    "NO_PREDICTION": "prediction_tables",
    "PooledPredictions": "prediction_tables",
    "PredictionTable": "prediction_tables",
    "Predictions": "prediction_tables",
    "compare_files": "comparison",
    "correct_for_number": "differences",
    "differences_of_metrics": "differences",
    "listener_scores": "references",
    "mean_over_sources": "differences",
    "pool_folds": "pooling",
    "pooled_predictions": "prediction_tables",
    "published_results": "references",
    "read_listener_rates": "references",
    "score_pool": "pooling",
    "split_into_items": "pooling",
    "write_prediction_tables": "prediction_tables",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
