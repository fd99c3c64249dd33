"""Requests to a TensorFlow Serving by REST (standard library) or gRPC (tensorflow-serving-api)."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from kerasemo.serving.signatures import SIGNATURES
from pipelines.core.errors import InputError
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.core.text import printable

MAX_MESSAGE_CHARACTERS = 600
"""The longest part of a server's message in an error."""
NUMPY_TYPES = {
    "DT_FLOAT": "float32",
    "DT_UINT8": "uint8",
    "DT_INT32": "int32",
    "DT_STRING": "string",
}
GRPC_PORT = 8500
"""The default port of tensorflow_model_server."""
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Hosts that are reached without a proxy."""


class ServingError(InputError):
    """A server gives no outputs.

    The message is one line with the url, the signature, the message of the server and the remedy.

    Attributes:
        is_refused: The server works, and refuses only this request.
        is_unknown_signature: The server does not know the signature.
    """

    def __init__(
        self, message: str, *, is_refused: bool = False, is_unknown_signature: bool = False
    ) -> None:
        super().__init__(message)
        self.is_refused = is_refused
        self.is_unknown_signature = is_unknown_signature


def parse_url(url: str) -> tuple[str, str, int | None]:
    """Return the scheme, the host and the port of a server's url.

    >>> parse_url("grpc://localhost:8500")
    ('grpc', 'localhost', 8500)

    Raises:
        InputError: The url is not that of a server.
    """
    from urllib.parse import urlsplit

    try:
        split = urlsplit(url)
        scheme, host, port = split.scheme, split.hostname, split.port
    except (AttributeError, TypeError, ValueError):
        scheme, host, port = "", None, None
    is_server = scheme in ("http", "https", "grpc") and host and not (split.query or split.fragment)
    if (
        not is_server
        or not url.isprintable()
        or " " in url
        or (scheme == "grpc" and split.path.strip("/"))
        or host is None
    ):
        raise InputError(
            f"url must be http://HOST:8501 (REST) or grpc://HOST:{GRPC_PORT}; received {url!r}"
        )
    return scheme, host, port


def server_message(text: str) -> str:
    """Return the message of a graph or a server in one line, without the names of graph nodes.

    >>> text = "{{function_node f_1}} assertion failed: [expected a JPEG; received] [3] [bytes]"
    >>> server_message(text)
    'expected a JPEG; received 3 bytes'
    """
    text = re.sub(r"\{\{\w+ [^}]*\}\} ?", "", re.split(r"\s*\[\[\{\{|\n\t", text)[0]).strip()
    asserted = re.search(r"assertion failed: \[(.*)\]", text, re.DOTALL)
    text = " ".join((asserted[1].replace("] [", " ") if asserted else text).split())
    if len(text) > MAX_MESSAGE_CHARACTERS:
        text = text[:MAX_MESSAGE_CHARACTERS] + "..."
    return printable(text)


class RestTransport:
    """Requests by REST to `http://HOST:8501`, without TensorFlow."""

    def __init__(
        self, url: str, *, host: str, model: str, version: int | None, timeout_seconds: float
    ) -> None:
        from urllib.parse import quote

        self.url, self._timeout_seconds = url, timeout_seconds
        self._is_local = host in LOOPBACK_HOSTS
        self._path = f"/v1/models/{quote(model, safe='')}" + (
            f"/versions/{version}" if version is not None else ""
        )

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs of a signature as lists by name; a single output has the name ''."""
        columns = {name: _to_json(array) for name, array in inputs.items()}
        body = json.dumps(
            {"signature_name": signature, "inputs": columns}, separators=(",", ":")
        ).encode()
        response = self._request(signature, f"{self._path}:predict", body)
        if not isinstance(response, dict) or "outputs" not in response:
            self._raise_unexpected(signature, json.dumps(response))
        outputs = response["outputs"]
        return outputs if isinstance(outputs, dict) else {"": outputs}

    def status(self) -> list[dict[str, Any]]:
        """Return the versions on the server: `{"version", "state", "error"}` each."""
        response = self._request("status", self._path)
        try:
            return [
                {
                    "version": int(row["version"]),
                    "state": row["state"],
                    "error": row["status"]["error_message"],
                }
                for row in response["model_version_status"]
            ]
        except (KeyError, TypeError, ValueError):
            self._raise_unexpected("status", json.dumps(response))

    def metadata(self) -> dict[str, Any]:
        """Return the version and the signatures of the model; see `Client.metadata`."""
        response = self._request("metadata", f"{self._path}/metadata")
        try:
            definitions = response["metadata"]["signature_def"]["signature_def"]
            return {
                "version": int(response["model_spec"]["version"]),
                "signatures": parse_signatures(definitions),
            }
        except (AttributeError, KeyError, TypeError, ValueError):
            self._raise_unexpected("metadata", json.dumps(response))

    def close(self) -> None:
        """Do nothing: no connection is open between two requests."""

    def _request(self, signature: str, path: str, body: bytes | None = None) -> Any:
        import http.client
        import time
        from urllib.error import HTTPError, URLError
        from urllib.request import ProxyHandler, Request, build_opener

        opener = build_opener(*([ProxyHandler({})] if self._is_local else []))
        deadline = time.monotonic() + self._timeout_seconds
        try:
            request = Request(self.url + path, body, {"Content-Type": "application/json"})
            try:
                response = opener.open(request, timeout=self._timeout_seconds)
            except HTTPError as error:  # the error is a response with a body
                response = error
            with response:
                parts = []
                while part := response.read1(1 << 20):
                    parts.append(part)
                    if time.monotonic() > deadline:
                        raise TimeoutError
                if response.length:  # `read1` does not report a missing end
                    raise http.client.IncompleteRead(b"".join(parts), response.length)
            text = b"".join(parts).decode(
                errors="replace" if isinstance(response, HTTPError) else "strict"
            )
        except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
            reason = error.reason if isinstance(error, URLError) else error
            if isinstance(reason, TimeoutError):
                raise timeout_error(self.url, signature, self._timeout_seconds) from None
            if isinstance(reason, http.client.HTTPException | UnicodeDecodeError):
                self._raise_unexpected(signature, repr(reason))
            raise unreachable_error(self.url, signature, str(reason), "rest_api_port") from None
        if isinstance(response, HTTPError):
            self._raise_refused(signature, response.code, text)
        try:
            return json.loads(text)
        except ValueError:
            self._raise_unexpected(signature, text)

    def _raise_refused(self, signature: str, code: int, text: str) -> NoReturn:
        try:
            # Old servers escape an apostrophe as C does.
            text = str(json.loads(text.replace("\\'", "'"))["error"])
        except (ValueError, KeyError, TypeError):
            self._raise_unexpected(signature, f"{code} {text}")
        raise refused_error(
            self.url, signature, text, is_refused=code == 400, is_missing=code == 404
        )

    def _raise_unexpected(self, signature: str, text: str) -> NoReturn:
        message = server_message(text[:MAX_MESSAGE_CHARACTERS])
        raise ServingError(
            f"{self.url}: {signature}: the server said {message!r}, which is not JSON as "
            "TensorFlow Serving answers it; "
            "name its REST port (8501 unless --rest_api_port says another)"
        )


