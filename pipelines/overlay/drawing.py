"""Boxes, names and bars drawn by OpenCV into the planes of a YUV 4:2:0 picture; nothing is converted to RGB and back."""

import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

GONE_SECONDS = 1.0
"""What is not told of for longer than this is gone: between two times that lie farther apart nothing is drawn."""
FONT = cv2.FONT_HERSHEY_SIMPLEX
CAPITAL = 21
"""How high the font's capitals are at scale 1, in pixels."""
LEAST_ROW, ROWS_OF_HEIGHT, ROWS_OF_WIDTH = 14, 32, 28
"""A line of the bars is at least so many pixels high, and such a part of the picture's height; less where it is narrow."""
COLUMN_ROWS = 9
"""How wide a column of bars must be, in heights of a line: a name, a bar and a percentage."""


class Colour(NamedTuple):
    """Of BT.601, in the limited range."""

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


WHITE, SOFT, DARK, TRACK = (
    colour(255, 255, 255),
    colour(180, 184, 190),
    colour(22, 24, 28),
    colour(62, 66, 72),
)
FACES = tuple(
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
"""Of the boxes and bars, by number."""


class Moving:
    """Numbers told at some times, which change evenly from one to the next.

    Args:
        seconds: Rising.
        values: A row of numbers for each.
        held_seconds: How long they hold before and behind a gap; None: half a usual step, at most half of `GONE_SECONDS`.

    >>> box = Moving([0.0, 1.0, 9.0], [[0, 0], [10, 20], [50, 50]])
    >>> box.at(0.5), box.at(1.2), box.at(5.0)
    ((array([ 5., 10.]), 0), (array([10., 20.]), 1), None)
    """

    def __init__(
        self,
        seconds: Sequence[float],
        values: Sequence[Sequence[float]],
        *,
        held_seconds: float | None = None,
    ):
        self._seconds, self._values = list(seconds), np.asarray(values, float)
        usual = float(np.median(np.diff(self._seconds))) if len(self._seconds) > 1 else GONE_SECONDS
        self._held_seconds = min(usual, GONE_SECONDS) / 2 if held_seconds is None else held_seconds

    def at(self, seconds: float) -> tuple[np.ndarray, int] | None:
        """Return the numbers of a time, and the index of what was told next to it; None where nothing was."""
        after = bisect_right(self._seconds, seconds)
        before, count = after - 1, len(self._seconds)
        since = seconds - self._seconds[before] if before >= 0 else np.inf
        until = self._seconds[after] - seconds if after < count else np.inf
        if since + until <= GONE_SECONDS + 1e-6:
            share = since / (since + until)
            return self._values[before] + share * (
                self._values[after] - self._values[before]
            ), before if share <= 0.5 else after
        nearest = before if since <= until else after
        return (
            (self._values[nearest], nearest)
            if min(since, until) <= self._held_seconds + 1e-6
            else None
        )


class Canvas:
    """The three planes of a picture, uint8 [height, width] and twice [height / 2, width / 2]."""

    def __init__(self, planes: Sequence[np.ndarray]):
        self.planes = planes

    def rectangle(
        self, left: int, top: int, right: int, bottom: int, colour: Colour, *, thickness: int = -1
    ) -> None:
        """Draw the outline of a rectangle, or fill it; `right` and `bottom` are its last pixels."""
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
        """Write grey letters, so high, with their feet at `bottom`, on what is grey already."""
        cv2.putText(
            self.planes[0],
            text,
            (left, bottom),
            FONT,
            capital / CAPITAL,
            int(colour.y),
            _stroke(capital),
            cv2.LINE_AA,
        )


def text_width(text: str, capital: float) -> int:
    return cv2.getTextSize(text, FONT, capital / CAPITAL, _stroke(capital))[0][0]


def _stroke(capital: float) -> int:
    return max(1, round(capital / 9))


class Boxes:
    """The box, number and words of each face.

    Args:
        faces: For each number its `seconds`, `boxes` of left, top, width and height, and `texts`.
        height: Of the picture; lines and letters go by it.
    """

    def __init__(self, faces: Mapping[int, Mapping[str, Any]], *, height: int):
        self._faces = [
            (number, Moving(face["seconds"], face["boxes"]), face["texts"])
            for number, face in sorted(faces.items())
        ]
        self._line = 2 * max(1, round(height / 480))  # even, so that it is as thick in colour
        self._capital = max(8.0, height / 50)

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Draw what is there at a time."""
        rows, columns = canvas.planes[0].shape
        for place, (number, boxes, texts) in enumerate(self._faces):
            if (found := boxes.at(seconds)) is None:
                continue
            left, top, width, height = (round(value) for value in found[0])
            own = FACES[place % len(FACES)]
            outer, inner = self._line, self._line // 2
            canvas.rectangle(
                left, top, left + width - 1, top + height - 1, DARK, thickness=outer + 2 * inner
            )
            canvas.rectangle(left, top, left + width - 1, top + height - 1, own, thickness=outer)
            words, capital, pad = (
                f"{number} {texts[found[1]]}",
                self._capital,
                round(self._capital / 2),
            )
            wide, high = text_width(words, capital) + 2 * pad, round(capital) + 2 * pad
            x = min(max(0, left - outer), max(0, columns - wide))
            y = top - high - outer if top - high - outer >= 0 else min(max(0, top), rows - high)
            canvas.rectangle(x, y, x + wide - 1, y + high - 1, DARK)
            canvas.text(words, x + pad, y + high - pad, capital)


class Bars:
    """A field of bars: for each group its title and a line a label with name, bar and percentage.

    Args:
        groups: For each its `title`, `seconds`, `labels` and `values`.
        size: Width and height of the picture that it stands below.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], *, size: tuple[int, int]):
        width, height = size
        self._row = max(LEAST_ROW, round(min(height / ROWS_OF_HEIGHT, width / ROWS_OF_WIDTH)))
        self._capital = 0.52 * self._row
        self._groups = [
            (group, Moving(group["seconds"], group["values"], held_seconds=GONE_SECONDS / 2))
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
        pad = self._row // 2
        self.height: int = (
            2 * ((sum(self._bands) * self._row + pad * (1 + len(self._bands))) // 2)
            if groups
            else 0
        )
        """In pixels, even."""
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
                Canvas(self._empty).text(label, left, self._foot(top, line), self._capital, SOFT)
        self._told, self._drawn = None, self._empty

    def _places(self):
        across, top, pad = self._width // self._columns, self._row // 2, self._row // 2
        for place, (group, _) in enumerate(self._groups):
            band, column = divmod(place, self._columns)
            if place and column == 0:
                top += self._bands[band - 1] * self._row + pad
            yield group, column * across + pad, top

    def _foot(self, top: int, line: int) -> int:
        return round(top + line * self._row + (self._row + self._capital) / 2)

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Fill a canvas of its size with what is told next to a time: the bars are those of the words at the box."""
        found = [moving.at(seconds) for _, moving in self._groups]
        told = tuple(one and one[1] for one in found)
        if told != self._told:
            self._told, self._drawn = told, [plane.copy() for plane in self._empty]
            for (group, left, top), index in zip(self._places(), told, strict=True):
                self._draw_group(
                    Canvas(self._drawn),
                    group,
                    left,
                    top,
                    None if index is None else group["values"][index],
                )
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
        answer = group["labels"][best] if shares is not None else "none"
        canvas.text(f"{group['title']}: {answer}", left, self._foot(top, 0), self._capital)
        row, gap, across = self._row, self._row // 2, self._width // self._columns
        start, end = left + self._name_width + gap, left + across - row - self._share_width - gap
        for line, share in enumerate(shares if shares is not None else (), 1):
            upper, lower, is_best = (
                top + line * row + row // 5,
                top + (line + 1) * row - row // 5,
                line == best + 1,
            )
            canvas.rectangle(start, upper, end, lower, TRACK)
            if share * (end - start) >= 1:
                canvas.rectangle(
                    start,
                    upper,
                    start + round(share * (end - start)),
                    lower,
                    FACES[0] if is_best else SOFT,
                )
            canvas.text(
                f"{100 * share:.0f}%",
                end + gap,
                self._foot(top, line),
                self._capital,
                WHITE if is_best else SOFT,
            )
            if is_best:
                canvas.text(group["labels"][best], left, self._foot(top, line), self._capital)
