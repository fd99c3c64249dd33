"""The document of `kerasemo.studies.results` as text: Markdown, CSV, and the cells that tables are made of."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.core.text import format_duration, format_ranges, pluralize

COLUMNS = (
    *(
        "experiment",
        "protocol",
        "side",
        "stage",
        "kind",
        "source",
        "trained_on",
        "level",
        "n",
        "networks",
        "folds",
        "seeds",
    ),
    *("ua", "ua_low", "ua_high", "wa", "wa_low", "wa_high", "interval", "macro_f1", "chance"),
    *(
        "ua_all_classes",
        "wa_all_classes",
        "chance_all_classes",
        "ua_without_corpus",
        "wa_without_corpus",
        "stamps",
    ),
)
"""Of `tables.csv`: shares, not hundredths."""


def as_csv(document: Mapping[str, Any]) -> str:
    """Return a line for each stage, source and level, with COLUMNS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in document["rows"]:
        flat = {name: document[name] for name in ("experiment", "protocol", "side")} | dict(row)
        flat |= {
            "folds": format_ranges(row["folds"]),
            "seeds": format_ranges([own["seed"] for own in row["by_seed"]]),
            "stamps": "; ".join(row["stamps"]),
        }
        for name, found in row["interval"].items():
            if found is not None:
                flat |= {
                    f"{name}_low": found["low"],
                    f"{name}_high": found["high"],
                    "interval": found["method"],
                }
        for kind in ("all_classes", "without_corpus"):
            flat |= {
                f"{name}_{kind}": value
                for name, value in row.get(kind, {}).items()
                if name in ("ua", "wa", "chance")
            }
        writer.writerow(
            {
                name: f"{value:.6f}" if isinstance(value, float) else value
                for name, value in flat.items()
            }
        )
    return text.getvalue()


def markdown(document: Mapping[str, Any]) -> str:
    """Return all tables as Markdown."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"# {document['experiment']}: {document['side']} side, {document['protocol']}"
    yield ""
    yield from facts(document)
    yield ""
    yield "## Each stage on its own sources"
    yield ""
    own = [row for row in document["rows"] if row["trained_on"] == "this stage"]
    yield from _table(SCORES, [*map(score_cells, own)])
    yield ""
    yield from (f"- {line}" for line in notes(document))
    for source, beside in document["beside"].items():
        yield from _beside(source, beside, [row for row in own if row["source"] == source])
    yield "## Each stage on every source, UA by clip"
    yield ""
    yield "Over the emotions that both have; behind a stroke, over all classes of the corpus, an untrained one as recall 0. Bold: its own."
    yield ""
    yield from _table(*matrix(document))
    yield ""
    if others := [row for row in document["rows"] if row["trained_on"] != "this stage"]:
        yield "## Each stage on every other source"
        yield ""
        cells = [
            (*score_cells(row), *_all_classes(row), row["trained_on"] or "no stage")
            for row in others
        ]
        yield from _table((*SCORES, "UA, all classes", "chance", "trained on it"), cells)
        yield ""
    if document["comparisons"]:
        yield "## Stages compared, the seeds averaged first"
        yield ""
        yield from _table(COMPARED, [*compared(document)])
        yield ""
    if document["pairs"]:
        yield "## Do two clips show the same emotion? By their distance, the mean over the networks"
        yield ""
        yield from _table(PAIRS, [*map(pair_cells, document["pairs"])])
        yield ""
    yield "## Recall of each emotion"
    yield ""
    emotions = list(
        dict.fromkeys(emotion for row in document["rows"] for emotion in row["emotions"])
    )
    clips = [row for row in document["rows"] if row["level"] in CLIPS]
    yield from _table(
        ("stage", "source", *emotions),
        [
            (
                row["stage"],
                row["source"],
                *(hundredths(row["recalls"].get(one)) for one in emotions),
            )
            for row in clips
        ],
    )
    yield ""
    yield "## Confusion (rows: truth; the networks' answers to clips, added up)"
    yield ""
    for row in own:
        if row["level"] in CLIPS:
            yield f"{row['stage']}, {row['source']}:"
            yield ""
            cells = [
                (emotion, *map(str, counts))
                for emotion, counts in zip(row["emotions"], row["confusion"], strict=True)
            ]
            yield from _table(("", *row["emotions"]), cells)
            yield ""
    yield "## By speaker"
    yield ""
    speakers = [
        (
            row["stage"],
            row["source"],
            who,
            str(one["n"]),
            hundredths(one["ua"]),
            hundredths(one["wa"]),
        )
        for row in own
        if row["level"] == "clip"
        for who, one in row["by_speaker"].items()
    ]
    yield from _table(("stage", "source", "speaker", "clips", "UA", "WA"), speakers)


SCORES = (
    "stage",
    "source",
    "scored by",
    "n",
    "UA",
    "95 %",
    "WA",
    "95 %",
    "macro-F1",
    "UA of each seed",
    "UA, corpus unknown",
    "chance",
)
CLIPS = ("clip", "image")
"""The levels of which a row is of clips: one with a single item is an image."""
PAIRS = ("stage", "sources", "networks", "same", "AUC", "EER")
COMPARED = ("stages", "source", "score", "difference", "95 %", "p", "p, Holm", "how")


def score_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row below SCORES, in hundredths."""
    seeds = ", ".join(hundredths(own["ua"]) for own in row["by_seed"])
    figures = (
        hundredths(row["ua"]),
        ends(row["interval"].get("ua")),
        hundredths(row["wa"]),
        ends(row["interval"].get("wa")),
    )
    unknown = hundredths(row.get("without_corpus", {}).get("ua"))
    return (
        row["stage"],
        row["source"],
        row["level"],
        str(row["n"]),
        *figures,
        hundredths(row["macro_f1"]),
        seeds,
        unknown,
        hundredths(row["chance"]),
    )


