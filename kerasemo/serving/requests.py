"""Check the inputs of each signature before they are sent, only with NumPy.

A server that batches runs the requests of several clients in one call of the graph. One bad request
would fail all of them.
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
"""A waveform with a higher peak has integers that were not divided; decoders overshoot less."""
MAX_DB = 60.0
"""The highest level of a log-Mel."""
FLOOR_TOLERANCE_DB = 0.5
"""The tolerance below the floor of a log-Mel, for values that were stored with fewer digits."""
FULL_SCALE = 32_768
DIVIDE_REMEDY = f"divide int16 samples by {FULL_SCALE}"


def segment_range(spec: Spec = SPEC) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest value of each channel of a segment, float32 [3] each.

    The units are dB, dB per frame and dB per frame squared.

    A delta is a weighted sum of the levels x around a frame, with weights w whose sum is 0. The
    delta is therefore no larger than the range of x times the sum of the positive w. The weights
    are of a line or a parabola through `delta_width` points (Savitzky and Golay 1964). At k
    frames from the centre they are k / sum k^2, and 2 q / sum q^2 with q = k^2 - mean k^2.

    >>> [[f"{bound:.2f}" for bound in bounds] for bounds in segment_range()]
    [['-100.50', '-26.75', '-24.32'], ['60.00', '26.75', '24.32']]
    """
    steps = np.arange(spec.delta_width) - spec.delta_width // 2  # k
    parabola = steps**2 - np.mean(steps**2)  # q
    min_db = 10 * np.log10(spec.power_floor) - FLOOR_TOLERANCE_DB
    deltas = [
        (MAX_DB - min_db) * np.maximum(weights, 0).sum()
        for weights in (steps / np.sum(steps**2), 2 * parabola / np.sum(parabola**2))
    ]
    lowest = np.array([min_db, *(-delta for delta in deltas)], np.float32)
    return lowest, np.array([MAX_DB, *deltas], np.float32)


def segment_range_text(spec: Spec = SPEC) -> str:
    """Return `segment_range` as text.

    >>> segment_range_text()
    'decibels from -100.5 to 60, deltas within 26.75, delta-deltas within 24.32'
    """
    (min_db, _, _), (max_db, delta, second_delta) = segment_range(spec)
    return (
        f"decibels from {min_db:g} to {max_db:g}, deltas within {delta:.2f}, "
        f"delta-deltas within {second_delta:.2f}"
    )


FACES_TEXT = f"{FACES.describe()} with n of at least 1"
SEGMENTS_TEXT = f"{SEGMENTS.describe()} with n of at least 1"
WAVEFORM_TEXT = WAVEFORM.describe()


def check_inputs(
    signature: Signature, inputs: Mapping[str, Any], *, n_labels: Callable[[], int]
) -> dict[str, np.ndarray]:
    """Return the inputs of a signature as arrays of its dtypes and shapes.

    Args:
        signature: The signature.
        inputs: A value for each of its inputs.
        n_labels: Returns the number of labels of the model. It is called for a mask only.

    Raises:
        InputError: An input is missing, unknown, or one that the graph would refuse.
    """
    if set(inputs) != set(signature.input_names):
        raise InputError(
            f"{signature.name}: expected the inputs {', '.join(signature.input_names)}; "
            f"received {', '.join(inputs) or 'none'}"
        )
    checked: dict[str, np.ndarray] = {}
    for name in signature.input_names:
        if name == "mask":
            rows = len(next(iter(checked.values())))
            checked[name] = check_mask(inputs[name], rows=rows, width=n_labels())
        elif name == "lengths":
            checked[name] = check_lengths(inputs[name], checked["waveform"])
        elif name == "waveform":
            max_seconds = signature.max_seconds or MAX_SOUND_SECONDS
            checked[name] = check_waveform(inputs[name], max_seconds=max_seconds)
        else:
            checked[name] = _CHECKS[name](inputs[name])
    return checked


def check_faces(value: Any) -> np.ndarray:
    """Return face crops as uint8 [n, 64, 64, 3].

    Raises:
        InputError: The value is no such array.

    >>> check_faces(np.zeros((2, 64, 64, 3), np.uint8)).shape
    (2, 64, 64, 3)
    """
    array = _array(value, "faces", FACES_TEXT)
    if (
        array.dtype != np.uint8
        or array.ndim != 4
        or not len(array)
        or array.shape[1:] != (SPEC.face_size, SPEC.face_size, 3)
    ):
        raise InputError(
            f"faces must be {FACES_TEXT}; received {_dtype_and_shape(array)}; "
            "crop and resize each face, and keep its grey levels 0 to 255"
        )
    return array


