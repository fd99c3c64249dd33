"""Experiments as data: the settings of a network and of its stages, read from TOML.

May import `pipelines.core`. Never imports TensorFlow or Keras. `experiments/` holds the shipped
experiments.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.config.loading import load_experiment, shipped_experiments
    from kerasemo.config.schema import (
        DEFAULT_AUGMENT,
        PROTOCOLS,
        AugmentConfig,
        Experiment,
        NetworkConfig,
        StageConfig,
    )

__all__ = [
    "DEFAULT_AUGMENT",
    "PROTOCOLS",
    "AugmentConfig",
    "Experiment",
    "NetworkConfig",
    "StageConfig",
    "load_experiment",
    "shipped_experiments",
]

_MODULE_OF = {
    "AugmentConfig": "schema",
    "DEFAULT_AUGMENT": "schema",
    "Experiment": "schema",
    "NetworkConfig": "schema",
    "PROTOCOLS": "schema",
    "StageConfig": "schema",
    "load_experiment": "loading",
    "shipped_experiments": "loading",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
