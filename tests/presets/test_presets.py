"""Tests of the shipped preset: it loads by name, its card is true, and it can be trained again."""

import copy
import json

import numpy as np
import pytest

from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.exporting.model_card import model_card
from kerasemo.presets import load_preset
from kerasemo.serving import bundle, training_clips
from kerasemo.serving.bundle import Bundle
from pipelines.core.files import text_sha256
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec

NAME = "emodb-speech"
TRAINING_COMMAND = "python -m kerasemo.train --stage speech --experiment emodb"


@pytest.fixture(scope="module")
def preset() -> Bundle:
    return Bundle.load(NAME)


@pytest.fixture
def document(preset) -> dict:
    """A copy of the document of the preset, which a test may change."""
    return copy.deepcopy(preset.document)


def test_preset_predicts_the_emotion_of_a_voiced_second(preset):
    assert preset.labels == (
        "anger",
        "boredom",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
    )
    assert preset.domains == ("audio",)
    time = np.arange(16_000) / 16_000
    tone = np.sin(2 * np.pi * 150 * time) * (1 + np.sin(2 * np.pi * 4 * time))
    outputs = preset.predict("speech", waveform=(0.3 * tone).astype(np.float32)[None])
    assert outputs["probabilities"].sum() == pytest.approx(1, abs=1e-5)
    assert outputs["emotion"][0] in preset.labels


def test_keras_network_of_a_preset_has_the_embeddings_of_its_graph(preset):
    segments = np.random.default_rng(1).normal(-40, 10, (3, 64, 64, 3)).astype(np.float32)
    segments[..., 1:] = 0
    network = load_preset(NAME)
    assert network.model.count_params() <= 1_200_000
    expected = network.predictor()(segments, 1).embedding
    embedding = preset.predict("embed_segments", segments=segments)["embedding"]
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


def test_preset_was_trained_on_emodb_without_the_test_speaker(preset):
    """Fold 0 tests the first of ten speakers. The bundle has hashes of the nine speakers left."""
    training = preset.document["training"]
    assert training["trained_on"] == ["emodb/audio"]
    assert len(training["stages"]) == 1
    assert training["protocol"] == "speaker-independent"
    assert (training["fold"], training["seed"]) == (0, 0)
    clips = training_clips.read_training_clips(preset.folder / "assets" / "training_clips.json")
    speakers = [f"emodb:{number:02d}" for number in range(8, 17)]
    assert clips.speakers == set(map(text_sha256, speakers))
    assert text_sha256("emodb:03") not in clips.speakers
    assert len(clips.files) == 535 - 49
    assert training["stages"][0]["split"]["emodb/audio"]["test"] == 49
    assert training["speakers"]["emodb/audio"]["test"] == ["emodb:03"]
    assert training["parameters"] == 499_308


def test_card_of_the_preset_is_the_card_of_its_document(preset):
    for word in ("(emodb:08)", "(emodb:03)", "499 308", "64x64x3", "CC0-1.0"):
        assert word in preset.card
    assert preset.card == model_card(preset.document)


def test_command_on_the_card_trains_with_the_settings_of_the_preset(preset):
    """The shipped experiment has the same stage and network, and the command has the same seed."""
    training = preset.document["training"]
    experiment = load_experiment(training["experiment"])
    settings = StageConfig.from_json(training["stages"][0]["settings"])
    assert settings == experiment.stage(training["stage"])
    assert NetworkConfig.from_json(training["network"]) == experiment.network
    options = "--protocol speaker-independent --fold 0 --seed 0 --records"
    assert f"{TRAINING_COMMAND} {options}" in preset.card
    spec = json.loads((preset.folder / "assets" / "spec.json").read_text(encoding="utf-8"))
    assert spec["sample_rate_hz"] == Spec().sample_rate_hz
    assert set(preset.labels) < set(EMOTIONS)


def change_epochs(training: dict) -> None:
    training["stages"][0]["settings"]["epochs"] += 1


def change_experiment(training: dict) -> None:
    training["experiment"] = "unshipped"


@pytest.mark.parametrize("change", [change_epochs, change_experiment])
def test_card_has_no_training_command_if_the_shipped_experiment_differs(document, change):
    """The epochs were changed with `--set`, or the experiment is a file of the user."""
    assert TRAINING_COMMAND in model_card(document)
    change(document["training"])
    card = model_card(document)
    assert TRAINING_COMMAND not in card
    assert "python -m kerasemo.train" not in card
    assert document["training"]["experiment"] in card


def test_card_names_waveforms_only_for_audio(document):
    assert "`--waveform`" in model_card(document)
    document["training"]["trained_on"] = ["fer2013/visual"]
    card = model_card(document)
    assert "python -m pipelines.build" in card
    assert "--waveform" not in card


def test_scores_on_the_card_are_scores_of_the_real_corpus(preset, emodb_records, command):
    """The served graph predicts the test speaker's clips, which are read from the media."""
    arguments = ("--model", NAME, "--records", emodb_records[0], "--json")
    finished = command("kerasemo.evaluate", *arguments)
    assert finished.returncode == 0, finished.stderr
    score = json.loads(finished.stdout)["sources"]["emodb/audio"]
    stated = preset.document["training"]["stages"][0]["scores"]["emodb/audio"]
    assert score["clips"] == 49
    assert score["confusion"] == stated["confusion"]
    for name in ("ua", "wa"):
        assert f"{name.upper()} {score[name]:.3f}" in preset.card
    assert score["ua"] > 0.7


def test_presets_are_trained_on_emodb_alone():
    """Only emodb has a licence that allows shipped weights."""
    documents = [Bundle.load(name).document for name in bundle.shipped_presets()]
    sources = {source for document in documents for source in document["training"]["trained_on"]}
    assert sources == {"emodb/audio"}
