"""Frames -> face crops: geometry by hand, the search with scripted cascades, the choice of frames with a fake detector."""

import cv2
import media
import numpy as np
import pytest

from pipelines import decode, faces
from pipelines.decode import MediaError
from pipelines.spec import Spec

BOX = (30, 20, 40, 40)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# Crops


@pytest.mark.parametrize("box", [(60, 50, 100, 100), (0, 0, 90, 90), (230, 150, 90, 90), (-10, 120, 80, 110), (100, 60, 90, 50)])
def test_a_crop_has_its_margin_and_repeats_the_border(box):
    """The square of the longer side, 10 % wider on each side, cut from a picture that is lengthened by its border."""
    rgb = picture(240, 320)
    left, top, width, height = box
    side = round(1.2 * max(width, height))
    x, y = left + width // 2 - side // 2, top + height // 2 - side // 2
    lengthened = np.pad(rgb, ((200, 200), (200, 200), (0, 0)), mode="edge")
    square = lengthened[200 + y : 200 + y + side, 200 + x : 200 + x + side]
    expected = cv2.resize(np.ascontiguousarray(square), (64, 64), interpolation=cv2.INTER_AREA if side > 64 else cv2.INTER_LINEAR)
    np.testing.assert_array_equal(faces.crop_face(rgb, box), expected)


def test_a_crop_shrinks_by_area():
    """128x128 -> 64x64: each pixel is the mean of four, so a chequerboard of 0 and 200 becomes 100."""
    chequers = np.indices((128, 128)).sum(axis=0) % 2 * 200
    assert (faces.resize_face(np.repeat(chequers[..., None], 3, axis=2).astype(np.uint8)) == 100).all()


def test_a_crop_grows_bilinearly():
    """32 -> 64 of a ramp of 4 a pixel: between the middles of the pixels it rises by 2."""
    ramp = np.broadcast_to((np.arange(32, dtype=np.uint8) * 4)[None, :, None], (32, 32, 3))
    grown = faces.resize_face(ramp)[10, :, 0].astype(int)
    np.testing.assert_array_equal(np.diff(grown[1:-1]), 2)
    np.testing.assert_array_equal(grown[[0, -1]], [0, 124])


