"""Render the Markdown tables of published figures, and put them into the pages.

A table stands in its page between two comments:

    <!-- table NAME: written by python -m research.results --write -->
    <!-- end of table NAME -->
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from research.results import Figure, Figures

ROOT = Path(__file__).resolve().parents[1]
MINUS = "\N{MINUS SIGN}"
NOT_RECOMPUTED = "†"
"""Marks a figure whose predictions were not kept."""

Table = Mapping[str, Any]
Config = Mapping[str, Any]


def score_cell(figure: "Figure | None") -> str:
    """Return a score in percent with its interval: `75.9 (71.6 to 79.7)`."""
    if figure is None:
        return ""
    mark = NOT_RECOMPUTED if figure.kind == "recorded" else ""
    if figure.low is None:
        return f"{100 * figure.value:.1f}{mark}"
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f}){mark}"


def difference_cell(figure: "Figure | None") -> str:
    """Return a difference in points with its interval: `+2.1 (−0.7 to 4.8)`."""
    if figure is None:
        return ""
    cell = f"{100 * figure.value:+.1f} ({100 * figure.low:.1f} to {100 * figure.high:.1f})"
    return cell.replace("-", MINUS)


def p_cell(p: float | None) -> str:
    """Return a p value with three decimals.

    >>> p_cell(0.0155), p_cell(0.0002), p_cell(None)
    ('0.016', '< 0.001', '')
    """
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 0.0005 else "< 0.001"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table.

    >>> print(markdown(["a", "b"], [["1", ""]]))
    | a | b |
    |---|---|
    | 1 | |
    """
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    lines += [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows]
    return "\n".join(line.replace("|  |", "| |") for line in lines)


def _target_cell(name: str, config: Config, figures: "Figures") -> str:
    """Return the targets of a row of results and whether its score reaches them."""
    texts = []
    for target in config["targets"]:
        if target["score"] == name:
            figure = figures[name, target["measure"]]
            for goal in target["targets"]:
                verdict = "reached" if figure.value >= goal else "**missed**"
                if figure.value >= goal > figure.low:
                    verdict = "reached (interval begins below)"
                texts.append(f"{target['measure'].upper()} {100 * goal:g} {verdict}")
    return ", ".join(texts)


def _with_targets(
    table: Table, config: Config, figures: "Figures", header: list[str], rows: list[list[str]]
) -> str:
    """Return a table with a last column of targets, if a line of the table has one."""
    targets = [_target_cell(line[1], config, figures) for line in table["lines"]]
    if any(targets):
        header = [*header, "target"]
        rows = [[*row, target] for row, target in zip(rows, targets, strict=True)]
    return markdown(header, rows)


def _scores(table: Table, config: Config, figures: "Figures") -> str:
    """One row of results a line: [label, name of the score]."""
    rows = []
    for label, name in table["lines"]:
        texts = [score_cell(figures.get((name, measure))) for measure in ("ua", "wa", "macro_f1")]
        rows.append([label, str(figures[name, "ua"].seeds or ""), *texts])
    header = [table["heading"], "seeds", "UA", "WA", "macro-F1"]
    return _with_targets(table, config, figures, header, rows)


def _differences(table: Table, config: Config, figures: "Figures") -> str:
    """One comparison a line: [label, name of the comparison]."""
    rows = []
    for label, name in table["lines"]:
        pooled, by_speaker = figures[name, "ua"], figures.get((name, "ua_by_speaker"))
        rows.append(
            [
                label,
                difference_cell(pooled),
                p_cell(pooled.p),
                p_cell(pooled.p_holm),
                difference_cell(by_speaker),
                p_cell(by_speaker and by_speaker.p),
                p_cell(by_speaker and by_speaker.p_holm),
                difference_cell(figures[name, "wa"]),
            ]
        )
    header = [
        "UA, pooled",
        "p",
        "p (Holm)",
        "UA, mean over speakers",
        "p",
        "p (Holm)",
        "WA, pooled",
    ]
    return markdown([table["heading"], *header], rows)


def _gains(table: Table, config: Config, figures: "Figures") -> str:
    """One score a line, and what a part adds: [label, name of the score, name of the comparison]."""
    rows = []
    for label, score, comparison in table["lines"]:
        texts = [score_cell(figures[score, measure]) for measure in ("ua", "wa")]
        for measure in ("ua", "wa"):
            gain = figures.get((comparison, measure))
            texts += [difference_cell(gain), p_cell(gain and gain.p_holm)]
        rows.append([label, *texts])
    header = [
        table["heading"],
        *("UA", "WA", "gain in UA", "p (Holm)", "gain in WA", "p (Holm)"),
    ]
    return _with_targets(table, config, figures, header, rows)


