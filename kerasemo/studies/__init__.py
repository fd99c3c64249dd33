"""Train many networks: every fold and seed of an experiment, or the trials of a hyper-parameter search.

May import `kerasemo.training`, `kerasemo.analysis`, `kerasemo.reporting` and what these import.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.studies.reproduction import Options, chosen, reproduce
    from kerasemo.studies.search import described
    from kerasemo.studies.search_space import SPACE, entries
    from kerasemo.studies.tuning import SEARCHES, tune

__all__ = ["SEARCHES", "SPACE", "Options", "chosen", "described", "entries", "reproduce", "tune"]

_MODULE_OF = {
    "Options": "reproduction",
    "SEARCHES": "tuning",
    "SPACE": "search_space",
    "chosen": "reproduction",
    "described": "search",
    "entries": "search_space",
    "reproduce": "reproduction",
    "tune": "tuning",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
