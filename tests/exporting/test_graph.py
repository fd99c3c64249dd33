"""Tests of the served graph: equal predictions, and an error for every invalid input."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.media import noise
from helpers.messages import key_words
from kerasemo.config.schema import NetworkConfig
from kerasemo.exporting.graph import ServedModel
from kerasemo.exporting.parity_cases import wav_file
from kerasemo.metrics import classification
from kerasemo.networks.inference import TrainedNetwork
from kerasemo.networks.network import build_network
from kerasemo.serving import requests
from kerasemo.serving.graph_messages import graph_message
from kerasemo.serving.signatures import SIGNATURES
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.features import log_mel

LABELS = ["anger", "calm", "fear", "sadness"]
COLUMNS = [EMOTIONS.index(label) for label in LABELS]
SIGNATURE_NAMES = {*SIGNATURES, "serving_default"}
NETWORK = NetworkConfig(widths=(8, 16), convolutions=1, groups=4, embedding=12)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A small network with random weights that normalises its inputs as after a training."""
    keras.utils.set_random_seed(3)
    model = keras.Model(*build_network(NETWORK))
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (20, 64, 64, 3)).astype(np.uint8)
    segments = random.normal(-50, 20, (20, 64, 64, 3)).astype(np.float32)
    model.get_layer("normalization").fit("visual", faces)
    model.get_layer("normalization").fit("audio", segments)
    return model


@pytest.fixture(scope="module")
def served(model) -> ServedModel:
    """The network as it is served, with both domains."""
    return ServedModel(TrainedNetwork(model), labels=LABELS, domains=DOMAINS)


def signature_caller(served: ServedModel):
    """Return a function that calls a signature with arrays and returns arrays."""
    signatures = served.signatures()

    def call(signature: str, **inputs):
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        outputs = signatures[signature](**tensors)
        return {name: value.numpy() for name, value in outputs.items()}

    return call


@pytest.fixture(scope="module")
def call(served):
    """A function that calls a signature of the served network."""
    return signature_caller(served)


def keras_outputs(model, images: np.ndarray, domain: int) -> dict[str, np.ndarray]:
    """Return the outputs of the Keras model."""
    domains = np.full(len(images), domain, np.int32)
    inputs = {"image": images.astype(np.float32), "domain": domains, "seed": 0 * domains}
    return {name: value.numpy() for name, value in model(inputs, training=False).items()}


def keras_probabilities(model, images: np.ndarray, domain: int, mask=(True,) * 4) -> np.ndarray:
    """Return the softmax of the Keras model's logits, computed with NumPy."""
    logits = keras_outputs(model, images, domain)["logits"]
    return classification.masked_softmax(logits[:, COLUMNS], np.array(mask))


def segments_of(waveform: np.ndarray) -> np.ndarray:
    return log_mel.segments(log_mel.log_mel(tf.constant(waveform))).numpy()


def random_faces(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)


def random_waveform(seconds: float = 1.5, *, seed: int = 0) -> np.ndarray:
    return noise(seconds, 16_000, seed=seed)[0]


# Predictions.


def test_both_domains_have_every_signature_of_the_table(served):
    signatures = served.signatures()
    assert set(signatures) == SIGNATURE_NAMES
    for name, signature in SIGNATURES.items():
        assert set(signatures[name].structured_outputs) == set(signature.output_names)


def test_untrained_domain_has_no_signature(model):
    network = TrainedNetwork(model)
    served = ServedModel(network, labels=LABELS, domains=["audio"])
    assert set(served.signatures()) == {name for name in SIGNATURE_NAMES if "face" not in name}


def test_network_without_a_head_has_only_signatures_of_embeddings(model):
    network = TrainedNetwork(model)
    served = ServedModel(network, labels=LABELS, domains=["visual"], has_head=False)
    assert set(served.signatures()) == {"embed_faces", "serving_default"}


