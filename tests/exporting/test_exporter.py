"""Tests of exports: a new process verifies a version; no version is overwritten."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from helpers.bundles import SOURCES, make_run
from helpers.messages import key_words
from helpers.synthetic_sets import write_experiment
from helpers.trainings import train_only
from kerasemo import export
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.exporting import graph, provenance, tf_serving
from kerasemo.exporting.exporter import ExportOptions, export_stage
from kerasemo.exporting.model_card import model_card
from kerasemo.runs.lineage import find_lineage
from kerasemo.runs.run_folder import FinishedStage
from kerasemo.serving import bundle, parity, runtimes
from kerasemo.serving.signatures import SIGNATURES
from kerasemo.training.experiment import TrainingOptions
from pipelines.core.errors import DataError, InputError, RunError


@pytest.fixture
def run(exported) -> Path:
    """The run folder of the exported bundle."""
    return exported.parent / "run"


@pytest.fixture
def catalog(exported) -> RecordCatalog:
    """The records that the run was trained on."""
    return RecordCatalog(exported.parent / "records")


@pytest.fixture
def skip_parity_check(monkeypatch):
    """Leave out the check in a new process, which the bundle `exported` has passed."""

    def differences(folder, calls, expected):
        return {signature: 0.0 for signature, _ in calls}

    monkeypatch.setattr(parity, "parity_differences", differences)


def read_document(version_folder: Path) -> dict:
    return json.loads((version_folder / "assets" / "bundle.json").read_text())


def test_bundle_describes_every_signature_and_its_training(exported):
    """The parity check of the fixture has compared every signature in a new process."""
    assert sorted(path.name for path in exported.iterdir()) == ["1", "serving"]
    document = read_document(exported / "1")
    assert set(document["signatures"]) == set(SIGNATURES)
    assert document["signatures"]["faces"]["inputs"] == {"faces": ["uint8", [None, 64, 64, 3]]}
    assert document["signatures"]["speech"]["outputs"]["probabilities"] == ["float32", [None, 3]]
    assert document["training"]["stages"][-1]["stage"] == "joint"
    assert not document["synthetic"]
    models = (exported / "serving" / "models.config").read_text()
    assert 'base_path: "/models/toy"' in models
    batching = (exported / "serving" / "batching.config").read_text()
    assert "pad_variable_length_inputs: false" in batching


def test_training_clips_are_stored_as_hashes(exported, run, catalog):
    clips = json.loads((exported / "1" / "assets" / "training_clips.json").read_text())
    lineage = find_lineage(run, "joint")
    splits = lineage.split(catalog)
    expected = set()
    for source in lineage.trained_on:
        clip_ids = splits.clip_ids[source]
        for row in catalog.rows(source):
            utterance = hashlib.sha256(row["utterance"].encode()).hexdigest()
            if row["id"] in {*clip_ids["train"], *clip_ids["validation"]}:
                expected.add(utterance)
            elif row["id"] in clip_ids["test"]:
                assert utterance not in clips["utterances"]
                assert row["sha256"] not in clips["files"]
    assert expected
    assert set(clips["utterances"]) == expected
    hashes = json.dumps([clips["utterances"], clips["speakers"]])
    assert "enterface" not in hashes
    assert "savee" not in hashes


def test_warm_up_has_a_small_request_for_each_signature(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    path = exported / "1" / "assets.extra" / "tf_serving_warmup_requests"
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset([str(path)])
    ]
    names = [request.model_spec.signature_name for request in requests]
    assert sorted(names) == sorted(SIGNATURES)
    for request in requests:
        for name, proto in request.inputs.items():
            value = tf.make_ndarray(proto)
            assert len(value) == 1, name
            if name == "waveform":
                assert value.shape[1] <= 16_000
                assert np.abs(value).max() > 0.1
    assert path.stat().st_size < 1_000_000


def test_export_takes_the_next_version_and_changes_no_file(
    exported, run, tmp_path, skip_parity_check
):
    """A folder that a killed export left is removed after a day. A new folder stays.

    A running export in another container may have the same process number.
    """
    out = tmp_path / "toy"
    shutil.copytree(exported, out)
    (out / "serving" / "models.config").write_text("changed by a user")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    running, killed = out / f".unfinished-{os.getpid()}", out / ".unfinished-17"
    for folder in (running, killed):
        (folder / "variables").mkdir(parents=True)
    yesterday = time.time() - 25 * 3600
    os.utime(killed, times=(yesterday, yesterday))
    result = export_stage(ExportOptions(run, out, "pretrain"))
    assert result["version"] == 2
    assert bundle.versions(out) == [1, 2]
    assert {path: path.read_bytes() for path in before} == before
    assert read_document(out / "2")["domains"] == ["visual"]
    bundle.check_files(out / "2")
    assert sorted(path.name for path in out.iterdir()) == [running.name, "1", "2", "serving"]
    (tmp_path / "any").mkdir()
    assert (out / "2").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_export_with_wrong_predictions_fails_and_is_removed(run, tmp_path, monkeypatch):
    """The graph takes the column of another label for the first label."""
    init = graph.ServedModel.__init__

    def init_with_wrong_column(self, *arguments, **options):
        init(self, *arguments, **options)
        self._columns[0] = 9

    monkeypatch.setattr(graph.ServedModel, "__init__", init_with_wrong_column)
    with pytest.raises(RunError, match=key_words("exported model", "faces", "1e-05")):
        export_stage(ExportOptions(run, tmp_path / "wrong", "pretrain"))
    assert not (tmp_path / "wrong").exists()


EXPORT_WITH_FILE_LIMIT = """
import resource, sys
from kerasemo import export
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(export.main(sys.argv[2:]))
"""
"""An export whose files cannot grow beyond a number of bytes, as on a full disk."""


def test_full_disk_is_an_error_in_a_single_line_and_leaves_no_file(run, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", EXPORT_WITH_FILE_LIMIT, "4000"]
    arguments = ["--run", str(run), "--stage", "pretrain", "--out", str(out)]
    environment = dict(os.environ)
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    finished = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 1
    *_, line = finished.stderr.splitlines()
    assert line.startswith("python -m kerasemo.export: error: ")
    for word in (str(out), "File too large", "free space", "--out"):
        assert word in line
    assert "Traceback" not in finished.stderr
    assert not out.exists()


def test_network_with_nan_weights_is_not_exported(run, tmp_path, monkeypatch):
    load_network = FinishedStage.load_network

    def load_broken_network(stage):
        network = load_network(stage)
        bias = network.model.get_layer("head").bias
        bias.assign(np.full(bias.shape, np.nan))
        return network

    monkeypatch.setattr(FinishedStage, "load_network", load_broken_network)
    with pytest.raises(DataError, match=key_words("'pretrain'", "logits", "NaN", "train")):
        export_stage(ExportOptions(run, tmp_path / "wrong", "pretrain"))
    assert not (tmp_path / "wrong").exists()


def test_any_folder_name_can_be_served(tmp_path):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    name = 'a "toy" \\ of\nmine, süß'
    tf_serving.write_configuration(tmp_path, name=name)
    text = (tmp_path / "serving" / "models.config").read_text(encoding="utf-8")
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert parsed.model_config_list.config[0].base_path == f"/models/{name}"


def test_any_folder_name_is_a_single_line_of_the_model_card(exported):
    document = read_document(exported / "1") | {"name": "toy\n# mine"}
    assert model_card(document).startswith("# toy\\n# mine\n\n")


PORTABLE = {"onnx": {"faces", "segments"}, "litert": {"faces", "segments", "speech"}}


@pytest.fixture(scope="module", params=PORTABLE)
def portable(request, exported, tmp_path_factory):
    """A format, its exported bundle, and the result of the export."""
    pytest.importorskip("tf2onnx" if request.param == "onnx" else "ai_edge_litert")
    environment, out = dict(os.environ), tmp_path_factory.mktemp(request.param) / "model"
    result = export_stage(ExportOptions(exported.parent / "run", out, format=request.param))
    assert dict(os.environ) == environment  # later processes must not get settings of a converter
    return request.param, out, result


@pytest.fixture
def predict_portable(portable):
    """A function that runs the model of the bundle `portable`."""
    _, out, _ = portable
    return runtimes.load_predictor(out / "1", bundle.read_document(out / "1")).predict


def test_portable_formats_predict_what_the_keras_model_predicts(portable):
    format, _, result = portable
    assert set(result["differences"]) == PORTABLE[format]
    assert max(result["differences"].values()) <= 1e-5


def test_portable_formats_report_invalid_faces(predict_portable):
    faces = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    faces[1] = 7
    outputs = predict_portable("faces", faces=faces)
    assert outputs["valid"].tolist() == [True, False, True]
    assert np.isnan(outputs["probabilities"][1]).all()
    np.testing.assert_allclose(outputs["probabilities"][[0, 2]].sum(axis=1), 1, atol=1e-6)


def test_portable_formats_report_invalid_segments(predict_portable):
    invalid = [(0, -101.0), (0, 61.0), (1, np.inf), (1, 27.0), (2, -24.5), (2, 1e30), (0, np.nan)]
    segments = np.zeros((1 + len(invalid), 64, 64, 3), np.float32)
    segments[..., 0] = -50.0
    for row, (channel, value) in enumerate(invalid, start=1):
        segments[row, 3, 3, channel] = value
    valid = predict_portable("segments", segments=segments)["valid"]
    assert valid.tolist() == [True] + len(invalid) * [False]


@pytest.mark.parametrize("portable", ["litert"], indirect=True)
def test_litert_reports_invalid_waveforms(predict_portable):
    valid = np.random.default_rng(1).normal(0, 0.1, 20_000).astype(np.float32)
    assert predict_portable("speech", waveform=valid)["valid"]
    for name, waveform in {
        "too short": valid[:511],
        "silent": 0 * valid,
        "integers": 32768 * valid,
        "NaN": np.nan * valid,
        "too long": np.tile(valid, 49),
    }.items():
        assert not predict_portable("speech", waveform=waveform)["valid"], name


def test_folder_of_another_format_is_an_error(portable, run):
    format, out, _ = portable
    with pytest.raises(InputError, match=key_words(f"bundle of {format}")):
        bundle.Bundle.load(out)
    with pytest.raises(InputError, match=key_words(f"format {format}")):
        export_stage(ExportOptions(run, out))


def test_contrastive_stage_has_only_signatures_of_embeddings(exported, tmp_path, skip_parity_check):
    for name in ("run", "records"):
        shutil.copytree(exported.parent / name, tmp_path / name)
    run = make_run(tmp_path, "contrastive")
    result = export_stage(ExportOptions(run, tmp_path / "out", "contrastive"))
    assert set(result["differences"]) == {"embed_faces", "embed_speech", "embed_segments"}
    with pytest.raises(InputError, match=key_words("contrastive stage", "emotion")):
        export_stage(ExportOptions(run, tmp_path / "onnx", "contrastive", format="onnx"))


def test_invalid_option_is_an_error_before_a_file_is_written(run, tmp_path):
    out = tmp_path / "out"
    for options, words in (
        (ExportOptions(tmp_path / "missing", out), ("missing", "run folder")),
        (ExportOptions(run, out, "missing"), ("'missing'", "not finished")),
        (ExportOptions(run, out, records=tmp_path), ("enterface/visual",)),
        (ExportOptions(run, out, records=tmp_path / "missing"), ("missing", "records")),
    ):
        with pytest.raises(InputError, match=key_words(*words)):
            export_stage(options)
        assert not out.exists()


def test_folder_with_files_of_the_user_is_an_error(run, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, word in (("folder", "other files"), ("file", "expected")):
        with pytest.raises(InputError, match=key_words(str(tmp_path / name), word)):
            export_stage(ExportOptions(run, tmp_path / name))


def test_records_of_another_training_are_an_error(exported, run, tmp_path):
    records = tmp_path / "records"
    shutil.copytree(exported.parent / "records", records)
    manifest = records / "savee" / "audio" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seconds": 1.0', '"seconds": 1.5', 1))
    with pytest.raises(DataError, match=key_words("savee/audio", "records", "'transfer'")):
        export_stage(ExportOptions(run, tmp_path / "out", records=records))


def test_error_of_heads_for_each_corpus_names_the_remedy(exported, tmp_path):
    joint = {"kind": "joint", "sources": SOURCES, "epochs": 1, "batch": 8, "heads": "corpus"}
    experiment = write_experiment(tmp_path / "heads.toml", joint=joint)
    run, records = tmp_path / "run", exported.parent / "records"
    train_only(TrainingOptions("joint", str(experiment), records=records, run=run))
    with pytest.raises(InputError, match=key_words("head", "joint.heads='masked'")):
        export_stage(ExportOptions(run, tmp_path / "out"))


def test_model_of_synthesised_records_is_marked(exported, run, catalog, tmp_path):
    lineage = find_lineage(run, "joint")
    assert not provenance.is_synthetic(lineage, catalog)
    records = tmp_path / "records"
    shutil.copytree(exported.parent / "records", records)
    manifest = records / "savee" / "audio" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"synthetic": True}))
    assert provenance.is_synthetic(lineage, RecordCatalog(records))


def test_command_prints_the_signatures_and_how_to_serve_them(
    run, tmp_path, skip_parity_check, capsys
):
    out = tmp_path / "toy"
    arguments = ["--run", str(run), "--stage", "pretrain", "--out", str(out)]
    assert export.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "faces" in printed
    assert "compared" in printed
    assert "speech" not in printed
    command = printed.replace("\n", "")
    assert f'-v "{out}:/models/toy" tensorflow/serving' in command
    assert "--model_config_file=/models/toy/serving/models.config" in command


def test_command_reports_a_missing_run_in_a_single_line(tmp_path, capsys):
    assert export.main(["--run", str(tmp_path / "missing")]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert str(tmp_path / "missing") in message and "run folder" in message
