import collections

import numpy as np
import pytest
from sources import random_source, whole
from toy_sources import FOUR, one_source, three_sources, two_sources

from kerasemo import data, plans
from pipelines.spec import EMOTIONS, InputError


def emotions_of_pairs(sources, drawn):
    """The labels that a plan's items have, of the shape of `item`."""
    labels = [source.labels[source.clip_of] for source in sources]
    return np.array([labels[index][item] for item, index in zip(drawn["item"].flat, drawn["source"].flat)]).reshape(drawn["item"].shape)


def same_plan(one, other):
    assert one.keys() == other.keys() == {"item", "source", "seed"}
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


# Labelled plans.


def test_every_item_once_an_epoch_and_the_rest_of_a_batch_dropped():
    side = data.Side(one_source(), np.arange(5, 40))
    drawn = plans.labelled_plan(side, batch=8, seed=0)(0)
    assert drawn["item"].shape == drawn["source"].shape == drawn["seed"].shape == (4, 8)
    assert len(np.unique(drawn["item"])) == 32 and set(drawn["item"].flat) <= set(range(5, 40))
    assert not drawn["source"].any()


def test_no_item_is_left_out_for_good():
    side = whole(one_source())
    plan = plans.labelled_plan(side, batch=16, seed=0)
    assert len(side.items) % 16
    assert set(np.concatenate([plan(epoch)["item"].ravel() for epoch in range(6)])) == set(side.items)


@pytest.mark.parametrize("kind", ["labelled", "pairs"])
def test_a_plan_is_a_function_of_seed_and_epoch_alone(kind):
    sources = two_sources()

    def plan(seed):
        if kind == "labelled":
            return plans.labelled_plan(whole(sources[0]), batch=8, seed=seed)
        return plans.pair_plan([whole(source) for source in sources], pairs=6, seed=seed)

    first, again = plan(3), plan(3)
    drawn = [first(epoch) for epoch in (0, 1, 2)]
    for epoch in (2, 0, 1):  # in another order
        same_plan(again(epoch), drawn[epoch])
    for other in (drawn[1], drawn[2], plan(4)(0), plan(4)(1)):
        for name in ("item", "seed"):
            assert (other[name] != drawn[0][name]).mean() > 0.4
    seeds = np.concatenate([one["seed"].ravel() for one in drawn])
    assert len(np.unique(seeds)) == len(seeds) and seeds.min() >= 0


