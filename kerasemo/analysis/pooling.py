"""The scores of a stage on a source over all folds and seeds: pooled over the clips, never averaged over folds or speakers.

A network answers the clips of its own fold; those of all folds together answer every clip once, and are scored as one. Where a network
answers the clips of several folds (a corpus that no stage was trained on is all test in each, and one that its publisher split has one
fold), each such network is scored by itself, as another seed is, and the score is the mean.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.analysis.prediction_tables import Answers, Pool
from kerasemo.metrics import classification, significance
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS

FIGURES = {
    "ua": classification.unweighted_accuracy,
    "wa": classification.weighted_accuracy,
    "macro_f1": classification.macro_f1,
}
STATISTICS = {
    name: functools.partial(function, n_classes=len(EMOTIONS)) for name, function in FIGURES.items()
}
"""The scores, of labels and answers that are indices of EMOTIONS: a class without clips counts in none."""

SEED = 0
"""Of the draws of intervals."""


def pool(cells: Mapping[tuple[int, int], Answers], *, folds: int) -> Pool:
    """Pool the answers of a stage to the clips of one source.

    Args:
        cells: By (seed, fold), fold k of the experiment being fold k mod `folds` of the source.
        folds: How many the source has; 1 where its clips are the same in each.

    Returns:
        The clips of the folds that every seed has. Networks of one seed and of one fold of the source are rows of their own, as far
        as every fold has them.

    Raises:
        InputError: Networks were asked about different clips.
    """
    by_seed: dict[int, list[dict[int, Answers]]] = {}
    for (seed, fold), own in sorted(cells.items(), key=lambda cell: cell[0]):
        rounds = by_seed.setdefault(seed, [])
        free = next((one for one in rounds if fold % folds not in one), None)
        if free is None:
            rounds.append(free := {})
        free[fold % folds] = own
    common = sorted(set.intersection(*(set(rounds[0]) for rounds in by_seed.values())))
    if not common:
        raise InputError(
            "no fold has been finished with every seed; run the same command again, or name fewer --seeds"
        )
    rows = [
        (seed, [one[fold] for fold in common])
        for seed, rounds in by_seed.items()
        for one in rounds
        if set(common) <= set(one)
    ]
    first = rows[0][1]
    for seed, own in rows[1:]:
        for fold, one, other in zip(common, first, own, strict=True):
            if (
                one.ids != other.ids
                or (one.labels != other.labels).any()
                or (one.items.sum(axis=1) != other.items.sum(axis=1)).any()
            ):
                raise InputError(
                    f"fold {fold}: seeds {rows[0][0]} and {seed} were asked about different clips; name another --run"
                )
    stacked = {
        name: np.stack([np.concatenate([getattr(one, name) for one in own]) for _, own in rows])
        for name in ("answers", "without_corpus", "items")
    }
    return Pool(
        folds=tuple(common),
        seeds=tuple(seed for seed, _ in rows),
        clips=tuple(
            (fold, clip) for fold, one in zip(common, first, strict=True) for clip in one.ids
        ),
        speakers=tuple(speaker for one in first for speaker in one.speakers),
        labels=np.concatenate([one.labels for one in first]),
        **stacked,
    )


def by_item(pool: Pool) -> Pool:
    """Return a pool in which every face or segment stands for itself."""
    counts = pool.items[0].sum(axis=1)  # [clips]
    answers = np.stack(
        [
            np.repeat(np.tile(np.arange(len(EMOTIONS)), len(counts)), own.ravel())
            for own in pool.items
        ]
    )
    of = np.repeat(np.arange(len(counts)), counts)  # [items]: the clip of each
    return dataclasses.replace(
        pool,
        clips=tuple(pool.clips[clip] for clip in of),
        speakers=tuple(pool.speakers[clip] for clip in of),
        labels=pool.labels[of],
        answers=answers,
        without_corpus=np.full_like(answers, -1),
        items=np.eye(len(EMOTIONS), dtype=int)[answers],
    )


def of_emotions(pool: Pool, emotions: Sequence[str]) -> Pool:
    """Return the clips of some emotions alone."""
    return at(
        pool,
        np.flatnonzero(np.isin(pool.labels, [EMOTIONS.index(emotion) for emotion in emotions])),
    )


def at(pool: Pool, places: Sequence[int]) -> Pool:
    """Return the clips at some places alone, in their order."""
    return dataclasses.replace(
        pool,
        clips=tuple(pool.clips[place] for place in places),
        speakers=tuple(pool.speakers[place] for place in places),
        labels=pool.labels[places],
        **{name: getattr(pool, name)[:, places] for name in ("answers", "without_corpus", "items")},
    )


def score(
    pool: Pool,
    *,
    shared: Sequence[str],
    corpus: Sequence[str],
    with_intervals: Sequence[str] = ("ua", "wa"),
) -> dict[str, Any]:
    """Return the scores of a pool, ready for JSON.

    Args:
        pool: Of clips, or of faces or segments.
        shared: The emotions that the corpus and the network both have, in order: those that can be answered.
        corpus: All that the corpus has, in order.
        with_intervals: The scores that get a 95 % interval: over speakers, or, where not all are known, over images or clips.

    Returns:
        `n`, and `different_clips`, fewer where a clip is on the side of several folds; `ua`, `wa`, `macro_f1`, each the mean over the
        rows; `by_seed` the same of each seed; `interval` of each `{"low", "high", "method"}`, None for a single speaker; `chance`,
        `emotions`, `confusion` (summed over the rows), `recalls`, `by_speaker`; where all rows could answer without knowing the corpus,
        `without_corpus`; where the corpus has an emotion that was not trained, `all_classes`: UA and WA of all clips with that class's
        recall 0, and chance.
    """
    known = of_emotions(pool, shared)
    rows = [
        {name: statistic(known.labels, own) for name, statistic in STATISTICS.items()}
        for own in known.answers
    ]
    seeds = sorted(set(known.seeds))
    confusion = sum(
        classification.confusion_matrix(known.labels, own, n_classes=len(EMOTIONS))
        for own in known.answers
    )
    places = [EMOTIONS.index(emotion) for emotion in shared]
    found = {
        "n": len(known.labels),
        "different_clips": len({clip for _, clip in known.clips}),
        "folds": list(pool.folds),
        "networks": len(known.seeds),
        **_means(rows),
        "by_seed": [
            {"seed": seed}
            | _means([row for row, own in zip(rows, known.seeds, strict=True) if own == seed])
            for seed in seeds
        ],
        "interval": {name: interval(known, name) for name in with_intervals},
        "chance": 1 / len(shared),
        "emotions": list(shared),
        "confusion": confusion[np.ix_(places, places)].tolist(),
        "recalls": {
            emotion: _share(confusion[place, place], confusion[place].sum())
            for emotion, place in zip(shared, places, strict=True)
        },
        "by_speaker": by_speaker(known),
    }
    if (known.without_corpus >= 0).all():
        found["without_corpus"] = _means(
            [
                {name: statistic(known.labels, own) for name, statistic in STATISTICS.items()}
                for own in known.without_corpus
            ]
        )
    if set(corpus) - set(shared):
        everything = [
            {name: STATISTICS[name](pool.labels, own) for name in ("ua", "wa")}
            for own in pool.answers
        ]
        found["all_classes"] = {
            "n": len(pool.labels),
            "emotions": list(corpus),
            "chance": 1 / len(corpus),
            **_means(everything),
        }
    return found


def interval(pool: Pool, name: str) -> dict[str, Any] | None:
    """Return the 95 % interval of one of STATISTICS over the speakers, or over the images or clips where not all speakers are known."""
    found = significance.interval(
        pool.labels, pool.answers, pool.speakers, statistic=quick(name), seed=SEED, over=over(pool)
    )
    return None if found is None else dataclasses.asdict(found)


def over(pool: Pool) -> str:
    """Return what the clips of a pool are drawn by."""
    return (
        "speakers"
        if all(pool.speakers)
        else "images"
        if (pool.items.sum(axis=2) == 1).all()
        else "clips"
    )


def by_speaker(pool: Pool) -> dict[str, dict[str, Any]]:
    """Return of each speaker, where they are known, the clips, UA and WA, each the mean over the rows."""
    if not all(pool.speakers):
        return {}
    figures = {
        name: significance.per_speaker(
            pool.labels, pool.answers, pool.speakers, statistic=STATISTICS[name]
        )
        for name in ("ua", "wa")
    }
    counts = {speaker: pool.speakers.count(speaker) for speaker in figures["ua"]}
    return {
        speaker: {"n": counts[speaker]} | {name: own[speaker] for name, own in figures.items()}
        for speaker in figures["ua"]
    }


def quick(name: str) -> significance.Statistic:
    """Return one of STATISTICS without its checks, for thousands of draws of what is checked already."""
    count = len(EMOTIONS)

    def statistic(labels: np.ndarray, answers: np.ndarray) -> float:
        if name == "wa":
            return float(np.mean(labels == answers))
        confusion = np.bincount(labels * count + answers, minlength=count * count).reshape(
            count, count
        )
        clips, right = confusion.sum(axis=1), confusion.diagonal()
        there = clips > 0
        if name == "ua":
            return float(np.mean(right[there] / clips[there]))
        return float(np.mean(2 * right[there] / (clips + confusion.sum(axis=0))[there]))

    return statistic


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
