"""Pooled scores are scikit-learn's over the clips of all folds, whatever folds and seeds there are."""

import dataclasses
import functools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from kerasemo import intervals, metrics, pooled
from kerasemo.answers import Answers
from pipelines.spec import EMOTIONS, InputError

THREE = EMOTIONS[:3]


def answers(seed: int, fold: int, *, clips: int = 40, emotions=range(3), speakers: int = 2, answered=None) -> Answers:
    """Random answers to the clips of a fold, the same clips for every seed; the speakers are the fold's own."""
    of_fold, own = np.random.default_rng([fold]), np.random.default_rng([seed, fold, 1])
    labels, counts = of_fold.choice(list(emotions), clips), of_fold.integers(1, 5, clips)
    said = np.where(own.random(clips) < 0.6, labels, own.choice(list(answered or emotions), clips))
    items = np.stack([np.bincount(own.choice(list(answered or emotions), count), minlength=len(EMOTIONS)) for count in counts])
    who = tuple(f"s:{speakers * fold + number % speakers}" for number in range(clips))
    ids = tuple(f"{fold}/{number}.wav" for number in range(clips))
    return Answers(ids, who, labels, said, np.eye(len(EMOTIONS))[said], own.choice(list(emotions), clips), items)


def cells(seeds: int, folds) -> dict[tuple[int, int], Answers]:
    return {(seed, fold): answers(seed, fold) for seed in range(seeds) for fold in folds}


def test_scores_are_those_of_all_clips_together_by_scikit_learn():
    given = cells(2, range(5))
    found = pooled.score(pooled.pool(given, folds=5), shared=THREE, corpus=THREE)
    labels = np.concatenate([given[0, fold].labels for fold in range(5)])
    for seed, own in enumerate(found["by_seed"]):
        said = np.concatenate([given[seed, fold].answers for fold in range(5)])
        assert own["seed"] == seed
        assert own["ua"] == pytest.approx(oracle.balanced_accuracy_score(labels, said), abs=1e-12)
        assert own["wa"] == pytest.approx(oracle.accuracy_score(labels, said), abs=1e-12)
        assert own["macro_f1"] == pytest.approx(oracle.f1_score(labels, said, average="macro"), abs=1e-12)
    both = np.concatenate([given[seed, fold].answers for seed in range(2) for fold in range(5)])
    np.testing.assert_array_equal(found["confusion"], oracle.confusion_matrix(np.tile(labels, 2), both))
    recalls = oracle.recall_score(np.tile(labels, 2), both, average=None)
    np.testing.assert_allclose(list(found["recalls"].values()), recalls, atol=1e-12)
    for name in ("ua", "wa", "macro_f1"):
        assert found[name] == pytest.approx(np.mean([own[name] for own in found["by_seed"]]))
    assert (found["n"], found["networks"], found["folds"], found["chance"]) == (200, 2, [0, 1, 2, 3, 4], 1 / 3)
    without = np.mean(
        [[oracle.accuracy_score(given[seed, fold].labels, given[seed, fold].without_corpus) for fold in range(5)] for seed in (0, 1)]
    )
    assert found["without_corpus"]["wa"] == pytest.approx(without)


def test_segments_are_scored_each_for_itself():
    given = cells(2, range(3))
    found = pooled.score(pooled.by_item(pooled.pool(given, folds=3)), shared=THREE, corpus=THREE)
    own = []
    for seed in range(2):
        labels = [
            label
            for fold in range(3)
            for label, counts in zip(given[seed, fold].labels, given[seed, fold].items)
            for _ in range(counts.sum())
        ]
        said = [answer for fold in range(3) for counts in given[seed, fold].items for answer in np.repeat(np.arange(10), counts)]
        own.append((oracle.balanced_accuracy_score(labels, said), oracle.f1_score(labels, said, average="macro")))
    np.testing.assert_allclose((found["ua"], found["macro_f1"]), np.mean(own, axis=0), atol=1e-12)
    assert found["n"] == len(labels) and "without_corpus" not in found


def test_an_untrained_class_is_recall_0_over_all_classes_and_left_out_of_the_others():
    given = {(0, fold): answers(0, fold, emotions=range(4), answered=range(3)) for fold in range(3)}
    for own in given.values():
        own.answers[own.labels == 3] = 0  # it cannot be answered
    found = pooled.score(pooled.pool(given, folds=3), shared=THREE, corpus=EMOTIONS[:4])
    labels, said = (np.concatenate([getattr(own, name) for own in given.values()]) for name in ("labels", "answers"))
    known = labels < 3
    assert found["ua"] == pytest.approx(oracle.balanced_accuracy_score(labels[known], said[known]))
    assert found["all_classes"]["ua"] == pytest.approx(oracle.balanced_accuracy_score(labels, said))
    assert found["all_classes"]["ua"] == pytest.approx(found["ua"] * 3 / 4)
    assert (found["n"], found["all_classes"]["n"], found["all_classes"]["chance"]) == (known.sum(), len(labels), 1 / 4)


