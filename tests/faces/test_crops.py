"""Frames -> face crops: geometry by hand, the choice of frames with a fake detector."""

import re

import cv2
import numpy as np
import pytest

from helpers import media
from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.faces import crops, detectors

BOX = (30, 20, 40, 40)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Crops


@pytest.mark.parametrize(
    "box",
    [
        (60, 50, 100, 100),
        (0, 0, 90, 90),
        (230, 150, 90, 90),
        (-10, 120, 80, 110),
        (100, 60, 90, 50),
    ],
)
def test_a_crop_has_its_margin_and_repeats_the_border(box):
    """The square of the longer side, 10 % wider on each side, cut from a picture that is lengthened by its border."""
    rgb = picture(240, 320)
    left, top, width, height = box
    side = round(1.2 * max(width, height))
    x, y = left + width // 2 - side // 2, top + height // 2 - side // 2
    lengthened = np.pad(rgb, ((200, 200), (200, 200), (0, 0)), mode="edge")
    square = lengthened[200 + y : 200 + y + side, 200 + x : 200 + x + side]
    expected = cv2.resize(
        np.ascontiguousarray(square),
        (64, 64),
        interpolation=cv2.INTER_AREA if side > 64 else cv2.INTER_LINEAR,
    )
    np.testing.assert_array_equal(crops.crop_face(rgb, box), expected)


def test_a_crop_shrinks_by_area():
    """128x128 -> 64x64: each pixel is the mean of four, so a chequerboard of 0 and 200 becomes 100."""
    chequers = np.indices((128, 128)).sum(axis=0) % 2 * 200
    assert (
        crops.resize_face(np.repeat(chequers[..., None], 3, axis=2).astype(np.uint8)) == 100
    ).all()


def test_a_crop_grows_bilinearly():
    """32 -> 64 of a ramp of 4 a pixel: between the middles of the pixels it rises by 2."""
    ramp = np.broadcast_to((np.arange(32, dtype=np.uint8) * 4)[None, :, None], (32, 32, 3))
    grown = crops.resize_face(ramp)[10, :, 0].astype(int)
    np.testing.assert_array_equal(np.diff(grown[1:-1]), 2)
    np.testing.assert_array_equal(grown[[0, -1]], [0, 124])


def test_the_face_size_and_margin_are_the_specs():
    crop = crops.crop_face(
        picture(200, 200), (50, 50, 80, 80), spec=Spec(face_size=40, face_margin=0)
    )
    np.testing.assert_array_equal(
        crop, cv2.resize(picture(200, 200)[50:130, 50:130], (40, 40), interpolation=cv2.INTER_AREA)
    )


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [
        (10, 2, [2, 7]),
        (3, 16, [0, 1, 2]),
        (16, 16, [*range(16)]),
        (1, 16, [0]),
        (25, 2, [6, 18]),
        (0, 4, []),
    ],
)
def test_spaced_indices_are_in_the_middle_of_their_steps(frames, count, expected):
    assert spaced_indices(frames, count) == expected


# Clips


class FakeDetector:
    """Finds a face in the numbered pictures of a clip except those of `without`; notes what it was asked."""

    def __init__(self, count, without=(), factor=1):
        self.count, self.without, self.factor, self.asked = count, set(without), factor, []

    def __call__(self, luma, before):
        number = media.picture_number((luma.astype(float) - 16) * 255 / 219, self.count)
        self.asked.append((number, before))
        return None if number in self.without else (*BOX[:2], BOX[2] + self.factor * number, BOX[3])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """40 numbered pictures: 4 evenly spaced ones are 5, 15, 25 and 35, and half a step is 5."""
    return media.write_video(tmp_path_factory.mktemp("clip") / "a.mp4", media.numbered_pictures(40))


def numbers(found):
    return [media.picture_number(face, 40) for face in found.faces]


FOUR = Spec(frames_per_clip=4)


def test_evenly_spaced_frames_and_the_box_before(clip):
    detect = FakeDetector(40)
    found = crops.read_faces(clip, spec=FOUR, detect=detect)
    assert found.faces.shape == (4, 64, 64, 3) and found.faces.dtype == np.uint8
    assert numbers(found) == [5, 15, 25, 35] and (found.looked_at, found.seconds) == (
        4,
        pytest.approx(1.6),
    )
    assert detect.asked == [
        (5, None),
        (15, (30, 20, 45, 40)),
        (25, (30, 20, 55, 40)),
        (35, (30, 20, 65, 40)),
    ]


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ([15], [5, 14, 25, 35]),  # the earlier of the two nearest
        ([15, 14], [5, 16, 25, 35]),
        ([*range(12, 18)], [5, 18, 25, 35]),  # 18 is nearer than 11
        ([*range(12, 20)], [5, 11, 25, 35]),
        ([5, *range(26, 40)], [4, 15, 25]),  # within half a step of 35 there is none: one fewer
        ([*range(11, 20)], [5, 25, 35]),  # 10 and 20 are half a step away, and the next step's
    ],
)
def test_a_frame_without_a_face_gives_way_to_the_nearest_within_half_a_step(
    clip, without, expected
):
    found = crops.read_faces(clip, spec=FOUR, detect=FakeDetector(40, without))
    assert (numbers(found), found.looked_at) == (expected, 4)


