"""A worker process: answers tasks from standard input until it closes. It never imports TensorFlow."""

import contextlib
import os
import pickle
import sys
import time
from pathlib import Path

from pipelines.core import processes
from pipelines.workers.pool import framed
from pipelines.workers.record_task import MEMORY_BYTES


def _serve() -> None:
    """Answer tasks from standard input on standard output until it closes; what codecs print of a bad file is dropped."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    import cv2

    # What fails to import is shown while standard error is still open.
    from pipelines.faces import crops  # noqa: F401
    from pipelines.media import audio  # noqa: F401

    cv2.setNumThreads(1)
    _limit_memory(MEMORY_BYTES)
    processes.end_with_parent()
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    tasks = sys.stdin.buffer
    last_sign = time.monotonic()

    def send(message) -> None:
        left = memoryview(framed(message))
        while left:
            left = left[answers.write(left) :]

    def progress() -> None:
        nonlocal last_sign
        if time.monotonic() - last_sign > 1.0:
            last_sign = time.monotonic()
            send(None)

    try:
        send(None)
        while size := tasks.read(8):
            task, spec = pickle.loads(tasks.read(int.from_bytes(size, "little")))
            for message in task.read(spec, progress=progress):
                send(message)
    except (EOFError, BrokenPipeError):  # the build has what it wanted, or was stopped
        return


def _limit_memory(more_bytes: int) -> None:
    """Let this process allocate only so much more than it has; a decoder that wants more fails alone. Linux heeds it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
        limit = pages * resource.getpagesize() + more_bytes
        most = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(
            resource.RLIMIT_DATA,
            (limit if most == resource.RLIM_INFINITY else min(limit, most), most),
        )


if __name__ == "__main__":
    _serve()
