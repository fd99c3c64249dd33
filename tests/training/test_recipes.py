"""Stages with other recipes from their training to what is served: trained, scored, evaluated and exported as one definition."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from helpers.logs import logged_lines
from helpers.messages import key_words, mentions
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.config.loading import load_experiment
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.segmentation import Segmentation
from kerasemo.evaluation import bundle_scoring, scoring
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.exporting import exporter
from kerasemo.runs.lineage import find_lineage
from kerasemo.serving.bundle import Bundle
from kerasemo.training import chain
from kerasemo.training.experiment import TrainingOptions, train_experiment
from pipelines.core.errors import InputError

COMMON = {
    "kind": "supervised",
    "sources": ["savee/audio"],
    "batch": 8,
    "epochs": 2,
    "steps": 6,
    "learning_rate": 1e-2,
}
STAGES = {
    "denser": {**COMMON, "test_hop_frames": 17, "augment": {"speed": 0.1, "noise": 0.1}},
    "own": {
        **COMMON,
        "speaker_normalization": True,
        "labelled": 1,
        "balance": "classes",
        "mixup": 0.5,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with `records` and a `run` in which both stages are trained."""
    folder = tmp_path_factory.mktemp("recipes")
    write_set(folder / "records", "savee/audio", speakers=4, takes=3, seed=1, waveform=True)
    write_experiment(folder / "toy.toml", **STAGES)
    for stage in STAGES:
        train_stage(folder, stage)
    return folder


def train_stage(folder, stage, *settings, run="run"):
    options = TrainingOptions(
        stage, str(folder / "toy.toml"), folder / "records", folder / run, settings=settings
    )
    return train_experiment(options)


def metrics_of(folder, stage):
    return json.loads((folder / "run" / stage / "metrics.json").read_text())


def test_a_recipe_is_part_of_the_key(folder):
    """With other settings the folder is another training's."""
    settings = metrics_of(folder, "denser")["key"]["stage"]
    assert (
        settings["test_hop_frames"] == 17
        and settings["augment"]["noise"] == 0.1
        and settings["steps"] == 6
    )
    for setting, expected in (
        ("denser.mixup=0.1", "stage.mixup: 0.0 in the folder, 0.1 requested"),
        ("denser.steps=7", "stage.steps: 6 in the folder, 7 requested"),
    ):
        with pytest.raises(InputError, match=expected):
            train_stage(folder, "denser", setting)


@pytest.mark.parametrize("stage", STAGES)
def test_evaluation_repeats_the_scores_of_the_training(folder, stage):
    """And that is what the network says of the segments as the stage asks for them, not as the records have them."""
    result = metrics_of(folder, stage)
    again = evaluate_run(folder / "run", folder / "records", stage)["sources"]["savee/audio"]
    scores = result["sources"]["savee/audio"]
    assert {name: again[name] for name in ("ua", "wa", "confusion", "calibration_error")} == {
        name: scores[name] for name in ("ua", "wa", "confusion", "calibration_error")
    }
    lineage = find_lineage(folder / "run", stage)
    predict = lineage.load_network().predictor()
    catalog = RecordCatalog(folder / "records")
    splits = lineage.split(catalog)
    evaluated, plain = (
        scoring.score_outputs(
            scoring.predict_subset(predict, subset),
            subset,
            trained_emotions=result["trained_emotions"],
        )[0]
        for subset in (
            catalog.subset(splits, "savee/audio", "test", segmentation)
            for segmentation in (Segmentation.for_scores(lineage.last.config), Segmentation())
        )
    )
    assert (
        evaluated["calibration_error"]
        == pytest.approx(scores["calibration_error"], abs=1e-6)
        != plain["calibration_error"]
    )


def test_results_by_speaker_statistics_are_stamped(folder):
    assert (
        metrics_of(folder, "own")["transductive"]
        and not metrics_of(folder, "denser")["transductive"]
    )
    for stage, stamped in (("own", True), ("denser", False)):
        result = evaluate_run(folder / "run", folder / "records", stage)
        assert result["sources"]["savee/audio"]["transductive"] is stamped


