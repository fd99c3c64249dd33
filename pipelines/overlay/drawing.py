"""Draw boxes, names and bars with OpenCV into the planes of a YUV 4:2:0 picture, without RGB."""

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

MAX_GAP_SECONDS = 1.0
"""Between two times that are farther apart, nothing is drawn."""
FONT = cv2.FONT_HERSHEY_SIMPLEX
CAPITAL_PIXELS = 21
"""The height of the font's capitals at scale 1."""
MIN_ROW_PIXELS, ROWS_PER_HEIGHT, ROWS_PER_WIDTH = 14, 32, 28
"""The height of a row of bars: the smallest one, and the picture's height and width in rows."""
COLUMN_ROWS = 9
"""The width of a column of bars (a name, a bar and a percentage), in heights of a row."""


class Colour(NamedTuple):
    """A colour of BT.601 in the limited range."""

    y: int
    u: int
    v: int


def colour(red: int, green: int, blue: int) -> Colour:
    """Return an RGB colour as YUV.

    >>> colour(255, 255, 255), colour(255, 0, 0)
    (Colour(y=235, u=128, v=128), Colour(y=82, u=90, v=240))
    """
    rows = ((0.257, 0.504, 0.098, 16), (-0.148, -0.291, 0.439, 128), (0.439, -0.368, -0.071, 128))
    return Colour(
        *(
            min(255, max(0, int(r * red + g * green + b * blue + base + 0.5)))
            for r, g, b, base in rows
        )
    )


WHITE = colour(255, 255, 255)
GREY = colour(180, 184, 190)
DARK = colour(22, 24, 28)
BAR_BACKGROUND = colour(62, 66, 72)
FACE_COLOURS = tuple(
    itertools.starmap(
        colour,
        [
            (255, 214, 10),
            (64, 220, 255),
            (255, 110, 180),
            (130, 240, 110),
            (255, 150, 60),
            (190, 150, 255),
        ],
    )
)
"""The colours of the boxes, which repeat, and of the bars."""


class TimedValues:
    """Values at some times, interpolated linearly between them.

    Args:
        seconds: The times, rising.
        values: A row of numbers for each time.
        hold_seconds: The time for which values stay before and after a gap; None: half of the
            median step, no more than half of `MAX_GAP_SECONDS`.

    >>> box = TimedValues([0.0, 1.0, 9.0], [[0, 0], [10, 20], [50, 50]])
    >>> box.at(0.5), box.at(1.2), box.at(5.0)
    ((array([ 5., 10.]), 0), (array([10., 20.]), 1), None)
    """

    def __init__(
        self,
        seconds: Sequence[float],
        values: Sequence[Sequence[float]],
        *,
        hold_seconds: float | None = None,
    ) -> None:
        self._seconds, self._values = list(seconds), np.asarray(values, float)
        median_step = (
            float(np.median(np.diff(self._seconds))) if len(self._seconds) > 1 else MAX_GAP_SECONDS
        )
        self._hold_seconds = (
            min(median_step, MAX_GAP_SECONDS) / 2 if hold_seconds is None else hold_seconds
        )

    def at(self, seconds: float) -> tuple[np.ndarray, int] | None:
        """Return the values of a time and the index of the nearest time; None in a gap."""
        after = bisect_right(self._seconds, seconds)
        before, count = after - 1, len(self._seconds)
        since = seconds - self._seconds[before] if before >= 0 else np.inf
        until = self._seconds[after] - seconds if after < count else np.inf
        if since + until <= MAX_GAP_SECONDS + 1e-6:
            share = since / (since + until)
            values = self._values[before] + share * (self._values[after] - self._values[before])
            return values, before if share <= 0.5 else after
        nearest = before if since <= until else after
        if min(since, until) <= self._hold_seconds + 1e-6:
            return self._values[nearest], nearest
        return None


