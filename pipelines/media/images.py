"""Media file -> still picture, by OpenCV, and what every reader of media shares; no tensorflow.

Videos are read by `pipelines.media.video`, sound by `pipelines.media.audio`.
"""

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from pipelines.core.errors import MediaError

av.logging.set_level(av.logging.PANIC)

MOST_PIXELS = 2**26
"""Pictures of more pixels (8192x8192) are refused before memory is taken for them: a header of a few bytes can claim any size."""


class Frame:
    """One decoded picture; colour is converted only when asked for, and only where."""

    def __init__(
        self,
        luma: np.ndarray,
        rgb: Callable[[], np.ndarray],
        cut: Callable[[int, int, int, int], np.ndarray] | None = None,
    ):
        self.luma = luma
        """uint8 [height, width]: what faces are looked for in."""
        self.rgb = rgb
        """Call it for uint8 [height, width, 3]."""
        self.cut = cut or (lambda top, bottom, left, right: rgb()[top:bottom, left:right])
        """Call it with top, bottom, left and right for that part of `rgb()`, to the bit, without converting the rest."""

    @classmethod
    def of_rgb(cls, rgb: np.ndarray) -> "Frame":
        """Make a frame of a picture that is in colour already, uint8 [height, width, 3]."""
        return cls(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), lambda: rgb)


def content_hash(path: Path, *, progress: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; raises OSError, for a pipe or device too, which might never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            progress()
    return digest.hexdigest()


def read_still(path: Path) -> np.ndarray:
    """Read a still image as uint8 [height, width, 3] RGB, by OpenCV.

    Raises:
        MediaError: The file is empty, no JPEG, PNG, BMP or WebP, has more than `MOST_PIXELS` pixels, or does not decode.
    """
    encoded = np.fromfile(path, dtype=np.uint8)
    size = still_size(encoded.data)
    if size is None:
        raise MediaError(
            f"not an image that can be decoded ({encoded.size} bytes); expected a JPEG, PNG, BMP or WebP with its size"
        )
    check_size(*size)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise MediaError(f"not an image that can be decoded ({encoded.size} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_size(width: int, height: int) -> None:
    """Raise MediaError for a picture that would take absurd memory."""
    if width * height > MOST_PIXELS:
        raise MediaError(
            f"pictures of {width}x{height} pixels, expected at most {MOST_PIXELS} (8192x8192); scale the file down"
        )


def still_size(encoded: bytes | memoryview) -> tuple[int, int] | None:
    """Return width and height as the header of a JPEG, PNG, BMP or WebP file gives them, or None for anything else.

    Sources: JPEG ITU-T T.81 B.2.2; PNG ISO/IEC 15948 11.2.2; WebP RFC 9649 2.5 to 2.7; BMP's BITMAPCOREHEADER and BITMAPINFOHEADER.
    """
    start = bytes(encoded[:30])
    try:
        if start.startswith(b"\x89PNG\r\n\x1a\n") and start[12:16] == b"IHDR":
            return struct.unpack(">II", start[16:24])
        if start.startswith(b"BM"):
            core = struct.unpack("<I", start[14:18]) == (12,)
            width, height = (
                struct.unpack("<HH", start[18:22]) if core else struct.unpack("<ii", start[18:26])
            )
            return abs(width), abs(height)  # negative: from the top down
        if len(start) == 30 and start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return _webp_size(start)
        return _jpeg_size(encoded) if start.startswith(b"\xff\xd8") else None
    except (struct.error, IndexError):  # ends within its header
        return None


def _webp_size(start: bytes) -> tuple[int, int] | None:
    if start[12:16] == b"VP8X":
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(
            start[27:30], "little"
        )
    if start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", start[26:30])
    return (width & 0x3FFF, height & 0x3FFF) if start[12:16] == b"VP8 " else None


def _jpeg_size(encoded: bytes | memoryview) -> tuple[int, int] | None:
    position = 2
    while True:
        if encoded[position] != 0xFF:
            position += 1  # as decoders do with what lies between two segments
            continue
        marker = encoded[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a start of frame
            height, width = struct.unpack(">HH", encoded[position + 5 : position + 9])
            return width, height
        if marker in (0xD9, 0xDA):  # the end or the data, and no size yet
            return None
        alone = marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8
        position += (
            1
            if marker == 0xFF
            else 2
            if alone
            else 2 + struct.unpack(">H", encoded[position + 2 : position + 4])[0]
        )


def open_media(path: Path):
    """Open a media file; raises MediaError when it is none. What is decoded of it is at most `MOST_PIXELS` large, while probing too."""
    if path.stat().st_size == 0:
        raise MediaError("empty file (0 bytes)")
    try:
        return av.open(
            str(path), metadata_errors="replace", options={"max_pixels": str(MOST_PIXELS)}
        )
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"not a media file that can be opened ({reason(error)})") from error


def reason(error: Exception) -> str:
    """Return what a library says of its error, in a few words."""
    return getattr(error, "strerror", None) or str(error)
