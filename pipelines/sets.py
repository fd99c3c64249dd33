"""Writes sets of records: shard by shard, so that an interrupted build goes on, and into place only when a set is whole."""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.corpora.clip import Clip
from pipelines.records import NAMES, SCHEMA, check_shards, file_sha256, write_json
from pipelines.spec import InputError


class SetWriter:
    """Writes one set, shard by shard, in a folder that takes its place only when it is whole.

    A finished shard is renamed into place together with a list of what it holds, so that an interrupted build goes on
    behind the last finished one.
    """

    def __init__(self, folder: Path, *, clips: Sequence[Clip], options: Mapping[str, Any], clips_per_shard: int):
        self.folder = folder
        self._building = folder.with_name(f".{folder.name}.building")
        self._unfinished = self._building / "unfinished"
        self._clips = clips
        self._options = {"schema": SCHEMA, **options}
        self._per_shard = clips_per_shard
        self._done: list[dict[str, Any]] = []
        self._writer = None

    @property
    def _shards(self) -> int:
        return -(-len(self._clips) // self._per_shard)

    def resume(self, sha256_of: Callable[[Clip], str]) -> int:
        """Take over the finished shards of an interrupted build; return how many clips need not be read again.

        Args:
            sha256_of: Gives the content hash of a clip's file as it is now.

        Raises:
            InputError: Where the set should stand is something else.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: expected a folder for the set; it is a file; name another --out")
        self._building.mkdir(parents=True, exist_ok=True)
        for shard in range(self._shards):
            clips = self._clips_of(shard)
            side = self._read_side(shard)
            if side is None or side["options"] != self._options or not _same_media(side, clips, sha256_of):
                break
            self._done.append(side)
        for leftover in sorted(self._building.iterdir()):
            if leftover.name not in {_side_name(shard) for shard in range(len(self._done))} | {
                _shard_name(shard) for shard in range(len(self._done))
            }:
                leftover.unlink()
        self._begin()
        return min(len(self._clips), len(self._done) * self._per_shard)

    def _clips_of(self, shard: int) -> Sequence[Clip]:
        return self._clips[shard * self._per_shard : (shard + 1) * self._per_shard]

    def _read_side(self, shard: int) -> dict[str, Any] | None:
        try:
            side = json.loads((self._building / _side_name(shard)).read_text(encoding="utf-8"))
            whole = file_sha256(self._building / _shard_name(shard)) == side["shard"]["sha256"]
        except (OSError, ValueError):
            return None
        return side if whole else None

    def _begin(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._quarantined: list[dict[str, str]] = []
        self._records = 0
        self._seen = 0

    def add(self, clip: Clip, records: Sequence[bytes], row: Mapping[str, Any]) -> None:
        """Write the records of the next clip, with what the manifest says of it."""
        with _as_os_error(self._unfinished):
            if self._writer is None:
                self._writer = tf.io.TFRecordWriter(str(self._unfinished))
            for record in records:
                self._writer.write(record)
        self._records += len(records)
        names = {name: getattr(clip, name) for name in NAMES if name not in ("corpus", "domain")}
        self._rows.append(names | {"records": len(records)} | dict(row))
        self._next()

    def quarantine(self, clip: Clip, reason: str, *, sha256: str) -> None:
        """Leave the next clip out, with the reason."""
        self._quarantined.append({"path": clip.id, "reason": reason, "sha256": sha256})
        self._next()

    def _next(self) -> None:
        self._seen += 1
        if self._seen == len(self._clips_of(len(self._done))):
            self._finish_shard()

    def _finish_shard(self) -> None:
        shard = len(self._done)
        if self._writer is None:
            self._unfinished.touch()
        else:
            with _as_os_error(self._unfinished):
                self._writer.close()
        self._writer = None
        path = self._building / _shard_name(shard)
        os.replace(self._unfinished, path)
        facts = {"file": path.name, "clips": len(self._rows), "records": self._records, "bytes": path.stat().st_size}
        side = {
            "options": self._options,
            "shard": facts | {"sha256": file_sha256(path)},
            "clips": self._rows,
            "quarantined": self._quarantined,
        }
        write_json(self._building / _side_name(shard), side)
        self._done.append(side)
        self._begin()

    def finish(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Write manifest and report, put the set in its place, and return the manifest."""
        if self._writer is not None or len(self._done) != self._shards:
            raise RuntimeError(f"{self.folder}: finish() before every clip was added or quarantined")
        write_json(self._building / "manifest.json", self.manifest())
        write_json(self._building / "report.json", report)
        for shard in range(self._shards):
            (self._building / _side_name(shard)).unlink()
        before = self.folder.with_name(f".{self.folder.name}.before")
        if self.folder.exists():
            _dissolve(before, into=self.folder)
            os.replace(self.folder, before)
        os.replace(self._building, self.folder)
        _dissolve(before, into=self.folder)
        return self.manifest()

    def manifest(self) -> dict[str, Any]:
        """Return what the manifest says once every shard is finished."""
        return {
            **self._options,
            "shards": [side["shard"] for side in self._done],
            "clips": [row | {"shard": shard} for shard, side in enumerate(self._done) for row in side["clips"]],
            "quarantined": [row for side in self._done for row in side["quarantined"]],
        }


@contextlib.contextmanager
def _as_os_error(path: Path) -> Iterator[None]:
    """Raise what tensorflow makes of a full disk as the OSError that it is."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(None, error.message, str(path)) from error


def _shard_name(shard: int) -> str:
    return f"{shard:05d}.tfrecord"


def _side_name(shard: int) -> str:
    return f"{shard:05d}.json"


def _same_media(held: Mapping[str, Any], clips: Sequence[Clip], sha256_of: Callable[[Clip], str]) -> bool:
    known = {row["id"]: row for row in held["clips"]} | {row["path"]: row for row in held["quarantined"]}
    return len(known) == len(clips) and all(
        clip.id in known and known[clip.id]["sha256"] == sha256_of(clip) and _same_names(known[clip.id], clip) for clip in clips
    )


def _same_names(row: Mapping[str, Any], clip: Clip) -> bool:
    return all(row.get(name, getattr(clip, name)) == getattr(clip, name) for name in NAMES)


def is_current(folder: Path, *, clips: Sequence[Clip], options: Mapping[str, Any], sha256_of: Callable[[Clip], str]) -> bool:
    """Tell whether a whole set holds exactly these clips, built with these options from files of the same content."""
    try:
        manifest = check_shards(folder)
    except InputError:  # none, damaged, or of another schema: built anew
        return False
    return all(manifest.get(key) == value for key, value in options.items()) and _same_media(manifest, clips, sha256_of)


def _dissolve(folder: Path, *, into: Path) -> None:
    """Take a set that was replaced away; what somebody else laid into its folder goes into the new one."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if re.fullmatch(r"\d{5}\.(tfrecord|json)|(manifest|report)\.json(\.tmp)?", path.name):
                path.unlink()
            else:
                os.replace(path, into / path.name)
        folder.rmdir()
