"""Tests of the scores of clips by the outputs of a network, derived by hand."""

import csv
import json
import os

import keras
import numpy as np
import pytest

from helpers.messages import key_words
from helpers.sources import SIZE, random_source, whole
from kerasemo.config.schema import NetworkConfig
from kerasemo.datasets import sampling
from kerasemo.datasets.sources import Subset
from kerasemo.evaluation import scoring
from kerasemo.metrics import verification
from kerasemo.networks import inference
from kerasemo.networks.inference import NetworkOutputs, TrainedNetwork
from kerasemo.networks.network import build_network
from pipelines.core.labels import EMOTIONS, in_order
from pipelines.core.spec import Spec

ANGER, CALM, FEAR, SADNESS = (EMOTIONS.index(name) for name in ("anger", "calm", "fear", "sadness"))


def logits_of(*rows):
    """Return logits [items, 10] from a row {emotion: probability} of each item.

    An emotion that a row leaves out is very unlikely.
    """
    probabilities = [[row.get(emotion, 1e-12) for emotion in EMOTIONS] for row in rows]
    return np.log(probabilities).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    config = NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.5)
    model = keras.Model(*build_network(config, spec=Spec(face_size=SIZE)))
    segments = np.random.default_rng(0).normal(size=(20, SIZE, SIZE, 3)) * 30 - 50
    model.get_layer("normalization").fit("audio", segments)
    return model


@pytest.fixture(scope="module")
def predictor(model):
    return TrainedNetwork(model).predictor()


def planted_predictor(*, embedding=None, logits=None):
    """Return a predictor that looks outputs up by the number that `numbered_source` wrote."""

    def predict(inputs, domain, *, source):
        numbers = inputs[:][:, 0, 0, 0].astype(int)
        return NetworkOutputs(
            embedding=None if embedding is None else np.asarray(embedding)[numbers],
            logits=None if logits is None else np.asarray(logits)[numbers],
        )

    return predict


def numbered_source(name, emotions, *, items=(1,), first=0):
    """Return a source in which each value of an item is the item's number."""
    source = random_source(name, emotions, items=items)
    source.inputs[:] = np.arange(first, first + len(source.inputs))[:, None, None, None]
    return source


def score_logits(logits, labels, *, corpus_emotions, trained_emotions):
    """Score clips of one item each, by the logits of the items."""
    clip_of = np.arange(len(logits))
    shared = set(corpus_emotions) & set(trained_emotions)
    probabilities = scoring.ClipProbabilities(
        with_corpus=scoring.mean_clip_probabilities(logits, clip_of, shared),
        open=scoring.mean_clip_probabilities(logits, clip_of, trained_emotions),
    )
    return scoring.score_clips(
        probabilities,
        np.array(labels),
        corpus_emotions=corpus_emotions,
        trained_emotions=trained_emotions,
    )


# The network on any number of items.


