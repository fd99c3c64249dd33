"""Read still pictures with OpenCV, and what every reader of media shares.

`pipelines.media.video` reads videos, `pipelines.media.audio` reads audio.
"""

import errno
import io
import os
import stat
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import av
import cv2
import numpy as np

from pipelines.core.errors import MediaError
from pipelines.core.files import file_sha256

av.logging.set_level(av.logging.PANIC)

MAX_PIXELS = 2**26
"""The largest picture, 8192x8192 pixels. The size in the header is checked before memory is
allocated, because a header of a few bytes can claim any size."""


class Frame:
    """One decoded picture. Its colours are converted only when they are needed, and only where.

    Args:
        luma: See `luma`.
        rgb: See `rgb`.
        cut: See `cut`; None: a part is cut from the converted picture.

    Attributes:
        luma: uint8 [height, width], in which faces are detected.
        rgb: Returns the picture as uint8 [height, width, 3].
        cut: Returns the part of `rgb()` between top, bottom, left and right, bit by bit, without
            converting the rest.
    """

    def __init__(
        self,
        luma: np.ndarray,
        rgb: Callable[[], np.ndarray],
        cut: Callable[[int, int, int, int], np.ndarray] | None = None,
    ) -> None:
        self.luma = luma
        self.rgb = rgb
        self.cut = cut or (lambda top, bottom, left, right: rgb()[top:bottom, left:right])

    @classmethod
    def of_rgb(cls, rgb: np.ndarray) -> Self:
        """Return the frame of a colour picture, uint8 [height, width, 3]."""
        return cls(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), lambda: rgb)


def content_hash(path: Path, *, progress: Callable[[], None] = lambda: None) -> str:
    """Return the SHA-256 of a media file's bytes, in hexadecimal.

    Args:
        path: The file.
        progress: Called after every chunk of the file.

    Raises:
        OSError: The file cannot be read, or is a pipe or a device, which may never end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file_sha256(path, progress=progress)


def read_still(path: Path) -> np.ndarray:
    """Return a still picture as uint8 [height, width, 3] RGB.

    Raises:
        MediaError: The file is empty, is not JPEG, PNG, BMP or WebP, has more than `MAX_PIXELS`
            pixels, or cannot be decoded.
    """
    encoded = np.fromfile(path, dtype=np.uint8)
    size = still_size(encoded.data)
    if size is None:
        raise MediaError(
            f"not an image that can be decoded ({encoded.size} bytes); expected a JPEG, PNG, BMP "
            "or WebP file with its size"
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
    """Raise MediaError for a picture of more than `MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        raise MediaError(
            f"pictures of {width}x{height} pixels, expected at most {MAX_PIXELS} (8192x8192); "
            "scale the file down"
        )


def still_size(encoded: bytes | memoryview) -> tuple[int, int] | None:
    """Return the width and height that the header of a JPEG, PNG, BMP or WebP file gives.

    Pillow reads the header alone. `Image.open` is avoided, because its guard against decompression
    bombs has a limit of its own, which depends on a global setting.

    Args:
        encoded: The bytes of the file, or its beginning.

    Returns:
        None for anything else, and for a header that is damaged.

    Raises:
        MediaError: Pillow itself refuses a WebP file for its size, which is above `MAX_PIXELS`.
    """
    from PIL import BmpImagePlugin, Image, JpegImagePlugin, WebPImagePlugin

    for read_size in (
        lambda file: JpegImagePlugin.JpegImageFile(file).size,
        _png_size,
        lambda file: BmpImagePlugin.BmpImageFile(file).size,
        lambda file: WebPImagePlugin.WebPImageFile(file).size,
    ):
        try:
            with warnings.catch_warnings(action="ignore"):  # Exif data may be damaged
                return read_size(io.BytesIO(encoded))
        except Image.DecompressionBombError as error:
            raise MediaError(
                f"pictures of more than {MAX_PIXELS} pixels (8192x8192); scale the file down"
            ) from error
        except (SyntaxError, OSError, ValueError, struct.error):  # another format, or damaged
            continue
    return None


def _png_size(file: io.BytesIO) -> tuple[int, int]:
    """Return the size of a PNG file from its first chunk.

    Pillow's `PngImageFile` reads all chunks before the picture, and refuses a file for damage in a
    chunk that OpenCV skips, such as Exif data with a wrong checksum.
    """
    from PIL import PngImagePlugin

    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        raise SyntaxError("not a PNG file")
    stream = PngImagePlugin.PngStream(file)
    name, *place = stream.read()
    if name != b"IHDR":
        raise SyntaxError("a PNG file without its header")
    stream.call(name, *place)
    return stream.im_size


def open_media(path: Path) -> Any:
    """Return a media file, opened with PyAV, which decodes at most `MAX_PIXELS` pixels.

    Raises:
        MediaError: The file is empty or cannot be opened.
    """
    if path.stat().st_size == 0:
        raise MediaError("empty file (0 bytes)")
    try:
        return av.open(
            str(path), metadata_errors="replace", options={"max_pixels": str(MAX_PIXELS)}
        )
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"not a media file that can be opened ({library_message(error)})"
        ) from error


def library_message(error: Exception) -> str:
    """Return the short message of an error of PyAV or another library."""
    return getattr(error, "strerror", None) or str(error)
