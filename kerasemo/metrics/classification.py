"""Scores of emotion recognition: how often the answers about clips are right.

Conventions: `labels` is the truth and `answers` what was said, both integers [clips] in [0, n_classes). A confusion matrix has the truth
in its rows. Shares are floats in [0, 1]. A class that no clip has is left out of every mean over classes: UA and macro-F1 are means over
the classes of the labels, while an answer that names another class is still wrong. Everything is NumPy, pure, and raises ValueError.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def validate(labels: ArrayLike, answers: ArrayLike, *, n_classes: int) -> None:
    """Raise ValueError unless both are integers [clips] in [0, n_classes), equally many and at least one."""
    if n_classes < 1:
        raise ValueError(f"n_classes must be at least 1; received {n_classes!r}")
    for name, values in (("labels", np.asarray(labels)), ("answers", np.asarray(answers))):
        if values.ndim != 1 or not values.size:
            raise ValueError(
                f"{name} must hold one class per clip and at least one clip; received shape {values.shape}"
            )
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(
                f"{name} must be integers, the indices of classes; received dtype {values.dtype}"
            )
        if values.min() < 0 or values.max() >= n_classes:
            wrong = values[(values < 0) | (values >= n_classes)][0]
            raise ValueError(f"{name} must lie in [0, {n_classes}); received {wrong}")
    if len(labels) != len(answers):
        raise ValueError(
            f"answers must be as many as labels, {len(labels)}; received {len(answers)}"
        )


def confusion_matrix(labels: ArrayLike, answers: ArrayLike, *, n_classes: int) -> np.ndarray:
    """Return how many clips of each class got each answer: int64 [n_classes, n_classes], the truth in the rows.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], n_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    validate(labels, answers, n_classes=n_classes)
    cells = np.asarray(labels, np.int64) * n_classes + np.asarray(answers, np.int64)
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def recalls(labels: ArrayLike, answers: ArrayLike, *, n_classes: int) -> np.ndarray:
    """Return the share of each class's clips that are answered right: float64 [n_classes], NaN for a class without clips.

    >>> recalls([0, 0, 1], [0, 1, 1], n_classes=3).tolist()
    [0.5, 1.0, nan]
    """
    confusion = confusion_matrix(labels, answers, n_classes=n_classes)
    clips = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), clips, out=np.full(n_classes, np.nan), where=clips > 0)


def unweighted_accuracy(labels: ArrayLike, answers: ArrayLike, *, n_classes: int) -> float:
    """Return UA, the mean recall of the classes that have clips: every class counts alike.

    >>> unweighted_accuracy([0, 0, 1], [0, 1, 1], n_classes=2)
    0.75
    """
    return float(np.nanmean(recalls(labels, answers, n_classes=n_classes)))


def weighted_accuracy(labels: ArrayLike, answers: ArrayLike, *, n_classes: int) -> float:
    """Return WA, the share of clips that are answered right: every clip counts alike.

    >>> weighted_accuracy([0, 0, 1, 1], [0, 1, 1, 1], n_classes=2)
    0.75
    """
    confusion = confusion_matrix(labels, answers, n_classes=n_classes)
    return float(np.trace(confusion) / confusion.sum())


def macro_f1(labels: ArrayLike, answers: ArrayLike, *, n_classes: int) -> float:
    """Return the mean over the classes that have clips of F1 = 2 TP / (2 TP + FP + FN).

    It is sklearn's `f1_score(average="macro", labels=np.unique(labels), zero_division=0)`.

    >>> round(macro_f1([0, 0, 1], [0, 1, 1], n_classes=2), 4)
    0.6667
    """
    confusion = confusion_matrix(labels, answers, n_classes=n_classes)
    clips, said, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    has_clips = clips > 0
    return float(np.mean(2 * right[has_clips] / (clips + said)[has_clips]))


