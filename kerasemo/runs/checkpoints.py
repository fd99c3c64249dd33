"""Weights and training states on disk: safetensors by variable path, atomic, with checksum.

Nothing is executed when a file is loaded; the architecture comes from the configuration.
"""

import contextlib
import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from pipelines.core import files, locks
from pipelines.core.errors import DataError, RunError, StorageError

HEADER_ENTRY = "kerasemo"
"""The entry of a file's header that holds the checksum and the metadata."""

Arrays = Mapping[str, np.ndarray]
"""Path of a variable -> its value."""


class FolderInUseError(RunError):
    """A folder in which another command trains. No setting of the training is at fault."""


class CheckpointError(DataError):
    """A file of weights that is missing, damaged, or of another network.

    Args:
        path: The file.
        problem: What is wrong with the file.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}; remove its folder and train the stage again")
        self.path = path
        self.problem = problem


def variable_arrays(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """Return the value of every variable by its path.

    Raises:
        ValueError: Two variables have the same path.
    """
    arrays = {
        variable.path: np.asarray(keras.ops.convert_to_numpy(variable), order="C")
        for variable in variables
    }
    if len(arrays) != len(variables):
        paths = sorted(variable.path for variable in variables)
        raise ValueError(f"paths of variables must be unique; received {paths}")
    return arrays


def assign_variables(variables: Sequence[keras.Variable], arrays: Arrays, *, path: Path) -> None:
    """Give every variable the array of its path.

    Args:
        variables: The variables of a network.
        arrays: Arrays by path.
        path: The file of the arrays, for the error.

    Raises:
        CheckpointError: An array is missing or has another shape.
    """
    for variable in variables:
        if variable.path not in arrays:
            raise CheckpointError(path, f"no {variable.path}, so it is of another network")
        shape = arrays[variable.path].shape
        if tuple(variable.shape) != shape:
            raise CheckpointError(
                path,
                f"{variable.path} has shape {shape}, expected {tuple(variable.shape)}, so it is of "
                "another network",
            )
        variable.assign(arrays[variable.path])


def save_arrays(path: Path, arrays: Arrays, metadata: Mapping[str, Any]) -> None:
    """Write arrays and JSON-ready metadata atomically, and flush them to the disk.

    Raises:
        StorageError: The disk is full or cannot be written. The former file stays whole.
    """
    document = json.dumps(metadata, sort_keys=True)
    # One entry, because safetensors writes several in an order that changes from call to call.
    header = {HEADER_ENTRY: f"{_checksum(arrays, document)} {document}"}
    body = safetensors.numpy.save(dict(arrays), header)
    try:
        with files.atomic_path(path, sync=True) as temporary:
            temporary.write_bytes(body)
    except OSError as error:
        message = f"{path}: {error.strerror or error}; {len(body) / 2**20:.1f} MiB are needed"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message += (
                "; the former checkpoint is whole: free space, and run the same command again"
            )
        raise StorageError(message) from error


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays by path, and the metadata, of a file that `save_arrays` wrote.

    Raises:
        CheckpointError: The file is missing, is not such a file, or its checksum does not match.
    """
    try:
        with safe_open(path, framework="np") as file:
            header = (file.metadata() or {}).get(HEADER_ENTRY, "")
            names = file.keys()  # the file is no mapping
            arrays = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(path, "no such file") from error
    except SafetensorError as error:
        raise CheckpointError(path, f"damaged, or not a safetensors file ({error})") from error
    checksum, _, document = header.partition(" ")
    if checksum != _checksum(arrays, document):
        raise CheckpointError(path, "damaged (its checksum does not match)")
    return arrays, json.loads(document)


def _checksum(arrays: Arrays, document: str) -> str:
    parts = [document.encode()]
    for name in sorted(arrays):
        parts.append(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        parts.append(arrays[name].tobytes())
    return files.bytes_sha256(parts)


class CheckpointFolder:
    """The last states of a training, and its best weights, in one folder.

    `step-00001234.safetensors` is the state after 1234 steps. `best-00000012.safetensors` has the
    weights after epoch 12 (from 1), which was the best when it ended. Several files of each are
    kept, so that a damaged file costs only the work since the file before it.
    """

    N_STATES = 3
    N_BEST = N_STATES + 1
    """Each state may refer to another best epoch, and one more is being written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save_state(self, step: int, arrays: Arrays, metadata: Mapping[str, Any]) -> None:
        """Save the state after a step, and remove the oldest states.

        Raises:
            StorageError: The file cannot be written.
        """
        save_arrays(self._path("step", step), arrays, metadata)
        self._remove_oldest("step", self.N_STATES)

    def save_best(self, epoch: int, arrays: Arrays) -> None:
        """Save the weights of an epoch, and remove the oldest ones.

        Raises:
            StorageError: The file cannot be written.
        """
        save_arrays(self._path("best", epoch), arrays, {"epoch": epoch})
        self._remove_oldest("best", self.N_BEST)

    def state_paths(self) -> list[Path]:
        """Return the files of the states, the newest first."""
        return sorted(self.folder.glob("step-*.safetensors"), reverse=True)

    def best_paths(self) -> list[Path]:
        """Return the files of the best weights, the newest first."""
        return sorted(self.folder.glob("best-*.safetensors"), reverse=True)

    def load_best(self, epoch: int) -> dict[str, np.ndarray]:
        """Return the weights after an epoch.

        Raises:
            CheckpointError: They are missing or damaged.
        """
        return load_arrays(self._path("best", epoch))[0]

    def remove_after(self, step: int, epoch: int) -> None:
        """Remove the states and weights after the step and the epoch where the training resumes."""
        for path in self.state_paths():
            if path > self._path("step", step):
                path.unlink()
        for path in self.best_paths():
            if path > self._path("best", epoch):
                path.unlink()

    def _path(self, kind: str, number: int) -> Path:
        return self.folder / f"{kind}-{number:08d}.safetensors"

    def _remove_oldest(self, kind: str, n_kept: int) -> None:
        for path in sorted(self.folder.glob(f"{kind}-*.safetensors"))[:-n_kept]:
            path.unlink()


@contextlib.contextmanager
def training_lock(folder: Path) -> Iterator[None]:
    """Hold a folder for one training; the lock ends with the process.

    Raises:
        FolderInUseError: Another training holds the folder.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.locked(folder / ".lock", wait=False))
        except BlockingIOError as error:
            raise FolderInUseError(
                f"{folder}: another training works in this folder; wait for it, or name another "
                "--run"
            ) from error
        yield
