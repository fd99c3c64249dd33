"""A table of text cells, which Markdown, an HTML page and the terminal show alike."""

import dataclasses
from collections.abc import Sequence

from pipelines.html.markup import table as html_table


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A title, column headings and rows of cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: Sequence[str] = ()
    """The headings of the columns that are aligned to the left. Other columns hold numbers."""

    def is_number(self, column: str) -> bool:
        """Return whether the cells of a column are aligned to the right."""
        return column not in self.text_columns

    def markdown(self) -> str:
        """Return the table as Markdown, without its title.

        >>> print(TextTable("Scores", ("source", "UA"), [("emodb/audio", "82.6")]).markdown())
        | source | UA |
        |---|---|
        | emodb/audio | 82.6 |
        """
        lines = [f"| {' | '.join(self.columns)} |", f"|{'---|' * len(self.columns)}"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in self.rows]
        return "\n".join(lines)

    def html(self, *, title: str = "") -> str:
        """Return the table as HTML with its title, or another one, as the caption."""
        numbers = [index for index, name in enumerate(self.columns) if self.is_number(name)]
        return html_table(title or self.title, self.columns, self.rows, numbers=numbers)
