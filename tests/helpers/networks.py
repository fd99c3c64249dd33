"""Small networks and inputs for tests."""

import keras
import numpy as np

from kerasemo.config.schema import NetworkConfig
from kerasemo.networks.network import build_network
from pipelines.core.spec import Spec

TINY_CONFIG = NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.5)
SMALL_SPEC = Spec(face_size=16)
"""The spec of images of 16 x 16 pixels."""


def tiny_network(config: NetworkConfig = TINY_CONFIG, *, heads: int = 1) -> keras.Model:
    """Return a network of images of 16 x 16 pixels; its initial weights are always the same."""
    keras.utils.set_random_seed(1)
    return keras.Model(*build_network(config, spec=SMALL_SPEC, heads=heads))


def random_inputs(
    random: np.random.Generator, *, batch: int = 5, size: int = 16
) -> dict[str, np.ndarray]:
    """Return random images of `size` x `size` pixels, of both domains in turn."""
    return {
        "image": random.uniform(0, 255, size=(batch, size, size, 3)).astype(np.float32),
        "domain": np.resize([0, 1], batch).astype(np.int32),
        "seed": random.integers(0, 2**31, batch).astype(np.int32),
    }
