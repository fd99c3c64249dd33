"""An exported model scored on records: the same figures as its run, without the clips that it was trained on."""

import dataclasses
import json
import shutil
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers.synthetic_sets import write_experiment, write_set
from helpers.trainings import train_only
from kerasemo import evaluate
from kerasemo.evaluation import bundle_scoring, evaluator, fused_scoring
from kerasemo.exporting import provenance
from kerasemo.reporting import terminal
from kerasemo.runs import lineage
from kerasemo.training.experiment import Options
from pipelines.core.errors import DataError
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
"""Of enterface and savee together."""


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
    train_only(Options("transfer", experiment, records_folder, folder))
    return folder


class Model:
    """What `kerasemo.serving.bundle.Bundle` is asked for, answered by the run's own network."""

    labels = LABELS
    domains = ("visual", "audio")

    def __init__(self, folder: Path, predict, *, fusion, trained_on, masked: bool = True):
        self.folder, self.fusion, self._predict = folder, fusion, predict
        names = [
            "faces",
            "segments",
            "embed_faces",
            "embed_segments",
            *(["faces_masked"] if masked else []),
        ]
        self.document = {
            "name": "toy",
            "signatures": dict.fromkeys(names),
            "training": {"trained_on": trained_on},
        }
        self.asked = []

    def predict(self, signature, *, mask=None, **inputs):
        assert signature in self.document["signatures"]
        (name, items), = inputs.items()  # fmt: skip
        self.asked.append((signature, len(items)))
        outputs = self._predict(items, ("faces", "segments").index(name))
        if signature.startswith("embed"):
            return {"embedding": outputs["embedding"]}
        logits = outputs["logits"][:, [EMOTIONS.index(label) for label in self.labels]]
        if mask is not None:
            assert mask.shape == logits.shape
            logits = np.where(mask == 1, logits, -np.inf)
        return {
            "probabilities": keras.ops.convert_to_numpy(keras.ops.softmax(logits)),
            "labels": None,
        }


@pytest.fixture(scope="module")
def model(run, records_folder, tmp_path_factory):
    """A function that makes a bundle of the run."""
    of = lineage.find(run, "transfer")
    predict, _ = of.network()
    fusion = dataclasses.asdict(fused_scoring.fitted(run, "transfer", records_folder))

    def make(**options):
        folder = tmp_path_factory.mktemp("bundle") / "1"
        (folder / "assets").mkdir(parents=True)
        provenance.dump(
            folder / "assets" / "training_clips.json", provenance.training_clips(of, records_folder)
        )
        return Model(folder, predict, fusion=fusion, trained_on=of.trained_on, **options)

    return make


@pytest.fixture(scope="module")
def of_run(run, records_folder):
    return evaluator.evaluate(evaluator.Options(run, records_folder, "transfer"))


def assert_same(found, expected):
    """Two scores are the same but for the last digits of float32, in all keys that both have; only one has a fusion."""
    both = found.keys() & expected.keys()
    assert {
        "clips",
        "ua",
        "wa",
        "macro_f1",
        "chance",
        "confusion",
        "emotions",
        "calibration_error",
        "publisher_split",
    } <= both
    for key in both - {"without_corpus", "all_classes"}:
        assert found[key] == (
            pytest.approx(expected[key], abs=1e-5)
            if isinstance(expected[key], float)
            else expected[key]
        )
    for part in both & {"without_corpus", "all_classes"}:
        for name, value in expected[part].items():
            assert found[part][name] == (
                value if name == "emotions" else pytest.approx(value, abs=1e-5)
            ), (part, name)


