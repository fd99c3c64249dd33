"""Read the faces of all persons in a video or a still picture, and key frames, as messages."""

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
from pipelines.faces import detectors
from pipelines.faces.crops import crop_frame, resize_face, tracked_boxes
from pipelines.faces.detectors import Box, load_finder
from pipelines.faces.persons import MAX_UNSEEN_SECONDS, PersonNumbers, follow_faces
from pipelines.faces.tracking import ANCHOR_STEP, NumberedFrame
from pipelines.media import images
from pipelines.media.images import Frame
from pipelines.media.prefetch import ThreadProgress, read_ahead
from pipelines.media.video import VideoReader

ASSUMED_RATE_HZ = 25.0
"""The assumed frame rate of a file that tells none, whose times are then only estimates."""
MAX_SEARCH_STEP_SECONDS = 1.0
"""The longest time between two searches of the whole picture for further faces."""
MAX_FACES_PER_MESSAGE = 64
JPEG_QUALITY = 85

Messages = Generator[dict[str, Any], None, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """What to read from a video or a still picture.

    Attributes:
        detector: A name of `detectors.DETECTORS`; None: each picture is a face.
        faces_per_second: The number of frames per second that are searched.
        pictures: The number of key frames.
        picture_width: The largest width of a key frame in pixels.
    """

    detector: str | None = "viola-jones"
    faces_per_second: float = 4.0
    pictures: int = 0
    picture_width: int = 480


@dataclasses.dataclass
class _SearchedFrame:
    """The data of a frame that is kept until its persons have numbers."""

    seconds: float
    boxes: list[Box]
    crops: list[np.ndarray]
    key_frame: dict[str, Any] | None


def view_still(path: Path, *, spec: Spec, view: ViewOptions) -> Messages:
    """Yield the faces of a still picture, and return its facts; see `view_video`.

    The face that a build takes comes first.
    """
    frame = Frame.of_rgb(images.read_still(path))
    boxes = [_whole_box(frame)] if view.detector is None else _all_boxes(frame, view.detector)
    messages = _MessageQueue()
    searched = _searched_frame(frame, 0.0, boxes, spec, view, is_key=view.pictures > 0)
    yield from messages.add(searched, range(1, len(boxes) + 1))
    yield from messages.flush()
    if not boxes:
        raise MediaError("no face found in the image")
    return {"seconds": 0.0, "looked_at": 1, "size": _size(frame), "undecodable": 0}


def view_video(
    path: Path, *, spec: Spec, view: ViewOptions, progress: Callable[[], None] = lambda: None
) -> Messages:
    """Yield the faces of a video in the order of time, with key frames, and return its facts.

    The function looks at `view.faces_per_second` evenly spaced frames, but no fewer than
    `spec.frames_per_clip`. For a short clip that number is enough; its faces are then those of
    `crops.read_faces`, without substitutes for frames that have no face.

    Args:
        path: A video.
        spec: The margin, the size of a face and the number of frames.
        view: What to read.
        progress: Called after every packet, every decoded picture and every search, in this thread.

    Yields:
        `{"visual": {"seconds", "face", "boxes", "faces"}, "at"}` with no more than
        `MAX_FACES_PER_MESSAGE` faces, `{"pictures": [...]}`, and `{"at"}` where no face was found
        for a long time; see `stream_task.StreamTask`.

    Returns:
        `{"seconds", "looked_at", "size", "undecodable"}` as in `crops.ClipFaces`, where `size` is
        the width and the height in pixels.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
    """
    thread_progress, messages, size = ThreadProgress(progress), _MessageQueue(), None
    with VideoReader(path, progress=thread_progress) as video:
        seconds = video.seconds or video.count / ASSUMED_RATE_HZ
        wanted = max(spec.frames_per_clip, math.ceil(round(seconds * view.faces_per_second, 6)))
        targets = spaced_indices(video.count, wanted)
        keys = (
            {targets[index] for index in spaced_indices(len(targets), view.pictures)}
            if view.pictures
            else set()
        )
        spacing_seconds = seconds / len(targets)
        persons = PersonNumbers(max_unseen_seconds=max(MAX_UNSEEN_SECONDS, 2.5 * spacing_seconds))
        frames_without_face = 0  # since the last message
        with closing(read_ahead(video.frames(targets), thread_progress)) as frames:
            for number, frame, boxes in _boxes(
                frames, view.detector, video.count / len(targets), spacing_seconds, progress
            ):
                size = size or _size(frame)
                shown = video.seconds_of(number) if video.seconds else number / ASSUMED_RATE_HZ
                searched = _searched_frame(frame, shown, boxes, spec, view, is_key=number in keys)
                for numbered, numbers in persons.add(shown, boxes, searched):
                    yield from messages.add(numbered, numbers)
                frames_without_face = 0 if boxes else frames_without_face + 1
                if frames_without_face == MAX_FACES_PER_MESSAGE:
                    frames_without_face = 0
                    yield {"at": shown}
        for numbered, numbers in persons.finish():
            yield from messages.add(numbered, numbers)
        yield from messages.flush()
        if not messages.face_count:
            raise MediaError(
                f"no face found in {len(targets)} frames"
                if size
                else f"none of {len(targets)} frames could be decoded"
            )
        return {
            "seconds": seconds,
            "looked_at": len(targets),
            "size": size,
            "undecodable": video.undecodable + video.missing,
        }


def _boxes(
    frames: Iterable[NumberedFrame],
    detector: str | None,
    spacing: float,
    spacing_seconds: float,
    progress: Callable[[], None],
) -> Iterator[tuple[int, Frame, list[Box]]]:
    """Yield each frame with the boxes of all its faces; the face that a build takes comes first."""
    if detector is None:
        return ((number, frame, [_whole_box(frame)]) for number, frame in frames)
    tracked = tracked_boxes(frames, detectors.load_detector(detector), spacing, progress)
    step = min(ANCHOR_STEP, max(1, int(MAX_SEARCH_STEP_SECONDS / spacing_seconds)))
    return follow_faces(tracked, load_finder(detector), step=step, progress=progress)


def _all_boxes(frame: Frame, detector: str) -> list[Box]:
    box = detectors.load_detector(detector)(frame.luma, None)
    boxes = [box] if box else []
    return boxes + load_finder(detector)(frame.luma, boxes)


def _whole_box(frame: Frame) -> Box:
    return (0, 0, *_size(frame))


def _size(frame: Frame) -> list[int]:
    height, width = frame.luma.shape
    return [width, height]


def _searched_frame(
    frame: Frame, seconds: float, boxes: list[Box], spec: Spec, view: ViewOptions, *, is_key: bool
) -> _SearchedFrame:
    is_face = view.detector is None
    crops = [
        resize_face(frame.rgb(), spec=spec) if is_face else crop_frame(frame, box, spec=spec)
        for box in boxes
    ]
    key_frame = _encoded_key_frame(frame, seconds, view.picture_width) if is_key else None
    return _SearchedFrame(seconds, boxes, crops, key_frame)


def _encoded_key_frame(frame: Frame, seconds: float, max_width: int) -> dict[str, Any]:
    """Return a key frame as a JPEG that is no wider than `max_width` pixels."""
    rgb, (width, height) = np.ascontiguousarray(frame.rgb()), _size(frame)
    if width > max_width:
        rgb = cv2.resize(
            rgb,
            (max_width, max(1, round(height * max_width / width))),
            interpolation=cv2.INTER_AREA,
        )
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    )
    return {"seconds": seconds, "jpeg": encoded.tobytes(), "size": [width, height]}


