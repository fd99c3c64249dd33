"""An export is proved in a fresh process before it takes its place, and takes no other's."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from helpers.bundles import make_run
from helpers.synthetic_sets import write_experiment
from kerasemo import export
from kerasemo.exporting import exporter, model_card, provenance, tf_serving
from kerasemo.runs import lineage, run_folder
from kerasemo.serving import bundle, parity, runtimes
from pipelines.core.errors import InputError
from pipelines.records import reader

SAVED = {
    "faces",
    "face_bytes",
    "faces_masked",
    "embed_faces",
    "speech",
    "wav_bytes",
    "speech_masked",
    "embed_speech",
}
SAVED |= {"segments", "embed_segments", "timeline"}


def test_what_an_export_writes(exported):
    """The fixture's own export has compared every signature in a fresh process; this is what it left."""
    assert sorted(path.name for path in exported.iterdir()) == ["1", "serving"]
    document = json.loads((exported / "1" / "assets" / "bundle.json").read_text())
    assert set(document["signatures"]) == SAVED
    assert document["signatures"]["faces"]["inputs"] == {"faces": ["uint8", [None, 64, 64, 3]]}
    assert document["signatures"]["speech"]["outputs"]["probabilities"] == ["float32", [None, 3]]
    assert document["training"]["stages"][-1]["stage"] == "joint" and not document["synthetic"]
    config = (exported / "serving" / "models.config").read_text()
    assert 'base_path: "/models/toy"' in config
    assert (
        "pad_variable_length_inputs: false"
        in (exported / "serving" / "batching.config").read_text()
    )


def test_training_clips_are_known_again_by_hash_alone(exported):
    held = json.loads((exported / "1" / "assets" / "training_clips.json").read_text())
    of = lineage.find(exported.parent / "run", "joint")
    sides = of.sides(exported.parent / "records", asked=of.trained_on, there=of.trained_on)
    expected = set()
    for source in of.trained_on:
        ids = {*sides.ids[source]["train"], *sides.ids[source]["validation"]}
        tested = set(sides.ids[source]["test"])
        for row in reader.read_manifest(exported.parent / "records" / source)["clips"]:
            utterance = hashlib.sha256(row["utterance"].encode()).hexdigest()
            if row["id"] in ids:
                expected.add(utterance)
            elif row["id"] in tested:
                assert utterance not in held["utterances"] and row["sha256"] not in held["files"]
    assert set(held["utterances"]) == expected and expected
    assert not any(
        name in json.dumps([held["utterances"], held["speakers"]])
        for name in ("enterface", "savee")
    )


