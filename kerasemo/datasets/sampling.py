"""Which items make which batch: permutations and pairs, drawn in NumPy from the seed and the epoch's number alone.

So example i of step s is a pure function of seed and step, however a batch is split over devices and wherever a training
goes on.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kerasemo.datasets.batches import Plan
from kerasemo.datasets.sources import Side
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS


def _random(seed: int, epoch: int, *stream: int) -> np.random.Generator:
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence([seed, epoch], spawn_key=stream))
    )


def labelled_plan(side: Side, *, batch: int, seed: int, steps: int = 0) -> Plan:
    """Return the plan of a supervised stage: a permutation of the side's items in every epoch, the rest dropped.

    Args:
        side: What is trained on.
        batch: Items a step.
        seed: Of every draw.
        steps: Of an epoch, which goes round the side in one permutation after another until they are full; 0: as many as one fills.

    Raises:
        InputError: The side has fewer items than a batch, and `steps` is 0, or it has none.
    """
    rounds = -(-steps * batch // max(1, len(side.items))) or 1
    steps = steps or len(side.items) // batch
    if not steps or not len(side.items):
        raise InputError(
            f"{side.source.name}: {len(side.items)} faces or segments, fewer than a batch of {batch}; make it smaller: --set STAGE.batch=N"
        )

    def plan(epoch: int) -> dict[str, np.ndarray]:
        random = _random(seed, epoch)
        item = np.concatenate([random.permutation(side.items) for _ in range(rounds)])[
            : steps * batch
        ].reshape(steps, batch)
        return {
            "item": item,
            "source": np.zeros(item.shape, np.int32),
            "seed": _seeds(random, item.shape),
        }

    return plan


def couples(sources: int) -> list[tuple[int, int]]:
    """Return which sources are paired with which: every two, or one with itself.

    >>> couples(3), couples(1)
    ([(0, 1), (0, 2), (1, 2)], [(0, 0)])
    """
    return list(itertools.combinations(range(sources), 2)) or [(0, 0)]


def pair_plan(
    sides: Sequence[Side], *, pairs: int, seed: int, balanced: bool = True, steps: int = 0
) -> Plan:
    """Return the plan of a contrastive or joint stage: pairs across sources, half of them of the same emotion.

    Every two sources make the same number of pairs a step, half of them (give or take one) of the same emotion, so that
    each source has the same share of a batch. In an epoch the largest source's items stand in the first place once each
    (the rest dropped), or, where `steps` are given, round after round; the second place goes round the other source's items
    of the emotion that is wanted. An emotion of one of the two alone only makes pairs of different ones. Within one source
    no clip is paired with itself.

    Args:
        sides: One for each source.
        pairs: Pairs a step, a multiple of the number of pairs of sources.
        seed: Of every draw.
        balanced: Whether half of the pairs match; else the second place goes round the other source's items of any emotion.
        steps: Of an epoch; 0: as many as the largest source's items fill.

    Raises:
        InputError: `pairs` does not divide, the sides are too small, or their emotions make no pairs of both kinds.
    """
    paired = couples(len(sides))
    share, rest = divmod(pairs, len(paired))
    if rest or not share:
        raise InputError(
            f"{pairs} pairs a step, expected a multiple of {len(paired)}; set batch to a multiple of {2 * len(paired)}"
        )
    for a, b in paired:
        _check_couple(sides[a], sides[b])
    largest = max(sides, key=lambda side: len(side.items))
    most = len(largest.items)
    steps = steps or most // max(1, len(sides) - 1) // share
    if not steps:
        raise InputError(
            f"{largest.source.name}: {most} faces or segments, too few for {pairs} pairs a step; make it smaller: --set STAGE.batch=N"
        )

    def plan(epoch: int) -> dict[str, np.ndarray]:
        turns = [
            _turns(len(side.items), _random(seed, epoch, index)) for index, side in enumerate(sides)
        ]
        blocks = []
        for number, (a, b) in enumerate(paired):
            first, second = sorted((a, b), key=lambda index: -len(sides[index].items))
            order = np.fromiter(itertools.islice(turns[first], steps * share), np.int64)
            random = _random(seed, epoch, a, b)
            if balanced:
                item = _couple(
                    sides[first], sides[second], order, share=share, late=number % 2, random=random
                )
            else:
                item = _random_couple(sides[first], sides[second], order, random=random)
            source = np.broadcast_to(np.array([first, second], np.int32), (steps, share, 2))
            blocks.append((item.reshape(source.shape), source))
        item, source = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
        # Interleaved, so that each replica's part of a batch holds pairs of every two sources.
        order = np.argsort(np.tile(np.arange(share), len(paired)), kind="stable")
        return {
            "item": item[:, order],
            "source": source[:, order],
            "seed": _seeds(_random(seed, epoch), item.shape),
        }

    return plan


CANDIDATES = 32
"""How many items the partner of a harder pair is chosen from."""


def with_hard_negatives(
    drawn: Mapping[str, np.ndarray],
    sides: Sequence[Side],
    embeddings: Sequence[np.ndarray],
    *,
    hardness: float,
    seed: int,
    epoch: int,
) -> dict[str, np.ndarray]:
    """Return an epoch of a pair plan with the second item of every pair of different emotions replaced by a harder one.

    Among `CANDIDATES` items of the same side and of another emotion than the first item's, in their order from the farthest
    to the nearest of it, the one that stands at `hardness` is taken. (Nagrani et al., Learnable PINs, ECCV 2018, sort the
    negatives of a batch so.) Pairs that match, sources and seeds stay.

    Args:
        drawn: `item`, `source` and `seed` [steps, pairs, 2], of `pair_plan`.
        sides: What the plan's `source` indexes.
        embeddings: For each side float32 [items of the source, n] of unit length; only the rows of the side's items are used.
        hardness: In [0, 1]; 0: the farthest, 0.5: the median one, 1: the nearest.
        seed: Of the draw of the candidates.
        epoch: As well.
    """
    if not 0 <= hardness <= 1:
        raise ValueError(f"hardness must be in [0, 1]; received {hardness!r}")
    item, source = (drawn[key].reshape(-1, 2).copy() for key in ("item", "source"))
    labels = [side.source.labels[side.source.clip_of] for side in sides]
    random = _random(seed, epoch, 0, 0, 0)  # a stream that `pair_plan` does not draw from
    chosen = random.random((len(item), CANDIDATES))
    place = round(hardness * (CANDIDATES - 1))
    for first, second in np.unique(source, axis=0):
        rows_of_couple = np.flatnonzero((source == (first, second)).all(axis=1))
        one, other = labels[first][item[rows_of_couple, 0]], labels[second][item[rows_of_couple, 1]]
        for label in np.unique(one[one != other]):
            pool = sides[second].items[sides[second].labels != label]
            rows = rows_of_couple[(one == label) & (other != label)]
            for block in np.array_split(
                rows, -(-len(rows) // 1024)
            ):  # of at most 1024: the embeddings of the candidates take room
                candidates = pool[
                    (chosen[block] * len(pool)).astype(np.int64)
                ]  # [block, CANDIDATES]
                # On the unit sphere the nearest have the largest product.
                nearness = np.einsum(
                    "rn,rcn->rc", embeddings[first][item[block, 0]], embeddings[second][candidates]
                )
                order = np.argsort(nearness, axis=1, kind="stable")
                item[block, 1] = candidates[np.arange(len(block)), order[:, place]]
    return {**drawn, "item": item.reshape(drawn["item"].shape)}


def mixed(
    drawn: Mapping[str, np.ndarray], *, alpha: float, seed: int, epoch: int
) -> dict[str, np.ndarray]:
    """Return an epoch's plan with another example for each to be mixed with, and how much of it (Zhang et al., mixup, ICLR 2018).

    The other ones of a step's examples are its examples of the same source in a random order, so that each is mixed once into
    another (or into itself, which changes nothing). It is drawn here, before a batch is split over devices.

    Args:
        drawn: `item`, `source` and `seed` [steps, batch, ...].
        alpha: Both parameters of the Beta distribution of the shares, above 0: small ones leave most examples nearly as they are.
        seed: Of every draw.
        epoch: As well.

    Returns:
        `drawn`, and of the same shape `mix_item`, `mix_seed`, and `mix_weight`, float32 in [0, 1]: the share of the other one.
    """
    random = _random(seed, epoch, 1, 0, 0)  # a stream that nothing else draws from
    shape, steps = drawn["item"].shape, len(drawn["item"])
    source = drawn["source"].reshape(steps, -1)
    places = np.broadcast_to(np.arange(source.shape[1]), source.shape)
    own = np.lexsort(
        (places, source), axis=-1
    )  # each source's places in order, and in a random order
    other = np.lexsort((random.random(source.shape), source), axis=-1)
    partner = np.empty_like(own)
    np.put_along_axis(partner, own, other, axis=1)
    found = {
        f"mix_{name}": np.take_along_axis(drawn[name].reshape(steps, -1), partner, axis=1).reshape(
            shape
        )
        for name in ("item", "seed")
    }
    return {**drawn, **found, "mix_weight": random.beta(alpha, alpha, shape).astype(np.float32)}


def varied(
    drawn: Mapping[str, np.ndarray], versions: Sequence[np.ndarray | None], *, seed: int, epoch: int
) -> dict[str, np.ndarray]:
    """Return an epoch's plan with each item as it is or in one of its other versions, each as likely.

    Args:
        drawn: `item` and `source` [steps, batch, ...].
        versions: Of each source int64 [items, n]: the items that show each one otherwise; None: there are none.
        seed: Of every draw.
        epoch: As well.
    """
    chosen = _random(seed, epoch, 2, 0, 0).random(
        drawn["item"].shape
    )  # a stream that nothing else draws from
    item = drawn["item"].copy()
    for source, table in enumerate(versions):
        if table is not None:
            here = drawn["source"] == source
            all_versions = np.concatenate([np.arange(len(table))[:, None], table], axis=1)
            item[here] = all_versions[
                item[here], (chosen[here] * all_versions.shape[1]).astype(np.int64)
            ]
    return {**drawn, "item": item}


def hardness_at(epoch: int, epochs: int, last: float) -> float:
    """Return the hardness of an epoch, from 0, of a curriculum that rises evenly from half of `last` to `last` in the last of `epochs`.

    That it rises is of Learnable PINs; how it does so is the project's choice (0.5 is as hard as pairs drawn at random).

    >>> [hardness_at(epoch, 5, 0.8) for epoch in (0, 2, 4)], hardness_at(0, 1, 0.8)
    ([0.4, 0.6, 0.8], 0.8)
    """
    return round(last * (1 + (epoch / (epochs - 1) if epochs > 1 else 1)) / 2, 6)


def _check_couple(one: Side, other: Side) -> None:
    shared = _shared_emotions(one, other)
    among = one.source.name if one is other else f"{one.source.name} and {other.source.name}"
    if not shared:
        lack = "has no emotion of two clips" if one is other else "share no emotion"
        raise InputError(f"{among} {lack}, so no pair can show the same one; pair other sources")
    if len(set(one.labels) | set(other.labels)) < 2:
        raise InputError(
            f"{among}: {EMOTIONS[shared[0]]} is the only emotion, so no pair can show different ones; pair other sources"
        )


def _shared_emotions(one: Side, other: Side) -> list[int]:
    """Return the emotions that a pair of two clips, one of each side, can both show."""
    if one is not other:
        return sorted(set(one.labels) & set(other.labels))
    labels = one.source.labels[np.unique(one.source.clip_of[one.items])]
    return [int(label) for label in np.unique(labels) if np.sum(labels == label) > 1]


def _seeds(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.integers(0, 2**31, size=shape, dtype=np.int64).astype(np.int32)


def _turns(count: int, random: np.random.Generator) -> Iterator[int]:
    """Yield the numbers below `count` in a random order, then in another, without end."""
    while True:
        yield from random.permutation(count)


def _couple(
    first: Side,
    second: Side,
    order: np.ndarray,
    *,
    share: int,
    late: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Draw the partners of the first side's items in their order: int64 [pairs, 2], items of both sides; see `_matching`."""
    labels, second_labels = first.labels[order], second.labels
    first_clips, second_clips = (
        first.source.clip_of[first.items],
        second.source.clip_of[second.items],
    )
    classes, counts = np.unique(second_labels, return_counts=True)
    queues = {
        label: itertools.cycle(random.permutation(np.flatnonzero(second_labels == label)))
        for label in classes
    }
    can_match = np.isin(labels, _shared_emotions(first, second))
    can_differ = (labels != classes[0]) | (len(classes) > 1)
    same = _matching(can_match, can_differ, share=share, late=late, random=random)
    pairs = np.empty((len(order), 2), np.int64)
    for row, (index, label, match) in enumerate(zip(order, labels, same, strict=True)):
        if not match:
            weights = np.cumsum(counts * (classes != label))
            label = classes[np.searchsorted(weights, random.random() * weights[-1], side="right")]
        partner = next(
            other
            for other in queues[label]
            if first is not second or first_clips[index] != second_clips[other]
        )
        pairs[row] = first.items[index], second.items[partner]
    return pairs


