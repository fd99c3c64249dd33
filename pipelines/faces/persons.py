"""Track several faces through time, and number the persons they belong to.

`tracking` gives the box of the main face. This module finds the further faces and gives each face
the number of its person.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from pipelines.faces.detectors import Box, Finder, is_covered, overlap
from pipelines.faces.tracking import MIN_AGREEMENT, interpolated
from pipelines.media.images import Frame

MAX_UNSEEN_SECONDS = 2.0
"""A face that returns after a longer time is a new person."""
DISTANCE_AT_ONCE, DISTANCE_PER_SECOND, MAX_DISTANCE = 0.7, 1.0, 1.5
"""The largest distance of a face from its expected place, in widths of the face.

The distance grows with each second in which the face is not seen, up to the maximum.
"""
MAX_WIDTH_RATIO = 2.0
"""The largest ratio of the widths of two boxes of one face."""
MAX_EXTRAPOLATED_SECONDS = 1.0
"""The time for which an unseen face is expected to keep its velocity."""
MIN_SIGHTINGS = 2
"""A face in fewer frames is an error of the detector, not a person."""

TrackedFrame = tuple[int, Frame, Box | None]
_Search = Callable[..., list[Box]]


def follow_faces(
    tracked: Iterable[TrackedFrame],
    find: Finder,
    *,
    step: int,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, list[Box]]]:
    """Yield the number, the frame and the boxes of each frame, in order.

    The given box of a frame comes first, if it has one, then the boxes of further faces.

    Every `step`-th frame and the last one are searched as a whole. Between two such searches, boxes
    that agree are interpolated. Around boxes that disagree, the frame halfway is searched too, and
    so on. A frame is also searched around those boxes of the previous frame that have no successor.
    No more than `step` frames are in memory.

    Args:
        tracked: What `tracking.track_face` yields.
        find: Finds the further faces of a frame.
        step: The distance between two searches, in frames.
        progress: Called after every search.
    """

    def search(
        frame: Frame, taken: Sequence[Box], near: Sequence[Box], *, whole: bool
    ) -> list[Box]:
        boxes = find(frame.luma, taken, near, whole=whole)
        progress()
        return boxes

    block: list[TrackedFrame] = []  # the frames since the last search
    last_search: tuple[int, list[Box]] | None = None  # number and further boxes
    known: list[Box] = []  # all boxes of the previous frame

    def boxes_of_block() -> Iterator[tuple[int, Frame, list[Box]]]:
        nonlocal last_search, known
        number, frame, box = block[-1]
        taken = [box] if box else []
        further = search(frame, taken, known, whole=True)
        boxes_of: dict[int, list[Box]] = {number: [box] if box else [] for number, _, box in block}
        if len(block) > 1:
            _add_boxes_between(last_search, block[:-1], (number, further), search, boxes_of)
        boxes_of[number] += further
        last_search = (number, further)
        for number, frame, _ in block:
            boxes = boxes_of[number]
            # The given box can move to another face, so that no search knows the first face.
            lost = (
                [box for box in known if not is_covered(box, boxes)]
                if number != last_search[0]
                else []
            )
            known = boxes + (search(frame, boxes, lost, whole=False) if lost else [])
            yield number, frame, known
        block.clear()

    for tracked_frame in tracked:
        block.append(tracked_frame)
        if last_search is None or len(block) == step:
            yield from boxes_of_block()
    if block:
        yield from boxes_of_block()


def _add_boxes_between(
    before: tuple[int, list[Box]],
    frames: list[TrackedFrame],
    after: tuple[int, list[Box]],
    search: _Search,
    boxes_of: dict[int, list[Box]],
) -> None:
    """Add the further boxes of the frames between two searched ones to `boxes_of`."""
    (first, boxes), (last, next_boxes) = before, after
    if not frames or not (boxes or next_boxes):
        return
    pairs = [
        (box, near) for box in boxes for near in next_boxes if overlap(box, near) > MIN_AGREEMENT
    ]
    for number, _, _ in frames:
        for pair in pairs:
            box = interpolated(*pair, (number - first) / (last - first))
            if not is_covered(box, boxes_of[number]):
                boxes_of[number].append(box)
    paired = set(chain(*pairs))
    left, right = ([box for box in side if box not in paired] for side in (boxes, next_boxes))
    if left or right:
        middle = len(frames) // 2
        number, frame, _ = frames[middle]
        searched = (number, search(frame, boxes_of[number], [*left, *right], whole=False))
        boxes_of[number] += searched[1]
        _add_boxes_between((first, left), frames[:middle], searched, search, boxes_of)
        _add_boxes_between(searched, frames[middle + 1 :], (last, right), search, boxes_of)


@dataclasses.dataclass(eq=False)
class _Person:
    box: Box
    seconds: float
    """The time of the last sighting."""
    velocity: np.ndarray
    """The velocity of the centre, float64 [2], in pixels per second."""
    sightings: int = 1
    is_gone: bool = False
    number: int | None = None

    def expected_centre(self, seconds: float) -> np.ndarray:
        """Return where the centre of the face is expected, float64 [2]."""
        passed_seconds = min(seconds - self.seconds, MAX_EXTRAPOLATED_SECONDS)
        return _centre(self.box) + passed_seconds * self.velocity

    def add_sighting(self, box: Box, seconds: float) -> None:
        """Update the box and the velocity."""
        velocity = (_centre(box) - _centre(self.box)) / (seconds - self.seconds)
        self.velocity = velocity if self.sightings == 1 else (self.velocity + velocity) / 2
        self.box, self.seconds, self.sightings = box, seconds, self.sightings + 1


class PersonNumbers:
    """Gives the boxes of consecutive frames the numbers of persons, from 1 in order of appearance.

    A number comes as soon as it is known whether the box belongs to a person or is an error of the
    detector. This takes no longer than `max_unseen_seconds`.

    >>> persons = PersonNumbers()
    >>> for second in range(3):
    ...     boxes = [(100 + second, 50, 80, 80)] + ([(300, 50, 70, 70)] if second == 1 else [])
    ...     for name, numbers in persons.add(second, boxes, f"frame {second}"):
    ...         print(name, numbers)
    frame 0 [1]
    >>> list(persons.finish())
    [('frame 1', [1, None]), ('frame 2', [1])]

    Args:
        max_unseen_seconds: A face that returns after a longer time is a new person.
    """

    def __init__(self, *, max_unseen_seconds: float = MAX_UNSEEN_SECONDS) -> None:
        self._max_unseen_seconds = max_unseen_seconds
        self._present: list[_Person] = []
        self._waiting: deque[tuple[Any, list[_Person]]] = deque()
        self._person_count, self._frame_count = 0, 0

    def add(
        self, seconds: float, boxes: Sequence[Box], item: Any
    ) -> Iterator[tuple[Any, list[int | None]]]:
        """Add a frame, and yield the item and the numbers of each frame that is certain now.

        The numbers have one entry per box, which is None for an error of the detector.

        Args:
            seconds: The time of the frame; later than that of the previous frame.
            boxes: The boxes of the faces.
            item: Any object, which comes back with the numbers.
        """
        self._frame_count += 1
        for person in self._present:
            person.is_gone = seconds - person.seconds > self._max_unseen_seconds
        self._present = [person for person in self._present if not person.is_gone]
        self._waiting.append((item, self._assign(seconds, boxes)))
        while self._waiting and all(
            person.is_gone or person.sightings >= MIN_SIGHTINGS for person in self._waiting[0][1]
        ):
            yield self._next_numbers(MIN_SIGHTINGS)

    def finish(self) -> Iterator[tuple[Any, list[int | None]]]:
        """Yield the remaining frames. All boxes of a single frame belong to persons."""
        while self._waiting:
            yield self._next_numbers(min(MIN_SIGHTINGS, self._frame_count))

    def _next_numbers(self, min_sightings: int) -> tuple[Any, list[int | None]]:
        item, persons = self._waiting.popleft()
        for person in persons:
            if person.number is None and person.sightings >= min_sightings:
                self._person_count += 1
                person.number = self._person_count
        return item, [person.number for person in persons]

    def _assign(self, seconds: float, boxes: Sequence[Box]) -> list[_Person]:
        """Return the person of each box, by the assignment with the lowest total cost.

        A box that belongs to no known person starts a new one.
        """
        costs = np.array(
            [[_cost(person, box, seconds) for box in boxes] for person in self._present]
        )  # [persons, boxes]
        person_of: dict[int, _Person] = {}
        if costs.size:
            # Higher than the cost of any possible pair.
            impossible = costs.max(initial=0, where=np.isfinite(costs)) + 1000.0
            for row, column in _cheapest_pairs(np.where(np.isfinite(costs), costs, impossible)):
                if np.isfinite(costs[row, column]):
                    person_of[column] = self._present[row]
        persons = []
        for column, box in enumerate(boxes):
            if column in person_of:
                person_of[column].add_sighting(box, seconds)
            else:
                person_of[column] = _Person(box, seconds, np.zeros(2))
                self._present.append(person_of[column])
            persons.append(person_of[column])
        return persons


def _cheapest_pairs(costs: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of row and column with the lowest total of costs [rows, columns]."""
    if min(costs.shape) == 1:
        return [np.unravel_index(costs.argmin(), costs.shape)]
    # The import takes half a second, which a clip of one person does not need.
    from scipy.optimize import linear_sum_assignment

    return list(zip(*linear_sum_assignment(costs), strict=True))


def _centre(box: Box) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def _cost(person: _Person, box: Box, seconds: float) -> float:
    """Return the distance from the expected place in widths, minus the overlap there.

    The cost is infinite for a box that is too far away, too wide or too narrow.
    """
    wide, narrow = max(person.box[2], box[2]), min(person.box[2], box[2])
    x, y = person.expected_centre(seconds)
    distance = float(np.hypot(*(_centre(box) - (x, y)))) / ((wide + narrow) / 2)
    max_distance = min(
        MAX_DISTANCE, DISTANCE_AT_ONCE + DISTANCE_PER_SECOND * (seconds - person.seconds)
    )
    if wide > MAX_WIDTH_RATIO * narrow or distance > max_distance:
        return np.inf
    width, height = person.box[2:]
    return distance - overlap((round(x - width / 2), round(y - height / 2), width, height), box)
