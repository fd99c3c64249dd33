"""`python -m kerasemo.evaluate`: the scores of a trained stage on every source in the records."""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.cli import Parser, load_tensorflow, run_main
from pipelines.spec import DOMAINS, InputError

PAIRS_SEED = 0
"""Of the pairs that are drawn where there are too many to ask all: one for all runs, so that they are asked the same."""


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
        `scores.score_logits`, and for a contrastive stage `scores.score_embeddings`. `matching` has the second task, "do these
        two clips show the same emotion?": `{"stage_before", "after", "before"}`, see `matching.score_pairs`. `after` is the
        stage's own network on the scored sources, `before` that of the stage it started from on those whose domain that one
        had seen; None where there is neither.

    Raises:
        InputError: No such stage, or records that are not those it was trained on.
    """
    from kerasemo import chain, data, matching, scores

    ancestry = _ancestry(options.run, options.stage)
    result = ancestry[-1]
    there = sources_in(options.records)
    asked = [source for source in (options.sources or there) if source in there]
    trained_on = sorted({source for stage in ancestry for source in stage["trained_on"]})
    absent = [source for source in trained_on if source not in there]
    if absent:
        raise InputError(
            f"{options.records}: lacks {', '.join(absent)}, which stage {result['stage']!r} comes from, so nothing shows that no test "
            "clip was trained on; name the records of the training"
        )
    sides = chain.gated_sides(options.records, asked, trained_on=trained_on, protocol=result["protocol"], fold=result["fold"])
    for stage in ancestry:
        _check_same_sides(stage, sides.digests, options.records)
    predict, seen = _network(options.run, result)
    stage_before = result["key"]["stage"]["start_from"] or None
    predict_before, seen_before = _network(options.run, ancestry[-2]) if stage_before else (None, [False] * len(DOMAINS))
    load = load or (lambda source: data.read_source(options.records, source))
    scored, left_out, after, before = {}, {}, {}, {}
    for source in asked:
        domain = source.partition("/")[2]
        if source not in sides.ids:
            left_out[source] = "no clip in it"
        elif not seen[DOMAINS.index(domain)]:
            left_out[source] = f"the network has not been trained on {domain} yet"
        elif result["kind"] == "contrastive" and source not in result["trained_on"]:
            left_out[source] = "a contrastive stage has no answers of its own; it is scored by pairs of the sources it was trained on"
        elif result["kind"] == "contrastive" and result["scored"] != "test":
            left_out[source] = f"a contrastive stage is scored when it is trained, and this one was on the {result['scored']} side"
        else:
            side = chain.side_of(load(source), sides, "test")
            reason = _not_scorable(side, side.source.emotions, result["trained_emotions"])
            if reason:
                left_out[source] = reason
                continue
            outputs = scores.forward(predict, side)
            if "logits" not in outputs:
                left_out[source] = "the network has a head for each source of its stage, and none for this one"
                continue
            after[source] = scores.embedded_clips(outputs, side)
            if seen_before[DOMAINS.index(domain)]:
                before[source] = scores.embedded_clips(scores.forward(predict_before, side), side)
            if result["kind"] == "contrastive":
                scored[source] = result["sources"][source]
            else:
                scored[source], _ = scores.score_outputs(outputs, side, trained=result["trained_emotions"])
            scored[source]["deduplicated"] = any(sides.dropped[source].values())
            scored[source]["publisher_split"] = sides.splits[source.partition("/")[0]].publisher
    document = {key: result[key] for key in ("stage", "protocol", "fold", "trained_on")}
    missing = [source for source in options.sources or () if source not in there]
    second_task = {
        "stage_before": stage_before,
        "after": matching.score_pairs(after, seed=PAIRS_SEED),
        "before": matching.score_pairs(before, seed=PAIRS_SEED) if before else None,
    }
    left_out |= dict.fromkeys(missing, f"no records in {options.records}")
    return document | {"sources": scored, "not_scored": left_out, "matching": second_task}


def _network(run: Path, result: dict[str, Any]) -> tuple[Callable, Any]:
    """Return what runs the network of a finished stage, and bool [domains]: which it has been trained on."""
    from kerasemo import runs, scores

    network = runs.load_network(run / result["stage"], result)
    return scores.predictor(network, heads=runs.heads_of(result["key"])), runs.seen_domains(network)


def sources_in(folder: Path) -> list[str]:
    """Return the sources whose sets stand in a folder of records; InputError where there is none."""
    from pipelines import records

    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected sets of records, made with python -m pipelines.build --out {folder}")
    there = [f"{path.parent.name}/{path.name}" for path in records.find_sets(folder) if path.parent.parent == folder]
    if not there:
        raise InputError(
            f"{folder}: no set NAME/DOMAIN of records in it; name the folder that was given as --out to python -m pipelines.build"
        )
    return there


def _not_scorable(side, corpus: Sequence[str], trained: Sequence[str]) -> str:
    if not len(side.items):
        return "no clip on the test side of this fold"
    shared = set(corpus) & set(trained)
    test = {side.source.rows[clip]["emotion"] for clip in side.source.clip_of[side.items]}
    return "" if shared & test else f"no emotion in common with those trained on ({', '.join(trained)})"


def _ancestry(run: Path, stage: str | None) -> list[dict[str, Any]]:
    """Return the results of a stage and of those it started from, itself last."""
    from kerasemo import runs

    if not run.is_dir():
        raise InputError(f"{run}: no such run folder; train one with python -m kerasemo.train --run {run}")
    done = sorted(run.glob("*/metrics.json"), key=lambda path: path.stat().st_mtime_ns)
    names = [path.parent.name for path in done]
    if stage is None:
        if not names:
            raise InputError(f"{run}: no finished stage in it; train one with python -m kerasemo.train --run {run}")
        stage = "joint" if "joint" in names else names[-1]
    if stage not in names:
        raise InputError(f"{run}: stage {stage!r} is not finished there; it has {', '.join(sorted(names)) or 'none'}")
    result = runs.finished(run / stage)
    before = result["key"]["stage"]["start_from"]
    return [*(_ancestry(run, before) if before else []), result]


def _check_same_sides(stage: dict[str, Any], digests: dict[str, str], records: Path) -> None:
    """Refuse records whose sides are not those of the training: a test clip could have been trained on."""
    for source, digest in stage["key"]["sides"].items():
        if source in digests and digests[source] != digest:
            raise InputError(
                f"{records}/{source}: its sides are not those that stage {stage['stage']!r} was trained on, so a test clip could "
                "have been trained on; name the records of the training, or train again"
            )


def _parser() -> Parser:
    parser = Parser(prog="python -m kerasemo.evaluate", description="Score a trained stage on every source in the records.")
    parser.add_argument("--run", type=Path, required=True, metavar="DIR", help="a run folder of kerasemo.train")
    parser.add_argument("--stage", metavar="S", help="default: joint if it is done, else the stage finished last")
    parser.add_argument("--records", type=Path, required=True, metavar="DIR", help="sets of records, those of the training among them")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output instead of the tables")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, evaluate, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> int:
        from kerasemo import tables

        load_tensorflow()
        result = evaluate(Options(arguments.run, arguments.records, arguments.stage))
        if arguments.json:
            print(json.dumps(result, indent=1))
        else:
            tables.print_evaluation(result)
        return 0

    return run_main(work, prog=parser.prog)


if __name__ == "__main__":
    sys.exit(main())
