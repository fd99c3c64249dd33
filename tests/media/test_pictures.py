"""One decoded picture: its grey, its colour, a part of it, how it is turned; and videos that are refused."""

import re
import struct

import av
import cv2
import numpy as np
import pytest

from helpers import media
from helpers.videos import moving_pictures, straight, write
from pipelines.core.errors import MediaError
from pipelines.faces import crops
from pipelines.media import images, video
from pipelines.media.video import VideoReader


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [
        ("mjpeg", "yuvj420p"),
        ("ffv1", "yuv420p"),
        ("ffv1", "yuv420p10le"),
        ("ffv1", "gray"),
        ("rawvideo", "bgr24"),
        ("png", "rgb24"),
    ],
)
def test_luma_is_the_grey_of_the_picture(tmp_path, codec, pixels):
    """The width is no multiple of any codec's block. Luma of limited range is 16 + 219/255 of grey."""
    ramp = np.linspace(20, 230, 118)[None, :, None] * np.array([1.0, 0.7, 0.4])
    pictures = np.repeat(np.repeat(ramp, 70, axis=0)[None], 3, axis=0).round().astype(np.uint8)
    path = media.write_video(tmp_path / "a.avi", pictures, codec=codec, pixels=pixels)
    ((_, frame),) = VideoReader(path).frames([1])
    grey = cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2GRAY)
    if pixels != "gray":
        assert np.abs(frame.rgb().astype(int) - pictures[1]).mean() < 4
    expected = 16 + grey * (219 / 255) if pixels == "yuv420p" else grey
    assert frame.luma.dtype == np.uint8 and frame.luma.shape == (70, 118)
    np.testing.assert_allclose(frame.luma, expected, atol=6)


FORMATS = [
    ("ffv1", "yuv420p"),
    ("mjpeg", "yuvj420p"),
    ("ffv1", "yuv422p"),
    ("mjpeg", "yuvj422p"),
    ("ffv1", "yuv444p"),
    ("ffv1", "yuv420p10le"),
]


@pytest.mark.parametrize("size", [(72, 96), (70, 118), (71, 96), (72, 97), (150, 202)])
@pytest.mark.parametrize(("codec", "pixels"), [*FORMATS, ("ffv1", "gray"), ("rawvideo", "bgr24")])
def test_a_part_in_colour_equals_the_whole_picture_there(
    tmp_path, codec, pixels, size, monkeypatch
):
    """To the bit; and the usual formats are converted in part only."""
    path = media.write_video(
        tmp_path / "a.avi",
        moving_pictures(2, height=size[0] + 20, width=size[1] + 20)[:, : size[0], : size[1]],
        codec=codec,
        pixels=pixels,
    )
    ((_, frame),) = VideoReader(path).frames([1])
    whole, converted = frame.rgb(), []
    cut = video._cut_to_rgb
    monkeypatch.setattr(video, "_cut_to_rgb", lambda *sides: converted.append(1) or cut(*sides))
    random = np.random.default_rng(0)
    for _ in range(40):
        top, bottom = np.sort(random.choice(size[0] + 1, 2, replace=False)).tolist()
        left, right = np.sort(random.choice(size[1] + 1, 2, replace=False)).tolist()
        np.testing.assert_array_equal(
            frame.cut(top, bottom, left, right), whole[top:bottom, left:right]
        )
    assert bool(converted) == (
        pixels in video.EXACTLY_CUT_FORMATS and size[0] % 2 == size[1] % 2 == 0
    )
    for box in ((20, 10, 40, 40), (-10, 20, 50, 60), (60, 40, 70, 50)):
        np.testing.assert_array_equal(crops.crop_frame(frame, box), crops.crop_face(whole, box))


def test_colour_of_each_matrix_and_range_is_kept_in_a_part(tmp_path):
    pictures = moving_pictures(2)
    wholes = []
    for name, options in {
        "hd": {"colorspace": "bt709"},
        "sd": {"colorspace": "smpte170m"},
        "full": {"color_range": "pc"},
    }.items():
        path = tmp_path / f"{name}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options=options)
            stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        ((_, frame),) = VideoReader(path).frames([1])
        np.testing.assert_array_equal(frame.cut(11, 40, 21, 72), straight(path)[1][11:40, 21:72])
        wholes.append(straight(path)[1])
    assert (wholes[0] != wholes[1]).any() and (wholes[1] != wholes[2]).any()


def test_a_video_filmed_upright_is_turned(tmp_path):
    """Phones store the picture sideways and the turn (clockwise by a quarter) in the track's matrix."""
    pictures = media.film(3)
    path = media.write_video(tmp_path / "a.mp4", np.rot90(pictures, 1, axes=(1, 2)))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    ((_, frame),) = VideoReader(path).frames([2])
    assert (
        frame.luma.shape == (256, 320) and np.abs(frame.rgb().astype(int) - pictures[2]).mean() < 4
    )
    np.testing.assert_array_equal(frame.cut(3, 100, 20, 50), frame.rgb()[3:100, 20:50])


