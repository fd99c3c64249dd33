"""Recompute every published figure from the kept predictions.

    python -m research.results            # print the tables
    python -m research.results --write    # write research/results.csv and the tables in the pages
    python -m research.results --check    # exit 1 if a figure or a table is out of date

`research/results.toml` lists the figures, `research/predictions` holds the predictions, and
`research/results.csv` is the golden file: what the pages say. Scores and differences of scores are
recomputed exactly; they may differ by no more than VALUE_TOLERANCE. Ends of intervals and p values may
come from random draws; they may differ by INTERVAL_TOLERANCE and P_TOLERANCE.
"""

import argparse
import csv
import dataclasses
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from research import tables

FOLDER = Path(__file__).resolve().parent
PREDICTIONS = FOLDER / "predictions"
GOLDEN = FOLDER / "results.csv"
ALL_STAGES = ""
"""In place of a stage: all stages of the file."""
VALUE_TOLERANCE = 2e-6
"""Scores and differences, as shares of 1: the rounding of the golden file."""
INTERVAL_TOLERANCE = 5e-4
"""Ends of intervals, as shares of 1: half of the last digit that the pages show."""
P_TOLERANCE = 5e-3
"""p values, corrected or not: three standard errors of 100 000 random sign flips."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published figure. A field is None where it does not apply."""

    kind: str
    """`score`, `difference` or `recorded` (without kept predictions)."""
    name: str
    measure: str
    """`ua`, `wa`, `macro_f1`, `chance`, `recall_EMOTION`, `pair_auc`; of differences `ua` and `wa` of the
    pooled scores, `ua_by_speaker` and `wa_by_speaker` as the mean over the speakers' own differences."""
    source: str
    split: str
    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    clips: int | None = None
    speakers: int | None = None
    networks: int | None = None
    seeds: int | None = None


FIELDS = tuple(field.name for field in dataclasses.fields(Figure))
TOLERANCES = {
    "value": VALUE_TOLERANCE,
    "low": INTERVAL_TOLERANCE,
    "high": INTERVAL_TOLERANCE,
    "p": P_TOLERANCE,
    "p_holm": P_TOLERANCE,
}
COUNTS = ("clips", "speakers", "networks", "seeds")

Figures = dict[tuple[str, str], Figure]
"""By (name, measure)."""


def compare_predictions(
    files: Sequence[tuple[Path, str]], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return what `python -m kerasemo.compare FILE:STAGE ... --compare A:B,... --json` prints.

    No other code of this folder depends on how kerasemo scores and compares predictions.
    """
    from kerasemo.analysis.comparison import compare_files

    return compare_files(files, pairs)


def read_config(path: Path = FOLDER / "results.toml") -> dict[str, Any]:
    """Return the list of published figures and tables."""
    with open(path, "rb") as file:
        return tomllib.load(file)


def recompute(config: Mapping[str, Any], predictions: Path) -> Figures:
    """Return all figures of a list, from the predictions in a folder.

    Args:
        config: What `read_config` returns.
        predictions: The folder of the files that `config` names.

    Raises:
        ValueError: A family does not list exactly the comparisons that its stages give, so that a
            correction for their number would be wrong; a stage has predictions for another split; or two
            figures have one name.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}  # by (file, stage, source)
    figures: list[Figure] = []
    for family in config["families"]:
        comparisons = _compare_family(family, config["predictions"], predictions)
        figures += comparisons.figures
        rows |= comparisons.rows
    for group in config["predictions"]:
        for stage in group["stages"]:
            place = (group["file"], stage, group["source"])
            if place not in rows:
                alone = compare_predictions([(predictions / group["file"], stage)], [])
                rows |= {(group["file"], stage, row["source"]): row for row in alone["rows"]}
            figures += _score_figures(group, stage, rows[place])
    for entry in config["recorded"]:
        figures += _recorded_figures(entry)
    return _by_name(figures)


def _by_name(figures: Iterable[Figure]) -> Figures:
    named: Figures = {}
    for figure in figures:
        if named.setdefault((figure.name, figure.measure), figure) is not figure:
            raise ValueError(
                f"results.toml: two figures are named {figure.name!r}, {figure.measure}"
            )
    return named


@dataclasses.dataclass(frozen=True)
class _Family:
    figures: list[Figure]
    rows: dict[tuple[str, str, str], dict[str, Any]]


