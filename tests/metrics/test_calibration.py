import numpy as np
import pytest

from kerasemo.metrics.calibration import calibration_error


def of_two(confidences, right):
    """Clips of class 0 and 1 in turn, with each answer's confidence and whether it is right."""
    labels = np.arange(len(confidences)) % 2
    answers = np.where(right, labels, 1 - labels)
    probabilities = np.empty((len(labels), 2))
    clips = np.arange(len(labels))
    probabilities[clips, answers], probabilities[clips, 1 - answers] = (
        confidences,
        1 - np.array(confidences),
    )
    return labels, probabilities


def test_degenerate():
    """Sure and right: 0. Sure and wrong: 1. Uniform over 4 classes, a quarter of them of the class that is answered: 0."""
    assert calibration_error([0, 1, 1], np.eye(2)[[0, 1, 1]]) == 0
    assert calibration_error([0, 1, 1], np.eye(2)[[1, 0, 0]]) == 1
    assert calibration_error([0, 1, 2, 3], np.full((4, 4), 0.25)) == 0
    assert calibration_error([0], [[1.0]], bins=1) == 0


def test_by_hand():
    """Of 5 bins the third, (0.4, 0.6], holds 0.55 (right) and 0.6 (wrong, and on the edge): |1/2 - 0.575| = 0.075. The fourth, (0.6, 0.8],
    holds 0.7 (wrong) and 0.8 (right): |1/2 - 0.75| = 0.25. The last one 0.9 (right): 0.1. ECE = (2 x 0.075 + 2 x 0.25 + 0.1) / 5 = 0.15.

    Were an edge part of the bin above it, 0.6 would be with 0.7, and 0.8 with 0.9: (0.45 + 2 x 0.65 + 2 x 0.15) / 5 = 0.41.
    """
    labels, probabilities = of_two([0.55, 0.6, 0.7, 0.8, 0.9], [True, False, False, True, True])
    assert calibration_error(labels, probabilities, bins=5) == pytest.approx(0.15, abs=1e-12)


def test_within_a_bin_too_sure_and_not_sure_enough_make_up_for_one_another():
    """One bin: two of three right, confidence (0.6 + 0.7 + 0.7) / 3: 0. In 15 bins 0.6 (right) is apart: (0.4 + |1 - 1.4|) / 3."""
    labels, probabilities = of_two([0.6, 0.7, 0.7], [True, True, False])
    assert calibration_error(labels, probabilities, bins=1) == pytest.approx(0, abs=1e-12)
    assert calibration_error(labels, probabilities) == pytest.approx(0.8 / 3, abs=1e-12)


def oracle(labels, probabilities, bins):
    """The definition, bin by bin."""
    answers, total = probabilities.argmax(axis=1), 0.0
    confidence = probabilities[np.arange(len(labels)), answers]
    for number in range(1, bins + 1):
        inside = (confidence > (number - 1) / bins) & (confidence <= number / bins)
        if inside.any():
            total += inside.mean() * abs(
                np.mean(answers[inside] == labels[inside]) - confidence[inside].mean()
            )
    return total


@pytest.mark.parametrize("bins", [1, 7, 15, 100])
def test_equals_the_definition_on_random_input(bins):
    random = np.random.default_rng(bins)
    probabilities = random.dirichlet([0.3, 0.7, 0.2, 0.5], size=500)
    labels = np.where(
        random.random(500) < 0.6, probabilities.argmax(axis=1), random.integers(0, 3, 500)
    )
    expected = oracle(labels, probabilities, bins)
    assert expected > 0.003
    assert calibration_error(labels, probabilities, bins=bins) == pytest.approx(expected, rel=1e-12)


def test_honest_confidences_have_a_small_error_and_flattered_ones_a_large_one():
    """Labels drawn from the distributions themselves; then as if the network were surer, p^3."""
    random = np.random.default_rng(5)
    probabilities = random.dirichlet([1.0, 2.0, 0.5], size=20_000)
    labels = (random.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    surer = probabilities**3 / np.sum(probabilities**3, axis=1, keepdims=True)
    assert calibration_error(labels, probabilities) < 0.015
    assert calibration_error(labels, surer) > 0.1


def test_neither_the_order_of_clips_nor_that_of_classes_matters():
    random = np.random.default_rng(2)
    probabilities, labels = random.dirichlet([0.5] * 5, size=80), random.integers(0, 5, 80)
    expected = calibration_error(labels, probabilities)
    order, classes = random.permutation(80), random.permutation(5)
    assert calibration_error(labels[order], probabilities[order]) == pytest.approx(
        expected, rel=1e-12
    )
    assert calibration_error(
        np.argsort(classes)[labels], probabilities[:, classes]
    ) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "probabilities", "options", "expected"),
    [
        ([0], [[1.0, 0.0]], {"bins": 0}, "bins must be at least 1; received 0"),
        ([0, 1], [[1.0, 0.0]], {}, "predictions must be as many as labels, 2; received 1"),
        ([2], [[1.0, 0.0]], {}, r"labels must lie in \[0, 2\); received 2"),
        ([0.5], [[1.0, 0.0]], {}, "labels must be integers"),
        ([0], [[0.7, 0.7]], {}, "each row a sum of 1"),
        ([0], [[np.nan, 1.0]], {}, "received NaN"),
        ([], np.empty((0, 2)), {}, "at least one item"),
    ],
)
def test_malformed(labels, probabilities, options, expected):
    with pytest.raises(ValueError, match=expected):
        calibration_error(labels, probabilities, **options)
