"""Compute the stored features of a signal, in one definition for build, training and export.

May import `pipelines.core` and `pipelines.media`. The functions build TensorFlow graphs.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.features.audio_tfio import REMEDY, check_tfio, read_waveform_tfio, tfio_message
    from pipelines.features.face import decode_face
    from pipelines.features.log_mel import (
        active_frames,
        active_segments,
        padded,
        segment_starts,
        segments,
        with_deltas,
    )

__all__ = [
    "REMEDY",
    "active_frames",
    "active_segments",
    "check_tfio",
    "decode_face",
    "padded",
    "read_waveform_tfio",
    "segment_starts",
    "segments",
    "tfio_message",
    "with_deltas",
]

_MODULE_OF = {
    "REMEDY": "audio_tfio",
    "active_frames": "log_mel",
    "active_segments": "log_mel",
    "check_tfio": "audio_tfio",
    "decode_face": "face",
    "padded": "log_mel",
    "read_waveform_tfio": "audio_tfio",
    "segment_starts": "log_mel",
    "segments": "log_mel",
    "tfio_message": "audio_tfio",
    "with_deltas": "log_mel",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
