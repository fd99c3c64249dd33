"""Video or still -> the faces of all persons in it, and key frames, in messages as they come: what `watching` sends; no tensorflow."""

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.faces import detectors
from pipelines.faces.crops import crop_frame, resize_face, tracked_boxes
from pipelines.faces.detectors import Box, finder
from pipelines.faces.persons import UNSEEN_SECONDS, Persons, follow_faces
from pipelines.faces.tracking import ANCHOR_STEP
from pipelines.media import images
from pipelines.media.images import Frame
from pipelines.media.prefetch import ThreadProgress, read_ahead
from pipelines.media.video import VideoReader

ASSUMED_RATE_HZ = 25.0
"""Pictures a second of a file that does not tell; its times are then as good as this guess."""
LOOK_SECONDS = 1.0
"""How long at most from one search of the whole picture for further faces to the next."""
BLOCK_FACES = 64
"""The most faces of one message."""
JPEG_QUALITY = 85

Messages = Generator[dict[str, Any], None, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class View:
    """What is wanted of a video or still."""

    detector: str | None = "viola-jones"
    """None: each picture is a face."""
    faces_per_second: float = 4.0
    pictures: int = 0
    """How many key frames."""
    picture_width: int = 480
    """The widest that a key frame may be sent."""


@dataclasses.dataclass
class _Seen:
    """What is kept of a frame until its persons have numbers: not the frame."""

    seconds: float
    boxes: list[Box]
    crops: list[np.ndarray]
    picture: dict[str, Any] | None


def view_still(path: Path, *, spec: Spec, view: View) -> Messages:
    """Yield the faces of a still, the one that the build takes first, and return its facts; see `view_video`."""
    frame = Frame.of_rgb(images.read_still(path))
    boxes = [_whole(frame)] if view.detector is None else _faces_of(frame, view.detector)
    sender = _Sender()
    yield from sender.add(
        _seen(frame, 0.0, boxes, spec, view, is_key=view.pictures > 0), range(1, len(boxes) + 1)
    )
    yield from sender.rest()
    if not boxes:
        raise MediaError("no face found in the image")
    return {"seconds": 0.0, "looked_at": 1, "size": _size(frame), "undecodable": 0}


def view_video(
    path: Path, *, spec: Spec, view: View, progress: Callable[[], None] = lambda: None
) -> Messages:
    """Yield the faces of a video as they are found, with key frames, and return its facts.

    Wanted are `view.faces_per_second` evenly spaced frames, and no fewer than `spec.frames_per_clip`. A clip that this
    number is enough for gives the very faces that `crops.read_faces` does, but nothing in place of a frame without one.

    Args:
        path: A video.
        spec: Sizes and counts.
        view: What is wanted.
        progress: Called after every packet, every decoded picture and every search, by this thread alone.

    Yields:
        `{"visual": {"seconds", "face", "boxes", "faces"}, "at"}` of at most `BLOCK_FACES`, `{"pictures": [...]}`, and `{"at"}` where
        for long there was neither; see `stream_task.Watch`.

    Returns:
        `{"seconds", "looked_at", "size", "undecodable"}`, as `crops.FacesFound`; size: width and height in pixels.

    Raises:
        MediaError: The file cannot be decoded, or no face was found.
    """
    signs, sender, size = ThreadProgress(progress), _Sender(), None
    with VideoReader(path, progress=signs) as video:
        seconds = video.seconds or video.count / ASSUMED_RATE_HZ
        wanted = max(spec.frames_per_clip, math.ceil(round(seconds * view.faces_per_second, 6)))
        targets = spaced_indices(video.count, wanted)
        keys = (
            {targets[index] for index in spaced_indices(len(targets), view.pictures)}
            if view.pictures
            else set()
        )
        spacing_seconds = seconds / len(targets)
        persons = Persons(unseen_seconds=max(UNSEEN_SECONDS, 2.5 * spacing_seconds))
        quiet = 0  # frames without a face since something was told
        with closing(read_ahead(video.frames(targets), signs)) as frames:
            for number, frame, boxes in _boxes(
                frames, view.detector, video.count / len(targets), spacing_seconds, progress
            ):
                size = size or _size(frame)
                shown = video.seconds_of(number) if video.seconds else number / ASSUMED_RATE_HZ
                seen = _seen(frame, shown, boxes, spec, view, is_key=number in keys)
                for held, numbers in persons.add(seen.seconds, boxes, seen):
                    yield from sender.add(held, numbers)
                quiet = 0 if boxes else quiet + 1
                if quiet == BLOCK_FACES:
                    quiet = 0
                    yield {"at": shown}
        for held, numbers in persons.end():
            yield from sender.add(held, numbers)
        yield from sender.rest()
        if not sender.sent:
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
    frames, detector: str | None, spacing: float, spacing_seconds: float, progress
) -> Iterator[tuple[int, Frame, list[Box]]]:
    """Yield the frames with the boxes of all faces in each, the one that the build would take first."""
    if detector is None:
        return ((number, frame, [_whole(frame)]) for number, frame in frames)
    tracked = tracked_boxes(frames, detectors.detector(detector), spacing, progress)
    step = min(ANCHOR_STEP, max(1, int(LOOK_SECONDS / spacing_seconds)))
    return follow_faces(tracked, finder(detector), step=step, progress=progress)


