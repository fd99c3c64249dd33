"""A network and the clips of a source -> probabilities of each clip -> scores."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kerasemo.datasets.sources import Side, Source
from kerasemo.metrics import calibration, classification, verification
from kerasemo.networks.inference import Predict
from pipelines.core.labels import EMOTIONS, in_order


def emotion_mask(emotions: Sequence[str]) -> np.ndarray:
    """Return bool [10]: which of EMOTIONS are named."""
    return np.isin(EMOTIONS, list(emotions))


def clip_probabilities(
    logits: np.ndarray, clip_of: np.ndarray, emotions: Sequence[str]
) -> np.ndarray:
    """Return the mean softmax over each clip's items, float64 [clips, 10], 0 for emotions that are not named.

    Args:
        logits: float32 [items, 10].
        clip_of: int [items], from 0 without a gap.
        emotions: Those that can be answered.
    """
    return classification.mean_probabilities(
        classification.masked_softmax(logits, emotion_mask(emotions)), clip_of
    )


def score_logits(
    logits: np.ndarray,
    clip_of: np.ndarray,
    labels: np.ndarray,
    *,
    corpus: Sequence[str],
    trained: Sequence[str],
) -> dict:
    """Score the clips of one source by their items' logits, float32 [items, 10]; see `clip_probabilities` and `score_clips`."""
    masked = clip_probabilities(logits, clip_of, in_order(set(corpus) & set(trained)))
    return score_clips(
        masked, clip_probabilities(logits, clip_of, trained), labels, corpus=corpus, trained=trained
    )


def score_clips(
    masked: np.ndarray,
    served: np.ndarray | None,
    labels: np.ndarray,
    *,
    corpus: Sequence[str],
    trained: Sequence[str],
) -> dict:
    """Score clips by their probabilities.

    Args:
        masked: float64 [clips, 10], of the emotions alone that both have.
        served: The same, of all trained emotions (what is served); None where an answer needs the corpus.
        labels: int [clips], indices of EMOTIONS.
        corpus: The corpus' emotions.
        trained: The emotions that the network was trained on.

    Returns:
        `classification.classification_scores` and `calibration_error` over the clips of the emotions that both have; `without_corpus`: UA, WA, macro-F1
        and calibration error of the same clips as served; and, where the corpus has an emotion that was not trained, `all_classes`:
        UA and WA with that class's recall 0.
    """
    shared = in_order(set(corpus) & set(trained))
    known = np.isin(labels, np.flatnonzero(emotion_mask(shared)))

    def scored(probabilities: np.ndarray, emotions: Sequence[str]) -> dict:
        columns = np.flatnonzero(emotion_mask(emotions))
        truth, probabilities = (
            np.searchsorted(columns, labels[known]),
            probabilities[known][:, columns],
        )
        error = calibration.calibration_error(truth, probabilities)
        return classification.classification_scores(truth, probabilities, emotions=emotions) | {
            "calibration_error": error
        }

    score = scored(masked, shared)
    if served is not None:
        unknown = scored(served, in_order(trained))
        score["without_corpus"] = {
            key: unknown[key] for key in ("ua", "wa", "macro_f1", "calibration_error")
        }
    if set(corpus) - set(trained):
        answers = masked.argmax(axis=1)
        score["all_classes"] = {
            "emotions": in_order(corpus),
            "ua": classification.unweighted_average_recall(
                labels, answers, n_classes=len(EMOTIONS)
            ),
            "wa": classification.accuracy(labels, answers, n_classes=len(EMOTIONS)),
        }
    return score


