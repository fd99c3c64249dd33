import functools
import itertools

import numpy as np
import pytest
import scipy.stats

from kerasemo.metrics import classification, significance

WA = functools.partial(classification.accuracy, n_classes=2)
UA = functools.partial(classification.unweighted_average_recall, n_classes=5)


def said(random, *, clips, seeds, speakers, n_classes=5):
    """Labels, answers of several seeds and speakers of unequal size; how often a speaker is understood differs."""
    labels = random.integers(n_classes, size=clips)
    of = np.concatenate(
        [np.arange(speakers), np.minimum(random.geometric(0.15, clips - speakers), speakers) - 1]
    )
    right = random.random((seeds, clips)) < np.linspace(0.3, 0.9, speakers)[of]
    answers = np.where(right, labels, random.integers(n_classes, size=(seeds, clips)))
    return labels, answers, np.array([f"c:{index:02d}" for index in of])


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def test_seeds_are_averaged_and_clips_are_pooled():
    """Speaker a has 3 clips, b 1. Seed 0: 3/3 and 0/1, WA 3/4; seed 1: 1/3 and 1/1, WA 2/4. Means: 5/8; a (1 + 1/3) / 2, b 1/2.

    The mean over the speakers would be 7/12.
    """
    labels, answers, speakers = [0, 0, 0, 1], [[0, 0, 0, 0], [0, 1, 1, 1]], ["a", "a", "a", "b"]
    assert significance.mean_over_seeds(labels, answers, statistic=WA) == 5 / 8
    assert significance.scores_by_speaker(labels, answers, speakers, statistic=WA) == pytest.approx(
        {"a": 2 / 3, "b": 1 / 2}, rel=1e-12
    )


def test_per_speaker_table_is_sorted_and_takes_one_seed():
    table = significance.scores_by_speaker(
        [0, 0, 1, 1], [0, 1, 1, 1], ["c:2", "c:2", "c:1", "c:2"], statistic=WA
    )
    assert list(table) == ["c:1", "c:2"] and table == pytest.approx(
        {"c:1": 1, "c:2": 2 / 3}, rel=1e-12
    )


def test_bootstrap_by_the_binomial():
    """Of 100 speakers with 5 equal clips each, 80 are always right: WA of a draw is Binomial(100, 0.8) / 100.

    Its standard deviation is sqrt(0.8 0.2 / 100) = 0.04, so the interval is 0.8 +- 1.96 * 0.04, to the grain of 0.01. Were clips drawn
    instead of speakers, it would be narrower by sqrt(5): that is the interval over images.
    """
    groups = np.repeat([f"c:{i}" for i in range(100)], 5)
    answers = np.repeat(np.arange(100) < 20, 5).astype(int)
    found = significance.score_interval(np.zeros(500, int), answers, groups, statistic=WA, seed=0)
    assert found.low == pytest.approx(
        0.8 - 1.96 * 0.04, abs=0.0151
    ) and found.high == pytest.approx(0.8 + 1.96 * 0.04, abs=0.0151)
    assert found.method == "bootstrap over 100 speakers"
    found = significance.score_interval(
        np.zeros(500, int), answers, None, statistic=WA, seed=0, unit="images"
    )
    half = 1.96 * 0.04 / 5**0.5
    assert found.low == pytest.approx(0.8 - half, abs=0.004) and found.high == pytest.approx(
        0.8 + half, abs=0.004
    )
    assert found.method == "bootstrap over 500 images"


