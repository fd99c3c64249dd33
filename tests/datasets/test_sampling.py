import collections
import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from helpers.sources import random_source, whole
from helpers.toy_sources import FOUR_EMOTIONS, one_source, three_sources, two_sources
from kerasemo.datasets import sampling
from kerasemo.datasets.sampling import (
    Draw,
    Sampler,
    item_sampler,
    pair_sampler,
    with_hard_negatives,
)
from kerasemo.datasets.sources import Source, Subset
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS

ONE_TWO_AND_THREE_SOURCES = pytest.mark.parametrize(
    "sources", [[one_source()], two_sources(), three_sources()], ids=["one", "two", "three"]
)


def labels_of(sources: Sequence[Source], draw: Draw) -> np.ndarray:
    """Return the labels of the items of a draw, of the shape of `item`."""
    labels = np.empty(draw["item"].shape, np.int64)
    for index, source in enumerate(sources):
        is_here = draw["source"] == index
        labels[is_here] = source.labels[source.clip_of[draw["item"][is_here]]]
    return labels


def is_equal_pair(sources: Sequence[Source], draw: Draw) -> np.ndarray:
    """Return whether the emotions of each pair are equal, bool [steps, pairs]."""
    labels = labels_of(sources, draw)
    return labels[..., 0] == labels[..., 1]


def sample_pairs(sources: Sequence[Source], *, pairs: int, epoch: int = 0) -> Draw:
    return pair_sampler([whole(source) for source in sources], pairs=pairs, seed=0)(epoch)


def without_last_items(source: Source) -> Subset:
    """Return all items but three, so that a sampler must look at the items of the subset."""
    return Subset(source, np.arange(len(source.inputs) - 3))


def assert_same_draw(draw: Draw, expected: Draw) -> None:
    assert draw.keys() == expected.keys() == {"item", "source", "seed"}
    for name in expected:
        np.testing.assert_array_equal(draw[name], expected[name])


# Samplers of items.


def test_each_item_is_drawn_once_an_epoch_without_the_rest_of_a_batch():
    subset = Subset(one_source(), np.arange(5, 40))
    draw = item_sampler(subset, batch=8, seed=0)(0)
    assert draw["item"].shape == draw["source"].shape == draw["seed"].shape == (4, 8)
    assert len(np.unique(draw["item"])) == 32
    assert set(draw["item"].flat) <= set(range(5, 40))
    assert not draw["source"].any()


def test_each_item_is_drawn_within_some_epochs():
    subset = whole(one_source())
    sample = item_sampler(subset, batch=16, seed=0)
    assert len(subset.items) % 16
    items = np.concatenate([sample(epoch)["item"].ravel() for epoch in range(6)])
    assert set(items) == set(subset.items)


def sampler_of(kind: str, *, seed: int) -> Sampler:
    subsets = [whole(source) for source in two_sources()]
    if kind == "items":
        return item_sampler(subsets[0], batch=8, seed=seed)
    return pair_sampler(subsets, pairs=6, seed=seed)


@pytest.mark.parametrize("kind", ["items", "pairs"])
def test_draw_is_a_function_of_seed_and_epoch_alone(kind):
    sample, sample_again = sampler_of(kind, seed=3), sampler_of(kind, seed=3)
    draws = [sample(epoch) for epoch in range(3)]
    for epoch in (2, 0, 1):
        assert_same_draw(sample_again(epoch), draws[epoch])


@pytest.mark.parametrize("kind", ["items", "pairs"])
def test_another_seed_or_epoch_gives_another_draw(kind):
    sample, sample_other_seed = sampler_of(kind, seed=3), sampler_of(kind, seed=4)
    draws = [sample(epoch) for epoch in range(3)]
    for changed_draw in (*draws[1:], sample_other_seed(0), sample_other_seed(1)):
        for name in ("item", "seed"):
            assert (changed_draw[name] != draws[0][name]).mean() > 0.4
    seeds = np.concatenate([draw["seed"].ravel() for draw in draws])
    assert len(np.unique(seeds)) == len(seeds)
    assert seeds.min() >= 0


