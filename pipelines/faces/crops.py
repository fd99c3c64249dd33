"""Crop 64x64x3 faces from a video or a still picture, with a detector and a tracked box."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.faces.detectors import Box, Detector, detect_face
from pipelines.faces.tracking import ANCHOR_STEP, NumberedFrame, track_face
from pipelines.media import images
from pipelines.media.images import Frame
from pipelines.media.video import VideoReader

NO_FACE = "no face found"
"""The start of the error of a clip that decodes and has no face. A corpus report counts these."""
MAX_NEIGHBOURS = 8
"""The most frames on each side that are tried in place of a frame without a face."""
MAX_TRACKED_SPACING = 8
"""Wanted frames that are farther apart are all searched.

Within a third of a second a person can turn away and back.
"""


def crop_face(rgb: np.ndarray, box: Box, *, spec: Spec = Spec()) -> np.ndarray:
    """Cut a box with the margin of `spec` out of a picture and resize it.

    Pixels outside the picture repeat its border.

    Args:
        rgb: uint8 [height, width, 3].
        box: The box of the face.
        spec: The margin and the size of a face.

    Returns:
        uint8 [face_size, face_size, 3].
    """
    return _crop(
        lambda top, bottom, left, right: rgb[top:bottom, left:right], rgb.shape[:2], box, spec
    )


def crop_frame(frame: Frame, box: Box, *, spec: Spec = Spec()) -> np.ndarray:
    """Return `crop_face(frame.rgb(), box)`, but convert only the part in the crop to colour."""
    return _crop(frame.cut, frame.luma.shape, box, spec)


def _crop(
    cut: Callable[[int, int, int, int], np.ndarray], shape: tuple[int, int], box: Box, spec: Spec
) -> np.ndarray:
    left, top, width, height = box
    side = round(max(width, height) * (1 + 2 * spec.face_margin))
    x, y = left + width // 2 - side // 2, top + height // 2 - side // 2
    rows, columns = shape
    inside = cut(max(0, y), min(rows, y + side), max(0, x), min(columns, x + side))
    borders = (max(0, -y), max(0, y + side - rows), max(0, -x), max(0, x + side - columns))
    if any(borders):
        inside = cv2.copyMakeBorder(inside, *borders, cv2.BORDER_REPLICATE)
    return resize_face(inside, spec=spec)


def resize_face(rgb: np.ndarray, *, spec: Spec = Spec()) -> np.ndarray:
    """Resize a picture to [face_size, face_size, 3], by area or, if it grows, bilinearly."""
    shrinks = min(rgb.shape[:2]) > spec.face_size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(
        np.ascontiguousarray(rgb), (spec.face_size, spec.face_size), interpolation=method
    )


@dataclasses.dataclass(frozen=True)
class ClipFaces:
    """The faces of a clip.

    Attributes:
        faces: uint8 [faces, face_size, face_size, 3], in the order of time.
        looked_at: The number of evenly spaced frames in which a face was wanted.
        seconds: The duration of the clip; 0 for a still picture.
        undecodable: The number of pictures that did not decode, plus those that the header promises
            and the file does not hold. Pictures count that were wanted, tried in place of a wanted
            one, or refused by the decoder before a wanted one.
    """

    faces: np.ndarray
    looked_at: int
    seconds: float = 0.0
    undecodable: int = 0


def read_still_face(
    path: Path, *, spec: Spec = Spec(), detect: Detector | None = detect_face
) -> ClipFaces:
    """Read the face of a still picture.

    Args:
        path: A picture.
        spec: The margin and the size of a face.
        detect: Finds the box of the face; None takes the whole picture as the face.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
    """
    frame = Frame.of_rgb(images.read_still(path))
    box = detect(frame.luma, None) if detect else None
    if detect and box is None:
        raise MediaError(
            f"{NO_FACE} in the image; if the images are faces already, use --faces as-is"
        )
    return ClipFaces(_face(frame, box, spec)[None], 1)


def read_faces(
    path: Path,
    *,
    spec: Spec = Spec(),
    detect: Detector | None = detect_face,
    progress: Callable[[], None] = lambda: None,
) -> ClipFaces:
    """Read the faces of a video clip.

    The function looks at no more than `spec.frames_per_clip` evenly spaced frames. Where these are
    close to each other, it searches some of them and tracks the face between them (`tracking`). A
    frame without a face is replaced by the nearest frame with a face within half a step. Where no
    such frame exists, the clip has one face fewer.

    Args:
        path: A video.
        spec: The margin, the size of a face and the number of frames.
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
                _substitutes(
                    video, missing, video.count / (2 * len(targets)), spec, detect, progress
                )
            )
    if not found:
        raise MediaError(f"{NO_FACE} in {len(targets)} frames and those around them")
    faces = np.stack([found[index] for index in targets if index in found])
    return ClipFaces(faces, len(targets), video.seconds, video.undecodable + video.missing)


def tracked_boxes(
    frames: Iterable[NumberedFrame],
    detect: Detector | None,
    spacing: float,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, Box | None]]:
    """Yield the number, the frame and the box of each frame; the box is None where no face is.

    Args:
        frames: Numbered frames, `spacing` pictures apart.
        detect: Finds the box of a face; without a detector no frame has a box.
        spacing: The distance between the frames, in pictures.
        progress: Called after every search.
    """
    if detect is None:
        return ((index, frame, None) for index, frame in frames)
    step = int(ANCHOR_STEP / spacing)
    return track_face(
        frames, detect, step=step if spacing <= MAX_TRACKED_SPACING else 1, progress=progress
    )


def _face(frame: Frame, box: Box | None, spec: Spec) -> np.ndarray:
    return resize_face(frame.rgb(), spec=spec) if box is None else crop_frame(frame, box, spec=spec)


def _substitutes(
    video: VideoReader,
    missing: list[int],
    half_step: float,
    spec: Spec,
    detect: Detector | None,
    progress: Callable[[], None],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the target and the nearest face for each target that has a face within half a step.

    On each side of a target up to `MAX_NEIGHBOURS` frames are tried, the nearest first.
    """
    reach = int(np.ceil(half_step)) - 1
    offsets = (
        sorted({round(offset) for offset in np.linspace(1, reach, min(reach, MAX_NEIGHBOURS))})
        if reach
        else []
    )
    targets_of: dict[int, list[int]] = {}  # one frame can be near several targets
    for target in missing:
        for offset in offsets:
            for index in (target - offset, target + offset):
                targets_of.setdefault(index, []).append(target)
    neighbours: dict[int, list[tuple[int, Frame]]] = {}  # target -> (distance, frame)
    for index, frame in video.frames(targets_of):
        # All frames near these targets have been read.
        for target in [target for target in neighbours if target + reach < index]:
            yield from _nearest(target, neighbours.pop(target), spec, detect, progress)
        for target in targets_of[index]:
            neighbours.setdefault(target, []).append((abs(index - target), frame))
    for target in sorted(neighbours):
        yield from _nearest(target, neighbours[target], spec, detect, progress)


def _nearest(
    target: int,
    neighbours: list[tuple[int, Frame]],
    spec: Spec,
    detect: Detector | None,
    progress: Callable[[], None],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the target and the face of its nearest neighbour with a face, if any."""
    for _, frame in sorted(neighbours, key=lambda neighbour: neighbour[0]):
        box = detect(frame.luma, None) if detect else None
        progress()
        if box is not None or detect is None:
            yield target, _face(frame, box, spec)
            return
