"""The split (train, validation or test) of each utterance of a corpus.

A corpus is split once, over the utterances of all its domains. Every set of the corpus and every
stage uses that split. Nothing depends on the order of rows.

A row is a row of a manifest, with `id`, `speaker`, `emotion`, `utterance`, `sentence`, `split`, and
`sha256` (of the clip's file). It may also have `content` (the hash of the decoded file) and `kind`
(of the corpus).
"""

import dataclasses
import itertools
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from kerasemo.config.schema import PROTOCOLS
from pipelines.core.errors import DataError, InputError
from pipelines.core.files import json_sha256
from pipelines.corpora.clip import AUDIO_SUFFIXES

SPLITS = ("train", "validation", "test")
"""The splits; an item of a later one must not be known from an earlier one."""

N_UTTERANCE_FOLDS = 5
"""Folds of utterances. One fold in five is also the validation that is taken from training
utterances."""

N_SPEAKER_FOLDS = 6
"""Folds of speakers in a corpus with more than MAX_SPEAKERS_AS_FOLDS speakers."""

MAX_SPEAKERS_AS_FOLDS = 10
"""With at most this many speakers, each speaker is the test split of one fold."""

ORDER_SEED = "kerasemo"
"""The seed of the order in which utterances are assigned to folds."""

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class CorpusSplit:
    """The split of every utterance of a corpus."""

    corpus: str
    protocol: str
    fold: int
    folds: int
    """The number of folds."""
    publisher: bool
    """Whether the publisher of the corpus made the split."""
    validation_by: str
    """What makes the validation split: `speakers` (other than those in train), `utterances` (of
    training speakers), `publisher` or `none`."""
    split_by_utterance: Mapping[str, str]

    def split_of(self, row: Row) -> str:
        """Return the split of a clip: the split of its utterance.

        Raises:
            DataError: The utterance was not there when the corpus was split.
        """
        if row["utterance"] not in self.split_by_utterance:
            raise DataError(
                f"utterance {row['utterance']!r} is not in the split of {self.corpus}; "
                "split the corpus with all of its sets"
            )
        return self.split_by_utterance[row["utterance"]]

    @property
    def digest(self) -> str:
        """The hash of the split of every utterance."""
        return json_sha256([self.corpus, dict(self.split_by_utterance)])


def fold_count(corpus: str, rows_by_source: Mapping[str, Sequence[Row]], *, protocol: str) -> int:
    """Return the number of folds of a corpus under a protocol; 1 for a publisher's split."""
    return split_corpus(corpus, rows_by_source, protocol=protocol, fold=0).folds


