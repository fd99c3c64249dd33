"""Tests of bundles: they are located, checked, and run without the code of the network."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from helpers.messages import key_words
from kerasemo.serving import bundle
from kerasemo.serving.bundle import Bundle
from pipelines.core.errors import DataError, InputError

SPEECH_MASKED = {
    "waveform": np.random.default_rng(0).normal(0, 0.1, (1, 9000)),
    "lengths": np.array([8000]),
    "mask": np.ones((1, 3)),
}
"""Valid inputs with wider dtypes than the signature expects."""


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the exported bundle that a test may change."""
    shutil.copytree(exported, tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture(scope="module")
def model(exported) -> Bundle:
    """The exported bundle."""
    return Bundle.load(exported)


def test_bundle_has_labels_domains_and_card(model):
    assert model.labels == ("anger", "boredom", "calm") and model.domains == ("visual", "audio")
    assert model.document["name"] == "toy"
    assert model.document["training"]["trained_on"] == ["enterface/visual", "savee/audio"]
    for word in ("# toy", "enterface/visual", "savee/audio"):
        assert word in model.card
    assets = model.folder / "assets"
    assert (assets / "labels.txt").read_text().split() == list(model.labels)
    assert json.loads((assets / "spec.json").read_text())["sample_rate_hz"] == 16_000
    assert len(model.training_clips().files) > 0


def test_bundle_predicts_each_row(model):
    faces = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    outputs = model.predict("faces", faces=faces)
    probabilities, labels = outputs["probabilities"], outputs["labels"]
    assert probabilities.shape == (2, 3) and labels[0].tolist() == ["anger", "boredom", "calm"]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert outputs["emotion"].tolist() == labels[0][probabilities.argmax(axis=1)].tolist()


@pytest.mark.parametrize(
    ("signature", "inputs", "words"),
    [
        ("laughter", {}, ("'laughter'", "expected", "faces")),
        (
            "faces",
            {"images": np.zeros((1, 64, 64, 3), np.uint8)},
            ("inputs faces", "received images"),
        ),
        ("faces", {"faces": np.zeros((1, 32, 32, 3), np.uint8)}, ("faces", "received 1 32 32 3")),
        (
            "faces",
            {"faces": np.zeros((64, 64, 3), np.uint8)},
            ("faces", "[n, 64, 64, 3]", "received 64 64 3"),
        ),
        (
            "faces",
            {"faces": np.full((1, 64, 64, 3), 0.5, np.float32)},
            ("faces", "expected uint8", "received float32"),
        ),
        (
            "faces",
            {"faces": np.full((1, 64, 64, 3), 300, np.uint16)},
            ("faces", "expected uint8", "received uint16", "300"),
        ),
        (
            "faces",
            {"faces": np.ones((1, 64, 64, 3), bool)},
            ("faces", "expected uint8", "received bool"),
        ),
        ("speech", {"waveform": np.zeros((1, 16_000), np.float32)}, ("silent", "-60 dB")),
        (
            "speech",
            {"waveform": np.full((1, 16_000), 5, np.int16)},
            ("waveform", "expected float32", "received int16"),
        ),
        (
            "speech",
            {"waveform": np.ones((1, 16_000), bool)},
            ("waveform", "expected float32", "received bool"),
        ),
        ("speech", {"waveform": np.full((1, 16_000), 1e300)}, ("NaN", "infinity")),
        (
            "speech_masked",
            SPEECH_MASKED | {"lengths": np.array([2**32 + 8000])},
            ("lengths", "expected int32", "received int64", "4294975296"),
        ),
        (
            "speech_masked",
            SPEECH_MASKED | {"lengths": np.array([8000.0])},
            ("lengths", "expected int32", "received float64"),
        ),
    ],
)
def test_wrong_input_is_an_error_in_a_single_line(model, signature, inputs, words):
    with pytest.raises(InputError, match=key_words(*words)) as caught:
        model.predict(signature, **inputs)
    assert "\n" not in str(caught.value)


def test_wider_dtypes_are_converted_without_loss(model):
    narrow = SPEECH_MASKED | {
        "waveform": SPEECH_MASKED["waveform"].astype(np.float32),
        "lengths": np.array([8000], np.int32),
    }
    np.testing.assert_array_equal(
        model.predict("speech_masked", **SPEECH_MASKED)["probabilities"],
        model.predict("speech_masked", **narrow)["probabilities"],
    )


def test_newest_version_is_loaded_unless_a_version_is_named(copy):
    for version in (2, 10):
        shutil.copytree(copy / "1", copy / str(version))
    (copy / "11").write_text("no version")
    (copy / "012").mkdir()
    assert bundle.versions(copy) == [1, 2, 10]
    assert Bundle.load(copy).folder == copy / "10"
    assert Bundle.load(copy / "2").folder == copy / "2"


def test_damaged_or_missing_file_is_detected_before_loading(copy):
    weights = next((copy / "1" / "variables").glob("*.data*"))
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match=key_words(weights.name, "damaged")):
        Bundle.load(copy)
    weights.unlink()
    with pytest.raises(DataError, match=key_words(weights.name, "missing")):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("removed", "word"),
    [
        ("", "empty file"),
        ("variables", "variables/variables.data-00000-of-00001"),
        ("saved_model.pb", "saved_model.pb"),
        ("labels.txt", "assets/labels.txt"),
        ("warmup", "assets.extra/tf_serving_warmup_requests"),
    ],
)
def test_every_checked_file_needs_a_checksum(copy, removed, word):
    path = copy / "1" / bundle.CHECKSUMS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if removed not in line))
    with pytest.raises(DataError, match=key_words("checksums.sha256", "damaged", word)):
        Bundle.load(copy)


