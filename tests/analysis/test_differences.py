"""Two stages on the same clips: by speaker, pooled, by image, on several sources."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from helpers.pools import THREE, answers, cells
from kerasemo.analysis import differences, pooling, prediction_tables
from kerasemo.analysis.prediction_tables import Predictions
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS


def test_stages_are_compared_by_the_speakers_of_all_folds_with_the_seeds_averaged_first():
    one, other = (
        pooling.pool_folds(
            {(seed, fold): answers(seed + shift, fold) for seed in range(2) for fold in range(3)},
            folds=3,
        )
        for shift in (0, 7)
    )
    found = differences.difference_of_stages(one, other, emotions=THREE)
    expected = {}
    for who in sorted(set(one.speakers)):
        clips = np.array(one.speakers) == who
        means = [
            np.mean(
                [
                    oracle.balanced_accuracy_score(pool.labels[clips], own[clips])
                    for own in pool.predictions
                ]
            )
            for pool in (one, other)
        ]
        expected[who] = means[0] - means[1]
    assert found["speakers"] == pytest.approx(expected)
    assert found["difference"] == pytest.approx(np.mean(list(expected.values())))
    assert (
        found["method"] == "sign-flip over 6 speakers, exact; t interval"
        and 2 / 64 <= found["p"] <= 1
    )
    assert differences.difference_of_stages(one, one, emotions=THREE)["p"] == 1


def of_said(labels, said, speakers) -> prediction_tables.PooledPredictions:
    """Return the pool of one network that said this of as many clips."""
    said, eye = np.array(said), np.eye(len(EMOTIONS), dtype=int)
    own = Predictions(
        tuple(map(str, range(len(said)))),
        speakers,
        np.array(labels),
        said,
        eye[said],
        said,
        eye[said],
    )
    return pooling.pool_folds({(0, 0): own}, folds=1)


def of_scores(one, other, score) -> float:
    """Return the difference of the scores of all clips together, the seeds averaged first."""
    return float(
        np.subtract(
            *(
                np.mean([score(pool.labels, own) for own in pool.predictions])
                for pool in (one, other)
            )
        )
    )


def test_the_pooled_difference_is_that_of_the_scores_and_whole_speakers_change_places():
    """p is the share of all ways to exchange the two stages' answers to the clips of some speakers whose difference is as large."""
    one, other = (
        pooling.pool_folds(
            {(seed, fold): answers(seed + shift, fold) for seed in range(2) for fold in range(3)},
            folds=3,
        )
        for shift in (0, 7)
    )
    speakers = np.array(one.speakers)
    for name, score in (("ua", oracle.balanced_accuracy_score), ("wa", oracle.accuracy_score)):
        found = differences.difference_of_stages(one, other, emotions=THREE, metric=name)["pooled"]
        expected = of_scores(one, other, score)
        assert (
            found["difference"]
            == pytest.approx(expected)
            == np.mean(list(found["speakers"].values()))
        )
        drawn = []
        for exchanged in itertools.product((False, True), repeat=6):
            of = np.isin(speakers, np.unique(speakers)[list(exchanged)])
            ours, theirs = (
                np.where(of, other.predictions, one.predictions),
                np.where(of, one.predictions, other.predictions),
            )
            drawn.append(
                of_scores(
                    dataclasses.replace(one, predictions=ours),
                    dataclasses.replace(other, predictions=theirs),
                    score,
                )
            )
        assert (
            found["p"] == np.mean(np.abs(drawn) >= abs(expected) - 1e-9)
            and found["low"] < expected < found["high"]
        )
        assert (
            differences.difference_of_stages(one, one, emotions=THREE, metric=name)["pooled"]["p"]
            == 1
        )


def test_the_interval_of_the_pooled_difference_is_about_that_of_speakers_drawn_anew():
    """A little wider, by Student's t; its middle is not the speakers' mean. What all gain alike has no spread, whoever has more clips."""
    one, other = (
        pooling.pool_folds({(0, fold): answers(shift, fold) for fold in range(10)}, folds=10)
        for shift in (0, 7)
    )
    found = differences.difference_of_stages(one, other, emotions=THREE)
    speakers, random, drawn = np.array(one.speakers), np.random.default_rng(3), []
    of = [np.flatnonzero(speakers == who) for who in np.unique(speakers)]
    for _ in range(1000):
        at = np.concatenate([of[place] for place in random.integers(20, size=20)])
        drawn.append(
            np.subtract(
                *(
                    oracle.balanced_accuracy_score(own.labels[at], own.predictions[0][at])
                    for own in (one, other)
                )
            )
        )
    low, high = np.percentile(drawn, (2.5, 97.5))
    assert 0.9 < (found["pooled"]["high"] - found["pooled"]["low"]) / (high - low) < 1.4
    assert found["pooled"]["difference"] != pytest.approx(found["difference"], abs=1e-4)
    counts = (4, 12, 40)
    labels, speakers = (
        np.zeros(56, int),
        tuple(f"s:{place}" for place, count in enumerate(counts) for _ in range(count)),
    )
    right = np.concatenate([np.arange(count) % 4 < 3 for count in counts])
    half = np.concatenate([np.arange(count) % 4 < 2 for count in counts])
    alike = differences.difference_of_stages(
        *(of_said(labels, np.where(own, 0, 1), speakers) for own in (right, half)), emotions=THREE
    )["pooled"]
    assert [alike[name] for name in ("difference", "low", "high")] == pytest.approx(
        [0.25] * 3
    ) and alike["p"] == 0.25


