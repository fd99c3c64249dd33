"""Send requests to TensorFlow Serving: REST with the standard library, gRPC with its package."""

import dataclasses
import enum
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from kerasemo.serving.graph_messages import clean_graph_message
from kerasemo.serving.signatures import SIGNATURES
from pipelines.core.errors import InputError, RunError
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.core.text import printable

if TYPE_CHECKING:
    import numpy as np

MAX_MESSAGE_CHARACTERS = 600
"""The most characters of a server's text in a message."""
NUMPY_TYPES = {
    "DT_FLOAT": "float32",
    "DT_UINT8": "uint8",
    "DT_INT32": "int32",
    "DT_STRING": "string",
}
GRPC_PORT = 8500
"""The default gRPC port of tensorflow_model_server."""
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Hosts that are reached without a proxy."""
UNLIMITED_BYTES = -1
"""The limit for gRPC messages. The default of 4 MiB is half a minute of sound."""
READ_BYTES = 1 << 20
"""The most bytes of a response that are read at a time."""


class FailureReason(enum.StrEnum):
    """The reason why a server gave no usable response."""

    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    MODEL_NOT_FOUND = "model not found"
    """The server has no such model or version."""
    SIGNATURE_NOT_FOUND = "signature not found"
    REQUEST_REFUSED = "request refused"
    """The server works; it refuses this request."""
    UNEQUAL_LENGTHS = "unequal lengths"
    """The server merged the request with requests of other lengths."""
    SERVER_FAILED = "server failed"
    UNEXPECTED_RESPONSE = "unexpected response"
    """The response is not from TensorFlow Serving, or not from an exported bundle."""


class ServingError(RunError):
    """No usable response from a server.

    The message is one line: the url, the signature, the text of the server, and the remedy.

    Attributes:
        reason: The kind of the failure.
        status: The HTTP status (int) or the gRPC code (str) of the response; None without one.
        server_text: The text of the server, in one line.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: FailureReason,
        status: int | str | None = None,
        server_text: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.server_text = server_text

    @property
    def is_refused(self) -> bool:
        """Whether the server works and refuses only this request."""
        return self.reason in (FailureReason.REQUEST_REFUSED, FailureReason.UNEQUAL_LENGTHS)


@dataclasses.dataclass(frozen=True)
class ServerUrl:
    """The parts of a server's url."""

    scheme: str
    """`http`, `https` or `grpc`."""
    host: str
    port: int | None
    """None if the url names no port."""


@dataclasses.dataclass(frozen=True)
class ModelVersionStatus:
    """The state of a version on a server."""

    version: int
    state: str
    """Such as `AVAILABLE`."""
    error: str


@dataclasses.dataclass(frozen=True)
class ServedTensor:
    """An input or output as a server describes it."""

    dtype: str
    shape: tuple[int, ...] | None
    """-1 for an axis of any size; None for any shape."""


@dataclasses.dataclass(frozen=True)
class ServedSignature:
    """A signature as a server describes it."""

    inputs: Mapping[str, ServedTensor]
    outputs: Mapping[str, ServedTensor]


@dataclasses.dataclass(frozen=True)
class ModelMetadata:
    """A served version and its signatures by name."""

    version: int
    signatures: Mapping[str, ServedSignature]


class Transport(Protocol):
    """The methods of both transports. Each raises ServingError if the request fails."""

    url: str

    def predict(self, signature: str, inputs: "Mapping[str, np.ndarray]") -> dict[str, Any]:
        """Return the outputs of a signature by name: lists or arrays."""

    def status(self) -> list[ModelVersionStatus]:
        """Return the versions that the server knows."""

    def metadata(self) -> ModelMetadata:
        """Return the version that the server uses, and its signatures."""

    def close(self) -> None:
        """Close the connection."""


