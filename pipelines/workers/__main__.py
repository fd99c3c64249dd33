"""A worker process: reads tasks from standard input until the input ends.

The process never imports TensorFlow.
"""

import contextlib
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.core import processes
from pipelines.workers.pool import to_message_bytes
from pipelines.workers.record_task import MEMORY_BYTES


def _serve() -> None:
    """Read tasks from standard input and write their messages to standard output.

    The process drops what codecs print about a bad file.
    """
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    import cv2

    # Standard error is still open and shows an import that fails.
    from pipelines.faces import crops  # noqa: F401
    from pipelines.media import audio  # noqa: F401

    cv2.setNumThreads(1)
    _limit_memory(MEMORY_BYTES)
    processes.end_with_parent()
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    tasks = sys.stdin.buffer
    last_heartbeat = time.monotonic()

    def send(message: dict[str, Any] | None) -> None:
        remaining = memoryview(to_message_bytes(message))
        while remaining:
            remaining = remaining[output.write(remaining) :]

    def progress() -> None:
        nonlocal last_heartbeat
        if time.monotonic() - last_heartbeat > 1.0:
            last_heartbeat = time.monotonic()
            send(None)

    try:
        send(None)
        while size := tasks.read(8):
            task, spec = pickle.loads(tasks.read(int.from_bytes(size, "little")))
            for message in task.read(spec, progress=progress):
                send(message)
    except (EOFError, BrokenPipeError):  # the parent process needs no more, or was stopped
        return


def _limit_memory(more_bytes: int) -> None:
    """Limit the memory that this process allocates from now on, so that only its own task fails.

    Only Linux has the limit.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        data_and_stack_pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = data_and_stack_pages * resource.getpagesize() + more_bytes
        hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard_limit != resource.RLIM_INFINITY:
            limit = min(limit, hard_limit)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard_limit))


if __name__ == "__main__":
    _serve()
