"""The graph that is served: the answers of the Keras model, and an error for every input that is wrong."""

import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from helpers.media import noise
from kerasemo.config.schema import NetworkConfig
from kerasemo.exporting import graph
from kerasemo.exporting.parity_cases import wav_file
from kerasemo.metrics import classification
from kerasemo.networks.network import build_network
from kerasemo.serving import requests
from kerasemo.serving.graph_messages import describe_graph_error
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.features import log_mel

LABELS = ["anger", "calm", "fear", "sadness"]
COLUMNS = [EMOTIONS.index(label) for label in LABELS]
ALL = {
    "faces",
    "face_bytes",
    "faces_masked",
    "embed_faces",
    "speech",
    "wav_bytes",
    "speech_masked",
    "embed_speech",
}
MORE = {"segments", "embed_segments", "timeline", "serving_default"}


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A small network of random weights, whose inputs it normalises as after a training."""
    keras.utils.set_random_seed(3)
    model = keras.Model(
        *build_network(NetworkConfig(widths=(8, 16), convolutions=1, groups=4, embedding=12))
    )
    random = np.random.default_rng(0)
    model.get_layer("normalization").fit(
        "visual", random.integers(0, 256, (20, 64, 64, 3)).astype(np.uint8)
    )
    model.get_layer("normalization").fit(
        "audio", random.normal(-50, 20, (20, 64, 64, 3)).astype(np.float32)
    )
    return model


@pytest.fixture(scope="module")
def model(network) -> graph.Served:
    """What is served of it, with both domains."""
    return graph.Served(network, labels=LABELS, domains=DOMAINS)


@pytest.fixture(scope="module")
def ask(model):
    """A function that asks a signature and returns arrays."""
    signatures = model.signatures()

    def ask(signature: str, **inputs):
        return {
            name: value.numpy()
            for name, value in signatures[signature](
                **{n: tf.constant(v) for n, v in inputs.items()}
            ).items()
        }

    return ask


def answers(network, images: np.ndarray, domain: int, mask=(True,) * 4) -> np.ndarray:
    """Return what the Keras model says, by its own call and NumPy's softmax."""
    count = np.full(len(images), domain, np.int32)
    logits = network(
        {"image": images.astype(np.float32), "domain": count, "seed": 0 * count}, training=False
    )["logits"].numpy()
    return classification.masked_softmax(logits[:, COLUMNS], np.array(mask))


def segments_of(waveform: np.ndarray) -> np.ndarray:
    return log_mel.segments(log_mel.log_mel(tf.constant(waveform))).numpy()


def faces(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3)).astype(np.uint8)


def sound(seconds: float = 1.5, *, seed: int = 0) -> np.ndarray:
    return noise(seconds, 16_000, seed=seed)[0]


def test_every_signature_is_there_with_both_domains(model):
    assert set(model.signatures()) == ALL | MORE


def test_a_domain_that_was_not_trained_has_no_signature(network):
    names = set(graph.Served(network, labels=LABELS, domains=["audio"]).signatures())
    assert names == {name for name in ALL | MORE if "face" not in name}
    assert set(
        graph.Served(network, labels=LABELS, domains=["visual"], answers=False).signatures()
    ) == {"embed_faces", "serving_default"}


def test_faces_and_their_names(network, ask):
    images = faces(5)
    found, expected = ask("faces", faces=images), answers(network, images, 0)
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    assert found["labels"].tolist() == [[label.encode() for label in LABELS]] * 5
    assert found["emotion"].tolist() == [LABELS[best].encode() for best in expected.argmax(axis=1)]


def test_a_mask_leaves_what_can_be_answered(network, ask):
    images, mask = faces(3), np.array([1, 0, 1, 0], np.float32)
    found = ask("faces_masked", faces=images, mask=np.tile(mask, (3, 1)))["probabilities"]
    np.testing.assert_allclose(found, answers(network, images, 0, mask > 0), atol=1e-6)
    assert np.all(found[:, [1, 3]] == 0)


def test_speech_is_the_mean_over_its_segments(network, ask):
    waveforms = np.stack([sound(1.5, seed=seed) for seed in range(3)])
    expected = np.stack(
        [answers(network, segments_of(waveform), 1).mean(axis=0) for waveform in waveforms]
    )
    np.testing.assert_allclose(
        ask("speech", waveform=waveforms)["probabilities"], expected, atol=1e-6
    )