def test_random_streams_of_an_epoch_are_different():
    """Zeros at the end of a seed are no stream: SeedSequence treats [1, 2] and [1, 2, 0] alike."""
    streams = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (1, 0, 0), (2, 0, 0)]
    draws = {tuple(sampling._random(1, 2, *stream).integers(0, 2**31, 8)) for stream in streams}
    assert len(draws) == len(streams)


def test_batch_larger_than_the_subset_is_refused():
    with pytest.raises(InputError, match="a/visual: 4 .* batch of 5; .*smaller"):
        item_sampler(Subset(one_source(), np.arange(4)), batch=5, seed=0)


# Samplers of pairs.


@pytest.mark.parametrize("sources", [two_sources(), three_sources()], ids=["two", "three"])
@pytest.mark.parametrize("pairs", [6, 12])
def test_each_source_has_the_same_share_of_a_step_and_of_its_halves(sources, pairs):
    """Each half of a step is what one of two replicas gets."""
    subsets = [without_last_items(source) for source in sources]
    for epoch in range(3):
        draw = pair_sampler(subsets, pairs=pairs, seed=1)(epoch)
        items, source_of = draw["item"], draw["source"]
        assert items.shape == source_of.shape == draw["seed"].shape == (len(items), pairs, 2)
        assert (source_of[..., 0] != source_of[..., 1]).all()
        for index, subset in enumerate(subsets):
            assert np.isin(items[source_of == index], subset.items).all()
            for part in (source_of, source_of[:, : pairs // 2], source_of[:, pairs // 2 :]):
                n_of_source = (part == index).sum(axis=(1, 2))
                assert (n_of_source == part[0].size // len(subsets)).all()


@pytest.mark.parametrize(
    ("sources", "pairs", "shared_emotions"),
    [
        ([one_source()], 6, FOUR_EMOTIONS),
        (two_sources(), 6, FOUR_EMOTIONS[:3]),
        (two_sources(), 5, FOUR_EMOTIONS[:3]),
        (two_sources(), 1, FOUR_EMOTIONS[:3]),
        (three_sources(), 3, FOUR_EMOTIONS[:3]),
        (three_sources(), 6, FOUR_EMOTIONS[:3]),
    ],
)
def test_half_of_the_pairs_have_equal_emotions(sources, pairs, shared_emotions):
    """Half of each step, plus or minus one, unless fewer can be equal; so half of an epoch."""
    draw = sample_pairs(sources, pairs=pairs)
    first_labels = labels_of(sources, draw)[..., 0]
    is_equal = is_equal_pair(sources, draw)
    can_be_equal = np.isin(first_labels, [EMOTIONS.index(name) for name in shared_emotions])
    n_equal = is_equal.sum(axis=1)
    assert n_equal.max() <= pairs / 2 + 1
    assert (n_equal >= np.minimum(can_be_equal.sum(axis=1), np.ceil(pairs / 2 - 1))).all()
    assert abs(is_equal.mean() - 0.5) <= 0.05


@pytest.mark.parametrize(
    ("late", "expected"),
    [("can_be_equal", [0, 0, 3, 3, 3, 3, 2, 2]), ("can_differ", [4, 4, 1, 1, 1, 1, 2, 2])],
)
def test_later_steps_make_up_for_missing_pairs_one_in_a_step(late, expected):
    """Of 4 pairs in a step 2 are to be equal.

    If none of the first two steps can be equal, 4 equal pairs are missing: the next four steps
    have 3 each. If all pairs of the first two steps must be equal, the next four have 1 each.
    """
    possible = {"can_be_equal": np.ones(32, bool), "can_differ": np.ones(32, bool)}
    possible[late] = np.repeat([False, True], [8, 24])
    is_equal = sampling._choose_equal(
        **possible, per_step=4, extra_in_even_steps=False, random=np.random.default_rng(0)
    )
    assert is_equal.reshape(8, 4).sum(axis=1).tolist() == expected


def test_all_pairs_that_can_be_equal_are_equal_if_they_are_few():
    """Only anger is in both sources: 2 of 20 clips."""
    emotions = ("calm", "boredom", "contempt") * 6 + ("anger",) * 2
    sources = [
        random_source("a/visual", emotions, items=(1,)),
        random_source("b/visual", ("anger", "fear"), items=(1,)),
    ]
    draw = sample_pairs(sources, pairs=4)
    labels = labels_of(sources, draw)
    partners_of_anger = labels[labels[..., 0] == EMOTIONS.index("anger"), 1]
    assert (partners_of_anger == EMOTIONS.index("anger")).all()
    assert is_equal_pair(sources, draw).sum() == 2


def test_pairs_that_cannot_differ_are_equal():
    """The second source has only fear: fear pairs can only be equal, anger pairs only different."""
    sources = [
        random_source("a/visual", ("anger", "fear", "fear") * 4, items=(1,)),
        random_source("b/visual", ("fear",) * 4, items=(1,)),
    ]
    labels = labels_of(sources, sample_pairs(sources, pairs=3))
    anger, fear = EMOTIONS.index("anger"), EMOTIONS.index("fear")
    assert set(map(tuple, labels.reshape(-1, 2).tolist())) == {(anger, fear), (fear, fear)}


def test_emotion_of_one_source_is_only_in_pairs_of_different_emotions():
    sources = two_sources()
    unshared = {EMOTIONS.index("calm"), EMOTIONS.index("surprise")}
    n_pairs = collections.Counter()
    for epoch in range(4):
        labels = labels_of(sources, sample_pairs(sources, pairs=6, epoch=epoch))
        for first, second in labels.reshape(-1, 2).tolist():
            if {first, second} & unshared:
                assert first != second
                n_pairs.update({first, second} & unshared)
    assert min(n_pairs[label] for label in unshared) > 10


@pytest.mark.parametrize(
    ("sources", "pairs"), [([one_source()], 4), (two_sources(), 6), (three_sources(), 6)]
)
def test_each_item_of_the_largest_source_is_first_in_a_pair_once_an_epoch(sources, pairs):
    """Of three sources the first is in two of three couples, and first in both."""
    share_of_pairs = {1: 1, 2: 1, 3: 2 / 3}[len(sources)]
    for epoch in range(3):
        draw = sample_pairs(sources, pairs=pairs, epoch=epoch)
        first_items = draw["item"][..., 0][draw["source"][..., 0] == 0]
        assert len(np.unique(first_items)) == len(first_items) > len(sources[0].inputs) - pairs
        assert len(first_items) == share_of_pairs * draw["item"][..., 0].size


def test_items_of_the_smaller_source_are_used_in_turn():
    """No item is used more than once more than another item of its class."""
    sources = two_sources()
    draw = sample_pairs(sources, pairs=6)
    labels = sources[1].labels[sources[1].clip_of]
    n_used = np.bincount(draw["item"][..., 1].ravel(), minlength=len(labels))
    for label in np.unique(labels):
        assert np.ptp(n_used[labels == label]) <= 1
    assert n_used.min() >= 1


def test_no_clip_is_paired_with_itself():
    """The items of the only clip of calm can only be in pairs of different emotions."""
    source = random_source("a/visual", (*FOUR_EMOTIONS[:2] * 6, "calm"), items=(3, 2, 4))
    for epoch in range(8):
        draw = sample_pairs([source], pairs=4, epoch=epoch)
        assert not draw["source"].any()
        clips = source.clip_of[draw["item"]]
        assert (clips[..., 0] != clips[..., 1]).all()


@pytest.mark.parametrize(
    ("emotions", "pairs", "message"),
    [
        pytest.param(
            (("anger",) * 4, ("fear",) * 4),
            2,
            "s0/visual and s1/visual: .*no common emotion.* no pair has equal",
            id="no common emotion",
        ),
        pytest.param(
            (("anger",) * 4, ("anger",) * 4),
            2,
            "s0/visual and s1/visual: anger is the only emotion.* no pair has different",
            id="one emotion of two sources",
        ),
        pytest.param(
            (("anger", "fear"), ("anger", "fear"), ("calm", "anger")),
            4,
            "4 pairs .*multiple of 3; .*batch .* of 6",
            id="no multiple",
        ),
        pytest.param((("anger", "fear"), ("anger",)), 0, "0 pairs .*multiple of 1", id="no pairs"),
        pytest.param(
            (("anger", "fear"), ("anger",)),
            3,
            "s0/visual: 2 .* too few for 3 pairs .*smaller",
            id="few items",
        ),
        pytest.param(
            (("anger", "fear", "calm"),),
            1,
            "^s0/visual: no emotion has two clips.* no pair has equal",
            id="one clip of each emotion",
        ),
        pytest.param(
            (("anger",) * 4,), 1, "^s0/visual: anger is the only emotion", id="one emotion"
        ),
    ],
)
def test_pairs_that_cannot_be_drawn_are_refused(emotions, pairs, message):
    subsets = [
        whole(random_source(f"s{index}/visual", names, items=(1,)))
        for index, names in enumerate(emotions)
    ]
    with pytest.raises(InputError, match=message) as refused:
        pair_sampler(subsets, pairs=pairs, seed=0)
    assert "\n" not in str(refused.value)


# Random partners.


@ONE_TWO_AND_THREE_SOURCES
def test_random_partners_have_any_emotion(sources):
    """Equal emotions are as frequent as by chance: below a half."""
    subsets = [without_last_items(source) for source in sources]
    sample, sample_again = (pair_sampler(subsets, pairs=6, seed=0, how="random") for _ in range(2))
    draws = [sample(epoch) for epoch in range(20)]
    assert 0.15 < np.mean([is_equal_pair(sources, draw).mean() for draw in draws]) < 0.4
    assert_same_draw(sample_again(3), draws[3])
    assert (draws[0]["item"] != draws[1]["item"]).mean() > 0.4


@ONE_TWO_AND_THREE_SOURCES
def test_random_partners_are_used_in_turn_and_are_of_other_clips(sources):
    subsets = [without_last_items(source) for source in sources]
    sample = pair_sampler(subsets, pairs=6, seed=0, how="random")
    for epoch in range(3):
        draw = sample(epoch)
        for first, second in np.unique(draw["source"].reshape(-1, 2), axis=0):
            items = draw["item"][(draw["source"] == (first, second)).all(axis=-1)]  # [pairs, 2]
            if first == second:
                clips = sources[first].clip_of[items]
                assert (clips[:, 0] != clips[:, 1]).all()
            else:
                n_used = np.bincount(items[:, 1], minlength=len(subsets[second].items))
                assert np.ptp(n_used) <= 1


@ONE_TWO_AND_THREE_SOURCES
def test_random_and_balanced_pairs_differ_only_in_the_partners(sources):
    subsets = [without_last_items(source) for source in sources]
    balanced, random_partners = (
        dict(pair_sampler(subsets, pairs=6, seed=0, how=how)(0)) for how in ("balanced", "random")
    )
    assert (balanced["item"][..., 1] != random_partners["item"][..., 1]).any()
    for draw in (balanced, random_partners):
        draw["item"] = draw["item"][..., 0]
    assert_same_draw(random_partners, balanced)


# Hard negatives.


def random_embeddings(sources: Sequence[Source]) -> list[np.ndarray]:
    """Return random embeddings of unit length for each source, float32 [items, 6]."""
    random = np.random.default_rng(0)
    vectors = [random.normal(size=(len(source.inputs), 6)) for source in sources]
    return [
        (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        for values in vectors
    ]


def distances(draw: Draw, embeddings: Sequence[np.ndarray]) -> np.ndarray:
    """Return the distance of the embeddings of every pair, [steps, pairs]."""
    values = [
        np.linalg.norm(embeddings[first_source][first] - embeddings[second_source][second])
        for (first, second), (first_source, second_source) in zip(
            draw["item"].reshape(-1, 2), draw["source"].reshape(-1, 2), strict=True
        )
    ]
    return np.reshape(values, draw["item"].shape[:2])


@ONE_TWO_AND_THREE_SOURCES
def test_hard_negatives_replace_only_partners_of_another_emotion(sources):
    """The new partner is of the same subset and of another emotion than the first item.

    The embeddings of items outside of the subset are NaN and are not used.
    """
    subsets = [without_last_items(source) for source in sources]
    embeddings = random_embeddings(sources)
    for subset, values in zip(subsets, embeddings, strict=True):
        values[len(subset.items) :] = np.nan
    draw = pair_sampler(subsets, pairs=6, seed=0)(0)
    copy = {name: values.copy() for name, values in draw.items()}
    harder = with_hard_negatives(draw, subsets, embeddings, hardness=0.7, seed=0, epoch=0)
    assert_same_draw(draw, copy)
    assert_same_draw({**harder, "item": 0}, {**draw, "item": 0})
    is_equal = is_equal_pair(sources, draw)
    np.testing.assert_array_equal(is_equal_pair(sources, harder), is_equal)
    np.testing.assert_array_equal(harder["item"][..., 0], draw["item"][..., 0])
    np.testing.assert_array_equal(harder["item"][is_equal], draw["item"][is_equal])
    assert (harder["item"] != draw["item"])[~is_equal][:, 1].mean() > 0.5
    for index, subset in enumerate(subsets):
        assert np.isin(harder["item"][harder["source"] == index], subset.items).all()
    assert not np.isnan(distances(harder, embeddings)).any()


@pytest.mark.parametrize(
    ("hardness", "place", "min_share"), [(0, 2, 0.99), (0.5, 1, 0.6), (1, 0, 0.99)]
)
def test_hardness_chooses_the_place_among_sorted_candidates(hardness, place, min_share):
    """Hardness 0 takes the farthest, 0.5 the median, 1 the nearest.

    The second source has three items, so nearly always all of them are candidates. The median of 32
    draws of three items is not always the median of the three.
    """
    sources = [
        random_source("a/visual", ("anger", "fear") * 300, items=(1,)),
        random_source("b/visual", ("fear",) * 3, items=(1,)),
    ]
    embeddings = random_embeddings(sources)
    draw = sample_pairs(sources, pairs=6)
    is_different = ~is_equal_pair(sources, draw)
    assert is_different.sum() > 200
    first_embeddings = embeddings[0][draw["item"][..., 0]][is_different]  # [pairs, 6]
    sorted_distances = np.sort(
        np.linalg.norm(first_embeddings[:, None] - embeddings[1], axis=-1)
    )  # [pairs, 3]
    subsets = [whole(source) for source in sources]
    harder = with_hard_negatives(draw, subsets, embeddings, hardness=hardness, seed=1, epoch=2)
    chosen = distances(harder, embeddings)[is_different]
    assert np.isclose(chosen, sorted_distances[:, place], atol=1e-5).mean() > min_share


def hard_draw(draw: Draw, hardness: float, *, seed: int = 0, epoch: int = 0) -> Draw:
    """Return a draw of three sources with hard negatives."""
    sources = three_sources()
    subsets, embeddings = [whole(source) for source in sources], random_embeddings(sources)
    return with_hard_negatives(draw, subsets, embeddings, hardness=hardness, seed=seed, epoch=epoch)


def test_harder_negatives_are_nearer():
    """Random partners have hardness 0.5."""
    sources = three_sources()
    draw, embeddings = sample_pairs(sources, pairs=6), random_embeddings(sources)
    is_different = ~is_equal_pair(sources, draw)
    means = [
        distances(hard_draw(draw, hardness), embeddings)[is_different].mean()
        for hardness in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert all(before > after + 0.1 for before, after in itertools.pairwise(means))
    random_mean = distances(draw, embeddings)[is_different].mean()
    assert means[2] == pytest.approx(random_mean, abs=0.15)


def test_hard_negatives_are_a_function_of_the_arguments_alone():
    sources = three_sources()
    draw = sample_pairs(sources, pairs=6)
    is_different = ~is_equal_pair(sources, draw)
    harder = hard_draw(draw, 0.5)
    assert_same_draw(hard_draw(draw, 0.5), harder)
    for changed_draw in (hard_draw(draw, 0.5, seed=1), hard_draw(draw, 0.5, epoch=1)):
        is_other_item = changed_draw["item"] != harder["item"]
        assert is_other_item[is_different][:, 1].mean() > 0.3


@pytest.mark.parametrize("hardness", [-0.1, 1.1, float("nan")])
def test_hardness_outside_of_its_range_is_refused(hardness):
    draw = sample_pairs(three_sources(), pairs=6)
    with pytest.raises(ValueError, match=r"hardness .*\[0, 1\]; received"):
        hard_draw(draw, hardness)
