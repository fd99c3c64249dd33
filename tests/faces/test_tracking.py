"""The box in every frame, from few searches: against a scripted face, and the plain cascade on real clips."""

import numpy as np
import pytest

from pipelines.faces import detectors
from pipelines.faces.tracking import track_face
from pipelines.media.images import Frame
from pipelines.media.video import VideoReader


def frames(numbers):
    """Return frames whose only pixel is their number."""
    return [(number, Frame(np.array([[number]]), lambda: None)) for number in numbers]


class Scripted:
    """Finds the box that `where` gives for a frame's number; notes what it was asked."""

    def __init__(self, where):
        self.where, self.asked = where, []

    def __call__(self, luma, before):
        self.asked.append((int(luma[0, 0]), before))
        return self.where(int(luma[0, 0]))

    @property
    def searched(self):
        return sorted(number for number, _ in self.asked)


def boxes(where, numbers, **options):
    detect = Scripted(where)
    tracked = list(track_face(frames(numbers), detect, **options))
    assert [number for number, _, _ in tracked] == list(numbers)
    assert all(frame.luma[0, 0] == number for number, frame, _ in tracked)
    assert len(set(detect.searched)) == len(detect.searched)  # none twice
    return {number: box for number, _, box in tracked}, detect


def test_between_searches_that_agree_the_box_is_interpolated():
    found, detect = boxes(lambda number: (100 + number, 50, 80 + 2 * number, 80), range(21), step=8)
    assert detect.searched == [0, 8, 16, 20]
    assert found == {number: (100 + number, 50, 80 + 2 * number, 80) for number in range(21)}
    assert [before for _, before in detect.asked] == [None, found[0], found[8], found[16]]


def test_frames_that_are_missing_are_stepped_over():
    """Of frames 0, 10, 20 and 40 the last and the first are searched; 10 is a quarter of the way."""
    found, detect = boxes(lambda number: (100 + number, 50, 200, 200), (0, 10, 20, 40), step=3)
    assert (
        detect.searched == [0, 40]
        and found[10] == (110, 50, 200, 200)
        and found[20] == (120, 50, 200, 200)
    )


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_cut_to_another_face_is_found_to_the_frame(cut):
    def where(number):
        return (10, 10, 50, 50) if number < cut else (300, 200, 90, 90)

    found, detect = boxes(where, range(25), step=24)
    assert found == {number: where(number) for number in range(25)} and len(detect.asked) <= 2 + 5
    assert [bool(before) for _, before in detect.asked] == [False] + [True] * (
        len(detect.asked) - 1
    )


@pytest.mark.parametrize(("start", "end"), [(0, 5), (5, 9), (20, 30), (0, 30), (29, 30)])
def test_frames_without_a_face_have_no_box(start, end):
    """A gap that holds a searched frame is found to the frame."""
    found, detect = boxes(
        lambda number: None if start <= number < end else (10, 10, 50, 50), range(30), step=6
    )
    assert {number for number, box in found.items() if box is None} == set(range(start, end))
    assert len(detect.asked) <= 6 + (end - start) + 6


def test_a_step_of_one_searches_every_frame():
    found, detect = boxes(lambda number: (number, 0, 50, 50), range(7), step=1)
    assert detect.searched == list(range(7)) and found[3] == (3, 0, 50, 50)
    assert detect.asked[4] == (4, (3, 0, 50, 50))


def test_no_frames_and_one():
    assert boxes(lambda number: (0, 0, 5, 5), ())[0] == {}
    assert boxes(lambda number: (0, 0, 5, 5), (7,))[0] == {7: (0, 0, 5, 5)}


def test_progress_is_told_after_every_search():
    signs = []
    _, detect = boxes(lambda number: None, range(10), step=4, progress=lambda: signs.append(1))
    assert len(signs) == len(detect.asked) == 10


def test_few_frames_are_held():
    """What has been tracked is given out before more is read."""
    read = []

    def reading():
        for seen in frames(range(50)):
            read.append(seen)
            yield seen

    for given, _ in enumerate(track_face(reading(), Scripted(lambda number: (0, 0, 9, 9)), step=6)):
        assert len(read) - given <= 6


@pytest.mark.parametrize(
    "pattern", ["crema-d/VideoFlash/*.flv", "grid/*.mpg", "ravdess/Actor_01/01*.mp4"]
)
def test_tracked_boxes_agree_with_the_plain_cascade_in_every_frame(corpora, pattern):
    """Intersection over union of 0.8 or more on 98 % of the frames where the plain cascade finds a face."""
    found, agreeing = 0, 0
    for path in sorted(corpora.glob(pattern))[:2]:
        with VideoReader(path) as video:
            tracked = {
                number: (frame, box)
                for number, frame, box in track_face(
                    video.frames(range(video.count)), detectors.detect_face
                )
            }
        for frame, box in list(tracked.values())[::4]:
            plain = detectors.detect_frontal_face(frame.luma)
            if plain is not None:
                found += 1
                agreeing += box is not None and detectors.overlap(box, plain) >= 0.8
    assert found > 25 and agreeing >= 0.98 * found
