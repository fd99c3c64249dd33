"""Differences of two stages on the same clips, by speaker and pooled over clips."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kerasemo.analysis import pooling
from kerasemo.analysis.pooling import PAIRED_METRICS, STATISTICS
from kerasemo.analysis.prediction_tables import PooledPredictions
from kerasemo.metrics import significance
from kerasemo.metrics.classification import METRICS
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS


def merge_stages(pools: Sequence[PooledPredictions]) -> PooledPredictions:
    """Merge the predictions of several stages for the same clips: each network becomes a row.

    Raises:
        InputError: The stages predicted different clips.
    """
    ordered = [_sorted_by_clip(pool) for pool in pools]
    first = ordered[0]
    for stage in ordered[1:]:
        _check_same_clips(first, stage)
    return dataclasses.replace(
        first,
        seeds=tuple(seed for pool in ordered for seed in pool.seeds),
        **{
            name: np.concatenate([getattr(pool, name) for pool in ordered])
            for name in ("predictions", "open_predictions", "item_counts")
        },
    )


def _sorted_by_clip(pool: PooledPredictions) -> PooledPredictions:
    """Return the clips sorted by id, then fold."""
    return pool.at(sorted(range(len(pool.clips)), key=lambda index: pool.clips[index][::-1]))


def difference_of_stages(
    first: PooledPredictions,
    second: PooledPredictions,
    *,
    emotions: Sequence[str],
    metric: str = "ua",
) -> dict[str, Any]:
    """Return how much better one stage is than another, the seeds averaged first.

    Args:
        first: The predictions of the first stage.
        second: The predictions of the second stage for the same clips.
        emotions: The emotions that both can predict.
        metric: One of `PAIRED_METRICS`.

    Returns:
        The fields of `significance.PairedDifference` for the mean of the speakers' own differences,
        with `speakers`: the difference of each speaker. `pooled` has the same for the difference of
        the pooled scores. A pooled score is a sum of shares of speakers, and the sign-flip test
        flips the sign of a speaker's share. Its interval uses `spread`: shares that are counted
        from the difference itself (the delta method of a ratio), so that a gain which all speakers
        have alike
        has no spread, however many clips each has. If a speaker is unknown, both are over single
        images or clips, and pooled.

    Raises:
        InputError: There are fewer than two speakers or clips, or the stages predicted different
            clips.
    """
    _check_same_clips(first, second)
    # Sorted, because both need one order.
    first, second = (
        _sorted_by_clip(pooling.with_emotions(pool, emotions)) for pool in (first, second)
    )
    if len(first.labels) < 2:
        raise InputError(
            "a paired comparison needs at least 2 clips that both stages can predict; "
            f"received {len(first.labels)}"
        )
    gains = np.subtract(
        *((pool.predictions == pool.labels).mean(axis=0) for pool in (first, second))
    )
    score = METRICS[metric]
    values = score.clip_values(first.labels, gains)  # [clips]; their mean is the pooled difference
    if not all(first.speakers):
        unit = pooling.resampling_unit(first)
        by_clip = significance.mean_paired_difference([dict(enumerate(values))], unit=unit)
        document = dataclasses.asdict(by_clip) | {"speakers": {}}
        return document | {"pooled": document}
    speakers = sorted(set(first.speakers))
    if len(speakers) < 2:
        raise InputError(
            "a paired comparison needs at least 2 speakers, whose differences have a sign; "
            "received 1"
        )
    scores = [
        significance.scores_by_speaker(
            pool.labels, pool.predictions, pool.speakers, statistic=STATISTICS[metric]
        )
        for pool in (first, second)
    ]
    speaker_of = np.searchsorted(speakers, first.speakers)  # [clips]

    def shares(clip_values: np.ndarray) -> dict[str, float]:
        """Return each speaker's share of the mean of `clip_values` [clips], times the speakers."""
        sums = np.bincount(speaker_of, clip_values)
        return dict(zip(speakers, (sums * len(speakers) / len(values)).tolist(), strict=True))

    spread = score.clip_values(first.labels, gains - score.expected_values(first.labels, gains))
    pooled = paired_over_sources([shares(values)], spreads_by_source=[shares(spread)])
    differences_of = {speaker: scores[0][speaker] - scores[1][speaker] for speaker in speakers}
    return paired_over_sources([differences_of]) | {"pooled": pooled}


