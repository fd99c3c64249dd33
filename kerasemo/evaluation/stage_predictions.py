"""What a finished stage answers to the clips of one side of every source, kept beside it: a row a clip, and a header.

`SIDE-predictions.csv` in a stage's folder has of every scored clip its names, the answer and the probabilities among the emotions that
its corpus and the network both have, the answer where the corpus is not known, and how many of its faces or segments got each answer.
`SIDE-scored.json`, written last, says by which network, of which records and with which checksum; where it does not hold, the clips
are scored again.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.analysis.prediction_tables import Predictions
from kerasemo.datasets import segmentation, sources, splits
from kerasemo.datasets.catalog import Holdings, side_of
from kerasemo.datasets.subsets import labelled_side
from kerasemo.evaluation import scoring
from kerasemo.metrics import classification, verification
from kerasemo.networks import inference
from kerasemo.runs import run_folder
from kerasemo.runs.lineage import Lineage
from pipelines.core import files
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

NAMES = ("source", "id", "speaker", "emotion", "answer", "answer_without_corpus")
ITEMS = tuple(f"items_{emotion}" for emotion in EMOTIONS)
"""The columns that count the answers to a clip's faces or segments."""


def of_outputs(
    outputs: Mapping[str, np.ndarray], side: sources.Side, *, trained: Sequence[str]
) -> Predictions:
    """Return what outputs of `scoring.forward` answer to the clips of a side.

    Args:
        outputs: With `logits` float32 [items, 10].
        side: The clips.
        trained: The emotions that the network was trained on.
    """
    masked, served = scoring.side_probabilities(outputs, side, trained=trained)
    shared = scoring.emotion_mask(set(side.source.emotions) & set(trained))
    return _of_items(
        np.where(shared, outputs["logits"], -np.inf).argmax(axis=1), side, masked, served
    )


def of_nearest_means(
    embeddings: np.ndarray, side: sources.Side, *, means: Mapping[int, np.ndarray]
) -> Predictions:
    """Return as answers the nearest mean of a class, for a network that has no answers of its own; its probability is 1.

    Args:
        embeddings: float [items, n] of the side's items.
        side: The clips.
        means: The mean [n] of each class, an index of EMOTIONS.
    """
    _, clip_of, _ = scoring.side_items(side)
    classes, centres = (
        np.array(sorted(means)),
        np.stack([means[label] for label in sorted(means)]),
    )  # [classes], [classes, n]

    def nearest(points: np.ndarray) -> np.ndarray:
        return classes[np.linalg.norm(points[:, None] - centres[None], axis=-1).argmin(axis=1)]

    return _of_items(
        nearest(embeddings),
        side,
        np.eye(len(EMOTIONS))[nearest(classification.clip_means(embeddings, clip_of))],
        None,
    )


def _of_items(
    answers: np.ndarray, side: sources.Side, masked: np.ndarray, served: np.ndarray | None
) -> Predictions:
    clips, clip_of, labels = scoring.side_items(side)
    items = np.bincount(
        clip_of * len(EMOTIONS) + answers, minlength=len(clips) * len(EMOTIONS)
    ).reshape(len(clips), len(EMOTIONS))
    without = np.full(len(clips), -1) if served is None else served.argmax(axis=1)
    ids, speakers = (
        tuple(side.source.rows[clip][name] for clip in clips) for name in ("id", "speaker")
    )
    return Predictions(ids, speakers, labels, masked.argmax(axis=1), masked, without, items)


def why_not_scored(result: Mapping[str, Any], source: str, seen: Sequence[bool]) -> str:
    """Return why a stage cannot be asked about a source at all, or nothing; `seen` says which domains it was trained on."""
    domain = source.partition("/")[2]
    if not seen[DOMAINS.index(domain)]:
        return f"the network has not been trained on {domain} yet"
    if result["kind"] == "contrastive" and source not in result["trained_on"]:
        return "a contrastive stage has no answers of its own; it is scored by pairs of the sources it was trained on"
    return ""


def why_not_scorable(side: sources.Side, trained: Sequence[str], *, name: str) -> str:
    """Return why no clip of a side, of a name, can be scored, or nothing."""
    if not len(side.items):
        return f"no clip on the {name} side of this fold"
    here = {side.source.rows[clip]["emotion"] for clip in side.source.clip_of[side.items]}
    return (
        ""
        if here & set(trained)
        else f"no emotion in common with those trained on ({', '.join(trained)})"
    )