def parse_url(url: str) -> ServerUrl:
    """Return the parts of a server's url.

    Raises:
        InputError: The url is neither of REST nor of gRPC.

    >>> parse_url("grpc://localhost:8500")
    ServerUrl(scheme='grpc', host='localhost', port=8500)
    """
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        server = ServerUrl(parts.scheme, parts.hostname or "", parts.port)
        is_plain = url.isprintable() and " " not in url and not (parts.query or parts.fragment)
        has_path = bool(parts.path.strip("/"))
    except (AttributeError, TypeError, ValueError):
        server, is_plain, has_path = ServerUrl("", "", None), False, False
    is_server = server.scheme in ("http", "https", "grpc") and server.host
    if not is_server or not is_plain or (server.scheme == "grpc" and has_path):
        raise InputError(
            f"url must be http://HOST:8501 (REST) or grpc://HOST:{GRPC_PORT}; received {url!r}"
        )
    return server


def server_message(text: str) -> str:
    """Return what a server reports as one line of at most `MAX_MESSAGE_CHARACTERS` characters."""
    text = clean_graph_message(text)
    return printable(
        text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + "..."
    )


class RestTransport:
    """The REST interface, `http://HOST:8501`. It needs no TensorFlow."""

    def __init__(
        self, url: str, *, host: str, model: str, version: int | None, timeout_seconds: float
    ) -> None:
        from urllib.parse import quote

        self.url = url
        self._is_local = host in LOOPBACK_HOSTS
        self._timeout_seconds = timeout_seconds
        version_path = f"/versions/{version}" if version is not None else ""
        self._path = f"/v1/models/{quote(model, safe='')}{version_path}"

    def predict(self, signature: str, inputs: "Mapping[str, np.ndarray]") -> dict[str, Any]:
        """Return the outputs of a signature as lists by name; a single output has the name ''."""
        columns = {name: _to_json(array) for name, array in inputs.items()}
        request = {"signature_name": signature, "inputs": columns}
        body = json.dumps(request, separators=(",", ":")).encode()
        document = self._send(signature, f"{self._path}:predict", body)
        if not isinstance(document, dict) or "outputs" not in document:
            self._raise_unexpected(signature, json.dumps(document))
        outputs = document["outputs"]
        return outputs if isinstance(outputs, dict) else {"": outputs}

    def status(self) -> list[ModelVersionStatus]:
        """Return the versions that the server knows."""
        document = self._send("status", self._path)
        try:
            return [
                ModelVersionStatus(
                    int(row["version"]), row["state"], row["status"]["error_message"]
                )
                for row in document["model_version_status"]
            ]
        except (KeyError, TypeError, ValueError):
            self._raise_unexpected("status", json.dumps(document))

    def metadata(self) -> ModelMetadata:
        """Return the version that the server uses, and its signatures."""
        document = self._send("metadata", f"{self._path}/metadata")
        try:
            version = int(document["model_spec"]["version"])
            definitions = document["metadata"]["signature_def"]["signature_def"]
            return ModelMetadata(version, parse_signatures(definitions))
        except (AttributeError, KeyError, TypeError, ValueError):
            self._raise_unexpected("metadata", json.dumps(document))

    def close(self) -> None:
        """Return at once, because no connection stays open between two requests."""

    def _send(self, signature: str, path: str, body: bytes | None = None) -> Any:
        """Return the JSON document of a response."""
        import http.client
        from urllib.error import HTTPError, URLError
        from urllib.request import ProxyHandler, Request, build_opener

        opener = build_opener(*([ProxyHandler({})] if self._is_local else []))
        request = Request(self.url + path, body, {"Content-Type": "application/json"})
        try:
            text, error_status = self._read(opener, request)
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise timeout_error(self.url, signature, self._timeout_seconds) from None
            if isinstance(cause, http.client.HTTPException | UnicodeDecodeError):
                status = error.code if isinstance(error, HTTPError) else None
                self._raise_unexpected(signature, repr(cause), status)
            raise unreachable_error(self.url, signature, str(cause), "rest_api_port") from None
        if error_status is not None:
            self._raise_status(signature, error_status, text)
        try:
            return json.loads(text)
        except ValueError:
            self._raise_unexpected(signature, text)

    def _read(self, opener: Any, request: Any) -> tuple[str, int | None]:
        """Return the body of a response, and its status if the status is an error."""
        import http.client
        import time
        from urllib.error import HTTPError

        deadline = time.monotonic() + self._timeout_seconds
        try:
            response = opener.open(request, timeout=self._timeout_seconds)
        except HTTPError as error:  # a response too, whose body is read like any other
            response = error
        is_error = isinstance(response, HTTPError)
        with response:
            parts = []
            while part := response.read1(READ_BYTES):
                parts.append(part)
                if time.monotonic() > deadline:
                    raise TimeoutError
            if response.length:  # read1 does not report a missing end
                raise http.client.IncompleteRead(b"".join(parts), response.length)
        text = b"".join(parts).decode(errors="replace" if is_error else "strict")
        return text, response.code if is_error else None

    def _raise_status(self, signature: str, status: int, text: str) -> NoReturn:
        try:
            document = json.loads(text.replace("\\'", "'"))  # old servers escape as C does
            text = str(document["error"])
        except (ValueError, KeyError, TypeError):
            self._raise_unexpected(signature, f"{status} {text}", status)
        reasons = {
            400: FailureReason.REQUEST_REFUSED,
            404: FailureReason.MODEL_NOT_FOUND,
        }
        reason = reasons.get(status, FailureReason.SERVER_FAILED)
        raise refused_error(self.url, signature, text, reason=reason, status=status)

    def _raise_unexpected(self, signature: str, text: str, status: int | None = None) -> NoReturn:
        server_text = server_message(text[:MAX_MESSAGE_CHARACTERS])
        raise ServingError(
            f"{self.url}: {signature}: the server responded {server_text!r}, which is not JSON as "
            "TensorFlow Serving sends it; name its REST port (8501 unless --rest_api_port sets "
            "another)",
            reason=FailureReason.UNEXPECTED_RESPONSE,
            status=status,
            server_text=server_text,
        )


