"""The results of a study: pooled scores and comparisons of a sweep, and their files."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kerasemo.analysis import differences, pooling, prediction_tables, references
from kerasemo.analysis.prediction_tables import PooledPredictions, PredictionTable
from kerasemo.config.schema import Experiment, StageConfig
from kerasemo.datasets.catalog import RecordCatalog, corpora_of
from kerasemo.datasets.sources import corpus_of
from kerasemo.evaluation.stage_predictions import StagePredictions
from kerasemo.reporting import study_markdown, study_page, study_tables
from kerasemo.runs import run_folder, test_set_log
from kerasemo.studies.sweep import Sweep
from pipelines.core import files
from pipelines.core.errors import InputError
from pipelines.core.labels import in_order
from pipelines.core.text import format_ranges, pluralize

LISTENERS_SOURCE = "emodb/audio"
"""The source whose human listeners are known."""

NetworkPredictions = Mapping[tuple[int, int], StagePredictions]
"""(seed, fold) -> the predictions of a network."""


@dataclasses.dataclass(frozen=True, eq=False)
class SplitPredictions:
    """The predictions of all networks of a sweep for the clips of one split."""

    split: str
    """`validation` or `test`."""
    by_stage: dict[str, NetworkPredictions]
    pools: dict[tuple[str, str], PooledPredictions]
    """(stage, source) -> the predictions of all folds and seeds."""
    not_scored: dict[str, dict[str, str]]
    """Stage -> source -> the reason why the source has no predictions."""

    def facts(self, stage: str) -> list[Mapping[str, Any]]:
        """Return the facts about each network of a stage."""
        return [predictions.facts for predictions in self.by_stage[stage].values()]


def collect_predictions(sweep: Sweep, split: str) -> SplitPredictions:
    """Return the predictions of the networks of a sweep for a split.

    Raises:
        RunError: No fold is finished with every seed, or networks of one stage have different
            clips.
    """
    stages = [stage for stage in sweep.plan.experiment.stages if stage.name in sweep.plan.stages]
    by_stage = {stage.name: _predictions_of_stage(sweep, stage, split) for stage in stages}
    pools: dict[tuple[str, str], PooledPredictions] = {}
    not_scored: dict[str, dict[str, str]] = {}
    for name, by_network in by_stage.items():
        for source in sweep.plan.sources:
            predictions = {
                network: of_network.by_source[source]
                for network, of_network in by_network.items()
                if source in of_network.by_source
            }
            facts = [of_network.facts for of_network in by_network.values()]
            if predictions:
                folds = _fold_count(sweep, source, facts[0], split)
                pools[name, source] = pooling.pool_folds(predictions, folds=folds)
            else:
                reasons = [
                    of_network["not_scored"][source]
                    for of_network in facts
                    if source in of_network["not_scored"]
                ]
                not_scored.setdefault(name, {})[source] = (
                    reasons[0] if reasons else "no network is finished"
                )
    return SplitPredictions(split, by_stage, pools, not_scored)


def _predictions_of_stage(sweep: Sweep, stage: StageConfig, split: str) -> NetworkPredictions:
    by_network = {}
    for network in sweep.networks:
        if network.stage.name == stage.name and network.digest not in sweep.failures:
            predictions = sweep.predictions(network, split)
            if predictions is not None:
                by_network[network.seed, network.fold] = predictions
    return by_network


def _fold_count(sweep: Sweep, source: str, facts: Mapping[str, Any], split: str) -> int:
    """Return the number of folds of a source for a stage: 1 for the test split of a new corpus."""
    is_trained = corpora_of([source]) & corpora_of(facts["trained_on"])
    return sweep.fold_counts[source] if is_trained or split != "test" else 1


def study_results(
    sweep: Sweep,
    predictions: SplitPredictions,
    *,
    compare: Sequence[tuple[str, str]] = (),
    listener_rates: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Return all results of a sweep, ready for JSON: the content of `tables.json`.

    Args:
        sweep: The finished sweep.
        predictions: Its predictions for one split.
        compare: Pairs of stages, for the difference of the first from the second. `A+B` is the mean
            of A and B.
        listener_rates: `erkennung.txt` of EMO-DB, for the listeners' scores.
        command: The command that made the study.

    Raises:
        DataError: The listener rates cannot be parsed.
    """
    plan, pools = sweep.plan, predictions.pools
    rows = [
        row
        for (name, source), pool in pools.items()
        for row in _score_rows(
            sweep,
            plan.experiment.stage(name),
            source,
            pool,
            facts=predictions.facts(name),
            split=predictions.split,
        )
    ]
    comparisons = [
        comparison
        for pair in compare
        for comparison in compare_stages(plan.sources, pair, pools, rows)
    ]
    is_test = predictions.split == "test"
    return {
        "experiment": plan.experiment.name,
        "protocol": plan.protocol,
        "side": predictions.split,
        "folds": list(sweep.folds),
        "seeds": list(plan.seeds),
        "command": command,
        "run": str(plan.run),
        "code": test_set_log.code_version(),
        "versions": run_folder.package_versions(),
        "networks": len(sweep.networks),
        "training_seconds": _training_seconds(sweep),
        "looks": _test_evaluations(sweep) if is_test else [],
        "rows": rows,
        "not_scored": predictions.not_scored,
        "pairs": [
            scores
            for name in predictions.by_stage
            for scores in _pair_scores(name, predictions.facts(name))
        ],
        "comparisons": differences.correct_for_number(comparisons),
        "beside": {
            source: source_references(
                sweep.catalog, plan.experiment, source, pools, listener_rates=listener_rates
            )
            for source in plan.sources
        },
        "failed": [
            {"cell": str(network), "reason": sweep.failures[network.digest]}
            for network in sweep.networks
            if network.digest in sweep.failures
        ],
    }