def _score_grid(table: Table, config: Config, figures: "Figures") -> str:
    """Several scores a line: [label, name, ...], one for each of `columns`; empty: none."""
    rows = [
        [label, *(score_cell(figures[name, "ua"] if name else None) for name in names)]
        for label, *names in table["lines"]
    ]
    return markdown([table["heading"], *table["columns"]], rows)


def _difference_grid(table: Table, config: Config, figures: "Figures") -> str:
    """Several comparisons a line, each with its corrected p: the mean over speakers where they are known.

    A line is [label, comparison, ...]. A pair [score, comparison] puts the score before the comparison.
    """
    rows = []
    for label, *entries in table["lines"]:
        texts = []
        for entry in entries:
            score, comparison = ("", entry) if isinstance(entry, str) else entry
            level = figures.get((score, "ua"))
            gain = figures.get((comparison, "ua_by_speaker")) or figures.get((comparison, "ua"))
            parts = [f"{100 * level.value:.1f}"] if level else []
            if gain:
                parts.append(f"{difference_cell(gain)}, {p_cell(gain.p_holm)}")
            texts.append("; ".join(parts))
        rows.append([label, *texts])
    return markdown([table["heading"], *table["columns"]], rows)


def _recalls(table: Table, config: Config, figures: "Figures") -> str:
    """The recall of each class: [label, name of the score]."""
    prefix = "recall_"
    classes = sorted({measure for _, measure in figures if measure.startswith(prefix)})
    rows = [
        [label, *(score_cell(figures.get((name, measure))) for measure in classes)]
        for label, name in table["lines"]
    ]
    return markdown([table["heading"], *(name.removeprefix(prefix) for name in classes)], rows)


def _overview(table: Table, config: Config, figures: "Figures") -> str:
    """The headline table: [corpus, protocol, score, label of the baseline, score of the baseline, link]."""
    rows = []
    for corpus, protocol, name, baseline, baseline_name, link in table["lines"]:
        texts = [score_cell(figures[name, measure]) for measure in ("ua", "wa")]
        beside = [score_cell(figures.get((baseline_name, measure))) for measure in ("ua", "wa")]
        rows.append(
            [
                corpus,
                protocol,
                *texts,
                f"{baseline} {' / '.join(filter(None, beside))}".strip(),
                link,
            ]
        )
    header = ["corpus", "protocol", "UA", "WA", "baseline: UA / WA", "details"]
    return markdown(header, rows)


KINDS: dict[str, Callable[[Table, Config, "Figures"], str]] = {
    "scores": _scores,
    "differences": _differences,
    "gains": _gains,
    "score grid": _score_grid,
    "difference grid": _difference_grid,
    "recalls": _recalls,
    "overview": _overview,
}


def render(table: Table, config: Config, figures: "Figures") -> str:
    """Return a table of `results.toml` as Markdown."""
    return KINDS[table["kind"]](table, config, figures)


def replace_table(page: str, name: str, table: str) -> str:
    """Return the text of a page with another table between the comments of a name.

    Raises:
        ValueError: The page does not have the two comments exactly once.
    """
    start = f"<!-- table {name}: written by python -m research.results --write -->"
    end = f"<!-- end of table {name} -->"
    pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", flags=re.DOTALL)
    new, count = pattern.subn(lambda _: f"{start}\n{table}\n{end}", page)
    if count != 1:
        raise ValueError(f"a page must have {start!r} and {end!r} once; found {count} times")
    return new


def write_tables(config: Config, figures: "Figures") -> None:
    """Put the tables of all pages up to date."""
    for table in config["tables"]:
        path = ROOT / table["page"]
        page = path.read_text(encoding="utf-8")
        path.write_text(
            replace_table(page, table["name"], render(table, config, figures)), encoding="utf-8"
        )


def stale_tables(config: Config, figures: "Figures") -> list[str]:
    """Return one line for each table of a page that differs from the figures."""
    lines = []
    for table in config["tables"]:
        page = (ROOT / table["page"]).read_text(encoding="utf-8")
        if replace_table(page, table["name"], render(table, config, figures)) != page:
            lines.append(f"{table['page']}: table {table['name']!r} differs from results.csv")
    return lines