def _compare_family(
    family: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], predictions: Path
) -> _Family:
    """Return the comparisons of a family, corrected for their number, and the scores of its stages."""
    listed = {
        (comparison["first"], comparison["second"], comparison["source"]): comparison["name"]
        for comparison in family["comparisons"]
    }
    pairs = list(dict.fromkeys((first, second) for first, second, _ in listed))
    stages = dict.fromkeys(stage for pair in pairs for side in pair for stage in side.split("+"))
    stages_of: dict[str, list[str]] = {}  # the stages of each file that the family needs
    for stage in stages:
        stages_of.setdefault(_file_of(stage, groups, family.get("file")), []).append(stage)
    files = [
        (predictions / file, needed[0] if len(needed) == 1 else ALL_STAGES)
        for file, needed in stages_of.items()
    ]
    result = compare_predictions(files, pairs)
    comparisons = {
        (*comparison["stages"], comparison["source"]): comparison
        for comparison in result["comparisons"]
    }
    if comparisons.keys() != listed.keys():
        different = sorted(comparisons.keys() ^ listed.keys())[0]
        raise ValueError(
            f"results.toml: family {family['name']!r} must list the comparisons that its stages give, "
            f"because all of them are corrected together; {different} is only on one side"
        )
    figures = []
    for place, name in listed.items():
        if "refused" in comparisons[place]:
            raise ValueError(
                f"results.toml: {name!r} cannot be made: {comparisons[place]['refused']}"
            )
        split = _split_of(place, groups)
        figures += _difference_figures(name, place[2], split, comparisons[place])
    file_of = {
        stage: group["file"]
        for group in groups
        if group["file"] in stages_of
        for stage in group["stages"]
    }
    if unlisted := {row["stage"] for row in result["rows"]} - file_of.keys():
        raise ValueError(
            f"results.toml: [[predictions]] must list every stage of {', '.join(stages_of)}; "
            f"missing: {', '.join(sorted(unlisted))}"
        )
    rows = {(file_of[row["stage"]], row["stage"], row["source"]): row for row in result["rows"]}
    return _Family(figures, rows)


def _file_of(stage: str, groups: Sequence[Mapping[str, Any]], file: str | None) -> str:
    files = {group["file"] for group in groups if stage in group["stages"]}
    if file in files:
        return file
    if len(files) != 1:
        raise ValueError(
            f"results.toml: stage {stage!r} must be in one file of [[predictions]], or the family must "
            f"name its file; found in {', '.join(sorted(files)) or 'none'}"
        )
    return files.pop()


def _split_of(place: tuple[str, str, str], groups: Sequence[Mapping[str, Any]]) -> str:
    first, _, source = place
    stage = first.split("+")[0]
    return next(
        group["split"]
        for group in groups
        if stage in group["stages"] and group["source"] in source.split(" + ")
    )


def _score_figures(group: Mapping[str, Any], stage: str, row: Mapping[str, Any]) -> list[Figure]:
    """Return the figures of one row of results: scores, chance, recalls, and the scores of each seed."""
    name = stage + group.get("suffix", "")
    if row["side"] != group["split"]:
        raise ValueError(
            f"{group['file']}: {stage!r} has predictions for the {row['side']} split; "
            f"results.toml says {group['split']}"
        )
    common = {
        "kind": "score",
        "source": group["source"],
        "split": group["split"],
        "clips": row["n"],
    }
    counts = {
        "speakers": len(row["by_speaker"]) or None,
        "networks": row["networks"],
        "seeds": len(row["by_seed"]),
    }
    figures = []
    for measure in ("ua", "wa", "macro_f1", "chance"):
        interval = row["interval"].get(measure) or {}
        ends = {end: interval.get(end) for end in ("low", "high")}
        figures.append(
            Figure(name=name, measure=measure, value=row[measure], **common, **counts, **ends)
        )
    if group.get("recalls"):
        figures += [
            Figure(name=name, measure=f"recall_{emotion}", value=value, **common, **counts)
            for emotion, value in row["recalls"].items()
        ]
    if len(row["by_seed"]) > 1:
        figures += [
            Figure(
                name=f"{name}, seed {seed_scores['seed']}",
                measure=measure,
                value=seed_scores[measure],
                **common,
            )
            for seed_scores in row["by_seed"]
            for measure in ("ua", "wa", "macro_f1")
        ]
    return figures