def unreachable_error(url: str, signature: str, reason: str, option: str) -> ServingError:
    """Return the error of a server that does not respond."""
    return ServingError(
        f"{url}: {signature}: not reachable ({server_message(reason)}); "
        f"start tensorflow_model_server there with --{option}, or correct the url"
    )


def timeout_error(url: str, signature: str, timeout_seconds: float) -> ServingError:
    """Return the error of a server that takes too long."""
    return ServingError(
        f"{url}: {signature}: no answer within {timeout_seconds:g} s; "
        "allow more with timeout_seconds (--timeout), or send less at once"
    )


def refused_error(
    url: str, signature: str, text: str, *, is_refused: bool, is_missing: bool
) -> ServingError:
    """Return the error of a server that refuses a request with a message."""
    if is_missing:
        remedy = "name a model and version that is served (model=, version=; --model, --version)"
    elif "padding is turned off" in text:  # the BatchingSession of TensorFlow Serving
        remedy = (
            "it merges requests, and this one met another length of sound; send it again, "
            "or use wav_bytes, which merges sound of any length"
        )
    elif is_refused:
        remedy = (
            f"it takes {SIGNATURES[signature].input_text}"
            if signature in SIGNATURES
            else "metadata() tells what it takes"
        )
    else:
        remedy = "see the server's log, or try again later"
    return ServingError(
        f"{url}: {signature}: the server said {server_message(text)!r}; {remedy}",
        is_refused=is_refused,
        is_unknown_signature="ignature" in text and "not found" in text,
    )


