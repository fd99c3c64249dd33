"""Charts of probabilities over time: what is drawn where, and the marks of the emotions."""

import re

import numpy as np

from kerasemo.reporting import charts
from kerasemo.reporting.charts import Timeline
from pipelines.core.labels import EMOTIONS


def areas(markup: str, kind: str) -> list[list[list[tuple[int, int]]]]:
    """Return the areas of each emotion as lists of points."""
    drawn = re.findall(rf'class="{kind}" d="([^"]*)"', markup)
    return [
        [
            [tuple(map(int, point.split())) for point in re.split("[ML]", area)[1:]]
            for area in d.split("z")[:-1]
        ]
        for d in drawn
    ]


def test_a_chart_shows_each_value_at_its_time_and_fills_the_greatest():
    """Two answers in 4 s, at 1 and 3 s: 0.8 and 0.2, then 0.2 and 0.8; they change places at 2 s, the middle of 1200 units."""
    drawn = charts.chart(
        "t",
        ["anger", "fear"],
        Timeline(np.array([1.0, 3.0]), np.array([[0.8, 0.2], [0.2, 0.8]])),
        4.0,
        words="w",
    )
    assert areas(drawn, "rest") == [
        [[(150, 100), (150, 28), (300, 28), (600, 55), (900, 82), (1050, 82), (1050, 100)]],
        [[(150, 200), (150, 182), (300, 182), (600, 155), (900, 128), (1050, 128), (1050, 200)]],
    ]
    assert areas(drawn, "best") == [
        [[(150, 100), (150, 28), (300, 28), (600, 55), (600, 100)]],
        [[(600, 200), (600, 155), (900, 128), (1050, 128), (1050, 200)]],
    ]


def test_nothing_is_drawn_where_nothing_was_said():
    """Answers every 0.5 s up to 3 s and from 7 s on: nothing from 3.25 to 6.75 s of 10 s."""
    seconds = np.array([*np.arange(0.5, 3.1, 0.5), *np.arange(7.0, 9.6, 0.5)])
    values = np.tile([[0.9, 0.1]], (len(seconds), 1))
    drawn = charts.chart("t", ["anger", "fear"], Timeline(seconds, values), 10.0, words="w")
    first, second = areas(drawn, "rest")[0]
    assert [first[0][0], first[-1][0], second[0][0], second[-1][0]] == [30, 390, 810, 1170]
    wider = charts.chart(
        "t", ["anger", "fear"], Timeline(seconds, values, reach=0.5), 10.0, words="w"
    )
    assert [area[place][0] for area in areas(wider, "rest")[0] for place in (0, -1)] == [
        0,
        420,
        780,
        1200,
    ]


def test_a_single_answer_is_seen():
    ((area,), _) = areas(
        charts.chart(
            "t",
            ["anger", "fear"],
            Timeline(np.array([2.0]), np.array([[0.5, 0.5]])),
            4.0,
            words="w",
        ),
        "rest",
    )
    assert area[-1][0] - area[0][0] >= 100


def test_bins_are_means_and_leave_holes():
    timeline = Timeline(np.array([0.0, 1.0, 2.0, 9.0]), np.array([[0.0], [1.0], [0.5], [0.25]]))
    binned = charts.binned(timeline, 10.0, 3)
    np.testing.assert_allclose(binned.seconds, [1.0, 9.0])
    np.testing.assert_allclose(binned.values, [[0.5], [0.25]])


def test_emotions_have_a_colour_and_a_shape_of_their_own_the_same_on_every_page():
    for values in (charts.SHAPES, charts.COLOURS, charts.COLOURS_IN_THE_DARK):
        assert len(set(values)) == len(values) == len(EMOTIONS)
    assert [charts.number_of(emotion) for emotion in EMOTIONS] == list(range(10))
    for background, colours in (
        ("#ffffff", charts.COLOURS),
        ("#1e2125", charts.COLOURS_IN_THE_DARK),
    ):
        assert min(contrast(colour, background) for colour in colours) >= 3  # WCAG 2.2, 1.4.11


def contrast(one: str, other: str) -> float:
    def luminance(colour):
        parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    dark, bright = sorted(map(luminance, (one, other)))
    return (bright + 0.05) / (dark + 0.05)
