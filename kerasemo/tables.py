"""Results as tables on standard output."""

import sys
from collections.abc import Collection, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

WIDTH_OF_FILES = 120
"""Columns of a table that goes to a file or a pipe."""

NUMBERS = (
    *("epoch", "clips", "UA", "WA", "macro-F1", "chance", "UA, corpus unknown"),
    *("pairs", "same", "AUC", "EER", "within", "between", "between / within"),
)
"""The columns that stand to the right."""


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in NUMBERS else "left")
    return table


def _print(console: Console, title: str, table: Table) -> None:
    """Print a table below its title, which rich itself would wrap at the table's width."""
    console.print(title, style="italic", soft_wrap=True)
    console.print(table)


def print_training(result: Mapping[str, Any]) -> None:
    """Print the stages of a chain, each with the test scores of its own sources, then the last stage on every source."""
    console = _console()
    table = _table("stage", "kind", "source", "epoch", "clips", "UA", "WA", "chance")
    for stage in result["stages"]:
        for source, score in stage["sources"].items():
            epoch = f"{stage['best_epoch']} of {stage['epochs']}"
            figures = (str(score["clips"]), f"{score['ua']:.3f}", f"{score['wa']:.3f}", f"{score['chance']:.3f}")
            table.add_row(stage["stage"], stage["kind"], source, epoch, *figures)
    _print(console, f"Stages ({_protocol(result)})", table)
    _print_sources(console, result)
    _print_pairs(console, result, among=result["trained_on"])
    console.print(f"Run folder: {result['run']} (watch it: tensorboard --logdir {result['run']})", soft_wrap=True)


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print the scores of one stage on every source, those of pairs, and each confusion matrix."""
    console = _console()
    _print_sources(console, result)
    _print_pairs(console, result, among=result["sources"])
    _print_scatter(console, result)
    for source, score in result["sources"].items():
        names = score["emotions"]
        table = Table(box=SIMPLE, pad_edge=False)
        for column in ("", *names):
            table.add_column(column, justify="right" if column else "left")
        for emotion, row in zip(score["emotions"], score["confusion"], strict=True):
            table.add_row(emotion, *map(str, row))
        _print(console, f"{source}: confusion (rows: truth)", table)


def _print_sources(console: Console, result: Mapping[str, Any]) -> None:
    trained_on = " + ".join(result["trained_on"])
    title = f"Stage {result['stage']} on the test side of every source ({_protocol(result)}; trained last on {trained_on})"
    table = _table("source", "clips", "UA", "WA", "macro-F1", "chance", "UA, corpus unknown")
    for source, score in result["sources"].items():
        figures = [f"{score[name]:.3f}" for name in ("ua", "wa", "macro_f1", "chance")]
        unknown = f"{score['without_corpus']['ua']:.3f}" if "without_corpus" in score else ""
        table.add_row(source, str(score["clips"]), *figures, unknown)
    _print(console, title, table)
    for source, score in result["sources"].items():
        if score.get("publisher_split"):
            console.print(f"{source}: its publisher's own split, whatever the protocol", soft_wrap=True)
        if score.get("deduplicated"):
            console.print(f"{source}: deduplicated: copies of its test clips were left out of training and validation", soft_wrap=True)
        if "pair_auc" in score:
            console.print(f"{source}: same emotion or not, by distance: AUC {score['pair_auc']:.3f}", soft_wrap=True)
        if "all_classes" in score:
            every = score["all_classes"]
            figures = f"UA {every['ua']:.3f}, WA {every['wa']:.3f}"
            number = len(every["emotions"])
            console.print(f"{source}: over all its {number} emotions, untrained ones as recall 0: {figures}", soft_wrap=True)
    for source, reason in result["not_scored"].items():
        console.print(f"{source}: not scored: {reason}", soft_wrap=True)


def _print_pairs(console: Console, result: Mapping[str, Any], *, among: Collection[str]) -> None:
    """Print how well pairs of clips of some sources are told to be of one emotion or of two, before and after the stage."""
    matching = result["matching"]
    before = (matching["before"] or {"couples": {}})["couples"]
    table = _table("sources", "pairs", "same", "AUC", "EER")
    for couple, score in matching["after"]["couples"].items():
        if set(couple.split(" + ")) <= set(among):
            was = before.get(couple, {})
            figures = [_change(was.get(name), score[name]) for name in ("auc", "eer")]
            table.add_row(couple, str(score["pairs"]), _figure(score["same"]), *figures)
    _print(console, f"Do two test clips show the same emotion? By their distance{_stages(result)}", table)


def _print_scatter(console: Console, result: Mapping[str, Any]) -> None:
    """Print how far embeddings lie from their class and the classes from one another, before and after the stage."""
    matching = result["matching"]
    before = (matching["before"] or {"scatter": {}})["scatter"]
    table = _table("source", "clips", "within", "between", "between / within")
    for source, score in matching["after"]["scatter"].items():
        was = before.get(source, {})
        if was.get("clips") != score["clips"]:  # together, but of fewer sources
            was = {}
        table.add_row(source, str(score["clips"]), *(_change(was.get(name), score[name]) for name in ("within", "between", "ratio")))
    _print(console, f"Scatter of the clips within and between the emotions{_stages(result)}", table)


def _stages(result: Mapping[str, Any]) -> str:
    return f" ({result['matching']['stage_before']} → {result['stage']})" if result["matching"]["before"] else ""


def _change(before: float | None, after: float | None) -> str:
    return f"{_figure(before)} → {_figure(after)}" if before is not None else _figure(after)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _protocol(result: Mapping[str, Any]) -> str:
    return f"{result['protocol']}, fold {result['fold']}"