def protocol_text(sweep: Sweep, source: str, pool: PooledPredictions, *, is_foreign: bool) -> str:
    """Return the text about the split of a source and the scored clips.

    Args:
        sweep: The sweep.
        source: The source.
        pool: The pooled predictions.
        is_foreign: Whether no stage was trained on the corpus, so that every clip is a test clip.
    """
    networks = f"{pluralize(len(pool.seeds), 'network')} per clip"
    splits = sweep.catalog.split(
        sweep.plan.sources,
        protocol=sweep.plan.protocol,
        fold=sweep.folds[0],
        keep_copies=sweep.plan.keep_copies,
    )
    if splits.corpus_splits[corpus_of(source)].publisher:
        return f"the publisher's split, {networks}"
    if is_foreign:
        return f"the whole corpus, which was not trained on, {networks}"
    n_folds = sweep.fold_counts[source]
    n_speakers = len({row["speaker"] for row in sweep.catalog.rows(source)})
    folds = f"fold{'s' * (len(pool.folds) > 1)} {format_ranges(pool.folds)} of {n_folds}"
    if sweep.plan.protocol == "speaker-dependent":
        return f"{n_folds} folds, all speakers in training and test ({folds}), {networks}"
    kind = (
        "leave-one-speaker-out"
        if n_folds == n_speakers
        else f"{n_folds} speaker-disjoint folds of {n_speakers} speakers"
    )
    return f"{kind} ({folds}), {networks}"


