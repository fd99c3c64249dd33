"""The network that reads faces and log-Mel segments, its layers, and its use outside training.

May import `pipelines.core` and `kerasemo.config`.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.networks.inference import (
        ITEMS_PER_CALL,
        NetworkOutputs,
        NetworkPredictor,
        TrainedNetwork,
        normalization_layer,
        trained_domains,
    )
    from kerasemo.networks.network import build_network, head_weights
    from kerasemo.networks.random import random_uniform

__all__ = [
    "ITEMS_PER_CALL",
    "NetworkOutputs",
    "NetworkPredictor",
    "TrainedNetwork",
    "build_network",
    "head_weights",
    "normalization_layer",
    "random_uniform",
    "trained_domains",
]

_MODULE_OF = {
    "ITEMS_PER_CALL": "inference",
    "NetworkOutputs": "inference",
    "NetworkPredictor": "inference",
    "TrainedNetwork": "inference",
    "build_network": "network",
    "head_weights": "network",
    "normalization_layer": "inference",
    "random_uniform": "random",
    "trained_domains": "inference",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
