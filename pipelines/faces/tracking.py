"""The box of the face in every frame, looked for in few of them: what lies between two that agree is interpolated."""

from collections.abc import Callable, Iterable, Iterator

from pipelines.faces.detectors import Box, Detector, overlap
from pipelines.media.images import Frame

ANCHOR_STEP = 24
"""How many frames lie from one search to the next where the face stays: about a second."""
AGREEMENT = 0.65
"""Boxes that overlap more than this are of one face, between which its box moves and grows evenly."""

Seen = tuple[int, Frame]


def track_face(
    frames: Iterable[Seen],
    detect: Detector,
    *,
    step: int = ANCHOR_STEP,
    progress: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Frame, Box | None]]:
    """Yield (number, frame, box or None) for every frame, in their order; at most `step` frames are held.

    Every `step`-th frame given and the last one are searched. Where two neighbouring searches do not agree, or one of
    them found nothing, the frame in their middle is searched too, and so on.

    Args:
        frames: Numbers, rising, and frames.
        detect: Finds the box in one frame.
        step: Of the searches, in frames given; 1 searches them all.
        progress: Called after every search.
    """

    def search(frame: Frame, before: Box | None) -> Box | None:
        box = detect(frame.luma, before)
        progress()
        return box

    held: list[Seen] = []
    earlier: tuple[int, Box | None] | None = None  # number and box of the search before
    known: Box | None = None  # the last box found

    def boxes_of_held() -> Iterator[tuple[int, Frame, Box | None]]:
        nonlocal earlier, known
        number, frame = held[-1]
        box = search(frame, known)
        found = dict(_between(earlier, held[:-1], (number, box), search)) if len(held) > 1 else {}
        found[number] = box
        earlier = (number, box)
        for number, frame in held:
            known = found[number] or known
            yield number, frame, found[number]
        held.clear()

    for seen in frames:
        held.append(seen)
        if earlier is None or len(held) == step:
            yield from boxes_of_held()
    if held:
        yield from boxes_of_held()


def _between(
    one: tuple[int, Box | None], frames: list[Seen], other: tuple[int, Box | None], search
) -> Iterator[tuple[int, Box | None]]:
    """Yield (number, box or None) of the frames between two searched ones."""
    if not frames:
        return
    (first, box), (last, next_box) = one, other
    if box and next_box and overlap(box, next_box) > AGREEMENT:
        for number, _ in frames:
            yield number, interpolated(box, next_box, (number - first) / (last - first))
        return
    middle = len(frames) // 2
    number, frame = frames[middle]
    searched = (number, search(frame, box or next_box))
    yield searched
    yield from _between(one, frames[:middle], searched, search)
    yield from _between(searched, frames[middle + 1 :], other, search)


def interpolated(one: Box, other: Box, share: float) -> Box:
    """Return the box that lies between two, at a share of the way.

    >>> interpolated((0, 0, 10, 10), (8, 0, 14, 14), 0.25)
    (2, 0, 11, 11)
    """
    left, top, width, height = (round(a + share * (b - a)) for a, b in zip(one, other, strict=True))
    return left, top, width, height
