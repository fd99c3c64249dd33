import math

import numpy as np
import pytest
from scipy import optimize

from kerasemo.metrics import fusion
from kerasemo.metrics.fusion import Fusion, fit_fusion, fuse


def both(random, *, utterances=60, classes=5, visual=2.0, audio=1.0):
    """Labels, and two distributions for each that lean to it, the one more than the other."""
    labels = random.integers(0, classes, utterances)
    lean = np.eye(classes)[labels]
    powers = [strength * lean + random.normal(0, 1, lean.shape) for strength in (visual, audio)]
    return labels, *(np.exp(power) / np.exp(power).sum(axis=1, keepdims=True) for power in powers)


def loss_of(fused, labels):
    return -np.log(fused[np.arange(len(labels)), labels]).mean()


# The pool.


def test_pool_by_hand():
    """w = 1/2: v = (0.8, 0.2), a = (0.1, 0.9). Odds sqrt(4 x 1/9) = 2/3, so p = (0.4, 0.6); with T = 1/2 they are squared, 4/9: 4/13.

    w = 1/4: odds 4^(1/4) (1/9)^(3/4) = sqrt(2) / 27^(1/2) = 0.27217; p = 0.27217 / 1.27217.
    """
    visual, audio = [[0.8, 0.2]], [[0.1, 0.9]]
    np.testing.assert_allclose(fuse(Fusion(), visual, audio), [[0.4, 0.6]], rtol=1e-12)
    np.testing.assert_allclose(
        fuse(Fusion(temperature=0.5), visual, audio), [[4 / 13, 9 / 13]], rtol=1e-12
    )
    odds = math.sqrt(2 / 27)
    np.testing.assert_allclose(
        fuse(Fusion(0.25), visual, audio), [[odds / (1 + odds), 1 / (1 + odds)]], rtol=1e-12
    )


def test_pool_equals_the_formula_on_random_input():
    random = np.random.default_rng(3)
    _, visual, audio = both(random)
    for weight, temperature in random.uniform([0, 0.3], [1, 4], (5, 2)):
        powers = (visual**weight * audio ** (1 - weight)) ** (1 / temperature)
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(
            fuse(Fusion(weight, temperature), visual, audio), expected, rtol=1e-9
        )


