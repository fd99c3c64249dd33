"""Checks whether the folders of a command exist, before anything heavy is loaded."""

from pathlib import Path

from pipelines.core.errors import InputError


def check_records_folder(folder: Path) -> None:
    """Raise InputError if a folder of records does not exist."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; expected sets of records, made with "
            f"python -m pipelines.build --out {folder}"
        )


def check_run_folder(folder: Path) -> None:
    """Raise InputError if a run folder does not exist."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such run folder; train one with python -m kerasemo.train --run {folder}"
        )
