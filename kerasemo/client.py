"""The command `kerasemo.client`: predict sounds and face crops with a served bundle.

`Client` is the same in Python.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from kerasemo.serving.client import Client, FilePrediction, predict_files
from kerasemo.serving.transport import GRPC_PORT, ServingError, parse_url
from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.errors import InputError
from pipelines.core.text import printable

__all__ = ["Client", "FilePrediction", "ServingError", "main", "predict_files"]


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.client",
        description="Predict the emotions of sounds and face crops with a TensorFlow Serving.",
    )
    parser.add_argument(
        "--url", required=True, help=f"http://HOST:8501 (REST) or grpc://HOST:{GRPC_PORT}"
    )
    parser.add_argument(
        "--model",
        default="kerasemo",
        metavar="NAME",
        help="the name that the server gives the model; default: kerasemo",
    )
    parser.add_argument(
        "--version",
        type=positive_int,
        metavar="N",
        help="the version of the model; default: the newest",
    )
    parser.add_argument(
        "--timeout",
        type=positive_int,
        default=30,
        metavar="SECONDS",
        help="the longest time of one request; default: 30",
    )
    parser.add_argument(
        "--json", action="store_true", help="JSON Lines on standard output instead of the table"
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="WAV (16 kHz, mono, 16-bit), or a face crop as JPEG or PNG",
    )
    return parser


def _run(arguments: argparse.Namespace, *, prog: str) -> int:
    """Predict the files, print the results, and return the exit status."""
    predictions: list[FilePrediction] = []
    with Client(
        arguments.url,
        model=arguments.model,
        version=arguments.version,
        timeout_seconds=arguments.timeout,
    ) as client:
        for prediction in predict_files(client, arguments.files):
            if prediction.error:
                message = f"{prog}: {printable(prediction.path)}: {prediction.error}"
                print(message, file=sys.stderr)
            else:
                predictions.append(prediction)
            if arguments.json:
                print(json.dumps(prediction.to_json()), flush=True)
    if predictions and not arguments.json:
        from kerasemo.reporting import terminal

        terminal.print_file_predictions([prediction.to_json() for prediction in predictions])
    return 0 if predictions else 1


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, predict the files, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        parse_url(arguments.url)
    except InputError as error:
        parser.error(str(error))
    return run_main(lambda: _run(arguments, prog=parser.prog), prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