def check_segments(value: Any) -> np.ndarray:
    """Return log-Mel segments with deltas as float32 [n, 64, 64, 3].

    Raises:
        InputError: The value is no such array, or has levels that no sound has.

    >>> check_segments(np.zeros((1, 64, 64, 3))).dtype
    dtype('float32')
    """
    array = _array(value, "segments", SEGMENTS_TEXT)
    shape = (SPEC.mel_filters, SPEC.segment_frames, 3)
    if array.dtype.kind != "f" or array.ndim != 4 or not len(array) or array.shape[1:] != shape:
        raise InputError(
            f"segments must be {SEGMENTS_TEXT}; received {_dtype_and_shape(array)}; "
            "pipelines.features.log_mel.segments makes them of a log-Mel"
        )
    array = _finite(array, "segments", SEGMENTS_TEXT)
    lowest, highest = segment_range()
    is_wrong = (array < lowest) | (array > highest)
    if is_wrong.any():
        raise InputError(
            f"segments must be {segment_range_text()}; "
            f"received {array[is_wrong][0]:g} at {np.argwhere(is_wrong)[0].tolist()}; "
            "pipelines.features.log_mel.segments makes them of a log-Mel"
        )
    return array


def check_waveform(value: Any, *, max_seconds: float = MAX_SOUND_SECONDS) -> np.ndarray:
    """Return waveforms as float32 [batch, samples].

    Raises:
        InputError: The value is no such array, or a waveform is too short or long, too loud,
            silent or not finite.

    >>> check_waveform(np.full((1, 512), 0.5)).shape
    (1, 512)
    """
    array = _array(value, "waveform", WAVEFORM_TEXT)
    if array.dtype.kind != "f" or array.ndim != 2 or not len(array):
        remedy = (
            DIVIDE_REMEDY
            if array.dtype.kind in "iu"
            else "one row a waveform, or a list of unequal ones"
        )
        raise InputError(
            f"waveform must be {WAVEFORM_TEXT}; received {_dtype_and_shape(array)}; {remedy}"
        )
    _check_samples(array.shape[1], max_seconds)
    array = _finite(array, "waveform", WAVEFORM_TEXT)
    peaks = np.abs(array).max(axis=1)  # [batch]
    if peaks.max() > MAX_PEAK:
        row = int(peaks.argmax())
        raise InputError(
            f"waveform must be {WAVEFORM_TEXT}; received a peak of {peaks[row]:g} in row {row}; "
            f"{DIVIDE_REMEDY}"
        )
    _check_not_silent(peaks)
    return array