def pair_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of an entry of `pairs` below PAIRS, in hundredths."""
    return (
        one["stage"],
        one["sources"],
        str(one["networks"]),
        *(hundredths(one[name]) for name in ("same", "auc", "eer")),
    )


def matrix(document: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of the table that has each stage's UA on every source, of clips."""
    rows = {(row["stage"], row["source"]): row for row in document["rows"] if row["level"] in CLIPS}
    sources, stages = list(document["beside"]), list(dict.fromkeys(stage for stage, _ in rows))

    def cell(row: Mapping[str, Any] | None) -> str:
        if row is None:
            return ""
        said = hundredths(row["ua"]) + (
            f" / {hundredths(row['all_classes']['ua'])}" if "all_classes" in row else ""
        )
        return f"**{said}**" if row["trained_on"] == "this stage" else said

    def mean(stage: str) -> str:
        own = [
            row["ua"]
            for (name, _), row in rows.items()
            if name == stage and row["trained_on"] == "this stage"
        ]
        return hundredths(sum(own) / len(own)) if own else ""

    cells = [
        (stage, *(cell(rows.get((stage, source))) for source in sources), mean(stage))
        for stage in stages
    ]
    return ("stage", *sources, "mean of its own"), cells


def _all_classes(row: Mapping[str, Any]) -> tuple[str, str]:
    every = row.get("all_classes", row)
    return hundredths(every["ua"]), hundredths(every["chance"])


