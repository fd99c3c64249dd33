"""Probabilities over time as inline SVG, and the colour and shape of each emotion."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipelines.core.errors import DataError
from pipelines.core.labels import EMOTIONS
from pipelines.html.markup import escape, ticks, time_marks

MAX_COLUMNS = 600
"""A longer timeline is averaged to this number of equal parts."""
MAX_GAP_SECONDS = 1.0
"""In a longer gap nothing is drawn, if the gap is also longer than usual for the timeline."""
WIDTH, BAND = 1200, 100
"""The width of the drawing and the height of a band, in the units of the drawing."""
FULL_HEIGHT = 90
"""The height of a probability of 1 in its band."""

SHAPES = (
    "M5 0 10 10H0z",
    "M0 3h10v4H0z",
    "M5 0a5 5 0 1 1 0 10A5 5 0 0 1 5 0z",
    "M0 0 10 5 0 10z",
    "M0 0h10L5 10z",
    "M5 0 10 5 5 10 0 5z",
    "M5 0 6.5 3.5 10 4 7.4 6.5 8 10 5 8.2 2 10 2.6 6.5 0 4 3.5 3.5z",
    "M0 0h10v10H0z",
    "M5 0C8 4 9 5.3 9 7a4 3 0 1 1-8 0C1 5.3 2 4 5 0z",
    "M3.5 0h3v3.5H10v3H6.5V10h-3V6.5H0v-3h3.5z",
)
"""The paths of the marks in the order of `EMOTIONS`, in a square of 10 x 10."""
COLOURS = [
    "#c4302b",
    "#8a6a45",
    "#1b8580",
    "#7c4bb8",
    "#4f8420",
    "#4a50c8",
    "#b27800",
    "#6a7076",
    "#2a6fc0",
    "#c23a87",
]
COLOURS_IN_THE_DARK = [
    "#ff7f78",
    "#c9a67c",
    "#4fc9c2",
    "#bd93f2",
    "#93cb5c",
    "#969bff",
    "#f2c14a",
    "#b3b9bf",
    "#74b1ff",
    "#f589c2",
]

STYLE = (
    ":root{" + "".join(f"--e{place}:{colour};" for place, colour in enumerate(COLOURS)) + "}\n"
    "@media(prefers-color-scheme:dark){:root{"
    + "".join(f"--e{place}:{colour};" for place, colour in enumerate(COLOURS_IN_THE_DARK))
    + "}}\n"
    + "".join(f".e{place}{{--c:var(--e{place})}}" for place in range(len(COLOURS)))
    + """
.mark{width:.7em;height:.7em;fill:var(--c);margin-right:.4em;vertical-align:-.02em}
.shapes{position:absolute}
.times{margin:1.1rem 0}
.times figcaption{margin-bottom:.25rem;font-size:.95rem;color:inherit}
.lanes{display:grid;grid-template-columns:6.6rem minmax(0,1fr)}
.lanes ul{list-style:none;margin:0;padding:0;font-size:.8rem}
.lanes li{height:1.5rem;line-height:1.5rem;white-space:nowrap;overflow:hidden}
.lanes .bands{display:block;width:100%;border-left:1px solid var(--line);border-right:1px solid var(--line)}
.lanes .ticks{grid-column:2}
@media(max-width:32rem){.lanes .ticks{font-size:.7rem}.lanes .ticks span:nth-child(2n){display:none}}
.lanes img{display:block;height:9rem}
.bands path{vector-effect:non-scaling-stroke}
.bands .rest{fill:color-mix(in srgb,var(--c) 28%,transparent);stroke:var(--c);stroke-width:.75}
.bands .best{fill:var(--c)}
.bands .grid{stroke:var(--line);stroke-width:1;fill:none}
"""
)


class Timeline(NamedTuple):
    """The probabilities of a network over time.

    Attributes:
        seconds: The times, float [n], rising.
        values: The probabilities, float [n, labels].
        reach: The seconds that the first and the last point of a stretch cover on their outer side;
            no less than half a median step.
    """

    seconds: np.ndarray
    values: np.ndarray
    reach: float = 0.0


def number_of(label: str) -> int:
    """Return the number of an emotion's colour and shape, which is the same on every page.

    Raises:
        DataError: The label is no emotion.
    """
    if label not in EMOTIONS:
        raise DataError(
            f"label must be one of {', '.join(EMOTIONS)}; received {label!r}. Export the model "
            "again"
        )
    return EMOTIONS.index(label)


def shapes() -> str:
    """Return the shapes that `mark` refers to. A page has them once."""
    drawn = "".join(
        f'<symbol id="m{place}" viewBox="0 0 10 10"><path d="{shape}"/></symbol>'
        for place, shape in enumerate(SHAPES)
    )
    return f'<svg class="shapes" width="0" height="0" aria-hidden="true">{drawn}</svg>'


def mark(label: str) -> str:
    """Return the mark of an emotion."""
    place = number_of(label)
    return (
        f'<svg class="mark e{place}" width="10" height="10" aria-hidden="true">'
        f'<use href="#m{place}"/></svg>'
    )


def named(label: str) -> str:
    """Return an emotion's mark and name."""
    return f"{mark(label)}{escape(label)}"


