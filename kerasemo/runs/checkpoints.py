"""Weights and the state of a training on disk: safetensors keyed by variable path, atomic, checked by a checksum.

Nothing is executed when a file is loaded; the architecture comes from the configuration.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pipelines.core.errors import InputError

ENTRY = "kerasemo"
"""The entry of a file's header that holds the checksum and the metadata."""


def arrays(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """Return the value of every variable by its path.

    Raises:
        ValueError: Two variables have one path.
    """
    tensors = {
        variable.path: np.asarray(keras.ops.convert_to_numpy(variable), order="C")
        for variable in variables
    }
    if len(tensors) != len(variables):
        raise ValueError(
            f"paths of variables must be unique; received {sorted(variable.path for variable in variables)}"
        )
    return tensors


def save(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays and JSON-ready metadata under a temporary name, flush them to the disk, and rename.

    Raises:
        InputError: The disk is full or cannot be written; the file of before stays whole.
    """
    document = json.dumps(metadata, sort_keys=True)
    # One entry, because safetensors writes several in an order that changes from call to call.
    body = safetensors.numpy.save(
        dict(tensors), {ENTRY: f"{_digest(tensors, document)} {document}"}
    )
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        message = (
            f"{path}: {error.strerror or error}; {len(body) / 2**20:.1f} MiB are to be written"
        )
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message += "; what was saved before is whole: make room, and the same command goes on from there"
        raise InputError(message) from error


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
        raise InputError(
            f"{path}: no such file; remove its folder and train the stage again"
        ) from error
    except SafetensorError as error:
        raise InputError(
            f"{path}: damaged or no safetensors file ({error}); remove its folder and train the stage again"
        ) from error
    if checksum != _digest(tensors, document):
        raise InputError(
            f"{path}: damaged (its checksum does not hold); remove its folder and train the stage again"
        )
    return tensors, json.loads(document)


def _digest(tensors: Mapping[str, np.ndarray], document: str) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def assign(
    variables: Sequence[keras.Variable], tensors: Mapping[str, np.ndarray], *, where: Path
) -> None:
    """Give every variable the array of its path.

    Raises:
        InputError: An array is missing or has another shape: the file is of another network.
    """
    for variable in variables:
        if variable.path not in tensors:
            raise InputError(f"{where}: holds no {variable.path}; it is of another network")
        if tuple(variable.shape) != tensors[variable.path].shape:
            shapes = f"{tensors[variable.path].shape}, expected {tuple(variable.shape)}"
            raise InputError(
                f"{where}: {variable.path} has shape {shapes}; it is of another network"
            )
        variable.assign(tensors[variable.path])


class Checkpoints:
    """The last states of a training, and its best weights, in one folder.

    `step-00001234.safetensors` is the state after so many steps; `best-0012.safetensors` the weights after the best epoch of
    its time, from 1. Some are kept of each, so that a damaged one costs what was done since the one before.
    """

    STATES = 3
    BESTS = (
        STATES + 1
    )  # each of the states may be the last of which another epoch was the best, and one more is being written

    def __init__(self, folder: Path):
        self.folder = folder

    def save_state(
        self, step: int, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
    ) -> None:
        """Save the state after a step, and remove what is older than the last few."""
        save(self._path("step", step), tensors, metadata)
        self._remove_but_last("step", self.STATES)

    def save_best(self, epoch: int, tensors: Mapping[str, np.ndarray]) -> None:
        """Save the weights of an epoch, and remove what is older than the last few."""
        save(self._path("best", epoch), tensors, {"epoch": epoch})
        self._remove_but_last("best", self.BESTS)

    def states(self) -> list[Path]:
        """Return the files of the states, the newest first."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def best(self, epoch: int) -> dict[str, np.ndarray]:
        """Return the weights after an epoch; InputError when they are not there or damaged."""
        return load(self._path("best", epoch))[0]

    def forget_after(self, step: int, epoch: int) -> None:
        """Remove the states after a step and the best weights after an epoch: the training goes on from there."""
        for kind, last in (("step", step), ("best", epoch)):
            for path in self.folder.glob(f"{kind}-*.safetensors"):
                if path > self._path(kind, last):
                    path.unlink()

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:08d}.safetensors"

    def _remove_but_last(self, kind: str, count: int) -> None:
        for path in sorted(self.folder.glob(f"{kind}-*.safetensors"))[:-count]:
            path.unlink()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder for one training; InputError when another one is at work there. The lock ends with the process."""
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another training is at work there; wait for it, or name another --run"
            ) from error
        except OSError as error:
            if error.errno not in (
                errno.ENOLCK,
                errno.ENOTSUP,
                errno.ENOSYS,
            ):  # a file system without locks
                raise
        yield
