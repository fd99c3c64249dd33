"""Check the inputs of a signature before a client sends them; NumPy only.

A server that batches puts the requests of several clients into one run of the graph. One bad
request then fails all of them.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.serving.signatures import (
    FACES,
    MAX_SOUND_SECONDS,
    SEGMENTS,
    WAVEFORM,
    Signature,
)
from pipelines.core.errors import InputError
from pipelines.core.spec import Spec

SPEC = Spec()
MAX_PEAK = 8.0
"""Decoders overshoot full scale a little; a higher peak means integers that were not divided."""
MAX_LOG_MEL_DB = 60.0
"""No log-Mel of an allowed waveform is above."""
FLOOR_TOLERANCE_DB = 0.5
"""How far a log-Mel may lie below its floor, because it was stored with fewer digits."""
FULL_SCALE = 32_768
DIVIDE_HINT = f"divide int16 samples by {FULL_SCALE}"


def segment_range(spec: Spec = SPEC) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest value of a segment's channels.

    A delta is a sum of the decibels x around a frame with weights w whose sum is 0. It lies within
    (max x - min x) times the sum of the positive w. The weights are those of a line or a parabola
    that is fitted to `delta_width` points (Savitzky and Golay 1964). At k frames from the middle
    they are k / sum k^2, and 2 q / sum q^2 with q = k^2 - mean k^2.

    Args:
        spec: The numbers of the segments.

    Returns:
        Two float32 [3]: of the log-Mel in dB, of the delta in dB per frame, and of the delta-delta
        in dB per frame squared.

    >>> [[f"{bound:.2f}" for bound in bounds] for bounds in segment_range()]
    [['-100.50', '-26.75', '-24.32'], ['60.00', '26.75', '24.32']]
    """
    k = np.arange(spec.delta_width) - spec.delta_width // 2
    q = k**2 - np.mean(k**2)
    min_db = 10 * np.log10(spec.power_floor) - FLOOR_TOLERANCE_DB
    deltas = [
        (MAX_LOG_MEL_DB - min_db) * np.maximum(weights, 0).sum()
        for weights in (k / np.sum(k**2), 2 * q / np.sum(q**2))
    ]
    smallest = np.array([min_db, *(-delta for delta in deltas)], np.float32)
    return smallest, np.array([MAX_LOG_MEL_DB, *deltas], np.float32)


def describe_segment_range(spec: Spec = SPEC) -> str:
    """Return `segment_range` in words.

    >>> describe_segment_range()
    'decibels from -100.5 to 60, deltas within 26.75, delta-deltas within 24.32'
    """
    (min_db, _, _), (max_db, delta, second_delta) = segment_range(spec)
    return (
        f"decibels from {min_db:g} to {max_db:g}, "
        f"deltas within {delta:.2f}, delta-deltas within {second_delta:.2f}"
    )


def check_inputs(
    signature: Signature, inputs: Mapping[str, Any], *, n_labels: Callable[[], int]
) -> dict[str, np.ndarray]:
    """Return the inputs of a signature as arrays of the right dtype and shape.

    Args:
        signature: The signature that the inputs are for.
        inputs: A value for each of its inputs.
        n_labels: Returns how many labels the model has. It is called only for a mask.

    Raises:
        InputError: An input is missing, unknown, or one that the graph would reject.
    """
    if set(inputs) != set(signature.input_names):
        raise InputError(
            f"{signature.name}: expected the inputs {', '.join(signature.input_names)}; "
            f"received {', '.join(inputs) or 'none'}"
        )
    checked: dict[str, np.ndarray] = {}
    for name in signature.input_names:
        value = inputs[name]
        if name == "mask":
            rows = len(next(iter(checked.values())))
            checked[name] = check_mask(value, rows=rows, n_labels=n_labels())
        elif name == "lengths":
            checked[name] = check_lengths(value, checked["waveform"])
        elif name == "waveform":
            checked[name] = check_waveform(value, max_seconds=signature.max_seconds)
        else:
            checked[name] = _CHECKS[name](value)
    return checked


def check_faces(value: Any) -> np.ndarray:
    """Return face crops as uint8 [n, 64, 64, 3].

    Raises:
        InputError: The value is anything else.

    >>> check_faces(np.zeros((2, 64, 64, 3), np.uint8)).shape
    (2, 64, 64, 3)
    """
    expected = f"{FACES.describe()} with n of at least 1"
    array = _to_numbers(value, "faces", expected)
    shape = (SPEC.face_size, SPEC.face_size, 3)
    if array.dtype != np.uint8 or not _has_rows(array, shape):
        raise InputError(
            f"faces must be {expected}; received {_describe(array)}; "
            "crop and resize each face, and keep its grey levels 0 to 255"
        )
    return array


