"""The second task: do these two clips show the same emotion? Scores of pairs, and the scatter of the embeddings behind them.

A clip is embedded as the mean over its faces or segments, brought back to unit length, so a pair is of two utterances, as an answer is
of one. Two clips are alike by their cosine similarity, which orders pairs as the distance does (D^2 = 2 - 2 cos). Shares are floats in
[0, 1]. Everything is NumPy, pure, and raises ValueError.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification

MOST_PAIRS = 50_000
"""Of two sources with more pairs so many are drawn: the draw moves an AUC by a standard deviation of some 0.004."""

PAIRS_SEED = 0
"""Of the pairs that are drawn in an evaluation: one for all, so that all networks are asked the same."""

TOGETHER = "together"
"""The scatter over all sources, beside that of each (whose name has a slash)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Clips:
    """Clips of one source as a network embeds them; what pairs are made of."""

    embeddings: np.ndarray
    """float [clips, n], of unit length."""
    labels: np.ndarray
    """int [clips], the emotion of each."""
    utterances: Sequence[str]
    """The act of speaking of each, shared by its clips in all domains."""

    def __post_init__(self):
        embeddings, labels = _validated(self.embeddings, self.labels)
        lengths = np.linalg.norm(embeddings, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3):
            raise ValueError(
                f"embeddings must be of unit length; received lengths from {lengths.min():.3g} to {lengths.max():.3g}"
            )
        if len(self.utterances) != len(labels):
            raise ValueError(
                f"utterances must be as many as labels, {len(labels)}; received {len(self.utterances)}"
            )


def clip_embeddings(embeddings: ArrayLike, clip_of: ArrayLike) -> np.ndarray:
    """Return the mean over the items of each clip, brought to unit length: float64 [clips, n].

    Args:
        embeddings: of each face or segment, float [items, n].
        clip_of: the clip that each item belongs to, int [items]; every clip from 0 to the largest has at least one item.

    >>> clip_embeddings([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]], [0, 0, 1]).round(4).tolist()
    [[0.7071, 0.7071], [0.0, 1.0]]
    """
    means = classification.clip_means(embeddings, clip_of)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(
            f"embeddings must not cancel out over a clip; received a mean of 0 for clip {lengths.argmin()}"
        )
    return means / lengths


def equal_error_rate(same: ArrayLike, score: ArrayLike) -> float:
    """Return the error rate at the threshold where as large a share of either kind of pair is judged wrongly.

    A pair is accepted as of one emotion when its score is at least t. FAR(t) is the share of the pairs of two emotions that are
    accepted, FRR(t) that of the pairs of one emotion that are not (Martin et al. 1997, "The DET curve"). Between the two thresholds
    where FAR - FRR changes its sign both are interpolated linearly, so the rate is where the ROC curve meets the line
    TPR = 1 - FPR. Pairs of equal score are accepted together. 0: parted without error; 1/2: no better than chance.

    Args:
        same: whether the pair shows one emotion, bool [pairs], both kinds present.
        score: larger means more alike (so the negative of a distance), float [pairs].

    >>> equal_error_rate([True, True, False, False], [0.9, 0.4, 0.6, 0.1])
    0.5
    """
    same, score = classification.validate_pairs(same, score)
    _, place = np.unique(-score, return_inverse=True)  # the most alike first, equals in one place
    accepted = [np.cumsum(np.bincount(place, weights=kind)) / kind.sum() for kind in (same, ~same)]
    true_accepts, false_accepts = (
        np.concatenate([[0.0], shares]) for shares in accepted
    )  # [thresholds + 1], the first accepts none
    gap = false_accepts + true_accepts - 1  # FAR - FRR, from -1 up to 1, larger at every threshold
    after = int(np.argmax(gap >= 0))
    part = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(
        false_accepts[after - 1] + part * (false_accepts[after] - false_accepts[after - 1])
    )


def scatter(embeddings: ArrayLike, labels: ArrayLike) -> dict[str, float | None]:
    """Return how far embeddings lie from those of their own class, and the classes from one another.

    within = mean_c mean_{i in c} |x_i - m_c|^2; between = mean_c |m_c - m|^2, with m_c the mean of class c and m that of all m_c;
    ratio = between / within, Fisher's criterion: the traces of the scatter matrices of Fukunaga (1990, section 10.2) with equal priors.
    Every class counts alike, as in UA: a corpus with twice as many clips of one emotion, or with other shares of them than another
    corpus, is measured by the same yardstick. The mean of a class of n clips is itself off by within / n, which is part of between,
    so compare networks on the same clips alone.

    Args:
        embeddings: float [clips, n].
        labels: int [clips], of two classes or more.

    Returns:
        `within`, `between`, and `ratio` (None where no embedding differs from its class, such as with one clip a class).

    >>> scatter([[0.0], [2.0], [9.0], [13.0]], [0, 0, 1, 1])
    {'within': 2.5, 'between': 25.0, 'ratio': 10.0}
    """
    embeddings, labels = _validated(embeddings, labels)
    classes, class_of, clips = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise ValueError(
            f"labels must be of two classes or more; received class {classes[0]} alone"
        )
    means = classification.clip_means(
        embeddings, class_of
    )  # [classes, n]: a class in place of a clip
    squares = np.square(embeddings - means[class_of]).sum(axis=1)  # [clips]
    within = float(np.mean(np.bincount(class_of, weights=squares) / clips))
    between = float(np.mean(np.square(means - means.mean(axis=0)).sum(axis=1)))
    return {"within": within, "between": between, "ratio": between / within if within else None}


