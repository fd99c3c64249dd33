"""What stands in a run folder: the results of finished stages, their keys, their networks.

`RUN/STAGE/` holds `stage.json` (the key: configuration, manifests, sides, parent; versions), `checkpoints/`, `logs/` for
TensorBoard, `weights.safetensors` (of the best epoch), `predictions.csv` and, last, `metrics.json`.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.networks.network import build_network
from kerasemo.runs import checkpoints
from pipelines.core import files
from pipelines.core.errors import InputError


def load_network(folder: Path, result: Mapping[str, Any]) -> keras.Model:
    """Return the network of a finished stage, with its weights, for inference."""
    model = keras.Model(
        *build_network(
            NetworkConfig.from_json(result["key"]["network"]),
            heads=max(1, len(heads_of(result["key"]))),
        )
    )
    tensors, _ = checkpoints.load(folder / "weights.safetensors")
    checkpoints.assign(model.weights, tensors, where=folder)
    model.mirror = StageConfig.from_json(result["key"]["stage"]).test_mirror
    return model


def claim(folder: Path, key: Mapping[str, Any], made_with: Mapping[str, Any]) -> None:
    """Write a stage's `stage.json`; InputError when the folder has come to hold a training with other settings."""
    path = folder / "stage.json"
    if path.is_file() and json.loads(path.read_text(encoding="utf-8"))["key"] != key:
        raise InputError(
            f"{folder}: a training with other settings was begun there meanwhile; name another --run"
        )
    files.write_json(path, {"key": key, "digest": digest(key), "versions": versions(), **made_with})


def heads_of(key: Mapping[str, Any]) -> list[str]:
    """Return the source of each head of a stage's network; none where one head answers for all."""
    return key["stage"]["sources"] if key["stage"]["heads"] == "corpus" else []


def seen_domains(model: keras.Model) -> np.ndarray:
    """Return bool [domains]: which domains the network has been trained on."""
    return keras.ops.convert_to_numpy(model.get_layer("normalization").fitted) > 0


def finished(folder: Path) -> dict[str, Any] | None:
    """Return the result of a stage that is done, else None."""
    try:
        result = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        result["key"], result["trained_emotions"], result["sources"], result["scored"]
        return result
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}/metrics.json: damaged ({error}); remove this file, and the same command scores the stage again"
        ) from error


def digest(document: Any) -> str:
    """Return the SHA-256 of a JSON document in its canonical form."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def folder_name(stage: str, digest: str) -> str:
    """Return the name of a stage's folder where folders are found by key: several of one stage side by side.

    >>> folder_name("transfer", "0123456789abcdef")
    'transfer-0123456789ab'
    """
    return f"{stage}-{digest[:12]}"


def versions() -> dict[str, str]:
    """Return the versions that a result was made with."""
    names = ("kerasemo", "tensorflow", "keras", "numpy", "opencv-python-headless", "librosa", "av")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def differences(held: Any, asked: Any, name: str = "") -> Iterator[str]:
    """Yield `name: value there, value asked` for every entry in which two keys differ; of hashes only what they stand for.

    >>> list(differences({"fold": 0, "seed": 1}, {"fold": 2, "seed": 1}))
    ['fold: 0 there, 2 asked']
    """
    if isinstance(held, dict) and isinstance(asked, dict):
        for key in sorted(held.keys() | asked.keys()):
            yield from differences(held.get(key), asked.get(key), f"{name}.{key}" if name else key)
    elif held != asked:
        kind, _, source = name.partition(".")
        others = {"records": f"other records of {source}", "sides": f"another split of {source}"}
        others["parent"] = "the stage it starts from"
        yield others.get(kind, f"{name}: {held!r} there, {asked!r} asked")
