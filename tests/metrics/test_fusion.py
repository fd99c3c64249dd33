import math

import numpy as np
import pytest
from scipy import optimize

from kerasemo.metrics import fusion
from kerasemo.metrics.fusion import Fusion, fit_fusion, fuse


def labels_and_distributions(random, *, utterances=60, classes=5, visual=2.0, audio=1.0):
    """Return labels, and for each domain distributions that favour the label by its strength."""
    labels = random.integers(0, classes, utterances)
    of_label = np.eye(classes)[labels]
    logits = [
        strength * of_label + random.normal(0, 1, of_label.shape) for strength in (visual, audio)
    ]
    return labels, *(
        np.exp(values) / np.exp(values).sum(axis=1, keepdims=True) for values in logits
    )


def mean_loss(fused, labels):
    return -np.log(fused[np.arange(len(labels)), labels]).mean()


# The pool.


def test_pool_equals_a_calculation_by_hand():
    """v = (0.8, 0.2), a = (0.1, 0.9). With w = 1/2 the odds are sqrt(4 x 1/9) = 2/3: p = (0.4, 0.6).

    With T = 1/2 the odds are squared, 4/9: p = 4/13. With w = 1/4 the odds are
    4^(1/4) (1/9)^(3/4) = sqrt(2) / 27^(1/2) = 0.27217: p = 0.27217 / 1.27217.
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


def test_pool_equals_its_formula_on_random_input():
    random = np.random.default_rng(3)
    _, visual, audio = labels_and_distributions(random)
    for weight, temperature in random.uniform([0, 0.3], [1, 4], (5, 2)):
        powers = (visual**weight * audio ** (1 - weight)) ** (1 / temperature)
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(
            fuse(Fusion(weight, temperature), visual, audio), expected, rtol=1e-9
        )


def test_a_weight_of_1_returns_the_distribution_of_that_domain():
    _, visual, audio = labels_and_distributions(np.random.default_rng(4))
    np.testing.assert_allclose(fuse(Fusion(1.0), visual, audio), visual, rtol=1e-12)
    np.testing.assert_allclose(fuse(Fusion(0.0), visual, audio), audio, rtol=1e-12)
    np.testing.assert_allclose(fuse(Fusion(0.35), visual, visual), visual, rtol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("temperature", [0.25, 10.0])
def test_masked_classes_stay_exactly_zero(weight, temperature):
    fused = fuse(Fusion(weight, temperature), [[0.5, 0.0, 0.5, 0.0]], [[0.9, 0.0, 0.1, 0.0]])
    assert (fused[:, [1, 3]] == 0).all()
    assert (fused[:, [0, 2]] > 0).all()
    assert fused.sum() == pytest.approx(1)


def test_certain_and_different_predictions_have_a_pool():
    """A probability of 0 of one domain has no veto; the third class is masked."""
    fused = fuse(Fusion(0.5), [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    np.testing.assert_allclose(fused, [0.5, 0.5, 0], rtol=1e-12)
    assert fuse(Fusion(0.6), [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])[0] > 0.999
    assert fuse(Fusion(0.5, 0.25), [1.0, 0.0], [1.0, 0.0]).tolist() == [1, 0]


def test_fuse_keeps_any_leading_shape():
    _, visual, audio = labels_and_distributions(np.random.default_rng(6), utterances=6)
    fused = fuse(Fusion(0.3, 2.0), visual, audio)
    np.testing.assert_array_equal(
        fuse(Fusion(0.3, 2.0), visual.reshape(2, 3, 5), audio.reshape(2, 3, 5)),
        fused.reshape(2, 3, 5),
    )
    np.testing.assert_array_equal(fuse(Fusion(0.3, 2.0), visual[0], audio[0]), fused[0])


def test_pool_and_fit_do_not_depend_on_the_order_of_classes():
    random = np.random.default_rng(7)
    labels, visual, audio = labels_and_distributions(random)
    order = random.permutation(5)
    np.testing.assert_allclose(
        fuse(Fusion(0.7), visual[:, order], audio[:, order]),
        fuse(Fusion(0.7), visual, audio)[:, order],
        rtol=1e-12,
    )
    fitted = fit_fusion(visual, audio, labels)
    reordered = fit_fusion(visual[:, order], audio[:, order], np.argsort(order)[labels])
    assert reordered.visual_weight == fitted.visual_weight
    assert reordered.temperature == pytest.approx(fitted.temperature, rel=1e-6)


# The fit.


@pytest.mark.parametrize(
    ("seed", "visual", "audio"),
    [(1, 2.0, 1.0), (2, 0.5, 2.5), (3, 1.5, 1.5), (4, 3.0, 0.0), (5, 0.2, 0.1)],
)
def test_fit_equals_a_search_from_several_starts(seed, visual, audio):
    """The search is over weight and temperature at once, without a grid of weights."""
    labels, visual, audio = labels_and_distributions(
        np.random.default_rng(seed), visual=visual, audio=audio
    )
    fitted = fit_fusion(visual, audio, labels)

    def loss(values):
        return mean_loss(fuse(Fusion(values[0], math.exp(values[1])), visual, audio), labels)

    bounds = [(0, 1), tuple(map(math.log, fusion.TEMPERATURES))]
    searches = [
        optimize.minimize(loss, start, bounds=bounds)
        for start in ((0.5, 0.0), (0.05, 1.0), (0.95, -1.0))
    ]
    best = min(searches, key=lambda search: search.fun)
    assert abs(fitted.visual_weight - best.x[0]) <= 0.05 + 1e-3
    reached = loss((fitted.visual_weight, math.log(fitted.temperature)))
    assert best.fun - 1e-6 <= reached <= best.fun + 2e-3
    assert fitted.utterances == 60
    unfitted = min(mean_loss(visual, labels), mean_loss(audio, labels), loss((0.5, 0.0)))
    assert reached <= unfitted + 1e-9


def test_fit_gives_the_better_domain_the_larger_weight():
    labels, visual, audio = labels_and_distributions(
        np.random.default_rng(8), utterances=400, visual=3.0, audio=0.5
    )
    assert fit_fusion(visual, audio, labels).visual_weight > 0.7
    assert fit_fusion(audio, visual, labels).visual_weight == pytest.approx(
        1 - fit_fusion(visual, audio, labels).visual_weight
    )


def test_fit_recovers_the_weight_and_temperature_that_the_labels_were_drawn_with():
    """The labels of 20 000 utterances are drawn from the pool with w = 0.6 and T = 2."""
    random = np.random.default_rng(9)
    _, visual, audio = labels_and_distributions(random, utterances=20_000)
    pooled = fuse(Fusion(0.6, 2.0), visual, audio)
    labels = (random.random((len(pooled), 1)) > pooled.cumsum(axis=1)).sum(axis=1)
    fitted = fit_fusion(visual, audio, labels)
    assert fitted.visual_weight == pytest.approx(0.6, abs=0.051)
    assert fitted.temperature == pytest.approx(2, rel=0.1)


def test_fit_to_correct_predictions_stops_at_the_lowest_temperature():
    visual = audio = np.full((3, 3), 0.2) + 0.4 * np.eye(3)
    fitted = fit_fusion(visual, audio, [0, 1, 2])
    assert fitted.visual_weight == 0.5
    assert fitted.temperature == pytest.approx(fusion.TEMPERATURES[0], rel=1e-3)
    assert fuse(fitted, visual, audio).max() < 0.99


def test_fit_to_wrong_predictions_stops_at_the_highest_temperature():
    visual = audio = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    assert fit_fusion(visual, audio, [1, 2, 0]).temperature == pytest.approx(
        fusion.TEMPERATURES[1], rel=1e-3
    )


def test_fit_to_one_utterance():
    fitted = fit_fusion([[0.6, 0.4]], [[0.3, 0.7]], [1])
    assert fitted.visual_weight == 0 and fitted.utterances == 1


def test_fit_depends_neither_on_the_order_of_utterances_nor_on_a_masked_class():
    random = np.random.default_rng(10)
    labels, visual, audio = labels_and_distributions(random)
    fitted, order = fit_fusion(visual, audio, labels), random.permutation(60)
    reordered = fit_fusion(visual[order], audio[order], labels[order])
    assert reordered.visual_weight == fitted.visual_weight
    assert reordered.temperature == pytest.approx(fitted.temperature, rel=1e-6)
    assert fit_fusion(visual, audio, labels) == fitted
    with_masked_class = (np.insert(values, 2, 0.0, axis=1) for values in (visual, audio))
    assert fit_fusion(*with_masked_class, labels + (labels >= 2)) == fitted


# Malformed arguments.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"visual_weight": 1.2}, r"visual_weight .* 1.2"),
        ({"visual_weight": math.nan}, "visual_weight .* nan"),
        ({"temperature": 0.0}, "temperature .* 0.0"),
        ({"temperature": math.inf}, "temperature .* inf"),
        ({"utterances": -1}, "utterances .* -1"),
    ],
)
def test_invalid_fusions_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Fusion(**values)


@pytest.mark.parametrize(
    ("visual", "audio", "message"),
    [
        (
            [[0.5, 0.5]],
            [[0.2, 0.3, 0.5]],
            r"one shape .* \(1, 2\) and \(1, 3\)",
        ),
        ([], [], "not be empty"),
        (1.0, 1.0, "not be empty"),
        ([0.5, 0.7], [0.5, 0.5], "sum of 1"),
        ([0.5, 0.5], [np.nan, 0.5], "NaN"),
        ([1.5, -0.5], [0.5, 0.5], "values from -0.5"),
    ],
)
def test_malformed_distributions_are_refused(visual, audio, message):
    with pytest.raises(ValueError, match=message):
        fuse(Fusion(), visual, audio)


HALF = [[0.5, 0.5, 0.0]] * 2


@pytest.mark.parametrize(
    ("distributions", "labels", "message"),
    [
        (HALF, [0, 2], "labels .* received 1 .*leave"),
        (HALF, [0], "predictions .* 1; received 2"),
        (HALF, [0, 3], r"labels .*\[0, 3\); received 3"),
        (HALF[0], [0], r"visual .*\[utterances, classes\].* \(3,\)"),
    ],
)
def test_utterances_that_cannot_be_fitted_are_refused(distributions, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_fusion(distributions, distributions, labels)
