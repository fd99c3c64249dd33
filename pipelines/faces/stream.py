"""Stream the faces of all persons in a video or still image, with key frames, as messages."""

import dataclasses
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.faces.crops import NO_FACE, crop_frame, resize_face, track_boxes
from pipelines.faces.detectors import Box, load_detector, load_finder
from pipelines.faces.persons import UNSEEN_SECONDS, PersonTracker, follow_faces
from pipelines.faces.tracking import SEARCH_STEP, NumberedFrame
from pipelines.media import images
from pipelines.media.images import Frame
from pipelines.media.prefetch import ThreadProgress, read_ahead
from pipelines.media.video import VideoReader

DEFAULT_RATE_HZ = 25.0
"""Assumed pictures per second of a file without a rate; its times are then only approximate."""
MAX_SEARCH_SECONDS = 1.0
"""Maximum time from one search of the whole picture for other faces to the next."""
MAX_MESSAGE_FACES = 64
"""Maximum number of faces in a message."""
JPEG_QUALITY = 85

FaceMessages = Generator[dict[str, Any], None, dict[str, Any]]
"""Yields messages and returns the facts of the clip."""


@dataclasses.dataclass(frozen=True)
class FaceStreamOptions:
    """Which faces and key frames of a video or still image to stream."""

    detector: str | None = "viola-jones"
    """A name of `detectors.DETECTORS`; None: each picture is a face."""
    faces_per_second: float = 4.0
    """Frames of a video in which faces are searched, per second."""
    pictures: int = 0
    """Number of key frames."""
    picture_width: int = 480
    """Maximum width of a key frame's JPEG, in pixels."""


@dataclasses.dataclass(frozen=True)
class _FrameFaces:
    """The data of a frame until its persons have numbers; the frame itself is not held."""

    seconds: float
    boxes: list[Box]
    crops: list[np.ndarray]
    key_picture: dict[str, Any] | None


def stream_still(path: Path, *, spec: Spec, options: FaceStreamOptions) -> FaceMessages:
    """Yield the faces of a still image, and return its facts.

    The first face is the face that `crops.read_still_face` reads.

    Args:
        path: A JPEG, PNG, BMP or WebP file.
        spec: Face size and margin.
        options: Which faces and key frames to stream.

    Yields:
        Messages as in `stream_video`, with faces and at most one key frame at 0 seconds.

    Returns:
        `{"seconds", "looked_at", "size", "undecodable"}` as in `stream_video`.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
        InputError: The detector is not known or not installed.
    """
    frame = Frame.of_rgb(images.read_still(path))
    boxes = _find_still_boxes(frame, options.detector)
    frame_faces = _crop_faces(frame, 0.0, boxes, spec, options, is_key=options.pictures > 0)
    blocks = _MessageBlocks()
    yield from blocks.add(frame_faces, range(1, len(boxes) + 1))
    yield from blocks.flush()
    if not boxes:
        raise MediaError(f"{NO_FACE} in the image")
    return {"seconds": 0.0, "looked_at": 1, "size": _frame_size(frame), "undecodable": 0}


def stream_video(
    path: Path,
    *,
    spec: Spec,
    options: FaceStreamOptions,
    progress: Callable[[], None] = lambda: None,
) -> FaceMessages:
    """Yield the faces of a video as they are found, with key frames, and return its facts.

    `options.faces_per_second` evenly spaced frames are wanted, and at least `spec.frames_per_clip`.
    If a clip has exactly `spec.frames_per_clip` wanted frames, the first faces equal the faces of
    `crops.read_faces`, except that a frame without a face is not replaced.

    Args:
        path: A video file.
        spec: Face size, margin, and minimum number of frames.
        options: Which faces and key frames to stream.
        progress: Called after every packet, every decoded picture and every search, by the calling
            thread alone.

    Yields:
        `{"visual": {"seconds", "face", "boxes", "faces"}, "at"}` with at most `MAX_MESSAGE_FACES`
        faces, `{"pictures": [...]}`, and `{"at"}` after many frames without a face. See
        `pipelines.workers.stream_task.StreamTask`.

    Returns:
        `{"seconds", "looked_at", "size", "undecodable"}` as in `crops.ClipFaces`; size is the width
        and height in pixels.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
        InputError: The detector is not known or not installed.
        OSError: The file cannot be read.
    """
    relay = ThreadProgress(progress)
    blocks = _MessageBlocks()
    size: list[int] | None = None
    with VideoReader(path, progress=relay) as video:
        seconds = video.seconds or video.count / DEFAULT_RATE_HZ
        n_wanted = max(
            spec.frames_per_clip, math.ceil(round(seconds * options.faces_per_second, 6))
        )
        targets = spaced_indices(video.count, n_wanted)
        key_numbers: set[int] = set()
        if options.pictures:
            key_numbers = {
                targets[index] for index in spaced_indices(len(targets), options.pictures)
            }
        spacing_seconds = seconds / len(targets)
        persons = PersonTracker(unseen_seconds=max(UNSEEN_SECONDS, 2.5 * spacing_seconds))
        n_frames_without_face = 0  # since the last message about the time
        with closing(read_ahead(video.frames(targets), relay)) as frames:
            for number, frame, boxes in _find_boxes(
                frames, options.detector, video.count / len(targets), spacing_seconds, progress
            ):
                size = size or _frame_size(frame)
                frame_seconds = (
                    video.seconds_of(number) if video.seconds else number / DEFAULT_RATE_HZ
                )
                frame_faces = _crop_faces(
                    frame, frame_seconds, boxes, spec, options, is_key=number in key_numbers
                )
                for certain_faces, numbers in persons.add(frame_seconds, boxes, frame_faces):
                    yield from blocks.add(certain_faces, numbers)
                n_frames_without_face = 0 if boxes else n_frames_without_face + 1
                if n_frames_without_face == MAX_MESSAGE_FACES:
                    n_frames_without_face = 0
                    yield {"at": frame_seconds}
        for certain_faces, numbers in persons.finish():
            yield from blocks.add(certain_faces, numbers)
        yield from blocks.flush()
        if size is None:
            raise MediaError(f"none of {len(targets)} frames could be decoded")
        if not blocks.n_faces:
            raise MediaError(f"{NO_FACE} in {len(targets)} frames")
        return {
            "seconds": seconds,
            "looked_at": len(targets),
            "size": size,
            "undecodable": video.undecodable + video.missing,
        }


