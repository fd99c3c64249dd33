"""Batches of a sampler as a `tf.data.Dataset`. Each batch is a pure function of seed and step."""

import dataclasses
import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from kerasemo.datasets.sampling import Draw, Sampler
from kerasemo.datasets.sources import Source

Batch = dict[str, tf.Tensor]
"""See `kerasemo.training.stage_models`."""

Augment = Callable[[Batch], Batch]
"""Changes the images of a batch as a pure function of its seeds."""


@dataclasses.dataclass(frozen=True)
class BatchShare:
    """The part of every batch that a process takes: `count` of `total` parts, from `first`."""

    first: int = 0
    count: int = 1
    total: int = 1

    def parts_of(self, draw: Draw) -> dict[str, np.ndarray]:
        """Return the parts as smaller steps.

        The shape [steps, batch, ...] becomes [steps * count, batch / total, ...].
        """

        def parts(values: np.ndarray) -> np.ndarray:
            steps, batch, *rest = values.shape
            split = values.reshape(steps, self.total, batch // self.total, *rest)
            of_share = split[:, self.first : self.first + self.count]
            return of_share.reshape(-1, batch // self.total, *rest)

        return {name: parts(values) for name, values in draw.items()}


WHOLE_BATCH = BatchShare()


class _ExampleReader:
    """The arrays and the sampler of batches, which TensorFlow's functions refer to weakly.

    The graphs of these functions may outlive a training, and the arrays are large.

    Args:
        sources: The sources that the sampler indexes.
        sampler: Draws the examples of an epoch.
        share: The part of every batch.
        first_epoch: The first epoch.
        n_skipped: The number of smaller steps of the first epoch that are left out.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sampler: Sampler,
        share: BatchShare,
        *,
        first_epoch: int,
        n_skipped: int,
    ) -> None:
        self._sampler = sampler
        self._share = share
        self._first_epoch = first_epoch
        self._n_skipped = n_skipped
        self.first_draw = share.parts_of(sampler(first_epoch))
        self.images = [
            np.asarray(source.inputs) if isinstance(source.inputs, np.ndarray) else source.inputs
            for source in sources
        ]
        self._labels = [source.labels[source.clip_of] for source in sources]
        self.dtype = np.result_type(*(array.dtype for array in self.images))

    def draw(self, epoch: np.ndarray) -> list[np.ndarray]:
        """Return the arrays of an epoch's draw, in the order of the first draw."""
        if epoch == self._first_epoch:
            return [values[self._n_skipped :] for values in self.first_draw.values()]
        draw = self._share.parts_of(self._sampler(int(epoch)))
        return [draw[name] for name in self.first_draw]

    def read(self, item: np.ndarray, source_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images and labels of items."""
        if len(self.images) == 1:
            return self.images[0][item], self._labels[0][item]
        images = np.empty((*item.shape, *self.images[0].shape[1:]), self.dtype)
        labels = np.empty(item.shape, np.int32)
        for index in range(len(self.images)):
            is_here = source_of == index
            images[is_here] = self.images[index][item[is_here]]
            labels[is_here] = self._labels[index][item[is_here]]
        return images, labels


class BatchStream:
    """The batches that a sampler draws, from a step on; iterate over it for batches.

    Images are uint8 if all sources are visual and nothing is mixed, else float32.

    Args:
        sources: The sources that the sampler indexes.
        sampler: Draws the examples of an epoch.
        first_epoch: The first epoch, from 0.
        first_step: The first step of that epoch, from 0, below the number of steps.
        epochs: The number of epochs, the first one included; None: without end.
        augment: Changes the images of a batch; None: they stay.
        share: The part of every batch, as batches of their own, one after the other.

    Attributes:
        dataset: The batches as a `tf.data.Dataset`. The stream must stay referenced while the
            dataset is used.
        steps: Steps in an epoch.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sampler: Sampler,
        *,
        first_epoch: int = 0,
        first_step: int = 0,
        epochs: int | None = None,
        augment: Augment | None = None,
        share: BatchShare = WHOLE_BATCH,
    ) -> None:
        self._reader = _ExampleReader(
            sources,
            sampler,
            share,
            first_epoch=first_epoch,
            n_skipped=first_step * share.count,
        )
        n_parts = len(self._reader.first_draw["item"])
        self.steps = n_parts // share.count
        self.dataset = self._build_dataset(sources, first_epoch, epochs, augment)
        # Without a known number, replicas would ask each other at every step whether all have a
        # batch.
        n_batches = tf.data.INFINITE_CARDINALITY
        if epochs is not None:
            n_batches = n_parts * epochs - first_step * share.count
        self.dataset = self.dataset.apply(tf.data.experimental.assert_cardinality(n_batches))
        self.dataset = self.dataset.with_options(_options())

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches; the iterator keeps the stream referenced."""
        yield from self.dataset

    def _build_dataset(
        self,
        sources: Sequence[Source],
        first_epoch: int,
        epochs: int | None,
        augment: Augment | None,
    ) -> tf.data.Dataset:
        first_draw, dtype = self._reader.first_draw, self._reader.dtype
        shape = first_draw["item"].shape[1:]
        image_shape = (*shape, *self._reader.images[0].shape[1:])
        masks = np.stack([source.mask for source in sources])
        domains = np.array([source.domain for source in sources], np.int32)
        # Weak references, which exist as long as the dataset.
        draw_arrays = weakref.WeakMethod(self._reader.draw)
        read_arrays = weakref.WeakMethod(self._reader.read)

        def draw_epoch(epoch: tf.Tensor) -> Batch:
            arrays = tf.numpy_function(
                lambda number: draw_arrays()(number),  # type: ignore[misc]  # noqa: PLW0108
                [epoch],
                [values.dtype for values in first_draw.values()],
            )
            return {
                name: tf.ensure_shape(array, (None, *values.shape[1:]))
                for (name, values), array in zip(first_draw.items(), arrays, strict=True)
            }

        def read_examples(item: tf.Tensor, source: tf.Tensor, seed: tf.Tensor) -> Batch:
            image, label = tf.numpy_function(
                lambda *indices: read_arrays()(*indices),  # type: ignore[misc]  # noqa: PLW0108
                [item, source],
                [dtype, tf.int32],
            )
            batch = {
                "image": tf.ensure_shape(image, image_shape),
                "domain": tf.gather(domains, source),
                "seed": seed,
                "label": tf.ensure_shape(label, shape),
                "mask": tf.gather(masks, source),
                "source": source,
            }
            return augment(batch) if augment else batch

        def read_batch(draw: Batch) -> Batch:
            batch = read_examples(draw["item"], draw["source"], draw["seed"])
            if "mix_item" not in draw:
                return batch
            partners = read_examples(draw["mix_item"], draw["source"], draw["mix_seed"])
            return mix_batches(batch, partners, draw["mix_weight"])

        # An epoch is drawn in one call, while the epoch before it is used. (A dataset from a
        # generator would make TensorFlow tell malloc to return memory at once, which slows every
        # step.)
        dataset = tf.data.Dataset.range(
            first_epoch, 2**62 if epochs is None else first_epoch + epochs
        )
        dataset = dataset.map(draw_epoch).prefetch(1).flat_map(tf.data.Dataset.from_tensor_slices)
        return dataset.map(read_batch, num_parallel_calls=2, deterministic=True).prefetch(4)


def mix_batches(batch: Batch, partners: Batch, weight: tf.Tensor) -> Batch:
    """Return a batch whose images are mixed with those of another, (1 - w) x + w x'.

    Log-Mels are mixed in dB, with their deltas, as is common practice; two sounds at the same time
    would add up in power.

    Args:
        batch: The examples, augmented.
        partners: The example that each is mixed with, augmented, of the same domains and masks.
        weight: w, float32, of the shape of `label`.

    Returns:
        The batch with float32 images, and `mix_label` and `mix_weight`.
    """
    weight_of_pixel = tf.reshape(weight, [*weight.shape, 1, 1, 1])
    images, partner_images = (
        tf.cast(examples["image"], tf.float32) for examples in (batch, partners)
    )
    return {
        **batch,
        "image": images + weight_of_pixel * (partner_images - images),
        "mix_label": partners["label"],
        "mix_weight": weight,
    }


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    # There is nothing to tune, and the end of an iterator would wait for the tuning thread for
    # seconds.
    options.autotune.enabled = False
    return options
