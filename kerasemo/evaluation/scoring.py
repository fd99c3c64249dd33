"""Score the clips of a source by the outputs of a network for their faces or segments."""

import csv
import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasemo.datasets.sampling import Draw
from kerasemo.datasets.sources import Source, Subset
from kerasemo.metrics import calibration, classification, verification
from kerasemo.networks.inference import NetworkOutputs, NetworkPredictor
from pipelines.core.files import atomic_path
from pipelines.core.labels import EMOTIONS, in_order

N_EMOTIONS = len(EMOTIONS)


class ClipItems(NamedTuple):
    """The clips of a subset, and which of its items belong to which clip."""

    clips: np.ndarray
    """int64 [clips]: indices of the source's rows, in ascending order."""
    clip_of: np.ndarray
    """int64 [items]: the place of each item's clip in `clips`."""
    labels: np.ndarray
    """int32 [clips]: indices of EMOTIONS."""


@dataclasses.dataclass(frozen=True, eq=False)
class ClipProbabilities:
    """The probabilities of clips, with and without knowledge of their corpus."""

    with_corpus: np.ndarray
    """float64 [clips, 10], over the emotions that corpus and network share."""
    open: np.ndarray | None
    """float64 [clips, 10], over all emotions of the network, as a service predicts.

    None if the network needs the corpus.
    """


def emotion_mask(emotions: Collection[str]) -> np.ndarray:
    """Return bool [10]: whether each of EMOTIONS is in `emotions`."""
    return np.isin(EMOTIONS, list(emotions))


def clip_items(subset: Subset) -> ClipItems:
    """Return the clips of a subset and their items."""
    clips, clip_of = np.unique(subset.source.clip_of[subset.items], return_inverse=True)
    return ClipItems(clips, clip_of, subset.source.labels[clips])


def predict_subset(predict: NetworkPredictor, subset: Subset) -> NetworkOutputs:
    """Return the outputs of a network for the items of a subset."""
    source = subset.source
    return predict(subset.inputs, source.domain, source=source.name)


def head_logits(outputs: NetworkOutputs) -> np.ndarray:
    """Return the logits of a network for the items of a source, float32 [items, 10].

    Raises:
        ValueError: The network has no head for the source.
    """
    if outputs.logits is None:
        raise ValueError(
            "outputs must have logits; received the outputs of a network without a head for this "
            "source, which only its embeddings can score"
        )
    return outputs.logits


def mean_clip_probabilities(
    logits: np.ndarray, clip_of: np.ndarray, emotions: Collection[str]
) -> np.ndarray:
    """Return the mean softmax over the items of each clip: float64 [clips, 10].

    Args:
        logits: float32 [items, 10].
        clip_of: int [items]: the clip of each item, from 0 without a gap.
        emotions: The emotions that can be predicted; others have probability 0.
    """
    softmax = classification.masked_softmax(logits, emotion_mask(emotions))
    return classification.mean_probabilities(softmax, clip_of)


def clip_probabilities(
    outputs: NetworkOutputs, subset: Subset, *, trained_emotions: Sequence[str]
) -> ClipProbabilities:
    """Return the probabilities of the clips of a subset.

    Args:
        outputs: The network's outputs for the items, with logits.
        subset: The items.
        trained_emotions: The emotions that the network was trained on.

    Raises:
        ValueError: The outputs have no logits.
    """
    logits, clip_of = head_logits(outputs), clip_items(subset).clip_of
    shared = in_order(set(subset.source.emotions) & set(trained_emotions))
    return ClipProbabilities(
        with_corpus=mean_clip_probabilities(logits, clip_of, shared),
        open=None
        if outputs.knows_corpus
        else mean_clip_probabilities(logits, clip_of, trained_emotions),
    )


