"""Read the face crops of a video or still image.

A detector, which the caller passes in, finds the box of the face. The box is tracked through time.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.faces.detectors import Box, Detector, detect_face
from pipelines.faces.tracking import SEARCH_STEP, NumberedFrame, track_face
from pipelines.media import images
from pipelines.media.images import Frame
from pipelines.media.video import VideoReader

NO_FACE = "no face found"
"""First words of the reason for a clip that decodes and has no face; reports count them."""
MAX_NEIGHBOURS = 8
"""Maximum number of frames on either side that are tried in place of a frame without a face."""
MAX_TRACKED_SPACING = 8
"""Frames farther apart than this are each searched.

In a third of a second, a person can turn away and back.
"""


def crop_face(rgb: np.ndarray, box: Box, *, spec: Spec = Spec()) -> np.ndarray:
    """Return the crop of a box with the margin of the spec.

    The crop is a square around the box. Outside the picture, it repeats the picture's border.

    Args:
        rgb: uint8 [height, width, 3].
        box: The box of the face, in pixels.
        spec: Face size and margin.

    Returns:
        uint8 [face_size, face_size, 3].
    """
    return _crop_square(
        lambda top, bottom, left, right: rgb[top:bottom, left:right], rgb.shape[:2], box, spec
    )


def crop_frame(frame: Frame, box: Box, *, spec: Spec = Spec()) -> np.ndarray:
    """Return `crop_face(frame.rgb(), box)`, but convert only the crop to RGB.

    Args:
        frame: A decoded picture.
        box: The box of the face, in pixels.
        spec: Face size and margin.

    Returns:
        uint8 [face_size, face_size, 3], equal to the crop of the whole RGB picture.
    """
    return _crop_square(frame.cut, frame.luma.shape, box, spec)


def _crop_square(
    cut: Callable[[int, int, int, int], np.ndarray], shape: tuple[int, int], box: Box, spec: Spec
) -> np.ndarray:
    """Return the crop of a box.

    Args:
        cut: Maps (top, bottom, left, right) to that part of the picture, uint8 RGB.
        shape: Height and width of the picture.
        box: The box of the face, in pixels.
        spec: Face size and margin.
    """
    box_left, box_top, width, height = box
    side = round(max(width, height) * (1 + 2 * spec.face_margin))
    left, top = box_left + width // 2 - side // 2, box_top + height // 2 - side // 2
    right, bottom = left + side, top + side
    rows, columns = shape
    square = cut(max(0, top), min(rows, bottom), max(0, left), min(columns, right))
    borders = (max(0, -top), max(0, bottom - rows), max(0, -left), max(0, right - columns))
    if any(borders):
        square = cv2.copyMakeBorder(square, *borders, cv2.BORDER_REPLICATE)
    return resize_face(square, spec=spec)


def resize_face(rgb: np.ndarray, *, spec: Spec = Spec()) -> np.ndarray:
    """Resize a picture to the face size: by area if it shrinks, bilinearly if it grows.

    Args:
        rgb: uint8 [height, width, 3].
        spec: Face size.

    Returns:
        uint8 [face_size, face_size, 3].
    """
    shrinks = min(rgb.shape[:2]) > spec.face_size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(
        np.ascontiguousarray(rgb), (spec.face_size, spec.face_size), interpolation=interpolation
    )


@dataclasses.dataclass(frozen=True)
class ClipFaces:
    """The faces of a clip. The names of the fields are the keys of a worker's message."""

    faces: np.ndarray
    """uint8 [n, face_size, face_size, 3], in the order of time."""
    looked_at: int
    """Number of evenly spaced frames in which a face was searched."""
    seconds: float = 0.0
    """Duration of the clip; 0 for a still image."""
    undecodable: int = 0
    """Number of pictures that did not decode or are missing.

    It counts wanted pictures, pictures tried in their place, and pictures that the decoder refused
    on the way to them. It also counts pictures that the file's header promises beyond its end.
    """


def read_still_face(
    path: Path, *, spec: Spec = Spec(), detect: Detector | None = detect_face
) -> ClipFaces:
    """Read the face of a still image.

    Args:
        path: A JPEG, PNG, BMP or WebP file.
        spec: Face size and margin.
        detect: Finds the box of the face; None takes the whole image as a face.

    Returns:
        A single face.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
        OSError: The file cannot be read.
    """
    frame = Frame.of_rgb(images.read_still(path))
    box = detect(frame.luma, None) if detect else None
    if detect and box is None:
        raise MediaError(
            f"{NO_FACE} in the image; if the images are faces already, use --faces as-is"
        )
    return ClipFaces(_crop_or_resize(frame, box, spec)[None], looked_at=1)


