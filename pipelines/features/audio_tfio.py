"""Read a WAV, FLAC or MP3 file to a waveform inside a TensorFlow graph, with ops of tensorflow-io.

The graph also averages the channels. Only the resampling runs in Python, by the same soxr as
everywhere. The ops run in the process that runs the graph, and nothing limits their time: some
damaged FLAC files make them run forever.
"""

import importlib
import re

import numpy as np
import tensorflow as tf

from pipelines.core.errors import InputError
from pipelines.core.spec import Spec
from pipelines.media import audio as audio_module

MAX_BYTES = 64 * 2**20
"""A larger file is refused, because the ops hold several copies of a whole track."""
REMEDY = "leave out --audio-decoder tfio"
DTYPE_OF_WAV_CODING = {
    (1, 8): tf.uint8,
    (1, 16): tf.int16,
    (1, 24): tf.int32,
    (1, 32): tf.float32,
    (3, 32): tf.float32,
}
"""The dtype that the op returns for the format tag (1: integers, 3: floats) and bits of a WAV.

For 32-bit integers the op returns their bits as if they were floats.
"""

_Decoded = tuple[tf.Tensor, tf.Tensor, tf.Tensor]
"""The mean of the channels (float32 [samples]), the rate in Hz and the number of channels."""


def check_tfio() -> None:
    """Check that the ops of tensorflow-io load beside this TensorFlow.

    Raises:
        InputError: tensorflow-io is not installed, or its ops do not load.
    """
    try:
        importlib.import_module("tensorflow_io").audio.decode_wav(b"no sound", dtype=tf.int16)
    except tf.errors.OpError:  # the op is there and refuses the bytes
        return
    except (ImportError, NotImplementedError, AttributeError) as error:
        why = (
            "it is not installed"
            if isinstance(error, ModuleNotFoundError)
            else "its compiled ops do not load"
        )
        raise InputError(
            f"--audio-decoder tfio needs tensorflow-io beside TensorFlow 2.17; "
            f"here is {tf.__version__}, and {why}: "
            "pip install 'kerasemo[tfio]' in an environment of its own, "
            "or leave out --audio-decoder tfio"
        ) from error


def read_waveform_tfio(path: tf.Tensor, *, spec: Spec = Spec()) -> dict[str, tf.Tensor]:
    """Read a WAV, FLAC or MP3 file in a graph, such as that of `Dataset.map`.

    Args:
        path: The file's name, a string scalar.
        spec: The sample rate, the shortest length and the level of silence.

    Returns:
        `waveform`, float32 [samples] in [-1, 1] at the rate of `spec`, and three scalars of the
        track before resampling: `seconds` (float64), `rate_hz` and `channels` (int32).

    Raises:
        tf.errors.OpError: When the graph runs, for a file that cannot be used. `tfio_message`
            tells the cause. A dataset goes on with the next file when it is asked for one more
            element.
    """
    contents = tf.io.read_file(path)
    is_small = _assert_media(
        tf.strings.length(contents) <= MAX_BYTES, f"larger than {MAX_BYTES >> 20} MiB"
    )
    with tf.control_dependencies([is_small]):
        # Zeros after the contents let `substr` read the start of a shorter file.
        start = tf.strings.substr(tf.strings.join([contents, bytes(12)]), 0, 12)
    kinds = [
        (tf.strings.substr(start, 8, 4) == b"WAVE", lambda: _decode_wav(contents)),
        (tf.strings.substr(start, 0, 4) == b"fLaC", lambda: _decode_flac(contents)),
        (_is_mp3(start), lambda: _decode_mp3(path, contents)),
    ]
    mean, rate_hz, channels = tf.case(
        kinds, default=lambda: _refuse("tensorflow-io reads WAV, FLAC and MP3 only")
    )

    def resample(mono: np.ndarray, rate_hz: np.ndarray, channels: np.ndarray) -> np.ndarray:
        return audio_module.resampled(mono, rate_hz=int(rate_hz), channels=int(channels), spec=spec)

    has_sound = _assert_media(tf.size(mean) > 0, "tensorflow-io finds no sound in it")
    with tf.control_dependencies([has_sound]):
        waveform = tf.numpy_function(resample, [mean, rate_hz, channels], tf.float32)
    seconds = tf.cast(tf.size(mean), tf.float64) / tf.cast(rate_hz, tf.float64)
    return {
        "waveform": tf.ensure_shape(waveform, [None]),
        "seconds": seconds,
        "rate_hz": rate_hz,
        "channels": channels,
    }


