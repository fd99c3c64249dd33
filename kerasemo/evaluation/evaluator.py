"""Score a trained stage on the test split of every source in the records."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kerasemo.datasets.catalog import RecordCatalog
    from kerasemo.networks.inference import NetworkOutputs
    from kerasemo.runs.lineage import Lineage


def evaluate_run(
    run: Path, records: Path, stage: str | None = None, *, sources: Sequence[str] | None = None
) -> dict[str, Any]:
    """Score a stage of a run folder; see `evaluate_stage`.

    Args:
        run: The run folder.
        records: The records of the training, and possibly others.
        stage: The stage; None: `joint` if it is finished, else the stage that was finished last.
        sources: The sources to score; None: all in the records.
    """
    from kerasemo.datasets.catalog import RecordCatalog
    from kerasemo.runs.lineage import find_lineage

    return evaluate_stage(find_lineage(run, stage), RecordCatalog(records), sources=sources)


def evaluate_stage(
    lineage: "Lineage",
    catalog: "RecordCatalog",
    *,
    sources: Sequence[str] | None = None,
    test_outputs: Mapping[str, "NetworkOutputs"] | None = None,
) -> dict[str, Any]:
    """Score a stage on the test split of every source.

    Every clip of an untrained corpus is a test clip.

    Args:
        lineage: The stage.
        catalog: The records of the training, and possibly others.
        sources: The sources to score; None: all in the records.
        test_outputs: Source -> the outputs of the stage's network for its test split, if they are
            known.

    Returns:
        `{"stage", "protocol", "fold", "trained_on", "sources": {source: score}, "not_scored":
        {source: reason}, "matching"}`.

        A score is the result of `scoring.score_clips`, or of `scoring.score_embeddings` for a
        contrastive stage. If the faces and the voices of a corpus were scored, the result also has
        a source `CORPUS/fused`; see `fused_scoring.score_fused`. It is of the test utterances with
        face and voice. The fusion is fitted on validation utterances.

        `matching` is `{"stage_before", "after", "before"}`, with the scores of pairs of clips; see
        `verification.score_pairs`. `after` is by the network of the stage on the scored sources.
        `before` is by the network that the stage started from, on the domains of that network.

    Raises:
        InputError: Records that a stage was trained on are missing.
        DataError: Records differ from the records of the training.
    """
    from kerasemo.datasets.segmentation import Segmentation
    from kerasemo.datasets.sources import corpus_of
    from kerasemo.evaluation import fused_scoring, scoring, stage_predictions
    from kerasemo.metrics import verification

    stage = lineage.last
    requested = catalog.sources if sources is None else sources
    existing = [source for source in requested if source in catalog.sources]
    splits = lineage.split(catalog, existing)
    network = lineage.load_network()
    predict, trained_domains = network.predictor(), network.trained_domains()
    before = lineage.load_network(-2) if stage.config.start_from else None
    segmentation = Segmentation.for_scores(stage.config)
    fused = fused_scoring.FusedEvaluation(
        lineage, catalog, splits, predict, trained_domains, sources=existing
    )
    predict_before = before.predictor() if before else None
    domains_before = before.trained_domains() if before else [False] * len(trained_domains)
    scores, not_scored, clips_after, clips_before = {}, {}, {}, {}
    for source in existing:
        reason = stage_predictions.reason_unscored(
            stage, source, catalog=catalog, splits=splits, trained_domains=trained_domains
        )
        if not reason and stage.config.kind == "contrastive" and stage.scored_split != "test":
            reason = (
                "a contrastive stage is scored when it is trained, and this stage was scored on "
                f"the {stage.scored_split} split"
            )
        if reason:
            not_scored[source] = reason
            continue
        subset = catalog.subset(splits, source, "test", segmentation)
        reason = stage_predictions.reason_without_clips(
            subset, stage.trained_emotions, split="test"
        )
        if reason:
            not_scored[source] = reason
            continue
        outputs = (test_outputs or {}).get(source) or scoring.predict_subset(predict, subset)
        if outputs.logits is None:
            not_scored[source] = stage_predictions.NO_HEAD
            continue
        clips_after[source] = scoring.embedded_clips(outputs, subset)
        if predict_before and domains_before[subset.source.domain]:
            outputs_before = scoring.predict_subset(predict_before, subset)
            clips_before[source] = scoring.embedded_clips(outputs_before, subset)
        if stage.config.kind == "contrastive":
            score = dict(stage.scores[source])
        else:
            score, _ = scoring.score_outputs(
                outputs, subset, trained_emotions=stage.trained_emotions
            )
        fused.add_test_outputs(subset, outputs)
        score["deduplicated"] = splits.is_deduplicated(source)
        score["copies_in_training"] = splits.facts(source).get("copies_train", 0)
        score["transductive"] = segmentation.is_transductive(source)
        score["publisher_split"] = splits.corpus_splits[corpus_of(source)].publisher
        scores[source] = score
    scores |= fused.scores(scores)
    missing = [source for source in requested if source not in catalog.sources]
    not_scored |= dict.fromkeys(missing, f"no records in {catalog.folder}")
    seed = verification.PAIRS_SEED
    return {
        "stage": stage.name,
        "protocol": stage.key.protocol,
        "fold": stage.key.fold,
        "trained_on": list(stage.trained_on),
        "sources": scores,
        "not_scored": not_scored,
        "matching": {
            "stage_before": stage.config.start_from or None,
            "after": verification.score_pairs(clips_after, seed=seed),
            "before": verification.score_pairs(clips_before, seed=seed) if clips_before else None,
        },
    }
