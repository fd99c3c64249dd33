"""How tests ask a server, and compare what it answers."""

import base64
import json
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError

import numpy as np

from kerasemo.serving.client import Client

TOLERANCE = 1e-5


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Check the names, types and values of two answers."""
    assert set(found) == set(expected)
    for name, array in expected.items():
        if array.dtype.kind == "U":
            assert found[name].tolist() == array.tolist()
        else:
            assert found[name].dtype == array.dtype == np.float32
            np.testing.assert_allclose(found[name], array, rtol=0, atol=TOLERANCE)


def ask_as_a_user(
    client: Client, signature: str, inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Ask by the method that is named as the signature."""
    (first, *rest) = inputs
    words = {name: inputs[name] for name in rest}
    return getattr(client, signature)(
        inputs[first].tolist() if inputs[first].dtype == object else inputs[first], **words
    )


def post(url: str, body: bytes) -> tuple[int, Any]:
    """Return the status and the document of a REST answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=120) as response:
            return response.status, json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def as_json(array: np.ndarray) -> list:
    """Return an input as JSON holds it."""
    return (
        [{"b64": base64.b64encode(data).decode()} for data in array]
        if array.dtype == object
        else array.tolist()
    )