def _faces_of(frame: Frame, detector: str) -> list[Box]:
    box = detectors.detector(detector)(frame.luma, None)
    boxes = [box] if box else []
    return boxes + finder(detector)(frame.luma, boxes)


def _whole(frame: Frame) -> Box:
    return (0, 0, *_size(frame))


def _size(frame: Frame) -> list[int]:
    height, width = frame.luma.shape
    return [width, height]


def _seen(
    frame: Frame, seconds: float, boxes: list[Box], spec: Spec, view: View, *, is_key: bool
) -> _Seen:
    as_is = view.detector is None
    crops = [
        resize_face(frame.rgb(), spec=spec) if as_is else crop_frame(frame, box, spec=spec)
        for box in boxes
    ]
    return _Seen(
        seconds, boxes, crops, _picture(frame, seconds, view.picture_width) if is_key else None
    )


def _picture(frame: Frame, seconds: float, most_width: int) -> dict[str, Any]:
    """Return a key frame as a JPEG of at most that width."""
    rgb, (width, height) = np.ascontiguousarray(frame.rgb()), _size(frame)
    if width > most_width:
        rgb = cv2.resize(
            rgb,
            (most_width, max(1, round(height * most_width / width))),
            interpolation=cv2.INTER_AREA,
        )
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY)
    )
    return {"seconds": seconds, "jpeg": encoded.tobytes(), "size": [width, height]}


class _Sender:
    """Makes messages of what was seen."""

    def __init__(self):
        self._rows: list[tuple[float, int, Box, np.ndarray]] = []
        self.sent = 0
        """How many faces."""

    def add(self, seen: _Seen, numbers) -> Iterator[dict[str, Any]]:
        named = [(number, index) for index, number in enumerate(numbers) if number is not None]
        for number, index in named:
            self._rows.append((seen.seconds, number, seen.boxes[index], seen.crops[index]))
            if len(self._rows) == BLOCK_FACES:
                yield from self.rest()
        if seen.picture is not None:
            yield {
                "pictures": [
                    seen.picture
                    | {"boxes": [[number, *seen.boxes[index]] for number, index in named]}
                ]
            }

    def rest(self) -> Iterator[dict[str, Any]]:
        """Yield what does not fill a message yet."""
        if not self._rows:
            return
        seconds, numbers, boxes, crops = zip(*self._rows, strict=True)
        self._rows = []
        self.sent += len(crops)
        block = {
            "seconds": np.array(seconds, np.float64),
            "face": np.array(numbers, np.int64),
            "boxes": np.array(boxes, np.int64),
        }
        yield {"visual": block | {"faces": np.stack(crops)}, "at": float(seconds[-1])}
