"""Sets of records as arrays, and the items of a source that belong to one split."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.datasets import array_cache
from kerasemo.datasets.lazy_arrays import Gathered
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.corpora import LOADERS
from pipelines.records import item_count, reader


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A set of records as arrays; an item is one face or one segment."""

    name: str
    """`NAME/DOMAIN`."""
    rows: tuple[dict[str, Any], ...]
    """The manifest's row of each clip."""
    inputs: np.ndarray
    """uint8 faces or float32 segments [items, 64, 64, 3], those of a clip side by side; or `kerasemo.datasets.lazy_arrays.Windows`."""
    clip_of: np.ndarray
    """int64 [items]: each item's clip, an index of `rows`."""
    corpus_emotions: frozenset[str] = frozenset()
    """The emotions of the corpus in all its domains; those of the rows are always among them."""

    @property
    def domain(self) -> int:
        return DOMAINS.index(self.name.partition("/")[2])

    @property
    def labels(self) -> np.ndarray:
        """int32 [clips]: each clip's emotion, an index of EMOTIONS."""
        return np.array([EMOTIONS.index(row["emotion"]) for row in self.rows], np.int32)

    @property
    def emotions(self) -> list[str]:
        """The emotions that the corpus has, in the order of EMOTIONS."""
        known = self.corpus_emotions | {row["emotion"] for row in self.rows}
        return [emotion for emotion in EMOTIONS if emotion in known]

    @property
    def mask(self) -> np.ndarray:
        """float32 [emotions]: 1 for each emotion that the corpus has."""
        return np.isin(EMOTIONS, self.emotions).astype(np.float32)

    def items_of(self, clips: Sequence[int]) -> np.ndarray:
        """Return the items of some clips, int64, in order."""
        return np.flatnonzero(np.isin(self.clip_of, clips))


def manifest_hash(folder: Path) -> str:
    """Return the SHA-256 of a set's manifest, which holds the checksums of all that is in the set."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def set_folder(records_folder: Path, source: str) -> Path:
    """Return where a source's set is; InputError tells how to build one that is missing."""
    folder = records_folder / source
    if not (folder / "manifest.json").is_file():
        name = source.partition("/")[0]
        kind = name if name in LOADERS else f"folder --name {name}"
        build = f"python -m pipelines.build --corpus {kind} --media FOLDER --out {records_folder}"
        raise InputError(f"{folder}: no records of {source}; make them with: {build}")
    return folder


MOST_BYTES = 2 * 2**30
"""How large the array of a set can be to be kept in memory; at most a quarter of the memory that there is."""


def fits_memory(size: int) -> bool:
    """Tell whether an array of `size` bytes is kept in memory, not in a file."""
    return size <= min(MOST_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)


def read_source(records_folder: Path, source: str, *, spec: Spec = Spec()) -> Source:
    """Read a set into arrays, after checking the checksums of its shards.

    What is too large for the memory is a map of a file (see `kerasemo.datasets.array_cache`), which is written once for a manifest.

    Args:
        records_folder: The folder of sets.
        source: `NAME/DOMAIN`.
        spec: What the set must have been built to, but for its `frames_per_clip`.

    Raises:
        InputError: The set is missing, damaged or built to another spec, or there is no room for the file.
    """
    folder = set_folder(records_folder, source)
    manifest, emotions = checked_manifest(folder, spec=spec)
    shape = (sum(row["items"] for row in manifest["clips"]), spec.face_size, spec.face_size, 3)
    dtype = np.dtype(np.uint8 if manifest["domain"] == "visual" else np.float32)

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        records = clip_records(folder, manifest, with_inputs=True)
        return ((clip, record["inputs"]) for clip, record in records)

    if fits_memory(math.prod(shape) * dtype.itemsize):
        inputs, clip_of, filled = np.empty(shape, dtype), np.empty(shape[0], np.int64), 0
        for clip, items in blocks():
            inputs[filled : filled + len(items)], clip_of[filled : filled + len(items)] = (
                items,
                clip,
            )
            filled += len(items)
    else:
        reader.check_shards(folder)  # the file may be there already
        inputs, clip_of = array_cache.mapped(
            manifest_hash(folder), blocks, shape=shape, dtype=dtype
        )
    return Source(source, tuple(manifest["clips"]), inputs, clip_of, emotions)


def checked_manifest(folder: Path, *, spec: Spec = Spec()) -> tuple[dict[str, Any], frozenset[str]]:
    """Return a set's manifest and the emotions of its corpus in all domains; InputError when it was built to another spec."""
    manifest = reader.read_manifest(folder)
    held = dataclasses.asdict(reader.spec_of(manifest))
    ours = dataclasses.asdict(spec) | {"frames_per_clip": held["frames_per_clip"]}
    if differing := [
        f"{name} {held[name]}, expected {value}"
        for name, value in ours.items()
        if held[name] != value
    ]:
        raise InputError(
            f"{folder}: built to another spec ({'; '.join(differing)}); build the set again"
        )
    sets = {folder, *reader.find_sets(folder.parent)}
    return manifest, frozenset(
        row["emotion"] for path in sets for row in reader.read_manifest(path)["clips"]
    )


def clip_records(
    folder: Path, manifest: Mapping[str, Any], *, with_inputs: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every record with its clip, an index of the rows; InputError when they are not the manifest's.

    Args:
        folder: The set.
        manifest: The set's manifest.
        with_inputs: Yield what `reader.read_inputs` yields; else the stored features alone.
    """
    index_of = {row["id"]: index for index, row in enumerate(manifest["clips"])}
    left = [row["items"] for row in manifest["clips"]]
    spec = reader.spec_of(manifest)
    for record in (reader.read_inputs if with_inputs else reader.read_features)(folder, manifest):
        clip = index_of.get(record["id"].decode())
        count = len(record["inputs"]) if with_inputs else item_count(record, spec)
        if clip is None or count > left[clip]:
            raise InputError(
                f"{folder}: holds more of {record['id'].decode()} than its manifest says; build the set again"
            )
        left[clip] -= count
        yield clip, record
    if any(left):
        items = sum(row["items"] for row in manifest["clips"])
        raise InputError(
            f"{folder}: {items - sum(left)} faces or segments, its manifest says {items}; build the set again"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """The items of one source that are on one side."""

    source: Source
    items: np.ndarray
    """int64: indices of the source's items."""

    @property
    def inputs(self) -> Gathered:
        """The side's items."""
        return Gathered([self])

    @property
    def labels(self) -> np.ndarray:
        """int32: the emotion of each of the side's items."""
        return self.source.labels[self.source.clip_of[self.items]]
