"""What ships: the preset loads by name, says the truth of itself, and can be made again."""

import json
import re

import numpy as np
import pytest

from kerasemo import presets
from kerasemo.config.loading import load_experiment
from kerasemo.config.schema import NetworkConfig, StageConfig
from kerasemo.exporting import model_card
from kerasemo.networks.inference import predictor
from kerasemo.serving import bundle, training_clips
from kerasemo.serving.bundle import Bundle
from pipelines.core import files
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec

NAME = "emodb-speech"


def test_the_shipped_preset_answers_by_its_name():
    """A voiced sound of a second; the network that `from_preset` gives embeds as the graph does."""
    model = Bundle.load(NAME)
    assert model.labels == (
        "anger",
        "boredom",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
    ) and model.domains == ("audio",)
    time = np.arange(16_000) / 16_000
    waveform = (0.3 * np.sin(2 * np.pi * 150 * time) * (1 + np.sin(2 * np.pi * 4 * time))).astype(
        np.float32
    )
    found = model.predict("speech", waveform=waveform[None])
    assert (
        found["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        and found["emotion"][0] in model.labels
    )
    segments = np.random.default_rng(1).normal(-40, 10, (3, 64, 64, 3)).astype(np.float32)
    segments[..., 1:] = 0
    network = presets.from_preset(NAME)
    assert network.count_params() <= 1_200_000
    embedding = predictor(network)(segments, 1)["embedding"]
    np.testing.assert_allclose(
        model.predict("embed_segments", segments=segments)["embedding"], embedding, atol=1e-5
    )


def test_it_was_trained_on_emodb_alone_without_its_held_out_speaker():
    """Fold 0 holds out the first of the ten; nine are known by their hashes."""
    model = Bundle.load(NAME)
    training = model.document["training"]
    assert training["trained_on"] == ["emodb/audio"] and len(training["stages"]) == 1
    assert (training["protocol"], training["fold"], training["seed"]) == (
        "speaker-independent",
        0,
        0,
    )
    known = training_clips.read_training_clips(model.folder / "assets" / "training_clips.json")
    others = {
        files.text_sha256(f"emodb:{speaker}")
        for speaker in ("08", "09", "10", "11", "12", "13", "14", "15", "16")
    }
    assert known.speakers == others and files.text_sha256("emodb:03") not in known.speakers
    assert len(known.files) == 535 - 49
    assert training["stages"][0]["split"]["emodb/audio"]["test"] == 49
    assert (training["speakers"]["emodb/audio"]["test"], training["parameters"]) == (
        ["emodb:03"],
        499_308,
    )
    assert (
        "Speakers of emodb/audio: train 8; validation 1 (emodb:08); test 1 (emodb:03)."
        in model.card
    )
    assert (
        "One network of kerasemo, 499 308 weights in all, reads 64x64x3 log-Mel segments."
        in model.card
    )
    assert model.card == model_card.model_card(model.document)


def test_its_settings_are_those_of_the_experiment_that_its_card_names():
    """So the card's command makes it again: the same stage, network and seed."""
    model = Bundle.load(NAME)
    training = model.document["training"]
    experiment = load_experiment(training["experiment"])
    assert StageConfig.from_json(training["stages"][0]["settings"]) == experiment.stage(
        training["stage"]
    )
    assert NetworkConfig.from_json(training["network"]) == experiment.network
    words = "--stage speech --experiment emodb --protocol speaker-independent --fold 0 --seed 0"
    assert f"python -m kerasemo.train {words} --records" in model.card
    assert "CC0-1.0" in model.card and "fear" in model.card and "portray" in model.card
    assert (
        json.loads((model.folder / "assets" / "spec.json").read_text(encoding="utf-8"))[
            "sample_rate_hz"
        ]
        == Spec().sample_rate_hz
    )
    assert set(model.labels) < set(EMOTIONS)


def test_a_card_promises_no_command_for_what_was_changed_for_it():
    """With other epochs by --set, or by a file of its own name, the shipped experiment would make another network."""
    document = Bundle.load(NAME).document
    command = "python -m kerasemo.train --stage speech --experiment emodb"
    assert command in model_card.model_card(
        document
    ) and "(the sound of emodb with `--waveform`)" in model_card.model_card(document)
    for changed in ("settings", "experiment"):
        other = json.loads(json.dumps(document))
        if changed == "settings":
            other["training"]["stages"][0]["settings"]["epochs"] += 1
        else:
            other["training"]["experiment"] = "mine"
        assert command not in model_card.model_card(
            other
        ) and "is not shipped, or was changed" in model_card.model_card(other)


def test_a_card_asks_for_the_waveform_of_what_was_heard_alone():
    document = json.loads(json.dumps(Bundle.load(NAME).document))
    document["training"]["trained_on"] = ["fer2013/visual"]
    assert "each made with `python -m pipelines.build`. " in model_card.model_card(document)


def test_the_corpus_gives_the_scores_of_its_card(emodb_records, command):
    """The held-out speaker's clips, read anew from the media, answered by the served graph."""
    finished = command(
        "kerasemo.evaluate", "--model", NAME, "--records", emodb_records[0], "--json"
    )
    assert finished.returncode == 0, finished.stderr
    score = json.loads(finished.stdout)["sources"]["emodb/audio"]
    said = Bundle.load(NAME).document["training"]["stages"][0]["scores"]["emodb/audio"]
    assert (score["clips"], score["confusion"]) == (49, said["confusion"])
    (line,) = re.findall(r"- emodb/audio \(49 clips\): UA (\S+), WA (\S+),", Bundle.load(NAME).card)
    assert line == (f"{score['ua']:.3f}", f"{score['wa']:.3f}")
    assert score["ua"] > 0.7


def test_no_other_corpus_is_in_what_ships():
    """Only EMO-DB's licence allows it."""
    assert {
        source
        for name in bundle.shipped_presets()
        for source in Bundle.load(name).document["training"]["trained_on"]
    } == {"emodb/audio"}
