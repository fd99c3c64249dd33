"""What a request of each signature must be, looked at before it is sent; NumPy only.

A server that batches puts the requests of several clients into one run of the graph, where one bad request fails them all.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.core.errors import InputError
from pipelines.core.spec import Spec

SPEC = Spec()
LONGEST_SECONDS = 600
MOST_PEAK = 8.0
"""Decoders overshoot full scale a little; a waveform above this holds integers that were not divided."""
LOUDEST_DB = 60.0
"""No log-Mel of a waveform that is allowed is above."""
BELOW_FLOOR_DB = 0.5
"""How far a log-Mel may be below the floor that it was cut off at: what was stored with fewer digits."""
FULL_SCALE = 32_768
DIVIDE = f"divide int16 samples by {FULL_SCALE}"


def segment_range(spec: Spec = SPEC) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the most that a segment's channels can be, each float32 [3]: dB, dB a frame, dB a frame squared.

    A delta is a sum of the decibels x around a frame with weights w whose sum is 0, so it lies within (most - least) of x times the
    sum of the positive w. The w are those of a line or a parabola fitted to `delta_width` points (Savitzky and Golay 1964), at k
    frames from the middle: k / sum k^2, and 2 q / sum q^2 with q = k^2 - mean k^2.

    >>> [[f"{bound:.2f}" for bound in bounds] for bounds in segment_range()]
    [['-100.50', '-26.75', '-24.32'], ['60.00', '26.75', '24.32']]
    """
    k = np.arange(spec.delta_width) - spec.delta_width // 2
    q = k**2 - np.mean(k**2)
    least = 10 * np.log10(spec.power_floor) - BELOW_FLOOR_DB
    deltas = [
        (LOUDEST_DB - least) * np.maximum(weights, 0).sum()
        for weights in (k / np.sum(k**2), 2 * q / np.sum(q**2))
    ]
    return np.array([least, *(-delta for delta in deltas)], np.float32), np.array(
        [LOUDEST_DB, *deltas], np.float32
    )


def segment_words(spec: Spec = SPEC) -> str:
    """Return `segment_range` in words.

    >>> segment_words()
    'decibels from -100.5 to 60, deltas within 26.75, delta-deltas within 24.32'
    """
    (least, _, _), (most, delta, second) = segment_range(spec)
    return f"decibels from {least:g} to {most:g}, deltas within {delta:.2f}, delta-deltas within {second:.2f}"


FACES = f"uint8 [n, {SPEC.face_size}, {SPEC.face_size}, 3] with n of at least 1"
SEGMENTS = f"float32 [n, {SPEC.mel_filters}, {SPEC.segment_frames}, 3] with n of at least 1"
WAVEFORM = f"float32 [batch, samples] in [-1, 1] at {SPEC.sample_rate_hz} Hz"


def faces(value: Any) -> np.ndarray:
    """Return face crops as uint8 [n, 64, 64, 3]; InputError for anything else.

    >>> faces(np.zeros((2, 64, 64, 3), np.uint8)).shape
    (2, 64, 64, 3)
    """
    array = _array(value, "faces", FACES)
    if (
        array.dtype != np.uint8
        or array.ndim != 4
        or not len(array)
        or array.shape[1:] != (SPEC.face_size, SPEC.face_size, 3)
    ):
        raise InputError(
            f"faces must be {FACES}; received {_words(array)}; crop and resize each face, and keep its grey levels 0 to 255"
        )
    return array


