import json

import numpy as np
import pytest
import sklearn.metrics

from kerasemo.metrics import verification
from kerasemo.metrics.verification import EmbeddedClips


@pytest.fixture
def random():
    return np.random.default_rng(20200311)


def unit(values):
    values = np.asarray(values, float)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def turned(degrees):
    """Unit vectors in the plane, so that the cosine of two is that of the angle between them."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=-1)


def some_clips(random, name, *, clips=12, classes=3, lean=0.7):
    labels = random.integers(classes, size=clips)
    embeddings = unit(random.normal(size=(clips, 5)) + lean * 3 * np.eye(5)[labels])
    return EmbeddedClips(embeddings, labels, [f"{name}:{clip}" for clip in range(clips)])


# Equal-error rate.


def test_equal_error_rate_by_hand():
    """Same: 5, 4, 2, 1. Different: 3, 2, 0, 0, 0.

    Accepted from t = 4 on: FRR 2/4, FAR 0. From 3 on: FRR 2/4, FAR 1/5. From 2 on (two at once): FRR 1/4, FAR 2/5. Between the last
    two FAR - FRR goes from -3/10 to 3/20, so 2/3 of the way: 1/5 + 2/3 (2/5 - 1/5) = 1/3 = 1/2 - 2/3 (1/2 - 1/4).
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
def test_equal_error_rate_of_perfect_hopeless_and_equal_scores(same, score, expected):
    assert verification.equal_error_rate(same, score) == expected


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_equal_error_rate_is_where_sklearns_roc_meets_the_diagonal(random, decimals):
    """On many ties and on none, with one kind of pair three times as common: the root of FPR - (1 - TPR), by bisection."""
    same = random.random(700) < 0.25
    score = np.round(random.normal(size=700) + 0.8 * same, decimals)
    false_accepts, true_accepts, _ = sklearn.metrics.roc_curve(same, score, drop_intermediate=False)
    # Along the curve, so that steps straight up are no trouble: both shares are functions of the place on it.
    place = np.arange(len(false_accepts))
    low, high = 0.0, float(place[-1])
    for _ in range(80):
        middle = (low + high) / 2
        below = np.interp(middle, place, false_accepts) < 1 - np.interp(middle, place, true_accepts)
        low, high = (middle, high) if below else (low, middle)
    rate = verification.equal_error_rate(same, score)
    assert (
        rate == pytest.approx(np.interp(low, place, false_accepts), abs=1e-9) and 0.2 < rate < 0.45
    )


def test_equal_error_rate_knows_only_the_order(random):
    same = random.random(300) < 0.4
    score = np.round(random.normal(size=300) + same, 1)
    rate, order = verification.equal_error_rate(same, score), random.permutation(300)
    assert verification.equal_error_rate(same, np.exp(score)) == pytest.approx(rate, rel=1e-12)
    assert verification.equal_error_rate(same[order], score[order]) == pytest.approx(
        rate, rel=1e-12
    )
    assert verification.equal_error_rate(~same, -score) == pytest.approx(rate, rel=1e-12)
    assert verification.equal_error_rate(same, -score) == pytest.approx(1 - rate, rel=1e-12)


@pytest.mark.parametrize(
    ("same", "score", "message"),
    [
        ([1, 0], [1.0, 2.0], r"same must be bool \[pairs\].* dtype int64"),
        ([True, False], [1.0], r"score must have the shape of same, \(2,\); received \(1,\)"),
        ([True, False], [1.0, np.nan], "score must be a number for every pair; received NaN"),
        (
            [False, False],
            [1.0, 2.0],
            "same must hold pairs of both kinds; received 0 of one emotion, 2 of two",
        ),
    ],
)
def test_malformed_pairs_are_refused(same, score, message):
    with pytest.raises(ValueError, match=message):
        verification.equal_error_rate(same, score)


# Scatter.


def test_scatter_by_hand():
    """Class 0 at (0, 0), (0, 2), (3, 1): mean (1, 1), squares 2, 2, 4: 8/3. Class 3 at (7, 9) alone: 0. Within (8/3 + 0) / 2 = 4/3.

    The mean of (1, 1) and (7, 9) is (4, 5), 9 + 16 from either: between 25. Weighted by clips it were 3/4 6.25 + 1/4 56.25 = 18.75.
    """
    found = verification.class_scatter([[0, 0], [7, 9], [0, 2], [3, 1]], [0, 3, 0, 0])
    assert found == pytest.approx({"within": 4 / 3, "between": 25, "ratio": 75 / 4}, rel=1e-15)


