"""Draw a log-Mel as a picture, and give the marks of its frequencies, without TensorFlow."""

import cv2
import librosa
import numpy as np

from pipelines.core.spec import Spec
from pipelines.html.markup import data_uri

RANGE_DB = 60.0
"""The range of levels in a picture, below its highest level."""
TICKS_HZ = (500, 1000, 2000, 4000)


def spectrogram_uri(log_mel: np.ndarray) -> str:
    """Return a log-Mel as a data URI of a PNG, with time to the right and frequency upwards.

    The picture has one pixel per column and filter.

    Args:
        log_mel: float32 [columns, mel_filters] in dB.
    """
    level = np.clip(1 + (log_mel - log_mel.max()) / RANGE_DB, 0, 1)
    pixels = np.round(255 * level.T[::-1]).astype(np.uint8)  # [mel_filters, columns]
    coloured = cv2.applyColorMap(pixels, cv2.COLORMAP_MAGMA)
    return data_uri(
        cv2.imencode(".png", coloured, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1], "image/png"
    )


def hertz_marks(spec: Spec = Spec()) -> tuple[tuple[int, float], ...]:
    """Return each frequency of `TICKS_HZ` with its share of the picture's height from below."""
    frequencies = librosa.mel_frequencies(
        spec.mel_filters + 2, fmin=spec.lower_hz, fmax=spec.upper_hz
    )
    centres = frequencies[1:-1]
    return tuple(
        (tick, float((np.interp(tick, centres, np.arange(len(centres))) + 0.5) / len(centres)))
        for tick in TICKS_HZ
    )
