"""Scores of an exported model, asked by its own signatures, on the clips of any records that it was not trained on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerasemo.datasets import sources, splits
from kerasemo.datasets.segmentation import loader
from kerasemo.evaluation import fused_scoring, scoring
from kerasemo.metrics import classification, verification
from kerasemo.metrics.fusion import MIN_PROBABILITY, Fusion
from kerasemo.networks import inference
from kerasemo.runs import lineage
from kerasemo.serving import training_clips
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS

if TYPE_CHECKING:
    from kerasemo.serving.bundle import Bundle


SIGNATURES = {"visual": "faces", "audio": "segments"}
"""What is asked about the items of a domain; also the name of their input."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """What is scored of a set: its clips that the model was not trained on."""

    source: sources.Source
    clips: np.ndarray
    """int64: indices of the source's rows."""
    counts: Mapping[str, int]
    """`left_out`: clips that the model was trained on; `trained_speakers`: scored clips of speakers that it was trained on."""

    @property
    def side(self) -> sources.Side:
        return sources.Side(self.source, self.source.items_of(self.clips))


def evaluate(
    bundle: "Bundle", records: Path, *, load: Callable[[str], sources.Source] | None = None
) -> dict[str, Any]:
    """Score an exported model on every set in the records, but for the clips that it was trained on.

    Of a corpus with its publisher's split the test side is scored, of every other one each utterance (by one of its files, as in an
    evaluation of a run). Left out, and counted, are clips whose file, content or utterance is among those of the model's stages.

    Args:
        bundle: The model.
        records: The folder of sets.
        load: Reads a source; by default from the records.

    Returns:
        `{"model", "trained_on", "sources": {source: score}, "not_scored": {source: reason}, "matching"}`, as `evaluator.evaluate`;
        each score has `left_out` and `trained_speakers` besides, and those of `CORPUS/fused` are of the model's own fusion.

    Raises:
        InputError: No records, or a model that does not say what it was trained on.
    """
    load = loader(
        records, bundle.document["training"].get("stages", [{}])[-1].get("settings", {}), load
    )
    known = training_clips.read_training_clips(bundle.folder / training_clips.TRAINING_CLIPS)
    own, labels = Fusion(**bundle.fusion), list(bundle.labels)
    scored, not_scored, embedded, said, emotions = {}, {}, {}, {}, {}
    for name in lineage.sources_in(records):
        domain = name.partition("/")[2]
        if domain not in bundle.domains:
            not_scored[name] = f"the model has not been trained on {domain}"
            continue
        if SIGNATURES[domain] not in bundle.document["signatures"]:
            not_scored[name] = "the model embeds faces and voices, and has no answers"
            continue
        part = _unseen(load(name), known)
        side = part.side
        if reason := _not_scorable(part, labels):
            not_scored[name] = reason
            continue
        clips, clip_of, truth = scoring.side_items(side)
        masked, served = (
            classification.mean_probabilities(values, clip_of)
            for values in item_probabilities(bundle, side)
        )
        score = scoring.score_clips(
            masked, served, truth, corpus=side.source.emotions, trained=labels
        )
        scored[name] = score | {"publisher_split": _published(side.source.rows)} | part.counts
        utterances = [side.source.rows[clip]["utterance"] for clip in clips]
        said[name] = fused_scoring.answers(utterances, truth, masked, served)
        emotions[name.partition("/")[0]] = side.source.emotions
        embedding = _asked(bundle, f"embed_{SIGNATURES[domain]}", side)["embedding"]
        embedded[name] = verification.EmbeddedClips(
            verification.clip_embeddings(embedding, clip_of), truth, utterances
        )
    for corpus, pair in fused_scoring.pairs_of(said).items():
        score = fused_scoring.score(
            pair, corpus=emotions[corpus], trained=labels, masked=own, served=own
        )
        if score is not None:
            alone = [scored[f"{corpus}/{domain}"] for domain in DOMAINS]
            scored[f"{corpus}/{fused_scoring.FUSED}"] = score | {
                "publisher_split": any(one["publisher_split"] for one in alone)
            }
    return {
        "model": bundle.document["name"],
        "trained_on": bundle.document["training"]["trained_on"],
        "sources": scored,
        "not_scored": not_scored,
        "matching": {
            "stage_before": None,
            "after": verification.score_pairs(embedded, seed=verification.PAIRS_SEED),
            "before": None,
        },
    }


def item_probabilities(bundle: "Bundle", side: sources.Side) -> tuple[np.ndarray, np.ndarray]:
    """Return what a model says of each item of a side, with the corpus' mask and without: float64 [items, 10] both.

    Faces are asked again with the mask, where it leaves something out. There is no such signature for segments: theirs is
    p_c m_c / sum_k p_k m_k, which is the softmax of the masked logits.
    """
    columns = [EMOTIONS.index(label) for label in bundle.labels]
    mask = side.source.mask[columns]  # [labels]
    served = np.zeros((len(side.items), len(EMOTIONS)))
    served[:, columns] = _asked(bundle, SIGNATURES[DOMAINS[side.source.domain]], side)[
        "probabilities"
    ]
    if mask.all():
        return served, served
    masked = np.zeros_like(served)
    if "faces_masked" in bundle.document["signatures"] and DOMAINS[side.source.domain] == "visual":
        masked[:, columns] = _asked(bundle, "faces_masked", side, mask=mask)["probabilities"]
    else:
        masked[:, columns] = mask * np.maximum(served[:, columns], MIN_PROBABILITY)
        masked /= masked.sum(axis=1, keepdims=True)
    return masked, served


def _asked(
    bundle: "Bundle", signature: str, side: sources.Side, *, mask: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return a signature's outputs for every item of a side; `mask` [labels] is that of each."""
    inputs, parts = side.inputs, []
    for start in range(0, len(inputs), inference.ITEMS_AT_ONCE):
        part = inputs[start : start + inference.ITEMS_AT_ONCE]
        masks = {} if mask is None else {"mask": np.tile(mask, (len(part), 1))}
        parts.append(
            bundle.predict(signature, **{SIGNATURES[DOMAINS[side.source.domain]]: part}, **masks)
        )
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if name in ("probabilities", "embedding")
    }


def _published(rows: Sequence[Mapping[str, Any]]) -> bool:
    return bool(rows and rows[0]["split"])


def _unseen(source: sources.Source, known: training_clips.TrainingClips) -> _Part:
    """Return the clips of a source that are scored."""
    rows = [row for row in source.rows if not known.has_clip(row)]
    left_out = len(source.rows) - len(rows)
    rows = splits.one_per_utterance([row for row in rows if row["split"] in ("", "test")])
    chosen = {row["id"] for row in rows}
    clips = np.array(
        [index for index, row in enumerate(source.rows) if row["id"] in chosen], np.int64
    )
    return _Part(
        source, clips, {"left_out": left_out, "trained_speakers": sum(map(known.has_speaker, rows))}
    )


def _not_scorable(part: _Part, labels: Sequence[str]) -> str:
    if not part.source.rows:
        return "no clip in it"
    if not len(part.clips):
        left_out, clips = part.counts["left_out"], len(part.source.rows)
        return f"{left_out} of its {clips} clips were trained on" + (
            "" if left_out == clips else ", and no other is on its test side"
        )
    there = {part.source.rows[clip]["emotion"] for clip in part.clips}
    return (
        ""
        if there & set(labels)
        else f"no emotion in common with those trained on ({', '.join(labels)})"
    )
