"""Uncertainty of a score: 95 % intervals over speakers, and two models compared speaker by speaker.

Clips of one speaker are not independent, so the unit that is resampled and whose signs are flipped
is a speaker. `labels` is int [clips] as in `kerasemo.metrics.classification`. `predictions` is int
[clips], or [seeds, clips]: the predictions of the networks of several seeds for the same clips. The
score of several seeds is the mean of their scores, each over the clips of all folds together. All
functions are pure and raise ValueError.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification

MIN_BOOTSTRAP_SPEAKERS = 10
"""With fewer speakers a bootstrap interval is too narrow; a t interval is given instead."""

N_RESAMPLES = 2000
"""Resamples of a bootstrap interval."""

MAX_EXACT_UNITS = 16
"""With at most this many units (EMO-DB has 10 speakers, RAVDESS's half 12) all 2^n sign flips are
counted."""

N_SIGN_FLIPS = 10_000
"""Sign flips that are sampled where there are more units."""

UNITS = ("speakers", "images", "clips")
"""What can be resampled: speakers, or single images or clips where speakers are not known."""

Statistic = Callable[[np.ndarray, np.ndarray], float]
"""A score of labels and predictions, both int [clips], such as
`functools.partial(classification.accuracy, n_classes=7)`."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % interval and how it was computed."""

    low: float
    high: float
    method: str
    """For example `bootstrap over 10 speakers`, `t over 6 speakers`."""


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """How much better the first of two models is than the second."""

    difference: float
    """The mean over the units of the first model's value minus the second's."""
    low: float
    high: float
    """The 95 % t interval of `difference`."""
    p: float
    """Two-sided p value of the sign-flip test: the probability of a difference as large if the two
    models were interchangeable for every unit."""
    method: str
    """For example `sign-flip over 10 speakers, exact; t interval`."""


def mean_over_seeds(labels: ArrayLike, predictions: ArrayLike, *, statistic: Statistic) -> float:
    """Return the mean over the seeds of the statistic of all clips.

    >>> correct = lambda labels, predictions: float(np.mean(labels == predictions))
    >>> mean_over_seeds([0, 1], [[0, 1], [0, 0]], statistic=correct)
    0.75
    """
    return _mean(*_validated(labels, predictions), statistic)


def scores_by_speaker(
    labels: ArrayLike, predictions: ArrayLike, speakers: Sequence[str], *, statistic: Statistic
) -> dict[str, float]:
    """Return the score of each speaker's clips, the mean over the seeds; speakers are sorted.

    Args:
        labels: int [clips].
        predictions: int [clips] or [seeds, clips].
        speakers: The speaker of each clip.
        statistic: A score of labels and predictions.

    >>> correct = lambda labels, predictions: float(np.mean(labels == predictions))
    >>> scores_by_speaker([0, 1, 1], [0, 1, 0], ["b", "a", "b"], statistic=correct)
    {'a': 1.0, 'b': 0.5}
    """
    labels, predictions = _validated(labels, predictions)
    return {
        speaker: _mean(labels[clips], predictions[:, clips], statistic)
        for speaker, clips in _clips_by_speaker(speakers, len(labels)).items()
    }


def score_interval(
    labels: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str] | None,
    *,
    statistic: Statistic,
    seed: int,
    unit: str = "speakers",
    resamples: int = N_RESAMPLES,
) -> Interval | None:
    """Return the 95 % interval of a score; None for a single speaker.

    With 10 speakers or more: a percentile bootstrap (Efron 1979). Whole speakers are drawn with
    replacement, the same for all seeds; the limits are the 2.5th and 97.5th percentile. With fewer
    speakers: mean +- t(0.975, n - 1) s / sqrt(n) of the n values of `scores_by_speaker` (Student
    1908). The centre of that interval is the mean over speakers, not the pooled score, and a limit
    may lie outside [0, 1]. Over images or clips: a bootstrap of single clips.

    Args:
        labels: int [clips].
        predictions: int [clips] or [seeds, clips].
        speakers: The speaker of each clip; not used, and possibly None, with another unit.
        statistic: A score of labels and predictions.
        seed: The seed of the resamples, which do not depend on the order of the clips.
        unit: What is resampled, one of `UNITS`.
        resamples: The number of resamples.

    >>> correct = lambda labels, predictions: float(np.mean(labels == predictions))
    >>> found = score_interval([0, 0, 0], [0, 0, 1], ["a", "b", "c"], statistic=correct, seed=0)
    >>> round(found.low, 3), round(found.high, 3), found.method
    (-0.768, 2.101, 't over 3 speakers')
    """
    labels, predictions = _validated(labels, predictions)
    if unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}; received {unit!r}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1; received {resamples!r}")
    if unit == "speakers":
        clips_by_speaker = _clips_by_speaker(speakers, len(labels))
        if len(clips_by_speaker) < 2:
            return None
        if len(clips_by_speaker) < MIN_BOOTSTRAP_SPEAKERS:
            return _t_interval(labels, predictions, list(clips_by_speaker.values()), statistic)
        groups = list(clips_by_speaker.values())
    else:
        order = np.lexsort((*predictions, labels))  # whatever the order of the clips
        groups = list(order[:, None])
    random, values = np.random.default_rng(seed), np.empty(resamples)
    for resample in range(resamples):
        drawn = random.integers(len(groups), size=len(groups))
        clips = _concatenated(groups, drawn)
        values[resample] = _mean(labels[clips], predictions[:, clips], statistic)
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high), f"bootstrap over {len(groups)} {unit}")


