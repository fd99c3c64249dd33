"""Draw boxes, texts and bars into YUV 4:2:0 pictures, without a conversion to RGB."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

MAX_GAP_SECONDS = 1.0
"""Values are not interpolated over a longer gap; nothing is drawn within such a gap."""
TIME_TOLERANCE_SECONDS = 1e-6
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_CAPITAL_PIXELS = 21
"""Height of the font's capitals at scale 1, in pixels."""
MIN_ROW_PIXELS = 14
"""Minimum height of a row of bars."""
ROWS_PER_HEIGHT, ROWS_PER_WIDTH = 32, 28
"""The height of a row is this fraction of the picture's height, or of its width if smaller."""
COLUMN_WIDTH_ROWS = 9
"""Minimum width of a column of bars (name, bar and percentage), in heights of a row."""


class YuvColour(NamedTuple):
    """A colour in BT.601, limited range."""

    y: int
    u: int
    v: int


def rgb_to_yuv(red: int, green: int, blue: int) -> YuvColour:
    """Return an RGB colour as YUV.

    >>> rgb_to_yuv(255, 255, 255), rgb_to_yuv(255, 0, 0)
    (YuvColour(y=235, u=128, v=128), YuvColour(y=82, u=90, v=240))

    Args:
        red: In [0, 255].
        green: In [0, 255].
        blue: In [0, 255].

    Returns:
        Three values in [0, 255], in BT.601, limited range.
    """

    def convert(red_weight: float, green_weight: float, blue_weight: float, offset: int) -> int:
        value = red_weight * red + green_weight * green + blue_weight * blue + offset
        return min(255, max(0, int(value + 0.5)))

    return YuvColour(
        convert(0.257, 0.504, 0.098, 16),
        convert(-0.148, -0.291, 0.439, 128),
        convert(0.439, -0.368, -0.071, 128),
    )


WHITE = rgb_to_yuv(255, 255, 255)
LIGHT_GREY = rgb_to_yuv(180, 184, 190)
DARK_GREY = rgb_to_yuv(22, 24, 28)
BAR_BACKGROUND = rgb_to_yuv(62, 66, 72)
FACE_COLOURS = (
    rgb_to_yuv(255, 214, 10),
    rgb_to_yuv(64, 220, 255),
    rgb_to_yuv(255, 110, 180),
    rgb_to_yuv(130, 240, 110),
    rgb_to_yuv(255, 150, 60),
    rgb_to_yuv(190, 150, 255),
)
"""Colours of the boxes, in the order of the persons; the first is the colour of the highest bar."""


class TimedValues:
    """Values at some times, interpolated linearly between them.

    >>> box = TimedValues([0.0, 1.0, 9.0], [[0, 0], [10, 20], [50, 50]])
    >>> box.at(0.5), box.at(1.2), box.at(5.0)
    ((array([ 5., 10.]), 0), (array([10., 20.]), 1), None)

    Args:
        seconds: The times, ascending.
        values: The values of each time, [times, n].
        hold_seconds: How long values stay before and after a gap. None: half of the median step,
            and at most half of `MAX_GAP_SECONDS`.
    """

    def __init__(
        self,
        seconds: Sequence[float],
        values: Sequence[Sequence[float]],
        *,
        hold_seconds: float | None = None,
    ) -> None:
        self._seconds, self._values = list(seconds), np.asarray(values, float)
        if hold_seconds is None:
            median_step = MAX_GAP_SECONDS
            if len(self._seconds) > 1:
                median_step = float(np.median(np.diff(self._seconds)))
            hold_seconds = min(median_step, MAX_GAP_SECONDS) / 2
        self._hold_seconds = hold_seconds

    def at(self, seconds: float) -> tuple[np.ndarray, int] | None:
        """Return the values at a time, and the index of the nearest known time.

        Args:
            seconds: Any time.

        Returns:
            (values, index), with float [n] values, or None within a gap.
        """
        after = bisect_right(self._seconds, seconds)
        before = after - 1
        since = seconds - self._seconds[before] if before >= 0 else np.inf
        until = self._seconds[after] - seconds if after < len(self._seconds) else np.inf
        if since + until <= MAX_GAP_SECONDS + TIME_TOLERANCE_SECONDS:
            fraction = since / (since + until)
            values_before, values_after = self._values[before], self._values[after]
            values = values_before + fraction * (values_after - values_before)
            return values, before if fraction <= 0.5 else after
        nearest = before if since <= until else after
        if min(since, until) <= self._hold_seconds + TIME_TOLERANCE_SECONDS:
            return self._values[nearest], nearest
        return None


