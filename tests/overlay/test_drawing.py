"""Boxes, names and bars: that they fit, can be read, and are there at the right times."""

import numpy as np
import pytest

from pipelines.overlay.drawing import BarDrawing, BoxDrawing, Canvas, TimedValues


@pytest.mark.parametrize("size", [(640, 360), (1920, 1080), (360, 640), (128, 96)])
def test_bars_fit_and_their_letters_go_by_the_height(size):
    labels = [f"happiness{n}"[: 9 + n // 9] for n in range(10)]
    groups = [
        {"title": title, "seconds": [0.0], "labels": labels, "values": [[0.1] * 10]}
        for title in ("face", "voice", "both")
    ]
    bars = BarDrawing(groups, size=size)
    width, _ = size
    planes = [np.zeros((bars.height >> half, width >> half), np.uint8) for half in (0, 1, 1)]
    bars.draw(Canvas(planes), 0.0)
    lit = planes[0] > 120
    assert bars.height % 2 == 0 and lit.any() and not lit[:2].any() and not lit[-2:].any()
    if width >= 360:
        assert not lit[:, -3:].any() and bars._columns == (2 if width == 360 else 3)
    assert bars._capital >= 7 and bars._capital == pytest.approx(
        0.52 * max(14, min(size[1] / 32, width / 28)), abs=0.3
    )


def test_a_name_stays_within_the_picture():
    boxes = BoxDrawing(
        {12: {"seconds": [0.0], "boxes": [(150, 0, 20, 20)], "texts": ["happiness 100%"]}},
        height=96,
    )
    planes = [np.full((96 >> half, 160 >> half), 90, np.uint8) for half in (0, 1, 1)]
    boxes.draw(Canvas(planes), 0.0)
    assert (planes[0] > 180).any() and (planes[0][:, :20] == 90).all()


def test_what_is_told_holds_half_a_step_beyond_its_ends():
    moving = TimedValues([1.0, 1.2, 1.4, 4.0], [[0.0], [2.0], [4.0], [9.0]])
    found = [moving.at(seconds) for seconds in (0.85, 0.95, 1.05, 1.5, 1.6, 4.05)]
    told = [one and (round(float(one[0][0]), 6), one[1]) for one in found]
    assert told == [None, (0.0, 0), (0.5, 0), (4.0, 2), None, (9.0, 3)]
    assert TimedValues([], []).at(0.0) is None
