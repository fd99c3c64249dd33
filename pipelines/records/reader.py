"""Read sets of records: manifests, specs, and every record as NumPy values."""

import dataclasses
import itertools
import json
import mmap
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError, InputError
from pipelines.core.files import bytes_sha256
from pipelines.core.spec import Spec
from pipelines.features import log_mel as log_mel_module
from pipelines.records.schema import NAMES, SCHEMA, deserialise
from pipelines.records.shards import Buffer, check_shard, iterate_tfrecord

_ROWS = {
    "shards": {"file", "bytes", "sha256"},
    "clips": {*NAMES, "shard", "records", "items", "seconds", "sha256"} - {"corpus", "domain"},
    "quarantined": {"path", "reason", "sha256", "shard"},
}
"""The keys that each row of a manifest has at least."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a set.

    Raises:
        InputError: The folder holds no manifest, so it is not a set.
        DataError: The manifest is damaged, or of another schema version.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder}: no set of records (no manifest.json); "
            "make the set with python -m pipelines.build"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}); build the set again") from error
    if not isinstance(manifest, dict):
        raise DataError(f"{path}: damaged (not a JSON object); build the set again")
    if manifest.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: schema version {manifest.get('schema')}, expected {SCHEMA}; "
            "build the set again with this version"
        )
    missing = {"corpus", "domain", "spec", "shards", "clips", "quarantined"} - manifest.keys()
    if missing:
        raise DataError(f"{path}: damaged (no {', '.join(sorted(missing))}); build the set again")
    for key, names in _ROWS.items():
        if not isinstance(manifest[key], list) or not all(
            isinstance(row, dict) and names <= row.keys() for row in manifest[key]
        ):
            raise DataError(
                f"{path}: damaged (a row of {key} lacks a key that every row has); "
                "build the set again"
            )
    return manifest


def spec_of(manifest: Mapping[str, Any]) -> Spec:
    """Return the spec that a set was built with.

    Raises:
        DataError: The set was built by a version with other fields of the spec.
    """
    fields = {field.name for field in dataclasses.fields(Spec)}
    if differing := sorted(fields ^ manifest["spec"].keys()):
        raise DataError(
            f"records of {manifest['corpus']}/{manifest['domain']}: the spec of another version "
            f"({', '.join(differing)}); build the set again with this version"
        )
    return Spec(**manifest["spec"])


def find_sets(folder: Path) -> list[Path]:
    """Return the sorted sets at or below a folder: the folder itself, or each `NAME/DOMAIN`."""
    if (folder / "manifest.json").is_file():
        return [folder]
    for below in ("*/manifest.json", "*/*/manifest.json"):
        if sets := sorted(
            path.parent for path in folder.glob(below) if path.parent.name in DOMAINS
        ):
            return sets
    return []


def check_shards(folder: Path) -> dict[str, Any]:
    """Check the size and the checksum of every shard of a set, and return the manifest.

    Raises:
        InputError: The folder is not a set.
        DataError: A shard is missing or damaged; the message names the shard and the byte where the
            damage begins.
    """
    manifest = read_manifest(folder)
    for shard in manifest["shards"]:
        check_shard(folder / shard["file"], shard)
    return manifest


def verify(folder: Path) -> dict[str, int]:
    """Verify a whole set: schema, spec, checksums, and the number and names of the records.

    Returns:
        The numbers of `shards`, `clips` and `records`.

    Raises:
        InputError: The folder is not a set.
        DataError: The first damage; the message names the shard and the byte where the damage
            begins.
    """
    manifest = read_manifest(folder)
    record_count = 0
    for number, shard in enumerate(manifest["shards"]):
        rows = [
            row | {key: manifest[key] for key in ("corpus", "domain")}
            for row in manifest["clips"]
            if row["shard"] == number
        ]
        expected = [[row[name] for name in NAMES] for row in rows for _ in range(row["records"])]
        offsets, names = [], []
        for offset, record in _records(folder, manifest, shard):
            offsets.append(offset)
            names.append([record[name].decode() for name in NAMES])
        if names != expected:
            pairs = enumerate(itertools.zip_longest(names, expected))
            first = next(place for place, (name, wanted) in pairs if name != wanted)
            raise DataError(
                f"{folder / shard['file']}: record {first} at byte "
                f"{[*offsets, shard['bytes']][first]} is not the manifest's "
                f"({len(names)} records, expected {len(expected)}); build the set again"
            )
        record_count += len(names)
    return {
        "shards": len(manifest["shards"]),
        "clips": len(manifest["clips"]),
        "records": record_count,
    }


def read_features(folder: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the features of every record in order, as `schema.deserialise` returns them.

    Each shard is read from the disk once, and checked against the manifest before its first record
    is yielded.

    Raises:
        DataError: A shard is missing or damaged, or a record is not one of the schema.
    """
    for shard in manifest["shards"]:
        for _, record in _records(folder, manifest, shard):
            yield record


