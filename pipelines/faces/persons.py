"""Several faces, each followed through time: in which frames they are, and which of them are one person.

The face that `tracking` gives is taken as it is; this finds the others, and gives all of them the numbers of persons.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from pipelines.faces.detectors import Box, Finder, covered, overlap
from pipelines.faces.tracking import AGREEMENT, interpolated
from pipelines.media.images import Frame

UNSEEN_SECONDS = 2.0
"""Who is not seen for longer than this is a new person afterwards."""
REACH = (0.7, 1.0, 1.5)
"""How far a face may be from where it is expected, in widths of it: at once, more for each second unseen, and at most."""
GROWTH = 2.0
"""A face is not followed to a box that is more than so many times as wide, or as narrow."""
STEADY_SECONDS = 1.0
"""For how long someone who is not seen is expected to move on."""
SIGHTINGS = 2
"""Who was seen in fewer frames than this is none: a cascade's passing error."""

Tracked = tuple[int, Frame, Box | None]
Boxes = list[Box]


def follow_faces(
    tracked: Iterable[Tracked],
    find: Finder,
    *,
    step: int,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, Boxes]]:
    """Yield (number, frame, boxes) for every frame, in their order: the box that is given, if any, then those of further faces.

    Every `step`-th frame and the last one are searched as a whole. Between two such searches, boxes that agree are
    interpolated; around those that do not, the frame in the middle is searched too, and so on; and a frame is searched
    around those boxes of the one before that have no successor. At most `step` frames are held.

    Args:
        tracked: What `tracking.track_face` yields.
        find: Finds the further faces of a frame.
        step: Of the searches, in frames given.
        progress: Called after every search.
    """

    def search(frame: Frame, taken: Sequence[Box], near: Sequence[Box], *, whole: bool) -> Boxes:
        boxes = find(frame.luma, taken, near, whole=whole)
        progress()
        return boxes

    held: list[Tracked] = []
    earlier: tuple[int, Boxes] | None = None  # number and further boxes of the search before
    known: Boxes = []  # all boxes of that frame

    def boxes_of_held() -> Iterator[tuple[int, Frame, Boxes]]:
        nonlocal earlier, known
        number, frame, box = held[-1]
        taken = [box] if box else []
        further = search(frame, taken, known, whole=True)
        boxes_of: dict[int, Boxes] = {number: [box] if box else [] for number, _, box in held}
        if len(held) > 1:
            _fill(earlier, held[:-1], (number, further), search, boxes_of)
        boxes_of[number] += further
        earlier = (number, further)
        for number, frame, _ in held:
            boxes = boxes_of[number]
            # Who the given box has left for another face, and whom no search between knew of.
            lost = (
                [before for before in known if not covered(before, boxes)]
                if number != earlier[0]
                else []
            )
            known = boxes + (search(frame, boxes, lost, whole=False) if lost else [])
            yield number, frame, known
        held.clear()

    for seen in tracked:
        held.append(seen)
        if earlier is None or len(held) == step:
            yield from boxes_of_held()
    if held:
        yield from boxes_of_held()


def _fill(
    one: tuple[int, Boxes],
    frames: list[Tracked],
    other: tuple[int, Boxes],
    search,
    boxes_of: dict[int, Boxes],
) -> None:
    """Add the further boxes of the frames between two searched ones to theirs."""
    (first, boxes), (last, next_boxes) = one, other
    if not frames or not (boxes or next_boxes):
        return
    pairs = [(box, near) for box in boxes for near in next_boxes if overlap(box, near) > AGREEMENT]
    for number, _, _ in frames:
        for pair in pairs:
            box = interpolated(*pair, (number - first) / (last - first))
            if not covered(box, boxes_of[number]):
                boxes_of[number].append(box)
    paired = set(chain(*pairs))
    left, right = ([box for box in side if box not in paired] for side in (boxes, next_boxes))
    if left or right:
        middle = len(frames) // 2
        number, frame, _ = frames[middle]
        searched = (number, search(frame, boxes_of[number], [*left, *right], whole=False))
        boxes_of[number] += searched[1]
        _fill((first, left), frames[:middle], searched, search, boxes_of)
        _fill(searched, frames[middle + 1 :], (last, right), search, boxes_of)


@dataclasses.dataclass(eq=False)
class _Person:
    box: Box
    seconds: float
    """When it was seen last."""
    velocity: np.ndarray
    """Of the middle, in pixels a second."""
    sightings: int = 1
    gone: bool = False
    number: int | None = None

    def expected(self, seconds: float) -> np.ndarray:
        """Return where the middle of the face should be, float [2]."""
        return _middle(self.box) + min(seconds - self.seconds, STEADY_SECONDS) * self.velocity

    def see(self, box: Box, seconds: float) -> None:
        moved = (_middle(box) - _middle(self.box)) / (seconds - self.seconds)
        self.velocity = moved if self.sightings == 1 else (self.velocity + moved) / 2
        self.box, self.seconds, self.sightings = box, seconds, self.sightings + 1


