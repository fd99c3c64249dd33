"""The losses and scores of the validation split, from one pass over its items."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.config.schema import StageConfig
from kerasemo.datasets.sampling import Draw
from kerasemo.datasets.sources import Subset
from kerasemo.evaluation import scoring
from kerasemo.networks.inference import NetworkPredictor
from kerasemo.training.objectives import Objective, ValidationOutputs


class Validation:
    """Scores a network on the validation split of a stage; of several members, their mean logits.

    Args:
        config: The settings of the stage.
        subsets: The validation items of each source.
        pairs: Pairs of the items for the contrastive loss; None for a supervised stage.
        trained_emotions: The emotions that the network is trained on.
    """

    def __init__(
        self,
        config: StageConfig,
        subsets: Sequence[Subset],
        *,
        pairs: Draw | None,
        trained_emotions: Sequence[str],
    ) -> None:
        self._config = config
        self._subsets = subsets
        self._pairs = pairs
        self._trained_emotions = trained_emotions
        self._objective = Objective(config)
        self.watched = "val_pair_auc" if config.kind == "contrastive" else "val_ua"
        """The score that chooses the best epoch."""

    def scores(
        self, predict: NetworkPredictor
    ) -> tuple[dict[str, float], dict[str, Mapping[str, Any]]]:
        """Return the losses and scores of the validation split.

        Returns:
            `val_...` -> loss or score, for the history; and source -> the scores of its clips,
            empty for a contrastive stage.
        """
        outputs = [scoring.predict_subset(predict, subset) for subset in self._subsets]
        logs = self._objective.validation_losses(
            ValidationOutputs(self._subsets, outputs, self._pairs)
        )
        by_source: dict[str, Mapping[str, Any]] = {}
        if self._config.kind != "contrastive":
            for subset, of_source in zip(self._subsets, outputs, strict=True):
                by_source[subset.source.name] = scoring.score_clips(
                    scoring.clip_probabilities(
                        of_source, subset, trained_emotions=self._trained_emotions
                    ),
                    scoring.clip_items(subset).labels,
                    corpus_emotions=subset.source.emotions,
                    trained_emotions=self._trained_emotions,
                )
            if len(by_source) > 1:
                logs |= {
                    f"ua_{name.replace('/', '_')}": score["ua"] for name, score in by_source.items()
                }
            logs["ua"] = float(np.mean([score["ua"] for score in by_source.values()]))
        if self._pairs is not None:
            equal = scoring.pairs_are_equal(self._pairs, self._subsets)
            if 0 < equal.mean() < 1:
                logs["pair_auc"] = scoring.pair_area_under_curve(
                    self._pairs, self._subsets, [of_source.embedding for of_source in outputs]
                )
        return {f"val_{name}": float(value) for name, value in logs.items()}, by_source
