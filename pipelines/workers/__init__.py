"""Isolated decoder processes: a bad file stops its own task and no other.

May import `pipelines.core`, `pipelines.media` and `pipelines.faces`. Never imports TensorFlow.
`python -m pipelines.workers` is one worker; only the pool starts it.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.workers.pool import STALL_SECONDS, WorkerError, WorkerPool
    from pipelines.workers.record_task import DecoderMessages, RecordTask, relay_messages
    from pipelines.workers.stream_task import StreamTask

__all__ = [
    "STALL_SECONDS",
    "DecoderMessages",
    "RecordTask",
    "StreamTask",
    "WorkerError",
    "WorkerPool",
    "relay_messages",
]

_MODULE_OF = {
    "DecoderMessages": "record_task",
    "RecordTask": "record_task",
    "STALL_SECONDS": "pool",
    "StreamTask": "stream_task",
    "WorkerError": "pool",
    "WorkerPool": "pool",
    "relay_messages": "record_task",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
