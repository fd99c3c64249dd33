"""Waveform -> log-Mel, deltas, segments: the one definition, for the build, the training and the served graph.

Equal to librosa: a periodic Hamming window, power spectra that are not centred, librosa's (Slaney's) Mel filters,
10 log10, and deltas as Savitzky-Golay fits with repeated edges (`librosa.feature.delta`, orders 1 and 2).
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
    """Return the periodic Hamming window, in the middle of one FFT, float32 [fft_samples]."""
    window = scipy.signal.get_window("hamming", spec.window_samples, fftbins=True)
    return librosa.util.pad_center(window, size=spec.fft_samples).astype(np.float32)


@functools.cache
def _delta_weights(spec: Spec) -> np.ndarray:
    """Return what the frames around one weigh in its first and in its second derivative, float32 [2, delta_width]."""
    orders = (
        scipy.signal.savgol_coeffs(spec.delta_width, polyorder=order, deriv=order, use="dot")
        for order in (1, 2)
    )
    return np.stack(list(orders)).astype(np.float32)


def log_mel(waveform: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the static log-Mel of waveforms.

    Args:
        waveform: float32 [..., samples] in [-1, 1] at the spec's rate.
        spec: Window, hop, filters and floor.

    Returns:
        float32 [..., frames, mel_filters] in dB, at least -100; no frame where there is less than one FFT of samples.

    >>> log_mel(tf.zeros(512)).numpy().tolist()[0][:2]
    [-100.0, -100.0]
    """
    frames = tf.signal.frame(
        waveform, spec.fft_samples, spec.hop_samples
    )  # [..., frames, fft_samples]
    spectrum = tf.signal.rfft(frames * _window(spec))  # [..., frames, bins]
    power = tf.square(tf.math.real(spectrum)) + tf.square(
        tf.math.imag(spectrum)
    )  # five times as fast as of tf.abs
    mel = tf.tensordot(power, _filters(spec), axes=1)  # [..., frames, mel_filters]
    return 10.0 / np.log(10.0) * tf.math.log(tf.maximum(mel, spec.power_floor))


def with_deltas(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return a log-Mel with its first and second temporal derivative.

    Args:
        static: float32 [frames, mel_filters] with at least `spec.delta_width` frames.
        spec: The width of the fit.

    Returns:
        float32 [frames, mel_filters, 3]: dB, dB a frame, dB a frame squared.
    """
    width = spec.delta_width
    frames = tf.shape(static)[0]
    starts = tf.clip_by_value(
        tf.range(frames) - width // 2, 0, frames - width
    )  # the edges repeat the first and the last fit
    around = tf.gather(static, starts[:, None] + tf.range(width))  # [frames, width, mel_filters]
    deltas = tf.matmul(_delta_weights(spec)[None], around)  # [frames, 2, mel_filters]
    return tf.transpose(tf.concat([static[:, None], deltas], axis=1), [0, 2, 1])


def padded(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Lengthen a log-Mel to one segment with its own lowest value, when it is shorter.

    Args:
        static: float32 [frames, mel_filters], at least one frame.

    Returns:
        float32 [max(frames, segment_frames), mel_filters].
    """
    missing = tf.maximum(0, spec.segment_frames - tf.shape(static)[0])
    return tf.pad(static, [[0, missing], [0, 0]], constant_values=tf.reduce_min(static))


def segments(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the overlapping segments of an utterance, deltas taken over the whole of it first.

    The last segment is moved back so that it ends with the utterance.

    Args:
        static: float32 [frames, mel_filters] in dB, at least one frame.
        spec: Lengths, and whether pauses are left out.

    Returns:
        float32 [segments, mel_filters, segment_frames, 3] (F x T x C).
    """
    long_enough = padded(static, spec=spec)
    features = with_deltas(long_enough, spec=spec)  # [frames, mel_filters, 3]
    starts = segment_starts(long_enough, spec=spec)
    gathered = tf.gather(
        features, starts[:, None] + tf.range(spec.segment_frames)
    )  # [segments, T, F, 3]
    # The reshape tells the shape, as tf.ensure_shape would, which LiteRT has not.
    return tf.reshape(
        tf.transpose(gathered, [0, 2, 1, 3]), [-1, spec.mel_filters, spec.segment_frames, 3]
    )


def segment_starts(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the first frame of each segment of an utterance, int32 [segments], rising.

    Args:
        static: float32 [frames, mel_filters] in dB, as recorded; at least the frames of one segment.
        spec: The hop, and, with `active_share`, which segments are left out as pauses.
    """
    starts = every_start(tf.shape(static)[0], spec=spec)
    return (
        tf.boolean_mask(starts, active_segments(static, spec=spec)) if spec.active_share else starts
    )


def every_start(frames: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the first frame of each segment of an utterance of so many frames, pauses as well, int32 [segments]."""
    last = frames - spec.segment_frames
    count = 1 + -(-last // spec.segment_hop_frames)
    return tf.minimum(tf.range(count) * spec.segment_hop_frames, last)


def active_frames(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Tell which frames of an utterance are active: whose mean over the Mel filters is within `spec.active_range_db` of the loudest one's.

    Args:
        static: float32 [frames, mel_filters] in dB, as recorded.
        spec: The range.

    Returns:
        bool [frames].
    """
    level = tf.reduce_mean(static, axis=1)
    return level >= tf.reduce_max(level) - spec.active_range_db


def active_segments(static: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Tell which segments of an utterance count, those of `every_start`: bool [segments].

    Where `spec.active_share` is 0 all do. Else a segment counts that has that share of `active_frames`, or as many as any.

    Args:
        static: float32 [frames, mel_filters] in dB, at least the frames of one segment.
        spec: The hop, the share and the range.
    """
    starts = every_start(tf.shape(static)[0], spec=spec)
    if not spec.active_share:
        return tf.fill(tf.shape(starts), True)
    active = tf.cast(active_frames(static, spec=spec), tf.float32)
    before = tf.concat(
        [[0.0], tf.cumsum(active)], axis=0
    )  # of each frame the active ones before it
    share = (
        tf.gather(before, starts + spec.segment_frames) - tf.gather(before, starts)
    ) / spec.segment_frames
    return share >= tf.minimum(spec.active_share, tf.reduce_max(share))
