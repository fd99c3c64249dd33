"""A sweep -> one document: a row for each stage, source and level, comparisons, chance, listeners, and what others reach."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kerasemo.analysis import differences, pooling, prediction_tables, references
from kerasemo.analysis.prediction_tables import Answers, Kept, Pool
from kerasemo.config.schema import StageConfig
from kerasemo.datasets.catalog import Holdings, corpora_of
from kerasemo.reporting import study_page, study_tables
from kerasemo.runs import run_folder, test_set_log
from kerasemo.studies.sweep import Sweep
from pipelines.core import files
from pipelines.core.errors import InputError
from pipelines.core.labels import in_order
from pipelines.core.text import format_ranges, pluralize

LISTENED = "emodb/audio"
"""The source whose listeners' rates are known."""

Said = Mapping[tuple[int, int], tuple[Mapping[str, Answers], Mapping[str, Any]]]
"""(seed, fold) -> the answers of a stage's network by source, and what is to be known of them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Gathered:
    """The answers of the networks of a sweep to the clips of one side."""

    side: str
    """`validation` or `test`."""
    said: dict[str, Said]
    """By stage."""
    pools: dict[tuple[str, str], Pool]
    """By stage and source, of all folds."""
    left_out: dict[str, dict[str, str]]
    """Stage -> source -> why there is no such pool."""


def gather(sweep: Sweep, side: str) -> Gathered:
    """Return what the networks of a sweep answered; InputError where those of one stage were asked about different clips."""
    plan = sweep.plan
    said = {
        stage.name: _said(sweep, stage, side)
        for stage in plan.experiment.stages
        if stage.name in plan.stages
    }
    pools, left_out = {}, {}
    for name, by_cell in said.items():
        for source in sweep.held.sources:
            if cells := {
                cell: answers[source] for cell, (answers, _) in by_cell.items() if source in answers
            }:
                facts = next(facts for _, facts in by_cell.values())
                pools[name, source] = pooling.pool(cells, folds=_folds(sweep, source, facts, side))
            else:
                left_out.setdefault(name, {})[source] = next(
                    (
                        facts["not_scored"][source]
                        for _, facts in by_cell.values()
                        if source in facts["not_scored"]
                    ),
                    "no network is finished",
                )
    return Gathered(side, said, pools, left_out)


def document(
    sweep: Sweep,
    gathered: Gathered,
    *,
    compare: Sequence[tuple[str, str]] = (),
    rates: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Return all tables of a sweep, ready for JSON.

    Args:
        sweep: What has been run.
        gathered: Its answers.
        compare: Pairs of stages: by how much the first is better than the second.
        rates: EMO-DB's `erkennung.txt`, for the listeners' row.
        command: The words that made it.

    Raises:
        InputError: A comparison cannot be made, the rates cannot be read.
    """
    plan, side, pools = sweep.plan, gathered.side, gathered.pools
    facts = {
        name: [facts for _, facts in by_cell.values()] for name, by_cell in gathered.said.items()
    }
    rows = [
        row
        for (name, source), pool in pools.items()
        for row in _rows(sweep, plan.experiment.stage(name), source, pool, facts[name], side)
    ]
    return {
        "experiment": plan.experiment.name,
        "protocol": plan.protocol,
        "side": side,
        "folds": list(sweep.folds),
        "seeds": list(plan.seeds),
        "command": command,
        "run": str(plan.run),
        "code": test_set_log.code_version(),
        "versions": run_folder.versions(),
        "networks": len(sweep.cells),
        "training_seconds": _seconds(sweep),
        "looks": _looks(sweep) if side == "test" else [],
        "rows": rows,
        "not_scored": gathered.left_out,
        "pairs": [one for name, own in facts.items() for one in _pairs(name, own)],
        "comparisons": differences.corrected(
            [one for pair in compare for one in _compared(sweep, pair, pools, rows)]
        ),
        "beside": {source: _beside(sweep, source, pools, rates) for source in sweep.held.sources},
        "failed": [
            {"cell": str(cell), "reason": sweep.failed[cell.digest]}
            for cell in sweep.cells
            if cell.digest in sweep.failed
        ],
    }