def segments(value: Any) -> np.ndarray:
    """Return log-Mel segments with deltas as float32 [n, 64, 64, 3]; InputError for anything else, or what no sound gives.

    >>> segments(np.zeros((1, 64, 64, 3))).dtype
    dtype('float32')
    """
    array = _array(value, "segments", SEGMENTS)
    shape = (SPEC.mel_filters, SPEC.segment_frames, 3)
    if array.dtype.kind != "f" or array.ndim != 4 or not len(array) or array.shape[1:] != shape:
        raise InputError(
            f"segments must be {SEGMENTS}; received {_words(array)}; pipelines.features.log_mel.segments makes them of a log-Mel"
        )
    array = _finite(array, "segments", SEGMENTS)
    least, most = segment_range()
    if (wrong := (array < least) | (array > most)).any():
        received = f"received {array[wrong][0]:g} at {np.argwhere(wrong)[0].tolist()}"
        raise InputError(
            f"segments must be {segment_words()}; {received}; pipelines.features.log_mel.segments makes them of a log-Mel"
        )
    return array


def waveform(value: Any, *, longest_seconds: float = LONGEST_SECONDS) -> np.ndarray:
    """Return waveforms as float32 [batch, samples]; InputError for any that is too short or long, too loud, silent or not finite.

    >>> waveform(np.full((1, 512), 0.5)).shape
    (1, 512)
    """
    array = _array(value, "waveform", WAVEFORM)
    if array.dtype.kind != "f" or array.ndim != 2 or not len(array):
        whole = array.dtype.kind in "iu"
        remedy = DIVIDE if whole else "one row a waveform, or a list of unequal ones"
        raise InputError(f"waveform must be {WAVEFORM}; received {_words(array)}; {remedy}")
    _check_samples(array.shape[1], longest_seconds)
    array = _finite(array, "waveform", WAVEFORM)
    peaks = np.abs(array).max(axis=1)  # [batch]
    if peaks.max() > MOST_PEAK:
        row = int(peaks.argmax())
        raise InputError(
            f"waveform must be {WAVEFORM}; received a peak of {peaks[row]:g} in row {row}; {DIVIDE}"
        )
    _check_loud(peaks)
    return array


