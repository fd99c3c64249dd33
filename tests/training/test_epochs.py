"""The epochs of a stage: as many steps as it asks for, the same ones wherever a training goes on."""

import itertools

import numpy as np
import pytest

from helpers.sources import random_source, whole
from helpers.toy_sources import one_source, three_sources, two_sources
from kerasemo.config.schema import AugmentConfig, StageConfig
from kerasemo.datasets import batches, sampling
from kerasemo.datasets.sources import Source, Subset
from kerasemo.training.epochs import TrainingBatches, stage_sampler
from pipelines.core.errors import InputError


def a_stage(kind="supervised", **settings):
    return StageConfig("s", kind, ("a/visual",), **{"batch": 8} | settings)


def varied(source):
    """A source with two versions of every item behind its own: the same numbers, 1000 and 2000 more."""
    count = len(source.inputs)
    inputs = np.concatenate(
        [source.inputs.astype(np.float32) + 1000 * version for version in range(3)]
    )
    versions = np.arange(count)[:, None] + [count, 2 * count]
    return Subset(
        Source(source.name, source.rows, inputs, np.tile(source.clip_of, 3), variants=versions),
        np.arange(count),
    )


def test_steps_beyond_an_epoch_repeat_the_split_in_whole_permutations():
    """35 items, 10 steps of 8: two permutations and ten items of a third."""
    side = Subset(one_source(), np.arange(5, 40))
    items = sampling.item_sampler(side, batch=8, seed=0, steps=10)(3)["item"]
    assert items.shape == (10, 8)
    first, second, rest = items.ravel()[:35], items.ravel()[35:70], items.ravel()[70:]
    assert (
        set(first) == set(second) == set(range(5, 40))
        and len(set(rest)) == 10
        and (first != second).any()
    )


def test_fewer_steps_are_the_first_steps_of_the_epoch():
    side = whole(one_source())
    few, all_steps = (sampling.item_sampler(side, batch=8, seed=1, steps=steps) for steps in (3, 0))
    np.testing.assert_array_equal(few(2)["item"], all_steps(2)["item"][:3])


def test_split_smaller_than_a_batch_fills_the_batch():
    side = Subset(one_source(), np.arange(5))
    items = sampling.item_sampler(side, batch=16, seed=0, steps=2)(0)["item"]
    assert items.shape == (2, 16) and sorted(items.ravel()[:5]) == list(range(5))
    with pytest.raises(InputError, match="a/visual: 0 faces.*segments, fewer.*batch.*16"):
        sampling.item_sampler(Subset(one_source(), np.arange(0)), batch=16, seed=0, steps=2)


@pytest.mark.parametrize(
    ("sources", "pairs"),
    [([one_source()], 6), (two_sources(), 6), (three_sources(), 6), (two_sources(), 64)],
)
def test_steps_of_pairs_repeat_the_largest_source(sources, pairs):
    """Also where the side is too small for one step."""
    sides = [whole(source) for source in sources]
    drawn = sampling.pair_sampler(sides, pairs=pairs, seed=0, steps=20)(1)
    assert drawn["item"].shape == drawn["source"].shape == drawn["seed"].shape == (20, pairs, 2)
    met = np.bincount(
        drawn["item"][..., 0][drawn["source"][..., 0] == 0], minlength=len(sources[0].inputs)
    )
    # One round ends within a couple of sources, of which each begins one of its own.
    assert met.max() - met.min() <= max(1, len(sources) - 1) and met.min() >= 1
    labels = [source.labels[source.clip_of] for source in sources]
    pairs_of = zip(drawn["item"].reshape(-1, 2), drawn["source"].reshape(-1, 2))
    same = np.array([labels[a][first] == labels[b][second] for (first, second), (a, b) in pairs_of])
    assert abs(same.mean() - 0.5) <= 0.05


def test_steps_and_pairing_apply_to_the_training_split_alone():
    sides = [whole(source) for source in two_sources()]
    stage = a_stage("joint", steps=3, pairs="random", batch=12)
    train, validation = (
        stage_sampler(stage, sides, side, batch=12, seed=1)(0) for side in ("train", "validation")
    )
    assert len(train["item"]) == 3 < len(validation["item"])
    np.testing.assert_array_equal(
        validation["item"], sampling.pair_sampler(sides, pairs=6, seed=1)(0)["item"]
    )
    with pytest.raises(InputError, match="^validation split: a/visual: .* fewer.*batch.*1000"):
        stage_sampler(a_stage(steps=3), sides, "validation", batch=1000, seed=1)


@pytest.mark.parametrize("kind", ["supervised", "joint"])
def test_resumed_batches_equal_uninterrupted_batches(kind):
    """In versions, mixed and changed, of as many steps as are asked for."""
    sides = [varied(source) for source in (two_sources() if kind == "joint" else [one_source()])]
    stage = a_stage(
        kind, batch=12, steps=4, mixup=0.5, augment=AugmentConfig(flip=0.5, time_shift=0.2)
    )
    batches = TrainingBatches(stage, sides, seed=3)
    through = list(itertools.islice(batches.stream(0, 0), 12))
    resumed = list(itertools.islice(TrainingBatches(stage, sides, seed=3).stream(1, 2), 6))
    assert batches.steps == 4
    for batch, resumed_batch in zip(through[6:], resumed, strict=True):
        assert batch.keys() == resumed_batch.keys() >= {"mix_label", "mix_weight"}
        for name in batch:
            np.testing.assert_array_equal(batch[name], resumed_batch[name])


def test_shares_of_a_mixed_batch_are_its_parts():
    """Each of two devices mixes its examples with those of the whole batch."""
    side = varied(one_source())
    epochs = TrainingBatches(a_stage(steps=3, mixup=0.5), [side], seed=3)
    every, second = (
        iter(epochs.stream(0, 0, share=share))
        for share in (batches.BatchShare(), batches.BatchShare(1, 1, 2))
    )
    for whole_batch, part in itertools.islice(zip(every, second), 3):
        for name, values in whole_batch.items():
            np.testing.assert_array_equal(part[name], values[4:])


def test_item_and_its_variants_are_drawn_equally_often():
    side = varied(random_source("a/audio", ("anger", "fear") * 30, items=(2,)))
    count, table = len(side.items), side.source.variants
    plan = sampling.item_sampler(side, batch=12, seed=1)
    drawn = [
        sampling.draw_variants(plan(epoch), [table], seed=1, epoch=epoch) for epoch in range(10)
    ]
    versions = np.concatenate([draw["item"].ravel() // count for draw in drawn])
    assert np.bincount(versions) / len(versions) == pytest.approx([1 / 3] * 3, abs=0.04)
    for epoch, draw in enumerate(drawn):
        np.testing.assert_array_equal(draw["item"] % count, plan(epoch)["item"])
        np.testing.assert_array_equal(draw["seed"], plan(epoch)["seed"])
    again = sampling.draw_variants(plan(4), [table], seed=1, epoch=4)["item"]
    np.testing.assert_array_equal(again, drawn[4]["item"])
    assert (drawn[0]["item"] // count != drawn[1]["item"] // count).any()


def test_sources_without_variants_are_drawn_unchanged():
    sides = [whole(two_sources()[0]), varied(two_sources()[1])]
    plain = sampling.pair_sampler(sides, pairs=6, seed=1)(0)
    drawn = sampling.draw_variants(plain, [None, sides[1].source.variants], seed=1, epoch=0)
    first = drawn["source"] == 0
    np.testing.assert_array_equal(drawn["item"][first], plain["item"][first])
    assert (drawn["item"][~first] != plain["item"][~first]).mean() == pytest.approx(2 / 3, abs=0.1)
