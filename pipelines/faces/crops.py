"""Video or still -> 64x64x3 face crops, by a detector that is passed in and a box that is tracked through time."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.faces.detectors import DETECTORS, Box, Detector, detect_face, detector, overlap
from pipelines.faces.tracking import ANCHOR_STEP, Seen, track_face
from pipelines.media import images
from pipelines.media.images import Frame
from pipelines.media.video import VideoReader

__all__ = [
    "DETECTORS",
    "Box",
    "Detector",
    "FacesFound",
    "crop_face",
    "crop_frame",
    "detect_face",
    "detector",
    "overlap",
]
__all__ += ["read_faces", "read_still_face", "resize_face", "tracked_boxes"]

NO_FACE = "no face found"
"""How the reason begins for a clip that decodes and has no face; the page of a corpus counts these."""
NEIGHBOURS_TRIED = 8
"""The most frames on either side that are tried in place of a frame without a face."""
FOLLOWED_SPACING = 8
"""Wanted frames that lie farther apart than this are each searched: a third of a second is enough to turn away and back."""


def crop_face(rgb: np.ndarray, box: Box, *, spec: Spec = Spec()) -> np.ndarray:
    """Cut a box with the spec's margin out of a picture and resize it; what lies outside repeats the border.

    Args:
        rgb: uint8 [height, width, 3].
        box: Where the face is.

    Returns:
        uint8 [face_size, face_size, 3].
    """
    return _cropped(
        lambda top, bottom, left, right: rgb[top:bottom, left:right], rgb.shape[:2], box, spec
    )


def crop_frame(frame: Frame, box: Box, *, spec: Spec = Spec()) -> np.ndarray:
    """Return `crop_face(frame.rgb(), box)`, to the bit; only what the crop shows is converted to colour."""
    return _cropped(frame.cut, frame.luma.shape, box, spec)


def _cropped(
    cut: Callable[[int, int, int, int], np.ndarray], shape: tuple[int, int], box: Box, spec: Spec
) -> np.ndarray:
    left, top, width, height = box
    side = round(max(width, height) * (1 + 2 * spec.face_margin))
    x, y = left + width // 2 - side // 2, top + height // 2 - side // 2
    rows, columns = shape
    inside = cut(max(0, y), min(rows, y + side), max(0, x), min(columns, x + side))
    beyond = (max(0, -y), max(0, y + side - rows), max(0, -x), max(0, x + side - columns))
    if any(beyond):
        inside = cv2.copyMakeBorder(inside, *beyond, cv2.BORDER_REPLICATE)
    return resize_face(inside, spec=spec)


def resize_face(rgb: np.ndarray, *, spec: Spec = Spec()) -> np.ndarray:
    """Resize a picture to [face_size, face_size, 3]: by area when it shrinks, bilinear when it grows."""
    shrinks = min(rgb.shape[:2]) > spec.face_size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(
        np.ascontiguousarray(rgb), (spec.face_size, spec.face_size), interpolation=method
    )


@dataclasses.dataclass(frozen=True)
class FacesFound:
    """The faces of a clip."""

    faces: np.ndarray
    """uint8 [n, face_size, face_size, 3], in the order of time."""
    looked_at: int
    """In how many evenly spaced frames a face was wanted."""
    seconds: float = 0.0
    """How long the clip is; 0 for a still."""
    undecodable: int = 0
    """How many pictures did not decode, of those that were wanted or tried or that the decoder refused on the way to
    them, and how many more the file's header promises than the file holds."""


def read_still_face(
    path: Path, *, spec: Spec = Spec(), detect: Detector | None = detect_face
) -> FacesFound:
    """Read the face of a still image; without a detector the whole image is the face.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
    """
    frame = Frame.of_rgb(images.read_still(path))
    box = detect(frame.luma, None) if detect else None
    if detect and box is None:
        raise MediaError(
            f"{NO_FACE} in the image; if the images are faces already, use --faces as-is"
        )
    return FacesFound(_face(frame, box, spec)[None], 1)


def read_faces(
    path: Path,
    *,
    spec: Spec = Spec(),
    detect: Detector | None = detect_face,
    progress: Callable[[], None] = lambda: None,
) -> FacesFound:
    """Read the faces of a video clip.

    At most `spec.frames_per_clip` evenly spaced frames are looked at. Where these lie close to each other, faces are
    searched for in some of them and followed in between (`tracking`). A frame without a face gives way to the nearest
    frame that has one within half a step; where there is none either, the clip has one face fewer.

    Args:
        path: A video.
        spec: Sizes and counts.
        detect: Finds the box of a face; None takes each whole picture as a face.
        progress: Called after every packet, every decoded picture and every search.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
    """
    with VideoReader(path, progress=progress) as video:
        targets = spaced_indices(video.count, spec.frames_per_clip)
        found: dict[int, np.ndarray] = {}
        for index, frame, box in tracked_boxes(
            video.frames(targets), detect, video.count / len(targets), progress
        ):
            if box is not None or detect is None:
                found[index] = _face(frame, box, spec)
        if len(found) < len(targets):
            missing = [index for index in targets if index not in found]
            found.update(
                _stand_ins(video, missing, video.count / (2 * len(targets)), spec, detect, progress)
            )
    if not found:
        raise MediaError(f"{NO_FACE} in {len(targets)} frames and those around them")
    faces = np.stack([found[index] for index in targets if index in found])
    return FacesFound(faces, len(targets), video.seconds, video.undecodable + video.missing)


def tracked_boxes(
    frames: Iterable[Seen],
    detect: Detector | None,
    spacing: float,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, Box | None]]:
    """Yield (number, frame, box or None) of frames that lie `spacing` pictures apart; without a detector no frame has a box."""
    if detect is None:
        return ((index, frame, None) for index, frame in frames)
    step = int(ANCHOR_STEP / spacing)
    return track_face(
        frames, detect, step=step if spacing <= FOLLOWED_SPACING else 1, progress=progress
    )


def _face(frame: Frame, box: Box | None, spec: Spec) -> np.ndarray:
    return resize_face(frame.rgb(), spec=spec) if box is None else crop_frame(frame, box, spec=spec)


def _stand_ins(
    video: VideoReader,
    missing: list[int],
    half_step: float,
    spec: Spec,
    detect: Detector | None,
    progress: Callable[[], None],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (target, face) for the targets that have a face within half a step, the nearest of eight frames on each side first."""
    reach = int(np.ceil(half_step)) - 1
    offsets = (
        sorted({round(offset) for offset in np.linspace(1, reach, min(reach, NEIGHBOURS_TRIED))})
        if reach
        else []
    )
    targets_of: dict[int, list[int]] = {}  # short steps share frames
    for target in missing:
        for offset in offsets:
            for index in (target - offset, target + offset):
                targets_of.setdefault(index, []).append(target)
    held: dict[int, list[tuple[int, Frame]]] = {}
    for index, frame in video.frames(targets_of):
        for target in [
            target for target in held if target + reach < index
        ]:  # all that is near it has been read
            yield from _nearest(held, target, spec, detect, progress)
        for target in targets_of[index]:
            held.setdefault(target, []).append((abs(index - target), frame))
    for target in sorted(held):
        yield from _nearest(held, target, spec, detect, progress)


def _nearest(held, target, spec, detect, progress) -> Iterator[tuple[int, np.ndarray]]:
    for _, frame in sorted(held.pop(target), key=lambda near: near[0]):
        box = detect(frame.luma, None) if detect else None
        progress()
        if box is not None or detect is None:
            yield target, _face(frame, box, spec)
            return
