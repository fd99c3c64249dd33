"""The leakage gate: no speaker, utterance or content is in two splits, over all sources together.

Give the gate every set of a corpus, not only the sets of one stage: a corpus is split over all of
them.
"""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from kerasemo.datasets.sources import corpus_of
from kerasemo.datasets.splits import (
    SPLITS,
    CorpusSplit,
    Row,
    content_hashes,
    one_per_utterance,
    split_corpus,
)
from pipelines.core.errors import DataError
from pipelines.core.files import json_sha256

ClipIds = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Source -> split -> ids of clips, sorted."""


@dataclasses.dataclass(frozen=True)
class GatedSplits:
    """The clips of each source and split that passed the leakage gate."""

    corpus_splits: Mapping[str, CorpusSplit]
    """Corpus -> its split."""
    clip_ids: ClipIds
    """The clips that may be used."""
    dropped_ids: ClipIds
    """The copies that were dropped."""
    copy_ids: ClipIds = dataclasses.field(default_factory=dict)
    """The copies of test clips that stay, if copies were kept."""

    def is_deduplicated(self, source: str) -> bool:
        """Return whether copies of clips were dropped from a source."""
        return any(self.dropped_ids[source].values())

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The hash of each source's splits."""
        return {source: json_sha256(by_split) for source, by_split in self.clip_ids.items()}

    @property
    def digest(self) -> str:
        """The hash of all splits of all sources."""
        return json_sha256(self.digests)

    def facts(self, source: str) -> dict[str, Any]:
        """Return how a source was split, ready for JSON.

        Returns:
            `protocol`, `fold`, `folds`, `publisher`, `validation_by`, the number of clips in each
            split, and how many copies were dropped from train and validation (`dropped_train`, ...)
            or stay (`copies_train`, ...).
        """
        corpus_split = self.corpus_splits[corpus_of(source)]
        names = ("protocol", "fold", "folds", "publisher", "validation_by")
        facts = {name: getattr(corpus_split, name) for name in names}
        facts |= {split: len(self.clip_ids[source][split]) for split in SPLITS}
        for split in SPLITS[:2]:
            facts[f"dropped_{split}"] = len(self.dropped_ids[source][split])
        if self.copy_ids and corpus_split.publisher:
            for split in SPLITS[:2]:
                facts[f"copies_{split}"] = len(self.copy_ids[source][split])
        return facts

    @property
    def report(self) -> dict[str, Any]:
        """The facts of every source, the handling of copies, and the digest, for JSON."""
        return {
            "digest": self.digest,
            "deduplicated": any(map(self.is_deduplicated, self.dropped_ids)),
            "sources": {source: self.facts(source) for source in self.clip_ids},
        }


def copies_stamp(facts: Mapping[str, Any]) -> str:
    """Return the remark on copies that a result carries; empty without copies.

    Args:
        facts: See `GatedSplits.facts`.

    >>> copies_stamp({"dropped_train": 3, "dropped_validation": 1})
    'deduplicated: 4 copies of clips in a later split were left out'
    """
    if "copies_train" in facts:
        stamp = f"as published: {facts['copies_train']} copies of test clips stay in training"
        n_validation = facts["copies_validation"]
        return f"{stamp}, {n_validation} in validation" if n_validation else stamp
    n_dropped = facts["dropped_train"] + facts["dropped_validation"]
    if not n_dropped:
        return ""
    return f"deduplicated: {n_dropped} copies of clips in a later split were left out"


def split_sources(
    rows_by_source: Mapping[str, Sequence[Row]],
    *,
    protocol: str,
    fold: int,
    foreign: Collection[str] = (),
    keep_copies: bool = False,
) -> GatedSplits:
    """Split each corpus once, take one file of each utterance in each source, and pass the gate.

    Args:
        rows_by_source: The rows of every set of every corpus.
        protocol: One of PROTOCOLS.
        fold: From 0; fold k is fold k mod K of a corpus with K folds.
        foreign: The corpora that no stage trains on.
        keep_copies: See `pass_gate`.

    Raises:
        InputError: A corpus cannot be split by the protocol.
        DataError: Rows contradict each other, or something is in two splits.
    """
    sources_of: dict[str, dict[str, Sequence[Row]]] = defaultdict(dict)
    for source, rows in rows_by_source.items():
        sources_of[corpus_of(source)][source] = rows
    corpus_splits = {
        corpus: split_corpus(
            corpus, rows, protocol=protocol, fold=fold, is_foreign=corpus in foreign
        )
        for corpus, rows in sorted(sources_of.items())
    }
    used_rows = {source: one_per_utterance(rows) for source, rows in rows_by_source.items()}
    return pass_gate(corpus_splits, used_rows, keep_copies=keep_copies)


