"""Frames -> 64x64x3 face crops: Viola-Jones cascades, tracked through time.

The paper's "improved" Viola-Jones is not described in what could be had of it. The project's choice: the frontal, the
profile and the mirrored profile cascade in this order, the largest box, and continuity with the box before.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipelines import decode
from pipelines.decode import Frame, MediaError
from pipelines.spec import Spec, spaced_indices

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""

Detector = Callable[[np.ndarray, Box | None], Box | None]
"""(luma uint8 [height, width], the box in the frame before or None) -> the box of the face or None."""

DETECTION_LINES = 288
"""Luma is reduced to about this many lines before faces are looked for."""
LEAST_FACE = 1 / 10
"""The smallest face looked for, as a share of the picture's shorter side."""
NEIGHBOURS_TRIED = 8
"""The most frames on either side that are tried in place of a frame without a face."""


@functools.cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"))
    if cascade.empty():
        raise RuntimeError(f"OpenCV {cv2.__version__} lacks its file haarcascade_{name}.xml; install opencv-python-headless<5")
    return cascade


def detect_face(luma: np.ndarray, before: Box | None = None) -> Box | None:
    """Return the box of the face that matters, or None.

    The surroundings of the box before are searched first; only when nothing is there the whole picture. Of several
    boxes the one that overlaps the box before is taken, else the largest.

    Args:
        luma: uint8 [height, width].
        before: The box in an earlier frame of the same shot.
    """
    shrink = max(1.0, min(luma.shape) / DETECTION_LINES)
    if shrink > 1:
        size = (round(luma.shape[1] / shrink), round(luma.shape[0] / shrink))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    if before is not None:
        left, top, width, height = (round(side / shrink) for side in before)
        x, y = max(0, left - width // 3), max(0, top - height // 3)
        region = luma[y : top + height + height // 3, x : left + width + width // 3]
        box = _largest(region, least=round(0.7 * width), near=(left - x, top - y, width, height))
        if box is not None:
            return _scaled((box[0] + x, box[1] + y, box[2], box[3]), shrink)
    box = _largest(luma, least=round(LEAST_FACE * min(luma.shape)), near=None)
    return None if box is None else _scaled(box, shrink)


def _largest(luma: np.ndarray, *, least: int, near: Box | None) -> Box | None:
    least = max(20, least)
    for name, mirrored in (("frontalface_alt2", False), ("profileface", False), ("profileface", True)):
        picture = np.ascontiguousarray(luma[:, ::-1] if mirrored else luma)
        if min(picture.shape) < least:
            return None
        boxes = _cascade(name).detectMultiScale(picture, scaleFactor=1.2, minNeighbors=4, minSize=(least, least))
        boxes = [tuple(int(side) for side in box) for box in boxes]
        if mirrored:
            boxes = [(luma.shape[1] - left - width, top, width, height) for left, top, width, height in boxes]
        if boxes:
            return max(boxes, key=lambda box: (near is not None and overlap(box, near) > 0.3, box[2] * box[3], box))
    return None


def _scaled(box: Box, factor: float) -> Box:
    left, top, width, height = (round(side * factor) for side in box)
    return left, top, width, height


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, in [0, 1].

    >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def crop_face(rgb: np.ndarray, box: Box, *, spec: Spec = Spec()) -> np.ndarray:
    """Cut a box with the spec's margin out of a picture and resize it; what lies outside repeats the border.

    Args:
        rgb: uint8 [height, width, 3].
        box: Where the face is.

    Returns:
        uint8 [face_size, face_size, 3].
    """
    left, top, width, height = box
    side = round(max(width, height) * (1 + 2 * spec.face_margin))
    x, y = left + width // 2 - side // 2, top + height // 2 - side // 2
    inside = rgb[max(0, y) : y + side, max(0, x) : x + side]
    rows, columns = rgb.shape[:2]
    beyond = (max(0, -y), max(0, y + side - rows), max(0, -x), max(0, x + side - columns))
    if any(beyond):
        inside = cv2.copyMakeBorder(inside, *beyond, cv2.BORDER_REPLICATE)
    return resize_face(inside, spec=spec)


def resize_face(rgb: np.ndarray, *, spec: Spec = Spec()) -> np.ndarray:
    """Resize a picture to [face_size, face_size, 3]: by area when it shrinks, bilinear when it grows."""
    shrinks = min(rgb.shape[:2]) > spec.face_size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(rgb), (spec.face_size, spec.face_size), interpolation=method)


@dataclasses.dataclass(frozen=True)
class FacesFound:
    """The faces of a clip."""

    faces: np.ndarray
    """uint8 [n, face_size, face_size, 3], in the order of time."""
    looked_at: int
    """In how many evenly spaced frames a face was wanted."""
    seconds: float = 0.0
    """How long the clip is; 0 for a still."""


def read_still_face(path: Path, *, spec: Spec = Spec(), detect: Detector | None = detect_face) -> FacesFound:
    """Read the face of a still image; without a detector the whole image is the face.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
    """
    face = _face(Frame.of_rgb(decode.read_still(path)), None, spec, detect)
    if face is None:
        raise MediaError("no face found in the image; if the images are faces already, use --faces as-is")
    return FacesFound(face[0][None], 1)


def read_faces(
    path: Path,
    *,
    spec: Spec = Spec(),
    detect: Detector | None = detect_face,
    progress: Callable[[], None] = lambda: None,
) -> FacesFound:
    """Read the faces of a video clip.

    At most `spec.frames_per_clip` evenly spaced frames are looked at. A frame without a face gives way to the nearest
    frame that has one within half a step; where there is none either, the clip has one face fewer.

    Args:
        path: A video.
        spec: Sizes and counts.
        detect: Finds the box of a face; None takes each whole picture as a face.
        progress: Called after every decoded picture.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
    """
    frames, seconds = decode.count_frames(path)
    targets = spaced_indices(frames, spec.frames_per_clip)
    found: dict[int, tuple[np.ndarray, Box]] = {}
    before = None
    for index, frame in decode.read_frames(path, targets, progress=progress):
        face = _face(frame, before, spec, detect)
        if face is not None:
            found[index], before = face, face[1]
    if len(found) < len(targets):
        missing = [index for index in targets if index not in found]
        found.update(_stand_ins(path, missing, frames / (2 * len(targets)), spec, detect, progress))
    if not found:
        raise MediaError(f"no face found in {len(targets)} frames and those around them")
    return FacesFound(np.stack([found[index][0] for index in targets if index in found]), len(targets), seconds)


def _face(frame: Frame, before: Box | None, spec: Spec, detect: Detector | None) -> tuple[np.ndarray, Box] | None:
    if detect is None:
        rgb = frame.rgb()
        return resize_face(rgb, spec=spec), (0, 0, rgb.shape[1], rgb.shape[0])
    box = detect(frame.luma, before)
    return None if box is None else (crop_face(frame.rgb(), box, spec=spec), box)


def _stand_ins(
    path: Path, missing: list[int], half_step: float, spec: Spec, detect: Detector | None, progress: Callable[[], None]
) -> Iterator[tuple[int, tuple[np.ndarray, Box]]]:
    """Yield (target, face) for the targets that have a face within half a step, the nearest of eight frames on each side first."""
    reach = int(np.ceil(half_step)) - 1
    offsets = sorted({round(offset) for offset in np.linspace(1, reach, min(reach, NEIGHBOURS_TRIED))}) if reach else []
    targets_of: dict[int, list[int]] = {}  # short steps share frames
    for target in missing:
        for offset in offsets:
            for index in (target - offset, target + offset):
                targets_of.setdefault(index, []).append(target)
    held: dict[int, list[tuple[int, Frame]]] = {}
    for index, frame in decode.read_frames(path, (index for index in targets_of if index >= 0), progress=progress):
        for target in [target for target in held if target + reach < index]:  # all that is near it has been read
            yield from _nearest(held, target, spec, detect, progress)
        for target in targets_of[index]:
            held.setdefault(target, []).append((abs(index - target), frame))
    for target in sorted(held):
        yield from _nearest(held, target, spec, detect, progress)


def _nearest(held, target, spec, detect, progress) -> Iterator[tuple[int, tuple[np.ndarray, Box]]]:
    for _, frame in sorted(held.pop(target), key=lambda near: near[0]):
        progress()
        face = _face(frame, None, spec, detect)
        if face is not None:
            yield target, face
            return
