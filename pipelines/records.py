"""The one schema of records: serialised, parsed and verified here and nowhere else; `pipelines.sets` writes them to disk.

A set is the folder `OUT/NAME/DOMAIN/`: numbered shards, `manifest.json`, `report.json`. Nothing in the manifest depends
on time, load or the place of the folder.
"""

import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from pipelines import mels
from pipelines.corpora.clip import Clip
from pipelines.spec import DOMAINS, InputError, Spec

SCHEMA = 1
"""Raised whenever a record of before can no longer be read."""

NAMES = ("id", "corpus", "domain", "speaker", "emotion", "utterance", "sentence", "take", "split")
"""The names of a clip that its record holds, as UTF-8."""

FEATURES = {
    **{name: tf.io.FixedLenFeature([], tf.string) for name in NAMES},
    "part": tf.io.FixedLenFeature([], tf.int64),  # of a long utterance, from 0
    "faces": tf.io.FixedLenFeature([], tf.string, ""),  # uint8 [n, face_size, face_size, 3]
    "log_mel": tf.io.FixedLenFeature(
        [], tf.string, ""
    ),  # little-endian float32 [frames, mel_filters], static
    "pcm": tf.io.FixedLenFeature(
        [], tf.string, ""
    ),  # little-endian int16 [samples] at the spec's rate, on request
}
"""What a record holds, and how tensorflow is to parse it."""


def serialise(
    clip: Clip,
    *,
    part: int = 0,
    faces: np.ndarray | None = None,
    log_mel: np.ndarray | None = None,
    pcm: np.ndarray | None = None,
) -> bytes:
    """Return the record of one clip (or of one part of it) in one domain.

    Args:
        clip: Whose names are stored.
        part: Which part of a long utterance this is.
        faces: uint8 [n, face_size, face_size, 3], for a visual clip.
        log_mel: float32 [frames, mel_filters] static log-Mel in dB, for an audio clip.
        pcm: int16 [samples], the sound itself.
    """
    feature = {name: _bytes(getattr(clip, name).encode()) for name in NAMES}
    feature["part"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[part]))
    for name, array, dtype in (
        ("faces", faces, "u1"),
        ("log_mel", log_mel, "<f4"),
        ("pcm", pcm, "<i2"),
    ):
        if array is not None:
            feature[name] = _bytes(np.ascontiguousarray(array, dtype).tobytes())
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(
        deterministic=True
    )


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def parse(serialised: tf.Tensor, *, domain: str, spec: Spec = Spec()) -> dict[str, tf.Tensor]:
    """Parse one record.

    Args:
        serialised: A scalar string.
        domain: `visual` or `audio`.
        spec: The spec that the set was built with.

    Returns:
        The clip's names (scalar strings), `part` (int64) and `inputs`: uint8 [n, 64, 64, 3] faces, or float32
        [n, 64, 64, 3] segments with deltas; for audio also `log_mel` (float32 [frames, 64], static) and `pcm` (int16
        [samples], empty unless it was stored).
    """
    parsed = tf.io.parse_single_example(serialised, FEATURES)
    record = {name: parsed[name] for name in (*NAMES, "part")}
    if domain == "visual":
        pixels = tf.io.decode_raw(parsed["faces"], tf.uint8)
        return record | {"inputs": tf.reshape(pixels, [-1, spec.face_size, spec.face_size, 3])}
    static = tf.reshape(tf.io.decode_raw(parsed["log_mel"], tf.float32), [-1, spec.mel_filters])
    return record | {
        "inputs": mels.segments(static, spec=spec),
        "log_mel": static,
        "pcm": tf.io.decode_raw(parsed["pcm"], tf.int16),
    }


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document under a temporary name and rename it into place."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(
        json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote, or None where there is nothing whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        lambda static: mels.segments(static, spec=spec),
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
