"""The box in every frame from few searches: of a scripted face, and of real clips."""

import numpy as np
import pytest

from pipelines.faces import detectors
from pipelines.faces.tracking import track_face
from pipelines.media.images import Frame
from pipelines.media.video import VideoReader


def numbered_frames(numbers):
    """Return frames whose only pixel is their number."""
    return [(number, Frame(np.array([[number]]), lambda: None)) for number in numbers]


class ScriptedDetector:
    """Returns `box_at(number)` for a frame, and records its calls."""

    def __init__(self, box_at):
        self.box_at, self.calls = box_at, []

    def __call__(self, luma, previous_box):
        self.calls.append((int(luma[0, 0]), previous_box))
        return self.box_at(int(luma[0, 0]))

    @property
    def searched(self):
        return sorted(number for number, _ in self.calls)


def track_boxes(box_at, numbers, **options):
    """Return {number: box} of the tracked frames, and the detector."""
    detect = ScriptedDetector(box_at)
    tracked = list(track_face(numbered_frames(numbers), detect, **options))
    assert [number for number, _, _ in tracked] == list(numbers)
    assert all(frame.luma[0, 0] == number for number, frame, _ in tracked)
    assert len(set(detect.searched)) == len(detect.searched)  # no frame is searched twice
    return {number: box for number, _, box in tracked}, detect


def test_box_is_interpolated_between_searches_that_agree():
    boxes, detect = track_boxes(
        lambda number: (100 + number, 50, 80 + 2 * number, 80), range(21), step=8
    )
    assert detect.searched == [0, 8, 16, 20]
    assert boxes == {number: (100 + number, 50, 80 + 2 * number, 80) for number in range(21)}
    previous_boxes = [previous_box for _, previous_box in detect.calls]
    assert previous_boxes == [None, boxes[0], boxes[8], boxes[16]]


def test_box_is_interpolated_by_the_number_of_the_frame():
    """Of frames 0, 10, 20 and 40, the first and the last are searched; 10 is a quarter between."""
    boxes, detect = track_boxes(
        lambda number: (100 + number, 50, 200, 200), (0, 10, 20, 40), step=3
    )
    assert detect.searched == [0, 40]
    assert boxes[10] == (110, 50, 200, 200)
    assert boxes[20] == (120, 50, 200, 200)


@pytest.mark.parametrize("cut", range(1, 24))
def test_cut_to_another_face_is_located_exactly(cut):
    def box_at(number):
        return (10, 10, 50, 50) if number < cut else (300, 200, 90, 90)

    boxes, detect = track_boxes(box_at, range(25), step=24)
    assert boxes == {number: box_at(number) for number in range(25)}
    assert len(detect.calls) <= 2 + 5
    assert detect.calls[0] == (0, None)
    assert all(previous_box for _, previous_box in detect.calls[1:])


@pytest.mark.parametrize(("start", "end"), [(0, 5), (5, 9), (20, 30), (0, 30), (29, 30)])
def test_frames_without_a_face_have_no_box(start, end):
    """A gap that holds a searched frame is located exactly."""
    boxes, detect = track_boxes(
        lambda number: None if start <= number < end else (10, 10, 50, 50), range(30), step=6
    )
    assert {number for number, box in boxes.items() if box is None} == set(range(start, end))
    assert len(detect.calls) <= 6 + (end - start) + 6


def test_step_of_one_searches_every_frame():
    boxes, detect = track_boxes(lambda number: (number, 0, 50, 50), range(7), step=1)
    assert detect.searched == list(range(7))
    assert boxes[3] == (3, 0, 50, 50)
    assert detect.calls[4] == (4, (3, 0, 50, 50))


@pytest.mark.parametrize(("numbers", "expected"), [((), {}), ((7,), {7: (0, 0, 5, 5)})])
def test_no_frame_and_a_single_frame_are_tracked(numbers, expected):
    assert track_boxes(lambda number: (0, 0, 5, 5), numbers)[0] == expected


def test_progress_is_called_after_every_search():
    calls = []
    _, detect = track_boxes(
        lambda number: None, range(10), step=4, progress=lambda: calls.append(1)
    )
    assert len(calls) == len(detect.calls) == 10


def test_at_most_a_step_of_frames_is_held():
    read = []

    def read_frames():
        for numbered_frame in numbered_frames(range(50)):
            read.append(numbered_frame)
            yield numbered_frame

    detect = ScriptedDetector(lambda number: (0, 0, 9, 9))
    for n_yielded, _ in enumerate(track_face(read_frames(), detect, step=6)):
        assert len(read) - n_yielded <= 6


@pytest.mark.parametrize(
    "pattern", ["crema-d/VideoFlash/*.flv", "grid/*.mpg", "ravdess/Actor_01/01*.mp4"]
)
def test_tracked_boxes_agree_with_alt2_in_every_frame(corpora, pattern):
    """Intersection over union of 0.8 or more on 98 % of the frames where alt2 finds a face."""
    n_boxes, n_agreeing = 0, 0
    for path in sorted(corpora.glob(pattern))[:2]:
        with VideoReader(path) as video:
            frames = video.frames(range(video.count))
            tracked = list(track_face(frames, detectors.detect_face))
        for _, frame, box in tracked[::4]:
            alt2_box = detectors.detect_by_alt2(frame.luma)
            if alt2_box is not None:
                n_boxes += 1
                n_agreeing += box is not None and detectors.overlap(box, alt2_box) >= 0.8
    assert n_boxes > 25
    assert n_agreeing >= 0.98 * n_boxes
