import collections
import itertools

import numpy as np
import pytest

from helpers.sources import random_source, whole
from helpers.toy_sources import FOUR_EMOTIONS, one_source, three_sources, two_sources
from kerasemo.datasets import sampling
from kerasemo.datasets.sources import Side
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS


def emotions_of_pairs(sources, drawn):
    """The labels that a plan's items have, of the shape of `item`."""
    labels = [source.labels[source.clip_of] for source in sources]
    return np.array(
        [labels[index][item] for item, index in zip(drawn["item"].flat, drawn["source"].flat)]
    ).reshape(drawn["item"].shape)


def same_plan(one, other):
    assert one.keys() == other.keys() == {"item", "source", "seed"}
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


# Labelled plans.


def test_every_item_once_an_epoch_and_the_rest_of_a_batch_dropped():
    side = Side(one_source(), np.arange(5, 40))
    drawn = sampling.labelled_plan(side, batch=8, seed=0)(0)
    assert drawn["item"].shape == drawn["source"].shape == drawn["seed"].shape == (4, 8)
    assert len(np.unique(drawn["item"])) == 32 and set(drawn["item"].flat) <= set(range(5, 40))
    assert not drawn["source"].any()


def test_no_item_is_left_out_for_good():
    side = whole(one_source())
    plan = sampling.labelled_plan(side, batch=16, seed=0)
    assert len(side.items) % 16
    assert set(np.concatenate([plan(epoch)["item"].ravel() for epoch in range(6)])) == set(
        side.items
    )


