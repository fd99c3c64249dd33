"""Random changes of training inputs, as pure functions of the seed that each example carries.

So they do not depend on how a batch is split over devices, and a resumed training sees the same ones. What is changed is
chosen by an example's domain; labels and masks are not touched.
"""

import dataclasses
import functools
from collections.abc import Set

import numpy as np
import tensorflow as tf
from keras import ops

from kerasemo.config.schema import AugmentConfig
from kerasemo.networks.random import random_uniform
from pipelines.core.domains import DOMAINS
from pipelines.core.spec import Spec

STREAM = 0x2545F491
"""Told apart from the seed of the dropout's mask by these bits."""
MADE_BEFORE = {name: getattr(AugmentConfig(), name) for name in ("speed", "noise", "variants")}
"""The strengths of changes of sound that are not made here, where there is none; see `kerasemo.datasets.waveform_variants`."""
FLOOR_DB = float(10 * np.log10(Spec().power_floor))
"""The lowest value of a static log-Mel."""


def augmented(
    batch: dict[str, tf.Tensor], strengths: AugmentConfig, *, domains: Set[int]
) -> dict[str, tf.Tensor]:
    """Return a batch of `kerasemo.training.stage_models` with its images changed; they keep their shape and type.

    Args:
        batch: Holds `image`, `domain` and `seed`; the rest is passed on.
        strengths: How far each change goes; nothing is changed where all are 0.
        domains: The domains that can occur, indices of DOMAINS.
    """
    if dataclasses.replace(strengths, **MADE_BEFORE) == AugmentConfig():
        return batch
    images, (domain, seed) = (
        batch["image"],
        (tf.reshape(batch[key], [-1]) for key in ("domain", "seed")),
    )
    flat = tf.reshape(images, [-1, *images.shape[-3:]])  # [examples, 64, 64, 3]
    change = {DOMAINS.index("visual"): changed_faces, DOMAINS.index("audio"): changed_segments}
    if len(domains) == 1:
        (only,) = domains
        flat = change[only](flat, seed, strengths)
    else:
        places = [tf.where(domain == index)[:, 0] for index in sorted(domains)]
        parts = [
            change[index](tf.gather(flat, at), tf.gather(seed, at), strengths)
            for index, at in zip(sorted(domains), places, strict=True)
        ]
        flat = tf.dynamic_stitch([tf.cast(at, tf.int32) for at in places], parts)
    return {**batch, "image": tf.reshape(flat, tf.shape(images))}


