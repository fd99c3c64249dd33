"""`python -m kerasemo.client`: asks a TensorFlow Serving that serves an exported bundle; `Client` is the same in Python."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kerasemo.serving.client import Client, ask
from kerasemo.serving.transport import GRPC_PORT, ServingError, address
from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.errors import KerasemoError
from pipelines.core.text import printable

__all__ = ["Client", "ServingError", "ask", "main"]


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.client",
        description="Ask a TensorFlow Serving the emotions of sounds and face crops.",
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
        "--version", type=positive_int, metavar="N", help="of the model; default: the newest"
    )
    parser.add_argument(
        "--timeout",
        type=positive_int,
        default=30,
        metavar="SECONDS",
        help="for one answer; default: 30",
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
    """Parse the command line, ask, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        address(arguments.url)
    except KerasemoError as error:
        parser.error(str(error))

    def tell(answer: dict[str, Any]) -> None:
        if "error" in answer:
            print(f"{parser.prog}: {printable(answer['path'])}: {answer['error']}", file=sys.stderr)
        if arguments.json:
            print(json.dumps(answer), flush=True)

    def work() -> int:
        with Client(
            arguments.url,
            model=arguments.model,
            version=arguments.version,
            timeout_seconds=arguments.timeout,
        ) as client:
            answers = ask(client, arguments.files, tell=tell)
        answered = [answer for answer in answers if "error" not in answer]
        if answered and not arguments.json:
            from kerasemo.reporting import terminal

            terminal.print_file_predictions(answered)
        return 0 if answered else 1

    return run_main(work, prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