def test_the_face_size_and_margin_are_the_specs():
    crop = faces.crop_face(picture(200, 200), (50, 50, 80, 80), spec=Spec(face_size=40, face_margin=0))
    np.testing.assert_array_equal(crop, cv2.resize(picture(200, 200)[50:130, 50:130], (40, 40), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [(10, 2, [2, 7]), (3, 16, [0, 1, 2]), (16, 16, [*range(16)]), (1, 16, [0]), (25, 2, [6, 18]), (0, 4, [])],
)
def test_spaced_indices_are_in_the_middle_of_their_steps(frames, count, expected):
    assert faces.spaced_indices(frames, count) == expected


@pytest.mark.parametrize(
    ("other", "expected"), [((0, 0, 4, 4), 1), ((2, 0, 4, 4), 8 / 24), ((4, 0, 4, 4), 0), ((9, 9, 1, 1), 0), ((1, 1, 2, 2), 4 / 16)]
)
def test_overlap_is_intersection_over_union(other, expected):
    assert faces.overlap((0, 0, 4, 4), other) == faces.overlap(other, (0, 0, 4, 4)) == pytest.approx(expected)


# The search


class Cascades:
    """Stands in for `faces._cascade`: `answers` gives, for each call, the boxes; what was asked is kept."""

    def __init__(self, monkeypatch, *answers):
        self.answers, self.asked = list(answers), []
        monkeypatch.setattr(faces, "_cascade", self.cascade)

    def cascade(self, name):
        self.name = name
        return self

    def detectMultiScale(self, luma, *, minSize, **_):
        self.asked.append((self.name, luma, minSize[0]))
        return self.answers.pop(0)


def test_frontal_then_profile_then_mirrored_profile(monkeypatch):
    """A box 10 from the left of the mirrored picture, 30 wide, is 200 - 10 - 30 = 160 from the left of the picture."""
    luma = picture(100, 200)[..., 0]
    cascades = Cascades(monkeypatch, [], [], [(10, 20, 30, 30)])
    assert faces.detect_face(luma) == (160, 20, 30, 30)
    assert [name for name, _, _ in cascades.asked] == ["frontalface_alt2", "profileface", "profileface"]
    np.testing.assert_array_equal(cascades.asked[1][1], luma)
    np.testing.assert_array_equal(cascades.asked[2][1], luma[:, ::-1])


def test_no_face(monkeypatch):
    assert Cascades(monkeypatch, [], [], []) and faces.detect_face(picture(100, 200)[..., 0]) is None
    assert faces.detect_face(np.zeros((12, 12), np.uint8)) is None  # smaller than any face


def test_the_largest_box_is_taken_and_later_cascades_are_not_asked(monkeypatch):
    cascades = Cascades(monkeypatch, [(0, 0, 30, 30), (50, 10, 60, 60), (5, 40, 40, 40)])
    assert faces.detect_face(picture(100, 200)[..., 0]) == (50, 10, 60, 60) and len(cascades.asked) == 1


def test_the_face_of_the_box_before_is_kept_to_against_a_larger_one(monkeypatch):
    """Before (60, 30, 30, 30): the region is a third wider on each side, so it begins at (50, 20).

    There (0, 0, 30, 30) overlaps the box before by 400 / 1400, and (12, 11, 22, 22), which lies within it, by 484 / 900.
    """
    cascades = Cascades(monkeypatch, [(12, 11, 22, 22), (0, 0, 30, 30)])
    luma = picture(100, 200)[..., 0]
    assert faces.detect_face(luma, (60, 30, 30, 30)) == (62, 31, 22, 22)
    (_, region, least) = cascades.asked[0]
    np.testing.assert_array_equal(region, luma[20:70, 50:100])
    assert least == 21  # 0.7 of the width before


def test_a_face_that_is_gone_from_the_region_is_sought_in_the_whole_picture(monkeypatch):
    luma = picture(100, 200)[..., 0]
    cascades = Cascades(monkeypatch, [], [], [], [(100, 5, 25, 25)])
    assert faces.detect_face(luma, (0, 60, 30, 30)) == (100, 5, 25, 25)
    assert cascades.asked[0][1].shape == (50, 40) and cascades.asked[3][1].shape == (100, 200)


def test_a_large_picture_is_searched_at_288_lines_and_the_box_scaled_back(monkeypatch):
    cascades = Cascades(monkeypatch, [(10, 20, 50, 60)])
    assert faces.detect_face(picture(576, 720)[..., 0]) == (20, 40, 100, 120)
    assert cascades.asked[0][1].shape == (288, 360) and cascades.asked[0][2] == 29  # a tenth of the lines


def test_viola_jones_finds_a_head_and_follows_it():
    before = None
    for rgb in media.film(12)[::3]:
        box = faces.detect_face(decode.Frame.of_rgb(rgb).luma, before)
        assert faces.overlap(box, (95, 75, 118, 118)) > 0.6
        before = box


def test_viola_jones_finds_no_head_in_noise_or_nothing():
    for luma in (picture(256, 320)[..., 0], np.full((256, 320), 90, np.uint8)):
        assert faces.detect_face(luma) is None


# Clips


class FakeDetector:
    """Finds a face in the numbered pictures of a clip except those of `without`; notes what it was asked."""

    def __init__(self, count, without=()):
        self.count, self.without, self.asked = count, set(without), []

    def __call__(self, luma, before):
        number = media.picture_number((luma.astype(float) - 16) * 255 / 219, self.count)
        self.asked.append((number, before))
        return None if number in self.without else (*BOX[:2], BOX[2] + number, BOX[3])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """40 numbered pictures: 4 evenly spaced ones are 5, 15, 25 and 35, and half a step is 5."""
    return media.write_video(tmp_path_factory.mktemp("clip") / "a.mp4", media.numbered_pictures(40))


def numbers(found):
    return [media.picture_number(face, 40) for face in found.faces]


FOUR = Spec(frames_per_clip=4)


def test_evenly_spaced_frames_and_the_box_before(clip):
    detect = FakeDetector(40)
    found = faces.read_faces(clip, spec=FOUR, detect=detect)
    assert found.faces.shape == (4, 64, 64, 3) and found.faces.dtype == np.uint8
    assert numbers(found) == [5, 15, 25, 35] and (found.looked_at, found.seconds) == (4, pytest.approx(1.6))
    assert detect.asked == [(5, None), (15, (30, 20, 45, 40)), (25, (30, 20, 55, 40)), (35, (30, 20, 65, 40))]


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
def test_a_frame_without_a_face_gives_way_to_the_nearest_within_half_a_step(clip, without, expected):
    found = faces.read_faces(clip, spec=FOUR, detect=FakeDetector(40, without))
    assert (numbers(found), found.looked_at) == (expected, 4)


def test_a_clip_without_a_face_is_refused(clip):
    detect = FakeDetector(40, range(40))
    with pytest.raises(MediaError, match="no face found in 4 frames"):
        faces.read_faces(clip, spec=FOUR, detect=detect)
    assert len({number for number, _ in detect.asked}) == len(detect.asked)  # no frame twice


def test_only_some_of_many_neighbours_are_tried(tmp_path):
    path = media.write_video(tmp_path / "a.avi", media.numbered_pictures(150, height=48, width=64), codec="mpeg4")
    detect = FakeDetector(150, range(150))
    with pytest.raises(MediaError):
        faces.read_faces(path, spec=Spec(frames_per_clip=2), detect=detect)
    assert len(detect.asked) == 2 + 2 * 2 * faces.NEIGHBOURS_TRIED


def test_a_clip_of_few_frames_gives_them_all(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", media.numbered_pictures(3))
    assert faces.read_faces(path, detect=lambda luma, before: BOX).faces.shape == (3, 64, 64, 3)


def test_as_is_takes_the_whole_picture(tmp_path, clip):
    assert numbers(faces.read_faces(clip, spec=FOUR, detect=None)) == [5, 15, 25, 35]
    cv2.imwrite(str(tmp_path / "a.png"), picture(48, 48)[..., ::-1])
    found = faces.read_still_face(tmp_path / "a.png", detect=None)
    np.testing.assert_array_equal(found.faces[0], cv2.resize(picture(48, 48), (64, 64), interpolation=cv2.INTER_LINEAR))
    assert (len(found.faces), found.looked_at, found.seconds) == (1, 1, 0)


def test_a_still(tmp_path):
    (rgb,) = media.film(1)
    cv2.imwrite(str(tmp_path / "a.png"), rgb[..., ::-1])
    (face,) = faces.read_still_face(tmp_path / "a.png").faces
    np.testing.assert_array_equal(face, faces.crop_face(rgb, faces.detect_face(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))))
    with pytest.raises(MediaError, match="no face found in the image; if the images are faces already, use --faces as-is"):
        faces.read_still_face(tmp_path / "a.png", detect=lambda luma, before: None)


def test_real_faces_are_found_in_nine_of_ten_frames(corpora):
    """GRID: 11 speakers who look into the camera."""
    found = {path.name: faces.read_faces(path) for path in sorted((corpora / "grid").glob("*.mpg"))}
    assert len(found) == 11 and {face.looked_at for face in found.values()} == {16}
    assert {name: len(clip.faces) for name, clip in found.items() if len(clip.faces) < 0.9 * 16} == {}
