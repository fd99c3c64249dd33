"""Write a copy of a video with boxes, texts and bars: H.264 with the original audio, in MP4.

Pictures pass from the decoder through the drawing to the encoder, one at a time. Memory does not
grow with the length of the video.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import ColorRange

from pipelines.core.errors import InputError, MediaError, StorageError
from pipelines.core.files import atomic_path
from pipelines.core.spec import Spec
from pipelines.media.images import library_message
from pipelines.media.video import decoded_packet, opened_video, plane_pixels
from pipelines.overlay.drawing import Canvas, FaceBoxes, ProbabilityBars
from pipelines.overlay.soundtrack import Soundtrack
from pipelines.workers.record_task import DecoderMessages, relay_messages

ENCODER_OPTIONS = {
    "preset": "veryfast",
    "crf": "20",
    # With mbtree, small pictures are encoded to different bytes in different processes.
    "x264-params": "mbtree=0",
}
ENCODER_THREADS = 4
"""Fixed, because the encoded bytes depend on the number of threads."""
DEFAULT_RATE_HZ = 25
"""Assumed pictures per second of a file without a rate."""
PICTURES_PER_MESSAGE = 100
MAX_WAITING_BYTES = 2**26
"""Maximum size of the audio that is held before the first picture."""


@dataclasses.dataclass(frozen=True)
class OverlayTask:
    """A video to write with captions. Worker processes run it, as they run a `RecordTask`."""

    path: Path
    """The video."""
    out: Path
    """The MP4 file to write; an existing file is replaced."""
    captions: Mapping[str, Any]
    """`{"faces": {number: {"seconds", "boxes", "texts"}}, "bars": [{"title", "seconds", "labels",
    "values"}]}`. Times are in seconds after the first picture, ascending. A box is left, top, width
    and height in pixels of the upright picture. See `drawing.FaceBoxes` and
    `drawing.ProbabilityBars`."""
    domains: tuple[str, ...] = ("overlay",)

    def read(
        self, spec: Spec = Spec(), *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Write the video.

        Args:
            spec: Not used; see `record_task.WorkerTask`.
            progress: Called after every packet and every picture.

        Yields:
            Messages `{"more": True, "overlay": {"pictures", "seconds"}}` with the progress. In the
            last message, `more` is false and `overlay` holds the facts of `write_overlay`, or
            `{"error": reason}` if nothing was written.
        """
        messages = write_overlay(self.path, self.out, captions=self.captions, progress=progress)
        with contextlib.closing(messages):
            entry = yield from relay_messages(
                messages, wrap=lambda message: {"more": True, "overlay": message}
            )
        yield {"more": False, "overlay": entry}


def write_overlay(
    path: Path,
    out: Path,
    *,
    captions: Mapping[str, Any],
    progress: Callable[[], None] = lambda: None,
) -> DecoderMessages:
    """Write a video with captions, atomically.

    Every picture that decodes is drawn, at its original time. Audio is copied if MP4 supports its
    codec, and else encoded as AAC.

    Args:
        path: A video file.
        out: The file to write.
        captions: See `OverlayTask.captions`.
        progress: Called after every packet and every picture.

    Yields:
        `{"pictures", "seconds"}`: number and duration of the pictures so far.

    Returns:
        `{"pictures", "seconds", "undecodable", "size", "sound"}`. `undecodable` counts pictures and
        packets that were left out. `size` is the width and height in pixels. `sound` is "copied",
        "transcoded" or "none".

    Raises:
        MediaError: The video cannot be read, has no pictures (a sound file), or cannot be encoded.
        InputError: `out` is the video itself.
        StorageError: `out` cannot be written.
    """
    _check_paths(path, out)
    try:
        with atomic_path(out) as temporary, opened_video(path) as (container, stream):
            overlay_file = _OverlayFile(temporary, container, stream, captions)
            try:
                yield from _write_pictures(container, stream, overlay_file, progress)
                facts = overlay_file.close()
            finally:
                overlay_file.abandon()
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
        raise InputError("the overlay would replace its own video; name another file")