# Refusals


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("empty.mp4", "empty file"),
        ("text.mp4", "not a media file"),
        ("cut.mp4", "not a media file"),
        ("sound.wav", "no video stream"),
    ],
)
def test_a_bad_video_is_refused_with_its_reason(tmp_path, name, pattern):
    path = tmp_path / name
    if name == "cut.mp4":
        whole = media.write_video(path, media.numbered_pictures(20)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif name == "sound.wav":
        media.write_sound(path, media.noise(0.1, 16_000))
    else:
        path.write_text("" if name == "empty.mp4" else "no film\n" * 100)
    with pytest.raises(MediaError, match=pattern):
        VideoReader(path)


def lying_size(path, codec: str, pixels: str, *, pictures: range, width: int, height: int):
    """Write 6 small pictures; the file's header (if 0 is among `pictures`) and these pictures' own claim to be larger."""
    content = bytearray(
        media.write_video(path, media.numbered_pictures(6), codec=codec, pixels=pixels).read_bytes()
    )
    if 0 in pictures:
        for place in (content.index(b"strf") + 12, content.index(b"avih") + 40):
            content[place : place + 8] = struct.pack("<ii", width, height)
    marks = {
        "mjpeg": (b"\xff\xc0", 5, struct.pack(">HH", height, width)),
        "png": (b"IHDR", 4, struct.pack(">II", width, height)),
    }
    if codec in marks:
        mark, after, size = marks[codec]
        places = [match.start() for match in re.finditer(re.escape(mark), bytes(content))]
        assert len(places) == 6
        for number in pictures:
            content[places[number] + after : places[number] + after + len(size)] = size
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [("mjpeg", "yuvj420p"), ("png", "rgb24"), ("rawvideo", "bgr24"), ("ffv1", "yuv420p")],
)
def test_a_video_whose_header_claims_an_absurd_size_is_refused(tmp_path, codec, pixels):
    """12000x12000 is within libav's own limits."""
    path = lying_size(
        tmp_path / "a.avi", codec, pixels, pictures=range(6), width=12_000, height=12_000
    )
    with pytest.raises(MediaError, match=r"of more than 67108864 pixels \(8192x8192\); scale"):
        VideoReader(path)


def test_a_picture_that_claims_an_absurd_size_amid_the_video_is_refused(tmp_path):
    path = lying_size(
        tmp_path / "a.avi", "png", "rgb24", pictures=range(4, 5), width=12_000, height=11_000
    )
    assert [number for number, _ in VideoReader(path).frames([3])] == [3]
    with pytest.raises(
        MediaError,
        match="pictures.*12000x11000 pixels.*67108864 .8192x8192.; scale.*file down",
    ):
        list(VideoReader(path).frames([3, 4]))


def test_a_video_of_more_than_the_most_pixels_is_refused(tmp_path, monkeypatch):
    path = media.write_video(tmp_path / "a.mp4", media.numbered_pictures(3))
    monkeypatch.setattr(images, "MAX_PIXELS", 128 * 96)
    assert VideoReader(path).count == 3
    monkeypatch.setattr(images, "MAX_PIXELS", 128 * 96 - 1)
    with pytest.raises(MediaError, match="pixels"):
        VideoReader(path)


def test_the_real_clips_give_the_pictures_of_reading_straight_on(corpora):
    for name in ("crema-d/VideoFlash/*.flv", "grid/*.mpg", "ravdess/Actor_01/*.mp4"):
        path = sorted(corpora.glob(name))[-1]
        pictures = straight(path)
        with VideoReader(path) as reader:
            assert reader.count == len(pictures) and reader._is_exact
            for wanted in (range(2, reader.count, 6), [reader.count - 1], [31]):
                read = list(reader.frames(wanted))
                assert [number for number, _ in read] == list(wanted)
                assert all((frame.rgb() == pictures[number]).all() for number, frame in read)
            assert (reader.undecodable, reader.missing) == (0, 0)


def test_sizes_that_change_within_a_stream_are_read(tmp_path):
    """Two H.264 streams of different sizes in one file; each picture comes as it is."""
    small, large = (
        write(tmp_path / name, "h264-ts", pictures)
        for name, pictures in (
            ("a", moving_pictures(12)),
            ("b", moving_pictures(12, height=96, width=128)),
        )
    )
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    shapes = [picture.shape for picture in straight(both)]
    assert len(set(shapes)) == 2
    assert [frame.rgb().shape for _, frame in VideoReader(both).frames(range(24))] == shapes
