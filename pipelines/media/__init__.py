"""Decode media files: still images, video frames in order, audio as blocks of one waveform.

May import `pipelines.core`. Never imports TensorFlow, so that isolated decoder processes stay
small.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.media.audio import read_blocks, read_waveform, resampled
    from pipelines.media.images import Frame, content_hash, library_message, open_media, read_still
    from pipelines.media.prefetch import ThreadProgress, read_ahead
    from pipelines.media.video import VideoReader, decoded_packet, opened_video, plane_pixels

__all__ = [
    "Frame",
    "ThreadProgress",
    "VideoReader",
    "content_hash",
    "decoded_packet",
    "library_message",
    "open_media",
    "opened_video",
    "plane_pixels",
    "read_ahead",
    "read_blocks",
    "read_still",
    "read_waveform",
    "resampled",
]

_MODULE_OF = {
    "Frame": "images",
    "ThreadProgress": "prefetch",
    "VideoReader": "video",
    "content_hash": "images",
    "decoded_packet": "video",
    "library_message": "images",
    "open_media": "images",
    "opened_video": "video",
    "plane_pixels": "video",
    "read_ahead": "prefetch",
    "read_blocks": "audio",
    "read_still": "images",
    "read_waveform": "audio",
    "resampled": "audio",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
