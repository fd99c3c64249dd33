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
        tracked_boxes,
    )
    from pipelines.faces.detectors import detect_face, find_faces, load_detector, overlap
    from pipelines.faces.persons import follow_faces
    from pipelines.faces.stream import ViewOptions, view_still, view_video
    from pipelines.faces.tracking import track_face

__all__ = [
    "NO_FACE",
    "ViewOptions",
    "crop_frame",
    "detect_face",
    "find_faces",
    "follow_faces",
    "load_detector",
    "overlap",
    "read_faces",
    "read_still_face",
    "resize_face",
    "track_face",
    "tracked_boxes",
    "view_still",
    "view_video",
]

_MODULE_OF = {
    "NO_FACE": "crops",
    "ViewOptions": "stream",
    "crop_frame": "crops",
    "detect_face": "detectors",
    "find_faces": "detectors",
    "follow_faces": "persons",
    "load_detector": "detectors",
    "overlap": "detectors",
    "read_faces": "crops",
    "read_still_face": "crops",
    "resize_face": "crops",
    "track_face": "tracking",
    "tracked_boxes": "crops",
    "view_still": "stream",
    "view_video": "stream",
}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
