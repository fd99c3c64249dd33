"""What a reproduction leaves: `tables.md`, `tables.csv`, `tables.json` and `page.html`, and a table on standard output."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasemo import results_page, tables, tabulated
from pipelines import records

SHOWN = ("stage", "source", "n", "UA", "95 %", "WA", "95 %", "macro-F1", "UA of each seed", "chance")
"""On a terminal: of clips alone."""


def write(out: Path, document: Mapping[str, Any]) -> None:
    """Write the four files, each under a temporary name first.

    Args:
        out: Their folder.
        document: Of `kerasemo.tabulate`.
    """
    out.mkdir(parents=True, exist_ok=True)
    records.write_json(out / "tables.json", document)
    for name, made in (("tables.md", tabulated.markdown), ("tables.csv", tabulated.as_csv), ("page.html", results_page.page)):
        temporary = out / f"{name}.tmp"
        temporary.write_text(made(document), encoding="utf-8")
        temporary.replace(out / name)


def show(document: Mapping[str, Any], out: Path) -> None:
    """Print the scores of clips on standard output."""
    title = f"{document['experiment']}: {document['side']} side, {document['protocol']} (in hundredths)"
    cells = [tabulated.score_cells(row) for row in document["rows"] if row["level"] in tabulated.CLIPS]
    places = [0, 1, *range(3, len(tabulated.SCORES) - 2), len(tabulated.SCORES) - 1]
    shown = [("Scores, each of the clips of all folds together", SHOWN, [[row[place] for place in places] for row in cells])]
    if document["comparisons"]:
        shown.append(("Stages compared, speaker by speaker", tabulated.COMPARED, [*tabulated.compared(document)]))
    lines = [*tabulated.facts(document), *tabulated.notes(document), f"All tables, and a page with plots: {out}"]
    tables.print_reproduction(title, shown, [line.removeprefix("- ") for line in lines])
