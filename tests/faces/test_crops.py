"""Face crops: geometry derived by hand, and the choice of frames with a fake detector."""

import re

import cv2
import numpy as np
import pytest

from helpers import media
from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.faces import crops, detectors

BOX = (30, 20, 40, 40)


def random_picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def find_no_face(luma, previous_box):
    return None


def find_fixed_box(luma, previous_box):
    return BOX


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
def test_crop_has_its_margin_and_repeats_the_border(box):
    """The crop is a square, 10 % wider on each side than the longer side of the box.

    The expected square is cut from a picture that is padded with its border.
    """
    rgb = random_picture(240, 320)
    box_left, box_top, width, height = box
    side = round(1.2 * max(width, height))
    left, top = box_left + width // 2 - side // 2, box_top + height // 2 - side // 2
    padded = np.pad(rgb, ((200, 200), (200, 200), (0, 0)), mode="edge")
    square = padded[200 + top : 200 + top + side, 200 + left : 200 + left + side]
    expected = cv2.resize(
        np.ascontiguousarray(square),
        (64, 64),
        interpolation=cv2.INTER_AREA if side > 64 else cv2.INTER_LINEAR,
    )
    np.testing.assert_array_equal(crops.crop_face(rgb, box), expected)


def test_crop_shrinks_by_area():
    """128x128 -> 64x64: each pixel is the mean of four, so a checkerboard of 0 and 200 is 100."""
    checkerboard = np.indices((128, 128)).sum(axis=0) % 2 * 200
    rgb = np.repeat(checkerboard[..., None], 3, axis=2).astype(np.uint8)
    assert (crops.resize_face(rgb) == 100).all()


def test_crop_grows_bilinearly():
    """32 -> 64 of a ramp of 4 per pixel: between the centres of the pixels it rises by 2."""
    ramp = np.broadcast_to((np.arange(32, dtype=np.uint8) * 4)[None, :, None], (32, 32, 3))
    row = crops.resize_face(ramp)[10, :, 0].astype(int)
    np.testing.assert_array_equal(np.diff(row[1:-1]), 2)
    np.testing.assert_array_equal(row[[0, -1]], [0, 124])


def test_face_size_and_margin_come_from_the_spec():
    rgb = random_picture(200, 200)
    crop = crops.crop_face(rgb, (50, 50, 80, 80), spec=Spec(face_size=40, face_margin=0))
    expected = cv2.resize(rgb[50:130, 50:130], (40, 40), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize(
    ("n_frames", "count", "expected"),
    [
        (10, 2, [2, 7]),
        (3, 16, [0, 1, 2]),
        (16, 16, [*range(16)]),
        (1, 16, [0]),
        (25, 2, [6, 18]),
        (0, 4, []),
    ],
)
def test_spaced_indices_are_in_the_middle_of_their_steps(n_frames, count, expected):
    assert spaced_indices(n_frames, count) == expected


# Clips


class FakeDetector:
    """Finds a face in the numbered pictures of a clip, except in those of `without`.

    The box is `growth` pixels wider in each picture than in the picture before. `calls` holds the
    picture's number and the previous box of each call.
    """

    def __init__(self, n_pictures, without=(), growth=1):
        self.n_pictures, self.without, self.growth = n_pictures, set(without), growth
        self.calls = []

    def __call__(self, luma, previous_box):
        levels = (luma.astype(float) - 16) * 255 / 219  # luma of the limited range
        number = media.picture_number(levels, self.n_pictures)
        self.calls.append((number, previous_box))
        if number in self.without:
            return None
        left, top, width, height = BOX
        return left, top, width + self.growth * number, height


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """40 numbered pictures: 4 evenly spaced ones are 5, 15, 25 and 35, and half a step is 5."""
    return media.write_video(tmp_path_factory.mktemp("clip") / "a.mp4", media.numbered_pictures(40))


def picture_numbers(clip_faces, n_pictures=40):
    return [media.picture_number(face, n_pictures) for face in clip_faces.faces]


FOUR_FRAMES = Spec(frames_per_clip=4)


def test_frames_are_evenly_spaced_and_searched_with_the_previous_box(clip):
    detect = FakeDetector(40)
    clip_faces = crops.read_faces(clip, spec=FOUR_FRAMES, detect=detect)
    assert clip_faces.faces.shape == (4, 64, 64, 3)
    assert clip_faces.faces.dtype == np.uint8
    assert picture_numbers(clip_faces) == [5, 15, 25, 35]
    assert clip_faces.looked_at == 4
    assert clip_faces.seconds == pytest.approx(1.6)
    assert detect.calls == [
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
        ([5, *range(26, 40)], [4, 15, 25]),  # no face within half a step of 35
        ([*range(11, 20)], [5, 25, 35]),  # 10 and 20 are half a step away
    ],
)
def test_frame_without_a_face_is_replaced_by_the_nearest_within_half_a_step(
    clip, without, expected
):
    clip_faces = crops.read_faces(clip, spec=FOUR_FRAMES, detect=FakeDetector(40, without))
    assert picture_numbers(clip_faces) == expected
    assert clip_faces.looked_at == 4


