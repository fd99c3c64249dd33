"""Sets of records as they are read: manifests, specs, and every record as NumPy values."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.spec import Spec
from pipelines.features import log_mel as log_mel_module
from pipelines.records.schema import NAMES, SCHEMA
from pipelines.records.shards import check_shard

_ROWS = {
    "shards": {"file", "bytes", "sha256"},
    "clips": {*NAMES, "shard", "records", "items", "seconds", "sha256"} - {"corpus", "domain"},
    "quarantined": {"path", "reason", "sha256", "shard"},
}
"""What the rows of a manifest have at least."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a set.

    Raises:
        InputError: There is none, it is damaged, or it is of another schema version.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{folder}: no set of records (no manifest.json); make it with python -m pipelines.build"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); build the set again") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{path}: damaged (not a manifest); build the set again")
    if manifest.get("schema") != SCHEMA:
        raise InputError(
            f"{path}: schema version {manifest.get('schema')}, expected {SCHEMA}; build the set again with this version"
        )
    missing = {"corpus", "domain", "spec", "shards", "clips", "quarantined"} - manifest.keys()
    if missing:
        raise InputError(f"{path}: damaged (no {', '.join(sorted(missing))}); build the set again")
    for key, names in _ROWS.items():
        if not isinstance(manifest[key], list) or not all(
            isinstance(row, dict) and names <= row.keys() for row in manifest[key]
        ):
            raise InputError(
                f"{path}: damaged ({key} that lack what each has); build the set again"
            )
    return manifest


def spec_of(manifest: Mapping[str, Any]) -> Spec:
    """Return the spec that a set was built with; raises InputError where it is not this version's."""
    fields = {field.name for field in dataclasses.fields(Spec)}
    held = manifest["spec"]
    if differing := sorted(fields ^ held.keys()):
        set_name = f"{manifest['corpus']}/{manifest['domain']}"
        raise InputError(
            f"records of {set_name}: another version's spec ({', '.join(differing)}); build the set again with this version"
        )
    return Spec(**held)


def find_sets(folder: Path) -> list[Path]:
    """Return the sets at or below a folder, sorted: the folder itself, or every `NAME/DOMAIN` in it."""
    if (folder / "manifest.json").is_file():
        return [folder]
    for below in ("*/manifest.json", "*/*/manifest.json"):
        if sets := sorted(
            path.parent for path in folder.glob(below) if path.parent.name in DOMAINS
        ):
            return sets
    return []


def check_shards(folder: Path) -> dict[str, Any]:
    """Check size and checksum of every shard of a set and return its manifest.

    Raises:
        InputError: A shard is missing or damaged; the message names it and the byte where the damage begins.
    """
    manifest = read_manifest(folder)
    for shard in manifest["shards"]:
        check_shard(folder / shard["file"], shard)
    return manifest


def verify(folder: Path) -> dict[str, int]:
    """Verify a set wholly: schema, spec, checksums, and the count and names of its records.

    Returns:
        How many `shards`, `clips` and `records` there are.

    Raises:
        InputError: The first damage: the shard's name, and the byte where it begins.
    """
    manifest = read_manifest(folder)
    spec_of(manifest)
    records = 0
    for number, shard in enumerate(manifest["shards"]):
        rows = [
            row | {key: manifest[key] for key in ("corpus", "domain")}
            for row in manifest["clips"]
            if row["shard"] == number
        ]
        expected = [[row[name] for name in NAMES] for row in rows for _ in range(row["records"])]
        offsets, found = [], []
        for offset, features in _features(folder, manifest, shard):
            offsets.append(offset)
            found.append([features[name].bytes_list.value[0].decode() for name in NAMES])
        if found != expected:
            first = next(
                (
                    n
                    for n, pair in enumerate(itertools.zip_longest(found, expected))
                    if pair[0] != pair[1]
                )
            )
            where = f"{folder / shard['file']}: record {first} at byte {[*offsets, shard['bytes']][first]}"
            raise InputError(
                f"{where} is not the manifest's ({len(found)} records, expected {len(expected)}); build the set again"
            )
        records += len(found)
    return {"shards": len(manifest["shards"]), "clips": len(manifest["clips"]), "records": records}


def read(folder: Path, manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the records of a set in order: what `parse` gives, as NumPy values.

    Each shard is read from disk once, and checked against the manifest before its first record is given. Without tf.data,
    which takes twice as long to parse records of faces one by one.

    Raises:
        InputError: A shard is missing or damaged, or a record is not one of the schema.
    """
    spec = spec_of(manifest)
    segments = tf.function(
        lambda static: log_mel_module.segments(static, spec=spec),
        input_signature=[tf.TensorSpec([None, spec.mel_filters])],
    )
    for shard in manifest["shards"]:
        for _, features in _features(folder, manifest, shard):
            record = {name: features[name].bytes_list.value[0] for name in NAMES} | {
                "part": features["part"].int64_list.value[0]
            }
            if manifest["domain"] == "visual":
                yield record | {
                    "inputs": _array(features["faces"], np.uint8).reshape(
                        -1, spec.face_size, spec.face_size, 3
                    )
                }
            else:
                static = _array(features["log_mel"], "<f4").reshape(-1, spec.mel_filters)
                pcm = _array(features["pcm"], "<i2") if "pcm" in features else np.zeros(0, np.int16)
                yield record | {"inputs": segments(static).numpy(), "log_mel": static, "pcm": pcm}


def _array(feature: tf.train.Feature, dtype) -> np.ndarray:
    return np.frombuffer(feature.bytes_list.value[0], dtype)


def _features(
    folder: Path, manifest: Mapping[str, Any], shard: Mapping[str, Any]
) -> Iterator[tuple[int, Mapping[str, tf.train.Feature]]]:
    """Yield the byte where each record of a shard begins, and its features, once the shard's checksum is found right."""
    path = folder / shard["file"]
    body = memoryview(path.read_bytes()) if path.is_file() else memoryview(b"")
    if len(body) != shard["bytes"] or hashlib.sha256(body).hexdigest() != shard["sha256"]:
        check_shard(path, shard)
    offset, needed = 0, {*NAMES, "part", "faces" if manifest["domain"] == "visual" else "log_mel"}
    while offset < len(body):  # 8 bytes of length, 4 of checksum, the data, 4 of checksum
        data = offset + 12
        end = data + int.from_bytes(body[offset : offset + 8], "little")
        try:
            features = tf.train.Example.FromString(body[data:end]).features.feature
        except DecodeError:
            features = {}
        if end + 4 > len(body) or needed - features.keys():
            raise InputError(
                f"{path}: no record of this schema at byte {offset}; build the set again"
            )
        yield offset, features
        offset = end + 4
