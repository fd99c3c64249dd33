"""Sets of records as arrays, and the items of a source that belong to one split."""

import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.datasets import array_cache
from kerasemo.datasets.lazy_arrays import GatheredItems, SegmentWindows
from pipelines.core.domains import DOMAINS, domain_facts
from pipelines.core.errors import DataError, InputError
from pipelines.core.files import file_sha256
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.corpora import LOADERS
from pipelines.records import item_count, reader

MAX_BYTES_IN_MEMORY = 2 * 2**30
"""The largest array of a set that is kept in memory, if it is at most a quarter of the memory."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A set of records as arrays. An item is one face or one segment."""

    name: str
    """`CORPUS/DOMAIN`."""
    rows: tuple[dict[str, Any], ...]
    """The manifest's row of each clip."""
    inputs: np.ndarray | SegmentWindows
    """uint8 faces or float32 segments [items, 64, 64, 3]; the items of a clip are adjacent."""
    clip_of: np.ndarray
    """int64 [items]: the clip of each item, an index of `rows`."""
    corpus_emotions: frozenset[str] = frozenset()
    """The emotions of the corpus in all its domains. The emotions of the rows count in any case."""
    variants: np.ndarray | None = None
    """int64 [items, variants]: for each item the items that show it changed; None without variants.
    The changed items are in `inputs` after the unchanged ones; see `waveform_variants`."""

    @property
    def domain(self) -> int:
        """The index of the source's domain in DOMAINS."""
        return DOMAINS.index(self.name.partition("/")[2])

    @property
    def labels(self) -> np.ndarray:
        """int32 [clips]: the emotion of each clip, an index of EMOTIONS."""
        return np.array([EMOTIONS.index(row["emotion"]) for row in self.rows], np.int32)

    @property
    def emotions(self) -> list[str]:
        """The emotions of the corpus, in the order of EMOTIONS."""
        known = self.corpus_emotions | {row["emotion"] for row in self.rows}
        return [emotion for emotion in EMOTIONS if emotion in known]

    @property
    def mask(self) -> np.ndarray:
        """float32 [emotions]: 1 for each emotion of the corpus, else 0."""
        return np.isin(EMOTIONS, self.emotions).astype(np.float32)

    def items_of(self, clips: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the items of clips, int64, in ascending order."""
        return np.flatnonzero(np.isin(self.clip_of, clips))


@dataclasses.dataclass(frozen=True, eq=False)
class Subset:
    """Some items of one source, such as the items of one split."""

    source: Source
    items: np.ndarray
    """int64: indices of the source's items."""

    @property
    def inputs(self) -> GatheredItems:
        """The inputs of the items, gathered slice by slice."""
        return GatheredItems([self.source.inputs], [self.items])

    @property
    def labels(self) -> np.ndarray:
        """int32 [items]: the emotion of each item, an index of EMOTIONS."""
        return self.source.labels[self.source.clip_of[self.items]]

    @property
    def clips(self) -> np.ndarray:
        """int64: the clips with an item here, as ascending indices of the source's rows."""
        return np.unique(self.source.clip_of[self.items])

    @property
    def emotions(self) -> set[str]:
        """The emotions of the items."""
        return {EMOTIONS[label] for label in np.unique(self.labels)}

    def with_clips(self, clips: np.ndarray) -> "Subset":
        """Return the items of these clips alone."""
        is_kept = np.isin(self.source.clip_of[self.items], clips)
        return Subset(self.source, self.items[is_kept])


def split_subset(source: Source, clip_ids: Sequence[str]) -> Subset:
    """Return the items of the clips with these ids."""
    ids = set(clip_ids)
    clips = [index for index, row in enumerate(source.rows) if row["id"] in ids]
    return Subset(source, source.items_of(clips))


def corpus_of(source: str) -> str:
    """Return the corpus of a source.

    >>> corpus_of("savee/visual")
    'savee'
    """
    return source.partition("/")[0]


def manifest_hash(folder: Path) -> str:
    """Return the SHA-256 of a set's manifest, which holds the checksum of every shard."""
    return file_sha256(folder / "manifest.json")


def set_folder(records_folder: Path, source: str) -> Path:
    """Return the folder of a source's set.

    Raises:
        InputError: The set does not exist. The message has the command that builds it.
    """
    folder = records_folder / source
    if not (folder / "manifest.json").is_file():
        name = corpus_of(source)
        kind = name if name in LOADERS else f"folder --name {name}"
        build = f"python -m pipelines.build --corpus {kind} --media FOLDER --out {records_folder}"
        raise InputError(f"{folder}: no records of {source}; make them with: {build}")
    return folder


def memory_bytes() -> int:
    """Return the size of the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def fits_memory(n_bytes: int) -> bool:
    """Return whether an array of `n_bytes` bytes is kept in memory, not in a file."""
    return n_bytes <= min(MAX_BYTES_IN_MEMORY, memory_bytes() // 4)


def read_source(records_folder: Path, source: str, *, spec: Spec = Spec()) -> Source:
    """Read a set into arrays; see `read_set`.

    Args:
        records_folder: The folder of sets.
        source: `CORPUS/DOMAIN`.
        spec: The spec of the set; `frames_per_clip` may differ.

    Raises:
        InputError: The set does not exist.
        DataError: The set is damaged, or has another spec.
        StorageError: The file of a large array cannot be written.
    """
    folder = set_folder(records_folder, source)
    manifest = reader.read_manifest(folder)
    sets = {folder, *reader.find_sets(folder.parent)}
    emotions = {row["emotion"] for path in sets for row in reader.read_manifest(path)["clips"]}
    return read_set(source, folder, manifest, frozenset(emotions), spec=spec)


def read_set(
    source: str,
    folder: Path,
    manifest: Mapping[str, Any],
    corpus_emotions: frozenset[str],
    *,
    spec: Spec = Spec(),
) -> Source:
    """Read the records of a set into arrays, after the checksums of its shards are checked.

    An array that is too large for the memory is a memory-mapped file; see
    `kerasemo.datasets.array_cache`.

    Args:
        source: `CORPUS/DOMAIN`.
        folder: The set.
        manifest: The manifest of the set.
        corpus_emotions: The emotions of the corpus in all its domains.
        spec: The spec of the set; `frames_per_clip` may differ.

    Raises:
        DataError: The set is damaged, or has another spec.
        StorageError: The file of a large array cannot be written.
    """
    check_spec(folder, manifest, spec=spec)
    n_items = sum(row["items"] for row in manifest["clips"])
    shape = (n_items, spec.face_size, spec.face_size, 3)
    dtype = np.dtype(domain_facts(manifest["domain"]).item_dtype)

    def iterate_blocks() -> Iterator[tuple[int, np.ndarray]]:
        for clip, record in iterate_records(folder, manifest, with_inputs=True):
            yield clip, record["inputs"]

    if fits_memory(math.prod(shape) * dtype.itemsize):
        inputs, clip_of, filled = np.empty(shape, dtype), np.empty(n_items, np.int64), 0
        for clip, items in iterate_blocks():
            inputs[filled : filled + len(items)] = items
            clip_of[filled : filled + len(items)] = clip
            filled += len(items)
    else:
        reader.check_shards(folder)  # a cached file would be used without a look at the shards
        inputs, clip_of = array_cache.memory_mapped_array(
            manifest_hash(folder), iterate_blocks, shape=shape, dtype=dtype
        )
    return Source(source, tuple(manifest["clips"]), inputs, clip_of, corpus_emotions)


def check_spec(folder: Path, manifest: Mapping[str, Any], *, spec: Spec = Spec()) -> None:
    """Raise DataError if a set was built with another spec; `frames_per_clip` may differ."""
    stored = dataclasses.asdict(reader.spec_of(manifest))
    expected = dataclasses.asdict(spec) | {"frames_per_clip": stored["frames_per_clip"]}
    differences = [
        f"{name} {stored[name]}, expected {value}"
        for name, value in expected.items()
        if stored[name] != value
    ]
    if differences:
        raise DataError(
            f"{folder}: built with another spec ({'; '.join(differences)}); build the set again"
        )


def iterate_records(
    folder: Path, manifest: Mapping[str, Any], *, with_inputs: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (clip, record) for every record of a set; a clip is an index of the manifest's rows.

    Args:
        folder: The set.
        manifest: The set's manifest.
        with_inputs: Yield records of `reader.read_inputs`, else of `reader.read_features`.

    Raises:
        DataError: The records are not those of the manifest.
    """
    clip_by_id = {row["id"]: clip for clip, row in enumerate(manifest["clips"])}
    missing_items = [row["items"] for row in manifest["clips"]]
    spec = reader.spec_of(manifest)
    read_records = reader.read_inputs if with_inputs else reader.read_features
    for record in read_records(folder, manifest):
        clip_id = record["id"].decode()
        clip = clip_by_id.get(clip_id)
        n_items = len(record["inputs"]) if with_inputs else item_count(record, spec)
        if clip is None or n_items > missing_items[clip]:
            raise DataError(
                f"{folder}: more records of {clip_id} than its manifest says; build the set again"
            )
        missing_items[clip] -= n_items
        yield clip, record
    if any(missing_items):
        n_items = sum(row["items"] for row in manifest["clips"])
        raise DataError(
            f"{folder}: {n_items - sum(missing_items)} faces or segments, its manifest says "
            f"{n_items}; build the set again"
        )
