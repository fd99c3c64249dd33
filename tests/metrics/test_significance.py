import functools
import itertools

import numpy as np
import pytest
import scipy.stats

from kerasemo.metrics import classification, significance

WA = functools.partial(classification.accuracy, n_classes=2)
UA = functools.partial(classification.unweighted_average_recall, n_classes=5)


def random_predictions(random, *, clips, seeds, speakers, n_classes=5):
    """Return labels, predictions of several seeds, and speakers.

    Speakers have unequal numbers of clips, and unequal fractions of correct predictions.
    """
    labels = random.integers(n_classes, size=clips)
    speaker_of = np.concatenate(
        [np.arange(speakers), np.minimum(random.geometric(0.15, clips - speakers), speakers) - 1]
    )
    is_correct = random.random((seeds, clips)) < np.linspace(0.3, 0.9, speakers)[speaker_of]
    predictions = np.where(is_correct, labels, random.integers(n_classes, size=(seeds, clips)))
    return labels, predictions, np.array([f"c:{index:02d}" for index in speaker_of])


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def test_seeds_are_averaged_and_clips_are_pooled():
    """Speaker a has 3 clips, b 1.

    Seed 0: 3/3 and 0/1 correct, WA 3/4. Seed 1: 1/3 and 1/1 correct, WA 2/4. The mean is 5/8; that
    of a is (1 + 1/3) / 2, that of b 1/2. The mean over speakers would be 7/12.
    """
    labels, predictions, speakers = [0, 0, 0, 1], [[0, 0, 0, 0], [0, 1, 1, 1]], ["a", "a", "a", "b"]
    assert significance.mean_over_seeds(labels, predictions, statistic=WA) == 5 / 8
    assert significance.scores_by_speaker(
        labels, predictions, speakers, statistic=WA
    ) == pytest.approx({"a": 2 / 3, "b": 1 / 2}, rel=1e-12)


def test_scores_by_speaker_are_sorted_and_take_one_seed():
    scores = significance.scores_by_speaker(
        [0, 0, 1, 1], [0, 1, 1, 1], ["c:2", "c:2", "c:1", "c:2"], statistic=WA
    )
    assert list(scores) == ["c:1", "c:2"]
    assert scores == pytest.approx({"c:1": 1, "c:2": 2 / 3}, rel=1e-12)


@pytest.mark.parametrize(
    ("unit", "half_width", "tolerance", "method"),
    [
        ("speakers", 1.96 * 0.04, 0.0151, "bootstrap over 100 speakers"),
        ("images", 1.96 * 0.04 / 5**0.5, 0.004, "bootstrap over 500 images"),
    ],
)
def test_bootstrap_equals_the_binomial_distribution(unit, half_width, tolerance, method):
    """100 speakers have 5 equal clips each, and 80 speakers are correct in all of them.

    WA of a resample is Binomial(100, 0.8) / 100. Its standard deviation is
    sqrt(0.8 0.2 / 100) = 0.04, so the interval is 0.8 +- 1.96 x 0.04, in steps of 0.01. If images
    are resampled instead of speakers, the interval is narrower by sqrt(5).
    """
    speakers = np.repeat([f"c:{i}" for i in range(100)], 5) if unit == "speakers" else None
    predictions = np.repeat(np.arange(100) < 20, 5).astype(int)
    interval = significance.score_interval(
        np.zeros(500, int), predictions, speakers, statistic=WA, seed=0, unit=unit
    )
    assert interval.low == pytest.approx(0.8 - half_width, abs=tolerance)
    assert interval.high == pytest.approx(0.8 + half_width, abs=tolerance)
    assert interval.method == method


