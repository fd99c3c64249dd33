"""Track a face's box through the frames of a video and search few of the frames.

Between two searches with similar boxes, the box is interpolated.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from pipelines.faces.detectors import Box, Detector, overlap
from pipelines.media.images import Frame

SEARCH_STEP = 24
"""Frames from one search to the next while the face stays: about a second of video."""
MIN_AGREEMENT = 0.65
"""Two boxes with a higher overlap show the same face; the boxes between are interpolated."""

NumberedFrame = tuple[int, Frame]
"""The number of a frame in the video, from 0, and the frame."""

_SearchResult = tuple[int, Box | None]
_Search = Callable[[Frame, Box | None], Box | None]


def track_face(
    frames: Iterable[NumberedFrame],
    detect: Detector,
    *,
    step: int = SEARCH_STEP,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, Box | None]]:
    """Yield every frame with its number and the box of the face.

    Every `step`-th frame and the last frame are searched. If the boxes of two neighbouring searches
    differ, or a search found no face, the frame in the middle is searched too. The two halves are
    then treated in the same way. At most `step` frames are held in memory.

    Args:
        frames: Numbers, ascending, and frames.
        detect: Returns the box of one frame.
        step: Frames from one search to the next; 1 searches every frame.
        progress: Called after every search.

    Yields:
        (number, frame, box) in the order of the frames. The box is in pixels, or None if the frame
        has no face.
    """

    def search(frame: Frame, previous_box: Box | None) -> Box | None:
        box = detect(frame.luma, previous_box)
        progress()
        return box

    waiting: list[NumberedFrame] = []
    previous_search: _SearchResult | None = None
    last_box: Box | None = None

    def track_waiting() -> Iterator[tuple[int, Frame, Box | None]]:
        nonlocal previous_search, last_box
        last_number, last_frame = waiting[-1]
        found_box = search(last_frame, last_box)
        this_search = (last_number, found_box)
        boxes = {last_number: found_box}
        if len(waiting) > 1:
            boxes.update(_boxes_between(previous_search, waiting[:-1], this_search, search))
        previous_search = this_search
        for number, frame in waiting:
            last_box = boxes[number] or last_box
            yield number, frame, boxes[number]
        waiting.clear()

    for numbered_frame in frames:
        waiting.append(numbered_frame)
        if previous_search is None or len(waiting) == step:
            yield from track_waiting()
    if waiting:
        yield from track_waiting()


def _boxes_between(
    earlier: _SearchResult,
    frames: Sequence[NumberedFrame],
    later: _SearchResult,
    search: _Search,
) -> Iterator[_SearchResult]:
    """Yield (number, box or None) of the frames between two searched frames."""
    if not frames:
        return
    earlier_number, earlier_box = earlier
    later_number, later_box = later
    if earlier_box and later_box and overlap(earlier_box, later_box) > MIN_AGREEMENT:
        for number, _ in frames:
            fraction = (number - earlier_number) / (later_number - earlier_number)
            yield number, interpolate_box(earlier_box, later_box, fraction)
        return
    middle = len(frames) // 2
    number, frame = frames[middle]
    middle_search = (number, search(frame, earlier_box or later_box))
    yield middle_search
    yield from _boxes_between(earlier, frames[:middle], middle_search, search)
    yield from _boxes_between(middle_search, frames[middle + 1 :], later, search)


def interpolate_box(earlier_box: Box, later_box: Box, fraction: float) -> Box:
    """Return the box at a fraction of the way from one box to another.

    >>> interpolate_box((0, 0, 10, 10), (8, 0, 14, 14), 0.25)
    (2, 0, 11, 11)

    Args:
        earlier_box: The box at fraction 0, in pixels.
        later_box: The box at fraction 1, in pixels.
        fraction: In [0, 1].

    Returns:
        The box in whole pixels.
    """
    left, top, width, height = (
        round(start + fraction * (end - start))
        for start, end in zip(earlier_box, later_box, strict=True)
    )
    return left, top, width, height