def _concatenated(groups: Sequence[np.ndarray], drawn: np.ndarray) -> np.ndarray:
    return np.concatenate([groups[index] for index in drawn])


def _t_interval(
    labels: np.ndarray,
    predictions: np.ndarray,
    groups: Sequence[np.ndarray],
    statistic: Statistic,
) -> Interval:
    values = np.array([_mean(labels[clips], predictions[:, clips], statistic) for clips in groups])
    half = _half_width([values / len(values)])
    mean = float(values.mean())
    return Interval(mean - half, mean + half, f"t over {len(groups)} speakers")


def paired_difference(
    values_a: Mapping[str, float], values_b: Mapping[str, float], *, seed: int = 0
) -> PairedDifference | None:
    """Return how much better model a is than model b, speaker by speaker.

    The result is None for a single speaker.

    p is that of the sign-flip test (Fisher 1935), by `scipy.stats.permutation_test`: the fraction
    of all 2^n sign assignments of the n differences whose mean is as far from 0 as the observed
    mean. With n speakers p is at least 2 / 2^n. For many speakers sign flips are sampled.

    Args:
        values_a: The value of each speaker, averaged over seeds; see `scores_by_speaker`.
        values_b: The same of the other model, for the same speakers.
        seed: The seed of sampled sign flips.

    >>> found = paired_difference({"a": 0.9, "b": 0.8, "c": 0.7}, {"a": 0.8, "b": 0.6, "c": 0.6})
    >>> round(found.difference, 3), found.p, found.method
    (0.133, 0.25, 'sign-flip over 3 speakers, exact; t interval')
    """
    if values_a.keys() != values_b.keys() or not values_a:
        only_one = sorted(values_a.keys() ^ values_b.keys())
        raise ValueError(
            "values_a and values_b must have the same speakers, at least one; "
            f"received {only_one[:5]} in one of them only"
        )
    differences = {name: value - values_b[name] for name, value in values_a.items()}
    return mean_paired_difference([differences], seed=seed)


def mean_paired_difference(
    differences_by_source: Sequence[Mapping[Any, float]],
    *,
    seed: int = 0,
    unit: str = "speakers",
    spreads_by_source: Sequence[Mapping[Any, float]] | None = None,
) -> PairedDifference | None:
    """Return the mean over sources of the mean difference over speakers; see `paired_difference`.

    Every source has the same weight. A speaker who is in several sources (by face and by voice) has
    one sign in the test. The interval is Welch's (1947): the speakers of each source, or of the
    same several sources, are one sample. None is returned if a sample has a single speaker.

    Args:
        differences_by_source: For each source, the difference of two models for every speaker.
        seed: The seed of sampled sign flips.
        unit: What the keys are, for `method`.
        spreads_by_source: For each source, values whose spread gives the interval, where that is
            not the spread of the differences.

    >>> found = mean_paired_difference([{"a": 0.1, "b": 0.3}, {"c": -0.1, "d": 0.0, "e": -0.2}])
    >>> round(found.difference, 3), found.p, found.method
    (0.05, 0.75, 'sign-flip over 5 speakers, exact; t interval; 2 sources alike')
    """
    sources_of: dict[Any, list[int]] = {}
    for index, source in enumerate(differences_by_source):
        for name in source:
            sources_of.setdefault(name, []).append(index)
    parts = _parts_of_mean(differences_by_source, sources_of)
    spreads = _parts_of_mean(spreads_by_source or differences_by_source, sources_of)
    differences = np.array([parts[name] for name in sorted(parts)], np.float64)
    if not np.isfinite(differences).all():
        raise ValueError("differences must be finite for every speaker; received NaN or infinity")
    samples: dict[tuple[int, ...], list[float]] = {}
    for name, sources in sources_of.items():
        samples.setdefault(tuple(sources), []).append(spreads[name])
    if min(map(len, samples.values()), default=0) < 2:
        return None
    p, how = _sign_flip_test(differences, seed=seed)
    half = _half_width([np.array(values) for values in samples.values()])
    total = float(differences.sum())
    method = f"sign-flip over {len(differences)} {unit}, {how}; t interval"
    if len(differences_by_source) > 1:
        method += f"; {len(differences_by_source)} sources alike"
    return PairedDifference(total, total - half, total + half, p, method)


