"""Read chosen pictures of a video file with PyAV and decode no more than they need.

`VideoReader` first goes over the packets without decoding. It learns the timestamp of each coded
picture, and which pictures are key frames. To read pictures, it goes over the packets again. The
decoder gets only the packets from the key frame before a wanted picture up to that picture, without
those that no other picture refers to.

The reader never seeks: what a seek does differs between containers, and going over packets costs a
hundredth of decoding them.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Self

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import PictureType

from pipelines.core.errors import MediaError
from pipelines.media.images import MAX_PIXELS, Frame, check_size, library_message, open_media

REORDERING_CODECS = ("h264", "hevc", "vvc")
"""Codecs with B-frames, whose presentation times libav guesses wrongly where AVI holds none."""
MAX_KEPT_PACKET_BYTES = 2**24
"""Packets of no more bytes in total are kept from the first pass, so the file is read once."""
MAX_FALSE_KEY_FRAMES = 3
"""After so many wrong key-frame flags, the reader ignores the flags of the file."""


class _FalseKeyFrameError(Exception):
    """The picture at which decoding started is no key frame.

    Attributes:
        position: The position of that picture among the packets.
    """

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class _UnknownTimestampError(Exception):
    """A decoded picture has a timestamp that no packet has."""


class VideoReader:
    """The pictures of a file's first video stream, numbered from 0 in the order of presentation.

    Where each packet has its own timestamp, the number of a picture is the rank of its timestamp,
    also when other pictures do not decode. Timestamps can be missing, repeated, impossible
    (B-frames whose times rise from packet to packet) or different from those of the decoded
    pictures. The reader then decodes from the start and counts the pictures.

    Use the reader in a `with` statement, which closes the file.

    Args:
        path: A video file.
        progress: Called after every packet and every decoded picture.

    Attributes:
        count: The number of coded pictures that are to be shown.
        missing: The number of pictures that the header promises and the file does not hold.
        seconds: The duration by the frame rate; 0 where the file tells no frame rate.

    Raises:
        MediaError: The file cannot be opened, has no picture, or has pictures larger than
            `images.MAX_PIXELS`.
    """

    def __init__(self, path: Path, *, progress: Callable[[], None] = lambda: None) -> None:
        self._path, self._progress = path, progress
        self._undecoded: set[int] = set()
        timestamps, self._is_key, is_shown = array("q"), bytearray(), bytearray()
        has_timestamps, empty, packet_bytes = True, 0, 0
        self._kept_packets: list[av.Packet] = []
        self._open_files = ExitStack()
        with ExitStack() as files:
            container, self._stream = files.enter_context(opened_video(path))
            stream = self._stream
            rate_hz = float(stream.average_rate or stream.guessed_rate or 0)
            promised = stream.frames
            is_reordered = (
                stream.codec_context.has_b_frames and stream.codec_context.name in REORDERING_CODECS
            )
            try:
                for packet in container.demux(stream):
                    progress()
                    if packet.size == 0:
                        # Some containers repeat a picture by an empty packet.
                        empty += packet.dts is not None
                        continue
                    has_timestamps &= packet.pts is not None
                    timestamps.append(packet.pts or 0)
                    is_shown.append(not packet.is_discard)
                    self._is_key.append(packet.is_keyframe and not packet.is_discard)
                    packet_bytes += packet.size
                    if packet_bytes <= MAX_KEPT_PACKET_BYTES:
                        self._kept_packets.append(packet)
            except av.FFmpegError as error:
                if not timestamps:
                    raise MediaError(
                        f"video stream cannot be read ({library_message(error)})"
                    ) from error
            if packet_bytes <= MAX_KEPT_PACKET_BYTES:
                self._open_files = files.pop_all()
            else:
                self._kept_packets = []
        shown_positions = np.flatnonzero(is_shown)
        self._timestamps = np.array(timestamps, np.int64)
        order = np.argsort(self._timestamps[shown_positions], kind="stable")
        self._position_of = shown_positions[order]  # number -> position among the packets
        # number -> timestamp, rising
        self._ranked = array("q", self._timestamps[self._position_of].tobytes())
        # A B-frame is shown before packets that precede it, so the times of a stream with B-frames
        # cannot rise from packet to packet. Times that do are guesses of libav.
        is_guessed = (
            is_reordered
            and bool(np.all(np.diff(self._timestamps) > 0))
            and len(self._timestamps) > 1
        )
        self._is_exact = (
            has_timestamps and not is_guessed and bool(np.all(np.diff(self._ranked) > 0))
        )
        self.count: int = len(shown_positions)
        self.missing: int = max(0, promised - len(timestamps) - empty)
        if not self.count:
            raise MediaError("video stream without a picture")
        self.seconds: float = self.count / rate_hz if rate_hz else 0.0
        self._tick_seconds = float(stream.time_base or 0)

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Close the file."""
        self._open_files.close()

    def seconds_of(self, number: int) -> float:
        """Return the seconds from the first picture to a picture.

        The timestamp gives the time where it can be used, otherwise the frame rate does.
        """
        if self._is_exact and self._tick_seconds:
            return (self._ranked[number] - self._ranked[0]) * self._tick_seconds
        return number * self.seconds / self.count

    @contextmanager
    def _restarted(self) -> Iterator[tuple[av.VideoCodecContext, Iterator[av.Packet]]]:
        """Yield the decoder in its first state, and all packets."""
        if self._kept_packets:
            context = self._stream.codec_context
            context.skip_frame = "DEFAULT"
            if context.is_open:
                context.flush_buffers()
            yield context, iter(self._kept_packets)
        else:
            with opened_video(self._path) as (container, stream):
                yield stream.codec_context, _packets(container, stream)

    @property
    def undecodable(self) -> int:
        """The number of pictures that were to be decoded and shown, and did not come out.

        Without usable timestamps, this is the number of packets that the decoder refused.
        """
        return len(self._undecoded)

    def frames(self, wanted: Iterable[int]) -> Iterator[tuple[int, Frame]]:
        """Yield the number and the frame of each wanted picture, in rising order of number.

        A picture that cannot be decoded is left out.

        Raises:
            MediaError: A picture is larger than `images.MAX_PIXELS`.
        """
        wanted = sorted({number for number in wanted if 0 <= number < self.count})
        last, false_key_frames = -1, 0
        while wanted and last < wanted[-1]:
            remaining = wanted[bisect_left(wanted, last + 1) :]
            pictures = (
                self._read_by_timestamp(remaining)
                if self._is_exact
                else self._read_by_count(remaining)
            )
            try:
                for number, picture in pictures:
                    last = number
                    yield number, upright_frame(picture)
                return
            except _FalseKeyFrameError as error:
                false_key_frames += 1
                self._is_key[error.position] = False
                if false_key_frames >= MAX_FALSE_KEY_FRAMES:
                    self._is_key = bytearray(len(self._is_key))
            except _UnknownTimestampError:
                self._is_exact = False
                self._undecoded.clear()

    def _read_by_timestamp(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        is_wanted = bytearray(self.count)
        for number in wanted:
            is_wanted[number] = True
        with self._restarted() as (context, packets):
            numbered_packets = enumerate(packets)
            for start, end in self._packet_ranges(wanted):
                yield from self._decode_range(context, numbered_packets, start, end, is_wanted)

    def _packet_ranges(self, wanted: list[int]) -> list[tuple[int, int]]:
        """Return the ranges of packets to decode, as positions of the first and the last packet.

        Each range leads from a key frame to a wanted picture. Ranges do not touch.
        """
        keys = np.flatnonzero(self._is_key)
        ranges: list[tuple[int, int]] = []
        for position in np.sort(self._position_of[wanted]).tolist():
            key = int(np.searchsorted(keys, position, side="right")) - 1
            # A picture that is shown before the key frame it follows needs an earlier key frame.
            while key >= 0 and self._timestamps[keys[key]] > self._timestamps[position]:
                key -= 1
            start = int(keys[key]) if key >= 0 else 0
            while ranges and start <= ranges[-1][1] + 1:
                start = min(start, ranges.pop()[0])
            ranges.append((start, position))
        return ranges

    def _decode_range(
        self,
        context: av.VideoCodecContext,
        numbered_packets: Iterator[tuple[int, av.Packet]],
        start: int,
        end: int,
        is_wanted: bytearray,
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode the packets from `start` to `end` and yield the wanted pictures of them."""
        pending: set[int] = set()  # numbers that were decoded in full and have not come out
        # Before the first packet of the file there is no earlier key frame to start from.
        starts_at_key, latest = start == 0, -1
        for position, packet in numbered_packets:
            self._progress()
            if position < start:
                continue
            number = -1 if packet.is_discard else bisect_left(self._ranked, packet.pts)
            decode_fully = number >= 0 and (is_wanted[number] or position == start)
            context.skip_frame = "DEFAULT" if decode_fully else "NONREF"
            pictures = decoded_packet(context, packet)
            if number >= 0 and (decode_fully or pictures is None):
                pending.add(number)
            pictures = pictures or []
            if position == end:
                pictures += decoded_packet(context, None) or []
                context.flush_buffers()
            for picture in pictures:
                self._progress()
                number = (
                    self.count if picture.pts is None else bisect_left(self._ranked, picture.pts)
                )
                if number == self.count or self._ranked[number] != picture.pts:
                    raise _UnknownTimestampError
                # After damage a decoder can lose the order. A late picture is left out and counted.
                if number <= latest:
                    continue
                latest = number
                pending.discard(number)
                if start and picture.pts == self._timestamps[start]:
                    starts_at_key = picture.key_frame or picture.pict_type == PictureType.I
                if is_wanted[number]:
                    if not starts_at_key:
                        raise _FalseKeyFrameError(start)
                    yield number, picture
            if position == end:
                break
        if not starts_at_key:
            raise _FalseKeyFrameError(start)
        self._undecoded |= pending

    def _read_by_count(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        count, wanted_numbers = 0, set(wanted)
        with self._restarted() as (context, packets):
            # None asks the decoder for the pictures that it still holds.
            for position, packet in enumerate(chain(packets, [None])):
                self._progress()
                pictures = decoded_packet(context, packet)
                if pictures is None:
                    self._undecoded.add(position)
                for picture in pictures or ():
                    self._progress()
                    if count in wanted_numbers:
                        yield count, picture
                    count += 1
                if count > wanted[-1]:
                    return


@contextmanager
def opened_video(
    path: Path,
) -> Iterator[tuple[av.container.InputContainer, av.video.stream.VideoStream]]:
    """Open a file and yield its container and its first video stream.

    The stream decodes in one thread, and refuses pictures larger than `images.MAX_PIXELS`. A cover
    picture of a sound file is no video stream.

    Raises:
        MediaError: The file cannot be opened, has no video stream, or its pictures have no size.
    """
    with open_media(path) as container:
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not streams:
            raise MediaError("no video stream")
        stream = streams[0]
        context = stream.codec_context
        if not context.width or not context.height:
            raise MediaError(
                "video whose pictures have no size, or one of more than "
                f"{MAX_PIXELS} pixels (8192x8192); scale it down"
            )
        check_size(context.width, context.height)
        context.thread_type, context.thread_count = "NONE", 1
        # The size of pictures can change within the stream.
        context.options = {"max_pixels": str(MAX_PIXELS)}
        yield container, stream


def _packets(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> Iterator[av.Packet]:
    """Yield the packets that hold a picture, up to the place where the container is truncated."""
    with suppress(av.FFmpegError):
        yield from (packet for packet in container.demux(stream) if packet.size)


def decoded_packet(
    context: av.VideoCodecContext, packet: av.Packet | None
) -> list[av.VideoFrame] | None:
    """Return the pictures that the decoder gives for a packet, or None when it refuses the packet.

    Args:
        context: The decoder.
        packet: A packet, or None for the end of the stream.

    Raises:
        MediaError: The picture is larger than `images.MAX_PIXELS`.
        MemoryError: The decoder has no memory left.
    """
    try:
        return context.decode(packet)
    except av.FFmpegError as error:
        too_large = re.search(r"Picture size (\d+)x(\d+) exceeds", str(error))
        if too_large:
            check_size(*map(int, too_large.groups()))
        if isinstance(error, MemoryError):
            raise
        return None


EXACTLY_CUT_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")
"""Formats of which a part, cut on even coordinates, converts to the same bits as the whole."""


def upright_frame(picture: av.VideoFrame) -> Frame:
    """Return the frame as it is to be shown, turned by the rotation that the file tells."""
    quarter_turns = round(picture.rotation / 90) % 4  # counter-clockwise
    if quarter_turns:
        return Frame(
            np.rot90(_luma(picture), quarter_turns),
            lambda: np.rot90(picture.to_ndarray(format="rgb24"), quarter_turns),
        )
    is_exact = (
        picture.format.name in EXACTLY_CUT_FORMATS and picture.height % 2 == 0 == picture.width % 2
    )
    return Frame(
        _luma(picture),
        lambda: picture.to_ndarray(format="rgb24"),
        (lambda *sides: _cut_to_rgb(picture, *sides)) if is_exact else None,
    )


def plane_pixels(plane: av.video.plane.VideoPlane) -> np.ndarray:
    """Return the pixels of a plane without the padding of its lines: uint8 [height, width]."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _luma(picture: av.VideoFrame) -> np.ndarray:
    if (
        picture.format.name.startswith(("yuv4", "yuvj4", "nv12", "gray"))
        and picture.format.components[0].bits == 8
    ):
        return plane_pixels(picture.planes[0])
    return picture.to_ndarray(format="gray")


def _cut_to_rgb(picture: av.VideoFrame, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Convert a part of a picture to RGB.

    Returns:
        uint8 [bottom - top, right - left, 3], equal to that part of the converted whole picture.
    """
    y, x = top // 2 * 2, left // 2 * 2
    rows, columns = (bottom - y + 1) // 2 * 2, (right - x + 1) // 2 * 2
    part = av.VideoFrame(columns, rows, picture.format.name)
    part.colorspace, part.color_range = picture.colorspace, picture.color_range
    for from_plane, to_plane in zip(picture.planes, part.planes, strict=True):
        # 1, or 2 for the planes of chroma.
        row_step = picture.height // from_plane.height
        column_step = picture.width // from_plane.width
        plane_pixels(to_plane)[:] = plane_pixels(from_plane)[
            y // row_step : (y + rows) // row_step,
            x // column_step : (x + columns) // column_step,
        ]
    return part.to_ndarray(format="rgb24")[top - y : bottom - y, left - x : right - x]