def pad_waveforms(value: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Pad 1-D waveforms with different lengths with zeros.

    Returns:
        The padded waveforms, float32 [batch, samples], and their lengths, int32 [batch].

    Raises:
        InputError: As `check_waveform`, or the list is empty.

    >>> padded, lengths = pad_waveforms([np.full(512, 0.5), np.full(600, 0.5)])
    >>> padded.shape, lengths.tolist()
    ((2, 600), [512, 600])
    """
    if not len(value):
        raise InputError(
            f"waveform must be {WAVEFORM_TEXT}, or a list of 1-D arrays; received an empty list; "
            "send one waveform or more"
        )
    rows = [_array(row, "waveform", WAVEFORM_TEXT) for row in value]
    for number, row in enumerate(rows):
        if row.ndim != 1:
            raise InputError(
                f"waveform {number} of the list must have one dimension; "
                f"received {_dtype_and_shape(row)}; mix its channels into one"
            )
    rows = [check_waveform(row[None])[0] for row in rows]
    lengths = np.array([len(row) for row in rows], np.int32)
    padded = np.zeros((len(rows), lengths.max()), np.float32)
    for row, line in zip(rows, padded, strict=True):
        line[: len(row)] = row
    return padded, lengths


def check_lengths(value: Any, padded: np.ndarray) -> np.ndarray:
    """Return the lengths of padded waveforms, int32 [batch], in samples.

    Raises:
        InputError: The value is no such array, or a waveform is too short, too long or silent.

    >>> check_lengths([512, 600], np.full((2, 600), 0.5, np.float32)).tolist()
    [512, 600]
    """
    batch, samples = padded.shape
    expected = (
        f"int32 [{batch}], each from {SPEC.fft_samples} to {samples}, the samples of the waveform"
    )
    array = _array(value, "lengths", expected)
    if array.dtype.kind not in "iu" or array.shape != (batch,):
        raise InputError(
            f"lengths must be {expected}; received {_dtype_and_shape(array)}; "
            "one whole number a row of the waveform"
        )
    if array.min() < SPEC.fft_samples or array.max() > samples:
        raise InputError(
            f"lengths must be {expected}; received {array.min()} to {array.max()}; "
            "count the samples before the padding"
        )
    _check_not_silent(
        np.array([np.abs(row[:length]).max() for row, length in zip(padded, array, strict=True)])
    )
    return array.astype(np.int32)


def check_mask(value: Any, *, rows: int, width: int) -> np.ndarray:
    """Return the mask of the allowed labels, float32 [rows, width] of 0 and 1.

    Raises:
        InputError: The value is no such array, or a row has no 1.

    >>> check_mask([[1, 0, 1]], rows=1, width=3).tolist()
    [[1.0, 0.0, 1.0]]
    """
    expected = f"float32 [{rows}, {width}] of 0 and 1 with a 1 in each row"
    remedy = "one row a face or waveform, one column a label in the order of the output `labels`"
    array = _array(value, "mask", expected)
    if array.dtype.kind not in "fiub" or array.shape != (rows, width):
        raise InputError(f"mask must be {expected}; received {_dtype_and_shape(array)}; {remedy}")
    array = array.astype(np.float32)
    is_good_row = np.isin(array, (0, 1)).all(axis=1) & array.any(axis=1)
    if not is_good_row.all():
        row = int(np.argmin(is_good_row))
        raise InputError(
            f"mask must be {expected}; received {array[row].tolist()} in row {row}; "
            "1 allows a label"
        )
    return array


def check_images(value: Any) -> np.ndarray:
    """Return encoded pictures as an array of bytes, object [n].

    Raises:
        InputError: A file is not JPEG or PNG.

    >>> check_images([b"GIF89a"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: face_bytes 0 must be a JPEG or PNG file; received 6 bytes ...
    """
    array = _encoded(value, "face_bytes")
    for number, data in enumerate(array):
        if not data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
            raise InputError(
                f"face_bytes {number} must be a JPEG or PNG file; received {_first_bytes(data)}; "
                "convert it, or send its pixels as faces"
            )
    return array


def check_wavs(value: Any) -> np.ndarray:
    """Return WAV files as an array of bytes, object [batch], each with a new header of 44 bytes.

    A new file has only what `decode_wav` of TensorFlow reads in the same way: no other chunks, and
    no open sizes of a stream.

    Raises:
        InputError: A file is not 16 kHz, mono and 16-bit PCM, is truncated or malformed, or has no
            sound.

    >>> check_wavs([b"hello"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pipelines.core.errors.InputError: wav_bytes 0 must be a WAV file, 16000 Hz, mono, 16-bit ...
    """
    array = _encoded(value, "wav_bytes")
    remedy = f"ffmpeg -i IN -ar {SPEC.sample_rate_hz} -ac 1 -c:a pcm_s16le OUT.wav"
    for number, data in enumerate(array):
        try:
            sound = _wav_samples(data)
        except _WrongWavError as error:
            expected = f"a WAV file, {SPEC.sample_rate_hz} Hz, mono, 16-bit PCM"
            raise InputError(
                f"wav_bytes {number} must be {expected}; received {error}; {remedy}"
            ) from None
        samples = np.frombuffer(sound, "<i2")
        _check_samples(len(samples), MAX_SOUND_SECONDS)
        _check_not_silent(np.abs(samples.astype(np.float32)).max(keepdims=True) / FULL_SCALE)
        wav_format = (16, 1, 1, SPEC.sample_rate_hz, 2 * SPEC.sample_rate_hz, 2, 16)
        header = struct.pack(
            "<4sI4s4sIHHIIHH4sI",
            b"RIFF",
            36 + len(sound),
            b"WAVE",
            b"fmt ",
            *wav_format,
            b"data",
            len(sound),
        )
        array[number] = header + sound
    return array


_CHECKS: dict[str, Callable[[Any], np.ndarray]] = {
    "faces": check_faces,
    "face_bytes": check_images,
    "segments": check_segments,
    "wav_bytes": check_wavs,
}
"""The checks of the inputs that depend on no other input."""


class _WrongWavError(Exception):
    """A file is not a WAV file of the expected format; the message is the received one."""


def _wav_samples(data: bytes) -> bytes:
    """Return the samples of a WAV file with 16 kHz, mono and 16-bit PCM.

    Raises:
        _WrongWavError: The file is another one, truncated or malformed.
    """
    chunks = _wav_chunks(data)
    wav_format = chunks.get(b"fmt ", b"")
    if len(wav_format) < 16 or b"data" not in chunks:
        raise _WrongWavError(_first_bytes(data))
    coding, channels, rate_hz, second_bytes, sample_bytes, bits = struct.unpack(
        "<HHIIHH", wav_format[:16]
    )
    if (coding, channels, rate_hz, bits) != (1, 1, SPEC.sample_rate_hz, 16):
        raise _WrongWavError(f"{rate_hz} Hz, {channels} channels, {bits} bits, coding {coding}")
    if (second_bytes, sample_bytes) != (2 * rate_hz, 2):
        raise _WrongWavError(
            f"a header with {sample_bytes} bytes per sample and {second_bytes} per second, "
            f"expected 2 and {2 * rate_hz}"
        )
    if len(chunks[b"data"]) % 2:
        raise _WrongWavError(f"sound of {len(chunks[b'data'])} bytes, which ends within a sample")
    return chunks[b"data"]


def _wav_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a RIFF WAVE file by name; empty for another file.

    The `data` of a stream claims 0 or 0xFFFFFFFF bytes, because its length was unknown when the
    header was written. Such a chunk reaches to the end of the file.

    Source: Multimedia Programming Interface 1.0, 1991.
    """
    chunks: dict[bytes, bytes] = {}
    position = 12
    has_length = int.from_bytes(data[4:8], "little") == len(data) - 8
    while data[:4] == b"RIFF" and data[8:12] == b"WAVE" and position + 8 <= len(data):
        name = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8
        if name in chunks and name in (b"fmt ", b"data"):
            raise _WrongWavError(f"a file with two {name.decode().strip()} chunks")
        if name == b"data" and (size == 0xFFFFFFFF or (size == 0 and not has_length)):
            size = len(data) - position
        if name == b"data" and size > len(data) - position:
            raise _WrongWavError(
                f"a truncated file, {len(data) - position} of {size} bytes of sound"
            )
        chunks.setdefault(name, data[position : position + size])
        position += size + size % 2
    return chunks


def _encoded(value: Any, name: str) -> np.ndarray:
    """Return a list of encoded files as an array of bytes, object [n]."""
    if isinstance(value, bytes | str) or not all(isinstance(data, bytes) for data in value):
        raise InputError(
            f"{name} must be a list of bytes, one item for each file; received "
            f"{type(value).__name__}; pass [path.read_bytes()]"
        )
    if not len(value) or not all(value):
        raise InputError(
            f"{name} must be a list of bytes, one item for each file; "
            f"received an empty {'file' if len(value) else 'list'}; leave it out"
        )
    array = np.empty(len(value), object)
    array[:] = value
    return array


def _first_bytes(data: bytes) -> str:
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


def _dtype_and_shape(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _finite(array: np.ndarray, name: str, expected: str) -> np.ndarray:
    array = array.astype(np.float32, copy=False)
    is_finite = np.isfinite(array)
    if not is_finite.all():
        raise InputError(
            f"{name} must be {expected}; received {array[~is_finite][0]} at "
            f"{np.argwhere(~is_finite)[0].tolist()}; leave such rows out"
        )
    return array


def _check_samples(samples: int, max_seconds: float) -> None:
    max_samples = round(max_seconds * SPEC.sample_rate_hz)
    if not SPEC.fft_samples <= samples <= max_samples:
        expected = f"{SPEC.fft_samples} to {max_samples} samples ({max_seconds:g} s)"
        raise InputError(
            f"a waveform must have {expected}; received {samples}; "
            "cut longer sound into parts, leave shorter out"
        )


def _check_not_silent(peaks: np.ndarray) -> None:
    if peaks.min() < SPEC.silence_peak:
        row = int(peaks.argmin())
        raise InputError(
            f"a waveform must reach {SPEC.silence_peak:g} of full scale; "
            f"received a peak of {peaks[row]:g} in row {row}; it is silent, leave it out"
        )
