"""Exported bundles and who asks them: signatures, requests, the client of TensorFlow Serving, the parity check.

May import `pipelines.core`. Never imports Keras, OpenCV or PyAV. `python -m kerasemo.serving` is the parity check's process.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.serving.bundle import (
        BUNDLE_DOCUMENT,
        BUNDLE_SCHEMA,
        Bundle,
        bundle_versions,
        read_bundle_document,
        write_checksums,
    )
    from kerasemo.serving.client import Client, FilePrediction, predict_files
    from kerasemo.serving.graph_messages import describe_graph_error
    from kerasemo.serving.parity import TOLERANCE, Inputs, SignatureCall, max_output_differences
    from kerasemo.serving.requests import MAX_PEAK, describe_segment_range, segment_range
    from kerasemo.serving.signatures import (
        BUNDLE_FORMATS,
        MAX_SOUND_SECONDS,
        SAVED_MODEL_SIGNATURES,
        SIGNATURES,
        Signature,
        find_signature,
        select_signatures,
    )
    from kerasemo.serving.training_clips import (
        TRAINING_CLIPS,
        TrainingClips,
        hash_training_clips,
        read_training_clips,
    )
    from kerasemo.serving.transport import GRPC_PORT, ServingError, parse_server_url

__all__ = [
    "BUNDLE_DOCUMENT",
    "BUNDLE_FORMATS",
    "BUNDLE_SCHEMA",
    "GRPC_PORT",
    "MAX_PEAK",
    "MAX_SOUND_SECONDS",
    "SAVED_MODEL_SIGNATURES",
    "SIGNATURES",
    "TOLERANCE",
    "TRAINING_CLIPS",
    "Bundle",
    "Client",
    "FilePrediction",
    "Inputs",
    "ServingError",
    "Signature",
    "SignatureCall",
    "TrainingClips",
    "bundle_versions",
    "describe_graph_error",
    "describe_segment_range",
    "find_signature",
    "hash_training_clips",
    "max_output_differences",
    "parse_server_url",
    "predict_files",
    "read_bundle_document",
    "read_training_clips",
    "segment_range",
    "select_signatures",
    "write_checksums",
]

_MODULE_OF = {
    "BUNDLE_DOCUMENT": "bundle",
    "BUNDLE_FORMATS": "signatures",
    "BUNDLE_SCHEMA": "bundle",
    "Bundle": "bundle",
    "Client": "client",
    "FilePrediction": "client",
    "GRPC_PORT": "transport",
    "Inputs": "parity",
    "MAX_PEAK": "requests",
    "MAX_SOUND_SECONDS": "signatures",
    "SAVED_MODEL_SIGNATURES": "signatures",
    "SIGNATURES": "signatures",
    "ServingError": "transport",
    "Signature": "signatures",
    "SignatureCall": "parity",
    "TOLERANCE": "parity",
    "TRAINING_CLIPS": "training_clips",
    "TrainingClips": "training_clips",
    "bundle_versions": "bundle",
    "describe_graph_error": "graph_messages",
    "describe_segment_range": "requests",
    "find_signature": "signatures",
    "hash_training_clips": "training_clips",
    "max_output_differences": "parity",
    "parse_server_url": "transport",
    "predict_files": "client",
    "read_bundle_document": "bundle",
    "read_training_clips": "training_clips",
    "segment_range": "requests",
    "select_signatures": "signatures",
    "write_checksums": "bundle",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
