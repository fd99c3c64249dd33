"""Score the prediction tables of files, and compare their stages."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS, in_order

if TYPE_CHECKING:
    from kerasemo.analysis.prediction_tables import PooledPredictions, PredictionTable

    Tables = Mapping[tuple[str, str], PredictionTable]


def compare_files(
    files: Sequence[tuple[Path, str]],
    pairs: Sequence[tuple[str, str]] = (),
    *,
    sources: Sequence[str] = (),
) -> dict[str, Any]:
    """Score the predictions of files and compare their stages, the seeds averaged first.

    Args:
        files: CSV files (see `prediction_tables.read_prediction_tables`), each with the stage to
            take from it; empty: all stages.
        pairs: Names of two stages each, as in the scores. `A+B` is the mean of stages A and B.
            Without pairs, the first stage is compared with every other.
        sources: The sources to score and compare; none: all.

    Returns:
        `{"rows": [score], "comparisons": [{"stages", "source", "emotions", "ua", "wa"}],
        "not_scored": {}}`. A score is that of `pooling.score_pool` over the emotions that could be
        predicted, with `stage`, `source`, `side`, `protocol` and `stamps`. A comparison is that of
        `differences.difference_of_stages`, corrected for the number of comparisons, for each common
        source and for the mean of several. If one file names no source, it is compared with the
        only source of the other. A comparison that cannot be made has `refused` in place of `ua`
        and `wa`.

    Raises:
        InputError: A file does not exist, or has no such stage or source.
        DataError: A file is no prediction table.
    """
    from kerasemo.analysis import differences

    tables = _of_sources(_read_tables(files), sources)
    stages = list(dict.fromkeys(stage for stage, _ in tables))
    named = [name for pair in pairs for side in pair for name in _stages_of_side(side, stages)]
    unknown = [name for name in named if name not in stages]
    if unknown:
        raise InputError(
            f"--compare: no stage {unknown[0]!r} in these files; "
            f"expected some of {', '.join(stages)}"
        )
    comparisons = []
    for first, second in pairs or [(stages[0], stage) for stage in stages[1:]]:
        by_source = _compare_sides(tables, first, second)
        comparisons += by_source + differences.mean_over_sources(by_source)
    return {
        "rows": [_score_table(key, table) for key, table in tables.items()],
        "comparisons": differences.correct_for_number(comparisons),
        "not_scored": {},
    }


def _score_table(key: tuple[str, str], table: "PredictionTable") -> dict[str, Any]:
    from kerasemo.analysis import pooling

    labels = {EMOTIONS[label] for label in table.pool.labels}
    return {
        "stage": key[0],
        "source": key[1],
        "level": "clip",
        "side": table.split,
        "protocol": table.protocol,
        "stamps": _stamps(table),
        **pooling.score_pool(
            table.pool, shared=table.emotions, corpus=in_order({*table.emotions, *labels})
        ),
    }


def _stages_of_side(side: str, stages: Collection[str]) -> list[str]:
    """Return the stages of one side of a pair.

    >>> _stages_of_side("joint+more", ["joint", "more"]), _stages_of_side("a+b", ["a+b", "a"])
    (['joint', 'more'], ['a+b'])
    """
    return [side] if side in stages else side.split("+")


def _compare_sides(tables: "Tables", first: str, second: str) -> list[dict[str, Any]]:
    """Return the comparison of two sides for each source that all their stages have.

    Without a common source the only comparison is `refused`.
    """
    stages = {stage for stage, _ in tables}
    sides = [_stages_of_side(side, stages) for side in (first, second)]
    sources_of_sides = [
        set.intersection(*({source for stage, source in tables if stage == name} for name in side))
        for side in sides
    ]
    comparisons = []
    for sources in _matching_sources(*sources_of_sides):
        tables_of_sides = [
            [tables[stage, source] for stage in side]
            for side, source in zip(sides, sources, strict=True)
        ]
        emotions = [set(table.emotions) for side in tables_of_sides for table in side]
        shared = in_order(set.intersection(*emotions))
        comparison = {
            "stages": [first, second],
            "source": sources[0] or sources[1],
            "emotions": shared,
        }
        comparisons.append(comparison | _differences(*tables_of_sides, emotions=shared))
    if comparisons:
        return comparisons
    both = " and ".join(", ".join(map(repr, sorted(sources))) for sources in sources_of_sides)
    reason = f"no common source ({both}); the column source names the source of each row"
    return [{"stages": [first, second], "source": "", "refused": reason}]


def _read_tables(files: Sequence[tuple[Path, str]]) -> "Tables":
    """Return the tables of files by stage and source.

    A stage that is in several files gets the name `FILE:STAGE`.
    """
    from kerasemo.analysis.prediction_tables import read_prediction_tables

    tables_of_file: dict[Path, dict[tuple[str, str], PredictionTable]] = {}
    for path, stage in files:
        tables = read_prediction_tables(path)
        names = list(dict.fromkeys(name for name, _ in tables))
        if stage and stage not in names:
            raise InputError(f"{path}: no stage {stage!r}; expected one of {', '.join(names)}")
        chosen = {key: table for key, table in tables.items() if stage in ("", key[0])}
        tables_of_file[path] = tables_of_file.get(path, {}) | chosen
    n_files = Counter(
        stage for tables in tables_of_file.values() for stage in {name for name, _ in tables}
    )
    return {
        (f"{path}:{stage}" if n_files[stage] > 1 else stage, source): table
        for path, tables in tables_of_file.items()
        for (stage, source), table in tables.items()
    }


def _of_sources(tables: "Tables", sources: Sequence[str]) -> "Tables":
    """Return the tables of some sources; all if none is named."""
    known = {source for _, source in tables}
    unknown = [source for source in sources if source not in known]
    if unknown:
        raise InputError(
            f"--sources: no source {unknown[0]!r} in these files; "
            f"expected some of {', '.join(map(repr, sorted(known)))}"
        )
    return {key: table for key, table in tables.items() if not sources or key[1] in sources}


def _stamps(table: "PredictionTable") -> list[str]:
    stamps = list(table.stamps)
    if table.split == "validation":
        stamps.insert(
            0,
            "the validation split, on which the epoch is chosen: a little too high where a stage "
            "has several epochs",
        )
    return stamps


def _differences(
    first: Sequence["PredictionTable"],
    second: Sequence["PredictionTable"],
    *,
    emotions: Sequence[str],
) -> dict[str, Any]:
    """Return `differences.differences_of_metrics`.

    Refused if splits or protocols are known and differ.

    If one file names no speakers, those of the other file are used.
    """
    from kerasemo.analysis import differences

    tables = [*first, *second]
    for name in ("split", "protocol"):
        values = list(dict.fromkeys(filter(None, (getattr(table, name) for table in tables))))
        if len(values) > 1:
            reason = f"different {name}s: {' and '.join(values)}; compare tables of the same {name}"
            return {"refused": reason}
    named = next((table.pool for table in tables if any(table.pool.speakers)), tables[0].pool)
    pools = ([_with_speakers(table.pool, named) for table in side] for side in (first, second))
    return differences.differences_of_metrics(*pools, emotions=emotions)


def _with_speakers(pool: "PooledPredictions", named: "PooledPredictions") -> "PooledPredictions":
    """Return predictions with the speakers of `named`, unless they have speakers of their own."""
    if any(pool.speakers):
        return pool
    speaker_of = {
        clip: speaker for (_, clip), speaker in zip(named.clips, named.speakers, strict=True)
    }
    speakers = tuple(speaker_of.get(clip, "") for _, clip in pool.clips)
    return dataclasses.replace(pool, speakers=speakers)


def _matching_sources(first: set[str], second: set[str]) -> list[tuple[str, str]]:
    """Return the pairs of sources of two stages that can be compared.

    >>> _matching_sources({"emodb/audio", "ravdess/audio"}, {"emodb/audio"})
    [('emodb/audio', 'emodb/audio')]
    >>> _matching_sources({"emodb/audio"}, {""})
    [('emodb/audio', '')]
    """
    if len(first) == len(second) == 1 and "" in first | second:
        return [(*first, *second)]
    return [(source, source) for source in sorted(first & second)]
