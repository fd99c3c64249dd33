"""Write a video with boxes, names and bars drawn into it: MP4 with H.264 and the original sound.

Each picture goes from the decoder through the drawing to the encoder, so the memory does not grow
with the length of the video.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange

from pipelines.core.errors import InputError, MediaError, StorageError
from pipelines.core.files import atomic_path
from pipelines.core.spec import Spec
from pipelines.media.images import library_message
from pipelines.media.video import decoded_packet, opened_video, plane_pixels
from pipelines.overlay.drawing import BarDrawing, BoxDrawing, Canvas
from pipelines.overlay.soundtrack import Soundtrack
from pipelines.workers.record_task import entry_or_error

ENCODING_OPTIONS = {"preset": "veryfast", "crf": "20", "x264-params": "mbtree=0"}
"""The options of x264. With `mbtree`, small pictures give other bytes in other processes."""
ENCODER_THREADS = 4
"""A fixed number, because the bytes depend on it."""
ASSUMED_RATE_HZ = 25
"""The assumed frame rate of a file that tells none."""
PICTURES_PER_MESSAGE = 100
MAX_WAITING_BYTES = 2**26
"""The most sound that is kept before the first picture."""

Facts = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class OverlayTask:
    """One video to draw into, a task of `pool.WorkerPool`.

    Attributes:
        path: The video.
        out: The MP4 file to write; an existing file is replaced.
        captions: `{"faces": {number: {"seconds", "boxes", "texts"}}, "bars": [{"title", "seconds",
            "labels", "values"}]}`. The times are seconds after the first picture and rise. A box
            has left, top, width and height in pixels of the upright picture.
        domains: The entry of the messages that reports a crash.
    """

    path: Path
    out: Path
    captions: Mapping[str, Any]
    domains: tuple[str, ...] = ("overlay",)

    def read(
        self, spec: Spec = Spec(), *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Write the video.

        Yields:
            Messages of progress, `{"more": True, "overlay": {"pictures", "seconds"}}`. The last
            message has `more` unset and holds `{"pictures", "seconds", "undecodable", "size",
            "sound"}`, where `sound` is "copied", "transcoded" or "none". After an error it holds
            `{"error": reason}`, and no file was written.
        """
        messages = write_overlay(self.path, self.out, captions=self.captions, progress=progress)

        def advance() -> dict[str, Any]:
            try:
                return {"message": next(messages)}
            except StopIteration as end:
                return {"facts": end.value}

        with contextlib.closing(messages):
            while "message" in (step := entry_or_error(advance)):
                yield {"more": True, "overlay": step["message"]}
        yield {"more": False, "overlay": step.get("facts", step)}


def write_overlay(
    path: Path,
    out: Path,
    *,
    captions: Mapping[str, Any],
    progress: Callable[[], None] = lambda: None,
) -> Generator[Facts, None, Facts]:
    """Write a video with captions, atomically.

    Each picture that decodes keeps its time. The sound is copied where MP4 accepts its codec, and
    otherwise becomes AAC.

    Args:
        path: A video.
        out: Another file.
        captions: See `OverlayTask.captions`.
        progress: Called after every packet and every picture.

    Yields:
        The progress in the messages of `OverlayTask.read`.

    Returns:
        The facts in the last message of `OverlayTask.read`.

    Raises:
        MediaError: The video cannot be read, has no pictures (a sound file), or cannot be encoded.
        InputError: `out` is the video itself.
        StorageError: `out` cannot be written.
    """
    _check_paths(path, out)
    try:
        with atomic_path(out) as temporary, opened_video(path) as (container, stream):
            writer = _Writer(temporary, container, stream, captions)
            try:
                yield from _pictures(container, stream, writer, progress)
                facts = writer.close()
            finally:
                writer.abandon()
    except OSError as error:
        raise StorageError(f"{out} cannot be written ({library_message(error)})") from error
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise MediaError(f"the video cannot be encoded ({library_message(error)})") from error
    return facts


def _check_paths(path: Path, out: Path) -> None:
    try:
        path.stat()
    except OSError as error:
        raise MediaError(f"cannot be read ({error.strerror})") from error
    if out.exists() and out.samefile(path):
        raise InputError("the video would replace the clip that it is made of; name another file")


def _pictures(
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    writer: "_Writer",
    progress: Callable[[], None],
) -> Iterator[Facts]:
    """Give all pictures and all sound to the writer, and yield the progress."""
    context, count = stream.codec_context, 0
    for packet in _packets(container, writer.streams, writer):
        progress()
        if packet is not None and packet.stream is not stream:
            writer.add_sound(packet)
            continue
        pictures = decoded_packet(context, packet)
        writer.undecodable += pictures is None
        for picture in pictures or ():
            writer.add(picture)
            count += 1
            progress()
            if count % PICTURES_PER_MESSAGE == 0:
                yield {"pictures": count, "seconds": writer.seconds}


def _packets(
    container: av.container.InputContainer, streams: list[av.stream.Stream], writer: "_Writer"
) -> Iterator[av.Packet | None]:
    """Yield the packets of the streams that are not empty, then None."""
    try:
        yield from (packet for packet in container.demux(streams) if packet.size)
    except av.FFmpegError:  # The container is truncated. The packets before that are good.
        writer.undecodable += 1
    yield None


