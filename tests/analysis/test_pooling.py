"""Pooled scores equal those of scikit-learn over the clips of all folds."""

import dataclasses
import functools

import numpy as np
import pytest
import sklearn.metrics

from helpers.predictions import FIRST_EMOTIONS, predictions_by_network, random_predictions
from kerasemo.analysis import pooling
from kerasemo.metrics import classification, significance
from pipelines.core.errors import RunError
from pipelines.core.labels import EMOTIONS

score_pool = functools.partial(pooling.score_pool, shared=FIRST_EMOTIONS, corpus=FIRST_EMOTIONS)


def concatenated(networks, field):
    return np.concatenate([getattr(predictions, field) for predictions in networks])


def test_scores_equal_those_of_sklearn_over_all_clips():
    by_network = predictions_by_network(2, range(5))
    scores = score_pool(pooling.pool_folds(by_network, folds=5))
    of_seed = [[by_network[seed, fold] for fold in range(5)] for seed in range(2)]
    labels = concatenated(of_seed[0], "labels")
    for seed, seed_scores in enumerate(scores["by_seed"]):
        predictions = concatenated(of_seed[seed], "predictions")
        expected = {
            "seed": seed,
            "ua": sklearn.metrics.balanced_accuracy_score(labels, predictions),
            "wa": sklearn.metrics.accuracy_score(labels, predictions),
            "macro_f1": sklearn.metrics.f1_score(labels, predictions, average="macro"),
        }
        assert seed_scores == pytest.approx(expected, abs=1e-12)
    for name in ("ua", "wa", "macro_f1"):
        mean = np.mean([seed_scores[name] for seed_scores in scores["by_seed"]])
        assert scores[name] == pytest.approx(mean)
    assert (scores["n"], scores["networks"], scores["folds"]) == (200, 2, [0, 1, 2, 3, 4])
    assert scores["chance"] == 1 / 3


def test_confusion_and_recalls_are_summed_over_the_seeds():
    by_network = predictions_by_network(2, range(5))
    scores = score_pool(pooling.pool_folds(by_network, folds=5))
    labels, predictions = (
        concatenated(by_network.values(), field) for field in ("labels", "predictions")
    )
    confusion = sklearn.metrics.confusion_matrix(labels, predictions)
    np.testing.assert_array_equal(scores["confusion"], confusion)
    recalls = sklearn.metrics.recall_score(labels, predictions, average=None)
    np.testing.assert_allclose(list(scores["recalls"].values()), recalls, atol=1e-12)


def test_open_predictions_are_scored_apart():
    by_network = predictions_by_network(2, range(5))
    scores = score_pool(pooling.pool_folds(by_network, folds=5))
    accuracy = sklearn.metrics.accuracy_score(
        *(concatenated(by_network.values(), field) for field in ("labels", "open_predictions"))
    )
    assert scores["without_corpus"]["wa"] == pytest.approx(accuracy)


def test_every_segment_is_scored_as_a_clip():
    by_network = predictions_by_network(2, range(3))
    scores = score_pool(pooling.split_into_items(pooling.pool_folds(by_network, folds=3)))
    expected = []
    for seed in range(2):
        of_seed = [by_network[seed, fold] for fold in range(3)]
        counts = concatenated(of_seed, "item_counts")
        labels = np.repeat(concatenated(of_seed, "labels"), counts.sum(axis=1))
        predictions = np.concatenate([np.repeat(np.arange(10), of_clip) for of_clip in counts])
        expected.append(
            (
                sklearn.metrics.balanced_accuracy_score(labels, predictions),
                sklearn.metrics.f1_score(labels, predictions, average="macro"),
            )
        )
    means = np.mean(expected, axis=0)
    np.testing.assert_allclose((scores["ua"], scores["macro_f1"]), means, atol=1e-12)
    assert scores["n"] == len(labels)
    assert "without_corpus" not in scores


def test_an_untrained_class_has_recall_0_in_the_scores_of_all_classes_only():
    by_network = {
        (0, fold): random_predictions(0, fold, labels=range(4), classes=range(3))
        for fold in range(3)
    }
    for network in by_network.values():
        network.predictions[network.labels == 3] = 0
    scores = pooling.score_pool(
        pooling.pool_folds(by_network, folds=3), shared=FIRST_EMOTIONS, corpus=EMOTIONS[:4]
    )
    labels, predictions = (
        concatenated(by_network.values(), field) for field in ("labels", "predictions")
    )
    is_trained = labels < 3
    trained = sklearn.metrics.balanced_accuracy_score(labels[is_trained], predictions[is_trained])
    of_all_classes = sklearn.metrics.balanced_accuracy_score(labels, predictions)
    assert scores["ua"] == pytest.approx(trained)
    assert scores["all_classes"]["ua"] == pytest.approx(of_all_classes)
    assert scores["all_classes"]["ua"] == pytest.approx(scores["ua"] * 3 / 4)
    assert scores["n"] == is_trained.sum()
    assert scores["all_classes"]["n"] == len(labels)
    assert scores["all_classes"]["chance"] == 1 / 4


