"""Valid requests of every signature, and wrong requests with key words of their errors."""

import io
import json
import wave
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

Inputs = dict[str, np.ndarray]


def still(suffix: str = ".jpg", *, side: int = 80, seed: int = 0) -> bytes:
    """Return the bytes of a JPEG or PNG file."""
    picture = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(suffix, picture)[1].tobytes()


def wav(
    *,
    samples: int = 9000,
    rate_hz: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    peak: float = 0.5,
    seed: int = 0,
) -> bytes:
    """Return the bytes of a WAV file with noise."""
    sound = np.random.default_rng(seed).uniform(-peak, peak, (samples, channels))
    coded = (sound * 32767).astype("<i2") if bits == 16 else (128 + sound * 127).astype(np.uint8)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, bits // 8, rate_hz, samples, "NONE", ""))
        writer.writeframes(coded.tobytes())
    return file.getvalue()


def noise(batch: int, samples: int, *, seed: int = 0) -> np.ndarray:
    """Return waveforms, float32 [batch, samples]."""
    return np.random.default_rng(seed).normal(0, 0.1, (batch, samples)).astype(np.float32)


def files(*contents: bytes) -> np.ndarray:
    """Return files as an input with dtype object."""
    array = np.empty(len(contents), object)
    array[:] = contents
    return array


def valid_requests(n_labels: int, *, seed: int = 0) -> dict[str, Inputs]:
    """Return a valid request of every signature; the seed also sets the sizes."""
    random = np.random.default_rng(seed)
    batch, samples = int(random.integers(1, 4)), int(random.integers(600, 40_000))
    faces = random.integers(0, 256, (batch, 64, 64, 3)).astype(np.uint8)
    segments = (random.uniform(-90, 0, (batch, 64, 64, 3)) * [1, 0.2, 0.2]).astype(np.float32)
    waveform = noise(batch, samples, seed=seed)
    mask = (random.uniform(size=(batch, n_labels)) < 0.5).astype(np.float32)
    mask[:, seed % n_labels] = 1
    lengths = random.integers(512, samples + 1, batch).astype(np.int32)
    lengths[0] = samples
    stills = [
        still(".png" if row else ".jpg", side=50 + 9 * row, seed=seed) for row in range(batch)
    ]
    wavs = [wav(samples=600 + 5000 * row, seed=seed + row) for row in range(batch)]
    return {
        "faces": {"faces": faces},
        "face_bytes": {"face_bytes": files(*stills)},
        "faces_masked": {"faces": faces, "mask": mask},
        "embed_faces": {"faces": faces},
        "segments": {"segments": segments},
        "embed_segments": {"segments": segments},
        "speech": {"waveform": waveform},
        "speech_masked": {"waveform": waveform, "lengths": lengths, "mask": mask},
        "embed_speech": {"waveform": waveform},
        "timeline": {"waveform": waveform},
        "wav_bytes": {"wav_bytes": files(*wavs)},
    }


FACES = np.full((2, 64, 64, 3), 100, np.uint8)
SOUND = noise(2, 9000)
MASK = np.ones((2, 1), np.float32)
SAMPLES = np.full(2, 9000, np.int32)


def _masked(n_labels: int, **changes: np.ndarray) -> Inputs:
    """Return inputs of the signature `speech_masked` with some changes."""
    return {"waveform": SOUND, "lengths": SAMPLES, "mask": np.tile(MASK, n_labels)} | changes


def _with_last(array: np.ndarray, value: float) -> np.ndarray:
    """Return a copy of an array with another last value."""
    array = array.copy()
    array[(-1,) * array.ndim] = value
    return array


class WrongRequest(NamedTuple):
    """A request that a server rejects.

    Attributes:
        signature: The signature.
        inputs_for: A function from the number of labels to the inputs.
        words: Key words of the error.
    """

    signature: str
    inputs_for: Callable[[int], Inputs]
    words: tuple[str, ...]


