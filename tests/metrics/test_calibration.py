import numpy as np
import pytest

from kerasemo.metrics.calibration import calibration_error


def two_class_clips(confidences, is_correct):
    """Return labels, 0 and 1 in turn, and the distribution of each clip's prediction."""
    labels = np.arange(len(confidences)) % 2
    predictions = np.where(is_correct, labels, 1 - labels)
    probabilities = np.empty((len(labels), 2))
    clips = np.arange(len(labels))
    probabilities[clips, predictions] = confidences
    probabilities[clips, 1 - predictions] = 1 - np.array(confidences)
    return labels, probabilities


def test_error_of_certain_and_of_uniform_predictions():
    """Certain and correct: 0. Certain and wrong: 1. Uniform over 4 classes, 1/4 correct: 0."""
    assert calibration_error([0, 1, 1], np.eye(2)[[0, 1, 1]]) == 0
    assert calibration_error([0, 1, 1], np.eye(2)[[1, 0, 0]]) == 1
    assert calibration_error([0, 1, 2, 3], np.full((4, 4), 0.25)) == 0
    assert calibration_error([0], [[1.0]], bins=1) == 0


def test_error_equals_a_calculation_by_hand():
    """The third of 5 bins, (0.4, 0.6], holds 0.55 (correct) and 0.6 (wrong, on the edge).

    Its error is |1/2 - 0.575| = 0.075. The fourth bin, (0.6, 0.8], holds 0.7 (wrong) and 0.8
    (correct): |1/2 - 0.75| = 0.25. The last bin holds 0.9 (correct): 0.1.
    ECE = (2 x 0.075 + 2 x 0.25 + 0.1) / 5 = 0.15.

    If an edge belonged to the bin above it, 0.6 would share a bin with 0.7, and 0.8 with 0.9:
    (0.45 + 2 x 0.65 + 2 x 0.15) / 5 = 0.41.
    """
    labels, probabilities = two_class_clips(
        [0.55, 0.6, 0.7, 0.8, 0.9], [True, False, False, True, True]
    )
    assert calibration_error(labels, probabilities, bins=5) == pytest.approx(0.15, abs=1e-12)


def test_errors_of_opposite_sign_cancel_within_a_bin():
    """One bin: two of three correct, mean confidence (0.6 + 0.7 + 0.7) / 3: 0.

    With 15 bins 0.6 (correct) has its own bin: (0.4 + |1 - 1.4|) / 3.
    """
    labels, probabilities = two_class_clips([0.6, 0.7, 0.7], [True, True, False])
    assert calibration_error(labels, probabilities, bins=1) == pytest.approx(0, abs=1e-12)
    assert calibration_error(labels, probabilities) == pytest.approx(0.8 / 3, abs=1e-12)


def error_by_definition(labels, probabilities, bins):
    """Return the error of the definition, added up bin by bin."""
    predictions, error = probabilities.argmax(axis=1), 0.0
    confidence = probabilities[np.arange(len(labels)), predictions]
    for bin_number in range(1, bins + 1):
        inside = (confidence > (bin_number - 1) / bins) & (confidence <= bin_number / bins)
        if inside.any():
            error += inside.mean() * abs(
                np.mean(predictions[inside] == labels[inside]) - confidence[inside].mean()
            )
    return error


@pytest.mark.parametrize("bins", [1, 7, 15, 100])
def test_error_equals_the_definition_on_random_input(bins):
    random = np.random.default_rng(bins)
    probabilities = random.dirichlet([0.3, 0.7, 0.2, 0.5], size=500)
    labels = np.where(
        random.random(500) < 0.6, probabilities.argmax(axis=1), random.integers(0, 3, 500)
    )
    expected = error_by_definition(labels, probabilities, bins)
    assert expected > 0.003
    assert calibration_error(labels, probabilities, bins=bins) == pytest.approx(expected, rel=1e-12)


def test_overconfident_predictions_have_a_larger_error_than_calibrated_predictions():
    """Labels are drawn from the distributions; p^3 makes the predictions overconfident."""
    random = np.random.default_rng(5)
    probabilities = random.dirichlet([1.0, 2.0, 0.5], size=20_000)
    labels = (random.random((20_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
    overconfident = probabilities**3 / np.sum(probabilities**3, axis=1, keepdims=True)
    assert calibration_error(labels, probabilities) < 0.015
    assert calibration_error(labels, overconfident) > 0.1


def test_error_depends_neither_on_the_order_of_clips_nor_of_classes():
    random = np.random.default_rng(2)
    probabilities, labels = random.dirichlet([0.5] * 5, size=80), random.integers(0, 5, 80)
    expected = calibration_error(labels, probabilities)
    clip_order, class_order = random.permutation(80), random.permutation(5)
    assert calibration_error(labels[clip_order], probabilities[clip_order]) == pytest.approx(
        expected, rel=1e-12
    )
    assert calibration_error(
        np.argsort(class_order)[labels], probabilities[:, class_order]
    ) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "probabilities", "options", "message"),
    [
        ([0], [[1.0, 0.0]], {"bins": 0}, "bins .* received 0"),
        ([0, 1], [[1.0, 0.0]], {}, "predictions .* 2; received 1"),
        ([2], [[1.0, 0.0]], {}, r"labels .*\[0, 2\); received 2"),
        ([0.5], [[1.0, 0.0]], {}, "labels .* integers"),
        ([0], [[0.7, 0.7]], {}, "sum of 1"),
        ([0], [[np.nan, 1.0]], {}, "received NaN"),
        ([], np.empty((0, 2)), {}, "at least one item"),
    ],
)
def test_malformed_arguments_are_refused(labels, probabilities, options, message):
    with pytest.raises(ValueError, match=message):
        calibration_error(labels, probabilities, **options)
