"""What runs a bundle of another format than TensorFlow's: ONNX Runtime, and LiteRT's interpreter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipelines.core.errors import InputError

Ask = Callable[..., dict[str, np.ndarray]]
"""(signature, **inputs) -> an array for each output."""


def onnx(folder: Path) -> Ask:
    """Return what asks the `NAME.onnx` of a folder by ONNX Runtime; InputError where that is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "ONNX models are run by the package onnxruntime; pip install 'kerasemo[onnx]'"
        ) from error
    sessions = {
        path.stem: onnxruntime.InferenceSession(str(path)) for path in sorted(folder.glob("*.onnx"))
    }

    def ask(signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        session = sessions[signature]
        return dict(
            zip(
                [output.name for output in session.get_outputs()],
                session.run(None, inputs),
                strict=True,
            )
        )

    return ask


def litert(folder: Path) -> Ask:
    """Return what asks the `model.tflite` of a folder by LiteRT's interpreter; InputError where that is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError(
            "LiteRT models are run by the package ai-edge-litert; pip install 'kerasemo[litert]'"
        ) from error
    interpreter = Interpreter(str(folder / "model.tflite"))

    def ask(signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        return interpreter.get_signature_runner(signature)(**inputs)

    return ask
