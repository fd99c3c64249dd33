import csv
import json
import os

import keras
import numpy as np
import pytest

from helpers.sources import SIZE, random_source, whole
from kerasemo.config.schema import NetworkConfig
from kerasemo.datasets import sampling, sources
from kerasemo.evaluation import scoring
from kerasemo.metrics import verification
from kerasemo.networks import inference
from kerasemo.networks.network import build_network
from pipelines.core.labels import EMOTIONS, in_order
from pipelines.core.spec import Spec

ANGER, CALM, FEAR, SADNESS = (EMOTIONS.index(name) for name in ("anger", "calm", "fear", "sadness"))


def logits_of(*rows):
    """Logits [items, 10] from {emotion: probability} a row; what is not named is very unlikely."""
    return np.log([[row.get(emotion, 1e-12) for emotion in EMOTIONS] for row in rows]).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(3)
    model = keras.Model(
        *build_network(
            NetworkConfig(widths=(8,), convolutions=1, groups=4, embedding=8, dropout=0.5),
            spec=Spec(face_size=SIZE),
        )
    )
    model.get_layer("normalization").fit(
        "audio", np.random.default_rng(0).normal(size=(20, SIZE, SIZE, 3)) * 30 - 50
    )
    return model


@pytest.fixture(scope="module")
def predictor(network):
    return inference.predictor(network)


def planted(**by_source):
    """A network that answers each item of a source with the row that was planted for it; it knows items by their first pixel."""

    def predict(inputs, domain):
        rows = inputs[:][:, 0, 0, 0].astype(int)
        return {name: np.asarray(values)[rows] for name, values in by_source.items()}

    return predict


def numbered(name, emotions, *, items=(1,), first=0):
    """A source whose items hold their own number."""
    source = random_source(name, emotions, items=items)
    source.inputs[:] = np.arange(first, first + len(source.inputs))[:, None, None, None]
    return source


# The network on any number of items.


@pytest.mark.parametrize(
    "items",
    [1, 5, inference.ITEMS_AT_ONCE - 1, inference.ITEMS_AT_ONCE, 2 * inference.ITEMS_AT_ONCE + 3],
)
@pytest.mark.parametrize("domain", [0, 1])
def test_predictor_equals_the_network(network, predictor, items, domain):
    inputs = np.random.default_rng(items).integers(0, 256, (items, SIZE, SIZE, 3)).astype(np.uint8)
    found = predictor(inputs, domain)
    numbers = np.full(items, domain, np.int32)
    expected = network(
        {"image": inputs.astype(np.float32), "domain": numbers, "seed": numbers}, training=False
    )
    assert {name: value.shape for name, value in found.items()} == {
        "logits": (items, 10),
        "embedding": (items, 8),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-5)


def test_predictor_sees_weights_that_change_later(network, predictor):
    """It is made once and scores every epoch."""
    inputs = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    before, bias = predictor(inputs, 0)["logits"], network.get_layer("head").bias
    bias.assign(bias + 1)
    np.testing.assert_allclose(predictor(inputs, 0)["logits"], before + 1, rtol=1e-5, atol=1e-5)


# Scores of logits.


def test_a_clips_answer_is_the_mean_softmax_of_its_items():
    """Clip 0: anger (0.6 + 0.9) / 2 = 0.75; clip 1 alone 0.2. Mean logits would give clip 0 another answer than 0.75."""
    logits = logits_of(
        {"anger": 0.6, "fear": 0.4}, {"anger": 0.2, "fear": 0.8}, {"anger": 0.9, "fear": 0.1}
    )
    found = scoring.clip_probabilities(logits, np.array([0, 1, 0]), ["fear", "anger"])
    assert found.shape == (2, 10)
    np.testing.assert_allclose(found[:, [ANGER, FEAR]], [[0.75, 0.25], [0.2, 0.8]], rtol=1e-5)


