"""A decoded picture -> the frame that is shown: its luma as it is, its colour only where it is asked for; no tensorflow."""

import av
import numpy as np

from pipelines.decode import Frame

EXACT_CUT = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")
"""Formats of which a part, cut on even coordinates, converts to the bits that the whole picture has there."""


def upright(picture: av.VideoFrame) -> Frame:
    """Return the frame as it is to be shown: a phone that was held upright films sideways and says so."""
    turns = round(picture.rotation / 90) % 4  # counter-clockwise
    if turns:
        return Frame(
            np.rot90(_luma(picture), turns),
            lambda: np.rot90(picture.to_ndarray(format="rgb24"), turns),
        )
    exact = picture.format.name in EXACT_CUT and picture.height % 2 == 0 == picture.width % 2
    return Frame(
        _luma(picture),
        lambda: picture.to_ndarray(format="rgb24"),
        (lambda *sides: _cut(picture, *sides)) if exact else None,
    )


def plane_of(plane) -> np.ndarray:
    """Return the pixels of a plane without what pads its lines: uint8 [height, width]."""
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _luma(picture: av.VideoFrame) -> np.ndarray:
    if (
        picture.format.name.startswith(("yuv4", "yuvj4", "nv12", "gray"))
        and picture.format.components[0].bits == 8
    ):
        return plane_of(picture.planes[0])
    return picture.to_ndarray(format="gray")


def _cut(picture: av.VideoFrame, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Convert a part of a picture to RGB, uint8 [bottom - top, right - left, 3]: the bits that the whole picture has there."""
    y, x = top // 2 * 2, left // 2 * 2
    rows, columns = (bottom - y + 1) // 2 * 2, (right - x + 1) // 2 * 2
    part = av.VideoFrame(columns, rows, picture.format.name)
    part.colorspace, part.color_range = picture.colorspace, picture.color_range
    for from_plane, to_plane in zip(picture.planes, part.planes, strict=True):
        down, across = (
            picture.height // from_plane.height,
            picture.width // from_plane.width,
        )  # 1, or 2 for chroma
        plane_of(to_plane)[:] = plane_of(from_plane)[
            y // down : (y + rows) // down, x // across : (x + columns) // across
        ]
    return part.to_ndarray(format="rgb24")[top - y : bottom - y, left - x : right - x]
