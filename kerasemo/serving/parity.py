"""Asks a written bundle in a process of its own, as whoever gets it will: `python -m kerasemo.serving.parity FOLDER CALLS ANSWERS`.

Neither Keras nor the network is imported there, so what is not in the bundle cannot answer.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import InputError

TOLERANCE = 1e-5
"""The largest difference of a probability, or of an embedding's number, from that of the Keras model."""

Inputs = Mapping[str, np.ndarray | Sequence[bytes]]
Call = tuple[str, Inputs]
"""A signature and its inputs."""
Answers = Mapping[str, np.ndarray]


def differences(
    folder: Path, calls: Sequence[Call], expected: Sequence[Answers]
) -> dict[str, float]:
    """Ask a bundle in a fresh process and return each signature's largest difference from what is expected.

    Args:
        folder: A version's folder.
        calls: What is asked.
        expected: Some of each call's outputs: floats, or truths that must be equal.

    Raises:
        InputError: What is expected holds no number where an input is valid, or the process fails; what it said is in the message.
    """
    for (signature, _), answers in zip(calls, expected, strict=True):
        _check_numbers(signature, answers)
    with tempfile.TemporaryDirectory() as scratch:
        asked, answered = Path(scratch) / "calls.npz", Path(scratch) / "answers.npz"
        write_calls(asked, calls)
        command = [
            sys.executable,
            "-m",
            "kerasemo.serving",
            str(folder),
            str(asked),
            str(answered),
        ]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise InputError(
                f"{folder}: cannot be loaded anew: {(finished.stderr.strip().splitlines() or ['no message'])[-1]}"
            )
        with np.load(answered) as held:
            worst: dict[str, float] = {}
            for number, ((signature, _), answers) in enumerate(zip(calls, expected, strict=True)):
                for name, values in answers.items():
                    difference = _difference(held[f"{number} {name}"], values)
                    worst[signature] = max(worst.get(signature, 0.0), difference)
    return worst


def _check_numbers(signature: str, expected: Answers) -> None:
    """Raise InputError where what is expected is NaN or infinite, but for inputs of which `valid` says that they are none."""
    valid = expected.get("valid", np.array(True))
    for name, values in expected.items():
        if values.dtype.kind == "f" and not np.isfinite(values[valid]).all():
            raise InputError(
                f"{signature}: the Keras model's own {name} are no numbers; its weights are broken, train the stage again"
            )


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    if expected.dtype == bool or expected.dtype.kind == "U":
        return 0.0 if np.array_equal(found, expected) else float("inf")
    if not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    return float(np.nanmax(np.abs(found - expected), initial=0.0))


def write_calls(path: Path, calls: Sequence[Call]) -> None:
    """Write calls as arrays: nothing is executed when they are read."""
    arrays: dict[str, np.ndarray] = {}
    for number, (signature, inputs) in enumerate(calls):
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                arrays[f"{number} {signature} {name}"] = value
            else:
                arrays |= {
                    f"{number} {signature} {name} {place}": np.frombuffer(one, np.uint8)
                    for place, one in enumerate(value)
                }
    np.savez(path, **arrays)


def read_calls(path: Path) -> list[Call]:
    """Return what `write_calls` wrote."""
    calls: dict[int, tuple[str, dict[str, Any]]] = {}
    with np.load(path) as held:
        for key in held.files:
            number, signature, name, *place = key.split(" ")
            inputs = calls.setdefault(int(number), (signature, {}))[1]
            if place:
                inputs.setdefault(name, []).append(held[key].tobytes())
            else:
                inputs[name] = held[key]
    return [calls[number] for number in sorted(calls)]