def test_the_corpus_mask_leaves_out_what_the_corpus_has_not():
    """The network was trained on calm as well, which it prefers; the corpus has none, so anger 0.3 against fear 0.1 wins."""
    logits = logits_of(
        {"calm": 0.6, "anger": 0.3, "fear": 0.1}, {"calm": 0.2, "anger": 0.1, "fear": 0.7}
    )
    score = scoring.score_logits(
        logits,
        np.arange(2),
        np.array([ANGER, FEAR]),
        corpus=["anger", "fear"],
        trained=["anger", "calm", "fear"],
    )
    assert score["ua"] == score["wa"] == score["macro_f1"] == 1 and score["chance"] == 0.5
    assert (
        score["emotions"] == ["anger", "fear"]
        and score["confusion"] == [[1, 0], [0, 1]]
        and score["clips"] == 2
    )
    # Of 15 bins anger's 3/4 and fear's 7/8 are in two, both right: (1/4 + 1/8) / 2.
    assert score["calibration_error"] == pytest.approx(0.1875, abs=1e-5)
    # Served, clip 0 is called calm with 0.6 and clip 1 fear with 0.7: recalls 0 and 1, (0.6 + 0.3) / 2; F1 0 and 1.
    assert score["without_corpus"] == pytest.approx(
        {"ua": 0.5, "wa": 0.5, "macro_f1": 0.5, "calibration_error": 0.45}, abs=1e-5
    )
    assert "all_classes" not in score


def test_what_was_never_trained_is_no_answer():
    """Boredom has the largest logit, and neither mask lets it be answered."""
    logits = logits_of({"boredom": 0.9, "anger": 0.06, "fear": 0.04})
    score = scoring.score_logits(
        logits,
        np.zeros(1, int),
        np.array([ANGER]),
        corpus=["anger", "fear"],
        trained=["anger", "fear"],
    )
    assert score["ua"] == score["without_corpus"]["ua"] == 1


def test_a_foreign_corpus_is_scored_over_the_emotions_of_both_and_over_all_its_own():
    """Of anger, fear, calm and sadness the network knows the first two (and surprise).

    Anger: two clips, both right. Fear: two clips, one right. Shared: UA = (1 + 1/2) / 2 = 3/4, WA = 3/4, chance 1/2. Over all four
    classes: UA = (1 + 1/2 + 0 + 0) / 4 = 3/8; WA = 3 of 7 clips.
    """
    labels = np.array([ANGER, ANGER, FEAR, FEAR, CALM, SADNESS, SADNESS])
    said = ["anger", "anger", "fear", "anger", "fear", "anger", "fear"]
    logits = logits_of(*({name: 0.9, "sadness": 0.05, "surprise": 0.05} for name in said))
    corpus, trained = ["sadness", "anger", "fear", "calm"], ["surprise", "fear", "anger"]
    score = scoring.score_logits(logits, np.arange(7), labels, corpus=corpus, trained=trained)
    assert (score["clips"], score["ua"], score["wa"], score["chance"]) == (4, 0.75, 0.75, 0.5)
    assert score["emotions"] == ["anger", "fear"] and score["confusion"] == [[2, 0], [1, 1]]
    assert score["all_classes"] == {
        "emotions": ["anger", "calm", "fear", "sadness"],
        "ua": pytest.approx(3 / 8),
        "wa": pytest.approx(3 / 7),
    }
    assert json.loads(json.dumps(score)) == score


def test_the_answer_with_the_corpus_is_over_the_shared_emotions_and_served_over_all_trained():
    logits = logits_of({"surprise": 0.9, "anger": 0.06, "fear": 0.04}, {"fear": 1.0})
    score = scoring.score_logits(
        logits,
        np.arange(2),
        np.array([ANGER, FEAR]),
        corpus=["anger", "fear"],
        trained=["anger", "fear", "surprise"],
    )
    assert score["ua"] == 1 and score["without_corpus"]["ua"] == 0.5