def test_all_frames_of_a_clip_are_searched_here_and_there(clip):
    """0, 24 and 39 are searched, for which the fake's boxes agree; no frame has a stand-in, so one without a face is left out."""
    detect = FakeDetector(40)
    found = crops.read_faces(clip, spec=Spec(frames_per_clip=10**9), detect=detect)
    assert numbers(found) == list(range(40)) and found.looked_at == 40
    assert [number for number, _ in detect.asked][:1] == [0] and len(detect.asked) < 12
    found = crops.read_faces(
        clip, spec=Spec(frames_per_clip=40), detect=FakeDetector(40, range(20, 31))
    )
    assert numbers(found) == [*range(20), *range(31, 40)] and found.looked_at == 40


@pytest.mark.parametrize(("count", "searches"), [(5, 3), (4, 4)])
def test_wanted_frames_that_lie_close_are_followed_from_one_search_to_the_next(
    clip, count, searches
):
    """5 of 40 lie 8 apart and 3 of these fit between two searches; 4 lie 10 apart, and each is searched."""
    detect = FakeDetector(40, factor=0)
    found = crops.read_faces(clip, spec=Spec(frames_per_clip=count), detect=detect)
    assert len(found.faces) == count and len(detect.asked) == searches


def test_pictures_that_do_not_decode_are_reported(tmp_path):
    """Wiped out: 2 of 8; and the header promises 8 where, cut in half, some 4 are left."""
    path = media.write_video(
        tmp_path / "a.avi", media.numbered_pictures(8), codec="mjpeg", pixels="yuvj420p"
    )
    content = path.read_bytes()
    starts = [match.start() for match in re.finditer(b"\xff\xd8\xff", content)]
    wiped = content
    for start, end in (
        (starts[3], starts[4] - 8),
        (starts[4], starts[5] - 8),
    ):  # 8: the next chunk's name and size
        wiped = wiped[:start] + bytes(end - start) + wiped[end:]
    path.write_bytes(wiped)
    found = crops.read_faces(path, detect=lambda luma, before: BOX)
    assert [media.picture_number(face, 8) for face in found.faces] == [
        0,
        1,
        2,
        5,
        6,
        7,
    ] and found.undecodable == 2
    path.write_bytes(content[: starts[5] - 8])
    found = crops.read_faces(path, detect=lambda luma, before: BOX)
    assert [media.picture_number(face, 8) for face in found.faces] == [
        0,
        1,
        2,
        3,
        4,
    ] and found.undecodable == 3


def test_progress_is_told_of_every_packet_picture_and_search(clip):
    signs, detect = [], FakeDetector(40)
    crops.read_faces(clip, spec=FOUR, detect=detect, progress=lambda: signs.append(1))
    assert len(signs) >= 40 + 4 + len(detect.asked)


def test_the_same_faces_come_every_time(corpora):
    for path in (
        sorted(corpora.glob("grid/*.mpg"))[0],
        sorted(corpora.glob("crema-d/VideoFlash/*.flv"))[0],
    ):
        for spec in (Spec(), Spec(frames_per_clip=1000)):
            np.testing.assert_array_equal(
                crops.read_faces(path, spec=spec).faces, crops.read_faces(path, spec=spec).faces
            )


def test_a_clip_without_a_face_is_refused(clip):
    detect = FakeDetector(40, range(40))
    with pytest.raises(MediaError, match="no face found.*4 frames"):
        crops.read_faces(clip, spec=FOUR, detect=detect)
    assert len({number for number, _ in detect.asked}) == len(detect.asked)  # no frame twice


def test_only_some_of_many_neighbours_are_tried(tmp_path):
    path = media.write_video(
        tmp_path / "a.avi", media.numbered_pictures(150, height=48, width=64), codec="mpeg4"
    )
    detect = FakeDetector(150, range(150))
    with pytest.raises(MediaError):
        crops.read_faces(path, spec=Spec(frames_per_clip=2), detect=detect)
    assert len(detect.asked) == 2 + 2 * 2 * crops.MAX_NEIGHBOURS


def test_a_clip_of_few_frames_gives_them_all(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", media.numbered_pictures(3))
    assert crops.read_faces(path, detect=lambda luma, before: BOX).faces.shape == (3, 64, 64, 3)


def test_as_is_takes_the_whole_picture(tmp_path, clip):
    assert numbers(crops.read_faces(clip, spec=FOUR, detect=None)) == [5, 15, 25, 35]
    cv2.imwrite(str(tmp_path / "a.png"), picture(48, 48)[..., ::-1])
    found = crops.read_still_face(tmp_path / "a.png", detect=None)
    np.testing.assert_array_equal(
        found.faces[0], cv2.resize(picture(48, 48), (64, 64), interpolation=cv2.INTER_LINEAR)
    )
    assert (len(found.faces), found.looked_at, found.seconds) == (1, 1, 0)


def test_a_still(tmp_path):
    (rgb,) = media.film(1)
    cv2.imwrite(str(tmp_path / "a.png"), rgb[..., ::-1])
    (face,) = crops.read_still_face(tmp_path / "a.png").faces
    np.testing.assert_array_equal(
        face, crops.crop_face(rgb, detectors.detect_face(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)))
    )
    with pytest.raises(
        MediaError,
        match="no face found.*image.*images.*faces.*--faces as-is",
    ):
        crops.read_still_face(tmp_path / "a.png", detect=lambda luma, before: None)


def test_real_faces_are_found_in_nine_of_ten_frames(corpora):
    """GRID: 11 speakers who look into the camera."""
    found = {path.name: crops.read_faces(path) for path in sorted((corpora / "grid").glob("*.mpg"))}
    assert len(found) == 11 and {face.looked_at for face in found.values()} == {16}
    assert {
        name: len(clip.faces) for name, clip in found.items() if len(clip.faces) < 0.9 * 16
    } == {}
