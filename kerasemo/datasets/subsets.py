"""Parts of a training split: the first N labelled clips a class, and the weight of each class."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.datasets.sources import Side
from pipelines.core.labels import EMOTIONS


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
    >>> from kerasemo.datasets.sources import Source
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
