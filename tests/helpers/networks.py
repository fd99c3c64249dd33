"""Small networks and inputs for tests."""

import keras
import numpy as np

from kerasemo.config.schema import NetworkConfig
from kerasemo.networks.network import build_network
from pipelines.core.spec import Spec

TINY = NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.5)


SMALL = Spec(face_size=16)


def network(config=TINY, *, spec=SMALL):
    keras.utils.set_random_seed(1)
    return keras.Model(*build_network(config, spec=spec))


def some_inputs(random, *, batch=5, size=16):
    return {
        "image": random.uniform(0, 255, size=(batch, size, size, 3)).astype(np.float32),
        "domain": np.resize([0, 1], batch).astype(np.int32),
        "seed": random.integers(0, 2**31, batch).astype(np.int32),
    }
