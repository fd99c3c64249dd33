"""`python -m kerasemo.predict`: emotions over time in videos, sound and pictures, by an exported model alone."""

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.errors import InputError
from pipelines.core.text import printable
from pipelines.corpora.clip import STILL_SUFFIXES, domains_of

PICTURES = 8
"""Key frames that a report shows of each clip."""
MOST_SHOWN = 200
"""Clips that a report shows; pages of more are too large to open."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What a prediction is asked for."""

    model: str
    clips: tuple[Path, ...]
    report: Path | None = None
    video: Path | None = None
    json: bool = False
    faces: str = "detect"
    """`detect`, or `as-is`: each picture is a face already."""
    detector: str = "viola-jones"
    faces_per_second: float = 4.0
    workers: int | None = None


def run(options: Options) -> int:
    """Predict, print each clip as it is done, write what was asked for, and return the exit status.

    Raises:
        InputError: No model, an output that would take the place of something, or nothing that could be read.
    """
    from kerasemo.inference import predictor
    from kerasemo.serving.bundle import Bundle

    bundle = Bundle.load(options.model)
    clips = predictor.find_clips(options.clips)
    _check_outputs(options, clips)
    if bundle.document["synthetic"]:
        print(
            f"{options.model}: trained on synthesised samples, it knows nothing of people",
            file=sys.stderr,
        )
    detector = options.detector if options.faces == "detect" else None
    if detector is not None:
        from pipelines.faces import detectors

        detectors.load_detector(
            detector
        )  # a wrong name, or a package that is missing, is told once
    reading = predictor.Reading(
        options.faces_per_second, detector, options.workers, PICTURES if options.report else 0
    )
    done = _predicted(bundle, clips, reading, options)
    good = [said for said, _ in done if "error" not in said]
    if options.report and good:
        from kerasemo.reporting import prediction_page

        model = {
            "name": bundle.document["name"],
            "labels": list(bundle.labels),
            "document": bundle.document,
            "card": bundle.card,
        }
        prediction_page.write_prediction_page(options.report, done[:MOST_SHOWN], model=model)
        rest = f" (the first {MOST_SHOWN} of {len(done)} clips)" if len(done) > MOST_SHOWN else ""
        print(f"report: {options.report}{rest}", file=sys.stderr)
    if options.video and good:
        _draw(clips[0], options.video, good[0])
    if not good:
        raise InputError(
            f"{clips[0] if len(clips) == 1 else f'{len(clips)} clips'}: nothing could be predicted; the reasons stand above"
        )
    return 0


def _check_outputs(options: Options, clips: Sequence[Path]) -> None:
    """Refuse, before there is work, an output that cannot be written or would take the place of something else."""
    for word, out, suffixes in (
        ("--report", options.report, (".html", ".htm")),
        ("--video", options.video, (".mp4",)),
    ):
        if out is None:
            continue
        if out.suffix.lower() not in suffixes:
            raise InputError(f"{word} {out}: expected a name that ends in {suffixes[0]}")
        if not out.absolute().parent.is_dir():
            raise InputError(f"{word} {out}: no such folder {out.absolute().parent}; make it first")
        if out.exists() and not out.is_file():
            raise InputError(
                f"{word} {out}: expected a file, or none yet; it is a folder or a device"
            )
        if out.exists() and any(clip.exists() and out.samefile(clip) for clip in clips):
            raise InputError(
                f"{word} {out}: would be written over the clip of that name; name another file"
            )
    if options.video and (
        len(clips) != 1
        or "visual" not in domains_of(clips[0])
        or clips[0].suffix.lower() in STILL_SUFFIXES
    ):
        raise InputError(
            f"--video draws into one video; received {clips[0] if len(clips) == 1 else f'{len(clips)} clips'}"
        )


