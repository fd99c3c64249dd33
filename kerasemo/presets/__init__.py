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
    from kerasemo.config import Network, Stage
    from kerasemo.model import build_network

    bundle = Bundle.load(name)
    training = bundle.document["training"]
    model = keras.Model(*build_network(Network.from_json(training["network"])))
    checkpoint.assign(model.weights, bundle.weights(), where=bundle.folder)
    model.mirror = any(
        Stage.from_json(stage["settings"]).test_mirror for stage in training.get("stages", [])[-1:]
    )
    return model