class _Writer:
    """Writes the file. The first picture sets the size of the video."""

    def __init__(
        self,
        path: Path,
        container: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        captions: Mapping[str, Any],
    ) -> None:
        self._path, self._stream, self._captions = path, stream, captions
        self.streams = [stream, *container.streams.audio[:1]]
        self._origin_seconds = Fraction(container.start_time or 0, av.time_base)
        rate = stream.average_rate or stream.guessed_rate or Fraction(ASSUMED_RATE_HZ)
        self._rate, self._step = rate, max(1, round(1 / (rate * stream.time_base)))
        self._file = self._sound = self._video = None
        self._waiting: list[av.Packet] = []
        self._last = self._first = -1
        self._count = 0
        self.undecodable = 0

    @property
    def seconds(self) -> float:
        """The duration of the written pictures."""
        return (
            float((self._last - self._first + self._step) * self._stream.time_base)
            if self._count
            else 0.0
        )

    def add_sound(self, packet: av.Packet) -> None:
        """Add a packet of sound."""
        if self._sound:
            self._sound.add(packet)
            return
        self._waiting.append(packet)
        if sum(waiting.size for waiting in self._waiting) > MAX_WAITING_BYTES:
            raise MediaError("video of which no picture could be decoded")

    def add(self, picture: av.VideoFrame) -> None:
        """Draw into a picture and write it."""
        turns = round(picture.rotation / 90) % 4  # quarter turns, counter-clockwise
        if self._file is None:
            self._start(picture, turns)
        timestamp = (
            -1
            if picture.pts is None
            else picture.pts - round(self._origin_seconds / self._stream.time_base)
        )
        timestamp = max(timestamp, 0 if self._last < 0 else self._last + 1)
        if picture.pts is None and self._last >= 0:
            timestamp = self._last + self._step
        self._first = timestamp if self._first < 0 else self._first
        self._last, self._count = timestamp, self._count + 1
        seconds = float((timestamp - self._first) * self._stream.time_base)
        drawn = self._drawn(picture, turns, seconds)
        drawn.pts, drawn.time_base = timestamp, self._stream.time_base
        drawn.duration = picture.duration or self._step
        self._file.mux(self._video.encode(drawn))

    def _start(self, picture: av.VideoFrame, turns: int) -> None:
        """Open the file for pictures of this size."""
        shown = (picture.height, picture.width) if turns % 2 else (picture.width, picture.height)
        self._source_size = picture.width, picture.height
        self._size = width, height = tuple(side + side % 2 for side in shown)
        self._boxes = BoxDrawing(self._captions["faces"], height=height)
        self._bars = BarDrawing(self._captions["bars"], size=self._size)
        self._file = av.open(str(self._path), "w", format="mp4", options={"movflags": "+faststart"})
        self._video = self._file.add_stream("libx264", rate=self._rate, options=ENCODING_OPTIONS)
        context, source = self._video.codec_context, self._stream.codec_context
        context.width, context.height, context.pix_fmt = (
            width,
            height + self._bars.height,
            "yuv420p",
        )
        context.time_base = self._video.time_base = self._stream.time_base
        context.thread_count = ENCODER_THREADS
        context.colorspace, context.color_primaries, context.color_trc = (
            source.colorspace,
            source.color_primaries,
            source.color_trc,
        )
        context.color_range = ColorRange.MPEG
        if ratio := source.sample_aspect_ratio:
            context.sample_aspect_ratio = 1 / ratio if turns % 2 else ratio
        if len(self.streams) > 1:
            self._sound = Soundtrack(self._file, self.streams[1], self._origin_seconds)
            for packet in self._waiting:
                self._sound.add(packet)
            self._waiting.clear()

    def _drawn(self, picture: av.VideoFrame, turns: int, seconds: float) -> av.VideoFrame:
        """Return the upright picture with its captions in and below it."""
        kind = picture.format.name, picture.width, picture.height
        if kind != ("yuv420p", *self._source_size) or picture.color_range == ColorRange.JPEG:
            picture = picture.reformat(
                *self._source_size, format="yuv420p", dst_color_range=ColorRange.MPEG
            )
        width, height = self._size
        drawn = av.VideoFrame(width, height + self._bars.height, "yuv420p")
        planes = [plane_pixels(plane) for plane in drawn.planes]
        for place, (plane, source) in enumerate(zip(planes, picture.planes, strict=True)):
            upright = np.rot90(plane_pixels(source), turns)
            rows, columns = upright.shape
            plane[:rows, :columns] = upright
            if place == 0:  # an odd side repeats its last line
                plane[rows:height, :columns] = upright[-1]
                plane[:height, columns:] = plane[:height, columns - 1 : columns]
        edges = [height >> min(1, place) for place in range(3)]
        self._boxes.draw(
            Canvas([plane[:edge] for plane, edge in zip(planes, edges, strict=True)]), seconds
        )
        if self._bars.height:
            self._bars.draw(
                Canvas([plane[edge:] for plane, edge in zip(planes, edges, strict=True)]), seconds
            )
        return drawn

    def close(self) -> Facts:
        """Complete the file and return its facts.

        Raises:
            MediaError: No picture could be decoded.
        """
        if self._file is None:
            raise MediaError("video of which no picture could be decoded")
        self._file.mux(self._video.encode(None))
        if self._sound:
            self._sound.close()
        self._file.close()
        self._file = None
        sound = self._sound.kind if self._sound else "none"
        undecodable = self.undecodable + (self._sound.undecodable if self._sound else 0)
        size = [self._video.codec_context.width, self._video.codec_context.height]
        return {
            "pictures": self._count,
            "seconds": self.seconds,
            "undecodable": undecodable,
            "size": size,
            "sound": sound,
        }

    def abandon(self) -> None:
        """Close a file that is not complete."""
        if self._file is not None:
            with contextlib.suppress(OSError, av.FFmpegError):
                self._file.close()