def test_malformed_checksum_is_damage(copy):
    path = copy / "1" / bundle.CHECKSUMS
    path.write_text(path.read_text().replace("  saved_model.pb", " saved_model.pb"))
    with pytest.raises(DataError, match=key_words(bundle.CHECKSUMS, "received", "saved_model.pb")):
        Bundle.load(copy)


def test_users_may_add_files(copy):
    added = copy / "1" / "assets.extra" / "batching_params.pbtxt"
    added.write_text("max_batch_size { value: 8 }")
    bundle.check_files(copy / "1")


@pytest.mark.parametrize(
    "file",
    ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
)
def test_graph_that_cannot_be_loaded_is_damage(copy, file):
    path = copy / "1" / file
    path.write_bytes(path.read_bytes()[:40])
    bundle.write_checksums(copy / "1")
    model = Bundle.load(copy)
    with pytest.raises(DataError, match=key_words(str(copy / "1"), "loaded")):
        model.predict("faces", faces=np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(DataError, match=key_words(str(copy / "1"), "loaded")):
        model.weights()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ("damaged",)),
        ("[]", ("version None", "expected 1")),
        ('{"schema": 2}', ("version 2", "expected 1")),
        ('{"schema": 1}', ("domains", "format")),
    ],
)
def test_damaged_document_is_an_error(copy, text, words):
    (copy / "1" / bundle.DOCUMENT).write_text(text)
    with pytest.raises(DataError, match=key_words(*words)):
        bundle.read_document(copy / "1")


def test_folder_without_document_is_no_bundle(tmp_path):
    with pytest.raises(InputError, match=key_words(str(tmp_path), "bundle", "export")):
        bundle.read_document(tmp_path)


def test_sha256sum_accepts_the_checksums(exported):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum")
    finished = subprocess.run(
        ["sha256sum", "-c", "--quiet", bundle.CHECKSUMS],
        cwd=exported / "1",
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout


def test_presets_load_by_name(exported, tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    shutil.copytree(exported, tmp_path / "presets" / "toy")
    monkeypatch.setattr(bundle.resources, "files", lambda package: tmp_path)
    assert list(bundle.shipped_presets()) == ["toy"]
    assert Bundle.from_preset("toy").labels == Bundle.load(exported).labels
    monkeypatch.chdir(exported.parent)
    assert bundle.find_bundle("toy").parts[0] == "toy"  # a path comes first
    with pytest.raises(InputError, match=key_words("gone", "bundle", "(toy)")):
        Bundle.load("gone")


def test_shipped_presets_are_small_and_not_synthetic():
    for name, folder in bundle.shipped_presets().items():
        model = Bundle.load(folder)
        sizes = [path.stat().st_size for path in model.folder.rglob("*") if path.is_file()]
        assert not model.document["synthetic"] and sum(sizes) < 5e6, name


def test_preset_gives_a_trainable_network_with_equal_outputs(exported):
    from kerasemo import presets

    faces = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    network = presets.load_preset(exported)
    embeddings = network.predictor()(faces, 0).embedding
    outputs = Bundle.load(exported).predict("embed_faces", faces=faces)
    np.testing.assert_allclose(outputs["embedding"], embeddings, atol=1e-6)
    assert network.model.trainable_weights


def test_prediction_imports_neither_the_network_nor_the_graph(exported):
    """A new process needs only the files of the bundle. TensorFlow itself imports Keras."""
    code = (
        "import sys, numpy as np\nfrom kerasemo.serving.bundle import Bundle\n"
        f"model = Bundle.load({str(exported)!r})\n"
        "outputs = model.predict('faces', faces=np.zeros((1, 64, 64, 3), np.uint8))\n"
        "assert outputs['probabilities'].shape == (1, 3)\n"
        "names = ('kerasemo.networks.network', 'kerasemo.exporting.graph', 'librosa')\n"
        "print([name for name in names if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stdout + finished.stderr[-2000:]