def _find_boxes(
    frames: Iterable[NumberedFrame],
    detector_name: str | None,
    spacing: float,
    spacing_seconds: float,
    progress: Callable[[], None],
) -> Iterator[tuple[int, Frame, list[Box]]]:
    """Return an iterator over (number, frame, boxes); the main face's box comes first.

    Args:
        frames: Numbers, ascending, and frames.
        detector_name: A name of `DETECTORS`; None: each picture is a face.
        spacing: Mean distance between the frames, in pictures of the video.
        spacing_seconds: Mean distance between the frames, in seconds.
        progress: Called after every search.
    """
    if detector_name is None:
        return ((number, frame, [_whole_box(frame)]) for number, frame in frames)
    tracked_frames = track_boxes(frames, load_detector(detector_name), spacing, progress)
    step = min(SEARCH_STEP, max(1, int(MAX_SEARCH_SECONDS / spacing_seconds)))
    return follow_faces(tracked_frames, load_finder(detector_name), step=step, progress=progress)


def _find_still_boxes(frame: Frame, detector_name: str | None) -> list[Box]:
    if detector_name is None:
        return [_whole_box(frame)]
    main_box = load_detector(detector_name)(frame.luma, None)
    boxes = [main_box] if main_box else []
    return boxes + load_finder(detector_name)(frame.luma, boxes)


def _whole_box(frame: Frame) -> Box:
    width, height = _frame_size(frame)
    return (0, 0, width, height)


def _frame_size(frame: Frame) -> list[int]:
    height, width = frame.luma.shape
    return [width, height]


def _crop_faces(
    frame: Frame,
    seconds: float,
    boxes: list[Box],
    spec: Spec,
    options: FaceStreamOptions,
    *,
    is_key: bool,
) -> _FrameFaces:
    if options.detector is None:
        crops = [resize_face(frame.rgb(), spec=spec) for _ in boxes]
    else:
        crops = [crop_frame(frame, box, spec=spec) for box in boxes]
    key_picture = _encode_key_picture(frame, seconds, options.picture_width) if is_key else None
    return _FrameFaces(seconds, boxes, crops, key_picture)


def _encode_key_picture(frame: Frame, seconds: float, max_width: int) -> dict[str, Any]:
    """Return a key frame as a JPEG of at most the maximum width, with its time and full size."""
    rgb = np.ascontiguousarray(frame.rgb())
    width, height = _frame_size(frame)
    if width > max_width:
        small_size = (max_width, max(1, round(height * max_width / width)))
        rgb = cv2.resize(rgb, small_size, interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return {"seconds": seconds, "jpeg": encoded.tobytes(), "size": [width, height]}


class _MessageBlocks:
    """Collect faces into messages of at most `MAX_MESSAGE_FACES` faces.

    Attributes:
        n_faces: Number of faces in the messages so far.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[float, int, Box, np.ndarray]] = []
        self.n_faces = 0

    def add(
        self, frame_faces: _FrameFaces, numbers: Sequence[int | None]
    ) -> Iterator[dict[str, Any]]:
        """Add the faces of persons with a number, and yield full messages and key frames."""
        key_boxes: list[list[int]] = []
        for number, box, crop in zip(numbers, frame_faces.boxes, frame_faces.crops, strict=True):
            if number is None:
                continue
            key_boxes.append([number, *box])
            self._rows.append((frame_faces.seconds, number, box, crop))
            if len(self._rows) == MAX_MESSAGE_FACES:
                yield from self.flush()
        if frame_faces.key_picture is not None:
            yield {"pictures": [frame_faces.key_picture | {"boxes": key_boxes}]}

    def flush(self) -> Iterator[dict[str, Any]]:
        """Yield a message with the remaining faces, if any."""
        if not self._rows:
            return
        seconds, numbers, boxes, crops = zip(*self._rows, strict=True)
        self._rows = []
        self.n_faces += len(crops)
        faces = {
            "seconds": np.array(seconds, np.float64),
            "face": np.array(numbers, np.int64),
            "boxes": np.array(boxes, np.int64),
            "faces": np.stack(crops),
        }
        yield {"visual": faces, "at": float(seconds[-1])}