def blended(
    batch: dict[str, tf.Tensor], other: dict[str, tf.Tensor], weight: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Return a batch whose images are mixed with those of another one, (1 - w) x + w x', and `mix_label` and `mix_weight` with them.

    Log-Mels are mixed in dB, with their derivatives, as is common practice; sounds that are heard together would add up in power.

    Args:
        batch: Of `kerasemo.training.stage_models`, as changed by `augmented`.
        other: The examples that each is mixed with, of the same domains and masks, changed as well.
        weight: w, float32, of the shape of `label`.

    Returns:
        Images as float32.
    """
    share = tf.reshape(weight, [*weight.shape, 1, 1, 1])
    one, two = (tf.cast(images["image"], tf.float32) for images in (batch, other))
    return {
        **batch,
        "image": one + share * (two - one),
        "mix_label": other["label"],
        "mix_weight": weight,
    }


def _draws(seed, count: int) -> list:
    """Return `count` float32 [examples, 1], uniform in [0, 1)."""
    drawn = random_uniform(ops.bitwise_xor(seed, STREAM), count)
    return [drawn[:, index, None] for index in range(count)]


def _either_way(drawn, strength: float):
    """Return draws in [0, 1) as numbers in [-strength, strength)."""
    return (2 * drawn - 1) * strength


def _inside(length, place, size: int):
    """Return float32 [examples, size]: 1 in a stretch of `length` places that begins somewhere, else 0."""
    start = place * (size - length)
    at = ops.arange(size, dtype="float32")
    return ops.cast(ops.logical_and(at >= start, at < start + length), "float32")


def _stretches(drawn: list, share: float, size: int):
    """Return float32 [examples, size]: 1 in stretches of at most a share of it, else 0; a length and a place are drawn for each."""
    return functools.reduce(
        ops.maximum,
        [
            _inside(ops.round(length * share * size), place, size)
            for length, place in zip(drawn[::2], drawn[1::2], strict=True)
        ],
    )


def changed_faces(faces, seed, strengths: AugmentConfig):
    """Return faces flipped, moved, scaled, turned, brighter or darker, of other contrast, with a square erased.

    What comes in from beyond the edge repeats it. The square shows the mean of its face.

    Args:
        faces: uint8 or float32 [examples, size, size, 3], 0 to 255.
        seed: int32 [examples].
        strengths: How far each change goes.

    Returns:
        Of the shape and type of `faces`, 0 to 255; integers are rounded.
    """
    flip, right, down, scale, turn, light, contrast, side, left, top = _draws(seed, 10)
    size = faces.shape[1]
    x = ops.cast(faces, "float32")
    if strengths.flip or strengths.shift or strengths.scale or strengths.rotation_degrees:
        zoom = 1 / (1 + _either_way(scale, strengths.scale))
        angle = _either_way(turn, strengths.rotation_degrees * np.pi / 180)
        mirror = ops.where(flip < strengths.flip, -1.0, 1.0)
        shift_x, shift_y = (_either_way(drawn, strengths.shift * size) for drawn in (right, down))
        across, along = zoom * ops.cos(angle), zoom * ops.sin(angle)
        # (x, y) of a new face, from the centre, shows what was at (a x + b y, c x + d y) + shift.
        a, b, c, d = mirror * across, -mirror * along, along, across
        centre, none = (size - 1) / 2, ops.zeros_like(a)
        rows = (
            a,
            b,
            centre * (1 - a - b) + shift_x,
            c,
            d,
            centre * (1 - c - d) + shift_y,
            none,
            none,
        )
        transform = ops.concatenate(rows, axis=1)  # [examples, 8]
        x = ops.image.affine_transform(
            x, transform, interpolation="bilinear", fill_mode="nearest", data_format="channels_last"
        )
    if strengths.brightness or strengths.contrast or strengths.erasing:
        x = ops.reshape(
            x, (-1, size, size * 3)
        )  # rows: what is wider than 3 numbers is much faster
        mean = ops.tile(ops.mean(ops.reshape(x, (-1, size * size, 3)), axis=1), (1, size))[
            :, None
        ]  # [examples, 1, size * 3]
        length = side * strengths.erasing * size
        rows, columns = (
            _inside(length, top, size)[:, :, None],
            ops.repeat(_inside(length, left, size), 3, axis=1)[:, None],
        )
        gain = (1 - rows * columns) * (1 + _either_way(contrast, strengths.contrast))[
            :, None
        ]  # [examples, size, size * 3]
        x = (x - mean) * gain + (mean + _either_way(light, strengths.brightness * 255)[:, None])
        x = ops.reshape(x, (-1, size, size, 3))
    x = ops.clip(x, 0.0, 255.0)
    return ops.cast(x + 0.5 if faces.dtype == tf.uint8 else x, faces.dtype)  # the cast cuts off


def changed_segments(segments, seed, strengths: AugmentConfig):
    """Return log-Mel segments moved in time, along the Mel axis, louder or softer, with stretches of frames and of Mel bins masked.

    The masks are those of SpecAugment (Park et al. 2019). Along the Mel axis a segment is stretched or pressed together from its lowest
    bin, as another vocal tract would (Jaitly & Hinton 2013 do so to the spectrum); what comes in from beyond the highest repeats it.

    A gain is a number of dB more in the static channel; its derivatives stay. What is masked, or comes in from beyond the
    edge, does not change with time: there the derivatives are 0, and the static channel is the segment's mean, or the edge.

    Args:
        segments: float32 [examples, mel_filters, frames, 3], static in dB and two derivatives.
        seed: int32 [examples].
        strengths: How far each change goes.

    Returns:
        Of the shape of `segments`; the static channel at least the floor.
    """
    move, gain, *drawn, stretch = _draws(
        seed, 3 + 2 * (strengths.time_masks + strengths.frequency_masks)
    )
    more = 4 + 2 * (
        strengths.time_masks - 1
    )  # the first mask of each kind, then the others of time, then those of Mel bins
    _, bins, frames, channels = segments.shape
    source = ops.arange(frames) + ops.cast(
        ops.round(_either_way(move, strengths.time_shift * frames)), "int32"
    )
    beyond = ops.cast(ops.logical_or(source < 0, source >= frames), "float32")  # [examples, frames]
    masked = _stretches(
        drawn[:2] + drawn[4:more], strengths.time_mask, frames
    )  # [examples, frames]
    masked_bins = _stretches(drawn[2:4] + drawn[more:], strengths.frequency_mask, bins)[
        :, :, None
    ]  # [examples, bins, 1]
    x = segments
    if strengths.time_shift:
        x = tf.gather(x, tf.clip_by_value(source, 0, frames - 1), axis=2, batch_dims=1)
    static = ops.cast(ops.arange(frames * channels) % channels == 0, "float32")  # [frames * 3]
    lost = ops.repeat(masked, channels, axis=1) + (1 - static) * ops.repeat(
        beyond, channels, axis=1
    )
    kept = (1 - ops.minimum(lost, 1.0))[:, None] * (1 - masked_bins)  # [examples, bins, frames * 3]
    mean = static * ops.mean(x[..., 0], axis=(1, 2))[:, None, None]  # [examples, 1, frames * 3]
    louder = static * _either_way(gain, strengths.gain_db)[:, None]
    x = ops.reshape(
        x, (-1, bins, frames * channels)
    )  # rows: what is wider than 3 numbers is much faster
    if strengths.frequency_warp:
        x = _stretched(x, 1 + _either_way(stretch, strengths.frequency_warp))
    x = ops.maximum((x - mean) * kept + (mean + louder), ops.where(static > 0, FLOOR_DB, -np.inf))
    return ops.reshape(x, (-1, bins, frames, channels))


def _stretched(x, factor):
    """Return float32 [examples, bins, n] of which row f shows what was at factor * f, between rows in proportion; factor [examples, 1]."""
    bins = x.shape[1]
    place = ops.minimum(ops.arange(bins, dtype="float32") * factor, bins - 1.0)  # [examples, bins]
    below = ops.minimum(ops.floor(place), bins - 2.0)
    row, share = ops.cast(below, "int32"), (place - below)[:, :, None]
    lower, upper = (tf.gather(x, row + step, axis=1, batch_dims=1) for step in (0, 1))
    return lower + share * (upper - lower)
