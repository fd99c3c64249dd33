"""Face and voice together: what is fused, what it is fitted on, and its scores in an evaluation of a network that learns in seconds."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from helpers.synthetic_sets import write_experiment, write_set
from helpers.trainings import train_only
from kerasemo import evaluate
from kerasemo.datasets import sources
from kerasemo.evaluation import evaluator, fused_scoring
from kerasemo.metrics import fusion
from kerasemo.metrics.fusion import Fusion
from kerasemo.networks import inference
from kerasemo.reporting import terminal
from kerasemo.runs import run_folder
from kerasemo.training.experiment import TrainingOptions
from pipelines.core.labels import EMOTIONS

ANGER, BOREDOM, CALM = range(3)


def said(*utterances, rows=None, labels=None, served=True):
    """Answers over the first three emotions, a row an utterance."""
    rows = np.pad(
        np.array(rows if rows is not None else [[0.5, 0.3, 0.2]] * len(utterances), float),
        ((0, 0), (0, 7)),
    )
    labels = np.zeros(len(utterances), int) if labels is None else np.array(labels)
    return fused_scoring.answers(utterances, labels, rows, rows if served else None)


# Whose answers meet.


def test_an_utterance_of_several_clips_is_their_mean():
    found = said("b", "a", "b", rows=[[0.2, 0.8, 0], [1, 0, 0], [0.6, 0.4, 0]], labels=[2, 1, 2])
    assert found.utterances.tolist() == ["a", "b"] and found.labels.tolist() == [1, 2]
    np.testing.assert_allclose(found.masked[:, :2], [[1, 0], [0.4, 0.6]])
    assert said("a", served=False).served is None


def test_pairs_are_of_the_utterances_that_both_have_each_beside_itself():
    face = said("u1", "u3", "u2", rows=[[1, 0, 0], [0, 0, 1], [0, 1, 0]], labels=[0, 2, 1])
    voice = said(
        "u3", "u4", "u1", rows=[[0, 0.1, 0.9], [0.5, 0.5, 0], [0.9, 0.1, 0]], labels=[2, 0, 0]
    )
    pairs = fused_scoring.pairs_of(
        {
            "c/visual": face,
            "c/audio": voice,
            "d/visual": face,
            "e/audio": said("x"),
            "e/visual": said("y"),
        }
    )
    assert list(pairs) == ["c"]
    for one, largest in zip(pairs["c"], (1, 0.9), strict=True):
        assert one.utterances.tolist() == ["u1", "u3"] and one.labels.tolist() == [0, 2]
        assert one.masked[[0, 1], [0, 2]].tolist() == [largest, largest]


# What is fitted.


def random_pair(random, utterances, classes=3):
    labels = random.integers(0, classes, utterances)
    names = [f"u{number:03d}" for number in range(utterances)]
    rows = [
        random.dirichlet(np.ones(3), utterances) * 0.6 + 0.4 * np.eye(3)[labels] for _ in range(2)
    ]
    return tuple(said(*names, rows=one, labels=labels) for one in rows)


def test_utterances_of_all_corpora_are_fitted_on_together():
    random = np.random.default_rng(1)
    pairs = {"c": random_pair(random, 30), "d": random_pair(random, 20)}
    stacked = [np.concatenate([pair[place].masked for pair in pairs.values()]) for place in (0, 1)]
    labels = np.concatenate([pair[0].labels for pair in pairs.values()])
    assert fused_scoring.fit(pairs, "masked") == fusion.fit_fusion(*stacked, labels)
    assert fused_scoring.fit(pairs, "masked").utterances == 50


def test_an_emotion_that_cannot_be_answered_is_not_fitted_on():
    """The second utterance's emotion is one that was not trained: both domains give it exactly 0."""
    pair = tuple(
        said("a", "b", rows=[[0.9, 0.1, 0], [0.4, 0.6, 0]], labels=[ANGER, CALM]) for _ in range(2)
    )
    assert fused_scoring.fit({"c": pair}, "masked") == fused_scoring.fit(
        {"c": tuple(said("a", rows=[[0.9, 0.1, 0]]) for _ in range(2))}, "masked"
    )
    assert (
        fused_scoring.fit(
            {"c": tuple(said("b", labels=[CALM], rows=[[1, 0, 0]]) for _ in range(2))}, "masked"
        )
        == Fusion()
    )


def test_without_an_utterance_nothing_is_fitted_and_it_says_so():
    assert fused_scoring.fit({}, "served") == Fusion() and Fusion().utterances == 0
    assert (
        fused_scoring.fit({"c": (said("a", served=False), said("a", served=False))}, "served")
        == Fusion()
    )


# Its score.


