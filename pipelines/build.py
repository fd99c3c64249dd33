"""The command `pipelines.build`: turn a folder of clips into sets of records, one per domain."""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.building.builder import BuildOptions, build
from pipelines.building.graph import StalledError
from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError, InputError
from pipelines.core.labels import EMOTIONS, SYNONYMS, read_label_map
from pipelines.core.spec import Spec
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.core.text import pluralize
from pipelines.corpora import LOADERS


def _parser() -> Parser:
    parser = Parser(
        prog="python -m pipelines.build",
        description="Turn a folder of clips into records, one set per domain.",
    )
    parser.add_argument(
        "--corpus",
        type=_kind,
        metavar="KIND",
        help=f"one of {', '.join(LOADERS)}",
    )
    parser.add_argument(
        "--media",
        type=Path,
        metavar="DIR",
        help="the folder of clips (or, for folder, a CSV manifest)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of the sets: DIR/NAME/DOMAIN"
    )
    parser.add_argument("--name", help="the name of the corpus in the sets (default: KIND)")
    parser.add_argument(
        "--domain",
        type=_domains,
        default=(),
        metavar="visual,audio",
        help="only these domains (default: all domains of the corpus)",
    )
    parser.add_argument(
        "--faces",
        choices=("detect", "as-is"),
        default="detect",
        help="as-is: each picture is a face",
    )
    parser.add_argument(
        "--detector",
        default="viola-jones",
        metavar="NAME",
        help="the detector of faces (default: %(default)s)",
    )
    parser.add_argument(
        "--audio-decoder",
        choices=("av", "tfio"),
        default="av",
        help="tfio: tensorflow-io, in the graph (default: av)",
    )
    parser.add_argument(
        "--frames-per-clip",
        type=positive_int,
        default=Spec.frames_per_clip,
        metavar="N",
        help="the number of frames per clip (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="the number of processes that decode (default: one per processor)",
    )
    parser.add_argument("--waveform", action="store_true", help="also store the sound (int16)")
    parser.add_argument("--song", action="store_true", help="ravdess: read the songs too")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE.toml",
        help="folder: a table [labels] with your words and their emotions",
    )
    parser.add_argument(
        "--list-labels",
        action="store_true",
        help="instead of building: print the emotions and the known words",
    )
    parser.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="read only N clips of each domain, evenly spaced by name",
    )
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="DIR",
        help="instead of building: verify a set, or every set in a folder",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON document instead of a table",
    )
    return parser


def _kind(text: str) -> str:
    if text not in LOADERS:
        raise argparse.ArgumentTypeError(
            f"expected one of {', '.join(LOADERS)}; received {text!r}; "
            "for any other corpus use folder"
        )
    return text


def _domains(text: str) -> tuple[str, ...]:
    domains = tuple(dict.fromkeys(text.split(",")))
    if not set(domains) <= set(DOMAINS):
        raise argparse.ArgumentTypeError(
            f"expected visual, audio or visual,audio; received {text!r}"
        )
    return domains


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, build or verify, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.verify is not None:
        return run_main(lambda: _verify(arguments.verify, as_json=arguments.json), prog=parser.prog)
    if arguments.list_labels:
        return run_main(lambda: _list_labels(as_json=arguments.json), prog=parser.prog)
    missing = [
        f"--{name}" for name in ("corpus", "media", "out") if getattr(arguments, name) is None
    ]
    if missing:
        parser.error(f"missing {', '.join(missing)}")
    common = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(BuildOptions)
        if hasattr(arguments, field.name)
    }
    options = BuildOptions(
        arguments.corpus,
        **common,
        domains=arguments.domain,
        spec=Spec(frames_per_clip=arguments.frames_per_clip),
    )

    def work() -> int:
        with_labels = options
        if arguments.labels is not None:
            with_labels = dataclasses.replace(options, label_map=read_label_map(arguments.labels))
        return _build(with_labels, as_json=arguments.json, prog=parser.prog)

    return run_main(work, prog=parser.prog)


def _list_labels(*, as_json: bool) -> int:
    words_of: dict[str, list[str]] = {emotion: [] for emotion in EMOTIONS}
    for word, emotion in SYNONYMS.items():
        words_of[emotion].append(word)
    if as_json:
        print(json.dumps(words_of, indent=1))
    else:
        for emotion, words in words_of.items():
            print(f"{emotion}: {', '.join(words)}")
    return 0


def _build(options: BuildOptions, *, as_json: bool, prog: str) -> int:
    from pipelines.building.findings import set_table
    from pipelines.core import progress

    try:
        with progress.progress_bar(options.name or options.kind, unit="files") as bar:
            result = build(options, on_start=bar.start, on_file=bar.advance)
    except StalledError as error:
        print(f"{prog}: error: {error}", file=sys.stderr, flush=True)
        os._exit(1)  # an ordinary exit would wait for the operation of TensorFlow that hangs
    empty_domains = [
        domain for domain, report in result["domains"].items() if not report["written"]
    ]
    if as_json:
        print(json.dumps(result, ensure_ascii=False, indent=1))
    else:
        for domain, report in result["domains"].items():
            print(set_table(f"{result['corpus']}/{domain}", report))
    if len(empty_domains) == len(result["domains"]):
        raise DataError(
            f"{options.media}: no clip could be used; "
            f"the reasons are in {options.out / result['corpus']}/DOMAIN/report.json"
        )
    return 0


def _verify(folder: Path, *, as_json: bool) -> int:
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; expected a set of records or a folder of sets")
    load_tensorflow()
    from pipelines.records import reader

    sets = reader.find_sets(folder)
    if not sets:
        raise InputError(
            f"{folder}: no set of records in the folder (no manifest.json); "
            "make a set with python -m pipelines.build"
        )
    counts = {str(path): reader.verify(path) for path in sets}
    if as_json:
        print(json.dumps(counts, indent=1))
    else:
        for path, count in counts.items():
            parts = (pluralize(count[f"{noun}s"], noun) for noun in ("shard", "clip", "record"))
            print(f"{path}: whole: {', '.join(parts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
