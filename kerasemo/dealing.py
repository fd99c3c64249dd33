"""How the speakers or the utterances of a corpus are dealt to the folds and sides of a split; nothing depends on the order of rows."""

import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from pipelines.spec import InputError

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