def score_pairs(embedded: Mapping[str, Clips], *, seed: int, most_pairs: int = MOST_PAIRS) -> dict:
    """Score the matching of clips of one side, of every two sources and within each, ready for JSON.

    All pairs of clips of different utterances are scored: an utterance is not paired with itself, nor its voice with its face. Where
    they are more than `most_pairs`, that many are drawn at random, and the pairs of one utterance left out of them.

    Args:
        embedded: Source -> its clips on the side; no utterance of another side among them.
        seed: Of the draws. They are a function of it and of the two sources' clips alone, so two networks are asked the same pairs.
        most_pairs: Of two sources.

    Returns:
        `{"couples": {"a + b": {"pairs", "same", "auc", "eer"}}, "scatter": {source: {"clips", "within", "between", "ratio"}}}`, the
        sources sorted: `same` is the share of pairs of one emotion, and a source's couple with itself has its name alone. With two
        sources or more `scatter` has `together` as well, over the clips of all. What needs two kinds of pairs, or two classes, is
        None without them.
    """
    if most_pairs < 1:
        raise ValueError(f"most_pairs must be at least 1; received {most_pairs!r}")
    couples, embedded = {}, dict(sorted(embedded.items()))
    for a, b in itertools.combinations_with_replacement(embedded, 2):
        couples[a if a == b else f"{a} + {b}"] = _score_couple(
            embedded[a], embedded[b], seed=seed, most_pairs=most_pairs
        )
    spread = {
        source: _scatter_or_none(clips.embeddings, clips.labels)
        for source, clips in embedded.items()
    }
    if len(embedded) > 1:
        joined = (
            np.concatenate([getattr(clips, name) for clips in embedded.values()])
            for name in ("embeddings", "labels")
        )
        spread[TOGETHER] = _scatter_or_none(*joined)
    return {"couples": couples, "scatter": spread}


def pairs_of(first: Clips, second: Clips, *, seed: int, most_pairs: int = MOST_PAIRS) -> np.ndarray:
    """Return the pairs of clips of two sources, or within one, that are asked: int64 [pairs, 2], indices of both; see `score_pairs`."""
    rows = np.arange(len(first.labels))
    # A clip's partners are the last of `second`: all of them, or within a source those behind it, so that no pair comes twice.
    partners = len(rows) - 1 - rows if first is second else np.full(len(rows), len(second.labels))
    ends = np.cumsum(partners)
    if ends[-1] <= most_pairs:
        drawn = np.arange(ends[-1])
    else:
        drawn = np.sort(
            np.random.default_rng(seed).choice(ends[-1], most_pairs, replace=False, shuffle=False)
        )
    row = np.searchsorted(ends, drawn, side="right")
    pairs = np.stack([row, len(second.labels) - ends[row] + drawn], axis=1)
    return pairs[
        np.asarray(first.utterances)[pairs[:, 0]] != np.asarray(second.utterances)[pairs[:, 1]]
    ]


def _score_couple(first: Clips, second: Clips, *, seed: int, most_pairs: int) -> dict:
    a, b = pairs_of(first, second, seed=seed, most_pairs=most_pairs).T
    same = first.labels[a] == second.labels[b]
    share = float(same.mean()) if len(same) else None
    if share in (None, 0, 1):
        return {"pairs": len(same), "same": share, "auc": None, "eer": None}
    alike = np.einsum(
        "pn,pn->p", first.embeddings[a], second.embeddings[b]
    )  # the cosine: both are of unit length
    return {
        "pairs": len(same),
        "same": share,
        "auc": classification.area_under_curve(same, alike),
        "eer": equal_error_rate(same, alike),
    }


def _scatter_or_none(embeddings: np.ndarray, labels: np.ndarray) -> dict:
    found = (
        scatter(embeddings, labels)
        if len(np.unique(labels)) > 1
        else dict.fromkeys(("within", "between", "ratio"))
    )
    return {"clips": len(labels)} | found


def _validated(embeddings: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays, the embeddings as float64, when they are finite vectors with a class for each."""
    embeddings, labels = np.asarray(embeddings, np.float64), np.asarray(labels)
    if embeddings.ndim != 2 or not embeddings.size:
        raise ValueError(
            f"embeddings must be [clips, n] with at least one clip; received shape {embeddings.shape}"
        )
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings must be finite; received NaN or infinity")
    if labels.shape != embeddings.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must hold one integer per embedding, {len(embeddings)}; received shape {labels.shape}, dtype {labels.dtype}"
        )
    return embeddings, labels
