"""The face in a file, as a graph: OpenCV's own reading and resizing to the grey level, and errors for what is no picture."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.core.spec import Spec
from pipelines.faces import crops
from pipelines.features import face
from pipelines.media import images

resize = tf.function(
    face.resize_in_graph, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)]
)
decoded = tf.function(face.decode_face, input_signature=[tf.TensorSpec([], tf.string)])


def picture(height: int, width: int, *, seed: int = 0, blurred: bool = False) -> np.ndarray:
    """Return uint8 [height, width, 3] without symmetry."""
    random = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(random, (9, 9), 3) if blurred else random


@pytest.mark.parametrize(
    "size",
    [
        *[(48, 48), (64, 64), (63, 64), (30, 200), (64, 500), (65, 65), (100, 80)],
        *[(128, 128), (192, 256), (256, 128), (333, 500), (1, 1), (2, 900)],
    ],
)
def test_resizing_is_that_of_the_build_to_the_grey_level(size):
    for seed in range(3):
        rgb = picture(*size, seed=seed, blurred=bool(seed % 2))
        np.testing.assert_array_equal(resize(rgb), crops.resize_face(rgb))


def test_resizing_keeps_a_flat_picture_flat():
    """Every weighted mean of equal grey levels is that level."""
    for level in (0, 1, 127, 255):
        for size in ((48, 48), (97, 131), (128, 128)):
            assert np.all(resize(np.full((*size, 3), level, np.uint8)).numpy() == level)


def test_halving_is_the_rounded_mean_of_four():
    """The block 10, 11, 11, 12 has the mean 11; 10, 10, 11, 11 has 10.5, which OpenCV rounds up for blocks of 2x2."""
    rgb = np.zeros((128, 128, 3), np.uint8)
    rgb[:2, :2, 0] = [[10, 11], [11, 12]]
    rgb[:2, 2:4, 0] = [[10, 10], [11, 11]]
    assert resize(rgb).numpy()[0, :2, 0].tolist() == [11, 11]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("PNG", "RGB"),
        ("PNG", "L"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "I;16"),
    ],
)
def test_a_file_is_read_as_the_build_reads_it(tmp_path, kind, mode):
    path = tmp_path / f"face.{kind.lower()}"
    rgb = picture(90, 131, blurred=True)
    deep = Image.fromarray(rgb[..., 0].astype(np.uint16) * 251)
    (deep if mode == "I;16" else Image.fromarray(rgb).convert(mode)).save(path, kind)
    expected = crops.resize_face(images.read_still(path))
    np.testing.assert_array_equal(decoded(path.read_bytes()), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path, orientation, order):
    path = tmp_path / "turned.jpg"
    Image.fromarray(picture(80, 120, blurred=True)).save(path, "JPEG")
    path.write_bytes(with_orientation(path.read_bytes(), orientation, order=order))
    expected = crops.resize_face(images.read_still(path))
    np.testing.assert_array_equal(decoded(path.read_bytes()), expected)


def tiff(
    orientation: int,
    *,
    order: str = "little",
    before: tuple[int, int, int, int] = (0x0103, 3, 1, 6),
) -> bytes:
    """Return a TIFF of two entries, the second of which is the orientation."""
    mark, byte_order = (b"II", "<") if order == "little" else (b"MM", ">")
    entries = b"".join(
        struct.pack(f"{byte_order}HHIHH", *entry, 0)
        for entry in (before, (0x0112, 3, 1, orientation))
    )
    return (
        mark
        + struct.pack(f"{byte_order}HI", 42, 8)
        + struct.pack(f"{byte_order}H", 2)
        + entries
        + bytes(4)
    )


def segment(content: bytes, *, marker: int = 0xE1, fill_bytes: int = 0) -> bytes:
    return (
        b"\xff" * fill_bytes + bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content
    )


def exif(content: bytes, **words: int) -> bytes:
    return segment(b"Exif\0\0" + content, **words)


def chunk(name: bytes, content: bytes, *, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content) if crc is None else crc)
    )


def with_orientation(jpeg: bytes, orientation: int, *, order: str) -> bytes:
    return jpeg[:2] + exif(tiff(orientation, order=order)) + jpeg[2:]


def assert_turned_as_opencv_does(path, encoded: bytes, *, orientation: int) -> None:
    """Compare the graph with what the build reads, and that with the picture without Exif, turned."""
    path.write_bytes(encoded)
    read = images.read_still(path)
    np.testing.assert_array_equal(read, opencv(encoded))
    assert_turned(encoded, read, orientation=orientation)


def opencv(encoded: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def assert_turned(encoded: bytes, read: np.ndarray, *, orientation: int) -> None:
    plain = cv2.cvtColor(
        cv2.imdecode(
            np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        ),
        cv2.COLOR_BGR2RGB,
    )
    np.testing.assert_array_equal(read, face.turned_upright(plain, tf.constant(orientation)))
    np.testing.assert_array_equal(decoded(encoded), crops.resize_face(read))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_png_is_turned_as_its_exif_says_before_and_behind_the_lines(
    tmp_path, orientation, order, behind
):
    encoded = picture_file("PNG")
    at = len(encoded) - 12 if behind else 33
    encoded = encoded[:at] + chunk(b"eXIf", tiff(orientation, order=order)) + encoded[at:]
    assert_turned_as_opencv_does(
        tmp_path / "a.png", encoded, orientation=orientation if 1 <= orientation <= 8 else 1
    )


def picture_file(kind: str, **words) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(80, 120, blurred=True)).save(buffer, kind, **words)
    return buffer.getvalue()


NOTHING = chunk(b"eXIf", tiff(6)[:8] + bytes(2))
ODD_PNGS = {
    "wrong CRC": (chunk(b"eXIf", tiff(6), crc=1), b"", 1),
    "wrong CRC, then a right one": (
        chunk(b"eXIf", tiff(3), crc=1) + chunk(b"eXIf", tiff(6)),
        b"",
        6,
    ),
    "two": (chunk(b"eXIf", tiff(6)) + chunk(b"eXIf", tiff(3)), b"", 6),
    "one before, one behind": (chunk(b"eXIf", tiff(6)), chunk(b"eXIf", tiff(3)), 6),
    "no TIFF before, one behind": (
        chunk(b"eXIf", b"Exif\0\0" + tiff(6)),
        chunk(b"eXIf", tiff(3)),
        3,
    ),
    "empty, then one": (chunk(b"eXIf", b"") + chunk(b"eXIf", tiff(6)), b"", 6),
    "no orientation, then one": (NOTHING, chunk(b"eXIf", tiff(6)), 1),
    "two byte orders": (chunk(b"eXIf", b"MI" + tiff(6)[2:]), b"", 1),
    "no 42": (chunk(b"eXIf", tiff(6)[:2] + b"+" + tiff(6)[3:]), b"", 1),
    "behind another chunk": (chunk(b"tEXt", b"Comment\0eXIf") + chunk(b"eXIf", tiff(6)), b"", 6),
    "cut within the orientation": (chunk(b"eXIf", tiff(6)[:31]), b"", 1),
    "cut behind the orientation": (chunk(b"eXIf", tiff(6)[:32]), b"", 6),
    "a count too high": (chunk(b"eXIf", tiff(6)[:8] + b"\xff\xff" + tiff(6)[10:]), b"", 6),
    "a directory beyond the end": (
        chunk(b"eXIf", tiff(6)[:4] + b"\xff\xff\xff\x7f" + tiff(6)[8:]),
        b"",
        1,
    ),
    "a text beyond the end before": (chunk(b"eXIf", tiff(6, before=(0x010F, 2, 5000, 8))), b"", 1),
    "a fraction beyond the end before": (
        chunk(b"eXIf", tiff(6, before=(0x011A, 5, 1, 5000))),
        b"",
        1,
    ),
    "a long one": (chunk(b"eXIf", tiff(6) + bytes(100_001)), b"", 6),
}
"""What is odd -> chunks before the lines and behind them, and how OpenCV turns the picture."""


@pytest.mark.parametrize("odd", ODD_PNGS)
def test_an_odd_exif_of_a_png_turns_as_much_as_opencv_does(tmp_path, odd):
    before, behind, orientation = ODD_PNGS[odd]
    encoded = picture_file("PNG")
    assert_turned_as_opencv_does(
        tmp_path / "a.png",
        encoded[:33] + before + encoded[33:-12] + behind + encoded[-12:],
        orientation=orientation,
    )


def test_an_animation_is_not_turned(tmp_path):
    encoded = picture_file(
        "PNG", save_all=True, append_images=[Image.fromarray(picture(80, 120, seed=1))]
    )
    assert_turned_as_opencv_does(
        tmp_path / "a.png", encoded[:33] + chunk(b"eXIf", tiff(6)) + encoded[33:], orientation=1
    )


LONE_MARKER = "a marker that stands alone between"
JFIF = segment(b"JFIF\0\1\1\0\0\1\0\1\0\0", marker=0xE0)
ODD_JPEGS = {
    "a fill byte": (exif(tiff(6), fill_bytes=1), 6),
    "fill bytes before two segments": (
        segment(b"JFIF\0\1\1\0\0\1\0\1\0\0", marker=0xE0, fill_bytes=3)
        + exif(tiff(6), fill_bytes=40),
        6,
    ),
    "other bytes between": (JFIF + b"\x12\x00\xff\x00" + exif(tiff(6)), 6),
    LONE_MARKER: (JFIF + b"\xff\x01\xff\xd3" + exif(tiff(6)), 6),
    "two": (exif(tiff(6)) + exif(tiff(3)), 6),
    "empty, then one": (exif(b"") + exif(tiff(6)), 6),
    "no orientation, then one": (exif(tiff(3)[:25]) + exif(tiff(6)), 6),
    "an orientation that is none, then one": (exif(tiff(9)) + exif(tiff(6)), 1),
    "no 42": (exif(tiff(6)[:2] + b"+" + tiff(6)[3:]), 1),
    "of another name": (segment(b"Exif\0x" + tiff(6)), 1),
    "a text beyond the end before": (exif(tiff(6, before=(0x010F, 2, 5000, 8))), 1),
}
"""What is odd -> segments, and how OpenCV turns the picture."""


@pytest.mark.parametrize("odd", ODD_JPEGS)
def test_an_odd_exif_of_a_jpeg_turns_as_much_as_opencv_does(tmp_path, odd):
    segments, orientation = ODD_JPEGS[odd]
    encoded = picture_file("JPEG")
    encoded = encoded[:2] + segments + encoded[2:]
    if odd == LONE_MARKER:  # Pillow does not read its size, so a build leaves the file out
        assert images.still_size(encoded) is None
        assert_turned(encoded, opencv(encoded), orientation=orientation)
        return
    assert_turned_as_opencv_does(tmp_path / "a.jpg", encoded, orientation=orientation)


@pytest.mark.parametrize(
    "content",
    [
        b"Exif\0\0",
        b"Exif\0\0MM",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    ],
)
def test_an_exif_segment_that_says_nothing_turns_nothing(tmp_path, content):
    path = tmp_path / "plain.jpg"
    Image.fromarray(picture(80, 120, blurred=True)).save(path, "JPEG")
    plain = path.read_bytes()
    np.testing.assert_array_equal(decoded(plain[:2] + segment(content) + plain[2:]), decoded(plain))


def _png(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size, and which holds no line."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )


def _whole(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(70, 70)).convert("CMYK" if kind == "CMYK" else "RGB").save(
        buffer, "JPEG" if kind == "CMYK" else kind
    )
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("encoded", "pattern"),
    [
        (b"", "bytes.*JPEG.*PNG file"),
        (b"hello", "bytes.*JPEG.*PNG file"),
        (_whole("GIF"), "bytes.*JPEG.*PNG file"),
        (_whole("BMP"), "bytes.*JPEG.*PNG file"),
        (_whole("JPEG")[:900], "JPEG"),
        (_whole("PNG")[:900], "PNG"),
        (b"\x89PNG\r\n\x1a\n", "whole PNG"),
        (_whole("CMYK"), "CMYK"),
        (_png(5000, 10), f"at most {face.MAX_SIDE}"),
        (_png(0, 10), f"at most {face.MAX_SIDE}"),
        (_png(2**31, 2**31), f"at most {face.MAX_SIDE}"),
    ],
)
def test_what_is_no_picture_is_refused(encoded, pattern):
    with pytest.raises(tf.errors.InvalidArgumentError, match=pattern):
        decoded(encoded)


def test_another_size_of_faces_is_heeded():
    rgb, spec = picture(50, 40), Spec(face_size=32)
    np.testing.assert_array_equal(
        face.resize_in_graph(tf.constant(rgb), spec=spec), crops.resize_face(rgb, spec=spec)
    )
