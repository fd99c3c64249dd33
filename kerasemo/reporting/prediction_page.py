"""The page of a prediction: predictions, charts over time, key pictures, a spectrogram."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kerasemo.reporting import charts
from kerasemo.reporting.charts import Timeline, chart, mark, named, number_of
from kerasemo.reporting.markdown import html_of_markdown
from pipelines.core import files
from pipelines.core.domains import DOMAIN_FACTS, DOMAINS
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

TITLES = {domain.name: domain.person_part.capitalize() for domain in DOMAIN_FACTS}
TITLES["fused"] = " and ".join(domain.person_part for domain in DOMAIN_FACTS).capitalize()
MAX_FACE_CHARTS = 6
"""The most faces with their own chart; the table has all faces."""
MAX_ROWS = 60
"""The most rows of the table of predictions over time."""

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


def predictions_of(clip: Clip) -> str:
    """Return the predictions of face, voice and both for a clip, with all probabilities."""
    return f'<div class="answers">{"".join(_prediction(kind, clip[kind]) for kind in TITLES)}</div>'


def prediction_text(prediction: Mapping[str, Any] | None) -> str:
    """Return a prediction and its probability as text."""
    if not prediction:
        return "none"
    return f"{prediction['emotion']} {whole_percent(prediction['confidence'])}"


def whole_percent(share: float) -> str:
    r"""Return a share as whole hundredths.

    >>> whole_percent(0.826)
    '83\xa0%'
    """
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _prediction(kind: str, prediction: Mapping[str, Any] | None) -> str:
    title = f"<h3>{TITLES[kind]}</h3>"
    if not prediction:
        return (
            f'<div class="{kind}">{title}<p class="said">no answer</p>'
            f'<p class="soft">{_reason_for_none(kind)}</p></div>'
        )
    rows = (
        f'<th scope="row">{named(label)}</th><td class="n">{100 * share:.1f} %</td>'
        f'<td class="bar e{number_of(label)}"><i style="width:{100 * share:.1f}%"></i></td>'
        for label, share in prediction["probabilities"].items()
    )
    head = '<th scope="col">emotion</th><th scope="col" class="n">probability</th><td></td>'
    emotion, percent = named(prediction["emotion"]), whole_percent(prediction["confidence"])
    return (
        f'<div class="{kind}">{title}<p class="said">{emotion} <small>{percent}</small></p>'
        f'<p class="soft">{_basis(kind, prediction)}</p>'
        f"{markup_table('All probabilities', head, rows)}</div>"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 120 else clock(seconds)


def _reason_for_none(kind: str) -> str:
    if kind == "fused":
        return "It takes a face and a voice."
    return "The clip has none that could be used, or the model was not trained on it."


def _basis(kind: str, prediction: Mapping[str, Any]) -> str:
    """Return the data that a prediction is based on, as a sentence."""
    if kind == "fused":
        weight = prediction["visual_weight"]
        return f"The face counts {weight:.2f}, the voice {1 - weight:.2f}."
    duration = _duration(prediction["seconds"])
    if kind == "audio":
        count = len(prediction["timeline"])
        return f"The mean over {count:,} segment{'s' * (count != 1)} of {duration} of sound."
    faces = prediction["faces"]
    of_faces = f"the main one of {len(faces)} faces; " if len(faces) > 1 else ""
    where = (
        f"{faces[0]['count']:,} of {prediction['looked_at']:,} pictures of {duration}"
        if prediction["seconds"]
        else "a still picture"
    )
    sentence = f"{of_faces}seen in {where}."
    return sentence[0].upper() + sentence[1:]


def over_time(
    clip: Clip, labels: Sequence[str], spectrogram_data: Mapping[str, Any] | None
) -> Iterator[str]:
    """Yield the charts of a clip and then a table with the same numbers.

    The charts show each face, the voice above its spectrogram, and both together.
    """
    total = axis_seconds(clip, spectrogram_data)
    all_timelines = list(timelines(clip, labels))
    faces = [title for kind, title, _ in all_timelines if kind == "visual"]
    hidden = faces[MAX_FACE_CHARTS:]
    drawn = [timeline for timeline in all_timelines if timeline[1] not in hidden]
    for kind, title, timeline in drawn:
        words = (
            f"{title}: probability of each emotion over {_duration(total)}; "
            "the table below says the same"
        )
        yield chart(f"<b>{escape(title)}</b>", labels, timeline, total, words=words)
        if kind == "audio" and spectrogram_data:
            yield _spectrogram(spectrogram_data, total)
    if len(faces) > MAX_FACE_CHARTS:
        yield (
            f'<p class="soft">The first {MAX_FACE_CHARTS} of {len(faces)} faces; '
            "all are in the table of the faces.</p>"
        )
    if drawn:
        yield folded("The answers over time as a table", _table(labels, drawn, total))


def axis_seconds(clip: Clip, spectrogram_data: Mapping[str, Any] | None) -> float:
    """Return the length of the time axis of a clip in seconds."""
    durations = [clip[domain]["seconds"] for domain in DOMAINS if clip[domain]]
    last = [entry["seconds"] for kind in TITLES if clip[kind] for entry in clip[kind]["timeline"]]
    sound = spectrogram_data["seconds"] if spectrogram_data else 0.0
    return max([*durations, *last, sound, 0.1])


def timelines(clip: Clip, labels: Sequence[str]) -> Iterator[tuple[str, str, Timeline]]:
    """Yield the kind, the title and the timeline of each face, of the voice and of both.

    A still picture has no timeline.
    """
    if clip["visual"] and clip["visual"]["seconds"]:
        faces = clip["visual"]["faces"]
        entries_of: dict[int, list[Mapping[str, Any]]] = {face["face"]: [] for face in faces}
        for entry in clip["visual"]["timeline"]:
            entries_of[entry["face"]].append(entry)
        for place, (number, entries) in enumerate(entries_of.items()):
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
    count = min(MAX_ROWS, max(len(timeline.seconds) for *_, timeline in drawn))
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
    """Return the most probable emotion in each row of a column."""
    places = np.clip((timeline.seconds * count / total).astype(int), 0, count - 1)
    texts = {}
    for row in np.unique(places):
        means = timeline.values[places == row].mean(axis=0)
        best = int(means.argmax())
        texts[int(row)] = f"{labels[best]} {whole_percent(means[best])}"
    return texts


def _spectrogram(data: Mapping[str, Any], total: float) -> str:
    width = 100 * min(1.0, data["seconds"] / total)
    label = f"Spectrogram of {_duration(data['seconds'])} of sound, on the time axis of the charts"
    picture = spectrogram.spectrogram_uri(data["log_mel"])
    return (
        '<figure class="times"><figcaption>Log-Mel power of the voice over time and frequency '
        f"(Hz); bright is loud, black is {spectrogram.RANGE_DB:g} dB below the "
        f'loudest</figcaption><div class="lanes">{hertz(spectrogram.hertz_marks())}'
        f'<img src="{picture}" style="width:{width:.2f}%" alt="{escape(label)}">'
        f"{ticks(time_marks(total))}</div></figure>"
    )


def faces_table(clip: Clip, labels: Sequence[str]) -> str:
    """Return the table of the faces of a clip, with their times and predictions."""
    rows = [
        (
            face["face"],
            f"{face['from_seconds']:.2f}",
            f"{face['to_seconds']:.2f}",
            f"{face['count']:,}",
            prediction_text(face),
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


def key_pictures(clip: Clip, pictures: Sequence[Mapping[str, Any]]) -> str:
    """Return key pictures with the box, number and emotion of each face."""
    return (
        f'<div class="shots">{"".join(_key_picture(clip, picture) for picture in pictures)}</div>'
    )


def _key_picture(clip: Clip, picture: Mapping[str, Any]) -> str:
    width, height = picture["size"]
    rects, names, texts = "", "", []
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
        text = prediction_text(entry)
        texts.append(f"face {face} {text}")
        names += (
            f'<span style="{across};{down}">{face} {mark(entry["emotion"])}{escape(text)}</span>'
        )
    at = _duration(picture["seconds"])
    alt = f"Picture at {at}: {', '.join(texts) or 'no face'}"
    source = data_uri(picture["jpeg"], "image/jpeg")
    return (
        f'<figure><div class="shot"><img src="{source}" width="{width}" height="{height}" '
        f'alt="{escape(alt)}"><svg viewBox="0 0 {width} {height}" aria-hidden="true">{rects}</svg>'
        f'<div aria-hidden="true">{names}</div></div><figcaption>{at}</figcaption></figure>'
    )


def _nearest(clip: Clip, face: int, seconds: float) -> Mapping[str, Any]:
    """Return the prediction of a face at the time nearest to `seconds`."""
    entries = [entry for entry in clip["visual"]["timeline"] if entry["face"] == face]
    return min(entries, key=lambda entry: abs(entry["seconds"] - seconds))


class PagePrediction(Protocol):
    """The prediction of a clip, with its pictures.

    Attributes:
        document: The JSON document of the prediction.
        pictures: Key frames: `{"seconds", "jpeg", "size", "boxes"}` each, with boxes `[face, left,
            top, width, height]` in pixels.
        spectrogram: `{"log_mel", "seconds"}` with float32 [columns, mel_filters] in dB, or None.
    """

    @property
    def document(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def pictures(self) -> Sequence[Mapping[str, Any]]: ...  # noqa: D102

    @property
    def spectrogram(self) -> Mapping[str, Any] | None: ...  # noqa: D102


class PageModel(Protocol):
    """The model of a page.

    Attributes:
        document: The JSON document of the bundle.
        card: The model card as Markdown.
        labels: The emotions that the model predicts.
    """

    @property
    def document(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def card(self) -> str: ...  # noqa: D102

    @property
    def labels(self) -> Sequence[str]: ...  # noqa: D102


@dataclass(frozen=True)
class _Section:
    """A clip with a prediction, and the anchor of its section."""

    anchor: str
    prediction: PagePrediction

    @property
    def clip(self) -> Clip:
        return self.prediction.document


PAGE_STYLE = f"""{charts.STYLE}{STYLE}
.legend{{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;margin:.6rem 0;padding:0;list-style:none}}
.warnings{{margin:.6rem 0;padding:.1rem 0 .1rem 1.6rem;border-left:4px solid var(--warn)}}
.stamp{{border-left:4px solid var(--bad);padding-left:.8rem;font-weight:600}}
.card h3,.card h4,.card h5{{margin:1.1rem 0 .3rem}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}}
main,header{{overflow-wrap:break-word}}
"""
_LIMIT = (
    "An answer is the emotion that a clip resembles most of those the model knows, "
    "by the clips that it was trained on. "
    "It does not tell what a person feels."
)


def write_prediction_page(
    path: Path, predictions: Sequence[PagePrediction], *, model: PageModel
) -> None:
    """Write the page of predictions atomically.

    Args:
        path: The page.
        predictions: The prediction of each clip.
        model: The model that made the predictions, such as a bundle.

    Raises:
        DataError: A label of the model is not an emotion.
        StorageError: The page cannot be written.
    """
    page = prediction_page(predictions, model=model)
    with files.storage_errors(path):
        files.write_text(path, page)


def prediction_page(predictions: Sequence[PagePrediction], *, model: PageModel) -> str:
    """Return the page of predictions; see `write_prediction_page`."""
    predicted = [
        _Section(f"clip-{number}", prediction)
        for number, prediction in enumerate(predictions, 1)
        if "error" not in prediction.document
    ]
    left_out = [prediction.document for prediction in predictions if "error" in prediction.document]
    sections = [_summary(predicted)] if len(predicted) > 1 else []
    sections += [
        section(entry.anchor, entry.clip["path"], *_clip(entry.prediction, model.labels))
        for entry in predicted
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
    pronoun = "it" if len(predicted) == 1 else "them"
    name = model.document["name"]
    title = f"{_count(len(predicted), 'clip')} as {name} sees and hears {pronoun}"
    return page(
        title,
        _header(title, predicted, left_out, model),
        sections,
        "Made by python -m kerasemo.predict.",
        style=PAGE_STYLE,
    )


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' * (number != 1)}"


def _header(
    title: str, predicted: Sequence[_Section], left_out: Sequence[Clip], model: PageModel
) -> str:
    stamp = ""
    if model.document["synthetic"]:
        stamp = (
            '<p class="stamp">This model was trained on synthesised samples: '
            "what it says of people means nothing.</p>"
        )
    legend = "".join(f"<li>{named(label)}</li>" for label in model.labels)
    named_sections = (
        [("summary", "Summary")]
        if len(predicted) > 1
        else [(entry.anchor, "Clip") for entry in predicted]
    )
    named_sections += [("left-out", f"Left out ({len(left_out):,})")] if left_out else []
    links = "".join(
        f'<a href="#{name}">{text}</a>' for name, text in [*named_sections, ("model", "The model")]
    )
    return (
        f'{charts.shapes()}<h1>{escape(title)}</h1>{stamp}<p class="soft">{_LIMIT}</p>'
        f'<ul class="legend" aria-label="Emotions and their marks">{legend}</ul>'
        f'<nav aria-label="Sections">{links}</nav>'
    )


def _summary(predicted: Sequence[_Section]) -> str:
    head = "".join(
        f'<th scope="col">{title}</th>' for title in ("Clip", *TITLES.values(), "Warnings")
    )
    rows = [
        f'<td class="path"><a href="#{entry.anchor}">{escape(entry.clip["path"])}</a></td>'
        + "".join(
            f'<td class="answer">{_named_prediction(entry.clip[kind])}</td>' for kind in TITLES
        )
        + f'<td class="n">{len(entry.clip["warnings"]):,}</td>'
        for entry in predicted
    ]
    return section(
        "summary",
        "Summary",
        markup_table("The answer for each clip, and its probability", head, rows),
    )


def _named_prediction(prediction: Mapping[str, Any] | None) -> str:
    if not prediction:
        return '<span class="soft">none</span>'
    return f"{mark(prediction['emotion'])}{escape(prediction_text(prediction))}"


def _clip(prediction: PagePrediction, labels: Sequence[str]) -> Iterator[str]:
    clip = prediction.document
    if clip["warnings"]:
        items = "".join(f"<li>{escape(warning)}</li>" for warning in clip["warnings"])
        yield f'<ul class="warnings" aria-label="Warnings">{items}</ul>'
    yield predictions_of(clip)
    if charted := list(over_time(clip, labels, prediction.spectrogram)):
        yield "<h3>Over time</h3>"
        yield (
            '<p class="soft">The height of a band is the probability of its emotion; '
            "it is full where that is the greatest.</p>"
        )
        yield from charted
    if clip["visual"] and len(clip["visual"]["faces"]) > 1:
        yield faces_table(clip, labels)
    if prediction.pictures:
        yield "<h3>Pictures</h3>" + key_pictures(clip, prediction.pictures)
    sha256 = escape(clip["sha256"])
    yield f'<p class="soft">SHA-256 <code style="overflow-wrap:anywhere">{sha256}</code></p>'


def _model(model: PageModel) -> Iterator[str]:
    yield f'<div class="card">{html_of_markdown(model.card)}</div>'
    facts = [
        (name, value)
        for name, value in _flat(model.document)
        if name.partition(".")[0] != "signatures"
    ]
    yield folded(
        "What its bundle.json says",
        table("bundle.json, without the signatures", ("name", "value"), facts, paths=(1,)),
    )


def _flat(document: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the JSON of each value in nested mappings."""
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", json.dumps(value, ensure_ascii=False)