def score_clips(
    probabilities: ClipProbabilities,
    labels: np.ndarray,
    *,
    corpus_emotions: Sequence[str],
    trained_emotions: Sequence[str],
) -> dict[str, Any]:
    """Score clips by their probabilities.

    Args:
        probabilities: The probabilities of each clip.
        labels: int [clips], indices of EMOTIONS.
        corpus_emotions: The emotions of the corpus.
        trained_emotions: The emotions that the network was trained on.

    Returns:
        `classification.classification_scores` and `calibration_error` of the clips with a shared
        emotion, which the corpus has and the network was trained on. `without_corpus` has UA, WA,
        macro-F1 and calibration error of the open predictions of the same clips. If the corpus has
        an untrained emotion, `all_classes` has UA and WA of all clips. The recall of an untrained
        emotion is 0.
    """
    shared = in_order(set(corpus_emotions) & set(trained_emotions))
    is_shared = np.isin(labels, np.flatnonzero(emotion_mask(shared)))

    def scores(of_clips: np.ndarray, emotions: Sequence[str]) -> dict[str, Any]:
        columns = np.flatnonzero(emotion_mask(emotions))
        classes = np.searchsorted(columns, labels[is_shared])
        over_emotions = of_clips[is_shared][:, columns]
        return classification.classification_scores(classes, over_emotions, emotions=emotions) | {
            "calibration_error": calibration.calibration_error(classes, over_emotions)
        }

    score = scores(probabilities.with_corpus, shared)
    if probabilities.open is not None:
        open_scores = scores(probabilities.open, in_order(trained_emotions))
        names = (*classification.METRICS, "calibration_error")
        score["without_corpus"] = {name: open_scores[name] for name in names}
    if set(corpus_emotions) - set(trained_emotions):
        predictions = probabilities.with_corpus.argmax(axis=1)
        score["all_classes"] = {
            "emotions": in_order(corpus_emotions),
            "ua": classification.unweighted_average_recall(
                labels, predictions, n_classes=N_EMOTIONS
            ),
            "wa": classification.accuracy(labels, predictions, n_classes=N_EMOTIONS),
        }
    return score


def score_outputs(
    outputs: NetworkOutputs, subset: Subset, *, trained_emotions: Sequence[str]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Score the outputs of a network for a subset.

    Returns:
        `score_clips` of the subset, and a row for each clip for `write_predictions`.
    """
    items = clip_items(subset)
    probabilities = clip_probabilities(outputs, subset, trained_emotions=trained_emotions)
    score = score_clips(
        probabilities,
        items.labels,
        corpus_emotions=subset.source.emotions,
        trained_emotions=trained_emotions,
    )
    return score, prediction_rows(subset.source, items.clips, probabilities.with_corpus)


def embedded_clips(outputs: NetworkOutputs, subset: Subset) -> verification.EmbeddedClips:
    """Return the embedding of each clip of a subset, for `verification.score_pairs`."""
    items = clip_items(subset)
    utterances = [subset.source.rows[clip]["utterance"] for clip in items.clips]
    embeddings = verification.clip_embeddings(outputs.embedding, items.clip_of)
    return verification.EmbeddedClips(embeddings, items.labels, utterances)


def class_means(
    embeddings: np.ndarray, labels: np.ndarray, emotions: Collection[str]
) -> dict[int, np.ndarray]:
    """Return the mean embedding of each class in `emotions` that has an item.

    Args:
        embeddings: float [items, n].
        labels: int [items], indices of EMOTIONS.
        emotions: The names of the classes.

    Returns:
        Class -> float [n].
    """
    classes = np.intersect1d(labels, np.flatnonzero(emotion_mask(emotions)))
    return {int(label): embeddings[labels == label].mean(axis=0) for label in classes}


def nearest_class(points: np.ndarray, means: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return the class whose mean is nearest to each point: int [points].

    Args:
        points: float [points, n].
        means: See `class_means`.
    """
    classes = np.array(sorted(means))
    centres = np.stack([means[label] for label in classes])  # [classes, n]
    distances = np.linalg.norm(points[:, None] - centres[None], axis=-1)  # [points, classes]
    return classes[distances.argmin(axis=1)]


def score_embeddings(
    outputs: NetworkOutputs, subset: Subset, *, means: Mapping[int, np.ndarray], pair_auc: float
) -> dict[str, Any]:
    """Score a contrastive network: the nearest class mean is the prediction of a clip.

    Args:
        outputs: The network's outputs for the items of the subset.
        subset: The clips that are scored.
        means: The mean training embedding of each class.
        pair_auc: The area under the curve of pairs, which becomes an entry.

    Returns:
        `classification.classification_scores` over the classes of `means`, and `pair_auc`.
    """
    items = clip_items(subset)
    predictions = nearest_class(classification.clip_means(outputs.embedding, items.clip_of), means)
    classes = np.array(sorted(means))
    is_known = np.isin(items.labels, classes)
    one_hot = np.eye(len(classes))[np.searchsorted(classes, predictions)]
    score = classification.classification_scores(
        np.searchsorted(classes, items.labels[is_known]),
        one_hot[is_known],
        emotions=[EMOTIONS[label] for label in classes],
    )
    return score | {"pair_auc": pair_auc}


def pair_area_under_curve(
    draw: Draw, subsets: Sequence[Subset], embeddings: Sequence[np.ndarray]
) -> float:
    """Return the area under the curve for telling pairs of equal emotions by their distance.

    Args:
        draw: An epoch of a pair sampler.
        subsets: What the draw's `source` indexes.
        embeddings: For each subset float [items of the subset, n].
    """
    pairs = pair_embeddings(draw, subsets, embeddings)
    distances = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=-1)
    return verification.area_under_curve(pairs_are_equal(draw, subsets), -distances)