def test_score_by_hand():
    """u1, anger: v = (0.8, 0.2), a = (0.6, 0.4): odds sqrt(4 x 1.5) = sqrt(6), so 0.7101 for anger, right. u2, boredom:
    v = (0.9, 0.1), a = (0.2, 0.8): odds sqrt(9 / 4) = 1.5, anger with 0.6, wrong. UA = 1/2; the face alone is as often right, the voice
    alone always. Of 15 bins 0.6 and 0.7101 are in two: ECE = (0.2899 + 0.6) / 2. u3's emotion was not trained: left out.
    """
    labels = [ANGER, BOREDOM, CALM]
    face = said("u1", "u2", "u3", rows=[[0.8, 0.2, 0], [0.9, 0.1, 0], [1, 0, 0]], labels=labels)
    voice = said("u1", "u2", "u3", rows=[[0.6, 0.4, 0], [0.2, 0.8, 0], [1, 0, 0]], labels=labels)
    two = {"corpus": EMOTIONS[:3], "trained": EMOTIONS[:2]}
    found = fused_scoring.score((face, voice), **two, masked=Fusion(), served=Fusion(0.0, 2.0, 7))
    assert (found["clips"], found["ua"], found["confusion"], found["emotions"]) == (
        2,
        0.5,
        [[1, 0], [1, 0]],
        list(EMOTIONS[:2]),
    )
    first = 6**0.5 / (1 + 6**0.5)
    assert found["calibration_error"] == pytest.approx((1 - first + 0.6) / 2)
    assert found["fusion"] == {"visual_weight": 0.5, "temperature": 1.0, "utterances": 0}
    assert found["without_corpus"]["ua"] == 1 and found["without_corpus"][
        "fusion"
    ] == dataclasses.asdict(Fusion(0.0, 2.0, 7))
    assert found["all_classes"]["ua"] == pytest.approx(1 / 3)
    known = {"rows": [[0.8, 0.2, 0]]}
    alone = fused_scoring.score(
        (said("u1", **known, served=False), said("u1", **known)),
        **two,
        masked=Fusion(),
        served=Fusion(),
    )
    assert "without_corpus" not in alone
    untrained = said("u1", labels=[CALM])
    assert (
        fused_scoring.score((untrained, untrained), **two, masked=Fusion(), served=Fusion()) is None
    )


# In an evaluation.


STAGES = {
    "pretrain": {
        "kind": "supervised",
        "sources": ["enterface/visual"],
        "epochs": 6,
        "batch": 16,
        "learning_rate": 1e-2,
    },
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "epochs": 6,
        "batch": 16,
    },
    "other": {
        "kind": "supervised",
        "sources": ["emodb/audio"],
        "start_from": "pretrain",
        "epochs": 1,
        "batch": 16,
    },
}


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    """savee in both domains; enterface, of whose voices there are those of the test speaker alone; sets nothing is trained on."""
    out = tmp_path_factory.mktemp("records")
    for number, (source, options) in enumerate(
        {
            "enterface/visual": {},
            "enterface/audio": {"speakers": 1},
            "savee/visual": {"emotions": EMOTIONS[:4], "takes": 3},
            "savee/audio": {"emotions": EMOTIONS[:4], "takes": 3},
            "emodb/audio": {},
            "foreign/visual": {"speakers": 2, "takes": 1},
            "foreign/audio": {"speakers": 3, "takes": 1},
        }.items()
    ):
        write_set(out, source, seed=number, **options)
    return out


