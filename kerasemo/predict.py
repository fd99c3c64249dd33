"""The command `kerasemo.predict`: emotions over time in videos, sound and pictures."""

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core.cli import Parser, positive_int, run_main
from pipelines.core.errors import DataError, InputError
from pipelines.core.text import printable
from pipelines.corpora.clip import STILL_SUFFIXES, domains_of

if TYPE_CHECKING:
    from kerasemo.inference.clip_prediction import ClipPrediction
    from kerasemo.inference.predictor import ReadingOptions
    from kerasemo.serving.bundle import Bundle

PICTURES_PER_CLIP = 8
"""The number of key frames of each clip in a report."""
MAX_REPORTED_CLIPS = 200
"""The most clips in a report. A browser cannot open a larger page."""


@dataclasses.dataclass(frozen=True)
class PredictOptions:
    """The options of the command.

    Attributes:
        model: The folder of a bundle, or the name of a preset.
        clips: Files and folders.
        report: The HTML file to write.
        video: The MP4 file to write.
        json: Print JSON Lines.
        faces: `detect`, or `as-is`: each picture is a face.
        detector: The name of a detector.
        faces_per_second: The number of frames per second that are searched.
        workers: The number of processes; None: the number of processors.
    """

    model: str
    clips: tuple[Path, ...]
    report: Path | None = None
    video: Path | None = None
    json: bool = False
    faces: str = "detect"
    detector: str = "viola-jones"
    faces_per_second: float = 4.0
    workers: int | None = None


def run(options: PredictOptions) -> int:
    """Predict and print each clip, write the report and the video, and return the exit status.

    Raises:
        InputError: The model does not exist, an output would replace another file, or no clip could
            be predicted.
        DataError: The bundle is damaged.
    """
    from kerasemo.inference import predictor
    from kerasemo.serving.bundle import Bundle

    bundle = Bundle.load(options.model)
    clips = predictor.expand_clips(options.clips)
    _check_outputs(options, clips)
    if bundle.document["synthetic"]:
        print(
            f"{options.model}: trained on synthesised samples; "
            "predictions for people have no meaning",
            file=sys.stderr,
        )
    detector = options.detector if options.faces == "detect" else None
    if detector is not None:
        from pipelines.faces import detectors

        # A wrong name or a missing package is a single error, not an error of each clip.
        detectors.load_detector(detector)
    reading = predictor.ReadingOptions(
        options.faces_per_second,
        detector,
        options.workers,
        PICTURES_PER_CLIP if options.report else 0,
    )
    predictions = _predict(bundle, clips, reading, options)
    predicted = [prediction for prediction in predictions if not prediction.error]
    if options.report and predicted:
        _write_report(options.report, predictions, bundle)
    if options.video and predicted:
        _write_video(clips[0], options.video, predicted[0])
    if not predicted:
        raise InputError(
            f"{clips[0] if len(clips) == 1 else f'{len(clips)} clips'}: "
            "no clip could be predicted; the lines above have the reasons"
        )
    return 0


def _write_report(out: Path, predictions: "Sequence[ClipPrediction]", bundle: "Bundle") -> None:
    from kerasemo.reporting import prediction_page

    prediction_page.write_prediction_page(out, predictions[:MAX_REPORTED_CLIPS], model=bundle)
    note = ""
    if len(predictions) > MAX_REPORTED_CLIPS:
        note = f" (the first {MAX_REPORTED_CLIPS} of {len(predictions)} clips)"
    print(f"report: {out}{note}", file=sys.stderr)


def _check_outputs(options: PredictOptions, clips: Sequence[Path]) -> None:
    """Raise InputError for an output that cannot be written or would replace a clip."""
    for option, out, suffixes in (
        ("--report", options.report, (".html", ".htm")),
        ("--video", options.video, (".mp4",)),
    ):
        if out is None:
            continue
        if out.suffix.lower() not in suffixes:
            raise InputError(f"{option} {out}: expected a name that ends in {suffixes[0]}")
        if not out.absolute().parent.is_dir():
            raise InputError(
                f"{option} {out}: no such folder {out.absolute().parent}; make it first"
            )
        if out.exists() and not out.is_file():
            raise InputError(
                f"{option} {out}: expected a file, or none yet; it is a folder or a device"
            )
        if out.exists() and any(clip.exists() and out.samefile(clip) for clip in clips):
            raise InputError(
                f"{option} {out}: would be written over the clip of that name; name another file"
            )
    if options.video and (
        len(clips) != 1
        or "visual" not in domains_of(clips[0])
        or clips[0].suffix.lower() in STILL_SUFFIXES
    ):
        raise InputError(
            "--video draws into one video; "
            f"received {clips[0] if len(clips) == 1 else f'{len(clips)} clips'}"
        )


