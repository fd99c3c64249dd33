"""A study as one Markdown document, `tables.md`."""

from collections.abc import Iterator

from kerasemo.reporting import study_tables
from kerasemo.reporting.study_tables import Study, is_of_clips, is_own_source
from kerasemo.reporting.text_tables import TextTable


def study_markdown(study: Study) -> str:
    """Return all tables of a study as Markdown."""
    return "\n\n".join(_blocks(study)) + "\n"


def _blocks(study: Study) -> Iterator[str]:
    """Yield the blocks of the document: headings, lists, tables."""
    yield f"# {study_tables.study_title(study)}"
    provenance = _list(study_tables.provenance(study))
    if evaluations := _list(study_tables.test_evaluations(study)):
        provenance += "\n- evaluations of the test split:\n" + "\n".join(
            f"  {line}" for line in evaluations.splitlines()
        )
    yield provenance
    own_rows = [row for row in study["rows"] if is_own_source(row)]
    yield from _section(
        study_tables.score_table("Each stage on its own sources, in percent", own_rows)
    )
    yield _list(study_tables.remarks(study))
    for source in study["beside"]:
        if any(row["source"] == source for row in own_rows):
            yield from _section(study_tables.reference_table(study, source), level=3)
    matrix = study_tables.source_matrix(study)
    yield f"## {matrix.title}"
    yield f"{study_tables.MATRIX_NOTE} Bold: the stage was trained on the source."
    yield matrix.markdown()
    if on_other_sources := study_tables.other_sources_table(study):
        yield from _section(on_other_sources)
    if study["comparisons"]:
        yield from _section(study_tables.comparison_table(study["comparisons"]))
    if study["pairs"]:
        yield from _section(study_tables.pair_table(study))
    yield from _section(study_tables.recall_table(study))
    yield (
        "## Confusion: labels in the rows, predictions of clips in the columns, "
        "summed over networks"
    )
    for row in filter(is_of_clips, own_rows):
        yield from _section(study_tables.confusion_table(row), level=3)
    yield from _section(
        study_tables.speaker_table([row for row in own_rows if row["level"] == "clip"])
    )


def _section(table: TextTable, *, level: int = 2) -> Iterator[str]:
    yield f"{'#' * level} {table.title}"
    yield table.markdown()


def _list(lines: Iterator[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
