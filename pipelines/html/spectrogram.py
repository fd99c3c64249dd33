"""A log-Mel as a picture, and the marks of its frequencies; no tensorflow."""

import cv2
import librosa
import numpy as np

from pipelines.core.spec import Spec
from pipelines.html.markup import data_uri

RANGE_DB = 60.0
"""What a spectrogram shows below its loudest point."""
TICKS_HZ = (500, 1000, 2000, 4000)


def picture(log_mel: np.ndarray) -> str:
    """Return a log-Mel as a data URI of a PNG: as wide as there are columns, as high as there are filters, low frequencies below.

    Args:
        log_mel: float32 [columns, mel_filters], in dB.
    """
    level = np.clip(1 + (log_mel - log_mel.max()) / RANGE_DB, 0, 1)
    pixels = np.round(255 * level.T[::-1]).astype(np.uint8)  # [mel_filters, columns]
    coloured = cv2.applyColorMap(pixels, cv2.COLORMAP_MAGMA)
    return data_uri(
        cv2.imencode(".png", coloured, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1], "image/png"
    )


def hertz_marks(spec: Spec = Spec()) -> tuple[tuple[int, float], ...]:
    """Return (frequency, share of the picture's height from below) of each of `TICKS_HZ`."""
    centres = librosa.mel_frequencies(spec.mel_filters + 2, fmin=spec.lower_hz, fmax=spec.upper_hz)[
        1:-1
    ]
    return tuple(
        (tick, float((np.interp(tick, centres, np.arange(len(centres))) + 0.5) / len(centres)))
        for tick in TICKS_HZ
    )
