"""The difference of two stages on the same clips: by speaker, pooled, by image, over sources."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from helpers.predictions import FIRST_EMOTIONS, predictions_by_network, random_predictions
from kerasemo.analysis import differences, pooling
from kerasemo.analysis.prediction_tables import (
    NO_PREDICTION,
    PooledPredictions,
    Predictions,
    pooled_predictions,
)
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS

SKLEARN_SCORES = {
    "ua": sklearn.metrics.balanced_accuracy_score,
    "wa": sklearn.metrics.accuracy_score,
}

difference_of_stages = functools.partial(differences.difference_of_stages, emotions=FIRST_EMOTIONS)


def two_stages(seeds: int, folds: int) -> list[PooledPredictions]:
    """Return two stages with random predictions for the same clips."""
    return [
        pooling.pool_folds(
            {
                (seed, fold): random_predictions(seed + shift, fold)
                for seed in range(seeds)
                for fold in range(folds)
            },
            folds=folds,
        )
        for shift in (0, 7)
    ]


def pool_of_network(labels, predictions, speakers) -> PooledPredictions:
    """Return the predictions of one network for clips in one fold."""
    clips = [(0, str(number)) for number in range(len(labels))]
    return pooled_predictions(clips, speakers, np.array(labels), np.array([predictions]))


def mean_score(pool, score, clips=slice(None)) -> float:
    """Return the mean over the rows of the score of some clips."""
    return np.mean([score(pool.labels[clips], of_row[clips]) for of_row in pool.predictions])


def test_the_difference_is_the_mean_over_the_speakers_of_all_folds():
    first, second = two_stages(seeds=2, folds=3)
    difference = difference_of_stages(first, second)
    expected = {}
    for speaker in sorted(set(first.speakers)):
        clips = np.array(first.speakers) == speaker
        means = [mean_score(pool, SKLEARN_SCORES["ua"], clips) for pool in (first, second)]
        expected[speaker] = means[0] - means[1]
    assert difference["speakers"] == pytest.approx(expected)
    assert difference["difference"] == pytest.approx(np.mean(list(expected.values())))
    assert difference["method"] == "sign-flip over 6 speakers, exact; t interval"
    assert 2 / 64 <= difference["p"] <= 1
    assert difference_of_stages(first, first)["p"] == 1


@pytest.mark.parametrize("metric", ["ua", "wa"])
def test_the_pooled_difference_is_that_of_the_scores_and_p_exchanges_whole_speakers(metric):
    """p is the fraction of all exchanges of speakers between the stages with a larger difference."""
    score = SKLEARN_SCORES[metric]
    first, second = two_stages(seeds=2, folds=3)
    pooled = difference_of_stages(first, second, metric=metric)["pooled"]
    expected = mean_score(first, score) - mean_score(second, score)
    assert pooled["difference"] == pytest.approx(expected)
    assert np.mean(list(pooled["speakers"].values())) == pytest.approx(expected)
    speakers, exchanged_differences = np.array(first.speakers), []
    for is_exchanged in itertools.product((False, True), repeat=6):
        clips = np.isin(speakers, np.unique(speakers)[list(is_exchanged)])
        exchanged = (
            dataclasses.replace(
                pool, predictions=np.where(clips, second_pool.predictions, pool.predictions)
            )
            for pool, second_pool in ((first, second), (second, first))
        )
        exchanged_differences.append(np.subtract(*(mean_score(pool, score) for pool in exchanged)))
    assert pooled["p"] == np.mean(np.abs(exchanged_differences) >= abs(expected) - 1e-9)
    assert pooled["low"] < expected < pooled["high"]
    assert difference_of_stages(first, first, metric=metric)["pooled"]["p"] == 1


def test_the_interval_of_the_pooled_difference_is_about_that_of_resampled_speakers():
    """It is a little wider, by Student's t, and its centre is not the mean over speakers."""
    first, second = two_stages(seeds=1, folds=10)
    difference = difference_of_stages(first, second)
    speakers, random, resampled = np.array(first.speakers), np.random.default_rng(3), []
    clips_by_speaker = [np.flatnonzero(speakers == name) for name in np.unique(speakers)]
    for _ in range(1000):
        sample = random.integers(20, size=20)
        clips = np.concatenate([clips_by_speaker[index] for index in sample])
        recalls = (mean_score(pool, SKLEARN_SCORES["ua"], clips) for pool in (first, second))
        resampled.append(np.subtract(*recalls))
    low, high = np.percentile(resampled, (2.5, 97.5))
    width = difference["pooled"]["high"] - difference["pooled"]["low"]
    assert 0.9 < width / (high - low) < 1.4
    assert difference["pooled"]["difference"] != pytest.approx(difference["difference"], abs=1e-4)


def test_a_gain_that_all_speakers_have_alike_has_no_spread():
    """Speakers with 4, 12 and 40 clips gain 1/4 each: from 2 of 4 clips to 3 of 4."""
    counts = (4, 12, 40)
    speakers = [f"s:{speaker}" for speaker, count in enumerate(counts) for _ in range(count)]
    position = np.concatenate([np.arange(count) % 4 for count in counts])
    stages = (
        pool_of_network(np.zeros(56, int), np.where(position < n_correct, 0, 1), speakers)
        for n_correct in (3, 2)
    )
    pooled = difference_of_stages(*stages)["pooled"]
    for field in ("difference", "low", "high", "p"):
        assert pooled[field] == pytest.approx(0.25)


