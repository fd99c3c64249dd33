"""Every look at a test side, written down before it is taken: `looks.jsonl` in a run folder, a line a look."""

import datetime
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import kerasemo
from pipelines.core.errors import InputError

NAME = "looks.jsonl"


def code_version() -> str:
    """Return the package's version, and the beginning of a hash of its code and that of the pipelines."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(
        path for package in ("kerasemo", "pipelines") for path in (root / package).rglob("*.py")
    ):
        digest.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return f"{kerasemo.__version__} ({digest.hexdigest()[:12]})"


def read(run: Path) -> list[dict[str, Any]]:
    """Return the looks of a run folder, the first first; InputError where a line, but for a last one cut off, is damaged."""
    try:
        lines = (run / NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    looks = []
    for number, line in enumerate(lines, 1):
        try:
            one = json.loads(line)
            one["keys"], one["records"]
            looks.append(one | {"look": len(looks) + 1})
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise InputError(
                    f"{run / NAME}: line {number} is damaged ({error}); mend it: it tells how often was looked"
                ) from error
    return looks


def look(
    run: Path,
    *,
    keys: Iterable[str],
    records: dict[str, str],
    said: dict[str, Any],
    words: Sequence[str],
) -> int:
    """Return the number of a look at the test side, from 1, after writing it down.

    A look that was interrupted goes on: networks that an earlier look was to be taken by, of the same records, are no new one.

    Args:
        run: The run folder.
        keys: The digest of every network that will be asked and has not been.
        records: Source -> the hash of its manifest, of every source that they are asked about.
        said: What else there is to know: stages, protocol, folds, seeds.
        words: The command's.

    Raises:
        InputError: The looks of before cannot be read.
    """
    with open(run / f".{NAME}.lock", "w") as lock:  # another command may be at its own look
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _look(run, keys=sorted(keys), records=records, said=said, words=words)


def _look(
    run: Path,
    *,
    keys: list[str],
    records: dict[str, str],
    said: dict[str, Any],
    words: Sequence[str],
) -> int:
    before = read(run)
    for earlier in before:
        if earlier["records"] == records and set(keys) <= set(earlier["keys"]):
            return earlier["look"]
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    entry = {
        "date": now,
        "command": " ".join(words),
        **said,
        "code": code_version(),
        "records": records,
        "keys": keys,
    }
    path = run / NAME
    whole = b"".join(
        json.dumps({key: value for key, value in one.items() if key != "look"}).encode() + b"\n"
        for one in before
    )
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(whole + json.dumps(entry).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return len(before) + 1
