"""What a folder of records holds of some sources: rows, emotions, sides and arrays, each read once for all that work with them."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from kerasemo.datasets import splits
from kerasemo.datasets.sources import Side, Source, manifest_hash, read_source, set_folder
from pipelines.core.errors import InputError, KerasemoError, raise_all
from pipelines.core.labels import in_order
from pipelines.records import reader


def corpora_of(sources: Iterable[str]) -> set[str]:
    """Return the corpora of some sources.

    >>> corpora_of(["savee/visual", "savee/audio"])
    {'savee'}
    """
    return {source.partition("/")[0] for source in sources}


def rows_by_source(records_folder: Path, sources: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the manifests' rows, with the kind of corpus, of every set that there is of the corpora of some sources."""
    folders, problems = {}, []
    for source in sources:
        try:
            folders[source] = set_folder(records_folder, source)
        except KerasemoError as error:
            problems.append(str(error))
    raise_all(problems)
    for corpus in sorted(corpora_of(sources)):
        folders |= {
            f"{corpus}/{folder.name}": folder
            for folder in reader.find_sets(records_folder / corpus)
        }
    manifests = {source: reader.read_manifest(folder) for source, folder in sorted(folders.items())}
    return {
        source: [row | {"kind": manifest.get("kind", "")} for row in manifest["clips"]]
        for source, manifest in manifests.items()
    }


def side_of(source: Source, sides: splits.Sides, side: str) -> Side:
    """Return the items of a source's clips that are on a side."""
    ids = set(sides.ids[source.name][side])
    return Side(
        source,
        source.items_of([index for index, row in enumerate(source.rows) if row["id"] in ids]),
    )


class Holdings:
    """What a folder of records holds of some sources.

    Args:
        folder: The records.
        sources: Those that are worked with; the other sets of their corpora are split together with them.

    Raises:
        InputError: There are no records of a source.
    """

    def __init__(self, folder: Path, sources: Sequence[str]):
        self.folder = folder
        self.sources = tuple(sources)
        self.rows = rows_by_source(folder, sources)
        self.emotions = {
            source: in_order(
                row["emotion"]
                for other in self.rows
                if corpora_of([other]) == corpora_of([source])
                for row in self.rows[other]
            )
            for source in sources
        }
        """Source -> the emotions of its corpus in all domains, in order."""
        self.manifests = {source: manifest_hash(set_folder(folder, source)) for source in sources}
        """Source -> the hash of its manifest."""
        self._loaded: dict[str, Source] = {}
        self._sides: dict[tuple, splits.Sides] = {}
        self._folds: dict[str, dict[str, int]] = {}

    def sides(
        self,
        *,
        protocol: str,
        fold: int,
        trained_on: Collection[str] | None = None,
        keep_copies: bool = False,
    ) -> splits.Sides:
        """Return the sides of every source, through the gate.

        Args:
            protocol: Of `splits.PROTOCOLS`.
            fold: From 0.
            trained_on: A corpus none of whose sources is among these is all test; None: each is split.
            keep_copies: See `splits.gate`.
        """
        trained = None if trained_on is None else frozenset(corpora_of(trained_on))
        asked = (protocol, fold, trained, keep_copies)
        if asked not in self._sides:
            rows = {
                source: clips
                for source, clips in self.rows.items()
                if clips or trained is None or source in trained_on
            }
            foreign = () if trained is None else corpora_of(rows) - trained
            self._sides[asked] = splits.sides(
                rows, protocol=protocol, fold=fold, foreign=foreign, keep_copies=keep_copies
            )
        return self._sides[asked]

    def folds(self, sources: Collection[str], *, protocol: str) -> dict[str, int]:
        """Return how many folds the corpus of each source has under a protocol."""
        for corpus in corpora_of(sources) - self._folds.setdefault(protocol, {}).keys():
            own = {
                source: rows
                for source, rows in self.rows.items()
                if corpora_of([source]) == {corpus}
            }
            self._folds[protocol][corpus] = splits.fold_count(corpus, own, protocol=protocol)
        return {source: self._folds[protocol][source.partition("/")[0]] for source in sources}

    def source(self, name: str) -> Source:
        """Return a source's arrays, read once."""
        if name not in self._loaded:
            loaded = read_source(self.folder, name)
            now = manifest_hash(set_folder(self.folder, name))
            if self.manifests.get(name, now) != now:  # the sides are those of the rows of before
                raise InputError(
                    f"{self.folder / name}: was built anew while this command ran; run it again"
                )
            self._loaded[name] = loaded
        return self._loaded[name]
