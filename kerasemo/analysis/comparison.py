"""Score prediction tables from files, and compare them."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS, in_order

if TYPE_CHECKING:
    from kerasemo.analysis.prediction_tables import Kept, Pool


def compare(
    files: Sequence[tuple[Path, str]],
    pairs: Sequence[tuple[str, str]] = (),
    *,
    sources: Sequence[str] = (),
) -> dict[str, Any]:
    """Score the answers of files, and compare stages, speaker by speaker, the seeds averaged first.

    Args:
        files: CSV files, see `kerasemo.analysis.prediction_tables.read`, each with the stage to take of it; none: all of the file.
        pairs: The names of two stages each, as the scores have them, or of several joined by +, whose mean is compared, every network
            counting alike; none: the first stage of all with every other.
        sources: Those to score, compare and correct for; none: all. A reproduction keeps what each stage answers to every source.

    Returns:
        `{"rows": [score], "comparisons": [{"stages", "source", "emotions", "ua", "wa"}], "not_scored": {}}`. A score is that of
        `kerasemo.analysis.pooling.score` over the emotions that could be answered, with `stage`, `source`, `side`, `protocol` and `stamps`. A
        comparison is that of `kerasemo.analysis.differences.compare`, corrected for their number, on each source that both have, and on the mean of
        several; where one file names no source, on the only one of the other. One that cannot be made has `refused` in place of
        `ua` and `wa`.

    Raises:
        InputError: A file is not as expected, or has no such stage or source.
    """
    from kerasemo.analysis import differences, pooling

    named = _of_sources(_named(files), sources)
    rows = []
    for (stage, source), kept in named.items():
        there = in_order({*kept.emotions, *(EMOTIONS[label] for label in kept.pool.labels)})
        place = {
            "stage": stage,
            "source": source,
            "level": "clip",
            "side": kept.side,
            "protocol": kept.protocol,
            "stamps": _stamps(kept),
        }
        rows.append(place | pooling.score(kept.pool, shared=kept.emotions, corpus=there))
    comparisons = []
    stages = list(dict.fromkeys(stage for stage, _ in named))
    if unknown := [
        name
        for pair in pairs
        for side in pair
        for name in _parts(side, stages)
        if name not in stages
    ]:
        raise InputError(
            f"--compare: no stage {unknown[0]!r} in these files; expected some of {', '.join(stages)}"
        )
    for first, other in pairs or [(stages[0], other) for other in stages[1:]]:
        found = _compared(named, first, other)
        comparisons += found + differences.together(found)
    return {"rows": rows, "comparisons": differences.corrected(comparisons), "not_scored": {}}


def _parts(side: str, stages: Collection[str]) -> list[str]:
    """Return the stages of one side of a pair.

    >>> _parts("joint+more", ["joint", "more"]), _parts("a+b", ["a+b", "a"])
    (['joint', 'more'], ['a+b'])
    """
    return [side] if side in stages else side.split("+")


def _compared(
    named: Mapping[tuple[str, str], "Kept"], first: str, other: str
) -> list[dict[str, Any]]:
    """Return the comparison of two sides on each source that all their stages have; one that is refused where there is none."""
    stages = {stage for stage, _ in named}
    sides = [_parts(side, stages) for side in (first, other)]
    own, theirs = (
        set.intersection(*({source for stage, source in named if stage == name} for name in side))
        for side in sides
    )
    found = []
    for one, beside in _couples(own, theirs):
        both = [
            [named[stage, source] for stage in side]
            for side, source in zip(sides, (one, beside), strict=True)
        ]
        shared = in_order(set.intersection(*(set(kept.emotions) for side in both for kept in side)))
        entry = {"stages": [first, other], "source": one or beside, "emotions": shared}
        found.append(entry | _differences(*both, emotions=shared))
    if found:
        return found
    sources = " and ".join(", ".join(map(repr, sorted(of))) for of in (own, theirs))
    reason = (
        f"no source that both were asked about ({sources}); a column source says which each is of"
    )
    return [{"stages": [first, other], "source": "", "refused": reason}]


def _named(files: Sequence[tuple[Path, str]]) -> dict[tuple[str, str], "Kept"]:
    """Return what files hold by stage and source; of a stage that is in several files the name has that of the file, too."""
    from kerasemo.analysis import prediction_tables

    found: dict[Path, dict[tuple[str, str], Kept]] = {}
    for path, stage in files:
        own = prediction_tables.read(path)
        if stage and stage not in {name for name, _ in own}:
            there = ", ".join(dict.fromkeys(name for name, _ in own))
            raise InputError(f"{path}: no stage {stage!r}; expected one of {there}")
        found[path] = found.get(path, {}) | {
            place: kept for place, kept in own.items() if stage in ("", place[0])
        }
    files_of = Counter(stage for own in found.values() for stage in {stage for stage, _ in own})
    return {
        (f"{path}:{stage}" if files_of[stage] > 1 else stage, source): kept
        for path, own in found.items()
        for (stage, source), kept in own.items()
    }


def _of_sources(
    named: Mapping[tuple[str, str], "Kept"], sources: Sequence[str]
) -> Mapping[tuple[str, str], "Kept"]:
    """Return what is of some sources, all where none is named."""
    there = {source for _, source in named}
    if unknown := [source for source in sources if source not in there]:
        raise InputError(
            f"--sources: no source {unknown[0]!r} in these files; expected some of {', '.join(map(repr, sorted(there)))}"
        )
    return {
        (stage, source): kept
        for (stage, source), kept in named.items()
        if not sources or source in sources
    }


def _stamps(kept: "Kept") -> list[str]:
    if kept.side == "validation":
        return [
            "the validation side, on which the epoch is chosen where there are several: then a little too high",
            *kept.stamps,
        ]
    return list(kept.stamps)


def _differences(
    ones: Sequence["Kept"], others: Sequence["Kept"], *, emotions: Sequence[str]
) -> dict[str, Any]:
    """Return `differences.differences`; refused where sides or protocols are known and differ. Where one file names no speakers, those of
    the other count."""
    from kerasemo.analysis import differences

    every = [*ones, *others]
    for name in ("side", "protocol"):
        values = list(dict.fromkeys(filter(None, (getattr(kept, name) for kept in every))))
        if len(values) > 1:
            return {
                "refused": f"another {name}: {' and '.join(values)}; compare answers of the same"
            }
    known = next((kept.pool for kept in every if any(kept.pool.speakers)), every[0].pool)
    return differences.differences(
        *([_with_speakers(kept.pool, of=known) for kept in side] for side in (ones, others)),
        emotions=emotions,
    )


def _with_speakers(pool: "Pool", *, of: "Pool") -> "Pool":
    """Return a pool, with the speakers of another where it names none."""
    if any(pool.speakers):
        return pool
    speakers = {clip: who for (_, clip), who in zip(of.clips, of.speakers, strict=True)}
    return dataclasses.replace(
        pool, speakers=tuple(speakers.get(clip, "") for _, clip in pool.clips)
    )


def _couples(one: set[str], other: set[str]) -> list[tuple[str, str]]:
    """Return the sources of two stages that belong together.

    >>> _couples({"emodb/audio", "ravdess/audio"}, {"emodb/audio"}), _couples({"emodb/audio"}, {""})
    ([('emodb/audio', 'emodb/audio')], [('emodb/audio', '')])
    """
    if len(one) == len(other) == 1 and "" in one | other:
        return [(*one, *other)]
    return [(source, source) for source in sorted(one & other)]