def test_intervals_are_those_of_the_intervals_module_with_its_own_scores():
    for folds, method in ((3, "t over 6 speakers"), (5, "bootstrap over 10 speakers")):
        pool = pooled.pool(cells(2, range(folds)), folds=folds)
        for name, statistic in (("ua", metrics.unweighted_accuracy), ("wa", metrics.weighted_accuracy), ("macro_f1", metrics.macro_f1)):
            slow = functools.partial(statistic, n_classes=len(EMOTIONS))
            expected = intervals.interval(pool.labels, pool.answers, pool.speakers, statistic=slow, seed=pooled.SEED)
            found = pooled.interval(pool, name)
            assert found["method"] == expected.method == method
            np.testing.assert_allclose((found["low"], found["high"]), (expected.low, expected.high), atol=1e-12)


@pytest.mark.parametrize("over", ["images", "clips"])
def test_where_no_speaker_is_known_the_interval_is_over_images_or_clips_and_no_speaker_is_told(over):
    given = {place: dataclasses.replace(own, speakers=("",) * 40) for place, own in cells(1, [0]).items()}
    if over == "images":  # clips of one face each
        given = {place: dataclasses.replace(own, items=np.eye(len(EMOTIONS), dtype=int)[own.answers]) for place, own in given.items()}
    found = pooled.score(pooled.pool(given, folds=1), shared=THREE, corpus=THREE)
    assert found["interval"]["ua"]["method"] == f"bootstrap over 40 {over}" and found["by_speaker"] == {}


def test_a_single_speaker_has_no_interval():
    found = pooled.score(pooled.pool({(0, 0): answers(0, 0, speakers=1)}, folds=1), shared=THREE, corpus=THREE)
    assert found["interval"] == {"ua": None, "wa": None} and list(found["by_speaker"]) == ["s:0"]


