"""How sure a score is: 95 % intervals over speakers, and two models compared speaker by speaker.

Clips of one speaker are not independent, so what is drawn, flipped and counted is a speaker. `labels` is int [clips] as in
`kerasemo.metrics`; `answers` is int [clips], or [seeds, clips]: what the networks of several seeds said of the same clips. The score of
several seeds is the mean of their scores, each over the clips of all folds together. Everything is pure and raises ValueError.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kerasemo.metrics import classification

LEAST_SPEAKERS = 10
"""Fewer speakers than these say too little of other speakers for a bootstrap interval."""

RESAMPLES = 2000

MOST_EXACT = 22
"""Of so many speakers (RAVDESS' twelve and EMO-DB's ten) every one of the 2^n ways to flip signs is counted: four million sums."""

FLIPS = 100_000
"""The flips that are drawn where there are more speakers."""

EQUAL = 1e-12
"""Sums that differ by less, as a share of the sum of all absolute values, are equal: the order of additions is immaterial."""

OVER = ("speakers", "images", "clips")

Statistic = Callable[[np.ndarray, np.ndarray], float]
"""A score of labels and answers, both int [clips], such as `functools.partial(classification.unweighted_accuracy, n_classes=7)`."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """The ends of a 95 % interval, and how it was made."""

    low: float
    high: float
    method: str
    """Such as `bootstrap over 10 speakers`, `t over 6 speakers`, `bootstrap over 3301 images`."""


@dataclasses.dataclass(frozen=True)
class Paired:
    """How much better the first of two models is than the second."""

    difference: float
    """The mean over the speakers of the first model's value minus the second's."""
    low: float
    high: float
    """The ends of the 95 % t interval of `difference`."""
    p: float
    """Two-sided: how often a difference as large would come of speakers for whom the two models are interchangeable."""
    method: str
    """Such as `sign-flip over 10 speakers, exact; t interval`."""


def over_seeds(labels: ArrayLike, answers: ArrayLike, *, statistic: Statistic) -> float:
    """Return the mean over the seeds of the statistic of all clips.

    >>> right = lambda labels, answers: float(np.mean(labels == answers))
    >>> over_seeds([0, 1], [[0, 1], [0, 0]], statistic=right)
    0.75
    """
    return _mean(*_validated(labels, answers), statistic)


def per_speaker(
    labels: ArrayLike, answers: ArrayLike, speakers: Sequence[str], *, statistic: Statistic
) -> dict[str, float]:
    """Return each speaker's mean over the seeds of the statistic of that speaker's clips, the speakers sorted: the per-speaker table.

    Args:
        labels: int [clips].
        answers: int [clips] or [seeds, clips].
        speakers: the speaker of each clip.
        statistic: a score of labels and answers.

    >>> per_speaker([0, 1, 1], [0, 1, 0], ["b", "a", "b"], statistic=lambda labels, answers: float(np.mean(labels == answers)))
    {'a': 1.0, 'b': 0.5}
    """
    labels, answers = _validated(labels, answers)
    return {
        name: _mean(labels[clips], answers[:, clips], statistic)
        for name, clips in _clips_of(speakers, len(labels)).items()
    }


def class_balanced(labels: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Return float64 [clips]: a value of each clip, weighted so that their mean is the mean over the classes of each class's own mean.

    Of 1 for a right answer and 0 for a wrong one that is the unweighted accuracy.

    >>> values = class_balanced([0, 0, 0, 1], [1, 1, 1, 0])
    >>> float(values.mean()), values.round(2).tolist()
    (0.5, [0.67, 0.67, 0.67, 0.0])
    """
    _, classes, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return np.asarray(values, np.float64) * len(classes) / (len(counts) * counts[classes])