class Canvas:
    """Draw into the planes of a YUV 4:2:0 picture.

    Args:
        planes: Luma, uint8 [height, width], and two planes of colour, uint8 [height / 2,
            width / 2]. The canvas draws into these arrays.
    """

    def __init__(self, planes: Sequence[np.ndarray]) -> None:
        self.planes = planes

    def draw_rectangle(
        self,
        left: int,
        top: int,
        right: int,
        bottom: int,
        colour: YuvColour,
        *,
        thickness: int = -1,
    ) -> None:
        """Draw the outline of a rectangle, or fill it.

        Args:
            left: First column, in pixels.
            top: First row, in pixels.
            right: Last column, in pixels.
            bottom: Last row, in pixels.
            colour: Colour of the line or of the area.
            thickness: Width of the line in pixels; -1 fills the rectangle.
        """
        for plane_index, (plane, value) in enumerate(zip(self.planes, colour, strict=True)):
            shift = min(1, plane_index)  # the planes of colour have half the size
            cv2.rectangle(
                plane,
                (left >> shift, top >> shift),
                (right >> shift, bottom >> shift),
                int(value),
                thickness if thickness < 0 else max(1, thickness >> shift),
            )

    def draw_text(
        self,
        text: str,
        left: int,
        bottom: int,
        capital_pixels: float,
        colour: YuvColour = WHITE,
    ) -> None:
        """Draw a text in grey on a grey background.

        Args:
            text: ASCII text.
            left: First column, in pixels.
            bottom: Row of the baseline, in pixels.
            capital_pixels: Height of the capitals.
            colour: Colour of which only the luma is used.
        """
        cv2.putText(
            self.planes[0],
            text,
            (left, bottom),
            FONT,
            capital_pixels / FONT_CAPITAL_PIXELS,
            int(colour.y),
            _stroke_pixels(capital_pixels),
            cv2.LINE_AA,
        )


def text_width(text: str, capital_pixels: float) -> int:
    """Return the width of a text in pixels.

    Args:
        text: ASCII text.
        capital_pixels: Height of the capitals.
    """
    scale = capital_pixels / FONT_CAPITAL_PIXELS
    (width, _), _ = cv2.getTextSize(text, FONT, scale, _stroke_pixels(capital_pixels))
    return width


def _stroke_pixels(capital_pixels: float) -> int:
    return max(1, round(capital_pixels / 9))


