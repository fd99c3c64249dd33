"""Decode media files: still images, video frames in order, audio as blocks of one waveform.

May import `pipelines.core`. Never imports TensorFlow, so that isolated decoder processes stay small.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.media.audio import read_blocks, read_waveform, resampled
    from pipelines.media.images import Frame, content_hash, open_media, read_still, reason
    from pipelines.media.prefetch import Signs, read_ahead
    from pipelines.media.video import VideoReader, decoded_packet, opened_video, plane_of

__all__ = [
    "Frame",
    "Signs",
    "VideoReader",
    "content_hash",
    "decoded_packet",
    "open_media",
    "opened_video",
    "plane_of",
    "read_ahead",
    "read_blocks",
    "read_still",
    "read_waveform",
    "reason",
    "resampled",
]

_MODULE_OF = {
    "Frame": "images",
    "Signs": "prefetch",
    "VideoReader": "video",
    "content_hash": "images",
    "decoded_packet": "video",
    "open_media": "images",
    "opened_video": "video",
    "plane_of": "video",
    "read_ahead": "prefetch",
    "read_blocks": "audio",
    "read_still": "images",
    "read_waveform": "audio",
    "reason": "images",
    "resampled": "audio",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
