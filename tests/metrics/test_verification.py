import itertools
import json

import numpy as np
import pytest
import sklearn.metrics

from kerasemo.metrics import verification
from kerasemo.metrics.verification import EmbeddedClips


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def to_unit_length(values):
    values = np.asarray(values, float)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def vectors_at(degrees):
    """Return unit vectors in the plane; the cosine of two is that of the angle between them."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=-1)


def random_clips(random, name, *, clips=12, classes=3, lean=0.7):
    labels = random.integers(classes, size=clips)
    embeddings = to_unit_length(random.normal(size=(clips, 5)) + lean * 3 * np.eye(5)[labels])
    return EmbeddedClips(embeddings, labels, [f"{name}:{clip}" for clip in range(clips)])


# Area under the curve.


def test_area_under_curve_equals_a_calculation_by_hand():
    """Pairs of one emotion score 3 and 1, the others 2, 1 and 0.

    Of six comparisons 3 wins three; 1 wins one and ties one: 4.5 / 6.
    """
    assert verification.area_under_curve([True, False, False, True, False], [3, 2, 1, 1, 0]) == 0.75
    assert verification.area_under_curve([True, False], [1, 1]) == 0.5


def test_area_under_curve_equals_sklearn_and_depends_on_the_order_alone(random):
    same = random.random(500) < 0.3
    score = np.round(random.normal(size=500) + same, 1)  # many ties
    area = verification.area_under_curve(same, score)
    assert area == pytest.approx(sklearn.metrics.roc_auc_score(same, score), rel=1e-12)
    assert area > 0.6
    assert verification.area_under_curve(same, np.exp(score)) == pytest.approx(area, rel=1e-12)
    assert verification.area_under_curve(~same, score) == pytest.approx(1 - area, rel=1e-12)


# Equal error rate.


def test_equal_error_rate_equals_a_calculation_by_hand():
    """Pairs of one emotion score 5, 4, 2, 1; pairs of two emotions 3, 2, 0, 0, 0.

    At threshold 4 FRR is 2/4 and FAR 0; at 3 FRR is 2/4 and FAR 1/5; at 2, which accepts two pairs
    together, FRR is 1/4 and FAR 2/5. Between the last two FAR - FRR goes from -3/10 to 3/20, so the
    rate is 2/3 of the way: 1/5 + 2/3 (2/5 - 1/5) = 1/3 = 1/2 - 2/3 (1/2 - 1/4).
    """
    same = [True, True, True, True, False, False, False, False, False]
    assert verification.equal_error_rate(same, [5, 4, 2, 1, 3, 2, 0, 0, 0]) == pytest.approx(
        1 / 3, rel=1e-15
    )


@pytest.mark.parametrize(
    ("same", "score", "expected"),
    [
        ([True, True, False], [3, 2, 1], 0.0),
        ([True, True, False], [1, 2, 3], 1.0),
        ([True, False, False, False], [1, 1, 1, 1], 0.5),
        ([True, False], [np.inf, -np.inf], 0.0),
        ([True, False, True, False], [4, 3, 2, 1], 0.5),
    ],
)
def test_equal_error_rate_of_perfect_inverted_and_equal_scores(same, score, expected):
    assert verification.equal_error_rate(same, score) == expected


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_equal_error_rate_is_where_the_roc_curve_of_sklearn_meets_the_diagonal(random, decimals):
    """Bisect FPR - (1 - TPR), with many ties and with none; one kind of pair is more common."""
    same = random.random(700) < 0.25
    score = np.round(random.normal(size=700) + 0.8 * same, decimals)
    false_accepts, true_accepts, _ = sklearn.metrics.roc_curve(same, score, drop_intermediate=False)
    # Bisect the position along the curve, because both rates are functions of it, also where the
    # curve rises vertically.
    position = np.arange(len(false_accepts))
    low, high = 0.0, float(position[-1])
    for _ in range(80):
        middle = (low + high) / 2
        false_rejects = 1 - np.interp(middle, position, true_accepts)
        is_below = np.interp(middle, position, false_accepts) < false_rejects
        low, high = (middle, high) if is_below else (low, middle)
    rate = verification.equal_error_rate(same, score)
    assert rate == pytest.approx(np.interp(low, position, false_accepts), abs=1e-9)
    assert 0.2 < rate < 0.45


def test_equal_error_rate_depends_on_the_order_of_scores_alone(random):
    same = random.random(300) < 0.4
    score = np.round(random.normal(size=300) + same, 1)
    order = random.permutation(300)
    rate = verification.equal_error_rate(same, score)
    for pairs in ((same, np.exp(score)), (same[order], score[order]), (~same, -score)):
        assert verification.equal_error_rate(*pairs) == pytest.approx(rate, rel=1e-12)
    assert verification.equal_error_rate(same, -score) == pytest.approx(1 - rate, rel=1e-12)


@pytest.mark.parametrize("function", [verification.equal_error_rate, verification.area_under_curve])
@pytest.mark.parametrize(
    ("same", "score", "message"),
    [
        ([1, 0], [1.0, 2.0], r"same .* bool .*int64"),
        ([True, False], [1.0], r"score .* \(2,\).* \(1,\)"),
        ([True, False], [1.0, np.nan], "score .* NaN"),
        ([False, False], [1.0, 2.0], "both kinds.* 0 of one emotion, 2 of two"),
        ([True, True], [1.0, 2.0], "both kinds.* 2 of one emotion, 0 of two"),
        (np.zeros(0, bool), [], "both kinds.* 0 of one emotion, 0 of two"),
    ],
)
def test_malformed_pairs_are_refused(function, same, score, message):
    with pytest.raises(ValueError, match=message):
        function(same, score)


# Scatter.


def test_scatter_equals_a_calculation_by_hand():
    """Class 0 lies at (0, 0), (0, 2), (3, 1): mean (1, 1), squares 2, 2, 4, mean square 8/3.

    Class 3 lies at (7, 9) alone: 0. Within is (8/3 + 0) / 2 = 4/3. The mean of (1, 1) and (7, 9) is
    (4, 5), at a squared distance of 9 + 16 from both: between is 25. Weighted by clips it would be
    3/4 6.25 + 1/4 56.25 = 18.75.
    """
    scatter = verification.class_scatter([[0, 0], [7, 9], [0, 2], [3, 1]], [0, 3, 0, 0])
    assert scatter == pytest.approx({"within": 4 / 3, "between": 25, "ratio": 75 / 4}, rel=1e-15)


def test_scatter_of_points_has_no_ratio_and_of_equal_means_a_ratio_of_0():
    assert verification.class_scatter([[1.0, 2.0], [3.0, 2.0]], [0, 1]) == {
        "within": 0.0,
        "between": 1.0,
        "ratio": None,
    }
    assert verification.class_scatter([[-1.0], [1.0], [-2.0], [2.0]], [0, 0, 1, 1]) == {
        "within": 2.5,
        "between": 0.0,
        "ratio": 0.0,
    }


def test_scatter_equals_a_loop_and_adds_up_to_the_variance(random):
    """With as many clips in every class, within + between is the variance of all embeddings."""
    embeddings = random.normal(size=(60, 7)) * np.arange(1, 8)
    labels = np.repeat([5, 0, 2], [31, 20, 9])
    embeddings[labels == 2] += 3
    within, means = 0.0, {}
    for label in (0, 2, 5):
        of_class = [
            row for row, row_label in zip(embeddings, labels, strict=True) if row_label == label
        ]
        means[label] = sum(of_class) / len(of_class)
        squares = [float(np.dot(row - means[label], row - means[label])) for row in of_class]
        within += sum(squares) / len(of_class) / 3
    squares = [float(np.dot(a - b, a - b)) for a, b in itertools.product(means.values(), repeat=2)]
    between = sum(squares) / 2 / 9
    expected = {"within": within, "between": between, "ratio": between / within}
    assert verification.class_scatter(embeddings, labels) == pytest.approx(expected, rel=1e-12)
    balanced = verification.class_scatter(embeddings, np.arange(60) % 3)
    assert balanced["within"] + balanced["between"] == pytest.approx(
        embeddings.var(axis=0).sum(), rel=1e-12
    )


def test_scatter_depends_neither_on_origin_rotation_order_class_numbers_nor_class_sizes(random):
    embeddings = random.normal(size=(40, 6)) + random.normal(size=6)
    labels = random.integers(4, size=40)
    expected = verification.class_scatter(embeddings, labels)
    rotation, _ = np.linalg.qr(random.normal(size=(6, 6)))
    order = random.permutation(40)
    assert verification.class_scatter(embeddings @ rotation + 3, labels) == pytest.approx(
        expected, rel=1e-9
    )
    assert verification.class_scatter(embeddings[order], 9 - labels[order]) == pytest.approx(
        expected, rel=1e-9
    )
    larger = verification.class_scatter(10 * embeddings, labels)
    assert larger["within"] == pytest.approx(100 * expected["within"])
    assert larger["ratio"] == pytest.approx(expected["ratio"])
    class_0_repeated = verification.class_scatter(
        np.concatenate([embeddings, *[embeddings[labels == 0]] * 5]),
        [*labels, *[0] * 5 * sum(labels == 0)],
    )
    assert class_0_repeated == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        ([[1.0], [2.0]], [4, 4], "labels .* two classes.* class 4"),
        ([[1.0], [np.nan]], [0, 1], "embeddings .* finite"),
        (
            [1.0, 2.0],
            [0, 1],
            r"embeddings .*\[clips, n\].* \(2,\)",
        ),
        (
            np.zeros((0, 4)),
            [],
            r"embeddings .*\[clips, n\].* \(0, 4\)",
        ),
        (
            [[1.0], [2.0]],
            [0],
            r"labels .* 2 embeddings.* \(1,\)",
        ),
        (
            [[1.0], [2.0]],
            [0.0, 1.0],
            "labels .* 2 embeddings.* float64",
        ),
    ],
)
def test_malformed_embeddings_are_refused(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        verification.class_scatter(embeddings, labels)


# Clips.


def test_clip_embedding_is_the_mean_of_the_items_at_unit_length():
    """Clip 1 has items at 0, 60 and 120 degrees: 60. Clip 0 has one item, at 90."""
    items = [*vectors_at([0, 60]), [0, 3], *vectors_at([120])]
    embeddings = verification.clip_embeddings(items, [1, 1, 0, 1])
    np.testing.assert_allclose(embeddings, vectors_at([90, 60]), atol=1e-15)


@pytest.mark.parametrize(
    ("embeddings", "clip_of", "message"),
    [
        ([[1.0, 0.0], [-1.0, 0.0]], [0, 0], "embeddings .* cancel out.* clip 0"),
        (np.zeros((0, 2)), [], r"values .*\[items, n\].* \(0, 2\)"),
        ([[1.0, 0.0]], [1], "none for clip 0"),
    ],
)
def test_items_without_a_clip_embedding_are_refused(embeddings, clip_of, message):
    with pytest.raises(ValueError, match=message):
        verification.clip_embeddings(embeddings, clip_of)


@pytest.mark.parametrize(
    ("embeddings", "labels", "utterances", "message"),
    [
        (
            [[1.0, 1.0]],
            [0],
            ["a"],
            "embeddings .* unit length.* 1.41",
        ),
        ([[1.0, 0.0]], [0], ["a", "b"], "utterances .* 1; received 2"),
        ([[1.0, 0.0]], [0, 1], ["a", "b"], "labels .* 1 embeddings"),
    ],
)
def test_malformed_embedded_clips_are_refused(embeddings, labels, utterances, message):
    with pytest.raises(ValueError, match=message):
        EmbeddedClips(np.array(embeddings), np.array(labels), utterances)


# Pairs.


def test_all_pairs_of_different_utterances_are_scored(random):
    first, second = random_clips(random, "a", clips=5), random_clips(random, "b", clips=3)
    assert verification.sample_pairs(first, second, seed=0).tolist() == [
        [i, j] for i in range(5) for j in range(3)
    ]
    assert verification.sample_pairs(first, first, seed=0).tolist() == [
        [i, j] for i in range(5) for j in range(i + 1, 5)
    ]
    voices = EmbeddedClips(
        second.embeddings, second.labels, ["a:4", "a:0", "a:9"]
    )  # two utterances of `one` in the other domain
    assert verification.sample_pairs(first, voices, seed=0).tolist() == [
        [i, j] for i in range(5) for j in range(3) if (i, j) not in ((4, 0), (0, 1))
    ]
    takes = EmbeddedClips(first.embeddings, first.labels, ["x", "y", "x", "z", "y"])
    scored = verification.sample_pairs(takes, takes, seed=0).tolist()
    assert [
        pair
        for pair in verification.sample_pairs(first, first, seed=0).tolist()
        if pair not in scored
    ] == [
        [0, 2],
        [1, 4],
    ]
    assert verification.sample_pairs(
        random_clips(random, "c", clips=1), second, seed=0
    ).tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
    ]


@pytest.mark.parametrize("within", [True, False])
def test_pairs_above_the_limit_are_sampled_evenly_without_repetition(random, within):
    """300 pairs are sampled of 780 within 40 clips, or of 40 x 30, with a hundred seeds."""
    first = random_clips(random, "a", clips=40)
    second = first if within else random_clips(random, "b", clips=30)
    all_pairs = {tuple(pair) for pair in verification.sample_pairs(first, second, seed=0).tolist()}
    assert len(all_pairs) == (780 if within else 1200)
    counts, clips = dict.fromkeys(all_pairs, 0), np.zeros(40)
    for seed in range(100):
        sampled = verification.sample_pairs(first, second, seed=seed, max_pairs=300)
        assert len({tuple(pair) for pair in sampled.tolist()}) == 300
        for pair in sampled.tolist():
            counts[tuple(pair)] += 1
        np.add.at(clips, sampled[:, 0], 1)
        if within:
            np.add.at(clips, sampled[:, 1], 1)
    fraction = 300 / len(all_pairs)
    deviations = (np.array(list(counts.values())) - 100 * fraction) / np.sqrt(
        100 * fraction * (1 - fraction)
    )
    assert abs(deviations).max() < 5 and 0.9 < deviations.std() < 1.1
    np.testing.assert_allclose(clips, clips.mean(), rtol=0.1)
    np.testing.assert_array_equal(
        verification.sample_pairs(first, second, seed=3, max_pairs=300),
        verification.sample_pairs(first, second, seed=3, max_pairs=300),
    )


def test_scores_of_pairs_equal_a_calculation_by_hand():
    """The face has clips at 0 (class 0) and 90 degrees (1), the voice at 30 (0), 50 (1), 100 (0).

    The clips at 90 and 100 are one utterance, so their pair is left out. Pairs of one emotion are
    0-30, 90-50 and 0-100, with angles of 30, 40 and 100; pairs of two are 0-50 and 90-30, with
    angles of 50 and 60. Pairs of one emotion win four of six comparisons: AUC 2/3. One of the three
    is rejected where no pair of two is accepted and also where both are: FRR is 1/3 for every FAR,
    so EER is 1/3.
    """
    first = EmbeddedClips(vectors_at([0, 90]), np.array([0, 1]), ["x:0", "x:1"])
    second = EmbeddedClips(vectors_at([30, 50, 100]), np.array([0, 1, 0]), ["x:2", "x:3", "x:1"])
    scores = verification.score_pairs({"x/visual": first, "x/audio": second}, seed=0)
    assert list(scores["couples"]) == ["x/audio", "x/audio + x/visual", "x/visual"]
    across = scores["couples"]["x/audio + x/visual"]
    assert across == pytest.approx({"pairs": 5, "same": 3 / 5, "auc": 2 / 3, "eer": 1 / 3})
    assert scores["couples"]["x/visual"] == {"pairs": 1, "same": 0.0, "auc": None, "eer": None}
    assert scores["couples"]["x/audio"] == pytest.approx(
        {"pairs": 3, "same": 1 / 3, "auc": 0.0, "eer": 1.0}
    )  # an angle of 70 against 20 and 50
    assert scores["scatter"]["x/visual"] == {
        "clips": 2,
        "within": 0.0,
        "between": pytest.approx(0.5),
        "ratio": None,
    }
    assert list(scores["scatter"]) == ["x/audio", "x/visual", "together"]
    all_of_both = verification.class_scatter(vectors_at([30, 50, 100, 0, 90]), [0, 1, 0, 0, 1])
    assert scores["scatter"]["together"] == {"clips": 5, **all_of_both}
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_scores_of_pairs_equal_those_of_the_distance(random):
    clips_by_source = {
        name: random_clips(random, name, clips=clips)
        for name, clips in (("a/visual", 30), ("b/audio", 20), ("c/audio", 25))
    }
    scores = verification.score_pairs(clips_by_source, seed=0)
    assert len(scores["couples"]) == 6
    first, second = clips_by_source["a/visual"], clips_by_source["c/audio"]
    distances = np.linalg.norm(first.embeddings[:, None] - second.embeddings[None], axis=-1).ravel()
    same = (first.labels[:, None] == second.labels[None]).ravel()
    score = scores["couples"]["a/visual + c/audio"]
    assert score["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(same, -distances), rel=1e-12)
    assert 0.6 < score["auc"] < 1
    assert score["eer"] == pytest.approx(verification.equal_error_rate(same, -distances), rel=1e-12)
    assert (score["pairs"], score["same"]) == (750, pytest.approx(same.mean()))


def test_two_networks_are_scored_on_the_same_pairs(random):
    """The sample of two sources depends on these alone, also where a network has fewer sources."""
    clips_by_source = {
        name: random_clips(random, name, clips=30) for name in ("a/visual", "b/audio", "c/audio")
    }
    all_scores = verification.score_pairs(clips_by_source, seed=0, max_pairs=100)["couples"]
    some_scores = verification.score_pairs(
        {name: clips_by_source[name] for name in ("a/visual", "c/audio")}, seed=0, max_pairs=100
    )["couples"]
    reversed_scores = verification.score_pairs(
        dict(reversed(clips_by_source.items())), seed=0, max_pairs=100
    )["couples"]
    assert reversed_scores == all_scores and list(reversed_scores) == list(all_scores)
    assert some_scores == {
        couple: all_scores[couple] for couple in ("a/visual", "a/visual + c/audio", "c/audio")
    }
    assert {score["pairs"] for score in all_scores.values()} == {100}
    assert verification.score_pairs(clips_by_source, seed=1, max_pairs=100)["couples"] != all_scores


def test_scores_without_two_kinds_of_pairs_are_none():
    alone = EmbeddedClips(vectors_at([20]), np.array([2]), ["a:0"])
    scores = verification.score_pairs({"a/audio": alone}, seed=0)
    assert scores["couples"] == {"a/audio": {"pairs": 0, "same": None, "auc": None, "eer": None}}
    assert scores["scatter"] == {
        "a/audio": {"clips": 1, "within": None, "between": None, "ratio": None}
    }
    assert verification.score_pairs({}, seed=0) == {"couples": {}, "scatter": {}}
    one_emotion = EmbeddedClips(vectors_at([20, 30]), np.array([2, 2]), ["b:0", "b:1"])
    assert (
        verification.score_pairs({"b/audio": one_emotion}, seed=0)["couples"]["b/audio"]["same"]
        == 1.0
    )
    with pytest.raises(ValueError, match="max_pairs .* received 0"):
        verification.score_pairs({"a/audio": alone}, seed=0, max_pairs=0)
