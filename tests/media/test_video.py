"""Pictures of every container: the wanted ones are those of reading straight on, and what does not decode is counted."""

from itertools import pairwise

import av
import numpy as np
import pytest

from helpers import media
from helpers.videos import COUNT, KINDS, straight, write
from pipelines.core.errors import MediaError
from pipelines.media import video
from pipelines.media.video import VideoReader

UNTIMED = {"h264-avi"}
"""Whose packets do not tell when they are shown."""


def assert_same(reader: VideoReader, wanted, pictures) -> None:
    read = list(reader.frames(wanted))
    assert [number for number, _ in read] == sorted(wanted)
    for number, frame in read:
        np.testing.assert_array_equal(frame.rgb(), pictures[number])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A function that writes one of the `KINDS`, once."""
    folder, written = tmp_path_factory.mktemp("clips"), {}
    return lambda kind: written.get(kind) or written.setdefault(kind, write(folder / kind, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_wanted_pictures_are_those_of_reading_straight_on(clips, kind):
    path = clips(kind)
    pictures = straight(path)
    assert len(pictures) == COUNT and all(
        (picture != next_picture).any() for picture, next_picture in pairwise(pictures)
    )
    reader = VideoReader(path)
    assert (reader.count, reader.missing, reader.seconds) == (COUNT, 0, pytest.approx(COUNT / 25))
    for wanted in (
        [0],
        [COUNT - 1],
        [30],
        [11, 12, 13],
        [5, 6, 29, 44],
        range(COUNT),
        range(2, COUNT, 3),
    ):
        assert_same(reader, wanted, pictures)
    assert reader.undecodable == 0
    assert reader._is_exact == (kind not in UNTIMED)


def remuxed(path, out, change):
    """Write a file anew with each packet as `change(number, packet)` gives it."""
    with (
        av.open(str(path)) as read,
        av.open(
            str(out), "w", options={"movflags": "faststart"} if out.suffix == ".mp4" else {}
        ) as written,
    ):
        stream = read.streams.video[0]
        to = written.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in read.demux(stream) if packet.size):
            changed = change(number, packet)
            changed.stream = to
            written.mux(changed)
    return out


def wiped(bad):
    """Return a change that replaces what the packets of these numbers hold by zeros."""

    def change(number, packet):
        if number not in bad:
            return packet
        zeros = av.Packet(bytes(packet.size))
        zeros.pts, zeros.dts, zeros.time_base, zeros.duration = (
            packet.pts,
            packet.dts,
            packet.time_base,
            packet.duration,
        )
        zeros.is_keyframe = packet.is_keyframe
        return zeros

    return change


CLOSED = (
    "h264-b-frames",
    "h264-intra",
    "h264-flv",
    "h264-avi",
    "mpeg4-avi",
    "mpeg4-mkv-b",
    "flv1",
    "mjpeg",
    "vp8",
)
"""Kinds whose parser does not swallow a damaged packet, and that, past it, go on with the next."""


@pytest.mark.parametrize("kind", CLOSED)
@pytest.mark.parametrize("bad", [{20}, {COUNT - 1}, {3, 20, COUNT - 2, COUNT - 1}])
def test_pictures_that_do_not_decode_are_left_out_and_counted(clips, tmp_path, kind, bad):
    """Among them the last ones, which a decoder that reorders holds back until the end."""
    path = remuxed(clips(kind), tmp_path / f"a.{KINDS[kind][0]}", wiped(bad))
    left = straight(path)
    reader = VideoReader(path)
    read = list(reader.frames(range(reader.count)))
    assert (reader.count, len(read), reader.undecodable) == (COUNT, COUNT - len(bad), len(bad))
    for (_, frame), picture in zip(read, left, strict=True):
        np.testing.assert_array_equal(frame.rgb(), picture)
    list(reader.frames(range(reader.count)))
    assert reader.undecodable == len(bad)  # not counted twice
    if kind not in UNTIMED:
        whole = straight(clips(kind))
        before = min(bad) - 8
        assert_same(VideoReader(path), range(max(0, before)), whole)
        assert_same(
            VideoReader(path), [26, 36], {number: dict(read)[number].rgb() for number in (26, 36)}
        )


@pytest.mark.parametrize(
    "kind", ["h264-b-frames", "h264-flv", "mpeg4-avi", "mpeg4-avi-b", "mjpeg", "h265"]
)
def test_a_damaged_key_frame_costs_no_more_than_what_needs_it(clips, tmp_path, kind):
    """What lies before it is whole; every picture either comes, in its order, or is counted."""
    path = remuxed(clips(kind), tmp_path / f"a.{KINDS[kind][0]}", wiped({24}))
    reader = VideoReader(path)
    numbers = [number for number, _ in reader.frames(range(COUNT))]
    assert (
        numbers == sorted(set(numbers))
        and len(numbers) + reader.undecodable == COUNT
        and reader.undecodable >= 1
    )
    assert_same(VideoReader(path), range(20), straight(clips(kind)))


def test_pictures_on_the_way_to_a_wanted_one_are_counted_too(clips, tmp_path):
    """Picture 13 lies between the key frame 12 and the wanted 16; 2 and 40 are never come by."""
    path = remuxed(clips("mpeg4-avi"), tmp_path / "a.avi", wiped({2, 13, 40}))
    reader = VideoReader(path)
    assert [number for number, _ in reader.frames([16])] == [16] and reader.undecodable == 1


@pytest.mark.parametrize("kind", ["h264-b-frames", "mpeg4-avi-b", "mjpeg", "h264-avi"])
def test_a_file_that_ends_too_early_tells_how_much_is_missing(clips, tmp_path, kind):
    whole = remuxed(clips(kind), tmp_path / f"whole.{KINDS[kind][0]}", lambda _, packet: packet)
    path = tmp_path / f"a.{KINDS[kind][0]}"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    reader = VideoReader(path)
    read = dict(reader.frames(range(reader.count)))
    assert 15 < reader.count < 35 and reader.count + reader.missing == COUNT
    assert len(read) + reader.undecodable == reader.count and reader.undecodable <= 1
    for number in range(15):
        np.testing.assert_array_equal(read[number].rgb(), straight(clips(kind))[number])


def test_no_more_is_decoded_than_the_wanted_pictures_need(clips, monkeypatch):
    """With a key frame every 12 and no B-frames, picture 30 takes 24 to 30; with B-frames those nobody refers to are not decoded."""
    came = []
    decode = video.decoded_packet
    monkeypatch.setattr(
        video,
        "decoded_packet",
        lambda context, packet: [came.append(1), decode(context, packet)][1],
    )
    list(VideoReader(clips("mpeg4-avi")).frames([30]))
    assert len(came) == 7 + 1  # and what was left in the decoder
    for max_kept_bytes in (2**24, 0):
        monkeypatch.setattr(video, "MAX_KEPT_PACKET_BYTES", max_kept_bytes)
        for kind in ("mpeg4-avi", "h264-b-frames", "mpeg1", "h264-avi"):
            came.clear()
            with VideoReader(clips(kind)) as reader:
                assert_same(reader, [44], straight(clips(kind)))
                assert len(came) <= 12 + 1 or kind in UNTIMED
                assert_same(reader, [2, 45], straight(clips(kind)))
    signs = []
    reader = VideoReader(clips("mpeg1"), progress=lambda: signs.append(1))
    pictures = list(reader.frames([46]))
    assert len(signs) >= 2 * COUNT + len(pictures)


def test_pictures_that_nobody_refers_to_are_not_decoded(clips, monkeypatch):
    """With two B-frames between the others, every third picture of the 12 and the wanted one are enough."""
    for kind in ("mpeg1", "mpeg4-mkv-b"):
        came = []

        def decoded(context, packet, decode=video.decoded_packet, came=came):
            pictures = decode(context, packet)
            came.extend(pictures or ())
            return pictures

        with monkeypatch.context() as patched:
            patched.setattr(video, "decoded_packet", decoded)
            assert_same(VideoReader(clips(kind)), [35], straight(clips(kind)))
        assert len(came) <= 12 // 3 + 2


@pytest.mark.parametrize("kind", ["mpeg4-mkv-b", "h264-flv", "mpeg4-avi", "msmpeg4"])
@pytest.mark.parametrize("keys", [{20, 30}, set(range(COUNT))])
def test_a_key_frame_that_is_none_is_not_relied_on(clips, tmp_path, kind, keys):
    def lie(number, packet):
        packet.is_keyframe = packet.is_keyframe or number in keys
        return packet

    path = remuxed(clips(kind), tmp_path / f"a.{KINDS[kind][0]}", lie)
    for wanted in ([22, 33], [34], range(COUNT)):
        assert_same(VideoReader(path), wanted, straight(clips(kind)))


def test_a_cover_is_no_video(tmp_path):
    """A sound file with a picture of its cover has no pictures to find faces in; a video's cover is not its first picture."""
    from av.stream import Disposition

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 128, 96, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        sound = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.VideoFrame.from_ndarray(np.full((96, 128, 3), 90, np.uint8), format="rgb24")
        container.mux(cover.encode(frame))
        container.mux(cover.encode(None))
        noise = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        noise.sample_rate, noise.pts = 44_100, 0
        container.mux(sound.encode(noise))
        container.mux(sound.encode(None))
    with pytest.raises(MediaError, match="no video stream"):
        VideoReader(path)


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg1video"])
def test_a_video_that_begins_without_a_key_frame_comes_to_an_end(tmp_path, codec):
    """Cut off in front: its pictures are read from the first packet on, as there is nothing before it."""
    whole, path = (
        media.write_video(tmp_path / "whole.avi", media.film(4), codec=codec),
        tmp_path / "cut.avi",
    )
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux() if packet.size]
        assert packets[0].is_keyframe and not packets[1].is_keyframe
        for number, packet in enumerate(packets[1:]):
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = (
                stream,
                number,
                number,
                number == 0,
            )
            target.mux(packet)
    calls = 0

    def progress():
        nonlocal calls
        calls += 1
        assert calls < 1000

    with VideoReader(path, progress=progress) as reader:
        numbers = [number for number, _ in reader.frames(range(reader.count))]
    assert reader.count == 3 and numbers == sorted(numbers)