def test_long_speech_is_cut_as_records_are(network, ask):
    """130 s are three parts, each with deltas and a last segment of its own."""
    waveform, spec = sound(130.0), Spec()
    static = log_mel.log_mel(tf.constant(waveform)).numpy()
    edges = spec.part_edges(len(static))
    assert len(edges) == 4
    parts = [
        log_mel.segments(static[first:end]).numpy() for first, end in itertools.pairwise(edges)
    ]
    expected = answers(network, np.concatenate(parts), 1).mean(axis=0)
    np.testing.assert_allclose(
        ask("speech", waveform=waveform[None])["probabilities"][0], expected, atol=1e-6
    )


@pytest.mark.parametrize("samples", [512, 513, 671, 672, 10_400, 10_592, 10_593])
def test_speech_of_any_length(network, ask, samples):
    waveform = sound(1.0)[-samples:]
    expected = answers(network, segments_of(waveform), 1).mean(axis=0)
    np.testing.assert_allclose(
        ask("speech", waveform=waveform[None])["probabilities"][0], expected, atol=1e-6
    )


def test_what_stands_behind_a_length_is_not_heard(network, ask):
    waveforms, lengths = (
        np.stack([sound(1.5, seed=seed) for seed in range(2)]),
        np.array([24_000, 9_000], np.int32),
    )
    waveforms[1, 9_000:] = np.nan
    found = ask(
        "speech_masked", waveform=waveforms, lengths=lengths, mask=np.ones((2, 4), np.float32)
    )["probabilities"]
    for row, length in enumerate(lengths):
        expected = ask("speech", waveform=waveforms[row : row + 1, :length])["probabilities"][0]
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


def test_a_wav_file_is_what_it_holds(ask):
    pcm = np.round(sound(0.8) * 32767).astype(np.int16)
    files = [wav_file(pcm, rate_hz=16_000), wav_file(pcm[:5000], rate_hz=16_000)]
    found = ask("wav_bytes", wav_bytes=np.array(files, object))["probabilities"]
    for row, length in enumerate((len(pcm), 5000)):
        np.testing.assert_allclose(
            found[row],
            ask("speech", waveform=pcm[None, :length].astype(np.float32) / 32768)["probabilities"][
                0
            ],
            atol=1e-6,
        )


def test_embeddings_are_of_unit_length(network, ask):
    images = faces(4)
    count = np.zeros(4, np.int32)
    expected = network(
        {"image": images.astype(np.float32), "domain": count, "seed": count}, training=False
    )["embedding"]
    np.testing.assert_allclose(ask("embed_faces", faces=images)["embedding"], expected, atol=1e-6)
    own = segments_of(sound())
    ones = np.ones(len(own), np.int32)
    each = network({"image": own, "domain": ones, "seed": ones}, training=False)[
        "embedding"
    ].numpy()
    mean = each.mean(axis=0)
    found = ask("embed_speech", waveform=sound()[None])["embedding"]
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_allclose(ask("embed_segments", segments=own)["embedding"], each, atol=1e-6)


def test_the_timeline_has_every_segment_and_its_start(network, ask):
    """1.5 s have 147 frames: segments begin at frames 0, 34, 68 and, moved back, 83."""
    found = ask("timeline", waveform=sound(1.5)[None])
    np.testing.assert_allclose(found["starts"], [[0.0, 0.34, 0.68, 0.83]], atol=1e-6)
    np.testing.assert_allclose(
        found["probabilities"][0], answers(network, segments_of(sound(1.5)), 1), atol=1e-6
    )
    assert ask("timeline", waveform=sound(0.1)[None])["starts"].tolist() == [[0.0]]


def with_value(value: float) -> np.ndarray:
    waveform = sound()[None].copy()
    waveform[0, 100] = value
    return waveform


def segment_with(channel: int, value: float) -> np.ndarray:
    segments = np.zeros((1, 64, 64, 3), np.float32)
    segments[0, 5, 6, channel] = value
    return segments


