"""Boxes, texts and bars fit into the picture, are readable, and appear at the right times."""

import numpy as np
import pytest

from pipelines.overlay.drawing import Canvas, FaceBoxes, ProbabilityBars, TimedValues


def grey_planes(width, height, value):
    return [np.full((height >> shift, width >> shift), value, np.uint8) for shift in (0, 1, 1)]


def ten_label_groups():
    labels = [f"happiness{n}"[: 9 + n // 9] for n in range(10)]
    return [
        {"title": title, "seconds": [0.0], "labels": labels, "values": [[0.1] * 10]}
        for title in ("face", "voice", "both")
    ]


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (360, 640), (128, 96)])
def test_bars_leave_a_margin(size):
    """Three groups fit into a width of 360 and more; labels may be cut off in smaller pictures."""
    width, _ = size
    bars = ProbabilityBars(ten_label_groups(), size=size)
    planes = grey_planes(width, bars.height, 0)
    bars.draw(Canvas(planes), 0.0)
    is_bright = planes[0] > 120
    assert bars.height % 2 == 0
    assert is_bright.any()
    assert not is_bright[:2].any()
    assert not is_bright[-2:].any()
    if width >= 360:
        assert not is_bright[:, -3:].any()


@pytest.mark.parametrize(
    ("size", "expected"), [((640, 360), 3), ((1920, 1080), 3), ((360, 640), 2), ((128, 96), 1)]
)
def test_number_of_columns_follows_the_width(size, expected):
    assert ProbabilityBars(ten_label_groups(), size=size)._n_columns == expected


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (360, 640), (128, 96)])
def test_letters_of_bars_follow_the_size_of_the_picture(size):
    width, height = size
    capital_pixels = ProbabilityBars(ten_label_groups(), size=size)._capital_pixels
    assert capital_pixels >= 7
    expected = 0.52 * max(14, min(height / 32, width / 28))
    assert capital_pixels == pytest.approx(expected, abs=0.3)


def test_label_of_a_box_stays_within_the_picture():
    face = {"seconds": [0.0], "boxes": [(150, 0, 20, 20)], "texts": ["happiness 100%"]}
    planes = grey_planes(160, 96, 90)
    FaceBoxes({12: face}, height=96).draw(Canvas(planes), 0.0)
    assert (planes[0] > 180).any()
    assert (planes[0][:, :20] == 90).all()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.85, None),
        (0.95, (0.0, 0)),
        (1.05, (0.5, 0)),
        (1.5, (4.0, 2)),
        (1.6, None),
        (4.05, (9.0, 3)),
    ],
)
def test_values_stay_half_a_step_before_and_after_a_gap(seconds, expected):
    values = TimedValues([1.0, 1.2, 1.4, 4.0], [[0.0], [2.0], [4.0], [9.0]])
    result = values.at(seconds)
    if expected is None:
        assert result is None
    else:
        (value,), index = result
        assert (value, index) == (pytest.approx(expected[0]), expected[1])


def test_no_values_at_any_time():
    assert TimedValues([], []).at(0.0) is None