def test_foreign_corpus_without_speakers_is_not_scored_by_speaker_statistics(folder, tmp_path):
    shutil.copytree(folder / "records", tmp_path / "records")
    write_set(
        tmp_path / "records", "foreign/audio", speakers=3, published=("train", "validation", "test")
    )
    own_corpus, foreign_corpus = (
        evaluate_run(folder / "run", tmp_path / "records", stage) for stage in ("own", "denser")
    )
    assert own_corpus["not_scored"].keys() == {"foreign/audio"}
    assert mentions(own_corpus["not_scored"]["foreign/audio"], "speaker_normalization", "18 clips")
    assert set(own_corpus["sources"]) == {"savee/audio"} and set(foreign_corpus["sources"]) == {
        "savee/audio",
        "foreign/audio",
    }


def test_recipe_reaches_the_training(folder):
    """The steps, and a weight for each class, of the clips that are labelled."""
    experiment = load_experiment(str(folder / "toy.toml"))
    stage = experiment.stage("own")
    settings = chain.RunSettings(experiment, folder / "fresh")
    catalog = RecordCatalog(folder / "records")
    with logged_lines() as lines:
        trainer = chain.Chain(settings, [stage], catalog)._prepare([stage])["own"]
    assert trainer._steps == 6
    assert any("own: savee/audio: " in line and "3 of 21 clips" in line for line in lines)
    (weights,) = trainer._build_model().objective._class_weights
    assert np.count_nonzero(weights) == 3 and weights.sum() == pytest.approx(3, rel=0.2)
    plain = dataclasses.replace(stage, balance="none")
    trainer = chain.Chain(settings, [plain], catalog)._prepare([plain])["own"]
    assert trainer._build_model().objective._class_weights is None


def test_stage_states_its_number_of_training_clips(folder):
    split = metrics_of(folder, "own")["split"]["savee/audio"]
    assert (
        split["train"] == 3
        and split["train"] + split["train_not_labelled"]
        == metrics_of(folder, "denser")["split"]["savee/audio"]["train"]
    )


def test_stage_with_speaker_normalisation_is_not_exported(folder):
    with pytest.raises(
        InputError,
        match=key_words("own", "speaker_normalization"),
    ):
        exporter.export_stage(exporter.ExportOptions(folder / "run", folder / "none", "own"))
    assert not (folder / "none").exists()


def test_served_segments_have_the_hop_of_the_scored_segments(folder):
    """The export has compared itself with the Keras model; here its answers to sound are the stage's own to the clips."""
    exporter.export_stage(exporter.ExportOptions(folder / "run", folder / "bundle", "denser"))
    bundle = Bundle.load(folder / "bundle")
    assert (
        json.loads((folder / "bundle" / "1" / "assets" / "spec.json").read_text())[
            "segment_hop_frames"
        ]
        == 17
    )
    assert "one every 17" in bundle.card
    scored = bundle_scoring.evaluate_bundle(bundle, folder / "records")["sources"]["savee/audio"]
    scores = metrics_of(folder, "denser")["sources"]["savee/audio"]
    assert scored["confusion"] == scores["confusion"]
    assert scored["calibration_error"] == pytest.approx(scores["calibration_error"], abs=1e-5)

    data = RecordCatalog(folder / "records").utterances("savee/audio")
    line_of = {
        line.split(",")[1]: line
        for line in (folder / "run" / "denser" / "predictions.csv").read_text().splitlines()[1:]
    }
    header = (folder / "run" / "denser" / "predictions.csv").read_text().splitlines()[0].split(",")
    n_requests = 0
    for clip, waveform in zip(data.clip_of, data.waveforms, strict=True):
        if (line := line_of.get(data.rows[clip]["id"])) is None:
            continue
        probabilities = bundle.predict("speech", waveform=(waveform / np.float32(32768))[None])[
            "probabilities"
        ][0]
        expected = [float(line.split(",")[header.index(label)]) for label in bundle.labels]
        np.testing.assert_allclose(probabilities, expected, atol=1e-4)
        n_requests += 1
        if n_requests == 1:
            timeline = bundle.predict("timeline", waveform=(waveform / np.float32(32768))[None])
            np.testing.assert_allclose(timeline["starts"][0], np.arange(5) * 0.17, atol=1e-6)
    assert n_requests == len(line_of) > 0
