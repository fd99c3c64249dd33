"""How a TensorFlow Serving is spoken to: REST by the standard library, gRPC by tensorflow-serving-api; what it says when it fails."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from pipelines.cli import printable
from pipelines.spec import InputError, Spec

_SIZE = Spec().face_size
_FACES = f"faces uint8 [n, {_SIZE}, {_SIZE}, 3]"
_SEGMENTS = f"segments float32 [n, {Spec().mel_filters}, {Spec().segment_frames}, 3]"
_WAVEFORM = f"waveform float32 [batch, samples] in [-1, 1] at {Spec().sample_rate_hz} Hz"
_MASK = "mask float32 [n, labels] of 0 and 1"
TAKES = {
    "faces": _FACES,
    "face_bytes": "face_bytes, whole JPEG or PNG files",
    "faces_masked": f"{_FACES}, {_MASK}",
    "embed_faces": _FACES,
    "segments": _SEGMENTS,
    "embed_segments": _SEGMENTS,
    "speech": _WAVEFORM,
    "speech_masked": f"{_WAVEFORM}, lengths int32 [batch], {_MASK}",
    "embed_speech": _WAVEFORM,
    "timeline": f"{_WAVEFORM}, of at most {Spec().part_seconds:g} s",
    "wav_bytes": f"wav_bytes, whole WAV files of {Spec().sample_rate_hz} Hz, mono, 16-bit PCM",
}
"""What each signature is asked with, for those whom a server turned down."""
LONGEST_SAID = 600
"""Characters of what a server says that are passed on."""
TYPES = {"DT_FLOAT": "float32", "DT_UINT8": "uint8", "DT_INT32": "int32", "DT_STRING": "string"}
GRPC_PORT = 8500
"""What tensorflow_model_server listens on where it is not told otherwise."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Hosts that no proxy is asked for."""


class ServingError(InputError):
    """No answer from a server: the message is one line that names the url, the signature, what the server said and the remedy."""

    def __init__(self, message: str, *, refused: bool = False):
        super().__init__(message)
        self.refused = refused
        """Whether the server is well and turned down this request alone."""


def address(url: str) -> tuple[str, str, int | None]:
    """Return the scheme, the host and the port of a server's url.

    >>> address("grpc://localhost:8500")
    ('grpc', 'localhost', 8500)
    """
    from urllib.parse import urlsplit

    try:
        split = urlsplit(url)
        scheme, host, port = split.scheme, split.hostname, split.port
    except (AttributeError, TypeError, ValueError):
        scheme, host, port = "", None, None
    fine = scheme in ("http", "https", "grpc") and host and not (split.query or split.fragment)
    if (
        not fine
        or not url.isprintable()
        or " " in url
        or (scheme == "grpc" and split.path.strip("/"))
    ):
        raise InputError(
            f"url must be http://HOST:8501 (REST) or grpc://HOST:{GRPC_PORT}; received {url!r}"
        )
    return scheme, host, port


def said(text: str) -> str:
    """Return what a graph or server says as one line, without the names of the graph's nodes.

    >>> said("{{function_node f_1}} assertion failed: [expected a JPEG; received] [3] [bytes]\\n\\t [[{{node a/Assert}}]]")
    'expected a JPEG; received 3 bytes'
    """
    text = re.sub(r"\{\{\w+ [^}]*\}\} ?", "", re.split(r"\s*\[\[\{\{|\n\t", text)[0]).strip()
    asserted = re.search(r"assertion failed: \[(.*)\]", text, re.DOTALL)
    text = " ".join((asserted[1].replace("] [", " ") if asserted else text).split())
    return printable(text if len(text) <= LONGEST_SAID else text[:LONGEST_SAID] + "...")