def check_segments(value: Any) -> np.ndarray:
    """Return log-Mel segments with deltas as float32 [n, 64, 64, 3].

    Raises:
        InputError: The value is anything else, or outside `segment_range`.

    >>> check_segments(np.zeros((1, 64, 64, 3))).dtype
    dtype('float32')
    """
    expected = f"{SEGMENTS.describe()} with n of at least 1"
    remedy = "pipelines.features.log_mel.segments makes them of a log-Mel"
    array = _to_numbers(value, "segments", expected)
    shape = (SPEC.mel_filters, SPEC.segment_frames, 3)
    if array.dtype.kind != "f" or not _has_rows(array, shape):
        raise InputError(f"segments must be {expected}; received {_describe(array)}; {remedy}")
    array = _to_finite(array, "segments", expected)
    smallest, largest = segment_range()
    outside = (array < smallest) | (array > largest)
    if outside.any():
        received = f"received {array[outside][0]:g} at {np.argwhere(outside)[0].tolist()}"
        raise InputError(f"segments must be {describe_segment_range()}; {received}; {remedy}")
    return array


def check_waveform(value: Any, *, max_seconds: float = MAX_SOUND_SECONDS) -> np.ndarray:
    """Return waveforms as float32 [batch, samples].

    Args:
        value: float [batch, samples] in [-1, 1] at 16 kHz.
        max_seconds: How long a waveform may be.

    Raises:
        InputError: A waveform is too short, too long, too loud, silent or not finite.

    >>> check_waveform(np.full((1, 512), 0.5)).shape
    (1, 512)
    """
    expected = WAVEFORM.describe()
    array = _to_numbers(value, "waveform", expected)
    if array.dtype.kind != "f" or array.ndim != 2 or not len(array):
        is_integer = array.dtype.kind in "iu"
        remedy = DIVIDE_HINT if is_integer else "one row a waveform, or a list of unequal waveforms"
        raise InputError(f"waveform must be {expected}; received {_describe(array)}; {remedy}")
    _check_n_samples(array.shape[1], max_seconds)
    array = _to_finite(array, "waveform", expected)
    peaks = np.abs(array).max(axis=1)  # [batch]
    if peaks.max() > MAX_PEAK:
        row = int(peaks.argmax())
        raise InputError(
            f"waveform must be {expected}; received a peak of {peaks[row]:g} in row {row}; "
            f"{DIVIDE_HINT}"
        )
    _check_audible(peaks)
    return array


