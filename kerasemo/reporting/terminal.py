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
from pipelines.core.text import printable

WIDTH_OF_FILES = 120
"""Columns of a table that goes to a file or a pipe."""

NUMBERS = (
    *(
        "largest difference",
        "confidence",
        "epoch",
        "clips",
        "UA",
        "WA",
        "macro-F1",
        "chance",
        "UA, corpus unknown",
    ),
    *("pairs", "same", "AUC", "EER", "within", "between", "between / within"),
)
"""The columns that stand to the right."""

TEXTS = ("stage", "stages", "source", "scored by", "how")
"""Those of a reproduction that stand to the left; all others stand to the right."""


def _console() -> Console:
    return Console(
        file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OF_FILES, highlight=False
    )


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
            figures = (
                str(score["clips"]),
                f"{score['ua']:.3f}",
                f"{score['wa']:.3f}",
                f"{score['chance']:.3f}",
            )
            table.add_row(stage["stage"], stage["kind"], source, epoch, *figures)
    _print(console, f"Stages ({_protocol(result)})", table)
    _print_sources(console, result)
    _print_pairs(console, result, among=result["trained_on"])
    console.print(
        f"Run folder: {result['run']} (watch it: tensorboard --logdir {result['run']})",
        soft_wrap=True,
    )


def print_evaluation(result: Mapping[str, Any]) -> None:
    """Print the scores of one stage on every source, those of pairs, and each confusion matrix."""
    console = _console()
    _print_sources(console, result)
    _print_rest(console, result)


def print_reproduction(
    title: str,
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    notes: Sequence[str],
) -> None:
    """Print tables, each (title, columns, rows), below the title of all, and what is to be known of them."""
    console = _console()
    console.print(title, style="bold", soft_wrap=True, markup=False)
    for name, columns, rows in tables:
        table = Table(box=SIMPLE, pad_edge=False)
        for column in columns:
            table.add_column(
                column, justify="left" if column in TEXTS else "right", overflow="fold"
            )
        for row in rows:
            table.add_row(*(escape(printable(cell)) for cell in row))
        _print(console, name, table)
    for note in notes:
        console.print(note, soft_wrap=True, markup=False)


def print_served(result: Mapping[str, Any]) -> None:
    """Print the same of an exported model, and what of its clips it was trained on."""
    console = _console()
    trained_on = " + ".join(result["trained_on"])
    _print_scores(
        console,
        f"Model {result['model']} on clips it was not trained on (trained on {trained_on})",
        result,
    )
    _print_rest(console, result)


def _print_rest(console: Console, result: Mapping[str, Any]) -> None:
    """Print what follows the scores of an evaluation: those of pairs, and each confusion matrix."""
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


def print_export(result: Mapping[str, Any]) -> None:
    """Print what was exported, and how far the answers of each signature are from the Keras model's."""
    console = _console()
    table = _table("signature", "largest difference")
    for signature, difference in result["differences"].items():
        table.add_row(signature, f"{difference:.1e}")
    title = f"{result['out']}/{result['version']} ({result['format']}), loaded anew and compared with the Keras model on real clips"
    _print(console, title, table)
    console.print(f"Answers: {', '.join(result['labels'])}", soft_wrap=True)
    if result["synthetic"]:
        console.print("Trained on synthesised samples: it knows nothing of people.", soft_wrap=True)
    if result["format"] == "saved_model":
        console.print(
            f"Serve it: docker run -p 8500:8500 -p 8501:8501 {_docker_words(result['out'])}",
            soft_wrap=True,
        )


def _docker_words(out: str) -> str:
    folder = Path(out).resolve()
    name = f"/models/{folder.name}"
    return (
        f'-v "{folder}:{name}" tensorflow/serving --model_config_file={name}/serving/models.config'
    )


def print_predictions(predictions: Sequence[Mapping[str, Any]]) -> None:
    """Print what the face, the voice and both say of each clip that could be read."""
    table = _table("clip", "seconds", "faces", "face", "", "voice", "", "both", "")
    table.columns[0].overflow = "fold"
    good = [said for said in predictions if "error" not in said]
    folder = (
        os.path.commonpath([os.path.dirname(os.path.abspath(said["path"])) for said in good])
        if good
        else ""
    )
    for said in good:
        answers = []
        for domain in ("visual", "audio", "fused"):
            own = said[domain]
            answers += [own["emotion"], f"{own['confidence']:.2f}"] if own else ["–", ""]
        seconds = max(
            (said[domain]["seconds"] for domain in ("visual", "audio") if said[domain]), default=0.0
        )
        faces = str(len(said["visual"]["faces"])) if said["visual"] else "–"
        name = os.path.relpath(os.path.abspath(said["path"]), folder)
        table.add_row(
            escape(printable(name)), f"{seconds:.1f}" if seconds else "–", faces, *answers
        )
    if good:
        _print(_console(), f"Clips in {escape(printable(folder))}", table)


def print_answers(answers: Sequence[Mapping[str, Any]]) -> None:
    """Print the emotion of each file, and the probabilities of all that it could have been."""
    labels = list(dict.fromkeys(label for answer in answers for label in answer["probabilities"]))
    table = _table("file", "emotion", "confidence")
    table.columns[0].overflow = "fold"
    for label in labels:
        table.add_column(label, justify="right", no_wrap=True)
    for answer in answers:
        figures = [_figure(answer["probabilities"].get(label)) for label in labels]
        table.add_row(
            escape(printable(answer["path"])),
            answer["emotion"],
            _figure(answer["confidence"]),
            *figures,
        )
    _console().print(table)


