"""A worker process: run the tasks from standard input until it closes, without TensorFlow."""

import contextlib
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.core import processes
from pipelines.workers.pool import LENGTH_BYTES, encode_message
from pipelines.workers.record_task import MEMORY_LIMIT_BYTES

HEARTBEAT_SECONDS = 1.0
"""Minimum time between two heartbeats."""


def _serve() -> None:
    """Run the tasks from standard input, and write their messages to standard output.

    Codecs print about bad files. What they print is discarded.
    """
    message_stream = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    import cv2

    # These imports come first, while standard error still shows why an import fails.
    from pipelines.faces import crops  # noqa: F401
    from pipelines.media import audio  # noqa: F401

    cv2.setNumThreads(1)
    _limit_memory(MEMORY_LIMIT_BYTES)
    processes.end_with_parent()
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    task_stream = sys.stdin.buffer
    last_heartbeat = time.monotonic()

    def send(message: Any) -> None:
        remaining = memoryview(encode_message(message))
        while remaining:
            remaining = remaining[message_stream.write(remaining) :]

    def send_heartbeat() -> None:
        nonlocal last_heartbeat
        if time.monotonic() - last_heartbeat > HEARTBEAT_SECONDS:
            last_heartbeat = time.monotonic()
            send(None)

    try:
        send(None)
        while length := task_stream.read(LENGTH_BYTES):
            task, spec = pickle.loads(task_stream.read(int.from_bytes(length, "little")))
            for message in task.read(spec, progress=send_heartbeat):
                send(message)
    except (EOFError, BrokenPipeError):  # the pool is done, or its process ended
        return


def _limit_memory(additional_bytes: int) -> None:
    """Limit the memory that this process allocates from now on, on Linux.

    A decoder that needs more fails alone.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        n_pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
        limit = n_pages * resource.getpagesize() + additional_bytes
        hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard_limit != resource.RLIM_INFINITY:
            limit = min(limit, hard_limit)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard_limit))


if __name__ == "__main__":
    _serve()
