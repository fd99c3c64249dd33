"""Write sets of records shard by shard, so that an interrupted build resumes.

A set moves to its folder when it is complete.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from pipelines.core.errors import DataError, InputError, RunError, StorageError
from pipelines.core.files import file_sha256, storage_errors, sync_file, write_json
from pipelines.core.locks import lock_descriptor
from pipelines.corpora.clip import Clip
from pipelines.records.reader import check_shards, read_manifest
from pipelines.records.schema import NAMES, SCHEMA


class SetWriter:
    """Writes one set shard by shard in a temporary folder, which replaces the set at the end.

    A complete shard has a list of its contents beside it. The writer reuses complete shards of the
    same media from an interrupted build, or from the existing set. The folder is locked until
    `close`, so only one build can write the set.

    Args:
        folder: The folder of the set.
        clips: The clips, in the order of the set.
        options: The options of the build for the manifest.
        clips_per_shard: The number of clips in a shard.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clips: Sequence[Clip],
        options: Mapping[str, Any],
        clips_per_shard: int,
    ) -> None:
        self.folder = folder = Path(os.path.realpath(folder))  # a link to another disk stays a link
        self._building = folder.with_name(f".{folder.name}.building")
        self._old = folder.with_name(f".{folder.name}.before")
        self._unfinished = self._building / "unfinished"
        self._clips = clips
        self._options = {"schema": SCHEMA, **options}
        self._per_shard = clips_per_shard
        self._done: dict[int, dict[str, Any]] = {}
        self._writer: tf.io.TFRecordWriter | None = None
        self._lock: int | None = None

    @property
    def _shards(self) -> int:
        return -(-len(self._clips) // self._per_shard)

    def resume(self, sha256_of: Callable[[Clip], str]) -> list[Clip]:
        """Lock the folder, reuse complete shards, and return the clips that must be read.

        Args:
            sha256_of: Returns the current hash of a clip's file.

        Raises:
            InputError: The folder of the set has other files, or is a file.
            RunError: Another build writes the same set.
            StorageError: The folder cannot be written.
        """
        with storage_errors(self._building):
            self._check_folder()
            self._lock = _locked(self._building, self.folder)
            self._reuse_shards(sha256_of)
        self._missing_shards = [shard for shard in range(self._shards) if shard not in self._done]
        self._start_shard()
        return [clip for shard in self._missing_shards for clip in self._clips_of(shard)]

    def _check_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(
                f"{self.folder}: expected a folder for the set, but it is a file; "
                "name another --out"
            )
        if (
            self.folder.is_dir()
            and any(self.folder.iterdir())
            and not any(self.folder.glob("[0-9]*.tfrecord"))
        ):
            raise InputError(
                f"{self.folder}: the folder holds something else than a set of records; "
                "name another --out or --name"
            )

    def _reuse_shards(self, sha256_of: Callable[[Clip], str]) -> None:
        """Move the complete shards of earlier builds to the folder, and remove all other files."""
        for place in (self._building, self.folder, self._old):
            contents_of = _shard_contents(place)
            for shard in set(contents_of) - set(self._done):
                if shard < self._shards and self._is_reusable(
                    contents_of[shard], self._clips_of(shard), sha256_of
                ):
                    self._reuse_shard(place, shard, contents_of[shard])
        reused_names = {
            name(shard) for shard in self._done for name in (_contents_name, _shard_name)
        }
        for leftover in sorted(self._building.iterdir()):
            if leftover.name not in reused_names:
                leftover.unlink()

    def _clips_of(self, shard: int) -> Sequence[Clip]:
        return self._clips[shard * self._per_shard : (shard + 1) * self._per_shard]

    def _is_reusable(
        self, contents: Mapping[str, Any], clips: Sequence[Clip], sha256_of: Callable[[Clip], str]
    ) -> bool:
        return (
            contents["options"] == self._options
            and not _needs_retry(contents)
            and _same_media(contents, clips, sha256_of)
        )

    def _reuse_shard(self, place: Path, shard: int, contents: Mapping[str, Any]) -> None:
        existing, new = place / contents["shard"]["file"], self._building / _shard_name(shard)
        if (
            _file_sha256_or_none(existing) != contents["shard"]["sha256"]
            or not {"clips", "records", "bytes"} <= contents["shard"].keys()
        ):
            return
        if existing != new:
            new.unlink(missing_ok=True)
            try:
                os.link(existing, new)
            except OSError:  # a file system without hard links
                shutil.copyfile(existing, new)
        self._done[shard] = dict(contents)
        write_json(self._building / _contents_name(shard), contents)

    def _start_shard(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._quarantined: list[dict[str, str]] = []
        self._records = 0

    def add(self, clip: Clip, records: Iterable[bytes], row: Mapping[str, Any]) -> None:
        """Write the records of the next clip, and the clip's row of the manifest.

        Raises:
            StorageError: The disk is full.
        """
        count = 0
        with _storage_errors(self._unfinished):
            if self._writer is None:
                self._writer = tf.io.TFRecordWriter(str(self._unfinished))
            for record in records:
                self._writer.write(record)
                count += 1
        self._records += count
        names = {name: getattr(clip, name) for name in NAMES if name not in ("corpus", "domain")}
        self._rows.append(names | {"records": count} | dict(row))
        self._finish_full_shard()

    def quarantine(self, clip: Clip, reason: str, *, sha256: str, retry: str = "") -> None:
        """Leave the next clip out.

        Args:
            clip: The clip.
            reason: The reason for the report.
            sha256: The hash of the file.
            retry: Why a later call must read the clip again; empty: the file is to blame.
        """
        row = {"path": clip.id, "reason": reason, "sha256": sha256}
        self._quarantined.append(row | {"retry": retry} if retry else row)
        self._finish_full_shard()

    def _finish_full_shard(self) -> None:
        if len(self._rows) + len(self._quarantined) == len(self._clips_of(self._missing_shards[0])):
            with _storage_errors(self._unfinished):
                self._finish_shard(self._missing_shards.pop(0))

    def _finish_shard(self, shard: int) -> None:
        if self._writer is None:
            self._unfinished.touch()
        else:
            self._writer.close()
        self._writer = None
        path = self._building / _shard_name(shard)
        sync_file(self._unfinished)
        os.replace(self._unfinished, path)
        facts = {
            "file": path.name,
            "clips": len(self._rows),
            "records": self._records,
            "bytes": path.stat().st_size,
        }
        contents = {
            "options": self._options,
            "shard": facts | {"sha256": file_sha256(path)},
            "clips": self._rows,
            "quarantined": self._quarantined,
        }
        write_json(self._building / _contents_name(shard), contents)
        self._done[shard] = contents
        self._start_shard()

    def finish(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Write manifest and report, move the set to its folder, and return the manifest.

        Raises:
            StorageError: The folder cannot be written.
        """
        if self._missing_shards:
            raise RuntimeError(
                f"{self.folder}: finish() before every clip was added or quarantined"
            )
        with storage_errors(self.folder):
            self._move_to_folder(report)
        self.close()
        return self.manifest()

    def _move_to_folder(self, report: Mapping[str, Any]) -> None:
        write_json(self._building / "manifest.json", self.manifest())
        write_json(self._building / "report.json", report)
        for shard in range(self._shards):
            (self._building / _contents_name(shard)).unlink()
        if self.folder.exists():
            _remove_old_set(self._old, into=self.folder)
            os.replace(self.folder, self._old)
        os.replace(self._building, self.folder)
        _remove_old_set(self._old, into=self.folder)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, after all shards are complete."""
        done = [self._done[shard] for shard in range(self._shards)]
        return {
            **self._options,
            "shards": [contents["shard"] for contents in done],
            "clips": [
                row | {"shard": shard}
                for shard, contents in enumerate(done)
                for row in contents["clips"]
            ],
            "quarantined": [
                row | {"shard": shard}
                for shard, contents in enumerate(done)
                for row in contents["quarantined"]
            ],
        }

    def close(self) -> None:
        """Unlock the folder; unfinished work stays for the next call."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(building: Path, folder: Path) -> int:
    """Make the folder `building` and lock it until the returned descriptor is closed.

    Raises:
        RunError: Another process holds the lock.
    """
    while True:
        building.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(building, os.O_RDONLY)
        try:
            lock_descriptor(descriptor, wait=False)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RunError(
                f"{folder}: another build is writing this set; wait until it ends, "
                "or name another --out"
            ) from error
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(building), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # another build has renamed this folder since it was opened


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    """Raise StorageError for an error of the system, also where TensorFlow reports the error."""
    try:
        with storage_errors(path):
            yield
    except tf.errors.OpError as error:
        raise StorageError(f"{path}: {error.message}") from error


def _shard_name(shard: int) -> str:
    return f"{shard:05d}.tfrecord"


def _contents_name(shard: int) -> str:
    return f"{shard:05d}.json"


def _shard_contents(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the contents of each shard in a folder by its number.

    They come from the manifest of a whole set, otherwise from the lists of the shards.
    """
    try:
        manifest = read_manifest(folder)
        options = {
            key: value
            for key, value in manifest.items()
            if key not in ("shards", "clips", "quarantined")
        }
        contents_of = {
            n: {"options": options, "shard": shard, "clips": [], "quarantined": []}
            for n, shard in enumerate(manifest["shards"])
        }
        for rows in ("clips", "quarantined"):
            for row in manifest[rows]:
                contents_of[row["shard"]][rows].append(
                    {key: value for key, value in row.items() if key != "shard"}
                )
        return contents_of
    except (OSError, InputError, DataError, KeyError):  # none, damaged, or of another schema
        pass
    contents_of = {}
    for path in sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            contents = json.loads(path.read_text(encoding="utf-8"))
            if {"options", "shard", "clips", "quarantined"} <= contents.keys():
                contents_of[int(path.stem)] = contents
    return contents_of


def _file_sha256_or_none(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def _needs_retry(contents: Mapping[str, Any]) -> bool:
    return any(row.get("retry") for row in contents["quarantined"])


def _same_media(
    contents: Mapping[str, Any], clips: Sequence[Clip], sha256_of: Callable[[Clip], str]
) -> bool:
    known = {row.get("id"): row for row in contents["clips"]} | {
        row.get("path"): row for row in contents["quarantined"]
    }
    return len(known) == len(clips) and all(
        clip.id in known
        and known[clip.id].get("sha256") == sha256_of(clip)
        and _same_names(known[clip.id], clip)
        for clip in clips
    )


def _same_names(row: Mapping[str, Any], clip: Clip) -> bool:
    return all(row.get(name, getattr(clip, name)) == getattr(clip, name) for name in NAMES)


def is_current(
    folder: Path,
    *,
    clips: Sequence[Clip],
    options: Mapping[str, Any],
    sha256_of: Callable[[Clip], str],
) -> bool:
    """Return whether a whole set has exactly these clips, options and contents of files.

    A set with clips that must be read again is not current.
    """
    try:
        manifest = check_shards(folder)
    except (InputError, DataError):  # none, damaged, or of another schema: build the set again
        return False
    same = all(manifest.get(key) == value for key, value in options.items())
    return same and not _needs_retry(manifest) and _same_media(manifest, clips, sha256_of)


def _remove_old_set(folder: Path, *, into: Path) -> None:
    """Remove a replaced set, and move the files of other programs in its folder to the new one."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if re.fullmatch(r"\d{5}\.(tfrecord|json)|(manifest|report)\.json(\.tmp)?", path.name):
                path.unlink()
            else:
                os.replace(path, into / path.name)
        folder.rmdir()
