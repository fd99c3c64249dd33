"""How a TensorFlow Serving is spoken to: REST by the standard library, gRPC by tensorflow-serving-api; what it says when it fails."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from kerasemo.serving.signatures import SIGNATURES
from pipelines.core.errors import InputError
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.core.text import printable

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
            f"it takes {SIGNATURES[signature].input_text}"
            if signature in SIGNATURES
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


UNLIMITED = -1
"""Messages of any size: gRPC's own limit is 4 MiB, half a minute of sound."""


class Grpc:
    """What `transport.Rest` is, over gRPC."""

    def __init__(
        self,
        url: str,
        *,
        host: str,
        port: int,
        model: str,
        version: int | None,
        timeout_seconds: float,
    ):
        load_tensorflow()
        try:
            import grpc
            from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                f"{url}: {error}; pip install tensorflow-serving-api, or name the REST url http://{host}:8501"
            ) from error
        self.url, self._model, self._version, self._timeout_seconds = (
            url,
            model,
            version,
            timeout_seconds,
        )
        options = {
            "grpc.max_send_message_length": UNLIMITED,
            "grpc.max_receive_message_length": UNLIMITED,
        }
        if host in LOOPBACK:
            options["grpc.enable_http_proxy"] = 0
        self._channel = grpc.insecure_channel(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}", list(options.items())
        )
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the outputs of a signature as arrays by name, strings as bytes."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(
            inputs={name: tf.make_tensor_proto(array) for name, array in inputs.items()}
        )
        self._name_model(request.model_spec)
        request.model_spec.signature_name = signature
        answer = self._ask(signature, self._predictions.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in answer.outputs.items()}

    def status(self) -> list[dict[str, Any]]:
        """Return the versions that the server knows: `{"version", "state", "error"}`."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        self._name_model(request.model_spec)
        rows = self._ask("status", self._models.GetModelStatus, request).model_version_status
        state = get_model_status_pb2.ModelVersionStatus.State
        return [
            {
                "version": row.version,
                "state": state.Name(row.state),
                "error": row.status.error_message,
            }
            for row in rows
        ]

    def metadata(self) -> dict[str, Any]:
        """Return `{"version", "signatures": {name: {"inputs": {name: [dtype, shape]}, "outputs": ...}}}`; -1: any size, None: any shape."""
        from google.protobuf.json_format import MessageToDict
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._name_model(request.model_spec)
        answer = self._ask("metadata", self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(signatures)
        found = MessageToDict(signatures, preserving_proto_field_name=True).get("signature_def", {})
        return {"version": answer.model_spec.version.value, "signatures": signatures_of(found)}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _name_model(self, spec: Any) -> None:
        spec.name = self._model
        if self._version is not None:
            spec.version.value = self._version

    def _ask(self, signature: str, method: Callable, request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self._timeout_seconds)
        except grpc.RpcError as error:
            code, text = error.code(), error.details() or ""
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise late(self.url, signature, self._timeout_seconds)
        if code == grpc.StatusCode.UNAVAILABLE:
            raise unreachable(self.url, signature, text, "port")
        refused = code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE)
        raise refusal(
            self.url,
            signature,
            text or code.name,
            refused=refused,
            missing=code == grpc.StatusCode.NOT_FOUND,
        )
