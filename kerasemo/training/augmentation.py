"""Random changes of training images: pure functions of the seed that each example carries.

So they do not depend on how a batch is split over devices, and a resumed training sees the same
ones. The domain of an example decides what is changed. Labels and masks stay.

To add a change, write it into `change_faces` or `change_segments`, and its strength into
`kerasemo.config.AugmentConfig`. Changes of the waveform are in
`kerasemo.datasets.waveform_variants`.
"""

import functools
from collections.abc import Callable, Sequence, Set

import numpy as np
import tensorflow as tf
from keras import ops

from kerasemo.config.schema import AugmentConfig
from kerasemo.datasets.batches import Batch
from kerasemo.networks.random import random_uniform
from pipelines.core.domains import DOMAINS
from pipelines.core.spec import Spec

STREAM = 0x2545F491
"""These bits tell the stream of the changes apart from that of the dropout masks."""

FLOOR_DB = float(10 * np.log10(Spec().power_floor))
"""The smallest value of a static log-Mel."""


def augmentation(strengths: AugmentConfig, *, domains: Set[int]) -> Callable[[Batch], Batch] | None:
    """Return the function that changes the images of a batch; None if all images stay.

    Args:
        strengths: How strong each change is.
        domains: The domains that can occur, indices of DOMAINS.
    """
    if not any(
        (
            *_geometry_strengths(strengths),
            *_shade_strengths(strengths),
            *_segment_strengths(strengths),
        )
    ):
        return None
    return functools.partial(augment_batch, strengths=strengths, domains=domains)


def _geometry_strengths(strengths: AugmentConfig) -> Sequence[float]:
    return strengths.flip, strengths.shift, strengths.scale, strengths.rotation_degrees


def _shade_strengths(strengths: AugmentConfig) -> Sequence[float]:
    return strengths.brightness, strengths.contrast, strengths.erasing


def _segment_strengths(strengths: AugmentConfig) -> Sequence[float]:
    return (
        strengths.time_mask,
        strengths.frequency_mask,
        strengths.time_shift,
        strengths.frequency_warp,
        strengths.gain_db,
    )


def augment_batch(batch: Batch, *, strengths: AugmentConfig, domains: Set[int]) -> Batch:
    """Return a batch with changed images of the same shape and type.

    Args:
        batch: Has `image`, `domain` and `seed`; see `kerasemo.training.stage_models`.
        strengths: How strong each change is.
        domains: The domains that can occur, indices of DOMAINS.
    """
    images = batch["image"]
    domain, seed = (tf.reshape(batch[key], [-1]) for key in ("domain", "seed"))
    flat = tf.reshape(images, [-1, *images.shape[-3:]])  # [examples, 64, 64, 3]
    change = {DOMAINS.index("visual"): change_faces, DOMAINS.index("audio"): change_segments}
    if len(domains) == 1:
        (only,) = domains
        changed = change[only](flat, seed, strengths)
    else:
        places = [tf.where(domain == index)[:, 0] for index in sorted(domains)]
        parts = [
            change[index](tf.gather(flat, at), tf.gather(seed, at), strengths)
            for index, at in zip(sorted(domains), places, strict=True)
        ]
        changed = tf.dynamic_stitch([tf.cast(at, tf.int32) for at in places], parts)
    return {**batch, "image": tf.reshape(changed, tf.shape(images))}