def _said(sweep: Sweep, stage: StageConfig, side: str) -> Said:
    cells = [
        cell
        for cell in sweep.cells
        if cell.stage.name == stage.name and cell.digest not in sweep.failed
    ]
    found = {(cell.seed, cell.fold): sweep.said(cell, side) for cell in cells}
    return {place: own for place, own in found.items() if own is not None}


def _folds(sweep: Sweep, source: str, facts: Mapping[str, Any], side: str) -> int:
    """Return how many folds a source has for a stage: where it was not trained on the corpus, all of it is test."""
    foreign = side == "test" and not corpora_of([source]) & corpora_of(facts["trained_on"])
    return 1 if foreign else sweep.fold_counts[source]


def protocol(sweep: Sweep, source: str, pool: Pool, *, foreign: bool) -> str:
    """Return in words how a source was split, and what of it the scores are of."""
    networks = f"{pluralize(len(pool.seeds), 'network')} a clip"
    corpus = source.partition("/")[0]
    if sweep.held.sides(protocol=sweep.plan.protocol, fold=0).splits[corpus].publisher:
        return f"the corpus's own, {networks}"
    if foreign:
        return f"all of the corpus, which was not trained on, {networks}"
    count, speakers = (
        sweep.fold_counts[source],
        len({row["speaker"] for row in sweep.held.rows[source]}),
    )
    folds = f"fold{'s' * (len(pool.folds) > 1)} {format_ranges(pool.folds)} of {count}"
    if sweep.plan.protocol == "speaker-dependent":
        return f"{count} folds, all speakers in train and test ({folds}), {networks}"
    kind = (
        "leave-one-speaker-out"
        if count == speakers
        else f"{count} speaker-disjoint folds of {speakers} speakers"
    )
    return f"{kind} ({folds}), {networks}"


def _rows(
    sweep: Sweep,
    stage: StageConfig,
    source: str,
    pool: Pool,
    facts: Sequence[Mapping[str, Any]],
    side: str,
) -> list[dict[str, Any]]:
    corpus = sweep.held.emotions[source]
    trained = {emotion for own in facts for emotion in own["trained_emotions"]}
    trained_on = {own for one in facts for own in one["trained_on"]}
    place = {
        "stage": stage.name,
        "kind": stage.kind,
        "source": source,
        "protocol": protocol(
            sweep,
            source,
            pool,
            foreign=_folds(sweep, source, facts[0], side) != sweep.fold_counts[source],
        ),
        "trained_on": "this stage"
        if source in stage.sources
        else "a stage before"
        if source in trained_on
        else "",
        "stamps": list(
            dict.fromkeys(stamp for own in facts for stamp in own["stamps"].get(source, ()))
        ),
    }
    scored = {"shared": in_order(set(corpus) & trained), "corpus": corpus}
    singles = bool((pool.items[0].sum(axis=1) == 1).all())
    visual = source.endswith("/visual")
    rows = [
        place | {"level": "image" if singles and visual else "clip"} | pooling.score(pool, **scored)
    ]
    if not singles:
        known = (
            ("ua",) if all(pool.speakers) else ()
        )  # faces or segments of one clip are not independent
        items = pooling.score(pooling.by_item(pool), **scored, with_intervals=known)
        rows.append(place | {"level": "frame" if visual else "segment"} | items)
    return rows


