"""Parts of an HTML page, such as tables with bars. No script, no remote file."""

import html
import math
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence

MAX_BINS = 30
"""The most bars of a histogram."""
MAX_UNFOLDED = 5
"""A longer list of names is folded at first."""
MAX_TIME_STEPS = 6
"""The most steps of a time axis."""
_BIN_STEPS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_TIME_STEPS = (
    0.1,
    0.25,
    0.5,
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1200.0,
    1800.0,
)

CSS = """
:root{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--text:#1d1f21;--soft:#565b60;--line:#dcdcd6;
--visual:#2866b8;--audio:#b3541e;--bad:#a8201a;--warn:#8a5a00;--fine:#2f6b3a}
@media(prefers-color-scheme:dark){:root{--page:#15171a;--card:#1e2125;--text:#e8e8e6;--soft:#a9afb5;--line:#363b41;
--visual:#7fb0f5;--audio:#f0a06c;--bad:#ff8f87;--warn:#f0c260;--fine:#8fd19a}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:16px/1.5 system-ui,sans-serif}
main,header,footer{max-width:68rem;margin:0 auto;padding:0 1rem}
header{padding-top:2rem}
footer{padding:1rem;font-size:.85rem}
h1{margin:0;font-size:2rem;overflow-wrap:anywhere}
h2{margin:0 0 .75rem;font-size:1.3rem}
h3{margin:1.25rem 0 .5rem;font-size:1rem}
header h2{margin:1.25rem 0 .5rem;font-size:1rem}
h2+h3{margin-top:0}
p{margin:.4rem 0}
.soft,caption,figcaption,footer{color:var(--soft)}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:1rem 0}
a{color:var(--visual)}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1.1rem;margin:1rem 0}
.visual{--c:var(--visual)}.audio{--c:var(--audio)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(7.2rem,1fr));gap:.5rem;margin:.5rem 0 1rem}
.tiles div{border:1px solid var(--line);border-top:3px solid var(--c);border-radius:.4rem;padding:.4rem .6rem}
.tiles dt{color:var(--soft);font-size:.82rem}
.tiles dd{margin:0;font-size:1.25rem;font-weight:600;white-space:nowrap}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;width:100%}
caption{text-align:left;padding-bottom:.4rem}
th,td{padding:.22rem .6rem .22rem 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line);font-weight:400}
thead th{font-weight:600;vertical-align:bottom}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.path{font-family:ui-monospace,monospace;font-size:.85rem;overflow-wrap:anywhere;min-width:12rem}
.bars th[scope=row]{width:8rem}
.bars td.n{width:4rem}
td.bar{min-width:5rem;vertical-align:middle}
td.bar i{display:block;height:.8rem;border-radius:0 3px 3px 0;background:var(--c)}
td.heat{background:color-mix(in srgb,var(--c) calc(var(--h)*38%),transparent)}
.hist{display:flex;align-items:flex-end;gap:1px;height:9rem;border-bottom:1px solid var(--soft)}
.hist i{flex:1;background:var(--c);min-height:1px;border-radius:2px 2px 0 0}
.hist i.none{background:none}
.ticks{position:relative;height:1.4rem;font-size:.8rem;color:var(--soft)}
.ticks span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.ticks span:first-child{transform:none}
.ticks span.end{transform:translateX(-100%)}
.crops{display:flex;flex-wrap:wrap;align-items:center;gap:.4rem;margin:.6rem 0}
.crops h4{flex:0 0 6rem;margin:0;font-size:.95rem}
.crops ul{display:flex;flex-wrap:wrap;gap:.5rem;flex:1 1 14rem;margin:0;padding:0;list-style:none}
.crops li{width:72px;font-size:.75rem;line-height:1.3;color:var(--soft)}
.crops img{display:block;width:72px;height:72px;border-radius:.3rem}
.crops span{display:block;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem}
figure{margin:0}
figcaption{font-size:.85rem;overflow-wrap:anywhere}
.plot{display:grid;grid-template-columns:2.8rem 1fr}
.plot img{display:block;width:100%;height:9rem}
.plot .ticks{grid-column:2}
.hertz{position:relative;font-size:.75rem;color:var(--soft)}
.hertz span{position:absolute;right:.35rem;transform:translateY(50%)}
.findings{list-style:none;margin:0;padding:0}
.findings>li{border-left:4px solid var(--g);padding:.1rem 0 .1rem .8rem;margin:.9rem 0}
.defect{--g:var(--bad)}.notice{--g:var(--warn)}.fact{--g:var(--fine)}
.grade{color:var(--g);font-weight:600}
details ul{margin:.3rem 0;padding-left:1.2rem}
details li{font:.82rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--soft)}
"""


