"""The client of a TensorFlow Serving that serves a bundle; `kerasemo.client` is its command."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kerasemo.serving.signatures import SIGNATURES
from kerasemo.serving.transport import (
    GRPC_PORT,
    GrpcTransport,
    RestTransport,
    ServingError,
    parse_url,
)
from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.text import printable

if TYPE_CHECKING:
    import numpy as np


class Client:
    """A client of one served model. Each method has the name of its signature.

    The methods return a dict of arrays: `probabilities` float32 [n, k], `labels` [n, k] and
    `emotion` [n] of str. The methods of embeddings return `embedding` float32 [n, d], where d is
    256 for a network of the default size. Each method checks its inputs before it sends them.

    Args:
        url: `http://HOST:8501` (REST) or `grpc://HOST:8500`, which imports TensorFlow.
        model: The name of the model on the server.
        version: The version of the model; None: the newest.
        timeout_seconds: The longest time of one request.

    Raises:
        InputError: An argument is wrong.
        ServingError: A method gets no outputs. The message has the url, the signature, the message
            of the server and the remedy.

    >>> client = Client("http://localhost:8501", timeout_seconds=5)
    >>> client.face_bytes([b"GIF89a"])  # doctest: +ELLIPSIS
    Traceback (most recent call last): pipelines.core.errors.InputError: face_bytes 0 must be a JPEG
    or PNG file; received 6 bytes that begin b'GIF89a'; ...
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "kerasemo",
        version: int | None = None,
        timeout_seconds: float = 30,
    ) -> None:
        scheme, host, port = parse_url(url)
        if not isinstance(model, str) or not model or set(model) & set("/:"):
            raise InputError(
                f"model must be the name of a served model, without / and :; received {model!r}"
            )
        if version is not None and (
            isinstance(version, bool) or not isinstance(version, int) or version < 0
        ):
            raise InputError(
                "version must be the whole number of a version, or None for the newest; "
                f"received {version!r}"
            )
        if not 0 < timeout_seconds < float("inf"):
            raise InputError(f"timeout_seconds must be above 0; received {timeout_seconds!r}")
        self.url = url.rstrip("/")
        self._label_count: int | None = None
        arguments: dict[str, Any] = {
            "host": host,
            "model": model,
            "version": version,
            "timeout_seconds": timeout_seconds,
        }
        self._transport: RestTransport | GrpcTransport
        if scheme == "grpc":
            self._transport = GrpcTransport(self.url, port=port or GRPC_PORT, **arguments)
        else:
            self._transport = RestTransport(self.url, **arguments)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection of gRPC; REST keeps none."""
        self._transport.close()

    def status(self) -> list[dict[str, Any]]:
        """Return the versions on the server, the newest first.

        Each is `{"version": 1, "state": "AVAILABLE", "error": ""}`.
        """
        return sorted(self._transport.status(), key=lambda row: -row["version"])

    def metadata(self) -> dict[str, Any]:
        """Return the version and the signatures of the served model.

        The result is `{"version", "signatures": {name: {"inputs": {name: [dtype, shape]},
        "outputs": ...}}}`. A size of -1 is any size, a shape of None any shape.
        """
        return self._transport.metadata()

    def faces(self, faces: Any) -> "dict[str, np.ndarray]":
        """Predict the emotions of face crops, uint8 [n, 64, 64, 3]."""
        from kerasemo.serving import requests

        return self.send("faces", {"faces": requests.check_faces(faces)})

    def face_bytes(self, files: Sequence[bytes]) -> "dict[str, np.ndarray]":
        """Predict the emotions of face crops in the bytes of JPEG or PNG files."""
        from kerasemo.serving import requests

        return self.send("face_bytes", {"face_bytes": requests.check_images(files)})

    def segments(self, segments: Any) -> "dict[str, np.ndarray]":
        """Predict the emotions of log-Mel segments with deltas, float32 [n, 64, 64, 3]."""
        from kerasemo.serving import requests

        return self.send("segments", {"segments": requests.check_segments(segments)})

    def speech(self, waveforms: Any) -> "dict[str, np.ndarray]":
        """Predict the emotion of each waveform.

        Args:
            waveforms: float [batch, samples] at 16 kHz in [-1, 1], or a list of 1-D arrays. Arrays
                with different lengths go padded to the signature `speech_masked`, with all labels
                allowed.
        """
        import numpy as np

        from kerasemo.serving import requests

        if isinstance(waveforms, list | tuple):
            padded, lengths = requests.pad_waveforms(waveforms)
            if (lengths != padded.shape[1]).any():
                mask = np.ones((len(padded), self._n_labels("speech_masked")), np.float32)
                return self.send(
                    "speech_masked", {"waveform": padded, "lengths": lengths, "mask": mask}
                )
            waveforms = padded
        return self.send("speech", {"waveform": requests.check_waveform(waveforms)})

    def wav_bytes(self, files: Sequence[bytes]) -> "dict[str, np.ndarray]":
        """Predict the emotion of each WAV file (16 kHz, mono, 16-bit). Only the sound is sent."""
        from kerasemo.serving import requests

        return self.send("wav_bytes", {"wav_bytes": requests.check_wavs(files)})

    def faces_masked(self, faces: Any, *, mask: Any) -> "dict[str, np.ndarray]":
        """Predict as `faces` does, among the labels with 1 in `mask`, float32 [n, k]."""
        from kerasemo.serving import requests

        faces = requests.check_faces(faces)
        mask = requests.check_mask(mask, rows=len(faces), width=self._n_labels("faces_masked"))
        return self.send("faces_masked", {"faces": faces, "mask": mask})

    def speech_masked(self, waveform: Any, *, lengths: Any, mask: Any) -> "dict[str, np.ndarray]":
        """Predict as `speech` does, for the start of each waveform and among some labels.

        Args:
            waveform: float [batch, samples] at 16 kHz in [-1, 1].
            lengths: int32 [batch], the number of samples of each waveform.
            mask: float32 [batch, k], 1 for each allowed label.
        """
        from kerasemo.serving import requests

        waveform = requests.check_waveform(waveform)
        lengths = requests.check_lengths(lengths, waveform)
        mask = requests.check_mask(mask, rows=len(waveform), width=self._n_labels("speech_masked"))
        return self.send("speech_masked", {"waveform": waveform, "lengths": lengths, "mask": mask})

    def embed_faces(self, faces: Any) -> "dict[str, np.ndarray]":
        """Return the embeddings of face crops, uint8 [n, 64, 64, 3].

        The embeddings are float32 [n, d] of unit length.
        """
        from kerasemo.serving import requests

        return self.send("embed_faces", {"faces": requests.check_faces(faces)})

    def embed_segments(self, segments: Any) -> "dict[str, np.ndarray]":
        """Return the embeddings of log-Mel segments, float32 [n, 64, 64, 3].

        The embeddings are float32 [n, d] of unit length.
        """
        from kerasemo.serving import requests

        return self.send("embed_segments", {"segments": requests.check_segments(segments)})

    def embed_speech(self, waveform: Any) -> "dict[str, np.ndarray]":
        """Return the embedding of each waveform, float [batch, samples] at 16 kHz in [-1, 1].

        The embeddings are float32 [batch, d] of unit length.
        """
        from kerasemo.serving import requests

        return self.send("embed_speech", {"waveform": requests.check_waveform(waveform)})

    def timeline(self, waveform: Any) -> "dict[str, np.ndarray]":
        """Predict the emotions of each segment of waveforms that are no longer than 60 s.

        Args:
            waveform: float [batch, samples] at 16 kHz in [-1, 1].

        Returns:
            `probabilities` float32 [batch, segments, k], `starts` float32 [batch, segments] in
            seconds, and `weights` of the same shape. The prediction of a clip is the mean of the
            segments with weight 1. A pause that the model leaves out has weight 0.
        """
        from kerasemo.serving import requests

        waveform = requests.check_waveform(waveform, max_seconds=requests.SPEC.part_seconds)
        return self.send("timeline", {"waveform": waveform})

    def send(
        self,
        signature: str,
        inputs: "Mapping[str, np.ndarray]",
        outputs: Sequence[str] | None = None,
    ) -> "dict[str, np.ndarray]":
        """Send inputs to a signature without a check.

        Args:
            signature: The name of the signature.
            inputs: An array for each input; an array of bytes has dtype object.
            outputs: The names of the outputs, which have one row per row of the inputs. None: those
                of `SIGNATURES`.
        """
        import numpy as np

        if outputs is None:
            outputs = SIGNATURES[signature].outputs
        try:
            response = self._transport.predict(signature, inputs)
        except ServingError as error:
            self._label_count = None  # the server may have another version now
            raise self._with_signatures(signature, error) from None
        if set(response) == {""} and len(outputs) == 1:
            response = {outputs[0]: response[""]}
        batch = max((len(array) for array in inputs.values() if np.ndim(array)), default=0)
        try:
            arrays = {name: _to_array(response[name]) for name in outputs}
            if any(
                len(array) != batch or array.dtype.kind not in "fU" for array in arrays.values()
            ):
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            shapes = {
                name: list(np.shape(np.asarray(value, object))) for name, value in response.items()
            }
            raise ServingError(
                f"{self.url}: {signature}: the server answered {shapes}, not "
                f"{', '.join(outputs)} of {batch} rows; "
                "name a model that python -m kerasemo.export made"
            ) from None
        return arrays

    def _n_labels(self, signature: str) -> int:
        """Return the number of labels of the model."""
        if self._label_count is None:
            signatures = self.metadata()["signatures"]
            if signature not in signatures:
                raise self._missing_signature(signature, signatures)
            try:
                _, (_, count) = signatures[signature]["outputs"]["probabilities"]
            except (KeyError, TypeError, ValueError):
                count = -1
            if count < 1:
                raise ServingError(
                    f"{self.url}: {signature}: the server reports the outputs "
                    f"{signatures[signature]['outputs']} without the number of labels; "
                    "name a model that python -m kerasemo.export made"
                )
            self._label_count = count
        return self._label_count

    def _with_signatures(self, signature: str, error: ServingError) -> ServingError:
        """Return an error that names the signatures, if the model lacks this one; or the error."""
        if not error.is_unknown_signature:
            return error
        try:
            signatures = self.metadata()["signatures"]
        except ServingError:
            return error
        return error if signature in signatures else self._missing_signature(signature, signatures)

    def _missing_signature(self, signature: str, signatures: Mapping[str, Any]) -> ServingError:
        return ServingError(
            f"{self.url}: {signature}: the server said that the model has no such signature; "
            f"it has {', '.join(signatures)}: a domain that was not trained has none"
        )


def _to_array(value: Any) -> "np.ndarray":
    """Return numbers as float32 and texts as str."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind in "OS":
        return np.array([text.decode() for text in array.ravel()], str).reshape(array.shape)
    return array if array.dtype.kind == "U" else array.astype(np.float32)