class _MessageQueue:
    """Collects faces and makes messages of them.

    Attributes:
        face_count: The number of faces in the messages so far.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[float, int, Box, np.ndarray]] = []
        self.face_count = 0

    def add(
        self, searched: _SearchedFrame, numbers: Sequence[int | None]
    ) -> Iterator[dict[str, Any]]:
        """Add the faces of a frame, and yield the messages that are full."""
        numbered = [(number, index) for index, number in enumerate(numbers) if number is not None]
        for number, index in numbered:
            self._rows.append(
                (searched.seconds, number, searched.boxes[index], searched.crops[index])
            )
            if len(self._rows) == MAX_FACES_PER_MESSAGE:
                yield from self.flush()
        if searched.key_frame is not None:
            boxes = [[number, *searched.boxes[index]] for number, index in numbered]
            yield {"pictures": [searched.key_frame | {"boxes": boxes}]}

    def flush(self) -> Iterator[dict[str, Any]]:
        """Yield a message with the remaining faces."""
        if not self._rows:
            return
        seconds, numbers, boxes, crops = zip(*self._rows, strict=True)
        self._rows = []
        self.face_count += len(crops)
        block = {
            "seconds": np.array(seconds, np.float64),
            "face": np.array(numbers, np.int64),
            "boxes": np.array(boxes, np.int64),
        }
        yield {"visual": block | {"faces": np.stack(crops)}, "at": float(seconds[-1])}
