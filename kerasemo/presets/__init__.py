"""Shipped models, a folder each, exactly as `kerasemo.export` makes them; only of corpora whose licence allows it, never of samples.

`kerasemo.serving.bundle.Bundle.load(NAME)` asks one; `from_preset(NAME)` gives its network, to go on training with.
"""

from pathlib import Path
from typing import Any


def from_preset(name: str | Path) -> Any:
    """Return the network of a shipped preset, or of any bundle by its path, as a `keras.Model` with its weights.

    Args:
        name: Of a preset, or the folder of a bundle.

    Returns:
        A model of `kerasemo.networks.network.build_network`.

    Raises:
        InputError: There is none, or it is damaged.
    """
    import keras

    from kerasemo.config.schema import NetworkConfig, StageConfig
    from kerasemo.networks.network import build_network
    from kerasemo.runs import checkpoints
    from kerasemo.serving.bundle import Bundle

    bundle = Bundle.load(name)
    training = bundle.document["training"]
    model = keras.Model(*build_network(NetworkConfig.from_json(training["network"])))
    checkpoints.assign(model.weights, bundle.weights(), where=bundle.folder)
    model.mirror = any(
        StageConfig.from_json(stage["settings"]).test_mirror
        for stage in training.get("stages", [])[-1:]
    )
    return model
