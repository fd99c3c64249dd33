"""Times predict on video of 720 lines: how many times faster than it plays, and its faces against the package `fer`.

    python benchmarks/predict.py [--model BUNDLE] [--seconds 60] [--clips 8] [--frames 32] [--rounds 5]

All the work of the command on an exported model that is loaded (`kerasemo.inference.predictor.predict_clips`): its worker processes are started,
read faces and sound of one long clip or of several short ones, and the network answers. The start of the processes is counted and
also told apart; that of Python and of TensorFlow is not counted. Then the faces alone, on decoded frames, four a second: found,
cropped and answered as predict does it, where most boxes are followed from frame to frame; with each frame by itself; and by `fer`
with its OpenCV detector, by its default, quantised model and by its Keras model. Without `--model` a network with random weights is
asked. Clips are synthesised (1280x720, H.264 and AAC); with KERASEMO_CORPORA also those of RAVDESS.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import models
import timing

FACES_PER_SECOND = 4


def processor_seconds() -> float:
    """Return the processor time of this process and of those of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def times_real_time(title: str, bundle, clips: Sequence[Path], rounds: int) -> None:
    """Print how many times faster than they play some clips are predicted."""
    from kerasemo.inference import predictor
    from pipelines.core.processes import processor_count
    from pipelines.workers.pool import WorkerPool

    used, lengths = [], []

    def predict() -> None:
        began = processor_seconds()
        lengths.clear()
        for prediction in predictor.predict_clips(bundle, clips):
            document = prediction.document
            if not (document.get("visual") and document.get("audio")):
                sys.exit(f"{document['path']}: {document.get('error') or document['warnings']}")
            lengths.append(document["visual"]["seconds"])
        used.append(processor_seconds() - began)

    def start() -> None:
        with WorkerPool(workers=min(processor_count(), len(clips))):
            pass

    load = os.getloadavg()[0]
    seconds_of = timing.seconds_in_turns({"predict": predict, "start": start}, rounds)
    length = sum(lengths)
    counted = seconds_of["predict"]
    apart = [seconds - start for seconds, start in zip(counted, seconds_of["start"], strict=True)]
    print(
        f"{title}: {len(clips)} of {length / len(clips):.1f} s in {statistics.median(counted):.2f} s; load before {load:.1f}"
    )
    print(f"  of it to start the workers: {statistics.median(seconds_of['start']):.2f} s")
    for name, seconds in (("predict", counted), ("predict without that start", apart)):
        rates = [length / run_seconds for run_seconds in seconds]
        print(
            f"  {name} / real time: {statistics.median(rates):.2f} (from {min(rates):.2f} to {max(rates):.2f})"
        )
    of_processor = statistics.median(used[1:])
    print(
        f"  processor time of all processes: {of_processor:.2f} s, {length / of_processor:.1f} s of video each second",
        flush=True,
    )


def fer_detectors() -> dict[str, Callable]:
    """Return `detect_emotions` of the package fer by each of its models; nothing, and say so, where it cannot be imported."""
    try:
        from fer import __version__
        from fer.fer import FER
    except ImportError as error:
        print(f"fer is left out: {error}")
        return {}
    print(f"fer {__version__}: its default, the quantised model, and its Keras model")
    models_of = {"fer": True, "fer, Keras model": False}
    return {
        name: FER(mtcnn=False, use_tflite=quantised).detect_emotions
        for name, quantised in models_of.items()
    }


def compare_faces(
    title: str, bundle, path: Path, by_fer: dict[str, Callable], *, count: int, rounds: int
) -> None:
    """Print how many frames a second are found faces in, and answered, against `fer`."""
    import numpy as np

    from pipelines.faces import crops
    from pipelines.faces.detectors import detect_face, find_faces
    from pipelines.faces.persons import follow_faces
    from pipelines.media.video import VideoReader

    with VideoReader(path) as video:
        spacing = max(1, round(video.count / video.seconds / FACES_PER_SECOND))
        frames = list(video.frames(range(0, spacing * count, spacing)))
        pictures = [np.ascontiguousarray(frame.rgb()[..., ::-1]) for _, frame in frames]
        faces_of = {}

        def ours() -> None:
            followed = follow_faces(
                crops.track_boxes(frames, detect_face, spacing), find_faces, step=FACES_PER_SECOND
            )
            boxes_of = [(frame, boxes) for _, frame, boxes in followed]
            bundle.predict(
                "faces",
                faces=np.stack(
                    [crops.crop_frame(frame, box) for frame, boxes in boxes_of for box in boxes]
                ),
            )
            faces_of["ours"] = sum(bool(boxes) for _, boxes in boxes_of)

        def by_itself(frame) -> bool:
            box = detect_face(frame.luma)
            return bool(box and bundle.predict("faces", faces=crops.crop_frame(frame, box)[None]))

        def apart() -> None:
            faces_of["ours, each frame by itself"] = sum(by_itself(frame) for _, frame in frames)

        sides = {"ours": ours, "ours, each frame by itself": apart}
        for name, detect in by_fer.items():
            sides[name] = lambda name=name, detect=detect: faces_of.update(
                {name: sum(map(bool, map(detect, pictures)))}
            )
        seconds_of = timing.seconds_in_turns(sides, rounds)
        timing.report(
            f"{title}: {len(frames)} frames, {spacing} apart",
            seconds_of,
            amount=len(frames),
            unit="frames/s",
        )
        if len(sides) > 2:
            del seconds_of["ours"]
            timing.report("without following", seconds_of, amount=len(frames), unit="frames/s")
        print(
            "  frames with a face: "
            + ", ".join(f"{name} {number}" for name, number in faces_of.items()),
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, help="an exported bundle (default: one with random weights)"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of the long clip (default: %(default)g)"
    )
    parser.add_argument("--clips", type=int, default=8, help="short ones (default: %(default)s)")
    parser.add_argument(
        "--frames", type=int, default=32, help="in which faces are found (default: %(default)s)"
    )
    arguments = timing.begin(
        parser, cores=2, packages=("tensorflow", "opencv-python-headless", "av")
    )
    from clips import write_720p

    from kerasemo.serving.bundle import Bundle

    with models.bundle(arguments.model) as model, tempfile.TemporaryDirectory() as folder:
        bundle = Bundle.load(model)
        long, short = write_720p(Path(folder), seconds=arguments.seconds, count=arguments.clips)
        sets = {"synthesised, long": [long], "synthesised, short": short}
        if corpora := os.environ.get("KERASEMO_CORPORA"):
            real = sorted(Path(corpora).glob("ravdess/Actor_*/01-*.mp4"))  # 01: with sound
            sets[f"RAVDESS, {len(real)} clips over and over"] = (real * arguments.clips)[
                : arguments.clips
            ]
        for title, clips in sets.items():
            times_real_time(title, bundle, clips, arguments.rounds)
        by_fer = fer_detectors()
        for title in sorted(sets.keys() - {"synthesised, short"}):
            compare_faces(
                title,
                bundle,
                sets[title][0],
                by_fer,
                count=arguments.frames,
                rounds=arguments.rounds,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
