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
    """Writes one set, shard by shard, in a folder that takes its place only when it is whole.

    A finished shard is renamed into place together with a list of what it holds. What an
    interrupted build, or the set that stands there already, has of whole shards of the same media
    is taken over and not made again. One build at a
    time: the folder is locked until `close`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clips: Sequence[Clip],
        options: Mapping[str, Any],
        clips_per_shard: int,
    ) -> None:
        self.folder = folder = Path(os.path.realpath(folder))  # a link to a larger disk stays one
        self._building = folder.with_name(f".{folder.name}.building")
        self._before = folder.with_name(f".{folder.name}.before")
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
            sha256_of: Gives the content hash of a clip's file as it is now.

        Raises:
            InputError: The folder of the set holds something else, or is a file.
            RunError: Another build writes the same set.
            StorageError: The folder cannot be written.
        """
        with storage_errors(self._building):
            self._check_folder()
            self._lock = _locked(self._building, self.folder)
            self._take_over_shards(sha256_of)
        self._left = [shard for shard in range(self._shards) if shard not in self._done]
        self._begin()
        return [clip for shard in self._left for clip in self._clips_of(shard)]

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

    def _take_over_shards(self, sha256_of: Callable[[Clip], str]) -> None:
        """Move the whole shards of earlier builds into the folder, and remove all other files."""
        for place in (self._building, self.folder, self._before):
            sides = _sides_in(place)
            for shard in set(sides) - set(self._done):
                if shard < self._shards and self._is_taken_over(
                    sides[shard], self._clips_of(shard), sha256_of
                ):
                    self._take_over(place, shard, sides[shard])
        kept = {name(shard) for shard in self._done for name in (_side_name, _shard_name)}
        for leftover in sorted(self._building.iterdir()):
            if leftover.name not in kept:
                leftover.unlink()

    def _clips_of(self, shard: int) -> Sequence[Clip]:
        return self._clips[shard * self._per_shard : (shard + 1) * self._per_shard]

    def _is_taken_over(
        self, side: Mapping[str, Any], clips: Sequence[Clip], sha256_of: Callable[[Clip], str]
    ) -> bool:
        return (
            side["options"] == self._options
            and not _to_retry(side)
            and _same_media(side, clips, sha256_of)
        )

    def _take_over(self, place: Path, shard: int, side: Mapping[str, Any]) -> None:
        held, ours = place / side["shard"]["file"], self._building / _shard_name(shard)
        if (
            _file_sha256_or_none(held) != side["shard"]["sha256"]
            or not {"clips", "records", "bytes"} <= side["shard"].keys()
        ):
            return
        if held != ours:
            ours.unlink(missing_ok=True)
            try:
                os.link(held, ours)
            except OSError:  # a file system without hard links
                shutil.copyfile(held, ours)
        self._done[shard] = dict(side)
        write_json(self._building / _side_name(shard), side)

    def _begin(self) -> None:
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
        self._next()

    def quarantine(self, clip: Clip, reason: str, *, sha256: str, retry: str = "") -> None:
        """Leave the next clip out, with the reason.

        `retry` says why a later call is to try it again.
        """
        row = {"path": clip.id, "reason": reason, "sha256": sha256}
        self._quarantined.append(row | {"retry": retry} if retry else row)
        self._next()

    def _next(self) -> None:
        if len(self._rows) + len(self._quarantined) == len(self._clips_of(self._left[0])):
            with _storage_errors(self._unfinished):
                self._finish_shard(self._left.pop(0))

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
        side = {
            "options": self._options,
            "shard": facts | {"sha256": file_sha256(path)},
            "clips": self._rows,
            "quarantined": self._quarantined,
        }
        write_json(self._building / _side_name(shard), side)
        self._done[shard] = side
        self._begin()

    def finish(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Write manifest and report, put the set in its place, and return the manifest.

        Raises:
            StorageError: The folder cannot be written.
        """
        if self._left:
            raise RuntimeError(
                f"{self.folder}: finish() before every clip was added or quarantined"
            )
        with storage_errors(self.folder):
            self._put_in_place(report)
        self.close()
        return self.manifest()

    def _put_in_place(self, report: Mapping[str, Any]) -> None:
        write_json(self._building / "manifest.json", self.manifest())
        write_json(self._building / "report.json", report)
        for shard in range(self._shards):
            (self._building / _side_name(shard)).unlink()
        if self.folder.exists():
            _dissolve(self._before, into=self.folder)
            os.replace(self.folder, self._before)
        os.replace(self._building, self.folder)
        _dissolve(self._before, into=self.folder)

    def manifest(self) -> dict[str, Any]:
        """Return what the manifest says once every shard is finished."""
        done = [self._done[shard] for shard in range(self._shards)]
        return {
            **self._options,
            "shards": [side["shard"] for side in done],
            "clips": [
                row | {"shard": shard} for shard, side in enumerate(done) for row in side["clips"]
            ],
            "quarantined": [
                row | {"shard": shard}
                for shard, side in enumerate(done)
                for row in side["quarantined"]
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
        os.close(descriptor)  # the other build has just renamed this very folder


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


def _side_name(shard: int) -> str:
    return f"{shard:05d}.json"


def _sides_in(folder: Path) -> dict[int, dict[str, Any]]:
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
        sides = {
            n: {"options": options, "shard": shard, "clips": [], "quarantined": []}
            for n, shard in enumerate(manifest["shards"])
        }
        for rows in ("clips", "quarantined"):
            for row in manifest[rows]:
                sides[row["shard"]][rows].append(
                    {key: value for key, value in row.items() if key != "shard"}
                )
        return sides
    except (OSError, InputError, DataError, KeyError):  # none, damaged, or of another schema
        pass
    sides = {}
    for path in sorted(folder.glob("[0-9]*.json")) if folder.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            side = json.loads(path.read_text(encoding="utf-8"))
            if {"options", "shard", "clips", "quarantined"} <= side.keys():
                sides[int(path.stem)] = side
    return sides


def _file_sha256_or_none(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def _to_retry(held: Mapping[str, Any]) -> bool:
    return any(row.get("retry") for row in held["quarantined"])


def _same_media(
    held: Mapping[str, Any], clips: Sequence[Clip], sha256_of: Callable[[Clip], str]
) -> bool:
    known = {row.get("id"): row for row in held["clips"]} | {
        row.get("path"): row for row in held["quarantined"]
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

    A set with clips that are to be tried again is not current.
    """
    try:
        manifest = check_shards(folder)
    except (InputError, DataError):  # none, damaged, or of another schema: build the set again
        return False
    same = all(manifest.get(key) == value for key, value in options.items())
    return same and not _to_retry(manifest) and _same_media(manifest, clips, sha256_of)


def _dissolve(folder: Path, *, into: Path) -> None:
    """Take a set that was replaced away.

    What somebody else laid into its folder goes into the new one.
    """
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if re.fullmatch(r"\d{5}\.(tfrecord|json)|(manifest|report)\.json(\.tmp)?", path.name):
                path.unlink()
            else:
                os.replace(path, into / path.name)
        folder.rmdir()
