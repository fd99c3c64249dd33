"""Several faces through time: the boxes of scripted faces, and the numbers of persons who move."""

import numpy as np
import pytest

from pipelines.faces.detectors import is_covered
from pipelines.faces.persons import PersonTracker, follow_faces
from pipelines.media.images import Frame

FIRST_BOX, SECOND_BOX = (100, 50, 80, 80), (300, 60, 70, 70)


class ScriptedFinder:
    """Finds the boxes `boxes_at(number)` of a frame, and records (number, whole) of its calls.

    With `whole=False`, only boxes that a near box covers are found.
    """

    def __init__(self, boxes_at):
        self.boxes_at, self.calls = boxes_at, []

    def __call__(self, luma, known_boxes=(), near_boxes=(), *, whole=True):
        number = int(luma[0, 0])
        self.calls.append((number, whole))
        return [
            box
            for box in self.boxes_at(number)
            if not is_covered(box, known_boxes) and (whole or is_covered(box, near_boxes))
        ]


def numbered_frame(number):
    """Return a frame whose only pixel is its number."""
    return Frame(np.array([[number]]), lambda: None)


def follow_boxes(boxes_at, numbers, *, main_box_at=lambda number: FIRST_BOX, step=4):
    """Return {number: boxes} of the followed frames, and the calls of the finder."""
    find = ScriptedFinder(boxes_at)
    tracked_frames = ((number, numbered_frame(number), main_box_at(number)) for number in numbers)
    followed = list(follow_faces(tracked_frames, find, step=step))
    assert [number for number, _, _ in followed] == list(numbers)
    assert all(frame.luma[0, 0] == number for number, frame, _ in followed)
    return {number: boxes for number, _, boxes in followed}, find.calls


def test_second_face_is_interpolated_between_searches_that_agree():
    def second_box_at(number):
        return (300 + number, 60, 70, 70)

    boxes, calls = follow_boxes(lambda number: [FIRST_BOX, second_box_at(number)], range(11))
    assert boxes == {number: [FIRST_BOX, second_box_at(number)] for number in range(11)}
    assert calls == [(0, True), (4, True), (8, True), (10, True)]


@pytest.mark.parametrize("start", range(1, 8))
@pytest.mark.parametrize("end", range(8, 13))
def test_first_and_last_frame_of_a_face_are_located_exactly(start, end):
    """The whole picture is searched at 0, 8 and 12 alone; other searches are around known boxes."""
    boxes, calls = follow_boxes(
        lambda number: [SECOND_BOX] if start <= number <= end else [], range(13), step=8
    )
    with_second = {number for number, frame_boxes in boxes.items() if SECOND_BOX in frame_boxes}
    assert with_second == set(range(start, end + 1))
    assert [number for number, whole in calls if whole] == [0, 8, 12]
    assert len(calls) <= 3 + 4 + 4


def test_main_box_is_not_changed_and_covers_its_face():
    """The main box differs a little from the finder's, and is on the second face at 5 and 6."""

    def main_box_at(number):
        return (302, 63, 66, 66) if number in (5, 6) else (102, 52, 79, 79)

    boxes, _ = follow_boxes(
        lambda number: [FIRST_BOX, SECOND_BOX], range(9), main_box_at=main_box_at
    )
    other_box_at = {number: FIRST_BOX if number in (5, 6) else SECOND_BOX for number in range(9)}
    assert boxes == {number: [main_box_at(number), other_box_at[number]] for number in range(9)}


@pytest.mark.parametrize("other_boxes", [[SECOND_BOX], []])
def test_frame_without_a_main_box_has_the_other_faces(other_boxes):
    boxes, calls = follow_boxes(
        lambda number: other_boxes, range(5), main_box_at=lambda number: None
    )
    assert boxes == {number: other_boxes for number in range(5)}
    assert calls == [(0, True), (4, True)]


def test_no_frames_are_followed():
    assert follow_boxes(lambda number: [], ()) == ({}, [])


def test_at_most_a_step_of_frames_is_held():
    read = []

    def read_frames():
        for number in range(50):
            read.append(number)
            yield number, numbered_frame(number), FIRST_BOX

    followed = follow_faces(read_frames(), ScriptedFinder(lambda number: [SECOND_BOX]), step=6)
    for n_yielded, _ in enumerate(followed):
        assert len(read) - n_yielded <= 6


# Numbers of persons


def number_persons(frames, *, frames_per_second=4, **options):
    """Return the persons' numbers of each frame; `frames` has the boxes of each frame.

    The frames come back in order.
    """
    tracker, numbered = PersonTracker(**options), []
    for index, boxes in enumerate(frames):
        numbered += tracker.add(index / frames_per_second, boxes, index)
    numbered += tracker.finish()
    assert [index for index, _ in numbered] == list(range(len(frames)))
    return [numbers for _, numbers in numbered]


