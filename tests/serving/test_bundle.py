"""A bundle is found, found whole, and asked by whoever knows nothing of the network."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kerasemo.serving import bundle
from kerasemo.serving.bundle import Bundle
from pipelines.core.errors import DataError, InputError

MASKED = {
    "waveform": np.random.default_rng(0).normal(0, 0.1, (1, 9000)),
    "lengths": np.array([8000]),
    "mask": np.ones((1, 3)),
}
"""A right question whose types, NumPy's own, hold no more than what is expected."""


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the exported bundle, to be changed."""
    shutil.copytree(exported, tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture(scope="module")
def model(exported) -> Bundle:
    """The exported bundle, loaded; the first question loads its graph."""
    return Bundle.load(exported)


def test_a_bundle_says_what_it_is(model):
    assert model.labels == ("anger", "boredom", "calm") and model.domains == ("visual", "audio")
    assert model.document["name"] == "toy" and model.document["training"]["trained_on"] == [
        "enterface/visual",
        "savee/audio",
    ]
    assert (
        "# toy" in model.card
        and "enterface/visual, savee/audio" in model.card
        and "hiring" in model.card
    )
    assert (model.folder / "assets" / "labels.txt").read_text().split() == list(model.labels)
    assert (
        json.loads((model.folder / "assets" / "spec.json").read_text())["sample_rate_hz"] == 16_000
    )


def test_it_answers(model):
    found = model.predict(
        "faces", faces=np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    )
    assert found["probabilities"].shape == (2, 3) and found["labels"][0].tolist() == [
        "anger",
        "boredom",
        "calm",
    ]
    np.testing.assert_allclose(found["probabilities"].sum(axis=1), 1, atol=1e-6)
    assert (
        found["emotion"].tolist()
        == found["labels"][0][found["probabilities"].argmax(axis=1)].tolist()
    )


@pytest.mark.parametrize(
    ("signature", "inputs", "told"),
    [
        ("laughter", {}, "has no signature 'laughter'; expected one of faces"),
        (
            "faces",
            {"images": np.zeros((1, 64, 64, 3), np.uint8)},
            "expected the inputs faces; received images",
        ),
        (
            "faces",
            {"faces": np.zeros((1, 32, 32, 3), np.uint8)},
            "faces: expected the shape .* received 1 32 32 3",
        ),
        (
            "faces",
            {"faces": np.zeros((64, 64, 3), np.uint8)},
            r"faces: faces: expected the shape \[n, 64, 64, 3\]; received 64 64 3",
        ),
        (
            "faces",
            {"faces": np.full((1, 64, 64, 3), 0.5, np.float32)},
            "faces: faces: expected uint8; received float32",
        ),
        (
            "faces",
            {"faces": np.full((1, 64, 64, 3), 300, np.uint16)},
            "faces: faces: expected uint8; received uint16, with 300",
        ),
        (
            "faces",
            {"faces": np.ones((1, 64, 64, 3), bool)},
            "faces: faces: expected uint8; received bool",
        ),
        (
            "speech",
            {"waveform": np.zeros((1, 16_000), np.float32)},
            "speech: silent: expected sound above -60 dB",
        ),
        (
            "speech",
            {"waveform": np.full((1, 16_000), 5, np.int16)},
            "speech: waveform: expected float32; received int16",
        ),
        (
            "speech",
            {"waveform": np.ones((1, 16_000), bool)},
            "speech: waveform: expected float32; received bool",
        ),
        (
            "speech",
            {"waveform": np.full((1, 16_000), 1e300)},
            "speech: expected numbers; received NaN or infinity",
        ),
        (
            "speech_masked",
            MASKED | {"lengths": np.array([2**32 + 8000])},
            "lengths: expected int32; received int64, with 4294975296",
        ),
        (
            "speech_masked",
            MASKED | {"lengths": np.array([8000.0])},
            "lengths: expected int32; received float64",
        ),
    ],
)
def test_a_wrong_question_is_told_in_one_line(model, signature, inputs, told):
    with pytest.raises(InputError, match=told) as refused:
        model.predict(signature, **inputs)
    assert "\n" not in str(refused.value)


def test_other_types_are_taken_where_nothing_is_lost(model):
    narrow = MASKED | {
        "waveform": MASKED["waveform"].astype(np.float32),
        "lengths": np.array([8000], np.int32),
    }
    wide, own = (
        model.predict("speech_masked", **inputs)["probabilities"] for inputs in (MASKED, narrow)
    )
    np.testing.assert_array_equal(wide, own)


def test_the_newest_version_is_taken_or_the_one_that_is_named(copy):
    for version in (2, 10):
        shutil.copytree(copy / "1", copy / str(version))
    (copy / "11").write_text("no version")
    (copy / "012").mkdir()
    assert bundle.versions(copy) == [1, 2, 10]
    assert Bundle.load(copy).folder == copy / "10" and Bundle.load(copy / "2").folder == copy / "2"


def test_damage_is_found_before_anything_is_loaded(copy):
    weights = next((copy / "1" / "variables").glob("*.data*"))
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"variables\.data-00000-of-00001: damaged"):
        Bundle.load(copy)
    weights.unlink()
    with pytest.raises(DataError, match=r"variables\.data-00000-of-00001: missing"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("keeps", "told"),
    [
        (lambda line: False, "expected a checksum and a name; received an empty file"),
        (
            lambda line: "variables" not in line,
            r"does not name variables/variables\.data-00000-of-00001",
        ),
        (lambda line: "saved_model.pb" not in line, r"does not name saved_model\.pb"),
        (lambda line: "labels.txt" not in line, r"does not name assets/labels\.txt"),
        (
            lambda line: "warmup" not in line,
            "does not name assets.extra/tf_serving_warmup_requests",
        ),
    ],
)
def test_a_list_of_checksums_that_names_too_little_is_damage(copy, keeps, told):
    path = copy / "1" / bundle.CHECKSUMS
    path.write_text("".join(filter(keeps, path.read_text().splitlines(keepends=True))))
    with pytest.raises(
        DataError, match=rf"checksums.sha256: damaged \({told}.*; export the model again"
    ):
        Bundle.load(copy)


def test_a_list_of_checksums_that_is_none_is_damage(copy):
    path = copy / "1" / bundle.CHECKSUMS
    path.write_text(path.read_text().replace("  saved_model.pb", " saved_model.pb"))
    with pytest.raises(
        DataError,
        match=r"damaged \(expected a checksum and a name; received '[0-9a-f]{64} saved_model.pb'\)",
    ):
        Bundle.load(copy)


def test_what_a_user_has_added_stays_allowed(copy):
    (copy / "1" / "assets.extra" / "batching_params.pbtxt").write_text(
        "max_batch_size { value: 8 }"
    )
    bundle.check_files(copy / "1")


@pytest.mark.parametrize(
    "file",
    ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"],
)
def test_what_cannot_be_loaded_is_told_with_the_folder_and_the_remedy(copy, file):
    path = copy / "1" / file
    path.write_bytes(path.read_bytes()[:40])
    bundle.write_checksums(copy / "1")
    model = Bundle.load(copy)
    for call in (
        lambda: model.predict("faces", faces=np.zeros((1, 64, 64, 3), np.uint8)),
        model.weights,
    ):
        with pytest.raises(
            DataError, match=rf"^{copy / '1'}: cannot be loaded \(.*\); export the model again$"
        ):
            call()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.unlink(), "no bundle in it"),
        (lambda path: path.write_text("{"), "damaged"),
        (lambda path: path.write_text("[]"), "version None of the contract, expected 1"),
        (lambda path: path.write_text('{"schema": 2}'), "version 2 of the contract, expected 1"),
        (lambda path: path.write_text('{"schema": 1}'), "no domains, format"),
    ],
)
def test_a_document_that_cannot_be_read_is_told(copy, change, told):
    change(copy / "1" / bundle.DOCUMENT)
    with pytest.raises((InputError, DataError), match=told):
        bundle.read_document(copy / "1")


def test_checksums_are_those_that_sha256sum_takes(exported):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum")
    finished = subprocess.run(
        ["sha256sum", "-c", "--quiet", bundle.CHECKSUMS],
        cwd=exported / "1",
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout


def test_presets_load_by_name_as_bundles_do_by_path(exported, tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    shutil.copytree(exported, tmp_path / "presets" / "toy")
    monkeypatch.setattr(bundle.resources, "files", lambda package: tmp_path)
    assert list(bundle.shipped_presets()) == ["toy"]
    assert Bundle.from_preset("toy").labels == Bundle.load(exported).labels
    monkeypatch.chdir(exported.parent)
    assert bundle.find_bundle("toy").parts[0] == "toy"  # a path comes first
    with pytest.raises(
        InputError, match=r"gone: no such bundle; expected .* or a shipped preset \(toy\)"
    ):
        Bundle.load("gone")


def test_no_shipped_preset_was_made_of_samples():
    for name, folder in bundle.shipped_presets().items():
        model = Bundle.load(folder)
        assert not model.document["synthetic"], name
        assert (
            sum(path.stat().st_size for path in model.folder.rglob("*") if path.is_file()) < 5e6
        ), name


def test_a_preset_gives_the_network_to_go_on_with(exported):
    from kerasemo import presets

    faces = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    network = presets.load_preset(exported)
    embeddings = network.predictor()(faces, 0).embedding
    np.testing.assert_allclose(
        Bundle.load(exported).predict("embed_faces", faces=faces)["embedding"],
        embeddings,
        atol=1e-6,
    )
    assert network.model.trainable_weights


def test_asking_needs_neither_keras_nor_the_network(exported):
    """In a process of its own: what is not in the bundle cannot answer."""
    code = (
        "import sys, numpy as np\nfrom kerasemo.serving.bundle import Bundle\n"
        f"found = Bundle.load({str(exported)!r}).predict('faces', faces=np.zeros((1, 64, 64, 3), np.uint8))\n"
        "assert found['probabilities'].shape == (1, 3)\n"
        "print([name for name in ('kerasemo.networks.network', 'kerasemo.exporting.graph', 'librosa') if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.strip() == "[]", finished.stdout + finished.stderr[-2000:]