@pytest.mark.parametrize("kind", ["labelled", "pairs"])
def test_a_plan_is_a_function_of_seed_and_epoch_alone(kind):
    sources = two_sources()

    def plan(seed):
        if kind == "labelled":
            return sampling.labelled_plan(whole(sources[0]), batch=8, seed=seed)
        return sampling.pair_plan([whole(source) for source in sources], pairs=6, seed=seed)

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
    streams = [
        sampling._random(1, 2, *stream).integers(0, 2**31, 8).tolist()
        for stream in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_a_batch_larger_than_the_side_is_refused():
    with pytest.raises(
        InputError, match="a/visual: 4 faces or segments, fewer than a batch of 5; make it smaller"
    ):
        sampling.labelled_plan(Side(one_source(), np.arange(4)), batch=5, seed=0)


# Plans of pairs.


@pytest.mark.parametrize("sources", [two_sources(), three_sources()], ids=["two", "three"])
@pytest.mark.parametrize("pairs", [6, 12])
def test_pairs_are_of_two_sources_and_each_source_has_its_share(sources, pairs):
    """Of each batch, and of each half of it: what each of two replicas sees."""
    sides = [Side(source, np.arange(len(source.inputs) - 3)) for source in sources]
    for epoch in range(3):
        drawn = sampling.pair_plan(sides, pairs=pairs, seed=1)(epoch)
        item, source = drawn["item"], drawn["source"]
        assert item.shape == source.shape == drawn["seed"].shape == (len(item), pairs, 2)
        assert (source[..., 0] != source[..., 1]).all()
        for index, side in enumerate(sides):
            assert np.isin(item[source == index], side.items).all()
            for part in (source, source[:, : pairs // 2], source[:, pairs // 2 :]):
                assert ((part == index).sum(axis=(1, 2)) == part[0].size // len(sides)).all()


@pytest.mark.parametrize(
    ("sources", "pairs"),
    [
        ([one_source()], 6),
        (two_sources(), 6),
        (two_sources(), 5),
        (two_sources(), 1),
        (three_sources(), 3),
        (three_sources(), 6),
    ],
)
def test_half_of_the_pairs_show_one_emotion(sources, pairs):
    """In each batch, give or take one, unless fewer can; so that it is half of an epoch."""
    drawn = sampling.pair_plan([whole(source) for source in sources], pairs=pairs, seed=0)(0)
    labels = emotions_of_pairs(sources, drawn)
    same = labels[..., 0] == labels[..., 1]
    able = np.isin(
        labels[..., 0],
        [
            EMOTIONS.index(name)
            for name in ("anger", "fear", "sadness", *(["calm"] if len(sources) == 1 else []))
        ],
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
        same = sampling._matching(can_match, can_differ, share=4, late=0, random=random)
        assert same.reshape(8, 4).sum(axis=1).tolist() == expected


def test_half_as_nearly_as_can_be_when_most_items_have_no_match():
    """One clip in nine can match: all that can do so, in whatever batch they stand."""
    most = random_source(
        "a/visual", ("calm", "boredom", "contempt") * 6 + ("anger",) * 2, items=(1,)
    )
    few = random_source("b/visual", ("anger", "fear"), items=(1,))
    drawn = sampling.pair_plan([whole(most), whole(few)], pairs=4, seed=0)(0)
    labels = emotions_of_pairs([most, few], drawn)
    assert (labels[labels[..., 0] == EMOTIONS.index("anger")] == EMOTIONS.index("anger")).all()
    assert (labels[..., 0] == labels[..., 1]).sum() == 2


def test_pairs_that_cannot_differ_match():
    """The second source has fear alone: fear can only match, anger only differ."""
    sources = [
        random_source("a/visual", ("anger", "fear", "fear") * 4, items=(1,)),
        random_source("b/visual", ("fear",) * 4, items=(1,)),
    ]
    labels = emotions_of_pairs(
        sources, sampling.pair_plan([whole(source) for source in sources], pairs=3, seed=0)(0)
    )
    assert set(map(tuple, labels.reshape(-1, 2).tolist())) == {(0, 5), (5, 5)}


def test_a_class_of_one_source_makes_pairs_of_different_emotions_only():
    sources = two_sources()
    alone = [EMOTIONS.index(name) for name in ("calm", "surprise")]
    met = collections.Counter()
    for epoch in range(4):
        labels = emotions_of_pairs(
            sources,
            sampling.pair_plan([whole(source) for source in sources], pairs=6, seed=0)(epoch),
        )
        for one, other in labels.reshape(-1, 2):
            if one in alone or other in alone:
                assert one != other
                met.update({int(one), int(other)} & set(alone))
    assert min(met[label] for label in alone) > 10


@pytest.mark.parametrize(
    ("sources", "pairs"), [([one_source()], 4), (two_sources(), 6), (three_sources(), 6)]
)
def test_every_item_of_the_largest_source_stands_first_once_an_epoch(sources, pairs):
    for epoch in range(3):
        drawn = sampling.pair_plan([whole(source) for source in sources], pairs=pairs, seed=0)(
            epoch
        )
        first = drawn["item"][..., 0][drawn["source"][..., 0] == 0]
        assert len(np.unique(first)) == len(first) > len(sources[0].inputs) - pairs
        assert len(first) == drawn["item"][..., 0].size * max(1, len(sources) - 1) // max(
            1, len(sources) * (len(sources) - 1) // 2
        )


def test_the_items_of_the_smaller_source_take_turns():
    """Within a class none is met twice more often than another."""
    sources = two_sources()
    drawn = sampling.pair_plan([whole(source) for source in sources], pairs=6, seed=0)(0)
    labels = sources[1].labels[sources[1].clip_of]
    met = np.bincount(drawn["item"][..., 1].ravel(), minlength=len(labels))
    for label in np.unique(labels):
        assert met[labels == label].max() - met[labels == label].min() <= 1
    assert met.min() >= 1


def test_no_clip_is_paired_with_itself():
    """Nor when it is the only one of its emotion: then its items can only be of pairs that differ."""
    source = random_source("a/visual", (*FOUR_EMOTIONS[:2] * 6, "calm"), items=(3, 2, 4))
    for epoch in range(8):
        drawn = sampling.pair_plan([whole(source)], pairs=4, seed=0)(epoch)
        assert not drawn["source"].any()
        clips = source.clip_of[drawn["item"]]
        assert (clips[..., 0] != clips[..., 1]).all()


@pytest.mark.parametrize(
    ("emotions", "pairs", "message"),
    [
        (
            (("anger",) * 4, ("fear",) * 4),
            2,
            "s0/visual and s1/visual share no emotion, so no pair can show the same one",
        ),
        (
            (("anger",) * 4, ("anger",) * 4),
            2,
            "s0/visual and s1/visual: anger is the only emotion, so no pair can show different ones",
        ),
        (
            (("anger", "fear"), ("anger", "fear"), ("calm", "anger")),
            4,
            "4 pairs a step, expected a multiple of 3; set batch .* of 6",
        ),
        ((("anger", "fear"), ("anger",)), 0, "0 pairs a step, expected a multiple of 1"),
        (
            (("anger", "fear"), ("anger",)),
            3,
            "s0/visual: 2 faces or segments, too few for 3 pairs a step; make it smaller",
        ),
        (
            (("anger", "fear", "calm"),),
            1,
            "^s0/visual has no emotion of two clips, so no pair can show the same one",
        ),
        ((("anger",) * 4,), 1, "^s0/visual: anger is the only emotion"),
    ],
)
def test_pairs_that_cannot_be_drawn_are_refused(emotions, pairs, message):
    sides = [
        whole(random_source(f"s{index}/visual", names, items=(1,)))
        for index, names in enumerate(emotions)
    ]
    with pytest.raises(InputError, match=message) as caught:
        sampling.pair_plan(sides, pairs=pairs, seed=0)
    assert "\n" not in str(caught.value)


# Partners at random.


@pytest.mark.parametrize(
    "sources", [[one_source()], two_sources(), three_sources()], ids=["one", "two", "three"]
)
def test_random_partners_have_any_emotion_and_take_turns(sources):
    """Of one source no clip meets itself; of two the items of the smaller one are met as often as one another, give or take one."""
    sides = [Side(source, np.arange(len(source.inputs) - 3)) for source in sources]
    balanced, plan, again = (
        sampling.pair_plan(sides, pairs=6, seed=0, balanced=kind) for kind in (True, False, False)
    )
    epochs = [plan(epoch) for epoch in range(20)]
    labels = np.concatenate([emotions_of_pairs(sources, drawn) for drawn in epochs])
    assert 0.15 < (labels[..., 0] == labels[..., 1]).mean() < 0.4  # as chance has it
    same_plan(again(3), epochs[3])
    assert (epochs[0]["item"] != epochs[1]["item"]).mean() > 0.4
    for drawn in epochs[:3]:
        for first, second in np.unique(drawn["source"].reshape(-1, 2), axis=0):
            items = drawn["item"][(drawn["source"] == (first, second)).all(axis=-1)]
            met = np.bincount(items[:, 1], minlength=len(sides[second].items))
            clips = sources[first].clip_of[items[:, 0]], sources[second].clip_of[items[:, 1]]
            assert (clips[0] != clips[1]).all() if first == second else met.max() - met.min() <= 1
    same_plan(
        {**epochs[0], "item": epochs[0]["item"][..., 0]},
        {**balanced(0), "item": balanced(0)["item"][..., 0]},
    )


# Harder pairs.


def embedded(sources, *, seed=0):
    """Random embeddings of unit length for each source, float32 [items, 6]."""
    random = np.random.default_rng(seed)
    vectors = [random.normal(size=(len(source.inputs), 6)) for source in sources]
    return [
        (value / np.linalg.norm(value, axis=1, keepdims=True)).astype(np.float32)
        for value in vectors
    ]


def distances(drawn, embeddings):
    """Of every pair, float [steps, pairs]."""
    pairs = zip(drawn["item"].reshape(-1, 2), drawn["source"].reshape(-1, 2))
    found = [
        np.linalg.norm(embeddings[a][one] - embeddings[b][other]) for (one, other), (a, b) in pairs
    ]
    return np.reshape(found, drawn["item"].shape[:2])


@pytest.mark.parametrize(
    "sources", [[one_source()], two_sources(), three_sources()], ids=["one", "two", "three"]
)
def test_only_the_second_item_of_pairs_that_differ_is_replaced(sources):
    """By an item of the same side and of another emotion than the first's; rows of the embeddings of other items are not used."""
    sides = [Side(source, np.arange(len(source.inputs) - 3)) for source in sources]
    embeddings = embedded(sources)
    for side, values in zip(sides, embeddings):
        values[len(side.items) :] = np.nan
    drawn, before = (
        {
            name: value.copy()
            for name, value in sampling.pair_plan(sides, pairs=6, seed=0)(0).items()
        }
        for _ in range(2)
    )
    harder = sampling.with_hard_negatives(drawn, sides, embeddings, hardness=0.7, seed=0, epoch=0)
    same_plan(drawn, before)
    same_plan({**harder, "item": 0}, {**drawn, "item": 0})
    labels, after = emotions_of_pairs(sources, drawn), emotions_of_pairs(sources, harder)
    same = labels[..., 0] == labels[..., 1]
    np.testing.assert_array_equal(after[..., 0] == after[..., 1], same)
    np.testing.assert_array_equal(harder["item"][..., 0], drawn["item"][..., 0])
    np.testing.assert_array_equal(harder["item"][same], drawn["item"][same])
    assert (harder["item"] != drawn["item"])[~same][:, 1].mean() > 0.5
    for index, side in enumerate(sides):
        assert np.isin(harder["item"][harder["source"] == index], side.items).all()
    assert not np.isnan(distances(harder, embeddings)).any()


def test_the_candidate_at_the_hardness_is_taken():
    """Where every item but the first's is a candidate often enough: 0 takes the farthest, 1 the nearest of all, 0.5 the median one."""
    sources = [
        random_source("a/visual", ("anger", "fear") * 300, items=(1,)),
        random_source("b/visual", ("fear",) * 3, items=(1,)),
    ]
    sides, embeddings = [whole(source) for source in sources], embedded(sources)
    drawn = sampling.pair_plan(sides, pairs=6, seed=0)(0)
    labels = emotions_of_pairs(sources, drawn)
    differ = labels[..., 0] != labels[..., 1]
    assert differ.sum() > 200
    each = np.sort(
        np.linalg.norm(embeddings[0][drawn["item"][..., 0]][..., None, :] - embeddings[1], axis=-1)
    )[differ]  # [pairs, 3]
    for hardness, place in ((0, 2), (0.5, 1), (1, 0)):
        harder = sampling.with_hard_negatives(
            drawn, sides, embeddings, hardness=hardness, seed=1, epoch=2
        )
        taken = np.isclose(distances(harder, embeddings)[differ], each[:, place], atol=1e-5)
        assert taken.mean() > (
            0.99 if hardness != 0.5 else 0.6
        )  # the median of 32 draws is not always that of the three


def test_harder_pairs_are_nearer_and_a_function_of_the_arguments_alone():
    sources = three_sources()
    sides, embeddings = [whole(source) for source in sources], embedded(sources)
    drawn = sampling.pair_plan(sides, pairs=6, seed=0)(0)
    labels = emotions_of_pairs(sources, drawn)
    differ = labels[..., 0] != labels[..., 1]

    def harder(hardness, **changed):
        return sampling.with_hard_negatives(
            drawn, sides, embeddings, **{"hardness": hardness, "seed": 0, "epoch": 0} | changed
        )

    means = [
        distances(harder(hardness), embeddings)[differ].mean()
        for hardness in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert all(before > after + 0.1 for before, after in itertools.pairwise(means))
    assert means[2] == pytest.approx(distances(drawn, embeddings)[differ].mean(), abs=0.15)
    same_plan(harder(0.5), harder(0.5))
    for other in (harder(0.5, seed=1), harder(0.5, epoch=1)):
        assert (other["item"] != harder(0.5)["item"])[differ][:, 1].mean() > 0.3
    for hardness in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"hardness must be in \[0, 1\]; received"):
            harder(hardness)
