"""Times video -> face crops, on one core, against the loop that most repositories have.

    python benchmarks/face_crops.py [--clips 1] [--rounds 5]

The loop: cv2.VideoCapture, grey, CascadeClassifier haarcascade_frontalface_alt2 (scaleFactor 1.2, full size), the largest
box, cut and resized. Of all frames, and of 16 evenly spaced ones, which the loop reaches by seeking or by reading on.
Clips: synthesised ones of 720x576, and those of CREMA-D, GRID and RAVDESS below KERASEMO_CORPORA where that is set.
"""

import argparse
import os
import tempfile
from pathlib import Path

import timing

CORPORA = {
    "CREMA-D": "crema-d/VideoFlash/*.flv",
    "GRID": "grid/*.mpg",
    "RAVDESS": "ravdess/Actor_01/*.mp4",
}
EVERY = 10**9
SIDE = 64


def synthesised(folder: Path, count: int) -> list[Path]:
    """Write clips as eNTERFACE'05 has them; return their paths."""
    from pipelines.synthetic.corpora import plan_utterances, write_samples

    chosen = [utterance for utterance in plan_utterances() if utterance.corpus == "enterface"][
        ::19
    ][:count]
    write_samples(folder, workers=1, utterances=chosen)
    return sorted(folder.rglob("*.avi"))


def loop_faces(path: Path, wanted: list[int] | None, *, seek: bool = False) -> dict[int, tuple]:
    """Return the boxes that the loop finds, by frame; it crops them too."""
    import cv2

    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")
    capture = cv2.VideoCapture(str(path))
    boxes, crops, index = {}, [], -1
    positions = iter(wanted) if seek else None
    while True:
        if positions:
            index = next(positions, None)
            if index is None:
                break
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        else:
            index += 1
        read, picture = capture.read()
        if not read or (wanted and index > wanted[-1]):
            break
        if wanted and index not in wanted:
            continue
        picture_boxes = cascade.detectMultiScale(
            cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), scaleFactor=1.2
        )
        if len(picture_boxes):
            left, top, width, height = boxes[index] = max(
                map(tuple, picture_boxes), key=lambda box: box[2]
            )
            crops.append(
                cv2.resize(
                    picture[top : top + height, left : left + width],
                    (SIDE, SIDE),
                    interpolation=cv2.INTER_AREA,
                )
            )
    return boxes


def our_boxes(path: Path) -> dict[int, tuple]:
    """Return our boxes in all frames."""
    from pipelines.faces.detectors import detect_face
    from pipelines.faces.tracking import track_face
    from pipelines.media.video import VideoReader

    video = VideoReader(path)
    return {
        index: box
        for index, _, box in track_face(video.frames(range(video.count)), detect_face)
        if box
    }


def decode_only(path: Path) -> int:
    """Decode every picture, in one thread, and do nothing with it; return how many there are."""
    import av

    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        return sum(1 for _ in container.decode(video=0))


def compare(name: str, paths: list[Path], rounds: int) -> None:
    """Print the rates of one set of clips, and how well our boxes agree with the loop's."""
    from pipelines.core.spec import Spec, spaced_indices
    from pipelines.faces.crops import read_faces
    from pipelines.faces.detectors import overlap

    counts = {path: decode_only(path) for path in paths}
    sixteen = {path: spaced_indices(count, 16) for path, count in counts.items()}
    agreeing, n_faces = 0, 0
    for path in paths:
        ours, theirs = our_boxes(path), loop_faces(path, None)
        agreeing += sum(
            index in ours and overlap(ours[index], box) >= 0.8 for index, box in theirs.items()
        )
        n_faces += len(theirs)
    share = f"{agreeing / n_faces:.1%}" if n_faces else "none"
    print(
        f"{name}: {len(paths)} clips, {sum(counts.values())} frames; IoU >= 0.8 with the loop's box on {share} of its {n_faces} faces"
    )
    sides = {
        "ours": lambda: [read_faces(path, spec=Spec(frames_per_clip=EVERY)) for path in paths],
        "loop": lambda: [loop_faces(path, None) for path in paths],
        "decoding alone": lambda: [decode_only(path) for path in paths],
    }
    timing.report(
        f"{name}, all frames",
        timing.seconds_in_turns(sides, rounds),
        amount=sum(counts.values()),
        unit="frames/s",
    )
    sides = {
        "ours": lambda: [read_faces(path) for path in paths],
        "loop that seeks": lambda: [loop_faces(path, sixteen[path], seek=True) for path in paths],
        "loop that reads on": lambda: [loop_faces(path, sixteen[path]) for path in paths],
    }
    seconds_of = timing.seconds_in_turns(sides, rounds)
    timing.report(
        f"{name}, 16 faces a clip",
        seconds_of,
        amount=sum(map(len, sixteen.values())),
        unit="faces/s",
    )


def main() -> None:
    """Compare on synthesised and, where they are, real clips."""
    parser = argparse.ArgumentParser(
        description="Times video to face crops against the usual loop."
    )
    parser.add_argument("--clips", type=int, default=1, help="of each set (default: %(default)s)")
    arguments = timing.begin(parser, cores=1, packages=("opencv-python-headless", "av"))
    import cv2

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        compare("synthesised 720x576", synthesised(Path(folder), arguments.clips), arguments.rounds)
        corpora = os.environ.get("KERASEMO_CORPORA")
        if not corpora:
            print("KERASEMO_CORPORA is not set: no real clips")
            return
        for name, pattern in CORPORA.items():
            compare(name, sorted(Path(corpora).glob(pattern))[: arguments.clips], arguments.rounds)


if __name__ == "__main__":
    main()