def pad_waveforms(waveforms: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return waveforms of unequal lengths in one array.

    Args:
        waveforms: float [samples] each, in [-1, 1] at 16 kHz.

    Returns:
        float32 [batch, longest], padded with zeros, and the lengths, int32 [batch].

    Raises:
        InputError: The list is empty, or a waveform is not what `check_waveform` accepts.

    >>> padded, lengths = pad_waveforms([np.full(512, 0.5), np.full(600, 0.5)])
    >>> padded.shape, lengths.tolist()
    ((2, 600), [512, 600])
    """
    expected = WAVEFORM.describe()
    if not len(waveforms):
        raise InputError(
            f"waveform must be {expected}, or a list of 1-D arrays; received an empty list; "
            "send one waveform or more"
        )
    rows = [_to_numbers(row, "waveform", expected) for row in waveforms]
    for number, row in enumerate(rows):
        if row.ndim != 1:
            raise InputError(
                f"waveform {number} of the list must have one dimension; "
                f"received {_describe(row)}; mix its channels into one"
            )
    rows = [check_waveform(row[None])[0] for row in rows]
    lengths = np.array([len(row) for row in rows], np.int32)
    padded = np.zeros((len(rows), lengths.max()), np.float32)
    for row, padded_row in zip(rows, padded, strict=True):
        padded_row[: len(row)] = row
    return padded, lengths


def check_lengths(value: Any, padded: np.ndarray) -> np.ndarray:
    """Return how many samples of each row come before the padding, int32 [batch].

    Args:
        value: Whole numbers [batch].
        padded: The waveforms, float32 [batch, samples].

    Raises:
        InputError: A length is beyond its row or too short, or the sound before it is silent.

    >>> check_lengths([512, 600], np.full((2, 600), 0.5, np.float32)).tolist()
    [512, 600]
    """
    batch, samples = padded.shape
    expected = (
        f"int32 [{batch}], each from {SPEC.fft_samples} to {samples}, the samples of the waveform"
    )
    array = _to_numbers(value, "lengths", expected)
    if array.dtype.kind not in "iu" or array.shape != (batch,):
        raise InputError(
            f"lengths must be {expected}; received {_describe(array)}; "
            "one whole number a row of the waveform"
        )
    if array.min() < SPEC.fft_samples or array.max() > samples:
        raise InputError(
            f"lengths must be {expected}; received {array.min()} to {array.max()}; "
            "count the samples before the padding"
        )
    peaks = [np.abs(row[:length]).max() for row, length in zip(padded, array, strict=True)]
    _check_audible(np.array(peaks))
    return array.astype(np.int32)


def check_mask(value: Any, *, rows: int, n_labels: int) -> np.ndarray:
    """Return which labels each row may get, float32 [rows, labels] of 0 and 1.

    Raises:
        InputError: The value has another shape, other numbers, or a row without a 1.

    >>> check_mask([[1, 0, 1]], rows=1, n_labels=3).tolist()
    [[1.0, 0.0, 1.0]]
    """
    expected = f"float32 [{rows}, {n_labels}] of 0 and 1 with a 1 in each row"
    array = _to_numbers(value, "mask", expected)
    if array.shape != (rows, n_labels):
        raise InputError(
            f"mask must be {expected}; received {_describe(array)}; one row a face or waveform, "
            "one column a label in the order of the output `labels`"
        )
    array = array.astype(np.float32)
    is_valid = np.isin(array, (0, 1)).all(axis=1) & array.any(axis=1)  # [rows]
    if not is_valid.all():
        row = int(np.argmin(is_valid))
        raise InputError(
            f"mask must be {expected}; received {array[row].tolist()} in row {row}; "
            "1 allows a label"
        )
    return array


def check_images(value: Any) -> np.ndarray:
    """Return JPEG and PNG files as an array of bytes, object [n].

    Raises:
        InputError: A file is neither JPEG nor PNG.

    >>> check_images([b"GIF89a"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: face_bytes 0 must be a JPEG or PNG file; received 6 bytes ...
    """
    array = _to_bytes(value, "face_bytes")
    for number, data in enumerate(array):
        if not data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
            raise InputError(
                f"face_bytes {number} must be a JPEG or PNG file; "
                f"received {_describe_start(data)}; convert it, or send its pixels as faces"
            )
    return array


def check_wav_files(value: Any) -> np.ndarray:
    """Return WAV files as an array of bytes, object [batch].

    Each file is rewritten as a header of 44 bytes and its samples. TensorFlow's `decode_wav` reads
    other chunks, and the open sizes of a stream, differently.

    Raises:
        InputError: A file is not 16 kHz, mono and 16-bit PCM, is truncated or malformed, or has no
            sound.

    >>> check_wav_files([b"hello"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: wav_bytes 0 must be a WAV file, 16000 Hz, mono, 16-bit ...
    """
    array = _to_bytes(value, "wav_bytes")
    remedy = f"ffmpeg -i IN -ar {SPEC.sample_rate_hz} -ac 1 -c:a pcm_s16le OUT.wav"
    for number, data in enumerate(array):
        try:
            pcm = _read_pcm(data)
        except _UnsupportedWavError as error:
            expected = f"a WAV file, {SPEC.sample_rate_hz} Hz, mono, 16-bit PCM"
            raise InputError(
                f"wav_bytes {number} must be {expected}; received {error}; {remedy}"
            ) from None
        samples = np.frombuffer(pcm, "<i2")
        _check_n_samples(len(samples), MAX_SOUND_SECONDS)
        _check_audible(np.abs(samples.astype(np.float32)).max(keepdims=True) / FULL_SCALE)
        array[number] = _wav_header(len(pcm)) + pcm
    return array


_CHECKS: dict[str, Callable[[Any], np.ndarray]] = {
    "faces": check_faces,
    "face_bytes": check_images,
    "segments": check_segments,
    "wav_bytes": check_wav_files,
}
"""The checks of inputs that depend on no other input."""


class _UnsupportedWavError(Exception):
    """A file without sound in the expected coding; the message says what the file is."""


def _wav_header(pcm_bytes: int) -> bytes:
    """Return the header of a WAV file of 16 kHz, mono and 16-bit PCM."""
    coding = (16, 1, 1, SPEC.sample_rate_hz, 2 * SPEC.sample_rate_hz, 2, 16)
    sizes = (b"RIFF", 36 + pcm_bytes, b"WAVE", b"fmt ")
    return struct.pack("<4sI4s4sIHHIIHH4sI", *sizes, *coding, b"data", pcm_bytes)


def _read_pcm(data: bytes) -> bytes:
    """Return the samples of a WAV file of 16 kHz, mono and 16-bit PCM.

    Raises:
        _UnsupportedWavError: The file is another one, truncated or malformed.
    """
    chunks = _read_chunks(data)
    form = chunks.get(b"fmt ", b"")
    if len(form) < 16 or b"data" not in chunks:
        raise _UnsupportedWavError(_describe_start(data))
    coding, channels, rate_hz, bytes_per_second, sample_bytes, bits = struct.unpack(
        "<HHIIHH", form[:16]
    )
    if (coding, channels, rate_hz, bits) != (1, 1, SPEC.sample_rate_hz, 16):
        raise _UnsupportedWavError(
            f"{rate_hz} Hz, {channels} channels, {bits} bits, coding {coding}"
        )
    if (bytes_per_second, sample_bytes) != (2 * rate_hz, 2):
        raise _UnsupportedWavError(
            f"a header of {sample_bytes} bytes a sample, {bytes_per_second} a second, "
            f"where 2 and {2 * rate_hz} are right"
        )
    pcm = chunks[b"data"]
    if len(pcm) % 2:
        raise _UnsupportedWavError(f"sound of {len(pcm)} bytes, which ends within a sample")
    return pcm


def _read_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a RIFF WAVE file by name; none if the file is no RIFF WAVE file.

    See Multimedia Programming Interface 1.0, 1991. A stream is written before its length is known:
    its `data` chunk claims 0 or 0xFFFFFFFF bytes, and extends to the end of the file.
    """
    chunks: dict[bytes, bytes] = {}
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return chunks
    is_complete = int.from_bytes(data[4:8], "little") == len(data) - 8
    position = 12
    while position + 8 <= len(data):
        name = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8
        if name in chunks and name in (b"fmt ", b"data"):
            raise _UnsupportedWavError(f"a file with two {name.decode().strip()} chunks")
        if name == b"data" and (size == 0xFFFFFFFF or (size == 0 and not is_complete)):
            size = len(data) - position
        if name == b"data" and size > len(data) - position:
            raise _UnsupportedWavError(
                f"a truncated file, {len(data) - position} of {size} bytes of sound"
            )
        chunks.setdefault(name, data[position : position + size])
        position += size + size % 2  # chunks begin at even positions
    return chunks


def _to_bytes(value: Any, name: str) -> np.ndarray:
    expected = f"{name} must be a list of bytes, one a file"
    if isinstance(value, bytes | str) or not all(isinstance(data, bytes) for data in value):
        raise InputError(f"{expected}; received {type(value).__name__}; pass [path.read_bytes()]")
    if not len(value) or not all(value):
        received = "an empty file" if len(value) else "an empty list"
        raise InputError(f"{expected}; received {received}; leave it out")
    array = np.empty(len(value), object)
    array[:] = value
    return array


def _to_numbers(value: Any, name: str, expected: str) -> np.ndarray:
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


def _to_finite(array: np.ndarray, name: str, expected: str) -> np.ndarray:
    array = array.astype(np.float32, copy=False)
    is_finite = np.isfinite(array)
    if not is_finite.all():
        place = np.argwhere(~is_finite)[0].tolist()
        raise InputError(
            f"{name} must be {expected}; received {array[~is_finite][0]} at {place}; "
            "leave such rows out"
        )
    return array


def _has_rows(array: np.ndarray, shape: tuple[int, ...]) -> bool:
    return array.ndim == len(shape) + 1 and len(array) > 0 and array.shape[1:] == shape


def _describe(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _describe_start(data: bytes) -> str:
    return f"{len(data)} bytes that begin {data[:12]!r}"


def _check_n_samples(n_samples: int, max_seconds: float) -> None:
    max_samples = round(max_seconds * SPEC.sample_rate_hz)
    if not SPEC.fft_samples <= n_samples <= max_samples:
        expected = f"{SPEC.fft_samples} to {max_samples} samples ({max_seconds:g} s)"
        raise InputError(
            f"a waveform must have {expected}; received {n_samples}; "
            "cut longer sound into parts, leave shorter out"
        )


def _check_audible(peaks: np.ndarray) -> None:
    if peaks.min() < SPEC.silence_peak:
        row = int(peaks.argmin())
        raise InputError(
            f"a waveform must reach {SPEC.silence_peak:g} of full scale; "
            f"received a peak of {peaks[row]:g} in row {row}; it is silent, leave it out"
        )
