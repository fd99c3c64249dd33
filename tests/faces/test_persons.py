"""Several faces through time: where further ones are, against scripted faces, and who is who, against persons who walk about."""

import numpy as np
import pytest

from pipelines.faces.detectors import is_covered
from pipelines.faces.persons import PersonNumbers, follow_faces
from pipelines.media.images import Frame

ONE, TWO = (100, 50, 80, 80), (300, 60, 70, 70)


class Scripted:
    """Finds the boxes that `where` gives for a frame's number, near those asked for or in the whole picture; notes what it was asked."""

    def __init__(self, where):
        self.where, self.asked = where, []

    def __call__(self, luma, taken=(), near=(), *, whole=True):
        number = int(luma[0, 0])
        self.asked.append((number, whole))
        found = []
        for box in self.where(number):
            if not is_covered(box, taken) and (whole or is_covered(box, near)):
                found.append(box)
        return found


def followed(where, numbers, *, main=lambda number: ONE, step=4):
    """Return {number: boxes}, and the searches, of frames whose only pixel is their number."""
    find = Scripted(where)
    frames = (
        (number, Frame(np.array([[number]]), lambda: None), main(number)) for number in numbers
    )
    found = list(follow_faces(frames, find, step=step))
    assert [number for number, _, _ in found] == list(numbers) and all(
        frame.luma[0, 0] == number for number, frame, _ in found
    )
    return {number: boxes for number, _, boxes in found}, find.asked


def test_a_second_face_is_interpolated_between_searches_that_agree():
    def second(number):
        return (300 + number, 60, 70, 70)

    found, asked = followed(lambda number: [ONE, second(number)], range(11))
    assert found == {number: [ONE, second(number)] for number in range(11)}
    assert asked == [(0, True), (4, True), (8, True), (10, True)]


@pytest.mark.parametrize("start", range(1, 8))
@pytest.mark.parametrize("end", range(8, 13))
def test_who_comes_and_goes_is_found_to_the_frame(start, end):
    """Only around the box that a search found: the whole picture is searched at 0, 8 and 12 alone."""
    found, asked = followed(
        lambda number: [TWO] if start <= number <= end else [], range(13), step=8
    )
    assert {number for number, boxes in found.items() if TWO in boxes} == set(range(start, end + 1))
    assert [number for number, whole in asked if whole] == [0, 8, 12] and len(asked) <= 3 + 4 + 4


def test_the_given_box_is_taken_as_it_is_and_stands_for_its_face():
    """The build's box differs a little from what the search for all finds, and jumps to the second person at 5 and back at 7."""

    def given(number):
        return (302, 63, 66, 66) if number in (5, 6) else (102, 52, 79, 79)

    found, _ = followed(lambda number: [ONE, TWO], range(9), main=given)
    assert found == {
        number: [given(number), ONE if number in (5, 6) else TWO] for number in range(9)
    }


def test_a_frame_in_which_nothing_is_given_has_the_further_ones():
    found, asked = followed(lambda number: [TWO], range(5), main=lambda number: None)
    assert found == {number: [TWO] for number in range(5)} and asked == [(0, True), (4, True)]
    assert followed(lambda number: [], range(5), main=lambda number: None)[0] == {
        number: [] for number in range(5)
    }
    assert followed(lambda number: [], ())[0] == {}


def test_few_frames_are_held():
    read = []

    def frames():
        for number in range(50):
            read.append(number)
            yield number, Frame(np.array([[number]]), lambda: None), ONE

    for given, _ in enumerate(follow_faces(frames(), Scripted(lambda number: [TWO]), step=6)):
        assert len(read) - given <= 6


# Who is who


def numbers(places, *, a_second=4, **options):
    """Return the numbers given for frames whose boxes are `places`, and assert that frames come back in order."""
    persons, given = PersonNumbers(**options), []
    for index, boxes in enumerate(places):
        given += persons.add(index / a_second, boxes, index)
    given += persons.finish()
    assert [index for index, _ in given] == list(range(len(places)))
    return [numbers for _, numbers in given]