class Canvas:
    """The three planes of a picture.

    Args:
        planes: uint8 [height, width], and twice uint8 [height / 2, width / 2].
    """

    def __init__(self, planes: Sequence[np.ndarray]) -> None:
        self.planes = planes

    def rectangle(
        self, left: int, top: int, right: int, bottom: int, colour: Colour, *, thickness: int = -1
    ) -> None:
        """Draw the outline of a rectangle, or fill the rectangle with a negative thickness.

        `right` and `bottom` are its last pixels.
        """
        for place, (plane, value) in enumerate(zip(self.planes, colour, strict=True)):
            half = min(1, place)
            width = thickness if thickness < 0 else max(1, thickness >> half)
            cv2.rectangle(
                plane,
                (left >> half, top >> half),
                (right >> half, bottom >> half),
                int(value),
                width,
            )

    def text(
        self, text: str, left: int, bottom: int, capital: float, colour: Colour = WHITE
    ) -> None:
        """Write text on a grey background, with its baseline at `bottom`.

        `capital` is the height of capitals in pixels. Only the luma plane changes.
        """
        cv2.putText(
            self.planes[0],
            text,
            (left, bottom),
            FONT,
            capital / CAPITAL_PIXELS,
            int(colour.y),
            _stroke(capital),
            cv2.LINE_AA,
        )


def text_width(text: str, capital: float) -> int:
    """Return the width of a text in pixels, with capitals of `capital` pixels."""
    return cv2.getTextSize(text, FONT, capital / CAPITAL_PIXELS, _stroke(capital))[0][0]


def _stroke(capital: float) -> int:
    return max(1, round(capital / 9))