def interval(
    labels: ArrayLike,
    answers: ArrayLike,
    groups: Sequence[str] | None,
    *,
    statistic: Statistic,
    seed: int,
    over: str = "speakers",
    resamples: int = RESAMPLES,
) -> Interval | None:
    """Return the 95 % interval of a statistic, or None for a single speaker, who says nothing of others.

    Over at least 10 speakers: whole speakers are drawn with replacement, as many as there are, and the ends are the 2.5th and 97.5th
    percentile of the statistic over the draws (percentile bootstrap, Efron 1979); a draw is the same for all seeds. Over fewer
    speakers: mean +- t(0.975, n - 1) s / sqrt(n) of the n values of `per_speaker` (Student 1908). Its centre is their mean, which is
    not the pooled score, and it may reach past 0 or 1. Over images or clips: as over speakers, each clip by itself.

    Args:
        labels: int [clips].
        answers: int [clips] or [seeds, clips].
        groups: the speaker of each clip; over images or clips it is not looked at, and may be None.
        statistic: a score of labels and answers.
        seed: of the draws, which do not depend on the order of the clips.
        over: `speakers`, or `images` or `clips` where speakers are not known.
        resamples: how often is drawn.

    >>> right = lambda labels, answers: float(np.mean(labels == answers))
    >>> found = interval([0, 0, 0], [0, 0, 1], ["a", "b", "c"], statistic=right, seed=0)
    >>> round(found.low, 3), round(found.high, 3), found.method
    (-0.768, 2.101, 't over 3 speakers')
    """
    labels, answers = _validated(labels, answers)
    if over not in OVER:
        raise ValueError(f"over must be one of {', '.join(OVER)}; received {over!r}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1; received {resamples!r}")
    if over != "speakers":
        members = np.lexsort((*answers, labels))  # one clip each, in an order of their own
    else:
        members = list(_clips_of(groups, len(labels)).values())
        if len(members) < 2:
            return None
        if len(members) < LEAST_SPEAKERS:
            values = np.array(
                [_mean(labels[clips], answers[:, clips], statistic) for clips in members]
            )
            mean, half = values.mean(), _half_of_t([values / len(values)])
            return Interval(
                float(mean - half), float(mean + half), f"t over {len(members)} speakers"
            )
    random, values = np.random.default_rng(seed), np.empty(resamples)
    for draw in range(resamples):
        drawn = random.integers(len(members), size=len(members))
        clips = (
            np.concatenate([members[index] for index in drawn])
            if over == "speakers"
            else members[drawn]
        )
        values[draw] = _mean(labels[clips], answers[:, clips], statistic)
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high), f"bootstrap over {len(members)} {over}")


def paired(
    values_a: Mapping[str, float], values_b: Mapping[str, float], *, seed: int = 0
) -> Paired | None:
    """Return how much better a is than b, speaker by speaker, or None for a single speaker.

    p is that of the sign-flip test (Fisher 1935): the share of all 2^n ways to give the n differences their signs whose mean is as far
    from 0 as the one found. For more than 22 speakers 100 000 ways are drawn, and p = (1 + those as far) / (1 + 100 000). With n
    speakers it cannot be less than 2 / 2^n.

    Args:
        values_a: each speaker's value, its seeds averaged: `per_speaker`.
        values_b: the same of the other model, of the same speakers.
        seed: of the flips that are drawn.

    >>> found = paired({"a": 0.9, "b": 0.8, "c": 0.7}, {"a": 0.8, "b": 0.6, "c": 0.6})
    >>> round(found.difference, 3), found.p, found.method
    (0.133, 0.25, 'sign-flip over 3 speakers, exact; t interval')
    """
    if values_a.keys() != values_b.keys() or not values_a:
        only = sorted(values_a.keys() ^ values_b.keys())
        raise ValueError(
            f"values_a and values_b must be of the same speakers, at least one; received {only[:5]} in only one of them"
        )
    return paired_over(
        [{name: value - values_b[name] for name, value in values_a.items()}], seed=seed
    )


