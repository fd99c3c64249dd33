"""Weights and the state of a training on disk: safetensors keyed by variable path, atomic, checked by a checksum.

Nothing is executed when a file is loaded; the architecture comes from the configuration.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pipelines.spec import InputError

ENTRY = "kerasemo"
"""The entry of a file's header that holds the checksum and the metadata."""


def save(path: Path, variables: Sequence[keras.Variable], metadata: Mapping[str, Any]) -> None:
    """Write variables and JSON-ready metadata under a temporary name, flush them to the disk, and rename.

    Raises:
        ValueError: Two variables have one path.
        OSError: The disk is full or cannot be written; the file of before stays whole.
    """
    tensors = {variable.path: np.asarray(keras.ops.convert_to_numpy(variable), order="C") for variable in variables}
    if len(tensors) != len(variables):
        raise ValueError(f"paths of variables must be unique; received {sorted(variable.path for variable in variables)}")
    document = json.dumps(metadata, sort_keys=True)
    # One entry, because safetensors writes several in an order that changes from call to call.
    body = safetensors.numpy.save(tensors, {ENTRY: f"{_digest(tensors, document)} {document}"})
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays by path, and the metadata, of a file that `save` wrote.

    Raises:
        InputError: The file is missing, is no safetensors file, or its checksum does not hold.
    """
    try:
        with safe_open(path, framework="np") as file:
            checksum, _, document = (file.metadata() or {}).get(ENTRY, "").partition(" ")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; remove its folder and train the stage again") from error
    except SafetensorError as error:
        raise InputError(f"{path}: damaged or no safetensors file ({error}); remove its folder and train the stage again") from error
    if checksum != _digest(tensors, document):
        raise InputError(f"{path}: damaged (its checksum does not hold); remove its folder and train the stage again")
    return tensors, json.loads(document)


def _digest(tensors: Mapping[str, np.ndarray], document: str) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def assign(variables: Sequence[keras.Variable], tensors: Mapping[str, np.ndarray], *, where: Path) -> None:
    """Give every variable the array of its path.

    Raises:
        InputError: An array is missing or has another shape: the file is of another network.
    """
    for variable in variables:
        if variable.path not in tensors:
            raise InputError(f"{where}: holds no {variable.path}; it is of another network")
        if tuple(variable.shape) != tensors[variable.path].shape:
            shapes = f"{tensors[variable.path].shape}, expected {tuple(variable.shape)}"
            raise InputError(f"{where}: {variable.path} has shape {shapes}; it is of another network")
        variable.assign(tensors[variable.path])