def escape(text: object) -> str:
    """Return a text for a page, or for an attribute in double quotes.

    >>> escape('<a "b">')
    '&lt;a &quot;b&quot;&gt;'
    """
    return html.escape(str(text), quote=True).encode(errors="backslashreplace").decode()


def natural_key(name: str) -> list[str | int]:
    """Return a key that sorts names by the value of the numbers in them.

    >>> sorted(["10", "2", "a10", "a9"], key=natural_key)
    ['2', '10', 'a9', 'a10']
    """
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))]


def data_uri(content: bytes, media_type: str) -> str:
    """Return a data URI with some bytes.

    >>> data_uri(b"hi", "text/plain")
    'data:text/plain;base64,aGk='
    """
    return f"data:{media_type};base64,{b64encode(content).decode()}"


def page(title: str, header: str, sections: Iterable[str], footer: str, *, style: str = "") -> str:
    """Return a whole page. The title is text, the other parts are markup; `style` is more CSS."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<style>{CSS}{style}</style>\n</head>\n<body>\n<header>{header}</header>\n<main>\n"
        + "\n".join(sections)
        + f"\n</main>\n<footer>{footer}</footer>\n</body>\n</html>\n"
    )


def section(name: str, title: str, *parts: str) -> str:
    """Return a section of a page with a heading; the parts are markup."""
    return (
        f'<section id="{escape(name)}"><h2>{escape(title)}</h2>\n' + "\n".join(parts) + "</section>"
    )


def tiles(figures: Mapping[str, str], kind: str) -> str:
    """Return figures in large type; `kind` is a CSS class with a colour."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(figure)}</dd></div>"
        for name, figure in figures.items()
    )
    return f'<dl class="tiles {kind}">{items}</dl>'


def markup_table(caption: str, head: str, rows: Iterable[str], kind: str = "") -> str:
    """Return a table whose cells are markup; `kind` is its CSS class."""
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    caption = f"<caption>{escape(caption)}</caption>"
    return (
        f'<div class="wide"><table class="{kind}">{caption}<thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    paths: Sequence[int] = (),
) -> str:
    """Return a plain table; `numbers` and `paths` are the columns of numbers and file names."""
    kinds = [
        "n" if place in numbers else "path" if place in paths else ""
        for place in range(len(columns))
    ]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(name)}</th>'
        for kind, name in zip(kinds, columns, strict=True)
    )
    row_markup = (
        (f'<td class="{kind}">{escape(cell)}</td>' for kind, cell in zip(kinds, row, strict=True))
        for row in rows
    )
    return markup_table(caption, head, map("".join, row_markup))