def test_seeds_of_masks_are_not_those_of_the_order():
    """The streams of one epoch are apart: SeedSequence takes [1, 2], [1, 2, 0] and [1, 2, 0, 0] for the same."""
    streams = [plans._random(1, 2, *stream).integers(0, 2**31, 8).tolist() for stream in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_a_batch_larger_than_the_side_is_refused():
    with pytest.raises(InputError, match="a/visual: 4 faces or segments, fewer than a batch of 5; make it smaller"):
        plans.labelled_plan(data.Side(one_source(), np.arange(4)), batch=5, seed=0)


# Plans of pairs.


@pytest.mark.parametrize("sources", [two_sources(), three_sources()], ids=["two", "three"])
@pytest.mark.parametrize("pairs", [6, 12])
def test_pairs_are_of_two_sources_and_each_source_has_its_share(sources, pairs):
    """Of each batch, and of each half of it: what each of two replicas sees."""
    sides = [data.Side(source, np.arange(len(source.inputs) - 3)) for source in sources]
    for epoch in range(3):
        drawn = plans.pair_plan(sides, pairs=pairs, seed=1)(epoch)
        item, source = drawn["item"], drawn["source"]
        assert item.shape == source.shape == drawn["seed"].shape == (len(item), pairs, 2)
        assert (source[..., 0] != source[..., 1]).all()
        for index, side in enumerate(sides):
            assert np.isin(item[source == index], side.items).all()
            for part in (source, source[:, : pairs // 2], source[:, pairs // 2 :]):
                assert ((part == index).sum(axis=(1, 2)) == part[0].size // len(sides)).all()


@pytest.mark.parametrize(
    ("sources", "pairs"),
    [([one_source()], 6), (two_sources(), 6), (two_sources(), 5), (two_sources(), 1), (three_sources(), 3), (three_sources(), 6)],
)
def test_half_of_the_pairs_show_one_emotion(sources, pairs):
    """In each batch, give or take one, unless fewer can; so that it is half of an epoch."""
    drawn = plans.pair_plan([whole(source) for source in sources], pairs=pairs, seed=0)(0)
    labels = emotions_of_pairs(sources, drawn)
    same = labels[..., 0] == labels[..., 1]
    able = np.isin(
        labels[..., 0], [EMOTIONS.index(name) for name in ("anger", "fear", "sadness", *(["calm"] if len(sources) == 1 else []))]
    )
    assert same.sum(axis=1).max() <= pairs / 2 + 1
    assert (same.sum(axis=1) >= np.minimum(able.sum(axis=1), np.ceil(pairs / 2 - 1))).all()
    assert abs(same.mean() - 0.5) <= 0.05


def test_matches_that_a_step_lacks_are_made_up_for_one_a_step():
    """Of 4 pairs a step 2 shall match. Where none of the first two steps can, four are lacking: the next four steps have 3 each.

    Where all of the first two must, four are too many: the next four steps have 1 each.
    """
    random = np.random.default_rng(0)
    late = np.repeat([False, True], [8, 24])
    for can_match, can_differ, expected in (
        (late, np.ones(32, bool), [0, 0, 3, 3, 3, 3, 2, 2]),
        (np.ones(32, bool), late, [4, 4, 1, 1, 1, 1, 2, 2]),
    ):
        same = plans._matching(can_match, can_differ, share=4, late=0, random=random)
        assert same.reshape(8, 4).sum(axis=1).tolist() == expected


def test_half_as_nearly_as_can_be_when_most_items_have_no_match():
    """One clip in nine can match: all that can do so, in whatever batch they stand."""
    most = random_source("a/visual", ("calm", "boredom", "contempt") * 6 + ("anger",) * 2, items=(1,))
    few = random_source("b/visual", ("anger", "fear"), items=(1,))
    drawn = plans.pair_plan([whole(most), whole(few)], pairs=4, seed=0)(0)
    labels = emotions_of_pairs([most, few], drawn)
    assert (labels[labels[..., 0] == EMOTIONS.index("anger")] == EMOTIONS.index("anger")).all()
    assert (labels[..., 0] == labels[..., 1]).sum() == 2


def test_pairs_that_cannot_differ_match():
    """The second source has fear alone: fear can only match, anger only differ."""
    sources = [random_source("a/visual", ("anger", "fear", "fear") * 4, items=(1,)), random_source("b/visual", ("fear",) * 4, items=(1,))]
    labels = emotions_of_pairs(sources, plans.pair_plan([whole(source) for source in sources], pairs=3, seed=0)(0))
    assert set(map(tuple, labels.reshape(-1, 2).tolist())) == {(0, 5), (5, 5)}


def test_a_class_of_one_source_makes_pairs_of_different_emotions_only():
    sources = two_sources()
    alone = [EMOTIONS.index(name) for name in ("calm", "surprise")]
    met = collections.Counter()
    for epoch in range(4):
        labels = emotions_of_pairs(sources, plans.pair_plan([whole(source) for source in sources], pairs=6, seed=0)(epoch))
        for one, other in labels.reshape(-1, 2):
            if one in alone or other in alone:
                assert one != other
                met.update({int(one), int(other)} & set(alone))
    assert min(met[label] for label in alone) > 10


@pytest.mark.parametrize(("sources", "pairs"), [([one_source()], 4), (two_sources(), 6), (three_sources(), 6)])
def test_every_item_of_the_largest_source_stands_first_once_an_epoch(sources, pairs):
    for epoch in range(3):
        drawn = plans.pair_plan([whole(source) for source in sources], pairs=pairs, seed=0)(epoch)
        first = drawn["item"][..., 0][drawn["source"][..., 0] == 0]
        assert len(np.unique(first)) == len(first) > len(sources[0].inputs) - pairs
        assert len(first) == drawn["item"][..., 0].size * max(1, len(sources) - 1) // max(1, len(sources) * (len(sources) - 1) // 2)


def test_the_items_of_the_smaller_source_take_turns():
    """Within a class none is met twice more often than another."""
    sources = two_sources()
    drawn = plans.pair_plan([whole(source) for source in sources], pairs=6, seed=0)(0)
    labels = sources[1].labels[sources[1].clip_of]
    met = np.bincount(drawn["item"][..., 1].ravel(), minlength=len(labels))
    for label in np.unique(labels):
        assert met[labels == label].max() - met[labels == label].min() <= 1
    assert met.min() >= 1


def test_no_clip_is_paired_with_itself():
    """Nor when it is the only one of its emotion: then its items can only be of pairs that differ."""
    source = random_source("a/visual", (*FOUR[:2] * 6, "calm"), items=(3, 2, 4))
    for epoch in range(8):
        drawn = plans.pair_plan([whole(source)], pairs=4, seed=0)(epoch)
        assert not drawn["source"].any()
        clips = source.clip_of[drawn["item"]]
        assert (clips[..., 0] != clips[..., 1]).all()


@pytest.mark.parametrize(
    ("emotions", "pairs", "message"),
    [
        ((("anger",) * 4, ("fear",) * 4), 2, "s0/visual and s1/visual share no emotion, so no pair can show the same one"),
        ((("anger",) * 4, ("anger",) * 4), 2, "s0/visual and s1/visual: anger is the only emotion, so no pair can show different ones"),
        ((("anger", "fear"), ("anger", "fear"), ("calm", "anger")), 4, "4 pairs a step, expected a multiple of 3; set batch .* of 6"),
        ((("anger", "fear"), ("anger",)), 0, "0 pairs a step, expected a multiple of 1"),
        ((("anger", "fear"), ("anger",)), 3, "s0/visual: 2 faces or segments, too few for 3 pairs a step; make it smaller"),
        ((("anger", "fear", "calm"),), 1, "^s0/visual has no emotion of two clips, so no pair can show the same one"),
        ((("anger",) * 4,), 1, "^s0/visual: anger is the only emotion"),
    ],
)
def test_pairs_that_cannot_be_drawn_are_refused(emotions, pairs, message):
    sides = [whole(random_source(f"s{index}/visual", names, items=(1,))) for index, names in enumerate(emotions)]
    with pytest.raises(InputError, match=message) as caught:
        plans.pair_plan(sides, pairs=pairs, seed=0)
    assert "\n" not in str(caught.value)
