import json

import numpy as np
import pytest
import sklearn.metrics

from kerasemo.metrics import classification

LABELS = [0, 0, 0, 0, 1, 1, 3, 3]
PREDICTIONS = [0, 0, 0, 1, 1, 2, 3, 0]
SCORES = (
    classification.unweighted_average_recall,
    classification.accuracy,
    classification.macro_f1,
)


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def asymmetric_predictions(random, *, clips=400, n_classes=7):
    """Return labels of unequal classes and predictions that lean to one side.

    Class 2 has no clip and is predicted; class 5 has clips and is never predicted.
    """
    labels = random.choice(n_classes, size=clips, p=[0.3, 0.25, 0.0, 0.2, 0.15, 0.06, 0.04])
    predictions = np.where(
        random.random(clips) < 0.6, labels, (labels + random.integers(1, 3, clips)) % n_classes
    )
    return labels, np.where(predictions == 5, 2, predictions)


def test_scores_equal_a_calculation_by_hand():
    """Recall and F1 by class.

    Class 0: 4 clips, 3 correct, 4 predictions: recall 3/4, F1 = 6/8.
    Class 1: 2 clips, 1 correct, 2 predictions: recall 1/2, F1 = 2/4.
    Class 2: no clip and one wrong prediction: not part of the means.
    Class 3: 2 clips, 1 correct, 1 prediction: recall 1/2, F1 = 2/3.
    UA = (3/4 + 1/2 + 1/2) / 3 = 7/12; WA = 5/8; macro-F1 = (3/4 + 1/2 + 2/3) / 3 = 23/36.
    """
    confusion = classification.confusion_matrix(LABELS, PREDICTIONS, n_classes=4)
    assert confusion.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    np.testing.assert_allclose(
        classification.recalls(LABELS, PREDICTIONS, n_classes=4), [3 / 4, 1 / 2, np.nan, 1 / 2]
    )
    expected = (7 / 12, 5 / 8, 23 / 36)
    np.testing.assert_allclose(
        [score(LABELS, PREDICTIONS, n_classes=4) for score in SCORES], expected, rtol=1e-15
    )


@pytest.mark.parametrize("score", SCORES)
def test_all_correct_scores_1_and_all_wrong_scores_0(score):
    assert score([0, 1, 1], [0, 1, 1], n_classes=5) == 1
    assert score([0, 1, 1], [1, 0, 0], n_classes=5) == 0


def test_scores_equal_those_of_sklearn(random):
    labels, predictions = asymmetric_predictions(random)
    present = np.unique(labels)
    assert 2 not in present and 5 not in predictions and 5 in present
    confusion = classification.confusion_matrix(labels, predictions, n_classes=7)
    assert not np.array_equal(confusion, confusion.T)
    np.testing.assert_array_equal(
        confusion, sklearn.metrics.confusion_matrix(labels, predictions, labels=range(7))
    )
    sklearn_scores = (
        sklearn.metrics.recall_score(labels, predictions, average="macro", labels=present),
        sklearn.metrics.accuracy_score(labels, predictions),
        sklearn.metrics.f1_score(
            labels, predictions, average="macro", labels=present, zero_division=0
        ),
    )
    np.testing.assert_allclose(
        [score(labels, predictions, n_classes=7) for score in SCORES], sklearn_scores, rtol=1e-12
    )


@pytest.mark.parametrize("score", SCORES)
def test_scores_depend_neither_on_the_order_of_clips_nor_of_classes(score, random):
    labels, predictions = asymmetric_predictions(random)
    expected = score(labels, predictions, n_classes=7)
    clip_order, class_order = random.permutation(len(labels)), random.permutation(7)
    reordered = score(labels[clip_order], predictions[clip_order], n_classes=7)
    assert reordered == pytest.approx(expected, rel=1e-12)
    renumbered = score(class_order[labels], class_order[predictions], n_classes=7)
    assert renumbered == pytest.approx(expected, rel=1e-12)
    assert score(labels, predictions, n_classes=12) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "predictions", "n_classes", "message"),
    [
        ([], [], 2, r"labels .* at least one clip.* \(0,\)"),
        ([[0]], [0], 2, r"labels .*clips.* \(1, 1\)"),
        ([0, 1], [0], 2, "predictions .* 2; received 1"),
        ([0, 2], [0, 1], 2, r"labels .*\[0, 2\); received 2"),
        ([0, 1], [0, -1], 2, r"predictions .*\[0, 2\); received -1"),
        ([0.0, np.nan], [0, 1], 2, "labels .* integers.* float64"),
        ([True, False], [0, 1], 2, "labels .* integers.* bool"),
        ([0], [0], 0, "n_classes .* received 0"),
    ],
)
def test_malformed_labels_are_refused(labels, predictions, n_classes, message):
    for function in (classification.validate, classification.recalls, *SCORES):
        with pytest.raises(ValueError, match=message):
            function(labels, predictions, n_classes=n_classes)


def test_mean_probabilities_equal_a_calculation_by_hand():
    """Clip 0 has items 1 and 3: ([0.2, 0.8] + [0.6, 0.4]) / 2; clip 1 has item 2; clip 2 has item 0."""
    means = classification.mean_probabilities(
        [[1, 0], [0.2, 0.8], [0.5, 0.5], [0.6, 0.4]], [2, 0, 1, 0]
    )
    np.testing.assert_allclose(means, [[0.4, 0.6], [0.5, 0.5], [1, 0]])


