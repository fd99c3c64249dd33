"""By how much one stage is better than another on the same clips: speaker by speaker, and pooled over the clips of all speakers."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.analysis import pooling
from kerasemo.analysis.prediction_tables import Pool
from kerasemo.metrics import significance
from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.labels import EMOTIONS


def merged(pools: Sequence[Pool]) -> Pool:
    """Return what several stages answered to the same clips as one pool: every network is a row of it, so that scores are means over all.

    Raises:
        InputError: They were not asked about the same clips.
    """
    first, *others = (
        pooling.at(own, sorted(range(len(own.clips)), key=lambda place: own.clips[place][::-1]))
        for own in pools
    )
    for other in others:
        _check_alike(first, other)
    rows = {
        name: np.concatenate([getattr(own, name) for own in (first, *others)])
        for name in ("answers", "without_corpus", "items")
    }
    return dataclasses.replace(
        first, seeds=tuple(seed for own in (first, *others) for seed in own.seeds), **rows
    )


def compare(one: Pool, other: Pool, *, emotions: Sequence[str], name: str = "ua") -> dict[str, Any]:
    """Return how much better one stage is than another, the seeds averaged first.

    Args:
        one: Its answers to the clips.
        other: Those of the other to the same clips.
        emotions: Those that both can answer.
        name: `ua` or `wa`.

    Returns:
        What `significance.paired_over` says of every speaker's own difference, with these by `speakers`. Under `pooled` the same of the
        difference of the pooled scores. Recalls add up over speakers, so each has a share of it, here times their number, whose sign is
        flipped where the two stages' answers to that speaker's clips change places. The interval is of `spread`: of shares counted from
        the difference itself, so that a gain which all speakers have alike has none, however many clips each has (the delta method of a
        ratio). Where not all speakers are known both are of the images or clips, and pooled.

    Raises:
        InputError: There is a single speaker, or the two were not asked about the same clips.
    """
    _check_alike(one, other)
    one, other = pooling.of_emotions(one, emotions), pooling.of_emotions(other, emotions)
    if len(one.labels) < 2:
        raise InputError(
            f"a paired comparison needs at least 2 clips that both can answer; there are {len(one.labels)}"
        )
    one, other = merged([one]), merged([other])  # in one order
    gains = np.subtract(*((own.answers == own.labels).mean(axis=0) for own in (one, other)))
    values = (
        significance.class_balanced(one.labels, gains) if name == "ua" else gains
    )  # [clips]: their mean is the difference
    if not all(one.speakers):
        found = dataclasses.asdict(
            significance.paired_over([dict(enumerate(values))], over=pooling.over(one))
        ) | {"speakers": {}}
        return found | {"pooled": found}
    everyone = sorted(set(one.speakers))
    if len(everyone) < 2:
        raise InputError(
            "a paired comparison needs at least 2 speakers, whose differences have a sign; there is 1"
        )
    alone = [
        significance.per_speaker(
            own.labels, own.answers, own.speakers, statistic=pooling.STATISTICS[name]
        )
        for own in (one, other)
    ]
    of = np.searchsorted(everyone, one.speakers)  # [clips]: the place of each clip's speaker

    def shares(values: np.ndarray) -> dict[str, float]:
        return dict(
            zip(
                everyone,
                (np.bincount(of, values) * len(everyone) / len(values)).tolist(),
                strict=True,
            )
        )

    if name == "ua":
        classes = np.unique(one.labels, return_inverse=True)[1]
        expected = (np.bincount(classes, gains) / np.bincount(classes))[
            classes
        ]  # [clips]: the gain of all clips of the class
        spread = significance.class_balanced(one.labels, gains - expected)
    else:
        spread = gains - gains.mean()
    over_all = paired([shares(values)], spread=[shares(spread)])
    return paired([{who: alone[0][who] - alone[1][who] for who in everyone}]) | {"pooled": over_all}


def _check_alike(one: Pool, other: Pool) -> None:
    """Raise an InputError where two pools are not of the same clips, with the same speakers and emotions."""
    ids = [Counter(clip for _, clip in own.clips) for own in (one, other)]
    for more, fewer, which in (
        (ids[0] - ids[1], ids[1], "second"),
        (ids[1] - ids[0], ids[0], "first"),
    ):
        if more:
            counts = f"{sum(more.values())} of the clips, such as {min(more)!r}, were not asked of the {which}"
            asked = f", which was asked about {min(fewer)!r} and others" if fewer else ""
            raise InputError(
                f"the two were not asked about the same clips ({counts}{asked}); compare stages of the same folds and names"
            )
    facts = [
        {
            clip: (who, EMOTIONS[label])
            for (_, clip), who, label in zip(own.clips, own.speakers, own.labels, strict=True)
        }
        for own in (one, other)
    ]
    for clip, said in facts[0].items():
        if facts[1][clip] != said:
            both = " and ".join(" as ".join(reversed(own)) for own in (said, facts[1][clip]))
            raise InputError(
                f"the two were not asked about the same clips: {clip!r} is {both}; speakers and emotions must be alike "
                "(a file may name no speaker at all)"
            )


def differences(
    ones: Sequence[Pool], others: Sequence[Pool], *, emotions: Sequence[str]
) -> dict[str, Any]:
    """Return what `compare` says of `ua` and of `wa`, of two stages or of the means of some; or why that is `refused`."""
    try:
        one, other = merged(ones), merged(others)
        return {name: compare(one, other, emotions=emotions, name=name) for name in ("ua", "wa")}
    except KerasemoError as error:
        return {"refused": str(error)}


def together(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparison of two stages on the mean of several sources, where there are several of speakers that were not refused."""
    made = [one for one in comparisons if "refused" not in one and one["ua"]["speakers"]]
    if len(made) < 2:
        return []
    found = {"stages": made[0]["stages"], "source": " + ".join(one["source"] for one in made)}
    try:
        return [found | {name: _on_mean([one[name] for one in made]) for name in ("ua", "wa")}]
    except KerasemoError as error:
        return [found | {"refused": str(error)}]


