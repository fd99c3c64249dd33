"""The face in a file, as a graph: OpenCV's own reading and resizing to the grey level, and errors for what is no picture."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines import decode, faces, stills
from pipelines.spec import Spec

resize = tf.function(stills.resize_face, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
decoded = tf.function(stills.decode_face, input_signature=[tf.TensorSpec([], tf.string)])


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
        np.testing.assert_array_equal(resize(rgb), faces.resize_face(rgb))


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
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16")]
)
def test_a_file_is_read_as_the_build_reads_it(tmp_path, kind, mode):
    path = tmp_path / f"face.{kind.lower()}"
    rgb = picture(90, 131, blurred=True)
    deep = Image.fromarray(rgb[..., 0].astype(np.uint16) * 251)
    (deep if mode == "I;16" else Image.fromarray(rgb).convert(mode)).save(path, kind)
    expected = faces.resize_face(decode.read_still(path))
    np.testing.assert_array_equal(decoded(path.read_bytes()), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["little", "big"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path, orientation, order):
    path = tmp_path / "turned.jpg"
    Image.fromarray(picture(80, 120, blurred=True)).save(path, "JPEG")
    path.write_bytes(with_orientation(path.read_bytes(), orientation, order=order))
    expected = faces.resize_face(decode.read_still(path))
    np.testing.assert_array_equal(decoded(path.read_bytes()), expected)


def with_orientation(jpeg: bytes, orientation: int, *, order: str) -> bytes:
    """Return a JPEG with an Exif segment of two entries, the second of which is the orientation."""
    mark, byte_order = (b"II", "<") if order == "little" else (b"MM", ">")
    entries = struct.pack(f"{byte_order}HHIHH", 0x0103, 3, 1, 6, 0) + struct.pack(f"{byte_order}HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = mark + struct.pack(f"{byte_order}HI", 42, 8) + struct.pack(f"{byte_order}H", 2) + entries + bytes(4)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment + jpeg[2:]


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"])
def test_an_exif_segment_that_says_nothing_turns_nothing(tmp_path, exif):
    path = tmp_path / "plain.jpg"
    Image.fromarray(picture(80, 120, blurred=True)).save(path, "JPEG")
    plain = path.read_bytes()
    odd = plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + plain[2:]
    np.testing.assert_array_equal(decoded(odd), decoded(plain))


def _png(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size, and which holds no line."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def _whole(kind: str) -> bytes:
    held = io.BytesIO()
    Image.fromarray(picture(70, 70)).convert("CMYK" if kind == "CMYK" else "RGB").save(held, "JPEG" if kind == "CMYK" else kind)
    return held.getvalue()


@pytest.mark.parametrize(
    ("encoded", "told"),
    [
        (b"", "expected the bytes of a JPEG or PNG file"),
        (b"hello", "expected the bytes of a JPEG or PNG file"),
        (_whole("GIF"), "expected the bytes of a JPEG or PNG file"),
        (_whole("BMP"), "expected the bytes of a JPEG or PNG file"),
        (_whole("JPEG")[:900], "JPEG"),
        (_whole("PNG")[:900], "PNG"),
        (b"\x89PNG\r\n\x1a\n", "whole PNG"),
        (_whole("CMYK"), "CMYK"),
        (_png(5000, 10), f"at most {stills.MOST_SIDE}"),
        (_png(0, 10), f"at most {stills.MOST_SIDE}"),
        (_png(2**31, 2**31), f"at most {stills.MOST_SIDE}"),
    ],
)
def test_what_is_no_picture_is_refused(encoded, told):
    with pytest.raises(tf.errors.InvalidArgumentError, match=told):
        decoded(encoded)


def test_another_size_of_faces_is_heeded():
    rgb, spec = picture(50, 40), Spec(face_size=32)
    np.testing.assert_array_equal(stills.resize_face(tf.constant(rgb), spec=spec), faces.resize_face(rgb, spec=spec))