@pytest.mark.parametrize("over", significance.UNITS)
def test_bootstrap_equals_scipy_which_draws_the_same_units(random, over):
    """SciPy draws speakers (or clips), and the statistic pools their clips, seed by seed. UA: unequal speakers and classes weigh in.

    An end of 10 000 draws has a Monte-Carlo error of sqrt(0.025 0.975 / 10000) / density: of a normal with the standard deviation s,
    0.027 s. Both have one, so they agree within 4 sqrt(2) 0.027 s = 0.15 s; were clips drawn instead of speakers, they would not.
    """
    labels, answers, speakers = said(random, clips=240, seeds=2, speakers=16)
    units = (
        [np.flatnonzero(speakers == name) for name in np.unique(speakers)]
        if over == "speakers"
        else np.arange(240)[:, None]
    )

    def score(drawn):
        clips = np.concatenate([units[index] for index in drawn])
        return np.mean([UA(labels[clips], own[clips]) for own in answers])

    draws = dict(
        n_resamples=10_000, method="percentile", vectorized=False, rng=np.random.default_rng(7)
    )
    oracle = scipy.stats.bootstrap((np.arange(len(units)),), score, **draws)
    found = significance.score_interval(
        labels, answers, speakers, statistic=UA, seed=0, unit=over, resamples=10_000
    )
    tolerance = 0.15 * oracle.standard_error
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=tolerance)
    other = significance.score_interval(
        labels,
        answers,
        speakers,
        statistic=UA,
        seed=0,
        unit="images" if over == "speakers" else "speakers",
    )
    assert abs((other.high - other.low) - (found.high - found.low)) > 4 * tolerance


@pytest.mark.parametrize("over", significance.UNITS)
def test_bootstrap_is_a_function_of_the_seed_and_not_of_the_order(random, over):
    labels, answers, speakers = said(random, clips=90, seeds=3, speakers=12)
    interval = functools.partial(
        significance.score_interval, statistic=UA, resamples=200, unit=over
    )
    order = random.permutation(90)
    expected = interval(labels, answers, speakers, seed=0)
    assert (
        expected.low < significance.mean_over_seeds(labels, answers, statistic=UA) < expected.high
    )
    assert interval(labels[order], answers[:, order], speakers[order].tolist(), seed=0) == expected
    assert interval(labels, answers, speakers, seed=1) != expected


@pytest.mark.parametrize("speakers", [2, 9])
def test_few_speakers_have_the_t_interval_of_scipy(random, speakers):
    labels, answers, of = said(random, clips=80, seeds=3, speakers=speakers)
    found = significance.score_interval(labels, answers, of, statistic=UA, seed=0)
    values = [
        np.mean([UA(labels[of == name], own[of == name]) for own in answers])
        for name in np.unique(of)
    ]
    oracle = scipy.stats.t.interval(
        0.95, df=speakers - 1, loc=np.mean(values), scale=scipy.stats.sem(values)
    )
    assert (found.low, found.high) == pytest.approx(
        oracle, rel=1e-9
    ) and found.method == f"t over {speakers} speakers"


def test_t_interval_by_hand():
    """WA of the speakers: 1 and 1/2. Mean 3/4, s = sqrt(2 (1/4)^2) = 0.35355, s / sqrt(2) = 1/4; t(0.975, 1) = tan(0.475 pi) = 12.7062."""
    found = significance.score_interval([0, 0, 0], [0, 0, 1], ["a", "b", "b"], statistic=WA, seed=0)
    assert (found.low, found.high) == pytest.approx(
        (0.75 - 12.7062 / 4, 0.75 + 12.7062 / 4), abs=1e-4
    )


def test_intervals_of_answers_that_are_all_right_are_points_and_of_one_speaker_there_is_none():
    for count in (2, 10):
        found = significance.score_interval(
            [0] * count,
            [0] * count,
            [f"c:{i}" for i in range(count)],
            statistic=WA,
            seed=0,
            resamples=20,
        )
        assert (found.low, found.high) == (1, 1)
    assert significance.score_interval([0, 1], [0, 0], ["a", "a"], statistic=WA, seed=0) is None
    assert significance.paired_difference({"a": 1.0}, {"a": 0.0}) is None


def named(values):
    return {f"c:{index}": value for index, value in enumerate(values)}


