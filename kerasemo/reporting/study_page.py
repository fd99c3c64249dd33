"""A study as one HTML page that loads nothing from outside, `page.html`."""

from collections.abc import Iterator, Sequence

from kerasemo.reporting import charts, study_tables
from kerasemo.reporting.columns import Row, percent
from kerasemo.reporting.markdown import html_of_markdown
from kerasemo.reporting.study_tables import Study, is_of_clips, is_own_source
from kerasemo.reporting.text_tables import TextTable
from pipelines.html import markup
from pipelines.html.markup import escape

STYLE = f"""{charts.STYLE}{charts.BAR_STYLE}
.facts ul{{margin:.4rem 0;padding-left:1.2rem}}
.facts li{{overflow-wrap:anywhere}}
.stamp{{border-left:4px solid var(--warn);padding-left:.8rem;font-weight:600}}
.failed{{border-left:4px solid var(--bad);padding-left:.8rem}}
.heat.right{{font-weight:600}}
"""


def study_page(study: Study) -> str:
    """Return the page of a study: all its tables, with charts."""
    title = study_tables.study_title(study)
    own_rows = [row for row in study["rows"] if is_own_source(row)]
    rows_by_source = {
        source: rows
        for source in study["beside"]
        if (rows := [row for row in own_rows if row["source"] == source])
    }
    sections = [
        markup.section(_anchor(source), source, *_source(study, source, rows))
        for source, rows in rows_by_source.items()
    ]
    sections.append(markup.section("matrix", "Each stage on every source", *_matrix(study)))
    if study["comparisons"]:
        sections.append(markup.section("compared", "Stages compared", *_comparisons(study)))
    if study["pairs"]:
        pairs = study_tables.pair_table(study)
        sections.append(
            markup.section("pairs", "Do two clips show the same emotion?", pairs.html())
        )
    if study["looks"]:
        sections.append(
            markup.section("looks", "Evaluations of the test split", _test_evaluations(study))
        )
    sections.append(markup.section("facts", "How this was made", *_provenance(study)))
    return markup.page(
        title,
        _header(title, study, list(rows_by_source)),
        sections,
        "Made by python -m kerasemo.reproduce.",
        style=STYLE,
    )


def _anchor(source: str) -> str:
    return source.replace("/", "-")


def _header(title: str, study: Study, sources: Sequence[str]) -> str:
    provenance = html_of_markdown("\n".join(f"- {line}" for line in study_tables.provenance(study)))
    links = {_anchor(source): source for source in sources}
    links |= {"matrix": "Every source", "facts": "How this was made"}
    anchors = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in links.items())
    failures = "".join(
        f'<p class="failed">{escape(failure["cell"])} failed: {escape(failure["reason"])}</p>'
        for failure in study["failed"]
    )
    return (
        f'{charts.shapes()}<h1>{escape(title)}</h1><div class="facts">{provenance}</div>{failures}'
        f'<nav aria-label="Sections">{anchors}</nav>'
    )