def _pairs(stage: str, facts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how well a stage's networks tell whether two clips show the same emotion: the mean over the networks."""
    found = []
    for couple in dict.fromkeys(couple for own in facts for couple in own.get("pairs", {})):
        scored = [
            own["pairs"][couple]
            for own in facts
            if own.get("pairs", {}).get(couple, {}).get("auc") is not None
        ]
        if scored:
            means = {
                name: sum(own[name] for own in scored) / len(scored)
                for name in ("same", "auc", "eer")
            }
            found.append({"stage": stage, "sources": couple, "networks": len(scored), **means})
    return found


def _compared(
    sweep: Sweep, pair: tuple[str, str], pools: Mapping, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the comparison of two sides on every source that one of them at least was trained on and both were asked about, and of
    all of these together, each counting alike. A side is a stage or several, A+B: on each source the mean of those trained on it."""
    emotions = {(row["stage"], row["source"]): row["emotions"] for row in rows}
    own = {(row["stage"], row["source"]) for row in rows if row["trained_on"] == "this stage"}
    sides = [side.split("+") for side in pair]
    named = [" + ".join(side) for side in sides]
    found = []
    for source in sweep.held.sources:
        places = [
            [(stage, source) for stage in side if (stage, source) in own] or [(side[0], source)]
            for side in sides
        ]
        every = [place for side in places for place in side]
        if own.isdisjoint(every) or not all(place in pools for place in every):
            continue
        shared = in_order(set.intersection(*(set(emotions[place]) for place in every)))
        entry = {"stages": named, "source": source, "emotions": shared}
        found.append(
            entry
            | differences.differences(
                *([pools[place] for place in side] for side in places), emotions=shared
            )
        )
    found += differences.together(found)
    return found or [
        {
            "stages": named,
            "source": "",
            "refused": "no source that both were asked about and one was trained on",
        }
    ]


def check_rates(held: Holdings, rates: Path) -> None:
    """Raise an InputError where listeners' rates cannot be read or do not hold every clip, or there is nothing to print them beside."""
    if LISTENED not in held.sources:
        raise InputError(
            f"--listeners is for {LISTENED}, and there is {', '.join(held.sources)}; leave it out"
        )
    emotions = {PurePosixPath(row["id"]).stem: row["emotion"] for row in held.rows[LISTENED]}
    references.listeners_score(references.read_rates(rates), emotions)


def _beside(sweep: Sweep, source: str, pools: Mapping, rates: Path | None) -> dict[str, Any]:
    """Return what stands beside the scores on a source: chance, the listeners on the same clips, and what others reach."""
    found: dict[str, Any] = {
        "chance": 1 / len(sweep.held.emotions[source]),
        "emotions": sweep.held.emotions[source],
    }
    if rates is not None and source == LISTENED:
        own = {
            name
            for name in sweep.plan.stages
            if source in sweep.plan.experiment.stage(name).sources
        }  # others are asked about all folds
        clips = {
            clip
            for (name, asked), pool in pools.items()
            if asked == source and name in own
            for _, clip in pool.clips
        }
        emotions = {
            PurePosixPath(row["id"]).stem: row["emotion"]
            for row in sweep.held.rows[source]
            if row["id"] in clips
        }
        if emotions:
            found["listeners"] = references.listeners_score(references.read_rates(rates), emotions)
    found["published"] = [row._asdict() for row in references.of_source(source)]
    return found


def _seconds(sweep: Sweep) -> float:
    """Return how long the trainings took whose time is known: of an interrupted one, what it took from where it went on."""
    times = [files.read_json(cell.folder / "time.json") or {} for cell in sweep.cells]
    return round(sum(own.get("seconds", 0.0) for own in times), 1)


def _looks(sweep: Sweep) -> list[dict[str, Any]]:
    """Return the looks of the run folder, each with how many of the sweep's networks it asked; the hashes stay in the file."""
    own = {cell.digest for cell in sweep.cells}
    return [
        {key: value for key, value in look.items() if key not in ("keys", "records")}
        | {"networks": len(look["keys"]), "of_these": len(own & set(look["keys"]))}
        for look in test_set_log.read(sweep.plan.run)
    ]


def write(out: Path, document: Mapping[str, Any], pools: Mapping[tuple[str, str], Pool]) -> None:
    """Write the five files, each under a temporary name first.

    Args:
        out: Their folder.
        document: Of `kerasemo.studies.results`.
        pools: The answers that it is of, by stage and source.
    """
    out.mkdir(parents=True, exist_ok=True)
    prediction_tables.write(out / "answers.csv", _kept(document, pools))
    files.write_json(out / "tables.json", document)
    for name, made in (
        ("tables.md", study_tables.markdown),
        ("tables.csv", study_tables.as_csv),
        ("page.html", study_page.page),
    ):
        temporary = out / f"{name}.tmp"
        temporary.write_text(made(document), encoding="utf-8")
        temporary.replace(out / name)


def _kept(
    document: Mapping[str, Any], pools: Mapping[tuple[str, str], Pool]
) -> dict[tuple[str, str], Kept]:
    rows = {
        (row["stage"], row["source"]): row
        for row in document["rows"]
        if row["level"] in study_tables.CLIPS
    }
    return {
        place: Kept(
            pool,
            tuple(rows[place]["emotions"]),
            document["side"],
            document["protocol"],
            tuple(rows[place]["stamps"]),
        )
        for place, pool in pools.items()
    }
