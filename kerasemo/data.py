"""Records -> arrays -> tf.data batches. What a step sees is a pure function of the seed and the step.

A set is read once into arrays. A plan (see `kerasemo.plans`) gives, for every epoch, the indices of its batches, before
anything is split over devices; tf.data gathers what they name.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines import records
from pipelines.corpora import LOADERS
from pipelines.spec import DOMAINS, EMOTIONS, InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A set of records as arrays; an item is one face or one segment."""

    name: str
    """`NAME/DOMAIN`."""
    rows: tuple[dict[str, Any], ...]
    """The manifest's row of each clip."""
    inputs: np.ndarray
    """uint8 faces or float32 segments [items, 64, 64, 3], those of a clip side by side."""
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


def read_source(records_folder: Path, source: str) -> Source:
    """Read a set into arrays, after checking the checksums of its shards.

    Raises:
        InputError: The set is missing or damaged.
    """
    folder = set_folder(records_folder, source)
    manifest = records.check_shards(folder)
    spec, rows = records.spec_of(manifest), manifest["clips"]
    items = sum(row["items"] for row in rows)
    inputs = np.empty((items, spec.face_size, spec.face_size, 3), np.uint8 if manifest["domain"] == "visual" else np.float32)
    clip_of = np.empty(items, np.int64)
    index_of = {row["id"]: index for index, row in enumerate(rows)}
    filled, left = 0, [row["items"] for row in rows]
    for record in records.read(folder, manifest):
        clip, count = index_of.get(record["id"].decode()), len(record["inputs"])
        if clip is None or count > left[clip]:
            raise InputError(f"{folder}: holds more of {record['id'].decode()} than its manifest says; build the set again")
        inputs[filled : filled + count], clip_of[filled : filled + count] = record["inputs"], clip
        filled, left[clip] = filled + count, left[clip] - count
    if filled != items:
        raise InputError(f"{folder}: {filled} faces or segments, its manifest says {items}; build the set again")
    sets = {folder, *records.find_sets(folder.parent)}
    emotions = {row["emotion"] for path in sets for row in records.read_manifest(path)["clips"]}
    return Source(source, tuple(rows), inputs, clip_of, frozenset(emotions))


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """The items of one source that are on one side."""

    source: Source
    items: np.ndarray
    """int64: indices of the source's items."""

    @property
    def labels(self) -> np.ndarray:
        """int32: the emotion of each of the side's items."""
        return self.source.labels[self.source.clip_of[self.items]]


Plan = Callable[[int], dict[str, np.ndarray]]
"""epoch -> `item` and `source` (int64 and int32 [steps, batch] or [steps, pairs, 2]) and `seed` (int32, the same shape)."""


def batches(sources: Sequence[Source], plan: Plan, *, first_epoch: int = 0, epochs: int | None = None) -> tuple[tf.data.Dataset, int]:
    """Return the batches of `kerasemo.stages` that a plan names, from an epoch on, and how many an epoch has.

    Args:
        sources: What the plan's `source` indexes.
        plan: Gives the indices of an epoch.
        first_epoch: The first epoch, from 0.
        epochs: How many; None: without end.
    """
    sample = plan(first_epoch)
    steps, *shape = sample["item"].shape
    labels = [source.labels for source in sources]
    masks = np.stack([source.mask for source in sources])
    domains = np.array([source.domain for source in sources], np.int32)

    def steps_of_epochs() -> Iterator[dict[str, np.ndarray]]:
        epoch = first_epoch
        while epochs is None or epoch < first_epoch + epochs:
            drawn = sample if epoch == first_epoch else plan(epoch)
            yield from ({key: value[step] for key, value in drawn.items()} for step in range(steps))
            epoch += 1

    def gather(item: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = np.empty((*item.shape, *sources[0].inputs.shape[1:]), np.float32)
        label = np.empty(item.shape, np.int32)
        for index, source in enumerate(sources):
            here = which == index
            image[here] = source.inputs[item[here]]
            label[here] = labels[index][source.clip_of[item[here]]]
        return image, label

    def batch(drawn: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image, label = tf.numpy_function(gather, [drawn["item"], drawn["source"]], [tf.float32, tf.int32])
        return {
            "image": tf.ensure_shape(image, [*shape, *sources[0].inputs.shape[1:]]),
            "domain": tf.gather(domains, drawn["source"]),
            "seed": drawn["seed"],
            "label": tf.ensure_shape(label, shape),
            "mask": tf.gather(masks, drawn["source"]),
            "source": drawn["source"],
        }

    signature = {key: tf.TensorSpec(shape, value.dtype) for key, value in sample.items()}
    dataset = tf.data.Dataset.from_generator(steps_of_epochs, output_signature=signature)
    dataset = dataset.map(batch, num_parallel_calls=2, deterministic=True).prefetch(4)
    if epochs is not None:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(steps * epochs))
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options), steps