@pytest.mark.parametrize("unit", significance.UNITS)
def test_bootstrap_equals_that_of_scipy(random, unit):
    """SciPy resamples the units, and the statistic pools their clips, seed by seed.

    A limit of 10 000 resamples has a Monte-Carlo error of sqrt(0.025 0.975 / 10000) / density; for a
    normal distribution of standard deviation s that is 0.027 s. Both limits have one, so they agree
    within 4 sqrt(2) 0.027 s = 0.15 s. They would not if clips were resampled instead of speakers.
    """
    labels, predictions, speakers = random_predictions(random, clips=240, seeds=2, speakers=16)
    units = (
        [np.flatnonzero(speakers == name) for name in np.unique(speakers)]
        if unit == "speakers"
        else np.arange(240)[:, None]
    )

    def score(resample):
        clips = np.concatenate([units[index] for index in resample])
        return np.mean([UA(labels[clips], of_seed[clips]) for of_seed in predictions])

    expected = scipy.stats.bootstrap(
        (np.arange(len(units)),),
        score,
        n_resamples=10_000,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(7),
    )
    interval = significance.score_interval(
        labels, predictions, speakers, statistic=UA, seed=0, unit=unit, resamples=10_000
    )
    tolerance = 0.15 * expected.standard_error
    assert interval.low == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert interval.high == pytest.approx(expected.confidence_interval.high, abs=tolerance)
    of_other_unit = significance.score_interval(
        labels,
        predictions,
        speakers,
        statistic=UA,
        seed=0,
        unit="images" if unit == "speakers" else "speakers",
    )
    widths = [limits.high - limits.low for limits in (interval, of_other_unit)]
    assert abs(widths[1] - widths[0]) > 4 * tolerance


@pytest.mark.parametrize("unit", significance.UNITS)
def test_bootstrap_depends_on_the_seed_and_not_on_the_order_of_clips(random, unit):
    labels, predictions, speakers = random_predictions(random, clips=90, seeds=3, speakers=12)
    interval = functools.partial(
        significance.score_interval, statistic=UA, resamples=200, unit=unit
    )
    order = random.permutation(90)
    expected = interval(labels, predictions, speakers, seed=0)
    assert (
        expected.low
        < significance.mean_over_seeds(labels, predictions, statistic=UA)
        < expected.high
    )
    assert (
        interval(labels[order], predictions[:, order], speakers[order].tolist(), seed=0) == expected
    )
    assert interval(labels, predictions, speakers, seed=1) != expected


@pytest.mark.parametrize("speakers", [2, 9])
def test_few_speakers_have_the_t_interval_of_scipy(random, speakers):
    labels, predictions, speaker_of = random_predictions(
        random, clips=80, seeds=3, speakers=speakers
    )
    interval = significance.score_interval(labels, predictions, speaker_of, statistic=UA, seed=0)
    values = [
        np.mean([UA(labels[clips], of_seed[clips]) for of_seed in predictions])
        for clips in (speaker_of == name for name in np.unique(speaker_of))
    ]
    limits = scipy.stats.t.interval(
        0.95, df=speakers - 1, loc=np.mean(values), scale=scipy.stats.sem(values)
    )
    assert (interval.low, interval.high) == pytest.approx(limits, rel=1e-9)
    assert interval.method == f"t over {speakers} speakers"


def test_t_interval_equals_a_calculation_by_hand():
    """WA of the speakers is 1 and 1/2: mean 3/4, s = sqrt(2 (1/4)^2) = 0.35355, s / sqrt(2) = 1/4.

    t(0.975, 1) = tan(0.475 pi) = 12.7062.
    """
    interval = significance.score_interval(
        [0, 0, 0], [0, 0, 1], ["a", "b", "b"], statistic=WA, seed=0
    )
    limits = (0.75 - 12.7062 / 4, 0.75 + 12.7062 / 4)
    assert (interval.low, interval.high) == pytest.approx(limits, abs=1e-4)


@pytest.mark.parametrize("count", [2, 10])
def test_the_interval_of_correct_predictions_is_a_point(count):
    speakers = [f"c:{i}" for i in range(count)]
    interval = significance.score_interval(
        [0] * count, [0] * count, speakers, statistic=WA, seed=0, resamples=20
    )
    assert (interval.low, interval.high) == (1, 1)


def test_a_single_speaker_has_no_interval_and_no_paired_difference():
    assert significance.score_interval([0, 1], [0, 0], ["a", "a"], statistic=WA, seed=0) is None
    assert significance.paired_difference({"a": 1.0}, {"a": 0.0}) is None


def by_speaker(values):
    return {f"c:{index}": value for index, value in enumerate(values)}