def test_folds_that_come_again_are_rows_of_their_own_where_every_fold_comes_again():
    """Folds 0 to 9 of an experiment are 0 to 5 of a source of six folds, and 0 to 3 once more: those are left out."""
    again = {(0, fold): answers(fold // 6, fold % 6) for fold in range(10)}
    pool = pooled.pool(again, folds=6)
    assert pool.folds == (0, 1, 2, 3, 4, 5) and pool.seeds == (0,)
    np.testing.assert_array_equal(pool.answers[0], np.concatenate([again[0, fold].answers for fold in range(6)]))
    pool = pooled.pool({(0, fold): answers(fold // 6, fold % 6) for fold in range(12)}, folds=6)
    assert pool.seeds == (0, 0) and pool.answers.shape == (2, 240)
    assert pooled.pool({(0, fold): answers(0, fold % 6) for fold in (0, 4, 8)}, folds=6).folds == (0, 2, 4)
    alone = pooled.pool({(seed, fold): answers(10 * seed + fold, 0) for seed in range(2) for fold in range(3)}, folds=1)
    assert alone.folds == (0,) and alone.seeds == (0, 0, 0, 1, 1, 1)
    means = [own["ua"] for own in pooled.score(alone, shared=THREE, corpus=THREE)["by_seed"]]
    first = np.mean([oracle.balanced_accuracy_score(alone.labels, own) for own in alone.answers[:3]])
    assert len(means) == 2 and means[0] == pytest.approx(first)


def test_a_clip_on_the_side_of_several_folds_is_counted_each_time_and_that_is_said():
    """Validation utterances of two folds, 10 of 40 in both: 80 answers to 70 clips."""
    one, other = answers(0, 0), answers(0, 1)
    other = dataclasses.replace(other, ids=(*one.ids[:10], *other.ids[10:]))
    found = pooled.score(pooled.pool({(0, 0): one, (0, 1): other}, folds=2), shared=THREE, corpus=THREE)
    assert (found["n"], found["different_clips"]) == (80, 70)
    apart = pooled.score(pooled.pool(cells(1, (0, 1)), folds=2), shared=THREE, corpus=THREE)
    assert apart["n"] == apart["different_clips"] == 80


def test_only_folds_that_every_seed_has_are_pooled():
    given = cells(2, range(4))
    del given[1, 2]
    assert pooled.pool(given, folds=4).folds == (0, 1, 3)
    with pytest.raises(InputError, match="no fold has been finished with every seed"):
        pooled.pool({(0, 0): answers(0, 0), (1, 1): answers(1, 1)}, folds=2)


def test_networks_that_were_asked_about_other_clips_are_refused():
    with pytest.raises(InputError, match="fold 0: seeds 0 and 1 were asked about different clips"):
        pooled.pool({(0, 0): answers(0, 0), (1, 0): answers(1, 0, clips=39)}, folds=1)


def test_stages_are_compared_by_the_speakers_of_all_folds_with_the_seeds_averaged_first():
    one, other = (
        pooled.pool({(seed, fold): answers(seed + shift, fold) for seed in range(2) for fold in range(3)}, folds=3) for shift in (0, 7)
    )
    found = pooled.compare(one, other, emotions=THREE)
    expected = {}
    for who in sorted(set(one.speakers)):
        clips = np.array(one.speakers) == who
        means = [np.mean([oracle.balanced_accuracy_score(pool.labels[clips], own[clips]) for own in pool.answers]) for pool in (one, other)]
        expected[who] = means[0] - means[1]
    assert found["speakers"] == pytest.approx(expected)
    assert found["difference"] == pytest.approx(np.mean(list(expected.values())))
    assert found["method"] == "sign-flip over 6 speakers, exact; t interval" and 2 / 64 <= found["p"] <= 1
    assert pooled.compare(one, one, emotions=THREE)["p"] == 1


def test_without_speakers_two_stages_are_compared_image_by_image():
    """The difference is that of the pooled scores, p of WA that of the binomial test of the images that one alone has right (McNemar),
    the interval that of the images drawn anew, whatever the order of the clips."""
    draws = np.random.default_rng(5)
    labels = draws.choice(3, 600, p=(0.6, 0.3, 0.1))
    said = [np.where(draws.random(600) < right, labels, draws.integers(3, size=600)) for right in (0.7, 0.62)]
    ids = [f"{number}.jpg" for number in range(600)]

    def of(answered, places):
        items = np.eye(len(EMOTIONS), dtype=int)[answered[places]]
        names = ([ids[place] for place in places], ("",) * 600, labels[places], answered[places])
        return pooled.pool({(0, 0): Answers(tuple(names[0]), *names[1:], items, np.full(600, -1), items)}, folds=1)

    one, other = of(said[0], np.arange(600)), of(said[1], draws.permutation(600))
    ua, wa = (pooled.compare(one, other, emotions=THREE, name=name) for name in ("ua", "wa"))
    for found, score in ((ua, oracle.balanced_accuracy_score), (wa, oracle.accuracy_score)):
        assert found["difference"] == pytest.approx(score(labels, said[0]) - score(labels, said[1]))
        assert found["method"] == "sign-flip over 600 images, 100000 drawn flips; t interval" and found["speakers"] == {}
        again = np.random.default_rng(6).integers(600, size=(1000, 600))
        redrawn = [score(labels[at], said[0][at]) - score(labels[at], said[1][at]) for at in again]
        assert [found["low"], found["high"]] == pytest.approx(np.percentile(redrawn, (2.5, 97.5)), abs=0.01)
    alone = [np.sum((said[i] == labels) & (said[1 - i] != labels)) for i in (0, 1)]
    assert 0.001 < wa["p"] == pytest.approx(stats.binomtest(alone[0], sum(alone)).pvalue, rel=0.1)
    assert pooled.compare(one, one, emotions=THREE)["p"] == 1
    entries = [{"stages": ["a", "b"], "source": "x/visual", "ua": ua, "wa": wa}]
    spoken = pooled.compare(*[pooled.pool(cells(1, range(3)), folds=3)] * 2, emotions=THREE)
    entries += [{"stages": ["a", "b"], "source": f"{name}/audio", "ua": spoken, "wa": spoken} for name in "yz"]
    (mean,) = pooled.together(entries)
    assert mean["source"] == "y/audio + z/audio" and not pooled.together(entries[:2])


def test_a_comparison_of_one_speaker_of_no_clips_or_of_other_clips_is_refused_in_words():
    alone = pooled.pool({(0, 0): answers(0, 0, speakers=1)}, folds=1)
    with pytest.raises(InputError, match="needs at least 2 speakers.*there is 1"):
        pooled.compare(alone, alone, emotions=THREE)
    with pytest.raises(InputError, match="at least 2 clips that both can answer; there are 0"):
        pooled.compare(alone, alone, emotions=["surprise"])
    with pytest.raises(InputError, match="not asked about the same clips"):
        pooled.compare(alone, pooled.pool({(0, 1): answers(0, 1)}, folds=2), emotions=THREE)
