"""What a process may use of the machine that it runs on."""

import os


def processors() -> int:
    """Return how many processors this process may use.

    >>> processors() >= 1
    True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
