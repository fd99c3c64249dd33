"""Experiments as data: the settings of a network and its chain of stages, read from TOML and checked.

May import `pipelines.core`. Never imports TensorFlow or Keras. `experiments/` holds the shipped experiments.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.config.loading import read_experiment, shipped_experiments
    from kerasemo.config.schema import USUAL_CHANGES, Augment, Experiment, Network, Stage

__all__ = [
    "USUAL_CHANGES",
    "Augment",
    "Experiment",
    "Network",
    "Stage",
    "read_experiment",
    "shipped_experiments",
]

_MODULE_OF = {
    "Augment": "schema",
    "Experiment": "schema",
    "Network": "schema",
    "Stage": "schema",
    "USUAL_CHANGES": "schema",
    "read_experiment": "loading",
    "shipped_experiments": "loading",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