def test_paired_difference_equals_a_calculation_by_hand():
    """Differences 3, 1, -1: of the 8 sums +-3 +-1 +-1, +-5 and two of +-3 are as far from 0 as 3.

    Mean 1, s = 2, s / sqrt(3) = 1.1547; t(0.975, 2) = 4.30265: half of the interval is 4.9683.
    """
    paired = significance.paired_difference(
        {"b": 1.0, "a": 3.0, "c": 1.0}, {"a": 0.0, "b": 0.0, "c": 2.0}
    )
    assert (paired.difference, paired.p) == (1, 6 / 8)
    assert (paired.low, paired.high) == pytest.approx((1 - 4.9683, 1 + 4.9683), abs=1e-4)
    assert paired.method == "sign-flip over 3 speakers, exact; t interval"


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        # All signs are positive: only they and their negatives are as far. 0.9 - 0.8 is not exact.
        ([0.9] * 10, [0.8] * 10, 2 / 2**10),
        ([0.3] * 5, [0.3] * 5, 1),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.1], 1),
    ],
)
def test_p_is_2_of_all_flips_for_equal_signs_and_1_without_a_difference(first, second, p):
    assert significance.paired_difference(by_speaker(first), by_speaker(second)).p == p


def test_sums_that_differ_in_the_last_bits_are_ties(random):
    """Small integers have many equal sums; in tenths the same sums differ in the last bits."""
    for _ in range(20):
        integers, zeros = random.integers(-3, 4, size=9), by_speaker([0] * 9)
        in_tenths = significance.paired_difference(by_speaker(integers * 0.1), zeros)
        assert in_tenths.p == significance.paired_difference(by_speaker(integers), zeros).p


@pytest.mark.parametrize("count", [4, 11])
def test_paired_difference_equals_that_of_scipy(random, count):
    first, second = random.normal(0.8, 0.1, count), random.normal(0.75, 0.1, count)
    paired = significance.paired_difference(by_speaker(first), by_speaker(second))
    expected = scipy.stats.permutation_test(
        (first, second),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided",
    )
    assert paired.difference == pytest.approx(expected.statistic, rel=1e-12)
    assert paired.p == pytest.approx(expected.pvalue, rel=1e-12)
    limits = scipy.stats.ttest_rel(first, second).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_sign_flips_of_many_speakers_are_sampled(random):
    """p is twice a tail of all 2^23 flips, within 4 standard deviations of 10 000 samples."""
    differences, zeros = by_speaker(random.normal(0.3, 1, 23)), by_speaker(np.zeros(23))
    paired = significance.paired_difference(differences, zeros)
    assert paired.method == "sign-flip over 23 speakers, 10000 drawn flips; t interval"
    sums = np.zeros(1)
    for difference in differences.values():
        sums = np.concatenate([sums + difference, sums - difference])
    tail = np.mean(sums >= abs(sum(differences.values())) - 1e-9)
    assert 0.01 < 2 * tail < 0.6
    tolerance = 4 * 2 * (tail * (1 - tail) / significance.N_SIGN_FLIPS) ** 0.5
    assert paired.p == pytest.approx(2 * tail, abs=tolerance)
    assert significance.paired_difference(differences, zeros, seed=1).p != paired.p


def test_sampled_p_counts_the_observed_signs():
    """No sample of 40 signs is as far as the observed signs: p = 2 (0 + 1) / (10 000 + 1)."""
    paired = significance.paired_difference(by_speaker(np.ones(40)), by_speaker(np.zeros(40)))
    assert paired.p == pytest.approx(2 / (significance.N_SIGN_FLIPS + 1))


def test_paired_difference_changes_sign_with_its_sides_and_depends_on_no_order(random):
    first, second = by_speaker(random.random(8)), by_speaker(random.random(8))
    paired = significance.paired_difference(first, second)
    swapped = significance.paired_difference(dict(reversed(second.items())), first)
    assert swapped.p == paired.p
    assert (swapped.low, swapped.high) == pytest.approx((-paired.high, -paired.low), rel=1e-12)
    assert swapped.difference == pytest.approx(-paired.difference, rel=1e-12)