SIGNATURE_OF_SUFFIX = {
    ".wav": "wav_bytes",
    ".jpg": "face_bytes",
    ".jpeg": "face_bytes",
    ".png": "face_bytes",
}


def predict_files(
    client: Client,
    paths: Sequence[Path],
    *,
    on_result: Callable[[dict[str, Any]], None] = lambda result: None,
) -> list[dict[str, Any]]:
    """Predict the emotion of each file: WAV files, and JPEG and PNG files as face crops.

    Args:
        client: The client.
        paths: The files.
        on_result: Called with each result.

    Returns:
        In the order of the paths, `{"path", "emotion", "confidence", "probabilities": {label: p}}`.
        A file that cannot be read, or that the server refuses, gives `{"path", "error": reason}`.

    Raises:
        ServingError: The server fails, or has no such model.
    """
    from pipelines.core import progress

    results = []
    with progress.progress_bar("predict", unit="files") as bar:
        bar.start(len(paths))
        for path in paths:
            try:
                result = {"path": str(path)} | _predict_file(client, path)
            except OSError as error:
                if isinstance(error, KerasemoError):
                    raise
                result = {"path": str(path), "error": error.strerror or str(error)}
            except KerasemoError as error:
                if isinstance(error, ServingError) and not error.is_refused:
                    raise
                result = {"path": str(path), "error": str(error)}
            results.append(result)
            on_result(result)
            bar.advance(printable(path.name))
    return results


def _predict_file(client: Client, path: Path) -> dict[str, Any]:
    signature = SIGNATURE_OF_SUFFIX.get(path.suffix.lower())
    if signature is None:
        raise InputError(
            f"expected a file with one of {', '.join(SIGNATURE_OF_SUFFIX)}; "
            "other media are for python -m kerasemo.predict"
        )
    outputs = getattr(client, signature)([path.read_bytes()])
    probabilities = dict(
        zip(outputs["labels"][0].tolist(), outputs["probabilities"][0].tolist(), strict=True)
    )
    emotion = str(outputs["emotion"][0])
    return {
        "emotion": emotion,
        "confidence": probabilities[emotion],
        "probabilities": probabilities,
    }
