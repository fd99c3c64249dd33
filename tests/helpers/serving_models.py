"""Served models as in TensorFlow Serving: a session for each version, warmed up before use.

Texts and codes are copied from its sources: core/basic_manager.cc,
servables/tensorflow/predict_util.cc and model_servers/get_model_status_impl.cc.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import prediction_log_pb2

MAX_WARM_UPS = 1000


class Refused(Exception):
    """The response of a server with a status that is not OK.

    Attributes:
        code: The name of the status code.
        text: The text of the response.
    """

    def __init__(self, code: str, text: str):
        super().__init__(text)
        self.code, self.text = code, text


class Version:
    """One version of a model."""

    def __init__(self, folder: Path):
        self.number = int(folder.name)
        graph = tf.Graph()
        with graph.as_default():
            self._session = tf.compat.v1.Session(graph=graph)
            loaded = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        self.signatures = dict(loaded.signature_def)
        self._runs = {
            name: self._run_of(signature)
            for name, signature in self.signatures.items()
            if not name.startswith("__")
        }
        self._warm_ups = folder / "assets.extra" / "tf_serving_warmup_requests"

    def _run_of(self, signature):
        """Return a function that runs a signature without a check of shapes, as the server does."""
        options = config_pb2.CallableOptions()
        options.feed.extend(signature.inputs[name].name for name in sorted(signature.inputs))
        options.fetch.extend(signature.outputs[name].name for name in sorted(signature.outputs))
        return self._session._make_callable_from_options(options)

    def signature(self, name: str):
        """Return a signature by its name, '' for the default."""
        name = name or "serving_default"
        if name not in self._runs:
            raise Refused("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def predict(self, name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs of a signature."""
        signature = self.signature(name)
        expected_names, names = set(signature.inputs), set(inputs)
        extra, missing = _joined(names - expected_names), _joined(expected_names - names)
        expected, received = _joined(expected_names), _joined(names)
        if len(expected_names) != len(names):
            sizes = f"{len(names)}!={len(expected_names)} len({received}) != len({expected})"
            raise Refused(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {sizes}. "
                f"Sent extra: {extra}. Missing but required: {missing}.",
            )
        for alias in sorted(names - expected_names):
            raise Refused(
                "INVALID_ARGUMENT",
                f"input tensor alias not found in signature: {alias}. "
                f"Inputs expected to be in the set {expected}.",
            )
        try:
            outputs = self._runs[name or "serving_default"](
                *(inputs[alias] for alias in sorted(expected_names))
            )
        except tf.errors.OpError as error:
            raise Refused(_code(error), error.message) from error
        return dict(zip(sorted(signature.outputs), outputs, strict=True))

    def warm_up(self) -> int:
        """Replay the warm-up requests of the version, and return their number."""
        count = 0
        if self._warm_ups.exists():
            for record in tf.data.TFRecordDataset(str(self._warm_ups)).as_numpy_iterator():
                log = prediction_log_pb2.PredictionLog.FromString(record)
                if log.WhichOneof("log_type") != "predict_log":
                    raise Refused(
                        "UNIMPLEMENTED",
                        f"Unsupported log_type for warmup: {log.WhichOneof('log_type')}",
                    )
                request = log.predict_log.request
                self.predict(request.model_spec.signature_name, arrays(request.inputs))
                count += 1
        if count > MAX_WARM_UPS:
            raise Refused(
                "INVALID_ARGUMENT", f"Number of warmup records exceeds the maxium: {MAX_WARM_UPS}"
            )
        return count


class Models:
    """The versions of one model, by number."""

    def __init__(self, folder: Path, *, name: str):
        self.name = name
        numbered = [
            path for path in sorted(folder.iterdir()) if path.name.isdigit() and path.is_dir()
        ]
        if not numbered:
            raise SystemExit(f"No versions of servable {name} found under base path {folder}")
        self.versions = {version.number: version for version in map(Version, numbered)}

    def find(self, name: str, number: int | None) -> Version:
        """Return a version, None for the newest."""
        if name == self.name and number is None:
            return self.versions[max(self.versions)]
        if name != self.name or number not in self.versions:
            request = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise Refused("NOT_FOUND", f"Servable not found for request: {request}")
        return self.versions[number]

    def known(self, name: str, number: int | None) -> list[int]:
        """Return the numbers of the versions in a status, newest first."""
        if name != self.name:
            raise Refused("NOT_FOUND", f"Could not find any versions of model {name}")
        if number is not None and number not in self.versions:
            raise Refused("NOT_FOUND", f"Could not find version {number} of model {name}")
        return [number] if number is not None else sorted(self.versions, reverse=True)


def arrays(inputs: Mapping) -> dict[str, np.ndarray]:
    """Return TensorProtos as arrays."""
    array_of = {}
    for alias, tensor in inputs.items():
        try:
            array_of[alias] = tf.make_ndarray(tensor)
        except (TypeError, ValueError) as error:
            raise Refused("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from error
    return array_of


def _joined(names: set[str]) -> str:
    """Return names as a server writes a set."""
    return f"{{{','.join(sorted(names))}}}"


def _code(error: tf.errors.OpError) -> str:
    return next(
        name
        for name, number in vars(tf.errors).items()
        if name.isupper() and number == error.error_code
    )