class BoxDrawing:
    """Draws the box, number and text of each face.

    Args:
        faces: The `seconds`, `boxes` (left, top, width and height) and `texts` of each number.
        height: The height of the picture, which sets the size of lines and letters.
    """

    def __init__(self, faces: Mapping[int, Mapping[str, Any]], *, height: int) -> None:
        self._faces = [
            (number, TimedValues(face["seconds"], face["boxes"]), face["texts"])
            for number, face in sorted(faces.items())
        ]
        # An even number of pixels has the same width in the planes of colour.
        self._line = 2 * max(1, round(height / 480))
        self._capital = max(8.0, height / 50)

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Draw the faces of a time."""
        rows, columns = canvas.planes[0].shape
        for place, (number, boxes, texts) in enumerate(self._faces):
            if (found := boxes.at(seconds)) is None:
                continue
            left, top, width, height = (round(value) for value in found[0])
            own = FACE_COLOURS[place % len(FACE_COLOURS)]
            outer, inner = self._line, self._line // 2
            canvas.rectangle(
                left, top, left + width - 1, top + height - 1, DARK, thickness=outer + 2 * inner
            )
            canvas.rectangle(left, top, left + width - 1, top + height - 1, own, thickness=outer)
            text, capital = f"{number} {texts[found[1]]}", self._capital
            padding = round(capital / 2)
            label_width = text_width(text, capital) + 2 * padding
            label_height = round(capital) + 2 * padding
            x = min(max(0, left - outer), max(0, columns - label_width))
            y = top - label_height - outer
            if y < 0:
                y = min(max(0, top), rows - label_height)
            canvas.rectangle(x, y, x + label_width - 1, y + label_height - 1, DARK)
            canvas.text(text, x + padding, y + label_height - padding, capital)


class BarDrawing:
    """Draws bars below a picture: per group a title, and per label a name, a bar and a percentage.

    Args:
        groups: The `title`, `seconds`, `labels` and `values` of each group.
        size: The width and the height of the picture.

    Attributes:
        height: The height of the bars in pixels, an even number.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], *, size: tuple[int, int]) -> None:
        width, height = size
        self._row = max(
            MIN_ROW_PIXELS, round(min(height / ROWS_PER_HEIGHT, width / ROWS_PER_WIDTH))
        )
        self._capital = 0.52 * self._row
        self._groups = [
            (
                group,
                TimedValues(group["seconds"], group["values"], hold_seconds=MAX_GAP_SECONDS / 2),
            )
            for group in groups
        ]
        self._columns = (
            min(len(groups), max(1, width // (COLUMN_ROWS * self._row))) if groups else 1
        )
        lines = [1 + len(group["labels"]) for group in groups]
        self._bands = [
            max(lines[start : start + self._columns])
            for start in range(0, len(lines), self._columns)
        ]
        padding = self._row // 2
        rows_height = sum(self._bands) * self._row + padding * (1 + len(self._bands))
        self.height: int = 2 * (rows_height // 2) if groups else 0
        names = [label for group in groups for label in group["labels"]]
        self._name_width = max((text_width(name, self._capital) for name in names), default=0)
        self._share_width = text_width("100%", self._capital)
        self._empty = [
            np.full((self.height >> half, width >> half), value, np.uint8)
            for half, value in zip((0, 1, 1), DARK, strict=True)
        ]
        self._width = width
        for group, left, top in self._places():
            for line, label in enumerate(group["labels"], 1):
                Canvas(self._empty).text(
                    label, left, self._baseline(top, line), self._capital, GREY
                )
        self._drawn_indices: tuple[int | None, ...] | None = None
        self._drawn = self._empty

    def _places(self) -> Iterator[tuple[Mapping[str, Any], int, int]]:
        """Yield each group with the left and the top of its place."""
        column_width, top, padding = self._width // self._columns, self._row // 2, self._row // 2
        for place, (group, _) in enumerate(self._groups):
            band, column = divmod(place, self._columns)
            if place and column == 0:
                top += self._bands[band - 1] * self._row + padding
            yield group, column * column_width + padding, top

    def _baseline(self, top: int, line: int) -> int:
        return round(top + line * self._row + (self._row + self._capital) / 2)

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Fill a canvas of this size with the bars of the time nearest to `seconds`.

        They match the text at the boxes.
        """
        found = [values.at(seconds) for _, values in self._groups]
        indices = tuple(one and one[1] for one in found)
        if indices != self._drawn_indices:
            self._drawn_indices = indices
            self._drawn = [plane.copy() for plane in self._empty]
            for (group, left, top), index in zip(self._places(), indices, strict=True):
                shares = None if index is None else group["values"][index]
                self._draw_group(Canvas(self._drawn), group, left, top, shares)
        for plane, drawn in zip(canvas.planes, self._drawn, strict=True):
            plane[:] = drawn

    def _draw_group(
        self,
        canvas: Canvas,
        group: Mapping[str, Any],
        left: int,
        top: int,
        shares: Sequence[float] | None,
    ) -> None:
        best = int(np.argmax(shares)) if shares is not None else -1
        prediction = group["labels"][best] if shares is not None else "none"
        canvas.text(f"{group['title']}: {prediction}", left, self._baseline(top, 0), self._capital)
        row, gap, column_width = self._row, self._row // 2, self._width // self._columns
        start = left + self._name_width + gap
        end = left + column_width - row - self._share_width - gap
        for line, share in enumerate(shares if shares is not None else (), 1):
            upper, lower = top + line * row + row // 5, top + (line + 1) * row - row // 5
            is_best = line == best + 1
            canvas.rectangle(start, upper, end, lower, BAR_BACKGROUND)
            if share * (end - start) >= 1:
                canvas.rectangle(
                    start,
                    upper,
                    start + round(share * (end - start)),
                    lower,
                    FACE_COLOURS[0] if is_best else GREY,
                )
            canvas.text(
                f"{100 * share:.0f}%",
                end + gap,
                self._baseline(top, line),
                self._capital,
                WHITE if is_best else GREY,
            )
            if is_best:
                canvas.text(group["labels"][best], left, self._baseline(top, line), self._capital)