def walk(start, pixels, count, size=80):
    """Return boxes that move by so many pixels a frame."""
    return [(round(start + pixels * index), 50, size, size) for index in range(count)]


def test_persons_are_numbered_as_they_come():
    places = [[ONE], [ONE], [ONE, TWO], [TWO, ONE], [TWO], [TWO]]
    assert numbers(places) == [[1], [1], [1, 2], [2, 1], [2], [2]]


def test_a_jump_of_the_first_box_onto_a_known_person_is_that_person():
    assert numbers([[ONE, TWO]] * 3 + [[TWO]] * 2 + [[TWO, ONE]] + [[ONE, TWO]]) == [[1, 2]] * 3 + [
        [2]
    ] * 2 + [[2, 1]] + [[1, 2]]


def test_a_jump_to_where_nobody_was_moves_no_identity():
    assert numbers([[ONE]] * 3 + [[TWO]] * 3) == [[1]] * 3 + [[2]] * 3


def test_two_who_walk_through_each_other_keep_their_numbers():
    """They pass at 12 frames, 20 pixels a frame each; while they cover each other, only the first is seen."""
    one, two = walk(100, 20, 25), walk(580, -20, 25)
    places = [[a] if is_covered(a, [b]) else [a, b] for a, b in zip(one, two, strict=True)]
    assert 3 <= sum(len(boxes) == 1 for boxes in places) <= 5
    assert numbers(places) == [[1, 2][: len(boxes)] for boxes in places]


def test_the_order_of_a_frames_boxes_is_of_no_account():
    random, rows = (
        np.random.default_rng(0),
        [walk(start, pixels, 20) for start, pixels in ((100, 8), (300, -5), (500, 3))],
    )
    places = list(zip(*rows, strict=True))
    orders = [[0, 1, 2], *(random.permutation(3).tolist() for _ in places[1:])]
    assert numbers(
        [[boxes[n] for n in order] for boxes, order in zip(places, orders, strict=True)]
    ) == [[n + 1 for n in o] for o in orders]


@pytest.mark.parametrize(("frames_away", "number"), [(4, 1), (7, 1), (8, 3), (12, 3)])
def test_who_is_away_for_longer_than_two_seconds_is_new(frames_away, number):
    """Of 4 frames a second: unseen in 7 frames, 2 s lie between the last sight and the next."""
    places = [[ONE, TWO]] * 4 + [[TWO]] * frames_away + [[ONE, TWO]] * 3
    assert numbers(places)[-1] == [number, 2]


def test_a_passing_error_is_nobody_and_takes_no_number():
    error = (20, 300, 40, 40)
    assert numbers([[ONE], [ONE, error], [ONE], [ONE, TWO], [ONE, TWO]]) == [
        [1],
        [1, None],
        [1],
        [1, 2],
        [1, 2],
    ]
    assert numbers([[error], [ONE], [ONE]]) == [[None], [1], [1]]


def test_a_box_of_another_size_is_another_face():
    assert numbers([[(100, 50, 80, 80)]] * 2 + [[(100, 50, 30, 30)]] * 2) == [[1], [1], [2], [2]]


def test_of_a_single_frame_all_boxes_are_persons():
    assert numbers([[ONE, TWO]]) == [[1, 2]] and numbers([[]]) == [[]] and numbers([]) == []


def test_frames_far_apart_are_linked_where_that_is_asked_for():
    assert numbers([[ONE]] * 4, a_second=0.1, max_unseen_seconds=25) == [[1]] * 4


def test_what_is_held_back_is_bounded():
    """An error in every eighth frame; no frame waits for more than two seconds, in an hour of them."""
    persons, back = PersonNumbers(), 0
    for index in range(4 * 3600):
        for _ in persons.add(
            index / 4,
            [ONE, (7 * index % 5000 + 200, 400, 40, 40)] if index % 8 == 0 else [ONE],
            index,
        ):
            back += 1
        assert index + 1 - back <= 9 and len(persons._present) <= 3