def test_sources_have_the_same_weight_and_a_speaker_has_one_sign(random):
    """The interval equals SciPy's Welch interval; p is counted over the flips of all speakers."""
    first = by_speaker(random.normal(0.1, 0.1, 7))
    second = {f"other {index}": value for index, value in enumerate(random.normal(0.0, 0.3, 4))}
    paired = significance.mean_paired_difference([first, second])
    values, other_values = np.array(list(first.values())), np.array(list(second.values()))
    mean = (values.mean() + other_values.mean()) / 2
    assert paired.difference == pytest.approx(mean, rel=1e-12)
    limits = scipy.stats.ttest_ind(values, -other_values, equal_var=False).confidence_interval(0.95)
    assert (paired.low, paired.high) == pytest.approx((limits.low / 2, limits.high / 2), rel=1e-9)
    signs = np.array(list(itertools.product((1, -1), repeat=11)))
    means = (signs[:, :7] * values).mean(axis=1) + (signs[:, 7:] * other_values).mean(axis=1)
    assert paired.p == np.mean(np.abs(means / 2) >= abs(paired.difference) - 1e-12)
    assert paired.method == "sign-flip over 11 speakers, exact; t interval; 2 sources alike"


def test_a_speaker_of_two_sources_is_one_unit(random):
    face, voice = by_speaker(random.normal(0.1, 0.1, 6)), by_speaker(random.normal(0.1, 0.1, 6))
    paired = significance.mean_paired_difference([face, voice])
    of_means = significance.paired_difference(
        {name: (face[name] + voice[name]) / 2 for name in face}, dict.fromkeys(face, 0.0)
    )
    for field in ("difference", "p", "low", "high"):
        assert getattr(paired, field) == pytest.approx(getattr(of_means, field), rel=1e-9)
    assert significance.mean_paired_difference([face, {"one": 0.5}]) is None


def test_p_of_equal_models_has_the_nominal_level(random):
    """p <= 1/4 occurs in 1/4 of the trials; 400 trials have a standard deviation of 0.022."""
    p_values = [
        significance.paired_difference(
            by_speaker(random.normal(size=6)), by_speaker(random.normal(size=6))
        ).p
        for _ in range(400)
    ]
    assert np.mean(np.array(p_values) <= 0.25) == pytest.approx(0.25, abs=3 * 0.022)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"speakers": ["a"] * 3}, r"speakers .* 4 clips.* \(3,\)"),
        ({"speakers": None}, r"speakers .* 4 clips.* \(\)"),
        ({"speakers": ["", *"abc"]}, "speakers .* empty name.* unit"),
        ({"unit": "faces"}, "unit .* speakers, images, clips.* 'faces'"),
        ({"resamples": 0}, "resamples .* received 0"),
        ({"labels": []}, "labels .* at least one clip"),
        ({"predictions": [0, 1]}, "predictions .* 4; received 2"),
        ({"predictions": np.zeros((0, 4), int)}, r"predictions .* at least one seed.* \(0, 4\)"),
        ({"predictions": np.zeros((1, 1, 4), int)}, r"predictions .* \(1, 1, 4\)"),
        ({"predictions": [[0, 1, 0, 1], [0, 1, 0, -1]]}, r"predictions .* -1"),
    ],
)
def test_malformed_arguments_of_an_interval_are_refused(changed, message):
    arguments = {
        "labels": [0, 1, 0, 1],
        "predictions": [0, 1, 1, 1],
        "speakers": list("abcd"),
        "statistic": WA,
        "seed": 0,
    }
    with pytest.raises(ValueError, match=message):
        significance.score_interval(**arguments | changed)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"a": 1.0, "b": 1.0}, {"a": 1.0, "c": 1.0}, r"same speakers.*\['b', 'c'\]"),
        ({}, {}, "same speakers, at least one"),
        ({"a": 1.0, "b": np.nan}, {"a": 1.0, "b": 1.0}, "finite .* NaN"),
    ],
)
def test_malformed_values_of_speakers_are_refused(first, second, message):
    for values_a, values_b in ((first, second), (second, first)):
        with pytest.raises(ValueError, match=message):
            significance.paired_difference(values_a, values_b)
