"""Tests of fused predictions of face and voice: the utterances, the fitting and the scores."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from helpers.synthetic_sets import write_experiment, write_set
from helpers.trainings import train_only
from kerasemo import evaluate
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.evaluation import fused_scoring
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.evaluation.scoring import ClipProbabilities
from kerasemo.metrics import fusion
from kerasemo.metrics.fusion import Fusion
from kerasemo.reporting import terminal
from kerasemo.runs.lineage import find_lineage
from kerasemo.runs.run_folder import read_finished_stage
from kerasemo.training.experiment import TrainingOptions
from pipelines.core.labels import EMOTIONS

ANGER, BOREDOM, CALM = range(3)


def probabilities_of(*utterances, rows=None, labels=None, has_open=True):
    """Return the probabilities of utterances over three emotions, from a row for each clip."""
    rows = [[0.5, 0.3, 0.2]] * len(utterances) if rows is None else rows
    probabilities = np.pad(np.array(rows, float), ((0, 0), (0, 7)))
    labels = np.zeros(len(utterances), int) if labels is None else np.array(labels)
    return fused_scoring.utterance_probabilities(
        utterances,
        labels,
        ClipProbabilities(probabilities, probabilities if has_open else None),
    )


# Which utterances are fused.


def test_utterance_of_several_clips_has_their_mean_probabilities():
    mean = probabilities_of(
        "b", "a", "b", rows=[[0.2, 0.8, 0], [1, 0, 0], [0.6, 0.4, 0]], labels=[2, 1, 2]
    )
    assert mean.utterances.tolist() == ["a", "b"]
    assert mean.labels.tolist() == [1, 2]
    expected = [[1, 0], [0.4, 0.6]]
    np.testing.assert_allclose(mean.probabilities.with_corpus[:, :2], expected)
    np.testing.assert_allclose(mean.probabilities.open[:, :2], expected)
    assert probabilities_of("a", has_open=False).probabilities.open is None


def test_only_utterances_with_a_face_and_a_voice_are_matched():
    face = probabilities_of(
        "u1", "u3", "u2", rows=[[1, 0, 0], [0, 0, 1], [0, 1, 0]], labels=[0, 2, 1]
    )
    voice = probabilities_of(
        "u3", "u4", "u1", rows=[[0, 0.1, 0.9], [0.5, 0.5, 0], [0.9, 0.1, 0]], labels=[2, 0, 0]
    )
    matched = fused_scoring.match_utterances(
        {
            "c/visual": face,
            "c/audio": voice,
            "d/visual": face,
            "e/audio": probabilities_of("x"),
            "e/visual": probabilities_of("y"),
        }
    )
    assert list(matched) == ["c"]
    for of_domain, largest in zip(matched["c"], (1, 0.9), strict=True):
        assert of_domain.utterances.tolist() == ["u1", "u3"]
        assert of_domain.labels.tolist() == [0, 2]
        with_corpus = of_domain.probabilities.with_corpus
        assert with_corpus[[0, 1], [0, 2]].tolist() == [largest, largest]


# What the fusion is fitted on.


def random_face_and_voice(random, n_utterances, n_classes=3):
    labels = random.integers(0, n_classes, n_utterances)
    names = [f"u{number:03d}" for number in range(n_utterances)]

    def of_domain():
        rows = random.dirichlet(np.ones(3), n_utterances) * 0.6 + 0.4 * np.eye(3)[labels]
        return probabilities_of(*names, rows=rows, labels=labels)

    return of_domain(), of_domain()


def test_fusion_is_fitted_on_the_utterances_of_all_corpora_together():
    random = np.random.default_rng(1)
    matched = [random_face_and_voice(random, 30), random_face_and_voice(random, 20)]
    faces, voices = zip(*matched, strict=True)
    visual, audio = (
        np.concatenate([utterances.probabilities.with_corpus for utterances in of_domain])
        for of_domain in (faces, voices)
    )
    labels = np.concatenate([face.labels for face in faces])
    fitted = fused_scoring.fit_on_utterances(matched, "with_corpus")
    assert fitted == fusion.fit_fusion(visual, audio, labels)
    assert fitted.utterances == 50


def test_fusion_is_not_fitted_on_an_emotion_that_cannot_be_predicted():
    """The emotion of the second utterance is untrained: both domains give it exactly 0."""
    probabilities = probabilities_of(
        "a", "b", rows=[[0.9, 0.1, 0], [0.4, 0.6, 0]], labels=[ANGER, CALM]
    )
    first = probabilities_of("a", rows=[[0.9, 0.1, 0]])
    fitted = fused_scoring.fit_on_utterances([(probabilities, probabilities)], "with_corpus")
    assert fitted == fused_scoring.fit_on_utterances([(first, first)], "with_corpus")
    assert fitted.utterances == 1
    untrained = probabilities_of("b", labels=[CALM], rows=[[1, 0, 0]])
    assert fused_scoring.fit_on_utterances([(untrained, untrained)], "with_corpus") == Fusion()


def test_fusion_without_utterances_is_the_default():
    assert fused_scoring.fit_on_utterances([], "open") == Fusion()
    assert Fusion().utterances == 0
    closed = probabilities_of("a", has_open=False)
    assert fused_scoring.fit_on_utterances([(closed, closed)], "open") == Fusion()


# The score of fused predictions.

TWO_TRAINED = {"corpus_emotions": EMOTIONS[:3], "trained_emotions": EMOTIONS[:2]}


def test_fused_score_by_hand():
    """Fuse two utterances by the formula of the pool.

    u1, anger: v = (0.8, 0.2), a = (0.6, 0.4): odds sqrt(4 x 1.5) = sqrt(6), anger 0.7101, correct.

    u2, boredom: v = (0.9, 0.1), a = (0.2, 0.8): odds sqrt(9 / 4) = 1.5, anger 0.6, wrong. UA = 1/2.
    The voice alone is always correct. The confidences 0.6 and 0.7101 are in two of 15 bins:
    calibration error (0.2899 + 0.6) / 2. The emotion of u3 is untrained: left out.
    """
    labels, names = [ANGER, BOREDOM, CALM], ("u1", "u2", "u3")
    face = probabilities_of(*names, rows=[[0.8, 0.2, 0], [0.9, 0.1, 0], [1, 0, 0]], labels=labels)
    voice = probabilities_of(*names, rows=[[0.6, 0.4, 0], [0.2, 0.8, 0], [1, 0, 0]], labels=labels)
    voice_alone = Fusion(0.0, 2.0, 7)
    score = fused_scoring.score_fused(
        face, voice, **TWO_TRAINED, fusion=Fusion(), open_fusion=voice_alone
    )
    assert (score["clips"], score["ua"]) == (2, 0.5)
    assert score["confusion"] == [[1, 0], [1, 0]]
    assert score["emotions"] == list(EMOTIONS[:2])
    anger_of_u1 = 6**0.5 / (1 + 6**0.5)
    assert score["calibration_error"] == pytest.approx((1 - anger_of_u1 + 0.6) / 2)
    assert score["fusion"] == {"visual_weight": 0.5, "temperature": 1.0, "utterances": 0}
    assert score["without_corpus"]["ua"] == 1
    assert score["without_corpus"]["fusion"] == dataclasses.asdict(voice_alone)
    assert score["all_classes"]["ua"] == pytest.approx(1 / 3)


def test_fused_score_has_no_open_score_if_a_domain_has_no_open_probabilities():
    rows = [[0.8, 0.2, 0]]
    score = fused_scoring.score_fused(
        probabilities_of("u1", rows=rows, has_open=False),
        probabilities_of("u1", rows=rows),
        **TWO_TRAINED,
        fusion=Fusion(),
        open_fusion=Fusion(),
    )
    assert "without_corpus" not in score


def test_utterances_of_untrained_emotions_have_no_fused_score():
    untrained = probabilities_of("u1", labels=[CALM])
    score = fused_scoring.score_fused(
        untrained, untrained, **TWO_TRAINED, fusion=Fusion(), open_fusion=Fusion()
    )
    assert score is None


# In the evaluation of a run.


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
SETS = {
    "enterface/visual": {},
    "enterface/audio": {"speakers": 1},  # the test speaker
    "savee/visual": {"emotions": EMOTIONS[:4], "takes": 3},
    "savee/audio": {"emotions": EMOTIONS[:4], "takes": 3},
    "emodb/audio": {},
    "foreign/visual": {"speakers": 2, "takes": 1},  # no stage is trained on this corpus
    "foreign/audio": {"speakers": 3, "takes": 1},
}


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records")
    for seed, (source, options) in enumerate(SETS.items()):
        write_set(out, source, seed=seed, **options)
    return out


@pytest.fixture(scope="module")
def run(records_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    experiment = str(write_experiment(folder / "toy.toml", **STAGES))
    for stage in ("transfer", "other"):
        train_only(TrainingOptions(stage, experiment, records_folder, folder))
    return folder


@pytest.fixture(scope="module")
def result(run, records_folder) -> dict:
    return evaluate_run(run, records_folder, "transfer")


def test_every_corpus_with_faces_and_voices_has_a_fused_score(result):
    """Test utterances: enterface 3 x 2, savee 4 x 3, foreign (all test) 3 each of two speakers."""
    fused_sources = ["enterface/fused", "foreign/fused", "savee/fused"]
    assert list(result["sources"])[-3:] == fused_sources
    assert [result["sources"][source]["clips"] for source in fused_sources] == [6, 6, 12]
    assert "emodb/fused" not in {**result["sources"], **result["not_scored"]}
    names = set(result["sources"]["savee/visual"])
    assert set(result["sources"]["savee/fused"]) == names | {"fusion"}
    json.dumps(result, allow_nan=False)


def savee_probabilities(run, records_folder, speaker, emotions):
    """Return the mean softmax over some emotions of a speaker's utterances in savee.

    Returns:
        Probabilities by face and by voice [utterances, 10], and the labels of the utterances.
    """
    predict = read_finished_stage(run / "transfer").load_network().predictor()
    catalog, mask, rows = RecordCatalog(records_folder), np.isin(EMOTIONS, emotions), {}
    for domain in ("visual", "audio"):
        source = catalog.load(f"savee/{domain}")
        for clip, row in enumerate(source.rows):
            if row["speaker"] != speaker:
                continue
            logits = predict(source.inputs[source.clip_of == clip], source.domain).logits
            powers = np.exp(logits.astype(float)) * mask
            label = EMOTIONS.index(row["emotion"])
            utterance = rows.setdefault(row["utterance"], {"label": label})
            utterance[domain] = (powers / powers.sum(axis=1, keepdims=True)).mean(axis=0)
    utterances = [rows[name] for name in sorted(rows)]
    return [
        np.array([utterance[name] for utterance in utterances])
        for name in ("visual", "audio", "label")
    ]


@pytest.mark.parametrize("knows_corpus", [True, False])
def test_fused_score_is_fitted_on_the_validation_speaker_and_is_of_the_test_speaker(
    result, run, records_folder, knows_corpus
):
    """Only savee has validation utterances with face and voice: 12 of speaker 2.

    Speaker 1 is the test speaker. The validation speaker of enterface has no voice. The stages were
    not trained on the other corpora.
    """
    score = result["sources"]["savee/fused"]
    emotions = EMOTIONS[:4]
    if not knows_corpus:
        score = score["without_corpus"]
        emotions = read_finished_stage(run / "transfer").trained_emotions
    fitted = fusion.fit_fusion(*savee_probabilities(run, records_folder, "savee:2", emotions))
    assert score["fusion"]["utterances"] == fitted.utterances == 12
    assert score["fusion"]["visual_weight"] == fitted.visual_weight
    assert score["fusion"]["temperature"] == pytest.approx(fitted.temperature, rel=1e-3)
    visual, audio, labels = savee_probabilities(run, records_folder, "savee:1", emotions)
    is_correct = fusion.fuse(fitted, visual, audio).argmax(axis=1) == labels
    assert score["wa"] == pytest.approx(is_correct.mean())
    assert score["ua"] == pytest.approx(score["wa"])  # each emotion has as many clips


def test_foreign_corpus_is_scored_with_the_fusion_of_the_training_corpora(result):
    foreign, trained = (result["sources"][f"{corpus}/fused"] for corpus in ("foreign", "savee"))
    assert foreign["fusion"] == trained["fusion"]


def test_fused_score_does_not_depend_on_which_sources_are_scored(result, run, records_folder):
    """Validation utterances are predicted for sources that are not scored, too.

    A corpus of which a single domain is scored has no fused score.
    """
    requested = ("savee/audio", "savee/visual", "foreign/visual")
    evaluation = evaluate_run(run, records_folder, "transfer", sources=requested)
    names = (*requested, "savee/fused")
    assert evaluation["sources"] == {name: result["sources"][name] for name in names}
    foreign = ("foreign/audio", "foreign/visual")
    evaluation = evaluate_run(run, records_folder, "transfer", sources=foreign)
    assert evaluation["sources"]["foreign/fused"] == result["sources"]["foreign/fused"]


def test_fused_score_has_the_default_fusion_without_a_validation_utterance_of_both_domains(
    run, records_folder, capsys
):
    """Savee is foreign to this chain: 3 utterances of each trained emotion by five speakers."""
    arguments = ["--run", str(run), "--records", str(records_folder), "--stage", "other", "--json"]
    assert evaluate.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    for source, n_clips in (("enterface/fused", 6), ("savee/fused", 45)):
        assert result["sources"][source]["fusion"] == dataclasses.asdict(Fusion())
        assert result["sources"][source]["clips"] == n_clips
    terminal.print_evaluation(result)
    lines = [line for line in capsys.readouterr().out.splitlines() if "savee/fused:" in line]
    assert any("0.50 and 0.50" in line for line in lines)
    lineage = find_lineage(run, "other")
    assert fused_scoring.fit_served_fusion(lineage, RecordCatalog(records_folder)) == Fusion()


def test_stage_that_was_not_trained_on_a_domain_has_no_fused_score(run, records_folder):
    result = evaluate_run(run, records_folder, "pretrain")
    assert not [source for source in result["sources"] if source.endswith("/fused")]
    expected = [source for source in SETS if source.endswith("/audio")]
    assert sorted(result["not_scored"]) == sorted(expected)


def test_exported_fusion_is_the_fusion_without_the_corpus(result, run, records_folder):
    lineage = find_lineage(run, "transfer")
    served = fused_scoring.fit_served_fusion(lineage, RecordCatalog(records_folder))
    expected = result["sources"]["savee/fused"]["without_corpus"]["fusion"]
    assert dataclasses.asdict(served) == expected
    assert served.utterances == 12
