"""The network that reads faces and log-Mel segments, its layers, and its use outside training.

May import `pipelines.core` and `kerasemo.config`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.networks.inference import ITEMS_AT_ONCE, Predict, network_outputs, predictor
    from kerasemo.networks.network import build_network, head_weights
    from kerasemo.networks.random import random_uniform

__all__ = [
    "ITEMS_AT_ONCE",
    "Predict",
    "build_network",
    "head_weights",
    "network_outputs",
    "predictor",
    "random_uniform",
]

_MODULE_OF = {
    "ITEMS_AT_ONCE": "inference",
    "Predict": "inference",
    "build_network": "network",
    "head_weights": "network",
    "network_outputs": "inference",
    "predictor": "inference",
    "random_uniform": "random",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