def test_paired_by_hand():
    """Differences 3, 1, -1: of the 8 sums +-3 +-1 +-1 those as far from 0 as 3 are +-5 and twice +-3: 6 of 8.

    Mean 1, s = 2, s / sqrt(3) = 1.1547; t(0.975, 2) = 4.30265: half of the interval is 4.9683.
    """
    found = significance.paired_difference(
        {"b": 1.0, "a": 3.0, "c": 1.0}, {"a": 0.0, "b": 0.0, "c": 2.0}
    )
    assert (found.difference, found.p) == (1, 6 / 8)
    assert (found.low, found.high) == pytest.approx((1 - 4.9683, 1 + 4.9683), abs=1e-4)
    assert found.method == "sign-flip over 3 speakers, exact; t interval"


def test_paired_that_always_wins_has_the_least_p_and_equals_have_1():
    """All of 10 differences are positive: only they and their negatives are as far, p = 2 / 2^10. Not even 0.1 is exact."""
    assert significance.paired_difference(named([0.9] * 10), named([0.8] * 10)).p == 2 / 2**10
    assert significance.paired_difference(named([0.3] * 5), named([0.3] * 5)).p == 1
    assert (
        significance.paired_difference(named([0.1, 0.2, 0.3]), named([0.2, 0.3, 0.1])).p == 1
    )  # -0.1, -0.1, 0.2


def test_ties_are_ties_whatever_the_unit(random):
    """Small integers have many equal sums; in tenths the same sums differ in their last bits."""
    for _ in range(20):
        whole = random.integers(-3, 4, size=9)
        assert (
            significance.paired_difference(named(whole * 0.1), named([0.0] * 9)).p
            == significance.paired_difference(named(whole), named([0] * 9)).p
        )


@pytest.mark.parametrize("count", [4, 11])
def test_paired_equals_scipy(random, count):
    ours, theirs = random.normal(0.8, 0.1, count), random.normal(0.75, 0.1, count)
    found = significance.paired_difference(named(ours), named(theirs))
    oracle = scipy.stats.permutation_test(
        (ours, theirs),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided",
    )
    assert found.difference == pytest.approx(
        oracle.statistic, rel=1e-12
    ) and found.p == pytest.approx(oracle.pvalue, rel=1e-12)
    ends = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-9)


def test_paired_of_many_speakers_draws_its_flips(random):
    """Of 23 speakers drawn, and of all 2^23 counted: within 4 sqrt(p (1 - p) / 10000)."""
    differences = random.normal(0.3, 1, 23)
    found = significance.paired_difference(named(differences), named(np.zeros(23)))
    assert found.method == "sign-flip over 23 speakers, 10000 drawn flips; t interval"
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    exact = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9)
    assert 0.01 < exact < 0.6 and found.p == pytest.approx(
        exact, abs=4 * (exact * (1 - exact) / 1e4) ** 0.5
    )
    assert (
        significance.paired_difference(named(differences), named(np.zeros(23)), seed=1).p != found.p
    )
    assert significance.paired_difference(
        named(np.ones(40)), named(np.zeros(40))
    ).p == pytest.approx(2 / 10_001)


def test_paired_knows_no_order_and_changes_sign_with_its_sides(random):
    ours, theirs = named(random.random(8)), named(random.random(8))
    found, other = (
        significance.paired_difference(ours, theirs),
        significance.paired_difference(dict(reversed(theirs.items())), ours),
    )
    assert found.p == other.p and (other.low, other.high) == pytest.approx(
        (-found.high, -found.low), rel=1e-12
    )
    assert other.difference == pytest.approx(-found.difference, rel=1e-12)


