"""The batches of a stage's epochs, with hard pairs, variants and mixtures."""

from collections.abc import Sequence

import numpy as np

from kerasemo.config.schema import StageConfig
from kerasemo.datasets import sampling
from kerasemo.datasets.batches import WHOLE_BATCH, BatchShare, BatchStream
from kerasemo.datasets.sampling import Draw, Sampler
from kerasemo.datasets.sources import Subset
from kerasemo.evaluation import scoring
from kerasemo.networks.inference import NetworkPredictor
from kerasemo.training.augmentation import augmentation
from pipelines.core.errors import InputError


def stage_sampler(
    config: StageConfig, subsets: Sequence[Subset], split: str, *, batch: int, seed: int
) -> Sampler:
    """Return the sampler of a split of a stage.

    Only the train split has the stage's steps and its way to pair; other splits have balanced
    pairs.

    Args:
        config: The settings of the stage.
        subsets: The items of each source in the split.
        split: The name of the split.
        batch: Examples in a step.
        seed: The seed of every draw.

    Raises:
        InputError: The items do not suffice; see `kerasemo.datasets.sampling`. The message names
            the split.
    """
    is_training = split == "train"
    steps = config.steps if is_training else 0
    try:
        if config.kind == "supervised":
            return sampling.item_sampler(subsets[0], batch=batch, seed=seed, steps=steps)
        how = config.pairs if is_training else "balanced"
        return sampling.pair_sampler(subsets, pairs=batch // 2, seed=seed, how=how, steps=steps)
    except InputError as error:
        raise InputError(f"{split} split: {error}") from error


class TrainingBatches:
    """The batches of the epochs of a stage.

    Args:
        config: The settings of the stage.
        subsets: The training items of each source.
        seed: The seed of every draw.

    Attributes:
        steps: Steps in an epoch.

    Raises:
        InputError: The items do not suffice; see `stage_sampler`.
    """

    def __init__(self, config: StageConfig, subsets: Sequence[Subset], *, seed: int) -> None:
        self._config = config
        self._subsets = subsets
        self._seed = seed
        self._sampler = stage_sampler(config, subsets, "train", batch=config.batch, seed=seed)
        self.steps = len(self._sampler(0)["item"])

    def hard_items(self, predict: NetworkPredictor, epoch: int) -> np.ndarray:
        """Return the items of an epoch's pairs, with hard negatives by the current embeddings.

        Args:
            predict: Runs the network.
            epoch: From 0.

        Returns:
            `item` of `sampling.with_hard_negatives`.
        """
        embeddings = [
            scoring.scatter_to_source(subset, scoring.predict_subset(predict, subset).embedding)
            for subset in self._subsets
        ]
        hardness = sampling.hardness_at(epoch, self._config.epochs, self._config.hard_negatives)
        return sampling.with_hard_negatives(
            self._sampler(epoch),
            self._subsets,
            embeddings,
            hardness=hardness,
            seed=self._seed,
            epoch=epoch,
        )["item"]

    def stream(
        self,
        epoch: int,
        step: int,
        *,
        hard_items: np.ndarray | None = None,
        share: BatchShare = WHOLE_BATCH,
    ) -> BatchStream:
        """Return the batches from a step on, without end.

        Args:
            epoch: The first epoch, from 0.
            step: The first step of that epoch, from 0.
            hard_items: See `hard_items`; then the stream must not be used beyond the epoch. None:
                the items that the sampler draws.
            share: The part of every batch.
        """
        sources = [subset.source for subset in self._subsets]
        variants = [source.variants for source in sources]
        has_variants = any(table is not None for table in variants)

        def sample(number: int) -> Draw:
            draw = self._sampler(number)
            if hard_items is not None:
                draw = {**draw, "item": hard_items}
            if has_variants:
                draw = sampling.draw_variants(draw, variants, seed=self._seed, epoch=number)
            if self._config.mixup:
                draw = sampling.draw_mixup(
                    draw, alpha=self._config.mixup, seed=self._seed, epoch=number
                )
            return draw

        return BatchStream(
            sources,
            sample,
            first_epoch=epoch,
            first_step=step,
            augment=augmentation(
                self._config.augment, domains={source.domain for source in sources}
            ),
            share=share,
        )
