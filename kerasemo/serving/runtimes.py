"""Run a bundle in the format of ONNX with ONNX Runtime, or of LiteRT with its interpreter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.core.errors import InputError

Predict = Callable[..., dict[str, np.ndarray]]
"""Takes a signature and its inputs by name; returns an array for each output."""


def load_onnx(folder: Path) -> Predict:
    """Return a function that runs the `NAME.onnx` of a folder with ONNX Runtime.

    Raises:
        InputError: ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "ONNX models are run by the package onnxruntime; pip install 'kerasemo[onnx]'"
        ) from error
    sessions = {
        path.stem: onnxruntime.InferenceSession(str(path)) for path in sorted(folder.glob("*.onnx"))
    }

    def predict(signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        session = sessions[signature]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, inputs), strict=True))

    return predict


def load_litert(folder: Path) -> Predict:
    """Return a function that runs the `model.tflite` of a folder with the interpreter of LiteRT.

    Raises:
        InputError: LiteRT is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError(
            "LiteRT models are run by the package ai-edge-litert; pip install 'kerasemo[litert]'"
        ) from error
    interpreter = Interpreter(str(folder / "model.tflite"))

    def predict(signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return interpreter.get_signature_runner(signature)(**inputs)

    return predict
