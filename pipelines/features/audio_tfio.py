"""WAV, FLAC and MP3 file -> waveform inside a TensorFlow graph, by tensorflow-io's compiled ops.

The mean of the channels is taken in the graph too; the resampling, by the same soxr as everywhere, is the one step in
Python. The ops run in the process that runs the graph, and nothing bounds their time: there are damaged FLAC files at
which they never return.
"""

import importlib
import re

import tensorflow as tf

from pipelines.core.errors import InputError
from pipelines.core.spec import Spec
from pipelines.media import audio as audio_module

LARGEST_BYTES = 64 * 2**20
"""A larger file is refused: the ops hold a track as a whole, several times."""
REMEDY = "leave out --audio-decoder tfio"
CODINGS = {
    (1, 8): tf.uint8,
    (1, 16): tf.int16,
    (1, 24): tf.int32,
    (1, 32): tf.float32,
    (3, 32): tf.float32,
}
"""What the ops return for a WAV's tag (1: integers, 3: floats) and bits; for 32-bit integers their bits, as if they were floats."""


def check() -> None:
    """Raise InputError when tensorflow-io is not installed or its compiled ops do not load beside this TensorFlow."""
    try:
        importlib.import_module("tensorflow_io").audio.decode_wav(b"no sound", dtype=tf.int16)
    except tf.errors.OpError:  # an answer: the op is there
        return
    except (ImportError, NotImplementedError, AttributeError) as error:
        why = (
            "it is not installed"
            if isinstance(error, ModuleNotFoundError)
            else "its compiled ops do not load"
        )
        raise InputError(
            f"--audio-decoder tfio needs tensorflow-io beside TensorFlow 2.17; here is {tf.__version__}, and {why}: "
            "pip install 'kerasemo[tfio]' in an environment of its own, or leave out --audio-decoder tfio"
        ) from error


def read_waveform(path: tf.Tensor, *, spec: Spec = Spec()) -> dict[str, tf.Tensor]:
    """Read a WAV, FLAC or MP3 file in a graph, such as that of `Dataset.map`.

    Args:
        path: The file's name, a string scalar.
        spec: The rate, the least length and the level that counts as silence.

    Returns:
        `waveform`, float32 [samples] in [-1, 1] at the spec's rate, and of the track before resampling the scalars
        `seconds` (float64), `rate_hz` and `channels` (int32).

    Raises:
        tf.errors.OpError: When the graph runs, for a file that cannot be used; `reason` says why. A dataset goes on
            with the next file when it is asked for one more element.
    """
    contents = tf.io.read_file(path)
    with tf.control_dependencies(
        [
            _asserted(
                tf.strings.length(contents) <= LARGEST_BYTES,
                f"larger than {LARGEST_BYTES >> 20} MiB",
            )
        ]
    ):
        start = tf.strings.substr(
            tf.strings.join([contents, bytes(12)]), 0, 12
        )  # the shortest file has that many, too
    kinds = [
        (tf.strings.substr(start, 8, 4) == b"WAVE", lambda: _wav(contents)),
        (tf.strings.substr(start, 0, 4) == b"fLaC", lambda: _flac(contents)),
        (_is_mp3(start), lambda: _mp3(path, contents)),
    ]
    mean, rate_hz, channels = tf.case(
        kinds, default=lambda: _refused("tensorflow-io reads WAV, FLAC and MP3 only")
    )

    def resampled(mono, rate_hz, channels):
        return audio_module.resampled(mono, rate_hz=int(rate_hz), channels=int(channels), spec=spec)

    with tf.control_dependencies(
        [_asserted(tf.size(mean) > 0, "tensorflow-io finds no sound in it")]
    ):
        waveform = tf.numpy_function(resampled, [mean, rate_hz, channels], tf.float32)
    seconds = tf.cast(tf.size(mean), tf.float64) / tf.cast(rate_hz, tf.float64)
    return {
        "waveform": tf.ensure_shape(waveform, [None]),
        "seconds": seconds,
        "rate_hz": rate_hz,
        "channels": channels,
    }


