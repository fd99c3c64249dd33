"""Verification: whether two clips show the same emotion, by the distance of their embeddings.

A clip is embedded as the mean over its items, scaled to unit length. Two clips are compared by
cosine similarity, which orders pairs as the distance D does (D^2 = 2 - 2 cos). Scores are fractions
in [0, 1]. All functions are pure and raise ValueError.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification

MAX_PAIRS = 50_000
"""Pairs of two sources that are scored at most. Sampling them moves an AUC by a standard deviation
of about 0.004."""

PAIRS_SEED = 0
"""The seed of sampled pairs, the same for all networks, so that all score the same pairs."""

TOGETHER = "together"
"""The key of the scatter over all sources."""


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddedClips:
    """The clips of one source as a network embeds them."""

    embeddings: np.ndarray
    """float [clips, n], of unit length."""
    labels: np.ndarray
    """int [clips]."""
    utterances: Sequence[str]
    """The utterance of each clip; the clips of one act in several domains share it."""

    def __post_init__(self) -> None:
        embeddings, labels = _validated(self.embeddings, self.labels)
        lengths = np.linalg.norm(embeddings, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3):
            raise ValueError(
                "embeddings must have unit length; "
                f"received lengths from {lengths.min():.3g} to {lengths.max():.3g}"
            )
        if len(self.utterances) != len(labels):
            raise ValueError(
                f"utterances must be as many as labels, {len(labels)}; "
                f"received {len(self.utterances)}"
            )


def clip_embeddings(embeddings: ArrayLike, clip_of: ArrayLike) -> np.ndarray:
    """Return the mean over the items of each clip, scaled to unit length: float64 [clips, n].

    Args:
        embeddings: The embedding of each item, float [items, n].
        clip_of: The clip of each item, int [items]; every clip from 0 on has at least one item.

    >>> clip_embeddings([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], [0, 0, 1]).round(4).tolist()
    [[0.7071, 0.7071], [0.0, 1.0]]
    """
    means = classification.clip_means(embeddings, clip_of)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(
            "embeddings must not cancel out over a clip; "
            f"received a mean of 0 for clip {lengths.argmin()}"
        )
    return means / lengths


def validate_pairs(same: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; raise ValueError unless `same` is bool [pairs] of both kinds."""
    same, score = np.asarray(same), np.asarray(score, np.float64)
    if same.ndim != 1 or same.dtype != bool:
        raise ValueError(
            f"same must be bool [pairs]; received shape {same.shape}, dtype {same.dtype}"
        )
    if score.shape != same.shape:
        raise ValueError(f"score must have the shape of same, {same.shape}; received {score.shape}")
    if np.isnan(score).any():
        raise ValueError("score must be a number for every pair; received NaN")
    if same.all() or not same.any():
        raise ValueError(
            "same must hold pairs of both kinds; "
            f"received {same.sum()} of one emotion, {(~same).sum()} of two"
        )
    return same, score


def area_under_curve(same: ArrayLike, score: ArrayLike) -> float:
    """Return how often a pair of one emotion scores higher than a pair of two; ties count half.

    AUC = (R - P (P + 1) / 2) / (P N), the area under the ROC curve: R is the sum of the ranks (the
    mean rank of equal scores) of the P pairs of one emotion, N the number of the other pairs (Mann
    and Whitney 1947).

    Args:
        same: Whether a pair shows one emotion, bool [pairs], both kinds present.
        score: The similarity of each pair, float [pairs]; for a distance, its negative.

    >>> area_under_curve([True, True, False], [0.9, 0.2, 0.2])
    0.75
    """
    same, score = validate_pairs(same, score)
    positives = int(same.sum())
    negatives = len(same) - positives
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[same].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def equal_error_rate(same: ArrayLike, score: ArrayLike) -> float:
    """Return the error rate at the threshold where both kinds of pairs are misjudged equally often.

    A pair is accepted as of one emotion if its score is at least t. FAR(t) is the fraction of pairs
    of two emotions that are accepted, FRR(t) the fraction of pairs of one emotion that are rejected
    (Martin et al. 1997, "The DET curve"). Between the two thresholds where FAR - FRR changes its
    sign, both are interpolated linearly: the rate is where the ROC curve meets the line TPR = 1 -
    FPR. Pairs of equal score are accepted together. 0 is perfect, 1/2 is chance.

    Args:
        same: Whether a pair shows one emotion, bool [pairs], both kinds present.
        score: The similarity of each pair, float [pairs]; for a distance, its negative.

    >>> equal_error_rate([True, True, False, False], [0.9, 0.4, 0.6, 0.1])
    0.5
    """
    same, score = validate_pairs(same, score)
    _, place = np.unique(-score, return_inverse=True)  # the most similar first, equal ones together
    accepted = [np.cumsum(np.bincount(place, weights=kind)) / kind.sum() for kind in (same, ~same)]
    # [thresholds + 1]: the first threshold accepts no pair.
    true_accepts, false_accepts = (np.concatenate([[0.0], rates]) for rates in accepted)
    gap = false_accepts + true_accepts - 1  # FAR - FRR rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    fraction = -gap[after - 1] / (gap[after] - gap[after - 1])
    step = false_accepts[after] - false_accepts[after - 1]
    return float(false_accepts[after - 1] + fraction * step)