def _random_couple(
    first: Side, second: Side, order: np.ndarray, *, random: np.random.Generator
) -> np.ndarray:
    """Return what `_couple` does, with partners of any emotion."""
    first_clips, second_clips = (
        first.source.clip_of[first.items[order]],
        second.source.clip_of[second.items],
    )
    turns = _turns(len(second.items), random)
    partners = [
        next(other for other in turns if first is not second or second_clips[other] != clip)
        for clip in first_clips
    ]
    return np.stack([first.items[order], second.items[partners]], axis=1)


def _matching(
    can_match: np.ndarray,
    can_differ: np.ndarray,
    *,
    share: int,
    late: int,
    random: np.random.Generator,
) -> np.ndarray:
    """Return which pairs shall match: of the `share` pairs of each step half, give or take one, as far as enough can.

    A step that lacks some is made up for by those after it. Of an odd share odd steps have the greater half, late ones even.
    """
    same = can_match & ~can_differ
    free = can_match & can_differ
    for end in range(share, len(same) + 1, share):
        step = slice(end - share, end)
        due = (end + late) // 2 - same[: step.start].sum()
        wanted = np.clip(due, (share - 1) // 2, share // 2 + 1) - same[step].sum()
        able = step.start + np.flatnonzero(free[step])
        same[random.choice(able, np.clip(wanted, 0, len(able)), replace=False)] = True
    return same
