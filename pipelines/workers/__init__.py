"""Isolated decoder processes: a bad file stops its own task and no other.

May import `pipelines.core`, `pipelines.media` and `pipelines.faces`. Never imports TensorFlow. `python -m pipelines.workers` is one
worker; only the pool starts it.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.workers.pool import STALL_SECONDS, Pool, WorkerError
    from pipelines.workers.record_task import Task, guarded
    from pipelines.workers.stream_task import Watch

__all__ = ["STALL_SECONDS", "Pool", "Task", "Watch", "WorkerError", "guarded"]

_MODULE_OF = {
    "Pool": "pool",
    "STALL_SECONDS": "pool",
    "Task": "record_task",
    "Watch": "stream_task",
    "WorkerError": "pool",
    "guarded": "record_task",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
