"""A bundle for the benchmarks, of an untrained network. It is shared code, not a benchmark.

Speed does not depend on the weights.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def bundle(folder: Path | None, *, seed: int = 0) -> Iterator[Path]:
    """Yield the folder of a bundle.

    Args:
        folder: The bundle; None: a temporary one of `write_bundle`.
        seed: The seed of the random weights.
    """
    if folder is not None:
        print(f"model: {folder}")
        yield folder
        return
    with tempfile.TemporaryDirectory() as temporary:
        print(f"model: the default network with random weights (seed {seed})", flush=True)
        yield write_bundle(Path(temporary) / "model", seed=seed)


def write_bundle(folder: Path, *, seed: int = 0) -> Path:
    """Write a bundle of the default network with random weights, as `kerasemo.export` does.

    Args:
        folder: The folder of the bundle, which is returned.
        seed: The seed of the random weights.
    """
    import keras
    import tensorflow as tf

    from kerasemo.config.schema import NetworkConfig
    from kerasemo.exporting.graph import ServedModel
    from kerasemo.metrics.fusion import Fusion
    from kerasemo.networks.inference import TrainedNetwork
    from kerasemo.networks.network import build_network
    from kerasemo.serving import training_clips
    from kerasemo.serving.bundle import DOCUMENT, SCHEMA, write_checksums
    from pipelines.core.domains import DOMAINS
    from pipelines.core.labels import EMOTIONS

    keras.utils.set_random_seed(seed)
    network = TrainedNetwork(keras.Model(*build_network()))
    served = ServedModel(network, labels=EMOTIONS, domains=DOMAINS)
    version = folder / "1"
    tf.saved_model.save(served, str(version), signatures=served.signatures())
    signatures = {}
    for name, specs in served.inputs.items():
        inputs = {key: [spec.dtype.name, spec.shape.as_list()] for key, spec in specs.items()}
        signatures[name] = {"inputs": inputs, "outputs": {}}
    document = {
        "schema": SCHEMA,
        "format": "saved_model",
        "name": "random",
        "labels": EMOTIONS,
        "domains": DOMAINS,
        "signatures": signatures,
        "fusion": dataclasses.asdict(Fusion()),
        "training": {"network": dataclasses.asdict(NetworkConfig())},
        "synthetic": True,
        "versions": {},
    }
    (version / DOCUMENT).write_text(json.dumps(document), encoding="utf-8")
    clips = json.dumps(training_clips.training_clips_document([]))
    (version / "assets" / "training_clips.json").write_text(clips, encoding="utf-8")
    write_checksums(version)
    return folder