def _to_json(array: Any) -> Any:
    """Return an array as lists for JSON, with bytes in base64."""
    if array.dtype != object:
        return array.tolist()
    import base64

    return [{"b64": base64.b64encode(data).decode()} for data in array]


def parse_signatures(definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the signatures of a SignatureDefMap in JSON, without those that only loading uses.

    The result is `{name: {"inputs": {name: [dtype, shape]}, "outputs": ...}}`.
    """
    return {
        name: {
            side: {
                tensor: _dtype_and_shape(info)
                for tensor, info in sorted(definitions[name][side].items())
            }
            for side in ("inputs", "outputs")
        }
        for name in sorted(definitions)
        if not name.startswith("__")
    }


def _dtype_and_shape(info: Mapping[str, Any]) -> list[Any]:
    shape = info.get("tensor_shape", {})
    sizes = (
        None if shape.get("unknown_rank") else [int(axis["size"]) for axis in shape.get("dim", [])]
    )
    return [NUMPY_TYPES.get(info["dtype"], info["dtype"]), sizes]


UNLIMITED_BYTES = -1
"""Messages of any size. The default limit of gRPC is 4 MiB, which is half a minute of sound."""


class GrpcTransport:
    """Requests by gRPC to `grpc://HOST:8500`, with the methods of `RestTransport`."""

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
        self.url, self._timeout_seconds = url, timeout_seconds
        self._model, self._version = model, version
        options = {
            "grpc.max_send_message_length": UNLIMITED_BYTES,
            "grpc.max_receive_message_length": UNLIMITED_BYTES,
        }
        if host in LOOPBACK_HOSTS:
            options["grpc.enable_http_proxy"] = 0
        self._channel = grpc.insecure_channel(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}", list(options.items())
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs of a signature as arrays by name, texts as bytes."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(
            inputs={name: tf.make_tensor_proto(array) for name, array in inputs.items()}
        )
        self._set_model(request.model_spec)
        request.model_spec.signature_name = signature
        response = self._request(signature, self._predictions.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def status(self) -> list[dict[str, Any]]:
        """Return the versions on the server: `{"version", "state", "error"}` each."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        self._set_model(request.model_spec)
        response = self._request("status", self._models.GetModelStatus, request)
        state = get_model_status_pb2.ModelVersionStatus.State
        return [
            {
                "version": row.version,
                "state": state.Name(row.state),
                "error": row.status.error_message,
            }
            for row in response.model_version_status
        ]

    def metadata(self) -> dict[str, Any]:
        """Return the version and the signatures of the model; see `Client.metadata`."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._set_model(request.model_spec)
        response = self._request("metadata", self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        definitions = MessageToDict(signatures, preserving_proto_field_name=True)
        return {
            "version": response.model_spec.version.value,
            "signatures": parse_signatures(definitions.get("signature_def", {})),
        }

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _set_model(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _request(self, signature: str, method: Callable[..., Any], request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise timeout_error(self.url, signature, self._timeout_seconds)
        if code == grpc.StatusCode.UNAVAILABLE:
            raise unreachable_error(self.url, signature, text, "port")
        raise refused_error(
            self.url,
            signature,
            text or code.name,
            is_refused=code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE),
            is_missing=code == grpc.StatusCode.NOT_FOUND,
        )
