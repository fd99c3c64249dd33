"""Find, follow and crop faces in still images and video.

May import `pipelines.core` and `pipelines.media`. Never imports TensorFlow.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.faces.crops import (
        NO_FACE,
        crop_frame,
        read_faces,
        read_still_face,
        resize_face,
        track_boxes,
    )
    from pipelines.faces.detectors import detect_face, find_faces, load_detector, overlap
    from pipelines.faces.persons import follow_faces
    from pipelines.faces.stream import FaceStreamOptions, stream_still, stream_video
    from pipelines.faces.tracking import track_face

__all__ = [
    "NO_FACE",
    "FaceStreamOptions",
    "crop_frame",
    "detect_face",
    "find_faces",
    "follow_faces",
    "load_detector",
    "overlap",
    "read_faces",
    "read_still_face",
    "resize_face",
    "stream_still",
    "stream_video",
    "track_boxes",
    "track_face",
]

_MODULE_OF = {
    "FaceStreamOptions": "stream",
    "NO_FACE": "crops",
    "crop_frame": "crops",
    "detect_face": "detectors",
    "find_faces": "detectors",
    "follow_faces": "persons",
    "load_detector": "detectors",
    "overlap": "detectors",
    "read_faces": "crops",
    "read_still_face": "crops",
    "resize_face": "crops",
    "stream_still": "stream",
    "stream_video": "stream",
    "track_boxes": "crops",
    "track_face": "tracking",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
