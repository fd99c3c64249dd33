"""Score a trained stage on the test split of every source in the records."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.core.domains import DOMAINS


@dataclasses.dataclass(frozen=True)
class Options:
    """What an evaluation is asked for."""

    run: Path
    records: Path
    stage: str | None = None
    """None: joint if it is done, else the stage that was finished last."""
    sources: tuple[str, ...] | None = None
    """None: every set in the records."""


def evaluate(options: Options, *, load: Callable[[str], Any] | None = None) -> dict[str, Any]:
    """Score a trained stage on the test side of every source; a corpus that no stage was trained on is all test.

    Args:
        options: What to score.
        load: Reads a source; by default from the records.

    Returns:
        `{"stage", "protocol", "fold", "trained_on", "sources": {source: score}, "not_scored": {source: reason}, "matching"}`; see
        `scoring.score_clips`, and for a contrastive stage `scoring.score_embeddings`. A corpus whose faces and voices were both scored
        has a source `CORPUS/fused` as well: the test utterances that have both, answered by the two together, see `fused_scoring.score`;
        the fusion is fitted on validation utterances. `matching` has the second task, "do these two clips show the same emotion?":
        `{"stage_before", "after", "before"}`, see `verification.score_pairs`. `after` is the stage's own network on the scored sources,
        `before` that of the stage it started from on those whose domain that one had seen; None where there is neither.

    Raises:
        InputError: No such stage, or records that are not those it was trained on.
    """
    from kerasemo.datasets import catalog, segmentation
    from kerasemo.evaluation import fused_scoring, scoring, stage_predictions
    from kerasemo.metrics import verification
    from kerasemo.runs import lineage

    of = lineage.find(options.run, options.stage)
    result, trained = of.result, of.result["trained_emotions"]
    there = lineage.sources_in(options.records)
    asked = [source for source in (options.sources or there) if source in there]
    sides = of.sides(options.records, asked=asked, there=there)
    predict, seen = of.network()
    stage_before = result["key"]["stage"]["start_from"] or None
    predict_before, seen_before = of.network(-2) if stage_before else (None, [False] * len(DOMAINS))
    load = segmentation.loader(options.records, result["key"]["stage"], load)
    both = fused_scoring.Both(of, sides, predict, seen, asked=asked)
    scored, left_out, after, before = {}, {}, {}, {}
    for source in asked:
        reason = (
            "no clip in it"
            if source not in sides.ids
            else stage_predictions.why_not_scored(result, source, seen)
        )
        if reason := reason or segmentation.why_not_read(
            options.records, source, result["key"]["stage"]
        ):
            left_out[source] = reason
        elif result["kind"] == "contrastive" and result["scored"] != "test":
            left_out[source] = (
                f"a contrastive stage is scored when it is trained, and this one was on the {result['scored']} side"
            )
        else:
            loaded = load(source)
            both.validate(loaded)
            side = catalog.side_of(loaded, sides, "test")
            if reason := stage_predictions.why_not_scorable(side, trained, name="test"):
                left_out[source] = reason
                continue
            outputs = scoring.forward(predict, side)
            if "logits" not in outputs:
                left_out[source] = (
                    "the network has a head for each source of its stage, and none for this one"
                )
                continue
            after[source] = scoring.embedded_clips(outputs, side)
            if seen_before[side.source.domain]:
                before[source] = scoring.embedded_clips(scoring.forward(predict_before, side), side)
            if result["kind"] == "contrastive":
                scored[source] = result["sources"][source]
            else:
                scored[source], _ = scoring.score_outputs(outputs, side, trained=trained)
            both.test(side, outputs)
            scored[source]["deduplicated"] = any(sides.dropped[source].values())
            scored[source]["copies_in_training"] = sides.report["sources"][source].get(
                "copies_train", 0
            )
            scored[source]["transductive"] = segmentation.is_transductive(
                source, result["key"]["stage"]
            )
            scored[source]["publisher_split"] = sides.splits[source.partition("/")[0]].publisher
    scored |= both.scores(load, alone=scored)
    document = {key: result[key] for key in ("stage", "protocol", "fold", "trained_on")}
    missing = [source for source in options.sources or () if source not in there]
    second_task = {
        "stage_before": stage_before,
        "after": verification.score_pairs(after, seed=verification.PAIRS_SEED),
        "before": verification.score_pairs(before, seed=verification.PAIRS_SEED)
        if before
        else None,
    }
    left_out |= dict.fromkeys(missing, f"no records in {options.records}")
    return document | {"sources": scored, "not_scored": left_out, "matching": second_task}
