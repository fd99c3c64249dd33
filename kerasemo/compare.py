"""The command `kerasemo.compare`: scores of predictions in files, and their differences."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kerasemo.analysis.comparison import compare_files
from pipelines.core.cli import Parser, name_pairs, names, run_main
from pipelines.core.errors import InputError


def parse_file_and_stage(text: str) -> tuple[Path, str]:
    """Parse FILE or FILE:STAGE (an argparse type). The part before the colon must be a file.

    >>> parse_file_and_stage("no/such/answers.csv:joint")
    (PosixPath('no/such/answers.csv:joint'), '')
    """
    name, _, stage = text.rpartition(":")
    if not text or text.endswith(":"):
        raise argparse.ArgumentTypeError(f"expected FILE or FILE:STAGE; received {text!r}")
    return (
        (Path(name), stage)
        if not os.path.isfile(text) and os.path.isfile(name)
        else (Path(text), "")
    )


def parse_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Parse pairs of stages such as joint:pooled (an argparse type).

    A pair cannot have a name FILE:STAGE, because the colon separates the stages of the pair.

    >>> parse_pairs("joint:pooled,after:scratch")
    (('joint', 'pooled'), ('after', 'scratch'))
    """
    pairs = name_pairs(text)
    if pairs is not None:
        return pairs
    raise argparse.ArgumentTypeError(
        f"expected pairs of two stages such as joint:pooled; received {text!r}"
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.compare",
        description="Score predictions in files (answers.csv of kerasemo.reproduce, or your own CSV"
        " with\n"
        "the columns id, speaker, emotion, answer) and tell by how much one stage is better than "
        "another. Clips are matched\nby their id; kerasemo's are paths below the corpus "
        "(wav/03a01Fa.wav), its speakers corpus:id (emodb:03). Columns that may be\nthere as "
        "well: stage, source, side, protocol, network, seed, fold.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=parse_file_and_stage,
        metavar="FILE[:STAGE]",
        help="answers, of one stage or of all",
    )
    parser.add_argument(
        "--compare",
        type=parse_pairs,
        default=(),
        metavar="A:B,...",
        help="the difference of stage A from B, or from the mean of B+C\n"
        "(default: the first stage from each other one)",
    )
    parser.add_argument(
        "--sources",
        type=names,
        default=(),
        metavar="S,...",
        help="such as emodb/audio (default: all that the files have)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON document on standard output instead of the tables",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the files of the command line, print, and return the exit status.

    The status is 1 if nothing can be compared.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> int:
        result = compare_files(arguments.files, arguments.compare, sources=arguments.sources)
        if arguments.json:
            print(json.dumps(result, indent=1))
        else:
            from kerasemo.reporting import terminal

            terminal.print_comparison(result)
        comparisons = result["comparisons"]
        if comparisons and all("refused" in comparison for comparison in comparisons):
            raise InputError(f"nothing could be compared: {comparisons[0]['refused']}")
        return 0

    return run_main(work, prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