def _draw_uniform(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """Return `count` tensors float32 [examples, 1], uniform in [0, 1)."""
    draws = random_uniform(ops.bitwise_xor(seed, STREAM), count)
    return [draws[:, index, None] for index in range(count)]


def _symmetric(draw: tf.Tensor, strength: float) -> tf.Tensor:
    """Map a draw in [0, 1) to [-strength, strength)."""
    return (2 * draw - 1) * strength


def _stretch_mask(length: tf.Tensor, place: tf.Tensor, size: int) -> tf.Tensor:
    """Return float32 [examples, size]: 1 in a stretch of `length`, else 0.

    `place` in [0, 1) moves it.
    """
    start = place * (size - length)
    position = ops.arange(size, dtype="float32")
    return ops.cast(ops.logical_and(position >= start, position < start + length), "float32")


def _stretches_mask(draws: Sequence[tf.Tensor], largest: float, size: int) -> tf.Tensor:
    """Return float32 [examples, size]: 1 in stretches of at most `largest` of the size, else 0.

    Each stretch uses two draws, one for its length and one for its place.
    """
    masks = [
        _stretch_mask(ops.round(length * largest * size), place, size)
        for length, place in zip(draws[::2], draws[1::2], strict=True)
    ]
    return functools.reduce(ops.maximum, masks)


def change_faces(faces: tf.Tensor, seed: tf.Tensor, strengths: AugmentConfig) -> tf.Tensor:
    """Return faces after random flips, moves, rotations, changes of light and erasing.

    What comes in over the edge repeats the edge. The erased square has the mean of its face.

    Args:
        faces: uint8 or float32 [examples, size, size, 3], 0 to 255.
        seed: int32 [examples].
        strengths: How strong each change is.

    Returns:
        Of the shape and type of `faces`, 0 to 255; integers are rounded.
    """
    flip, right, down, scale, turn, light, contrast, side, left, top = _draw_uniform(seed, 10)
    size = faces.shape[1]
    x = ops.cast(faces, "float32")
    if any(_geometry_strengths(strengths)):
        zoom = 1 / (1 + _symmetric(scale, strengths.scale))
        angle = _symmetric(turn, strengths.rotation_degrees * np.pi / 180)
        mirror = ops.where(flip < strengths.flip, -1.0, 1.0)
        shift_x, shift_y = (_symmetric(draw, strengths.shift * size) for draw in (right, down))
        across, along = zoom * ops.cos(angle), zoom * ops.sin(angle)
        # (x, y) of the new face, from the centre, shows what was at (a x + b y, c x + d y) + shift.
        a, b, c, d = mirror * across, -mirror * along, along, across
        centre, zero = (size - 1) / 2, ops.zeros_like(a)
        offset_x = centre * (1 - a - b) + shift_x
        offset_y = centre * (1 - c - d) + shift_y
        transform = ops.concatenate(
            (a, b, offset_x, c, d, offset_y, zero, zero), axis=1
        )  # [examples, 8]
        x = ops.image.affine_transform(
            x, transform, interpolation="bilinear", fill_mode="nearest", data_format="channels_last"
        )
    if any(_shade_strengths(strengths)):
        # Rows of all colours, because a last axis wider than 3 is much faster.
        x = ops.reshape(x, (-1, size, size * 3))
        mean = ops.mean(ops.reshape(x, (-1, size * size, 3)), axis=1)  # [examples, 3]
        mean = ops.tile(mean, (1, size))[:, None]  # [examples, 1, size * 3]
        length = side * strengths.erasing * size
        rows = _stretch_mask(length, top, size)[:, :, None]
        columns = ops.repeat(_stretch_mask(length, left, size), 3, axis=1)[:, None]
        contrast_gain = (1 + _symmetric(contrast, strengths.contrast))[:, None]
        gain = (1 - rows * columns) * contrast_gain  # [examples, size, size * 3]
        x = (x - mean) * gain + (mean + _symmetric(light, strengths.brightness * 255)[:, None])
        x = ops.reshape(x, (-1, size, size, 3))
    x = ops.clip(x, 0.0, 255.0)
    # The cast to integers truncates.
    return ops.cast(x + 0.5 if faces.dtype == tf.uint8 else x, faces.dtype)


def change_segments(segments: tf.Tensor, seed: tf.Tensor, strengths: AugmentConfig) -> tf.Tensor:
    """Return log-Mel segments after random moves, changes of level and masking.

    The masks are those of SpecAugment (Park et al. 2019). Along the Mel axis a segment is stretched
    or compressed from its lowest bin, as by another vocal tract (Jaitly & Hinton 2013 do so to the
    spectrum); what comes in from above the highest bin repeats it.

    A gain adds dB to the static channel; the deltas stay. What is masked, or comes in over the
    edge, does not change with time: there the deltas are 0, and the static channel is the mean of
    the segment, or the edge.

    Args:
        segments: float32 [examples, mel_filters, frames, 3]: static in dB, delta, delta-delta.
        seed: int32 [examples].
        strengths: How strong each change is.

    Returns:
        Of the shape of `segments`; the static channel is at least the floor.
    """
    n_masks = strengths.time_masks + strengths.frequency_masks
    move, gain, *mask_draws, stretch = _draw_uniform(seed, 3 + 2 * n_masks)
    # Draws of the first mask of each kind, then of the other time masks, then of the other Mel
    # masks.
    last_time_draw = 4 + 2 * (strengths.time_masks - 1)
    time_draws = mask_draws[:2] + mask_draws[4:last_time_draw]
    frequency_draws = mask_draws[2:4] + mask_draws[last_time_draw:]
    _, bins, frames, channels = segments.shape
    shift = ops.round(_symmetric(move, strengths.time_shift * frames))
    source = ops.arange(frames) + ops.cast(shift, "int32")  # [examples, frames]
    is_outside = ops.cast(ops.logical_or(source < 0, source >= frames), "float32")
    time_mask = _stretches_mask(time_draws, strengths.time_mask, frames)  # [examples, frames]
    frequency_mask = _stretches_mask(frequency_draws, strengths.frequency_mask, bins)
    x = segments
    if strengths.time_shift:
        x = tf.gather(x, tf.clip_by_value(source, 0, frames - 1), axis=2, batch_dims=1)
    is_static = ops.cast(ops.arange(frames * channels) % channels == 0, "float32")  # [frames * 3]
    lost = ops.repeat(time_mask, channels, axis=1) + (1 - is_static) * ops.repeat(
        is_outside, channels, axis=1
    )
    # float32 [examples, bins, frames * 3]
    keep_factor = (1 - ops.minimum(lost, 1.0))[:, None] * (1 - frequency_mask[:, :, None])
    mean = is_static * ops.mean(x[..., 0], axis=(1, 2))[:, None, None]  # [examples, 1, frames * 3]
    louder = is_static * _symmetric(gain, strengths.gain_db)[:, None]
    # Rows of all channels, because a last axis wider than 3 is much faster.
    x = ops.reshape(x, (-1, bins, frames * channels))
    if strengths.frequency_warp:
        x = _stretch_rows(x, 1 + _symmetric(stretch, strengths.frequency_warp))
    floor = ops.where(is_static > 0, FLOOR_DB, -np.inf)
    x = ops.maximum((x - mean) * keep_factor + (mean + louder), floor)
    return ops.reshape(x, (-1, bins, frames, channels))


def _stretch_rows(x: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Return float32 [examples, bins, n]: row f is row factor * f of `x`, interpolated.

    Args:
        x: float32 [examples, bins, n].
        factor: float32 [examples, 1].
    """
    bins = x.shape[1]
    place = ops.minimum(ops.arange(bins, dtype="float32") * factor, bins - 1.0)  # [examples, bins]
    below = ops.minimum(ops.floor(place), bins - 2.0)
    row, share = ops.cast(below, "int32"), (place - below)[:, :, None]
    lower, upper = (tf.gather(x, row + step, axis=1, batch_dims=1) for step in (0, 1))
    return lower + share * (upper - lower)