@pytest.mark.parametrize("masked", [True, False])
def test_the_scores_are_those_of_the_run(model, of_run, records_folder, masked):
    """Left out are the clips of the three speakers that are not tested: 3 x 3 x 2, and of both domains of savee 3 x 3 x 3."""
    result = bundle_scoring.evaluate(model(masked=masked), records_folder)
    assert (
        sorted(result["sources"]) == sorted(of_run["sources"])
        and "savee/fused" in result["sources"]
    )
    for source in ("enterface/visual", "savee/visual", "savee/audio", "foreign/audio"):
        assert_same(result["sources"][source], of_run["sources"][source])
        assert result["sources"][source]["trained_speakers"] == 0
    counts = {source: score.get("left_out") for source, score in result["sources"].items()}
    assert counts == {
        "enterface/visual": 18,
        "foreign/audio": 0,
        "savee/audio": 27,
        "savee/visual": 27,
        "savee/fused": None,
    }
    assert (
        result["model"] == "toy"
        and result["trained_on"] == ["enterface/visual", "savee/audio"]
        and not result["not_scored"]
    )
    assert result["matching"]["before"] is None
    for couple, score in of_run["matching"]["after"]["couples"].items():
        assert result["matching"]["after"]["couples"][couple] == pytest.approx(score, abs=1e-5)
    json.dumps(result, allow_nan=False)


def test_the_fused_row_is_of_the_models_own_fusion(model, of_run, records_folder):
    bundle = model()
    found = bundle_scoring.evaluate(bundle, records_folder)["sources"]["savee/fused"]
    expected = of_run["sources"]["savee/fused"]
    assert (
        found["fusion"] == found["without_corpus"]["fusion"] == bundle.fusion
        and bundle.fusion["utterances"] == 6
    )
    assert found["clips"] == expected["clips"] == 9
    for name in ("ua", "wa", "macro_f1", "calibration_error"):
        assert found["without_corpus"][name] == pytest.approx(
            expected["without_corpus"][name], abs=1e-5
        )
    bundle.fusion = {"visual_weight": 1.0, "temperature": 1.0, "utterances": 0}
    found = bundle_scoring.evaluate(bundle, records_folder)["sources"]
    assert_same(found["savee/fused"], found["savee/visual"])


def test_faces_are_asked_with_the_mask_only_where_it_leaves_something_out(model, records_folder):
    """All three corpora lack one of the four labels; foreign has no face."""
    bundle = model()
    bundle_scoring.evaluate(bundle, records_folder)
    asked = [signature for signature, _ in bundle.asked]
    assert asked.count("faces") == asked.count("faces_masked") == asked.count("embed_faces") == 2
    assert asked.count("segments") == asked.count("embed_segments") == 2
    assert set(dict(bundle.asked)) == set(bundle.document["signatures"])


def test_a_copy_under_other_names_is_left_out_by_its_content(model, records_folder, tmp_path):
    """enterface of another name, one file of it changed in its bytes alone, and one of another content as well: that one is scored."""
    shutil.copytree(records_folder / "enterface", tmp_path / "renamed")
    path = tmp_path / "renamed" / "visual" / "manifest.json"
    manifest = json.loads(path.read_text())
    for row in manifest["clips"]:
        row["utterance"], row["speaker"] = (
            row[key].replace("enterface", "renamed") for key in ("utterance", "speaker")
        )
    trained = [row for row in manifest["clips"] if row["speaker"] == "renamed:3"]
    trained[0]["sha256"], trained[0]["content"] = "other bytes", "what was read"
    trained[1]["sha256"], trained[1]["speaker"] = "other", "enterface:3"
    path.write_text(json.dumps(manifest))
    bundle = model()
    clips = bundle.folder / "assets" / "training_clips.json"
    score = bundle_scoring.evaluate(bundle, tmp_path)["sources"]["renamed/visual"]
    assert (score["clips"], score["left_out"], score["trained_speakers"]) == (8, 16, 1)
    clips.write_text(json.dumps(json.loads(clips.read_text()) | {"contents": ["what was read"]}))
    score = bundle_scoring.evaluate(bundle, tmp_path)["sources"]["renamed/visual"]
    assert (score["clips"], score["left_out"], score["trained_speakers"]) == (7, 17, 1)


