"""Scores and comparisons on standard output: of a reproduction, and of answers that are kept in files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kerasemo import tables, tabulated
from pipelines.cli import printable

SHOWN = (
    "stage",
    "source",
    "n",
    "UA",
    "95 %",
    "WA",
    "95 %",
    "macro-F1",
    "UA of each seed",
    "chance",
)
"""On a terminal: of clips alone."""


def show(document: Mapping[str, Any], out: Path) -> None:
    """Print the scores of clips on standard output."""
    title = (
        f"{document['experiment']}: {document['side']} side, {document['protocol']} (in hundredths)"
    )
    shown = _shown(document)
    lines = [
        *tabulated.facts(document),
        *tabulated.notes(document),
        f"All tables, and a page with plots: {out}",
    ]
    tables.print_reproduction(title, shown, [line.removeprefix("- ") for line in lines])


def show_comparison(result: Mapping[str, Any]) -> None:
    """Print what `kerasemo.compare` returns on standard output."""
    shown = _shown(result)
    lines = [*tabulated.notes(result)]
    for row in result["rows"]:
        if every := row.get("all_classes"):
            among = f"{row['stage']}, {row['source']}: over {', '.join(row['emotions'])}, which it could answer"
            lines.append(
                f"{among}; over all {len(every['emotions'])} classes UA {tabulated.hundredths(every['ua'])}"
            )
    tables.print_reproduction(
        "Answers that are kept in files (in hundredths)", shown, [*map(printable, lines)]
    )


def _shown(result: Mapping[str, Any]) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """Return the tables of scores of clips and, if there are any, of comparisons."""
    cells = [
        tabulated.score_cells(row) for row in result["rows"] if row["level"] in tabulated.CLIPS
    ]
    places = [0, 1, *range(3, len(tabulated.SCORES) - 2), len(tabulated.SCORES) - 1]
    scores = (
        "Scores, each of the clips of all folds together",
        SHOWN,
        [[row[place] for place in places] for row in cells],
    )
    compared = (
        "Stages compared, the seeds averaged first",
        tabulated.COMPARED,
        [*tabulated.compared(result)],
    )
    return [scores, compared] if result["comparisons"] else [scores]