def pass_gate(
    corpus_splits: Mapping[str, CorpusSplit],
    rows_by_source: Mapping[str, Sequence[Row]],
    *,
    keep_copies: bool = False,
) -> GatedSplits:
    """Return the clips of each split, after no speaker, utterance or content is in two splits.

    Within a publisher's split, utterances with a copy in a later split are dropped from every
    domain: from train those with a copy in validation or test, from validation those with a copy in
    test.

    Args:
        corpus_splits: Corpus -> its split.
        rows_by_source: One row of each utterance, of every source.
        keep_copies: Keep and count these copies, for figures next to those of others who kept them.

    Raises:
        DataError: Something else is in two splits. The message names the two files and the remedy.
    """
    clips = [
        _SplitClip(source, corpus_split.split_of(row), row, corpus_split)
        for source, rows in sorted(rows_by_source.items())
        for corpus_split in [corpus_splits[corpus_of(source)]]
        for row in sorted(rows, key=lambda row: row["id"])
    ]
    last_split = _last_split_of_copies(clips)
    copied_utterances = {clip.row["utterance"] for clip, last in last_split if clip.split != last}
    used_clips = [
        clip for clip in clips if keep_copies or clip.row["utterance"] not in copied_utterances
    ]
    _check_leakage(used_clips, keep_copies=keep_copies)
    sources = sorted(rows_by_source)
    if keep_copies:
        of_test = {
            clip.row["utterance"] for clip, last in last_split if clip.split != last == "test"
        }
        copies = [clip for clip in clips if clip.row["utterance"] in of_test]
        return GatedSplits(
            corpus_splits,
            _clip_ids(used_clips, sources),
            _clip_ids([], sources),
            _clip_ids(copies, sources),
        )
    dropped = [clip for clip in clips if clip.row["utterance"] in copied_utterances]
    return GatedSplits(corpus_splits, _clip_ids(used_clips, sources), _clip_ids(dropped, sources))


class _SplitClip(NamedTuple):
    """A clip and its split."""

    source: str
    split: str
    row: Row
    corpus_split: CorpusSplit

    def __str__(self) -> str:
        return f"{self.source} {self.row['id']} ({self.split})"

    def identity(self, name: str) -> str:
        """Return the value of `name` that must not be in two splits; empty if it is not known.

        A published corpus that was built under two names has the same speakers in both, so the kind
        of the corpus replaces its name.
        """
        value, kind = self.row.get(name, ""), self.row.get("kind", "")
        prefix = f"{self.corpus_split.corpus}:"
        names_person = name in ("speaker", "utterance")
        if names_person and kind not in ("", "folder") and value.startswith(prefix):
            return f"{kind}:{value.removeprefix(prefix)}"
        return value

    @property
    def speaker_split(self) -> str:
        """The split that the speaker must be in alone; empty if the speaker may be in several."""
        split = self.corpus_split
        if split.protocol != "speaker-independent" or split.publisher or not self.row["speaker"]:
            return ""
        # Validation by utterances has the speakers of train.
        has_training_speakers = self.split == "validation" and split.validation_by == "utterances"
        return "train" if has_training_speakers else self.split


def _last_split_of_copies(clips: Sequence[_SplitClip]) -> list[tuple[_SplitClip, str]]:
    """Return the clips of publishers' splits, each with the last split of its copies."""
    published = sorted(
        (clip for clip in clips if clip.corpus_split.publisher),
        key=lambda clip: SPLITS.index(clip.split),
    )
    split_by_content = {
        (clip.corpus_split.corpus, content): clip.split
        for clip in published
        for content in content_hashes(clip.row)
    }

    def last(clip: _SplitClip) -> str:
        corpus = clip.corpus_split.corpus
        splits = (split_by_content[corpus, content] for content in content_hashes(clip.row))
        return max(splits, key=SPLITS.index)

    return [(clip, last(clip)) for clip in published]


_COPY_REMEDY = (
    "they are copies; remove one and build again, or, within one corpus, use the protocol "
    "speaker-dependent"
)
_REMEDIES = {
    "speaker": "give each person one speaker, in one corpus",
    "utterance": "split a corpus once, for all of its domains",
    "sha256": _COPY_REMEDY,
    "content": _COPY_REMEDY,
}
"""The things that must not be in two splits, and the remedy for each."""


def _check_leakage(clips: Sequence[_SplitClip], *, keep_copies: bool) -> None:
    """Raise DataError if a speaker, an utterance or a content is in two splits."""
    for name, remedy in _REMEDIES.items():
        # value -> (split, corpus) -> the first clip
        first_clips: dict[str, dict[tuple[str, str], _SplitClip]] = defaultdict(dict)
        for clip in clips:
            split = clip.speaker_split if name == "speaker" else clip.split
            value = clip.identity(name)
            if not split or not value:
                continue
            corpus = clip.corpus_split.corpus
            may_repeat = keep_copies and remedy is _COPY_REMEDY and clip.corpus_split.publisher
            for (other_split, other_corpus), other_clip in first_clips[value].items():
                if split != other_split and not (may_repeat and other_corpus == corpus):
                    raise DataError(
                        f"{name} {value!r} is in two splits: {other_clip} and {clip}; {remedy}"
                    )
            first_clips[value].setdefault((split, corpus), clip)


def _clip_ids(clips: Sequence[_SplitClip], sources: Sequence[str]) -> ClipIds:
    ids: dict[str, dict[str, list[str]]] = {
        source: {split: [] for split in SPLITS} for source in sources
    }
    for clip in clips:
        ids[clip.source][clip.split].append(clip.row["id"])
    return {
        source: {split: tuple(names) for split, names in by_split.items()}
        for source, by_split in ids.items()
    }
