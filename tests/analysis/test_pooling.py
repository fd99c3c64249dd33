"""Pooled scores are scikit-learn's over the clips of all folds, whatever folds and seeds there are."""

import dataclasses
import functools

import numpy as np
import pytest
from sklearn import metrics as oracle

from helpers.pools import THREE, answers, cells
from kerasemo.analysis import pooling
from kerasemo.metrics import classification, significance
from pipelines.core.errors import RunError
from pipelines.core.labels import EMOTIONS


def test_scores_are_those_of_all_clips_together_by_scikit_learn():
    given = cells(2, range(5))
    found = pooling.score_pool(pooling.pool_folds(given, folds=5), shared=THREE, corpus=THREE)
    labels = np.concatenate([given[0, fold].labels for fold in range(5)])
    for seed, own in enumerate(found["by_seed"]):
        said = np.concatenate([given[seed, fold].predictions for fold in range(5)])
        assert own["seed"] == seed
        assert own["ua"] == pytest.approx(oracle.balanced_accuracy_score(labels, said), abs=1e-12)
        assert own["wa"] == pytest.approx(oracle.accuracy_score(labels, said), abs=1e-12)
        assert own["macro_f1"] == pytest.approx(
            oracle.f1_score(labels, said, average="macro"), abs=1e-12
        )
    both = np.concatenate([given[seed, fold].predictions for seed in range(2) for fold in range(5)])
    np.testing.assert_array_equal(
        found["confusion"], oracle.confusion_matrix(np.tile(labels, 2), both)
    )
    recalls = oracle.recall_score(np.tile(labels, 2), both, average=None)
    np.testing.assert_allclose(list(found["recalls"].values()), recalls, atol=1e-12)
    for name in ("ua", "wa", "macro_f1"):
        assert found[name] == pytest.approx(np.mean([own[name] for own in found["by_seed"]]))
    assert (found["n"], found["networks"], found["folds"], found["chance"]) == (
        200,
        2,
        [0, 1, 2, 3, 4],
        1 / 3,
    )
    without = np.mean(
        [
            [
                oracle.accuracy_score(given[seed, fold].labels, given[seed, fold].open_predictions)
                for fold in range(5)
            ]
            for seed in (0, 1)
        ]
    )
    assert found["without_corpus"]["wa"] == pytest.approx(without)


def test_segments_are_scored_each_for_itself():
    given = cells(2, range(3))
    found = pooling.score_pool(
        pooling.split_into_items(pooling.pool_folds(given, folds=3)), shared=THREE, corpus=THREE
    )
    own = []
    for seed in range(2):
        labels = [
            label
            for fold in range(3)
            for label, counts in zip(given[seed, fold].labels, given[seed, fold].item_counts)
            for _ in range(counts.sum())
        ]
        said = [
            answer
            for fold in range(3)
            for counts in given[seed, fold].item_counts
            for answer in np.repeat(np.arange(10), counts)
        ]
        own.append(
            (
                oracle.balanced_accuracy_score(labels, said),
                oracle.f1_score(labels, said, average="macro"),
            )
        )
    np.testing.assert_allclose((found["ua"], found["macro_f1"]), np.mean(own, axis=0), atol=1e-12)
    assert found["n"] == len(labels) and "without_corpus" not in found


def test_an_untrained_class_is_recall_0_over_all_classes_and_left_out_of_the_others():
    given = {(0, fold): answers(0, fold, emotions=range(4), answered=range(3)) for fold in range(3)}
    for own in given.values():
        own.predictions[own.labels == 3] = 0  # it cannot be answered
    found = pooling.score_pool(
        pooling.pool_folds(given, folds=3), shared=THREE, corpus=EMOTIONS[:4]
    )
    labels, said = (
        np.concatenate([getattr(own, name) for own in given.values()])
        for name in ("labels", "predictions")
    )
    known = labels < 3
    assert found["ua"] == pytest.approx(oracle.balanced_accuracy_score(labels[known], said[known]))
    assert found["all_classes"]["ua"] == pytest.approx(oracle.balanced_accuracy_score(labels, said))
    assert found["all_classes"]["ua"] == pytest.approx(found["ua"] * 3 / 4)
    assert (found["n"], found["all_classes"]["n"], found["all_classes"]["chance"]) == (
        known.sum(),
        len(labels),
        1 / 4,
    )


