"""Tests of the scores of a bundle: equal to its run, without clips of the training."""

import dataclasses
import json
import shutil
import types
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers.messages import key_words
from helpers.synthetic_sets import write_experiment, write_set
from helpers.trainings import train_only
from kerasemo import evaluate
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.evaluation.bundle_scoring import evaluate_bundle
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.evaluation.fused_scoring import fit_served_fusion
from kerasemo.exporting import provenance
from kerasemo.reporting import terminal
from kerasemo.runs.lineage import find_lineage
from kerasemo.training.experiment import TrainingOptions
from pipelines.core.errors import DataError
from pipelines.core.files import write_json
from pipelines.core.labels import EMOTIONS

STAGES = {
    "pretrain": {
        "kind": "supervised",
        "sources": ["enterface/visual"],
        "epochs": 4,
        "batch": 16,
        "learning_rate": 1e-2,
    },
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "epochs": 4,
        "batch": 16,
    },
}
LABELS = EMOTIONS[:4]
"""The emotions of enterface and savee together."""

SCORE_NAMES = {
    "clips",
    "ua",
    "wa",
    "macro_f1",
    "chance",
    "confusion",
    "emotions",
    "calibration_error",
    "publisher_split",
}


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records")
    write_set(out, "enterface/visual", speakers=4)
    write_set(out, "savee/visual", speakers=4, emotions=EMOTIONS[1:4], takes=3, seed=1)
    write_set(out, "savee/audio", speakers=4, emotions=EMOTIONS[1:4], takes=3, seed=2)
    write_set(out, "foreign/audio", speakers=2, emotions=EMOTIONS[2:6], seed=3)
    return out


