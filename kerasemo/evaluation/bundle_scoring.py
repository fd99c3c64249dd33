"""Scores of an exported model by its own signatures, on clips that it was not trained on."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kerasemo.config.schema import StageConfig
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.segmentation import Segmentation
from kerasemo.datasets.sources import Source, Subset, corpus_of
from kerasemo.datasets.splits import one_per_utterance
from kerasemo.evaluation import fused_scoring, scoring
from kerasemo.evaluation.scoring import ClipProbabilities
from kerasemo.metrics import classification, verification
from kerasemo.metrics.fusion import MIN_PROBABILITY, Fusion
from kerasemo.networks.inference import ITEMS_PER_CALL
from kerasemo.serving import training_clips
from kerasemo.serving.signatures import EMBEDDING_SIGNATURES, ITEM_SIGNATURES
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

if TYPE_CHECKING:
    from kerasemo.serving.bundle import Bundle


@dataclasses.dataclass(frozen=True, eq=False)
class UnseenClips:
    """The clips of a source that a model was not trained on."""

    subset: Subset
    n_trained_clips: int
    """The number of clips that the model was trained on."""
    n_trained_speakers: int
    """The number of unseen clips of speakers that the model was trained on."""


def evaluate_bundle(bundle: "Bundle", records: Path) -> dict[str, Any]:
    """Score an exported model on every set in the records, except the clips that it was trained on.

    A corpus with a publisher's split is scored on its test split. Every other corpus is scored on
    all utterances, with one file of each, as in the evaluation of a run. A clip is left out and
    counted if the model's stages were trained on its file, content or utterance.

    Args:
        bundle: The model.
        records: The folder of the sets.

    Returns:
        `{"model", "trained_on", "sources": {source: score}, "not_scored": {source: reason},
        "matching"}`, as `evaluator.evaluate_stage` returns. Each score also has `left_out` and
        `trained_speakers`. The scores of `CORPUS/fused` use the fusion of the model.

    Raises:
        InputError: The folder has no records.
        DataError: A set, or the list of the model's training clips, is missing or damaged.
    """
    catalog = RecordCatalog(records)
    segmentation = _segmentation(bundle)
    trained = training_clips.read_training_clips(bundle.folder / "assets" / "training_clips.json")
    labels = list(bundle.labels)
    scores, not_scored, embedded, utterances_of, corpus_emotions = {}, {}, {}, {}, {}
    for name in catalog.sources:
        reason = _reason_unscored(bundle, name)
        if reason:
            not_scored[name] = reason
            continue
        unseen = select_unseen(catalog.load(name, segmentation), trained)
        reason = _reason_without_clips(unseen, labels)
        if reason:
            not_scored[name] = reason
            continue
        subset, source = unseen.subset, unseen.subset.source
        items = scoring.clip_items(subset)
        of_items = item_probabilities(bundle, subset)
        probabilities = ClipProbabilities(
            classification.mean_probabilities(of_items.with_corpus, items.clip_of),
            classification.mean_probabilities(of_items.open, items.clip_of),
        )
        score = scoring.score_clips(
            probabilities,
            items.labels,
            corpus_emotions=source.emotions,
            trained_emotions=labels,
        )
        scores[name] = score | {
            "publisher_split": _has_publisher_split(source.rows),
            "left_out": unseen.n_trained_clips,
            "trained_speakers": unseen.n_trained_speakers,
        }
        utterances = [source.rows[clip]["utterance"] for clip in items.clips]
        utterances_of[name] = fused_scoring.utterance_probabilities(
            utterances, items.labels, probabilities
        )
        corpus_emotions[corpus_of(name)] = source.emotions
        outputs = _predict_items(bundle, EMBEDDING_SIGNATURES[DOMAINS[source.domain]], subset)
        embeddings = verification.clip_embeddings(outputs["embedding"], items.clip_of)
        embedded[name] = verification.EmbeddedClips(embeddings, items.labels, utterances)
    fusion = Fusion(**bundle.fusion)
    for corpus, (face, voice) in fused_scoring.match_utterances(utterances_of).items():
        fused_score = fused_scoring.score_fused(
            face,
            voice,
            corpus_emotions=corpus_emotions[corpus],
            trained_emotions=labels,
            fusion=fusion,
            open_fusion=fusion,
        )
        if fused_score is not None:
            fused_score["publisher_split"] = any(
                scores[f"{corpus}/{domain}"]["publisher_split"] for domain in DOMAINS
            )
            scores[f"{corpus}/{fused_scoring.FUSED}"] = fused_score
    return {
        "model": bundle.document["name"],
        "trained_on": bundle.document["training"]["trained_on"],
        "sources": scores,
        "not_scored": not_scored,
        "matching": {
            "stage_before": None,
            "after": verification.score_pairs(embedded, seed=verification.PAIRS_SEED),
            "before": None,
        },
    }


def _segmentation(bundle: "Bundle") -> Segmentation:
    """Return how the model's last stage cuts audio."""
    stages = bundle.document["training"].get("stages", [])
    if not stages:
        return Segmentation()
    return Segmentation.for_scores(StageConfig.from_json(stages[-1]["settings"]))


