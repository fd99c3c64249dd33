"""Tests of the parity check, which runs a bundle in a new process and compares the outputs."""

import shutil

import numpy as np
import pytest

from helpers.messages import key_words
from kerasemo.serving import bundle, parity
from kerasemo.serving.parity import parity_differences
from pipelines.core.errors import RunError

FACES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)


def test_differences_are_the_largest_of_each_signature(exported):
    model = bundle.Bundle.load(exported)
    outputs = model.predict("faces", faces=FACES)
    changed = outputs | {"probabilities": outputs["probabilities"] + np.float32(0.25)}
    renamed = {"emotion": np.array(["calm", "nobody"])}
    embedding = model.predict("embed_faces", faces=FACES[:1])
    masked_inputs = {"faces": FACES, "mask": np.ones((2, len(model.labels)), np.float32)}
    calls = [("faces", {"faces": FACES})] * 2
    calls += [("embed_faces", {"faces": FACES[:1]}), ("faces_masked", masked_inputs)]
    differences = parity_differences(model.folder, calls, [outputs, changed, embedding, renamed])
    assert differences == {
        "faces": pytest.approx(0.25, abs=1e-6),
        "embed_faces": pytest.approx(0, abs=1e-6),
        "faces_masked": float("inf"),
    }


@pytest.mark.parametrize("valid", [[False, True], True])
def test_expected_outputs_must_be_finite_where_valid(tmp_path, valid):
    """`valid` has a value for each of two faces, or one value for one sound."""
    probabilities = np.full((*np.shape(valid), 3), np.nan, np.float32)
    expected = {"probabilities": probabilities, "valid": np.array(valid)}
    with pytest.raises(RunError, match=key_words("faces", "probabilities", "NaN")):
        parity_differences(tmp_path, [("faces", {})], [expected])


def test_process_that_cannot_load_the_bundle_fails_the_check(exported, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(exported / "1", folder)
    (folder / "saved_model.pb").write_bytes(b"no graph")
    bundle.write_checksums(folder)
    with pytest.raises(RunError, match=key_words("DataError", "loaded")):
        parity_differences(folder, [("faces", {"faces": FACES})], [{}])


def test_calls_are_written_and_read_without_loss(tmp_path):
    calls = [
        ("face_bytes", {"face_bytes": [b"a\0b\0", b""]}),
        ("speech", {"waveform": np.arange(4.0), "lengths": np.array([4])}),
    ]
    parity.write_calls(tmp_path / "calls.npz", calls)
    images, speech = parity.read_calls(tmp_path / "calls.npz")
    assert images == calls[0]
    signature, inputs = speech
    assert signature == "speech" and set(inputs) == {"waveform", "lengths"}
    for name, values in calls[1][1].items():
        np.testing.assert_array_equal(inputs[name], values)
