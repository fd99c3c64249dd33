"""Which side of a split each clip is on, and the gate that lets nothing leak from one side to another.

A corpus is split once, over the utterances of all its domains, and every set of it and every stage takes that split. So give `sides`
every set there is of a corpus, not only those of one stage. Rows are those of manifests: mappings with `id`, `speaker`, `emotion`,
`utterance`, `sentence`, `split`, `sha256` (of the clip's file) and, where the manifest tells them, `content` (the hash of what was read
of the file) and `kind` (of corpus). A source is `CORPUS/DOMAIN`. Nothing here depends on the order of rows.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from kerasemo.config.schema import PROTOCOLS
from pipelines.core.errors import InputError
from pipelines.corpora.clip import AUDIO_SUFFIXES

UTTERANCE_FOLDS = 5  # validation by utterances takes one in as many
SPEAKER_FOLDS = 6  # of a corpus of more than:
MOST_SPEAKERS_AS_FOLDS = 10
SEED = "kerasemo"  # of the order in which utterances are dealt

Row = Mapping[str, Any]


def split_speakers(
    corpus: str, utterances: Mapping[str, Row], fold: int
) -> tuple[int, dict[str, str]]:
    """Return how many folds of speakers there are, and the side of each utterance in one; InputError where speakers do not suffice."""
    remedy = "take --protocol speaker-dependent, or a CSV manifest that gives speakers"
    speakers = sorted({row["speaker"] for row in utterances.values()}, key=_natural)
    if unknown := sum(not row["speaker"] for row in utterances.values()):
        number = f"{unknown} of {len(utterances)} utterances have none"
        raise InputError(
            f"{corpus}: speaker-independent needs every utterance's speaker; {number}; {remedy}"
        )
    if len(speakers) < 2:
        raise InputError(
            f"{corpus}: speaker-independent needs at least 2 speakers; received {speakers[0]!r} alone; {remedy}"
        )
    folds = len(speakers) if len(speakers) <= MOST_SPEAKERS_AS_FOLDS else SPEAKER_FOLDS
    first, end = (k * len(speakers) // folds for k in (fold % folds, fold % folds + 1))
    others = speakers[end:] + speakers[:first]  # those that follow the test speakers, cyclically
    held = others[: 2 if len(others) >= 10 else 1 if len(others) >= 4 else 0]
    side_of = (
        dict.fromkeys(others, "train")
        | dict.fromkeys(held, "validation")
        | dict.fromkeys(speakers[first:end], "test")
    )
    return folds, {utterance: side_of[row["speaker"]] for utterance, row in utterances.items()}


def deal_utterances(
    corpus: str, utterances: Mapping[str, Row], rows: Sequence[Row], fold: int
) -> tuple[int, dict[str, str]]:
    """Return how many folds of utterances there are, and the side of each utterance in one; InputError where there are too few."""
    groups = _groups(utterances, rows)
    if len(groups) < UTTERANCE_FOLDS:
        raise InputError(
            f"{corpus}: speaker-dependent needs at least {UTTERANCE_FOLDS} groups of takes; received {len(groups)}; add clips"
        )
    side = {fold % UTTERANCE_FOLDS: "test", (fold + 1) % UTTERANCE_FOLDS: "validation"}
    dealt = {
        utterance: place % UTTERANCE_FOLDS
        for place, group in enumerate(groups)
        for utterance in group
    }
    return UTTERANCE_FOLDS, {
        utterance: side.get(dealt[utterance], "train") for utterance in utterances
    }


def held_out(
    corpus: str, utterances: Mapping[str, Row], rows: Sequence[Row], side_of: Mapping[str, str]
) -> list[str]:
    """Return the training utterances that become validation: of each emotion one group in five, at least one where there are two."""
    training = {
        utterance: row for utterance, row in utterances.items() if side_of[utterance] == "train"
    }
    held = []
    for _, groups in itertools.groupby(
        _groups(training, rows), key=lambda group: training[group[0]]["emotion"]
    ):
        if len(groups := list(groups)) > 1:
            held += itertools.chain(*groups[min(2, len(groups) - 1) :: UTTERANCE_FOLDS])
    if not held:
        raise InputError(
            f"{corpus}: validation needs two groups of training utterances of one emotion; received none such; add clips"
        )
    return held


def _groups(utterances: Mapping[str, Row], rows: Sequence[Row]) -> list[list[str]]:
    """Return the utterances that stay together, each group sorted; in the order of emotion, speaker and a hash.

    Together are all takes of one speaker, sentence and emotion (where the sentence is known), and those of one content.
    """
    parent = {}

    def root(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for row in rows:
        if row["utterance"] in utterances:
            takes = (
                ("takes", row["speaker"], row["sentence"], row["emotion"])
                if row["sentence"]
                else ("takes", row["utterance"])
            )
            for link in (takes, *contents(row)):
                parent[root(link)] = root(("utterance", row["utterance"]))
    groups = defaultdict(list)
    for utterance in utterances:
        groups[root(("utterance", utterance))].append(utterance)
    by_hash = sorted(groups.values(), key=lambda group: digest([SEED, group[0]]))
    return sorted(
        by_hash,
        key=lambda group: (utterances[group[0]]["emotion"], utterances[group[0]]["speaker"]),
    )


def contents(row: Row) -> list[tuple[str, str]]:
    """Return what copies of a clip are known by: the file's bytes and, in manifests that tell it, what was read of them.

    >>> contents({"sha256": "f00d", "content": "beef"})
    [('sha256', 'f00d'), ('content', 'beef')]
    """
    return [(name, row[name]) for name in ("sha256", "content") if row.get(name)]


def _natural(name: str) -> tuple:
    """Return a sort key that counts: `c:2` before `c:10`."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def digest(value: Any) -> str:
    """Return the SHA-256 of what is ready for JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


SIDES = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Split:
    """The side of every utterance of a corpus."""

    corpus: str
    protocol: str
    fold: int
    folds: int
    publisher: bool  # whether the sides are the publisher's own
    validation_by: str
    """What makes the validation side: `speakers` (who are not in train), `utterances` (of training speakers), `publisher` or `none`."""
    side_of: Mapping[str, str]

    def side(self, row: Row) -> str:
        """Return the side of a clip: that of its utterance."""
        if row["utterance"] not in self.side_of:
            raise InputError(
                f"utterance {row['utterance']!r} is not in the split of {self.corpus}; split the corpus with all of its sets"
            )
        return self.side_of[row["utterance"]]

    @property
    def digest(self) -> str:
        """The hash of the sides."""
        return digest([self.corpus, dict(self.side_of)])


@dataclasses.dataclass(frozen=True)
class Sides:
    """The clips that may be used of each source on each side, as the gate let them pass."""

    splits: Mapping[str, Split]
    ids: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Source -> side -> ids, sorted."""
    dropped: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Source -> side -> ids of the copies that were dropped from it, sorted."""
    left_in: Mapping[str, Mapping[str, tuple[str, ...]]] = dataclasses.field(default_factory=dict)
    """Where the gate was asked to keep copies: source -> side -> ids of the copies of test files that are on it, sorted."""

    @property
    def deduplicated(self) -> bool:
        """Whether copies were dropped: the stamp of a result."""
        return any(ids for by_side in self.dropped.values() for ids in by_side.values())

    @functools.cached_property
    def digests(self) -> dict[str, str]:
        """The hash of each source's sides."""
        return {source: digest(by_side) for source, by_side in self.ids.items()}

    @property
    def digest(self) -> str:
        """The hash of all sides of all sources."""
        return digest(self.digests)

    @property
    def report(self) -> dict:
        """Ready for JSON: how each source was split, how many clips its sides have, and how many copies were dropped from them."""
        sources = {}
        for source, ids in self.ids.items():
            split, dropped = self.splits[source.rpartition("/")[0]], self.dropped[source]
            how = {
                name: getattr(split, name)
                for name in ("protocol", "fold", "folds", "publisher", "validation_by")
            }
            sources[source] = (
                how
                | {side: len(ids[side]) for side in SIDES}
                | {f"dropped_{side}": len(dropped[side]) for side in SIDES[:2]}
            )
            if self.left_in and split.publisher:
                sources[source] |= {
                    f"copies_{side}": len(self.left_in[source][side]) for side in SIDES[:2]
                }
        return {"digest": self.digest, "deduplicated": self.deduplicated, "sources": sources}


