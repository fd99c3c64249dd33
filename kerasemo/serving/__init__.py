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
    from kerasemo.serving.client import Client, FilePrediction, predict_files
    from kerasemo.serving.parity import TOLERANCE, Call, Inputs, differences
    from kerasemo.serving.requests import segment_range
    from kerasemo.serving.signatures import SIGNATURES
    from kerasemo.serving.training_clips import Seen, document, read
    from kerasemo.serving.transport import GRPC_PORT, ServingError, parse_server_url

__all__ = [
    "GRPC_PORT",
    "SCHEMA",
    "SIGNATURES",
    "TOLERANCE",
    "Bundle",
    "Call",
    "Client",
    "FilePrediction",
    "Inputs",
    "Seen",
    "ServingError",
    "differences",
    "document",
    "parse_server_url",
    "predict_files",
    "read",
    "read_document",
    "segment_range",
    "told",
    "versions",
    "write_checksums",
]

_MODULE_OF = {
    "Bundle": "bundle",
    "Call": "parity",
    "Client": "client",
    "FilePrediction": "client",
    "GRPC_PORT": "transport",
    "Inputs": "parity",
    "SCHEMA": "bundle",
    "SIGNATURES": "signatures",
    "Seen": "training_clips",
    "ServingError": "transport",
    "TOLERANCE": "parity",
    "differences": "parity",
    "document": "training_clips",
    "parse_server_url": "transport",
    "predict_files": "client",
    "read": "training_clips",
    "read_document": "bundle",
    "segment_range": "requests",
    "told": "bundle",
    "versions": "bundle",
    "write_checksums": "bundle",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
