"""Follow several faces through a video, and number the persons.

The main face comes from `tracking` and is not changed. This module finds the other faces, and gives
every face the number of its person.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from pipelines.faces.detectors import Box, Finder, is_covered, overlap
from pipelines.faces.tracking import MIN_AGREEMENT, interpolate_box
from pipelines.media.images import Frame

UNSEEN_SECONDS = 2.0
"""A person who was not seen for longer than this counts as a new person afterwards."""
REACH_AT_ONCE, REACH_PER_SECOND, MAX_REACH = 0.7, 1.0, 1.5
"""Largest distance of a face from its expected position, in widths of the face.

The distance is `REACH_AT_ONCE` plus `REACH_PER_SECOND` for each second unseen, at most `MAX_REACH`.
"""
MAX_GROWTH = 2.0
"""Two boxes do not show the same face if one is wider than the other by more than this factor."""
STEADY_SECONDS = 1.0
"""A person who is not seen is expected to keep moving for at most this long."""
MIN_SIGHTINGS = 2
"""A person seen in fewer frames is discarded as a false detection."""
UNREACHABLE_COST = 1000.0
"""Added to the highest finite cost, so that the assignment avoids pairs out of reach."""

TrackedFrame = tuple[int, Frame, Box | None]
"""The number of a frame in the video, the frame, and the box of the main face or None."""

_SearchResult = tuple[int, list[Box]]


class _Search(Protocol):
    def __call__(
        self, frame: Frame, known_boxes: Sequence[Box], near_boxes: Sequence[Box], *, whole: bool
    ) -> list[Box]: ...


def follow_faces(
    tracked_frames: Iterable[TrackedFrame],
    find: Finder,
    *,
    step: int,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, list[Box]]]:
    """Yield every frame with its number and the boxes of all faces.

    Every `step`-th frame and the last frame are searched as a whole. Between two such searches,
    boxes that agree are interpolated. If boxes do not agree, the frame in the middle is searched
    around these boxes, and the two halves are treated in the same way. A frame is also searched
    around each box of the previous frame that has no successor. At most `step` frames are held in
    memory.

    Args:
        tracked_frames: The frames that `tracking.track_face` yields.
        find: Finds the other faces of a frame.
        step: Frames from one search of the whole picture to the next.
        progress: Called after every search.

    Yields:
        (number, frame, boxes) in the order of the frames, with boxes in pixels. The box of the main
        face comes first, if the frame has one.
    """

    def search(
        frame: Frame, known_boxes: Sequence[Box], near_boxes: Sequence[Box], *, whole: bool
    ) -> list[Box]:
        boxes = find(frame.luma, known_boxes, near_boxes, whole=whole)
        progress()
        return boxes

    waiting: list[TrackedFrame] = []
    previous_search: _SearchResult | None = None  # other faces of the last frame searched as whole
    previous_boxes: list[Box] = []  # all faces of the last frame

    def follow_waiting() -> Iterator[tuple[int, Frame, list[Box]]]:
        nonlocal previous_search, previous_boxes
        last_number, last_frame, main_box = waiting[-1]
        known_boxes = [main_box] if main_box else []
        other_boxes = search(last_frame, known_boxes, previous_boxes, whole=True)
        boxes_by_frame: dict[int, list[Box]] = {
            number: [box] if box else [] for number, _, box in waiting
        }
        this_search = (last_number, other_boxes)
        if len(waiting) > 1:
            _add_boxes_between(previous_search, waiting[:-1], this_search, search, boxes_by_frame)
        boxes_by_frame[last_number] += other_boxes
        previous_search = this_search
        for number, frame, _ in waiting:
            boxes = boxes_by_frame[number]
            # The main box may have jumped to another face, which no search between has seen.
            lost_boxes = []
            if number != last_number:
                lost_boxes = [box for box in previous_boxes if not is_covered(box, boxes)]
            if lost_boxes:
                boxes = boxes + search(frame, boxes, lost_boxes, whole=False)
            previous_boxes = boxes
            yield number, frame, boxes
        waiting.clear()

    for tracked_frame in tracked_frames:
        waiting.append(tracked_frame)
        if previous_search is None or len(waiting) == step:
            yield from follow_waiting()
    if waiting:
        yield from follow_waiting()


def _add_boxes_between(
    earlier: _SearchResult,
    frames: list[TrackedFrame],
    later: _SearchResult,
    search: _Search,
    boxes_by_frame: dict[int, list[Box]],
) -> None:
    """Add the boxes of other faces to the frames between two searched frames."""
    earlier_number, earlier_boxes = earlier
    later_number, later_boxes = later
    if not frames or not (earlier_boxes or later_boxes):
        return
    pairs = [
        (earlier_box, later_box)
        for earlier_box in earlier_boxes
        for later_box in later_boxes
        if overlap(earlier_box, later_box) > MIN_AGREEMENT
    ]
    for number, _, _ in frames:
        fraction = (number - earlier_number) / (later_number - earlier_number)
        for earlier_box, later_box in pairs:
            box = interpolate_box(earlier_box, later_box, fraction)
            if not is_covered(box, boxes_by_frame[number]):
                boxes_by_frame[number].append(box)
    paired_boxes = {box for pair in pairs for box in pair}
    earlier_unpaired = [box for box in earlier_boxes if box not in paired_boxes]
    later_unpaired = [box for box in later_boxes if box not in paired_boxes]
    if not earlier_unpaired and not later_unpaired:
        return
    middle = len(frames) // 2
    number, frame, _ = frames[middle]
    near_boxes = [*earlier_unpaired, *later_unpaired]
    middle_boxes = search(frame, boxes_by_frame[number], near_boxes, whole=False)
    boxes_by_frame[number] += middle_boxes
    middle_search = (number, middle_boxes)
    _add_boxes_between(
        (earlier_number, earlier_unpaired), frames[:middle], middle_search, search, boxes_by_frame
    )
    _add_boxes_between(
        middle_search, frames[middle + 1 :], (later_number, later_unpaired), search, boxes_by_frame
    )


@dataclasses.dataclass(eq=False)
class _Person:
    box: Box
    seconds: float
    """Time of the last sighting."""
    velocity: np.ndarray
    """Velocity of the box's centre, float [2], in pixels per second."""
    n_sightings: int = 1
    is_gone: bool = False
    number: int | None = None

    def expected_centre(self, seconds: float) -> np.ndarray:
        """Return the expected centre of the face at a time, float [2], in pixels."""
        return _box_centre(self.box) + min(seconds - self.seconds, STEADY_SECONDS) * self.velocity

    def add_sighting(self, box: Box, seconds: float) -> None:
        velocity = (_box_centre(box) - _box_centre(self.box)) / (seconds - self.seconds)
        self.velocity = velocity if self.n_sightings == 1 else (self.velocity + velocity) / 2
        self.box, self.seconds = box, seconds
        self.n_sightings += 1


