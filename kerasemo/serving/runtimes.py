"""Run the signatures of a bundle: with TensorFlow, ONNX Runtime, or the interpreter of LiteRT."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kerasemo.serving.graph_messages import graph_message
from pipelines.core.errors import DataError, InputError
from pipelines.core.tensorflow_loading import load_tensorflow


class BundlePredictor(Protocol):
    """What runs the signatures of a bundle."""

    def predict(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Return an array for each output of a signature."""


def load_predictor(folder: Path, document: Mapping[str, Any]) -> BundlePredictor:
    """Return what runs the signatures of a version's folder, for any format.

    Args:
        folder: The folder of a version.
        document: Its `bundle.json`.

    Raises:
        InputError: The runtime of the format is not installed.
    """
    predictors: dict[str, Callable[[], BundlePredictor]] = {
        "saved_model": lambda: SavedModelPredictor(folder, document["signatures"]),
        "onnx": lambda: OnnxPredictor(folder),
        "litert": lambda: LiteRtPredictor(folder),
    }
    return predictors[document["format"]]()


class SavedModelPredictor:
    """Runs a SavedModel with TensorFlow, which is imported with the first prediction.

    Args:
        folder: The folder of a version.
        signatures: The entry of its document: for each name the inputs and outputs.
    """

    def __init__(self, folder: Path, signatures: Mapping[str, Any]) -> None:
        self._folder = folder
        self._signatures = signatures
        self._functions: Mapping[str, Any] | None = None

    def predict(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Return the outputs of a signature.

        Args:
            signature: The name of a signature of the bundle.
            inputs: An array for each of its inputs.

        Returns:
            An array for each output; text as an array of str.

        Raises:
            InputError: Unknown signature or input, or an input that the graph refuses.
            DataError: The graph cannot be loaded.
        """
        if signature not in self._signatures:
            raise InputError(
                f"{self._folder}: has no signature {signature!r}; "
                f"expected one of {', '.join(self._signatures)}"
            )
        tensors = self._signatures[signature]["inputs"]
        if set(inputs) != set(tensors):
            raise InputError(
                f"{signature}: expected the inputs {', '.join(tensors)}; "
                f"received {', '.join(inputs) or 'none'}"
            )
        if self._functions is None:
            self._functions = self._load_graph().signatures
        import tensorflow as tf

        try:
            constants = {
                name: tf.constant(_convert_input(name, value, tensors[name][0]))
                for name, value in inputs.items()
            }
            outputs = self._functions[signature](**constants)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise InputError(f"{signature}: {graph_message(error)}") from error
        return {name: _decode_output(tensor.numpy()) for name, tensor in outputs.items()}

    def weights(self) -> dict[str, np.ndarray]:
        """Return the network's weights by the paths of their variables.

        Raises:
            DataError: The graph cannot be loaded.
        """
        return {path: variable.numpy() for path, variable in self._load_graph().weights.items()}

    def _load_graph(self) -> Any:
        """Return the SavedModel as TensorFlow loads it."""
        load_tensorflow()
        import tensorflow as tf

        try:
            graph = tf.saved_model.load(str(self._folder))
            missing = sorted(set(self._signatures) - set(graph.signatures))
            if missing:
                raise ValueError(f"no signature {', '.join(missing)}")
        except Exception as error:  # the bytes of a damaged file may lead to any error
            raise DataError(
                f"{self._folder}: cannot be loaded ({graph_message(error)}); export the model again"
            ) from error
        return graph


class OnnxPredictor:
    """Runs the files `NAME.onnx` of a folder with ONNX Runtime.

    Raises:
        InputError: ONNX Runtime is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                "ONNX models are run by the package onnxruntime; pip install 'kerasemo[onnx]'"
            ) from error
        self._sessions = {
            path.stem: onnxruntime.InferenceSession(str(path))
            for path in sorted(folder.glob("*.onnx"))
        }

    def predict(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return an array for each output of a signature."""
        session = self._sessions[signature]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, inputs), strict=True))


class LiteRtPredictor:
    """Runs the file `model.tflite` of a folder with the interpreter of LiteRT.

    Raises:
        InputError: LiteRT is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise InputError(
                "LiteRT models are run by the package ai-edge-litert; "
                "pip install 'kerasemo[litert]'"
            ) from error
        self._interpreter = Interpreter(str(folder / "model.tflite"))

    def predict(self, signature: str, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return an array for each output of a signature."""
        return self._interpreter.get_signature_runner(signature)(**inputs)


def _convert_input(name: str, value: Any, dtype: str) -> np.ndarray:
    """Return an input as an array of the dtype that a signature expects.

    Raises:
        ValueError: The conversion would lose more than the last digits of a float.
    """
    if dtype == "string":
        return np.array(value, dtype=object)
    array = np.asarray(value)
    is_integer = np.issubdtype(dtype, np.integer)
    kinds = "iu" if is_integer else "f"
    if array.dtype.kind not in kinds or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{name}: expected {dtype}; received {array.dtype}")
    if is_integer:
        limits = np.iinfo(dtype)
        outside = (array < limits.min) | (array > limits.max)
        if outside.any():
            raise ValueError(
                f"{name}: expected {dtype}; received {array.dtype}, with {array[outside][0]}"
            )
    with np.errstate(over="ignore"):  # the graph reports infinity
        return array.astype(dtype)


def _decode_output(values: np.ndarray) -> np.ndarray:
    if values.dtype != object:
        return values
    return np.array([text.decode() for text in values.ravel()], np.str_).reshape(values.shape)
