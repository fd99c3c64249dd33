"""The command `kerasemo.evaluate`: score a trained stage on every source in the records."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.runs.paths import check_records_folder, check_run_folder
from pipelines.core.cli import Parser, run_main
from pipelines.core.tensorflow_loading import load_tensorflow


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.evaluate",
        description="Score a trained stage on every source in the records, "
        "or an exported model on the clips that it was not "
        "trained on.",
    )
    model_options = parser.add_mutually_exclusive_group(required=True)
    model_options.add_argument(
        "--run", type=Path, metavar="DIR", help="a run folder of kerasemo.train"
    )
    model_options.add_argument(
        "--model",
        metavar="DIR",
        help="an exported model: its folder, or the name of a preset",
    )
    parser.add_argument(
        "--stage",
        metavar="S",
        help="a stage of the run (default: joint if it is finished, else the stage finished last)",
    )
    parser.add_argument(
        "--records",
        type=Path,
        required=True,
        metavar="DIR",
        help="sets of records; for a run also those of the training",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document instead of the tables",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, evaluate, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.model is not None and arguments.stage is not None:
        parser.error("--stage is for a run folder; an exported model has one stage: leave it out")

    def work() -> int:
        from kerasemo.reporting import terminal

        if arguments.run is not None:
            check_run_folder(arguments.run)
        check_records_folder(arguments.records)
        load_tensorflow()
        if arguments.model is None:
            result = evaluate_run(arguments.run, arguments.records, arguments.stage)
            print_result = terminal.print_evaluation
        else:
            from kerasemo.evaluation import bundle_scoring
            from kerasemo.serving.bundle import Bundle

            result = bundle_scoring.evaluate_bundle(Bundle.load(arguments.model), arguments.records)
            print_result = terminal.print_model_evaluation
        if arguments.json:
            print(json.dumps(result, indent=1))
        else:
            print_result(result)
        return 0

    return run_main(work, prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
