"""`python -m kerasemo.evaluate`: the scores of a trained stage on every source in the records."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kerasemo.folders import check_records, check_run
from pipelines.cli import Parser, load_tensorflow, run_main
from pipelines.spec import DOMAINS


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
        `scores.score_clips`, and for a contrastive stage `scores.score_embeddings`. A corpus whose faces and voices were both scored
        has a source `CORPUS/fused` as well: the test utterances that have both, answered by the two together, see `fused.score`;
        the fusion is fitted on validation utterances. `matching` has the second task, "do these two clips show the same emotion?":
        `{"stage_before", "after", "before"}`, see `matching.score_pairs`. `after` is the stage's own network on the scored sources,
        `before` that of the stage it started from on those whose domain that one had seen; None where there is neither.

    Raises:
        InputError: No such stage, or records that are not those it was trained on.
    """
    from kerasemo import answers, fused, holdings, lineage, matching, scores, utterances

    of = lineage.find(options.run, options.stage)
    result, trained = of.result, of.result["trained_emotions"]
    there = lineage.sources_in(options.records)
    asked = [source for source in (options.sources or there) if source in there]
    sides = of.sides(options.records, asked=asked, there=there)
    predict, seen = of.network()
    stage_before = result["key"]["stage"]["start_from"] or None
    predict_before, seen_before = of.network(-2) if stage_before else (None, [False] * len(DOMAINS))
    load = utterances.loader(options.records, result["key"]["stage"], load)
    both = fused.Both(of, sides, predict, seen, asked=asked)
    scored, left_out, after, before = {}, {}, {}, {}
    for source in asked:
        reason = (
            "no clip in it"
            if source not in sides.ids
            else answers.why_not_scored(result, source, seen)
        )
        if reason := reason or utterances.why_not_read(
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
            side = holdings.side_of(loaded, sides, "test")
            if reason := answers.why_not_scorable(side, trained, name="test"):
                left_out[source] = reason
                continue
            outputs = scores.forward(predict, side)
            if "logits" not in outputs:
                left_out[source] = (
                    "the network has a head for each source of its stage, and none for this one"
                )
                continue
            after[source] = scores.embedded_clips(outputs, side)
            if seen_before[side.source.domain]:
                before[source] = scores.embedded_clips(scores.forward(predict_before, side), side)
            if result["kind"] == "contrastive":
                scored[source] = result["sources"][source]
            else:
                scored[source], _ = scores.score_outputs(outputs, side, trained=trained)
            both.test(side, outputs)
            scored[source]["deduplicated"] = any(sides.dropped[source].values())
            scored[source]["copies_in_training"] = sides.report["sources"][source].get(
                "copies_train", 0
            )
            scored[source]["transductive"] = utterances.is_transductive(
                source, result["key"]["stage"]
            )
            scored[source]["publisher_split"] = sides.splits[source.partition("/")[0]].publisher
    scored |= both.scores(load, alone=scored)
    document = {key: result[key] for key in ("stage", "protocol", "fold", "trained_on")}
    missing = [source for source in options.sources or () if source not in there]
    second_task = {
        "stage_before": stage_before,
        "after": matching.score_pairs(after, seed=matching.PAIRS_SEED),
        "before": matching.score_pairs(before, seed=matching.PAIRS_SEED) if before else None,
    }
    left_out |= dict.fromkeys(missing, f"no records in {options.records}")
    return document | {"sources": scored, "not_scored": left_out, "matching": second_task}


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.evaluate",
        description="Score a trained stage on every source in the records, or an exported model on those of their clips it was not "
        "trained on.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", type=Path, metavar="DIR", help="a run folder of kerasemo.train")
    what.add_argument(
        "--model",
        metavar="DIR",
        help="an exported model: its folder, or the name of one that is shipped",
    )
    parser.add_argument(
        "--stage",
        metavar="S",
        help="of a run; default: joint if it is done, else the stage finished last",
    )
    parser.add_argument(
        "--records",
        type=Path,
        required=True,
        metavar="DIR",
        help="sets of records; of a run those of the training too",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON document on standard output instead of the tables",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, evaluate, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.model is not None and arguments.stage is not None:
        parser.error("--stage is of a run folder; an exported model is of one stage: leave it out")

    def work() -> int:
        from kerasemo import tables

        if arguments.run is not None:
            check_run(arguments.run)
        check_records(arguments.records)
        load_tensorflow()
        if arguments.model is None:
            result, show = (
                evaluate(Options(arguments.run, arguments.records, arguments.stage)),
                tables.print_evaluation,
            )
        else:
            from kerasemo import served_scores
            from kerasemo.bundle import Bundle

            result, show = (
                served_scores.evaluate(Bundle.load(arguments.model), arguments.records),
                tables.print_served,
            )
        if arguments.json:
            print(json.dumps(result, indent=1))
        else:
            show(result)
        return 0

    return run_main(work, prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
