"""The command `kerasemo.client`: predict with a TensorFlow Serving that serves a bundle."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasemo.serving.client import Client, predict_files
from kerasemo.serving.transport import GRPC_PORT, ServingError, parse_url
from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.errors import KerasemoError
from pipelines.core.text import printable

__all__ = ["Client", "ServingError", "main", "predict_files"]


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


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, predict, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        parse_url(arguments.url)
    except KerasemoError as error:
        parser.error(str(error))

    def print_result(result: dict[str, Any]) -> None:
        if "error" in result:
            path = printable(result["path"])
            print(f"{parser.prog}: {path}: {result['error']}", file=sys.stderr)
        if arguments.json:
            print(json.dumps(result), flush=True)

    def predict() -> int:
        with Client(
            arguments.url,
            model=arguments.model,
            version=arguments.version,
            timeout_seconds=arguments.timeout,
        ) as client:
            results = predict_files(client, arguments.files, on_result=print_result)
        predicted = [result for result in results if "error" not in result]
        if predicted and not arguments.json:
            from kerasemo.reporting import terminal

            terminal.print_file_predictions(predicted)
        return 0 if predicted else 1

    return run_main(predict, prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