def class_scatter(embeddings: ArrayLike, labels: ArrayLike) -> dict[str, float | None]:
    """Return how far embeddings lie from their class, and classes from one another.

    within = mean_c mean_{i in c} |x_i - m_c|^2 and between = mean_c |m_c - m|^2, with m_c the mean
    of class c and m the mean of all m_c. ratio = between / within is Fisher's criterion: the traces
    of the scatter matrices of Fukunaga (1990, section 10.2) with equal priors, so that corpora with
    other class frequencies are comparable. The mean of n clips of a class is itself off by within /
    n, which is part of `between`, so compare networks on the same clips only.

    Args:
        embeddings: float [clips, n].
        labels: int [clips], of two classes or more.

    Returns:
        `within`, `between`, and `ratio`, which is None if no embedding differs from its class mean.

    >>> class_scatter([[0.0], [2.0], [9.0], [13.0]], [0, 0, 1, 1])
    {'within': 2.5, 'between': 25.0, 'ratio': 10.0}
    """
    embeddings, labels = _validated(embeddings, labels)
    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"labels must be of two classes or more; received class {classes[0]} alone"
        )
    means = classification.clip_means(embeddings, class_of)  # [classes, n]
    squares = np.square(embeddings - means[class_of]).sum(axis=1)  # [clips]
    within = float(np.mean(np.bincount(class_of, weights=squares) / counts))
    between = float(np.mean(np.square(means - means.mean(axis=0)).sum(axis=1)))
    return {"within": within, "between": between, "ratio": between / within if within else None}


def score_pairs(
    clips_by_source: Mapping[str, EmbeddedClips], *, seed: int, max_pairs: int = MAX_PAIRS
) -> dict:
    """Score the verification of clips of one split, within each source and between every two.

    All pairs of clips of different utterances are scored. If two sources have more than
    `max_pairs`, that many are sampled, and sampled pairs of one utterance are left out.

    Args:
        clips_by_source: The clips of the split by source.
        seed: The seed of sampled pairs. The pairs depend on the seed and the clips alone, so two
            networks are scored on the same pairs.
        max_pairs: The largest number of pairs of two sources.

    Returns:
        `{"couples": {"a + b": {"pairs", "same", "auc", "eer"}}, "scatter": {source: {"clips",
        "within", "between", "ratio"}}}`, the sources sorted. `same` is
        the fraction of pairs of one emotion. The pairs within a source have its name alone as key.
        With two sources or more `scatter` has `together`, over the clips of all. A value that needs
        two kinds of pairs, or two classes, is None without them.
    """
    if max_pairs < 1:
        raise ValueError(f"max_pairs must be at least 1; received {max_pairs!r}")
    clips_by_source = dict(sorted(clips_by_source.items()))
    couples = {}
    for first, second in itertools.combinations_with_replacement(clips_by_source, 2):
        name = first if first == second else f"{first} + {second}"
        couples[name] = _score_couple(
            clips_by_source[first], clips_by_source[second], seed=seed, max_pairs=max_pairs
        )
    scatter = {
        source: _scatter_or_none(clips.embeddings, clips.labels)
        for source, clips in clips_by_source.items()
    }
    if len(clips_by_source) > 1:
        all_clips = clips_by_source.values()
        scatter[TOGETHER] = _scatter_or_none(
            np.concatenate([clips.embeddings for clips in all_clips]),
            np.concatenate([clips.labels for clips in all_clips]),
        )
    return {"couples": couples, "scatter": scatter}


def sample_pairs(
    first: EmbeddedClips, second: EmbeddedClips, *, seed: int, max_pairs: int = MAX_PAIRS
) -> np.ndarray:
    """Return the scored pairs of two sources, or of one: int64 [pairs, 2], indices of clips.

    See `score_pairs`.
    """
    rows = np.arange(len(first.labels))
    # Clip i of `first` is paired with the last clips of `second`: with all of them, or within one
    # source with those behind clip i, so that no pair occurs twice.
    partners = len(rows) - 1 - rows if first is second else np.full(len(rows), len(second.labels))
    ends = np.cumsum(partners)
    if ends[-1] <= max_pairs:
        sampled = np.arange(ends[-1])
    else:
        random = np.random.default_rng(seed)
        sampled = np.sort(random.choice(ends[-1], max_pairs, replace=False, shuffle=False))
    row = np.searchsorted(ends, sampled, side="right")
    pairs = np.stack([row, len(second.labels) - ends[row] + sampled], axis=1)
    utterances = (np.asarray(clips.utterances) for clips in (first, second))
    left, right = (names[pairs[:, side]] for side, names in enumerate(utterances))
    return pairs[left != right]


def _score_couple(
    first: EmbeddedClips, second: EmbeddedClips, *, seed: int, max_pairs: int
) -> dict:
    a, b = sample_pairs(first, second, seed=seed, max_pairs=max_pairs).T
    same = first.labels[a] == second.labels[b]
    fraction = float(same.mean()) if len(same) else None
    if fraction in (None, 0, 1):
        return {"pairs": len(same), "same": fraction, "auc": None, "eer": None}
    cosine = np.einsum("pn,pn->p", first.embeddings[a], second.embeddings[b])
    return {
        "pairs": len(same),
        "same": fraction,
        "auc": area_under_curve(same, cosine),
        "eer": equal_error_rate(same, cosine),
    }


def _scatter_or_none(embeddings: np.ndarray, labels: np.ndarray) -> dict:
    if len(np.unique(labels)) < 2:
        return {"clips": len(labels), "within": None, "between": None, "ratio": None}
    return {"clips": len(labels)} | class_scatter(embeddings, labels)


def _validated(embeddings: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; raise ValueError unless each embedding is finite and has a class."""
    embeddings, labels = np.asarray(embeddings, np.float64), np.asarray(labels)
    if embeddings.ndim != 2 or not embeddings.size:
        raise ValueError(
            "embeddings must be [clips, n] with at least one clip; "
            f"received shape {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings must be finite; received NaN or infinity")
    if labels.shape != embeddings.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must hold one integer for each of {len(embeddings)} embeddings; "
            f"received shape {labels.shape}, dtype {labels.dtype}"
        )
    return embeddings, labels
