"""The command `kerasemo.reproduce`: train all folds and seeds, and write one table."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kerasemo.config.schema import PROTOCOLS
from kerasemo.runs.paths import check_records_folder
from kerasemo.studies.reproduction import (
    ReproductionOptions,
    load_reproduced_experiment,
    reproduce,
)
from pipelines.core.cli import Parser, name_pairs, names, natural_int, positive_int, run_main
from pipelines.core.errors import KerasemoError
from pipelines.core.tensorflow_loading import load_tensorflow


def parse_folds(text: str) -> tuple[int, ...] | None:
    """Parse `all`, which is None, or numbers such as 0,4,8 (an argparse type).

    >>> parse_folds("0,4,8"), parse_folds("all")
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


def parse_seeds(text: str) -> tuple[int, ...]:
    """Parse a number of seeds from 0, or the seeds themselves with a comma (an argparse type).

    >>> parse_seeds("3"), parse_seeds("1,2"), parse_seeds("7,")
    ((0, 1, 2), (1, 2), (7,))
    """
    if "," not in text:
        return tuple(range(positive_int(text)))
    return tuple(sorted({natural_int(part) for part in text.removesuffix(",").split(",")}))


def parse_stage_pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Parse pairs of stages such as joint:pooled; `A+B` is the mean of A and B (an argparse type).

    >>> parse_stage_pairs("joint:pooled,joint:voice+face")
    (('joint', 'pooled'), ('joint', 'voice+face'))
    """
    pairs = name_pairs(text)
    sides = [side for pair in pairs or () for side in pair]
    if pairs is not None and all(all(side.split("+")) for side in sides):
        return pairs
    expected = "pairs of stages such as joint:pooled, or joint:voice+face for a mean"
    raise argparse.ArgumentTypeError(f"expected {expected}; received {text!r}")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.reproduce",
        description="Train every fold and seed of an experiment, and write the scores in one table "
        "next to published figures.\n"
        "The same command resumes. The scores are those of the validation split. Only --final "
        "predicts the test split,\nand RUN/looks.jsonl logs every evaluation on test clips.",
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
        type=parse_folds,
        default=None,
        metavar="all|K,...",
        help="such as 0,4,8 (default: all)",
    )
    parser.add_argument(
        "--seeds",
        type=parse_seeds,
        default=(0,),
        metavar="N|K,...",
        help="the number of seeds, or the seeds, such as 1,2 (default: seed 0)",
    )
    parser.add_argument(
        "--stages",
        type=names,
        default=(),
        metavar="S,...",
        help="default: every stage of the experiment",
    )
    parser.add_argument(
        "--final", action="store_true", help="predict the test split, and log the evaluation"
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
        help="as published: keep copies of test clips in the training split of a publisher, "
        "and say so in the result",
    )
    parser.add_argument(
        "--compare",
        type=parse_stage_pairs,
        default=(),
        metavar="A:B,...",
        help="the difference of stage A from B, by speaker (B+C: on each source\n"
        "the mean of those trained on it)",
    )
    parser.add_argument(
        "--listeners",
        type=Path,
        metavar="FILE",
        help="erkennung.txt of EMO-DB, for the row of the listeners",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of tables.md, .csv, .json, page.html and answers.csv (default: RUN/tables)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="default: bfloat16 on GPUs with units for it",
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
        help="networks trained side by side, each in a process",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document instead of the table",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run, print, and return the exit status: 1 if a network failed."""
    parser = _parser()
    words_of_user = list(sys.argv[1:] if argv is None else argv)
    arguments = vars(parser.parse_args(words_of_user))
    as_json = arguments.pop("json")
    words = ("python", "-m", "kerasemo.reproduce", *words_of_user)
    options = ReproductionOptions(
        **arguments | {"settings": tuple(arguments["settings"]), "words": words}
    )
    try:
        load_reproduced_experiment(options)
    except KerasemoError as error:
        parser.error(str(error))

    def work() -> int:
        check_records_folder(options.records)
        load_tensorflow()
        from kerasemo.reporting import terminal

        result = reproduce(options)
        if as_json:
            print(json.dumps(result, indent=1))
        else:
            terminal.print_study(result, options.out or Path(result["run"]) / "tables")
        return 1 if result["failed"] else 0

    return run_main(work, prog=parser.prog)


if __name__ == "__main__":
    sys.exit(main())