class ItemProbabilities(NamedTuple):
    """The probabilities of items by a bundle, with and without the mask of their corpus.

    Attributes:
        with_corpus: float64 [items, 10], over the emotions that corpus and bundle share.
        open: float64 [items, 10], over all emotions of the bundle.
    """

    with_corpus: np.ndarray
    open: np.ndarray


def item_probabilities(bundle: "Bundle", subset: Subset) -> ItemProbabilities:
    """Return the probabilities of each item of a subset, with and without the corpus's mask.

    If the mask leaves out an emotion, faces are predicted again with the mask. Segments have no
    signature with a mask. Their probabilities are p_c m_c / sum_k p_k m_k, which is the softmax of
    masked logits.
    """
    columns = [EMOTIONS.index(label) for label in bundle.labels]
    mask = subset.source.mask[columns]  # [labels]
    domain = DOMAINS[subset.source.domain]
    open_ = np.zeros((len(subset.items), len(EMOTIONS)))
    open_[:, columns] = _predict_items(bundle, ITEM_SIGNATURES[domain], subset)["probabilities"]
    if mask.all():
        return ItemProbabilities(open_, open_)
    with_corpus = np.zeros_like(open_)
    if "faces_masked" in bundle.document["signatures"] and domain == "visual":
        outputs = _predict_items(bundle, "faces_masked", subset, mask=mask)
        with_corpus[:, columns] = outputs["probabilities"]
    else:
        with_corpus[:, columns] = mask * np.maximum(open_[:, columns], MIN_PROBABILITY)
        with_corpus /= with_corpus.sum(axis=1, keepdims=True)
    return ItemProbabilities(with_corpus, open_)


def _predict_items(
    bundle: "Bundle", signature: str, subset: Subset, *, mask: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the outputs of a signature for every item of a subset.

    Args:
        bundle: The model.
        signature: The name of the signature.
        subset: The items.
        mask: float32 [labels]: 1 for an emotion that can occur.
    """
    input_name = ITEM_SIGNATURES[DOMAINS[subset.source.domain]]
    inputs, parts = subset.inputs, []
    for start in range(0, len(inputs), ITEMS_PER_CALL):
        arguments = {input_name: inputs[start : start + ITEMS_PER_CALL]}
        if mask is not None:
            arguments["mask"] = np.tile(mask, (len(arguments[input_name]), 1))
        parts.append(bundle.predict(signature, **arguments))
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if name in ("probabilities", "embedding")
    }


def _has_publisher_split(rows: Sequence[Mapping[str, Any]]) -> bool:
    return bool(rows and rows[0]["split"])


def select_unseen(source: Source, trained: training_clips.TrainingClips) -> UnseenClips:
    """Return the clips of a source that are scored.

    Args:
        source: The source.
        trained: The training clips of a model.
    """
    unseen_rows = [row for row in source.rows if not trained.has_clip(row)]
    scored_rows = one_per_utterance([row for row in unseen_rows if row["split"] in ("", "test")])
    scored_ids = {row["id"] for row in scored_rows}
    clips = [clip for clip, row in enumerate(source.rows) if row["id"] in scored_ids]
    return UnseenClips(
        Subset(source, source.items_of(clips)),
        n_trained_clips=len(source.rows) - len(unseen_rows),
        n_trained_speakers=sum(map(trained.has_speaker, scored_rows)),
    )


def _reason_unscored(bundle: "Bundle", source: str) -> str:
    """Return why a model cannot predict a source, or an empty string."""
    domain = source.partition("/")[2]
    if domain not in bundle.domains:
        return f"the model has not been trained on {domain}"
    if ITEM_SIGNATURES[domain] not in bundle.document["signatures"]:
        return "the model embeds faces and voices and predicts no emotion"
    return ""


def _reason_without_clips(unseen: UnseenClips, labels: Sequence[str]) -> str:
    """Return why no clip of a source can be scored, or an empty string."""
    n_clips, n_trained = len(unseen.subset.source.rows), unseen.n_trained_clips
    if not n_clips:
        return "the set has no clip"
    if not len(unseen.subset.items):
        reason = f"the model was trained on {n_trained} of {n_clips} clips"
        return reason if n_trained == n_clips else f"{reason}, and no other is a test clip"
    if unseen.subset.emotions & set(labels):
        return ""
    return f"no clip of a trained emotion ({', '.join(labels)})"