class Rest:
    """The REST interface, `http://HOST:8501`; importing and using it needs no tensorflow."""

    def __init__(
        self, url: str, *, host: str, model: str, version: int | None, timeout_seconds: float
    ):
        from urllib.parse import quote

        self.url, self._local, self._timeout_seconds = url, host in LOOPBACK, timeout_seconds
        self._path = f"/v1/models/{quote(model, safe='')}" + (
            f"/versions/{version}" if version is not None else ""
        )

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs of a signature as lists by name; a single one has the name ''."""
        columns = {name: _plain(array) for name, array in inputs.items()}
        body = json.dumps(
            {"signature_name": signature, "inputs": columns}, separators=(",", ":")
        ).encode()
        answer = self._ask(signature, f"{self._path}:predict", body)
        if not isinstance(answer, dict) or "outputs" not in answer:
            self._strange(signature, json.dumps(answer))
        outputs = answer["outputs"]
        return outputs if isinstance(outputs, dict) else {"": outputs}

    def status(self) -> list[dict[str, Any]]:
        """Return the versions that the server knows: `{"version", "state", "error"}`."""
        answer = self._ask("status", self._path)
        try:
            rows = answer["model_version_status"]
            return [
                {
                    "version": int(r["version"]),
                    "state": r["state"],
                    "error": r["status"]["error_message"],
                }
                for r in rows
            ]
        except (KeyError, TypeError, ValueError):
            self._strange("status", json.dumps(answer))

    def metadata(self) -> dict[str, Any]:
        """Return `{"version", "signatures": {name: {"inputs": {name: [dtype, shape]}, "outputs": ...}}}`; -1: any size, None: any shape."""
        answer = self._ask("metadata", f"{self._path}/metadata")
        try:
            found = answer["metadata"]["signature_def"]["signature_def"]
            return {
                "version": int(answer["model_spec"]["version"]),
                "signatures": signatures_of(found),
            }
        except (AttributeError, KeyError, TypeError, ValueError):
            self._strange("metadata", json.dumps(answer))

    def close(self) -> None:
        """There is nothing open between two requests."""

    def _ask(self, signature: str, path: str, body: bytes | None = None) -> Any:
        import http.client
        import time
        from urllib.error import HTTPError, URLError
        from urllib.request import ProxyHandler, Request, build_opener

        opener = build_opener(*([ProxyHandler({})] if self._local else []))
        ends = time.monotonic() + self._timeout_seconds
        try:
            request = Request(self.url + path, body, {"Content-Type": "application/json"})
            try:
                response = opener.open(request, timeout=self._timeout_seconds)
            except HTTPError as error:  # a response too, with a body that is read as any other
                response = error
            with response:
                parts = []
                while part := response.read1(1 << 20):
                    parts.append(part)
                    if time.monotonic() > ends:
                        raise TimeoutError
                if response.length:  # read1 does not tell that the end is missing
                    raise http.client.IncompleteRead(b"".join(parts), response.length)
            text = b"".join(parts).decode(
                errors="replace" if isinstance(response, HTTPError) else "strict"
            )
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise late(self.url, signature, self._timeout_seconds) from None
            if isinstance(reason, http.client.HTTPException | UnicodeDecodeError):
                self._strange(signature, repr(reason))
            raise unreachable(self.url, signature, str(reason), "rest_api_port") from None
        if isinstance(response, HTTPError):
            self._refused(signature, response.code, text)
        try:
            return json.loads(text)
        except ValueError:
            self._strange(signature, text)

    def _refused(self, signature: str, code: int, text: str) -> NoReturn:
        try:
            text = str(
                json.loads(text.replace("\\'", "'"))["error"]
            )  # old servers escape as C does
        except (ValueError, KeyError, TypeError):
            self._strange(signature, f"{code} {text}")
        raise refusal(self.url, signature, text, refused=code == 400, missing=code == 404)

    def _strange(self, signature: str, text: str) -> NoReturn:
        raise ServingError(
            f"{self.url}: {signature}: the server said {said(text[:LONGEST_SAID])!r}, which is not JSON as TensorFlow Serving answers it; "
            "name its REST port (8501 unless --rest_api_port says another)"
        )


def unreachable(url: str, signature: str, reason: str, option: str) -> ServingError:
    """Return the error of a server that does not answer at all."""
    remedy = f"start tensorflow_model_server there with --{option}, or mend the url"
    return ServingError(f"{url}: {signature}: not reachable ({said(reason)}); {remedy}")


def late(url: str, signature: str, timeout_seconds: float) -> ServingError:
    """Return the error of a server that takes too long."""
    remedy = "allow more with timeout_seconds (--timeout), or send less at once"
    return ServingError(f"{url}: {signature}: no answer within {timeout_seconds:g} s; {remedy}")


def refusal(url: str, signature: str, text: str, *, refused: bool, missing: bool) -> ServingError:
    """Return the error of a server that says what it does not like."""
    if missing:
        remedy = "name a model and version that is served (model=, version=; --model, --version)"
    elif "padding is turned off" in text:  # TensorFlow Serving's BatchingSession
        remedy = "it merges requests, and this one met another length of sound; ask again, or ask wav_bytes, which merge at any length"
    elif refused:
        remedy = (
            f"it takes {TAKES[signature]}"
            if signature in TAKES
            else "metadata() tells what it takes"
        )
    else:
        remedy = "see the server's log, or ask again later"
    return ServingError(
        f"{url}: {signature}: the server said {said(text)!r}; {remedy}", refused=refused
    )


def _plain(array: Any) -> Any:
    """Return an array as JSON holds it; bytes in base64."""
    if array.dtype != object:
        return array.tolist()
    import base64

    return [{"b64": base64.b64encode(data).decode()} for data in array]


def signatures_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{name: {"inputs": {name: [dtype, shape]}, "outputs": ...}}` of a SignatureDefMap as JSON, without what only loading needs."""
    sides = ("inputs", "outputs")
    return {
        name: {
            side: {tensor: _tensor(info) for tensor, info in sorted(found[name][side].items())}
            for side in sides
        }
        for name in sorted(found)
        if not name.startswith("__")
    }


def _tensor(info: Mapping[str, Any]) -> list[Any]:
    shape = info.get("tensor_shape", {})
    sizes = (
        None if shape.get("unknown_rank") else [int(axis["size"]) for axis in shape.get("dim", [])]
    )
    return [TYPES.get(info["dtype"], info["dtype"]), sizes]