def test_warm_up_requests_are_one_of_each_signature(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    path = exported / "1" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [
        prediction_log_pb2.PredictionLog.FromString(entry.numpy())
        for entry in tf.data.TFRecordDataset([str(path)])
    ]
    assert {log.predict_log.request.model_spec.signature_name for log in logs} == SAVED and len(
        logs
    ) == len(SAVED)
    for log in logs:
        for name, proto in log.predict_log.request.inputs.items():
            value = tf.make_ndarray(proto)
            assert len(value) == 1 and (
                name != "waveform" or (value.shape[1] <= 16_000 and np.abs(value).max() > 0.1)
            ), name
    assert path.stat().st_size < 1_000_000


def test_the_next_version_is_taken_and_none_written_over(exported, tmp_path, monkeypatch):
    out = tmp_path / "toy"
    shutil.copytree(exported, out)
    (out / "serving" / "models.config").write_text("mine")
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    others, killed = (
        out / f".unfinished-{os.getpid()}",
        out / ".unfinished-17",
    )  # another container has the same process ids
    for path in (others, killed):
        (path / "variables").mkdir(parents=True)
    os.utime(killed, times=(time.time() - 25 * 3600,) * 2)
    monkeypatch.setattr(
        parity, "max_output_differences", lambda folder, calls, expected: {"faces": 0.0}
    )  # the fixture has proved it
    result = exporter.export(exporter.Options(exported.parent / "run", out, "pretrain"))
    assert result["version"] == 2 and bundle.bundle_versions(out) == [1, 2]
    assert all(path.read_bytes() == content for path, content in before.items())
    assert json.loads((out / "2" / "assets" / "bundle.json").read_text())["domains"] == ["visual"]
    bundle.check_bundle_files(out / "2")
    assert sorted(path.name for path in out.iterdir()) == [others.name, "1", "2", "serving"]
    (tmp_path / "any").mkdir()
    assert (out / "2").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_answers_that_differ_are_no_export(exported, tmp_path, monkeypatch):
    """Planted: the graph takes another column for the first label. Nothing stays where the bundle would have been."""
    from kerasemo.exporting import graph

    init = graph.Served.__init__

    def planted(self, *arguments, **options):
        init(self, *arguments, **options)
        self._columns[0] = 9

    monkeypatch.setattr(graph.Served, "__init__", planted)
    with pytest.raises(
        InputError, match="answers are not the Keras model's: .*faces by .*allowed 1e-05"
    ):
        exporter.export(exporter.Options(exported.parent / "run", tmp_path / "wrong", "pretrain"))
    assert not (tmp_path / "wrong").exists()


WITHIN = """
import resource, sys
from kerasemo import export
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(export.main(sys.argv[2:]))
"""
"""An export whose files cannot grow beyond so many bytes, as on a disk that is full."""


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(exported, tmp_path):
    out = tmp_path / "out"
    words = [
        sys.executable,
        "-c",
        WITHIN,
        4000,
        "--run",
        exported.parent / "run",
        "--stage",
        "pretrain",
        "--out",
        out,
    ]
    environment = {
        name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    finished = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment)
    assert finished.returncode == 1
    *_, line = finished.stderr.splitlines()
    assert (
        line.startswith(f"python -m kerasemo.export: error: {out}: cannot be written (")
        and "File too large" in line
    )
    assert (
        line.endswith("; free space there, or name another --out")
        and "Traceback" not in finished.stderr
    )
    assert not out.exists()


def test_a_network_that_answers_no_numbers_is_no_export(exported, tmp_path, monkeypatch):
    load = run_folder.load_network

    def broken(folder, result):
        network = load(folder, result)
        network.get_layer("head").bias.assign(np.full(network.get_layer("head").bias.shape, np.nan))
        return network

    monkeypatch.setattr(run_folder, "load_network", broken)
    with pytest.raises(
        InputError,
        match="stage 'pretrain': the Keras model's own logits are no numbers; .* train it again",
    ):
        exporter.export(exporter.Options(exported.parent / "run", tmp_path / "wrong", "pretrain"))
    assert not (tmp_path / "wrong").exists()


def test_any_name_of_a_folder_is_served_and_titled(exported, tmp_path):
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    name = 'a "toy" \\ of\nmine, süß'
    tf_serving.write_configuration(tmp_path, name=name)
    text = (tmp_path / "serving" / "models.config").read_text(encoding="utf-8")
    read = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert read.model_config_list.config[0].base_path == f"/models/{name}"
    document = json.loads((exported / "1" / "assets" / "bundle.json").read_text())
    assert model_card.model_card(document | {"name": "toy\n# of mine"}).startswith(
        "# toy\\n# of mine\n\nEmotions from faces"
    )


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_other_formats_answer_alike_and_say_what_is_not_valid(exported, tmp_path, format):
    pytest.importorskip("tf2onnx" if format == "onnx" else "ai_edge_litert")
    before = dict(os.environ)
    result = exporter.export(
        exporter.Options(exported.parent / "run", tmp_path / "model", format=format)
    )
    assert dict(os.environ) == before, (
        "a converter's settings must not reach what is started afterwards"
    )
    assert set(result["differences"]) == (
        {"faces", "segments"} if format == "onnx" else {"faces", "segments", "speech"}
    )
    assert max(result["differences"].values()) <= 1e-5
    folder = tmp_path / "model" / "1"
    ask = runtimes.load_predictor(folder, bundle.read_bundle_document(folder)).predict
    faces = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    faces[1] = 7
    found = ask("faces", faces=faces)
    assert (
        found["valid"].tolist() == [True, False, True] and np.isnan(found["probabilities"][1]).all()
    )
    np.testing.assert_allclose(found["probabilities"][[0, 2]].sum(axis=1), 1, atol=1e-6)
    segments = np.zeros((8, 64, 64, 3), np.float32)
    segments[..., 0] = -50.0
    for row, (channel, value) in enumerate(
        [(0, -101.0), (0, 61.0), (1, np.inf), (1, 27.0), (2, -24.5), (2, 1e30), (0, np.nan)]
    ):
        segments[row + 1, 3, 3, channel] = value
    assert ask("segments", segments=segments)["valid"].tolist() == [True] + 7 * [False]
    if format == "litert":
        good = np.random.default_rng(1).normal(0, 0.1, 20_000).astype(np.float32)
        waves = {"good": good, "short": good[:511], "silent": 0 * good, "integers": 32768 * good}
        waves |= {"NaN": np.nan * good, "long": np.tile(good, 49)}
        valid = {name: bool(ask("speech", waveform=wave)["valid"]) for name, wave in waves.items()}
        assert valid == {name: name == "good" for name in waves}
    with pytest.raises(InputError, match=f"is a bundle of {format}"):
        bundle.Bundle.load(tmp_path / "model")
    with pytest.raises(InputError, match=f"holds versions in the format {format}"):
        exporter.export(exporter.Options(exported.parent / "run", tmp_path / "model"))


def test_a_contrastive_stage_embeds_and_answers_nothing(exported, tmp_path, monkeypatch):
    shutil.copytree(exported.parent / "run", tmp_path / "run")
    shutil.copytree(exported.parent / "records", tmp_path / "records")
    run = make_run(tmp_path, "contrastive")
    monkeypatch.setattr(
        parity,
        "max_output_differences",
        lambda folder, calls, expected: {call[0]: 0.0 for call in calls},
    )
    result = exporter.export(exporter.Options(run, tmp_path / "out", "contrastive"))
    assert set(result["differences"]) == {"embed_faces", "embed_speech", "embed_segments"}
    with pytest.raises(InputError, match="a contrastive stage answers nothing"):
        exporter.export(exporter.Options(run, tmp_path / "onnx", "contrastive", format="onnx"))


def test_what_cannot_be_exported_is_told_before_anything_is_written(exported, tmp_path):
    run, out = exported.parent / "run", tmp_path / "out"
    for options, told in (
        (exporter.Options(tmp_path / "gone", out), "no such run folder"),
        (exporter.Options(run, out, "gone"), "stage 'gone' is not finished there"),
        (exporter.Options(run, out, records=tmp_path), "no records of enterface/visual"),
        (
            exporter.Options(run, out, records=tmp_path / "gone"),
            "the records that the stage was trained on are not there",
        ),
    ):
        with pytest.raises(InputError, match=told):
            exporter.export(options)
        assert not out.exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for place, told in (
        ("other", "holds something else than a bundle"),
        ("file", "a file; expected the folder of a bundle"),
    ):
        with pytest.raises(InputError, match=told):
            exporter.export(exporter.Options(run, tmp_path / place))


def test_records_of_another_training_are_refused(exported, tmp_path):
    shutil.copytree(exported.parent / "records", tmp_path / "records")
    manifest = tmp_path / "records" / "savee" / "audio" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seconds": 1.0', '"seconds": 1.5', 1))
    with pytest.raises(
        InputError, match="savee/audio: not the records that stage 'transfer' was trained on"
    ):
        exporter.export(
            exporter.Options(
                exported.parent / "run", tmp_path / "out", records=tmp_path / "records"
            )
        )


def test_a_head_for_each_corpus_is_refused_with_the_remedy(exported, tmp_path):
    from kerasemo.training.experiment import Options, train

    stages = {
        "joint": {
            "kind": "joint",
            "sources": ["enterface/visual", "savee/audio"],
            "epochs": 1,
            "batch": 8,
            "heads": "corpus",
        },
    }
    experiment = write_experiment(tmp_path / "heads.toml", **stages)
    train(
        Options("joint", str(experiment), records=exported.parent / "records", run=tmp_path / "run")
    )
    with pytest.raises(InputError, match="a head for each of its sources.*joint.heads='masked'"):
        exporter.export(exporter.Options(tmp_path / "run", tmp_path / "out"))


def test_samples_mark_what_is_made_of_them(exported, tmp_path):
    of = lineage.find(exported.parent / "run", "joint")
    assert not provenance.is_synthetic(of, exported.parent / "records")
    shutil.copytree(exported.parent / "records", tmp_path / "records")
    manifest = tmp_path / "records" / "savee" / "audio" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"synthetic": True}))
    assert provenance.is_synthetic(of, tmp_path / "records")


def test_the_command_prints_what_it_did_and_how_to_serve_it(
    exported, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "toy"
    monkeypatch.setattr(
        parity,
        "max_output_differences",
        lambda folder, calls, expected: {call[0]: 0.0 for call in calls},
    )  # proved by the fixture
    assert (
        export.main(
            ["--run", str(exported.parent / "run"), "--stage", "pretrain", "--out", str(out)]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "faces" in printed and "compared with the Keras model" in printed
    words = f'-v "{out}:/models/toy" tensorflow/serving --model_config_file=/models/toy/serving/models.config'
    assert words in printed.replace("\n", "")
    assert "speech" not in printed
    assert export.main(["--run", str(tmp_path / "gone")]) == 1
    wrong = capsys.readouterr().err
    assert wrong.count("\n") == 1 and "no such run folder" in wrong
