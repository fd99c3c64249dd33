"""Whether the folders that a command is given are there: asked before anything heavy is loaded."""

from pathlib import Path

from pipelines.core.errors import InputError


def check_records(folder: Path) -> None:
    """Raise InputError where a folder of records does not exist."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; expected sets of records, made with python -m pipelines.build --out {folder}"
        )


def check_run(folder: Path) -> None:
    """Raise InputError where a run folder does not exist."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such run folder; train one with python -m kerasemo.train --run {folder}"
        )