def _parts_of_mean(
    values_by_source: Sequence[Mapping[Any, float]],
    sources_of: Mapping[Any, Sequence[int]],
) -> dict[Any, float]:
    """Return what each speaker contributes to the mean over sources of the means over speakers."""
    n_sources = len(values_by_source)
    return {
        name: sum(values_by_source[index][name] / len(values_by_source[index]) for index in sources)
        / n_sources
        for name, sources in sources_of.items()
    }


def _sign_flip_test(differences: np.ndarray, *, seed: int) -> tuple[float, str]:
    """Return the two-sided p value of the sum of differences [n], and how it was computed."""
    from scipy import stats  # imported here, because other scores need not wait for it

    # Sums that differ in the last digits only are ties.
    scale = np.abs(differences).max() or 1.0
    exact = len(differences) <= MAX_EXACT_UNITS
    result = stats.permutation_test(
        (differences,),
        lambda values, axis: np.round(values.sum(axis=axis) / scale, 9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if exact else N_SIGN_FLIPS,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue), "exact" if exact else f"{N_SIGN_FLIPS} drawn flips"


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979).

    The corrected value of a comparison is the smallest family-wise error rate at which it is still
    significant.

    >>> [round(value, 2) for value in holm_correction([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.maximum.accumulate(np.asarray(p_values)[order] * factors)
    return np.minimum(corrected, 1.0)[np.argsort(order)].tolist()


def _half_width(samples: Sequence[np.ndarray]) -> float:
    """Return half the width of the 95 % t interval of the sum of all values of independent samples.

    Student's for one sample; for several, Welch's with the degrees of freedom of Satterthwaite
    (1946).
    """
    from scipy import stats

    variances = np.array([len(values) * values.var(ddof=1) for values in samples])
    if not variances.any():
        return 0.0
    freedoms = np.array([len(values) - 1 for values in samples])
    freedom = variances.sum() ** 2 / (variances**2 / freedoms).sum()
    _, high = stats.t.interval(0.95, freedom, scale=np.sqrt(variances.sum()))
    return float(high)


def _mean(labels: np.ndarray, predictions: np.ndarray, statistic: Statistic) -> float:
    """Return the mean of the statistic over the seeds of `predictions` [seeds, clips]."""
    return float(np.mean([statistic(labels, of_seed) for of_seed in predictions]))


def _validated(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as int [clips] and predictions as int [seeds, clips]."""
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if predictions.ndim == 1:
        predictions = predictions[None]
    if predictions.ndim != 2 or not len(predictions):
        raise ValueError(
            "predictions must be [clips] or [seeds, clips] with at least one seed; "
            f"received shape {predictions.shape}"
        )
    for of_seed in predictions:
        # The statistic knows the number of classes.
        classification.validate(labels, of_seed, n_classes=np.iinfo(np.int64).max)
    return labels, predictions


def _clips_by_speaker(speakers: Sequence[str] | None, n_clips: int) -> dict[str, np.ndarray]:
    """Return the indices of each speaker's clips, int [clips of the speaker].

    Speakers are sorted.
    """
    names = np.asarray(speakers)
    if names.shape != (n_clips,):
        raise ValueError(
            f"speakers must name a speaker for each of {n_clips} clips; "
            f"received shape {names.shape}"
        )
    if "" in names.tolist():
        raise ValueError(
            'speakers must name a speaker for every clip; received an empty name; use unit="clips" '
            "where speakers are not known"
        )
    return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}