WRONG_REQUESTS = {
    "wrong dtype": WrongRequest(
        "faces", lambda n_labels: {"faces": FACES + np.float32(0.5)}, ("uint8",)
    ),
    "wrong shape": WrongRequest(
        "faces", lambda n_labels: {"faces": FACES[:, :32]}, ("faces", "[n, 64, 64, 3]", "2 32 64 3")
    ),
    "no batch": WrongRequest(
        "faces",
        lambda n_labels: {"faces": FACES[0]},
        ("faces", "[n, 64, 64, 3]", "received", "64 64 3"),
    ),
    "a rank too many": WrongRequest(
        "speech", lambda n_labels: {"waveform": SOUND[:, None]}, ("waveform", "[n, n]", "2 1 9000")
    ),
    "a scalar": WrongRequest(
        "embed_speech",
        lambda n_labels: {"waveform": SOUND[0, 0]},
        ("waveform", "[n, n]", "received"),
    ),
    "empty batch": WrongRequest(
        "faces", lambda n_labels: {"faces": FACES[:0]}, ("expected", "64", "received")
    ),
    "no file": WrongRequest(
        "wav_bytes", lambda n_labels: {"wav_bytes": files()}, ("expected", "WAV", "received")
    ),
    "zero length": WrongRequest(
        "speech", lambda n_labels: {"waveform": SOUND[:, :0]}, ("512", "samples", "received 0")
    ),
    "too short": WrongRequest(
        "speech", lambda n_labels: {"waveform": SOUND[:, :511]}, ("512", "samples", "received 511")
    ),
    "over ten minutes": WrongRequest(
        "speech",
        lambda n_labels: {"waveform": np.full((1, 9_600_001), 0.5, np.float32)},
        ("at most", "9600000"),
    ),
    "over a minute of timeline": WrongRequest(
        "timeline",
        lambda n_labels: {"waveform": np.full((1, 960_001), 0.5, np.float32)},
        ("at most", "960000"),
    ),
    "silent": WrongRequest(
        "speech", lambda n_labels: {"waveform": SOUND * 0}, ("expected sound", "-60 dB")
    ),
    "one silent of two": WrongRequest(
        "embed_speech",
        lambda n_labels: {"waveform": SOUND * np.float32([[1], [0]])},
        ("expected sound", "-60 dB"),
    ),
    "int16 as float": WrongRequest(
        "speech", lambda n_labels: {"waveform": SOUND * 32768}, ("samples", "[-1, 1]")
    ),
    "NaN": WrongRequest(
        "speech",
        lambda n_labels: {"waveform": _with_last(SOUND, np.nan)},
        ("numbers", "received NaN"),
    ),
    "infinity": WrongRequest(
        "timeline",
        lambda n_labels: {"waveform": _with_last(SOUND, np.inf)},
        ("numbers", "infinity"),
    ),
    "NaN in a segment": WrongRequest(
        "segments",
        lambda n_labels: {"segments": _with_last(np.zeros((2, 64, 64, 3), np.float32), np.nan)},
        ("segments", "numbers"),
    ),
    "segments of another shape": WrongRequest(
        "embed_segments",
        lambda n_labels: {"segments": np.zeros((1, 64, 60, 3), np.float32)},
        ("[n, 64, 64, 3]", "1 64 60 3"),
    ),
    "not an image": WrongRequest(
        "face_bytes",
        lambda n_labels: {"face_bytes": files(still(), b"hello")},
        ("expected", "JPEG", "PNG"),
    ),
    "an empty image": WrongRequest(
        "face_bytes", lambda n_labels: {"face_bytes": files(b"")}, ("expected", "JPEG", "PNG")
    ),
    "GIF": WrongRequest(
        "face_bytes",
        lambda n_labels: {"face_bytes": files(still(".gif"))},
        ("expected", "JPEG", "PNG"),
    ),
    "truncated JPEG": WrongRequest(
        "face_bytes",
        lambda n_labels: {"face_bytes": files(still()[:-300])},
        ("JPEG", "PNG", "files"),
    ),
    "truncated PNG": WrongRequest(
        "face_bytes",
        lambda n_labels: {"face_bytes": files(still(".png")[:-300])},
        ("JPEG", "PNG", "files"),
    ),
    "WAV at 44.1 kHz": WrongRequest(
        "wav_bytes",
        lambda n_labels: {"wav_bytes": files(wav(rate_hz=44_100))},
        ("16000 Hz", "mono", "received 44100"),
    ),
    "stereo WAV": WrongRequest(
        "wav_bytes",
        lambda n_labels: {"wav_bytes": files(wav(channels=2))},
        ("16000 Hz", "mono", "received", "2 channels"),
    ),
    "8-bit WAV": WrongRequest(
        "wav_bytes", lambda n_labels: {"wav_bytes": files(wav(bits=8))}, ("mono", "16-bit")
    ),
    "text for WAV": WrongRequest(
        "wav_bytes",
        lambda n_labels: {"wav_bytes": files(wav(), b"hello")},
        ("expected", "bytes", "WAV"),
    ),
    "truncated WAV": WrongRequest(
        "wav_bytes", lambda n_labels: {"wav_bytes": files(wav()[:30])}, ("WAV files", "16000 Hz")
    ),
    "WAV without a sample": WrongRequest(
        "wav_bytes",
        lambda n_labels: {"wav_bytes": files(wav(samples=0))},
        ("wav_bytes", "expected"),
    ),
    "silent WAV": WrongRequest(
        "wav_bytes",
        lambda n_labels: {"wav_bytes": files(wav(peak=0))},
        ("expected sound", "-60 dB"),
    ),
    "unknown signature": WrongRequest(
        "feces", lambda n_labels: {"faces": FACES}, ("signature", "faces", "speech")
    ),
    "unknown input": WrongRequest("faces", lambda n_labels: {"face": FACES}, ("faces", "input")),
    "missing input": WrongRequest("faces_masked", lambda n_labels: {"faces": FACES}, ("mask",)),
    "mask of zeros": WrongRequest(
        "faces_masked",
        lambda n_labels: {"faces": FACES, "mask": np.zeros((2, n_labels), np.float32)},
        ("mask", "expected", "row"),
    ),
    "mask too wide": WrongRequest(
        "faces_masked",
        lambda n_labels: {"faces": FACES, "mask": np.ones((2, n_labels + 1), np.float32)},
        ("mask", "expected", "shape"),
    ),
    "mask of one column": WrongRequest(
        "speech_masked", lambda n_labels: _masked(1), ("mask", "expected", "shape")
    ),
    "mask of another batch": WrongRequest(
        "speech_masked",
        lambda n_labels: _masked(n_labels, mask=np.ones((1, n_labels), np.float32)),
        ("mask", "row", "2 inputs"),
    ),
    "mask of halves": WrongRequest(
        "speech_masked",
        lambda n_labels: _masked(n_labels, mask=np.full((2, n_labels), 0.5, np.float32)),
        ("mask", "expected 1", "label"),
    ),
    "lengths beyond the waveform": WrongRequest(
        "speech_masked",
        lambda n_labels: _masked(n_labels, lengths=SAMPLES + 1),
        ("lengths", "at most 9000"),
    ),
    "lengths too short": WrongRequest(
        "speech_masked",
        lambda n_labels: _masked(n_labels, lengths=SAMPLES * 0 + 100),
        ("512 samples", "received"),
    ),
    "lengths below zero": WrongRequest(
        "speech_masked",
        lambda n_labels: _masked(n_labels, lengths=-SAMPLES),
        ("512 samples", "received"),
    ),
    "a length too few": WrongRequest(
        "speech_masked",
        lambda n_labels: _masked(n_labels, lengths=SAMPLES[:1]),
        ("lengths", "2 waveforms"),
    ),
    "lengths as float": WrongRequest(
        "speech_masked",
        lambda n_labels: _masked(n_labels, lengths=SAMPLES + np.float32(0.5)),
        ("int32",),
    ),
}
"""What is wrong -> the request."""


