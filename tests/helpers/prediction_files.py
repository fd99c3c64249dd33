"""Prediction tables in files as a user has them, and what `kerasemo.compare` returns for them."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo import compare
from kerasemo.analysis.prediction_tables import REQUIRED_COLUMNS

FOUR_EMOTIONS = ("anger", "fear", "happiness", "sadness")


def random_rows(
    accuracy: float, *, seed: int, speakers: int = 6, clips_of_speaker: int = 20
) -> list[tuple[str, str, str, str]]:
    """Return rows of REQUIRED_COLUMNS; every speaker has as many clips of each emotion.

    Args:
        accuracy: The probability that a prediction is the label; otherwise the prediction is random.
        seed: The seed of the predictions.
        speakers: The number of speakers.
        clips_of_speaker: The number of clips of each speaker.
    """
    random = np.random.default_rng(seed)
    clips = [
        (f"clip{i}", f"mine:{i // clips_of_speaker}", FOUR_EMOTIONS[i % 4])
        for i in range(speakers * clips_of_speaker)
    ]
    return [
        (*clip, clip[2] if random.random() < accuracy else FOUR_EMOTIONS[random.integers(4)])
        for clip in clips
    ]


def write_rows(
    path: Path, rows: Iterable[Sequence[str]], columns: Sequence[str] = REQUIRED_COLUMNS
) -> Path:
    """Write rows as a CSV file, and return its path."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def compared_json(capsys, *arguments: object) -> dict[str, Any]:
    """Run `kerasemo.compare --json`, which must succeed, and return its document."""
    assert compare.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *paths: Path) -> str:
    """Return why files cannot be compared; the document and the error must have the same reason."""
    assert compare.main([*map(str, paths), "--json"]) == 1
    output = capsys.readouterr()
    (comparison,) = json.loads(output.out)["comparisons"]
    assert comparison["refused"] in output.err
    return comparison["refused"]