RANGE = (
    "segments: expected decibels from -100.5 to 60, deltas within 26.75, delta-deltas within 24.32"
)
ONES = np.ones((2, 4), np.float32)
WAVES = np.stack([sound(), sound(seed=1)])
BAD = {
    "faces of another size": (
        "faces",
        {"faces": np.zeros((2, 48, 48, 3), np.uint8)},
        "faces: expected the shape .* received 2 48 48 3",
    ),
    "a face without its batch": (
        "faces",
        {"faces": faces(1)[0]},
        r"faces: expected the shape \[n, 64, 64, 3\]; received 64 64 3",
    ),
    "a waveform without its batch": (
        "speech",
        {"waveform": sound()},
        r"waveform: expected the shape \[n, n\]; received 24000",
    ),
    "a scalar": (
        "speech",
        {"waveform": np.float32(1)},
        r"waveform: expected the shape \[n, n\]; received",
    ),
    "no face": ("faces", {"faces": np.zeros((0, 64, 64, 3), np.uint8)}, "at least one face"),
    "no image": ("face_bytes", {"face_bytes": np.zeros(0, object)}, "at least one image"),
    "mask of another width": (
        "faces_masked",
        {"faces": faces(2), "mask": ONES[:, :3]},
        "mask: expected the shape",
    ),
    "mask for fewer": (
        "faces_masked",
        {"faces": faces(2), "mask": ONES[:1]},
        "mask: expected a row for each of 2 inputs; received 1",
    ),
    "mask of shares": (
        "faces_masked",
        {"faces": faces(2), "mask": ONES / 2},
        "mask: expected 1 for what can be answered",
    ),
    "mask of nothing": (
        "faces_masked",
        {"faces": faces(2), "mask": 0 * ONES},
        "mask: expected at least one 1",
    ),
    "no waveform": (
        "speech",
        {"waveform": np.zeros((0, 9000), np.float32)},
        "at least one waveform",
    ),
    "no sample": ("speech", {"waveform": np.zeros((1, 0), np.float32)}, "too short"),
    "too short": (
        "speech",
        {"waveform": sound()[None, :511]},
        "too short: expected at least 512 samples",
    ),
    "too long": (
        "speech",
        {"waveform": np.ones((1, 9_600_001), np.float32)},
        "too long: expected at most 9600000 samples",
    ),
    "NaN": ("speech", {"waveform": with_value(np.nan)}, "received NaN or infinity"),
    "infinity": ("speech", {"waveform": with_value(np.inf)}, "received NaN or infinity"),
    "integers": ("speech", {"waveform": 32768 * sound()[None]}, "divided by 32768"),
    "silence": ("speech", {"waveform": np.zeros((1, 9000), np.float32)}, "silent"),
    "one silent of two": ("speech", {"waveform": np.stack([sound(), 0 * sound()])}, "silent"),
    "length beyond the end": (
        "speech_masked",
        {"waveform": WAVES, "lengths": np.array([24_001, 9000], np.int32), "mask": ONES},
        "lengths: expected at most",
    ),
    "length of nothing": (
        "speech_masked",
        {"waveform": WAVES, "lengths": np.array([24_000, 0], np.int32), "mask": ONES},
        "too short",
    ),
    "negative length": (
        "speech_masked",
        {"waveform": WAVES, "lengths": np.array([24_000, -1], np.int32), "mask": ONES},
        "too short",
    ),
    "lengths for fewer": (
        "speech_masked",
        {"waveform": WAVES, "lengths": np.array([24_000], np.int32), "mask": ONES},
        "lengths: expected one for each of 2",
    ),
    "NaN in a segment": (
        "segments",
        {"segments": np.full((1, 64, 64, 3), np.nan, np.float32)},
        "received NaN or infinity",
    ),
    "segments far off": (
        "segments",
        {"segments": segment_with(1, 1e30)},
        f"{RANGE}; received 0 0 0 to 0 1e\\+30 0",
    ),
    "an embedding of segments far off": (
        "embed_segments",
        {"segments": segment_with(0, -1e30)},
        RANGE,
    ),
    "segments below the floor": ("segments", {"segments": segment_with(0, -100.6)}, RANGE),
    "segments above any sound": ("segments", {"segments": segment_with(0, 60.1)}, RANGE),
    "a delta that no sound has": ("segments", {"segments": segment_with(1, -26.8)}, RANGE),
    "a delta-delta that no sound has": ("segments", {"segments": segment_with(2, 24.4)}, RANGE),
    "segments of another size": (
        "segments",
        {"segments": np.zeros((1, 64, 32, 3), np.float32)},
        "segments: expected the shape",
    ),
    "timeline of more than a part": (
        "timeline",
        {"waveform": sound(61.0)[None]},
        "too long: expected at most 960000",
    ),
    "no WAV": (
        "wav_bytes",
        {"wav_bytes": np.array([b"RIFF, or so it says"], object)},
        "bytes of a WAV file",
    ),
    "WAV of another rate": (
        "wav_bytes",
        {"wav_bytes": np.array([wav_file(np.ones(9000, "<i2"), rate_hz=44_100)], object)},
        "44100 Hz",
    ),
    "empty file": ("wav_bytes", {"wav_bytes": np.array([b""], object)}, "bytes of a WAV file"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_told_by_the_graph(ask, name):
    signature, inputs, told = BAD[name]
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        ask(signature, **inputs)
    message = describe_graph_error(refused.value)
    assert re.search(told, message), message


@pytest.mark.parametrize(
    "name", [name for name, (signature, *_) in BAD.items() if "segments" in signature]
)
def test_clients_refuse_the_same_segments(name):
    with pytest.raises(InputError, match="segments must be "):
        requests.check_segments(BAD[name][1]["segments"])


def sounds() -> dict[str, np.ndarray]:
    """Return what sound can be at its most extreme, float32 [samples] each."""
    click, gate, tone = (np.zeros(24_000, np.float32) for _ in range(3))
    click[12_000], gate[12_000:] = 1, requests.MAX_PEAK * np.sign(np.sin(np.arange(12_000) / 80))
    tone[:] = requests.MAX_PEAK * np.sin(np.arange(24_000) / 10)
    found = {
        "quiet": sound() * 1e-3,
        "loud": sound() * 5,
        "click after silence": click,
        "loudest after silence": gate,
        "tone": tone,
    }
    return found | {
        "click": click[11_800:12_400],
        "padded": sound()[:600],
        "constant": np.full(9000, requests.MAX_PEAK, np.float32),
    }


@pytest.mark.parametrize("name", sounds())
def test_segments_of_any_sound_are_in_range(network, ask, name):
    segments = segments_of(sounds()[name])
    np.testing.assert_allclose(
        ask("segments", segments=segments)["probabilities"],
        answers(network, segments, 1),
        atol=1e-6,
    )
    requests.check_segments(segments)


def test_the_range_is_just_what_the_extremes_reach():
    """Of nine frames, those of positive weight the loudest and the others the quietest: the delta in the middle is the bound."""
    least, most = requests.segment_range()
    steps = np.arange(-4, 5)
    for channel, weights in ((1, steps), (2, steps**2 - 60 / 9)):
        for sign, bound in ((1, most), (-1, least)):
            static = np.where(sign * weights > 0, most[0], least[0]).astype(np.float32)
            found = log_mel.with_deltas(tf.constant(np.tile(static[:, None], (1, 64)))).numpy()[
                4, :, channel
            ]
            np.testing.assert_allclose(found, bound[channel], rtol=1e-5)


@pytest.fixture(scope="module")
def ask_broken():
    """A function that asks a network whose weights have become NaN."""
    model = keras.Model(
        *build_network(NetworkConfig(widths=(8, 16), convolutions=1, groups=4, embedding=12))
    )
    for name in ("features", "head"):
        model.get_layer(name).bias.assign(np.full(model.get_layer(name).bias.shape, np.nan))
    signatures = graph.Served(model, labels=LABELS, domains=DOMAINS).signatures()
    return lambda signature, **given: signatures[signature](
        **{name: tf.constant(value) for name, value in given.items()}
    )


WAV = np.array([wav_file(np.round(sound() * 32767).astype(np.int16), rate_hz=16_000)], object)
RIGHT = {
    **{name: {"faces": faces(2)} for name in ("faces", "embed_faces", "serving_default")},
    "faces_masked": {"faces": faces(2), "mask": ONES},
    "face_bytes": {"face_bytes": np.array([tf.io.encode_png(faces(1)[0]).numpy()], object)},
    **{name: {"waveform": WAVES} for name in ("speech", "embed_speech", "timeline")},
    "speech_masked": {
        "waveform": WAVES,
        "lengths": np.array([24_000, 9000], np.int32),
        "mask": ONES,
    },
    "wav_bytes": {"wav_bytes": WAV},
    **{name: {"segments": segment_with(0, -50)} for name in ("segments", "embed_segments")},
}


@pytest.mark.parametrize("signature", sorted(ALL | MORE))
def test_what_is_no_number_is_no_answer(ask_broken, signature):
    with pytest.raises(tf.errors.InvalidArgumentError) as refused:
        ask_broken(signature, **RIGHT[signature])
    assert describe_graph_error(refused.value) == "the network gives no number for this input"


def test_the_weights_are_saved_by_their_paths(network, model, tmp_path):
    tf.saved_model.save(model, str(tmp_path), signatures=model.signatures())
    weights = tf.saved_model.load(str(tmp_path)).weights
    assert set(weights) == {variable.path for variable in network.variables}
    for variable in network.variables:
        np.testing.assert_array_equal(
            weights[variable.path].numpy(), keras.ops.convert_to_numpy(variable)
        )
