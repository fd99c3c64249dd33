"""Files that are written atomically, JSON documents, and SHA-256 hashes."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipelines.core.errors import StorageError

CHUNK_BYTES = 1 << 20
"""The number of bytes of a file in one read for its hash."""


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the block as StorageError: a full disk, a folder that cannot be written.

    Args:
        path: What the block writes. The message names it when the error names no file.

    Raises:
        StorageError: The block raised OSError. The message is `FILE: REASON`.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_path(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` when the block ends.

    After an error the temporary file is removed and `path` stays as it was.

    Args:
        path: The file to write.
        sync: Have the system write the file to the disk before the renaming, so that a power
            failure leaves either the old or the new file.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        yield temporary
        if sync:
            sync_file(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_file(path: Path) -> None:
    """Have the system write a file to the disk, so that a full disk raises OSError here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 atomically; line ends stay as they are."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document atomically."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON document in a file; None if the file is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def file_sha256(path: Path, *, progress: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Args:
        path: The file.
        progress: Called after every `CHUNK_BYTES` bytes.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            progress()
    return digest.hexdigest()


def bytes_sha256(parts: Iterable[bytes | memoryview]) -> str:
    """Return the SHA-256 of parts joined in their order, in hexadecimal.

    >>> bytes_sha256([b"a", b"bc"]) == bytes_sha256([b"abc"]) == text_sha256("abc")
    True
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def text_sha256(text: str) -> str:
    """Return the SHA-256 of a text in UTF-8, in hexadecimal."""
    return bytes_sha256([text.encode()])


def json_sha256(document: Any) -> str:
    """Return the SHA-256 of a JSON document with sorted keys, in hexadecimal.

    >>> json_sha256({"b": 1, "a": 2}) == json_sha256({"a": 2, "b": 1})
    True
    """
    return text_sha256(json.dumps(document, sort_keys=True))
