"""The page of a prediction: predictions, charts over time, key pictures, a spectrogram."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.reporting import charts
from kerasemo.reporting.charts import Timeline, chart, mark, named, number_of
from kerasemo.reporting.markdown import html_of_markdown
from pipelines.core import files
from pipelines.html import spectrogram
from pipelines.html.markup import (
    clock,
    data_uri,
    escape,
    folded,
    hertz,
    markup_table,
    page,
    section,
    table,
    ticks,
    time_marks,
)

TITLES = {"visual": "Face", "audio": "Voice", "fused": "Face and voice"}
MOST_FACES = 6
"""Faces that have a chart of their own; the table of the faces has all of them."""
MOST_ROWS = 60
"""Of the table of the answers over time."""

STYLE = """
.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:1rem;margin:1rem 0}
.answers>div{border:1px solid var(--line);border-top:3px solid var(--c);border-radius:.4rem;padding:.6rem .8rem}
.answers h3{margin:0}
.answers .wide{margin:.3rem 0 0}
.answers table{font-size:.9rem}
.answers td,.answers th{border:0;padding-top:.1rem;padding-bottom:.1rem}
.answers thead{position:absolute;clip-path:inset(50%)}
.answers td.bar{width:45%}
.answers th,.answer{white-space:nowrap}
.fused{--c:var(--fine)}
.said{font-size:1.35rem;font-weight:600;margin:.1rem 0}
.said small{font-weight:400;font-size:1rem;color:var(--soft);white-space:nowrap}
.shots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,17rem),1fr));gap:1rem}
.shot{position:relative;overflow:hidden;border-radius:.3rem}
.shot img{display:block;width:100%;height:auto}
.shot svg{position:absolute;inset:0;width:100%;height:100%}
.shot rect{fill:none;stroke:var(--c);stroke-width:3;vector-effect:non-scaling-stroke}
.shot rect.edge{stroke:#000;stroke-width:6;opacity:.6}
.shot span{position:absolute;background:#000c;color:#fff;font-size:.78rem;line-height:1.25;padding:.05rem .35rem;white-space:nowrap}
.shot .mark{position:static;width:.7em;height:.7em;fill:#fff}
"""

Clip = Mapping[str, Any]


def answers(clip: Clip) -> str:
    """Return the predictions of face, voice and both for a clip, with all probabilities."""
    return f'<div class="answers">{"".join(_answer(kind, clip[kind]) for kind in TITLES)}</div>'


def answer_text(found: Mapping[str, Any] | None) -> str:
    """Return an answer and its probability in words."""
    return f"{found['emotion']} {whole_percent(found['confidence'])}" if found else "none"


def whole_percent(share: float) -> str:
    r"""Return a share as whole hundredths.

    >>> whole_percent(0.826)
    '83\xa0%'
    """
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _answer(kind: str, found: Mapping[str, Any] | None) -> str:
    title = f"<h3>{TITLES[kind]}</h3>"
    if not found:
        return f'<div class="{kind}">{title}<p class="said">no answer</p><p class="soft">{_why_none(kind)}</p></div>'
    rows = (
        f'<th scope="row">{named(label)}</th><td class="n">{100 * share:.1f} %</td>'
        f'<td class="bar e{number_of(label)}"><i style="width:{100 * share:.1f}%"></i></td>'
        for label, share in found["probabilities"].items()
    )
    head = '<th scope="col">emotion</th><th scope="col" class="n">probability</th><td></td>'
    said = f'<p class="said">{named(found["emotion"])} <small>{whole_percent(found["confidence"])}</small></p>'
    return f'<div class="{kind}">{title}{said}<p class="soft">{_of_what(kind, found)}</p>{markup_table("All probabilities", head, rows)}</div>'


def _lasting(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 120 else clock(seconds)


def _why_none(kind: str) -> str:
    if kind == "fused":
        return "It takes a face and a voice."
    return "The clip has none that could be used, or the model was not trained on it."


def _of_what(kind: str, found: Mapping[str, Any]) -> str:
    if kind == "fused":
        return f"The face counts {found['visual_weight']:.2f}, the voice {1 - found['visual_weight']:.2f}."
    lasting = _lasting(found["seconds"])
    if kind == "audio":
        count = len(found["timeline"])
        return f"The mean over {count:,} segment{'s' * (count != 1)} of {lasting} of sound."
    others = f"the main one of {len(found['faces'])} faces; " if len(found["faces"]) > 1 else ""
    main = found["faces"][0]
    where = (
        f"{main['count']:,} of {found['looked_at']:,} pictures of {lasting}"
        if found["seconds"]
        else "a still picture"
    )
    said = f"{others}seen in {where}."
    return said[0].upper() + said[1:]


def over_time(clip: Clip, labels: Sequence[str], heard: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the charts of a clip: each face, the voice above its spectrogram, both.

    Then the same as a table.
    """
    total = length(clip, heard)
    all_drawn = list(timelines(clip, labels))
    faces = [title for kind, title, _ in all_drawn if kind == "visual"]
    drawn = [one for one in all_drawn if one[1] not in faces[MOST_FACES:]]
    for kind, title, timeline in drawn:
        words = f"{title}: probability of each emotion over {_lasting(total)}; the table below says the same"
        yield chart(f"<b>{escape(title)}</b>", labels, timeline, total, words=words)
        if kind == "audio" and heard:
            yield _spectrogram(heard, total)
    if len(faces) > MOST_FACES:
        yield f'<p class="soft">The first {MOST_FACES} of {len(faces)} faces; all are in the table of the faces.</p>'
    if drawn:
        yield folded("The answers over time as a table", _table(labels, drawn, total))


def length(clip: Clip, heard: Mapping[str, Any] | None) -> float:
    """Return how many seconds the time axis of a clip has."""
    lasting = [clip[kind]["seconds"] for kind in ("visual", "audio") if clip[kind]]
    last = [entry["seconds"] for kind in TITLES if clip[kind] for entry in clip[kind]["timeline"]]
    return max([*lasting, *last, heard["seconds"] if heard else 0.0, 0.1])


def timelines(clip: Clip, labels: Sequence[str]) -> Iterator[tuple[str, str, Timeline]]:
    """Yield (kind, title, timeline) of each face, the voice and both, where there are any.

    A still has no time.
    """
    if clip["visual"] and clip["visual"]["seconds"]:
        faces = clip["visual"]["faces"]
        own: dict[int, list] = {face["face"]: [] for face in faces}
        for entry in clip["visual"]["timeline"]:
            own[entry["face"]].append(entry)
        for place, (number, entries) in enumerate(own.items()):
            if entries:
                main = " (the main one)" if place == 0 and len(faces) > 1 else ""
                yield (
                    "visual",
                    f"Face {number}{main}" if len(faces) > 1 else TITLES["visual"],
                    _timeline(entries, labels),
                )
    if not clip["audio"]:
        return
    segments = clip["audio"]["timeline"]
    reach = (segments[0]["to_seconds"] - segments[0]["seconds"]) / 2
    middles = [
        entry | {"seconds": (entry["seconds"] + entry["to_seconds"]) / 2} for entry in segments
    ]
    yield "audio", TITLES["audio"], _timeline(middles, labels, reach=reach)
    if clip["fused"] and clip["fused"]["timeline"]:
        yield "fused", TITLES["fused"], _timeline(clip["fused"]["timeline"], labels, reach=reach)


def _timeline(
    entries: Sequence[Mapping[str, Any]], labels: Sequence[str], *, reach: float = 0.0
) -> Timeline:
    ordered = sorted(entries, key=lambda entry: entry["seconds"])
    values = np.array([[entry["probabilities"][label] for label in labels] for entry in ordered])
    return Timeline(np.array([entry["seconds"] for entry in ordered], float), values, reach)


def _table(labels: Sequence[str], drawn: Sequence[tuple[str, str, Timeline]], total: float) -> str:
    count = min(MOST_ROWS, max(len(timeline.seconds) for *_, timeline in drawn))
    columns = [_by_row(labels, timeline, total, count) for *_, timeline in drawn]
    starts = [f"{clock(round(total * row / count, 2), longest=total)}" for row in range(count)]
    rows = [
        (start, *(column.get(row, "–") for column in columns)) for row, start in enumerate(starts)
    ]
    caption = (
        f"The most probable emotion of each {total / count:.2f} s, and its mean probability there"
    )
    return table(
        caption, ("from, s" if total < 120 else "from", *(title for _, title, _ in drawn)), rows
    )


def _by_row(labels: Sequence[str], timeline: Timeline, total: float, count: int) -> dict[int, str]:
    """Return what stands in the rows of a column."""
    places = np.clip((timeline.seconds * count / total).astype(int), 0, count - 1)
    said = {}
    for row in np.unique(places):
        means = timeline.values[places == row].mean(axis=0)
        best = int(means.argmax())
        said[int(row)] = f"{labels[best]} {whole_percent(means[best])}"
    return said


def _spectrogram(heard: Mapping[str, Any], total: float) -> str:
    width = 100 * min(1.0, heard["seconds"] / total)
    label = f"Spectrogram of {_lasting(heard['seconds'])} of sound, on the time axis of the charts"
    return (
        '<figure class="times"><figcaption>Log-Mel power of the voice over time and frequency '
        f"(Hz); bright is loud, black is {spectrogram.RANGE_DB:g} dB below the "
        f'loudest</figcaption><div class="lanes">{hertz(spectrogram.hertz_marks())}<img src="{spectrogram.spectrogram_uri(heard["log_mel"])}" style="width:{width:.2f}%" alt="{escape(label)}">'
        f"{ticks(time_marks(total))}</div></figure>"
    )


def faces_table(clip: Clip, labels: Sequence[str]) -> str:
    """Return the faces of a clip with more than one: when each was seen, and what it says."""
    rows = [
        (
            face["face"],
            f"{face['from_seconds']:.2f}",
            f"{face['to_seconds']:.2f}",
            f"{face['count']:,}",
            answer_text(face),
        )
        + tuple(f"{100 * face['probabilities'][label]:.1f}" for label in labels)
        for face in clip["visual"]["faces"]
    ]
    columns = ("face", "from, s", "to, s", "times seen", "answer", *labels)
    return table(
        "The faces, the main one first; probabilities in %",
        columns,
        rows,
        numbers=(0, 1, 2, 3, *range(5, len(columns))),
    )


def shots(clip: Clip, pictures: Sequence[Mapping[str, Any]]) -> str:
    """Return key pictures with the box, number and emotion of each face."""
    return f'<div class="shots">{"".join(_shot(clip, picture) for picture in pictures)}</div>'


def _shot(clip: Clip, picture: Mapping[str, Any]) -> str:
    width, height = picture["size"]
    rects, names, told = "", "", []
    for face, left, top, wide, high in picture["boxes"]:
        entry = _nearest(clip, face, picture["seconds"])
        place = f'x="{left:g}" y="{top:g}" width="{wide:g}" height="{high:g}"'
        rects += (
            f'<rect class="edge" {place}/><rect class="e{number_of(entry["emotion"])}" {place}/>'
        )
        across = (
            f"left:{100 * left / width:.1f}%"
            if left + wide / 2 <= width / 2
            else f"right:{100 * (1 - (left + wide) / width):.1f}%"
        )
        down = (
            f"bottom:{100 * (1 - top / height):.1f}%"
            if top / height > 0.12
            else f"top:{100 * top / height:.1f}%"
        )
        said = f"{face} {answer_text(entry)}"
        told.append(f"face {said}")
        names += f'<span style="{across};{down}">{face} {mark(entry["emotion"])}{escape(answer_text(entry))}</span>'
    at = _lasting(picture["seconds"])
    alt = f"Picture at {at}: {', '.join(told) or 'no face'}"
    return (
        f'<figure><div class="shot"><img src="{data_uri(picture["jpeg"], "image/jpeg")}" width="{width}" height="{height}" '
        f'alt="{escape(alt)}"><svg viewBox="0 0 {width} {height}" aria-hidden="true">{rects}</svg>'
        f'<div aria-hidden="true">{names}</div></div><figcaption>{at}</figcaption></figure>'
    )


def _nearest(clip: Clip, face: int, seconds: float) -> Mapping[str, Any]:
    """Return what a face said at a time, or where it was seen next to it."""
    own = [entry for entry in clip["visual"]["timeline"] if entry["face"] == face]
    return min(own, key=lambda entry: abs(entry["seconds"] - seconds))


Results = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]

PAGE_STYLE = f"""{charts.STYLE}{STYLE}
.legend{{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:.6rem 0;padding:0;list-style:none}}
.warnings{{margin:.6rem 0;padding:.1rem 0 .1rem 1.6rem;border-left:4px solid var(--warn)}}
.stamp{{border-left:4px solid var(--bad);padding-left:.8rem;font-weight:600}}
.card h3,.card h4,.card h5{{margin:1.1rem 0 .3rem}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}}
main,header{{overflow-wrap:break-word}}
"""
_LIMIT = (
    "An answer is the emotion that a clip resembles most of those the model knows, by the clips that it was trained on. "
    "It does not tell what a person feels."
)


def write_prediction_page(path: Path, results: Results, *, model: Mapping[str, Any]) -> None:
    """Write the page of predictions atomically.

    Args:
        path: The page.
        results: For each clip its prediction, or why it has none, and `{"pictures", "spectrogram"}`:
            pictures are `{"seconds", "jpeg", "size", "boxes"}` with boxes
            `[face, left, top, width, height]` in pixels; the spectrogram is `{"log_mel", "seconds"}`
            with float32 [columns, mel_filters] in dB, or None.
        model: `{"name", "labels", "document", "card"}` of the bundle; the card is Markdown.

    Raises:
        DataError: A label of the model is not an emotion.
        StorageError: The page cannot be written.
    """
    page = prediction_page(results, model=model)
    with files.storage_errors(path):
        files.write_text(path, page)


def prediction_page(results: Results, *, model: Mapping[str, Any]) -> str:
    """Return the page of predictions; see `write_prediction_page`."""
    read = [
        (f"clip-{number}", *entry)
        for number, entry in enumerate(results, 1)
        if "error" not in entry[0]
    ]
    left_out = [clip for clip, _ in results if "error" in clip]
    sections = [_summary(read)] if len(read) > 1 else []
    sections += [
        section(name, clip["path"], *_clip(clip, extras, model["labels"]))
        for name, clip, extras in read
    ]
    if left_out:
        rows = [(clip["path"], clip["error"]) for clip in left_out]
        sections.append(
            section(
                "left-out",
                "Left out",
                table("Clips of which nothing was read", ("clip", "reason"), rows, paths=(0,)),
            )
        )
    sections.append(section("model", "The model", *_model(model)))
    title = f"{_count(len(read), 'clip')} as {model['name']} sees and hears {'it' if len(read) == 1 else 'them'}"
    return page(
        title,
        _header(title, read, left_out, model),
        sections,
        "Made by python -m kerasemo.predict.",
        style=PAGE_STYLE,
    )


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"


def _header(title: str, read: Sequence, left_out: Sequence, model: Mapping[str, Any]) -> str:
    stamp = ""
    if model["document"]["synthetic"]:
        stamp = '<p class="stamp">This model was trained on synthesised samples: what it says of people means nothing.</p>'
    legend = "".join(f"<li>{named(label)}</li>" for label in model["labels"])
    named_sections = (
        [("summary", "Summary")] if len(read) > 1 else [(name, "Clip") for name, *_ in read]
    )
    named_sections += [("left-out", f"Left out ({len(left_out):,})")] if left_out else []
    links = "".join(
        f'<a href="#{name}">{text}</a>' for name, text in [*named_sections, ("model", "The model")]
    )
    return (
        f'{charts.shapes()}<h1>{escape(title)}</h1>{stamp}<p class="soft">{_LIMIT}</p>'
        f'<ul class="legend" aria-label="Emotions and their marks">{legend}</ul><nav aria-label="Sections">{links}</nav>'
    )


def _summary(read: Sequence) -> str:
    head = "".join(
        f'<th scope="col">{title}</th>' for title in ("Clip", *TITLES.values(), "Warnings")
    )
    rows = [
        f'<td class="path"><a href="#{name}">{escape(clip["path"])}</a></td>'
        + "".join(f'<td class="answer">{_named_answer(clip[kind])}</td>' for kind in TITLES)
        + f'<td class="n">{len(clip["warnings"]):,}</td>'
        for name, clip, _ in read
    ]
    return section(
        "summary",
        "Summary",
        markup_table("The answer for each clip, and its probability", head, rows),
    )


def _named_answer(found: Mapping[str, Any] | None) -> str:
    return (
        f"{charts.mark(found['emotion'])}{escape(answer_text(found))}"
        if found
        else '<span class="soft">none</span>'
    )


def _clip(
    clip: Mapping[str, Any], extras: Mapping[str, Any], labels: Sequence[str]
) -> Iterator[str]:
    if clip["warnings"]:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in clip["warnings"])
        yield f'<ul class="warnings" aria-label="Warnings">{items}</ul>'
    yield answers(clip)
    if charted := list(over_time(clip, labels, extras["spectrogram"])):
        yield "<h3>Over time</h3>"
        yield '<p class="soft">The height of a band is the probability of its emotion; it is full where that is the greatest.</p>'
        yield from charted
    if clip["visual"] and len(clip["visual"]["faces"]) > 1:
        yield faces_table(clip, labels)
    if extras["pictures"]:
        yield "<h3>Pictures</h3>" + shots(clip, extras["pictures"])
    yield f'<p class="soft">SHA-256 <code style="overflow-wrap:anywhere">{escape(clip["sha256"])}</code></p>'


def _model(model: Mapping[str, Any]) -> Iterator[str]:
    yield f'<div class="card">{html_of_markdown(model["card"])}</div>'
    facts = [
        (name, value)
        for name, value in _flat(model["document"])
        if name.partition(".")[0] != "signatures"
    ]
    yield folded(
        "What its bundle.json says",
        table("bundle.json, without the signatures", ("name", "value"), facts, paths=(1,)),
    )


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, value as JSON) of what is nested."""
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", json.dumps(value, ensure_ascii=False)
