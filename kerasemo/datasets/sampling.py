"""Draw the items of each batch in NumPy, from the seed and the number of the epoch alone.

So example i of step s is a pure function of seed and step, however a batch is split over devices,
and wherever a training resumes.

A sampler is a function of the epoch that returns a `Draw`. To add a way to pair items, add a
function to `PAIR_SAMPLERS` and its name to `StageConfig.pairs`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from kerasemo.datasets.sources import Subset
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS

Draw = Mapping[str, np.ndarray]
"""The examples of an epoch: `item` int64 and `source` int32 [steps, batch] or [steps, pairs, 2],
and `seed` int32 of the same shape. Mixed examples also have `mix_item`, `mix_seed` and `mix_weight`
(float32); see `draw_mixup`."""

Sampler = Callable[[int], Draw]
"""Epoch, from 0 -> its examples."""

N_CANDIDATES = 32
"""The number of items among which the partner of a hard pair is chosen."""


def _random(seed: int, epoch: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence([seed, epoch], spawn_key=stream))
    )


def item_sampler(subset: Subset, *, batch: int, seed: int, steps: int = 0) -> Sampler:
    """Return the sampler of a supervised stage: a permutation of the items in every epoch.

    Args:
        subset: The items.
        batch: Items in a step.
        seed: The seed of every draw.
        steps: Steps in an epoch; one permutation follows the other until they are full. 0: as many
            as one permutation fills; the rest of its items is dropped.

    Raises:
        InputError: There are fewer items than a batch and `steps` is 0, or there are none.
    """
    n_items = len(subset.items)
    n_permutations = -(-steps * batch // max(1, n_items)) or 1
    steps = steps or n_items // batch
    if not steps or not n_items:
        raise InputError(
            f"{subset.source.name}: {n_items} faces or segments, fewer than a batch of {batch}; "
            "make the batch smaller: --set STAGE.batch=N"
        )

    def sample(epoch: int) -> Draw:
        random = _random(seed, epoch)
        items = np.concatenate([random.permutation(subset.items) for _ in range(n_permutations)])
        items = items[: steps * batch].reshape(steps, batch)
        return {
            "item": items,
            "source": np.zeros(items.shape, np.int32),
            "seed": _draw_seeds(random, items.shape),
        }

    return sample


def source_pairs(n_sources: int) -> list[tuple[int, int]]:
    """Return which sources are paired: every two, or a single source with itself.

    >>> source_pairs(3), source_pairs(1)
    ([(0, 1), (0, 2), (1, 2)], [(0, 0)])
    """
    return list(itertools.combinations(range(n_sources), 2)) or [(0, 0)]


def pair_sampler(
    subsets: Sequence[Subset], *, pairs: int, seed: int, how: str = "balanced", steps: int = 0
) -> Sampler:
    """Return the sampler of a contrastive or joint stage: pairs across sources.

    Every two sources give the same number of pairs in a step. In an epoch each item of the largest
    source is the first item of a pair once (the rest is dropped), or again and again with `steps`.
    A partner comes from the other source, whose items are used in turn. Within a single source no
    clip is paired with itself. An emotion that only one of two sources has makes pairs of different
    emotions.

    Args:
        subsets: The items of each source.
        pairs: Pairs in a step, a multiple of the number of pairs of sources.
        seed: The seed of every draw.
        how: One of PAIR_SAMPLERS. `balanced`: half of the pairs of every two sources in a step
            (plus or minus one) have equal emotions. `random`: partners of any emotion.
        steps: Steps in an epoch; 0: as many as the items of the largest source fill.

    Raises:
        InputError: `pairs` is not such a multiple, there are too few items, or their emotions do
            not make pairs of both kinds.
    """
    couples = source_pairs(len(subsets))
    per_couple, rest = divmod(pairs, len(couples))
    if rest or not per_couple:
        raise InputError(
            f"{pairs} pairs in a step, expected a multiple of {len(couples)}; set batch to a "
            f"multiple of {2 * len(couples)}"
        )
    for first, second in couples:
        _check_couple(subsets[first], subsets[second])
    largest = max(subsets, key=lambda subset: len(subset.items))
    steps = steps or len(largest.items) // max(1, len(subsets) - 1) // per_couple
    if not steps:
        raise InputError(
            f"{largest.source.name}: {len(largest.items)} faces or segments, too few for {pairs} "
            "pairs in a step; make the batch smaller: --set STAGE.batch=N"
        )
    draw_partners = PAIR_SAMPLERS[how]

    def sample(epoch: int) -> Draw:
        turns = [
            _endless_permutations(len(subset.items), _random(seed, epoch, index))
            for index, subset in enumerate(subsets)
        ]
        items_of_couples, sources_of_couples = [], []
        for number, couple in enumerate(couples):
            first, second = sorted(couple, key=lambda index: -len(subsets[index].items))
            order = np.fromiter(itertools.islice(turns[first], steps * per_couple), np.int64)
            items = draw_partners(
                subsets[first],
                subsets[second],
                order,
                per_step=per_couple,
                extra_in_even_steps=bool(number % 2),
                random=_random(seed, epoch, *couple),
            )
            shape = (steps, per_couple, 2)
            items_of_couples.append(items.reshape(shape))
            sources = np.array([first, second], np.int32)
            sources_of_couples.append(np.broadcast_to(sources, shape))
        items = np.concatenate(items_of_couples, axis=1)  # [steps, pairs, 2]
        sources = np.concatenate(sources_of_couples, axis=1)
        # Interleaved, so that the part of each replica has pairs of every two sources.
        order = np.argsort(np.tile(np.arange(per_couple), len(couples)), kind="stable")
        return {
            "item": items[:, order],
            "source": sources[:, order],
            "seed": _draw_seeds(_random(seed, epoch), items.shape),
        }

    return sample


def with_hard_negatives(
    draw: Draw,
    subsets: Sequence[Subset],
    embeddings: Sequence[np.ndarray],
    *,
    hardness: float,
    seed: int,
    epoch: int,
) -> dict[str, np.ndarray]:
    """Return the pairs of an epoch with harder partners in the pairs of different emotions.

    `N_CANDIDATES` items of the same source, of another emotion than the first item, are sorted from
    the farthest to the nearest; the one at the fraction `hardness` becomes the partner. (Nagrani et
    al., Learnable PINs, ECCV 2018, sort the negatives of a batch so.) Pairs of equal emotions,
    sources and seeds stay.

    Args:
        draw: The draw of a `pair_sampler`.
        subsets: The items of each source.
        embeddings: For each source float32 [items of the source, n] of unit length. Only the rows
            of the subset's items are used.
        hardness: In [0, 1]: 0 takes the farthest candidate, 0.5 the median, 1 the nearest.
        seed: The seed of the candidates.
        epoch: The epoch, from 0.
    """
    if not 0 <= hardness <= 1:
        raise ValueError(f"hardness must be in [0, 1]; received {hardness!r}")
    item, source = (draw[key].reshape(-1, 2).copy() for key in ("item", "source"))
    labels = [subset.source.labels[subset.source.clip_of] for subset in subsets]
    random = _random(seed, epoch, 0, 0, 0)  # a stream that `pair_sampler` does not use
    candidate_draws = random.random((len(item), N_CANDIDATES))
    rank = round(hardness * (N_CANDIDATES - 1))
    for first, second in np.unique(source, axis=0):
        rows_of_couple = np.flatnonzero((source == (first, second)).all(axis=1))
        first_labels = labels[first][item[rows_of_couple, 0]]
        second_labels = labels[second][item[rows_of_couple, 1]]
        for label in np.unique(first_labels[first_labels != second_labels]):
            negatives = subsets[second].items[subsets[second].labels != label]
            rows = rows_of_couple[(first_labels == label) & (second_labels != label)]
            # In blocks, because the embeddings of all candidates would need much memory.
            for block in np.array_split(rows, -(-len(rows) // 1024)):
                picks = (candidate_draws[block] * len(negatives)).astype(np.int64)
                candidates = negatives[picks]  # [block, N_CANDIDATES]
                # Of unit vectors the nearest have the largest product.
                similarity = np.einsum(
                    "rn,rcn->rc", embeddings[first][item[block, 0]], embeddings[second][candidates]
                )
                order = np.argsort(similarity, axis=1, kind="stable")
                item[block, 1] = candidates[np.arange(len(block)), order[:, rank]]
    return {**draw, "item": item.reshape(draw["item"].shape)}


def hardness_at(epoch: int, epochs: int, hardest: float) -> float:
    """Return the hardness of the negatives in an epoch.

    The hardness rises linearly from half of `hardest` to `hardest`.

    Learnable PINs raises the hardness; this schedule is the project's choice. Pairs drawn at random
    have hardness 0.5.

    Args:
        epoch: From 0.
        epochs: The number of epochs.
        hardest: The hardness in the last epoch, in [0, 1].

    >>> [hardness_at(epoch, 5, 0.8) for epoch in (0, 2, 4)], hardness_at(0, 1, 0.8)
    ([0.4, 0.6, 0.8], 0.8)
    """
    progress = epoch / (epochs - 1) if epochs > 1 else 1
    return round(hardest * (1 + progress) / 2, 6)


def draw_mixup(draw: Draw, *, alpha: float, seed: int, epoch: int) -> dict[str, np.ndarray]:
    """Return an epoch with a partner and a weight for each example.

    Source: Zhang et al., mixup, ICLR 2018.

    Within each step, the examples of one source are shuffled. Each example is mixed with the
    example that takes its place, perhaps itself. The partners are drawn before a batch is split
    over devices.

    Args:
        draw: The draw of a sampler.
        alpha: Both parameters of the Beta distribution of the weights, above 0. Small values leave
            most examples nearly unchanged.
        seed: The seed of every draw.
        epoch: The epoch, from 0.

    Returns:
        The draw with `mix_item`, `mix_seed` and `mix_weight` (float32 in [0, 1], the share of the
        partner), of the same shape.
    """
    random = _random(seed, epoch, 1, 0, 0)  # a stream that no other draw uses
    shape, steps = draw["item"].shape, len(draw["item"])
    source = draw["source"].reshape(steps, -1)
    places = np.broadcast_to(np.arange(source.shape[1]), source.shape)
    in_order = np.lexsort((places, source), axis=-1)  # the places of each source
    shuffled = np.lexsort((random.random(source.shape), source), axis=-1)
    partner = np.empty_like(in_order)
    np.put_along_axis(partner, in_order, shuffled, axis=1)
    mixed = dict(draw)
    for name in ("item", "seed"):
        values = np.take_along_axis(draw[name].reshape(steps, -1), partner, axis=1)
        mixed[f"mix_{name}"] = values.reshape(shape)
    mixed["mix_weight"] = random.beta(alpha, alpha, shape).astype(np.float32)
    return mixed


def draw_variants(
    draw: Draw, variants: Sequence[np.ndarray | None], *, seed: int, epoch: int
) -> dict[str, np.ndarray]:
    """Return an epoch with each item or one of its variants, each with the same probability.

    Args:
        draw: The draw of a sampler.
        variants: For each source `Source.variants`.
        seed: The seed of the choice.
        epoch: The epoch, from 0.
    """
    random = _random(seed, epoch, 2, 0, 0)  # a stream that no other draw uses
    choice = random.random(draw["item"].shape)
    items = draw["item"].copy()
    for source, table in enumerate(variants):
        if table is not None:
            is_here = draw["source"] == source
            versions = np.concatenate([np.arange(len(table))[:, None], table], axis=1)
            columns = (choice[is_here] * versions.shape[1]).astype(np.int64)
            items[is_here] = versions[items[is_here], columns]
    return {**draw, "item": items}


def _check_couple(first: Subset, second: Subset) -> None:
    """Raise InputError unless two sources can make pairs of equal and of different emotions."""
    shared = _shared_emotions(first, second)
    names = (
        first.source.name if first is second else f"{first.source.name} and {second.source.name}"
    )
    if not shared:
        problem = "no emotion has two clips" if first is second else "they have no common emotion"
        raise InputError(f"{names}: {problem}, so no pair has equal emotions; pair other sources")
    if len(set(first.labels) | set(second.labels)) < 2:
        raise InputError(
            f"{names}: {EMOTIONS[shared[0]]} is the only emotion, so no pair has different "
            "emotions; pair other sources"
        )


def _shared_emotions(first: Subset, second: Subset) -> list[int]:
    """Return the emotions of which a pair of two clips, one of each subset, can be made."""
    if first is not second:
        return sorted(set(first.labels) & set(second.labels))
    labels = first.source.labels[first.clips]
    return [int(label) for label in np.unique(labels) if np.sum(labels == label) > 1]


def _draw_seeds(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.integers(0, 2**31, size=shape, dtype=np.int64).astype(np.int32)


def _endless_permutations(count: int, random: np.random.Generator) -> Iterator[int]:
    """Yield the numbers below `count` in one random order after the other, without end."""
    while True:
        yield from random.permutation(count)


def _draw_balanced_partners(
    first: Subset,
    second: Subset,
    order: np.ndarray,
    *,
    per_step: int,
    extra_in_even_steps: bool,
    random: np.random.Generator,
) -> np.ndarray:
    """Return pairs of which half in each step have equal emotions; see `_choose_equal`.

    Args:
        first: The subset of the first items.
        second: The subset of the partners.
        order: int64 [pairs]: indices of the items of `first`.
        per_step: Pairs in a step.
        extra_in_even_steps: See `_choose_equal`.
        random: Draws the partners.

    Returns:
        int64 [pairs, 2]: an item of each source.
    """
    labels, second_labels = first.labels[order], second.labels
    first_clips = first.source.clip_of[first.items]
    second_clips = second.source.clip_of[second.items]
    classes, counts = np.unique(second_labels, return_counts=True)
    queue_of_class = {
        label: itertools.cycle(random.permutation(np.flatnonzero(second_labels == label)))
        for label in classes
    }
    is_equal = _choose_equal(
        can_be_equal=np.isin(labels, _shared_emotions(first, second)),
        can_differ=(labels != classes[0]) | (len(classes) > 1),
        per_step=per_step,
        extra_in_even_steps=extra_in_even_steps,
        random=random,
    )
    pairs = np.empty((len(order), 2), np.int64)
    for row, (index, label, equal) in enumerate(zip(order, labels, is_equal, strict=True)):
        partner_label = label
        if not equal:
            weights = np.cumsum(counts * (classes != label))
            drawn = np.searchsorted(weights, random.random() * weights[-1], side="right")
            partner_label = classes[drawn]
        partner = next(
            candidate
            for candidate in queue_of_class[partner_label]
            if first is not second or first_clips[index] != second_clips[candidate]
        )
        pairs[row] = first.items[index], second.items[partner]
    return pairs


def _draw_random_partners(
    first: Subset,
    second: Subset,
    order: np.ndarray,
    *,
    per_step: int,
    extra_in_even_steps: bool,
    random: np.random.Generator,
) -> np.ndarray:
    """Return pairs with partners of any emotion; see `_draw_balanced_partners`."""
    del per_step, extra_in_even_steps  # only balanced pairs need them
    first_clips = first.source.clip_of[first.items[order]]
    second_clips = second.source.clip_of[second.items]
    candidates = _endless_permutations(len(second.items), random)
    partners = [
        next(
            candidate
            for candidate in candidates
            if first is not second or second_clips[candidate] != clip
        )
        for clip in first_clips
    ]
    return np.stack([first.items[order], second.items[partners]], axis=1)


PAIR_SAMPLERS: Mapping[str, Callable[..., np.ndarray]] = {
    "balanced": _draw_balanced_partners,
    "random": _draw_random_partners,
}
"""Functions that draw the partners of pairs, by the values of `StageConfig.pairs`."""


def _choose_equal(
    *,
    can_be_equal: np.ndarray,
    can_differ: np.ndarray,
    per_step: int,
    extra_in_even_steps: bool,
    random: np.random.Generator,
) -> np.ndarray:
    """Return bool [pairs]: which pairs have equal emotions; half of each step, plus or minus one.

    A step with too few pairs that can be equal is made up for by later steps. If `per_step` is odd,
    the larger half is in odd steps, or in even steps with `extra_in_even_steps`.
    """
    is_equal = can_be_equal & ~can_differ
    is_free = can_be_equal & can_differ
    for stop in range(per_step, len(is_equal) + 1, per_step):
        step = slice(stop - per_step, stop)
        due = (stop + extra_in_even_steps) // 2 - is_equal[: step.start].sum()
        wanted = np.clip(due, (per_step - 1) // 2, per_step // 2 + 1) - is_equal[step].sum()
        free = step.start + np.flatnonzero(is_free[step])
        is_equal[random.choice(free, np.clip(wanted, 0, len(free)), replace=False)] = True
    return is_equal