def _difference_figures(
    name: str, source: str, split: str, comparison: Mapping[str, Any]
) -> list[Figure]:
    """Return the difference of pooled scores, and, where speakers are known, the mean over speakers."""
    figures = []
    for measure in ("ua", "wa"):
        by_speaker = comparison[measure]
        speakers = len(by_speaker["speakers"]) or None
        estimates = {measure: by_speaker["pooled"]}
        if speakers:
            estimates[f"{measure}_by_speaker"] = by_speaker
        figures += [
            Figure(
                kind="difference",
                name=name,
                measure=estimate_name,
                source=source,
                split=split,
                value=estimate["difference"],
                speakers=speakers,
                **{field: estimate[field] for field in ("low", "high", "p", "p_holm")},
            )
            for estimate_name, estimate in estimates.items()
        ]
    return figures


def _recorded_figures(entry: Mapping[str, Any]) -> list[Figure]:
    fields = {
        key: entry[key] for key in ("name", "source", "split", "clips", "seeds") if key in entry
    }
    return [
        Figure(
            kind="recorded",
            measure=measure,
            **fields,
            **dict(zip(("value", "low", "high"), numbers)),
        )
        for measure, numbers in entry["figures"].items()
    ]


def read_golden(path: Path) -> Figures:
    """Return the figures of a file that `write_golden` wrote."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return _by_name(_parsed(row) for row in rows)


def _parsed(row: Mapping[str, str]) -> Figure:
    fields: dict[str, Any] = dict(row)
    for name in TOLERANCES:
        fields[name] = float(row[name]) if row[name] else None
    for name in COUNTS:
        fields[name] = int(row[name]) if row[name] else None
    return Figure(**fields)


def write_golden(figures: Figures, path: Path) -> None:
    """Write figures as CSV, numbers with six decimals."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        for figure in figures.values():
            values = (getattr(figure, name) for name in FIELDS)
            writer.writerow(
                [f"{value:.6f}" if isinstance(value, float) else value for value in values]
            )


def differing_figures(golden: Figures, recomputed: Figures) -> list[str]:
    """Return one line for each figure that is missing, new, or differs by more than the tolerance."""
    lines = [
        f"{name}, {measure}: not in results.csv"
        for name, measure in recomputed.keys() - golden.keys()
    ]
    lines += [
        f"{name}, {measure}: not recomputed" for name, measure in golden.keys() - recomputed.keys()
    ]
    for place in golden.keys() & recomputed.keys():
        for field in FIELDS:
            expected, actual = (getattr(figures[place], field) for figures in (golden, recomputed))
            if not _is_close(expected, actual, TOLERANCES.get(field)):
                name, measure = place
                lines.append(
                    f"{name}, {measure}: {field} is {expected} in results.csv, recomputed {actual}"
                )
    return sorted(lines)


def _is_close(expected: object, actual: object, tolerance: float | None) -> bool:
    if tolerance is None or expected is None or actual is None:
        return expected == actual
    return abs(expected - actual) <= tolerance


def check(config: Mapping[str, Any], predictions: Path, golden_path: Path) -> list[str]:
    """Return one line for each figure, file of predictions or table of a page that is out of date."""
    golden = read_golden(golden_path)
    listed = {group["file"] for group in config["predictions"]}
    return [
        *(
            f"{path.name}: not in results.toml"
            for path in predictions.iterdir()
            if path.name not in listed
        ),
        *differing_figures(golden, recompute(config, predictions)),
        *tables.stale_tables(config, golden),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, recompute the figures, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m research.results", description=__doc__.splitlines()[0]
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--write",
        action="store_true",
        help="write research/results.csv and the tables in the pages",
    )
    action.add_argument(
        "--check", action="store_true", help="exit 1 if a figure or a table is out of date"
    )
    arguments = parser.parse_args(argv)
    config = read_config()
    if arguments.check:
        problems = check(config, PREDICTIONS, GOLDEN)
        print("\n".join(problems) or "All figures and tables are up to date.")
        return 1 if problems else 0
    figures = recompute(config, PREDICTIONS)
    if arguments.write:
        write_golden(figures, GOLDEN)
        tables.write_tables(config, read_golden(GOLDEN))
        return 0
    for table in config["tables"]:
        print(f"\n{table['page']}, {table['name']}\n")
        print(tables.render(table, config, figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
