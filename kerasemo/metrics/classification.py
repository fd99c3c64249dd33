"""Scores of classification: how many predictions of clips are correct.

Conventions: `labels` and `predictions` are integers [clips] in [0, n_classes). A confusion matrix
has the labels in its rows. Scores are fractions in [0, 1]. A mean over classes leaves out classes
without clips; a prediction of another class still counts as wrong. All functions are pure and raise
ValueError.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


def validate(labels: ArrayLike, predictions: ArrayLike, *, n_classes: int) -> None:
    """Raise ValueError unless both are integers [clips] in [0, n_classes), of equal length."""
    if n_classes < 1:
        raise ValueError(f"n_classes must be at least 1; received {n_classes!r}")
    arrays = {"labels": np.asarray(labels), "predictions": np.asarray(predictions)}
    for name, values in arrays.items():
        if values.ndim != 1 or not values.size:
            raise ValueError(
                f"{name} must be [clips] with at least one clip; received shape {values.shape}"
            )
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(
                f"{name} must be integers, the indices of classes; received dtype {values.dtype}"
            )
        if values.min() < 0 or values.max() >= n_classes:
            wrong = values[(values < 0) | (values >= n_classes)][0]
            raise ValueError(f"{name} must lie in [0, {n_classes}); received {wrong}")
    n_labels, n_predictions = (len(values) for values in arrays.values())
    if n_labels != n_predictions:
        raise ValueError(
            f"predictions must be as many as labels, {n_labels}; received {n_predictions}"
        )


def confusion_matrix(
    labels: ArrayLike, predictions: ArrayLike, *, n_classes: int, checked: bool = True
) -> np.ndarray:
    """Count the clips of each label and prediction: int64 [n_classes, n_classes].

    The labels are in the rows.

    Args:
        labels: int [clips].
        predictions: int [clips].
        n_classes: The number of classes.
        checked: Validate the arguments first; False where many resamples of valid arrays are
            counted.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], n_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    if checked:
        validate(labels, predictions, n_classes=n_classes)
    flat_indices = np.asarray(labels, np.int64) * n_classes + np.asarray(predictions, np.int64)
    return np.bincount(flat_indices, minlength=n_classes**2).reshape(n_classes, n_classes)


def recalls(labels: ArrayLike, predictions: ArrayLike, *, n_classes: int) -> np.ndarray:
    """Return the fraction of correct clips of each class: float64 [n_classes], NaN without clips.

    >>> recalls([0, 0, 1], [0, 1, 1], n_classes=3).tolist()
    [0.5, 1.0, nan]
    """
    confusion = confusion_matrix(labels, predictions, n_classes=n_classes)
    clips = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), clips, out=np.full(n_classes, np.nan), where=clips > 0)


def _unweighted_average_recall(confusion: np.ndarray) -> float:
    clips = confusion.sum(axis=1)  # [classes]
    class_recalls = np.divide(
        confusion.diagonal(), clips, out=np.zeros(len(clips)), where=clips > 0
    )
    return float(class_recalls.sum() / np.count_nonzero(clips))


def _accuracy(confusion: np.ndarray) -> float:
    return float(np.trace(confusion) / confusion.sum())


def _macro_f1(confusion: np.ndarray) -> float:
    clips, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    has_clips = clips > 0
    return float(np.mean(2 * confusion.diagonal()[has_clips] / (clips + predicted)[has_clips]))


def unweighted_average_recall(
    labels: ArrayLike, predictions: ArrayLike, *, n_classes: int
) -> float:
    """Return the mean recall of the classes that have clips (UAR; UA in tables).

    >>> unweighted_average_recall([0, 0, 1], [0, 1, 1], n_classes=2)
    0.75
    """
    return METRICS["ua"].score(labels, predictions, n_classes=n_classes)


def accuracy(labels: ArrayLike, predictions: ArrayLike, *, n_classes: int) -> float:
    """Return the fraction of correct clips (weighted accuracy; WA in tables).

    >>> accuracy([0, 0, 1, 1], [0, 1, 1, 1], n_classes=2)
    0.75
    """
    return METRICS["wa"].score(labels, predictions, n_classes=n_classes)


