"""A bundle that the benchmarks ask: the default network, not trained, as speed does not depend on the weights. Not a benchmark itself."""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def bundle(given: Path | None, *, seed: int = 0) -> Iterator[Path]:
    """Yield the folder of a bundle: the one that is given, else one of `write_bundle` for as long as it is asked."""
    if given is not None:
        print(f"model: {given}")
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"model: the default network with random weights (seed {seed})", flush=True)
        yield write_bundle(Path(folder) / "model", seed=seed)


def write_bundle(folder: Path, *, seed: int = 0) -> Path:
    """Write a bundle as `kerasemo.export` does, of a network of the default size with random weights; return its folder."""
    import keras
    import tensorflow as tf

    from kerasemo.config.schema import NetworkConfig
    from kerasemo.exporting.graph import Served
    from kerasemo.metrics.fusion import Fusion
    from kerasemo.networks.network import build_network
    from kerasemo.serving import training_clips
    from kerasemo.serving.bundle import BUNDLE_DOCUMENT, BUNDLE_SCHEMA, write_checksums
    from pipelines.core.domains import DOMAINS
    from pipelines.core.labels import EMOTIONS

    keras.utils.set_random_seed(seed)
    served = Served(keras.Model(*build_network()), labels=EMOTIONS, domains=DOMAINS)
    version = folder / "1"
    tf.saved_model.save(served, str(version), signatures=served.signatures())
    inputs = {
        signature: {name: [spec.dtype.name, spec.shape.as_list()] for name, spec in specs.items()}
        for signature, specs in served.inputs.items()
    }
    document = {
        **{
            "schema": BUNDLE_SCHEMA,
            "format": "saved_model",
            "name": "random",
            "labels": EMOTIONS,
            "domains": DOMAINS,
        },
        "signatures": {
            signature: {"inputs": own, "outputs": {}} for signature, own in inputs.items()
        },
        "fusion": dataclasses.asdict(Fusion()),
        "training": {"network": dataclasses.asdict(NetworkConfig())},
        **{"synthetic": True, "versions": {}},
    }
    (version / BUNDLE_DOCUMENT).write_text(json.dumps(document), encoding="utf-8")
    (version / "assets" / "training_clips.json").write_text(
        json.dumps(training_clips.hash_training_clips([])), encoding="utf-8"
    )
    write_checksums(version)
    return folder