def unreachable_error(url: str, signature: str, cause: str, port_option: str) -> ServingError:
    """Return the error of a server that cannot be reached.

    Args:
        url: The server.
        signature: The signature of the request.
        cause: The reason, as the system reports it.
        port_option: The option of tensorflow_model_server that sets the port.
    """
    text = server_message(cause)
    return ServingError(
        f"{url}: {signature}: not reachable ({text}); "
        f"start tensorflow_model_server there with --{port_option}, or correct the url",
        reason=FailureReason.UNREACHABLE,
        server_text=text,
    )


def timeout_error(url: str, signature: str, timeout_seconds: float) -> ServingError:
    """Return the error of a server that takes too long."""
    return ServingError(
        f"{url}: {signature}: no response within {timeout_seconds:g} s; "
        "allow more with timeout_seconds (--timeout), or send less at once",
        reason=FailureReason.TIMEOUT,
    )


def refused_error(
    url: str, signature: str, text: str, *, reason: FailureReason, status: int | str
) -> ServingError:
    """Return the error of a server that responded with an error.

    Args:
        url: The server.
        signature: The signature of the request.
        text: The text of the server.
        reason: The meaning of the status.
        status: The HTTP status or the gRPC code.
    """
    # TensorFlow Serving's BatchingSession has no special status for this failure.
    if reason is FailureReason.REQUEST_REFUSED and "padding is turned off" in text:
        reason = FailureReason.UNEQUAL_LENGTHS
    if reason is FailureReason.MODEL_NOT_FOUND:
        remedy = "name a model and version that is served (model=, version=; --model, --version)"
    elif reason is FailureReason.UNEQUAL_LENGTHS:
        remedy = (
            "it merges requests, and this one met sound of another length; "
            "send it again, or send wav_bytes, which merge at any length"
        )
    elif reason is FailureReason.REQUEST_REFUSED:
        expected = SIGNATURES.get(signature)
        remedy = (
            f"expected {expected.describe_inputs()}" if expected else "metadata() lists the inputs"
        )
    else:
        remedy = "see the server's log, or try again later"
    server_text = server_message(text)
    return ServingError(
        f"{url}: {signature}: the server reports {server_text!r}; {remedy}",
        reason=reason,
        status=status,
        server_text=server_text,
    )


