"""The shipped preset: it loads by its name, its card is true, and it can be trained again."""

import copy
import json
import re

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


def test_keras_network_of_a_preset_embeds_as_its_graph_does(preset):
    segments = np.random.default_rng(1).normal(-40, 10, (3, 64, 64, 3)).astype(np.float32)
    segments[..., 1:] = 0
    network = load_preset(NAME)
    assert network.model.count_params() <= 1_200_000
    expected = network.predictor()(segments, 1).embedding
    embedding = preset.predict("embed_segments", segments=segments)["embedding"]
    np.testing.assert_allclose(embedding, expected, atol=1e-5)


def test_preset_was_trained_on_emodb_without_the_test_speaker(preset):
    """Fold 0 tests the first of the ten speakers; the others are known by their hashes."""
    training = preset.document["training"]
    assert training["trained_on"] == ["emodb/audio"]
    assert len(training["stages"]) == 1
    assert training["protocol"] == "speaker-independent"
    assert (training["fold"], training["seed"]) == (0, 0)
    known = training_clips.read_training_clips(preset.folder / "assets" / "training_clips.json")
    others = [f"emodb:{number:02d}" for number in range(8, 17)]
    assert known.speakers == set(map(text_sha256, others))
    assert text_sha256("emodb:03") not in known.speakers
    assert len(known.files) == 535 - 49
    assert training["stages"][0]["split"]["emodb/audio"]["test"] == 49
    assert training["speakers"]["emodb/audio"]["test"] == ["emodb:03"]
    assert training["parameters"] == 499_308


def test_card_of_the_preset_is_that_of_its_document(preset):
    speakers = "Speakers of emodb/audio: train 8; validation 1 (emodb:08); test 1 (emodb:03)"
    assert speakers in preset.card
    assert "499 308 weights" in preset.card
    assert "64x64x3 log-Mel segments" in preset.card
    assert preset.card == model_card(preset.document)


def test_settings_of_the_preset_are_those_of_the_experiment_on_its_card(preset):
    """So the command on the card trains the same stage and network with the same seed."""
    training = preset.document["training"]
    experiment = load_experiment(training["experiment"])
    settings = StageConfig.from_json(training["stages"][0]["settings"])
    assert settings == experiment.stage(training["stage"])
    assert NetworkConfig.from_json(training["network"]) == experiment.network
    options = "--protocol speaker-independent --fold 0 --seed 0 --records"
    assert f"{TRAINING_COMMAND} {options}" in preset.card
    for key_word in ("CC0-1.0", "fear", "portray"):
        assert key_word in preset.card
    spec = json.loads((preset.folder / "assets" / "spec.json").read_text(encoding="utf-8"))
    assert spec["sample_rate_hz"] == Spec().sample_rate_hz
    assert set(preset.labels) < set(EMOTIONS)


def change_epochs(training: dict) -> None:
    training["stages"][0]["settings"]["epochs"] += 1


def change_experiment(training: dict) -> None:
    training["experiment"] = "mine"


@pytest.mark.parametrize("change", [change_epochs, change_experiment])
def test_card_has_no_training_command_if_the_shipped_experiment_differs(document, change):
    """The epochs were changed with `--set`, or the experiment is a file of the user."""
    assert TRAINING_COMMAND in model_card(document)
    change(document["training"])
    card = model_card(document)
    assert TRAINING_COMMAND not in card
    assert "is not shipped, or was changed" in card


def test_card_asks_for_waveforms_of_audio_alone(document):
    assert "emodb with `--waveform`" in model_card(document)
    document["training"]["trained_on"] = ["fer2013/visual"]
    card = model_card(document)
    assert "python -m pipelines.build" in card
    assert "--waveform" not in card


def test_corpus_gives_the_scores_on_the_card(preset, emodb_records, command):
    """The served graph predicts the test speaker's clips, which are read from the media."""
    arguments = ("--model", NAME, "--records", emodb_records[0], "--json")
    finished = command("kerasemo.evaluate", *arguments)
    assert finished.returncode == 0, finished.stderr
    score = json.loads(finished.stdout)["sources"]["emodb/audio"]
    stated = preset.document["training"]["stages"][0]["scores"]["emodb/audio"]
    assert score["clips"] == 49
    assert score["confusion"] == stated["confusion"]
    (scores,) = re.findall(r"- emodb/audio \(49 clips\): UA (\S+), WA (\S+),", preset.card)
    assert scores == (f"{score['ua']:.3f}", f"{score['wa']:.3f}")
    assert score["ua"] > 0.7


def test_presets_are_trained_on_emodb_alone():
    """No other corpus has a licence that allows it."""
    documents = [Bundle.load(name).document for name in bundle.shipped_presets()]
    sources = {source for document in documents for source in document["training"]["trained_on"]}
    assert sources == {"emodb/audio"}