def read_faces(
    path: Path,
    *,
    spec: Spec = Spec(),
    detect: Detector | None = detect_face,
    progress: Callable[[], None] = lambda: None,
) -> ClipFaces:
    """Read the faces of a video.

    Up to `spec.frames_per_clip` evenly spaced frames are wanted. If they lie close together, a
    tracker searches some of them and interpolates the boxes between (see `tracking`). A wanted
    frame without a face is replaced by the nearest frame with a face within half a step. If no
    frame within half a step has a face, the clip has one face fewer.

    Args:
        path: A video file.
        spec: Face size, margin, and number of frames.
        detect: Finds the box of a face; None takes each whole picture as a face.
        progress: Called after every packet, every decoded picture and every search.

    Returns:
        Up to `spec.frames_per_clip` faces.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
        OSError: The file cannot be read.
    """
    with VideoReader(path, progress=progress) as video:
        targets = spaced_indices(video.count, spec.frames_per_clip)
        spacing = video.count / len(targets)
        face_by_target: dict[int, np.ndarray] = {}
        for index, frame, box in track_boxes(video.frames(targets), detect, spacing, progress):
            if box is not None or detect is None:
                face_by_target[index] = _crop_or_resize(frame, box, spec)
        missing_targets = [index for index in targets if index not in face_by_target]
        if missing_targets:
            half_step = video.count / (2 * len(targets))
            face_by_target.update(
                _read_replacements(video, missing_targets, half_step, spec, detect, progress)
            )
    if not face_by_target:
        raise MediaError(f"{NO_FACE} in {len(targets)} frames and those around them")
    faces = np.stack([face_by_target[index] for index in targets if index in face_by_target])
    return ClipFaces(faces, len(targets), video.seconds, video.undecodable + video.missing)


def track_boxes(
    frames: Iterable[NumberedFrame],
    detect: Detector | None,
    spacing: float,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, Box | None]]:
    """Return an iterator over frames with their number and the box of the face.

    Args:
        frames: Numbers, ascending, and frames.
        detect: Finds the box of a face; without it, no frame has a box.
        spacing: Mean distance between the frames, in pictures of the video.
        progress: Called after every search.

    Returns:
        (number, frame, box) in the order of the frames; the box is in pixels, or None.
    """
    if detect is None:
        return ((index, frame, None) for index, frame in frames)
    step = int(SEARCH_STEP / spacing) if spacing <= MAX_TRACKED_SPACING else 1
    return track_face(frames, detect, step=step, progress=progress)


def _crop_or_resize(frame: Frame, box: Box | None, spec: Spec) -> np.ndarray:
    return resize_face(frame.rgb(), spec=spec) if box is None else crop_frame(frame, box, spec=spec)


def _read_replacements(
    video: VideoReader,
    missing_targets: Sequence[int],
    half_step: float,
    spec: Spec,
    detect: Detector | None,
    progress: Callable[[], None],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (target, face) from the frames around targets without a face.

    Up to `MAX_NEIGHBOURS` frames on each side within half a step are tried, the nearest first.
    """
    max_offset = int(np.ceil(half_step)) - 1
    offsets: list[int] = []
    if max_offset:
        spaced_offsets = np.linspace(1, max_offset, min(max_offset, MAX_NEIGHBOURS))
        offsets = sorted({round(offset) for offset in spaced_offsets})
    # Two targets share neighbours if the step is short.
    targets_by_neighbour: dict[int, list[int]] = {}
    for target in missing_targets:
        for offset in offsets:
            for index in (target - offset, target + offset):
                targets_by_neighbour.setdefault(index, []).append(target)
    neighbours_by_target: dict[int, list[tuple[int, Frame]]] = {}  # (distance, frame)

    def find_face(target: int) -> Iterator[tuple[int, np.ndarray]]:
        neighbours = neighbours_by_target.pop(target)
        for _, frame in sorted(neighbours, key=lambda neighbour: neighbour[0]):
            box = detect(frame.luma, None) if detect else None
            progress()
            if box is not None or detect is None:
                yield target, _crop_or_resize(frame, box, spec)
                return

    for index, frame in video.frames(targets_by_neighbour):
        complete_targets = [
            target for target in neighbours_by_target if target + max_offset < index
        ]
        for target in complete_targets:  # all neighbours of these targets have been read
            yield from find_face(target)
        for target in targets_by_neighbour[index]:
            neighbours_by_target.setdefault(target, []).append((abs(index - target), frame))
    for target in sorted(neighbours_by_target):
        yield from find_face(target)
