"""Scores of a stage on a source over all folds and seeds, pooled over clips.

The networks of all folds together predict every clip once, and are scored as one. If a network
predicts the clips of several folds (a corpus that no stage was trained on is all test; a
publisher's split has one fold), each network is scored by itself, like another seed, and the score
is the mean.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.analysis.prediction_tables import NO_PREDICTION, PooledPredictions, Predictions
from kerasemo.metrics import significance
from kerasemo.metrics.classification import METRICS, confusion_matrix
from pipelines.core.errors import RunError
from pipelines.core.labels import EMOTIONS

INTERVAL_SEED = 0
"""The seed of the resamples of intervals."""

STATISTICS = {
    name: functools.partial(metric.score, n_classes=len(EMOTIONS), checked=False)
    for name, metric in METRICS.items()
}
"""The scores of `METRICS` for labels and predictions that are indices of EMOTIONS."""

PAIRED_METRICS = tuple(name for name, metric in METRICS.items() if metric.mean_over)
"""The scores that have an interval and can be compared speaker by speaker."""


def pool_folds(
    predictions_by_network: Mapping[tuple[int, int], Predictions], *, folds: int
) -> PooledPredictions:
    """WorkerPool the predictions of a stage for the clips of one source.

    Args:
        predictions_by_network: (seed, fold) -> predictions; fold k of the experiment is fold
            k mod `folds` of the source.
        folds: The number of folds of the source; 1 if its clips are the same in each fold.

    Returns:
        The clips of the folds that every seed has. Networks of one seed and one fold of the source
        become further rows, if every fold has them.

    Raises:
        RunError: No fold is finished with every seed, or networks have different clips.
    """
    # Each row holds one network of each fold. Example: with folds=1 every network gets its own row.
    rows_by_seed: dict[int, list[dict[int, Predictions]]] = {}
    for (seed, fold), predictions in sorted(
        predictions_by_network.items(), key=lambda entry: entry[0]
    ):
        rows = rows_by_seed.setdefault(seed, [])
        source_fold = fold % folds
        row = next((row for row in rows if source_fold not in row), None)
        if row is None:
            row = {}
            rows.append(row)
        row[source_fold] = predictions
    common = sorted(set.intersection(*(set(rows[0]) for rows in rows_by_seed.values())))
    if not common:
        raise RunError(
            "no fold is finished with every seed; run the same command again, or name fewer --seeds"
        )
    complete = [
        (seed, [row[fold] for fold in common])
        for seed, rows in rows_by_seed.items()
        for row in rows
        if set(common) <= set(row)
    ]
    first_seed, first = complete[0]
    for seed, row in complete[1:]:
        for fold, expected, predictions in zip(common, first, row, strict=True):
            if not _same_clips(expected, predictions):
                raise RunError(
                    f"fold {fold}: seeds {first_seed} and {seed} predicted different clips; "
                    "name another --run"
                )
    stacked = {
        name: np.stack(
            [np.concatenate([getattr(part, name) for part in row]) for _, row in complete]
        )
        for name in ("predictions", "open_predictions", "item_counts")
    }
    return PooledPredictions(
        folds=tuple(common),
        seeds=tuple(seed for seed, _ in complete),
        clips=tuple(
            (fold, clip) for fold, part in zip(common, first, strict=True) for clip in part.ids
        ),
        speakers=tuple(speaker for part in first for speaker in part.speakers),
        labels=np.concatenate([part.labels for part in first]),
        **stacked,
    )


def _same_clips(first: Predictions, second: Predictions) -> bool:
    return (
        first.ids == second.ids
        and bool((first.labels == second.labels).all())
        and bool((first.item_counts.sum(axis=1) == second.item_counts.sum(axis=1)).all())
    )


def split_into_items(pool: PooledPredictions) -> PooledPredictions:
    """Return predictions in which every face or segment is a clip of its own."""
    counts = pool.item_counts[0].sum(axis=1)  # [clips]
    classes = np.tile(np.arange(len(EMOTIONS)), len(counts))
    predictions = np.stack([np.repeat(classes, of_row.ravel()) for of_row in pool.item_counts])
    clip_of = np.repeat(np.arange(len(counts)), counts)  # [items]
    return dataclasses.replace(
        pool,
        clips=tuple(pool.clips[clip] for clip in clip_of),
        speakers=tuple(pool.speakers[clip] for clip in clip_of),
        labels=pool.labels[clip_of],
        predictions=predictions,
        open_predictions=np.full_like(predictions, NO_PREDICTION),
        item_counts=np.eye(len(EMOTIONS), dtype=int)[predictions],
    )


def with_emotions(pool: PooledPredictions, emotions: Sequence[str]) -> PooledPredictions:
    """Return the clips whose label is one of some emotions."""
    classes = [EMOTIONS.index(emotion) for emotion in emotions]
    return pool.at(np.flatnonzero(np.isin(pool.labels, classes)))


def score_pool(
    pool: PooledPredictions,
    *,
    shared: Sequence[str],
    corpus: Sequence[str],
    with_intervals: Sequence[str] = PAIRED_METRICS,
) -> dict[str, Any]:
    """Return the scores of pooled predictions, ready for JSON.

    Args:
        pool: The predictions of clips, or of items (see `split_into_items`).
        shared: The emotions of both corpus and network, in order: those that can be predicted.
        corpus: The emotions of the corpus, in order.
        with_intervals: The scores that get a 95 % interval: over speakers, or over images or clips
            where a speaker is unknown.

    Returns:
        `n`; `different_clips`, fewer if a clip is in the split of several folds; `folds`,
            `networks`;
        each score of `METRICS` as the mean over the rows; `by_seed`; `interval` of each score
        `{"low", "high", "method"}`, None for a single speaker; `chance`, `emotions`, `confusion`
        (summed over the rows), `recalls`, `by_speaker`. If all rows predict without knowing the
        corpus, `without_corpus` has the same scores of these predictions. If the corpus has an
        untrained emotion, `all_classes` has UA and WA of all clips, with recall 0 for that emotion.
    """
    known = with_emotions(pool, shared)
    rows = _scores_of_rows(known.labels, known.predictions)
    confusion = sum(
        confusion_matrix(known.labels, of_row, n_classes=len(EMOTIONS))
        for of_row in known.predictions
    )
    places = [EMOTIONS.index(emotion) for emotion in shared]
    document = {
        "n": len(known.labels),
        "different_clips": len({clip for _, clip in known.clips}),
        "folds": list(pool.folds),
        "networks": len(known.seeds),
        **_means(rows),
        "by_seed": [
            {"seed": seed}
            | _means([row for row, of in zip(rows, known.seeds, strict=True) if of == seed])
            for seed in sorted(set(known.seeds))
        ],
        "interval": {name: _interval(known, name) for name in with_intervals},
        "chance": 1 / len(shared),
        "emotions": list(shared),
        "confusion": confusion[np.ix_(places, places)].tolist(),
        "recalls": {
            emotion: _fraction(confusion[place, place], confusion[place].sum())
            for emotion, place in zip(shared, places, strict=True)
        },
        "by_speaker": _by_speaker(known),
    }
    if (known.open_predictions != NO_PREDICTION).all():
        document["without_corpus"] = _means(_scores_of_rows(known.labels, known.open_predictions))
    if set(corpus) - set(shared):
        all_rows = _scores_of_rows(pool.labels, pool.predictions)
        document["all_classes"] = {
            "n": len(pool.labels),
            "emotions": list(corpus),
            "chance": 1 / len(corpus),
            **{name: _means(all_rows)[name] for name in PAIRED_METRICS},
        }
    return document


def resampling_unit(pool: PooledPredictions) -> str:
    """Return what is resampled: `speakers` if all are known, else `images` or `clips`."""
    if all(pool.speakers):
        return "speakers"
    has_single_items = (pool.item_counts.sum(axis=2) == 1).all()
    return "images" if has_single_items else "clips"


def _scores_of_rows(labels: np.ndarray, predictions: np.ndarray) -> list[dict[str, float]]:
    """Return every score of each row of predictions [rows, clips]."""
    return [
        {name: statistic(labels, of_row) for name, statistic in STATISTICS.items()}
        for of_row in predictions
    ]


def _interval(pool: PooledPredictions, name: str) -> dict[str, Any] | None:
    interval = significance.score_interval(
        pool.labels,
        pool.predictions,
        pool.speakers,
        statistic=STATISTICS[name],
        seed=INTERVAL_SEED,
        unit=resampling_unit(pool),
    )
    return None if interval is None else dataclasses.asdict(interval)


def _by_speaker(pool: PooledPredictions) -> dict[str, dict[str, Any]]:
    """Return the number of clips and the scores of each speaker, if all speakers are known."""
    if not all(pool.speakers):
        return {}
    scores = {
        name: significance.scores_by_speaker(
            pool.labels, pool.predictions, pool.speakers, statistic=STATISTICS[name]
        )
        for name in PAIRED_METRICS
    }
    return {
        speaker: {
            "n": pool.speakers.count(speaker),
            **{name: by_speaker[speaker] for name, by_speaker in scores.items()},
        }
        for speaker in scores[PAIRED_METRICS[0]]
    }


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _fraction(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