def stamp(facts: Mapping[str, Any]) -> str:
    """Return what a result is stamped with of the copies in a publisher's split, of a source's entry in `Sides.report`; else nothing.

    >>> stamp({"dropped_train": 3, "dropped_validation": 1})
    'deduplicated: 4 copies of clips on a later side left out'
    """
    if "copies_train" in facts:
        more = f", {facts['copies_validation']} in validation" if facts["copies_validation"] else ""
        return f"as published: {facts['copies_train']} copies of test clips stay in training{more}"
    dropped = facts["dropped_train"] + facts["dropped_validation"]
    return f"deduplicated: {dropped} copies of clips on a later side left out" if dropped else ""


def sides(
    rows_by_source: Mapping[str, Sequence[Row]],
    *,
    protocol: str,
    fold: int,
    foreign: Collection[str] = (),
    keep_copies: bool = False,
) -> Sides:
    """Split each corpus once, take one file of each utterance in each source, and pass the gate.

    `rows_by_source` has the rows of every set of every corpus; `fold` counts from 0 and is fold k mod K of a corpus of K folds; `foreign`
    names the corpora that no stage trains on; `keep_copies` is the gate's. InputError where a corpus cannot be split so, or something
    would leak.
    """
    by_corpus = defaultdict(dict)
    for source, rows in rows_by_source.items():
        by_corpus[source.rpartition("/")[0]][source] = rows
    splits = {
        corpus: split_corpus(corpus, rows, protocol=protocol, fold=fold, foreign=corpus in foreign)
        for corpus, rows in sorted(by_corpus.items())
    }
    return gate(
        splits,
        {source: one_per_utterance(rows) for source, rows in rows_by_source.items()},
        keep_copies=keep_copies,
    )


