"""Arrays that are too large for the memory: a file each in the user's cache folder, memory-mapped, checked before it is used.

A file is written under another name and renamed when it is whole; its facts are written after it. One process at a time
writes a file, another waits for it and takes it over. Nothing of the user's is beside the files: all can be deleted.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import platformdirs

from pipelines.core import files
from pipelines.core.errors import InputError

LAYOUT = 1
"""Raised whenever a file of before no longer holds what would be written now."""

Blocks = Callable[[], Iterator[tuple[int, np.ndarray]]]
"""Gives all blocks of an array in order, each with its owner."""


def default_folder() -> Path:
    """Return where the files stand: the user's cache folder, as the system names it."""
    return platformdirs.user_cache_path("kerasemo") / "sets"


def mapped(
    key: str, blocks: Blocks, *, shape: tuple[int, ...], dtype: type, folder: Path | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return an array as a read-only map of its file, which is written first when it is not there, damaged or of another key.

    Args:
        key: Names what the array holds, such as the hash of its manifest.
        blocks: Gives the array in blocks [n, *shape[1:]] of `dtype`.
        shape: Of the whole array; fewer or more items than that are refused.
        dtype: Of the array.
        folder: Where the file is kept; `default_folder()` when not given.

    Returns:
        The array and, int64 [items], the owner of each item.

    Raises:
        InputError: The file cannot be written, such as on a full disk.
    """
    path = (folder or default_folder()) / f"{key}.bin"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_suffix(".lock")):
            facts = {"layout": LAYOUT, "shape": list(shape), "dtype": np.dtype(dtype).name}
            owners = _owners(path, facts)
            if owners is None:
                owners = _write(path, facts, blocks)
            array = np.memmap(path, dtype, "r", shape=shape)
    except OSError as error:
        size = np.prod(shape) * np.dtype(dtype).itemsize / 2**30
        raise InputError(
            f"{path}: {error.strerror or error}; {size:.1f} GiB are to be kept there, too much for the memory"
        ) from error
    return array, np.repeat(*np.array(owners, np.int64).reshape(-1, 2).T)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process is in here with the same path."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (
                errno.ENOLCK,
                errno.ENOTSUP,
                errno.ENOSYS,
            ):  # a file system without locks
                raise
        yield


def _owners(path: Path, facts: dict) -> list[list[int]] | None:
    """Return the owner and the length of each block of a file that is whole and holds what is asked for, else None."""
    try:
        held = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        same = {name: held[name] for name in facts} == facts and held[
            "sha256"
        ] == files.file_sha256(path)
        return held["owners"] if same else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, facts: dict, blocks: Blocks) -> list[list[int]]:
    owners, sha256 = [], hashlib.sha256()
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            for owner, block in blocks():
                body = np.ascontiguousarray(block, facts["dtype"]).data
                file.write(body)
                sha256.update(body)
                owners.append([owner, len(block)])
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    files.write_json(
        path.with_suffix(".json"), {**facts, "sha256": sha256.hexdigest(), "owners": owners}
    )
    return owners