def paired_over(
    sources: Sequence[Mapping[Hashable, float]],
    *,
    seed: int = 0,
    over: str = "speakers",
    spread: Sequence[Mapping[Hashable, float]] | None = None,
) -> Paired | None:
    """Return the mean over some sources of the mean difference over the speakers of each, as `paired` does of one source.

    Every source counts alike, however many speakers it has. Signs are flipped speaker by speaker: one who is in several sources (by
    face and by voice) has one sign. The interval is Welch's (1947), of the speakers of each source, or of the same several sources, as
    a sample of their own; None where one of them has a single speaker.

    Args:
        sources: of each, every speaker's difference between two models.
        seed: of the flips that are drawn.
        over: what they are, where they are no speakers, for `method`.
        spread: of each source, every speaker's value whose spread the interval is of, where that is not the difference's: how much
            another such speaker would move the difference.

    >>> found = paired_over([{"a": 0.1, "b": 0.3}, {"c": -0.1, "d": 0.0, "e": -0.2}])
    >>> round(found.difference, 3), found.p, found.method
    (0.05, 0.75, 'sign-flip over 5 speakers, exact; t interval; 2 sources alike')
    """
    of_source: dict[Hashable, list[int]] = {}  # the sources of each speaker
    for index, source in enumerate(sources):
        for name in source:
            of_source.setdefault(name, []).append(index)
    counts = [len(source) for source in sources]

    def parts_of(values: Sequence[Mapping[Hashable, float]]) -> dict[Hashable, float]:
        return {
            name: sum(values[index][name] / counts[index] for index in own) / len(counts)
            for name, own in of_source.items()
        }

    parts, spreads = parts_of(sources), parts_of(spread or sources)
    differences = np.array(
        [parts[name] for name in sorted(parts)], np.float64
    )  # whose sum is the mean of the means
    if not np.isfinite(differences).all():
        raise ValueError("differences must be finite for every speaker; received NaN or infinity")
    samples: dict[tuple[int, ...], list[float]] = {}
    for name, own in of_source.items():
        samples.setdefault(tuple(own), []).append(spreads[name])
    if min(map(len, samples.values()), default=0) < 2:
        return None
    count = len(differences)
    if count <= MOST_EXACT:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate([sums + difference, sums - difference])  # [2^speakers so far]
        how, extra = "exact", 0
    else:
        random, sums = np.random.default_rng(seed), np.zeros(FLIPS)
        for size, often in zip(
            *np.unique(np.abs(differences[differences != 0]), return_counts=True), strict=True
        ):
            sums += size * (
                2 * random.binomial(often, 0.5, size=FLIPS) - often
            )  # so many of a size: of images there are few sizes
        how, extra = f"{FLIPS} drawn flips", 1
    found = float(differences.sum())
    far = abs(found) - EQUAL * np.abs(differences).sum()
    p = (extra + np.count_nonzero(np.abs(sums) >= far)) / (extra + len(sums))
    half = _half_of_t([np.array(values) for values in samples.values()])
    method = f"sign-flip over {count} {over}, {how}; t interval" + (
        f"; {len(sources)} sources alike" if len(sources) > 1 else ""
    )
    return Paired(found, found - half, found + half, float(p), method)


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979): the least level at which each comparison is still called a difference when
    the chance of calling any wrongly so is kept to that level.

    >>> [round(value, 2) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    corrected = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1.0)[np.argsort(order)].tolist()


def _half_of_t(samples: Sequence[np.ndarray]) -> float:
    """Return half of the 95 % interval of the sum of all values of samples of at least two: Student's of one, Welch's of several."""
    from scipy import special  # what needs no interval need not wait for it

    variances = np.array([len(values) * values.var(ddof=1) for values in samples])
    if not variances.any():
        return 0.0
    freedom = variances.sum() ** 2 / sum(
        variance**2 / (len(values) - 1) for variance, values in zip(variances, samples, strict=True)
    )
    return float(special.stdtrit(freedom, 0.975) * np.sqrt(variances.sum()))


def _mean(labels: np.ndarray, answers: np.ndarray, statistic: Statistic) -> float:
    """Return the mean of the statistic over the seeds of `answers` [seeds, clips]."""
    return float(np.mean([statistic(labels, own) for own in answers]))


def _validated(labels: ArrayLike, answers: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as int [clips], answers as int [seeds, clips]."""
    labels, answers = np.asarray(labels), np.asarray(answers)
    if answers.ndim == 1:
        answers = answers[None]
    if answers.ndim != 2 or not len(answers):
        raise ValueError(
            f"answers must be [clips] or [seeds, clips], at least one seed; received shape {answers.shape}"
        )
    for own in answers:
        classification.validate(
            labels, own, n_classes=np.iinfo(np.int64).max
        )  # the statistic knows how many
    return labels, answers


def _clips_of(speakers: Sequence[str] | None, clips: int) -> dict[str, np.ndarray]:
    """Return the clips of each speaker, int [clips of the speaker], the speakers sorted."""
    speakers = np.asarray(speakers)
    if speakers.shape != (clips,):
        raise ValueError(
            f"groups must name a speaker for each of {clips} clips; received shape {speakers.shape}"
        )
    if "" in speakers.tolist():
        raise ValueError(
            'groups must name a speaker for every clip; received an empty name. Where none is known, take over="images"'
        )
    return {str(name): np.flatnonzero(speakers == name) for name in np.unique(speakers)}