def test_of_several_sources_each_counts_alike_and_a_speaker_has_one_sign(random):
    """Scipy's Welch interval of two sources of different speakers; flips of whole speakers, counted anew from the sources' means."""
    first, second = (
        named(random.normal(0.1, 0.1, 7)),
        {f"other {name}": value for name, value in named(random.normal(0.0, 0.3, 4)).items()},
    )
    found = significance.mean_paired_difference([first, second])
    mine, others = np.array(list(first.values())), np.array(list(second.values()))
    assert found.difference == pytest.approx((mine.mean() + others.mean()) / 2, rel=1e-12)
    ends = scipy.stats.ttest_ind(mine, -others, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low / 2, ends.high / 2), rel=1e-9)
    signs = np.array(list(itertools.product((1, -1), repeat=11)))
    means = ((signs[:, :7] * mine).mean(axis=1) + (signs[:, 7:] * others).mean(axis=1)) / 2
    assert found.p == np.mean(np.abs(means) >= abs(found.difference) - 1e-12)
    assert found.method == "sign-flip over 11 speakers, exact; t interval; 2 sources alike"


def test_a_speaker_of_two_sources_counts_as_one(random):
    face, voice = named(random.normal(0.1, 0.1, 6)), named(random.normal(0.1, 0.1, 6))
    found = significance.mean_paired_difference([face, voice])
    alone = significance.paired_difference(
        {name: (face[name] + voice[name]) / 2 for name in face}, dict.fromkeys(face, 0.0)
    )
    assert (found.difference, found.p, found.low, found.high) == pytest.approx(
        (alone.difference, alone.p, alone.low, alone.high), rel=1e-9
    )
    assert significance.mean_paired_difference([face, {"one": 0.5}]) is None


def test_p_is_right_for_models_that_are_equal(random):
    """Under the hypothesis p <= 1/4 comes in one of 4 trials; 400 trials: a standard deviation of 0.022."""
    trials = [
        significance.paired_difference(named(random.normal(size=6)), named(random.normal(size=6))).p
        for _ in range(400)
    ]
    assert np.mean(np.array(trials) <= 0.25) == pytest.approx(0.25, abs=3 * 0.022)


REFUSED = {"statistic": WA, "seed": 0}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            {"groups": ["a"] * 3},
            r"speakers must name a speaker for each of 4 clips; received shape \(3,\)",
        ),
        (
            {"groups": None},
            r"speakers must name a speaker for each of 4 clips; received shape \(\)",
        ),
        (
            {"groups": ["", *"abc"]},
            'speakers must name a speaker for every clip; received an empty name.* unit="clips"',
        ),
        ({"unit": "faces"}, "unit must be one of speakers, images, clips; received 'faces'"),
        ({"resamples": 0}, "resamples must be at least 1; received 0"),
        ({"labels": []}, "labels must be .* at least one clip"),
        ({"answers": [0, 1]}, "predictions must be as many as labels, 4; received 2"),
        (
            {"answers": np.zeros((0, 4), int)},
            r"at least one seed; received shape \(0, 4\)",
        ),
        ({"answers": np.zeros((1, 1, 4), int)}, r"received shape \(1, 1, 4\)"),
        (
            {"answers": [[0, 1, 0, 1], [0, 1, 0, -1]]},
            r"predictions must lie in \[0, .*; received -1",
        ),
    ],
)
def test_malformed_answers_are_refused(words, message):
    arguments = {
        "labels": [0, 1, 0, 1],
        "answers": [0, 1, 1, 1],
        "groups": list("abcd"),
        **REFUSED,
        **words,
    }
    with pytest.raises(ValueError, match=message):
        significance.score_interval(
            arguments.pop("labels"), arguments.pop("answers"), arguments.pop("groups"), **arguments
        )


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (
            {"a": 1.0, "b": 1.0},
            {"a": 1.0, "c": 1.0},
            r"must have the same speakers, at least one; received \['b', 'c'\] in one of them",
        ),
        ({}, {}, "must have the same speakers, at least one"),
        (
            {"a": 1.0, "b": np.nan},
            {"a": 1.0, "b": 1.0},
            "must be finite for every speaker; received NaN",
        ),
    ],
)
def test_malformed_pairs_are_refused(ours, theirs, message):
    for one, other in itertools.permutations([ours, theirs]):
        with pytest.raises(ValueError, match=message):
            significance.paired_difference(one, other)
