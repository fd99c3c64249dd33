"""Valid requests of every signature, and wrong requests by what is wrong with them."""

import io
import wave
from collections.abc import Callable, Sequence

import cv2
import numpy as np

Inputs = dict[str, np.ndarray]


def still(suffix: str = ".jpg", *, side: int = 80, seed: int = 0) -> bytes:
    """Return the bytes of a JPEG or PNG file."""
    picture = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return cv2.imencode(suffix, cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC))[
        1
    ].tobytes()


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


def right_requests(labels: int, *, seed: int = 0) -> dict[str, Inputs]:
    """Return a valid request of every signature; the seed also sets the sizes."""
    random = np.random.default_rng(seed)
    batch, samples = int(random.integers(1, 4)), int(random.integers(600, 40_000))
    faces = random.integers(0, 256, (batch, 64, 64, 3)).astype(np.uint8)
    segments = (random.uniform(-90, 0, (batch, 64, 64, 3)) * [1, 0.2, 0.2]).astype(np.float32)
    waveform = noise(batch, samples, seed=seed)
    mask = (random.uniform(size=(batch, labels)) < 0.5).astype(np.float32)
    mask[:, seed % labels] = 1
    lengths = random.integers(512, samples + 1, batch).astype(np.int32)
    lengths[0] = samples
    return {
        "faces": {"faces": faces},
        "face_bytes": {
            "face_bytes": files(
                *(
                    still(".png" if row else ".jpg", side=50 + 9 * row, seed=seed)
                    for row in range(batch)
                )
            )
        },
        "faces_masked": {"faces": faces, "mask": mask},
        "embed_faces": {"faces": faces},
        "segments": {"segments": segments},
        "embed_segments": {"segments": segments},
        "speech": {"waveform": waveform},
        "speech_masked": {"waveform": waveform, "lengths": lengths, "mask": mask},
        "embed_speech": {"waveform": waveform},
        "timeline": {"waveform": waveform},
        "wav_bytes": {
            "wav_bytes": files(
                *(wav(samples=600 + 5000 * row, seed=seed + row) for row in range(batch))
            )
        },
    }


FACES = np.full((2, 64, 64, 3), 100, np.uint8)
SOUND = noise(2, 9000)
MASK = np.ones((2, 1), np.float32)
SAMPLES = np.full(2, 9000, np.int32)


def _masked(labels: int, **changed: np.ndarray) -> Inputs:
    return {"waveform": SOUND, "lengths": SAMPLES, "mask": np.tile(MASK, labels)} | changed


