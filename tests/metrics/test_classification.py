import json

import numpy as np
import pytest
import sklearn.metrics

from kerasemo.metrics import classification, verification

LABELS = [0, 0, 0, 0, 1, 1, 3, 3]
ANSWERS = [0, 0, 0, 1, 1, 2, 3, 0]
SCORES = (
    classification.unweighted_average_recall,
    classification.accuracy,
    classification.macro_f1,
)


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def asymmetric(random, *, clips=400, n_classes=7):
    """Labels of unequal classes, and answers that lean to one side: class 2 never occurs and is answered, class 5 occurs and is not."""
    labels = random.choice(n_classes, size=clips, p=[0.3, 0.25, 0.0, 0.2, 0.15, 0.06, 0.04])
    answers = np.where(
        random.random(clips) < 0.6, labels, (labels + random.integers(1, 3, clips)) % n_classes
    )
    return labels, np.where(answers == 5, 2, answers)


def test_scores_by_hand():
    """Class 0: 4 clips, 3 right, 4 answers: recall 3/4, F1 = 6/8. Class 1: 2 clips, 1 right, 2 answers: 1/2, F1 = 2/4.

    Class 2 has no clip (one wrong answer): left out of the means. Class 3: 2 clips, 1 right, 1 answer: 1/2, F1 = 2/3.
    UA = (3/4 + 1/2 + 1/2) / 3 = 7/12; WA = 5/8; macro-F1 = (3/4 + 1/2 + 2/3) / 3 = 23/36.
    """
    confusion = classification.confusion_matrix(LABELS, ANSWERS, n_classes=4)
    assert confusion.tolist() == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    np.testing.assert_allclose(
        classification.recalls(LABELS, ANSWERS, n_classes=4), [3 / 4, 1 / 2, np.nan, 1 / 2]
    )
    expected = (7 / 12, 5 / 8, 23 / 36)
    np.testing.assert_allclose(
        [score(LABELS, ANSWERS, n_classes=4) for score in SCORES], expected, rtol=1e-15
    )


@pytest.mark.parametrize("score", SCORES)
def test_scores_of_perfect_and_hopeless_answers(score):
    assert score([0, 1, 1], [0, 1, 1], n_classes=5) == 1
    assert score([0, 1, 1], [1, 0, 0], n_classes=5) == 0


def test_scores_equal_sklearn(random):
    labels, answers = asymmetric(random)
    present = np.unique(labels)
    assert 2 not in present and 5 not in answers and 5 in present
    confusion = classification.confusion_matrix(labels, answers, n_classes=7)
    assert not np.array_equal(confusion, confusion.T)
    np.testing.assert_array_equal(
        confusion, sklearn.metrics.confusion_matrix(labels, answers, labels=range(7))
    )
    oracle = (
        sklearn.metrics.recall_score(labels, answers, average="macro", labels=present),
        sklearn.metrics.accuracy_score(labels, answers),
        sklearn.metrics.f1_score(labels, answers, average="macro", labels=present, zero_division=0),
    )
    np.testing.assert_allclose(
        [score(labels, answers, n_classes=7) for score in SCORES], oracle, rtol=1e-12
    )


@pytest.mark.parametrize("score", SCORES)
def test_scores_know_neither_the_order_of_clips_nor_of_classes(score, random):
    labels, answers = asymmetric(random)
    expected = score(labels, answers, n_classes=7)
    clips, classes = random.permutation(len(labels)), random.permutation(7)
    assert score(labels[clips], answers[clips], n_classes=7) == pytest.approx(expected, rel=1e-12)
    assert score(classes[labels], classes[answers], n_classes=7) == pytest.approx(
        expected, rel=1e-12
    )
    assert score(labels, answers, n_classes=12) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "answers", "n_classes", "message"),
    [
        ([], [], 2, r"labels must be .* at least one clip; received shape \(0,\)"),
        ([[0]], [0], 2, r"labels must be .clips.*received shape \(1, 1\)"),
        ([0, 1], [0], 2, "predictions must be as many as labels, 2; received 1"),
        ([0, 2], [0, 1], 2, r"labels must lie in \[0, 2\); received 2"),
        ([0, 1], [0, -1], 2, r"predictions must lie in \[0, 2\); received -1"),
        ([0.0, np.nan], [0, 1], 2, "labels must be integers.* received dtype float64"),
        ([True, False], [0, 1], 2, "labels must be integers.* received dtype bool"),
        ([0], [0], 0, "n_classes must be at least 1; received 0"),
    ],
)
def test_malformed_labels_are_refused(labels, answers, n_classes, message):
    for refuse in (classification.validate, classification.recalls, *SCORES):
        with pytest.raises(ValueError, match=message):
            refuse(labels, answers, n_classes=n_classes)


