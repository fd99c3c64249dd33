"""The columns of result tables: one table of columns for CSV, Markdown, HTML and the terminal.

A row is a JSON object: an entry of `rows` in `tables.json` of `kerasemo.reproduce`, or the scores
of a source in `metrics.json` of `kerasemo.train` and in the output of `kerasemo.evaluate`. To add a
column, add an entry to `COLUMNS`; a score of `kerasemo.metrics.METRICS` has its columns already.
"""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kerasemo.metrics.classification import METRICS
from pipelines.core.text import format_ranges

Row = Mapping[str, Any]

CSV = "csv"
"""`tables.csv` of a reproduction."""
STUDY = "study"
"""The tables of `tables.md` and `page.html` of a reproduction."""
STUDY_ON_TERMINAL = "study on the terminal"
"""The table that `kerasemo.reproduce` and `kerasemo.compare` print."""
TRAINING = "training"
"""The table of stages that `kerasemo.train` prints."""
EVALUATION = "evaluation"
"""The table of sources that `kerasemo.train` and `kerasemo.evaluate` print."""


def percent(fraction: float | None) -> str:
    """Return a fraction in percent with one decimal; an empty text for None.

    >>> percent(0.8264), percent(None)
    ('82.6', '')
    """
    return "" if fraction is None else f"{100 * fraction:.1f}"


def percent_interval(interval: Mapping[str, Any] | None) -> str:
    """Return the limits of an interval in percent; an empty text for None.

    >>> percent_interval({"low": 0.7, "high": 0.9})
    '70.0 to 90.0'
    """
    return (
        "" if interval is None else f"{100 * interval['low']:.1f} to {100 * interval['high']:.1f}"
    )


def decimal(fraction: float | None) -> str:
    """Return a fraction with three decimals; an empty text for None.

    >>> decimal(0.8264)
    '0.826'
    """
    return "" if fraction is None else f"{fraction:.3f}"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of one or several tables."""

    tables: tuple[str, ...]
    """The tables that have the column."""
    name: str
    """The name in CSV."""
    title: str
    """The heading in other tables."""
    value: Callable[[Row], Any]
    """Returns the text or number of a row; None for an empty cell."""
    is_number: bool = True
    """Whether the cells are aligned to the right."""

    def text(self, row: Row, *, format_fraction: Callable[[float], str] = percent) -> str:
        """Return the cell of a row as text, a float by `format_fraction`."""
        value = self.value(row)
        if value is None:
            return ""
        return format_fraction(value) if isinstance(value, float) else str(value)


def _key(*path: str) -> Callable[[Row], Any]:
    """Return a function that looks up nested keys in a row; None where one is missing."""

    def value(row: Row) -> Any:
        for key in path:
            row = (row or {}).get(key)
        return row

    return value


def _text(name: str, *tables: str, title: str = "") -> Column:
    return Column((CSV, *tables), name, title or name, _key(name), is_number=False)


def _score_columns(name: str, title: str) -> Iterator[Column]:
    """Yield the columns of a score that has an interval."""
    yield Column((CSV, STUDY, STUDY_ON_TERMINAL, TRAINING, EVALUATION), name, title, _key(name))
    for limit in ("low", "high"):
        yield Column((CSV,), f"{name}_{limit}", "", _key("interval", name, limit))
    yield Column(
        (STUDY, STUDY_ON_TERMINAL),
        "",
        "95 %",
        lambda row: percent_interval(row["interval"].get(name)),
    )


def _interval_method(row: Row) -> str | None:
    methods = [interval["method"] for interval in row["interval"].values() if interval]
    return methods[-1] if methods else None


_PAIRED = {name: metric.title for name, metric in METRICS.items() if metric.mean_over}
_OTHER = {name: metric.title for name, metric in METRICS.items() if not metric.mean_over}

COLUMNS = (
    _text("experiment"),
    _text("protocol"),
    _text("side"),
    _text("stage", STUDY, STUDY_ON_TERMINAL, TRAINING),
    _text("kind", TRAINING),
    _text("source", STUDY, STUDY_ON_TERMINAL, TRAINING, EVALUATION),
    _text("trained_on"),
    _text("level", STUDY, title="scored by"),
    Column((TRAINING,), "", "epoch", lambda row: f"{row['best_epoch']} of {row['epochs']}"),
    Column((CSV, STUDY, STUDY_ON_TERMINAL), "n", "n", _key("n")),
    Column((TRAINING, EVALUATION), "", "clips", _key("clips")),
    Column((CSV,), "networks", "", _key("networks")),
    Column((CSV,), "folds", "", lambda row: format_ranges(row["folds"])),
    Column(
        (CSV,),
        "seeds",
        "",
        lambda row: format_ranges([scores["seed"] for scores in row["by_seed"]]),
    ),
    *(column for name, title in _PAIRED.items() for column in _score_columns(name, title)),
    Column((CSV,), "interval", "", _interval_method, is_number=False),
    *(
        Column((CSV, STUDY, STUDY_ON_TERMINAL, EVALUATION), name, title, _key(name))
        for name, title in _OTHER.items()
    ),
    Column(
        (STUDY, STUDY_ON_TERMINAL),
        "",
        "UA of each seed",
        lambda row: ", ".join(percent(scores["ua"]) for scores in row["by_seed"]),
    ),
    Column(
        (CSV, STUDY, STUDY_ON_TERMINAL, TRAINING, EVALUATION), "chance", "chance", _key("chance")
    ),
    Column((EVALUATION,), "", "ECE", _key("calibration_error")),
    *(
        Column((CSV,), f"{name}_all_classes", "", _key("all_classes", name))
        for name in (*_PAIRED, "chance")
    ),
    *(
        Column(
            (CSV, STUDY, EVALUATION) if name == "ua" else (CSV,),
            f"{name}_without_corpus",
            f"{title}, corpus unknown",
            _key("without_corpus", name),
        )
        for name, title in _PAIRED.items()
    ),
    Column((CSV,), "stamps", "", lambda row: "; ".join(row["stamps"]), is_number=False),
)
"""All columns, in the order of every table."""


def columns_of(table: str) -> list[Column]:
    """Return the columns of a table, such as STUDY.

    >>> [column.title for column in columns_of(TRAINING)]
    ['stage', 'kind', 'source', 'epoch', 'clips', 'UA', 'WA', 'chance']
    """
    return [column for column in COLUMNS if table in column.tables]


def csv_text(rows: Iterable[Row]) -> str:
    """Return rows as CSV with the columns of `tables.csv`; fractions have six decimals."""
    columns, file = columns_of(CSV), io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    for row in rows:
        writer.writerow(
            [column.text(row, format_fraction=lambda value: f"{value:.6f}") for column in columns]
        )
    return file.getvalue()


def cells(columns: Sequence[Column], row: Row) -> list[str]:
    """Return the cells of a row as text, fractions in percent."""
    return [column.text(row) for column in columns]
