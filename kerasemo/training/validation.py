"""What a training is watched by: the losses and scores of the validation side, from one pass over its items."""

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from kerasemo.config.schema import StageConfig
from kerasemo.datasets.sources import Side
from kerasemo.evaluation import scoring
from kerasemo.losses import classification
from kerasemo.losses import contrastive as contrastive_module
from kerasemo.networks import inference

Logs = dict[str, float]


class Validation:
    """Scores a network on the validation sides of a stage: what it answers, of several members their mean logits.

    Args:
        stage: Its kind, margin, weights and smoothing.
        sides: The validation side of each source.
        drawn: Pairs of the sides' items for the contrastive loss, `item` and `source` [steps, pairs, 2]; None when supervised.
        emotions: Those that the network is trained on.
    """

    def __init__(
        self,
        stage: StageConfig,
        sides: Sequence[Side],
        *,
        drawn: Mapping[str, np.ndarray] | None,
        emotions: Sequence[str],
    ):
        self._stage = stage
        self._sides = sides
        self._drawn = drawn
        self._emotions = emotions
        self.watch = "val_pair_auc" if stage.kind == "contrastive" else "val_ua"

    def scored(self, predict: inference.Predict) -> tuple[Logs, dict[str, dict]]:
        """Return the losses and scores for the history, `val_...`, and each source's scores by clip."""
        outputs = [scoring.forward(predict, side) for side in self._sides]
        logs, by_source = {"loss": 0.0}, {}
        if self._stage.kind != "contrastive":
            for side, output in zip(self._sides, outputs, strict=True):
                name = side.source.name
                logs[f"cross_entropy_{name.replace('/', '_')}"] = self._cross_entropy(
                    side, output["logits"]
                )
                _, clip_of, labels = scoring.side_items(side)
                corpus = side.source.emotions
                by_source[name] = scoring.score_logits(
                    output["logits"], clip_of, labels, corpus=corpus, trained=self._emotions
                )
            logs["loss"] = sum(logs.values())
            if len(by_source) > 1:
                logs |= {
                    f"ua_{name.replace('/', '_')}": score["ua"] for name, score in by_source.items()
                }
            logs["ua"] = float(np.mean([score["ua"] for score in by_source.values()]))
        if self._drawn is not None:
            logs |= (found := self._pairs([output["embedding"] for output in outputs]))
            contrastive = found["contrastive"]
            logs["loss"] += contrastive * (
                self._stage.contrastive_weight if self._stage.kind == "joint" else 1
            )
        return {f"val_{name}": float(value) for name, value in logs.items()}, by_source

    def _cross_entropy(self, side: Side, logits: np.ndarray) -> float:
        mask = np.broadcast_to(side.source.mask, logits.shape)
        targets = classification.smoothed_targets(
            side.labels, mask, label_smoothing=self._stage.label_smoothing
        )
        return float(
            np.mean(
                ops.convert_to_numpy(
                    classification.cross_entropy(targets, classification.mask_logits(logits, mask))
                ),
                dtype=np.float64,
            )
        )

    def _pairs(self, embeddings: Sequence[np.ndarray]) -> Logs:
        """Return the contrastive loss of the validation pairs and, where they are of both kinds, the area under their curve."""
        same = scoring.same_emotion(self._drawn, self._sides)
        pairs = scoring.embedded_pairs(self._drawn, self._sides, embeddings)
        loss = contrastive_module.contrastive(
            same.astype(np.float32), pairs, margin=self._stage.margin
        )
        logs = {"contrastive": float(np.mean(ops.convert_to_numpy(loss), dtype=np.float64))}
        return logs | (
            {"pair_auc": scoring.embedded_pair_auc(self._drawn, self._sides, embeddings)}
            if 0 < same.mean() < 1
            else {}
        )
