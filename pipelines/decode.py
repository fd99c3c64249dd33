"""Media file -> pictures, by PyAV (video) and OpenCV (stills); no tensorflow. Sound is read by `pipelines.sound`."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np

av.logging.set_level(av.logging.PANIC)


class MediaError(ValueError):
    """A media file that cannot be used; the message is the reason that its quarantine row gives."""


class Frame:
    """One decoded picture; colour is converted only when asked for."""

    def __init__(self, luma: np.ndarray, rgb: Callable[[], np.ndarray]):
        self.luma = luma
        """uint8 [height, width]: what faces are looked for in."""
        self.rgb = rgb
        """Call it for uint8 [height, width, 3]."""

    @classmethod
    def of_rgb(cls, rgb: np.ndarray) -> "Frame":
        """Make a frame of a picture that is in colour already, uint8 [height, width, 3]."""
        return cls(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), lambda: rgb)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; raises OSError, for a pipe or device too, which might never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_still(path: Path) -> np.ndarray:
    """Read a still image as uint8 [height, width, 3] RGB, by OpenCV.

    Raises:
        MediaError: The file is empty or no image that OpenCV decodes.
    """
    encoded = np.fromfile(path, dtype=np.uint8)
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    if image is None:
        raise MediaError(f"not an image that can be decoded ({encoded.size} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def open_media(path: Path):
    """Open a media file; raises MediaError when it is none."""
    if path.stat().st_size == 0:
        raise MediaError("empty file (0 bytes)")
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"not a media file that can be opened ({reason(error)})") from error


def reason(error: Exception) -> str:
    """Return what a library says of its error, in a few words."""
    return getattr(error, "strerror", None) or str(error)


def count_frames(path: Path) -> tuple[int, float]:
    """Return how many coded pictures the first video stream holds, and for how many seconds, by demuxing alone.

    Raises:
        MediaError: The file cannot be opened or has no picture.
    """
    with open_media(path) as container:
        if not container.streams.video:
            raise MediaError("no video stream")
        stream = container.streams.video[0]
        try:
            count = sum(1 for packet in container.demux(stream) if packet.size)
            rate_hz = float(stream.average_rate or stream.guessed_rate or 0)
        except av.FFmpegError as error:
            raise MediaError(f"video stream cannot be read ({reason(error)})") from error
    if not count:
        raise MediaError("video stream without a picture")
    return count, count / rate_hz if rate_hz else 0.0


def read_frames(path: Path, wanted: Iterable[int], *, progress: Callable[[], None] = lambda: None) -> Iterator[tuple[int, Frame]]:
    """Yield (index, frame) of the first video stream for the wanted indices, in rising order, reading straight on.

    Pictures that cannot be decoded are left out, so fewer may come than were asked for.

    Args:
        path: A video file.
        wanted: Indices of pictures in the order of presentation, from 0.
        progress: Called after every decoded picture.

    Raises:
        MediaError: The file cannot be opened or has no video stream.
    """
    wanted = sorted(set(wanted))
    with open_media(path) as container:
        if not container.streams.video:
            raise MediaError("no video stream")
        container.streams.video[0].thread_type = "NONE"
        next_wanted = iter(wanted)
        target = next(next_wanted, None)
        for index, picture in enumerate(decoded(container, container.streams.video[0])):
            if target is None:
                return
            progress()
            if index == target:
                yield index, _upright(picture)
                target = next(next_wanted, None)


def _upright(picture) -> Frame:
    """Return the frame as it is to be shown: a phone that was held upright films sideways and says so."""
    turns = round(picture.rotation / 90) % 4  # counter-clockwise
    return Frame(np.rot90(_luma(picture), turns), lambda: np.rot90(picture.to_ndarray(format="rgb24"), turns))


def _luma(picture) -> np.ndarray:
    if picture.format.name.startswith(("yuv4", "yuvj4", "nv12", "gray")) and picture.format.components[0].bits == 8:
        plane = picture.planes[0]  # [height, line_size]; the lines are padded
        lines = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        return lines[:, : plane.width]
    return picture.to_ndarray(format="gray")


def decoded(container, stream) -> Iterator:
    """Yield what decodes of a stream, passing over packets that do not."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError:
                continue
    except av.FFmpegError:  # a truncated container: what came before it is good
        return
