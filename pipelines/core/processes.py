"""The processors that a process may use, and its end together with its parent."""

import os
import signal
import threading
import time


def processor_count() -> int:
    """Return the number of processors that this process may use.

    >>> processor_count() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent(*, saving_seconds: float = 0.0) -> None:
    """Start a thread that ends this process when its parent process has ended.

    The thread also ends a process that hangs.

    Args:
        saving_seconds: The time to save after a SIGTERM, before the end; 0: no SIGTERM is sent.
    """

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        if saving_seconds:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(saving_seconds)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