@pytest.mark.parametrize(
    "n_items",
    [
        1,
        5,
        inference.ITEMS_PER_CALL - 1,
        inference.ITEMS_PER_CALL,
        2 * inference.ITEMS_PER_CALL + 3,
    ],
)
@pytest.mark.parametrize("domain", [0, 1])
def test_predictor_equals_the_network(model, predictor, n_items, domain):
    random = np.random.default_rng(n_items)
    inputs = random.integers(0, 256, (n_items, SIZE, SIZE, 3)).astype(np.uint8)
    outputs = predictor(inputs, domain)
    domains = np.full(n_items, domain, np.int32)
    expected = model(
        {"image": inputs.astype(np.float32), "domain": domains, "seed": domains}, training=False
    )
    assert outputs.logits.shape == (n_items, 10)
    assert outputs.embedding.shape == (n_items, 8)
    np.testing.assert_allclose(outputs.logits, expected["logits"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs.embedding, expected["embedding"], rtol=1e-4, atol=1e-5)


def test_predictor_uses_weights_that_change_later(model, predictor):
    """The same predictor scores every epoch."""
    inputs = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    before, bias = predictor(inputs, 0).logits, model.get_layer("head").bias
    bias.assign(bias + 1)
    np.testing.assert_allclose(predictor(inputs, 0).logits, before + 1, rtol=1e-5, atol=1e-5)


# Scores of logits.


def test_clip_probability_is_the_mean_softmax_of_its_items():
    """Clip 0: anger (0.6 + 0.9) / 2 = 0.75, not the softmax of mean logits. Clip 1: 0.2."""
    logits = logits_of(
        {"anger": 0.6, "fear": 0.4}, {"anger": 0.2, "fear": 0.8}, {"anger": 0.9, "fear": 0.1}
    )
    probabilities = scoring.mean_clip_probabilities(logits, np.array([0, 1, 0]), ["fear", "anger"])
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(
        probabilities[:, [ANGER, FEAR]], [[0.75, 0.25], [0.2, 0.8]], rtol=1e-5
    )


def test_corpus_mask_leaves_out_emotions_that_the_corpus_lacks():
    """The network prefers calm, which the corpus lacks: anger 0.3 wins against fear 0.1."""
    score = score_logits(
        logits_of(
            {"calm": 0.6, "anger": 0.3, "fear": 0.1}, {"calm": 0.2, "anger": 0.1, "fear": 0.7}
        ),
        [ANGER, FEAR],
        corpus_emotions=["anger", "fear"],
        trained_emotions=["anger", "calm", "fear"],
    )
    assert score["ua"] == score["wa"] == score["macro_f1"] == 1
    assert score["chance"] == 0.5
    assert score["emotions"] == ["anger", "fear"]
    assert score["confusion"] == [[1, 0], [0, 1]]
    assert score["clips"] == 2
    # Anger's 3/4 and fear's 7/8 are in two of the 15 bins, both correct: (1/4 + 1/8) / 2.
    assert score["calibration_error"] == pytest.approx(0.1875, abs=1e-5)
    # Open predictions: clip 0 calm with 0.6, clip 1 fear with 0.7. Recalls 0 and 1, F1 0 and 1,
    # calibration error (0.6 + 0.3) / 2.
    assert score["without_corpus"] == pytest.approx(
        {"ua": 0.5, "wa": 0.5, "macro_f1": 0.5, "calibration_error": 0.45}, abs=1e-5
    )
    assert "all_classes" not in score


def test_untrained_emotion_is_never_predicted():
    """Boredom has the largest logit, and both masks leave it out."""
    score = score_logits(
        logits_of({"boredom": 0.9, "anger": 0.06, "fear": 0.04}),
        [ANGER],
        corpus_emotions=["anger", "fear"],
        trained_emotions=["anger", "fear"],
    )
    assert score["ua"] == score["without_corpus"]["ua"] == 1


def test_foreign_corpus_is_scored_over_shared_emotions_and_over_all_of_its_emotions():
    """Of anger, fear, calm and sadness the network knows the first two (and surprise).

    Anger: two clips, both correct. Fear: two clips, one correct. Shared: UA = (1 + 1/2) / 2 = 3/4,
    WA = 3/4, chance 1/2. All four classes: UA = (1 + 1/2 + 0 + 0) / 4 = 3/8, WA = 3 of 7 clips.
    """
    predictions = ["anger", "anger", "fear", "anger", "fear", "anger", "fear"]
    score = score_logits(
        logits_of(*({name: 0.9, "sadness": 0.05, "surprise": 0.05} for name in predictions)),
        [ANGER, ANGER, FEAR, FEAR, CALM, SADNESS, SADNESS],
        corpus_emotions=["sadness", "anger", "fear", "calm"],
        trained_emotions=["surprise", "fear", "anger"],
    )
    assert (score["clips"], score["ua"], score["wa"], score["chance"]) == (4, 0.75, 0.75, 0.5)
    assert score["emotions"] == ["anger", "fear"]
    assert score["confusion"] == [[2, 0], [1, 1]]
    assert score["all_classes"] == {
        "emotions": ["anger", "calm", "fear", "sadness"],
        "ua": pytest.approx(3 / 8),
        "wa": pytest.approx(3 / 7),
    }
    assert json.loads(json.dumps(score)) == score


def test_open_predictions_are_over_all_trained_emotions():
    score = score_logits(
        logits_of({"surprise": 0.9, "anger": 0.06, "fear": 0.04}, {"fear": 1.0}),
        [ANGER, FEAR],
        corpus_emotions=["anger", "fear"],
        trained_emotions=["anger", "fear", "surprise"],
    )
    assert score["ua"] == 1
    assert score["without_corpus"]["ua"] == 0.5


def test_clip_probabilities_are_open_unless_the_network_needs_the_corpus():
    """The source has anger and fear. The network was also trained on calm, which it prefers."""
    source = random_source("a/audio", ("anger", "fear"), items=(1,))
    logits = logits_of({"calm": 0.5, "anger": 0.4, "fear": 0.1}, {"calm": 0.5, "fear": 0.5})
    embedding, trained_emotions = np.zeros((2, 1)), ["anger", "calm", "fear"]
    probabilities = scoring.clip_probabilities(
        NetworkOutputs(embedding, logits), whole(source), trained_emotions=trained_emotions
    )
    np.testing.assert_allclose(
        probabilities.with_corpus[:, [ANGER, CALM, FEAR]], [[0.8, 0, 0.2], [0, 0, 1]], atol=1e-6
    )
    np.testing.assert_allclose(
        probabilities.open[:, [ANGER, CALM, FEAR]], [[0.4, 0.5, 0.1], [0, 0.5, 0.5]], atol=1e-6
    )
    probabilities = scoring.clip_probabilities(
        NetworkOutputs(embedding, logits, knows_corpus=True),
        whole(source),
        trained_emotions=trained_emotions,
    )
    assert probabilities.open is None


def test_score_of_a_subset_counts_only_the_clips_of_the_subset():
    """The subset has clips 1, 3 and 4 of five. The network is right except for clip 4."""
    source = numbered_source(
        "a/audio", ("fear", "anger", "fear", "anger", "fear"), items=(2, 1, 1, 2, 1)
    )
    subset = Subset(source, source.items_of([1, 3, 4]))
    assert subset.items.tolist() == [2, 4, 5, 6]
    rows = [{"fear": 0.5, "anger": 0.5}] * 7
    for item, anger in {2: 0.9, 4: 0.1, 5: 0.95, 6: 0.7}.items():
        rows[item] = {"anger": anger, "fear": 1 - anger}
    outputs = scoring.predict_subset(planted_predictor(logits=logits_of(*rows)), subset)
    score, predictions = scoring.score_outputs(outputs, subset, trained_emotions=["anger", "fear"])
    assert score["clips"] == 3
    assert score["confusion"] == [[2, 0], [1, 0]]
    assert [(row["id"], row["emotion"], row["answer"]) for row in predictions] == [
        ("001", "anger", "anger"),
        ("003", "anger", "anger"),
        ("004", "fear", "anger"),
    ]
    assert float(predictions[1]["anger"]) == pytest.approx((0.1 + 0.95) / 2, abs=1e-5)


def test_a_single_pass_of_the_network_gives_scores_and_embedded_clips():
    """The subset has clips 3 and 0 of four, with two items each.

    The embeddings are (1, 0) and (0, 1) for clip 0, and (0, -1) twice for clip 3.
    """
    source = numbered_source("a/audio", ("fear", "fear", "fear", "anger"), items=(2,))
    subset, calls = Subset(source, source.items_of([3, 0])), []
    embedding = np.array([[1, 0], [0, 1], [9, 9], [9, 9], [9, 9], [9, 9], [0, -1], [0, -1]])
    planted = planted_predictor(logits=logits_of(*[{"anger": 1.0}] * 8), embedding=embedding)

    def predict(inputs, domain, *, source):
        calls.append((len(inputs), domain, source))
        return planted(inputs, domain, source=source)

    outputs = scoring.predict_subset(predict, subset)
    clips = scoring.embedded_clips(outputs, subset)
    np.testing.assert_allclose(clips.embeddings, [[0.5**0.5, 0.5**0.5], [0, -1]])
    assert clips.labels.tolist() == [FEAR, ANGER]
    assert clips.utterances == ["a:0", "a:3"]
    score, _ = scoring.score_outputs(outputs, subset, trained_emotions=["anger", "fear"])
    assert score["confusion"] == [[1, 0], [1, 0]]
    assert calls == [(4, 1, "a/audio")]


# Predictions as a file.


def test_predictions_file_has_a_row_for_each_clip(tmp_path):
    source = random_source("a/visual", ("anger", "fear", "calm"))
    probabilities = np.zeros((2, 10))
    probabilities[0, [ANGER, FEAR]], probabilities[1, [ANGER, FEAR]] = (0.25, 0.75), (1, 0)
    rows = scoring.prediction_rows(source, np.array([0, 2]), probabilities)
    scoring.write_predictions(tmp_path / "predictions.csv", rows)
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["source", "id", "speaker", "emotion", "answer", *EMOTIONS]
    assert [list(row.values())[:5] for row in rows] == [
        ["a/visual", "000", "a:0", "anger", "fear"],
        ["a/visual", "002", "a:2", "calm", "anger"],
    ]
    assert [float(rows[0][emotion]) for emotion in EMOTIONS] == probabilities[0].tolist()


def test_interrupted_write_leaves_the_predictions_file_unchanged(tmp_path, monkeypatch):
    path = tmp_path / "predictions.csv"
    source = random_source("a/visual", ("anger",))
    scoring.write_predictions(
        path, scoring.prediction_rows(source, np.array([0]), np.full((1, 10), 0.1))
    )
    before = path.read_bytes()

    def fail(*_):
        raise OSError("interrupted")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=key_words("interrupted")):
        scoring.write_predictions(path, [])
    assert path.read_bytes() == before


