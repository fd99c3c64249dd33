"""A client of a TensorFlow Serving that serves an exported bundle."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kerasemo.serving.signatures import SIGNATURES, file_signature, find_signature
from kerasemo.serving.transport import (
    GRPC_PORT,
    FailureReason,
    GrpcTransport,
    ModelMetadata,
    ModelVersionStatus,
    RestTransport,
    ServedSignature,
    ServingError,
    Transport,
    parse_url,
)
from pipelines.core.errors import InputError
from pipelines.core.text import printable

if TYPE_CHECKING:
    import numpy as np

SIGNATURE_STATUSES = (400, 412, "INVALID_ARGUMENT", "FAILED_PRECONDITION")
"""Statuses of a response to an unknown signature, also of responses to other requests."""


class Client:
    """A client of one served model.

    Each signature has a method of its name; `predict` runs any signature. Every method checks its
    inputs before it sends a request. Outputs are a dict of arrays: `probabilities` float32
    [n, labels], `labels` [n, labels] and `emotion` [n] of str. Embeddings have `embedding` float32
    [n, size], where size is 256 for a network of the default shape.

    Args:
        url: `http://HOST:8501` (REST) or `grpc://HOST:8500`, which imports TensorFlow.
        model: The name that the server gives the model.
        version: The number of its version; None is the newest.
        timeout_seconds: The longest wait for a response.

    Raises:
        InputError: An argument is invalid.
        ServingError: A method got no usable response. See the attributes `reason` and `status`.

    >>> client = Client("http://localhost:8501", timeout_seconds=5)
    >>> client.face_bytes([b"GIF89a"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: face_bytes 0 must be a JPEG or PNG file; received 6 bytes ...
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "kerasemo",
        version: int | None = None,
        timeout_seconds: float = 30,
    ) -> None:
        server = parse_url(url)
        _check_model(model, version, timeout_seconds)
        self.url = url.rstrip("/")
        self._label_count: int | None = None
        self._transport: Transport
        if server.scheme == "grpc":
            self._transport = GrpcTransport(
                self.url,
                host=server.host,
                port=server.port or GRPC_PORT,
                model=model,
                version=version,
                timeout_seconds=timeout_seconds,
            )
        else:
            self._transport = RestTransport(
                self.url,
                host=server.host,
                model=model,
                version=version,
                timeout_seconds=timeout_seconds,
            )

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection, if the transport keeps one open."""
        self._transport.close()

    def status(self) -> list[ModelVersionStatus]:
        """Return the versions that the server knows, newest first."""
        return sorted(self._transport.status(), key=lambda status: -status.version)

    def metadata(self) -> ModelMetadata:
        """Return the served version and its signatures."""
        return self._transport.metadata()

    def predict(self, signature: str, **inputs: Any) -> "dict[str, np.ndarray]":
        """Check the inputs of a signature, send them, and return its outputs.

        Args:
            signature: A name of the table `kerasemo.serving.signatures.SIGNATURES`.
            inputs: A value for each of its inputs.

        Returns:
            An array for each output: numbers as float32, text as str.

        Raises:
            InputError: Unknown signature, or an input that the model would refuse.
            ServingError: No usable response.
        """
        from kerasemo.serving import requests

        known = find_signature(signature)
        checked = requests.check_inputs(known, inputs, n_labels=lambda: self._n_labels(signature))
        return self.send(signature, checked, known.output_names)

    def faces(self, faces: Any) -> "dict[str, np.ndarray]":
        """Predict the emotions of face crops, uint8 [n, 64, 64, 3]."""
        return self.predict("faces", faces=faces)

    def face_bytes(self, files: Sequence[bytes]) -> "dict[str, np.ndarray]":
        """Predict the emotions of face crops in JPEG or PNG files."""
        return self.predict("face_bytes", face_bytes=files)

    def segments(self, segments: Any) -> "dict[str, np.ndarray]":
        """Predict the emotions of log-Mel segments with deltas, float32 [n, 64, 64, 3]."""
        return self.predict("segments", segments=segments)

    def speech(self, waveforms: Any) -> "dict[str, np.ndarray]":
        """Predict the emotion of each waveform.

        A list of unequal lengths is padded and sent to the signature `speech_masked`, with its
        lengths, and with every label allowed.

        Args:
            waveforms: float [batch, samples] at 16 kHz in [-1, 1], or a list of float [samples].
        """
        import numpy as np

        from kerasemo.serving import requests

        if not isinstance(waveforms, list | tuple):
            return self.predict("speech", waveform=waveforms)
        padded, lengths = requests.pad_waveforms(waveforms)
        if (lengths == padded.shape[1]).all():
            return self.predict("speech", waveform=padded)
        mask = np.ones((len(padded), self._n_labels("speech_masked")), np.float32)
        return self.predict("speech_masked", waveform=padded, lengths=lengths, mask=mask)

    def wav_bytes(self, files: Sequence[bytes]) -> "dict[str, np.ndarray]":
        """Predict the emotion of each WAV file (16 kHz, mono, 16-bit); only its sound is sent."""
        return self.predict("wav_bytes", wav_bytes=files)

    def faces_masked(self, faces: Any, *, mask: Any) -> "dict[str, np.ndarray]":
        """Predict as `faces` does, among the labels that `mask` [n, labels] allows with a 1."""
        return self.predict("faces_masked", faces=faces, mask=mask)

    def speech_masked(self, waveform: Any, *, lengths: Any, mask: Any) -> "dict[str, np.ndarray]":
        """Predict as `speech` does, from padded waveforms and among the allowed labels.

        Args:
            waveform: float [batch, samples] at 16 kHz in [-1, 1].
            lengths: int32 [batch], how many samples of each row come before its padding.
            mask: float32 [batch, labels], 1 for each allowed label.
        """
        return self.predict("speech_masked", waveform=waveform, lengths=lengths, mask=mask)

    def embed_faces(self, faces: Any) -> "dict[str, np.ndarray]":
        """Embed face crops, uint8 [n, 64, 64, 3]: float32 [n, size] of unit length."""
        return self.predict("embed_faces", faces=faces)

    def embed_segments(self, segments: Any) -> "dict[str, np.ndarray]":
        """Embed log-Mel segments, float32 [n, 64, 64, 3]: float32 [n, size] of unit length."""
        return self.predict("embed_segments", segments=segments)

    def embed_speech(self, waveform: Any) -> "dict[str, np.ndarray]":
        """Embed waveforms, float [batch, samples] at 16 kHz: float32 [batch, size], unit length."""
        return self.predict("embed_speech", waveform=waveform)

    def timeline(self, waveform: Any) -> "dict[str, np.ndarray]":
        """Predict the emotions of each segment of waveforms.

        Args:
            waveform: float [batch, samples] at 16 kHz in [-1, 1], of at most 60 s.

        Returns:
            `probabilities` float32 [batch, segments, labels], `starts` float32 [batch, segments] in
            seconds, and `weights` float32 [batch, segments]: 1 for a segment that counts in the
            clip's mean, 0 for a pause that the model leaves out.
        """
        return self.predict("timeline", waveform=waveform)

    def send(
        self, signature: str, inputs: "Mapping[str, np.ndarray]", outputs: Sequence[str]
    ) -> "dict[str, np.ndarray]":
        """Send inputs unchecked, and return the outputs.

        Args:
            signature: Any name.
            inputs: An array for each of its inputs; bytes with dtype object.
            outputs: The names of the outputs, each with a row for every row of the inputs.
        """
        import numpy as np

        try:
            response = self._transport.predict(signature, inputs)
        except ServingError as error:
            self._label_count = None  # the server may have switched to another version
            raise self._explain(signature, error) from None
        if set(response) == {""} and len(outputs) == 1:
            response = {outputs[0]: response[""]}
        rows = max((len(array) for array in inputs.values() if np.ndim(array)), default=0)
        try:
            arrays = {name: _to_array(response[name]) for name in outputs}
            for array in arrays.values():
                if len(array) != rows or array.dtype.kind not in "fU":
                    raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            shapes = {
                name: list(np.shape(np.asarray(value, object))) for name, value in response.items()
            }
            reason = f"the server returned {shapes}, not {', '.join(outputs)} of {rows} rows"
            raise self._unexpected_model_error(signature, reason) from None
        return arrays

    def _n_labels(self, signature: str) -> int:
        """Return how many labels the model has, from the shape of the probabilities."""
        if self._label_count is None:
            signatures = self.metadata().signatures
            if signature not in signatures:
                raise self._missing_signature_error(signature, signatures)
            probabilities = signatures[signature].outputs.get("probabilities")
            if probabilities is None or not probabilities.shape or probabilities.shape[-1] < 1:
                raise self._unexpected_model_error(
                    signature,
                    f"the server describes the outputs {dict(signatures[signature].outputs)}, "
                    "and not how many labels the model has",
                )
            self._label_count = probabilities.shape[-1]
        return self._label_count

    def _explain(self, signature: str, error: ServingError) -> ServingError:
        """Return the error; if the model lacks the signature, one that lists those it has."""
        if error.status not in SIGNATURE_STATUSES:
            return error
        try:
            signatures = self.metadata().signatures
        except ServingError:
            return error
        if signature in signatures:
            return error
        return self._missing_signature_error(signature, signatures, error)

    def _missing_signature_error(
        self,
        signature: str,
        signatures: Mapping[str, ServedSignature],
        error: ServingError | None = None,
    ) -> ServingError:
        return ServingError(
            f"{self.url}: {signature}: the served model has no such signature; it has "
            f"{', '.join(signatures)}: a domain that was not trained has none",
            reason=FailureReason.SIGNATURE_NOT_FOUND,
            status=error.status if error else None,
            server_text=error.server_text if error else "",
        )

    def _unexpected_model_error(self, signature: str, reason: str) -> ServingError:
        return ServingError(
            f"{self.url}: {signature}: {reason}; name a model that python -m kerasemo.export made",
            reason=FailureReason.UNEXPECTED_RESPONSE,
        )


def _check_model(model: Any, version: Any, timeout_seconds: float) -> None:
    if not isinstance(model, str) or not model or set(model) & set("/:"):
        raise InputError(
            f"model must be the name of a served model, without / and :; received {model!r}"
        )
    is_number = isinstance(version, int) and not isinstance(version, bool) and version >= 0
    if version is not None and not is_number:
        raise InputError(
            "version must be the whole number of a version, or None for the newest; "
            f"received {version!r}"
        )
    if not 0 < timeout_seconds < float("inf"):
        raise InputError(f"timeout_seconds must be above 0; received {timeout_seconds!r}")


def _to_array(value: Any) -> "np.ndarray":
    """Return numbers as float32 and text as str."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind in "OS":
        return np.array([text.decode() for text in array.ravel()], str).reshape(array.shape)
    return array if array.dtype.kind == "U" else array.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class FilePrediction:
    """The prediction of a served model for a file, or why it has none."""

    path: str
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """By label, in the order of the model; empty after an error."""
    emotion: str = ""
    error: str = ""
    """Why the file has no prediction; empty if it has one."""

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as a JSON document."""
        if self.error:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "emotion": self.emotion,
            "confidence": self.probabilities[self.emotion],
            "probabilities": dict(self.probabilities),
        }


def predict_files(client: Client, paths: Sequence[Path]) -> Iterator[FilePrediction]:
    """Yield the prediction for each file, in the order of the paths.

    A file that cannot be read, or that the server refuses, gets a prediction with an error.

    Args:
        client: The client of a served model.
        paths: WAV files, and face crops as JPEG or PNG files.

    Raises:
        ServingError: The server does not work, or has no such model.
    """
    from pipelines.core import progress

    with progress.progress_bar("predict", unit="files") as bar:
        bar.start(len(paths))
        for path in paths:
            try:
                prediction = _predict_file(client, path)
            except OSError as error:
                prediction = FilePrediction(str(path), error=error.strerror or str(error))
            except InputError as error:
                prediction = FilePrediction(str(path), error=str(error))
            except ServingError as error:
                if not error.is_refused:
                    raise
                prediction = FilePrediction(str(path), error=str(error))
            yield prediction
            bar.advance(printable(path.name))


def _predict_file(client: Client, path: Path) -> FilePrediction:
    signature = file_signature(path.suffix)
    if signature is None:
        suffixes = [suffix for known in SIGNATURES.values() for suffix in known.suffixes]
        raise InputError(
            f"expected a file with one of {', '.join(suffixes)}; "
            "python -m kerasemo.predict reads other media"
        )
    (input_name,) = signature.input_names
    outputs = client.predict(signature.name, **{input_name: [path.read_bytes()]})
    labels = outputs["labels"][0].tolist()
    probabilities = dict(zip(labels, outputs["probabilities"][0].tolist(), strict=True))
    return FilePrediction(str(path), probabilities, emotion=str(outputs["emotion"][0]))