def split_corpus(
    corpus: str,
    rows_by_source: Mapping[str, Sequence[Row]],
    *,
    protocol: str,
    fold: int,
    is_foreign: bool = False,
) -> CorpusSplit:
    """Return the split of a corpus, over the utterances of all its domains.

    A publisher's split is kept under every protocol. `speaker-independent`: each of up to 10
    speakers is the test split of one fold; more speakers make 6 blocks. `speaker-dependent`: 5
    folds of utterances; all takes of one speaker, sentence and emotion stay together, and so do
    copies. If no validation split comes of that, training utterances are taken for validation.

    Args:
        corpus: The name of the corpus.
        rows_by_source: The rows of every set of the corpus.
        protocol: One of PROTOCOLS.
        fold: From 0; fold k is fold k mod K of a corpus with K folds.
        is_foreign: Whether no stage trains on the corpus. Then all of it is test, unless its
            publisher made a split.

    Raises:
        InputError: The protocol or the fold does not exist, or the corpus is too small for it.
        DataError: Rows contradict each other.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}; received {protocol!r}")
    if fold < 0:
        raise InputError(f"fold must be 0 or more; received {fold}")
    rows = list(itertools.chain(*rows_by_source.values()))
    row_by_utterance = _row_by_utterance(corpus, rows)
    has_publisher_split = bool(rows[0]["split"])
    if has_publisher_split or is_foreign:
        folds = 1
        split_by_utterance = {
            utterance: row["split"] or "test" for utterance, row in row_by_utterance.items()
        }
        validation_by = "publisher" if has_publisher_split else "none"
    elif protocol == "speaker-independent":
        folds, split_by_utterance = assign_speakers(corpus, row_by_utterance, fold)
        validation_by = "speakers"
    else:
        folds, split_by_utterance = assign_utterances(corpus, row_by_utterance, rows, fold)
        validation_by = "utterances"
    missing = set() if is_foreign else set(SPLITS) - set(split_by_utterance.values())
    if missing - {"validation"}:
        raise DataError(
            f"{corpus}: the publisher's split must have train and test; it has no "
            f"{' and no '.join(sorted(missing))}; add the split, or name no split at all"
        )
    if missing:
        validation = choose_validation(corpus, row_by_utterance, rows, split_by_utterance)
        split_by_utterance |= dict.fromkeys(validation, "validation")
        validation_by = "utterances"
    return CorpusSplit(
        corpus,
        protocol,
        fold % folds,
        folds,
        has_publisher_split,
        validation_by,
        split_by_utterance,
    )


def assign_speakers(
    corpus: str, row_by_utterance: Mapping[str, Row], fold: int
) -> tuple[int, dict[str, str]]:
    """Return the number of folds of speakers, and the split of each utterance in one fold.

    Raises:
        InputError: An utterance has no speaker, or the corpus has fewer than two speakers.
    """
    remedy = "use --protocol speaker-dependent, or give speakers in a CSV manifest"
    speakers = sorted({row["speaker"] for row in row_by_utterance.values()}, key=_natural_order)
    n_unknown = sum(not row["speaker"] for row in row_by_utterance.values())
    if n_unknown:
        raise InputError(
            f"{corpus}: speaker-independent needs the speaker of every utterance; "
            f"{n_unknown} of {len(row_by_utterance)} utterances have none; {remedy}"
        )
    n_speakers = len(speakers)
    if n_speakers < 2:
        raise InputError(
            f"{corpus}: speaker-independent needs at least 2 speakers; received only "
            f"{speakers[0]!r}; {remedy}"
        )
    folds = n_speakers if n_speakers <= MAX_SPEAKERS_AS_FOLDS else N_SPEAKER_FOLDS
    start, stop = (k * n_speakers // folds for k in (fold % folds, fold % folds + 1))
    remaining = speakers[stop:] + speakers[:start]  # in cyclic order after the test speakers
    n_validation = 0
    if len(remaining) >= 4:
        n_validation = 2 if len(remaining) >= 10 else 1
    split_by_speaker = (
        dict.fromkeys(remaining, "train")
        | dict.fromkeys(remaining[:n_validation], "validation")
        | dict.fromkeys(speakers[start:stop], "test")
    )
    return folds, {
        utterance: split_by_speaker[row["speaker"]] for utterance, row in row_by_utterance.items()
    }


def assign_utterances(
    corpus: str, row_by_utterance: Mapping[str, Row], rows: Sequence[Row], fold: int
) -> tuple[int, dict[str, str]]:
    """Return the number of folds of utterances, and the split of each utterance in one fold.

    Raises:
        InputError: The corpus has fewer groups of takes than folds.
    """
    groups = _groups_of_takes(row_by_utterance, rows)
    if len(groups) < N_UTTERANCE_FOLDS:
        raise InputError(
            f"{corpus}: speaker-dependent needs at least {N_UTTERANCE_FOLDS} groups of takes; "
            f"received {len(groups)}; add clips"
        )
    fold_by_utterance = {
        utterance: index % N_UTTERANCE_FOLDS
        for index, group in enumerate(groups)
        for utterance in group
    }
    split_by_fold = {
        fold % N_UTTERANCE_FOLDS: "test",
        (fold + 1) % N_UTTERANCE_FOLDS: "validation",
    }
    return N_UTTERANCE_FOLDS, {
        utterance: split_by_fold.get(fold_by_utterance[utterance], "train")
        for utterance in row_by_utterance
    }


def choose_validation(
    corpus: str,
    row_by_utterance: Mapping[str, Row],
    rows: Sequence[Row],
    split_by_utterance: Mapping[str, str],
) -> list[str]:
    """Return the training utterances that become validation.

    Of each emotion they are one group of takes in five, and at least one if there are two.

    Raises:
        InputError: No emotion has two groups of training utterances.
    """
    training = {
        utterance: row
        for utterance, row in row_by_utterance.items()
        if split_by_utterance[utterance] == "train"
    }
    validation: list[str] = []
    groups = _groups_of_takes(training, rows)
    for _, of_emotion in itertools.groupby(groups, key=lambda group: training[group[0]]["emotion"]):
        groups_of_emotion = list(of_emotion)
        if len(groups_of_emotion) > 1:
            first = min(2, len(groups_of_emotion) - 1)
            validation += itertools.chain(*groups_of_emotion[first::N_UTTERANCE_FOLDS])
    if not validation:
        raise InputError(
            f"{corpus}: validation needs two groups of training utterances of one emotion; "
            "no emotion has two; add clips"
        )
    return validation


def one_per_utterance(rows: Sequence[Row]) -> list[Row]:
    """Return one row of each utterance of a set, in the order of the rows.

    An audio file is preferred to the sound of a video, then the smallest id.

    >>> rows = [{"id": "a.mp4", "utterance": "u"}, {"id": "b.wav", "utterance": "u"}]
    >>> [row["id"] for row in one_per_utterance(rows)]
    ['b.wav']
    """

    def preference(row: Row) -> tuple[bool, str]:
        return PurePosixPath(row["id"]).suffix.lower() not in AUDIO_SUFFIXES, row["id"]

    chosen: dict[str, str] = {}
    for row in sorted(rows, key=preference):
        chosen.setdefault(row["utterance"], row["id"])
    return [row for row in rows if chosen[row["utterance"]] == row["id"]]


def content_hashes(row: Row) -> list[tuple[str, str]]:
    """Return the keys that copies of a clip share: the hashes of its file and its content.

    >>> content_hashes({"sha256": "f00d", "content": "beef"})
    [('sha256', 'f00d'), ('content', 'beef')]
    """
    return [(name, row[name]) for name in ("sha256", "content") if row.get(name)]


def _groups_of_takes(row_by_utterance: Mapping[str, Row], rows: Sequence[Row]) -> list[list[str]]:
    """Return the utterances that stay together, each group sorted.

    All takes of one speaker, sentence and emotion stay together (if the sentence is known), and all
    copies. The groups are in the order of emotion, speaker and a hash.
    """
    parent: dict[Hashable, Hashable] = {}  # a union-find forest of utterances, takes and contents

    def root(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for row in rows:
        if row["utterance"] in row_by_utterance:
            take: tuple[str, ...] = ("take", row["utterance"])
            if row["sentence"]:
                take = ("take", row["speaker"], row["sentence"], row["emotion"])
            for link in (take, *content_hashes(row)):
                parent[root(link)] = root(("utterance", row["utterance"]))
    groups = defaultdict(list)
    for utterance in row_by_utterance:
        groups[root(("utterance", utterance))].append(utterance)

    def order(group: Sequence[str]) -> tuple[str, str, str]:
        row = row_by_utterance[group[0]]
        return row["emotion"], row["speaker"], json_sha256([ORDER_SEED, group[0]])

    return sorted(groups.values(), key=order)


def _natural_order(name: str) -> tuple[list[int | str], str]:
    """Return a sort key that compares numbers by value: `c:2` before `c:10`."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if part.isdecimal() else part for part in parts], name


