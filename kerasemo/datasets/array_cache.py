"""Arrays that are too large for the memory, each a memory-mapped file in the user's cache folder.

A file is checked before it is used. It is written under another name and renamed when it is
complete; its description is written last. One process at a time writes a file; another process
waits and uses the file. All files of the cache can be deleted.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from pipelines.core import files, locks
from pipelines.core.errors import StorageError

LAYOUT = 1
"""The version of the files. Another version makes every file be written again."""

Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]
"""Returns all blocks of an array in order, each with its owner, such as a clip."""


def default_folder() -> Path:
    """Return the folder of the files, in the user's cache folder."""
    return platformdirs.user_cache_path("kerasemo") / "sets"


def memory_mapped_array(
    key: str,
    blocks: Blocks,
    *,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    folder: Path | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return an array as a read-only map of its file; write the file if it is missing or damaged.

    Args:
        key: What the array holds, such as the hash of its manifest; the name of the file.
        blocks: Returns the array in blocks [n, *shape[1:]] of `dtype`.
        shape: The shape of the whole array.
        dtype: The type of the array.
        folder: The folder of the file; None: `default_folder()`.

    Returns:
        The array, and int64 [items] with the owner of each item.

    Raises:
        StorageError: The file cannot be written, for example because the disk is full.
    """
    path = (folder or default_folder()) / f"{key}.bin"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locks.locked(path.with_suffix(".lock"), wait=True):
            description = {"layout": LAYOUT, "shape": list(shape), "dtype": np.dtype(dtype).name}
            owners = _read_owners(path, description)
            if owners is None:
                owners = _write(path, description, blocks)
            array = np.memmap(path, dtype, "r", shape=shape)
    except OSError as error:
        gibibytes = np.prod(shape) * np.dtype(dtype).itemsize / 2**30
        raise StorageError(
            f"{path}: {error.strerror or error}; {gibibytes:.1f} GiB do not fit the memory and are "
            "written there; free the space"
        ) from error
    return array, np.repeat(*np.array(owners, np.int64).reshape(-1, 2).T)


def _read_owners(path: Path, description: dict[str, Any]) -> list[list[int]] | None:
    """Return (owner, length) of each block.

    The result is None if the file is damaged or of another description.
    """
    stored = files.read_json(path.with_suffix(".json"))
    if not isinstance(stored, dict) or not path.is_file():
        return None
    if any(stored.get(name) != value for name, value in description.items()):
        return None
    if stored.get("sha256") != files.file_sha256(path):
        return None
    return stored.get("owners")


def _write(path: Path, description: dict[str, Any], blocks: Blocks) -> list[list[int]]:
    owners, sha256 = [], hashlib.sha256()
    with files.atomic_path(path) as temporary, open(temporary, "wb") as file:
        for owner, block in blocks():
            body = np.ascontiguousarray(block, description["dtype"]).data
            file.write(body)
            sha256.update(body)
            owners.append([owner, len(block)])
    files.write_json(
        path.with_suffix(".json"), {**description, "sha256": sha256.hexdigest(), "owners": owners}
    )
    return owners
