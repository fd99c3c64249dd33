"""The log-Mel against librosa, by hand, and at its edges."""

import dataclasses

import librosa
import numpy as np
import pytest
import tensorflow as tf

from helpers.log_mel_oracle import librosa_log_mel
from pipelines.core.spec import Spec
from pipelines.features import log_mel
from pipelines.media.audio import read_waveform

SPEC = Spec()


def test_silence_is_the_floor():
    """10 log10(1e-10) = -100 dB in every bin; its derivatives are 0."""
    static = log_mel.log_mel(tf.zeros(16000))
    np.testing.assert_allclose(static, -100.0, atol=1e-4)
    np.testing.assert_allclose(log_mel.with_deltas(static)[..., 1:], 0.0, atol=1e-4)


@pytest.mark.parametrize("samples", [512, 671, 672, 48001])
def test_log_mel_equals_librosa(samples):
    waveform = (
        np.random.default_rng(samples).standard_normal(samples) * np.linspace(0.001, 0.3, samples)
    ).astype(np.float32)
    ours, theirs = log_mel.log_mel(waveform).numpy(), librosa_log_mel(waveform)
    assert ours.shape == theirs.shape == (SPEC.frame_count(samples), 64)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_deltas_equal_librosa():
    static = np.random.default_rng(1).normal(-40, 12, (83, 64)).astype(np.float32)
    ours = log_mel.with_deltas(static).numpy()
    for order in (1, 2):
        theirs = librosa.feature.delta(static.T, width=9, order=order).T
        np.testing.assert_allclose(ours[..., order], theirs, atol=1e-4)


def test_deltas_of_a_parabola():
    """x = 3 t^2 dB: the fit of order 1 over t-4..t+4 has slope 6 t; the second derivative is 6 everywhere."""
    t = np.arange(30, dtype=np.float32)
    static = np.repeat(3 * t[:, None] ** 2, 64, axis=1)
    ours = log_mel.with_deltas(static).numpy()
    np.testing.assert_allclose(ours[4:-4, 0, 1], 6 * t[4:-4], rtol=1e-4)
    np.testing.assert_allclose(ours[:, 0, 2], 6.0, rtol=1e-3)


def test_segments_cover_the_tail_and_lie_filter_by_time():
    static = np.random.default_rng(2).normal(-40, 12, (100, 64)).astype(np.float32)
    ours = log_mel.segments(static).numpy()
    assert ours.shape == (3, 64, 64, 3)  # starts 0, 34, and 68 moved back to 36
    whole = log_mel.with_deltas(static).numpy().transpose(1, 0, 2)
    for segment, start in zip(ours, (0, 34, 36), strict=True):
        np.testing.assert_array_equal(segment, whole[:, start : start + 64])


@pytest.mark.parametrize("frames", [1, 8, 63])
def test_a_short_clip_is_padded_with_its_own_floor(frames):
    static = np.random.default_rng(frames).normal(-40, 12, (frames, 64)).astype(np.float32)
    (segment,) = log_mel.segments(static).numpy()
    np.testing.assert_array_equal(segment[:, :frames, 0].T, static)
    np.testing.assert_array_equal(segment[:, frames:, 0], static.min())


def test_the_segments_of_a_shifted_sound_are_shifted():
    """Invariance: 34 hops of delay move every segment of the middle by one place."""
    waveform = np.random.default_rng(3).standard_normal(32000).astype(np.float32) * 0.1
    early, late = (
        log_mel.segments(log_mel.log_mel(waveform[start:])).numpy() for start in (0, 34 * 160)
    )
    np.testing.assert_allclose(early[2, :, :, 0], late[1, :, :, 0], atol=1e-3)


@pytest.mark.parametrize(
    "file",
    [
        "emodb/wav/03a01Fa.wav",
        "ravdess/Actor_01/03-01-02-01-01-02-01.wav",
        "ravdess/Actor_02/03-01-05-02-01-01-02.flac",
    ],
)
def test_log_mel_of_a_real_file_equals_librosa_from_the_file_on(corpora, file):
    waveform, track = read_waveform(corpora / file)
    theirs, _ = librosa.load(corpora / file, sr=16000, mono=True)
    assert track.seconds == pytest.approx(theirs.size / 16000, abs=1 / 16000)
    np.testing.assert_allclose(log_mel.log_mel(waveform), librosa_log_mel(theirs), atol=1e-3)


def test_pauses_are_left_out_where_the_spec_asks():
    """Of 6 segments of 64 frames, one every 32, over 224 frames: frames 0 to 99 are loud, 100 to 223 are 40 dB softer.

    Active frames of the segments from 0, 32, 64, 96, 128 and 160: 64, 64, 36, 4, 0, 0.
    """
    static = np.where(np.arange(224)[:, None] < 100, -20.0, -60.0) * np.ones((1, 64), np.float32)
    static = tf.constant(static, tf.float32)
    spec = Spec(segment_hop_frames=32)
    for share, starts in (
        (0.0, [0, 32, 64, 96, 128, 160]),
        (0.01, [0, 32, 64, 96]),
        (0.5, [0, 32, 64]),
        (0.6, [0, 32]),
        (1.0, [0, 32]),
    ):
        changed = dataclasses.replace(spec, active_share=share)
        assert log_mel.segment_starts(static, spec=changed).numpy().tolist() == starts
        assert log_mel.segments(static, spec=changed).shape == (len(starts), 64, 64, 3)
        every = log_mel.all_segment_starts(224, spec=spec).numpy()
        assert every[log_mel.active_segments(static, spec=changed).numpy()].tolist() == starts
    assert (
        len(
            log_mel.segment_starts(
                static, spec=dataclasses.replace(spec, active_share=0.5, active_range_db=50.0)
            )
        )
        == 6
    )


def test_the_most_active_segments_stay_where_none_is_active_enough():
    """A click of 3 frames in silence: no segment is half active, those that hold it are kept."""
    static = np.full((200, 64), -100.0, np.float32)
    static[70:73] = -10.0
    spec = Spec(segment_hop_frames=32, active_share=0.5)
    assert log_mel.segment_starts(tf.constant(static), spec=spec).numpy().tolist() == [32, 64]
    assert len(log_mel.segment_starts(tf.fill([200, 64], -100.0), spec=spec)) == len(
        log_mel.all_segment_starts(200, spec=spec)
    )