def _score_rows(
    sweep: Sweep,
    stage: StageConfig,
    source: str,
    pool: PooledPredictions,
    *,
    facts: Sequence[Mapping[str, Any]],
    split: str,
) -> list[dict[str, Any]]:
    """Return the scores of a stage on a source, by clip and by face or segment."""
    corpus_emotions = sweep.catalog.emotions(source)
    trained_emotions = {
        emotion for of_network in facts for emotion in of_network["trained_emotions"]
    }
    trained_on = {name for of_network in facts for name in of_network["trained_on"]}
    is_foreign = _fold_count(sweep, source, facts[0], split) != sweep.fold_counts[source]
    stamps = (stamp for of_network in facts for stamp in of_network["stamps"].get(source, ()))
    if source in stage.sources:
        trained = "this stage"
    else:
        trained = "a stage before" if source in trained_on else ""
    row = {
        "stage": stage.name,
        "kind": stage.kind,
        "source": source,
        "protocol": protocol_text(sweep, source, pool, is_foreign=is_foreign),
        "trained_on": trained,
        "stamps": list(dict.fromkeys(stamps)),
    }
    emotions = {
        "shared": in_order(set(corpus_emotions) & trained_emotions),
        "corpus": corpus_emotions,
    }
    has_single_items = bool((pool.item_counts[0].sum(axis=1) == 1).all())
    is_visual = source.endswith("/visual")
    level = "image" if has_single_items and is_visual else "clip"
    rows = [row | {"level": level} | pooling.score_pool(pool, **emotions)]
    if not has_single_items:
        # Items of one clip are not independent, so without speakers there is nothing to resample.
        with_intervals = ("ua",) if all(pool.speakers) else ()
        items = pooling.split_into_items(pool)
        scores = pooling.score_pool(items, **emotions, with_intervals=with_intervals)
        rows.append(row | {"level": "frame" if is_visual else "segment"} | scores)
    return rows


