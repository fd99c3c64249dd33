"""What the networks of `many_training.py` are trained on: the sounds, and each network's own part of them. Not a benchmark itself."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.spec import EMOTIONS, Spec

FRAMES = Spec().segment_frames
DELTA_WIDTH = Spec().delta_width
AT_ONCE = 256
"""Segments whose statistics are taken at once."""


class Sounds(NamedTuple):
    """What all networks draw from."""

    features: jax.Array
    """float16 [frames, 64, 3]: static log-Mels in dB and two derivatives, of every clip as recorded and at other speeds."""
    firsts: jax.Array
    """int32 [1 + speeds, clips]: where each clip begins."""
    frames: jax.Array
    """int32 [1 + speeds, clips]: how long it is."""
    clip_of: jax.Array
    """int32 [segments]."""
    starts: jax.Array
    """int32 [segments]: the first frame of each in its clip as recorded."""
    labels: jax.Array
    """int32 [clips], indices of EMOTIONS."""


class Lane(NamedTuple):
    """What is one network's own."""

    key: jax.Array
    segments: jax.Array
    """int32 [most]: the segments of its training side, over and over until they are as many as every lane's."""
    count: jax.Array
    """How many there are, int32."""
    mean: jax.Array
    """float32 [64, 1, 3], of the training side."""
    scale: jax.Array
    mask: jax.Array
    """float32 [10]: 1 for each emotion of the training side."""
    class_weights: jax.Array
    """float32 [10]."""


def with_deltas(log_mels: np.ndarray) -> np.ndarray:
    """Return the log-Mel of a clip with its derivatives, float32 [frames, 64, 3]: `pipelines.mels.with_deltas` without TensorFlow."""
    at = np.arange(DELTA_WIDTH) - DELTA_WIDTH // 2
    slope, bend = np.linalg.pinv(np.stack([at**0, at], axis=1))[1], 2 * np.linalg.pinv(np.stack([at**0, at, at**2], axis=1))[2]
    static = log_mels.astype(np.float32)
    around = np.lib.stride_tricks.sliding_window_view(static, DELTA_WIDTH, axis=0)  # [frames - 8, 64, 9]
    fits = around @ np.stack([slope, bend], axis=1).astype(np.float32)  # [frames - 8, 64, 2]
    edges = (DELTA_WIDTH // 2, DELTA_WIDTH // 2)
    return np.concatenate([static[:, :, None], np.pad(fits, (edges, (0, 0), (0, 0)), mode="edge")], axis=2)


def read_sounds(arrays: Path) -> Sounds:
    """Return the sounds of a file of `many_arrays.py`."""
    with np.load(arrays) as held:
        log_mels, firsts, frames = held["log_mels"], held["firsts"], held["frames"]
        features = np.empty((*log_mels.shape, 3), np.float16)
        for first, count in zip(firsts.ravel(), frames.ravel(), strict=True):
            features[first : first + count] = with_deltas(log_mels[first : first + count])
        return Sounds(*map(jnp.asarray, (features, firsts, frames, held["clip_of"], held["starts"], held["labels"])))


def cut(sounds: Sounds, clip: jax.Array, start: jax.Array, version: jax.Array) -> jax.Array:
    """Return segments, float32 [batch, 64, 64, 3], that begin at a frame of their clips as recorded, out of a version of them."""
    recorded, there = sounds.frames[0, clip] - FRAMES, sounds.frames[version, clip] - FRAMES
    begin = jnp.round(start / jnp.maximum(recorded, 1) * there).astype(jnp.int32)  # about the same part of the utterance
    rows = (sounds.firsts[version, clip] + begin)[:, None] + jnp.arange(FRAMES)
    return jnp.swapaxes(sounds.features[rows], 1, 2).astype(jnp.float32)


def segments_of(sounds: Sounds, segments: jax.Array) -> jax.Array:
    """Return segments as they were cut, float32 [batch, 64, 64, 3]."""
    clip = sounds.clip_of[segments]
    return cut(sounds, clip, sounds.starts[segments], jnp.zeros_like(clip))


@dataclasses.dataclass(frozen=True)
class Side:
    """The segments of a side of one fold of one table, for one seed."""

    table: str
    """`SOURCE:PROTOCOL`."""
    fold: int
    seed: int
    train: np.ndarray
    """int32 [training segments]."""
    validation: np.ndarray
    """int32 [validation segments]."""


def read_sides(arrays: Mapping[str, np.ndarray], tables: Sequence[str], seeds: Sequence[int]) -> list[Side]:
    """Return the training and validation segments of every fold of some tables, for every seed; those of test clips are in none."""
    names = arrays["sides"].tolist()
    found = []
    for table in tables:
        for fold, side_of in enumerate(arrays[f"sides of {table}"]):  # [clips]
            segments = {name: np.flatnonzero(side_of[arrays["clip_of"]] == names.index(name)) for name in ("train", "validation")}
            found += [Side(table, fold, seed, **segments) for seed in seeds]
    return found


def lanes_of(sides: Sequence[Side], sounds: Sounds, *, balance: str) -> Lane:
    """Return the lanes of some sides as one, with a leading axis."""
    means, squares = segment_moments(sounds)
    labels = np.asarray(sounds.labels)[np.asarray(sounds.clip_of)]  # [segments]
    most = max(len(side.train) for side in sides)
    lanes = []
    for side in sides:
        mean = means[side.train].mean(axis=0)[:, None]  # [64, 1, 3]
        variance = squares[side.train].mean(axis=0)[:, None] - np.square(mean)
        scale = np.sqrt(np.maximum(variance, 0)) + 1e-3
        counts = np.bincount(labels[side.train], minlength=len(EMOTIONS))
        there = (counts > 0).astype(np.float32)
        rarity = there * counts.sum() / np.maximum(counts, 1) / there.sum()  # one on average
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(side.seed), zlib.crc32(side.table.encode())), side.fold)
        weights = rarity if balance == "classes" else there
        numbers = (np.resize(side.train, most), np.array(len(side.train)), mean, scale, there, weights)
        lanes.append(Lane(key, *(jnp.asarray(own, jnp.int32 if own.dtype.kind == "i" else jnp.float32) for own in numbers)))
    return jax.tree.map(lambda *own: jnp.stack(own), *lanes)


def segment_moments(sounds: Sounds) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of each Mel bin and channel over the frames of each segment, and that of its square: float64 [segments, 64, 3]."""

    @jax.jit
    def moments(part):
        images = segments_of(sounds, part)  # [part, 64, frames, 3]
        return images.mean(axis=2), jnp.square(images).mean(axis=2)

    parts = np.array_split(np.arange(len(sounds.starts)), -(-len(sounds.starts) // AT_ONCE))
    made = [[np.asarray(own, np.float64) for own in moments(part)] for part in parts]
    return np.concatenate([mean for mean, _ in made]), np.concatenate([square for _, square in made])