def test_scatter_of_points_and_of_classes_in_one_place():
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


def test_scatter_equals_a_loop_and_adds_up(random):
    """With equally many clips a class, the two are the mean square from the mean of all; with others the loop alone tells."""
    embeddings = random.normal(size=(60, 7)) * np.arange(1, 8)
    labels = np.repeat([5, 0, 2], [31, 20, 9])
    embeddings[labels == 2] += 3
    within, means = 0.0, {}
    for label in (0, 2, 5):
        own = [row for row, other in zip(embeddings, labels, strict=True) if other == label]
        means[label] = sum(own) / len(own)
        within += (
            sum(float(np.dot(row - means[label], row - means[label])) for row in own) / len(own) / 3
        )
    between = (
        sum(float(np.dot(a - b, a - b)) for a in means.values() for b in means.values()) / 2 / 9
    )  # of all two means
    expected = {"within": within, "between": between, "ratio": between / within}
    assert verification.class_scatter(embeddings, labels) == pytest.approx(expected, rel=1e-12)
    even = verification.class_scatter(embeddings, np.arange(60) % 3)
    assert even["within"] + even["between"] == pytest.approx(
        embeddings.var(axis=0).sum(), rel=1e-12
    )


def test_scatter_knows_no_place_direction_order_or_names(random):
    embeddings, labels = (
        random.normal(size=(40, 6)) + random.normal(size=6),
        random.integers(4, size=40),
    )
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
    assert larger["within"] == pytest.approx(100 * expected["within"]) and larger[
        "ratio"
    ] == pytest.approx(expected["ratio"])
    copies = verification.class_scatter(
        np.concatenate([embeddings, *[embeddings[labels == 0]] * 5]),
        [*labels, *[0] * 5 * sum(labels == 0)],
    )
    assert copies == pytest.approx(
        expected, rel=1e-9
    )  # a class counts alike, however many clips it has


@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        ([[1.0], [2.0]], [4, 4], "labels must be of two classes or more; received class 4 alone"),
        ([[1.0], [np.nan]], [0, 1], "embeddings must be finite; received NaN or infinity"),
        (
            [1.0, 2.0],
            [0, 1],
            r"embeddings must be \[clips, n\] with at least one clip; received shape \(2,\)",
        ),
        (
            np.zeros((0, 4)),
            [],
            r"embeddings must be \[clips, n\] with at least one clip; received shape \(0, 4\)",
        ),
        (
            [[1.0], [2.0]],
            [0],
            r"labels must hold one integer for each of 2 embeddings; received shape \(1,\)",
        ),
        (
            [[1.0], [2.0]],
            [0.0, 1.0],
            "labels must hold one integer for each of 2 embeddings; .* dtype float64",
        ),
    ],
)
def test_malformed_embeddings_are_refused(embeddings, labels, message):
    with pytest.raises(ValueError, match=message):
        verification.class_scatter(embeddings, labels)


# Clips.


def test_a_clip_is_the_mean_of_its_items_at_unit_length():
    """Clip 1 of 0, 60 and 120 degrees: 60. Clip 0 of 90 alone; the length of an item weighs it."""
    found = verification.clip_embeddings([*turned([0, 60]), [0, 3], *turned([120])], [1, 1, 0, 1])
    np.testing.assert_allclose(found, turned([90, 60]), atol=1e-15)
    with pytest.raises(
        ValueError,
        match="embeddings must not cancel out over a clip; received a mean of 0 for clip 0",
    ):
        verification.clip_embeddings([[1.0, 0.0], [-1.0, 0.0]], [0, 0])
    with pytest.raises(
        ValueError,
        match=r"values must be \[items, n\] with at least one item; received shape \(0, 2\)",
    ):
        verification.clip_embeddings(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="received none for clip 0"):
        verification.clip_embeddings([[1.0, 0.0]], [1])


