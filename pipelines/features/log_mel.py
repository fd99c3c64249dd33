"""Compute the log-Mel of a waveform, its deltas and its segments.

The build, the training and the served graph share this definition. It equals librosa: a periodic
Hamming window, power spectra that are not centred, the Mel filters of Slaney, 10 log10, and deltas
as Savitzky-Golay fits with repeated edges (`librosa.feature.delta`, orders 1 and 2).
"""

import functools

import librosa
import numpy as np
import scipy.signal
import tensorflow as tf

from pipelines.core.spec import Spec


@functools.cache
def _filters(spec: Spec) -> np.ndarray:
    """Return librosa's Mel matrix, float32 [fft bins, filters]."""
    return librosa.filters.mel(
        sr=spec.sample_rate_hz,
        n_fft=spec.fft_samples,
        n_mels=spec.mel_filters,
        fmin=spec.lower_hz,
        fmax=spec.upper_hz,
    ).T


@functools.cache
def _window(spec: Spec) -> np.ndarray:
    """Return the periodic Hamming window, centred in one FFT, float32 [fft_samples]."""
    window = scipy.signal.get_window("hamming", spec.window_samples, fftbins=True)
    return librosa.util.pad_center(window, size=spec.fft_samples).astype(np.float32)


@functools.cache
def _delta_weights(spec: Spec) -> np.ndarray:
    """Return the weights of the frames around one frame in its two deltas.

    Returns:
        float32 [2, delta_width]: the first and the second derivative.
    """
    orders = (
        scipy.signal.savgol_coeffs(spec.delta_width, polyorder=order, deriv=order, use="dot")
        for order in (1, 2)
    )
    return np.stack(list(orders)).astype(np.float32)


def log_mel(waveform: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the static log-Mel of waveforms.

    Args:
        waveform: float32 [..., samples] in [-1, 1] at the rate of `spec`.
        spec: Window, hop, filters and floor.

    Returns:
        float32 [..., frames, mel_filters] in dB, at least -100. A waveform shorter than one FFT has
        no frame.

    >>> log_mel(tf.zeros(512)).numpy().tolist()[0][:2]
    [-100.0, -100.0]
    """
    # [..., frames, fft_samples]
    frames = tf.signal.frame(waveform, spec.fft_samples, spec.hop_samples)
    spectrum = tf.signal.rfft(frames * _window(spec))  # [..., frames, bins]
    # The squares of both parts take a fifth of the time of `tf.abs`.
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    mel = tf.tensordot(power, _filters(spec), axes=1)  # [..., frames, mel_filters]
    return 10.0 / np.log(10.0) * tf.math.log(tf.maximum(mel, spec.power_floor))


def with_deltas(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return a log-Mel with its first and second derivative over time.

    Args:
        static: float32 [frames, mel_filters] with at least `spec.delta_width` frames.
        spec: The width of the fit.

    Returns:
        float32 [frames, mel_filters, 3]: dB, dB per frame, dB per frame squared.
    """
    width = spec.delta_width
    frames = tf.shape(static)[0]
    # The edges repeat the first and the last fit.
    starts = tf.clip_by_value(tf.range(frames) - width // 2, 0, frames - width)
    around = tf.gather(static, starts[:, None] + tf.range(width))  # [frames, width, mel_filters]
    deltas = tf.matmul(_delta_weights(spec)[None], around)  # [frames, 2, mel_filters]
    return tf.transpose(tf.concat([static[:, None], deltas], axis=1), [0, 2, 1])


def padded(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Pad a log-Mel that is shorter than one segment with its lowest value.

    Args:
        static: float32 [frames, mel_filters] in dB, at least one frame.
        spec: The length of a segment.

    Returns:
        float32 [max(frames, segment_frames), mel_filters].
    """
    missing = tf.maximum(0, spec.segment_frames - tf.shape(static)[0])
    return tf.pad(static, [[0, missing], [0, 0]], constant_values=tf.reduce_min(static))


def segments(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the overlapping segments of an utterance with their deltas.

    The deltas are those of the whole utterance. The last segment ends with the utterance.

    Args:
        static: float32 [frames, mel_filters] in dB, at least one frame.
        spec: The lengths, and whether pauses are left out.

    Returns:
        float32 [segments, mel_filters, segment_frames, 3] (F x T x C).
    """
    long_enough = padded(static, spec=spec)
    features = with_deltas(long_enough, spec=spec)  # [frames, mel_filters, 3]
    starts = segment_starts(long_enough, spec=spec)
    # [segments, segment_frames, mel_filters, 3]
    gathered = tf.gather(features, starts[:, None] + tf.range(spec.segment_frames))
    # The reshape sets the static shape. LiteRT has no `tf.ensure_shape`.
    return tf.reshape(
        tf.transpose(gathered, [0, 2, 1, 3]), [-1, spec.mel_filters, spec.segment_frames, 3]
    )


def segment_starts(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the first frame of each segment of an utterance, int32 [segments], rising.

    Args:
        static: float32 [frames, mel_filters] in dB, at least the frames of one segment.
        spec: The hop. With `active_share`, also which segments are left out as pauses.
    """
    starts = all_segment_starts(tf.shape(static)[0], spec=spec)
    return (
        tf.boolean_mask(starts, active_segments(static, spec=spec)) if spec.active_share else starts
    )


def all_segment_starts(frames: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the first frame of each segment of an utterance, pauses included.

    Args:
        frames: The number of frames of the utterance, an int32 scalar.
        spec: The length and the hop of segments.

    Returns:
        int32 [segments], rising.
    """
    last = frames - spec.segment_frames
    count = 1 + -(-last // spec.segment_hop_frames)
    return tf.minimum(tf.range(count) * spec.segment_hop_frames, last)


def active_frames(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return which frames of an utterance are active.

    The level of a frame is its mean over the Mel filters. A frame is active when its level is
    within `spec.active_range_db` of the highest level of the utterance.

    Args:
        static: float32 [frames, mel_filters] in dB.
        spec: The range.

    Returns:
        bool [frames].
    """
    level = tf.reduce_mean(static, axis=1)
    return level >= tf.reduce_max(level) - spec.active_range_db


def active_segments(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return which segments of `all_segment_starts` are active.

    A segment is active when `spec.active_share` of its frames are active. Where no segment of the
    utterance reaches that share, those with the largest share are active.

    Args:
        static: float32 [frames, mel_filters] in dB, at least the frames of one segment.
        spec: The hop, the share and the range.

    Returns:
        bool [segments].
    """
    starts = all_segment_starts(tf.shape(static)[0], spec=spec)
    if not spec.active_share:
        return tf.fill(tf.shape(starts), True)
    active = tf.cast(active_frames(static, spec=spec), tf.float32)
    # The number of active frames before each frame.
    active_before = tf.concat([[0.0], tf.cumsum(active)], axis=0)
    share = (
        tf.gather(active_before, starts + spec.segment_frames) - tf.gather(active_before, starts)
    ) / spec.segment_frames
    return share >= tf.minimum(spec.active_share, tf.reduce_max(share))