def _print_sources(console: Console, result: Mapping[str, Any]) -> None:
    trained_on = " + ".join(result["trained_on"])
    title = f"Stage {result['stage']} on the test side of every source ({_protocol(result)}; trained last on {trained_on})"
    _print_scores(console, title, result)


def _print_scores(console: Console, title: str, result: Mapping[str, Any]) -> None:
    """Print a row for each scored source, and below them what is to be known of each."""
    table = _table("source", "clips", "UA", "WA", "macro-F1", "chance", "ECE", "UA, corpus unknown")
    for source, score in result["sources"].items():
        figures = [f"{score[name]:.3f}" for name in ("ua", "wa", "macro_f1", "chance")]
        figures.append(f"{score['calibration_error']:.3f}" if "calibration_error" in score else "")
        unknown = f"{score['without_corpus']['ua']:.3f}" if "without_corpus" in score else ""
        table.add_row(source, str(score["clips"]), *figures, unknown)
    _print(console, title, table)
    for source, score in result["sources"].items():
        for note in _notes(score):
            console.print(f"{source}: {note}", soft_wrap=True)
    for source, reason in result["not_scored"].items():
        console.print(f"{source}: not scored: {reason}", soft_wrap=True)


def _notes(score: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is to be known of a source's score beside its figures."""
    if score.get("publisher_split"):
        yield "its publisher's own split, whatever the protocol"
    if score.get("transductive"):
        yield "transductive: each clip normalised by the statistics of all clips of its speaker, so that it needs more of them"
    if score.get("deduplicated"):
        yield "deduplicated: copies of its test clips were left out of training and validation"
    if score.get("copies_in_training"):
        yield f"as published: {score['copies_in_training']} copies of its test clips stayed in training"
    if score.get("left_out"):
        yield f"{score['left_out']} clips left out: the model was trained on these utterances, or its epoch was chosen on them"
    if score.get("trained_speakers"):
        yield f"{score['trained_speakers']} of its {score['clips']} clips are of speakers that the model was trained on"
    if "fusion" in score:
        yield f"face and voice together: {_fusion(score['fusion'])}"
    if "pair_auc" in score:
        yield f"same emotion or not, by distance: AUC {score['pair_auc']:.3f}"
    if "all_classes" in score:
        every = score["all_classes"]
        figures = f"UA {every['ua']:.3f}, WA {every['wa']:.3f}"
        yield f"over all its {len(every['emotions'])} emotions, untrained ones as recall 0: {figures}"


def _fusion(fusion: Mapping[str, Any]) -> str:
    weights = f"weights {fusion['visual_weight']:.2f} and {1 - fusion['visual_weight']:.2f}, temperature {fusion['temperature']:.2f}"
    if not fusion["utterances"]:
        return f"{weights}, not fitted: no validation utterance has both"
    return f"{weights}, fitted on {fusion['utterances']} validation utterances"


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
    _print(
        console,
        f"Do two test clips show the same emotion? By their distance{_stages(result)}",
        table,
    )


def _print_scatter(console: Console, result: Mapping[str, Any]) -> None:
    """Print how far embeddings lie from their class and the classes from one another, before and after the stage."""
    matching = result["matching"]
    before = (matching["before"] or {"scatter": {}})["scatter"]
    table = _table("source", "clips", "within", "between", "between / within")
    for source, score in matching["after"]["scatter"].items():
        was = before.get(source, {})
        if was.get("clips") != score["clips"]:  # together, but of fewer sources
            was = {}
        table.add_row(
            source,
            str(score["clips"]),
            *(_change(was.get(name), score[name]) for name in ("within", "between", "ratio")),
        )
    _print(console, f"Scatter of the clips within and between the emotions{_stages(result)}", table)


def _stages(result: Mapping[str, Any]) -> str:
    return (
        f" ({result['matching']['stage_before']} → {result['stage']})"
        if result["matching"]["before"]
        else ""
    )


def _change(before: float | None, after: float | None) -> str:
    return f"{_figure(before)} → {_figure(after)}" if before is not None else _figure(after)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _protocol(result: Mapping[str, Any]) -> str:
    return f"{result['protocol']}, fold {result['fold']}"


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
        *study_tables.facts(document),
        *study_tables.notes(document),
        f"All tables, and a page with plots: {out}",
    ]
    print_reproduction(title, shown, [line.removeprefix("- ") for line in lines])


def show_comparison(result: Mapping[str, Any]) -> None:
    """Print what `kerasemo.compare` returns on standard output."""
    shown = _shown(result)
    lines = [*study_tables.notes(result)]
    for row in result["rows"]:
        if every := row.get("all_classes"):
            among = f"{row['stage']}, {row['source']}: over {', '.join(row['emotions'])}, which it could answer"
            lines.append(
                f"{among}; over all {len(every['emotions'])} classes UA {study_tables.hundredths(every['ua'])}"
            )
    print_reproduction(
        "Answers that are kept in files (in hundredths)", shown, [*map(printable, lines)]
    )


def _shown(result: Mapping[str, Any]) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """Return the tables of scores of clips and, if there are any, of comparisons."""
    cells = [
        study_tables.score_cells(row)
        for row in result["rows"]
        if row["level"] in study_tables.CLIPS
    ]
    places = [0, 1, *range(3, len(study_tables.SCORES) - 2), len(study_tables.SCORES) - 1]
    scores = (
        "Scores, each of the clips of all folds together",
        SHOWN,
        [[row[place] for place in places] for row in cells],
    )
    compared = (
        "Stages compared, the seeds averaged first",
        study_tables.COMPARED,
        [*study_tables.compared(result)],
    )
    return [scores, compared] if result["comparisons"] else [scores]