def moving_boxes(left, pixels_per_frame, n_frames):
    return [(round(left + pixels_per_frame * index), 50, 80, 80) for index in range(n_frames)]


def test_persons_are_numbered_in_order_of_appearance():
    frames = [
        [FIRST_BOX],
        [FIRST_BOX],
        [FIRST_BOX, SECOND_BOX],
        [SECOND_BOX, FIRST_BOX],
        [SECOND_BOX],
        [SECOND_BOX],
    ]
    assert number_persons(frames) == [[1], [1], [1, 2], [2, 1], [2], [2]]


def test_main_box_that_jumps_to_a_known_person_gets_its_number():
    frames = [
        *[[FIRST_BOX, SECOND_BOX]] * 3,
        *[[SECOND_BOX]] * 2,
        [SECOND_BOX, FIRST_BOX],
        [FIRST_BOX, SECOND_BOX],
    ]
    assert number_persons(frames) == [*[[1, 2]] * 3, *[[2]] * 2, [2, 1], [1, 2]]


def test_main_box_that_jumps_to_a_new_place_is_a_new_person():
    assert number_persons([[FIRST_BOX]] * 3 + [[SECOND_BOX]] * 3) == [[1]] * 3 + [[2]] * 3


def test_persons_who_pass_each_other_keep_their_numbers():
    """They pass at frame 12, with 20 pixels per frame each; a covered person is not seen."""
    left_walk, right_walk = moving_boxes(100, 20, 25), moving_boxes(580, -20, 25)
    frames = [
        [left_box] if is_covered(left_box, [right_box]) else [left_box, right_box]
        for left_box, right_box in zip(left_walk, right_walk, strict=True)
    ]
    assert 3 <= sum(len(boxes) == 1 for boxes in frames) <= 5
    assert number_persons(frames) == [[1, 2][: len(boxes)] for boxes in frames]


def test_order_of_the_boxes_does_not_matter():
    rng = np.random.default_rng(0)
    walks = [
        moving_boxes(left, pixels_per_frame, 20)
        for left, pixels_per_frame in ((100, 8), (300, -5), (500, 3))
    ]
    frames, expected = [], []
    for index, boxes in enumerate(zip(*walks, strict=True)):
        order = rng.permutation(3).tolist() if index else [0, 1, 2]
        frames.append([boxes[person] for person in order])
        expected.append([person + 1 for person in order])
    assert number_persons(frames) == expected


@pytest.mark.parametrize(("frames_away", "number"), [(4, 1), (7, 1), (8, 3), (12, 3)])
def test_person_unseen_for_more_than_two_seconds_is_new(frames_away, number):
    """At 4 frames per second and 7 frames unseen, 2 s lie between two sightings."""
    both = [FIRST_BOX, SECOND_BOX]
    frames = [both] * 4 + [[SECOND_BOX]] * frames_away + [both] * 3
    assert number_persons(frames)[-1] == [number, 2]


def test_false_detection_has_no_number():
    false_box = (20, 300, 40, 40)
    both = [FIRST_BOX, SECOND_BOX]
    frames = [[FIRST_BOX], [FIRST_BOX, false_box], [FIRST_BOX], both, both]
    assert number_persons(frames) == [[1], [1, None], [1], [1, 2], [1, 2]]
    assert number_persons([[false_box], [FIRST_BOX], [FIRST_BOX]]) == [[None], [1], [1]]


def test_box_of_another_size_is_another_person():
    frames = [[(100, 50, 80, 80)]] * 2 + [[(100, 50, 30, 30)]] * 2
    assert number_persons(frames) == [[1], [1], [2], [2]]


@pytest.mark.parametrize(
    ("frames", "expected"), [([[FIRST_BOX, SECOND_BOX]], [[1, 2]]), ([[]], [[]]), ([], [])]
)
def test_every_box_of_a_single_frame_is_a_person(frames, expected):
    assert number_persons(frames) == expected


def test_unseen_seconds_links_frames_that_lie_far_apart():
    numbers = number_persons([[FIRST_BOX]] * 4, frames_per_second=0.1, unseen_seconds=25)
    assert numbers == [[1]] * 4


def test_waiting_frames_and_present_persons_are_bounded():
    """With a false detection in every eighth frame, no frame of an hour waits longer than 2 s."""
    tracker, n_yielded = PersonTracker(), 0
    for index in range(4 * 3600):
        boxes = [FIRST_BOX]
        if index % 8 == 0:
            boxes = [FIRST_BOX, (7 * index % 5000 + 200, 400, 40, 40)]
        n_yielded += len(list(tracker.add(index / 4, boxes, index)))
        assert index + 1 - n_yielded <= 9
        assert len(tracker._present) <= 3
