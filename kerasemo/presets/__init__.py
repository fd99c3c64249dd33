"""Shipped models, a folder each, exactly as `kerasemo.export` makes them; only of corpora whose licence allows it, never of samples.

`kerasemo.bundle.Bundle.load(NAME)` asks one; `from_preset(NAME)` gives its network, to go on training with.
"""

from pathlib import Path
from typing import Any


def from_preset(name: str | Path) -> Any:
    """Return the network of a shipped preset, or of any bundle by its path, as a `keras.Model` with its weights.

    Args:
        name: Of a preset, or the folder of a bundle.

    Returns:
        A model of `kerasemo.model.build_network`.

    Raises:
        InputError: There is none, or it is damaged.
    """
    import keras

    from kerasemo import checkpoint
    from kerasemo.bundle import Bundle
    from kerasemo.config import Network
    from kerasemo.model import build_network

    bundle = Bundle.load(name)
    shape = {key: tuple(value) if isinstance(value, list) else value for key, value in bundle.document["training"]["network"].items()}
    model = keras.Model(*build_network(Network(**shape)))
    checkpoint.assign(model.weights, bundle.weights(), where=bundle.folder)
    stages = bundle.document["training"].get("stages", [])
    model.mirror = any(stage["settings"].get("test_mirror", False) for stage in stages[-1:])
    return model