def bar_table(caption: str, name: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return a table of counts with bars.

    Args:
        caption: The caption of the table.
        name: The heading of the rows.
        counts: The count of each row, for each column. The name of a column is a CSS class with a
            colour.
    """
    largest = max(count for column in counts.values() for count in column.values())
    head = f'<th scope="col">{escape(name)}</th>' + "".join(
        f'<th scope="col" colspan="2">{escape(column)}</th>' for column in counts
    )
    rows = []
    for row in sorted({row for column in counts.values() for row in column}, key=natural_key):
        row_markup = f'<th scope="row">{escape(row)}</th>'
        for kind, column in counts.items():
            count = column.get(row, 0)
            row_markup += (
                f'<td class="n">{count:,}</td><td class="bar {kind}">'
                f'<i style="width:{100 * count / largest:.1f}%"></i></td>'
            )
        rows.append(row_markup)
    return markup_table(caption, head, rows, "bars")


def heat_table(
    caption: str,
    name: str,
    counts: Mapping[str, Mapping[str, int]],
    columns: Sequence[str],
    kind: str,
) -> str:
    """Return a table of counts by row and column, with a stronger colour for a larger count."""
    largest = max(count for row in counts.values() for count in row.values())
    head = f'<th scope="col">{escape(name)}</th>' + "".join(
        f'<th scope="col" class="n">{escape(column)}</th>' for column in columns
    )
    rows = []
    for row, row_counts in counts.items():
        row_markup = (
            f'<td class="n heat" style="--h:{row_counts.get(column, 0) / largest:.2f}">'
            f"{row_counts.get(column, 0):,}</td>"
            for column in columns
        )
        rows.append(f'<th scope="row">{escape(row)}</th>' + "".join(row_markup))
    return markup_table(caption, head, rows, kind)


def histogram(values: Sequence[float], unit: str, kind: str, label: str) -> str:
    """Return a histogram of values from 0; `label` is its text for a screen reader."""
    top = max(values)
    step = next((step for step in _BIN_STEPS if top / step < MAX_BINS), top / (MAX_BINS - 1))
    counts = [0] * (int(top / step) + 1)
    for value in values:
        counts[int(value / step)] += 1
    drawn = ""
    for place, count in enumerate(counts):
        tooltip = f"{place * step:g} to {(place + 1) * step:g} {unit}: {count:,}"
        drawn += (
            f'<i style="height:{100 * count / max(counts):.1f}%" title="{tooltip}"></i>'
            if count
            else '<i class="none"></i>'
        )
    places = [
        place
        for place in range(0, len(counts), math.ceil(len(counts) / 6))
        if place < 0.9 * len(counts)
    ]
    marks = "".join(
        f'<span style="left:{100 * place / len(counts):.1f}%">{place * step:g}</span>'
        for place in places
    )
    return (
        f'<div class="hist {kind}" role="img" aria-label="{escape(label)}">{drawn}</div>'
        f'<div class="ticks" aria-hidden="true">{marks}'
        f'<span class="end" style="left:100%">{len(counts) * step:g} {unit}</span></div>'
    )


def time_marks(seconds: float) -> tuple[tuple[float, float], ...]:
    """Return the round times on a time axis, each with its place as a share of the width.

    The axis has no more than `MAX_TIME_STEPS` steps.

    >>> time_marks(2.5)
    ((0.0, 0.0), (0.5, 0.2), (1.0, 0.4), (1.5, 0.6), (2.0, 0.8), (2.5, 1.0))
    """
    step = next(
        (step for step in _TIME_STEPS if seconds / step <= MAX_TIME_STEPS),
        3600.0 * math.ceil(seconds / 3600 / MAX_TIME_STEPS),
    )
    return tuple((tick * step, tick * step / seconds) for tick in range(int(seconds / step) + 1))


def clock(seconds: float, *, longest: float = 0.0) -> str:
    """Return a short text of a time: as on a clock if the time or `longest` is two minutes or more.

    >>> clock(2.5), clock(150), clock(3725), clock(2, longest=150)
    ('2.5', '2:30', '1:02:05', '0:02')
    """
    if max(seconds, longest) < 120:
        return f"{seconds:g}"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def ticks(marks: Sequence[tuple[float, float]]) -> str:
    """Return the time axis below a picture, from `time_marks`."""
    drawn = ""
    for time, share in marks:
        # A centred label at the end would leave the picture.
        kind = ' class="end"' if share > 0.97 else ""
        label = clock(time, longest=marks[-1][0])
        drawn += f'<span{kind} style="left:{100 * share:.1f}%">{label}</span>'
    return f'<div class="ticks" aria-hidden="true">{drawn}</div>'


def hertz(marks: Iterable[tuple[int, float]]) -> str:
    """Return the axis at the left of a spectrogram, from frequencies and shares of the height."""
    drawn = "".join(
        f'<span style="bottom:{100 * share:.1f}%">{tick}</span>' for tick, share in marks
    )
    return f'<div class="hertz" aria-hidden="true">{drawn}</div>'


def folded(summary: str, content: str) -> str:
    """Return markup that a click unfolds."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def folded_list(summary: str, names: Sequence[str], max_names: int) -> str:
    """Return a list of the first `max_names` names that a click unfolds.

    A list of no more than `MAX_UNFOLDED` names is open from the start.
    """
    items = "".join(f"<li>{escape(name)}</li>" for name in names[:max_names])
    rest = (
        f'<p class="soft">{len(names) - max_names:,} more are in report.json.</p>'
        if len(names) > max_names
        else ""
    )
    is_open = " open" * (len(names) <= MAX_UNFOLDED)
    return f"<details{is_open}><summary>{escape(summary)}</summary><ul>{items}</ul>{rest}</details>"
