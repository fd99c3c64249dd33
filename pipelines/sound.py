"""Media file -> waveform, by PyAV and soxr; no tensorflow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr

from pipelines.decode import MediaError, decoded, open_media
from pipelines.spec import Spec


def read_waveform(path: Path, *, spec: Spec = Spec(), progress: Callable[[], None] = lambda: None) -> tuple[np.ndarray, float]:
    """Read the first sound track as a mono waveform at the spec's rate, and how long the track is.

    The channels are averaged in float32, then resampled by soxr's HQ, as `librosa.load(res_type="soxr_hq")` does.

    Args:
        path: A sound or video file.
        spec: The rate, the least length and the level that counts as silence.
        progress: Called after every decoded frame of sound.

    Returns:
        The waveform, float32 [samples] in [-1, 1], and its length before resampling in seconds.

    Raises:
        MediaError: No sound track, nothing decodes, NaN or infinity, silent, or shorter than one analysis window.
    """
    with open_media(path) as container:
        if not container.streams.audio:
            raise MediaError("no sound track")
        chunks, rates = [], set()
        for frame in decoded(container, container.streams.audio[0]):
            progress()
            rates.add(frame.sample_rate)
            chunks.append(_samples(frame).mean(axis=0))
    if not chunks:
        raise MediaError("sound track of which nothing could be decoded")
    if len(rates) > 1:
        raise MediaError(f"sound track that changes its rate ({', '.join(map(str, sorted(rates)))} Hz)")
    rate_hz = rates.pop()
    waveform = np.concatenate(chunks)
    if not np.isfinite(waveform).all():
        raise MediaError("sound track with NaN or infinite samples")
    seconds = waveform.size / rate_hz
    if np.abs(waveform).max() < spec.silence_peak:
        raise MediaError(f"silent sound track (never above {20 * np.log10(spec.silence_peak):.0f} dB of full scale)")
    if rate_hz != spec.sample_rate_hz:
        expected = -(-waveform.size * spec.sample_rate_hz // rate_hz)  # rounded up, as librosa does
        waveform = soxr.resample(waveform, rate_hz, spec.sample_rate_hz, quality="HQ")[:expected]
        waveform = np.pad(waveform, (0, expected - waveform.size))
    if waveform.size < spec.fft_samples:
        least_ms = 1000 * spec.fft_samples / spec.sample_rate_hz
        raise MediaError(f"too short: {seconds * 1000:.1f} ms of sound, expected at least {least_ms:.0f} ms")
    return np.ascontiguousarray(waveform, np.float32), seconds


def _samples(frame) -> np.ndarray:
    """Return a frame of sound as float32 [channels, samples] in [-1, 1]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T  # [channels, samples]
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))
    return samples.astype(np.float32)