def test_clips_weigh_alike_in_a_pooled_difference_and_sources_in_a_mean():
    """One speaker gains nine of nine clips, another none of one: pooled +0.9, by speaker +0.5.

    The mean with a source without a difference is half of each.
    """

    def stage(predictions, speakers):
        return pool_of_network(np.zeros(len(predictions), int), predictions, speakers)

    two_speakers, three_speakers = ("a", *"b" * 9), ("c", "c", "d", "e")
    gain = difference_of_stages(stage([1] + [0] * 9, two_speakers), stage([1] * 10, two_speakers))
    assert gain["difference"] == pytest.approx(0.5)
    assert gain["pooled"]["difference"] == pytest.approx(0.9)
    assert gain["pooled"]["speakers"] == pytest.approx({"a": 0.0, "b": 1.8})
    assert gain["pooled"]["p"] == 1
    equal = difference_of_stages(*[stage([0] * 4, three_speakers)] * 2)
    comparisons = [
        {"stages": ["x", "y"], "source": source, "ua": difference, "wa": difference}
        for source, difference in (("p", gain), ("q", equal))
    ]
    (mean,) = differences.mean_over_sources(comparisons)
    assert mean["ua"]["difference"] == pytest.approx(0.25)
    assert mean["ua"]["pooled"]["difference"] == pytest.approx(0.45)
    corrected = differences.correct_for_number([*comparisons, mean])[0]["ua"]
    assert corrected["p_holm"] == corrected["pooled"]["p_holm"] == 1
    assert "p_holm" not in gain


class TestWithoutSpeakers:
    """Two stages predict 600 images, in different orders; no speaker is known."""

    @pytest.fixture
    def labels(self):
        return np.random.default_rng(5).choice(3, 600, p=(0.6, 0.3, 0.1))

    @pytest.fixture
    def predictions(self, labels):
        random = np.random.default_rng(8)
        return [
            np.where(random.random(600) < accuracy, labels, random.integers(3, size=600))
            for accuracy in (0.7, 0.62)
        ]

    @pytest.fixture
    def stages(self, labels, predictions):
        orders = (np.arange(600), np.random.default_rng(9).permutation(600))
        pools = []
        for order, of_stage in zip(orders, predictions, strict=True):
            one_hot = np.eye(len(EMOTIONS), dtype=int)[of_stage[order]]
            network = Predictions(
                ids=tuple(f"{number}.jpg" for number in order),
                speakers=("",) * 600,
                labels=labels[order],
                predictions=of_stage[order],
                probabilities=one_hot,
                open_predictions=np.full(600, NO_PREDICTION),
                item_counts=one_hot,
            )
            pools.append(pooling.pool_folds({(0, 0): network}, folds=1))
        return pools

    @pytest.mark.parametrize("metric", ["ua", "wa"])
    def test_the_difference_and_its_interval_are_over_images(
        self, labels, predictions, stages, metric
    ):
        score = SKLEARN_SCORES[metric]
        difference = difference_of_stages(*stages, metric=metric)
        expected = score(labels, predictions[0]) - score(labels, predictions[1])
        assert difference["difference"] == pytest.approx(expected)
        assert difference["pooled"]["difference"] == difference["difference"]
        assert difference["method"] == "sign-flip over 600 images, 10000 drawn flips; t interval"
        assert difference["speakers"] == difference["pooled"]["speakers"] == {}
        samples = np.random.default_rng(6).integers(600, size=(1000, 600))
        resampled = [
            score(labels[images], predictions[0][images])
            - score(labels[images], predictions[1][images])
            for images in samples
        ]
        limits = np.percentile(resampled, (2.5, 97.5))
        assert [difference["low"], difference["high"]] == pytest.approx(limits, abs=0.01)
        assert difference_of_stages(stages[0], stages[0], metric=metric)["p"] == 1

    def test_p_of_accuracy_is_that_of_the_test_of_mcnemar(self, labels, predictions, stages):
        """That test is binomial, over the images that only one of the stages predicts correctly.

        A p of 10 000 sampled flips has a standard deviation of 2 sqrt(p / 2 / 10000).
        """
        is_correct = [of_stage == labels for of_stage in predictions]
        counts = [np.sum(is_correct[i] & ~is_correct[1 - i]) for i in (0, 1)]
        expected = scipy.stats.binomtest(counts[0], sum(counts)).pvalue
        assert 0.001 < expected < 0.2
        p = difference_of_stages(*stages, metric="wa")["p"]
        assert p == pytest.approx(expected, abs=4 * 2 * (expected / 2 / 10_000) ** 0.5)

    def test_such_a_source_is_not_part_of_a_mean_over_sources(self, stages):
        by_image = difference_of_stages(*stages)
        pool = pooling.pool_folds(predictions_by_network(1, range(3)), folds=3)
        by_speaker = difference_of_stages(pool, pool)
        comparisons = [
            {"stages": ["a", "b"], "source": source, "ua": difference, "wa": difference}
            for source, difference in (
                ("x/visual", by_image),
                ("y/audio", by_speaker),
                ("z/audio", by_speaker),
            )
        ]
        (mean,) = differences.mean_over_sources(comparisons)
        assert mean["source"] == "y/audio + z/audio"
        assert differences.mean_over_sources(comparisons[:2]) == []


@pytest.mark.parametrize(
    ("second_fold", "emotions", "message"),
    [
        (0, FIRST_EMOTIONS, "at least 2 speakers.* received 1"),
        (0, ["surprise"], "at least 2 clips.* received 0"),
        (1, FIRST_EMOTIONS, "different clips"),
    ],
)
def test_stages_of_one_speaker_without_clips_or_with_other_clips_are_refused(
    second_fold, emotions, message
):
    first, second = (
        pooling.pool_folds({(0, fold): random_predictions(0, fold, speakers=1)}, folds=2)
        for fold in (0, second_fold)
    )
    with pytest.raises(InputError, match=message):
        differences.difference_of_stages(first, second, emotions=emotions)
