"""Charts of probabilities over time: the areas that they draw, and the marks of the emotions."""

import re

import numpy as np

from kerasemo.reporting import charts
from kerasemo.reporting.charts import Timeline
from pipelines.core.labels import EMOTIONS

TWO = ["anger", "fear"]


def areas(markup: str, css_class: str) -> list[list[list[tuple[int, int]]]]:
    """Return the areas of each emotion as lists of points."""
    paths = re.findall(rf'class="{css_class}" d="([^"]*)"', markup)
    return [
        [
            [tuple(map(int, point.split())) for point in re.split("[ML]", area)[1:]]
            for area in path.split("z")[:-1]
        ]
        for path in paths
    ]


def chart_of_two(seconds, values, *, total_seconds, reach=0.0) -> str:
    """Return the chart of predictions of two emotions."""
    timeline = Timeline(np.array(seconds), np.array(values), reach)
    return charts.chart("t", TWO, timeline, total_seconds, words="w")


def test_chart_shows_each_value_at_its_time_and_fills_the_highest():
    """Two predictions in 4 s, at 1 and 3 s: 0.8 and 0.2, then 0.2 and 0.8.

    The chart has 1200 units. The emotions change places at 2 s, which is unit 600.
    """
    markup = chart_of_two([1.0, 3.0], [[0.8, 0.2], [0.2, 0.8]], total_seconds=4.0)
    assert areas(markup, "rest") == [
        [[(150, 100), (150, 28), (300, 28), (600, 55), (900, 82), (1050, 82), (1050, 100)]],
        [[(150, 200), (150, 182), (300, 182), (600, 155), (900, 128), (1050, 128), (1050, 200)]],
    ]
    assert areas(markup, "best") == [
        [[(150, 100), (150, 28), (300, 28), (600, 55), (600, 100)]],
        [[(600, 200), (600, 155), (900, 128), (1050, 128), (1050, 200)]],
    ]


def test_chart_leaves_gaps_without_predictions_empty():
    """Predictions every 0.5 s up to 3 s and from 7 s on: a gap from 3.25 to 6.75 s of 10 s."""
    seconds = [*np.arange(0.5, 3.1, 0.5), *np.arange(7.0, 9.6, 0.5)]
    values = np.tile([[0.9, 0.1]], (len(seconds), 1))
    before, after = areas(chart_of_two(seconds, values, total_seconds=10.0), "rest")[0]
    assert (before[0][0], before[-1][0]) == (30, 390)
    assert (after[0][0], after[-1][0]) == (810, 1170)
    with_reach = chart_of_two(seconds, values, total_seconds=10.0, reach=0.5)
    before, after = areas(with_reach, "rest")[0]
    assert (before[0][0], before[-1][0]) == (0, 420)
    assert (after[0][0], after[-1][0]) == (780, 1200)


def test_single_prediction_is_wide_enough_to_be_visible():
    markup = chart_of_two([2.0], [[0.5, 0.5]], total_seconds=4.0)
    ((area,), _) = areas(markup, "rest")
    assert area[-1][0] - area[0][0] >= 100


def test_bins_are_means_and_leave_gaps():
    timeline = Timeline(np.array([0.0, 1.0, 2.0, 9.0]), np.array([[0.0], [1.0], [0.5], [0.25]]))
    binned = charts.binned(timeline, 10.0, 3)
    np.testing.assert_allclose(binned.seconds, [1.0, 9.0])
    np.testing.assert_allclose(binned.values, [[0.5], [0.25]])


def test_each_emotion_has_its_own_colour_and_shape_on_every_page():
    for values in (charts.SHAPES, charts.COLOURS, charts.COLOURS_IN_THE_DARK):
        assert len(set(values)) == len(values) == len(EMOTIONS)
    assert [charts.number_of(emotion) for emotion in EMOTIONS] == list(range(len(EMOTIONS)))


def test_colours_have_the_contrast_of_wcag():
    """WCAG 2.2, 1.4.11: graphical objects have a contrast of at least 3."""
    for background, colours in (
        ("#ffffff", charts.COLOURS),
        ("#1e2125", charts.COLOURS_IN_THE_DARK),
    ):
        assert min(contrast(colour, background) for colour in colours) >= 3


def contrast(colour: str, background: str) -> float:
    dark, bright = sorted(map(luminance, (colour, background)))
    return (bright + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