def _check_same_clips(first: PooledPredictions, second: PooledPredictions) -> None:
    """Raise InputError unless both have the same clips with the same speakers and emotions."""
    ids = [Counter(clip for _, clip in pool.clips) for pool in (first, second)]
    for more, fewer, name in ((*ids, "second"), (*ids[::-1], "first")):
        if extra := more - fewer:
            rest = fewer - more
            example = f", which has {min(rest)!r} and others" if rest else ""
            raise InputError(
                f"the two stages have different clips: {sum(extra.values())} clips, for example "
                f"{min(extra)!r}, are missing in the {name}{example}; compare stages of the same "
                "folds"
            )
    facts = [_facts_by_clip(pool) for pool in (first, second)]
    for clip, facts_of_first in facts[0].items():
        if facts[1][clip] != facts_of_first:
            both = " and ".join(
                f"{emotion} by {speaker or 'an unknown speaker'}"
                for speaker, emotion in (facts_of_first, facts[1][clip])
            )
            raise InputError(
                f"the two stages have different labels or speakers: {clip!r} is {both}; compare "
                "stages with equal labels and speakers (a file may leave out all speakers)"
            )


def _facts_by_clip(pool: PooledPredictions) -> dict[str, tuple[str, str]]:
    return {
        clip: (speaker, EMOTIONS[label])
        for (_, clip), speaker, label in zip(pool.clips, pool.speakers, pool.labels, strict=True)
    }


def differences_of_metrics(
    first: Sequence[PooledPredictions],
    second: Sequence[PooledPredictions],
    *,
    emotions: Sequence[str],
) -> dict[str, Any]:
    """Return `difference_of_stages` for each of `PAIRED_METRICS`, or why it is `refused`.

    Args:
        first: The stages of the first side; several count as their mean.
        second: The stages of the second side.
        emotions: The emotions that all can predict.
    """
    try:
        merged = (merge_stages(first), merge_stages(second))
        return {
            name: difference_of_stages(*merged, emotions=emotions, metric=name)
            for name in PAIRED_METRICS
        }
    except InputError as error:
        return {"refused": str(error)}


def mean_over_sources(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparison of two stages on the mean of several sources.

    Args:
        comparisons: The comparisons of the two stages, one for each source.

    Returns:
        One comparison, or none if fewer than two sources with known speakers were compared.
    """
    scored = [
        comparison
        for comparison in comparisons
        if "refused" not in comparison and comparison["ua"]["speakers"]
    ]
    if len(scored) < 2:
        return []
    document = {
        "stages": scored[0]["stages"],
        "source": " + ".join(comparison["source"] for comparison in scored),
    }
    try:
        for name in PAIRED_METRICS:
            document[name] = _on_mean([comparison[name] for comparison in scored])
    except InputError as error:
        document = {name: document[name] for name in ("stages", "source")}
        document["refused"] = str(error)
    return [document]


def _on_mean(by_source: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    pooled = [difference["pooled"] for difference in by_source]
    return paired_over_sources([difference["speakers"] for difference in by_source]) | {
        "pooled": paired_over_sources(
            [difference["speakers"] for difference in pooled],
            spreads_by_source=[difference["spread"] for difference in pooled],
        )
    }


def paired_over_sources(
    differences_by_source: Sequence[Mapping[str, float]],
    *,
    spreads_by_source: Sequence[Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return `significance.mean_paired_difference` as a document with the values of each speaker.

    Args:
        differences_by_source: For each source, the difference for every speaker, at least two.
        spreads_by_source: See `significance.mean_paired_difference`.

    Returns:
        The fields of `significance.PairedDifference`, `speakers`, and `spread` if it was given; a
        speaker who is in several sources has the mean.

    Raises:
        InputError: A source, or a group of speakers of the same sources, has fewer than two
            speakers.
    """
    difference = significance.mean_paired_difference(
        differences_by_source, spreads_by_source=spreads_by_source
    )
    if difference is None:
        raise InputError(
            "a comparison over several sources needs at least 2 speakers of each source, or of the "
            "same several sources"
        )
    document = dataclasses.asdict(difference) | {
        "speakers": _mean_by_speaker(differences_by_source)
    }
    if spreads_by_source:
        document["spread"] = _mean_by_speaker(spreads_by_source)
    return document


def _mean_by_speaker(values_by_source: Sequence[Mapping[str, float]]) -> dict[str, float]:
    speakers = dict.fromkeys(speaker for source in values_by_source for speaker in source)
    return {
        speaker: float(
            np.mean([source[speaker] for source in values_by_source if speaker in source])
        )
        for speaker in speakers
    }


def correct_for_number(comparisons: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return comparisons with `p_holm` next to each p, corrected for their number.

    The scores are corrected apart, and so are the differences by speaker and the pooled ones.
    Refused comparisons do not count.
    """
    corrected = [dict(comparison) for comparison in comparisons]
    scored = [comparison for comparison in corrected if "refused" not in comparison]
    for name in PAIRED_METRICS:
        by_speaker = significance.holm_correction([comparison[name]["p"] for comparison in scored])
        pooled = significance.holm_correction(
            [comparison[name]["pooled"]["p"] for comparison in scored]
        )
        for comparison, p_by_speaker, p_pooled in zip(scored, by_speaker, pooled, strict=True):
            difference = comparison[name]
            comparison[name] = difference | {
                "p_holm": p_by_speaker,
                "pooled": difference["pooled"] | {"p_holm": p_pooled},
            }
    return corrected
