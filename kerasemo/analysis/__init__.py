"""Prediction tables and what follows from them: pooled scores, comparisons, reference figures.

May import `kerasemo.metrics`. Never imports TensorFlow or Keras, so that `kerasemo.compare` starts fast.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.analysis.comparison import compare_files
    from kerasemo.analysis.differences import correct_for_number, mean_over_sources
    from kerasemo.analysis.pooling import pool_folds, score_pool, split_into_items
    from kerasemo.analysis.prediction_tables import (
        PooledPredictions,
        Predictions,
        PredictionTable,
        pooled_predictions,
        write_prediction_tables,
    )
    from kerasemo.analysis.references import listener_scores, published_results, read_listener_rates

__all__ = [
    "Answers",
    "Kept",
    "Pool",
    "by_item",
    "compare",
    "corrected",
    "listeners_score",
    "of_answers",
    "of_source",
    "pool",
    "read_rates",
    "score",
    "together",
    "write",
]

_MODULE_OF = {
    "Answers": "prediction_tables",
    "Kept": "prediction_tables",
    "Pool": "prediction_tables",
    "by_item": "pooling",
    "compare": "comparison",
    "corrected": "differences",
    "listeners_score": "references",
    "of_answers": "prediction_tables",
    "of_source": "references",
    "pool": "pooling",
    "read_rates": "references",
    "score": "pooling",
    "together": "differences",
    "write": "prediction_tables",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