def pair_embeddings(
    draw: Draw, subsets: Sequence[Subset], embeddings: Sequence[np.ndarray]
) -> np.ndarray:
    """Return the embeddings of both items of every pair: float [pairs, 2, n]."""
    of_sources = [
        scatter_to_source(subset, values)
        for subset, values in zip(subsets, embeddings, strict=True)
    ]
    return _values_of_pairs(draw, of_sources)


def pairs_are_equal(draw: Draw, subsets: Sequence[Subset]) -> np.ndarray:
    """Return bool [pairs]: whether both items of a pair show the same emotion."""
    labels = [subset.source.labels[subset.source.clip_of] for subset in subsets]
    of_pairs = _values_of_pairs(draw, labels)
    return of_pairs[:, 0] == of_pairs[:, 1]


def scatter_to_source(subset: Subset, values: np.ndarray) -> np.ndarray:
    """Return values of a subset's items at the places of all items of the source; 0 elsewhere.

    Args:
        subset: The items.
        values: [items of the subset, ...].
    """
    scattered = np.zeros((len(subset.source.inputs), *values.shape[1:]), values.dtype)
    scattered[subset.items] = values
    return scattered


def _values_of_pairs(draw: Draw, values_of_sources: Sequence[np.ndarray]) -> np.ndarray:
    """Return the values of both items of every pair, [pairs, 2, ...].

    Args:
        draw: An epoch of a pair sampler.
        values_of_sources: For each source [items of the source, ...].
    """
    item, source = (draw[key].reshape(-1, 2) for key in ("item", "source"))
    first = values_of_sources[0]
    of_pairs = np.empty((*item.shape, *first.shape[1:]), first.dtype)
    for index, values in enumerate(values_of_sources):
        of_pairs[source == index] = values[item[source == index]]
    return of_pairs


def prediction_rows(
    source: Source, clips: np.ndarray, probabilities: np.ndarray
) -> list[dict[str, str]]:
    """Return a row for each clip: names, prediction, and probability of each emotion."""
    rows = []
    for clip, distribution in zip(clips, probabilities, strict=True):
        row = source.rows[clip]
        rows.append(
            {
                "source": source.name,
                "id": row["id"],
                "speaker": row["speaker"],
                "emotion": row["emotion"],
                "answer": EMOTIONS[distribution.argmax()],
            }
            | {
                emotion: f"{probability:.6f}"
                for emotion, probability in zip(EMOTIONS, distribution, strict=True)
            }
        )
    return rows


def write_predictions(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write `predictions.csv`, a row for each clip, atomically."""
    names = ["source", "id", "speaker", "emotion", "answer", *EMOTIONS]
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)
