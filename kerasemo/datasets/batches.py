"""Batches of a plan as a `tf.data.Dataset`: a step is a pure function of seed and step."""

import dataclasses
import weakref
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from kerasemo.config.schema import AugmentConfig
from kerasemo.datasets import augmentation
from kerasemo.datasets.sources import Source

Plan = Callable[[int], dict[str, np.ndarray]]
"""epoch -> `item` and `source` (int64 and int32 [steps, batch] or [steps, pairs, 2]) and `seed` (int32, the same shape).

Where examples are mixed, `mix_item`, `mix_seed` and `mix_weight` (float32) as well; see `sampling.mixed`."""


UNCHANGED = AugmentConfig()


@dataclasses.dataclass(frozen=True)
class Share:
    """Which part of every batch a process takes: of `total` equal parts in a row those from `first` on, `count` of them."""

    first: int = 0
    count: int = 1
    total: int = 1

    def of(self, drawn: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the parts of a plan's steps [steps, batch, ...] as smaller steps [steps * count, batch / total, ...]."""

        def parts(values: np.ndarray) -> np.ndarray:
            steps, batch, *rest = values.shape
            split = values.reshape(steps, self.total, batch // self.total, *rest)
            return split[:, self.first : self.first + self.count].reshape(
                -1, batch // self.total, *rest
            )

        return {name: parts(values) for name, values in drawn.items()}


class _Held:
    """What batches are made of. TensorFlow's functions know it weakly: their graphs can outlive a training, and its arrays are large.

    Args:
        sources, plan, share, first_epoch: As of `batches`.
        skipped: How many of the smaller steps of the first epoch are left out.
    """

    def __init__(
        self, sources: Sequence[Source], plan: Plan, share: Share, first_epoch: int, skipped: int
    ):
        self._plan, self._share, self._first_epoch, self._skipped = (
            plan,
            share,
            first_epoch,
            skipped,
        )
        self.sample = share.of(plan(first_epoch))
        self.images = [
            np.asarray(source.inputs) if isinstance(source.inputs, np.ndarray) else source.inputs
            for source in sources
        ]
        self._labels = [source.labels[source.clip_of] for source in sources]
        self.dtype = np.result_type(*(array.dtype for array in self.images))

    def drawn(self, epoch: np.ndarray) -> list[np.ndarray]:
        first = epoch == self._first_epoch
        drawn = self.sample if first else self._share.of(self._plan(int(epoch)))
        return [drawn[name][self._skipped if first else 0 :] for name in self.sample]

    def gathered(self, item: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(self.images) == 1:
            return self.images[0][item], self._labels[0][item]
        image, label = (
            np.empty((*item.shape, *self.images[0].shape[1:]), self.dtype),
            np.empty(item.shape, np.int32),
        )
        for index in range(len(self.images)):
            here = which == index
            image[here], label[here] = (
                self.images[index][item[here]],
                self._labels[index][item[here]],
            )
        return image, label


def batches(
    sources: Sequence[Source],
    plan: Plan,
    *,
    first_epoch: int = 0,
    first_step: int = 0,
    epochs: int | None = None,
    changes: AugmentConfig = UNCHANGED,
    share: Share = Share(),
) -> tuple[tf.data.Dataset, int]:
    """Return the batches of `kerasemo.training.stage_models` that a plan names, from a step on, and how many an epoch has.

    Images are uint8 where all sources are visual and nothing is mixed, else float32.

    Args:
        sources: What the plan's `source` indexes.
        plan: Gives the indices of an epoch.
        first_epoch: The first epoch, from 0.
        first_step: The first step of that epoch, from 0; below the number of an epoch's steps.
        epochs: How many, the first one counted; None: without end.
        changes: The random changes of the images; see `kerasemo.datasets.augmentation`.
        share: Which parts of every batch, as batches of their own, one after the other.
    """
    held = _Held(sources, plan, share, first_epoch, first_step * share.count)
    sample, (steps, *shape) = held.sample, held.sample["item"].shape
    masks = np.stack([source.mask for source in sources])
    domains = np.array([source.domain for source in sources], np.int32)
    image_shape, dtype = (*shape, *held.images[0].shape[1:]), held.dtype
    drawn_of, gather = weakref.WeakMethod(held.drawn), weakref.WeakMethod(held.gathered)

    def drawn_steps(epoch: tf.Tensor) -> dict[str, tf.Tensor]:
        drawn = tf.numpy_function(
            lambda number: drawn_of()(number), [epoch], [value.dtype for value in sample.values()]
        )
        shapes = [(None, *value.shape[1:]) for value in sample.values()]
        return {
            name: tf.ensure_shape(value, shape)
            for name, value, shape in zip(sample, drawn, shapes, strict=True)
        }

    def examples(item: tf.Tensor, source: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        image, label = tf.numpy_function(
            lambda *asked: gather()(*asked), [item, source], [dtype, tf.int32]
        )
        found = {
            "image": tf.ensure_shape(image, image_shape),
            "domain": tf.gather(domains, source),
            "seed": seed,
            "label": tf.ensure_shape(label, shape),
            "mask": tf.gather(masks, source),
            "source": source,
        }
        return augmentation.augmented(found, changes, domains={source.domain for source in sources})

    def batch(drawn: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = examples(drawn["item"], drawn["source"], drawn["seed"])
        if "mix_item" not in drawn:
            return found
        other = examples(drawn["mix_item"], drawn["source"], drawn["mix_seed"])
        return augmentation.blended(found, other, drawn["mix_weight"])

    # An epoch is drawn in one call, while that before it is gone through. (A dataset from a generator would have TensorFlow
    # tell malloc to give memory back at once, which slows every step of the training.)
    dataset = tf.data.Dataset.range(first_epoch, 2**62 if epochs is None else first_epoch + epochs)
    dataset = dataset.map(drawn_steps).prefetch(1).flat_map(tf.data.Dataset.from_tensor_slices)
    dataset = dataset.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)
    # Of a number that is not known, replicas would ask one another at every step whether all of them have a batch.
    count = (
        tf.data.INFINITE_CARDINALITY
        if epochs is None
        else steps * epochs - first_step * share.count
    )
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.autotune.enabled = (
        False  # nothing is left to it, and the end of an iterator waits for its thread, for seconds
    )
    dataset = dataset.with_options(options)
    dataset.held = held  # for as long as it, or an iterator of it, is there
    return dataset, steps // share.count
