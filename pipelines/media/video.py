"""Video file -> pictures, by PyAV: exactly the wanted ones, decoding no more than they need; no tensorflow.

A first pass over the packets, without decoding, learns each coded picture's timestamp and which are key frames. To read
pictures, the packets are gone through again, but only those from the key frame before a wanted picture up to it are given
to the decoder, and of these not the ones that nothing refers to. No container is ever asked to seek: what that does differs
from format to format, and going over packets costs a hundredth of decoding them.
"""

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import PictureType

from pipelines.core.errors import MediaError
from pipelines.media.images import MOST_PIXELS, Frame, check_size, open_media, reason

REORDERING = ("h264", "hevc", "vvc")
"""Codecs whose times of presentation libav guesses wrongly where the container (AVI) has none and there are B-frames."""
KEPT_BYTES = 2**24
"""Packets that are no more than this in all are kept from the first pass, which saves opening the file again."""
MOST_FALSE_KEYS = 3
"""After so many key frames that were none, the file's flags are not relied on any more."""


class _FalseKey(Exception):
    """The picture at which decoding started is no key frame; the argument is its position among the packets."""


class _OddTimes(Exception):
    """A decoded picture has none of the packets' timestamps."""


class VideoReader:
    """The pictures of a file's first video stream, numbered from 0 in the order of presentation; close it by `with`.

    Where every packet has a timestamp of its own, a picture's number is the rank of its timestamp, also when others do
    not decode. Where timestamps are missing, come twice, cannot be (B-frames whose times rise from packet to packet)
    or are not those of the decoded pictures, pictures are counted as they come, reading on from the start.

    Args:
        path: A video file.
        progress: Called after every packet and every decoded picture.

    Raises:
        MediaError: The file cannot be opened, has no picture, or pictures larger than `images.MOST_PIXELS`.
    """

    def __init__(self, path: Path, *, progress: Callable[[], None] = lambda: None):
        self._path, self._progress = path, progress
        self._unread: set[int] = set()
        stamps, self._is_key, shown = array("q"), bytearray(), bytearray()
        stamped, empty, bytes_held = True, 0, 0
        self._held: list[av.Packet] = []
        self._files = ExitStack()
        with ExitStack() as files:
            container, self._stream = files.enter_context(opened_video(path))
            stream = self._stream
            rate_hz = float(stream.average_rate or stream.guessed_rate or 0)
            promised, reordered = (
                stream.frames,
                stream.codec_context.has_b_frames and stream.codec_context.name in REORDERING,
            )
            try:
                for packet in container.demux(stream):
                    progress()
                    if packet.size == 0:
                        empty += packet.dts is not None  # some containers repeat a picture so
                        continue
                    stamped &= packet.pts is not None
                    stamps.append(packet.pts or 0)
                    shown.append(not packet.is_discard)
                    self._is_key.append(packet.is_keyframe and not packet.is_discard)
                    bytes_held += packet.size
                    if bytes_held <= KEPT_BYTES:
                        self._held.append(packet)
            except av.FFmpegError as error:
                if not stamps:
                    raise MediaError(f"video stream cannot be read ({reason(error)})") from error
            if bytes_held <= KEPT_BYTES:
                self._files = files.pop_all()
            else:
                self._held = []
        places = np.flatnonzero(shown)
        times = np.array(stamps, np.int64)
        self._at = places[
            np.argsort(times[places], kind="stable")
        ]  # number -> position among the packets
        self._times = times
        self._ranked = array("q", times[self._at].tobytes())  # number -> timestamp, rising
        # B-frames are shown before packets that precede them: times that rise from packet to packet are then guessed ones.
        guessed = reordered and bool(np.all(np.diff(times) > 0)) and len(times) > 1
        self._exact = stamped and not guessed and bool(np.all(np.diff(self._ranked) > 0))
        self.count: int = len(places)
        """How many coded pictures are there to be shown."""
        self.missing: int = max(0, promised - len(stamps) - empty)
        """How many pictures the container's header promises that its file does not hold: it ends too early."""
        if not self.count:
            raise MediaError("video stream without a picture")
        self.seconds: float = self.count / rate_hz if rate_hz else 0.0
        self._tick_seconds = float(stream.time_base or 0)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_) -> None:
        self._files.close()

    def seconds_of(self, number: int) -> float:
        """Return how long after the first picture one is shown: by its timestamp where that can be used, else by the rate."""
        if self._exact and self._tick_seconds:
            return (self._ranked[number] - self._ranked[0]) * self._tick_seconds
        return number * self.seconds / self.count

    @contextmanager
    def _again(self):
        """Yield the decoder, in its first state, and all packets."""
        if self._held:
            context = self._stream.codec_context
            context.skip_frame = "DEFAULT"
            if context.is_open:
                context.flush_buffers()
            yield context, iter(self._held)
        else:
            with opened_video(self._path) as (container, stream):
                yield stream.codec_context, _packets(container, stream)

    @property
    def undecodable(self) -> int:
        """How many pictures were given to the decoder in full, were shown, and did not come out.

        Without usable timestamps: how many packets the decoder refused.
        """
        return len(self._unread)

    def frames(self, wanted: Iterable[int]) -> Iterator[tuple[int, Frame]]:
        """Yield (number, frame) of the wanted pictures in rising order; those that cannot be decoded are left out.

        Raises:
            MediaError: A picture is larger than `images.MOST_PIXELS`.
        """
        wanted = sorted({number for number in wanted if 0 <= number < self.count})
        last, false_keys = -1, 0
        while wanted and last < wanted[-1]:
            rest = wanted[bisect_left(wanted, last + 1) :]
            try:
                for number, picture in (
                    self._read_stamped(rest) if self._exact else self._read_counted(rest)
                ):
                    last = number
                    yield number, upright(picture)
                return
            except _FalseKey as false:
                false_keys += 1
                self._is_key[false.args[0]] = False
                if false_keys >= MOST_FALSE_KEYS:
                    self._is_key = bytearray(len(self._is_key))
            except _OddTimes:
                self._exact = False
                self._unread.clear()

    def _read_stamped(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        is_wanted = bytearray(self.count)
        for number in wanted:
            is_wanted[number] = True
        with self._again() as (context, packets):
            numbered = enumerate(packets)
            for start, end in self._runs(wanted):
                yield from self._run(context, numbered, start, end, is_wanted)

    def _runs(self, wanted: list[int]) -> list[tuple[int, int]]:
        """Return the first and last positions of the packets to decode, from a key frame to a wanted picture; runs do not touch."""
        keys = np.flatnonzero(self._is_key)
        runs: list[tuple[int, int]] = []
        for position in np.sort(self._at[wanted]).tolist():
            before = int(np.searchsorted(keys, position, side="right")) - 1
            while before >= 0 and self._times[keys[before]] > self._times[position]:
                before -= 1  # shown before the key frame that it follows in the file: it needs what lies before that
            start = int(keys[before]) if before >= 0 else 0
            while runs and start <= runs[-1][1] + 1:
                start = min(start, runs.pop()[0])
            runs.append((start, position))
        return runs

    def _run(
        self, context, packets, start: int, end: int, is_wanted: bytearray
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode the packets from `start` to `end` and yield the wanted pictures among them."""
        given: set[int] = set()  # numbers given to the decoder in full that have not come out
        certain, latest = start == 0, -1
        for position, packet in packets:
            self._progress()
            if position < start:
                continue
            number = -1 if packet.is_discard else bisect_left(self._ranked, packet.pts)
            full = number >= 0 and (is_wanted[number] or position == start)
            context.skip_frame = "DEFAULT" if full else "NONREF"
            pictures = decoded_packet(context, packet)
            if number >= 0 and (full or pictures is None):
                given.add(number)
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
                    raise _OddTimes
                if (
                    number <= latest
                ):  # after damage a decoder may lose the order; what comes too late is left out, and counted
                    continue
                latest = number
                given.discard(number)
                if (
                    start and picture.pts == self._times[start]
                ):  # before the first packet there is nothing to start from
                    certain = picture.key_frame or picture.pict_type == PictureType.I
                if is_wanted[number]:
                    if not certain:
                        raise _FalseKey(start)
                    yield number, picture
            if position == end:
                break
        if not certain:
            raise _FalseKey(start)
        self._unread |= given

    def _read_counted(self, wanted: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        count, waiting = 0, set(wanted)
        with self._again() as (context, packets):
            for position, packet in enumerate(
                chain(packets, [None])
            ):  # None: what is still in the decoder
                self._progress()
                pictures = decoded_packet(context, packet)
                if pictures is None:
                    self._unread.add(position)
                for picture in pictures or ():
                    self._progress()
                    if count in waiting:
                        yield count, picture
                    count += 1
                if count > wanted[-1]:
                    return


@contextmanager
def opened_video(path: Path):
    """Open a file and yield its container and first video stream, which decodes in one thread and nothing absurdly large."""
    with open_media(path) as container:
        videos = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]  # a cover
        if not videos:
            raise MediaError("no video stream")
        stream = videos[0]
        context = stream.codec_context
        if not context.width or not context.height:
            raise MediaError(
                f"video whose pictures have no size, or one of more than {MOST_PIXELS} pixels (8192x8192); scale it down"
            )
        check_size(context.width, context.height)
        context.thread_type, context.thread_count = "NONE", 1
        context.options = {"max_pixels": str(MOST_PIXELS)}  # a size may change within the stream
        yield container, stream


def _packets(container, stream) -> Iterator[av.Packet]:
    """Yield the packets that hold a picture."""
    with suppress(av.FFmpegError):  # a truncated container: what came before it is good
        yield from (packet for packet in container.demux(stream) if packet.size)


def decoded_packet(context, packet: av.Packet | None) -> list[av.VideoFrame] | None:
    """Return what a packet, or the end of the stream, brings out of the decoder, or None when it is refused."""
    try:
        return context.decode(packet)
    except av.FFmpegError as error:
        too_large = re.search(r"Picture size (\d+)x(\d+) exceeds", str(error))
        if too_large:
            check_size(*map(int, too_large.groups()))
        if isinstance(error, MemoryError):
            raise
        return None


EXACT_CUT = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")
"""Formats of which a part, cut on even coordinates, converts to the bits that the whole picture has there."""


def upright(picture: av.VideoFrame) -> Frame:
    """Return the frame as it is to be shown: a phone that was held upright films sideways and says so."""
    turns = round(picture.rotation / 90) % 4  # counter-clockwise
    if turns:
        return Frame(
            np.rot90(_luma(picture), turns),
            lambda: np.rot90(picture.to_ndarray(format="rgb24"), turns),
        )
    exact = picture.format.name in EXACT_CUT and picture.height % 2 == 0 == picture.width % 2
    return Frame(
        _luma(picture),
        lambda: picture.to_ndarray(format="rgb24"),
        (lambda *sides: _cut(picture, *sides)) if exact else None,
    )


def plane_of(plane) -> np.ndarray:
    """Return the pixels of a plane without what pads its lines: uint8 [height, width]."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _luma(picture: av.VideoFrame) -> np.ndarray:
    if (
        picture.format.name.startswith(("yuv4", "yuvj4", "nv12", "gray"))
        and picture.format.components[0].bits == 8
    ):
        return plane_of(picture.planes[0])
    return picture.to_ndarray(format="gray")


def _cut(picture: av.VideoFrame, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Convert a part of a picture to RGB, uint8 [bottom - top, right - left, 3]: the bits that the whole picture has there."""
    y, x = top // 2 * 2, left // 2 * 2
    rows, columns = (bottom - y + 1) // 2 * 2, (right - x + 1) // 2 * 2
    part = av.VideoFrame(columns, rows, picture.format.name)
    part.colorspace, part.color_range = picture.colorspace, picture.color_range
    for from_plane, to_plane in zip(picture.planes, part.planes, strict=True):
        down, across = (
            picture.height // from_plane.height,
            picture.width // from_plane.width,
        )  # 1, or 2 for chroma
        plane_of(to_plane)[:] = plane_of(from_plane)[
            y // down : (y + rows) // down, x // across : (x + columns) // across
        ]
    return part.to_ndarray(format="rgb24")[top - y : bottom - y, left - x : right - x]
