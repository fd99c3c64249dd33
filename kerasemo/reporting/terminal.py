"""Results as tables on standard output."""

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kerasemo.reporting import study_tables
from kerasemo.reporting.columns import (
    EVALUATION,
    STUDY_ON_TERMINAL,
    TRAINING,
    Row,
    columns_of,
    decimal,
    percent,
)
from kerasemo.reporting.study_tables import Study, is_of_clips
from kerasemo.reporting.text_tables import TextTable
from pipelines.core.domains import DOMAINS
from pipelines.core.text import printable

FILE_WIDTH = 120
"""The width of tables, in characters, if standard output is a file or a pipe."""

NO_VALUE = "–"


def print_training(result: Mapping[str, Any]) -> None:
    """Print the test scores of each stage on its sources, then of the last on all sources."""
    console = _console()
    rows = [
        stage | score | {"source": source}
        for stage in result["stages"]
        for source, score in stage["sources"].items()
    ]
    _print_table(console, _score_table(f"Stages ({_protocol(result)})", rows, TRAINING))
    _print_sources(console, result)
    _print_pairs(console, result, sources=result["trained_on"])
    console.print(
        f"Run folder: {result['run']} (watch it: tensorboard --logdir {result['run']})",
        soft_wrap=True,
    )


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print the scores of a stage on every source, of pairs of clips, and each confusion matrix."""
    console = _console()
    _print_sources(console, result)
    _print_details(console, result)


def print_model_evaluation(result: Mapping[str, Any]) -> None:
    """Print the same of an exported model, and which of the clips it was trained on."""
    console = _console()
    trained_on = " + ".join(result["trained_on"])
    title = f"Model {result['model']} on clips it was not trained on (trained on {trained_on})"
    _print_scores(console, title, result)
    _print_details(console, result)


def print_study(study: Study, out: Path) -> None:
    """Print the clip scores and comparisons of a study, and the folder of its files."""
    lines = [
        *study_tables.provenance(study),
        *study_tables.test_evaluations(study),
        *study_tables.remarks(study),
        f"All tables, and a page with charts: {out}",
    ]
    _print_study_tables(f"{study_tables.study_title(study)} (in percent)", study, lines)


def print_comparison(result: Mapping[str, Any]) -> None:
    """Print the scores and comparisons of `kerasemo.analysis.compare_files`."""
    lines = [*study_tables.remarks(result)]
    for row in result["rows"]:
        if all_classes := row.get("all_classes"):
            lines.append(
                f"{row['stage']}, {row['source']}: UA over {', '.join(row['emotions'])}, which "
                f"the stage can predict; over all {len(all_classes['emotions'])} classes "
                f"UA {percent(all_classes['ua'])}"
            )
    _print_study_tables("Predictions from files (in percent)", result, map(printable, lines))


def print_export(result: Mapping[str, Any]) -> None:
    """Print what was exported, and how far each signature's outputs are from the Keras model's."""
    console = _console()
    differences = TextTable(
        f"{result['out']}/{result['version']} ({result['format']}), loaded again and compared with "
        "the Keras model on real clips",
        ("signature", "largest difference"),
        [(name, f"{difference:.1e}") for name, difference in result["differences"].items()],
        ("signature",),
    )
    _print_table(console, differences)
    console.print(f"Labels: {', '.join(result['labels'])}", soft_wrap=True)
    if result["synthetic"]:
        console.print(
            "Trained on synthesised samples: the model knows nothing about people.", soft_wrap=True
        )
    if result["format"] == "saved_model":
        console.print(f"Serve it: {_serving_command(result['out'])}", soft_wrap=True)


def print_predictions(predictions: Sequence[Mapping[str, Any]]) -> None:
    """Print the emotion by face, by voice and by both, of each clip that could be read."""
    readable = [prediction for prediction in predictions if "error" not in prediction]
    if not readable:
        return
    paths = [os.path.abspath(prediction["path"]) for prediction in readable]
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    table = TextTable(
        f"Clips in {printable(folder)}",
        ("clip", "seconds", "faces", "face", "", "voice", "", "both", ""),
        [
            (os.path.relpath(path, folder), *_prediction_cells(prediction))
            for path, prediction in zip(paths, readable, strict=True)
        ],
        ("clip", "face", "voice", "both"),
    )
    _print_table(_console(), table)


def print_file_predictions(predictions: Sequence[Mapping[str, Any]]) -> None:
    """Print the emotion of each file that was sent to a server, and all its probabilities."""
    labels = list(
        dict.fromkeys(label for prediction in predictions for label in prediction["probabilities"])
    )
    table = TextTable(
        "",
        ("file", "emotion", "confidence", *labels),
        [
            (
                prediction["path"],
                prediction["emotion"],
                _decimal(prediction["confidence"]),
                *(_decimal(prediction["probabilities"].get(label)) for label in labels),
            )
            for prediction in predictions
        ],
        ("file", "emotion"),
    )
    _print_table(_console(), table)


def _console() -> Console:
    width = None if sys.stdout.isatty() else FILE_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False)


def _print_table(console: Console, table: TextTable) -> None:
    """Print a table below its title, which rich would wrap at the width of the table."""
    if table.title:
        console.print(escape(table.title), style="italic", soft_wrap=True)
    rich_table = Table(box=SIMPLE, pad_edge=False)
    for column in table.columns:
        is_number = table.is_number(column)
        rich_table.add_column(column, justify="right" if is_number else "left", overflow="fold")
    for row in table.rows:
        rich_table.add_row(*(escape(printable(cell)) for cell in row))
    console.print(rich_table)


def _print_study_tables(title: str, study: Study, lines: Sequence[str] | Iterator[str]) -> None:
    console = _console()
    console.print(title, style="bold", soft_wrap=True, markup=False)
    rows = list(filter(is_of_clips, study["rows"]))
    _print_table(
        console,
        study_tables.score_table("Clips of all folds together", rows, table=STUDY_ON_TERMINAL),
    )
    if study["comparisons"]:
        _print_table(console, study_tables.comparison_table(study["comparisons"]))
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _score_table(title: str, rows: Sequence[Row], table: str) -> TextTable:
    """Return scores as fractions with three decimals."""
    columns = columns_of(table)
    return TextTable(
        title,
        [column.title for column in columns],
        [[column.text(row, format_fraction=decimal) for column in columns] for row in rows],
        [column.title for column in columns if not column.is_number],
    )


def _print_sources(console: Console, result: Mapping[str, Any]) -> None:
    trained_on = " + ".join(result["trained_on"])
    title = (
        f"Stage {result['stage']} on the test split of every source ({_protocol(result)}; last "
        f"trained on {trained_on})"
    )
    _print_scores(console, title, result)


def _print_scores(console: Console, title: str, result: Mapping[str, Any]) -> None:
    """Print a row for each scored source, then remarks on each source."""
    rows = [score | {"source": source} for source, score in result["sources"].items()]
    _print_table(console, _score_table(title, rows, EVALUATION))
    for source, score in result["sources"].items():
        for remark in _remarks(score):
            console.print(f"{source}: {remark}", soft_wrap=True)
    for source, reason in result["not_scored"].items():
        console.print(f"{source}: not scored: {reason}", soft_wrap=True)


def _remarks(score: Row) -> Iterator[str]:
    """Yield what a reader must know to read the score of a source."""
    if score.get("publisher_split"):
        yield "the publisher's own split, whatever the protocol"
    if score.get("transductive"):
        yield (
            "transductive: each clip is normalised by the statistics of all clips of its speaker, "
            "so the score needs more than the clip"
        )
    if score.get("deduplicated"):
        yield "deduplicated: copies of test clips were left out of training and validation"
    if score.get("copies_in_training"):
        yield f"as published: {score['copies_in_training']} copies of test clips stayed in training"
    if score.get("left_out"):
        yield (
            f"{score['left_out']} clips left out: the model was trained on these utterances, or "
            "its epoch was chosen on them"
        )
    if score.get("trained_speakers"):
        yield (
            f"{score['trained_speakers']} of {score['clips']} clips are of speakers that the "
            "model was trained on"
        )
    if "fusion" in score:
        yield f"face and voice together: {_fusion(score['fusion'])}"
    if "pair_auc" in score:
        yield f"same emotion or not, by distance: AUC {score['pair_auc']:.3f}"
    if all_classes := score.get("all_classes"):
        yield (
            f"over all {len(all_classes['emotions'])} emotions of the source, with recall 0 for "
            f"untrained ones: UA {all_classes['ua']:.3f}, WA {all_classes['wa']:.3f}"
        )


def _fusion(fusion: Mapping[str, Any]) -> str:
    visual, audio = fusion["visual_weight"], 1 - fusion["visual_weight"]
    weights = f"weights {visual:.2f} and {audio:.2f}, temperature {fusion['temperature']:.2f}"
    if not fusion["utterances"]:
        return f"{weights}, not fitted: no validation utterance has both"
    return f"{weights}, fitted on {fusion['utterances']} validation utterances"


def _print_details(console: Console, result: Mapping[str, Any]) -> None:
    """Print the scores of pairs of clips, the scatter, and each confusion matrix."""
    _print_pairs(console, result, sources=result["sources"])
    _print_scatter(console, result)
    for source, score in result["sources"].items():
        confusion = TextTable(
            f"{source}: confusion (labels in the rows, predictions in the columns)",
            ("", *score["emotions"]),
            [
                (emotion, *map(str, counts))
                for emotion, counts in zip(score["emotions"], score["confusion"], strict=True)
            ],
            ("",),
        )
        _print_table(console, confusion)


def _print_pairs(console: Console, result: Mapping[str, Any], *, sources: Collection[str]) -> None:
    """Print how well distances separate equal from different emotions, before and after."""
    matching = result["matching"]
    before = (matching["before"] or {"couples": {}})["couples"]
    rows = []
    for couple, score in matching["after"]["couples"].items():
        if set(couple.split(" + ")) <= set(sources):
            score_before = before.get(couple, {})
            changes = [_change(score_before.get(name), score[name]) for name in ("auc", "eer")]
            rows.append((couple, str(score["pairs"]), _decimal(score["same"]), *changes))
    title = f"Do two test clips show the same emotion? By their distance{_stages(result)}"
    _print_table(
        console, TextTable(title, ("sources", "pairs", "same", "AUC", "EER"), rows, ("sources",))
    )


def _print_scatter(console: Console, result: Mapping[str, Any]) -> None:
    """Print how far clips lie from the centre of their emotion, and the centres from each other."""
    matching = result["matching"]
    before = (matching["before"] or {"scatter": {}})["scatter"]
    rows = []
    for source, score in matching["after"]["scatter"].items():
        score_before = before.get(source, {})
        if score_before.get("clips") != score["clips"]:  # "together" had fewer sources before
            score_before = {}
        changes = [
            _change(score_before.get(name), score[name]) for name in ("within", "between", "ratio")
        ]
        rows.append((source, str(score["clips"]), *changes))
    title = f"Scatter of the clips within and between the emotions{_stages(result)}"
    columns = ("source", "clips", "within", "between", "between / within")
    _print_table(console, TextTable(title, columns, rows, ("source",)))


def _stages(result: Mapping[str, Any]) -> str:
    """Return the two stages that the figures are of, if there is a stage before."""
    matching = result["matching"]
    return f" ({matching['stage_before']} → {result['stage']})" if matching["before"] else ""


def _prediction_cells(prediction: Mapping[str, Any]) -> list[str]:
    """Return duration, number of faces, and emotion and confidence by face, voice and both."""
    texts = []
    for domain in (*DOMAINS, "fused"):
        domain_prediction = prediction[domain]
        texts += (
            [domain_prediction["emotion"], f"{domain_prediction['confidence']:.2f}"]
            if domain_prediction
            else [NO_VALUE, ""]
        )
    durations = [prediction[domain]["seconds"] for domain in DOMAINS if prediction[domain]]
    seconds = max(durations, default=0.0)
    visual = prediction["visual"]
    faces = str(len(visual["faces"])) if visual else NO_VALUE
    return [f"{seconds:.1f}" if seconds else NO_VALUE, faces, *texts]


def _serving_command(out: str) -> str:
    """Return the command that serves an export with TensorFlow Serving."""
    folder = Path(out).resolve()
    name = f"/models/{folder.name}"
    return (
        f'docker run -p 8500:8500 -p 8501:8501 -v "{folder}:{name}" tensorflow/serving '
        f"--model_config_file={name}/serving/models.config"
    )


def _change(before: float | None, after: float | None) -> str:
    return f"{_decimal(before)} → {_decimal(after)}" if before is not None else _decimal(after)


def _decimal(value: float | None) -> str:
    return decimal(value) or NO_VALUE


def _protocol(result: Mapping[str, Any]) -> str:
    return f"{result['protocol']}, fold {result['fold']}"
