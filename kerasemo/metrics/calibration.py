"""How far a confidence can be taken at its word: of the answers given with 80 %, are 80 % right? NumPy, pure, raises ValueError."""

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> float:
    """Return the expected calibration error of the top answers, in [0, 1].

    ECE = sum_m |B_m| / n |acc(B_m) - conf(B_m)| (Guo et al. 2017, "On calibration of modern neural networks", Eq. 3): the clips are
    put into bins by their confidence, the probability of their answer; acc is the share of a bin's answers that are right, conf their
    mean confidence. Bin m of M, from 1, holds the confidences in ((m - 1) / M, m / M]: one on an edge belongs to the bin below it. The
    answer is the first of equals, as in `classification.evaluate`. A few clips a bin make it too large even for honest confidences, so compare
    it on the same clips alone.

    Args:
        labels: the class of each clip, int [clips], in [0, classes).
        probabilities: of each clip, float [clips, classes], each row a distribution.
        bins: how many, of equal width, at least 1.

    >>> round(calibration_error([0, 1, 1], [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]]), 4)
    0.2667
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1; received {bins!r}")
    probabilities = classification.distributions(probabilities)
    answers = probabilities.argmax(axis=1)
    classification.validate(labels, answers, n_classes=probabilities.shape[1])
    confidence = probabilities.max(axis=1)  # [clips]
    # Edges as quotients, not as multiples of 1 / bins: 0.6 is the very number 3 / 5.
    bin_of = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    surplus = np.bincount(
        bin_of, weights=(answers == np.asarray(labels)) - confidence
    )  # |B_m| (acc - conf)
    return float(np.abs(surplus).sum() / len(confidence))
