"""What the epochs of a stage are made of: the items of every step, harder pairs and mixed examples where they are asked for, as batches."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from kerasemo.config.schema import StageConfig
from kerasemo.datasets import batches as batches_module
from kerasemo.datasets import sampling
from kerasemo.datasets.batches import Plan, Share
from kerasemo.datasets.sources import Side
from kerasemo.evaluation import scoring
from kerasemo.networks import inference
from pipelines.core.errors import InputError, KerasemoError

WHOLE = Share()


def planned(stage: StageConfig, sides: Sequence[Side], side: str, *, batch: int, seed: int) -> Plan:
    """Return the plan of one side of a stage; only that of the training side has the stage's steps and its way to pair.

    Args:
        stage: Its kind and settings.
        sides: That side of each source.
        side: Its name.
        batch: Examples a step.
        seed: Of every draw.

    Raises:
        InputError: See `kerasemo.datasets.sampling`; the message names the side.
    """
    training = side == "train"
    steps = stage.steps if training else 0
    try:
        if stage.kind == "supervised":
            return sampling.labelled_plan(sides[0], batch=batch, seed=seed, steps=steps)
        balanced = not training or stage.pairs == "balanced"
        return sampling.pair_plan(
            sides, pairs=batch // 2, seed=seed, balanced=balanced, steps=steps
        )
    except KerasemoError as error:
        raise InputError(f"{side} side: {error}") from error


class Epochs:
    """The epochs of a stage's training.

    Args:
        stage: Its settings.
        sides: The training side of each source.
        seed: Of every draw.

    Raises:
        InputError: The sides do not suffice; see `planned`.
    """

    def __init__(self, stage: StageConfig, sides: Sequence[Side], *, seed: int):
        self._stage, self._sides, self._seed = stage, sides, seed
        self._plan = planned(stage, sides, "train", batch=stage.batch, seed=seed)
        self.steps = len(self._plan(0)["item"])
        """Of each epoch."""

    def mined(self, predict: inference.Predict, epoch: int) -> np.ndarray:
        """Return the items of an epoch's pairs with harder negatives, as the network embeds them now; see `sampling.with_hard_negatives`."""
        embeddings = [
            scoring.spread(side, scoring.forward(predict, side)["embedding"])
            for side in self._sides
        ]
        hardness = sampling.hardness_at(epoch, self._stage.epochs, self._stage.hard_negatives)
        drawn = self._plan(epoch)
        return sampling.with_hard_negatives(
            drawn, self._sides, embeddings, hardness=hardness, seed=self._seed, epoch=epoch
        )["item"]

    def batches(
        self, epoch: int, step: int, *, mined: np.ndarray | None = None, share: Share = WHOLE
    ) -> tf.data.Dataset:
        """Return the batches from a step of an epoch on, both from 0, without end.

        Args:
            epoch: The first one.
            step: Its first step.
            mined: The items of the pairs of that epoch, where they are not the plan's own; later epochs are not to be asked for then.
            share: Which parts of every batch.
        """

        versions = [getattr(side.source, "versions", None) for side in self._sides]

        def plan(number: int) -> Mapping[str, np.ndarray]:
            drawn = self._plan(number) if mined is None else {**self._plan(number), "item": mined}
            if any(table is not None for table in versions):
                drawn = sampling.varied(drawn, versions, seed=self._seed, epoch=number)
            return (
                sampling.mixed(drawn, alpha=self._stage.mixup, seed=self._seed, epoch=number)
                if self._stage.mixup
                else drawn
            )

        sources = [side.source for side in self._sides]
        batches, _ = batches_module.batches(
            sources,
            plan,
            first_epoch=epoch,
            first_step=step,
            changes=self._stage.augment,
            share=share,
        )
        return batches