def clip_answers(probabilities: ArrayLike, clip_of: ArrayLike) -> np.ndarray:
    """Return the mean softmax over the faces or segments of each clip: float64 [clips, classes].

    Args:
        probabilities: softmax of each face or segment, float [items, classes], each row a distribution.
        clip_of: the clip that each item belongs to, int [items]; every clip from 0 to the largest has at least one item.

    >>> clip_answers([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], [0, 0, 1]).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    return clip_means(distributions(probabilities), clip_of)


def clip_means(values: ArrayLike, clip_of: ArrayLike) -> np.ndarray:
    """Return the mean over the faces or segments of each clip: float64 [clips, n].

    Args:
        values: of each face or segment, float [items, n].
        clip_of: as in `clip_answers`.

    >>> clip_means([[2.0], [4.0], [7.0]], [0, 0, 1]).tolist()
    [[3.0], [7.0]]
    """
    values, clip_of = np.asarray(values, np.float64), np.asarray(clip_of)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"values must be [items, n] with at least one item; received shape {values.shape}"
        )
    if clip_of.shape != values.shape[:1] or not np.issubdtype(clip_of.dtype, np.integer):
        raise ValueError(
            f"clip_of must hold one integer per item, {len(values)}; received shape {clip_of.shape}, dtype {clip_of.dtype}"
        )
    if clip_of.min() < 0:
        raise ValueError(f"clip_of must count clips from 0; received {clip_of.min()}")
    items = np.bincount(clip_of)
    if not items.all():
        raise ValueError(
            f"clip_of must give every clip in [0, {len(items)}) an item; received none for clip {items.argmin()}"
        )
    sums = np.zeros((len(items), values.shape[1]))  # [clips, n]
    np.add.at(sums, clip_of, values)
    return sums / items[:, None]


def masked_softmax(logits: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """Return the softmax over the classes that `mask` allows, exactly 0 elsewhere: float64 of the shape of `logits`.

    p_c = m_c exp(z_c - z_max) / sum_k m_k exp(z_k - z_max), where z_max is the largest allowed logit: no logit is too large for it.

    Args:
        logits: finite where allowed, float [..., classes].
        mask: true for an allowed class, bool [classes] or any shape that broadcasts to that of `logits`; at least one per row.

    >>> masked_softmax([1000.0, 1000.0, 2000.0], [True, True, False]).tolist()
    [0.5, 0.5, 0.0]
    """
    logits, mask = np.asarray(logits, np.float64), np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"mask must be bool; received dtype {mask.dtype}")
    if (
        not logits.size
        or not mask.ndim
        or mask.ndim > logits.ndim
        or mask.shape[-1] != logits.shape[-1]
    ):
        raise ValueError(
            f"mask must be [..., classes] as logits of shape {logits.shape} are; received shape {mask.shape}"
        )
    mask = np.broadcast_to(mask, logits.shape)
    if not mask.any(axis=-1).all():
        raise ValueError(
            "mask must allow at least one class in every row; received a row that allows none"
        )
    if not np.isfinite(logits[mask]).all():
        raise ValueError("logits must be finite for every allowed class; received NaN or infinity")
    allowed = np.where(mask, logits, -np.inf)
    powers = np.exp(allowed - allowed.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def evaluate(labels: ArrayLike, probabilities: ArrayLike, *, emotions: Sequence[str]) -> dict:
    """Return every score of a set of clips, ready for JSON.

    The answer is the most probable class (the first of equals). `chance` is the UA of a guess among `emotions`, 1 / len(emotions).

    Args:
        labels: the index in `emotions` of each clip's emotion, int [clips].
        probabilities: softmax of each clip over `emotions`, float [clips, len(emotions)].
        emotions: the names in the order of the classes, and of the rows and columns of the confusion matrix.

    >>> scores = evaluate([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], emotions=["anger", "fear"])
    >>> scores["clips"], scores["ua"], scores["chance"], scores["confusion"]
    (3, 0.75, 0.5, [[1, 0], [1, 1]])
    """
    probabilities, n_classes = distributions(probabilities), len(emotions)
    if probabilities.shape[1] != n_classes:
        raise ValueError(
            f"probabilities must have a column per emotion, {n_classes}; received shape {probabilities.shape}"
        )
    answers = probabilities.argmax(axis=1)
    return {
        "clips": len(answers),
        "ua": unweighted_accuracy(labels, answers, n_classes=n_classes),
        "wa": weighted_accuracy(labels, answers, n_classes=n_classes),
        "macro_f1": macro_f1(labels, answers, n_classes=n_classes),
        "chance": 1 / n_classes,
        "confusion": confusion_matrix(labels, answers, n_classes=n_classes).tolist(),
        "emotions": list(emotions),
    }


def area_under_curve(same: ArrayLike, score: ArrayLike) -> float:
    """Return how often a pair of the same emotion scores higher than a pair of two emotions; ties count half.

    AUC = (R - P (P + 1) / 2) / (P N): the area under the ROC curve, with R the sum of the ranks (the mean rank among equals) of the
    P pairs of the same emotion, N the number of the others (Mann and Whitney 1947).

    Args:
        same: whether the pair shows one emotion, bool [pairs], both kinds present.
        score: larger means more alike (so the negative of a distance), float [pairs].

    >>> area_under_curve([True, True, False], [0.9, 0.2, 0.2])
    0.75
    """
    same, score = validate_pairs(same, score)
    positives = int(same.sum())
    negatives = len(same) - positives
    _, place, equals = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(equals) - (equals - 1) / 2)[place]
    return float((ranks[same].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def validate_pairs(same: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; ValueError unless `same` is bool [pairs] of both kinds and `score` a number for each pair."""
    same, score = np.asarray(same), np.asarray(score, np.float64)
    if same.ndim != 1 or same.dtype != bool:
        raise ValueError(
            f"same must be bool [pairs]; received shape {same.shape}, dtype {same.dtype}"
        )
    if score.shape != same.shape:
        raise ValueError(
            f"score must be of the shape of same, {same.shape}; received {score.shape}"
        )
    if np.isnan(score).any():
        raise ValueError("score must be a number for every pair; received NaN")
    if same.all() or not same.any():
        raise ValueError(
            f"same must hold pairs of both kinds; received {same.sum()} of one emotion, {(~same).sum()} of two"
        )
    return same, score


def distributions(probabilities: ArrayLike) -> np.ndarray:
    """Return `probabilities` as float64 [items, classes] when its rows are distributions (to 1 %: half precision is allowed)."""
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(
            f"probabilities must be [items, classes] with at least one item; received shape {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite; received NaN or infinity")
    sums = probabilities.sum(axis=1)
    if (
        probabilities.min() < 0
        or not math.isclose(1, sums.min(), abs_tol=0.01)
        or not math.isclose(1, sums.max(), abs_tol=0.01)
    ):
        raise ValueError(
            f"probabilities must be softmax outputs, each row a sum of 1; received values from {probabilities.min():.3g} "
            f"and sums from {sums.min():.3g} to {sums.max():.3g}"
        )
    return probabilities
