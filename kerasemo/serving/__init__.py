"""Exported bundles and who asks them: signatures, requests, the client of TensorFlow Serving, the parity check.

May import `pipelines.core`. Never imports Keras, OpenCV or PyAV. `python -m kerasemo.serving` is the parity check's process.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.serving.bundle import (
        SCHEMA,
        Bundle,
        read_document,
        told,
        versions,
        write_checksums,
    )
    from kerasemo.serving.client import Client, ask
    from kerasemo.serving.parity import TOLERANCE, Call, Inputs, differences
    from kerasemo.serving.requests import LONGEST_SECONDS, MOST_PEAK, segment_range, segment_words
    from kerasemo.serving.signatures import EMBEDDING_SIGNATURES, ITEM_SIGNATURES, SIGNATURES
    from kerasemo.serving.training_clips import Seen, document, read
    from kerasemo.serving.transport import GRPC_PORT, ServingError, address

__all__ = [
    "EMBEDDING_SIGNATURES",
    "GRPC_PORT",
    "ITEM_SIGNATURES",
    "LONGEST_SECONDS",
    "MOST_PEAK",
    "SCHEMA",
    "SIGNATURES",
    "TOLERANCE",
    "Bundle",
    "Call",
    "Client",
    "Inputs",
    "Seen",
    "ServingError",
    "address",
    "ask",
    "differences",
    "document",
    "read",
    "read_document",
    "segment_range",
    "segment_words",
    "told",
    "versions",
    "write_checksums",
]

_MODULE_OF = {
    "Bundle": "bundle",
    "Call": "parity",
    "Client": "client",
    "EMBEDDING_SIGNATURES": "signatures",
    "GRPC_PORT": "transport",
    "ITEM_SIGNATURES": "signatures",
    "Inputs": "parity",
    "LONGEST_SECONDS": "requests",
    "MOST_PEAK": "requests",
    "SCHEMA": "bundle",
    "SIGNATURES": "signatures",
    "Seen": "training_clips",
    "ServingError": "transport",
    "TOLERANCE": "parity",
    "address": "transport",
    "ask": "client",
    "differences": "parity",
    "document": "training_clips",
    "read": "training_clips",
    "read_document": "bundle",
    "segment_range": "requests",
    "segment_words": "requests",
    "told": "bundle",
    "versions": "bundle",
    "write_checksums": "bundle",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
