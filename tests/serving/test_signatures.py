"""The table of signatures agrees with what an export writes and what a graph computes."""

import json

import pytest

from helpers.messages import key_words
from kerasemo.serving import signatures
from kerasemo.serving.signatures import (
    FORMATS,
    LABELS,
    SIGNATURES,
    Signature,
    file_signature,
    find_signature,
    select_signatures,
)
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError


def test_names_are_unique_within_a_format():
    for format in FORMATS:
        names = [
            signature.name for signature in signatures.ALL_SIGNATURES if format in signature.formats
        ]
        assert len(names) == len(set(names)) > 0


def test_exported_document_lists_the_table(exported):
    document = json.loads((exported / "1" / "assets" / "bundle.json").read_text(encoding="utf-8"))
    assert list(document["signatures"]) == list(SIGNATURES)
    n_labels = len(document["labels"])
    for name, tensors in document["signatures"].items():
        signature = SIGNATURES[name]
        expected = signature.to_json(n_labels)
        assert tensors["inputs"] == expected["inputs"]
        _assert_outputs(signature, tensors["outputs"], n_labels)


def _assert_outputs(signature: Signature, outputs: dict, n_labels: int) -> None:
    assert set(outputs) == set(signature.output_names)
    for tensor in signature.outputs:
        dtype, shape = outputs[tensor.name]
        assert dtype == tensor.dtype and len(shape) == len(tensor.axes)
        for axis, size in zip(tensor.axes, shape, strict=True):
            assert axis != LABELS or size == n_labels, (signature.name, tensor.name)


def test_graph_computes_every_signature(exported):
    import tensorflow as tf

    graph = tf.saved_model.load(str(exported / "1"))
    assert set(graph.signatures) == {*SIGNATURES, "serving_default"}


def test_selection_follows_format_domains_and_head():
    assert list(select_signatures("onnx", domains=DOMAINS)) == ["faces", "segments"]
    assert list(select_signatures("litert", domains=DOMAINS)) == ["faces", "segments", "speech"]
    assert list(select_signatures("saved_model", domains=DOMAINS, has_head=False)) == [
        "embed_faces",
        "embed_speech",
        "embed_segments",
    ]
    faces = select_signatures("saved_model", domains=["visual"])
    assert {signature.domain for signature in faces.values()} == {"visual"}


def test_every_domain_has_signatures_of_items():
    assert list(signatures.ITEM_SIGNATURES.items()) == [("visual", "faces"), ("audio", "segments")]
    assert signatures.EMBEDDING_SIGNATURES == {"visual": "embed_faces", "audio": "embed_segments"}
    for name in signatures.ITEM_SIGNATURES.values():
        assert SIGNATURES[name].input_names == (name,)


def test_portable_signatures_mark_valid_rows():
    speech = select_signatures("litert", domains=["audio"])["speech"]
    assert speech.to_json(3) == {
        "inputs": {"waveform": ["float32", [None]]},
        "outputs": {"probabilities": ["float32", [3]], "valid": ["bool", []]},
    }


def test_description_names_shapes_and_limits():
    masked = find_signature("speech_masked").describe_inputs()
    for words in ("waveform float32 [batch, samples]", "lengths int32 [batch]", "600 s"):
        assert words in masked


def test_unknown_signature_is_an_error():
    with pytest.raises(InputError, match=key_words("signature", "laughter", "faces")):
        find_signature("laughter")


@pytest.mark.parametrize(
    ("suffix", "name"), [(".wav", "wav_bytes"), (".JPG", "face_bytes"), (".png", "face_bytes")]
)
def test_files_have_a_signature_by_suffix(suffix, name):
    assert file_signature(suffix).name == name


def test_video_has_no_signature():
    assert file_signature(".mp4") is None
