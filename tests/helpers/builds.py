"""Small corpora for `pipelines.build`, and what its tests look at."""

import json
from pathlib import Path

from helpers import media
from pipelines import build

EMODB_NAMES = [
    f"{speaker}{text}{letter}{take}.wav"
    for speaker in ("03", "08")
    for text in ("a01", "b02")
    for letter in "WLEAFTN"
    for take in "abc"
]


def emodb(folder: Path, count: int, *, seconds: float = 0.3) -> Path:
    """Write a corpus of `count` clips in EMO-DB's layout, each with a sound of its own, and return its folder."""
    for seed, name in enumerate(EMODB_NAMES[:count]):
        media.write_sound(
            folder / "wav" / name, media.noise(seconds + 0.01 * (seed % 7), 16_000, seed=seed)
        )
    return folder


def build_json(capsys, *words) -> tuple[int, dict | None, str]:
    """Run the command in this process, with one worker unless it is told; return its exit status, its JSON document and its stderr."""
    more = () if {"--workers", "--verify"} & {*map(str, words)} else ("--workers", "1")
    capsys.readouterr()
    try:
        status = build.main([*map(str, words), *more, "--json"])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else None, err


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, by its path in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