def fold_count(corpus: str, rows_by_domain: Mapping[str, Sequence[Row]], *, protocol: str) -> int:
    """Return how many folds a corpus has under a protocol; one where its publisher split it."""
    return split_corpus(corpus, rows_by_domain, protocol=protocol, fold=0).folds


def split_corpus(
    corpus: str,
    rows_by_domain: Mapping[str, Sequence[Row]],
    *,
    protocol: str,
    fold: int,
    foreign: bool = False,
) -> Split:
    """Return the split of a corpus, over the utterances of all its domains.

    A publisher's split is kept, under every protocol. `speaker-independent`: each of up to 10 speakers is the test side of one fold; more
    speakers make 6 blocks of neighbours. `speaker-dependent`: 5 folds of utterances; those of one speaker, sentence and emotion stay
    together, and so do those whose files have the same content. Where no validation comes of that, training utterances become it.
    A foreign corpus, which no stage trains on, is all test, unless its publisher split it. InputError where rows contradict each other,
    or are too few or too little known for the protocol.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}; received {protocol!r}")
    if fold < 0:
        raise InputError(f"fold must be 0 or more; received {fold}")
    rows = list(itertools.chain(*rows_by_domain.values()))
    utterances = _utterances(corpus, rows)
    publisher = bool(rows[0]["split"])
    if publisher or foreign:
        folds, side_of = (
            1,
            {utterance: row["split"] or "test" for utterance, row in utterances.items()},
        )
        validation_by = "publisher" if publisher else "none"
    elif protocol == "speaker-independent":
        folds, side_of = split_speakers(corpus, utterances, fold)
        validation_by = "speakers"
    else:
        folds, side_of = deal_utterances(corpus, utterances, rows, fold)
        validation_by = "utterances"
    missing = set() if foreign else set(SIDES) - set(side_of.values())
    if missing - {"validation"}:
        lacks = " and ".join(sorted(missing))
        raise InputError(
            f"{corpus}: the publisher's split must have train and test; it lacks {lacks}; add it or give no split"
        )
    if missing:
        side_of |= dict.fromkeys(held_out(corpus, utterances, rows, side_of), "validation")
        validation_by = "utterances"
    return Split(corpus, protocol, fold % folds, folds, publisher, validation_by, side_of)


def one_per_utterance(rows: Sequence[Row]) -> list[Row]:
    """Return one file of each utterance of a set, in the order of the rows: sound alone before a video's, then the smallest id.

    >>> [row["id"] for row in one_per_utterance([{"id": "a.mp4", "utterance": "u"}, {"id": "b.wav", "utterance": "u"}])]
    ['b.wav']
    """
    chosen = {}
    for row in sorted(
        rows,
        key=lambda row: (PurePosixPath(row["id"]).suffix.lower() not in AUDIO_SUFFIXES, row["id"]),
    ):
        chosen.setdefault(row["utterance"], row["id"])
    return [row for row in rows if chosen[row["utterance"]] == row["id"]]


def gate(
    splits: Mapping[str, Split],
    rows_by_source: Mapping[str, Sequence[Row]],
    *,
    keep_copies: bool = False,
) -> Sides:
    """Return the clips of each side, after checking that no speaker, utterance or content is on two sides, over all sources together.

    Inside a publisher's split, utterances of train that hold a copy of a validation or test file are dropped from every domain, and so
    are those of validation that hold a copy of a test file; with `keep_copies`, for figures beside those of others who kept them, they
    stay and are counted. Every other leak is an InputError that names the two files and the remedy.
    """
    placed = []
    for source, rows in sorted(rows_by_source.items()):
        split = splits[source.rpartition("/")[0]]
        placed += [
            _Placed(source, split.side(row), row, split)
            for row in sorted(rows, key=lambda row: row["id"])
        ]
    published = sorted(
        (clip for clip in placed if clip.split.publisher), key=lambda clip: SIDES.index(clip.side)
    )
    last = {
        (clip.split.corpus, content): clip.side
        for clip in published
        for content in contents(clip.row)
    }  # the last side that has it
    ends = [
        (
            clip,
            max(
                (last[clip.split.corpus, content] for content in contents(clip.row)),
                key=SIDES.index,
            ),
        )
        for clip in published
    ]
    copies = {clip.row["utterance"] for clip, end in ends if clip.side != end}
    kept = [clip for clip in placed if keep_copies or clip.row["utterance"] not in copies]
    copied = "they are copies; remove one and build again, or, within one corpus, take the protocol speaker-dependent"
    for name, remedy in (
        ("speaker", "give each person one speaker, of one corpus"),
        ("utterance", "split a corpus once, for all of its domains"),
        ("sha256", copied),
        ("content", copied),
    ):
        seen = defaultdict(dict)  # value -> (side, corpus) -> the first clip there
        for clip in kept:
            side, value = clip.speaker_side if name == "speaker" else clip.side, clip.known_by(name)
            if not side or not value:
                continue
            stays = (
                clip.split.corpus
                if keep_copies and remedy == copied and clip.split.publisher
                else None
            )
            for (met_side, corpus), met in seen[value].items():
                if side != met_side and corpus != stays:
                    raise InputError(
                        f"{name} {value!r} is on two sides: {met} and {clip}; {remedy}"
                    )
            seen[value].setdefault((side, clip.split.corpus), clip)

    def ids(clips: Sequence[_Placed]) -> dict[str, dict[str, tuple[str, ...]]]:
        by_side = {source: {side: [] for side in SIDES} for source in sorted(rows_by_source)}
        for clip in clips:
            by_side[clip.source][clip.side].append(clip.row["id"])
        return {
            source: {side: tuple(names) for side, names in here.items()}
            for source, here in by_side.items()
        }

    if keep_copies:
        of_test = {clip.row["utterance"] for clip, end in ends if clip.side != end == "test"}
        return Sides(
            splits,
            ids(kept),
            ids([]),
            ids([clip for clip in placed if clip.row["utterance"] in of_test]),
        )
    return Sides(
        splits, ids(kept), ids([clip for clip in placed if clip.row["utterance"] in copies])
    )


class _Placed(NamedTuple):
    """A clip on its side."""

    source: str
    side: str
    row: Row
    split: Split

    def __str__(self) -> str:
        return f"{self.source} {self.row['id']} ({self.side})"

    def known_by(self, name: str) -> str:
        """Return a value that no two sides may have; a published corpus that was built under two names has the same speakers in both."""
        value, kind = self.row.get(name, ""), self.row.get("kind", "")
        if (
            name in ("speaker", "utterance")
            and kind not in ("", "folder")
            and value.startswith(f"{self.split.corpus}:")
        ):
            return kind + value.removeprefix(self.split.corpus)
        return value

    @property
    def speaker_side(self) -> str:
        """The side that the speaker must keep to, if any: validation by utterances has the speakers of train."""
        if (
            self.split.protocol != "speaker-independent"
            or self.split.publisher
            or not self.row["speaker"]
        ):
            return ""
        return (
            "train"
            if self.side == "validation" and self.split.validation_by == "utterances"
            else self.side
        )


def _utterances(corpus: str, rows: Sequence[Row]) -> dict[str, Row]:
    """Return one row of each utterance, sorted by utterance, after checking that all rows of an utterance agree."""
    if not rows:
        raise InputError(
            f"{corpus}: no clips to split; build the corpus first (python -m pipelines.build)"
        )
    without = sum(not row["split"] for row in rows)
    if 0 < without < len(rows):
        raise InputError(
            f"{corpus}: {without} of {len(rows)} clips have no split; give every clip its publisher's split, or none"
        )
    utterances = {}
    for row in rows:
        if not row["sha256"] or row["split"] not in ("", *SIDES):
            raise InputError(
                f"{corpus}: {row['id']} has split {row['split']!r}, sha256 {row['sha256']!r}; build the corpus again"
            )
        first = utterances.setdefault(row["utterance"], row)
        for name in ("speaker", "emotion", "sentence", "split"):
            if row[name] != first[name]:
                two = f"{first[name]!r} ({first['id']}) and {row[name]!r} ({row['id']})"
                raise InputError(
                    f"{corpus}: utterance {row['utterance']!r} has two values of {name}: {two}; mend the labels"
                )
    return dict(sorted(utterances.items()))
