"""The REST interface of TensorFlow Serving: requests and responses in JSON.

Texts, codes and forms are copied from its sources: util/json_tensor.cc,
model_servers/http_rest_api_handler.cc, http_rest_api_util.cc and http_server.cc.
"""

import base64
import binascii
import json
import math
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import numpy as np
from google.protobuf.json_format import MessageToDict
from tensorflow.core.framework import types_pb2

from helpers.serving_models import Models, Refused

PREDICT = re.compile(r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+))?:predict")
STATUS = re.compile(r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+))?(?:/(metadata))?")
CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
}
TYPES = {
    types_pb2.DT_FLOAT: ("float", np.float32),
    types_pb2.DT_INT32: ("int32", np.int32),
    types_pb2.DT_UINT8: ("uint8", np.uint8),
    types_pb2.DT_STRING: ("string", object),
}
KINDS = {"float": {int, float}, "int32": {int}, "uint8": {int}, "string": {str}}


def server(models: Models, port: int) -> ThreadingHTTPServer:
    """Return a server of the models, which runs with `serve_forever`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self._respond("GET", b"")

        def do_POST(self):
            self._respond("POST", self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _respond(self, method: str, body: bytes) -> None:
            try:
                code, document = 200, respond(models, method, self.path, body)
            except Refused as error:
                code, document = CODES.get(error.code, 500), {"error": error.text}
            data = json.dumps(document, indent=1, ensure_ascii=False).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    return Server(("127.0.0.1", port), Handler)


def respond(models: Models, method: str, path: str, body: bytes) -> dict[str, Any]:
    """Return the document of the response to a request."""
    match = {"POST": PREDICT, "GET": STATUS}[method].fullmatch(path)
    if not match:
        raise Refused("INVALID_ARGUMENT", f"Malformed request: {method} {path}")
    name, number = unquote(match[1]), int(match[2]) if match[2] else None
    if method == "POST":
        return _predict(models.find(name, number), body)
    if match[3]:
        return _metadata(models.find(name, number), name)
    status = {"error_code": "OK", "error_message": ""}
    rows = [
        {"version": str(version), "state": "AVAILABLE", "status": status}
        for version in models.known(name, number)
    ]
    return {"model_version_status": rows}


def _metadata(version, name: str) -> dict[str, Any]:
    forms = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    signatures = {
        key: MessageToDict(signature, **forms) for key, signature in version.signatures.items()
    }
    spec = {"name": name, "signature_name": "", "version": str(version.number)}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}


def _predict(version, body: bytes) -> dict[str, Any]:
    document = _parsed(body)
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _value(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    try:
        infos = version.signature(name).inputs
    except Refused:
        raise Refused(
            "INVALID_ARGUMENT",
            f'Serving signature name: "{name or "serving_default"}" not found in signature def',
        ) from None
    if "instances" in document and "inputs" in document:
        raise _value(
            document,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if "instances" in document:
        outputs = version.predict(name, _rows(document["instances"], infos, document))
        return {"predictions": _by_row(outputs)}
    if "inputs" not in document:
        raise Refused("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
    outputs = version.predict(name, _columns(document["inputs"], infos))
    columns = {key: _plain(key, array) for key, array in outputs.items()}
    return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}


def _parsed(body: bytes) -> dict[str, Any]:
    if not body:
        raise Refused("INVALID_ARGUMENT", "JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Refused(
            "INVALID_ARGUMENT",
            f"JSON Parse error: Invalid value. at offset: {getattr(error, 'pos', 0)}",
        ) from error
    if not isinstance(document, dict):
        raise _value(document, "Is not object")
    return document


def _rows(instances: Any, infos, document: dict[str, Any]) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise _value(document, "Excepting 'instances' to be an list/array")
    if not instances:
        raise _value(document, "No values in 'instances' array")
    named = _is_named(instances[0])
    if not isinstance(instances[0], dict) and len(infos) > 1:
        raise Refused(
            "INVALID_ARGUMENT",
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        )
    parts: dict[str, list[np.ndarray]] = {}
    for number, element in enumerate(instances):
        if named != _is_named(element):
            kinds = "object but got list" if named else "value/list but got object"
            raise Refused("INVALID_ARGUMENT", f"Expecting {kinds} at item {number} of input list")
        items = element if named else {next(iter(infos)): element}
        for key, item in items.items():
            try:
                if key not in infos:
                    raise Refused(
                        "INVALID_ARGUMENT", f"JSON object: does not have named input: {key}"
                    )
                array = _tensor(item, infos[key].dtype)
                first = parts.setdefault(key, [array])[0]
                if first.size != array.size:
                    raise Refused(
                        "INVALID_ARGUMENT",
                        f"Expecting tensor size: {first.size} but got: {array.size}",
                    )
                if first.shape != array.shape:
                    raise Refused(
                        "INVALID_ARGUMENT",
                        f"Expecting shape {list(first.shape)} but got: {list(array.shape)}",
                    )
            except Refused as error:
                place = f"element: {number}" + (f" key: {key}" if named else "")
                raise Refused(
                    "INVALID_ARGUMENT",
                    f"Failed to process {place} of 'instances' list. Error: {error.text}",
                ) from error
            if number:
                parts[key].append(array)
        if set(items) != set(infos):
            raise Refused(
                "INVALID_ARGUMENT",
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{json.dumps(element)} keys must be equal to: {','.join(sorted(infos))}",
            )
    return {key: np.stack(arrays) for key, arrays in parts.items()}


def _columns(inputs: Any, infos) -> dict[str, np.ndarray]:
    if not _is_named(inputs):
        if len(infos) > 1:
            raise Refused(
                "INVALID_ARGUMENT",
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map",
            )
        inputs = {next(iter(infos)): inputs}
    for key in sorted(infos):
        if key not in inputs:
            raise Refused("INVALID_ARGUMENT", f"Missing named input: {key} in 'inputs' object.")
    return {key: _tensor(inputs[key], infos[key].dtype) for key in sorted(infos)}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not (set(value) == {"b64"} and isinstance(value["b64"], str))


def _tensor(value: Any, dtype: int) -> np.ndarray:
    """Return nested lists as an array; the first element of each list sets the shape."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    word, kind = TYPES[dtype]
    leaves: list[Any] = []
    _fill(value, 0, shape, word, leaves)
    array = np.empty(len(leaves), object)
    array[:] = leaves
    array = (
        array.astype(np.int64).astype(kind) if kind in (np.int32, np.uint8) else array.astype(kind)
    )  # wraps, as a cast in C
    return array.reshape(shape)