def side_items(side: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the clips of a side (indices of rows), each item's place among them, and each clip's label."""
    clips, clip_of = np.unique(side.source.clip_of[side.items], return_inverse=True)
    return clips, clip_of, side.source.labels[clips]


def score_side(predict: Predict, side: Side, *, trained: Sequence[str]) -> tuple[dict, list[dict]]:
    """Score a network on one side of a source.

    Returns:
        `score_clips` of the side, and a row for each clip for `write_predictions`.
    """
    return score_outputs(forward(predict, side), side, trained=trained)


def forward(predict: Predict, side: Side) -> dict[str, np.ndarray]:
    """Return the network's outputs for the items of a side, for all that is asked of them; see `Predict`.

    Of several heads the source's own answers, with `own_head`; a source that has none gets no `logits`.
    """
    outputs = predict(side.inputs, side.source.domain)
    if heads := getattr(predict, "heads", ()):
        logits = outputs.pop("logits")
        if side.source.name in heads:
            outputs |= {"logits": logits[:, heads.index(side.source.name)], "own_head": np.True_}
    return outputs


def side_probabilities(
    outputs: Mapping[str, np.ndarray], side: Side, *, trained: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what outputs of `forward` say of each clip of a side: `masked` and `served` of `score_clips`."""
    _, clip_of, _ = side_items(side)
    masked = clip_probabilities(
        outputs["logits"], clip_of, in_order(set(side.source.emotions) & set(trained))
    )
    # Which of several heads answers is knowledge of the corpus.
    return masked, None if "own_head" in outputs else clip_probabilities(
        outputs["logits"], clip_of, trained
    )


def score_outputs(
    outputs: Mapping[str, np.ndarray], side: Side, *, trained: Sequence[str]
) -> tuple[dict, list[dict]]:
    """Score outputs of `forward`; returns what `score_side` does."""
    clips, _, labels = side_items(side)
    masked, served = side_probabilities(outputs, side, trained=trained)
    score = score_clips(masked, served, labels, corpus=side.source.emotions, trained=trained)
    return score, prediction_rows(side.source, clips, masked)


def embedded_clips(outputs: Mapping[str, np.ndarray], side: Side) -> verification.EmbeddedClips:
    """Return the clips of a side as outputs of `forward` embed them, for `verification.score_pairs`."""
    clips, clip_of, labels = side_items(side)
    utterances = [side.source.rows[clip]["utterance"] for clip in clips]
    return verification.EmbeddedClips(
        verification.clip_embeddings(outputs["embedding"], clip_of), labels, utterances
    )


def score_embeddings(
    predict: Predict,
    train: Sequence[Side],
    test: Side,
    *,
    drawn: Mapping[str, np.ndarray],
    sides: Sequence[Side],
) -> dict:
    """Score a contrastively trained network: pair AUC, and the nearest class mean as the answer of a clip.

    Args:
        predict: Runs the network.
        train: The training sides, whose items give the class means.
        test: The side whose clips are scored.
        drawn: A plan's epoch of pairs of test items: `item` and `source`, [steps, pairs, 2].
        sides: What the plan's `source` indexes.

    Returns:
        `classification.classification_scores` of the nearest mean among the classes that the source has, and `pair_auc`.
    """
    embeddings = np.concatenate([_embed(predict, side) for side in train])
    labels = np.concatenate([side.labels for side in train])
    classes = np.intersect1d(labels, np.flatnonzero(emotion_mask(test.source.emotions)))
    means = np.stack(
        [embeddings[labels == label].mean(axis=0) for label in classes]
    )  # [classes, n]
    _, clip_of, truth = side_items(test)
    clip_means = classification.clip_means(_embed(predict, test), clip_of)  # [clips, n]
    distances = np.linalg.norm(clip_means[:, None] - means[None], axis=-1)  # [clips, classes]
    nearest = np.eye(len(classes))[distances.argmin(axis=1)]
    known = np.isin(truth, classes)
    score = classification.classification_scores(
        np.searchsorted(classes, truth[known]),
        nearest[known],
        emotions=[EMOTIONS[label] for label in classes],
    )
    return score | {"pair_auc": pair_auc(predict, drawn, sides)}


def pair_auc(predict: Predict, drawn: Mapping[str, np.ndarray], sides: Sequence[Side]) -> float:
    """Return the area under the curve of the question whether a pair shows the same emotion, answered by its distance."""
    return embedded_pair_auc(drawn, sides, [_embed(predict, side) for side in sides])


def embedded_pair_auc(
    drawn: Mapping[str, np.ndarray], sides: Sequence[Side], embeddings: Sequence[np.ndarray]
) -> float:
    """Return `pair_auc` of the embeddings of the items of every side."""
    pairs = embedded_pairs(drawn, sides, embeddings)
    return verification.area_under_curve(
        same_emotion(drawn, sides), -np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=-1)
    )


def embedded_pairs(
    drawn: Mapping[str, np.ndarray], sides: Sequence[Side], embeddings: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the embeddings of both items of every pair that a plan drew, [pairs, 2, n]; those of each side's items are given."""
    return _of_pairs(
        drawn, [spread(side, own) for side, own in zip(sides, embeddings, strict=True)]
    )


def spread(side: Side, values: np.ndarray) -> np.ndarray:
    """Return values of a side's items [items, ...] at their places among all items of the source, elsewhere 0."""
    spread = np.zeros((len(side.source.inputs), *values.shape[1:]), values.dtype)
    spread[side.items] = values
    return spread


def same_emotion(drawn: Mapping[str, np.ndarray], sides: Sequence[Side]) -> np.ndarray:
    """Return bool [pairs]: whether the two items of each pair that a plan drew show the same emotion."""
    labels = _of_pairs(drawn, [side.source.labels[side.source.clip_of] for side in sides])
    return labels[:, 0] == labels[:, 1]


def _of_pairs(drawn: Mapping[str, np.ndarray], values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the values of both items of every pair, [pairs, 2, ...]; `values` has an entry for each item of each source."""
    item, source = (drawn[key].reshape(-1, 2) for key in ("item", "source"))
    found = np.empty((*item.shape, *values[0].shape[1:]), values[0].dtype)
    for index, value in enumerate(values):
        found[source == index] = value[item[source == index]]
    return found


def _embed(predict: Predict, side: Side) -> np.ndarray:
    return forward(predict, side)["embedding"]


def prediction_rows(source: Source, clips: np.ndarray, probabilities: np.ndarray) -> list[dict]:
    """Return a row for each clip: its names, the answer and every emotion's probability."""
    rows = []
    for clip, distribution in zip(clips, probabilities, strict=True):
        row = source.rows[clip]
        names = {
            "source": source.name,
            "id": row["id"],
            "speaker": row["speaker"],
            "emotion": row["emotion"],
        }
        answer = {"answer": EMOTIONS[distribution.argmax()]}
        rows.append(
            names
            | answer
            | {emotion: f"{p:.6f}" for emotion, p in zip(EMOTIONS, distribution, strict=True)}
        )
    return rows


def write_predictions(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write `predictions.csv`, a row a clip, under a temporary name and rename it."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, fieldnames=["source", "id", "speaker", "emotion", "answer", *EMOTIONS]
        )
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)