def _row_by_utterance(corpus: str, rows: Sequence[Row]) -> dict[str, Row]:
    """Return one row of each utterance, sorted, if all rows of the utterance agree."""
    if not rows:
        raise InputError(
            f"{corpus}: no clips to split; build the corpus first (python -m pipelines.build)"
        )
    n_without = sum(not row["split"] for row in rows)
    if 0 < n_without < len(rows):
        raise DataError(
            f"{corpus}: {n_without} of {len(rows)} clips have no split; "
            "give every clip the publisher's split, or none"
        )
    row_by_utterance: dict[str, Row] = {}
    for row in rows:
        if not row["sha256"] or row["split"] not in ("", *SPLITS):
            raise DataError(
                f"{corpus}: {row['id']} has split {row['split']!r} and sha256 {row['sha256']!r}; "
                "build the corpus again"
            )
        first = row_by_utterance.setdefault(row["utterance"], row)
        for name in ("speaker", "emotion", "sentence", "split"):
            if row[name] != first[name]:
                raise DataError(
                    f"{corpus}: utterance {row['utterance']!r} has two values of {name}: "
                    f"{first[name]!r} ({first['id']}) and {row[name]!r} ({row['id']}); "
                    "correct the labels"
                )
    return dict(sorted(row_by_utterance.items()))