def _to_json(array: Any) -> Any:
    """Return an array as JSON values, with bytes in base64."""
    if array.dtype != object:
        return array.tolist()
    import base64

    return [{"b64": base64.b64encode(data).decode()} for data in array]


def parse_signatures(
    definitions: Mapping[str, Any],
) -> dict[str, ServedSignature]:
    """Return the signatures of a SignatureDefMap.

    Args:
        definitions: The map as JSON. Names that begin with `__` are for loading, and are left out.
    """
    return {
        name: ServedSignature(
            _parse_tensors(definitions[name]["inputs"]),
            _parse_tensors(definitions[name]["outputs"]),
        )
        for name in sorted(definitions)
        if not name.startswith("__")
    }


def _parse_tensors(tensors: Mapping[str, Any]) -> dict[str, ServedTensor]:
    return {name: _parse_tensor(info) for name, info in sorted(tensors.items())}


def _parse_tensor(info: Mapping[str, Any]) -> ServedTensor:
    shape = info.get("tensor_shape", {})
    sizes = None
    if not shape.get("unknown_rank"):
        sizes = tuple(int(axis["size"]) for axis in shape.get("dim", []))
    return ServedTensor(NUMPY_TYPES.get(info["dtype"], info["dtype"]), sizes)


class GrpcTransport:
    """The gRPC interface, `grpc://HOST:8500`. It imports TensorFlow."""

    def __init__(
        self,
        url: str,
        *,
        host: str,
        port: int,
        model: str,
        version: int | None,
        timeout_seconds: float,
    ) -> None:
        load_tensorflow()
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                f"{url}: {error}; pip install tensorflow-serving-api, "
                f"or name the REST url http://{host}:8501"
            ) from error
        self.url = url
        self._model, self._version = model, version
        self._timeout_seconds = timeout_seconds
        options = {
            "grpc.max_send_message_length": UNLIMITED_BYTES,
            "grpc.max_receive_message_length": UNLIMITED_BYTES,
        }
        if host in LOOPBACK_HOSTS:
            options["grpc.enable_http_proxy"] = 0
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"  # brackets: IPv6
        self._channel = grpc.insecure_channel(target, list(options.items()))
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature: str, inputs: "Mapping[str, np.ndarray]") -> dict[str, Any]:
        """Return the outputs of a signature as arrays by name, strings as bytes."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(
            inputs={name: tf.make_tensor_proto(array) for name, array in inputs.items()}
        )
        self._name_model(request.model_spec)
        request.model_spec.signature_name = signature
        response = self._send(signature, self._predictions.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def status(self) -> list[ModelVersionStatus]:
        """Return the versions that the server knows."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        self._name_model(request.model_spec)
        response = self._send("status", self._models.GetModelStatus, request)
        state_names = get_model_status_pb2.ModelVersionStatus.State
        return [
            ModelVersionStatus(row.version, state_names.Name(row.state), row.status.error_message)
            for row in response.model_version_status
        ]

    def metadata(self) -> ModelMetadata:
        """Return the version that the server uses, and its signatures."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name_model(request.model_spec)
        response = self._send("metadata", self._predictions.GetModelMetadata, request)
        message = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(message)
        document = MessageToDict(message, preserving_proto_field_name=True)
        definitions = document.get("signature_def", {})
        return ModelMetadata(response.model_spec.version.value, parse_signatures(definitions))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _name_model(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _send(self, signature: str, method: Callable[..., Any], request: Any) -> Any:
        """Return the response to a request."""
        import grpc

        try:
            return method(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise timeout_error(self.url, signature, self._timeout_seconds)
        if code == grpc.StatusCode.UNAVAILABLE:
            raise unreachable_error(self.url, signature, text, "port")
        reasons = {
            grpc.StatusCode.INVALID_ARGUMENT: FailureReason.REQUEST_REFUSED,
            grpc.StatusCode.OUT_OF_RANGE: FailureReason.REQUEST_REFUSED,
            grpc.StatusCode.NOT_FOUND: FailureReason.MODEL_NOT_FOUND,
        }
        reason = reasons.get(code, FailureReason.SERVER_FAILED)
        raise refused_error(self.url, signature, text or code.name, reason=reason, status=code.name)
