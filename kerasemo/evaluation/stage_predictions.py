"""The predictions of a finished stage for a split of every source, stored with the stage.

`SPLIT-predictions.csv` in the folder of a stage has a row for each scored clip. The row holds the
names of the clip, and its prediction and probabilities over the emotions that corpus and network
share. It also holds the prediction without knowledge of the corpus, and the number of faces or
segments with each prediction. `SPLIT-scored.json` is written last. It names the network, the
records and the checksum of the rows. If one of them differs, the clips are predicted again.
"""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.analysis.prediction_tables import NO_PREDICTION, Predictions
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.leakage_gate import GatedSplits, copies_stamp
from kerasemo.datasets.segmentation import Segmentation
from kerasemo.datasets.sources import Subset
from kerasemo.datasets.subsets import labelled_subset
from kerasemo.evaluation import scoring
from kerasemo.evaluation.scoring import ClipProbabilities
from kerasemo.metrics import classification, verification
from kerasemo.networks.inference import NetworkOutputs, NetworkPredictor
from kerasemo.runs.lineage import Lineage
from kerasemo.runs.run_folder import FinishedStage
from pipelines.core import files
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

CLIP_COLUMNS = ("source", "id", "speaker", "emotion", "answer", "answer_without_corpus")
"""The columns that name a clip and its predictions."""

ITEM_COLUMNS = tuple(f"items_{emotion}" for emotion in EMOTIONS)
"""The columns that count the predictions of a clip's faces or segments."""

NO_HEAD = "the network has a head for each source of its stage, and none for this source"


@dataclasses.dataclass(frozen=True, eq=False)
class StagePredictions:
    """The predictions of a stage for one split of every source."""

    by_source: Mapping[str, Predictions]
    facts: Mapping[str, Any]
    """The contents of `SPLIT-scored.json`.

    They are `trained_emotions`, `trained_on`, `stamps` (source -> remarks), `not_scored` (source ->
    reason), and `pairs` (two sources -> scores of pairs of clips).
    """


def predictions_of_outputs(
    outputs: NetworkOutputs, subset: Subset, *, trained_emotions: Sequence[str]
) -> Predictions:
    """Return the predictions of the clips of a subset by the logits of its items."""
    probabilities = scoring.clip_probabilities(outputs, subset, trained_emotions=trained_emotions)
    shared = scoring.emotion_mask(set(subset.source.emotions) & set(trained_emotions))
    logits = scoring.head_logits(outputs)
    item_predictions = np.where(shared, logits, -np.inf).argmax(axis=1)
    return _predictions(subset, probabilities, item_predictions)


def predictions_of_nearest_means(
    embeddings: np.ndarray, subset: Subset, *, means: Mapping[int, np.ndarray]
) -> Predictions:
    """Return the nearest class mean as the prediction, for a network without a head.

    The probability of the prediction is 1.

    Args:
        embeddings: float [items of the subset, n].
        subset: The clips.
        means: See `scoring.class_means`.
    """
    clip_of = scoring.clip_items(subset).clip_of
    clip_means = classification.clip_means(embeddings, clip_of)
    one_hot = np.eye(len(EMOTIONS))[scoring.nearest_class(clip_means, means)]
    item_predictions = scoring.nearest_class(embeddings, means)
    return _predictions(subset, ClipProbabilities(one_hot, None), item_predictions)


def _predictions(
    subset: Subset, probabilities: ClipProbabilities, item_predictions: np.ndarray
) -> Predictions:
    items = scoring.clip_items(subset)
    n_clips, n_emotions = len(items.clips), len(EMOTIONS)
    item_counts = np.bincount(
        items.clip_of * n_emotions + item_predictions, minlength=n_clips * n_emotions
    )
    open_predictions = np.full(n_clips, NO_PREDICTION)
    if probabilities.open is not None:
        open_predictions = probabilities.open.argmax(axis=1)
    rows = [subset.source.rows[clip] for clip in items.clips]
    return Predictions(
        ids=tuple(row["id"] for row in rows),
        speakers=tuple(row["speaker"] for row in rows),
        labels=items.labels,
        predictions=probabilities.with_corpus.argmax(axis=1),
        probabilities=probabilities.with_corpus,
        open_predictions=open_predictions,
        item_counts=item_counts.reshape(n_clips, n_emotions),
    )


