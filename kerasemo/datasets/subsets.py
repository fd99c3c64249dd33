"""Parts of the training split: the first N labelled clips of each class, and class weights."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.config.schema import StageConfig
from kerasemo.datasets.sources import Subset
from pipelines.core.labels import EMOTIONS


def labelled_subset(train: Subset, config: StageConfig, *, seed: int, fold: int) -> Subset:
    """Return the training clips with labels: all, or `config.labelled` of each emotion.

    Args:
        train: The training clips of a source.
        config: Gives `labelled` and `labelled_by`.
        seed: The seed of the run.
        fold: The fold of the stage's key.
    """
    if not config.labelled:
        return train
    clips = train.clips
    rows = [train.source.rows[clip] for clip in clips]
    order_seed = [seed, fold] if config.labelled_by == "fold" else seed
    return train.with_clips(clips[choose_labelled(rows, config.labelled, seed=order_seed)])


def choose_labelled(
    rows: Sequence[Mapping[str, Any]], count: int, *, seed: int | Sequence[int]
) -> np.ndarray:
    """Return which clips are used if only `count` clips of each emotion are labelled.

    The clips of an emotion have one order, so that a smaller choice is part of a larger one: the
    first clip of every speaker, then the second clip of every speaker, and so on. Hashes of the ids
    order the clips of a speaker, and the speakers.

    Args:
        rows: Rows with `id`, `speaker` and `emotion`.
        count: The number of clips of each emotion; fewer if there are fewer.
        seed: The seed of the hashes. Another seed chooses other clips.

    Returns:
        int64: indices of the rows, in ascending order.

    >>> rows = [{"id": f"{n}", "speaker": "ab"[n % 2], "emotion": "fear"} for n in range(6)]
    >>> [choose_labelled(rows, count, seed=1).tolist() for count in (1, 2, 9)]
    [[5], [0, 5], [0, 1, 2, 3, 4, 5]]
    """
    hashes = [hashlib.sha256(json.dumps([seed, row["id"]]).encode()).hexdigest() for row in rows]
    by_hash = sorted(range(len(rows)), key=hashes.__getitem__)
    chosen: list[int] = []
    for emotion in sorted({row["emotion"] for row in rows}):
        clips = [clip for clip in by_hash if rows[clip]["emotion"] == emotion]
        n_before = Counter[str]()
        place_of_speaker: dict[int, int] = {}  # clip -> its place among the clips of its speaker
        for clip in clips:
            speaker = rows[clip]["speaker"]
            place_of_speaker[clip] = n_before[speaker]
            n_before[speaker] += 1
        chosen += itertools.islice(sorted(clips, key=place_of_speaker.__getitem__), count)
    return np.sort(np.array(chosen, np.int64))


def class_weights(subsets: Sequence[Subset]) -> np.ndarray:
    """Return the weight of an example of each class of each source: float32 [sources, emotions].

    With n items and K classes an item of a class with n_c items weighs n / (K n_c). The mean weight
    of an item is 1, and every class has the same total weight. A class without items has weight 0.

    >>> import numpy as np
    >>> from kerasemo.datasets.sources import Source
    >>> rows = tuple({"emotion": emotion} for emotion in ("anger", "fear", "fear", "fear"))
    >>> source = Source("x/audio", rows, np.zeros((4, 1)), np.arange(4))
    >>> class_weights([Subset(source, np.arange(4))])[0, [0, 5]].tolist()
    [2.0, 0.6666666865348816]
    """
    counts = np.stack(
        [np.bincount(subset.labels, minlength=len(EMOTIONS)) for subset in subsets]
    )  # [sources, emotions]
    even_share = counts.sum(axis=1) / (counts > 0).sum(axis=1)  # [sources]
    weights = np.where(counts > 0, even_share[:, None] / np.maximum(counts, 1), 0)
    return weights.astype(np.float32)