def test_of_a_publishers_split_the_test_side_is_scored(model, records_folder, tmp_path):
    shutil.copytree(records_folder / "foreign", tmp_path / "foreign")
    path = tmp_path / "foreign" / "audio" / "manifest.json"
    manifest = json.loads(path.read_text())
    for row in manifest["clips"]:
        row["split"] = "test" if row["speaker"] == "foreign:2" else "train"
    path.write_text(json.dumps(manifest))
    score = bundle_scoring.evaluate(model(), tmp_path)["sources"]["foreign/audio"]
    assert score["publisher_split"] and score["clips"] == 4 and score["left_out"] == 0
    for row in manifest["clips"]:
        row["split"] = "train"
    path.write_text(json.dumps(manifest))
    result = bundle_scoring.evaluate(model(), tmp_path)
    assert result["not_scored"] == {
        "foreign/audio": "0 of its 16 clips were trained on, and no other is on its test side"
    }
    assert result["sources"] == {} and result["matching"]["after"] == {"couples": {}, "scatter": {}}


def test_what_is_not_scored_says_why(model, records_folder, tmp_path):
    bundle = model()
    write_set(tmp_path, "b/audio", speakers=1, emotions=EMOTIONS[7:9])
    write_set(tmp_path, "c/visual", speakers=1)
    shutil.copytree(records_folder / "enterface", tmp_path / "enterface")
    path = tmp_path / "enterface" / "visual" / "manifest.json"
    known = json.loads((bundle.folder / "assets" / "training_clips.json").read_text())
    known["files"] += [row["sha256"] for row in json.loads(path.read_text())["clips"]]
    (bundle.folder / "assets" / "training_clips.json").write_text(json.dumps(known))
    labels = ", ".join(LABELS)
    alone = {
        "b/audio": f"no emotion in common with those trained on ({labels})",
        "enterface/visual": "24 of its 24 clips were trained on",
    }
    assert bundle_scoring.evaluate(bundle, tmp_path)["not_scored"] == alone
    bundle.domains = ("audio",)
    result = bundle_scoring.evaluate(bundle, tmp_path)
    assert (
        result["not_scored"]["c/visual"] == "the model has not been trained on visual"
        and not result["sources"]
    )
    bundle.domains = ("visual", "audio")
    bundle.document["signatures"] = {"embed_faces": {}, "embed_segments": {}}
    reasons = bundle_scoring.evaluate(bundle, tmp_path)["not_scored"]
    assert set(reasons.values()) == {"the model embeds faces and voices, and has no answers"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "missing, so nothing shows which clips"),
        ("{", "damaged .*; export the model again"),
        ("[]", "expected lists of hashes"),
    ],
)
def test_a_model_that_does_not_say_what_it_was_trained_on_is_refused(
    model, records_folder, text, expected
):
    bundle = model()
    path = bundle.folder / "assets" / "training_clips.json"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataError, match=f"training_clips.json: {expected}"):
        bundle_scoring.evaluate(bundle, records_folder)


# The verb.


def test_evaluate_takes_a_model(model, records_folder, monkeypatch, capsys):
    from kerasemo.serving import bundle as bundle_module

    named = []
    monkeypatch.setattr(
        bundle_module,
        "Bundle",
        types.SimpleNamespace(load=lambda name: named.append(name) or model()),
    )
    assert evaluate.main(["--model", "toy", "--records", str(records_folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert named == ["toy"] and list(result) == [
        "model",
        "trained_on",
        "sources",
        "not_scored",
        "matching",
    ]
    assert evaluate.main(["--model", "toy", "--records", str(records_folder)]) == 0
    out = capsys.readouterr().out
    terminal.print_model_evaluation(result)
    assert (
        out == capsys.readouterr().out
        and "enterface/visual: 18 clips left out: the model was trained on these utterances" in out
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "one of the arguments --run --model is required"),
        (["--run", "a", "--model", "b"], "--model: not allowed with argument --run"),
        (["--model", "b", "--stage", "joint"], "--stage is of a run folder"),
    ],
)
def test_a_run_or_a_model_is_named(words, expected, capsys):
    with pytest.raises(SystemExit) as stopped:
        evaluate.main([*words, "--records", "records"])
    assert stopped.value.code == 2 and expected in capsys.readouterr().err