def test_clip_answers_by_hand():
    """Clip 0 has items 1 and 3: ([0.2, 0.8] + [0.6, 0.4]) / 2; clip 1 has item 2; clip 2 has item 0."""
    answers = classification.mean_probabilities(
        [[1, 0], [0.2, 0.8], [0.5, 0.5], [0.6, 0.4]], [2, 0, 1, 0]
    )
    np.testing.assert_allclose(answers, [[0.4, 0.6], [0.5, 0.5], [1, 0]])


def test_clip_answers_equal_a_loop_in_any_order(random):
    clip_of = np.concatenate([np.arange(9), random.integers(9, size=60)])
    probabilities = random.dirichlet(np.ones(5), size=len(clip_of)).astype(np.float32)
    loop = [probabilities[clip_of == clip].astype(np.float64).mean(axis=0) for clip in range(9)]
    np.testing.assert_allclose(
        classification.mean_probabilities(probabilities, clip_of), loop, rtol=1e-12
    )
    order = random.permutation(len(clip_of))
    np.testing.assert_allclose(
        classification.mean_probabilities(probabilities[order], clip_of[order]), loop, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("probabilities", "clip_of", "message"),
    [
        (
            np.zeros((0, 3)),
            [],
            r"probabilities must be \[items, classes\] .* received shape \(0, 3\)",
        ),
        ([0.5, 0.5], [0, 0], r"probabilities must be \[items, classes\] .* received shape \(2,\)"),
        ([[0.5, np.nan]], [0], "probabilities must be finite; received NaN"),
        ([[2.0, -1.0]], [0], "probabilities must be softmax outputs.* received values from -1 "),
        ([[0.7, 0.7]], [0], "probabilities must be softmax outputs.* sums from 1.4 to 1.4"),
        (
            [[0.5, 0.5]],
            [0, 1],
            r"clip_of must hold one integer for each of 1 items; received shape \(2,\)",
        ),
        ([[0.5, 0.5]], [0.0], "clip_of must hold one integer .* dtype float64"),
        ([[0.5, 0.5]], [-1], "clip_of must count clips from 0; received -1"),
        (
            [[0.5, 0.5]] * 2,
            [0, 2],
            r"clip_of must give every clip in \[0, 3\) an item; received none for clip 1",
        ),
    ],
)
def test_malformed_items_are_refused(probabilities, clip_of, message):
    with pytest.raises(ValueError, match=message):
        classification.mean_probabilities(probabilities, clip_of)


def test_masked_softmax_by_hand():
    """Of the logits ln 1, ln 3 and ln 6 the mask allows the first two: 1 / 4 and 3 / 4; a constant of 1e6 cancels."""
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


def test_masked_softmax_is_the_softmax_of_the_allowed_alone(random):
    logits, mask = random.normal(size=(4, 6, 10)) * 50, np.arange(10) % 3 > 0
    allowed = np.exp(logits[..., mask])
    softmax = classification.masked_softmax(logits, mask)
    assert not softmax[..., ~mask].any()
    np.testing.assert_allclose(
        softmax[..., mask], allowed / allowed.sum(axis=-1, keepdims=True), rtol=1e-12
    )
    np.testing.assert_array_equal(
        classification.masked_softmax(logits, np.broadcast_to(mask, (6, 10))), softmax
    )


