"""The test-set log of a run, `looks.jsonl`, with an entry before each evaluation on test clips."""

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import kerasemo
from pipelines.core import files, locks
from pipelines.core.errors import DataError

FILE_NAME = "looks.jsonl"


def code_version() -> str:
    """Return the version of the package, and the beginning of a hash of all code."""
    root = Path(kerasemo.__file__).resolve().parents[1]
    modules = sorted(
        path for package in ("kerasemo", "pipelines") for path in (root / package).rglob("*.py")
    )
    digest = files.bytes_sha256(
        f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes() for path in modules
    )
    return f"{kerasemo.__version__} ({digest[:12]})"


def read_test_set_log(run: Path) -> list[dict[str, Any]]:
    """Return the entries of a run's test-set log in order, each with its number, `look`, from 1.

    A last line that is cut off does not count: its evaluation never began.

    Raises:
        DataError: Another line is damaged.
    """
    path = run / FILE_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            entry["keys"], entry["records"]
            entries.append(entry | {"look": len(entries) + 1})
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise DataError(
                    f"{path}: line {number} is damaged ({error}); correct the line, which counts "
                    "an evaluation on test clips"
                ) from error
    return entries


def log_test_evaluation(
    run: Path,
    *,
    keys: Iterable[str],
    records: Mapping[str, str],
    facts: Mapping[str, Any],
    command: Sequence[str],
) -> int:
    """Add an evaluation to a run's test-set log and return its number, from 1.

    An interrupted evaluation that is continued is not a new one: if an entry has the same records
    and all these networks, its number is returned.

    Args:
        run: The run folder.
        keys: The digest of the key of every network that will be evaluated now.
        records: Source -> the hash of its manifest, of every source that is used.
        facts: Further entries: stages, protocol, folds, seeds.
        command: The words of the command.

    Raises:
        DataError: The log is damaged.
        StorageError: The log cannot be written.
    """
    with (
        files.storage_errors(run / FILE_NAME),
        locks.locked(run / f".{FILE_NAME}.lock", wait=True),
    ):
        entries, new_keys = read_test_set_log(run), sorted(keys)
        for entry in entries:
            if entry["records"] == records and set(new_keys) <= set(entry["keys"]):
                return entry["look"]
        new_entry = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": " ".join(command),
            **facts,
            "code": code_version(),
            "records": records,
            "keys": new_keys,
        }
        lines = [
            json.dumps({name: value for name, value in entry.items() if name != "look"})
            for entry in entries
        ]
        # Whole and flushed, so that an evaluation never happens without its entry.
        with files.atomic_path(run / FILE_NAME, sync=True) as temporary:
            temporary.write_text(
                "".join(f"{line}\n" for line in [*lines, json.dumps(new_entry)]), encoding="utf-8"
            )
        return len(entries) + 1