def test_faces_get_the_probabilities_of_the_keras_model_with_their_labels(model, call):
    faces = random_faces(5)
    outputs, expected = call("faces", faces=faces), keras_probabilities(model, faces, 0)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert outputs["labels"].tolist() == [[label.encode() for label in LABELS]] * 5
    best_labels = [LABELS[best].encode() for best in expected.argmax(axis=1)]
    assert outputs["emotion"].tolist() == best_labels


def test_mask_leaves_out_labels(model, call):
    faces, mask = random_faces(3), np.array([1, 0, 1, 0], np.float32)
    outputs = call("faces_masked", faces=faces, mask=np.tile(mask, (3, 1)))
    expected = keras_probabilities(model, faces, 0, mask > 0)
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-6)
    assert np.all(outputs["probabilities"][:, [1, 3]] == 0)


def test_speech_gets_the_mean_over_its_segments(model, call):
    waveforms = np.stack([random_waveform(1.5, seed=seed) for seed in range(3)])
    expected = [
        keras_probabilities(model, segments_of(waveform), 1).mean(axis=0) for waveform in waveforms
    ]
    probabilities = call("speech", waveform=waveforms)["probabilities"]
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_long_speech_is_cut_into_parts_as_in_records(model, call):
    """130 s are three parts. Deltas and the last segment are computed for each part."""
    waveform = random_waveform(130.0)
    frames = log_mel.log_mel(tf.constant(waveform)).numpy()
    edges = Spec().part_edges(len(frames))
    assert len(edges) == 4
    segments = np.concatenate(
        [log_mel.segments(frames[start:end]).numpy() for start, end in itertools.pairwise(edges)]
    )
    expected = keras_probabilities(model, segments, 1).mean(axis=0)
    probabilities = call("speech", waveform=waveform[None])["probabilities"]
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-6)


@pytest.mark.parametrize("n_samples", [512, 513, 671, 672, 10_400, 10_592, 10_593])
def test_speech_may_have_any_length(model, call, n_samples):
    waveform = random_waveform(1.0)[-n_samples:]
    expected = keras_probabilities(model, segments_of(waveform), 1).mean(axis=0)
    probabilities = call("speech", waveform=waveform[None])["probabilities"]
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-6)


def test_samples_after_the_length_are_ignored(call):
    waveforms = np.stack([random_waveform(1.5, seed=seed) for seed in range(2)])
    lengths = np.array([24_000, 9_000], np.int32)
    waveforms[1, 9_000:] = np.nan
    probabilities = call(
        "speech_masked", waveform=waveforms, lengths=lengths, mask=np.ones((2, 4), np.float32)
    )["probabilities"]
    for row, length in enumerate(lengths):
        expected = call("speech", waveform=waveforms[row : row + 1, :length])["probabilities"]
        np.testing.assert_allclose(probabilities[row], expected[0], atol=1e-6)


def test_wav_files_get_the_probabilities_of_their_waveforms(call):
    pcm = np.round(random_waveform(0.8) * 32767).astype(np.int16)
    waveforms = [pcm, pcm[:5000]]
    files = [wav_file(waveform, rate_hz=16_000) for waveform in waveforms]
    probabilities = call("wav_bytes", wav_bytes=np.array(files, object))["probabilities"]
    for row, waveform in enumerate(waveforms):
        expected = call("speech", waveform=waveform[None].astype(np.float32) / 32768)
        np.testing.assert_allclose(probabilities[row], expected["probabilities"][0], atol=1e-6)


