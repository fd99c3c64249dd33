"""Locks between processes. A lock ends with its process, whatever ends the process."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
"""Error numbers of file systems that offer no locks, such as some network file systems."""


def lock_descriptor(descriptor: int, *, wait: bool) -> None:
    """Lock an open file or folder for this process; on a file system without locks do nothing.

    Args:
        descriptor: The open file or folder. Closing the descriptor ends the lock.
        wait: Wait until another process ends its lock.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is False.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold the lock file `path` for this process until the block ends; see `lock_descriptor`."""
    with open(path, "w") as file:
        lock_descriptor(file.fileno(), wait=wait)
        yield


@contextlib.contextmanager
def locked_folder(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a folder that exists for this process until the block ends; see `lock_descriptor`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock_descriptor(descriptor, wait=wait)
        yield
    finally:
        os.close(descriptor)