def macro_f1(labels: ArrayLike, predictions: ArrayLike, *, n_classes: int) -> float:
    """Return the mean over the classes that have clips of F1 = 2 TP / (2 TP + FP + FN).

    Equal to sklearn's `f1_score(average="macro", labels=np.unique(labels), zero_division=0)`.

    >>> round(macro_f1([0, 0, 1], [0, 1, 1], n_classes=2), 4)
    0.6667
    """
    return METRICS["macro_f1"].score(labels, predictions, n_classes=n_classes)


@dataclasses.dataclass(frozen=True)
class Metric:
    """A score that follows from a confusion matrix."""

    name: str
    """The key in JSON documents and CSV files."""
    title: str
    """The heading in tables."""
    of_confusion: Callable[[np.ndarray], float]
    """Computes the score from an int64 [classes, classes] confusion matrix."""
    mean_over: Literal["classes", "clips"] | None = None
    """The values that the score averages: the means of classes, or single clips. None for another
    score; then two models cannot be compared speaker by speaker."""

    def score(
        self, labels: ArrayLike, predictions: ArrayLike, *, n_classes: int, checked: bool = True
    ) -> float:
        """Return the score of predictions; see `confusion_matrix`."""
        return self.of_confusion(
            confusion_matrix(labels, predictions, n_classes=n_classes, checked=checked)
        )

    def clip_values(self, labels: ArrayLike, values: ArrayLike) -> np.ndarray:
        """Weight values of clips, float [clips], so that their mean is a mean as the score is one.

        With 1 for a correct clip, else 0, that mean is the score.
        """
        if self.mean_over == "classes":
            return class_balanced(labels, values)
        return np.asarray(values, np.float64)

    def expected_values(self, labels: ArrayLike, values: ArrayLike) -> np.ndarray:
        """Return the mean value of each clip's class, or of all clips: float64 [clips]."""
        values = np.asarray(values, np.float64)
        if self.mean_over != "classes":
            return np.full(len(values), values.mean())
        classes = np.unique(np.asarray(labels), return_inverse=True)[1]
        return (np.bincount(classes, values) / np.bincount(classes))[classes]