def test_score_side_takes_its_own_clips_and_numbers_them_anew():
    """A side of clips 1, 3 and 4 of five; items of clip 3 in two places; the network is right but for clip 4."""
    source = numbered("a/audio", ("fear", "anger", "fear", "anger", "fear"), items=(2, 1, 1, 2, 1))
    side = sources.Subset(source, source.items_of([1, 3, 4]))
    assert side.item_counts.tolist() == [2, 4, 5, 6]
    rows = [{"fear": 0.5, "anger": 0.5}] * 7
    rows[2], rows[4], rows[5], rows[6] = (
        {"anger": p, "fear": 1 - p} for p in (0.9, 0.1, 0.95, 0.7)
    )
    score, predictions = scoring.score_side(
        planted(logits=logits_of(*rows)), side, trained=["anger", "fear"]
    )
    assert score["clips"] == 3 and score["confusion"] == [[2, 0], [1, 0]]
    assert [(row["id"], row["emotion"], row["answer"]) for row in predictions] == [
        ("001", "anger", "anger"),
        ("003", "anger", "anger"),
        ("004", "fear", "anger"),
    ]
    assert float(predictions[1]["anger"]) == pytest.approx((0.1 + 0.95) / 2, abs=1e-5)


def test_one_forward_pass_gives_the_scores_and_the_embedded_clips():
    """Clips 3 and 0 of four, with two items each: directions (1, 0) and (0, 1) for clip 0, (0, -1) twice for clip 3."""
    source = numbered("a/audio", ("fear", "fear", "fear", "anger"), items=(2,))
    side, calls = sources.Subset(source, source.items_of([3, 0])), []
    embedding = np.array([[1, 0], [0, 1], [9, 9], [9, 9], [9, 9], [9, 9], [0, -1], [0, -1]])
    outputs = {"logits": logits_of(*[{"anger": 1.0}] * 8), "embedding": embedding}
    answer = planted(**outputs)

    def predict(inputs, domain):
        calls.append((len(inputs), domain))
        return answer(inputs, domain)

    found = scoring.predict_subset(predict, side)
    clips = scoring.embedded_clips(found, side)
    np.testing.assert_allclose(clips.embeddings, [[0.5**0.5, 0.5**0.5], [0, -1]])
    assert clips.labels.tolist() == [FEAR, ANGER] and clips.utterances == ["a:0", "a:3"]
    assert scoring.score_outputs(found, side, trained=["anger", "fear"]) == scoring.score_side(
        answer, side, trained=["anger", "fear"]
    )
    assert calls == [(4, 1)]


# Predictions as a file.


def test_predictions_are_a_row_a_clip(tmp_path, monkeypatch):
    source = random_source("a/visual", ("anger", "fear", "calm"))
    probabilities = np.zeros((2, 10))
    probabilities[0, [ANGER, FEAR]], probabilities[1, [ANGER, FEAR]] = (0.25, 0.75), (1, 0)
    rows = scoring.prediction_rows(source, np.array([0, 2]), probabilities)
    scoring.write_predictions(tmp_path / "predictions.csv", rows)
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert list(read[0]) == ["source", "id", "speaker", "emotion", "answer", *EMOTIONS]
    assert [list(row.values())[:5] for row in read] == [
        ["a/visual", "000", "a:0", "anger", "fear"],
        ["a/visual", "002", "a:2", "calm", "anger"],
    ]
    assert [float(read[0][emotion]) for emotion in EMOTIONS] == probabilities[0].tolist()
    before = (tmp_path / "predictions.csv").read_bytes()

    def fail(*_):
        raise OSError("interrupted")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="interrupted"):
        scoring.write_predictions(tmp_path / "predictions.csv", [])
    assert (tmp_path / "predictions.csv").read_bytes() == before


# Scores of embeddings.


