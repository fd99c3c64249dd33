"""Calibration: whether predictions of 80 % confidence are correct in 80 % of cases."""

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> float:
    """Return the expected calibration error of the most probable classes, in [0, 1].

    ECE = sum_m |B_m| / n |acc(B_m) - conf(B_m)| (Guo et al. 2017, "On calibration of modern neural
    networks", Eq. 3). Clips are binned by confidence, the probability of their prediction; acc is
    the fraction of correct clips of a bin, conf their mean confidence. Bin m of M holds confidences
    in ((m - 1) / M, m / M]. The error of a perfectly calibrated model is above 0 when bins hold few
    clips, so compare errors on the same clips only.

    Args:
        labels: The class of each clip, int [clips], in [0, classes).
        probabilities: float [clips, classes], each row a distribution.
        bins: The number of bins of equal width, at least 1.

    >>> round(calibration_error([0, 1, 1], [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]]), 4)
    0.2667
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1; received {bins!r}")
    probabilities = classification.validate_distributions(probabilities)
    predictions = probabilities.argmax(axis=1)
    classification.validate(labels, predictions, n_classes=probabilities.shape[1])
    confidence = probabilities.max(axis=1)  # [clips]
    # Edges are quotients, not multiples of 1 / bins: 0.6 is exactly 3 / 5.
    bin_of = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    is_correct = predictions == np.asarray(labels)
    surplus = np.bincount(bin_of, weights=is_correct - confidence)  # |B_m| (acc - conf)
    return float(np.abs(surplus).sum() / len(confidence))
