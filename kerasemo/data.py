"""Records -> arrays -> tf.data batches. What a step sees is a pure function of the seed and the step.

A set is read once into arrays. A plan (see `kerasemo.plans`) gives, for every epoch, the indices of its batches, before
anything is split over devices; tf.data gathers what they name.
"""

import dataclasses
import hashlib
import math
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasemo import augment, cache
from kerasemo.config import Augment
from kerasemo.windows import Gathered
from pipelines import records
from pipelines.corpora import LOADERS
from pipelines.spec import DOMAINS, EMOTIONS, InputError, Spec


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A set of records as arrays; an item is one face or one segment."""

    name: str
    """`NAME/DOMAIN`."""
    rows: tuple[dict[str, Any], ...]
    """The manifest's row of each clip."""
    inputs: np.ndarray
    """uint8 faces or float32 segments [items, 64, 64, 3], those of a clip side by side; or `kerasemo.windows.Windows`."""
    clip_of: np.ndarray
    """int64 [items]: each item's clip, an index of `rows`."""
    corpus_emotions: frozenset[str] = frozenset()
    """The emotions of the corpus in all its domains; those of the rows are always among them."""

    @property
    def domain(self) -> int:
        return DOMAINS.index(self.name.partition("/")[2])

    @property
    def labels(self) -> np.ndarray:
        """int32 [clips]: each clip's emotion, an index of EMOTIONS."""
        return np.array([EMOTIONS.index(row["emotion"]) for row in self.rows], np.int32)

    @property
    def emotions(self) -> list[str]:
        """The emotions that the corpus has, in the order of EMOTIONS."""
        known = self.corpus_emotions | {row["emotion"] for row in self.rows}
        return [emotion for emotion in EMOTIONS if emotion in known]

    @property
    def mask(self) -> np.ndarray:
        """float32 [emotions]: 1 for each emotion that the corpus has."""
        return np.isin(EMOTIONS, self.emotions).astype(np.float32)

    def items_of(self, clips: Sequence[int]) -> np.ndarray:
        """Return the items of some clips, int64, in order."""
        return np.flatnonzero(np.isin(self.clip_of, clips))


def manifest_hash(folder: Path) -> str:
    """Return the SHA-256 of a set's manifest, which holds the checksums of all that is in the set."""
    return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()


def set_folder(records_folder: Path, source: str) -> Path:
    """Return where a source's set is; InputError tells how to build one that is missing."""
    folder = records_folder / source
    if not (folder / "manifest.json").is_file():
        name = source.partition("/")[0]
        kind = name if name in LOADERS else f"folder --name {name}"
        build = f"python -m pipelines.build --corpus {kind} --media FOLDER --out {records_folder}"
        raise InputError(f"{folder}: no records of {source}; make them with: {build}")
    return folder


MOST_BYTES = 2 * 2**30
"""How large the array of a set can be to be kept in memory; at most a quarter of the memory that there is."""


def fits_memory(size: int) -> bool:
    """Tell whether an array of `size` bytes is kept in memory, not in a file."""
    return size <= min(MOST_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4)


def read_source(records_folder: Path, source: str, *, spec: Spec = Spec()) -> Source:
    """Read a set into arrays, after checking the checksums of its shards.

    What is too large for the memory is a map of a file (see `kerasemo.cache`), which is written once for a manifest.

    Args:
        records_folder: The folder of sets.
        source: `NAME/DOMAIN`.
        spec: What the set must have been built to, but for its `frames_per_clip`.

    Raises:
        InputError: The set is missing, damaged or built to another spec, or there is no room for the file.
    """
    folder = set_folder(records_folder, source)
    manifest, emotions = checked_manifest(folder, spec=spec)
    shape = (sum(row["items"] for row in manifest["clips"]), spec.face_size, spec.face_size, 3)
    dtype = np.dtype(np.uint8 if manifest["domain"] == "visual" else np.float32)

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        return ((clip, record["inputs"]) for clip, record in clip_records(folder, manifest))

    if fits_memory(math.prod(shape) * dtype.itemsize):
        inputs, clip_of, filled = np.empty(shape, dtype), np.empty(shape[0], np.int64), 0
        for clip, items in blocks():
            inputs[filled : filled + len(items)], clip_of[filled : filled + len(items)] = (
                items,
                clip,
            )
            filled += len(items)
    else:
        records.check_shards(folder)  # the file may be there already
        inputs, clip_of = cache.mapped(manifest_hash(folder), blocks, shape=shape, dtype=dtype)
    return Source(source, tuple(manifest["clips"]), inputs, clip_of, emotions)


