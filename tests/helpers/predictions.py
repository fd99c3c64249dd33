"""Random predictions of networks for the clips of folds."""

from collections.abc import Iterable, Sequence

import numpy as np

from kerasemo.analysis.prediction_tables import Predictions
from pipelines.core.labels import EMOTIONS

FIRST_EMOTIONS = EMOTIONS[:3]
"""The emotions that are predicted by default."""


def random_predictions(
    seed: int,
    fold: int,
    *,
    clips: int = 40,
    labels: Sequence[int] = range(3),
    classes: Sequence[int] | None = None,
    speakers: int = 2,
) -> Predictions:
    """Return random predictions of one network for the clips of a fold.

    Args:
        seed: The seed of the network. The clips and their labels depend on the fold alone.
        fold: Each fold has speakers of its own.
        clips: The number of clips.
        labels: The labels that clips have, indices of EMOTIONS.
        classes: The classes that are predicted, indices of EMOTIONS; None: `labels`.
        speakers: The number of speakers.
    """
    clip_random, network_random = (
        np.random.default_rng([fold]),
        np.random.default_rng([seed, fold, 1]),
    )
    classes = list(labels if classes is None else classes)
    labels_of_clips = clip_random.choice(list(labels), clips)
    counts = clip_random.integers(1, 5, clips)
    predictions = np.where(
        network_random.random(clips) < 0.6,
        labels_of_clips,
        network_random.choice(classes, clips),
    )
    item_counts = np.stack(
        [
            np.bincount(network_random.choice(classes, count), minlength=len(EMOTIONS))
            for count in counts
        ]
    )
    return Predictions(
        ids=tuple(f"{fold}/{number}.wav" for number in range(clips)),
        speakers=tuple(f"s:{speakers * fold + number % speakers}" for number in range(clips)),
        labels=labels_of_clips,
        predictions=predictions,
        probabilities=np.eye(len(EMOTIONS))[predictions],
        open_predictions=network_random.choice(list(labels), clips),
        item_counts=item_counts,
    )


def predictions_by_network(seeds: int, folds: Iterable[int]) -> dict[tuple[int, int], Predictions]:
    """Return the random predictions of each (seed, fold)."""
    return {(seed, fold): random_predictions(seed, fold) for seed in range(seeds) for fold in folds}