def read_inputs(folder: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what `read_features` yields, with the network's `inputs` made of the stored feature.

    `inputs` is uint8 [n, 64, 64, 3], the faces themselves; or float32 [n, 64, 64, 3], the segments
    of the log-Mel with deltas.

    Raises:
        DataError: As `read_features` does.
    """
    if manifest["domain"] == "visual":
        for record in read_features(folder, manifest):
            yield record | {"inputs": record["faces"]}
        return
    spec = spec_of(manifest)
    segments = tf.function(
        lambda static: log_mel_module.segments(static, spec=spec),
        input_signature=[tf.TensorSpec([None, spec.mel_filters])],
    )
    for record in read_features(folder, manifest):
        yield record | {"inputs": segments(record["log_mel"]).numpy()}


def read_first_records(
    folder: Path, manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """Yield the row and the features of the first record of some clips only.

    Only the size of a shard is checked, not its checksum.

    Args:
        folder: The set.
        manifest: The set's manifest.
        rows: The manifest's rows of the clips. The pairs come in the manifest's order.

    Raises:
        DataError: A shard is missing or has another size, or a record is not one of the schema.
    """
    ids = {row["id"] for row in rows}
    record_counts = [0] * len(manifest["shards"])
    row_of: list[dict[int, Mapping[str, Any]]] = [{} for _ in manifest["shards"]]
    for row in manifest["clips"]:
        if row["id"] in ids:
            row_of[row["shard"]][record_counts[row["shard"]]] = row
        record_counts[row["shard"]] += row["records"]
    for shard, rows_by_number in zip(manifest["shards"], row_of, strict=True):
        if not rows_by_number:
            continue
        path = folder / shard["file"]
        if not path.is_file() or path.stat().st_size != shard["bytes"]:
            check_shard(path, shard)
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            for number, _, record in _deserialised(path, mapped, manifest, rows_by_number):
                yield rows_by_number[number], record


def _records(
    folder: Path, manifest: Mapping[str, Any], shard: Mapping[str, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the byte where each record of a shard begins, and its features.

    First check the checksum.
    """
    path = folder / shard["file"]
    body = memoryview(path.read_bytes()) if path.is_file() else memoryview(b"")
    if len(body) != shard["bytes"] or bytes_sha256([body]) != shard["sha256"]:
        check_shard(path, shard)
    for _, offset, record in _deserialised(path, body, manifest):
        yield offset, record


def _deserialised(
    path: Path,
    buffer: Buffer,
    manifest: Mapping[str, Any],
    numbers: Collection[int] | None = None,
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Yield the number, the first byte and the features of the records of a shard.

    Args:
        path: The shard, for messages.
        buffer: The bytes of the shard.
        manifest: The set's manifest.
        numbers: The numbers of the records to yield; None: every record.
    """
    spec, offset = spec_of(manifest), 0
    frames = iterate_tfrecord(buffer)
    if numbers is not None:
        frames = itertools.islice(frames, max(numbers) + 1)
    try:
        for number, frame in enumerate(frames):
            offset = frame.offset
            if numbers is None or number in numbers:
                data = buffer[frame.data]
                yield number, offset, deserialise(data, domain=manifest["domain"], spec=spec)
            offset = frame.end
    except DataError as error:
        raise DataError(
            f"{path}: no record of this schema at byte {offset}; build the set again"
        ) from error
