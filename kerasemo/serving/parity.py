"""Compare the outputs of a written bundle with those of the Keras model.

The bundle runs in a separate process, `python -m kerasemo.serving FOLDER CALLS OUTPUTS`. That
process imports neither Keras nor the network, so the outputs come from the bundle alone.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines.core.errors import RunError

TOLERANCE = 1e-5
"""The largest accepted difference of a probability or of a number of an embedding."""

Inputs = Mapping[str, np.ndarray | Sequence[bytes]]
Outputs = Mapping[str, np.ndarray]


class SignatureCall(NamedTuple):
    """A signature and its inputs."""

    signature: str
    inputs: Inputs


def max_output_differences(
    folder: Path, calls: Sequence[SignatureCall], expected: Sequence[Outputs]
) -> dict[str, float]:
    """Run calls with a bundle in a fresh process and compare the outputs with the expected ones.

    Args:
        folder: The folder of a version.
        calls: The calls.
        expected: Some outputs of each call: floats, or bools and text that must be equal.

    Returns:
        The largest absolute difference of each signature. It is infinite for outputs of another
        shape, unequal bools or text, and NaN in other places.

    Raises:
        RunError: An expected output is NaN or infinite for a valid input, or the process fails;
            the message has the last line that the process wrote.
    """
    for call, outputs in zip(calls, expected, strict=True):
        _check_finite(call.signature, outputs)
    with tempfile.TemporaryDirectory() as scratch:
        calls_path, outputs_path = Path(scratch) / "calls.npz", Path(scratch) / "outputs.npz"
        write_calls(calls_path, calls)
        command = [sys.executable, "-m", "kerasemo.serving"]
        command += [str(folder), str(calls_path), str(outputs_path)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            lines = finished.stderr.strip().splitlines() or ["no message"]
            raise RunError(f"{folder}: a fresh process cannot run the bundle: {lines[-1]}")
        with np.load(outputs_path) as arrays:
            return _compare_outputs(arrays, calls, expected)


def _compare_outputs(
    arrays: Mapping[str, np.ndarray], calls: Sequence[SignatureCall], expected: Sequence[Outputs]
) -> dict[str, float]:
    differences: dict[str, float] = {}
    for number, (call, outputs) in enumerate(zip(calls, expected, strict=True)):
        for name, values in outputs.items():
            difference = _max_difference(arrays[output_key(number, name)], values)
            largest = differences.get(call.signature, 0.0)
            differences[call.signature] = max(largest, difference)
    return differences


def output_key(number: int, name: str) -> str:
    """Return the name of a call's output in the file of outputs."""
    return f"{number} {name}"


def _check_finite(signature: str, outputs: Outputs) -> None:
    """Raise RunError for NaN or infinity in an output, except where `valid` is false."""
    valid = outputs.get("valid", np.array(True))
    for name, values in outputs.items():
        if values.dtype.kind == "f" and not np.isfinite(values[valid]).all():
            raise RunError(
                f"{signature}: the Keras model's {name} are NaN or infinite; its weights are "
                "broken, train the stage again"
            )


def _max_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    if actual.shape != expected.shape:
        return float("inf")
    if expected.dtype.kind in "bU":
        return 0.0 if np.array_equal(actual, expected) else float("inf")
    if not np.array_equal(np.isnan(actual), np.isnan(expected)):
        return float("inf")
    return float(np.nanmax(np.abs(actual - expected), initial=0.0))


def write_calls(path: Path, calls: Sequence[SignatureCall]) -> None:
    """Write calls as arrays, which cannot execute code when they are read."""
    arrays: dict[str, np.ndarray] = {}
    for number, (signature, inputs) in enumerate(calls):
        for name, value in inputs.items():
            key = f"{number} {signature} {name}"
            if isinstance(value, np.ndarray):
                arrays[key] = value
                continue
            for row, data in enumerate(value):
                arrays[f"{key} {row}"] = np.frombuffer(data, np.uint8)
    np.savez(path, **arrays)


def read_calls(path: Path) -> list[SignatureCall]:
    """Return the calls that `write_calls` wrote."""
    calls: dict[int, SignatureCall] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, signature, name, *row = key.split(" ")
            call = calls.setdefault(int(number), SignatureCall(signature, {}))
            if row:
                call.inputs.setdefault(name, []).append(arrays[key].tobytes())
            else:
                call.inputs[name] = arrays[key]
    return [calls[number] for number in sorted(calls)]