def checked_manifest(folder: Path, *, spec: Spec = Spec()) -> tuple[dict[str, Any], frozenset[str]]:
    """Return a set's manifest and the emotions of its corpus in all domains; InputError when it was built to another spec."""
    manifest = records.read_manifest(folder)
    held = dataclasses.asdict(records.spec_of(manifest))
    ours = dataclasses.asdict(spec) | {"frames_per_clip": held["frames_per_clip"]}
    if differing := [
        f"{name} {held[name]}, expected {value}"
        for name, value in ours.items()
        if held[name] != value
    ]:
        raise InputError(
            f"{folder}: built to another spec ({'; '.join(differing)}); build the set again"
        )
    sets = {folder, *records.find_sets(folder.parent)}
    return manifest, frozenset(
        row["emotion"] for path in sets for row in records.read_manifest(path)["clips"]
    )


def clip_records(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield every record (see `records.read`) with its clip, an index of the rows; InputError when they are not the manifest's."""
    index_of = {row["id"]: index for index, row in enumerate(manifest["clips"])}
    left = [row["items"] for row in manifest["clips"]]
    for record in records.read(folder, manifest):
        clip, count = index_of.get(record["id"].decode()), len(record["inputs"])
        if clip is None or count > left[clip]:
            raise InputError(
                f"{folder}: holds more of {record['id'].decode()} than its manifest says; build the set again"
            )
        left[clip] -= count
        yield clip, record
    if any(left):
        items = sum(row["items"] for row in manifest["clips"])
        raise InputError(
            f"{folder}: {items - sum(left)} faces or segments, its manifest says {items}; build the set again"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """The items of one source that are on one side."""

    source: Source
    items: np.ndarray
    """int64: indices of the source's items."""

    @property
    def inputs(self) -> Gathered:
        """The side's items."""
        return Gathered([self])

    @property
    def labels(self) -> np.ndarray:
        """int32: the emotion of each of the side's items."""
        return self.source.labels[self.source.clip_of[self.items]]


Plan = Callable[[int], dict[str, np.ndarray]]
"""epoch -> `item` and `source` (int64 and int32 [steps, batch] or [steps, pairs, 2]) and `seed` (int32, the same shape).

Where examples are mixed, `mix_item`, `mix_seed` and `mix_weight` (float32) as well; see `plans.mixed`."""


UNCHANGED = Augment()


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
    changes: Augment = UNCHANGED,
    share: Share = Share(),
) -> tuple[tf.data.Dataset, int]:
    """Return the batches of `kerasemo.stages` that a plan names, from a step on, and how many an epoch has.

    Images are uint8 where all sources are visual and nothing is mixed, else float32.

    Args:
        sources: What the plan's `source` indexes.
        plan: Gives the indices of an epoch.
        first_epoch: The first epoch, from 0.
        first_step: The first step of that epoch, from 0; below the number of an epoch's steps.
        epochs: How many, the first one counted; None: without end.
        changes: The random changes of the images; see `kerasemo.augment`.
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
        return augment.augmented(found, changes, domains={source.domain for source in sources})

    def batch(drawn: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = examples(drawn["item"], drawn["source"], drawn["seed"])
        if "mix_item" not in drawn:
            return found
        other = examples(drawn["mix_item"], drawn["source"], drawn["mix_seed"])
        return augment.blended(found, other, drawn["mix_weight"])

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