class Persons:
    """Who is who: gives the boxes of one frame after the other the numbers of persons, from 1, in the order of their coming.

    A number is told as soon as it is known whether a box is a person's or a passing error, at most `unseen_seconds` later.

    >>> persons = Persons()
    >>> for second in range(3):
    ...     boxes = [(100 + second, 50, 80, 80)] + ([(300, 50, 70, 70)] if second == 1 else [])
    ...     for name, numbers in persons.add(second, boxes, f"frame {second}"):
    ...         print(name, numbers)
    frame 0 [1]
    >>> list(persons.end())
    [('frame 1', [1, None]), ('frame 2', [1])]
    """

    def __init__(self, *, unseen_seconds: float = UNSEEN_SECONDS):
        self._unseen_seconds = unseen_seconds
        self._present: list[_Person] = []
        self._waiting: deque[tuple[Any, list[_Person]]] = deque()
        self._named, self._frames = 0, 0

    def add(
        self, seconds: float, boxes: Sequence[Box], held: Any
    ) -> Iterator[tuple[Any, list[int | None]]]:
        """Add a frame, and yield (held, numbers) of those frames that are certain now: a number for each box, None for an error.

        Args:
            seconds: When the frame is shown; rising.
            boxes: Where the faces are.
            held: What is to be given back with the numbers.
        """
        self._frames += 1
        for person in self._present:
            person.gone = seconds - person.seconds > self._unseen_seconds
        self._present = [person for person in self._present if not person.gone]
        self._waiting.append((held, self._seen(seconds, boxes)))
        while self._waiting and all(
            person.gone or person.sightings >= SIGHTINGS for person in self._waiting[0][1]
        ):
            yield self._numbered(SIGHTINGS)

    def end(self) -> Iterator[tuple[Any, list[int | None]]]:
        """Yield what is left; of a single frame, all boxes are persons."""
        while self._waiting:
            yield self._numbered(min(SIGHTINGS, self._frames))

    def _numbered(self, sightings: int) -> tuple[Any, list[int | None]]:
        held, persons = self._waiting.popleft()
        for person in persons:
            if person.number is None and person.sightings >= sightings:
                self._named += 1
                person.number = self._named
        return held, [person.number for person in persons]

    def _seen(self, seconds: float, boxes: Sequence[Box]) -> list[_Person]:
        """Return whose each box is, a new person's where it is nobody's, by the assignment that costs least in all."""
        costs = np.array(
            [[_cost(person, box, seconds) for box in boxes] for person in self._present]
        )  # [persons, boxes]
        owner: dict[int, _Person] = {}
        if costs.size:
            beyond = (
                costs.max(initial=0, where=np.isfinite(costs)) + 1000.0
            )  # dearer than any that are near enough
            for row, column in _matched(np.where(np.isfinite(costs), costs, beyond)):
                if np.isfinite(costs[row, column]):
                    owner[column] = self._present[row]
        persons = []
        for column, box in enumerate(boxes):
            if column in owner:
                owner[column].see(box, seconds)
            else:
                self._present.append(owner.setdefault(column, _Person(box, seconds, np.zeros(2))))
            persons.append(owner[column])
        return persons


def _matched(costs: np.ndarray) -> list[tuple[int, int]]:
    """Return the (row, column) that belong together so that their costs [rows, columns] are the least in all."""
    if min(costs.shape) == 1:
        return [np.unravel_index(costs.argmin(), costs.shape)]
    from scipy.optimize import (
        linear_sum_assignment,
    )  # half a second, which a clip of one person need not wait

    return list(zip(*linear_sum_assignment(costs), strict=True))


def _middle(box: Box) -> np.ndarray:
    return np.array([box[0] + box[2] / 2, box[1] + box[3] / 2])


def _cost(person: _Person, box: Box, seconds: float) -> float:
    """Return the distance from where the person is expected, in widths, less the overlap there; infinite where it is too far."""
    wide, narrow = max(person.box[2], box[2]), min(person.box[2], box[2])
    x, y = person.expected(seconds)
    distance = float(np.hypot(*(_middle(box) - (x, y)))) / ((wide + narrow) / 2)
    at_once, a_second, most = REACH
    if wide > GROWTH * narrow or distance > min(
        most, at_once + a_second * (seconds - person.seconds)
    ):
        return np.inf
    width, height = person.box[2:]
    return distance - overlap((round(x - width / 2), round(y - height / 2), width, height), box)