def test_nearest_class_mean_by_hand():
    """Means of training: anger (0, 0) of two items, fear (10, 0). Test clips, each the mean of its two items:

    anger at ((0, 4) + (2, 0)) / 2 = (1, 2): anger. fear at ((3, 0) + (5, 0)) / 2 = (4, 0): anger. fear at (8, 1): fear. calm was not
    trained: left out. UA = (1 + 1/2) / 2. The pairs: anger and anger 4.1 apart, anger and fear 4 and 6: AUC 1/2.
    """
    train = numbered("a/visual", ("anger", "anger", "fear"))
    test = numbered("b/audio", ("anger", "fear", "fear", "calm"), items=(2,), first=3)
    embedding = [
        [-1, 0],
        [1, 0],
        [10, 0],
        [0, 4],
        [2, 0],
        [3, 0],
        [5, 0],
        [8, 0],
        [8, 2],
        [0, 0],
        [0, 0],
    ]
    drawn = {"item": np.array([[[0, 0], [0, 2], [0, 3]]]), "source": np.array([[[0, 1]] * 3])}
    sides = [whole(train), whole(test)]
    score = scoring.score_embeddings(
        planted(embedding=np.array(embedding, float)), sides[:1], sides[1], drawn=drawn, sides=sides
    )
    assert score["emotions"] == ["anger", "fear"] and score["confusion"] == [[1, 0], [1, 1]]
    assert score["clips"] == 3 and score["ua"] == 0.75 and score["pair_auc"] == 0.5


def test_pair_auc_is_that_of_minus_the_distance():
    """Pairs over two sources, each looked up in its own; against scikit-learn's definition in metrics."""
    random = np.random.default_rng(1)
    one, other = (
        numbered("a/visual", ("anger", "fear") * 6),
        numbered("b/visual", ("fear", "fear", "anger") * 4, first=12),
    )
    embedding = (
        random.normal(size=(24, 3)) + np.concatenate([one.labels, other.labels])[:, None] / 4
    )
    sides = [sources.Subset(one, np.arange(1, 12)), whole(other)]
    drawn = sampling.pair_sampler(sides, pairs=2, seed=0)(0)
    a, b = drawn["item"].reshape(-1, 2).T
    assert (drawn["source"] == [0, 1]).all() or (drawn["source"] == [1, 0]).all()
    if drawn["source"].flat[0]:
        a, b = b, a
    distance = np.linalg.norm(embedding[a] - embedding[12 + b], axis=1)
    expected = verification.area_under_curve(one.labels[a] == other.labels[b], -distance)
    assert 0.55 < expected < 0.99
    assert scoring.pair_auc(planted(embedding=embedding), drawn, sides) == pytest.approx(expected)


@pytest.mark.parametrize(("apart", "expected"), [(1.0, 1.0), (-1.0, 0.0)])
def test_pair_auc_of_embeddings_that_are_right_or_wrong_throughout(apart, expected):
    """One emotion in one place: 1. Planted upside down (each source's classes in the places of the other's): 0."""
    one, other = (
        numbered("a/visual", ("anger", "fear") * 3),
        numbered("b/visual", ("anger", "fear") * 3, first=6),
    )
    place = np.where(np.concatenate([one.labels, other.labels]) == ANGER, 1.0, -1.0) * np.repeat(
        [1, apart], 6
    )
    sides = [whole(one), whole(other)]
    drawn = sampling.pair_sampler(sides, pairs=2, seed=0)(0)
    assert scoring.pair_auc(planted(embedding=place[:, None]), drawn, sides) == expected


# Names.


def test_emotions_are_told_in_their_own_order():
    assert in_order({"surprise", "anger", "fear"}) == ["anger", "fear", "surprise"]
    assert in_order(iter(["sadness", "calm"])) == ["calm", "sadness"]
    assert random_source("a/visual", ("surprise", "anger", "surprise")).emotions == [
        "anger",
        "surprise",
    ]
    assert np.flatnonzero(scoring.emotion_mask(["fear", "anger"])).tolist() == [ANGER, FEAR]