class FaceBoxes:
    """Draw the box, number and text of each face.

    Args:
        faces: For each person's number a dict of `seconds` [n], `boxes` [n, 4] (left, top, width
            and height in pixels) and `texts` [n].
        height: Height of the picture in pixels; it determines the size of lines and letters.
    """

    def __init__(self, faces: Mapping[int, Mapping[str, Any]], *, height: int) -> None:
        self._faces = [
            (number, TimedValues(face["seconds"], face["boxes"]), face["texts"])
            for number, face in sorted(faces.items())
        ]
        # Even, so that the line is equally thick in the planes of colour.
        self._line_pixels = 2 * max(1, round(height / 480))
        self._capital_pixels = max(8.0, height / 50)

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Draw the boxes and texts of a time.

        Args:
            canvas: The picture.
            seconds: The time of the picture.
        """
        for index, (number, boxes, texts) in enumerate(self._faces):
            box_and_index = boxes.at(seconds)
            if box_and_index is None:
                continue
            box, nearest = box_and_index
            left, top, width, height = (round(value) for value in box)
            right, bottom = left + width - 1, top + height - 1
            line = self._line_pixels
            edge = line + 2 * (line // 2)
            colour = FACE_COLOURS[index % len(FACE_COLOURS)]
            canvas.draw_rectangle(left, top, right, bottom, DARK_GREY, thickness=edge)
            canvas.draw_rectangle(left, top, right, bottom, colour, thickness=line)
            self._draw_label(canvas, f"{number} {texts[nearest]}", left, top)

    def _draw_label(self, canvas: Canvas, text: str, box_left: int, box_top: int) -> None:
        """Draw a text above a box, or inside the box if the picture has no space above."""
        n_rows, n_columns = canvas.planes[0].shape
        capital, padding = self._capital_pixels, round(self._capital_pixels / 2)
        width = text_width(text, capital) + 2 * padding
        height = round(capital) + 2 * padding
        left = min(max(0, box_left - self._line_pixels), max(0, n_columns - width))
        top = box_top - height - self._line_pixels
        if top < 0:
            top = min(max(0, box_top), n_rows - height)
        canvas.draw_rectangle(left, top, left + width - 1, top + height - 1, DARK_GREY)
        canvas.draw_text(text, left + padding, top + height - padding, capital)


class ProbabilityBars:
    """Draw groups of bars below a picture.

    A group has a row with its title, and a row for each label: name, bar and percentage.

    Args:
        groups: For each group a dict of `title`, `seconds` [n], `labels` [m] and `values` [n, m],
            which are probabilities in [0, 1].
        size: Width and height of the picture above the bars, in pixels.

    Attributes:
        height: Height of the bars in pixels, even; 0 without groups.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], *, size: tuple[int, int]) -> None:
        width, height = size
        self._width = width
        self._row_pixels = max(
            MIN_ROW_PIXELS, round(min(height / ROWS_PER_HEIGHT, width / ROWS_PER_WIDTH))
        )
        self._capital_pixels = 0.52 * self._row_pixels
        self._padding = self._row_pixels // 2
        self._groups = [
            (
                group,
                TimedValues(group["seconds"], group["values"], hold_seconds=MAX_GAP_SECONDS / 2),
            )
            for group in groups
        ]
        self._n_columns = 1
        if groups:
            max_columns = max(1, width // (COLUMN_WIDTH_ROWS * self._row_pixels))
            self._n_columns = min(len(groups), max_columns)
        # Groups stand side by side in bands; a band is as high as its highest group.
        n_rows = [1 + len(group["labels"]) for group in groups]
        self._band_rows = [
            max(n_rows[start : start + self._n_columns])
            for start in range(0, len(n_rows), self._n_columns)
        ]
        self.height: int = 0
        if groups:
            total_pixels = sum(self._band_rows) * self._row_pixels
            total_pixels += self._padding * (1 + len(self._band_rows))
            self.height = 2 * (total_pixels // 2)
        names = [label for group in groups for label in group["labels"]]
        self._name_width = max(
            (text_width(name, self._capital_pixels) for name in names), default=0
        )
        self._percentage_width = text_width("100%", self._capital_pixels)
        self._background = [
            np.full((self.height >> shift, width >> shift), value, np.uint8)
            for shift, value in zip((0, 1, 1), DARK_GREY, strict=True)
        ]
        background = Canvas(self._background)
        for group, left, top in self._place_groups():
            for row, label in enumerate(group["labels"], start=1):
                background.draw_text(
                    label, left, self._baseline(top, row), self._capital_pixels, LIGHT_GREY
                )
        # The planes are drawn again only when the nearest known time of a group changes.
        self._drawn_indices: tuple[int | None, ...] | None = None
        self._drawn_planes = self._background

    def _place_groups(self) -> Iterator[tuple[Mapping[str, Any], int, int]]:
        """Yield each group with its left column and top row, in pixels."""
        column_width, top = self._width // self._n_columns, self._padding
        for index, (group, _) in enumerate(self._groups):
            band, column = divmod(index, self._n_columns)
            if index and column == 0:
                top += self._band_rows[band - 1] * self._row_pixels + self._padding
            yield group, column * column_width + self._padding, top

    def _baseline(self, top: int, row: int) -> int:
        """Return the baseline of the text in a row of a group, in pixels."""
        return round(top + row * self._row_pixels + (self._row_pixels + self._capital_pixels) / 2)

    def draw(self, canvas: Canvas, seconds: float) -> None:
        """Fill a canvas with the bars of the nearest known time of each group.

        The bars thus agree with the texts of `FaceBoxes`.

        Args:
            canvas: A canvas as wide as the picture, of the height of the bars.
            seconds: The time of the picture.
        """
        indices = tuple(self._nearest_index(values, seconds) for _, values in self._groups)
        if indices != self._drawn_indices:
            self._drawn_indices = indices
            self._drawn_planes = [plane.copy() for plane in self._background]
            drawn_canvas = Canvas(self._drawn_planes)
            for (group, left, top), index in zip(self._place_groups(), indices, strict=True):
                probabilities = None if index is None else group["values"][index]
                self._draw_group(drawn_canvas, group, left, top, probabilities)
        for plane, drawn_plane in zip(canvas.planes, self._drawn_planes, strict=True):
            plane[:] = drawn_plane

    @staticmethod
    def _nearest_index(values: TimedValues, seconds: float) -> int | None:
        values_and_index = values.at(seconds)
        return None if values_and_index is None else values_and_index[1]

    def _draw_group(
        self,
        canvas: Canvas,
        group: Mapping[str, Any],
        left: int,
        top: int,
        probabilities: Sequence[float] | None,
    ) -> None:
        """Draw the title of a group, and its bars if the group has probabilities."""
        row_pixels, capital = self._row_pixels, self._capital_pixels
        title_baseline = self._baseline(top, 0)
        if probabilities is None:
            canvas.draw_text(f"{group['title']}: none", left, title_baseline, capital)
            return
        best = int(np.argmax(probabilities))
        best_label = group["labels"][best]
        canvas.draw_text(f"{group['title']}: {best_label}", left, title_baseline, capital)
        gap, column_width = row_pixels // 2, self._width // self._n_columns
        bar_left = left + self._name_width + gap
        bar_right = left + column_width - row_pixels - self._percentage_width - gap
        for row, probability in enumerate(probabilities, start=1):
            is_best = row == best + 1
            bar_top = top + row * row_pixels + row_pixels // 5
            bar_bottom = top + (row + 1) * row_pixels - row_pixels // 5
            canvas.draw_rectangle(bar_left, bar_top, bar_right, bar_bottom, BAR_BACKGROUND)
            bar_width = probability * (bar_right - bar_left)
            if bar_width >= 1:
                colour = FACE_COLOURS[0] if is_best else LIGHT_GREY
                canvas.draw_rectangle(
                    bar_left, bar_top, bar_left + round(bar_width), bar_bottom, colour
                )
            baseline = self._baseline(top, row)
            canvas.draw_text(
                f"{100 * probability:.0f}%",
                bar_right + gap,
                baseline,
                capital,
                WHITE if is_best else LIGHT_GREY,
            )
            if is_best:
                canvas.draw_text(best_label, left, baseline, capital)
