"""The document of `kerasemo.studies.results` as one HTML page that needs nothing but itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasemo.reporting import charts, study_tables
from kerasemo.reporting.markdown import rendered
from pipelines.html.markup import document as whole
from pipelines.html.markup import escape, folded, framed, section, table

Row = Mapping[str, Any]

STYLE = f"""{charts.STYLE}{charts.BAR_STYLE}
.facts ul{{margin:.4rem 0;padding-left:1.2rem}}
.facts li{{overflow-wrap:anywhere}}
.stamp{{border-left:4px solid var(--warn);padding-left:.8rem;font-weight:600}}
.failed{{border-left:4px solid var(--bad);padding-left:.8rem}}
.heat.right{{font-weight:600}}
"""


def page(document: Mapping[str, Any]) -> str:
    """Return the page of all tables, with plots."""
    title = f"{document['experiment']}: {document['side']} side, {document['protocol']}"
    own = [row for row in document["rows"] if row["trained_on"] == "this stage"]
    sources = {
        source: [row for row in own if row["source"] == source] for source in document["beside"]
    }
    sections = [
        section(_name(source), source, *_source(document, source, rows))
        for source, rows in sources.items()
        if rows
    ]
    sections.append(section("matrix", "Each stage on every source", *_matrix(document)))
    if document["comparisons"]:
        sections.append(section("compared", "Stages compared", *_compared(document)))
    if document["pairs"]:
        cells = map(study_tables.pair_cells, document["pairs"])
        pairs = table(
            "By their distance, the mean over the networks, in hundredths",
            study_tables.PAIRS,
            cells,
            numbers=range(2, 6),
        )
        sections.append(section("pairs", "Do two clips show the same emotion?", pairs))
    if document["looks"]:
        sections.append(section("looks", "Looks at the test side", _looks(document)))
    sections.append(section("facts", "How this was made", *_made(document)))
    return whole(
        title,
        _header(title, document, sources),
        sections,
        "Made by python -m kerasemo.reproduce.",
        style=STYLE,
    )


def _name(source: str) -> str:
    return source.replace("/", "-")


def _header(title: str, document: Mapping[str, Any], sources: Mapping[str, Sequence[Row]]) -> str:
    facts = rendered(
        "\n".join(
            line.removesuffix(":")
            for line in study_tables.facts(document)
            if not line.startswith("  ")
        )
    )
    links = {_name(source): source for source, rows in sources.items() if rows} | {
        "matrix": "Every source",
        "facts": "How",
    }
    nav = "".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in links.items())
    failed = "".join(
        f'<p class="failed">{escape(one["cell"])} failed: {escape(one["reason"])}</p>'
        for one in document["failed"]
    )
    return f'{charts.shapes()}<h1>{escape(title)}</h1><div class="facts">{facts}</div>{failed}<nav aria-label="Sections">{nav}</nav>'


def _source(document: Mapping[str, Any], source: str, own: Sequence[Row]) -> Iterator[str]:
    beside = document["beside"][source]
    clips = [row for row in own if row["level"] in study_tables.CLIPS]
    for row in clips:
        if row["stamps"]:
            yield f'<p class="stamp">{escape(row["stage"])}: {escape("; ".join(row["stamps"]))}</p>'
    for name, words in (
        ("ua", "UA, the mean recall of the classes"),
        ("wa", "WA, the share of right answers"),
    ):
        marks = {"chance": beside["chance"]} if name == "ua" else {}
        if heard := beside.get("listeners"):
            marks["listeners"] = heard[name]
        yield charts.bars(
            f"{words}: clips of all folds, in hundredths, with the 95 % interval",
            [_bar(row, name) for row in clips],
            marks=marks,
        )
    columns, *rows = (
        [cells[0], *cells[2:]]
        for cells in (study_tables.SCORES, *map(study_tables.score_cells, own))
    )
    yield table(f"Scores on {source}, in hundredths", columns, rows, numbers=range(2, len(columns)))
    cells = study_tables.beside_cells(source, beside, own)
    yield table(
        "Beside others, each with the protocol it states",
        ("who", "protocol", "UA", "WA", "note"),
        cells,
        numbers=(2, 3),
    )
    yield _recalls(clips)
    if any(row["by_speaker"] for row in clips):
        speakers = {
            row["stage"]: {who: one["ua"] for who, one in row["by_speaker"].items()}
            for row in clips
            if row["by_speaker"]
        }
        yield charts.dots("UA of each speaker, in hundredths", speakers, source.rpartition("/")[2])
        yield folded("The speakers as a table", _speakers(clips))
    for row in clips:
        yield _confusion(row)


def _bar(row: Row, name: str) -> charts.Bar:
    found = row["interval"].get(name) or {"low": None, "high": None}
    return charts.Bar(
        row["stage"], row[name], found["low"], found["high"], row["source"].rpartition("/")[2]
    )


def _recalls(clips: Sequence[Row]) -> str:
    emotions = list(dict.fromkeys(emotion for row in clips for emotion in row["emotions"]))
    head = '<th scope="col">stage</th>' + "".join(
        f'<th scope="col" class="n">{charts.named(emotion)}</th>' for emotion in emotions
    )
    rows = [
        f'<th scope="row">{escape(row["stage"])}</th>'
        + "".join(
            f'<td class="n">{study_tables.hundredths(row["recalls"].get(emotion))}</td>'
            for emotion in emotions
        )
        for row in clips
    ]
    return framed("Recall of each emotion, in hundredths", head, rows)


def _confusion(row: Row) -> str:
    head = '<th scope="col">truth</th>' + "".join(
        f'<th scope="col" class="n">{charts.named(emotion)}</th>' for emotion in row["emotions"]
    )
    rows = []
    for place, (emotion, counts) in enumerate(zip(row["emotions"], row["confusion"], strict=True)):
        most = max(1, sum(counts))
        cells = "".join(
            f'<td class="n heat{" right" * (place == column)}" style="--h:{count / most:.2f}">{count:,}</td>'
            for column, count in enumerate(counts)
        )
        rows.append(f'<th scope="row">{charts.named(emotion)}</th>{cells}')
    caption = f"{row['stage']}: answers to the clips of each emotion, {row['networks']} network{'s' * (row['networks'] > 1)} added up"
    return framed(caption, head, rows, row["source"].rpartition("/")[2])


def _speakers(clips: Sequence[Row]) -> str:
    rows = [
        (
            row["stage"],
            who,
            one["n"],
            study_tables.hundredths(one["ua"]),
            study_tables.hundredths(one["wa"]),
        )
        for row in clips
        for who, one in row["by_speaker"].items()
    ]
    return table(
        "Each speaker, in hundredths",
        ("stage", "speaker", "clips", "UA", "WA"),
        rows,
        numbers=(2, 3, 4),
    )


def _matrix(document: Mapping[str, Any]) -> Iterator[str]:
    columns, rows = study_tables.matrix(document)
    caption = "UA by clip over the emotions that both have; behind a stroke over all classes of the corpus, an untrained one as recall 0"
    head = "".join(
        f'<th scope="col" class="{"n" * (place > 0)}">{escape(name)}</th>'
        for place, name in enumerate(columns)
    )
    yield framed(caption, head, [_matrix_row(row) for row in rows])
    others = [row for row in document["rows"] if row["trained_on"] != "this stage"]
    if others:
        cells = [
            (*study_tables.score_cells(row), row["trained_on"] or "no stage") for row in others
        ]
        columns = (*study_tables.SCORES, "trained on it")
        yield folded(
            "The scores on other sources",
            table("In hundredths", columns, cells, numbers=range(3, len(study_tables.SCORES))),
        )


def _matrix_row(row: Sequence[str]) -> str:
    cells = (
        f'<td class="n">{f"<b>{escape(cell[2:-2])}</b>" if cell.startswith("**") else escape(cell)}</td>'
        for cell in row[1:]
    )
    return f'<th scope="row">{escape(row[0])}</th>{"".join(cells)}'


def _compared(document: Mapping[str, Any]) -> Iterator[str]:
    drawn = [
        (
            f"{' − '.join(one['stages'])}, {one['source']}",
            one["ua"]["difference"],
            one["ua"]["low"],
            one["ua"]["high"],
        )
        for one in document["comparisons"]
        if "refused" not in one
    ]
    if drawn:
        yield charts.differences(
            "UA of the first less that of the second, by speaker where all are known, with its 95 % interval",
            drawn,
        )
    yield table(
        "Paired as the last column says, the seeds averaged first",
        study_tables.COMPARED,
        study_tables.compared(document),
        numbers=(3, 4, 5, 6),
    )


def _looks(document: Mapping[str, Any]) -> str:
    rows = [
        (
            look["look"],
            look["date"],
            look["networks"],
            look["of_these"],
            look["protocol"],
            look["code"],
            look["command"],
        )
        for look in document["looks"]
    ]
    columns = ("look", "date", "networks", "of these", "protocol", "code", "command")
    return table("Every look of this run folder", columns, rows, numbers=(0, 2, 3), paths=(6,))


def _made(document: Mapping[str, Any]) -> Iterator[str]:
    yield f'<div class="facts"><ul>{"".join(f"<li>{escape(line)}</li>" for line in study_tables.notes(document))}</ul></div>'
    yield folded(
        "Versions",
        table("What it was made with", ("name", "version"), document["versions"].items()),
    )