@pytest.fixture(scope="module")
def run(records_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    experiment = str(write_experiment(folder / "toy.toml", **STAGES))
    train_only(TrainingOptions("transfer", experiment, records_folder, folder))
    return folder


class FakeBundle:
    """Stands in for `kerasemo.serving.bundle.Bundle`, with the predictions of the run's network."""

    labels = LABELS
    domains = ("visual", "audio")

    def __init__(self, folder: Path, predict, *, fusion, trained_on, has_mask: bool = True):
        self.folder, self.fusion, self._predict = folder, fusion, predict
        signatures = ["faces", "segments", "embed_faces", "embed_segments"]
        if has_mask:
            signatures.append("faces_masked")
        self.document = {
            "name": "toy",
            "signatures": dict.fromkeys(signatures),
            "training": {"trained_on": trained_on},
        }
        self.called_signatures = []

    @property
    def training_clips_path(self) -> Path:
        return self.folder / "assets" / "training_clips.json"

    def predict(self, signature, *, mask=None, **inputs):
        assert signature in self.document["signatures"]
        ((name, items),) = inputs.items()
        self.called_signatures.append(signature)
        outputs = self._predict(items, ("faces", "segments").index(name))
        if signature.startswith("embed"):
            return {"embedding": outputs.embedding}
        logits = outputs.logits[:, [EMOTIONS.index(label) for label in self.labels]]
        if mask is not None:
            assert mask.shape == logits.shape
            logits = np.where(mask == 1, logits, -np.inf)
        probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
        return {"probabilities": probabilities, "labels": None}


@pytest.fixture(scope="module")
def make_bundle(run, records_folder, tmp_path_factory) -> Callable[..., FakeBundle]:
    """A function that makes a bundle of the run."""
    lineage, catalog = find_lineage(run, "transfer"), RecordCatalog(records_folder)
    predict = lineage.load_network().predictor()
    fusion = dataclasses.asdict(fit_served_fusion(lineage, catalog))

    def make(**options) -> FakeBundle:
        folder = tmp_path_factory.mktemp("bundle") / "1"
        (folder / "assets").mkdir(parents=True)
        trained_on = lineage.trained_on
        bundle = FakeBundle(folder, predict, fusion=fusion, trained_on=trained_on, **options)
        write_json(bundle.training_clips_path, provenance.training_clips(lineage, catalog))
        return bundle

    return make


@pytest.fixture(scope="module")
def run_result(run, records_folder) -> dict:
    """The evaluation of the run."""
    return evaluate_run(run, records_folder, "transfer")


def assert_same_score(score, expected):
    """Check that two scores are equal except for the last digits of float32.

    Only entries that both have are compared. One of the two scores may have a fusion.
    """
    common = score.keys() & expected.keys()
    assert common >= SCORE_NAMES
    for name in common:
        if name in ("without_corpus", "all_classes"):
            for part, value in expected[name].items():
                assert score[name][part] == approximately(value), (name, part)
        else:
            assert score[name] == approximately(expected[name]), name


def approximately(value):
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value


def read_rows(path: Path) -> tuple[dict, list[dict]]:
    """Return a manifest and its rows, which a test may change."""
    manifest = json.loads(path.read_text())
    return manifest, manifest["clips"]


@pytest.mark.parametrize("has_mask", [True, False])
def test_scores_of_a_bundle_equal_the_scores_of_its_run(
    make_bundle, run_result, records_folder, has_mask
):
    """Clips of the three trained speakers are left out: enterface 3 x 3 x 2, savee 3 x 3 x 3."""
    result = evaluate_bundle(make_bundle(has_mask=has_mask), records_folder)
    assert sorted(result["sources"]) == sorted(run_result["sources"])
    for source in ("enterface/visual", "savee/visual", "savee/audio", "foreign/audio"):
        assert_same_score(result["sources"][source], run_result["sources"][source])
        assert result["sources"][source]["trained_speakers"] == 0
    left_out = {source: score.get("left_out") for source, score in result["sources"].items()}
    assert left_out == {
        "enterface/visual": 18,
        "foreign/audio": 0,
        "savee/audio": 27,
        "savee/visual": 27,
        "savee/fused": None,
    }
    assert result["model"] == "toy"
    assert result["trained_on"] == ["enterface/visual", "savee/audio"]
    assert not result["not_scored"]
    assert result["matching"]["before"] is None
    for couple, score in run_result["matching"]["after"]["couples"].items():
        assert result["matching"]["after"]["couples"][couple] == pytest.approx(score, abs=1e-5)
    json.dumps(result, allow_nan=False)


def test_fused_score_uses_the_fusion_of_the_bundle(make_bundle, run_result, records_folder):
    bundle = make_bundle()
    score = evaluate_bundle(bundle, records_folder)["sources"]["savee/fused"]
    expected = run_result["sources"]["savee/fused"]
    assert score["fusion"] == score["without_corpus"]["fusion"] == bundle.fusion
    assert bundle.fusion["utterances"] == 6
    assert score["clips"] == expected["clips"] == 9
    for name in ("ua", "wa", "macro_f1", "calibration_error"):
        open_score = score["without_corpus"][name]
        assert open_score == pytest.approx(expected["without_corpus"][name], abs=1e-5)
    bundle.fusion = {"visual_weight": 1.0, "temperature": 1.0, "utterances": 0}
    scores = evaluate_bundle(bundle, records_folder)["sources"]
    assert_same_score(scores["savee/fused"], scores["savee/visual"])


def test_faces_are_predicted_with_the_mask_if_it_leaves_out_an_emotion(make_bundle, records_folder):
    """All three corpora lack one of the four labels. Foreign has no faces."""
    bundle = make_bundle()
    evaluate_bundle(bundle, records_folder)
    counts = {name: bundle.called_signatures.count(name) for name in bundle.called_signatures}
    assert counts == dict.fromkeys(bundle.document["signatures"], 2)


def test_renamed_copy_is_left_out_by_its_content(make_bundle, records_folder, tmp_path):
    """A copy of enterface has another name. Two clips of a training speaker have other bytes.

    The first of the two has the content of a trained clip once the bundle names that content. The
    second is scored, as a clip of a trained speaker.
    """
    shutil.copytree(records_folder / "enterface", tmp_path / "renamed")
    path = tmp_path / "renamed" / "visual" / "manifest.json"
    manifest, rows = read_rows(path)
    for row in rows:
        for name in ("utterance", "speaker"):
            row[name] = row[name].replace("enterface", "renamed")
    first, second = [row for row in rows if row["speaker"] == "renamed:3"][:2]
    first |= {"sha256": "bytes 1", "content": "content 1"}
    second |= {"sha256": "bytes 2", "speaker": "enterface:3"}
    write_json(path, manifest)
    bundle = make_bundle()
    score = evaluate_bundle(bundle, tmp_path)["sources"]["renamed/visual"]
    assert (score["clips"], score["left_out"], score["trained_speakers"]) == (8, 16, 1)
    trained = json.loads(bundle.training_clips_path.read_text())
    write_json(bundle.training_clips_path, trained | {"contents": ["content 1"]})
    score = evaluate_bundle(bundle, tmp_path)["sources"]["renamed/visual"]
    assert (score["clips"], score["left_out"], score["trained_speakers"]) == (7, 17, 1)


def test_test_split_of_a_publisher_is_scored(make_bundle, records_folder, tmp_path):
    shutil.copytree(records_folder / "foreign", tmp_path / "foreign")
    path = tmp_path / "foreign" / "audio" / "manifest.json"
    manifest, rows = read_rows(path)
    for row in rows:
        row["split"] = "test" if row["speaker"] == "foreign:2" else "train"
    write_json(path, manifest)
    score = evaluate_bundle(make_bundle(), tmp_path)["sources"]["foreign/audio"]
    assert score["publisher_split"]
    assert (score["clips"], score["left_out"]) == (4, 0)

    for row in rows:
        row["split"] = "train"
    write_json(path, manifest)
    result = evaluate_bundle(make_bundle(), tmp_path)
    assert set(result["not_scored"]) == {"foreign/audio"}
    assert "0 of 16" in result["not_scored"]["foreign/audio"]
    assert result["sources"] == {}
    assert result["matching"]["after"] == {"couples": {}, "scatter": {}}


@pytest.fixture
def three_sets(records_folder, tmp_path) -> Path:
    """Records of untrained emotions, of faces, and of the corpus of the training."""
    write_set(tmp_path, "b/audio", speakers=1, emotions=EMOTIONS[7:9])
    write_set(tmp_path, "c/visual", speakers=1)
    shutil.copytree(records_folder / "enterface", tmp_path / "enterface")
    return tmp_path


def test_source_without_an_unseen_clip_of_a_trained_emotion_is_not_scored(make_bundle, three_sets):
    bundle = make_bundle()
    _, rows = read_rows(three_sets / "enterface" / "visual" / "manifest.json")
    trained = json.loads(bundle.training_clips_path.read_text())
    trained["files"] += [row["sha256"] for row in rows]
    write_json(bundle.training_clips_path, trained)
    reasons = evaluate_bundle(bundle, three_sets)["not_scored"]
    assert set(reasons) == {"b/audio", "enterface/visual"}
    assert ", ".join(LABELS) in reasons["b/audio"]
    assert "24 of 24" in reasons["enterface/visual"]


def test_source_of_an_untrained_domain_is_not_scored(make_bundle, three_sets):
    bundle = make_bundle()
    bundle.domains = ("audio",)
    result = evaluate_bundle(bundle, three_sets)
    for source in ("c/visual", "enterface/visual"):
        assert "visual" in result["not_scored"][source]
    assert not result["sources"]


def test_model_without_a_head_scores_no_source(make_bundle, three_sets):
    bundle = make_bundle()
    bundle.document["signatures"] = {"embed_faces": {}, "embed_segments": {}}
    result = evaluate_bundle(bundle, three_sets)
    assert not result["sources"]
    assert set(result["not_scored"]) == {"b/audio", "c/visual", "enterface/visual"}
    assert all("emotion" in reason for reason in result["not_scored"].values())


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, ["missing"]), ("{", ["damaged", "export"]), ("[]", ["lists", "hashes"])],
)
def test_bundle_without_the_list_of_training_clips_is_an_error(
    make_bundle, records_folder, text, words
):
    bundle = make_bundle()
    if text is None:
        bundle.training_clips_path.unlink()
    else:
        bundle.training_clips_path.write_text(text)
    with pytest.raises(DataError, match=key_words("training_clips.json", *words)):
        evaluate_bundle(bundle, records_folder)


# The command.


def test_command_evaluates_a_model(make_bundle, records_folder, monkeypatch, capsys):
    from kerasemo.serving import bundle as bundle_module

    loaded_names = []

    def load(name):
        loaded_names.append(name)
        return make_bundle()

    monkeypatch.setattr(bundle_module, "Bundle", types.SimpleNamespace(load=load))
    arguments = ["--model", "toy", "--records", str(records_folder)]
    assert evaluate.main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert loaded_names == ["toy"]
    assert list(result) == ["model", "trained_on", "sources", "not_scored", "matching"]
    assert evaluate.main(arguments) == 0
    printed = capsys.readouterr().out
    terminal.print_model_evaluation(result)
    assert printed == capsys.readouterr().out
    assert "enterface/visual: 18 clips" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--run", "--model", "required"]),
        (["--run", "a", "--model", "b"], ["--model", "not allowed", "--run"]),
        (["--model", "b", "--stage", "joint"], ["--stage", "run folder"]),
    ],
)
def test_command_needs_either_a_run_or_a_model(arguments, words, capsys):
    with pytest.raises(SystemExit) as caught:
        evaluate.main([*arguments, "--records", "records"])
    assert caught.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert all(word in message for word in words)