@pytest.fixture(scope="module")
def run(records_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    experiment = str(write_experiment(folder / "toy.toml", **STAGES))
    for stage in ("transfer", "other"):
        train_only(TrainingOptions(stage, experiment, records_folder, folder))
    return folder


@pytest.fixture(scope="module")
def result(run, records_folder):
    return evaluator.evaluate(evaluator.Options(run, records_folder, "transfer"))


def test_every_corpus_of_faces_and_voices_has_a_fused_row(result):
    """The test speaker of enterface has 3 x 2 utterances, that of savee 4 x 3; of foreign, all test, two speakers have both."""
    names = ["enterface/fused", "foreign/fused", "savee/fused"]
    assert list(result["sources"])[-3:] == names
    assert [result["sources"][name]["clips"] for name in names] == [6, 6, 12]
    assert not [
        name
        for name in (*result["sources"], *result["not_scored"])
        if name.startswith("emodb") and "fused" in name
    ]
    like = set(result["sources"]["savee/visual"])
    assert like < set(result["sources"]["savee/fused"]) and set(
        result["sources"]["savee/fused"]
    ) - like == {"fusion"}
    json.dumps(result, allow_nan=False)


def clip_answers(run, records_folder, stage, side, emotions, trained):
    """utterance -> the mean softmax of its clip over some emotions, by domain; of savee, by the speaker alone."""
    network = run_folder.load_network(run / stage, run_folder.read_finished_stage(run / stage))
    predict, mask, found = inference.predictor(network), np.isin(EMOTIONS, emotions), {}
    speaker = {"test": "savee:1", "validation": "savee:2"}[side]
    for domain in ("visual", "audio"):
        source = sources.read_source(records_folder, f"savee/{domain}")
        for clip, row in enumerate(source.rows):
            if row["speaker"] == speaker:
                logits = predict(source.inputs[source.clip_of == clip], source.domain)[
                    "logits"
                ].astype(float)
                powers = np.exp(logits) * mask
                means = (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0)
                found.setdefault(row["utterance"], {"label": EMOTIONS.index(row["emotion"])})[
                    domain
                ] = means
    rows = [found[utterance] for utterance in sorted(found)]
    return [np.array([row[key] for row in rows]) for key in ("visual", "audio", "label")]


def test_the_row_is_fitted_on_the_validation_speaker_and_is_of_the_test_speaker(
    result, run, records_folder
):
    """enterface's validation speaker has no voice, foreign and emodb were not trained on: savee's 12 utterances are what there is."""
    trained = run_folder.read_finished_stage(run / "transfer")["trained_emotions"]
    for emotions, row in (
        (EMOTIONS[:4], result["sources"]["savee/fused"]),
        (trained, result["sources"]["savee/fused"]["without_corpus"]),
    ):
        own = fusion.fit_fusion(
            *clip_answers(run, records_folder, "transfer", "validation", emotions, trained)
        )
        assert row["fusion"]["utterances"] == own.utterances == 12
        assert row["fusion"]["visual_weight"] == own.visual_weight
        assert row["fusion"]["temperature"] == pytest.approx(own.temperature, rel=1e-3)
        visual, audio, labels = clip_answers(
            run, records_folder, "transfer", "test", emotions, trained
        )
        right = fusion.fuse(own, visual, audio).argmax(axis=1) == labels
        assert (
            row["wa"] == pytest.approx(right.mean()) == pytest.approx(row["ua"])
        )  # as many clips of each emotion
    assert (
        result["sources"]["foreign/fused"]["fusion"] == result["sources"]["savee/fused"]["fusion"]
    )


def test_which_sources_are_asked_does_not_change_a_row(result, run, records_folder):
    """The validation side of enterface and that of what is not asked are read all the same; a domain alone has no row."""
    asked = ("savee/audio", "savee/visual", "foreign/visual")
    again = evaluator.evaluate(evaluator.Options(run, records_folder, "transfer", asked))
    assert again["sources"] == {name: result["sources"][name] for name in (*asked, "savee/fused")}
    foreign = ("foreign/audio", "foreign/visual")
    again = evaluator.evaluate(evaluator.Options(run, records_folder, "transfer", foreign))
    assert again["sources"]["foreign/fused"] == result["sources"]["foreign/fused"]


def test_a_chain_without_a_validation_utterance_of_both_says_that_it_is_not_fitted(
    run, records_folder, capsys
):
    """To this chain savee is foreign, five speakers of 3 utterances of each of the three emotions that were trained."""
    assert (
        evaluate.main(
            ["--run", str(run), "--records", str(records_folder), "--stage", "other", "--json"]
        )
        == 0
    )
    result = json.loads(capsys.readouterr().out)
    for name, clips in (("enterface/fused", 6), ("savee/fused", 45)):
        assert (
            result["sources"][name]["fusion"] == dataclasses.asdict(Fusion())
            and result["sources"][name]["clips"] == clips
        )
    terminal.print_evaluation(result)
    assert (
        "savee/fused: face and voice together: weights 0.50 and 0.50, temperature 1.00, not fitted"
        in capsys.readouterr().out
    )
    assert fused_scoring.fit_served_fusion(run, "other", records_folder) == Fusion()


def test_a_stage_that_has_not_seen_a_domain_has_no_fused_row(run, records_folder):
    result = evaluator.evaluate(evaluator.Options(run, records_folder, "pretrain"))
    assert not [name for name in result["sources"] if name.endswith("fused")]
    assert sorted(result["not_scored"]) == [
        "emodb/audio",
        "enterface/audio",
        "foreign/audio",
        "savee/audio",
    ]


def test_what_is_exported_is_the_fusion_without_a_corpus(result, run, records_folder):
    found = fused_scoring.fit_served_fusion(run, "transfer", records_folder)
    assert (
        dataclasses.asdict(found) == result["sources"]["savee/fused"]["without_corpus"]["fusion"]
        and found.utterances == 12
    )