def test_intervals_are_those_of_the_intervals_module_with_its_own_scores():
    for folds, method in ((3, "t over 6 speakers"), (5, "bootstrap over 10 speakers")):
        pool = pooling.pool_folds(cells(2, range(folds)), folds=folds)
        for name, statistic in (
            ("ua", classification.unweighted_average_recall),
            ("wa", classification.accuracy),
            ("macro_f1", classification.macro_f1),
        ):
            slow = functools.partial(statistic, n_classes=len(EMOTIONS))
            expected = significance.score_interval(
                pool.labels,
                pool.predictions,
                pool.speakers,
                statistic=slow,
                seed=pooling.INTERVAL_SEED,
            )
            found = pooling._interval(pool, name)
            assert found["method"] == expected.method == method
            np.testing.assert_allclose(
                (found["low"], found["high"]), (expected.low, expected.high), atol=1e-12
            )


@pytest.mark.parametrize("over", ["images", "clips"])
def test_where_no_speaker_is_known_the_interval_is_over_images_or_clips_and_no_speaker_is_told(
    over,
):
    given = {
        place: dataclasses.replace(own, speakers=("",) * 40) for place, own in cells(1, [0]).items()
    }
    if over == "images":  # clips of one face each
        given = {
            place: dataclasses.replace(
                own, item_counts=np.eye(len(EMOTIONS), dtype=int)[own.predictions]
            )
            for place, own in given.items()
        }
    found = pooling.score_pool(pooling.pool_folds(given, folds=1), shared=THREE, corpus=THREE)
    assert (
        found["interval"]["ua"]["method"] == f"bootstrap over 40 {over}"
        and found["by_speaker"] == {}
    )


def test_a_single_speaker_has_no_interval():
    found = pooling.score_pool(
        pooling.pool_folds({(0, 0): answers(0, 0, speakers=1)}, folds=1), shared=THREE, corpus=THREE
    )
    assert found["interval"] == {"ua": None, "wa": None} and list(found["by_speaker"]) == ["s:0"]


def test_folds_that_come_again_are_rows_of_their_own_where_every_fold_comes_again():
    """Folds 0 to 9 of an experiment are 0 to 5 of a source of six folds, and 0 to 3 once more: those are left out."""
    again = {(0, fold): answers(fold // 6, fold % 6) for fold in range(10)}
    pool = pooling.pool_folds(again, folds=6)
    assert pool.folds == (0, 1, 2, 3, 4, 5) and pool.seeds == (0,)
    np.testing.assert_array_equal(
        pool.predictions[0], np.concatenate([again[0, fold].predictions for fold in range(6)])
    )
    pool = pooling.pool_folds(
        {(0, fold): answers(fold // 6, fold % 6) for fold in range(12)}, folds=6
    )
    assert pool.seeds == (0, 0) and pool.predictions.shape == (2, 240)
    assert pooling.pool_folds(
        {(0, fold): answers(0, fold % 6) for fold in (0, 4, 8)}, folds=6
    ).folds == (
        0,
        2,
        4,
    )
    alone = pooling.pool_folds(
        {(seed, fold): answers(10 * seed + fold, 0) for seed in range(2) for fold in range(3)},
        folds=1,
    )
    assert alone.folds == (0,) and alone.seeds == (0, 0, 0, 1, 1, 1)
    means = [own["ua"] for own in pooling.score_pool(alone, shared=THREE, corpus=THREE)["by_seed"]]
    first = np.mean(
        [oracle.balanced_accuracy_score(alone.labels, own) for own in alone.predictions[:3]]
    )
    assert len(means) == 2 and means[0] == pytest.approx(first)


def test_a_clip_on_the_side_of_several_folds_is_counted_each_time_and_that_is_said():
    """Validation utterances of two folds, 10 of 40 in both: 80 answers to 70 clips."""
    one, other = answers(0, 0), answers(0, 1)
    other = dataclasses.replace(other, ids=(*one.ids[:10], *other.ids[10:]))
    found = pooling.score_pool(
        pooling.pool_folds({(0, 0): one, (0, 1): other}, folds=2), shared=THREE, corpus=THREE
    )
    assert (found["n"], found["different_clips"]) == (80, 70)
    apart = pooling.score_pool(
        pooling.pool_folds(cells(1, (0, 1)), folds=2), shared=THREE, corpus=THREE
    )
    assert apart["n"] == apart["different_clips"] == 80


def test_only_folds_that_every_seed_has_are_pooled():
    given = cells(2, range(4))
    del given[1, 2]
    assert pooling.pool_folds(given, folds=4).folds == (0, 1, 3)
    with pytest.raises(RunError, match="no fold is finished with every seed"):
        pooling.pool_folds({(0, 0): answers(0, 0), (1, 1): answers(1, 1)}, folds=2)


def test_networks_that_were_asked_about_other_clips_are_refused():
    with pytest.raises(RunError, match="fold 0: seeds 0 and 1 .*other clips"):
        pooling.pool_folds({(0, 0): answers(0, 0), (1, 0): answers(1, 0, clips=39)}, folds=1)