def ask(
    of: Lineage, held: Holdings, side: str, *, load: Callable[[str], sources.Source]
) -> tuple[dict[str, Predictions], dict[str, Any]]:
    """Return what a stage answers to the clips of a side of every source, and what there is to know of it, ready for JSON.

    A corpus that no stage of the lineage was trained on is all test; its validation side is that of a split as if it had been.

    Args:
        of: The finished stage.
        held: The records of the training.
        side: `validation`, and no test clip is looked at, or `test`.
        load: Reads a source.

    Returns:
        The answers by source, and `{"trained_emotions", "trained_on", "stamps": {source: [stamp]}, "not_scored": {source: reason},
        "pairs": {couple: {"pairs", "same", "auc", "eer"}}}`; the pairs are of clips of the stage's own sources, see `kerasemo.metrics.verification`.

    Raises:
        InputError: A clip of the side could have been trained on.
    """
    trained = of.result["trained_emotions"]
    sides = of.sides(
        held.folder, asked=held.sources, there=held.sources, held=held, foreign=side == "test"
    )
    predict, seen = of.network()
    settings = of.result["key"]["stage"]
    load = segmentation.loader(held.folder, settings, load)
    answered, left_out, embedded = {}, {}, {}
    for source in held.sources:
        reason = (
            "no clip in it" if source not in sides.ids else why_not_scored(of.result, source, seen)
        )
        if reason := reason or segmentation.why_not_read(held.folder, source, settings):
            left_out[source] = reason
            continue
        asked = side_of(load(source), sides, side)
        if reason := why_not_scorable(asked, trained, name=side):
            left_out[source] = reason
            continue
        outputs = scoring.forward(predict, asked)
        if source in of.result["trained_on"]:
            embedded[source] = scoring.embedded_clips(outputs, asked)
        if of.result["kind"] == "contrastive":
            own = [side_of(load(source), sides, "train") for source in of.result["trained_on"]]
            own = [labelled_side(one, of.result["key"]) for one in own]
            means = _class_means(predict, own, asked)
            answered[source] = of_nearest_means(outputs["embedding"], asked, means=means)
        elif "logits" in outputs:
            answered[source] = of_outputs(outputs, asked, trained=trained)
        else:
            left_out[source] = (
                "the network has a head for each source of its stage, and none for this one"
            )
    couples = (
        verification.score_pairs(embedded, seed=verification.PAIRS_SEED)["couples"]
        if embedded
        else {}
    )
    document = {
        "trained_emotions": trained,
        "trained_on": of.trained_on,
        "not_scored": left_out,
        "pairs": couples,
    }
    return answered, document | {
        "stamps": {source: _stamps(of, sides, source) for source in answered}
    }


def _stamps(of: Lineage, sides: splits.Sides, source: str) -> list[str]:
    """Return what the scores of a stage on a source are stamped with."""
    facts = sides.report["sources"][source]
    found = [splits.stamp(facts)]
    if facts["publisher"]:
        found.append("the publisher's own split, whatever the protocol")
    if segmentation.is_transductive(source, of.result["key"]["stage"]):
        found.append("transductive: normalised by the test speaker's own statistics")
    return [stamp for stamp in found if stamp]


def _class_means(
    predict: inference.Predict, train: Sequence[sources.Side], asked: sources.Side
) -> dict[int, np.ndarray]:
    """Return the mean training embedding of each class that a source has."""
    embeddings = np.concatenate([scoring.forward(predict, own)["embedding"] for own in train])
    labels = np.concatenate([own.labels for own in train])
    classes = np.intersect1d(labels, np.flatnonzero(scoring.emotion_mask(asked.source.emotions)))
    return {int(label): embeddings[labels == label].mean(axis=0) for label in classes}


def header(of: Lineage, held: Holdings) -> dict[str, Any]:
    """Return what must be the same for kept answers to hold: the stage's key, and the records of every source."""
    return {"digest": run_folder.digest(of.result["key"]), "records": held.manifests}


def write(
    folder: Path, side: str, answered: Mapping[str, Predictions], document: Mapping[str, Any]
) -> None:
    """Write the answers to a side's clips, then the document that says that they are there, each under a temporary name first."""
    path = folder / f"{side}-predictions.csv"
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, *EMOTIONS, *ITEMS])
        for source, own in answered.items():
            said = [
                [EMOTIONS[label] if label >= 0 else "" for label in column]
                for column in (own.labels, own.predictions, own.open_predictions)
            ]
            for place, clip in enumerate(own.ids):
                names = (source, clip, own.speakers[place], *(column[place] for column in said))
                writer.writerow(
                    [
                        *names,
                        *(f"{share:.6f}" for share in own.probabilities[place]),
                        *own.item_counts[place],
                    ]
                )
    os.replace(temporary, path)
    files.write_json(
        folder / f"{side}-scored.json", {**document, "sha256": files.file_sha256(path)}
    )


def read(
    folder: Path, side: str, expected: Mapping[str, Any]
) -> tuple[dict[str, Predictions], dict[str, Any]] | None:
    """Return the kept answers to a side's clips and their document; None where there are none that `expected`, a header, holds of."""
    document = files.read_json(folder / f"{side}-scored.json")
    path = folder / f"{side}-predictions.csv"
    if (
        not isinstance(document, dict)
        or any(document.get(name) != value for name, value in expected.items())
        or not path.is_file()
    ):
        return None
    if "sha256" in document and document["sha256"] != files.file_sha256(
        path
    ):  # rows are missing or changed: asked again
        return None
    by_source: dict[str, list[dict[str, str]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            by_source.setdefault(row["source"], []).append(row)
    return {source: _parsed(rows) for source, rows in by_source.items()}, document


def _parsed(rows: Sequence[Mapping[str, str]]) -> Predictions:
    index = {emotion: place for place, emotion in enumerate(EMOTIONS)} | {"": -1}
    ids, speakers = (tuple(row[name] for row in rows) for name in ("id", "speaker"))
    labels, answers, without = (np.array([index[row[name]] for row in rows]) for name in NAMES[3:])
    probabilities = np.array([[float(row[emotion]) for emotion in EMOTIONS] for row in rows])
    return Predictions(
        ids,
        speakers,
        labels,
        answers,
        probabilities,
        without,
        np.array([[int(row[name]) for name in ITEMS] for row in rows]),
    )