def _predict(
    bundle: "Bundle", clips: Sequence[Path], reading: "ReadingOptions", options: PredictOptions
) -> "list[ClipPrediction]":
    """Predict and print the clips, and return the predictions.

    Only the first predictions keep timelines, pictures and spectrograms for a report.
    """
    from kerasemo.inference import predictor
    from kerasemo.reporting import terminal
    from pipelines.core import progress

    predictions: list[ClipPrediction] = []
    with progress.progress_bar(
        "predict", unit="clips" if len(clips) > 1 else "s of the clip"
    ) as bar:
        displayed_seconds = -1  # of a single clip; -1 before the bar has its length

        def on_seconds(path: Path, seconds: float, duration: float) -> None:
            nonlocal displayed_seconds
            if len(clips) > 1:
                bar.note(f"{path.name}: {seconds:.0f} of {duration:.0f} s")
                return
            if displayed_seconds < 0:
                bar.start(math.ceil(duration))
                displayed_seconds = 0
            if int(seconds) > displayed_seconds:
                bar.advance(count=int(seconds) - displayed_seconds)
                displayed_seconds = int(seconds)

        if len(clips) > 1:
            bar.start(len(clips))
        for prediction in predictor.predict_clips(
            bundle, clips, reading=reading, on_seconds=on_seconds
        ):
            is_full = (options.report or options.video) and len(predictions) < MAX_REPORTED_CLIPS
            predictions.append(prediction if is_full else prediction.without_timelines())
            if len(clips) > 1:
                bar.advance(Path(prediction.path).name)
            if options.json:
                print(json.dumps(prediction.document), flush=True)
            if prediction.error:
                message = f"not predicted: {prediction.path}: {prediction.error}"
                print(printable(message), file=sys.stderr)
    if not options.json:
        terminal.print_predictions([prediction.document for prediction in predictions])
    _print_warnings(predictions)
    return predictions


def _print_warnings(predictions: "Sequence[ClipPrediction]") -> None:
    """Print each warning once, with its clip or the number of its clips."""
    paths_of: dict[str, list[str]] = {}
    for prediction in predictions:
        for warning in prediction.warnings:
            paths_of.setdefault(warning, []).append(prediction.path)
    for warning, paths in paths_of.items():
        subject = paths[0] if len(paths) == 1 else f"{len(paths)} clips"
        print(printable(f"{subject}: {warning}"), file=sys.stderr)


def _write_video(path: Path, out: Path, prediction: "ClipPrediction") -> None:
    """Write the video of a clip with its predictions drawn into it.

    Raises:
        InputError: The clip has no face.
        DataError: The video cannot be drawn.
    """
    from kerasemo.inference.clip_prediction import captions
    from pipelines.core import progress
    from pipelines.overlay.writer import OverlayTask
    from pipelines.workers.pool import WorkerPool

    if not prediction.document["visual"]:
        raise InputError(f"{path}: no face to draw at, so {out} was not written")
    with (
        tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=".drawing-") as temporary,
        progress.progress_bar("draw", unit="s of video") as bar,
        WorkerPool(workers=1) as pool,
    ):
        bar.start(math.ceil(prediction.document["visual"]["seconds"]))
        displayed_seconds, video = 0, Path(temporary) / out.name
        for message in pool.read(OverlayTask(path, video, captions(prediction.document))):
            state = message.get("overlay", message)
            if "error" in state:
                raise DataError(f"{path}: {out} was not written: {state['error']}")
            seconds = int(state.get("seconds", displayed_seconds))
            if seconds > displayed_seconds:
                bar.advance(count=seconds - displayed_seconds)
                displayed_seconds = seconds
        os.replace(video, out)
    print(f"video: {out}", file=sys.stderr)


def _parse_rate(text: str) -> float:
    """Parse a number of faces per second (an argparse type)."""
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
        "--report", type=Path, metavar="OUT.html", help="write a page with all results"
    )
    parser.add_argument(
        "--video",
        type=Path,
        metavar="OUT.mp4",
        help="write the video of one clip with its predictions drawn into it",
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
        "--faces-per-second",
        type=_parse_rate,
        default=4.0,
        metavar="N",
        help="the number of frames per second to search (default: %(default)g)",
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        metavar="N",
        help="the number of processes that decode (default: one per processor)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON Lines, one per clip, instead of a table",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, predict, print, and return the exit status."""
    parser = _parser()
    arguments = vars(parser.parse_args(argv))
    options = PredictOptions(**arguments | {"clips": tuple(arguments["clips"])})
    return run_main(lambda: run(options), prog=parser.prog, resumes=False)


if __name__ == "__main__":
    sys.exit(main())
