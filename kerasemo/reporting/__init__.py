"""Render results: terminal tables, Markdown, CSV, HTML pages with charts.

May import `pipelines.core` and `pipelines.html`. Never imports TensorFlow or Keras.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.reporting.prediction_page import write
    from kerasemo.reporting.study_page import page
    from kerasemo.reporting.study_tables import CLIPS, as_csv
    from kerasemo.reporting.terminal import (
        WIDTH_OF_FILES,
        print_answers,
        print_evaluation,
        print_export,
        print_predictions,
        print_served,
        print_training,
        show,
        show_comparison,
    )

__all__ = [
    "CLIPS",
    "WIDTH_OF_FILES",
    "as_csv",
    "page",
    "print_answers",
    "print_evaluation",
    "print_export",
    "print_predictions",
    "print_served",
    "print_training",
    "show",
    "show_comparison",
    "write",
]

_MODULE_OF = {
    "CLIPS": "study_tables",
    "WIDTH_OF_FILES": "terminal",
    "as_csv": "study_tables",
    "page": "study_page",
    "print_answers": "terminal",
    "print_evaluation": "terminal",
    "print_export": "terminal",
    "print_predictions": "terminal",
    "print_served": "terminal",
    "print_training": "terminal",
    "show": "terminal",
    "show_comparison": "terminal",
    "write": "prediction_page",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
