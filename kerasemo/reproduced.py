"""What a reproduction leaves: `tables.md`, `tables.csv`, `tables.json`, `page.html` and `answers.csv`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerasemo import answered, results_page, tabulated
from kerasemo.answered import Kept, Pool
from pipelines import records


def write(out: Path, document: Mapping[str, Any], pools: Mapping[tuple[str, str], Pool]) -> None:
    """Write the five files, each under a temporary name first.

    Args:
        out: Their folder.
        document: Of `kerasemo.tabulate`.
        pools: The answers that it is of, by stage and source.
    """
    out.mkdir(parents=True, exist_ok=True)
    answered.write(out / "answers.csv", _kept(document, pools))
    records.write_json(out / "tables.json", document)
    for name, made in (
        ("tables.md", tabulated.markdown),
        ("tables.csv", tabulated.as_csv),
        ("page.html", results_page.page),
    ):
        temporary = out / f"{name}.tmp"
        temporary.write_text(made(document), encoding="utf-8")
        temporary.replace(out / name)


def _kept(
    document: Mapping[str, Any], pools: Mapping[tuple[str, str], Pool]
) -> dict[tuple[str, str], Kept]:
    rows = {
        (row["stage"], row["source"]): row
        for row in document["rows"]
        if row["level"] in tabulated.CLIPS
    }
    return {
        place: Kept(
            pool,
            tuple(rows[place]["emotions"]),
            document["side"],
            document["protocol"],
            tuple(rows[place]["stamps"]),
        )
        for place, pool in pools.items()
    }