def binned(timeline: Timeline, total: float, count: int) -> Timeline:
    """Return the means of `count` equal parts of the time, without empty parts.

    A timeline with no more points is returned unchanged.

    >>> binned(Timeline(np.arange(4.0), np.eye(4)[:, :1]), 4.0, 2)
    Timeline(seconds=array([0.5, 2.5]), values=array([[0.5],
           [0. ]]), reach=0.0)
    """
    if len(timeline.seconds) <= count:
        return timeline
    places = np.clip((timeline.seconds * count / total).astype(int), 0, count - 1)
    bins, inverse, counts = np.unique(places, return_inverse=True, return_counts=True)
    sums = np.zeros((len(bins), 1 + timeline.values.shape[1]))
    np.add.at(sums, inverse, np.column_stack([timeline.seconds, timeline.values]))
    means = sums / counts[:, None]
    return Timeline(means[:, 0], means[:, 1:], timeline.reach)


def stretches(seconds: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yield the indices and half a median step of each stretch of a timeline without a gap."""
    steps = np.diff(seconds)
    usual = float(np.median(steps)) if len(steps) else MAX_GAP_SECONDS / 2
    breaks = np.flatnonzero(steps > max(MAX_GAP_SECONDS, 2.5 * usual)) + 1
    for run in np.split(np.arange(len(seconds)), breaks):
        yield run, min(usual, MAX_GAP_SECONDS) / 2


def chart(
    title: str, labels: Sequence[str], timeline: Timeline, total: float, *, words: str
) -> str:
    """Return a figure with a band for each emotion, as high as its probability.

    The band is full where the probability is the largest.

    Args:
        title: The markup above the chart.
        labels: The emotions, in the order of the values.
        timeline: The probabilities.
        total: The length of the time axis in seconds.
        words: The text of the chart for a screen reader.
    """
    names = "".join(f"<li>{named(label)}</li>" for label in labels)
    high, marks = BAND * len(labels), time_marks(total)
    grid = "".join(f"M{share * WIDTH:.0f} 0V{high}" for _, share in marks)
    grid += "".join(f"M0 {BAND * (place + 1)}H{WIDTH}" for place in range(len(labels)))
    paths = "".join(_paths(labels, binned(timeline, total, MAX_COLUMNS), total))
    return (
        f'<figure class="times"><figcaption>{title}</figcaption><div class="lanes"><ul '
        f'aria-hidden="true">{names}</ul><svg class="bands" viewBox="0 0 {WIDTH} {high}" '
        f'preserveAspectRatio="none" role="img" aria-label="{escape(words)}" '
        f'style="height:{1.5 * len(labels):g}rem"><path class="grid" '
        f'd="{grid}"/>{paths}</svg>{ticks(marks)}</div></figure>'
    )


def _paths(labels: Sequence[str], timeline: Timeline, total: float) -> Iterator[str]:
    rest, best = [""] * len(labels), [""] * len(labels)
    for run, half in stretches(timeline.seconds):
        reach = max(half, timeline.reach)
        # A point covers the time between the middles to its neighbours.
        seconds, values = timeline.seconds[run], timeline.values[run]
        edges = np.concatenate(
            [[seconds[0] - reach], (seconds[1:] + seconds[:-1]) / 2, [seconds[-1] + reach]]
        )
        at_edges = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:]])
        # Edges and points alternate.
        times, levels = np.empty(2 * len(run) + 1), np.empty((2 * len(run) + 1, len(labels)))
        times[::2], times[1::2], levels[::2], levels[1::2] = edges, seconds, at_edges, values
        x = np.round(np.clip(times / total, 0, 1) * WIDTH).astype(int)
        heights = np.round(levels * FULL_HEIGHT).astype(int)
        winner = values.argmax(axis=1)
        for place in range(len(labels)):
            floor = BAND * (place + 1)
            rest[place] += _area(x, floor - heights[:, place], floor)
            wins = np.flatnonzero(winner == place)
            if not len(wins):
                continue
            for stretch in np.split(wins, np.flatnonzero(np.diff(wins) > 1) + 1):
                part = slice(2 * stretch[0], 2 * stretch[-1] + 3)
                best[place] += _area(x[part], floor - heights[part, place], floor)
    for place, label in enumerate(labels):
        yield (
            f'<g class="e{number_of(label)}"><path class="rest" d="{rest[place]}"/>'
            f'<path class="best" d="{best[place]}"/></g>'
        )


def _area(x: np.ndarray, y: np.ndarray, floor: int) -> str:
    """Return the area below a line. Only the ends of a horizontal part are kept."""
    is_corner = np.ones(len(x), bool)
    is_corner[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    points = "L".join(
        f"{a} {b}" for a, b in zip(x[is_corner].tolist(), y[is_corner].tolist(), strict=True)
    )
    return f"M{x[0]} {floor}L{points}L{x[-1]} {floor}z"


BAR_STYLE = """
.shares{margin:1.1rem 0}
.shares figcaption{margin-bottom:.35rem}
.shares .row{display:grid;grid-template-columns:minmax(6rem,13rem) minmax(0,1fr) 9.5rem;gap:.6rem;align-items:center}
.shares .row>span{overflow-wrap:anywhere;line-height:1.25}
.shares .row>b{font-weight:400;font-variant-numeric:tabular-nums;white-space:nowrap;font-size:.9rem}
.lane{position:relative;height:1.7rem;border-left:1px solid var(--line);border-right:1px solid var(--line)}
.lane i,.lane u,.lane s,.lane em{position:absolute;display:block;text-decoration:none}
.lane i{top:.4rem;height:.9rem;background:color-mix(in srgb,var(--c) 55%,transparent);border-radius:0 3px 3px 0}
.lane u{top:.8rem;height:0;border-top:2px solid var(--text)}
.lane u::before,.lane u::after{content:"";position:absolute;top:-.3rem;height:.5rem;border-left:2px solid var(--text)}
.lane u::before{left:0}.lane u::after{right:0}
.lane s{top:0;bottom:0;border-left:2px dashed var(--soft)}
.lane s.listeners{border-left:2px solid var(--fine)}
.lane em{top:.5rem;width:.7rem;height:.7rem;margin-left:-.35rem;border-radius:50%;background:var(--c);opacity:.75}
.shares .ticks{grid-column:2}
.shares ul{display:flex;flex-wrap:wrap;gap:.1rem 1.2rem;list-style:none;margin:.3rem 0 0;padding:0;font-size:.85rem;color:var(--soft)}
@media(max-width:40rem){.shares .row{grid-template-columns:minmax(0,1fr) 6rem}.shares .row>.lane,.shares .ticks{grid-column:1/-1}
.shares .row>b{white-space:normal;text-align:right}}
"""


class Bar(NamedTuple):
    """A score with its interval.

    Attributes:
        label: The text of the row.
        value: The score in [0, 1].
        low: The lower end of the interval.
        high: The upper end of the interval.
        kind: `visual` or `audio`, which sets the colour.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    kind: str


def bars(title: str, entries: Sequence[Bar], *, marks: Mapping[str, float]) -> str:
    """Return bars from 0 to 1 with their intervals, and marks such as chance across all bars."""
    drawn = ""
    lines = "".join(
        f'<s class="{escape(name)}" style="left:{_place(value)}"></s>'
        for name, value in marks.items()
    )
    for bar in entries:
        ends = ""
        text = f"{100 * bar.value:.1f}"
        if bar.low is not None and bar.high is not None:
            ends = f'<u style="left:{_place(bar.low)};width:{_width(bar.low, bar.high)}"></u>'
            text += f" ({100 * bar.low:.1f} to {100 * bar.high:.1f})"
        inside = f'<i style="left:0;width:{_place(bar.value)}"></i>{lines}{ends}'
        drawn += _row(bar.label, f'<div class="lane {escape(bar.kind)}">{inside}</div>', text)
    legend = "".join(f"<li>{escape(name)}: {100 * value:.1f}</li>" for name, value in marks.items())
    return _figure(title, drawn + _ticks((0, 0.2, 0.4, 0.6, 0.8, 1)), legend)


def dots(title: str, rows: Mapping[str, Mapping[str, float]], kind: str) -> str:
    """Return a row of dots from 0 to 1 for each entry of `rows`.

    A dot is a speaker, with the name and the share in its tooltip.
    """
    drawn = ""
    for label, speakers in rows.items():
        inside = "".join(
            f'<em style="left:{_place(value)}" title="{escape(f"{who}: {100 * value:.1f}")}"></em>'
            for who, value in speakers.items()
        )
        lowest = min(speakers, key=lambda speaker: speakers[speaker])
        text = f"lowest {lowest.partition(':')[2]}: {100 * speakers[lowest]:.1f}"
        drawn += _row(label, f'<div class="lane {escape(kind)}">{inside}</div>', text)
    return _figure(title, drawn + _ticks((0, 0.2, 0.4, 0.6, 0.8, 1)), "")


def differences(title: str, entries: Iterable[tuple[str, float, float, float]]) -> str:
    """Return a dot and its interval for each (label, difference, low, high), on one scale."""
    entries = list(entries)
    largest = max((abs(value) for _, *values in entries for value in values), default=0.0)
    reach = max(0.05, math.ceil(20 * largest) / 20)

    def share(value: float) -> float:
        return (value / reach + 1) / 2

    drawn = ""
    for label, difference, low, high in entries:
        ends = f'<u style="left:{_place(share(low))};width:{_width(share(low), share(high))}"></u>'
        inside = f'<s style="left:50%"></s>{ends}<em style="left:{_place(share(difference))}"></em>'
        drawn += _row(
            label,
            f'<div class="lane audio">{inside}</div>',
            f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
        )
    ticks = [
        (share(value), f"{100 * value:+.0f}") for value in (-reach, -reach / 2, 0, reach / 2, reach)
    ]
    return _figure(title, drawn + _axis(ticks), "")


def _row(label: str, lane: str, text: str) -> str:
    return f'<div class="row"><span>{escape(label)}</span>{lane}<b>{escape(text)}</b></div>'


def _figure(title: str, content: str, legend: str) -> str:
    legend = f"<ul>{legend}</ul>" if legend else ""
    return (
        f'<figure class="shares"><figcaption>{escape(title)}</figcaption>{content}{legend}</figure>'
    )


def _ticks(shares: Sequence[float]) -> str:
    return _axis([(share, f"{100 * share:.0f}") for share in shares])


def _axis(marks: Iterable[tuple[float, str]]) -> str:
    drawn = ""
    for share, text in marks:
        kind = ' class="end"' if share > 0.97 else ""
        drawn += f'<span{kind} style="left:{_place(share)}">{escape(text)}</span>'
    return (
        f'<div class="row"><span></span><div class="ticks" aria-hidden="true">{drawn}</div></div>'
    )


def _place(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def _width(low: float, high: float) -> str:
    return f"{100 * (min(1.0, max(0.0, high)) - min(1.0, max(0.0, low))):.2f}%"