def test_embeddings_are_those_of_the_keras_model(model, call):
    """The embedding of a clip is the mean over its segments, scaled to unit length."""
    faces = random_faces(4)
    expected = keras_outputs(model, faces, 0)["embedding"]
    embedding = call("embed_faces", faces=faces)["embedding"]
    np.testing.assert_allclose(embedding, expected, atol=1e-6)
    segments = segments_of(random_waveform())
    of_segments = keras_outputs(model, segments, 1)["embedding"]
    embedding = call("embed_segments", segments=segments)["embedding"]
    np.testing.assert_allclose(embedding, of_segments, atol=1e-6)
    mean = of_segments.mean(axis=0)
    embedding = call("embed_speech", waveform=random_waveform()[None])["embedding"]
    np.testing.assert_allclose(embedding[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_timeline_has_every_segment_with_its_start(model, call):
    """1.5 s have 147 frames. Segments start at frames 0, 34, 68 and, moved back, 83."""
    waveform = random_waveform(1.5)
    timeline = call("timeline", waveform=waveform[None])
    np.testing.assert_allclose(timeline["starts"], [[0.0, 0.34, 0.68, 0.83]], atol=1e-6)
    expected = keras_probabilities(model, segments_of(waveform), 1)
    np.testing.assert_allclose(timeline["probabilities"][0], expected, atol=1e-6)
    short = call("timeline", waveform=random_waveform(0.1)[None])
    assert short["starts"].tolist() == [[0.0]]


# Invalid inputs.


def waveform_with(value: float) -> np.ndarray:
    """Return a waveform [1, samples] in which one sample has a value."""
    waveform = random_waveform()[None].copy()
    waveform[0, 100] = value
    return waveform


def segment_with(channel: int, value: float) -> np.ndarray:
    """Return a segment [1, 64, 64, 3] that is 0 except for one value of a channel."""
    segments = np.zeros((1, 64, 64, 3), np.float32)
    segments[0, 5, 6, channel] = value
    return segments


RANGE = ("segments", "-100.5 to 60", "26.75", "24.32")
ALL_LABELS = np.ones((2, 4), np.float32)
TWO_WAVEFORMS = np.stack([random_waveform(), random_waveform(seed=1)])
INVALID_INPUTS = {
    "faces of another size": (
        "faces",
        {"faces": np.zeros((2, 48, 48, 3), np.uint8)},
        ("faces", "shape", "received 2 48 48 3"),
    ),
    "face without a batch": (
        "faces",
        {"faces": random_faces(1)[0]},
        ("faces", "[n, 64, 64, 3]", "received 64 64 3"),
    ),
    "waveform without a batch": (
        "speech",
        {"waveform": random_waveform()},
        ("waveform", "[n, n]", "received 24000"),
    ),
    "scalar": (
        "speech",
        {"waveform": np.float32(1)},
        ("waveform", "[n, n]", "received"),
    ),
    "empty batch of faces": (
        "faces",
        {"faces": np.zeros((0, 64, 64, 3), np.uint8)},
        ("expected", "face"),
    ),
    "empty batch of images": (
        "face_bytes",
        {"face_bytes": np.zeros(0, object)},
        ("expected", "image"),
    ),
    "mask of another width": (
        "faces_masked",
        {"faces": random_faces(2), "mask": ALL_LABELS[:, :3]},
        ("mask", "shape"),
    ),
    "mask of fewer rows": (
        "faces_masked",
        {"faces": random_faces(2), "mask": ALL_LABELS[:1]},
        ("mask", "2 inputs", "received 1"),
    ),
    "mask of fractions": (
        "faces_masked",
        {"faces": random_faces(2), "mask": ALL_LABELS / 2},
        ("mask", "expected 1", "label"),
    ),
    "mask of zeros": (
        "faces_masked",
        {"faces": random_faces(2), "mask": 0 * ALL_LABELS},
        ("mask", "expected", "row"),
    ),
    "empty batch of waveforms": (
        "speech",
        {"waveform": np.zeros((0, 9000), np.float32)},
        ("expected", "waveform"),
    ),
    "waveform without samples": (
        "speech",
        {"waveform": np.zeros((1, 0), np.float32)},
        ("too short",),
    ),
    "too short": (
        "speech",
        {"waveform": random_waveform()[None, :511]},
        ("too short", "512 samples"),
    ),
    "too long": (
        "speech",
        {"waveform": np.ones((1, 9_600_001), np.float32)},
        ("too long", "9600000 samples"),
    ),
    "NaN": ("speech", {"waveform": waveform_with(np.nan)}, ("numbers", "NaN")),
    "infinity": ("speech", {"waveform": waveform_with(np.inf)}, ("numbers", "NaN")),
    "16-bit integers": ("speech", {"waveform": 32768 * random_waveform()[None]}, ("32768",)),
    "silence": ("speech", {"waveform": np.zeros((1, 9000), np.float32)}, ("silent",)),
    "a silent waveform of two": (
        "speech",
        {"waveform": np.stack([random_waveform(), 0 * random_waveform()])},
        ("silent",),
    ),
    "length after the end": (
        "speech_masked",
        {
            "waveform": TWO_WAVEFORMS,
            "lengths": np.array([24_001, 9000], np.int32),
            "mask": ALL_LABELS,
        },
        ("lengths", "at most"),
    ),
    "length of 0": (
        "speech_masked",
        {"waveform": TWO_WAVEFORMS, "lengths": np.array([24_000, 0], np.int32), "mask": ALL_LABELS},
        ("too short",),
    ),
    "negative length": (
        "speech_masked",
        {
            "waveform": TWO_WAVEFORMS,
            "lengths": np.array([24_000, -1], np.int32),
            "mask": ALL_LABELS,
        },
        ("too short",),
    ),
    "too few lengths": (
        "speech_masked",
        {"waveform": TWO_WAVEFORMS, "lengths": np.array([24_000], np.int32), "mask": ALL_LABELS},
        ("lengths", "2 waveforms"),
    ),
    "NaN in a segment": (
        "segments",
        {"segments": np.full((1, 64, 64, 3), np.nan, np.float32)},
        ("numbers", "NaN"),
    ),
    "segments out of range": (
        "segments",
        {"segments": segment_with(1, 1e30)},
        (*RANGE, "received 0 0 0 to 0 1e+30 0"),
    ),
    "segments out of range for an embedding": (
        "embed_segments",
        {"segments": segment_with(0, -1e30)},
        RANGE,
    ),
    "segments below the floor": ("segments", {"segments": segment_with(0, -100.6)}, RANGE),
    "segments above any audio": ("segments", {"segments": segment_with(0, 60.1)}, RANGE),
    "impossible delta": ("segments", {"segments": segment_with(1, -26.8)}, RANGE),
    "impossible delta-delta": ("segments", {"segments": segment_with(2, 24.4)}, RANGE),
    "segments of another size": (
        "segments",
        {"segments": np.zeros((1, 64, 32, 3), np.float32)},
        ("segments", "shape"),
    ),
    "timeline of several parts": (
        "timeline",
        {"waveform": random_waveform(61.0)[None]},
        ("too long", "960000"),
    ),
    "no WAV file": (
        "wav_bytes",
        {"wav_bytes": np.array([b"RIFF without a WAV file"], object)},
        ("bytes", "WAV file"),
    ),
    "WAV file of another rate": (
        "wav_bytes",
        {"wav_bytes": np.array([wav_file(np.ones(9000, "<i2"), rate_hz=44_100)], object)},
        ("44100 Hz",),
    ),
    "empty file": ("wav_bytes", {"wav_bytes": np.array([b""], object)}, ("bytes", "WAV file")),
}
"""Name of a case -> the signature, its inputs, and key words of the message."""


@pytest.mark.parametrize("name", INVALID_INPUTS)
def test_graph_rejects_an_invalid_input(call, name):
    signature, inputs, words = INVALID_INPUTS[name]
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        call(signature, **inputs)
    message = graph_message(caught.value)
    assert re.search(key_words(*words), message), message


@pytest.mark.parametrize(
    "name", [name for name, (signature, *_) in INVALID_INPUTS.items() if "segments" in signature]
)
def test_client_rejects_the_same_segments(name):
    _, inputs, _ = INVALID_INPUTS[name]
    with pytest.raises(InputError, match=key_words("segments", "must be")):
        requests.check_segments(inputs["segments"])


def extreme_waveforms() -> dict[str, np.ndarray]:
    """Return the most extreme waveforms that are valid, float32 [samples] each."""
    peak = requests.MAX_PEAK
    click, gate = np.zeros(24_000, np.float32), np.zeros(24_000, np.float32)
    click[12_000] = 1
    gate[12_000:] = peak * np.sign(np.sin(np.arange(12_000) / 80))
    return {
        "quiet": random_waveform() * 1e-3,
        "loud": random_waveform() * 5,
        "click after silence": click,
        "loudest after silence": gate,
        "tone": (peak * np.sin(np.arange(24_000) / 10)).astype(np.float32),
        "click": click[11_800:12_400],
        "padded": random_waveform()[:600],
        "constant": np.full(9000, peak, np.float32),
    }


@pytest.mark.parametrize("name", extreme_waveforms())
def test_segments_of_any_valid_waveform_are_accepted(model, call, name):
    segments = segments_of(extreme_waveforms()[name])
    probabilities = call("segments", segments=segments)["probabilities"]
    expected = keras_probabilities(model, segments, 1)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    requests.check_segments(segments)


def test_range_of_segments_is_what_the_extremes_reach():
    """Nine frames reach the bound in the middle: the loudest where the delta's weight is positive.

    The other frames are the quietest.
    """
    lowest, highest = requests.segment_range()
    steps = np.arange(-4, 5)
    for channel, weights in ((1, steps), (2, steps**2 - 60 / 9)):
        for sign, bound in ((1, highest), (-1, lowest)):
            levels = np.where(sign * weights > 0, highest[0], lowest[0]).astype(np.float32)
            frames = tf.constant(np.tile(levels[:, None], (1, 64)))
            middle = log_mel.with_deltas(frames).numpy()[4, :, channel]
            np.testing.assert_allclose(middle, bound[channel], rtol=1e-5)


@pytest.fixture(scope="module")
def call_broken():
    """A function that calls a network whose weights are NaN."""
    model = keras.Model(*build_network(NETWORK))
    for name in ("features", "head"):
        bias = model.get_layer(name).bias
        bias.assign(np.full(bias.shape, np.nan))
    return signature_caller(ServedModel(TrainedNetwork(model), labels=LABELS, domains=DOMAINS))


WAV_FILE = wav_file(np.round(random_waveform() * 32767).astype(np.int16), rate_hz=16_000)
FACE_FILE = tf.io.encode_png(random_faces(1)[0]).numpy()
TWO_FACES = random_faces(2)
SEGMENT = segment_with(0, -50)
VALID_INPUTS = {
    "faces": {"faces": TWO_FACES},
    "serving_default": {"faces": TWO_FACES},
    "face_bytes": {"face_bytes": np.array([FACE_FILE], object)},
    "faces_masked": {"faces": TWO_FACES, "mask": ALL_LABELS},
    "embed_faces": {"faces": TWO_FACES},
    "speech": {"waveform": TWO_WAVEFORMS},
    "wav_bytes": {"wav_bytes": np.array([WAV_FILE], object)},
    "speech_masked": {
        "waveform": TWO_WAVEFORMS,
        "lengths": np.array([24_000, 9000], np.int32),
        "mask": ALL_LABELS,
    },
    "embed_speech": {"waveform": TWO_WAVEFORMS},
    "timeline": {"waveform": TWO_WAVEFORMS},
    "segments": {"segments": SEGMENT},
    "embed_segments": {"segments": SEGMENT},
}


@pytest.mark.parametrize("signature", sorted(SIGNATURE_NAMES))
def test_network_with_nan_weights_predicts_nothing(call_broken, signature):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        call_broken(signature, **VALID_INPUTS[signature])
    assert re.search(key_words("network", "NaN"), graph_message(caught.value))


@pytest.mark.parametrize("signature", sorted(SIGNATURE_NAMES))
def test_valid_inputs_of_every_signature_are_accepted(call, signature):
    outputs = call(signature, **VALID_INPUTS[signature])
    for values in outputs.values():
        assert values.dtype.kind != "f" or np.isfinite(values).all()


def test_weights_are_saved_by_their_paths(model, served, tmp_path):
    tf.saved_model.save(served, str(tmp_path), signatures=served.signatures())
    weights = tf.saved_model.load(str(tmp_path)).weights
    assert set(weights) == {variable.path for variable in model.variables}
    for variable in model.variables:
        expected = keras.ops.convert_to_numpy(variable)
        np.testing.assert_array_equal(weights[variable.path].numpy(), expected)