# Scores of embeddings.


def test_nearest_class_mean_by_hand():
    """Means of training: anger (0, 0), fear (10, 0). Test clips are means of two items.

    Anger at ((0, 4) + (2, 0)) / 2 = (1, 2): anger. Fear at ((3, 0) + (5, 0)) / 2 = (4, 0): anger.
    Fear at (8, 1): fear. Calm was not trained: left out. UA = (1 + 1/2) / 2.
    """
    train = whole(numbered_source("a/visual", ("anger", "anger", "fear")))
    test = whole(numbered_source("b/audio", ("anger", "fear", "fear", "calm"), items=(2,), first=3))
    embedding = np.array(
        [
            *([-1, 0], [1, 0], [10, 0]),
            *([0, 4], [2, 0]),
            *([3, 0], [5, 0]),
            *([8, 0], [8, 2]),
            *([0, 0], [0, 0]),
        ],
        float,
    )
    predict = planted_predictor(embedding=embedding)
    train_embedding = scoring.predict_subset(predict, train).embedding
    means = scoring.class_means(train_embedding, train.labels, test.source.emotions)
    assert {label: mean.tolist() for label, mean in means.items()} == {ANGER: [0, 0], FEAR: [10, 0]}
    score = scoring.score_embeddings(
        scoring.predict_subset(predict, test), test, means=means, pair_auc=0.25
    )
    assert score["emotions"] == ["anger", "fear"]
    assert score["confusion"] == [[1, 0], [1, 1]]
    assert score["clips"] == 3
    assert score["ua"] == 0.75
    assert score["pair_auc"] == 0.25


