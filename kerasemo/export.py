"""The command `kerasemo.export`: write a trained stage for TF Serving, ONNX or LiteRT."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kerasemo.exporting.exporter import ExportOptions, export_stage
from kerasemo.runs.paths import check_run_folder
from kerasemo.serving.signatures import FORMATS
from pipelines.core.cli import Parser, run_main
from pipelines.core.tensorflow_loading import load_tensorflow


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.export",
        description="Export a trained stage for TF Serving, ONNX Runtime or LiteRT.",
    )
    parser.add_argument(
        "--run", type=Path, required=True, metavar="DIR", help="a run folder of kerasemo.train"
    )
    parser.add_argument(
        "--stage", metavar="S", help="default: joint if it is done, else the stage finished last"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the bundle's folder (default: saved_models/RUN-STAGE[-FORMAT])",
    )
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="the records of the training (default: where they were then)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="default: %(default)s"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON document on standard output instead of a table",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, export, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)

    def work() -> int:
        check_run_folder(arguments.run)
        load_tensorflow()
        from kerasemo.reporting import terminal
        from kerasemo.runs.lineage import find_lineage

        out = arguments.out
        if out is None:
            stage = find_lineage(arguments.run, arguments.stage).last.name
            ending = "" if arguments.format == FORMATS[0] else f"-{arguments.format}"
            out = Path("saved_models") / f"{arguments.run.resolve().name}-{stage}{ending}"
        options = ExportOptions(
            arguments.run, out, arguments.stage, arguments.records, arguments.format
        )
        result = export_stage(options)
        if arguments.json:
            print(json.dumps(result, indent=1))
        else:
            terminal.print_export(result)
        return 0

    return run_main(work, prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