def test_all_frames_are_tracked_from_few_searches(clip):
    """The fake's boxes agree between the searched frames 0, 24 and 39."""
    detect = FakeDetector(40)
    clip_faces = crops.read_faces(clip, spec=Spec(frames_per_clip=10**9), detect=detect)
    assert picture_numbers(clip_faces) == list(range(40))
    assert clip_faces.looked_at == 40
    assert detect.calls[0][0] == 0
    assert len(detect.calls) < 12


def test_frames_without_a_face_are_left_out_if_all_frames_are_wanted(clip):
    detect = FakeDetector(40, range(20, 31))
    clip_faces = crops.read_faces(clip, spec=Spec(frames_per_clip=40), detect=detect)
    assert picture_numbers(clip_faces) == [*range(20), *range(31, 40)]
    assert clip_faces.looked_at == 40


@pytest.mark.parametrize(("count", "n_searches"), [(5, 3), (4, 4)])
def test_wanted_frames_that_lie_close_are_tracked(clip, count, n_searches):
    """5 of 40 frames lie 8 apart, and 3 of these fit between two searches.

    4 of 40 frames lie 10 apart, and each is searched.
    """
    detect = FakeDetector(40, growth=0)
    clip_faces = crops.read_faces(clip, spec=Spec(frames_per_clip=count), detect=detect)
    assert len(clip_faces.faces) == count
    assert len(detect.calls) == n_searches


@pytest.fixture
def motion_jpeg(tmp_path):
    """A file of 8 numbered pictures, and the position of each picture in the file."""
    path = media.write_video(
        tmp_path / "a.avi", media.numbered_pictures(8), codec="mjpeg", pixels="yuvj420p"
    )
    return path, [match.start() for match in re.finditer(b"\xff\xd8\xff", path.read_bytes())]


CHUNK_HEADER_BYTES = 8  # name and size of the next picture's chunk


def test_damaged_pictures_are_counted_as_undecodable(motion_jpeg):
    """Pictures 3 and 4 of 8 are overwritten with zeros."""
    path, starts = motion_jpeg
    content = bytearray(path.read_bytes())
    for start, next_start in ((starts[3], starts[4]), (starts[4], starts[5])):
        end = next_start - CHUNK_HEADER_BYTES
        content[start:end] = bytes(end - start)
    path.write_bytes(content)
    clip_faces = crops.read_faces(path, detect=find_fixed_box)
    assert picture_numbers(clip_faces, 8) == [0, 1, 2, 5, 6, 7]
    assert clip_faces.undecodable == 2