def _fill(value: Any, level: int, shape: list[int], word: str, leaves: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise _value(
                value,
                f"found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}",
            )
        leaves.append(_leaf(value, word))
        return
    if level >= len(shape):
        raise Refused(
            "INVALID_ARGUMENT",
            f"Encountered list at unexpected level: {level} expected < {len(shape)}",
        )
    if len(value) != shape[level]:
        sizes = f"size: {len(value)} at level: {level} expected size: {shape[level]}"
        raise Refused("INVALID_ARGUMENT", f"Encountered list at unexpected {sizes}")
    if (
        level + 1 == len(shape) and word != "string" and {*map(type, value)} <= KINDS[word]
    ):  # a long waveform in a moment
        leaves.extend(value)
        return
    for item in value:
        _fill(item, level + 1, shape, word, leaves)


def _leaf(value: Any, word: str) -> Any:
    if word == "string" and isinstance(value, dict):
        if _is_named(value):
            raise _value(value, "not formatted correctly for base64 data")
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refused("INVALID_ARGUMENT", "Unable to base64 decode") from error
    if type(value) not in KINDS[word]:
        names = {
            dict: "Object",
            str: "String",
            bool: str(value),
            type(None): "Null",
            int: "Number",
            float: "Number",
        }
        raise _value(value, f"Type: {names[type(value)]} is not of expected type: {word}")
    return value.encode() if word == "string" else value


def _value(value: Any, reason: str) -> Refused:
    return Refused("INVALID_ARGUMENT", f"JSON Value: {json.dumps(value)} {reason}")


def _by_row(outputs: dict[str, np.ndarray]) -> list[Any]:
    batches = {name: len(array) for name, array in outputs.items()}
    if len(set(batches.values())) > 1:
        raise Refused("INVALID_ARGUMENT", f"Tensor names have inconsistent batch sizes: {batches}")
    columns = {name: _plain(name, array) for name, array in outputs.items()}
    rows = [dict(zip(columns, row)) for row in zip(*columns.values())]
    return rows if len(columns) > 1 else [next(iter(row.values())) for row in rows]


def _plain(name: str, array: np.ndarray) -> Any:
    """Return an array as nested lists; strings are in base64 if the name ends in `_bytes`."""
    if array.dtype == object:
        encoded = name.endswith("_bytes")
        plain = [
            {"b64": base64.b64encode(text).decode()} if encoded else text.decode()
            for text in array.ravel()
        ]
        return _nested(plain, array.shape)
    if array.dtype.kind == "f":
        return _nested(
            [
                float(str(value)) if math.isfinite(value) else float(value)
                for value in array.ravel()
            ],
            array.shape,
        )
    return array.tolist()


def _nested(leaves: list[Any], shape: tuple[int, ...]) -> Any:
    for size in shape[:0:-1]:
        leaves = [leaves[start : start + size] for start in range(0, len(leaves), size)]
    return leaves
