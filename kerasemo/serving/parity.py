"""Compare the outputs of a written bundle with the outputs of the Keras model.

The bundle runs in its own process, `python -m kerasemo.serving FOLDER CALLS OUTPUTS`. The process
imports neither Keras nor the network, so all outputs come from the bundle.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import RunError

TOLERANCE = 1e-5
"""The largest allowed difference from a probability or an embedding of the Keras model."""

Inputs = Mapping[str, np.ndarray | Sequence[bytes]]
Call = tuple[str, Inputs]
"""A signature and its inputs."""
Outputs = Mapping[str, np.ndarray]


def parity_differences(
    folder: Path, calls: Sequence[Call], expected: Sequence[Outputs]
) -> dict[str, float]:
    """Run a bundle in a new process and return the largest difference of each signature.

    Args:
        folder: The folder of one version.
        calls: The signatures and their inputs.
        expected: Outputs of the Keras model for each call: floats, or booleans and texts that must
            be equal.

    Raises:
        RunError: An expected output of a valid input is NaN or infinite, or the process fails. The
            message has the last line of the process.
    """
    for (signature, _), outputs in zip(calls, expected, strict=True):
        _check_numbers(signature, outputs)
    with tempfile.TemporaryDirectory() as scratch:
        calls_path, outputs_path = Path(scratch) / "calls.npz", Path(scratch) / "outputs.npz"
        write_calls(calls_path, calls)
        paths = [str(path) for path in (folder, calls_path, outputs_path)]
        command = [sys.executable, "-m", "kerasemo.serving", *paths]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            last_line = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            raise RunError(f"{folder}: cannot be loaded again: {last_line}")
        largest: dict[str, float] = {}
        with np.load(outputs_path) as arrays:
            for number, ((signature, _), outputs) in enumerate(zip(calls, expected, strict=True)):
                for name, values in outputs.items():
                    difference = _difference(arrays[f"{number} {name}"], values)
                    largest[signature] = max(largest.get(signature, 0.0), difference)
    return largest


def _check_numbers(signature: str, expected: Outputs) -> None:
    """Raise RunError if an expected output is NaN or infinite and `valid` is true for its input."""
    valid = expected.get("valid", np.array(True))
    for name, values in expected.items():
        if values.dtype.kind == "f" and not np.isfinite(values[valid]).all():
            raise RunError(
                f"{signature}: the {name} of the Keras model are NaN or infinite; "
                "its weights are damaged: train the stage again"
            )


def _difference(output: np.ndarray, expected: np.ndarray) -> float:
    if output.shape != expected.shape:
        return float("inf")
    if expected.dtype == bool or expected.dtype.kind == "U":
        return 0.0 if np.array_equal(output, expected) else float("inf")
    if not np.array_equal(np.isnan(output), np.isnan(expected)):
        return float("inf")
    return float(np.nanmax(np.abs(output - expected), initial=0.0))


def write_calls(path: Path, calls: Sequence[Call]) -> None:
    """Write calls as arrays, so that reading the file executes no code."""
    arrays: dict[str, np.ndarray] = {}
    for number, (signature, inputs) in enumerate(calls):
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                arrays[f"{number} {signature} {name}"] = value
            else:
                arrays |= {
                    f"{number} {signature} {name} {place}": np.frombuffer(content, np.uint8)
                    for place, content in enumerate(value)
                }
    np.savez(path, **arrays)  # type: ignore[arg-type]  # names that are no options


def read_calls(path: Path) -> list[Call]:
    """Read the calls of `write_calls`."""
    calls: dict[int, tuple[str, dict[str, Any]]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, signature, name, *place = key.split(" ")
            inputs = calls.setdefault(int(number), (signature, {}))[1]
            if place:
                inputs.setdefault(name, []).append(arrays[key].tobytes())
            else:
                inputs[name] = arrays[key]
    return [calls[number] for number in sorted(calls)]