def test_mean_probabilities_equal_a_loop_in_any_order(random):
    clip_of = np.concatenate([np.arange(9), random.integers(9, size=60)])
    probabilities = random.dirichlet(np.ones(5), size=len(clip_of)).astype(np.float32)
    expected = [probabilities[clip_of == clip].astype(np.float64).mean(axis=0) for clip in range(9)]
    np.testing.assert_allclose(
        classification.mean_probabilities(probabilities, clip_of), expected, rtol=1e-12
    )
    order = random.permutation(len(clip_of))
    np.testing.assert_allclose(
        classification.mean_probabilities(probabilities[order], clip_of[order]),
        expected,
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("probabilities", "clip_of", "message"),
    [
        (
            np.zeros((0, 3)),
            [],
            r"probabilities .*\[items, classes\].* \(0, 3\)",
        ),
        ([0.5, 0.5], [0, 0], r"probabilities .*\[items, classes\].* \(2,\)"),
        ([[0.5, np.nan]], [0], "probabilities .* finite"),
        ([[2.0, -1.0]], [0], "probabilities .* values from -1 "),
        ([[0.7, 0.7]], [0], "probabilities .* sums from 1.4 to 1.4"),
        ([[0.5, 0.5]], [0, 1], r"clip_of .* 1 items.* \(2,\)"),
        ([[0.5, 0.5]], [0.0], "clip_of .* integer .* float64"),
        ([[0.5, 0.5]], [-1], "clip_of .* received -1"),
        (
            [[0.5, 0.5]] * 2,
            [0, 2],
            r"clip_of .*\[0, 3\).* clip 1",
        ),
    ],
)
def test_malformed_items_are_refused(probabilities, clip_of, message):
    with pytest.raises(ValueError, match=message):
        classification.mean_probabilities(probabilities, clip_of)


def test_masked_softmax_equals_a_calculation_by_hand():
    """The mask allows ln 1 and ln 3 of three logits: 1/4 and 3/4. A constant of 1e6 cancels."""
    logits = np.log([1.0, 3.0, 6.0])
    for shift in (0.0, 1e6, -1e6):
        np.testing.assert_allclose(
            classification.masked_softmax(logits + shift, [True, True, False]),
            [1 / 4, 3 / 4, 0],
            rtol=1e-9,
        )
    assert classification.masked_softmax([0.0, np.nan, -np.inf], [True, False, False]).tolist() == [
        1,
        0,
        0,
    ]


def test_masked_softmax_is_the_softmax_over_the_allowed_classes(random):
    logits, mask = random.normal(size=(4, 6, 10)) * 50, np.arange(10) % 3 > 0
    powers = np.exp(logits[..., mask])
    softmax = classification.masked_softmax(logits, mask)
    assert not softmax[..., ~mask].any()
    np.testing.assert_allclose(
        softmax[..., mask], powers / powers.sum(axis=-1, keepdims=True), rtol=1e-12
    )
    np.testing.assert_array_equal(
        classification.masked_softmax(logits, np.broadcast_to(mask, (6, 10))), softmax
    )


@pytest.mark.parametrize(
    ("logits", "mask", "message"),
    [
        ([[0.0, 1.0]], [1, 0], "mask .* bool.* int64"),
        ([[0.0, 1.0]], [True], r"mask .* \(1, 2\).* \(1,\)"),
        ([0.0, 1.0], [[True, True]], r"received shape \(1, 2\)"),
        (np.zeros((0, 2)), [True, True], r"shape \(0, 2\)"),
        ([[0.0, 1.0]], [False, False], "mask .* at least one class"),
        ([[0.0, np.nan]], [True, True], "logits .* finite"),
    ],
)
def test_malformed_logits_are_refused(logits, mask, message):
    with pytest.raises(ValueError, match=message):
        classification.masked_softmax(logits, mask)


def test_classification_scores_are_json():
    probabilities = np.eye(4, dtype=np.float32)[PREDICTIONS]
    scores = classification.classification_scores(
        np.array(LABELS), probabilities, emotions=("anger", "fear", "calm", "sadness")
    )
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert list(scores) == ["clips", "ua", "wa", "macro_f1", "chance", "confusion", "emotions"]
    assert scores["clips"] == 8 and scores["chance"] == 0.25
    assert scores["ua"] == pytest.approx(7 / 12)
    assert scores["wa"] == 5 / 8
    assert scores["macro_f1"] == pytest.approx(23 / 36)
    assert scores["confusion"] == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    assert scores["emotions"] == ["anger", "fear", "calm", "sadness"]
    assert {type(scores[name]) for name in ("ua", "wa", "macro_f1", "chance")} == {float}


def test_a_class_that_is_never_allowed_has_recall_0():
    """Two classes are predicted correctly, the third is masked: UA = (1 + 1 + 0) / 3."""
    probabilities = classification.masked_softmax(10 * np.eye(3), [True, True, False])
    scores = classification.classification_scores([0, 1, 2], probabilities, emotions="abc")
    assert scores["ua"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (
            [0],
            [[0.5, 0.5]],
            r"probabilities .* 3 emotions.* \(1, 2\)",
        ),
        ([0, 1], [[1.0, 0.0, 0.0]], "predictions .* 2; received 1"),
        ([0], [[1.0, 2.0, 3.0]], "probabilities .* softmax"),
    ],
)
def test_malformed_probabilities_are_refused(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification.classification_scores(
            labels, probabilities, emotions=("anger", "fear", "calm")
        )