def facts(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield, as Markdown, how the tables came about."""
    folds, seeds = format_ranges(document["folds"]), format_ranges(document["seeds"])
    yield f"- {document['networks']} networks: folds {folds}, seeds {seeds}; trained in {format_duration(document['training_seconds'])}"
    yield f"- command: `{document['command']}`"
    yield f"- code: {document['code']}"
    if document["side"] == "test":
        now = max((look["look"] for look in document["looks"] if look["of_these"]), default=0)
        yield f"- look {now} at the test side" + (
            f"; there were {len(document['looks'])} in this run folder:"
            if document["looks"]
            else ""
        )
        for look in document["looks"]:
            what = f"{', '.join(look['stages'])}; {look['protocol']}, folds {format_ranges(look['folds'])}, seeds {format_ranges(look['seeds'])}"
            asked = f"look {look['look']}, {look['date']}: {look['networks']} networks, {look['of_these']} of these"
            yield f"  - {asked}; {what}; code {look['code']}; `{look['command']}`"
    else:
        yield "- the test side was not looked at"
        yield "- where a stage has several epochs, one was chosen on this side, and its figures are a little too high"
    for one in document["failed"]:
        yield f"- FAILED: {one['cell']}: {one['reason']}"


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be known of the scores."""
    methods = dict.fromkeys(
        found["method"] for row in document["rows"] for found in row["interval"].values() if found
    )
    how = "; ".join(methods) or "none: of a single speaker nothing is known of others"
    yield f"95 %: {how}. Clips of all folds are pooled; a score of several networks is their mean."
    if any(method.startswith("t over") for method in methods):
        yield "A t interval is that of the mean of the speakers' own scores, which is its middle, not the pooled score beside it."
    if document["comparisons"]:
        made = sum("refused" not in one for one in document["comparisons"])
        yield "UA, WA: the mean over the speakers' own differences; pooled: the difference of the pooled scores. Without speakers: pooled."
        yield f"p, Holm: corrected for the {pluralize(made, 'comparison')} of this table, each score by itself."
    for row in document["rows"]:
        if row["level"] in CLIPS and row["different_clips"] < row["n"]:
            often = f"{row['different_clips']} clips, of which some are on this side of several folds: n counts each time"
            yield f"{row['stage']}, {row['source']}: {often}"
        if row["stamps"] and row["level"] in CLIPS:
            yield f"{row['stage']}, {row['source']}: {'; '.join(row['stamps'])}"
    for stage, sources in document["not_scored"].items():
        for source, reason in sources.items():
            yield f"{stage}, {source}: not scored: {reason}"


def _beside(
    source: str, beside: Mapping[str, Any], own: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    if not own:
        return
    yield ""
    yield f"### {source} beside others"
    yield ""
    yield from _table(("who", "protocol", "UA", "WA", "note"), [*beside_cells(source, beside, own)])
    yield ""


def beside_cells(
    source: str, beside: Mapping[str, Any], own: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, ...]]:
    """Yield our own rows, chance, the listeners and what others reach, in hundredths."""
    for row in own:
        if row["level"] in CLIPS:
            yield (
                f"stage {row['stage']}",
                row["protocol"],
                hundredths(row["ua"]),
                hundredths(row["wa"]),
                "; ".join(row["stamps"]),
            )
    yield (
        "chance",
        "",
        hundredths(beside["chance"]),
        "",
        f"a guess among {len(beside['emotions'])} classes",
    )
    if heard := beside.get("listeners"):
        yield (
            "listeners",
            "the same clips",
            hundredths(heard["ua"]),
            hundredths(heard["wa"]),
            "clips were published if 80 % of them or more agreed",
        )
    for row in beside["published"]:
        yield row["who"], row["protocol"], hundredths(row["ua"]), hundredths(row["wa"]), row["note"]


def compared(document: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of each comparison: for every score by speaker and pooled, or, without speakers, pooled."""
    for one in document["comparisons"]:
        stages = " − ".join(one["stages"])
        if "refused" in one:
            yield stages, one["source"], *[""] * 5, one["refused"]
            continue
        for name in ("ua", "wa"):
            scores = {name.upper(): one[name]}
            if one[name]["speakers"]:
                scores[f"{name.upper()}, pooled"] = one[name]["pooled"]
            for score, found in scores.items():
                figures = (
                    f"{100 * found['difference']:+.1f}",
                    ends(found),
                    f"{found['p']:.3g}",
                    f"{found['p_holm']:.3g}",
                )
                yield stages, one["source"], score, *figures, found["method"]


def hundredths(share: float | None) -> str:
    """Return a share in hundredths.

    >>> hundredths(0.8264), hundredths(None)
    ('82.6', '')
    """
    return "" if share is None else f"{100 * share:.1f}"


def ends(found: Mapping[str, Any] | None) -> str:
    """Return the ends of an interval in hundredths."""
    return "" if found is None else f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"
