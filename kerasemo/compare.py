"""`python -m kerasemo.compare`: the scores of answers that are kept in files, and by how much some are better than others."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.cli import Parser, run_main
from pipelines.spec import EMOTIONS, InputError


def compare(files: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """Score the answers of files, and compare the first stage in them with every other, speaker by speaker, the seeds averaged first.

    Args:
        files: CSV files, see `kerasemo.answered.read`, each with the stage to take of it; none: all of the file.

    Returns:
        `{"rows": [score], "comparisons": [{"stages", "source", "emotions", "ua", "wa"}], "not_scored": {}}`. A score is that of
        `kerasemo.pooled.score` over all emotions that the clips have, with `stage` and `source`. A comparison is that of
        `kerasemo.pooled.compare`, corrected for their number, on each source that both have, or, where one file names none, on the
        only one of the other; one that cannot be made has `refused` in place of `ua` and `wa`.

    Raises:
        InputError: A file is not as expected, or has no such stage.
    """
    from kerasemo import pooled

    named = _named(files)
    emotions = {place: [name for name in EMOTIONS if EMOTIONS.index(name) in pool.labels] for place, pool in named.items()}
    rows = [
        {"stage": stage, "source": source, "level": "clip", "stamps": []}
        | pooled.score(pool, shared=emotions[stage, source], corpus=emotions[stage, source])
        for (stage, source), pool in named.items()
    ]
    comparisons = []
    first, *others = dict.fromkeys(stage for stage, _ in named)
    for other in others:
        couples = _couples({source for stage, source in named if stage == first}, {source for stage, source in named if stage == other})
        for one, beside in couples:
            both = [named[first, one], named[other, beside]]
            shared = [name for name in emotions[first, one] if name in emotions[other, beside]]
            entry = {"stages": [first, other], "source": one or beside, "emotions": shared}
            try:
                entry |= {name: pooled.compare(*both, emotions=shared, name=name) for name in ("ua", "wa")}
            except InputError as error:
                entry["refused"] = str(error)
            comparisons.append(entry)
        if not couples:
            comparisons.append({"stages": [first, other], "source": "", "refused": "no source that both were asked about"})
    return {"rows": rows, "comparisons": pooled.corrected(comparisons), "not_scored": {}}


def _named(files: Sequence[tuple[Path, str]]) -> dict[tuple[str, str], Any]:
    """Return the pools of files by stage and source; of a stage that is in several files the name has that of the file, too."""
    from kerasemo import answered

    found = []
    for path, stage in files:
        own = answered.read(path)
        if stage and stage not in {name for name, _ in own}:
            there = ", ".join(dict.fromkeys(name for name, _ in own))
            raise InputError(f"{path}: no stage {stage!r}; expected one of {there}")
        found.append((path, {place: pool for place, pool in own.items() if stage in ("", place[0])}))
    of_files = [{stage for stage, _ in own} for _, own in found]
    several = {stage for stages in of_files for stage in stages if sum(stage in other for other in of_files) > 1}
    named: dict[tuple[str, str], Any] = {}
    for path, own in found:
        for (stage, source), pool in own.items():
            place = (f"{path}:{stage}" if stage in several else stage, source)
            if place in named:
                raise InputError(f"{path}: stage {stage!r} is named twice; expected two that differ")
            named[place] = pool
    return named


def _couples(one: set[str], other: set[str]) -> list[tuple[str, str]]:
    """Return the sources of two stages that belong together.

    >>> _couples({"emodb/audio", "ravdess/audio"}, {"emodb/audio"}), _couples({"emodb/audio"}, {""})
    ([('emodb/audio', 'emodb/audio')], [('emodb/audio', '')])
    """
    if len(one) == len(other) == 1 and "" in one | other:
        return [(*one, *other)]
    return [(source, source) for source in sorted(one & other)]


def file_and_stage(text: str) -> tuple[Path, str]:
    """Parse FILE or FILE:STAGE (an argparse type); what is a file as a whole is one.

    >>> file_and_stage("no/such/answers.csv:joint")
    (PosixPath('no/such/answers.csv'), 'joint')
    """
    name, colon, stage = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), ""
    if not name or not stage:
        raise argparse.ArgumentTypeError(f"expected FILE or FILE:STAGE; received {text!r}")
    return Path(name), stage


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.compare",
        description="Score answers that are kept in files (answers.csv beside the tables of kerasemo.reproduce, or a CSV of your own with\n"
        "the columns id, speaker, emotion, answer) and tell by how much the first stage is better than each other.",
    )
    parser.add_argument("files", nargs="+", type=file_and_stage, metavar="FILE[:STAGE]", help="answers, of one stage or of all")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output instead of the tables")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, score, compare, print, and return the exit status: 1 where a comparison cannot be made."""
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> int:
        result = compare(arguments.files)
        if arguments.json:
            print(json.dumps(result, indent=1))
        else:
            from kerasemo import shown

            shown.show_comparison(result)
        return 1 if any("refused" in one for one in result["comparisons"]) else 0

    return run_main(work, prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
