"""Pictures drawn with Pillow: the confusion matrix, and the clips of the embedding projector."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LARGEST_SPRITE = 8192
"""Pixels a side that the embedding projector takes."""

CELL = 80
"""Pixels a side of a cell of the confusion matrix."""


def png(picture: np.ndarray | Image.Image) -> bytes:
    """Return a picture, uint8 [height, width, 3] where it is an array, as PNG."""
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, "PNG")
    return file.getvalue()


def confusion(counts: np.ndarray, names: Sequence[str], *, title: str) -> Image.Image:
    """Draw a confusion matrix: in each cell the count and its share of the row, the darker the larger.

    Args:
        counts: int [classes, classes]; rows are the truth, columns the answers.
        names: The names of the classes.
        title: What stands above.
    """
    font, small = ImageFont.load_default(23), ImageFont.load_default(16)
    left, top = 26 + int(max(small.getlength(name) for name in names)), 74
    width = max(left + CELL * len(names) + 12, 24 + int(small.getlength(title)))
    image = Image.new("RGB", (width, top + CELL * len(names) + 12), "white")
    draw = ImageDraw.Draw(image)
    draw.text((12, 10), title, "black", small)
    draw.text((left + CELL * len(names) / 2, 42), "answer", "#606060", small, anchor="mm")
    draw.text((left - 10, 60), "truth", "#606060", small, anchor="rm")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(names):
        y = top + CELL * row
        draw.text((left + CELL * row + CELL / 2, 60), name, "black", small, anchor="mm")
        draw.text((left - 10, y + CELL / 2), name, "black", small, anchor="rm")
        for column in range(len(names)):
            x, share = left + CELL * column, shares[row, column]
            fill = tuple(round(255 + share * (dark - 255)) for dark in (8, 48, 107))
            ink = "white" if share > 0.5 else "black"
            draw.rectangle((x, y, x + CELL, y + CELL), fill, "#c8c8c8")
            draw.text(
                (x + CELL / 2, y + CELL / 2 - 10), str(counts[row, column]), ink, font, anchor="mm"
            )
            draw.text(
                (x + CELL / 2, y + CELL / 2 + 16),
                f"{share:.0%}" if counts[row].any() else "-",
                ink,
                small,
                anchor="mm",
            )
    return image.quantize(64)  # a third of the bytes


def sprite(shown: np.ndarray) -> tuple[np.ndarray, int]:
    """Put pictures into one square, row by row; they are halved until it is at most LARGEST_SPRITE a side.

    Args:
        shown: uint8 [pictures, side, side, 3].

    Returns:
        uint8 [rows * side, columns * side, 3], and the side that the pictures have in it.
    """
    columns = math.ceil(math.sqrt(len(shown)))
    while columns * shown.shape[1] > LARGEST_SPRITE:
        count, side = shown.shape[0], shown.shape[1] // 2
        shown = shown.reshape(count, side, 2, side, 2, 3).mean(axis=(2, 4)).astype(np.uint8)
    side = shown.shape[1]
    whole = np.zeros((columns * columns, side, side, 3), np.uint8)
    whole[: len(shown)] = shown
    return whole.reshape(columns, columns, side, side, 3).swapaxes(1, 2).reshape(
        columns * side, columns * side, 3
    ), side