@pytest.mark.parametrize(
    ("embeddings", "labels", "utterances", "message"),
    [
        (
            [[1.0, 1.0]],
            [0],
            ["a"],
            "embeddings must have unit length; received lengths from 1.41 to 1.41",
        ),
        ([[1.0, 0.0]], [0], ["a", "b"], "utterances must be as many as labels, 1; received 2"),
        ([[1.0, 0.0]], [0, 1], ["a", "b"], "labels must hold one integer for each of 1 embeddings"),
    ],
)
def test_clips_that_do_not_fit_are_refused(embeddings, labels, utterances, message):
    with pytest.raises(ValueError, match=message):
        EmbeddedClips(np.array(embeddings), np.array(labels), utterances)


# Pairs.


def test_pairs_are_all_but_those_of_one_utterance(random):
    one, other = some_clips(random, "a", clips=5), some_clips(random, "b", clips=3)
    assert verification.sample_pairs(one, other, seed=0).tolist() == [
        [i, j] for i in range(5) for j in range(3)
    ]
    assert verification.sample_pairs(one, one, seed=0).tolist() == [
        [i, j] for i in range(5) for j in range(i + 1, 5)
    ]
    voices = EmbeddedClips(
        other.embeddings, other.labels, ["a:4", "a:0", "a:9"]
    )  # of clips 4 and 0 of the other domain
    assert verification.sample_pairs(one, voices, seed=0).tolist() == [
        [i, j] for i in range(5) for j in range(3) if (i, j) not in ((4, 0), (0, 1))
    ]
    takes = EmbeddedClips(one.embeddings, one.labels, ["x", "y", "x", "z", "y"])
    left = verification.sample_pairs(takes, takes, seed=0).tolist()
    assert [
        pair for pair in verification.sample_pairs(one, one, seed=0).tolist() if pair not in left
    ] == [
        [0, 2],
        [1, 4],
    ]
    assert verification.sample_pairs(some_clips(random, "c", clips=1), other, seed=0).tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
    ]


@pytest.mark.parametrize("within", [True, False])
def test_too_many_pairs_are_drawn_evenly_without_repetition(random, within):
    """Of 780 pairs within 40 clips, or 40 x 30, 300: each of a hundred draws has others, and no clip is left out or favoured."""
    one = some_clips(random, "a", clips=40)
    other = one if within else some_clips(random, "b", clips=30)
    every = {tuple(pair) for pair in verification.sample_pairs(one, other, seed=0).tolist()}
    assert len(every) == (780 if within else 1200)
    counts, clips = dict.fromkeys(every, 0), np.zeros(40)
    for seed in range(100):
        drawn = verification.sample_pairs(one, other, seed=seed, max_pairs=300)
        assert len({tuple(pair) for pair in drawn.tolist()}) == 300
        for pair in drawn.tolist():
            counts[tuple(pair)] += 1
        np.add.at(clips, drawn[:, 0], 1)
        if within:
            np.add.at(clips, drawn[:, 1], 1)
    share = 300 / len(every)
    deviations = (np.array(list(counts.values())) - 100 * share) / np.sqrt(
        100 * share * (1 - share)
    )
    assert abs(deviations).max() < 5 and 0.9 < deviations.std() < 1.1
    np.testing.assert_allclose(clips, clips.mean(), rtol=0.1)
    np.testing.assert_array_equal(
        verification.sample_pairs(one, other, seed=3, max_pairs=300),
        verification.sample_pairs(one, other, seed=3, max_pairs=300),
    )


