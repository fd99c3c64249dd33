"""Answers of networks to the clips of folds, drawn at random."""

import numpy as np

from kerasemo.analysis.prediction_tables import Predictions
from pipelines.core.labels import EMOTIONS

THREE = EMOTIONS[:3]


def answers(
    seed: int, fold: int, *, clips: int = 40, emotions=range(3), speakers: int = 2, answered=None
) -> Predictions:
    """Random answers to the clips of a fold, the same clips for every seed; the speakers are the fold's own."""
    of_fold, own = np.random.default_rng([fold]), np.random.default_rng([seed, fold, 1])
    labels, counts = of_fold.choice(list(emotions), clips), of_fold.integers(1, 5, clips)
    said = np.where(own.random(clips) < 0.6, labels, own.choice(list(answered or emotions), clips))
    items = np.stack(
        [
            np.bincount(own.choice(list(answered or emotions), count), minlength=len(EMOTIONS))
            for count in counts
        ]
    )
    who = tuple(f"s:{speakers * fold + number % speakers}" for number in range(clips))
    ids = tuple(f"{fold}/{number}.wav" for number in range(clips))
    return Predictions(
        ids,
        who,
        labels,
        said,
        np.eye(len(EMOTIONS))[said],
        own.choice(list(emotions), clips),
        items,
    )


def cells(seeds: int, folds) -> dict[tuple[int, int], Predictions]:
    return {(seed, fold): answers(seed, fold) for seed in range(seeds) for fold in folds}
