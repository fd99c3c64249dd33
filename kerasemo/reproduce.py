"""`python -m kerasemo.reproduce`: every fold and seed of an experiment's stages, in one table beside the figures of others."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kerasemo.config.schema import PROTOCOLS
from kerasemo.runs.paths import check_records
from kerasemo.studies.reproduction import Options, chosen, reproduce
from pipelines.core.cli import Parser, name_pairs, names, natural_int, positive_int, run_main
from pipelines.core.errors import KerasemoError
from pipelines.core.tensorflow_loading import load_tensorflow


def numbers(text: str) -> tuple[int, ...] | None:
    """Parse `all`, which is None, or numbers such as 0,4,8 (an argparse type).

    >>> numbers("0,4,8"), numbers("all")
    ((0, 4, 8), None)
    """
    if text == "all":
        return None
    parts = text.split(",")
    if all(part.isdecimal() for part in parts):
        return tuple(sorted(set(map(int, parts))))
    raise argparse.ArgumentTypeError(
        f"expected all, or numbers from 0 such as 0,4,8; received {text!r}"
    )


def seeds(text: str) -> tuple[int, ...]:
    """Parse how many seeds, counted from 0, or, where there is a comma, which (an argparse type).

    >>> seeds("3"), seeds("1,2"), seeds("7,")
    ((0, 1, 2), (1, 2), (7,))
    """
    if "," not in text:
        return tuple(range(positive_int(text)))
    return tuple(sorted({natural_int(part) for part in text.removesuffix(",").split(",")}))


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Parse pairs of names such as joint:pooled (an argparse type); several stages, whose mean on a source counts, are joined by +.

    >>> pairs("joint:pooled,joint:voice+face")
    (('joint', 'pooled'), ('joint', 'voice+face'))
    """
    found = name_pairs(text)
    if found is not None and all(all(side.split("+")) for pair in found for side in pair):
        return found
    expected = "pairs of two stages such as joint:pooled, or of several, joint:voice+face"
    raise argparse.ArgumentTypeError(f"expected {expected}; received {text!r}")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.reproduce",
        description="Train every fold and seed of an experiment's stages and put the scores in one table beside the figures of others.\n"
        "The same command goes on from what is finished. The scores are those of the validation side; the test side is looked at only\n"
        "with --final, and every look is written down in RUN/looks.jsonl.",
    )
    parser.add_argument(
        "--experiment",
        required=True,
        metavar="NAME",
        help="such as sample, open, emodb, or a .toml file",
    )
    parser.add_argument(
        "--records", type=Path, required=True, metavar="DIR", help="sets of records"
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="the run folder (default: runs/reproduce-EXPERIMENT)",
    )
    parser.add_argument(
        "--protocol", choices=PROTOCOLS, default=PROTOCOLS[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--folds",
        type=numbers,
        default=None,
        metavar="all|K,...",
        help="such as 0,4,8 (default: all)",
    )
    parser.add_argument(
        "--seeds",
        type=seeds,
        default=(0,),
        metavar="N|K,...",
        help="how many, or which, such as 1,2 (default: 0 alone)",
    )
    parser.add_argument(
        "--stages",
        type=names,
        default=(),
        metavar="S,...",
        help="default: every stage of the experiment",
    )
    parser.add_argument(
        "--final", action="store_true", help="look at the test side, and write the look down"
    )
    parser.add_argument("--epochs", type=positive_int, metavar="N", help="epochs of every stage")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="STAGE.KEY=VALUE",
        help="such as joint.margin=0.8",
    )
    parser.add_argument(
        "--keep-copies",
        action="store_true",
        help="as published: leave copies of test clips in the training side of a publisher's split, and stamp the result",
    )
    parser.add_argument(
        "--compare",
        type=pairs,
        default=(),
        metavar="A:B,...",
        help="how much better stage A is than B (or than B+C: on each source the\nmean of those trained on it), by speaker",
    )
    parser.add_argument(
        "--listeners",
        type=Path,
        metavar="FILE",
        help="EMO-DB's erkennung.txt, for the listeners' row",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="of tables.md, .csv, .json, page.html and answers.csv (default: RUN/tables)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="default: bfloat16 on GPUs made for it",
    )
    parser.add_argument(
        "--compiler",
        choices=("auto", "xla", "none"),
        default="auto",
        help="default: XLA on one GPU",
    )
    parser.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        metavar="N",
        help="networks trained side by side, by processes that share the processors",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON document on standard output instead of the table",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run, print, and return the exit status: 1 where a network failed."""
    parser = _parser()
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = vars(parser.parse_args(given))
    as_json = arguments.pop("json")
    words = ("python", "-m", "kerasemo.reproduce", *given)
    options = Options(**arguments | {"settings": tuple(arguments["settings"]), "words": words})
    try:
        chosen(options)
    except KerasemoError as error:
        parser.error(str(error))

    def work() -> int:
        check_records(options.records)
        load_tensorflow()
        from kerasemo.reporting import terminal

        result = reproduce(options, log=lambda line: print(line, file=sys.stderr, flush=True))
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            terminal.print_study(result, options.out or Path(result["run"]) / "tables")
        return 1 if result["failed"] else 0

    return run_main(work, prog=parser.prog)


if __name__ == "__main__":
    sys.exit(main())