def tfio_message(error: tf.errors.OpError) -> str:
    """Return in one line why a file could not be read, with the remedy for a limit of these ops."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]|\[\[.*?\]\]", "", error.message).strip()
    if match := re.search(r"MediaError: ([^\n\]]*)", text):
        return match[1].rstrip("'\"")
    # The names of the iterators that the error passed through come before the message.
    first_line = re.sub(r".*Iterator::\S+: ", "", text.partition("\n")[0]).strip()
    return f"tensorflow-io cannot decode it ({first_line}): {REMEDY}"


def _assert_media(condition: tf.Tensor, why: str) -> tf.Operation:
    return tf.debugging.Assert(condition, [f"MediaError: {why}: {REMEDY}"])


def _refuse(why: str) -> _Decoded:
    with tf.control_dependencies([_assert_media(tf.constant(False), why)]):
        return tf.zeros([0]), tf.identity(0), tf.identity(0)


def _mean_of_channels(samples: tf.Tensor, rate_hz: tf.Tensor) -> _Decoded:
    """Scale samples [samples, channels] of any dtype to [-1, 1] and average the channels."""
    zero, full_scale = {
        tf.uint8: (128.0, 128.0),
        tf.int16: (0.0, 2.0**15),
        tf.int32: (0.0, 2.0**31),
    }.get(samples.dtype, (0.0, 1.0))
    mean = tf.reduce_mean((tf.cast(samples, tf.float32) - zero) / full_scale, axis=1)
    return mean, rate_hz, tf.shape(samples)[1]


def _little_endian(contents: tf.Tensor, position: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return the little-endian number at a position, int32."""
    return tf.cast(
        tf.io.decode_raw(tf.strings.substr(contents, position, dtype.size), dtype)[0], tf.int32
    )


def _decode_wav(contents: tf.Tensor) -> _Decoded:
    from tensorflow_io import audio

    # The op too reads only a WAV whose first chunk is the format.
    starts_with_format = (tf.strings.length(contents) > 52) & (
        tf.strings.substr(tf.strings.join([contents, bytes(16)]), 12, 4) == b"fmt "
    )
    checked = _assert_media(starts_with_format, "WAV that does not start with its format")
    with tf.control_dependencies([checked]):
        position = tf.constant(20)
    tag, bits = (_little_endian(contents, position + offset, tf.uint16) for offset in (0, 14))
    rate_hz = _little_endian(contents, position + 4, tf.int32)
    # The extended format holds the tag at a later place.
    tag = tf.cond(
        tag == 0xFFFE, lambda: _little_endian(contents, position + 24, tf.uint16), lambda: tag
    )

    def decode(coding: tuple[int, int], dtype: tf.DType) -> _Decoded:
        samples = audio.decode_wav(contents, dtype=dtype)
        if coding == (1, 32):
            samples = tf.bitcast(samples, tf.int32)
        return _mean_of_channels(samples, rate_hz)

    codings = [
        ((tag == coding[0]) & (bits == coding[1]), lambda c=coding, d=dtype: decode(c, d))
        for coding, dtype in DTYPE_OF_WAV_CODING.items()
    ]
    return tf.case(
        codings, default=lambda: _refuse("WAV of a coding that tensorflow-io does not read")
    )


def _decode_flac(contents: tf.Tensor) -> _Decoded:
    from tensorflow_io import audio

    has_header = _assert_media(tf.strings.length(contents) > 42, "FLAC without sound")
    with tf.control_dependencies([has_header]):
        # 20 bits hold the rate, 3 the number of channels, 5 the bits of a sample.
        header = tf.io.decode_raw(tf.strings.substr(contents, 18, 4), tf.uint8)
    header = tf.cast(header, tf.int32)
    rate_hz = header[0] * 4096 + header[1] * 16 + header[2] // 16
    bits = header[2] % 2 * 16 + header[3] // 16 + 1
    codings = [
        (
            bits == count,
            lambda dtype=dtype: _mean_of_channels(
                audio.decode_flac(contents, dtype=dtype), rate_hz
            ),
        )
        for count, dtype in ((8, tf.uint8), (16, tf.int16), (24, tf.int32))
    ]
    return tf.case(
        codings, default=lambda: _refuse("FLAC of bits that tensorflow-io does not read")
    )


def _decode_mp3(path: tf.Tensor, contents: tf.Tensor) -> _Decoded:
    from tensorflow_io import audio

    rate_hz = audio.AudioIOTensor(path, dtype=tf.float32).rate  # `decode_mp3` does not return it
    return _mean_of_channels(audio.decode_mp3(contents), tf.reshape(rate_hz, []))


def _is_mp3(start: tf.Tensor) -> tf.Tensor:
    """Return whether a file starts with an ID3 tag, or with 11 set bits and layer 3."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(start, 0, 2), tf.uint8), tf.int32)
    return (tf.strings.substr(start, 0, 3) == b"ID3") | (
        (head[0] == 255) & (head[1] >= 224) & (head[1] // 2 % 4 == 1)
    )