@pytest.mark.parametrize(
    ("logits", "mask", "message"),
    [
        ([[0.0, 1.0]], [1, 0], "mask must be bool; received dtype int64"),
        ([[0.0, 1.0]], [True], r"mask must be .* shape \(1, 2\) are; received shape \(1,\)"),
        ([0.0, 1.0], [[True, True]], r"received shape \(1, 2\)"),
        (np.zeros((0, 2)), [True, True], r"shape \(0, 2\)"),
        ([[0.0, 1.0]], [False, False], "mask must allow at least one class"),
        ([[0.0, np.nan]], [True, True], "logits must be finite"),
    ],
)
def test_malformed_logits_are_refused(logits, mask, message):
    with pytest.raises(ValueError, match=message):
        classification.masked_softmax(logits, mask)


def test_evaluate_gives_every_score_as_json():
    probabilities = np.eye(4, dtype=np.float32)[ANSWERS]
    scores = classification.classification_scores(
        np.array(LABELS), probabilities, emotions=("anger", "fear", "calm", "sadness")
    )
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert list(scores) == ["clips", "ua", "wa", "macro_f1", "chance", "confusion", "emotions"]
    assert scores["clips"] == 8 and scores["chance"] == 0.25
    assert (
        scores["ua"] == pytest.approx(7 / 12)
        and scores["wa"] == 5 / 8
        and scores["macro_f1"] == pytest.approx(23 / 36)
    )
    assert scores["confusion"] == [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    assert scores["emotions"] == ["anger", "fear", "calm", "sadness"]
    assert {type(scores[name]) for name in ("ua", "wa", "macro_f1", "chance")} == {float}


def test_evaluate_counts_a_class_that_is_never_allowed_as_recall_0():
    """Two classes answered right, the third masked out of the answers: UA = (1 + 1 + 0) / 3."""
    probabilities = classification.masked_softmax(10 * np.eye(3), [True, True, False])
    assert classification.classification_scores([0, 1, 2], probabilities, emotions="abc")[
        "ua"
    ] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (
            [0],
            [[0.5, 0.5]],
            r"probabilities must have a column for each of 3 emotions; received shape \(1, 2\)",
        ),
        ([0, 1], [[1.0, 0.0, 0.0]], "predictions must be as many as labels, 2; received 1"),
        ([0], [[1.0, 2.0, 3.0]], "probabilities must be softmax outputs"),
    ],
)
def test_evaluate_refuses_what_does_not_fit(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification.classification_scores(
            labels, probabilities, emotions=("anger", "fear", "calm")
        )


def test_area_under_curve_by_hand():
    """Pairs of one emotion score 3 and 1, the others 2, 1 and 0: of six comparisons 3 wins thrice, 1 wins once and ties once: 4.5 / 6."""
    assert verification.area_under_curve([True, False, False, True, False], [3, 2, 1, 1, 0]) == 0.75
    assert verification.area_under_curve([True, False], [1, 1]) == 0.5


def test_area_under_curve_equals_sklearn_and_knows_only_the_order(random):
    same = random.random(500) < 0.3
    score = np.round(random.normal(size=500) + same, 1)  # many ties
    area = verification.area_under_curve(same, score)
    assert (
        area == pytest.approx(sklearn.metrics.roc_auc_score(same, score), rel=1e-12) and area > 0.6
    )
    assert verification.area_under_curve(same, np.exp(score)) == pytest.approx(area, rel=1e-12)
    assert verification.area_under_curve(~same, score) == pytest.approx(1 - area, rel=1e-12)


@pytest.mark.parametrize(
    ("same", "score", "message"),
    [
        ([1, 0], [1.0, 2.0], r"same must be bool \[pairs\].* dtype int64"),
        ([True, False], [1.0], r"score must have the shape of same, \(2,\); received \(1,\)"),
        ([True, False], [1.0, np.nan], "score must be a number for every pair; received NaN"),
        (
            [True, True],
            [1.0, 2.0],
            "same must hold pairs of both kinds; received 2 of one emotion, 0 of two",
        ),
        (
            np.zeros(0, bool),
            [],
            "same must hold pairs of both kinds; received 0 of one emotion, 0 of two",
        ),
    ],
)
def test_malformed_pairs_are_refused(same, score, message):
    with pytest.raises(ValueError, match=message):
        verification.area_under_curve(same, score)