def _pair_scores(stage: str, facts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean scores of pairs of clips over the networks of a stage."""
    rows = []
    pairs_of_networks = [of_network.get("pairs", {}) for of_network in facts]
    for couple in dict.fromkeys(couple for pairs in pairs_of_networks for couple in pairs):
        scores = [pairs[couple] for pairs in pairs_of_networks if couple in pairs]
        scores = [score for score in scores if score.get("auc") is not None]
        if scores:
            means = {
                name: sum(score[name] for score in scores) / len(scores)
                for name in ("same", "auc", "eer")
            }
            rows.append({"stage": stage, "sources": couple, "networks": len(scores), **means})
    return rows


def compare_stages(
    sources: Sequence[str],
    pair: tuple[str, str],
    pools: Mapping[tuple[str, str], PooledPredictions],
    rows: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return the comparison of two sides on each source, and on the mean of the sources.

    A side is a stage or several stages (`A+B`). On each source, `A+B` is the mean of the stages
    that were trained on the source. A source is compared if both sides have predictions for it,
    and a stage of one side was trained on it.

    Args:
        sources: The sources of the study.
        pair: The two sides.
        pools: The predictions by stage and source.
        rows: The scores of the stages; see `study_results`.
    """
    emotions = {(row["stage"], row["source"]): row["emotions"] for row in rows}
    trained = {(row["stage"], row["source"]) for row in rows if row["trained_on"] == "this stage"}
    sides = [side.split("+") for side in pair]
    names = [" + ".join(side) for side in sides]
    comparisons = []
    for source in sources:
        keys_of_sides = [
            [(stage, source) for stage in side if (stage, source) in trained] or [(side[0], source)]
            for side in sides
        ]
        keys = [key for of_side in keys_of_sides for key in of_side]
        if trained.isdisjoint(keys) or not all(key in pools for key in keys):
            continue
        shared = in_order(set.intersection(*(set(emotions[key]) for key in keys)))
        pools_of_sides = ([pools[key] for key in of_side] for of_side in keys_of_sides)
        comparisons.append(
            {"stages": names, "source": source, "emotions": shared}
            | differences.differences_of_metrics(*pools_of_sides, emotions=shared)
        )
    comparisons += differences.mean_over_sources(comparisons)
    reason = "no source has predictions of both sides and was trained on by one of them"
    return comparisons or [{"stages": names, "source": "", "refused": reason}]


def check_listener_rates(catalog: RecordCatalog, sources: Sequence[str], path: Path) -> None:
    """Check that a file of listener rates is valid and has every clip of its source.

    Raises:
        InputError: The records have no such source, or the rates cannot be read.
        DataError: The rates cannot be parsed, or lack a clip.
    """
    if LISTENERS_SOURCE not in sources:
        raise InputError(
            f"--listeners needs records of {LISTENERS_SOURCE}; these are of {', '.join(sources)}; "
            "leave the option out"
        )
    emotions = {
        PurePosixPath(row["id"]).stem: row["emotion"] for row in catalog.rows(LISTENERS_SOURCE)
    }
    references.listener_scores(references.read_listener_rates(path), emotions)


def source_references(
    catalog: RecordCatalog,
    experiment: Experiment,
    source: str,
    pools: Mapping[tuple[str, str], PooledPredictions],
    *,
    listener_rates: Path | None = None,
) -> dict[str, Any]:
    """Return the reference figures of a source: chance, listeners and published results.

    Args:
        catalog: The records.
        experiment: The experiment, with the sources of each stage.
        source: The source.
        pools: The predictions by stage and source.
        listener_rates: `erkennung.txt` of EMO-DB.

    Raises:
        DataError: The listener rates cannot be parsed.
    """
    corpus_emotions = catalog.emotions(source)
    result: dict[str, Any] = {"chance": 1 / len(corpus_emotions), "emotions": corpus_emotions}
    if listener_rates is not None and source == LISTENERS_SOURCE:
        # Stages that were not trained on the source predict all folds, so their clips do not count.
        clips = {
            clip
            for (stage, source_of_pool), pool in pools.items()
            if source_of_pool == source and source in experiment.stage(stage).sources
            for _, clip in pool.clips
        }
        emotions = {
            PurePosixPath(row["id"]).stem: row["emotion"]
            for row in catalog.rows(source)
            if row["id"] in clips
        }
        if emotions:
            rates = references.read_listener_rates(listener_rates)
            result["listeners"] = references.listener_scores(rates, emotions)
    result["published"] = [row._asdict() for row in references.published_results(source)]
    return result


def _training_seconds(sweep: Sweep) -> float:
    """Return the training time of all networks.

    The time of a resumed training counts from the last start.
    """
    times = [files.read_json(network.folder / "time.json") or {} for network in sweep.networks]
    return round(sum(time.get("seconds", 0.0) for time in times), 1)


def _test_evaluations(sweep: Sweep) -> list[dict[str, Any]]:
    """Return the entries of the test-set log without keys, with the number of networks."""
    digests = {network.digest for network in sweep.networks}
    return [
        {name: value for name, value in entry.items() if name not in ("keys", "records")}
        | {"networks": len(entry["keys"]), "of_these": len(digests & set(entry["keys"]))}
        for entry in test_set_log.read_test_set_log(sweep.plan.run)
    ]


def write_study(
    folder: Path, study: Mapping[str, Any], pools: Mapping[tuple[str, str], PooledPredictions]
) -> None:
    """Write `answers.csv`, the tables in three formats, and `page.html`, each atomically.

    Args:
        folder: The folder of the files; it is created if it does not exist.
        study: The result of `study_results`.
        pools: The predictions by stage and source.

    Raises:
        StorageError: A file cannot be written.
    """
    tables = dict(_tables_of_predictions(study, pools))
    with files.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        prediction_tables.write_prediction_tables(folder / "answers.csv", tables)
        files.write_json(folder / "tables.json", study)
        files.write_text(folder / "tables.md", study_markdown.study_markdown(study))
        files.write_text(folder / "tables.csv", study_tables.study_csv(study))
        files.write_text(folder / "page.html", study_page.study_page(study))


def _tables_of_predictions(
    study: Mapping[str, Any], pools: Mapping[tuple[str, str], PooledPredictions]
) -> Iterable[tuple[tuple[str, str], PredictionTable]]:
    clip_rows = {
        (row["stage"], row["source"]): row for row in study["rows"] if study_tables.is_of_clips(row)
    }
    for key, pool in pools.items():
        row = clip_rows[key]
        yield (
            key,
            PredictionTable(
                pool,
                emotions=tuple(row["emotions"]),
                split=study["side"],
                protocol=study["protocol"],
                stamps=tuple(row["stamps"]),
            ),
        )