def reason_unscored(
    stage: FinishedStage,
    source: str,
    *,
    catalog: RecordCatalog,
    splits: GatedSplits,
    trained_domains: np.ndarray,
) -> str:
    """Return why a stage cannot predict the clips of a source, or an empty string.

    Args:
        stage: The stage.
        source: `CORPUS/DOMAIN`.
        catalog: The records.
        splits: The splits of the records.
        trained_domains: bool [domains]: the domains that the network was trained on.
    """
    domain = source.partition("/")[2]
    if source not in splits.clip_ids:
        return "the set has no clip"
    if not trained_domains[DOMAINS.index(domain)]:
        return f"the network has not been trained on {domain} yet"
    if stage.config.kind == "contrastive" and source not in stage.trained_on:
        return (
            "a contrastive stage has no head; "
            "it is scored by pairs of the sources that it was trained on"
        )
    segmentation = Segmentation.for_scores(stage.config)
    return segmentation.reason_unreadable(source, catalog.rows(source))


def reason_without_clips(subset: Subset, trained_emotions: Sequence[str], *, split: str) -> str:
    """Return why no clip of a split can be scored, or an empty string."""
    if not len(subset.items):
        return f"no clip in the {split} split of this fold"
    if subset.emotions & set(trained_emotions):
        return ""
    return f"no clip of a trained emotion ({', '.join(trained_emotions)})"


def predict_split(
    lineage: Lineage, catalog: RecordCatalog, split: str, *, sources: Sequence[str]
) -> StagePredictions:
    """Return what a stage predicts for the clips of a split of every source.

    Every clip of an untrained corpus is a test clip. Its validation split is made as if a stage had
    been trained on the corpus.

    Args:
        lineage: The finished stage.
        catalog: The records of the training.
        split: `validation` (no test clip is read) or `test`.
        sources: The sources to predict.

    Raises:
        InputError: Records that a stage was trained on are missing.
        DataError: A clip of the split may have been trained on.
    """
    stage = lineage.last
    splits = lineage.split(catalog, sources, foreign_is_test=split == "test")
    network = lineage.load_network()
    predict, trained_domains = network.predictor(), network.trained_domains()
    segmentation = Segmentation.for_scores(stage.config)
    train: list[tuple[Subset, np.ndarray]] = []
    if stage.config.kind == "contrastive":
        train = _training_embeddings(stage, catalog, splits, segmentation, predict)
    predictions, not_scored, embedded = {}, {}, {}
    for source in sources:
        reason = reason_unscored(
            stage, source, catalog=catalog, splits=splits, trained_domains=trained_domains
        )
        if reason:
            not_scored[source] = reason
            continue
        subset = catalog.subset(splits, source, split, segmentation)
        reason = reason_without_clips(subset, stage.trained_emotions, split=split)
        if reason:
            not_scored[source] = reason
            continue
        outputs = scoring.predict_subset(predict, subset)
        if source in stage.trained_on:
            embedded[source] = scoring.embedded_clips(outputs, subset)
        if train:
            means = scoring.class_means(
                np.concatenate([embeddings for _, embeddings in train]),
                np.concatenate([of_source.labels for of_source, _ in train]),
                subset.source.emotions,
            )
            predictions[source] = predictions_of_nearest_means(
                outputs.embedding, subset, means=means
            )
        elif outputs.logits is None:
            not_scored[source] = NO_HEAD
        else:
            predictions[source] = predictions_of_outputs(
                outputs, subset, trained_emotions=stage.trained_emotions
            )
    pairs = {}
    if embedded:
        pairs = verification.score_pairs(embedded, seed=verification.PAIRS_SEED)["couples"]
    facts = {
        "trained_emotions": list(stage.trained_emotions),
        "trained_on": lineage.trained_on,
        "not_scored": not_scored,
        "pairs": pairs,
        "stamps": {source: _stamps(splits, source, segmentation) for source in predictions},
    }
    return StagePredictions(predictions, facts)


