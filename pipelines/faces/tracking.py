"""Find the box of the face in every frame, but search only some frames.

Between two searched frames whose boxes agree, the box is interpolated.
"""

from collections.abc import Callable, Iterable, Iterator

from pipelines.faces.detectors import Box, Detector, overlap
from pipelines.media.images import Frame

ANCHOR_STEP = 24
"""The distance between two searches in frames, about a second, where the face stays in place."""
MIN_AGREEMENT = 0.65
"""Two boxes with a larger overlap belong to one face, which moves evenly between them."""

NumberedFrame = tuple[int, Frame]


def track_face(
    frames: Iterable[NumberedFrame],
    detect: Detector,
    *,
    step: int = ANCHOR_STEP,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, Box | None]]:
    """Yield the number, the frame and the box or None of each frame, in order.

    Every `step`-th frame and the last one are searched. Where two neighbouring searches disagree,
    or one finds no face, the frame halfway between them is searched too, and so on. No more than
    `step` frames are in memory.

    Args:
        frames: Frames with rising numbers.
        detect: Finds the box in one frame.
        step: The distance between two searches, in frames; 1 searches all frames.
        progress: Called after every search.
    """

    def search(frame: Frame, previous: Box | None) -> Box | None:
        box = detect(frame.luma, previous)
        progress()
        return box

    block: list[NumberedFrame] = []  # the frames since the last search
    last_search: tuple[int, Box | None] | None = None  # number and box
    known: Box | None = None  # the last box found

    def boxes_of_block() -> Iterator[tuple[int, Frame, Box | None]]:
        nonlocal last_search, known
        number, frame = block[-1]
        box = search(frame, known)
        box_of = (
            dict(_boxes_between(last_search, block[:-1], (number, box), search))
            if len(block) > 1
            else {}
        )
        box_of[number] = box
        last_search = (number, box)
        for number, frame in block:
            known = box_of[number] or known
            yield number, frame, box_of[number]
        block.clear()

    for numbered_frame in frames:
        block.append(numbered_frame)
        if last_search is None or len(block) == step:
            yield from boxes_of_block()
    if block:
        yield from boxes_of_block()


def _boxes_between(
    before: tuple[int, Box | None],
    frames: list[NumberedFrame],
    after: tuple[int, Box | None],
    search: Callable[[Frame, Box | None], Box | None],
) -> Iterator[tuple[int, Box | None]]:
    """Yield the number and the box or None of the frames between two searched ones."""
    if not frames:
        return
    (first, box), (last, next_box) = before, after
    if box and next_box and overlap(box, next_box) > MIN_AGREEMENT:
        for number, _ in frames:
            yield number, interpolated(box, next_box, (number - first) / (last - first))
        return
    middle = len(frames) // 2
    number, frame = frames[middle]
    searched = (number, search(frame, box or next_box))
    yield searched
    yield from _boxes_between(before, frames[:middle], searched, search)
    yield from _boxes_between(searched, frames[middle + 1 :], after, search)


def interpolated(one: Box, other: Box, share: float) -> Box:
    """Return the box between two boxes, at a share of the way from the first to the second.

    >>> interpolated((0, 0, 10, 10), (8, 0, 14, 14), 0.25)
    (2, 0, 11, 11)
    """
    left, top, width, height = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return left, top, width, height