def test_scores_of_pairs_by_hand():
    """Source a at 0 (class 0), 90 (class 1); b at 30 (0), 50 (1), 100 (0, the utterance of a's second clip).

    Across: same 0-30; two emotions 0-50 and 90-30; 90-50 same; 0-100 same; 90-100 is one utterance: left out. Angles of the same: 30,
    40, 100; of the others: 50, 60. Of six comparisons four are won: AUC 2/3. One of three same pairs is rejected where none of the
    others is accepted, and where both are: FRR 1/3 throughout FAR 0 to 1: EER 1/3.
    """
    one = EmbeddedClips(turned([0, 90]), np.array([0, 1]), ["x:0", "x:1"])
    other = EmbeddedClips(turned([30, 50, 100]), np.array([0, 1, 0]), ["x:2", "x:3", "x:1"])
    found = verification.score_pairs({"x/visual": one, "x/audio": other}, seed=0)
    assert list(found["couples"]) == ["x/audio", "x/audio + x/visual", "x/visual"]
    across = found["couples"]["x/audio + x/visual"]
    assert across == pytest.approx({"pairs": 5, "same": 3 / 5, "auc": 2 / 3, "eer": 1 / 3})
    assert found["couples"]["x/visual"] == {"pairs": 1, "same": 0.0, "auc": None, "eer": None}
    assert found["couples"]["x/audio"] == pytest.approx(
        {"pairs": 3, "same": 1 / 3, "auc": 0.0, "eer": 1.0}
    )  # 70 against 20 and 50
    assert found["scatter"]["x/visual"] == {
        "clips": 2,
        "within": 0.0,
        "between": pytest.approx(0.5),
        "ratio": None,
    }
    assert list(found["scatter"]) == ["x/audio", "x/visual", "together"]
    all_of_both = verification.class_scatter(turned([30, 50, 100, 0, 90]), [0, 1, 0, 0, 1])
    assert found["scatter"]["together"] == {"clips": 5, **all_of_both}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_scores_of_pairs_are_those_of_the_distance(random):
    embedded = {
        name: some_clips(random, name, clips=clips)
        for name, clips in (("a/visual", 30), ("b/audio", 20), ("c/audio", 25))
    }
    found = verification.score_pairs(embedded, seed=0)
    assert len(found["couples"]) == 6
    one, other = embedded["a/visual"], embedded["c/audio"]
    distances = np.linalg.norm(one.embeddings[:, None] - other.embeddings[None], axis=-1).ravel()
    same = (one.labels[:, None] == other.labels[None]).ravel()
    score = found["couples"]["a/visual + c/audio"]
    assert (
        score["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(same, -distances), rel=1e-12)
        and 0.6 < score["auc"] < 1
    )
    assert score["eer"] == pytest.approx(verification.equal_error_rate(same, -distances), rel=1e-12)
    assert (score["pairs"], score["same"]) == (750, pytest.approx(same.mean()))


def test_two_networks_are_asked_the_same_pairs(random):
    """Also when one of them knows fewer sources: the draw of a couple depends on nothing else."""
    embedded = {
        name: some_clips(random, name, clips=30) for name in ("a/visual", "b/audio", "c/audio")
    }
    whole = verification.score_pairs(embedded, seed=0, max_pairs=100)["couples"]
    fewer = verification.score_pairs(
        {name: embedded[name] for name in ("a/visual", "c/audio")}, seed=0, max_pairs=100
    )["couples"]
    backwards = verification.score_pairs(dict(reversed(embedded.items())), seed=0, max_pairs=100)[
        "couples"
    ]
    assert backwards == whole and list(backwards) == list(whole)
    assert fewer == {
        couple: whole[couple] for couple in ("a/visual", "a/visual + c/audio", "c/audio")
    }
    assert {score["pairs"] for score in whole.values()} == {100}
    assert verification.score_pairs(embedded, seed=1, max_pairs=100)["couples"] != whole


def test_what_cannot_be_scored_is_none():
    alone = EmbeddedClips(turned([20]), np.array([2]), ["a:0"])
    found = verification.score_pairs({"a/audio": alone}, seed=0)
    assert found["couples"] == {"a/audio": {"pairs": 0, "same": None, "auc": None, "eer": None}}
    assert found["scatter"] == {
        "a/audio": {"clips": 1, "within": None, "between": None, "ratio": None}
    }
    assert verification.score_pairs({}, seed=0) == {"couples": {}, "scatter": {}}
    one_emotion = EmbeddedClips(turned([20, 30]), np.array([2, 2]), ["b:0", "b:1"])
    assert (
        verification.score_pairs({"b/audio": one_emotion}, seed=0)["couples"]["b/audio"]["same"]
        == 1.0
    )
    with pytest.raises(ValueError, match="max_pairs must be at least 1; received 0"):
        verification.score_pairs({"a/audio": alone}, seed=0, max_pairs=0)
