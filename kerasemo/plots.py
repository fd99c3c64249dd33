"""Scores as drawings on a page: bars with their intervals, dots of speakers, differences around nothing; markup and style alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipelines.markup import escape

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
    """A score with its interval."""

    label: str
    value: float
    """A share."""
    low: float | None
    high: float | None
    kind: str
    """`visual` or `audio`: its colour."""


def bars(title: str, entries: Sequence[Bar], *, marks: Mapping[str, float]) -> str:
    """Return bars from 0 to 1, each with its interval, and marks such as chance through all of them."""
    drawn = ""
    lines = "".join(
        f'<s class="{escape(name)}" style="left:{_place(value)}"></s>'
        for name, value in marks.items()
    )
    for bar in entries:
        ends = ""
        said = f"{100 * bar.value:.1f}"
        if bar.low is not None:
            ends = f'<u style="left:{_place(bar.low)};width:{_width(bar.low, bar.high)}"></u>'
            said += f" ({100 * bar.low:.1f} to {100 * bar.high:.1f})"
        inside = f'<i style="left:0;width:{_place(bar.value)}"></i>{lines}{ends}'
        drawn += _row(bar.label, f'<div class="lane {escape(bar.kind)}">{inside}</div>', said)
    legend = "".join(f"<li>{escape(name)}: {100 * value:.1f}</li>" for name, value in marks.items())
    return _figure(title, drawn + _ticks((0, 0.2, 0.4, 0.6, 0.8, 1)), legend)


def dots(title: str, rows: Mapping[str, Mapping[str, float]], kind: str) -> str:
    """Return a row of dots from 0 to 1 for each entry of `rows`: a dot a speaker, whose name and share it tells."""
    drawn = ""
    for label, speakers in rows.items():
        inside = "".join(
            f'<em style="left:{_place(value)}" title="{escape(f"{who}: {100 * value:.1f}")}"></em>'
            for who, value in speakers.items()
        )
        lowest = min(speakers, key=speakers.get)
        said = f"lowest {lowest.partition(':')[2]}: {100 * speakers[lowest]:.1f}"
        drawn += _row(label, f'<div class="lane {escape(kind)}">{inside}</div>', said)
    return _figure(title, drawn + _ticks((0, 0.2, 0.4, 0.6, 0.8, 1)), "")


def differences(title: str, entries: Iterable[tuple[str, float, float, float]]) -> str:
    """Return for each (label, difference, low, high) a dot and its interval around nothing, on one scale."""
    entries = list(entries)
    most = max((abs(value) for _, *values in entries for value in values), default=0.0)
    reach = max(0.05, math.ceil(20 * most) / 20)

    def share(value: float) -> float:
        return (value / reach + 1) / 2

    drawn = ""
    for label, found, low, high in entries:
        ends = f'<u style="left:{_place(share(low))};width:{_width(share(low), share(high))}"></u>'
        inside = f'<s style="left:50%"></s>{ends}<em style="left:{_place(share(found))}"></em>'
        drawn += _row(
            label,
            f'<div class="lane audio">{inside}</div>',
            f"{100 * found:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
        )
    ticks = [
        (share(value), f"{100 * value:+.0f}") for value in (-reach, -reach / 2, 0, reach / 2, reach)
    ]
    return _figure(title, drawn + _axis(ticks), "")


def _row(label: str, lane: str, said: str) -> str:
    return f'<div class="row"><span>{escape(label)}</span>{lane}<b>{escape(said)}</b></div>'


def _figure(title: str, content: str, legend: str) -> str:
    return f'<figure class="shares"><figcaption>{escape(title)}</figcaption>{content}{f"<ul>{legend}</ul>" if legend else ""}</figure>'


def _ticks(shares: Sequence[float]) -> str:
    return _axis([(share, f"{100 * share:.0f}") for share in shares])


def _axis(marks: Iterable[tuple[float, str]]) -> str:
    drawn = ""
    for share, said in marks:
        kind = ' class="end"' if share > 0.97 else ""
        drawn += f'<span{kind} style="left:{_place(share)}">{escape(said)}</span>'
    return (
        f'<div class="row"><span></span><div class="ticks" aria-hidden="true">{drawn}</div></div>'
    )


def _place(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def _width(low: float, high: float) -> str:
    return f"{100 * (min(1.0, max(0.0, high)) - min(1.0, max(0.0, low))):.2f}%"