def reason(error: tf.errors.OpError) -> str:
    """Return in one line why a file could not be read; what only these ops cannot do names the remedy."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\]|\[\[.*?\]\]", "", error.message).strip()
    if found := re.search(r"MediaError: ([^\n\]]*)", text):
        return found[1].rstrip("'\"")
    first = re.sub(
        r".*Iterator::\S+: ", "", text.partition("\n")[0]
    ).strip()  # what it passed through comes before
    return f"tensorflow-io cannot decode it ({first}): {REMEDY}"


def _asserted(condition: tf.Tensor, why: str) -> tf.Operation:
    return tf.debugging.Assert(condition, [f"MediaError: {why}: {REMEDY}"])


def _refused(why: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    with tf.control_dependencies([_asserted(tf.constant(False), why)]):
        return tf.zeros([0]), tf.identity(0), tf.identity(0)


def _mean(samples: tf.Tensor, rate_hz: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the mean of the channels, float32 [samples] in [-1, 1], the rate and the number of channels."""
    zero, full_scale = {
        tf.uint8: (128.0, 128.0),
        tf.int16: (0.0, 2.0**15),
        tf.int32: (0.0, 2.0**31),
    }.get(samples.dtype, (0.0, 1.0))
    mean = tf.reduce_mean((tf.cast(samples, tf.float32) - zero) / full_scale, axis=1)
    return mean, rate_hz, tf.shape(samples)[1]


def _whole_number(contents: tf.Tensor, position, dtype) -> tf.Tensor:
    """Return the little-endian number at a position, int32."""
    return tf.cast(
        tf.io.decode_raw(tf.strings.substr(contents, position, dtype.size), dtype)[0], tf.int32
    )


def _wav(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    from tensorflow_io import audio

    starts = (tf.strings.length(contents) > 52) & (
        tf.strings.substr(tf.strings.join([contents, bytes(16)]), 12, 4) == b"fmt "
    )
    with tf.control_dependencies(
        [_asserted(starts, "WAV that does not start with its format")]
    ):  # nor would the op read it
        position = tf.constant(20)
    tag, bits = (_whole_number(contents, position + offset, tf.uint16) for offset in (0, 14))
    rate_hz = _whole_number(contents, position + 4, tf.int32)
    tag = tf.cond(
        tag == 0xFFFE, lambda: _whole_number(contents, position + 24, tf.uint16), lambda: tag
    )  # an extended header

    def decoded(coding, dtype):
        samples = audio.decode_wav(contents, dtype=dtype)
        return _mean(tf.bitcast(samples, tf.int32) if coding == (1, 32) else samples, rate_hz)

    codings = [
        ((tag == coding[0]) & (bits == coding[1]), lambda c=coding, d=dtype: decoded(c, d))
        for coding, dtype in CODINGS.items()
    ]
    return tf.case(
        codings, default=lambda: _refused("WAV of a coding that tensorflow-io does not read")
    )


def _flac(contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    from tensorflow_io import audio

    with tf.control_dependencies(
        [_asserted(tf.strings.length(contents) > 42, "FLAC without sound")]
    ):
        header = tf.io.decode_raw(
            tf.strings.substr(contents, 18, 4), tf.uint8
        )  # 20 bits of rate, 3 of channels, 5 of bits
    header = tf.cast(header, tf.int32)
    rate_hz = header[0] * 4096 + header[1] * 16 + header[2] // 16
    bits = header[2] % 2 * 16 + header[3] // 16 + 1
    codings = [
        (
            bits == count,
            lambda dtype=dtype: _mean(audio.decode_flac(contents, dtype=dtype), rate_hz),
        )
        for count, dtype in ((8, tf.uint8), (16, tf.int16), (24, tf.int32))
    ]
    return tf.case(
        codings, default=lambda: _refused("FLAC of bits that tensorflow-io does not read")
    )


def _mp3(path: tf.Tensor, contents: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    from tensorflow_io import audio

    rate_hz = audio.AudioIOTensor(path, dtype=tf.float32).rate  # `decode_mp3` does not tell it
    return _mean(audio.decode_mp3(contents), tf.reshape(rate_hz, []))


def _is_mp3(start: tf.Tensor) -> tf.Tensor:
    """Whether a file starts with a tag or with 11 set bits and a layer."""
    head = tf.cast(tf.io.decode_raw(tf.strings.substr(start, 0, 2), tf.uint8), tf.int32)
    return (tf.strings.substr(start, 0, 3) == b"ID3") | (
        (head[0] == 255) & (head[1] >= 224) & (head[1] // 2 % 4 == 1)
    )
