"""Render results: terminal tables, Markdown, CSV, HTML pages with charts.

May import `pipelines.core` and `pipelines.html`. Never imports TensorFlow or Keras.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.reporting.prediction_page import write_prediction_page
    from kerasemo.reporting.study_tables import is_of_clips, study_csv
    from kerasemo.reporting.terminal import (
        FILE_WIDTH,
        print_comparison,
        print_evaluation,
        print_export,
        print_file_predictions,
        print_model_evaluation,
        print_predictions,
        print_study,
        print_training,
    )

__all__ = [
    "FILE_WIDTH",
    "is_of_clips",
    "print_comparison",
    "print_evaluation",
    "print_export",
    "print_file_predictions",
    "print_model_evaluation",
    "print_predictions",
    "print_study",
    "print_training",
    "study_csv",
    "write_prediction_page",
]

_MODULE_OF = {
    "FILE_WIDTH": "terminal",
    "is_of_clips": "study_tables",
    "print_comparison": "terminal",
    "print_evaluation": "terminal",
    "print_export": "terminal",
    "print_file_predictions": "terminal",
    "print_model_evaluation": "terminal",
    "print_predictions": "terminal",
    "print_study": "terminal",
    "print_training": "terminal",
    "study_csv": "study_tables",
    "write_prediction_page": "prediction_page",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
