"""Probabilities over time as inline SVG, and the mark that each emotion has on a page: a colour, and a shape beside it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipelines.markup import escape, ticks, time_marks
from pipelines.spec import EMOTIONS, InputError

MOST_COLUMNS = 600
"""Longer timelines are averaged into so many equal parts."""
GONE_SECONDS = 1.0
"""Nothing is drawn between two answers that lie farther apart than this, and than is usual for their timeline."""
WIDTH, BAND = 1200, 100
"""Of the drawing, and of the band of an emotion in it, in units of its own."""
FULL = 90
"""How high a probability of 1 reaches in its band."""

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
"""Of the marks, in the order of `EMOTIONS`, in a square of 10 x 10."""
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
    """What a network said over time."""

    seconds: np.ndarray
    """float [n], rising."""
    values: np.ndarray
    """float [n, labels]: probabilities."""
    reach: float = 0.0
    """How many seconds the first and the last of a stretch stand for on their outer side; at least half a usual step."""


def number_of(label: str) -> int:
    """Return which colour and shape an emotion has, the same on every page; raises InputError for what is none."""
    if label not in EMOTIONS:
        raise InputError(
            f"label must be one of {', '.join(EMOTIONS)}; received {label!r}. Export the model again"
        )
    return EMOTIONS.index(label)


def shapes() -> str:
    """Return the shapes that `mark` refers to, which a page has once."""
    drawn = "".join(
        f'<symbol id="m{place}" viewBox="0 0 10 10"><path d="{shape}"/></symbol>'
        for place, shape in enumerate(SHAPES)
    )
    return f'<svg class="shapes" width="0" height="0" aria-hidden="true">{drawn}</svg>'


def mark(label: str) -> str:
    """Return the mark that stands before an emotion's name."""
    place = number_of(label)
    return f'<svg class="mark e{place}" width="10" height="10" aria-hidden="true"><use href="#m{place}"/></svg>'


def named(label: str) -> str:
    """Return an emotion's mark and name."""
    return f"{mark(label)}{escape(label)}"


def binned(timeline: Timeline, total: float, count: int) -> Timeline:
    """Return the means of `count` equal parts of the time, those that hold anything; a timeline of no more points as it is.

    >>> binned(Timeline(np.arange(4.0), np.eye(4)[:, :1]), 4.0, 2)
    Timeline(seconds=array([0.5, 2.5]), values=array([[0.5],
           [0. ]]), reach=0.0)
    """
    if len(timeline.seconds) <= count:
        return timeline
    places = np.clip((timeline.seconds * count / total).astype(int), 0, count - 1)
    held, inverse, counts = np.unique(places, return_inverse=True, return_counts=True)
    sums = np.zeros((len(held), 1 + timeline.values.shape[1]))
    np.add.at(sums, inverse, np.column_stack([timeline.seconds, timeline.values]))
    means = sums / counts[:, None]
    return Timeline(means[:, 0], means[:, 1:], timeline.reach)


def runs(seconds: np.ndarray) -> Iterator[tuple[np.ndarray, float]]:
    """Yield (indices, half a usual step) of each stretch of a timeline that has no gap in it."""
    steps = np.diff(seconds)
    usual = float(np.median(steps)) if len(steps) else GONE_SECONDS / 2
    breaks = np.flatnonzero(steps > max(GONE_SECONDS, 2.5 * usual)) + 1
    for run in np.split(np.arange(len(seconds)), breaks):
        yield run, min(usual, GONE_SECONDS) / 2


def chart(
    title: str, labels: Sequence[str], timeline: Timeline, total: float, *, words: str
) -> str:
    """Return a figure with a band for each emotion: its height is the probability, it is full where that is the greatest.

    Args:
        title: Markup that stands above.
        labels: The emotions, in the order of the values.
        timeline: What is drawn.
        total: How long the axis is, in seconds.
        words: What the chart shows, for those who do not see it.
    """
    names = "".join(f"<li>{named(label)}</li>" for label in labels)
    high, marks = BAND * len(labels), time_marks(total)
    grid = "".join(f"M{share * WIDTH:.0f} 0V{high}" for _, share in marks)
    grid += "".join(f"M0 {BAND * (place + 1)}H{WIDTH}" for place in range(len(labels)))
    paths = "".join(_paths(labels, binned(timeline, total, MOST_COLUMNS), total))
    return (
        f'<figure class="times"><figcaption>{title}</figcaption><div class="lanes"><ul aria-hidden="true">{names}</ul>'
        f'<svg class="bands" viewBox="0 0 {WIDTH} {high}" preserveAspectRatio="none" role="img" aria-label="{escape(words)}" '
        f'style="height:{1.5 * len(labels):g}rem"><path class="grid" d="{grid}"/>{paths}</svg>{ticks(marks)}</div></figure>'
    )


def _paths(labels: Sequence[str], timeline: Timeline, total: float) -> Iterator[str]:
    rest, best = [""] * len(labels), [""] * len(labels)
    for run, half in runs(timeline.seconds):
        reach = max(half, timeline.reach)
        # Each point has the stretch from the middle before it to the middle behind it.
        seconds, values = timeline.seconds[run], timeline.values[run]
        edges = np.concatenate(
            [[seconds[0] - reach], (seconds[1:] + seconds[:-1]) / 2, [seconds[-1] + reach]]
        )
        at_edges = np.concatenate([values[:1], (values[1:] + values[:-1]) / 2, values[-1:]])
        times, levels = (
            np.empty(2 * len(run) + 1),
            np.empty((2 * len(run) + 1, len(labels))),
        )  # an edge, a point, an edge ...
        times[::2], times[1::2], levels[::2], levels[1::2] = edges, seconds, at_edges, values
        x = np.round(np.clip(times / total, 0, 1) * WIDTH).astype(int)
        heights = np.round(levels * FULL).astype(int)
        winner = values.argmax(axis=1)
        for place in range(len(labels)):
            floor = BAND * (place + 1)
            rest[place] += _area(x, floor - heights[:, place], floor)
            own = np.flatnonzero(winner == place)
            for stretch in np.split(own, np.flatnonzero(np.diff(own) > 1) + 1) if len(own) else ():
                part = slice(2 * stretch[0], 2 * stretch[-1] + 3)
                best[place] += _area(x[part], floor - heights[part, place], floor)
    for place, label in enumerate(labels):
        yield f'<g class="e{number_of(label)}"><path class="rest" d="{rest[place]}"/><path class="best" d="{best[place]}"/></g>'


def _area(x: np.ndarray, y: np.ndarray, floor: int) -> str:
    """Return the area below a line; of points on one straight stretch of it only the ends are kept."""
    kept = np.ones(len(x), bool)
    kept[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    points = "L".join(f"{a} {b}" for a, b in zip(x[kept].tolist(), y[kept].tolist(), strict=True))
    return f"M{x[0]} {floor}L{points}L{x[-1]} {floor}z"
