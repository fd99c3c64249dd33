"""Run exported bundles: signatures, requests, a client of TensorFlow Serving, parity check.

May import `pipelines.core`. Never imports Keras, OpenCV or PyAV. `python -m kerasemo.serving` is
the parity check's process.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.serving.bundle import SCHEMA, Bundle, read_document, versions, write_checksums
    from kerasemo.serving.client import Client, FilePrediction, predict_files
    from kerasemo.serving.graph_messages import graph_message
    from kerasemo.serving.parity import TOLERANCE, Call, Inputs, parity_differences
    from kerasemo.serving.requests import MAX_PEAK, segment_range, segment_range_text
    from kerasemo.serving.signatures import (
        EMBEDDING_SIGNATURES,
        FORMATS,
        ITEM_SIGNATURES,
        MAX_SOUND_SECONDS,
        SIGNATURES,
        Signature,
        select_signatures,
    )
    from kerasemo.serving.training_clips import (
        TrainingClips,
        read_training_clips,
        training_clips_document,
    )
    from kerasemo.serving.transport import GRPC_PORT, ServingError, parse_url

__all__ = [
    "EMBEDDING_SIGNATURES",
    "FORMATS",
    "GRPC_PORT",
    "ITEM_SIGNATURES",
    "MAX_PEAK",
    "MAX_SOUND_SECONDS",
    "SCHEMA",
    "SIGNATURES",
    "TOLERANCE",
    "Bundle",
    "Call",
    "Client",
    "FilePrediction",
    "Inputs",
    "ServingError",
    "Signature",
    "TrainingClips",
    "graph_message",
    "parity_differences",
    "parse_url",
    "predict_files",
    "read_document",
    "read_training_clips",
    "segment_range",
    "segment_range_text",
    "select_signatures",
    "training_clips_document",
    "versions",
    "write_checksums",
]

_MODULE_OF = {
    "Bundle": "bundle",
    "Call": "parity",
    "Client": "client",
    "EMBEDDING_SIGNATURES": "signatures",
    "FORMATS": "signatures",
    "FilePrediction": "client",
    "GRPC_PORT": "transport",
    "ITEM_SIGNATURES": "signatures",
    "Inputs": "parity",
    "MAX_PEAK": "requests",
    "MAX_SOUND_SECONDS": "signatures",
    "SCHEMA": "bundle",
    "SIGNATURES": "signatures",
    "ServingError": "transport",
    "Signature": "signatures",
    "TOLERANCE": "parity",
    "TrainingClips": "training_clips",
    "graph_message": "graph_messages",
    "parity_differences": "parity",
    "parse_url": "transport",
    "predict_files": "client",
    "read_document": "bundle",
    "read_training_clips": "training_clips",
    "segment_range": "requests",
    "segment_range_text": "requests",
    "select_signatures": "signatures",
    "training_clips_document": "training_clips",
    "versions": "bundle",
    "write_checksums": "bundle",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