class PersonTracker:
    """Number the persons of a video, from 1, in the order of their first frame.

    The tracker takes the boxes of one frame after the other. It returns the numbers of a frame as
    soon as it knows whether each box is a person or a false detection. This takes at most
    `unseen_seconds` of video.

    >>> tracker = PersonTracker()
    >>> for second in range(3):
    ...     boxes = [(100 + second, 50, 80, 80)] + ([(300, 50, 70, 70)] if second == 1 else [])
    ...     for frame, numbers in tracker.add(second, boxes, f"frame {second}"):
    ...         print(frame, numbers)
    frame 0 [1]
    >>> list(tracker.finish())
    [('frame 1', [1, None]), ('frame 2', [1])]

    Args:
        unseen_seconds: A person who was not seen for longer counts as a new person afterwards.
    """

    def __init__(self, *, unseen_seconds: float = UNSEEN_SECONDS) -> None:
        self._unseen_seconds = unseen_seconds
        self._present: list[_Person] = []
        self._waiting: deque[tuple[Any, list[_Person]]] = deque()
        self._n_numbered, self._n_frames = 0, 0

    def add(
        self, seconds: float, boxes: Sequence[Box], frame_data: Any
    ) -> Iterator[tuple[Any, list[int | None]]]:
        """Add a frame, and yield the frames whose persons are certain now.

        Args:
            seconds: The time of the frame; ascending from call to call.
            boxes: The boxes of the frame's faces, in pixels.
            frame_data: Returned with the numbers of the frame.

        Yields:
            (frame_data, numbers), with a number for each box, or None for a false detection.
        """
        self._n_frames += 1
        for person in self._present:
            person.is_gone = seconds - person.seconds > self._unseen_seconds
        self._present = [person for person in self._present if not person.is_gone]
        self._waiting.append((frame_data, self._match_persons(seconds, boxes)))
        while self._waiting and self._is_certain(self._waiting[0][1]):
            yield self._number_first_frame(MIN_SIGHTINGS)

    def finish(self) -> Iterator[tuple[Any, list[int | None]]]:
        """Yield the remaining frames as `add` does; every box of a single frame is a person."""
        while self._waiting:
            yield self._number_first_frame(min(MIN_SIGHTINGS, self._n_frames))

    @staticmethod
    def _is_certain(persons: Iterable[_Person]) -> bool:
        return all(person.is_gone or person.n_sightings >= MIN_SIGHTINGS for person in persons)

    def _number_first_frame(self, min_sightings: int) -> tuple[Any, list[int | None]]:
        frame_data, persons = self._waiting.popleft()
        for person in persons:
            if person.number is None and person.n_sightings >= min_sightings:
                self._n_numbered += 1
                person.number = self._n_numbered
        return frame_data, [person.number for person in persons]

    def _match_persons(self, seconds: float, boxes: Sequence[Box]) -> list[_Person]:
        """Return the person of each box, by the assignment with the lowest total cost.

        A box that matches no present person is a new person.
        """
        costs = np.array(
            [[_match_cost(person, box, seconds) for box in boxes] for person in self._present]
        )  # [persons, boxes]
        person_by_box: dict[int, _Person] = {}
        if costs.size:
            is_reachable = np.isfinite(costs)
            unreachable = costs.max(initial=0, where=is_reachable) + UNREACHABLE_COST
            for row, column in _cheapest_pairs(np.where(is_reachable, costs, unreachable)):
                if is_reachable[row, column]:
                    person_by_box[column] = self._present[row]
        persons = []
        for column, box in enumerate(boxes):
            person = person_by_box.get(column)
            if person is None:
                person = _Person(box, seconds, np.zeros(2))
                self._present.append(person)
            else:
                person.add_sighting(box, seconds)
            persons.append(person)
        return persons


def _cheapest_pairs(costs: np.ndarray) -> list[tuple[int, int]]:
    """Return the (row, column) pairs with the lowest total of the costs [rows, columns]."""
    if min(costs.shape) == 1:
        return [np.unravel_index(costs.argmin(), costs.shape)]
    # The import takes half a second, which clips of a single person do not need.
    from scipy.optimize import linear_sum_assignment

    return list(zip(*linear_sum_assignment(costs), strict=True))


def _box_centre(box: Box) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def _match_cost(person: _Person, box: Box, seconds: float) -> float:
    """Return the distance of a box from the person's expected position, less the overlap.

    The distance is in widths of the face. The cost is infinite if the box is out of reach.
    """
    wider, narrower = max(person.box[2], box[2]), min(person.box[2], box[2])
    x, y = person.expected_centre(seconds)
    distance = float(np.hypot(*(_box_centre(box) - (x, y)))) / ((wider + narrower) / 2)
    reach = min(MAX_REACH, REACH_AT_ONCE + REACH_PER_SECOND * (seconds - person.seconds))
    if wider > MAX_GROWTH * narrower or distance > reach:
        return np.inf
    width, height = person.box[2:]
    return distance - overlap((round(x - width / 2), round(y - height / 2), width, height), box)
