"""`python -m kerasemo.client`: asks a TensorFlow Serving that serves an exported bundle; `Client` is the same in Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kerasemo.serving.transport import GRPC_PORT, Rest, ServingError, address
from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.text import printable

if TYPE_CHECKING:
    import numpy as np
from collections.abc import Callable

CLASSES = ("probabilities", "labels", "emotion")
EMBEDDING = ("embedding",)


class Client:
    """Asks the signatures of one served model; each method is named as its signature.

    Every answer is a dict of arrays: `probabilities` float32 [n, k], `labels` [n, k] and `emotion` [n] of str; of the embeddings
    `embedding` float32 [n, d], d being 256 of a network of the default shape. What is asked is looked at first, so that a mistake is
    told before it is sent.

    Args:
        url: `http://HOST:8501` (REST) or `grpc://HOST:8500`, which imports tensorflow.
        model: The name that the server gives the model.
        version: The number of its version; None is the newest.
        timeout_seconds: How long one answer may take.

    Raises:
        InputError: An argument is off.
        ServingError: By each method: no answer, with the url, the signature, what the server said and the remedy.

    >>> client = Client("http://localhost:8501", timeout_seconds=5)
    >>> client.face_bytes([b"GIF89a"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: face_bytes 0 must be a JPEG or PNG file; received 6 bytes that begin b'GIF89a'; ...
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "kerasemo",
        version: int | None = None,
        timeout_seconds: float = 30,
    ):
        scheme, host, port = address(url)
        if not isinstance(model, str) or not model or set(model) & set("/:"):
            raise InputError(
                f"model must be the name of a served model, without / and :; received {model!r}"
            )
        if version is not None and (
            isinstance(version, bool) or not isinstance(version, int) or version < 0
        ):
            raise InputError(
                f"version must be the whole number of a version, or None for the newest; received {version!r}"
            )
        if not 0 < timeout_seconds < float("inf"):
            raise InputError(f"timeout_seconds must be above 0; received {timeout_seconds!r}")
        self.url = url.rstrip("/")
        self._width: int | None = None
        words = {
            "host": host,
            "model": model,
            "version": version,
            "timeout_seconds": timeout_seconds,
        }
        if scheme == "grpc":
            from kerasemo.serving.transport import Grpc

            self._wire = Grpc(self.url, port=port or GRPC_PORT, **words)
        else:
            self._wire = Rest(self.url, **words)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, where the interface keeps one."""
        self._wire.close()

    def status(self) -> list[dict[str, Any]]:
        """Return the versions that the server knows: `{"version": 1, "state": "AVAILABLE", "error": ""}`, newest first."""
        return sorted(self._wire.status(), key=lambda row: -row["version"])

    def metadata(self) -> dict[str, Any]:
        """Return `{"version", "signatures": {name: {"inputs": {name: [dtype, shape]}, "outputs": ...}}}`; -1: any size, None: any shape."""
        return self._wire.metadata()

    def faces(self, faces: Any) -> "dict[str, np.ndarray]":
        """Ask the emotions of face crops, uint8 [n, 64, 64, 3]."""
        from kerasemo.serving import requests

        return self.send("faces", {"faces": requests.faces(faces)}, CLASSES)

    def face_bytes(self, files: Sequence[bytes]) -> "dict[str, np.ndarray]":
        """Ask the emotions of face crops as they are in JPEG or PNG files."""
        from kerasemo.serving import requests

        return self.send("face_bytes", {"face_bytes": requests.images(files)}, CLASSES)

    def segments(self, segments: Any) -> "dict[str, np.ndarray]":
        """Ask the emotions of log-Mel segments, float32 [n, 64, 64, 3]: dB, delta, delta-delta."""
        from kerasemo.serving import requests

        return self.send("segments", {"segments": requests.segments(segments)}, CLASSES)

    def speech(self, waveforms: Any) -> "dict[str, np.ndarray]":
        """Ask the emotion of each waveform: float [batch, samples] at 16 kHz in [-1, 1], or a list of 1-D arrays of unequal lengths.

        Such a list goes to the signature `speech_masked`, padded, with its lengths, and with every label allowed.
        """
        import numpy as np

        from kerasemo.serving import requests

        if isinstance(waveforms, list | tuple):
            padded, lengths = requests.ragged(waveforms)
            if (lengths != padded.shape[1]).any():
                mask = np.ones((len(padded), self._labels("speech_masked")), np.float32)
                return self.send(
                    "speech_masked", {"waveform": padded, "lengths": lengths, "mask": mask}, CLASSES
                )
            waveforms = padded
        return self.send("speech", {"waveform": requests.waveform(waveforms)}, CLASSES)

    def wav_bytes(self, files: Sequence[bytes]) -> "dict[str, np.ndarray]":
        """Ask the emotion of each WAV file (16 kHz, mono, 16-bit); of a file its sound alone is sent."""
        from kerasemo.serving import requests

        return self.send("wav_bytes", {"wav_bytes": requests.wavs(files)}, CLASSES)

    def faces_masked(self, faces: Any, *, mask: Any) -> "dict[str, np.ndarray]":
        """Ask as `faces` does, among the labels that `mask` float32 [n, k] allows (1) in each row."""
        from kerasemo.serving import requests

        faces = requests.faces(faces)
        mask = requests.mask(mask, rows=len(faces), width=self._labels("faces_masked"))
        return self.send("faces_masked", {"faces": faces, "mask": mask}, CLASSES)

    def speech_masked(self, waveform: Any, *, lengths: Any, mask: Any) -> "dict[str, np.ndarray]":
        """Ask as `speech` does, of the first `lengths` int32 [batch] samples, among the labels that `mask` [batch, k] allows (1)."""
        from kerasemo.serving import requests

        waveform = requests.waveform(waveform)
        lengths = requests.lengths(lengths, waveform)
        mask = requests.mask(mask, rows=len(waveform), width=self._labels("speech_masked"))
        return self.send(
            "speech_masked", {"waveform": waveform, "lengths": lengths, "mask": mask}, CLASSES
        )

    def embed_faces(self, faces: Any) -> "dict[str, np.ndarray]":
        """Ask the embedding of face crops, uint8 [n, 64, 64, 3]: float32 [n, d] of unit length."""
        from kerasemo.serving import requests

        return self.send("embed_faces", {"faces": requests.faces(faces)}, EMBEDDING)

    def embed_segments(self, segments: Any) -> "dict[str, np.ndarray]":
        """Ask the embedding of log-Mel segments, float32 [n, 64, 64, 3]: float32 [n, d] of unit length."""
        from kerasemo.serving import requests

        return self.send("embed_segments", {"segments": requests.segments(segments)}, EMBEDDING)

    def embed_speech(self, waveform: Any) -> "dict[str, np.ndarray]":
        """Ask the embedding of each waveform, float [batch, samples] at 16 kHz in [-1, 1]: float32 [batch, d] of unit length."""
        from kerasemo.serving import requests

        return self.send("embed_speech", {"waveform": requests.waveform(waveform)}, EMBEDDING)

    def timeline(self, waveform: Any) -> "dict[str, np.ndarray]":
        """Ask the emotions of each segment of waveforms of at most 60 s, float [batch, samples] at 16 kHz in [-1, 1].

        Returns:
            `probabilities` float32 [batch, segments, k], `starts` float32 [batch, segments], in seconds, and `weights` of the same shape:
            1 where the segment counts in the clip's answer, which is their mean, 0 in a pause that the model leaves out.
        """
        from kerasemo.serving import requests

        waveform = requests.waveform(waveform, longest_seconds=requests.SPEC.part_seconds)
        return self.send("timeline", {"waveform": waveform}, ("probabilities", "starts", "weights"))

    def send(
        self, signature: str, inputs: "Mapping[str, np.ndarray]", outputs: Sequence[str]
    ) -> "dict[str, np.ndarray]":
        """Ask any signature as it is, without a look at what is sent.

        Args:
            signature: Its name.
            inputs: An array for each of its inputs; of bytes with dtype object.
            outputs: The names of what it answers, each with a row for every row of the inputs.
        """
        import numpy as np

        try:
            answer = self._wire.predict(signature, inputs)
        except ServingError as error:
            self._width = None  # perhaps another version is served by now
            raise self._explained(signature, error) from None
        if set(answer) == {""} and len(outputs) == 1:
            answer = {outputs[0]: answer[""]}
        batch = max((len(array) for array in inputs.values() if np.ndim(array)), default=0)
        try:
            found = {name: _readable(answer[name]) for name in outputs}
            if any(len(array) != batch or array.dtype.kind not in "fU" for array in found.values()):
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            got = {
                name: list(np.shape(np.asarray(value, object))) for name, value in answer.items()
            }
            raise ServingError(
                f"{self.url}: {signature}: the server answered {got}, not {', '.join(outputs)} of {batch} rows; "
                "name a model that python -m kerasemo.export made"
            ) from None
        return found

    def _labels(self, signature: str) -> int:
        """Return how many labels the model has: the width of the probabilities, and of a mask."""
        if self._width is None:
            found = self.metadata()["signatures"]
            if signature not in found:
                raise self._lacking(signature, found)
            try:
                _, (_, width) = found[signature]["outputs"]["probabilities"]
            except (KeyError, TypeError, ValueError):
                width = -1
            if width < 1:
                reason = f"the server said that it answers {found[signature]['outputs']}, and not how many labels there are"
                raise ServingError(
                    f"{self.url}: {signature}: {reason}; name a model that python -m kerasemo.export made"
                )
            self._width = width
        return self._width

    def _explained(self, signature: str, error: ServingError) -> ServingError:
        """Return the error, or where the server did not find the signature, one that names those it has."""
        if "ignature" not in str(error) or "not found" not in str(error):
            return error
        try:
            found = self.metadata()["signatures"]
        except ServingError:
            return error
        return error if signature in found else self._lacking(signature, found)

    def _lacking(self, signature: str, found: Mapping[str, Any]) -> ServingError:
        reason = "the server said that the model has no such signature"
        return ServingError(
            f"{self.url}: {signature}: {reason}; it has {', '.join(found)}: a domain that was not trained has none"
        )


def _readable(value: Any) -> "np.ndarray":
    """Return numbers as float32 and names as str."""
    import numpy as np

    array = np.asarray(value)
    if array.dtype.kind in "OS":
        return np.array([text.decode() for text in array.ravel()], str).reshape(array.shape)
    return array if array.dtype.kind == "U" else array.astype(np.float32)


SUFFIXES = {".wav": "wav_bytes", ".jpg": "face_bytes", ".jpeg": "face_bytes", ".png": "face_bytes"}


def ask(
    client: Any,
    paths: Sequence[Path],
    *,
    tell: Callable[[dict[str, Any]], None] = lambda answer: None,
) -> list[dict[str, Any]]:
    """Ask the emotion of each file: WAV files as they are, JPEG and PNG files as face crops.

    Args:
        client: A `kerasemo.serving.client.Client`.
        paths: The files.
        tell: Called with each answer when it is there.

    Returns:
        In the order of the paths, `{"path", "emotion", "confidence", "probabilities": {label: p}}`, or `{"path", "error": reason}` of a
        file that cannot be read or that the server refuses.

    Raises:
        ServingError: The server is not well, or has no such model.
    """
    from pipelines.core import progress

    answers = []
    with progress.progress_bar("ask", unit="files") as shown:
        shown.start(len(paths))
        for path in paths:
            try:
                answer = {"path": str(path)} | _ask_file(client, path)
            except OSError as error:
                answer = {"path": str(path), "error": error.strerror or str(error)}
            except KerasemoError as error:
                if isinstance(error, ServingError) and not error.refused:
                    raise
                answer = {"path": str(path), "error": str(error)}
            answers.append(answer)
            tell(answer)
            shown.advance(printable(path.name))
    return answers


def _ask_file(client: Any, path: Path) -> dict[str, Any]:
    method = SUFFIXES.get(path.suffix.lower())
    if method is None:
        raise InputError(
            f"expected a file with one of {', '.join(SUFFIXES)}; other media are asked with python -m kerasemo.predict"
        )
    found = getattr(client, method)([path.read_bytes()])
    probabilities = dict(
        zip(found["labels"][0].tolist(), found["probabilities"][0].tolist(), strict=True)
    )
    emotion = str(found["emotion"][0])
    return {
        "emotion": emotion,
        "confidence": probabilities[emotion],
        "probabilities": probabilities,
    }