def malformed_bodies(faces: Sequence) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """Return bodies of malformed REST requests, each with key words of the error."""
    half = json.dumps({"inputs": faces}).encode()[:-5]
    return {
        "nothing": (b"", ("document", "empty")),
        "not JSON": (b"faces=1", ("JSON", "Parse error")),
        "half a JSON": (half, ("JSON", "Parse error")),
        "a list": (b"[1, 2]", ("not object",)),
        "neither inputs nor instances": (
            b'{"signature_name": "faces"}',
            ("Missing", "inputs", "instances"),
        ),
        "inputs and instances": (
            b'{"signature_name": "faces", "inputs": [1], "instances": [1]}',
            ("only one", "inputs", "instances"),
        ),
        "no instance": (
            b'{"signature_name": "faces", "instances": []}',
            ("No values", "instances"),
        ),
        "ragged": (
            b'{"signature_name": "speech", "inputs": [[0.1, 0.2], [0.3]]}',
            ("unexpected", "size: 1"),
        ),
        "words": (
            b'{"signature_name": "speech", "inputs": [["loud"]]}',
            ("expected", "float"),
        ),
        "null": (b'{"signature_name": "speech", "inputs": [[null]]}', ("expected", "float")),
        "not base64": (
            b'{"signature_name": "wav_bytes", "inputs": [{"b64": "!"}]}',
            ("base64", "decode"),
        ),
        "a number as the signature": (
            b'{"signature_name": 3, "inputs": [1]}',
            ("signature_name", "string"),
        ),
    }
