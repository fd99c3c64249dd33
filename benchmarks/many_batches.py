"""The batches of `many_training.py`: segments of sound, drawn, changed at random and normalised on the accelerator. Not a benchmark itself.

All is of one network, whose own the `Lane` is; `jax.vmap` makes the batches of many, and what a lane draws does not depend on the others.
"""

import dataclasses

import jax
import jax.numpy as jnp
from many_sounds import FRAMES, Lane, Sounds, cut

from kerasemo.settings import Network
from pipelines.spec import EMOTIONS


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the networks are trained. The defaults were chosen on validation clips (benchmarks/README.md)."""

    steps: int = 4200
    batch: int = 64
    learning_rate: float = 1e-3
    """The largest one, which falls to nothing along a cosine."""
    warmup: float = 0.05
    """Share of the steps in which the rate first rises."""
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    balance: str = "classes"
    """`classes`: an example weighs the more, the rarer its class is among the training segments; `none`: all weigh the same."""
    mixup: float = 0.0
    """Alpha of the Beta distribution that two examples are mixed by; 0: none are mixed."""
    ema: float = 0.999
    """Of the moving average of the weights, which is what is kept; 0: the last ones."""
    speed: float = 0.5
    """Share of the examples that are shown at another speed."""
    jitter_frames: int = 17
    """How far a segment may begin before or behind where it was cut."""
    time_mask: float = 0.3
    """Share of the frames that is masked in one stretch, at most."""
    frequency_mask: float = 0.25
    """Share of the Mel bins that is masked in one stretch, at most."""
    frequency_warp: float = 0.1
    """Share by which the Mel axis is stretched or pressed together."""
    gain_db: float = 6.0


def changed(drawn: jax.Array, images: jax.Array, recipe: Recipe) -> jax.Array:
    """Return segments warped along the Mel axis, masked, louder or softer, as `kerasemo.augment.changed_segments` has it.

    Args:
        drawn: float32 [6, batch], uniform in [0, 1).
        images: float32 [batch, 64, 64, 3], in dB.
        recipe: How far each change goes.
    """
    _, bins, frames, _ = images.shape
    warp, gain, *mask = drawn[:, :, None]  # [batch, 1] each
    place = jnp.minimum(jnp.arange(bins) * (1 + recipe.frequency_warp * (2 * warp - 1)), bins - 1)  # [batch, bins]
    below = jnp.clip(jnp.floor(place), 0, bins - 2).astype(jnp.int32)
    share = (place - below)[:, :, None, None]
    lower, upper = (jnp.take_along_axis(images, (below + step)[:, :, None, None], axis=1) for step in (0, 1))
    x = lower + share * (upper - lower)
    lost_frames = _stretch(*mask[:2], recipe.time_mask, frames)[:, None, :, None]
    lost_bins = _stretch(*mask[2:], recipe.frequency_mask, bins)[:, :, None, None]
    static = jnp.array([1.0, 0.0, 0.0])  # what is masked is the mean of the static channel and does not change with time
    mean = static * x[..., :1].mean(axis=(1, 2), keepdims=True)  # [batch, 1, 1, 3]
    louder = static * (recipe.gain_db * (2 * gain - 1))[:, :, None, None]
    return (x - mean) * (1 - lost_frames) * (1 - lost_bins) + mean + louder


def _stretch(length: jax.Array, place: jax.Array, share: float, size: int) -> jax.Array:
    """Return float32 [batch, size]: 1 in one stretch of at most a share of it, else 0; length and place are drawn, [batch, 1]."""
    length = jnp.round(length * share * size)
    start, at = place * (size - length), jnp.arange(size)
    return ((at >= start) & (at < start + length)).astype(jnp.float32)


def draw(key: jax.Array, lane: Lane, sounds: Sounds, recipe: Recipe) -> tuple[jax.Array, jax.Array]:
    """Return a batch of the training side: images float32 [batch, 64, 64, 3], normalised, and targets float32 [batch, 10], weighted."""
    key, mixup_key = jax.random.split(key)
    place, moved, other, version, *changes = jax.random.uniform(key, (10, recipe.batch))  # all at once: each draw is seconds of compiling
    segments = lane.segments[(place * lane.count).astype(jnp.int32)]
    clip = sounds.clip_of[segments]
    start = sounds.starts[segments] + jnp.round((2 * moved - 1) * recipe.jitter_frames).astype(jnp.int32)
    speeds = len(sounds.frames) - 1
    version = jnp.where(version < recipe.speed, jnp.minimum(1 + (other * speeds).astype(jnp.int32), speeds), 0)
    images = cut(sounds, clip, jnp.clip(start, 0, sounds.frames[0, clip] - FRAMES), version)
    images = (changed(jnp.stack(changes), images, recipe) - lane.mean) / lane.scale
    labels = sounds.labels[clip]
    smooth = recipe.label_smoothing * lane.mask / lane.mask.sum()
    targets = (1 - recipe.label_smoothing) * jax.nn.one_hot(labels, len(EMOTIONS)) + smooth
    targets = targets * lane.class_weights[labels][:, None]
    if recipe.mixup:  # each with the one before it
        share = jax.random.beta(mixup_key, recipe.mixup, recipe.mixup, segments.shape)
        share = jnp.maximum(share, 1 - share)[:, None]
        images = images + (1 - share)[:, :, None, None] * (jnp.roll(images, 1, axis=0) - images)
        targets = targets + (1 - share) * (jnp.roll(targets, 1, axis=0) - targets)
    return images, targets


def dropout(key: jax.Array, recipe: Recipe, config: Network) -> jax.Array:
    """Return what dropout leaves of a batch's features, float32 [batch, embedding], scaled."""
    left = 1 - config.dropout
    return jax.random.bernoulli(key, left, (recipe.batch, config.embedding)) / left