@pytest.mark.parametrize(
    ("folds", "method"), [(3, "t over 6 speakers"), (5, "bootstrap over 10 speakers")]
)
def test_intervals_equal_those_of_the_significance_module(folds, method):
    pool = pooling.pool_folds(predictions_by_network(2, range(folds)), folds=folds)
    statistics = {
        "ua": classification.unweighted_average_recall,
        "wa": classification.accuracy,
        "macro_f1": classification.macro_f1,
    }
    scores = score_pool(pool, with_intervals=tuple(statistics))
    for name, statistic in statistics.items():
        expected = significance.score_interval(
            pool.labels,
            pool.predictions,
            pool.speakers,
            statistic=functools.partial(statistic, n_classes=len(EMOTIONS)),
            seed=pooling.INTERVAL_SEED,
        )
        interval = scores["interval"][name]
        assert interval["method"] == expected.method == method
        limits = (interval["low"], interval["high"])
        np.testing.assert_allclose(limits, (expected.low, expected.high), atol=1e-12)


@pytest.mark.parametrize("unit", ["images", "clips"])
def test_the_interval_without_speakers_is_over_images_or_clips(unit):
    predictions = dataclasses.replace(random_predictions(0, 0), speakers=("",) * 40)
    if unit == "images":
        of_one_face = np.eye(len(EMOTIONS), dtype=int)[predictions.predictions]
        predictions = dataclasses.replace(predictions, item_counts=of_one_face)
    scores = score_pool(pooling.pool_folds({(0, 0): predictions}, folds=1))
    assert scores["interval"]["ua"]["method"] == f"bootstrap over 40 {unit}"
    assert scores["by_speaker"] == {}


def test_a_single_speaker_has_no_interval():
    pool = pooling.pool_folds({(0, 0): random_predictions(0, 0, speakers=1)}, folds=1)
    scores = score_pool(pool)
    assert scores["interval"] == {"ua": None, "wa": None}
    assert list(scores["by_speaker"]) == ["s:0"]


def test_repeated_folds_are_further_rows_if_every_fold_is_repeated():
    """Folds 0 to 9 of an experiment are 0 to 5 of a source of six folds, and 0 to 3 again."""

    def networks(folds):
        return {(0, fold): random_predictions(fold // 6, fold % 6) for fold in folds}

    partly_repeated = pooling.pool_folds(networks(range(10)), folds=6)
    assert partly_repeated.folds == (0, 1, 2, 3, 4, 5)
    assert partly_repeated.seeds == (0,)
    first = concatenated(networks(range(6)).values(), "predictions")
    np.testing.assert_array_equal(partly_repeated.predictions[0], first)
    repeated = pooling.pool_folds(networks(range(12)), folds=6)
    assert repeated.seeds == (0, 0)
    assert repeated.predictions.shape == (2, 240)
    assert pooling.pool_folds(networks((0, 4, 8)), folds=6).folds == (0, 2, 4)


def test_every_network_is_a_row_if_the_source_has_one_fold():
    by_network = {
        (seed, fold): random_predictions(10 * seed + fold, 0)
        for seed in range(2)
        for fold in range(3)
    }
    pool = pooling.pool_folds(by_network, folds=1)
    assert pool.folds == (0,)
    assert pool.seeds == (0, 0, 0, 1, 1, 1)
    means = [seed_scores["ua"] for seed_scores in score_pool(pool)["by_seed"]]
    recalls = [
        sklearn.metrics.balanced_accuracy_score(pool.labels, of_row)
        for of_row in pool.predictions[:3]
    ]
    assert len(means) == 2
    assert means[0] == pytest.approx(np.mean(recalls))


def test_a_clip_in_the_split_of_several_folds_counts_each_time():
    """10 of 40 validation utterances are in both folds: 80 predictions for 70 clips."""
    first, second = random_predictions(0, 0), random_predictions(0, 1)
    overlapping = dataclasses.replace(second, ids=(*first.ids[:10], *second.ids[10:]))
    for pool, different_clips in ((overlapping, 70), (second, 80)):
        scores = score_pool(pooling.pool_folds({(0, 0): first, (0, 1): pool}, folds=2))
        assert (scores["n"], scores["different_clips"]) == (80, different_clips)


def test_only_folds_that_every_seed_has_are_pooled():
    by_network = predictions_by_network(2, range(4))
    del by_network[1, 2]
    assert pooling.pool_folds(by_network, folds=4).folds == (0, 1, 3)
    without_common_fold = {key: random_predictions(*key) for key in ((0, 0), (1, 1))}
    with pytest.raises(RunError, match="no fold .* every seed"):
        pooling.pool_folds(without_common_fold, folds=2)


def test_networks_with_other_clips_are_refused():
    by_network = {(0, 0): random_predictions(0, 0), (1, 0): random_predictions(1, 0, clips=39)}
    with pytest.raises(RunError, match="fold 0: seeds 0 and 1 .*different clips"):
        pooling.pool_folds(by_network, folds=1)
