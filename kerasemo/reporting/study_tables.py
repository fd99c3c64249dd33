"""The tables of a study as text cells: scores, comparisons, recalls and confusions.

A study is the document that `kerasemo.studies.results` returns and `tables.json` holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kerasemo.metrics.classification import METRICS
from kerasemo.reporting.columns import (
    STUDY,
    Row,
    cells,
    columns_of,
    csv_text,
    percent,
    percent_interval,
)
from kerasemo.reporting.text_tables import TextTable
from pipelines.core.text import format_duration, format_ranges, pluralize

Study = Mapping[str, Any]

CLIP_LEVELS = ("clip", "image")
"""The levels at which a row scores clips. A clip with a single item is an image."""


def is_of_clips(row: Row) -> bool:
    """Return whether a row scores clips, not their faces or segments."""
    return row["level"] in CLIP_LEVELS


def is_own_source(row: Row) -> bool:
    """Return whether the stage of a row was trained on the source of the row."""
    return row["trained_on"] == "this stage"


def study_title(study: Study) -> str:
    """Return the title of a study."""
    return f"{study['experiment']}: {study['side']} split, {study['protocol']}"


def study_csv(study: Study) -> str:
    """Return `tables.csv`: a line for each stage, source and level, fractions from 0 to 1."""
    facts = {name: study[name] for name in ("experiment", "protocol", "side")}
    return csv_text(facts | dict(row) for row in study["rows"])


def score_table(title: str, rows: Sequence[Row], *, table: str = STUDY) -> TextTable:
    """Return the scores of rows in percent, with the columns of a table of `columns.COLUMNS`."""
    columns = columns_of(table)
    return TextTable(
        title,
        [column.title for column in columns],
        [cells(columns, row) for row in rows],
        [column.title for column in columns if not column.is_number],
    )


def other_sources_table(study: Study) -> TextTable | None:
    """Return the scores on the sources that a stage was not trained on; None without such rows."""
    rows = [row for row in study["rows"] if not is_own_source(row)]
    if not rows:
        return None
    scores = score_table("Each stage on every other source, in percent", rows)
    all_classes = [row.get("all_classes", row) for row in rows]
    return TextTable(
        scores.title,
        [*scores.columns, "UA, all classes", "chance, all classes", "trained on it"],
        [
            [
                *row_cells,
                percent(scored["ua"]),
                percent(scored["chance"]),
                row["trained_on"] or "no stage",
            ]
            for row_cells, scored, row in zip(scores.rows, all_classes, rows, strict=True)
        ],
        [*scores.text_columns, "trained on it"],
    )


def reference_table(study: Study, source: str) -> TextTable:
    """Return the clip scores of a source next to chance, human listeners and published results."""
    references = study["beside"][source]
    rows = [
        (f"stage {row['stage']}", row["protocol"], row["ua"], row["wa"], "; ".join(row["stamps"]))
        for row in study["rows"]
        if row["source"] == source and is_own_source(row) and is_of_clips(row)
    ]
    guess = f"a guess among {len(references['emotions'])} classes"
    rows.append(("chance", "", references["chance"], None, guess))
    if listeners := references.get("listeners"):
        note = "only clips that at least 80 % of the listeners recognised were published"
        rows.append(("listeners", "the same clips", listeners["ua"], listeners["wa"], note))
    rows += [
        (result["who"], result["protocol"], result["ua"], result["wa"], result["note"])
        for result in references["published"]
    ]
    return TextTable(
        f"{source} and published results, in percent",
        ("who", "protocol", "UA", "WA", "note"),
        [(who, protocol, percent(ua), percent(wa), note) for who, protocol, ua, wa, note in rows],
        ("who", "protocol", "note"),
    )


def source_matrix(study: Study) -> TextTable:
    """Return the clip UA of each stage on every source, in percent.

    Bold (`**`) on its own sources.
    """
    rows = {(row["stage"], row["source"]): row for row in study["rows"] if is_of_clips(row)}
    sources, stages = list(study["beside"]), list(dict.fromkeys(stage for stage, _ in rows))

    def cell(row: Row | None) -> str:
        if row is None:
            return ""
        text = percent(row["ua"])
        if "all_classes" in row:
            text += f" / {percent(row['all_classes']['ua'])}"
        return f"**{text}**" if is_own_source(row) else text

    def mean_of_own(stage: str) -> str:
        scores = [
            row["ua"] for (name, _), row in rows.items() if name == stage and is_own_source(row)
        ]
        return percent(sum(scores) / len(scores)) if scores else ""

    return TextTable(
        "Each stage on every source, UA of clips in percent",
        ("stage", *sources, "mean of its own"),
        [
            (stage, *(cell(rows.get((stage, source))) for source in sources), mean_of_own(stage))
            for stage in stages
        ],
        ("stage",),
    )


MATRIX_NOTE = (
    "UA is over the emotions that stage and source share. After a slash: UA over all classes of "
    "the source, where the recall of an untrained class is 0."
)


def comparison_table(comparisons: Sequence[Mapping[str, Any]]) -> TextTable:
    """Return how much better the first stage of each comparison is, in percentage points.

    With known speakers a comparison has two rows for each score, by speaker and pooled; else one.
    """
    rows: list[tuple[str, ...]] = []
    for comparison in comparisons:
        names = (" − ".join(comparison["stages"]), comparison["source"])
        if "refused" in comparison:
            rows.append((*names, "", "", "", "", "", comparison["refused"]))
            continue
        for name, metric in METRICS.items():
            if name not in comparison:
                continue
            differences = {metric.title: comparison[name]}
            if comparison[name]["speakers"]:
                differences[f"{metric.title}, pooled"] = comparison[name]["pooled"]
            rows += [
                (
                    *names,
                    score,
                    f"{100 * difference['difference']:+.1f}",
                    percent_interval(difference),
                    f"{difference['p']:.3g}",
                    f"{difference['p_holm']:.3g}",
                    difference["method"],
                )
                for score, difference in differences.items()
            ]
    return TextTable(
        "Stages compared, after the mean over seeds",
        ("stages", "source", "score", "difference", "95 %", "p", "p, Holm", "method"),
        rows,
        ("stages", "source", "score", "method"),
    )


def pair_table(study: Study) -> TextTable:
    """Return how well the distance of two clips tells whether they show the same emotion."""
    return TextTable(
        "Do two clips show the same emotion? By their distance, mean over networks, in percent",
        ("stage", "sources", "networks", "same", "AUC", "EER"),
        [
            (
                pairs["stage"],
                pairs["sources"],
                str(pairs["networks"]),
                *(percent(pairs[name]) for name in ("same", "auc", "eer")),
            )
            for pairs in study["pairs"]
        ],
        ("stage", "sources"),
    )


def recall_table(study: Study) -> TextTable:
    """Return the recall of each emotion, in percent, of rows that score clips."""
    emotions = list(dict.fromkeys(emotion for row in study["rows"] for emotion in row["emotions"]))
    return TextTable(
        "Recall of each emotion, in percent",
        ("stage", "source", *emotions),
        [
            (
                row["stage"],
                row["source"],
                *(percent(row["recalls"].get(emotion)) for emotion in emotions),
            )
            for row in study["rows"]
            if is_of_clips(row)
        ],
        ("stage", "source"),
    )


def confusion_table(row: Row) -> TextTable:
    """Return the confusion matrix of a row, with labels in rows and predictions in columns."""
    return TextTable(
        f"{row['stage']}, {row['source']}",
        ("", *row["emotions"]),
        [
            (emotion, *map(str, counts))
            for emotion, counts in zip(row["emotions"], row["confusion"], strict=True)
        ],
        ("",),
    )


def speaker_table(rows: Sequence[Row]) -> TextTable:
    """Return UA and WA of each speaker, in percent."""
    return TextTable(
        "Each speaker, in percent",
        ("stage", "source", "speaker", "clips", "UA", "WA"),
        [
            (
                row["stage"],
                row["source"],
                speaker,
                str(scores["n"]),
                percent(scores["ua"]),
                percent(scores["wa"]),
            )
            for row in rows
            for speaker, scores in row["by_speaker"].items()
        ],
        ("stage", "source", "speaker"),
    )


def provenance(study: Study) -> Iterator[str]:
    """Yield lines of Markdown that say how the study was made."""
    folds, seeds = format_ranges(study["folds"]), format_ranges(study["seeds"])
    duration = format_duration(study["training_seconds"])
    yield f"{study['networks']} networks: folds {folds}, seeds {seeds}; trained in {duration}"
    yield f"command: `{study['command']}`"
    yield f"code: {study['code']}"
    if study["side"] == "test":
        last = max((look["look"] for look in study["looks"] if look["of_these"]), default=0)
        yield f"test split: evaluation {last} of {len(study['looks'])} in this run folder"
    else:
        yield "the test split was not evaluated"
        yield (
            "the best epoch of a stage was chosen on this validation split, so these scores are a "
            "little too high"
        )
    for failure in study["failed"]:
        yield f"FAILED: {failure['cell']}: {failure['reason']}"


def test_evaluations(study: Study) -> Iterator[str]:
    """Yield a line of Markdown for each evaluation of the test split in the run folder."""
    for look in study["looks"]:
        yield (
            f"evaluation {look['look']}, {look['date']}: {look['networks']} networks, of which "
            f"{look['of_these']} are in this study; {', '.join(look['stages'])}; "
            f"{look['protocol']}, folds {format_ranges(look['folds'])}, seeds "
            f"{format_ranges(look['seeds'])}; code {look['code']}; `{look['command']}`"
        )


def remarks(study: Study) -> Iterator[str]:
    """Yield what a reader must know to read the scores.

    `study` may be a result of `compare_files`.
    """
    methods = dict.fromkeys(
        interval["method"]
        for row in study["rows"]
        for interval in row["interval"].values()
        if interval
    )
    how = "; ".join(methods) or "none, because one speaker tells nothing about other speakers"
    yield (
        f"95 % intervals: {how}. The clips of all folds are pooled. The score of several networks "
        "is their mean."
    )
    if any(method.startswith("t over") for method in methods):
        yield (
            "A t interval is centred on the mean of the speakers' scores, not on the pooled score "
            "next to it."
        )
    if study["comparisons"]:
        count = sum("refused" not in comparison for comparison in study["comparisons"])
        yield (
            "UA and WA: the mean of the speakers' differences. Pooled: the difference of the "
            "pooled scores. Without known speakers, UA and WA are pooled."
        )
        yield (
            f"p, Holm: corrected for the {pluralize(count, 'comparison')} in this table, each "
            "score apart."
        )
    for row in filter(is_of_clips, study["rows"]):
        name = f"{row['stage']}, {row['source']}"
        if row["different_clips"] < row["n"]:
            yield (
                f"{name}: {row['different_clips']} different clips; n counts a clip once for each "
                "fold that has it in this split"
            )
        if row["stamps"]:
            yield f"{name}: {'; '.join(row['stamps'])}"
    for stage, reasons in study["not_scored"].items():
        for source, reason in reasons.items():
            yield f"{stage}, {source}: not scored: {reason}"