def class_balanced(labels: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Weight values of clips so that their mean is the mean over the classes of each class's mean.

    With 1 for a correct clip, else 0, that mean is the unweighted average recall.

    Args:
        labels: int [clips].
        values: float [clips].

    Returns:
        float64 [clips].

    >>> values = class_balanced([0, 0, 0, 1], [1, 1, 1, 0])
    >>> float(values.mean()), values.round(2).tolist()
    (0.5, [0.67, 0.67, 0.67, 0.0])
    """
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return np.asarray(values, np.float64) * len(classes) / (len(counts) * counts[classes])


METRICS = {
    metric.name: metric
    for metric in (
        Metric("ua", "UA", _unweighted_average_recall, "classes"),
        Metric("wa", "WA", _accuracy, "clips"),
        Metric("macro_f1", "macro-F1", _macro_f1),
    )
}
"""The scores of every table, by name. Results, columns and comparisons derive from this table."""


def mean_probabilities(probabilities: ArrayLike, clip_of: ArrayLike) -> np.ndarray:
    """Return the mean softmax over the items of each clip: float64 [clips, classes].

    Args:
        probabilities: Softmax of each item, float [items, classes], each row a distribution.
        clip_of: The clip of each item, int [items]; every clip from 0 on has at least one item.

    >>> mean_probabilities([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], [0, 0, 1]).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    return clip_means(validate_distributions(probabilities), clip_of)


def clip_means(values: ArrayLike, clip_of: ArrayLike) -> np.ndarray:
    """Return the mean over the items of each clip: float64 [clips, n].

    Args:
        values: A vector of each item, float [items, n].
        clip_of: See `mean_probabilities`.

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
            f"clip_of must hold one integer for each of {len(values)} items; "
            f"received shape {clip_of.shape}, dtype {clip_of.dtype}"
        )
    if clip_of.min() < 0:
        raise ValueError(f"clip_of must count clips from 0; received {clip_of.min()}")
    counts = np.bincount(clip_of)  # [clips]
    if not counts.all():
        raise ValueError(
            f"clip_of must give every clip in [0, {len(counts)}) an item; "
            f"received none for clip {counts.argmin()}"
        )
    sums = np.zeros((len(counts), values.shape[1]))  # [clips, n]
    np.add.at(sums, clip_of, values)
    return sums / counts[:, None]


def masked_softmax(logits: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """Return the softmax over the classes that `mask` allows, float64; exactly 0 elsewhere.

    p_c = m_c exp(z_c - z_max) / sum_k m_k exp(z_k - z_max), where z_max is the largest allowed
    logit, so that no logit overflows.

    Args:
        logits: float [..., classes], finite where allowed.
        mask: bool [classes] or any shape that broadcasts to that of `logits`: True for an allowed
            class, at least one in each row.

    >>> masked_softmax([1000.0, 1000.0, 2000.0], [True, True, False]).tolist()
    [0.5, 0.5, 0.0]
    """
    logits, mask = np.asarray(logits, np.float64), np.asarray(mask)
    if mask.dtype != bool:
        raise ValueError(f"mask must be bool; received dtype {mask.dtype}")
    fits = logits.size and 0 < mask.ndim <= logits.ndim and mask.shape[-1] == logits.shape[-1]
    if not fits:
        raise ValueError(
            f"mask must be [..., classes] as logits of shape {logits.shape} are; "
            f"received shape {mask.shape}"
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


def classification_scores(
    labels: ArrayLike, probabilities: ArrayLike, *, emotions: Sequence[str]
) -> dict:
    """Return every score of a set of clips, ready for JSON.

    A prediction is the most probable class, the first of equal ones.

    Args:
        labels: The index in `emotions` of each clip's label, int [clips].
        probabilities: Softmax of each clip over `emotions`, float [clips, len(emotions)].
        emotions: The names of the classes, in the order of the confusion matrix.

    Returns:
        `clips`, the scores of `METRICS` by name, `chance` (the UA of a guess, 1 / len(emotions)),
        `confusion` and `emotions`.

    >>> scores = classification_scores(
    ...     [0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], emotions=["anger", "fear"]
    ... )
    >>> scores["clips"], scores["ua"], scores["chance"], scores["confusion"]
    (3, 0.75, 0.5, [[1, 0], [1, 1]])
    """
    probabilities, n_classes = validate_distributions(probabilities), len(emotions)
    if probabilities.shape[1] != n_classes:
        raise ValueError(
            f"probabilities must have a column for each of {n_classes} emotions; "
            f"received shape {probabilities.shape}"
        )
    predictions = probabilities.argmax(axis=1)
    confusion = confusion_matrix(labels, predictions, n_classes=n_classes)
    return {
        "clips": len(predictions),
        **{name: metric.of_confusion(confusion) for name, metric in METRICS.items()},
        "chance": 1 / n_classes,
        "confusion": confusion.tolist(),
        "emotions": list(emotions),
    }


def validate_distributions(probabilities: ArrayLike) -> np.ndarray:
    """Return probabilities as float64 [items, classes].

    Raise ValueError if a row is no distribution.

    A row may sum to 1 within 1 %, because half precision is allowed.
    """
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or not probabilities.size:
        raise ValueError(
            "probabilities must be [items, classes] with at least one item; "
            f"received shape {probabilities.shape}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite; received NaN or infinity")
    sums = probabilities.sum(axis=1)
    low, high = float(sums.min()), float(sums.max())
    sums_to_one = math.isclose(1, low, abs_tol=0.01) and math.isclose(1, high, abs_tol=0.01)
    if probabilities.min() < 0 or not sums_to_one:
        raise ValueError(
            "probabilities must be softmax outputs, each row a sum of 1; "
            f"received values from {probabilities.min():.3g} and sums from {low:.3g} to {high:.3g}"
        )
    return probabilities
