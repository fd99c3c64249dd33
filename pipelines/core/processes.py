"""What a process has of the machine that it runs on, and when it ends."""

import os
import signal
import threading
import time


def processors() -> int:
    """Return how many processors this process may use.

    >>> processors() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent(*, saving_seconds: float = 0.0) -> None:
    """Let a thread end this process when the one that started it is gone, also in the middle of what hangs.

    Args:
        saving_seconds: How long it has to save, after a SIGTERM; 0: none is sent.
    """

    def watch(parent: int) -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        if saving_seconds:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(saving_seconds)
        os._exit(1)

    threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()
