"""Export a trained stage as SavedModel, ONNX or LiteRT, with a model card and a check.

May import `kerasemo.evaluation`, `kerasemo.serving` and what these import.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.exporting.exporter import ExportOptions, export_stage
    from kerasemo.exporting.graph import ServedModel
    from kerasemo.exporting.onnx_litert import portable_functions, write_onnx
    from kerasemo.exporting.parity_cases import wav_file

__all__ = [
    "ExportOptions",
    "ServedModel",
    "export_stage",
    "portable_functions",
    "wav_file",
    "write_onnx",
]

_MODULE_OF = {
    "ExportOptions": "exporter",
    "ServedModel": "graph",
    "export_stage": "exporter",
    "portable_functions": "onnx_litert",
    "wav_file": "parity_cases",
    "write_onnx": "onnx_litert",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
