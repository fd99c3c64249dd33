"""What a stage makes of the sides that it is given, before it is trained: sound cut otherwise, fewer labelled clips, other versions."""

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo import utterances, variants
from kerasemo.assignment import Assignment
from kerasemo.data import Side, Source
from kerasemo.utterances import Cut
from pipelines.spec import EMOTIONS, InputError


def prepared(work: Assignment, *, log: Callable[[str], None]) -> Assignment:
    """Return the assignment of a stage with its sides as its settings ask for; where they ask for nothing, as it is.

    Args:
        work: What the training is given.
        log: Told how many clips are trained on, where they are not all.
    """
    scored, trained = Cut.of(dataclasses.asdict(work.stage)), _trained(work)
    sides = {
        name: [_cut(side, trained if name == "train" else scored, work) for side in sides]
        for name, sides in work.sides.items()
    }
    work = dataclasses.replace(work, sides=sides)
    if work.stage.labelled:
        work = _with_labelled(work, log)
    if variants.asked(work.stage.augment):
        work = dataclasses.replace(
            work,
            sides={**work.sides, "train": [_varied(side, work) for side in work.sides["train"]]},
        )
    return work


def _trained(work: Assignment) -> Cut:
    """Return how sound is cut for training."""
    return dataclasses.replace(
        Cut.of(dataclasses.asdict(work.stage)), hop_frames=work.stage.train_hop_frames
    )


def _cut(side: Side, how: Cut, work: Assignment) -> Side:
    """Return a side with its sound cut as asked: the same clips, other segments."""
    if how == Cut() or side.source.name.endswith("/visual"):
        return side
    source = utterances.read_cut(work.records, side.source.name, how)
    _same_rows(source, side, work)
    return Side(source, source.items_of(np.unique(side.source.clip_of[side.items])))


def _varied(side: Side, work: Assignment) -> Side:
    """Return a training side of sound with its clips in other versions as well."""
    if side.source.name.endswith("/visual"):
        return side
    of = utterances.read(work.records, side.source.name)
    _same_rows(of, side, work)
    how = _trained(work)
    given = {"seed": work.seed, "finish": utterances.finisher(of, how), "spec": how.spec}
    return variants.varied_side(side, of, work.stage.augment, **given)


def _same_rows(found: Source | utterances.Utterances, side: Side, work: Assignment) -> None:
    """Raise an InputError where the records are no longer those that the sides are of."""
    if tuple(found.rows) != tuple(side.source.rows):
        raise InputError(
            f"{work.records / side.source.name}: was built anew while this command ran; run it again"
        )


def _with_labelled(work: Assignment, log: Callable[[str], None]) -> Assignment:
    count, sides, split = work.stage.labelled, [], dict(work.split)
    for side in work.sides["train"]:
        source, clips = side.source, np.unique(side.source.clip_of[side.items])
        sides.append(labelled_side(side, work.key))
        kept = len(np.unique(source.clip_of[sides[-1].items]))
        there = Counter(source.rows[clip]["emotion"] for clip in clips)
        fewer = [
            f"of {emotion} there are {there[emotion]}"
            for emotion in EMOTIONS
            if 0 < there[emotion] < count
        ]
        told = f"{work.stage.name}: {source.name}: trained on {kept} of {len(clips)} clips, {count} a class"
        log(f"{told}; all where there are fewer: {', '.join(fewer)}" if fewer else told)
        split[source.name] = {
            **split[source.name],
            "train": kept,
            "train_not_labelled": len(clips) - kept,
        }
    return dataclasses.replace(work, sides={**work.sides, "train": sides}, split=split)


def labelled_side(side: Side, key: Mapping[str, Any]) -> Side:
    """Return a training side with as many clips of each emotion as a stage's key has `labelled`; see `labelled_clips`."""
    count = key["stage"]["labelled"]
    if not count:
        return side
    seed = [key["seed"], key["fold"]] if key["stage"]["labelled_by"] == "fold" else key["seed"]
    clip_of = side.source.clip_of[side.items]
    clips = np.unique(clip_of)
    return Side(
        side.source,
        side.items[
            np.isin(
                clip_of,
                clips[labelled_clips([side.source.rows[clip] for clip in clips], count, seed=seed)],
            )
        ],
    )


def labelled_clips(
    rows: Sequence[Mapping[str, Any]], count: int, *, seed: int | Sequence[int]
) -> np.ndarray:
    """Return which clips are used where only some are labelled: of each emotion `count`, or all there are.

    The clips of an emotion have one order, so that fewer are always among more: every speaker's first clip, then every speaker's
    second and so on; which clip is a speaker's first, and which speaker comes first, the hashes of their ids say.

    Args:
        rows: Have `id`, `speaker` and `emotion`.
        count: Of each emotion.
        seed: Of the hashes: another one has other clips.

    Returns:
        int64: indices of the rows, rising.

    >>> rows = [{"id": f"{n}", "speaker": "ab"[n % 2], "emotion": "fear"} for n in range(6)]
    >>> [labelled_clips(rows, count, seed=1).tolist() for count in (1, 2, 9)]
    [[5], [0, 5], [0, 1, 2, 3, 4, 5]]
    """
    hashes = [hashlib.sha256(json.dumps([seed, row["id"]]).encode()).hexdigest() for row in rows]
    by_hash = sorted(range(len(rows)), key=hashes.__getitem__)
    kept: list[int] = []
    for emotion in sorted({row["emotion"] for row in rows}):
        clips, turns = (
            [clip for clip in by_hash if rows[clip]["emotion"] == emotion],
            Counter[str](),
        )
        order = {}
        for clip in clips:
            order[clip] = turns[rows[clip]["speaker"]]
            turns[rows[clip]["speaker"]] += 1
        kept += itertools.islice(sorted(clips, key=order.__getitem__), count)
    return np.sort(np.array(kept, np.int64))


def class_weights(sides: Sequence[Side]) -> np.ndarray:
    """Return what an example of each class of each source weighs, float32 [sources, emotions]: the more, the rarer its class is.

    Of n items of K classes one of a class of n_c weighs n / (K n_c): one on average over the items, and every class the same in
    sum. A class that a side has not weighs 0.

    >>> import numpy as np
    >>> from kerasemo.data import Source
    >>> rows = tuple({"emotion": emotion} for emotion in ("anger", "fear", "fear", "fear"))
    >>> source = Source("x/audio", rows, np.zeros((4, 1)), np.arange(4))
    >>> class_weights([Side(source, np.arange(4))])[0, [0, 5]].tolist()
    [2.0, 0.6666666865348816]
    """
    counts = np.stack(
        [np.bincount(side.labels, minlength=len(EMOTIONS)) for side in sides]
    )  # [sources, emotions]
    even = counts.sum(axis=1) / (counts > 0).sum(axis=1)
    return np.where(counts > 0, even[:, None] / np.maximum(counts, 1), 0).astype(np.float32)