def _write_pictures(
    container: InputContainer,
    stream: av.VideoStream,
    overlay_file: "_OverlayFile",
    progress: Callable[[], None],
) -> Iterator[dict[str, Any]]:
    """Add all pictures and packets of audio to the file, and yield the progress."""
    n_pictures = 0
    for packet in _read_packets(container, overlay_file):
        progress()
        if packet is not None and packet.stream is not stream:
            overlay_file.add_sound(packet)
            continue
        pictures = decoded_packet(stream.codec_context, packet)
        if pictures is None:
            overlay_file.count_undecodable()
            continue
        for picture in pictures:
            overlay_file.add_picture(picture)
            n_pictures += 1
            progress()
            if n_pictures % PICTURES_PER_MESSAGE == 0:
                yield {"pictures": n_pictures, "seconds": overlay_file.seconds}


def _read_packets(
    container: InputContainer, overlay_file: "_OverlayFile"
) -> Iterator[av.Packet | None]:
    """Yield the packets with data of the file's streams, then None."""
    try:
        for packet in container.demux(overlay_file.source_streams):
            if packet.size:
                yield packet
    except av.FFmpegError:  # a truncated container; the packets before its end are good
        overlay_file.count_undecodable()
    yield None


class _OverlayFile:
    """The MP4 file that is written. The first picture, which has the size, opens it.

    Attributes:
        source_streams: The streams that are written: the video, and the first audio if any.
    """

    def __init__(
        self,
        path: Path,
        container: InputContainer,
        stream: av.VideoStream,
        captions: Mapping[str, Any],
    ) -> None:
        self._path, self._source, self._captions = path, stream, captions
        self.source_streams = [stream, *container.streams.audio[:1]]
        self._time_base = stream.time_base
        self._origin_seconds = Fraction(container.start_time or 0, av.time_base)
        self._origin_ticks = round(self._origin_seconds / stream.time_base)
        self._rate = stream.average_rate or stream.guessed_rate or Fraction(DEFAULT_RATE_HZ)
        self._step_ticks = max(1, round(1 / (self._rate * stream.time_base)))
        self._file: av.container.OutputContainer | None = None
        self._video: av.VideoStream | None = None
        self._soundtrack: Soundtrack | None = None
        self._waiting_packets: list[av.Packet] = []
        self._first_ticks = self._last_ticks = -1  # times of pictures in the file
        self._n_pictures = 0
        self._n_undecodable = 0

    @property
    def seconds(self) -> float:
        """Duration of the pictures that are written."""
        if not self._n_pictures:
            return 0.0
        ticks = self._last_ticks - self._first_ticks + self._step_ticks
        return float(ticks * self._time_base)

    def count_undecodable(self) -> None:
        """Count a packet that did not decode."""
        self._n_undecodable += 1

    def add_sound(self, packet: av.Packet) -> None:
        """Add a packet of audio. Packets are kept until the first picture is written."""
        if self._soundtrack:
            self._soundtrack.add(packet)
            return
        self._waiting_packets.append(packet)
        if sum(waiting.size for waiting in self._waiting_packets) > MAX_WAITING_BYTES:
            raise MediaError("video of which no picture could be decoded")

    def add_picture(self, picture: av.VideoFrame) -> None:
        """Draw the captions into a picture, and encode it."""
        n_turns = round(picture.rotation / 90) % 4  # counter-clockwise
        if self._file is None:
            self._open(picture, n_turns)
        ticks = self._picture_ticks(picture)
        if self._first_ticks < 0:
            self._first_ticks = ticks
        self._last_ticks = ticks
        self._n_pictures += 1
        seconds = float((ticks - self._first_ticks) * self._time_base)
        drawn_picture = self._draw(picture, n_turns, seconds)
        drawn_picture.pts, drawn_picture.time_base = ticks, self._time_base
        drawn_picture.duration = picture.duration or self._step_ticks
        self._file.mux(self._video.encode(drawn_picture))

    def _picture_ticks(self, picture: av.VideoFrame) -> int:
        """Return the time of a picture in the file; times ascend from 0."""
        is_first = self._last_ticks < 0
        if picture.pts is None:
            return 0 if is_first else self._last_ticks + self._step_ticks
        return max(picture.pts - self._origin_ticks, 0 if is_first else self._last_ticks + 1)

    def _open(self, picture: av.VideoFrame, n_turns: int) -> None:
        self._source_size = picture.width, picture.height
        upright_size = self._source_size[::-1] if n_turns % 2 else self._source_size
        self._size = width, height = tuple(side + side % 2 for side in upright_size)
        self._boxes = FaceBoxes(self._captions["faces"], height=height)
        self._bars = ProbabilityBars(self._captions["bars"], size=self._size)
        self._file = av.open(str(self._path), "w", format="mp4", options={"movflags": "+faststart"})
        self._video = self._file.add_stream("libx264", rate=self._rate, options=ENCODER_OPTIONS)
        encoder, decoder = self._video.codec_context, self._source.codec_context
        encoder.width, encoder.height = width, height + self._bars.height
        encoder.pix_fmt = "yuv420p"
        encoder.time_base = self._video.time_base = self._time_base
        encoder.thread_count = ENCODER_THREADS
        encoder.colorspace = decoder.colorspace
        encoder.color_primaries = decoder.color_primaries
        encoder.color_trc = decoder.color_trc
        encoder.color_range = ColorRange.MPEG
        aspect_ratio = decoder.sample_aspect_ratio
        if aspect_ratio:
            encoder.sample_aspect_ratio = 1 / aspect_ratio if n_turns % 2 else aspect_ratio
        if len(self.source_streams) > 1:
            self._soundtrack = Soundtrack(self._file, self.source_streams[1], self._origin_seconds)
            for packet in self._waiting_packets:
                self._soundtrack.add(packet)
            self._waiting_packets.clear()

    def _draw(self, picture: av.VideoFrame, n_turns: int, seconds: float) -> av.VideoFrame:
        """Return the upright picture with its captions."""
        picture = self._convert(picture)
        width, height = self._size
        drawn_picture = av.VideoFrame(width, height + self._bars.height, "yuv420p")
        planes = [plane_pixels(plane) for plane in drawn_picture.planes]
        for index, (plane, source_plane) in enumerate(zip(planes, picture.planes, strict=True)):
            upright_plane = np.rot90(plane_pixels(source_plane), n_turns)
            n_rows, n_columns = upright_plane.shape
            plane[:n_rows, :n_columns] = upright_plane
            if index == 0:  # an odd side of the luma is made even: the last line is repeated
                plane[n_rows:height, :n_columns] = upright_plane[-1]
                plane[:height, n_columns:] = plane[:height, n_columns - 1 : n_columns]
        # The bars begin below the picture; the planes of colour have half of its height.
        bar_tops = (height, height // 2, height // 2)
        picture_planes = [plane[:top] for plane, top in zip(planes, bar_tops, strict=True)]
        self._boxes.draw(Canvas(picture_planes), seconds)
        if self._bars.height:
            bar_planes = [plane[top:] for plane, top in zip(planes, bar_tops, strict=True)]
            self._bars.draw(Canvas(bar_planes), seconds)
        return drawn_picture

    def _convert(self, picture: av.VideoFrame) -> av.VideoFrame:
        """Return a picture as YUV 4:2:0 in the limited range, with the size of the first."""
        form = picture.format.name, picture.width, picture.height
        expected_form = ("yuv420p", *self._source_size)
        if form == expected_form and picture.color_range != ColorRange.JPEG:
            return picture
        return picture.reformat(
            *self._source_size, format="yuv420p", dst_color_range=ColorRange.MPEG
        )

    def close(self) -> dict[str, Any]:
        """Finish the file, and return the facts of `write_overlay`."""
        if self._file is None:
            raise MediaError("video of which no picture could be decoded")
        self._file.mux(self._video.encode(None))
        sound, n_undecodable = "none", self._n_undecodable
        if self._soundtrack:
            self._soundtrack.close()
            sound = self._soundtrack.kind
            n_undecodable += self._soundtrack.undecodable
        self._file.close()
        self._file = None
        return {
            "pictures": self._n_pictures,
            "seconds": self.seconds,
            "undecodable": n_undecodable,
            "size": [self._video.codec_context.width, self._video.codec_context.height],
            "sound": sound,
        }

    def abandon(self) -> None:
        """Close a file that was not finished; a finished file is left as it is."""
        if self._file is not None:
            with contextlib.suppress(OSError, av.FFmpegError):
                self._file.close()