def _predicted(
    bundle, clips: Sequence[Path], reading, options: Options
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Predict and print; return the results, with what a page shows of the first ones alone."""
    from kerasemo.inference import predictor
    from kerasemo.reporting import terminal
    from pipelines.core import progress

    done: list[tuple[dict[str, Any], dict[str, Any]]] = []
    with progress.progress_bar(
        "predict", unit="clips" if len(clips) > 1 else "s of the clip"
    ) as bar:
        far = -1  # how many seconds of an only clip have been told; below 0, its length has not

        def on_seconds(path: Path, seconds: float, of: float) -> None:
            nonlocal far
            if len(clips) > 1:
                bar.note(f"{path.name}: {seconds:.0f} of {of:.0f} s")
                return
            if far < 0:
                bar.start(math.ceil(of))
                far = 0
            if int(seconds) > far:
                bar.advance(count=int(seconds) - far)
                far = int(seconds)

        if len(clips) > 1:
            bar.start(len(clips))
        for said, extras in predictor.predict(
            bundle, clips, reading=reading, on_seconds=on_seconds
        ):
            shown = (options.report or options.video) and len(done) < MOST_SHOWN
            done.append((said, extras) if shown else (_answers(said), {}))
            if len(clips) > 1:
                bar.advance(Path(said["path"]).name)
            if options.json:
                print(json.dumps(said), flush=True)
            if "error" in said:
                print(printable(f"not predicted: {said['path']}: {said['error']}"), file=sys.stderr)
    if not options.json:
        terminal.print_predictions([said for said, _ in done])
    warned: dict[str, list[str]] = {}
    for said, _ in done:
        for warning in said.get("warnings", ()):
            warned.setdefault(warning, []).append(said["path"])
    for warning, paths in warned.items():
        print(
            printable(f"{paths[0] if len(paths) == 1 else f'{len(paths)} clips'}: {warning}"),
            file=sys.stderr,
        )
    return done


def _answers(said: dict[str, Any]) -> dict[str, Any]:
    """Return a prediction without what is said over time: what is kept of many clips."""
    return said | {
        domain: {key: value for key, value in said[domain].items() if key != "timeline"}
        for domain in ("visual", "audio", "fused")
        if said.get(domain)
    }


def _draw(path: Path, out: Path, said: dict[str, Any]) -> None:
    """Write a clip's video with its answers drawn into it."""
    from kerasemo.inference.clip_prediction import captions
    from pipelines.core import progress
    from pipelines.overlay.writer import OverlayTask
    from pipelines.workers.pool import WorkerPool

    if not said["visual"]:
        raise InputError(f"{path}: no face in it to draw at, so {out} was not written")
    with (
        tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".drawing-") as unfinished,
        progress.progress_bar("draw", unit="s of video") as bar,
        WorkerPool(workers=1) as pool,
    ):
        bar.start(math.ceil(said["visual"]["seconds"]))
        far, drawn = 0, Path(unfinished) / out.name
        for message in pool.read(OverlayTask(path, drawn, captions(said))):
            told = message.get("overlay", message)
            if "error" in told:
                raise InputError(f"{path}: {out} was not written: {told['error']}")
            now = int(told.get("seconds", far))
            if now > far:
                bar.advance(count=now - far)
                far = now
        os.replace(drawn, out)
    print(f"video: {out}", file=sys.stderr)


def _rate(text: str) -> float:
    """Parse a number of faces a second (an argparse type)."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 120:
        raise argparse.ArgumentTypeError(
            f"expected a number above 0 and at most 120; received {text!r}"
        )
    return value


def _parser() -> Parser:
    parser = Parser(
        prog="python -m kerasemo.predict",
        description="Emotions over time in videos, sound and pictures.",
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="a bundle of kerasemo.export, or the name of a shipped preset",
    )
    parser.add_argument(
        "clips",
        nargs="+",
        type=Path,
        metavar="CLIP",
        help="videos, sound, pictures, or folders of them",
    )
    parser.add_argument(
        "--report", type=Path, metavar="OUT.html", help="write a page that shows it all"
    )
    parser.add_argument(
        "--video",
        type=Path,
        metavar="OUT.mp4",
        help="write the video (of one clip) with its answers drawn into it",
    )
    parser.add_argument(
        "--faces",
        choices=("detect", "as-is"),
        default="detect",
        help="as-is: each picture is a face already",
    )
    parser.add_argument(
        "--detector",
        default="viola-jones",
        metavar="NAME",
        help="what looks for faces (default: %(default)s)",
    )
    parser.add_argument(
        "--faces-per-second",
        type=_rate,
        default=4.0,
        metavar="N",
        help="frames looked at (default: %(default)g)",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="processes that decode (default: one a processor)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="JSON Lines on standard output, one a clip, instead of a table",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, predict, print, and return the exit status."""
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    options = Options(**arguments | {"clips": tuple(arguments["clips"])})
    return run_main(lambda: run(options), prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
