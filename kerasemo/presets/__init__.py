"""Shipped models, a folder each, as `kerasemo.export` made them.

Only models of corpora whose licence allows it are shipped, never models of samples.
`kerasemo.serving.bundle.Bundle.load(NAME)` predicts with a preset; `load_preset(NAME)` returns its
network, to train it further.
"""

from pathlib import Path
from typing import Any


def load_preset(name: str | Path) -> Any:
    """Return the network of a shipped preset, or of any bundle, with its weights.

    Args:
        name: The name of a preset, or the folder of a bundle.

    Returns:
        A `kerasemo.networks.inference.TrainedNetwork`; its `model` is the `keras.Model`.

    Raises:
        InputError: The preset or the folder does not exist.
        DataError: The bundle is damaged.
    """
    import keras

    from kerasemo.config.schema import NetworkConfig, StageConfig
    from kerasemo.networks.inference import TrainedNetwork
    from kerasemo.networks.network import build_network
    from kerasemo.runs import checkpoints
    from kerasemo.serving.bundle import Bundle

    bundle = Bundle.load(name)
    training = bundle.document["training"]
    model = keras.Model(*build_network(NetworkConfig.from_json(training["network"])))
    checkpoints.assign_variables(model.weights, bundle.weights(), path=bundle.folder)
    configs = [StageConfig.from_json(stage["settings"]) for stage in training.get("stages", [])]
    return TrainedNetwork(model, test_mirror=bool(configs) and configs[-1].test_mirror)
