"""What a model sees and hears in some clips, as one HTML page that needs nothing but itself."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasemo import charts, panels
from kerasemo.charts import named
from kerasemo.markdown import rendered
from kerasemo.panels import TITLES, answer_text
from pipelines.markup import document, escape, folded, framed, section, table

Results = Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]

PAGE_STYLE = f"""{charts.STYLE}{panels.STYLE}
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


def write(path: Path, results: Results, *, model: Mapping[str, Any]) -> None:
    """Write the page of some predictions under a temporary name, then rename it.

    Args:
        path: The page.
        results: For each clip what was said of it, or why nothing was, and `{"pictures", "spectrogram"}` to show beside:
            pictures are `{"seconds", "jpeg", "size", "boxes"}` with boxes `[face, left, top, width, height]` in pixels, the
            spectrogram is `{"log_mel", "seconds"}` with float32 [columns, mel_filters] in dB, or None.
        model: `{"name", "labels", "document", "card"}` of the bundle; the card is Markdown.

    Raises:
        InputError: A label of the model is no emotion.
        OSError: The page cannot be written.
    """
    content = prediction_page(results, model=model).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def prediction_page(results: Results, *, model: Mapping[str, Any]) -> str:
    """Return the page that `write` writes."""
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
    return document(
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
        "summary", "Summary", framed("The answer for each clip, and its probability", head, rows)
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
    yield panels.answers(clip)
    if charted := list(panels.over_time(clip, labels, extras["spectrogram"])):
        yield "<h3>Over time</h3>"
        yield '<p class="soft">The height of a band is the probability of its emotion; it is full where that is the greatest.</p>'
        yield from charted
    if clip["visual"] and len(clip["visual"]["faces"]) > 1:
        yield panels.faces_table(clip, labels)
    if extras["pictures"]:
        yield "<h3>Pictures</h3>" + panels.shots(clip, extras["pictures"])
    yield f'<p class="soft">SHA-256 <code style="overflow-wrap:anywhere">{escape(clip["sha256"])}</code></p>'


def _model(model: Mapping[str, Any]) -> Iterator[str]:
    yield f'<div class="card">{rendered(model["card"])}</div>'
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
