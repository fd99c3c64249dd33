"""Send requests to a server in tests, and compare the outputs."""

import base64
import json
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError

import numpy as np

from kerasemo.serving.client import Client

TOLERANCE = 1e-5


def assert_same(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Check the names, dtypes and values of outputs."""
    assert set(actual) == set(expected)
    for name, array in expected.items():
        if array.dtype.kind == "U":
            assert actual[name].tolist() == array.tolist()
        else:
            assert actual[name].dtype == array.dtype == np.float32
            np.testing.assert_allclose(actual[name], array, rtol=0, atol=TOLERANCE)


def call_client_method(
    client: Client, signature: str, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Call the client's method of a signature as a user does, with files as a list of bytes."""
    (first, *optional_names) = inputs
    value = inputs[first].tolist() if inputs[first].dtype == object else inputs[first]
    return getattr(client, signature)(value, **{name: inputs[name] for name in optional_names})


def post(url: str, body: bytes) -> tuple[int, Any]:
    """Return the status and the document of a REST response."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=120) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def as_json(array: np.ndarray) -> list:
    """Return an input as JSON holds it."""
    if array.dtype == object:
        return [{"b64": base64.b64encode(data).decode()} for data in array]
    return array.tolist()
