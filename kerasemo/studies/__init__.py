"""Train many networks: all folds and seeds of an experiment, or the trials of a search.

May import `kerasemo.training`, `kerasemo.analysis`, `kerasemo.reporting` and what these import.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.studies.reproduction import (
        ReproductionOptions,
        load_reproduced_experiment,
        reproduce,
    )
    from kerasemo.studies.search import describe_values
    from kerasemo.studies.search_space import SEARCH_SPACE, search_parameters
    from kerasemo.studies.tuning import SEARCHES, SearchOptions, search_settings

__all__ = [
    "SEARCHES",
    "SEARCH_SPACE",
    "ReproductionOptions",
    "SearchOptions",
    "describe_values",
    "load_reproduced_experiment",
    "reproduce",
    "search_parameters",
    "search_settings",
]

_MODULE_OF = {
    "ReproductionOptions": "reproduction",
    "SEARCHES": "tuning",
    "SEARCH_SPACE": "search_space",
    "SearchOptions": "tuning",
    "describe_values": "search",
    "load_reproduced_experiment": "reproduction",
    "reproduce": "reproduction",
    "search_parameters": "search_space",
    "search_settings": "tuning",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