def test_all_weight_on_one_gives_that_one():
    _, visual, audio = both(np.random.default_rng(4))
    np.testing.assert_allclose(fuse(Fusion(1.0), visual, audio), visual, rtol=1e-12)
    np.testing.assert_allclose(fuse(Fusion(0.0), visual, audio), audio, rtol=1e-12)
    np.testing.assert_allclose(fuse(Fusion(0.35), visual, visual), visual, rtol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("temperature", [0.25, 10.0])
def test_masked_classes_stay_exactly_zero(weight, temperature):
    found = fuse(Fusion(weight, temperature), [[0.5, 0.0, 0.5, 0.0]], [[0.9, 0.0, 0.1, 0.0]])
    assert (
        (found[:, [1, 3]] == 0).all()
        and (found[:, [0, 2]] > 0).all()
        and found.sum() == pytest.approx(1)
    )


def test_two_that_are_sure_of_different_things_have_a_pool():
    """Probabilities that float32 has no number for; the third class is masked."""
    found = fuse(Fusion(0.5), [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    np.testing.assert_allclose(found, [0.5, 0.5, 0], rtol=1e-12)
    assert fuse(Fusion(0.6), [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])[0] > 0.999
    assert fuse(Fusion(0.5, 0.25), [1.0, 0.0], [1.0, 0.0]).tolist() == [1, 0]


def test_any_leading_shape_is_kept():
    _, visual, audio = both(np.random.default_rng(6), utterances=6)
    flat = fuse(Fusion(0.3, 2.0), visual, audio)
    np.testing.assert_array_equal(
        fuse(Fusion(0.3, 2.0), visual.reshape(2, 3, 5), audio.reshape(2, 3, 5)),
        flat.reshape(2, 3, 5),
    )
    np.testing.assert_array_equal(fuse(Fusion(0.3, 2.0), visual[0], audio[0]), flat[0])


def test_the_order_of_classes_does_not_matter():
    random = np.random.default_rng(7)
    labels, visual, audio = both(random)
    order = random.permutation(5)
    np.testing.assert_allclose(
        fuse(Fusion(0.7), visual[:, order], audio[:, order]),
        fuse(Fusion(0.7), visual, audio)[:, order],
        rtol=1e-12,
    )
    found, again = (
        fit_fusion(visual, audio, labels),
        fit_fusion(visual[:, order], audio[:, order], np.argsort(order)[labels]),
    )
    assert again.visual_weight == found.visual_weight and again.temperature == pytest.approx(
        found.temperature, rel=1e-6
    )


# What is fitted.


@pytest.mark.parametrize(
    ("seed", "visual", "audio"),
    [(1, 2.0, 1.0), (2, 0.5, 2.5), (3, 1.5, 1.5), (4, 3.0, 0.0), (5, 0.2, 0.1)],
)
def test_fit_equals_a_search_from_several_starts(seed, visual, audio):
    """Over weight and temperature at once, without a grid: the weight is at most one step off, the loss next to nothing."""
    labels, visual, audio = both(np.random.default_rng(seed), visual=visual, audio=audio)
    found = fit_fusion(visual, audio, labels)

    def loss(values):
        return loss_of(fuse(Fusion(values[0], math.exp(values[1])), visual, audio), labels)

    bounds = [(0, 1), tuple(map(math.log, fusion.TEMPERATURES))]
    searches = [
        optimize.minimize(loss, start, bounds=bounds)
        for start in ((0.5, 0.0), (0.05, 1.0), (0.95, -1.0))
    ]
    best = min(searches, key=lambda search: search.fun)
    assert abs(found.visual_weight - best.x[0]) <= 0.05 + 1e-3
    reached = loss((found.visual_weight, math.log(found.temperature)))
    assert best.fun - 1e-6 <= reached <= best.fun + 2e-3
    assert found.utterances == 60
    alone = min(loss_of(visual, labels), loss_of(audio, labels), loss((0.5, 0.0)))
    assert reached <= alone + 1e-9


def test_fit_leans_to_the_domain_that_knows_more():
    labels, visual, audio = both(np.random.default_rng(8), utterances=400, visual=3.0, audio=0.5)
    assert fit_fusion(visual, audio, labels).visual_weight > 0.7
    assert fit_fusion(audio, visual, labels).visual_weight == pytest.approx(
        1 - fit_fusion(visual, audio, labels).visual_weight
    )


def test_fit_undoes_a_temperature():
    """Labels drawn from the pool of (w, T) = (0.6, 2.0) itself: found again, as far as 20 000 utterances tell."""
    random = np.random.default_rng(9)
    _, visual, audio = both(random, utterances=20_000)
    honest = fuse(Fusion(0.6, 2.0), visual, audio)
    labels = (random.random((len(honest), 1)) > honest.cumsum(axis=1)).sum(axis=1)
    found = fit_fusion(visual, audio, labels)
    assert found.visual_weight == pytest.approx(
        0.6, abs=0.051
    ) and found.temperature == pytest.approx(2, rel=0.1)


def test_utterances_that_are_all_right_do_not_make_it_certain():
    visual = audio = np.full((3, 3), 0.2) + 0.4 * np.eye(3)
    found = fit_fusion(visual, audio, [0, 1, 2])
    assert found.visual_weight == 0.5 and found.temperature == pytest.approx(
        fusion.TEMPERATURES[0], rel=1e-3
    )
    assert fuse(found, visual, audio).max() < 0.99


def test_utterances_that_are_all_wrong_make_it_modest():
    visual = audio = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    assert fit_fusion(visual, audio, [1, 2, 0]).temperature == pytest.approx(
        fusion.TEMPERATURES[1], rel=1e-3
    )


def test_one_utterance_is_enough():
    found = fit_fusion([[0.6, 0.4]], [[0.3, 0.7]], [1])
    assert found.visual_weight == 0 and found.utterances == 1


def test_neither_the_order_of_utterances_nor_a_masked_class_matters():
    random = np.random.default_rng(10)
    labels, visual, audio = both(random)
    found, order = fit_fusion(visual, audio, labels), random.permutation(60)
    again = fit_fusion(visual[order], audio[order], labels[order])
    assert again.visual_weight == found.visual_weight and again.temperature == pytest.approx(
        found.temperature, rel=1e-6
    )
    assert fit_fusion(visual, audio, labels) == found
    wider = (np.insert(values, 2, 0.0, axis=1) for values in (visual, audio))
    assert fit_fusion(*wider, labels + (labels >= 2)) == found


# What is malformed.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"visual_weight": 1.2}, r"visual_weight must be in \[0, 1\]; received 1.2"),
        ({"visual_weight": math.nan}, "visual_weight must be in"),
        ({"temperature": 0.0}, "temperature must be a number above 0; received 0.0"),
        ({"temperature": math.inf}, "temperature must be a number above 0; received inf"),
        ({"utterances": -1}, "utterances must be 0 or more; received -1"),
    ],
)
def test_a_fusion_that_is_none(values, expected):
    with pytest.raises(ValueError, match=expected):
        Fusion(**values)


@pytest.mark.parametrize(
    ("visual", "audio", "expected"),
    [
        (
            [[0.5, 0.5]],
            [[0.2, 0.3, 0.5]],
            r"one shape .*not be empty; received \(1, 2\) and \(1, 3\)",
        ),
        ([], [], "not be empty"),
        (1.0, 1.0, "not be empty"),
        ([0.5, 0.7], [0.5, 0.5], "each row a sum of 1"),
        ([0.5, 0.5], [np.nan, 0.5], "received NaN"),
        ([1.5, -0.5], [0.5, 0.5], "received values from -0.5"),
    ],
)
def test_distributions_that_are_none(visual, audio, expected):
    with pytest.raises(ValueError, match=expected):
        fuse(Fusion(), visual, audio)


def test_utterances_that_cannot_be_fitted_on():
    half = [[0.5, 0.5, 0.0]] * 2
    with pytest.raises(
        ValueError, match="received 1 to which both domains give 0; leave these utterances out"
    ):
        fit_fusion(half, half, [0, 2])
    with pytest.raises(ValueError, match="predictions must be as many as labels, 1; received 2"):
        fit_fusion(half, half, [0])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 3\); received 3"):
        fit_fusion(half, half, [0, 3])
    with pytest.raises(
        ValueError, match=r"visual must be \[utterances, classes\]; received shape \(3,\)"
    ):
        fit_fusion(half[0], half[0], [0])
