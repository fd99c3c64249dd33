"""Checksums of shards, and where a damaged shard stops being readable."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.core.errors import InputError
from pipelines.core.files import file_sha256


def check_shard(path: Path, shard: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise InputError(f"{path}: missing; build the set again")
    size = path.stat().st_size
    if size != shard["bytes"] or file_sha256(path) != shard["sha256"]:
        why = (
            "its checksum is not the manifest's"
            if size == shard["bytes"]
            else f"{size} bytes, expected {shard['bytes']}"
        )
        raise InputError(f"{path}: damaged: {first_damage(path)} ({why}); build the set again")


def first_damage(shard: Path) -> str:
    """Say where a shard stops being one, by the checksums of its records."""
    try:
        count = sum(1 for _ in tf.data.TFRecordDataset([str(shard)]))
    except tf.errors.OpError as error:
        found = re.search(r"(corrupted|truncated) record at (\d+)", error.message)
        return f"{found[1]} record at byte {found[2]}" if found else "it cannot be read"
    return f"its {count} records are whole, but not those that were written"