def test_one_speaker_of_many_clips_weighs_as_many_and_every_source_of_a_mean_alike():
    """Nine clips right of one speaker, none of another's one: pooled +0.9, by speaker +0.5; beside a source of 0, half of each."""

    def of(said, speakers):
        return of_said(np.zeros(len(said), int), said, speakers)

    many, four = ("a", *"b" * 9), ("c", "c", "d", "e")
    found = differences.difference_of_stages(
        of([1] + [0] * 9, many), of([1] * 10, many), emotions=THREE
    )
    assert (found["difference"], found["pooled"]["difference"]) == (
        pytest.approx(0.5),
        pytest.approx(0.9),
    )
    assert (
        found["pooled"]["speakers"] == pytest.approx({"a": 0.0, "b": 1.8})
        and found["pooled"]["p"] == 1
    )
    none = differences.difference_of_stages(of([0] * 4, four), of([0] * 4, four), emotions=THREE)
    entries = [
        {"stages": ["x", "y"], "source": name, "ua": own, "wa": own}
        for name, own in (("p", found), ("q", none))
    ]
    (mean,) = differences.mean_over_sources(entries)
    assert (mean["ua"]["difference"], mean["ua"]["pooled"]["difference"]) == (
        pytest.approx(0.25),
        pytest.approx(0.45),
    )
    first, *_ = differences.correct_for_number([*entries, mean])
    assert first["ua"]["p_holm"] == first["ua"]["pooled"]["p_holm"] == 1 and "p_holm" not in found


def test_without_speakers_two_stages_are_compared_image_by_image():
    """The difference is that of the pooled scores, p of WA that of the binomial test of the images that one alone has right (McNemar),
    the interval that of the images drawn anew, whatever the order of the clips."""
    draws = np.random.default_rng(5)
    labels = draws.choice(3, 600, p=(0.6, 0.3, 0.1))
    said = [
        np.where(draws.random(600) < right, labels, draws.integers(3, size=600))
        for right in (0.7, 0.62)
    ]
    ids = [f"{number}.jpg" for number in range(600)]

    def of(answered, places):
        items = np.eye(len(EMOTIONS), dtype=int)[answered[places]]
        names = ([ids[place] for place in places], ("",) * 600, labels[places], answered[places])
        return pooling.pool_folds(
            {(0, 0): Predictions(tuple(names[0]), *names[1:], items, np.full(600, -1), items)},
            folds=1,
        )

    one, other = of(said[0], np.arange(600)), of(said[1], draws.permutation(600))
    ua, wa = (
        differences.difference_of_stages(one, other, emotions=THREE, metric=name)
        for name in ("ua", "wa")
    )
    for found, score in ((ua, oracle.balanced_accuracy_score), (wa, oracle.accuracy_score)):
        assert found["difference"] == pytest.approx(score(labels, said[0]) - score(labels, said[1]))
        assert (
            found["method"] == "sign-flip over 600 images, 10000 drawn flips; t interval"
            and found["speakers"] == found["pooled"]["speakers"] == {}
        )
        assert found["pooled"]["difference"] == found["difference"]
        again = np.random.default_rng(6).integers(600, size=(1000, 600))
        redrawn = [score(labels[at], said[0][at]) - score(labels[at], said[1][at]) for at in again]
        assert [found["low"], found["high"]] == pytest.approx(
            np.percentile(redrawn, (2.5, 97.5)), abs=0.01
        )
    alone = [np.sum((said[i] == labels) & (said[1 - i] != labels)) for i in (0, 1)]
    assert 0.001 < wa["p"] == pytest.approx(stats.binomtest(alone[0], sum(alone)).pvalue, rel=0.1)
    assert differences.difference_of_stages(one, one, emotions=THREE)["p"] == 1
    entries = [{"stages": ["a", "b"], "source": "x/visual", "ua": ua, "wa": wa}]
    spoken = differences.difference_of_stages(
        *[pooling.pool_folds(cells(1, range(3)), folds=3)] * 2, emotions=THREE
    )
    entries += [
        {"stages": ["a", "b"], "source": f"{name}/audio", "ua": spoken, "wa": spoken}
        for name in "yz"
    ]
    (mean,) = differences.mean_over_sources(entries)
    assert mean["source"] == "y/audio + z/audio" and not differences.mean_over_sources(entries[:2])


def test_a_comparison_of_one_speaker_of_no_clips_or_of_other_clips_is_refused_in_words():
    alone = pooling.pool_folds({(0, 0): answers(0, 0, speakers=1)}, folds=1)
    with pytest.raises(InputError, match="needs at least 2 speakers.*received 1"):
        differences.difference_of_stages(alone, alone, emotions=THREE)
    with pytest.raises(InputError, match="at least 2 clips.* 0"):
        differences.difference_of_stages(alone, alone, emotions=["surprise"])
    with pytest.raises(InputError, match="other clips"):
        differences.difference_of_stages(
            alone, pooling.pool_folds({(0, 1): answers(0, 1)}, folds=2), emotions=THREE
        )