def test_pictures_missing_at_the_end_are_counted_as_undecodable(motion_jpeg):
    """The header promises 8 pictures; the file holds 5."""
    path, starts = motion_jpeg
    path.write_bytes(path.read_bytes()[: starts[5] - CHUNK_HEADER_BYTES])
    clip_faces = crops.read_faces(path, detect=find_fixed_box)
    assert picture_numbers(clip_faces, 8) == [0, 1, 2, 3, 4]
    assert clip_faces.undecodable == 3


def test_progress_is_called_after_every_packet_picture_and_search(clip):
    calls, detect = [], FakeDetector(40)
    crops.read_faces(clip, spec=FOUR_FRAMES, detect=detect, progress=lambda: calls.append(1))
    assert len(calls) >= 40 + 4 + len(detect.calls)


@pytest.mark.parametrize("pattern", ["grid/*.mpg", "crema-d/VideoFlash/*.flv"])
@pytest.mark.parametrize("spec", [Spec(), Spec(frames_per_clip=1000)])
def test_faces_are_reproducible(corpora, pattern, spec):
    path = sorted(corpora.glob(pattern))[0]
    np.testing.assert_array_equal(
        crops.read_faces(path, spec=spec).faces, crops.read_faces(path, spec=spec).faces
    )


def test_clip_without_a_face_is_refused_and_no_frame_is_searched_twice(clip):
    detect = FakeDetector(40, range(40))
    with pytest.raises(MediaError, match="no face found in 4 frames"):
        crops.read_faces(clip, spec=FOUR_FRAMES, detect=detect)
    assert len({number for number, _ in detect.calls}) == len(detect.calls)


def test_number_of_neighbours_is_limited(tmp_path):
    path = media.write_video(
        tmp_path / "a.avi", media.numbered_pictures(150, height=48, width=64), codec="mpeg4"
    )
    detect = FakeDetector(150, range(150))
    with pytest.raises(MediaError, match=crops.NO_FACE):
        crops.read_faces(path, spec=Spec(frames_per_clip=2), detect=detect)
    assert len(detect.calls) == 2 + 2 * 2 * crops.MAX_NEIGHBOURS


def test_clip_with_few_frames_gives_all_frames(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", media.numbered_pictures(3))
    assert crops.read_faces(path, detect=find_fixed_box).faces.shape == (3, 64, 64, 3)


def test_video_without_a_detector_gives_whole_pictures(clip):
    clip_faces = crops.read_faces(clip, spec=FOUR_FRAMES, detect=None)
    assert picture_numbers(clip_faces) == [5, 15, 25, 35]


def test_still_without_a_detector_gives_the_whole_picture(tmp_path):
    rgb = random_picture(48, 48)
    path = media.write_still(tmp_path / "a.png", rgb)
    clip_faces = crops.read_still_face(path, detect=None)
    expected = cv2.resize(rgb, (64, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(clip_faces.faces, expected[None])
    assert (clip_faces.looked_at, clip_faces.seconds) == (1, 0)


def test_still_gives_the_crop_of_its_face(tmp_path):
    (rgb,) = media.film(1)
    path = media.write_still(tmp_path / "a.png", rgb)
    (face,) = crops.read_still_face(path).faces
    box = detectors.detect_face(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    np.testing.assert_array_equal(face, crops.crop_face(rgb, box))


def test_still_without_a_face_is_refused_with_the_remedy(tmp_path):
    path = media.write_still(tmp_path / "a.png", random_picture(48, 48))
    with pytest.raises(MediaError, match=f"{crops.NO_FACE}.*--faces as-is"):
        crops.read_still_face(path, detect=find_no_face)


def test_faces_of_grid_are_found_in_nine_of_ten_frames(corpora):
    """GRID has 11 speakers who look into the camera."""
    paths = sorted((corpora / "grid").glob("*.mpg"))
    assert len(paths) == 11
    for path in paths:
        clip_faces = crops.read_faces(path)
        assert clip_faces.looked_at == 16
        assert len(clip_faces.faces) >= 0.9 * 16, path.name
