import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kerasemo.config.schema import DEFAULT_AUGMENT, AugmentConfig
from kerasemo.training import augmentation
from pipelines.core.domains import DOMAINS

FACES, SEGMENTS = DOMAINS.index("visual"), DOMAINS.index("audio")
SEEDS = tf.range(100, 112)


def some_faces(count=12, size=32, dtype=np.uint8):
    """Smooth random faces of all grey levels: float32 ones hold numbers between them."""
    random = np.random.default_rng(3)
    coarse = random.uniform(0, 255, (count, 8, 8, 3)).repeat(size // 8, 1).repeat(size // 8, 2)
    return tf.constant(coarse.astype(dtype))


def some_segments(count=12):
    """Log-Mels [count, 64, 64, 3] in dB with two derivatives, none of them 0."""
    random = np.random.default_rng(4)
    static, deltas = (
        random.uniform(-95, 0, (count, 64, 64, 1)),
        random.uniform(0.5, 2, (count, 64, 64, 2)),
    )
    return tf.constant(np.concatenate([static, deltas], axis=-1).astype(np.float32))


def a_batch(images, domain, seeds=SEEDS):
    count = len(images)
    return {
        "image": images,
        "domain": tf.fill([count], domain) if isinstance(domain, int) else tf.constant(domain),
        "seed": seeds[:count],
        "label": tf.range(count),
        "mask": tf.ones([count, 10]),
        "source": tf.zeros([count], tf.int32),
    }


def changed_images(batch, strengths=DEFAULT_AUGMENT):
    return augmentation.augment_batch(
        batch, strengths=strengths, domains=set(batch["domain"].numpy().flat)
    )["image"].numpy()


def faces_with(**strengths):
    faces = some_faces()
    return faces.numpy().astype(float), augmentation.change_faces(
        faces, SEEDS, AugmentConfig(**strengths)
    ).numpy().astype(float)


def segments_with(**strengths):
    segments = some_segments()
    return segments.numpy(), augmentation.change_segments(
        segments, SEEDS, AugmentConfig(**strengths)
    ).numpy()


BATCHES = {
    "faces": lambda: a_batch(some_faces(), FACES),
    "float faces": lambda: a_batch(some_faces(dtype=np.float32), FACES),
    "segments": lambda: a_batch(some_segments(), SEGMENTS),
    "both": lambda: a_batch(
        tf.reshape(tf.stack([some_faces(6, 64, np.float32), some_segments(6)], 1), (12, 64, 64, 3)),
        [FACES, SEGMENTS] * 6,
    ),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_changes_depend_on_the_seed_alone(kind):
    batch = BATCHES[kind]()
    first, again = (changed_images(batch) for _ in range(2))
    with_other_seeds = changed_images(batch | {"seed": batch["seed"] + 1000})
    np.testing.assert_array_equal(first, again)
    assert all((a != b).mean() > 0.2 for a, b in zip(first, with_other_seeds, strict=True))
    assert all((a != b).mean() > 0.2 for a, b in zip(first, batch["image"].numpy(), strict=True))


@pytest.mark.parametrize("kind", BATCHES)
def test_a_batch_in_two_halves_is_the_whole_batch(kind):
    """As two replicas would see it."""
    batch = BATCHES[kind]()
    halves = [
        {key: value[part] for key, value in batch.items()} for part in (slice(6), slice(6, None))
    ]
    parts = [changed_images(half) for half in halves]
    np.testing.assert_array_equal(changed_images(batch), np.concatenate(parts))


@pytest.mark.parametrize("kind", BATCHES)
def test_labels_masks_and_seeds_are_unchanged(kind):
    batch = BATCHES[kind]()
    domains = set(batch["domain"].numpy())
    changed = augmentation.augment_batch(batch, strengths=DEFAULT_AUGMENT, domains=domains)
    assert (
        changed["image"].dtype == batch["image"].dtype
        and changed["image"].shape == batch["image"].shape
    )
    for name in batch.keys() - {"image"}:
        assert changed[name] is batch[name]
    assert augmentation.augmentation(AugmentConfig(), domains=domains) is None


def test_mixed_batch_is_changed_as_each_domain_alone():
    faces, segments = some_faces(6, 64, np.float32), some_segments(6)
    both = changed_images(a_batch(tf.concat([faces, segments], 0), [FACES] * 6 + [SEGMENTS] * 6))
    np.testing.assert_array_equal(
        both[:6], augmentation.change_faces(faces, SEEDS[:6], DEFAULT_AUGMENT)
    )
    np.testing.assert_array_equal(
        both[6:], augmentation.change_segments(segments, SEEDS[6:], DEFAULT_AUGMENT)
    )


def test_pairs_are_changed_each_by_its_own_seed():
    faces = some_faces()
    batch = a_batch(faces, FACES)
    pairs = {name: tf.reshape(value, (6, 2, *value.shape[1:])) for name, value in batch.items()}
    changed = changed_images(pairs)
    np.testing.assert_array_equal(tf.reshape(changed, faces.shape), changed_images(batch))


def test_masks_of_the_dropout_are_drawn_apart():
    from kerasemo.networks.random import random_uniform

    drawn = np.concatenate(augmentation._draw_uniform(SEEDS, 10), axis=1)
    assert drawn.shape == (12, 10) and not np.isin(drawn, random_uniform(SEEDS, 256)).any()


# Faces.


@pytest.mark.parametrize(
    "name", ["shift", "scale", "rotation_degrees", "erasing", "time_mask", "gain_db"]
)
def test_changes_of_nothing_change_nothing(name):
    """Faces by changes of segments alone too, and the other way round."""
    faces, changed = faces_with(time_mask=0.5, gain_db=9.0)
    np.testing.assert_array_equal(changed, faces)
    tiny = {"flip": 1e-12, name: 1e-9}
    np.testing.assert_array_equal(faces_with(**tiny)[1], faces)
    np.testing.assert_allclose(segments_with(**tiny)[1], some_segments(), atol=1e-4)


def test_a_flip_is_the_mirror_image_of_about_half_of_the_faces():
    faces, changed = faces_with(flip=1.0)
    np.testing.assert_array_equal(changed, faces[:, :, ::-1])
    seeds = tf.range(1000)
    flipped = augmentation.change_faces(
        tf.repeat(some_faces(1, 8), 1000, axis=0), seeds, AugmentConfig(flip=0.5)
    ).numpy()
    assert 0.45 < (flipped[:, 0, 0, 0] == flipped[0, 0, 0, 0]).mean() < 0.55


def test_geometry_equals_an_interpolation_by_hand():
    """Every change at once, by the bilinear formula in NumPy, from the same draws; the edges repeated."""
    strengths = AugmentConfig(flip=0.5, shift=0.2, scale=0.3, rotation_degrees=40.0)
    faces = some_faces(dtype=np.float32)
    changed = augmentation.change_faces(faces, SEEDS, strengths).numpy()
    faces, size = faces.numpy(), 32
    draws = np.concatenate(augmentation._draw_uniform(SEEDS, 10), axis=1).astype(np.float64)
    for face, changed_face, (flip, right, down, scale, turn, *_) in zip(
        faces, changed, draws, strict=True
    ):
        zoom, angle = 1 / (1 + (2 * scale - 1) * 0.3), np.deg2rad((2 * turn - 1) * 40)
        y, x = np.mgrid[:size, :size] - (size - 1) / 2
        turned = (
            zoom * (np.cos(angle) * x - np.sin(angle) * y),
            zoom * (np.sin(angle) * x + np.cos(angle) * y),
        )
        at_x = (
            (-turned[0] if flip < 0.5 else turned[0])
            + (size - 1) / 2
            + (2 * right - 1) * 0.2 * size
        )
        at_y = turned[1] + (size - 1) / 2 + (2 * down - 1) * 0.2 * size
        left, top = np.floor(at_x), np.floor(at_y)
        expected = 0
        for rows, columns in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = (1 - np.abs(at_x - left - columns)) * (1 - np.abs(at_y - top - rows))
            inside = (
                np.clip(place, 0, size - 1).astype(int) for place in (top + rows, left + columns)
            )
            expected = expected + weight[..., None] * face[tuple(inside)]
        np.testing.assert_allclose(changed_face, expected, atol=0.05)


def test_light_moves_every_pixel_of_a_face_alike():
    faces = tf.fill([12, 16, 16, 3], 128.0)
    changed = augmentation.change_faces(faces, SEEDS, AugmentConfig(brightness=0.2)).numpy()
    moves = changed.reshape(12, -1) - 128
    assert (
        (moves.std(axis=1) < 1e-3).all() and moves.std() > 10 and np.abs(moves).max() <= 0.2 * 255
    )


def test_contrast_keeps_the_mean_and_scales_the_rest():
    faces = some_faces(dtype=np.float32) / 4 + 96  # far from 0 and 255
    changed = augmentation.change_faces(faces, SEEDS, AugmentConfig(contrast=0.5)).numpy()
    faces = faces.numpy()
    np.testing.assert_allclose(changed.mean(axis=(1, 2)), faces.mean(axis=(1, 2)), atol=1e-2)
    ratios = changed.std(axis=(1, 2)) / faces.std(axis=(1, 2))
    assert (
        np.ptp(ratios, axis=1).max() < 1e-4
        and ratios.min() > 0.5
        and ratios.max() < 1.5
        and np.ptp(ratios[:, 0]) > 0.3
    )


def test_an_erased_square_shows_the_mean_and_the_rest_stays():
    faces = some_faces(dtype=np.float32)
    changed = augmentation.change_faces(faces, SEEDS, AugmentConfig(erasing=0.6)).numpy()
    faces, widest = faces.numpy(), []
    for face, changed_face in zip(faces, changed, strict=True):
        erased = np.abs(face - changed_face).max(axis=-1) > 1e-3
        widest.append(erased.any(axis=0).sum())
        assert abs(erased.any(axis=0).sum() - erased.any(axis=1).sum()) <= 1
        assert erased.sum() == erased.any(axis=0).sum() * erased.any(axis=1).sum()
        np.testing.assert_allclose(
            changed_face[erased],
            np.broadcast_to(face.mean(axis=(0, 1)), changed_face[erased].shape),
            atol=1e-2,
        )
    assert max(widest) <= 0.6 * 32 + 1 and np.ptp(widest) > 8


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_faces_stay_in_their_range(dtype):
    strong = dataclasses.replace(DEFAULT_AUGMENT, brightness=0.9, contrast=0.9)
    changed = augmentation.change_faces(some_faces(dtype=dtype), SEEDS, strong).numpy()
    assert changed.dtype == dtype and changed.min() == 0 and changed.max() == 255
    assert (changed == 0).mean() < 0.5 and (changed == 255).mean() < 0.5


def test_whole_numbers_are_rounded_not_cut_off():
    strengths = AugmentConfig(brightness=0.1)
    exact = augmentation.change_faces(some_faces(dtype=np.uint8), SEEDS, strengths).numpy()
    numbers = augmentation.change_faces(tf.cast(some_faces(), tf.float32), SEEDS, strengths).numpy()
    assert np.abs(exact - numbers).max() <= 0.5 + 1e-3


# Segments.


def test_a_gain_moves_the_static_channel_alone():
    before, after = segments_with(gain_db=4.0)
    np.testing.assert_array_equal(after[..., 1:], before[..., 1:])
    gains = (after - before)[..., 0].reshape(12, -1)
    assert np.ptp(gains, axis=1).max() < 1e-3 and np.abs(gains).max() <= 4 and np.ptp(gains) > 4


def test_nothing_is_softer_than_the_floor():
    _, after = segments_with(gain_db=60.0)
    assert after[..., 0].min() == augmentation.FLOOR_DB == -100
    _, deltas = segments_with(time_mask=0.1)
    quiet = augmentation.change_segments(
        some_segments() - 200, SEEDS, AugmentConfig(gain_db=1.0)
    ).numpy()
    assert deltas[..., 1:].min() >= 0 and quiet[..., 1:].min() < -150  # a derivative has no floor


@pytest.mark.parametrize(("name", "axis"), [("time_mask", 2), ("frequency_mask", 1)])
def test_a_mask_is_one_stretch_that_does_not_change_with_time(name, axis):
    before, after = segments_with(**{name: 0.4})
    lengths = []
    for segment, changed in zip(before, after, strict=True):
        masked = np.moveaxis(
            (changed[..., 1:] == 0).all(axis=-1), axis - 1, 0
        )  # [places, the other axis]
        assert (masked.any(axis=1) == masked.all(axis=1)).all()
        places = np.flatnonzero(masked.all(axis=1))
        assert len(places) == 0 or np.ptp(places) == len(places) - 1
        lengths.append(len(places))
        static = np.moveaxis(changed[..., 0], axis - 1, 0)
        np.testing.assert_allclose(
            static[places], np.full_like(static[places], segment[..., 0].mean()), atol=1e-2
        )
        rest = np.setdiff1d(np.arange(64), places)
        np.testing.assert_allclose(
            np.moveaxis(changed, axis - 1, 0)[rest],
            np.moveaxis(segment, axis - 1, 0)[rest],
            atol=1e-4,
        )
    assert max(lengths) <= 0.4 * 64 + 1 and np.ptp(lengths) > 10


@pytest.mark.parametrize(("name", "axis"), [("time_mask", 2), ("frequency_mask", 1)])
def test_several_masks_are_drawn_apart_and_the_first_stays(name, axis):
    """What one mask covers is covered still, most of the time more, in up to three stretches."""
    before, with_one_mask = segments_with(**{name: 0.2})
    _, three = segments_with(**{name: 0.2, f"{name}s": 3})
    stretches, more = [], []
    for few, many in zip(with_one_mask, three, strict=True):
        first, all_masks = (
            np.moveaxis((masked[..., 1:] == 0).all(axis=-1), axis - 1, 0).all(axis=1)
            for masked in (few, many)
        )
        assert all_masks[first].all()
        stretches.append(np.sum(np.diff(np.concatenate([[0], all_masks.astype(int)])) == 1))
        more.append(all_masks.sum() - first.sum())
        rest = np.flatnonzero(~all_masks)
    np.testing.assert_allclose(
        np.moveaxis(three[-1], axis - 1, 0)[rest],
        np.moveaxis(before[-1], axis - 1, 0)[rest],
        atol=1e-4,
    )
    assert max(stretches) == 3 and max(more) > 8


def test_masks_of_one_kind_do_not_move_those_of_the_other():
    _, plain = segments_with(time_mask=0.2, frequency_mask=0.2)
    _, more = segments_with(time_mask=0.2, frequency_mask=0.2, time_masks=3)
    bins = [(masked[..., 1:] == 0).all(axis=(2, 3)) for masked in (plain, more)]
    np.testing.assert_array_equal(*bins)
    assert bins[0].any()


def test_augmentation_of_batches_leaves_out_changes_of_waveforms():
    strengths = AugmentConfig(speed=0.1, noise=0.1, variants=3)
    assert augmentation.augmentation(strengths, domains={SEGMENTS}) is None


def test_shift_repeats_the_edge_frame_without_deltas():
    before, after = segments_with(time_shift=0.3)
    moves = set()
    for segment, shifted in zip(before, after, strict=True):
        beyond = (shifted[..., 1:] == 0).all(axis=(0, 2))  # [frames]
        count = beyond.sum()
        later = bool(beyond[0]) if count else False
        moved, unmoved = (
            (segment[:, : 64 - count], shifted[:, count:])
            if later
            else (segment[:, count:], shifted[:, : 64 - count])
        )
        np.testing.assert_allclose(unmoved, moved, atol=1e-4)
        beyond_the_edge = shifted[:, :count, 0] if later else shifted[:, 64 - count :, 0]
        np.testing.assert_allclose(
            beyond_the_edge,
            np.repeat(segment[:, [0 if later else -1], 0], count, axis=1),
            atol=1e-4,
        )
        moves.add(-count if later else count)
    assert max(moves) > 5 and min(moves) < -5 and max(map(abs, moves)) <= 0.3 * 64 + 1


def test_frequency_warp_moves_each_bin():
    """A segment whose bin f holds f in every channel shows f * w in row f, up to the highest bin; w differs from segment to segment."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.float32)[None, :, None, None], (12, 64, 64, 3))
    after = augmentation.change_segments(
        tf.constant(ramp), SEEDS, AugmentConfig(frequency_warp=0.2)
    ).numpy()
    factors = after[:, 32, 0, 0] / 32
    assert factors.min() >= 0.8 and factors.max() <= 1.2 and np.ptp(factors) > 0.1
    expected = np.minimum(np.arange(64)[None] * factors[:, None], 63)
    np.testing.assert_allclose(
        after, np.broadcast_to(expected[:, :, None, None], after.shape), rtol=1e-4, atol=1e-4
    )


def test_frequency_warp_leaves_other_draws_unchanged():
    _, without_stretch = segments_with(gain_db=4.0, time_mask=0.3)
    _, with_stretch = segments_with(gain_db=4.0, time_mask=0.3, frequency_warp=1e-9)
    np.testing.assert_allclose(without_stretch, with_stretch, atol=1e-4)