def _training_embeddings(
    stage: FinishedStage,
    catalog: RecordCatalog,
    splits: GatedSplits,
    segmentation: Segmentation,
    predict: NetworkPredictor,
) -> list[tuple[Subset, np.ndarray]]:
    """Return the labelled training items of a stage's sources and their embeddings."""
    embedded = []
    for source in stage.trained_on:
        subset = catalog.subset(splits, source, "train", segmentation)
        subset = labelled_subset(subset, stage.config, seed=stage.key.seed, fold=stage.key.fold)
        embedded.append((subset, scoring.predict_subset(predict, subset).embedding))
    return embedded


def _stamps(splits: GatedSplits, source: str, segmentation: Segmentation) -> list[str]:
    """Return the remarks that the scores of a source carry."""
    facts = splits.facts(source)
    stamps = [copies_stamp(facts)]
    if facts["publisher"]:
        stamps.append("the publisher's own split, whatever the protocol")
    if segmentation.is_transductive(source):
        stamps.append("transductive: normalised by the statistics of the test speaker")
    return [stamp for stamp in stamps if stamp]


def prediction_header(
    stage: FinishedStage, catalog: RecordCatalog, sources: Sequence[str]
) -> dict[str, Any]:
    """Return the keys of stored predictions: the stage, and the records of every source."""
    records = {source: catalog.manifest_hash(source) for source in sources}
    return {"digest": stage.key.digest, "records": records}


def write_stage_predictions(
    folder: Path, split: str, predictions: StagePredictions, header: Mapping[str, Any]
) -> None:
    """Write the predictions of a split, then the document that names them, each atomically.

    Args:
        folder: The folder of the stage.
        split: `validation` or `test`.
        predictions: The predictions.
        header: See `prediction_header`.
    """
    path = folder / f"{split}-predictions.csv"
    with files.storage_errors(path):
        with files.atomic_path(path) as temporary:
            _write_rows(temporary, predictions.by_source)
        document = {**header, **predictions.facts, "sha256": files.file_sha256(path)}
        files.write_json(folder / f"{split}-scored.json", document)


def _write_rows(path: Path, by_source: Mapping[str, Predictions]) -> None:
    names = (*EMOTIONS, "")  # the index NO_PREDICTION is the last
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*CLIP_COLUMNS, *EMOTIONS, *ITEM_COLUMNS])
        for source, predictions in by_source.items():
            for clip, clip_id in enumerate(predictions.ids):
                classes = (
                    predictions.labels[clip],
                    predictions.predictions[clip],
                    predictions.open_predictions[clip],
                )
                writer.writerow(
                    [
                        source,
                        clip_id,
                        predictions.speakers[clip],
                        *(names[index] for index in classes),
                        *(f"{value:.6f}" for value in predictions.probabilities[clip]),
                        *predictions.item_counts[clip],
                    ]
                )


def read_stage_predictions(
    folder: Path, split: str, header: Mapping[str, Any]
) -> StagePredictions | None:
    """Return the stored predictions of a split.

    The result is None if the stage has none, or if they are of another network or other records.

    Args:
        folder: The folder of the stage.
        split: `validation` or `test`.
        header: See `prediction_header`.
    """
    facts = files.read_json(folder / f"{split}-scored.json")
    path = folder / f"{split}-predictions.csv"
    if not isinstance(facts, dict) or not path.is_file():
        return None
    if any(facts.get(name) != value for name, value in header.items()):
        return None
    if facts.get("sha256") != files.file_sha256(path):
        return None  # rows are missing or changed
    rows_by_source: dict[str, list[dict[str, str]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows_by_source.setdefault(row["source"], []).append(row)
    by_source = {source: _parse_predictions(rows) for source, rows in rows_by_source.items()}
    return StagePredictions(by_source, facts)


def _parse_predictions(rows: Sequence[Mapping[str, str]]) -> Predictions:
    index = {emotion: place for place, emotion in enumerate(EMOTIONS)} | {"": NO_PREDICTION}

    def classes(column: str) -> np.ndarray:
        return np.array([index[row[column]] for row in rows])

    return Predictions(
        ids=tuple(row["id"] for row in rows),
        speakers=tuple(row["speaker"] for row in rows),
        labels=classes("emotion"),
        predictions=classes("answer"),
        probabilities=np.array([[float(row[emotion]) for emotion in EMOTIONS] for row in rows]),
        open_predictions=classes("answer_without_corpus"),
        item_counts=np.array([[int(row[name]) for name in ITEM_COLUMNS] for row in rows]),
    )