def _with(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array[(-1,) * array.ndim] = value
    return array


WRONG: dict[str, tuple[str, Callable[[int], Inputs], str]] = {
    "wrong dtype": ("faces", lambda k: {"faces": FACES + np.float32(0.5)}, "uint8"),
    "wrong shape": (
        "faces",
        lambda k: {"faces": FACES[:, :32]},
        r"faces: expected the shape \[n, 64, 64, 3\]; received.*2 32 64 3",
    ),
    "no batch": (
        "faces",
        lambda k: {"faces": FACES[0]},
        r"faces: expected the shape \[n, 64, 64, 3\]; received.*64 64 3",
    ),
    "a rank too many": (
        "speech",
        lambda k: {"waveform": SOUND[:, None]},
        r"waveform: expected the shape \[n, n\]; received.*2 1 9000",
    ),
    "a scalar": (
        "embed_speech",
        lambda k: {"waveform": SOUND[0, 0]},
        r"waveform: expected the shape \[n, n\]; received",
    ),
    "empty batch": (
        "faces",
        lambda k: {"faces": FACES[:0]},
        r"expected the shape \[n, 64, 64, 3\]; received|at least one face",
    ),
    "no file": ("wav_bytes", lambda k: {"wav_bytes": files()}, "expected at least one WAV file"),
    "zero length": (
        "speech",
        lambda k: {"waveform": SOUND[:, :0]},
        "expected at least 512 samples.*received 0",
    ),
    "too short": (
        "speech",
        lambda k: {"waveform": SOUND[:, :511]},
        "expected at least 512 samples.*received 511",
    ),
    "over ten minutes": (
        "speech",
        lambda k: {"waveform": np.full((1, 9_600_001), 0.5, np.float32)},
        "expected at most 9600000 samples",
    ),
    "over a minute of timeline": (
        "timeline",
        lambda k: {"waveform": np.full((1, 960_001), 0.5, np.float32)},
        "at most 960000 samples",
    ),
    "silent": ("speech", lambda k: {"waveform": SOUND * 0}, "expected sound above -60 dB"),
    "one silent of two": (
        "embed_speech",
        lambda k: {"waveform": SOUND * np.float32([[1], [0]])},
        "expected sound above -60 dB",
    ),
    "int16 as float": (
        "speech",
        lambda k: {"waveform": SOUND * 32768},
        r"expected samples in \[-1, 1\]",
    ),
    "NaN": (
        "speech",
        lambda k: {"waveform": _with(SOUND, np.nan)},
        "expected numbers; received NaN or infinity",
    ),
    "infinity": (
        "timeline",
        lambda k: {"waveform": _with(SOUND, np.inf)},
        "expected numbers; received NaN or infinity",
    ),
    "NaN in a segment": (
        "segments",
        lambda k: {"segments": _with(np.zeros((2, 64, 64, 3), np.float32), np.nan)},
        "expected numbers",
    ),
    "segments of another shape": (
        "embed_segments",
        lambda k: {"segments": np.zeros((1, 64, 60, 3), np.float32)},
        r"\[n, 64, 64, 3\]",
    ),
    "not an image": (
        "face_bytes",
        lambda k: {"face_bytes": files(still(), b"hello")},
        "expected the bytes of a JPEG or PNG file",
    ),
    "an empty image": (
        "face_bytes",
        lambda k: {"face_bytes": files(b"")},
        "expected the bytes of a JPEG or PNG file",
    ),
    "GIF": (
        "face_bytes",
        lambda k: {"face_bytes": files(still(".gif"))},
        "expected the bytes of a JPEG or PNG file",
    ),
    "truncated JPEG": (
        "face_bytes",
        lambda k: {"face_bytes": files(still()[:-300])},
        "JPEG or PNG files",
    ),
    "truncated PNG": (
        "face_bytes",
        lambda k: {"face_bytes": files(still(".png")[:-300])},
        "JPEG or PNG files",
    ),
    "WAV at 44.1 kHz": (
        "wav_bytes",
        lambda k: {"wav_bytes": files(wav(rate_hz=44_100))},
        "16000 Hz, mono.*received 44100",
    ),
    "stereo WAV": (
        "wav_bytes",
        lambda k: {"wav_bytes": files(wav(channels=2))},
        "16000 Hz, mono.*received 16000 Hz in 2 channels",
    ),
    "8-bit WAV": ("wav_bytes", lambda k: {"wav_bytes": files(wav(bits=8))}, "mono, 16-bit"),
    "text for WAV": (
        "wav_bytes",
        lambda k: {"wav_bytes": files(wav(), b"hello")},
        "expected the bytes of a WAV file",
    ),
    "truncated WAV": (
        "wav_bytes",
        lambda k: {"wav_bytes": files(wav()[:30])},
        "WAV files of 16000 Hz",
    ),
    "WAV without a sample": (
        "wav_bytes",
        lambda k: {"wav_bytes": files(wav(samples=0))},
        "expected at least 512 samples|whole WAV files",
    ),
    "silent WAV": (
        "wav_bytes",
        lambda k: {"wav_bytes": files(wav(peak=0))},
        "expected sound above -60 dB",
    ),
    "unknown signature": (
        "feces",
        lambda k: {"faces": FACES},
        "no such signature; it has .*faces.*speech",
    ),
    "unknown input": ("faces", lambda k: {"face": FACES}, "faces in 'inputs'|in the set {faces}"),
    "missing input": ("faces_masked", lambda k: {"faces": FACES}, "mask"),
    "mask of zeros": (
        "faces_masked",
        lambda k: {"faces": FACES, "mask": np.zeros((2, k), np.float32)},
        "at least one 1 in every row",
    ),
    "mask too wide": (
        "faces_masked",
        lambda k: {"faces": FACES, "mask": np.ones((2, k + 1), np.float32)},
        "mask: expected the shape",
    ),
    "mask of one column": ("speech_masked", lambda k: _masked(1), "mask: expected the shape"),
    "mask of another batch": (
        "speech_masked",
        lambda k: _masked(k, mask=np.ones((1, k), np.float32)),
        "a row for each of 2 inputs",
    ),
    "mask of halves": (
        "speech_masked",
        lambda k: _masked(k, mask=np.full((2, k), 0.5, np.float32)),
        "expected 1 for each label",
    ),
    "lengths beyond the waveform": (
        "speech_masked",
        lambda k: _masked(k, lengths=SAMPLES + 1),
        "lengths: expected at most 9000",
    ),
    "lengths too short": (
        "speech_masked",
        lambda k: _masked(k, lengths=SAMPLES * 0 + 100),
        "at least 512 samples",
    ),
    "lengths below zero": (
        "speech_masked",
        lambda k: _masked(k, lengths=-SAMPLES),
        "at least 512 samples",
    ),
    "a length too few": (
        "speech_masked",
        lambda k: _masked(k, lengths=SAMPLES[:1]),
        "lengths: expected one for each of 2 waveforms",
    ),
    "lengths as float": (
        "speech_masked",
        lambda k: _masked(k, lengths=SAMPLES + np.float32(0.5)),
        "int32",
    ),
}
"""What is wrong -> the signature, its inputs by the number of labels, and a match of the error."""


def texts_that_are_no_requests(faces: Sequence) -> dict[str, tuple[bytes, str]]:
    """Return bodies of malformed REST requests, each with words of the error."""
    import json

    return {
        "nothing": (b"", "The document is empty"),
        "not JSON": (b"faces=1", "JSON Parse error"),
        "half a JSON": (json.dumps({"inputs": faces}).encode()[:-5], "JSON Parse error"),
        "a list": (b"[1, 2]", "Is not object"),
        "neither inputs nor instances": (
            b'{"signature_name": "faces"}',
            "Missing 'inputs' or 'instances' key",
        ),
        "both": (b'{"signature_name": "faces", "inputs": [1], "instances": [1]}', "only one of"),
        "no instance": (
            b'{"signature_name": "faces", "instances": []}',
            "No values in 'instances' array",
        ),
        "ragged": (
            b'{"signature_name": "speech", "inputs": [[0.1, 0.2], [0.3]]}',
            "unexpected size: 1",
        ),
        "words": (
            b'{"signature_name": "speech", "inputs": [["loud"]]}',
            "not of expected type: float",
        ),
        "null": (
            b'{"signature_name": "speech", "inputs": [[null]]}',
            "not of expected type: float",
        ),
        "not base64": (
            b'{"signature_name": "wav_bytes", "inputs": [{"b64": "!"}]}',
            "Unable to base64 decode",
        ),
        "a signature that is no name": (
            b'{"signature_name": 3, "inputs": [1]}',
            "must be a string value",
        ),
    }
