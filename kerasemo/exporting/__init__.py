"""Export a trained stage: the served graph, ONNX and LiteRT models, the model card, the parity check.

May import `kerasemo.evaluation`, `kerasemo.serving` and what these import.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from kerasemo.exporting.exporter import Options, export
    from kerasemo.exporting.graph import Served
    from kerasemo.exporting.onnx_litert import functions, write_onnx
    from kerasemo.exporting.parity_cases import wav_file

__all__ = ["Options", "Served", "export", "functions", "wav_file", "write_onnx"]

_MODULE_OF = {
    "Options": "exporter",
    "Served": "graph",
    "export": "exporter",
    "functions": "onnx_litert",
    "wav_file": "parity_cases",
    "write_onnx": "onnx_litert",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