def test_class_means_leave_out_emotions_that_are_not_named():
    labels = np.array([ANGER, FEAR, CALM])
    means = scoring.class_means(np.eye(3), labels, ["anger", "calm", "sadness"])
    assert sorted(means) == [ANGER, CALM]


def test_pair_auc_by_hand():
    """Anger at -1 meets anger at 3.1 (4.1 apart), fear at 3 (4 apart) and fear at 5 (6 apart).

    One of the two pairs of different emotions is nearer than the pair of equal emotions: 1/2.
    """
    first_subset = whole(numbered_source("a/visual", ("anger",)))
    second_subset = whole(numbered_source("b/audio", ("anger", "fear", "fear")))
    draw = {"item": np.array([[[0, 0], [0, 1], [0, 2]]]), "source": np.array([[[0, 1]] * 3])}
    embeddings = [np.array([[-1.0, 0]]), np.array([[3.1, 0], [3, 0], [5, 0]])]
    assert scoring.pairs_are_equal(draw, [first_subset, second_subset]).tolist() == [
        True,
        False,
        False,
    ]
    assert scoring.pair_area_under_curve(draw, [first_subset, second_subset], embeddings) == 0.5


def test_pair_auc_is_the_area_under_the_curve_of_minus_the_distance():
    """Each item of a pair is looked up in its own source."""
    random = np.random.default_rng(1)
    first_source = random_source("a/visual", ("anger", "fear") * 6, items=(1,))
    second_source = random_source("b/visual", ("fear", "fear", "anger") * 4, items=(1,))
    labels = np.concatenate([first_source.labels, second_source.labels])
    embedding = random.normal(size=(24, 3)) + labels[:, None] / 4
    subsets = [Subset(first_source, np.arange(1, 12)), whole(second_source)]
    draw = sampling.pair_sampler(subsets, pairs=2, seed=0)(0)
    first_items, second_items = draw["item"].reshape(-1, 2).T
    assert (draw["source"] == [0, 1]).all() or (draw["source"] == [1, 0]).all()
    if draw["source"].flat[0]:
        first_items, second_items = second_items, first_items
    distances = np.linalg.norm(embedding[first_items] - embedding[12 + second_items], axis=1)
    expected = verification.area_under_curve(
        first_source.labels[first_items] == second_source.labels[second_items], -distances
    )
    assert 0.55 < expected < 0.99
    embeddings = [embedding[1:12], embedding[12:]]
    assert scoring.pair_area_under_curve(draw, subsets, embeddings) == pytest.approx(expected)


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 1.0), (-1.0, 0.0)])
def test_pair_auc_is_1_or_0_if_the_embeddings_are_always_right_or_wrong(sign, expected):
    """Anger is at 1 and fear at -1. The sign -1 swaps the places in the second source."""
    first_source = random_source("a/visual", ("anger", "fear") * 3, items=(1,))
    second_source = random_source("b/visual", ("anger", "fear") * 3, items=(1,))
    places = np.where(first_source.labels == ANGER, 1.0, -1.0)[:, None]
    subsets = [whole(first_source), whole(second_source)]
    draw = sampling.pair_sampler(subsets, pairs=2, seed=0)(0)
    assert scoring.pair_area_under_curve(draw, subsets, [places, sign * places]) == expected


# Names.


def test_emotions_are_listed_in_the_order_of_the_labels():
    assert in_order({"surprise", "anger", "fear"}) == ["anger", "fear", "surprise"]
    assert in_order(iter(["sadness", "calm"])) == ["calm", "sadness"]
    source = random_source("a/visual", ("surprise", "anger", "surprise"))
    assert source.emotions == ["anger", "surprise"]
    mask = scoring.emotion_mask(["fear", "anger"])
    assert np.flatnonzero(mask).tolist() == [ANGER, FEAR]