def _source(study: Study, source: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the charts and tables of one source."""
    references = study["beside"][source]
    domain = source.rpartition("/")[2]
    clip_rows = [row for row in rows if is_of_clips(row)]
    for row in clip_rows:
        if row["stamps"]:
            stamps = "; ".join(row["stamps"])
            yield f'<p class="stamp">{escape(row["stage"])}: {escape(stamps)}</p>'
    titles = {"ua": "UA, the mean recall of the classes", "wa": "WA, the fraction of correct clips"}
    for name, title in titles.items():
        marks = {"chance": references["chance"]} if name == "ua" else {}
        if listeners := references.get("listeners"):
            marks["listeners"] = listeners[name]
        yield charts.bars(
            f"{title}: clips of all folds, in percent, with the 95 % interval",
            [_bar(row, name, domain) for row in clip_rows],
            marks=marks,
        )
    yield study_tables.score_table(f"Scores on {source}, in percent", rows).html()
    yield study_tables.reference_table(study, source).html(
        title="Published results, each with the protocol that its source states"
    )
    yield _recalls(clip_rows)
    rows_with_speakers = [row for row in clip_rows if row["by_speaker"]]
    if rows_with_speakers:
        scores = {
            row["stage"]: {speaker: scores["ua"] for speaker, scores in row["by_speaker"].items()}
            for row in rows_with_speakers
        }
        yield charts.dots("UA of each speaker, in percent", scores, domain)
        speakers = study_tables.speaker_table(rows_with_speakers)
        yield markup.folded("The speakers as a table", speakers.html())
    for row in clip_rows:
        yield _confusion(row, domain)


def _bar(row: Row, metric: str, domain: str) -> charts.Bar:
    interval = row["interval"].get(metric) or {"low": None, "high": None}
    return charts.Bar(row["stage"], row[metric], interval["low"], interval["high"], domain)


def _emotion_headings(first: str, emotions: Sequence[str]) -> str:
    return f'<th scope="col">{first}</th>' + "".join(
        f'<th scope="col" class="n">{charts.named(emotion)}</th>' for emotion in emotions
    )


def _recalls(rows: Sequence[Row]) -> str:
    emotions = list(dict.fromkeys(emotion for row in rows for emotion in row["emotions"]))
    table_rows = []
    for row in rows:
        recalls = "".join(
            f'<td class="n">{percent(row["recalls"].get(emotion))}</td>' for emotion in emotions
        )
        table_rows.append(f'<th scope="row">{escape(row["stage"])}</th>{recalls}')
    headings = _emotion_headings("stage", emotions)
    return markup.markup_table("Recall of each emotion, in percent", headings, table_rows)


def _confusion(row: Row, domain: str) -> str:
    table_rows = []
    for label, (emotion, counts) in enumerate(zip(row["emotions"], row["confusion"], strict=True)):
        total = max(1, sum(counts))
        count_cells = "".join(
            f'<td class="n heat{" right" * (label == prediction)}" '
            f'style="--h:{count / total:.2f}">{count:,}</td>'
            for prediction, count in enumerate(counts)
        )
        table_rows.append(f'<th scope="row">{charts.named(emotion)}</th>{count_cells}')
    caption = (
        f"{row['stage']}: predictions of clips (columns) for each label (rows), summed over "
        f"{row['networks']} network{'s' * (row['networks'] > 1)}"
    )
    headings = _emotion_headings("label", row["emotions"])
    return markup.markup_table(caption, headings, table_rows, domain)


def _matrix(study: Study) -> Iterator[str]:
    matrix = study_tables.source_matrix(study)
    headings = "".join(
        f'<th scope="col" class="{"n" * matrix.is_number(name)}">{escape(name)}</th>'
        for name in matrix.columns
    )
    caption = f"{matrix.title}. {study_tables.MATRIX_NOTE}"
    yield markup.markup_table(caption, headings, map(_matrix_row, matrix.rows))
    on_other_sources = study_tables.other_sources_table(study)
    if on_other_sources:
        yield markup.folded("The scores on other sources", on_other_sources.html())


def _matrix_row(texts: Sequence[str]) -> str:
    first, *score_texts = texts
    numbers = "".join(f'<td class="n">{_bold(cell)}</td>' for cell in score_texts)
    return f'<th scope="row">{escape(first)}</th>{numbers}'


def _bold(cell: str) -> str:
    """Return the markup of a cell that may be bold in Markdown."""
    return f"<b>{escape(cell.strip('*'))}</b>" if cell.startswith("**") else escape(cell)


def _comparisons(study: Study) -> Iterator[str]:
    differences = [
        (
            f"{' − '.join(comparison['stages'])}, {comparison['source']}",
            comparison["ua"]["difference"],
            comparison["ua"]["low"],
            comparison["ua"]["high"],
        )
        for comparison in study["comparisons"]
        if "refused" not in comparison
    ]
    if differences:
        yield charts.differences(
            "UA of the first stage minus UA of the second, in percentage points, with the 95 % "
            "interval: the mean over speakers where all are known, else pooled",
            differences,
        )
    yield study_tables.comparison_table(study["comparisons"]).html()


def _test_evaluations(study: Study) -> str:
    keys = ("look", "date", "networks", "of_these", "protocol", "code", "command")
    titles = ("number", "date", "networks", "in this study", "protocol", "code", "command")
    rows = [[str(look[key]) for key in keys] for look in study["looks"]]
    text_columns = ("date", "protocol", "code", "command")
    title = "Every evaluation of the test split in this run folder"
    return TextTable(title, titles, rows, text_columns).html()


def _provenance(study: Study) -> Iterator[str]:
    remarks = "".join(f"<li>{escape(line)}</li>" for line in study_tables.remarks(study))
    yield f'<div class="facts"><ul>{remarks}</ul></div>'
    versions = markup.table("Versions", ("name", "version"), study["versions"].items())
    yield markup.folded("Versions", versions)
