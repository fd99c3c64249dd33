"""Files of answers as a user has them, and what `kerasemo.compare` says of them."""

import csv
import json

import numpy as np

from kerasemo import compare

FOUR = ("anger", "fear", "happiness", "sadness")
NEEDED = ("id", "speaker", "emotion", "answer")


def clips(
    right: float, *, seed: int, speakers: int = 6, each: int = 20
) -> list[tuple[str, str, str, str]]:
    """Return rows of NEEDED: of every speaker as many of each emotion, a share of them answered rightly."""
    draws = np.random.default_rng(seed)
    names = [(f"clip{i}", f"mine:{i // each}", FOUR[i % 4]) for i in range(speakers * each)]
    return [
        (*name, name[2] if draws.random() < right else FOUR[draws.integers(4)]) for name in names
    ]


def write(path, rows, columns=NEEDED):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def as_json(capsys, *words) -> dict:
    assert compare.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *paths) -> str:
    """Return why nothing of some files can be compared, as the document and the error say it alike."""
    assert compare.main([*map(str, paths), "--json"]) == 1
    out, err = capsys.readouterr()
    (one,) = json.loads(out)["comparisons"]
    assert f"nothing could be compared: {one['refused']}" in err
    return one["refused"]