def ragged(value: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return 1-D waveforms of unequal lengths padded with zeros, float32 [batch, longest], and their lengths, int32 [batch].

    >>> padded, lengths = ragged([np.full(512, 0.5), np.full(600, 0.5)])
    >>> padded.shape, lengths.tolist()
    ((2, 600), [512, 600])
    """
    if not len(value):
        raise InputError(
            f"waveform must be {WAVEFORM}, or a list of 1-D arrays; received an empty list; send one waveform or more"
        )
    rows = [_array(row, "waveform", WAVEFORM) for row in value]
    for number, row in enumerate(rows):
        if row.ndim != 1:
            raise InputError(
                f"waveform {number} of the list must have one dimension; received {_words(row)}; mix its channels into one"
            )
    rows = [waveform(row[None])[0] for row in rows]
    lengths = np.array([len(row) for row in rows], np.int32)
    padded = np.zeros((len(rows), lengths.max()), np.float32)
    for row, line in zip(rows, padded, strict=True):
        line[: len(row)] = row
    return padded, lengths


def lengths(value: Any, padded: np.ndarray) -> np.ndarray:
    """Return how many samples of each row are its own, int32 [batch]; InputError where a row is shorter, too short or silent.

    >>> lengths([512, 600], np.full((2, 600), 0.5, np.float32)).tolist()
    [512, 600]
    """
    batch, samples = padded.shape
    expected = (
        f"int32 [{batch}], each from {SPEC.fft_samples} to {samples}, the samples of the waveform"
    )
    array = _array(value, "lengths", expected)
    if array.dtype.kind not in "iu" or array.shape != (batch,):
        raise InputError(
            f"lengths must be {expected}; received {_words(array)}; one whole number a row of the waveform"
        )
    if array.min() < SPEC.fft_samples or array.max() > samples:
        raise InputError(
            f"lengths must be {expected}; received {array.min()} to {array.max()}; count the samples before the padding"
        )
    _check_loud(
        np.array([np.abs(row[:length]).max() for row, length in zip(padded, array, strict=True)])
    )
    return array.astype(np.int32)


def mask(value: Any, *, rows: int, width: int) -> np.ndarray:
    """Return which labels may be answered, float32 [rows, width] of 0 and 1 with a 1 in each row; InputError for anything else.

    >>> mask([[1, 0, 1]], rows=1, width=3).tolist()
    [[1.0, 0.0, 1.0]]
    """
    expected = f"float32 [{rows}, {width}] of 0 and 1 with a 1 in each row"
    remedy = "one row a face or waveform, one column a label in the order that `labels` answers"
    array = _array(value, "mask", expected)
    if array.dtype.kind not in "fiub" or array.shape != (rows, width):
        raise InputError(f"mask must be {expected}; received {_words(array)}; {remedy}")
    array = array.astype(np.float32)
    if not np.isin(array, (0, 1)).all() or not array.any(axis=1).all():
        row = int(np.argmin(np.isin(array, (0, 1)).all(axis=1) & array.any(axis=1)))
        raise InputError(
            f"mask must be {expected}; received {array[row].tolist()} in row {row}; 1 allows a label"
        )
    return array


def images(value: Any) -> np.ndarray:
    """Return encoded stills as an array of bytes, object [n]; InputError for what is no JPEG or PNG.

    >>> images([b"GIF89a"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: face_bytes 0 must be a JPEG or PNG file; received 6 bytes that begin b'GIF89a'; ...
    """
    array = _encoded(value, "face_bytes")
    for number, data in enumerate(array):
        if not data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
            raise InputError(
                f"face_bytes {number} must be a JPEG or PNG file; received {_begin(data)}; convert it, or send its pixels as faces"
            )
    return array


def wavs(value: Any) -> np.ndarray:
    """Return WAV files as an array of bytes, object [batch], each written anew: a head of 44 bytes, then its samples.

    So nothing is sent that TensorFlow's `decode_wav` reads otherwise: other chunks, or the sizes that a stream leaves open.

    Raises:
        InputError: A file is not 16 kHz, mono and 16-bit PCM, is truncated or malformed, or has no sound.

    >>> wavs([b"hello"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: wav_bytes 0 must be a WAV file, 16000 Hz, mono, 16-bit PCM; received 5 bytes that begin b'hello'; ...
    """
    array = _encoded(value, "wav_bytes")
    remedy = f"ffmpeg -i IN -ar {SPEC.sample_rate_hz} -ac 1 -c:a pcm_s16le OUT.wav"
    for number, data in enumerate(array):
        try:
            sound = _sound(data)
        except _NoSoundError as error:
            expected = f"a WAV file, {SPEC.sample_rate_hz} Hz, mono, 16-bit PCM"
            raise InputError(
                f"wav_bytes {number} must be {expected}; received {error}; {remedy}"
            ) from None
        samples = np.frombuffer(sound, "<i2")
        _check_samples(len(samples), LONGEST_SECONDS)
        _check_loud(np.abs(samples.astype(np.float32)).max(keepdims=True) / FULL_SCALE)
        form = (16, 1, 1, SPEC.sample_rate_hz, 2 * SPEC.sample_rate_hz, 2, 16)
        array[number] = (
            struct.pack(
                "<4sI4s4sIHHIIHH4sI",
                b"RIFF",
                36 + len(sound),
                b"WAVE",
                b"fmt ",
                *form,
                b"data",
                len(sound),
            )
            + sound
        )
    return array


class _NoSoundError(Exception):
    """A file that holds no sound as it is asked for; the message is what came."""


def _sound(data: bytes) -> bytes:
    """Return the samples of a WAV file of 16 kHz, mono and 16-bit PCM; _NoSoundError for any other, truncated or malformed one."""
    chunks = _chunks(data)
    form = chunks.get(b"fmt ", b"")
    if len(form) < 16 or b"data" not in chunks:
        raise _NoSoundError(_begin(data))
    coding, channels, rate_hz, second_bytes, sample_bytes, bits = struct.unpack(
        "<HHIIHH", form[:16]
    )
    if (coding, channels, rate_hz, bits) != (1, 1, SPEC.sample_rate_hz, 16):
        raise _NoSoundError(f"{rate_hz} Hz, {channels} channels, {bits} bits, coding {coding}")
    if (second_bytes, sample_bytes) != (2 * rate_hz, 2):
        raise _NoSoundError(
            f"a head that says {sample_bytes} bytes a sample, {second_bytes} a second, where 2 and {2 * rate_hz} are right"
        )
    if len(chunks[b"data"]) % 2:
        raise _NoSoundError(f"sound of {len(chunks[b'data'])} bytes, which ends within a sample")
    return chunks[b"data"]


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a RIFF WAVE file by name (Multimedia Programming Interface 1.0, 1991), none where it is no such file.

    A stream is written before its length is known: its `data` claims 0 or 0xFFFFFFFF bytes, and goes to the end of the file.
    """
    found = {}
    position = 12
    finished = int.from_bytes(data[4:8], "little") == len(data) - 8
    while data[:4] == b"RIFF" and data[8:12] == b"WAVE" and position + 8 <= len(data):
        name, size = (
            data[position : position + 4],
            int.from_bytes(data[position + 4 : position + 8], "little"),
        )
        position += 8
        if name in found and name in (b"fmt ", b"data"):
            raise _NoSoundError(f"a file with two {name.decode().strip()} chunks")
        if name == b"data" and (size == 0xFFFFFFFF or (size == 0 and not finished)):
            size = len(data) - position
        if name == b"data" and size > len(data) - position:
            raise _NoSoundError(
                f"a truncated file, {len(data) - position} of {size} bytes of sound"
            )
        found.setdefault(name, data[position : position + size])
        position += size + size % 2
    return found


def _encoded(value: Any, name: str) -> np.ndarray:
    if isinstance(value, bytes | str) or not all(isinstance(data, bytes) for data in value):
        raise InputError(
            f"{name} must be a list of bytes, one a file; received {type(value).__name__}; pass [path.read_bytes()]"
        )
    if not len(value) or not all(value):
        raise InputError(
            f"{name} must be a list of bytes, one a file; received an empty {'file' if len(value) else 'list'}; leave it out"
        )
    array = np.empty(len(value), object)
    array[:] = value
    return array


def _begin(data: bytes) -> str:
    return f"{len(data)} bytes that begin {data[:12]!r}"


def _array(value: Any, name: str, expected: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError:
        array = None
    if array is None or array.dtype.kind not in "fiub":
        received = "rows of unequal lengths" if array is None else f"an array of {array.dtype}"
        raise InputError(
            f"{name} must be {expected}; received {received}; pass one array of numbers"
        )
    return array


def _words(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _finite(array: np.ndarray, name: str, expected: str) -> np.ndarray:
    array = array.astype(np.float32, copy=False)
    if not (fine := np.isfinite(array)).all():
        raise InputError(
            f"{name} must be {expected}; received {array[~fine][0]} at {np.argwhere(~fine)[0].tolist()}; leave such rows out"
        )
    return array


def _check_samples(samples: int, longest_seconds: float) -> None:
    longest = round(longest_seconds * SPEC.sample_rate_hz)
    if not SPEC.fft_samples <= samples <= longest:
        expected = f"{SPEC.fft_samples} to {longest} samples ({longest_seconds:g} s)"
        raise InputError(
            f"a waveform must have {expected}; received {samples}; cut longer sound into parts, leave shorter out"
        )


def _check_loud(peaks: np.ndarray) -> None:
    if peaks.min() < SPEC.silence_peak:
        row = int(peaks.argmin())
        received = f"received a peak of {peaks[row]:g} in row {row}"
        raise InputError(
            f"a waveform must reach {SPEC.silence_peak:g} of full scale; {received}; it is silent, leave it out"
        )
