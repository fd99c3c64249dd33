"""The catalog of a records folder: manifests, splits and arrays of its sets, each read once.

A command makes one catalog and hands it to everything that needs records.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.datasets import sources
from kerasemo.datasets.leakage_gate import GatedSplits, split_sources
from kerasemo.datasets.segmentation import (
    Segmentation,
    UtteranceAudio,
    cut_utterances,
    normalization,
    read_utterances,
)
from kerasemo.datasets.sources import Source, Subset, corpus_of
from kerasemo.datasets.splits import fold_count
from pipelines.core.errors import DataError, InputError, raise_all
from pipelines.core.labels import in_order
from pipelines.records import reader

AS_RECORDED = Segmentation()
"""The segments of the records themselves."""


def corpora_of(source_names: Iterable[str]) -> set[str]:
    """Return the corpora of sources.

    >>> corpora_of(["savee/visual", "savee/audio"])
    {'savee'}
    """
    return {corpus_of(source) for source in source_names}


class RecordCatalog:
    """The sets of records in a folder. Each manifest and array is read when it is first needed.

    Args:
        folder: The folder of the sets, `CORPUS/DOMAIN` each.
        required: Sources that the folder must have.

    Raises:
        InputError: The folder has no set, or lacks required sources. The message has the command
            that builds each missing source.
        DataError: The manifest of a required source is damaged.
    """

    def __init__(self, folder: Path, *, required: Iterable[str] = ()) -> None:
        self.folder = folder
        self.sources = tuple(
            f"{path.parent.name}/{path.name}"
            for path in reader.find_sets(folder)
            if path.parent.parent == folder
        )
        """Every source of the folder."""
        self._manifests: dict[str, dict[str, Any]] = {}
        self._hashes: dict[str, str] = {}
        self._splits: dict[tuple[Any, ...], GatedSplits] = {}
        self._fold_counts: dict[tuple[str, str], int] = {}
        self._arrays: OrderedDict[tuple[str, Segmentation], Source] = OrderedDict()
        self.require(required)
        if not self.sources:
            raise InputError(
                f"{folder}: no set CORPUS/DOMAIN of records in it; name the folder that was given "
                "as --out to python -m pipelines.build"
            )

    def require(self, source_names: Iterable[str]) -> None:
        """Check that the folder has these sources.

        Raises:
            InputError: Sources are missing; the message has the command that builds each.
            DataError: A manifest is damaged.
        """
        problems = []
        for source in source_names:
            try:
                self.rows(source)
            except InputError as error:
                problems.append(str(error))
        raise_all(problems)

    def rows(self, source: str) -> list[dict[str, Any]]:
        """Return the manifest's row of each clip of a source, with the `kind` of its corpus.

        Raises:
            InputError: The folder has no such source.
            DataError: The manifest is damaged.
        """
        manifest = self._manifest(source)
        kind = manifest.get("kind", "")
        return [row | {"kind": kind} for row in manifest["clips"]]

    def manifest_hash(self, source: str) -> str:
        """Return the hash of a source's manifest, which stands for all its records."""
        self._manifest(source)
        return self._hashes[source]

    def is_synthetic(self, source: str) -> bool:
        """Return whether `pipelines.sample` synthesised a source; raise what `rows` raises."""
        return bool(self._manifest(source).get("synthetic", False))

    def emotions(self, source: str) -> list[str]:
        """Return the emotions of a source's corpus in all its domains, in the order of EMOTIONS."""
        return in_order(
            row["emotion"]
            for corpus_source in self.sources_of([source])
            for row in self._manifest(corpus_source)["clips"]
        )

    def sources_of(self, source_names: Iterable[str]) -> list[str]:
        """Return every source in the folder whose corpus is a corpus of these sources, sorted."""
        corpora = corpora_of(source_names)
        return sorted(source for source in self.sources if corpus_of(source) in corpora)

    def fold_count(self, source: str, *, protocol: str) -> int:
        """Return the number of folds of a source's corpus under a protocol.

        Raises:
            InputError: The corpus cannot be split by the protocol.
            DataError: Rows contradict each other.
        """
        key = (corpus_of(source), protocol)
        if key not in self._fold_counts:
            rows = {
                corpus_source: self.rows(corpus_source)
                for corpus_source in self.sources_of([source])
            }
            self._fold_counts[key] = fold_count(key[0], rows, protocol=protocol)
        return self._fold_counts[key]

    def split(
        self,
        source_names: Collection[str],
        *,
        protocol: str,
        fold: int,
        trained_on: Collection[str] | None = None,
        keep_copies: bool = False,
    ) -> GatedSplits:
        """Return the splits of these sources and of every set of their corpora, through the gate.

        Args:
            source_names: The sources that are used together.
            protocol: One of `kerasemo.config.PROTOCOLS`.
            fold: From 0.
            trained_on: A corpus none of whose sources is among these is all test. None: each corpus
                is split.
            keep_copies: See `leakage_gate.pass_gate`.

        Raises:
            InputError: A source is missing, or a corpus cannot be split by the protocol.
            DataError: A speaker, an utterance or a content is in two splits.
        """
        self.require(source_names)
        gated = tuple(self.sources_of(source_names))
        trained = None if trained_on is None else frozenset(trained_on)
        key = (gated, protocol, fold, trained, keep_copies)
        if key not in self._splits:
            rows = {source: self.rows(source) for source in gated}
            foreign: set[str] = set()
            if trained is not None:
                # A corpus without clips cannot be split, and need not be if it is not trained on.
                rows = {name: clips for name, clips in rows.items() if clips or name in trained}
                foreign = corpora_of(rows) - corpora_of(trained)
            self._splits[key] = split_sources(
                rows, protocol=protocol, fold=fold, foreign=foreign, keep_copies=keep_copies
            )
        return self._splits[key]

    def load(self, source: str, segmentation: Segmentation = AS_RECORDED) -> Source:
        """Return the arrays of a source.

        The arrays that were used last are kept, up to a quarter of the memory.

        Args:
            source: `CORPUS/DOMAIN`.
            segmentation: How audio is cut.

        Raises:
            InputError: The source is missing.
            DataError: The set is damaged, has another spec, or changed while the command ran.
            StorageError: A large array cannot be written to its file.
        """
        if not segmentation.changes(source):
            segmentation = AS_RECORDED
        key = (source, segmentation)
        if key not in self._arrays:
            self._arrays[key] = self._read(source, segmentation)
        self._arrays.move_to_end(key)
        self._forget_arrays()
        return self._arrays[key]

    def utterances(self, source: str) -> UtteranceAudio:
        """Return the audio of a source record by record; raise what `load` raises."""
        manifest, emotions = self._manifest(source), frozenset(self.emotions(source))
        with self._checked_unchanged(source):
            return read_utterances(source, self.folder / source, manifest, emotions)

    def subset(
        self, splits: GatedSplits, source: str, split: str, segmentation: Segmentation = AS_RECORDED
    ) -> Subset:
        """Return the items of a source in one split; raise what `load` raises."""
        return sources.split_subset(self.load(source, segmentation), splits.clip_ids[source][split])

    def _manifest(self, source: str) -> dict[str, Any]:
        if source not in self._manifests:
            folder = sources.set_folder(self.folder, source)
            self._hashes[source] = sources.manifest_hash(folder)
            self._manifests[source] = reader.read_manifest(folder)
        return self._manifests[source]

    def _read(self, source: str, segmentation: Segmentation) -> Source:
        if segmentation == AS_RECORDED:
            manifest, emotions = self._manifest(source), frozenset(self.emotions(source))
            with self._checked_unchanged(source):
                return sources.read_set(source, self.folder / source, manifest, emotions)
        audio = self.utterances(source)
        normalize = normalization(audio, segmentation)
        return cut_utterances(normalize(audio), spec=segmentation.spec)[0]

    @contextlib.contextmanager
    def _checked_unchanged(self, source: str) -> Iterator[None]:
        """Raise DataError if a set was built again before the block has read it."""
        try:
            yield
        except DataError:
            self._check_unchanged(source)  # new shards do not fit the manifest that was read before
            raise
        self._check_unchanged(source)

    def _check_unchanged(self, source: str) -> None:
        """Raise DataError if a set was built again since its manifest was read."""
        known = self.manifest_hash(source)
        if sources.manifest_hash(sources.set_folder(self.folder, source)) != known:
            raise DataError(
                f"{self.folder / source}: was built again while this command ran; run the command "
                "again"
            )

    def _forget_arrays(self) -> None:
        """Drop the least recently used arrays until the rest fits a quarter of the memory."""
        while len(self._arrays) > 1 and self._array_bytes() > sources.memory_bytes() // 4:
            self._arrays.popitem(last=False)

    def _array_bytes(self) -> int:
        inputs = [source.inputs for source in self._arrays.values()]
        return sum(array.nbytes for array in inputs if not isinstance(array, np.memmap))