def _on_mean(of_sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    over_all = [one["pooled"] for one in of_sources]
    found = paired(
        [one["speakers"] for one in over_all], spread=[one["spread"] for one in over_all]
    )
    return paired([one["speakers"] for one in of_sources]) | {"pooled": found}


def paired(
    of_sources: Sequence[Mapping[str, float]],
    *,
    spread: Sequence[Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return what `significance.paired_over` says of the differences on each source, at least two speakers each, with every speaker's own,
    and `spread`, if it is given: of one who is in several sources the mean. InputError where speakers of the same sources are fewer than
    two."""
    found = significance.paired_over(of_sources, spread=spread)
    if found is None:
        raise InputError(
            "sources together need at least 2 speakers of each, or of the same several sources, whose differences have a spread"
        )
    values = {"speakers": of_sources} | ({"spread": spread} if spread else {})
    return dataclasses.asdict(found) | {name: _means(own) for name, own in values.items()}


def _means(of_sources: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(who for one in of_sources for who in one)
    return {who: float(np.mean([one[who] for one in of_sources if who in one])) for who in names}


def corrected(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return comparisons with `p_holm` beside each p, corrected for how many there are that were not `refused`: UA and WA apart, the
    speakers' own and the pooled ones apart."""
    found = [dict(one) for one in comparisons]
    made = [one for one in found if "refused" not in one]
    for name in ("ua", "wa"):
        of_each = [[one[name]["p"] for one in made], [one[name]["pooled"]["p"] for one in made]]
        for one, own, over_all in zip(made, *map(significance.holm, of_each), strict=True):
            one[name] = one[name] | {
                "p_holm": own,
                "pooled": one[name]["pooled"] | {"p_holm": over_all},
            }
    return found
