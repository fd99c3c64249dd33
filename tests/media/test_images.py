"""Stills -> pictures; what is refused, and why."""

import hashlib
import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from pipelines.core.errors import MediaError
from pipelines.media import images


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp"])
def test_a_still_is_read_in_rgb(tmp_path, name):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30] = (200, 100, 20)
    picture[:, 30:] = (10, 60, 220)
    cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    read = images.read_still(tmp_path / name)
    assert read.dtype == np.uint8 and read.shape == (40, 60, 3)
    tolerance = 0 if name in ("a.png", "a.bmp") else 8
    np.testing.assert_allclose(read[5:-5, 5:25].astype(int), picture[5:-5, 5:25], atol=tolerance)
    np.testing.assert_allclose(read[5:-5, 35:55].astype(int), picture[5:-5, 35:55], atol=tolerance)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((20, 30), np.uint8),
        ((20, 30, 4), np.uint8),
        ((20, 30, 3), np.uint16),
        ((20, 30), np.uint16),
    ],
)
def test_grey_alpha_and_16_bit_stills(tmp_path, shape, dtype):
    """100 of 255, or the same of 65535, everywhere; what is see-through is read as it is coloured."""
    scale = 257 if dtype == np.uint16 else 1
    cv2.imwrite(str(tmp_path / "a.png"), np.full(shape, 100 * scale, dtype))
    read = images.read_still(tmp_path / "a.png")
    assert read.shape == (20, 30, 3) and (read == 100).all()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0",
        b"RIFF----WEBPVP8 ",
    ],
)
def test_a_bad_still_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(MediaError, match=rf"image.*decoded \({len(content)} bytes\)"):
        images.read_still(tmp_path / "a.jpg")


def encodings():
    """Yield a name and the bytes of a 37x21 picture in every still format, and in the variants of each header."""
    picture = np.random.default_rng(0).integers(0, 256, (21, 37, 3), np.uint8)
    variants = {
        "jpeg": (".jpg", []),
        "progressive jpeg": (
            ".jpg",
            [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1],
        ),
        "png": (".png", []),
        "bmp": (".bmp", []),
        "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
        "lossless webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    }
    for name, (suffix, options) in variants.items():
        yield name, cv2.imencode(suffix, picture, options)[1].tobytes()
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    thumbnail = (
        b"\xff\xe1" + struct.pack(">H", 2 + len(jpeg)) + jpeg
    )  # in an Exif segment; its size is not the picture's
    yield (
        "jpeg with a thumbnail",
        jpeg[:2]
        + thumbnail.replace(struct.pack(">HH", 21, 37), struct.pack(">HH", 5, 6))
        + b"\xff\xff"
        + jpeg[3:],
    )
    lossless = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    header = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (36).to_bytes(3, "little")
        + (20).to_bytes(3, "little")
    )
    yield (
        "extended webp",
        lossless[:4] + struct.pack("<I", len(lossless) + 10) + b"WEBP" + header + lossless[12:],
    )
    yield (
        "bmp of OS/2",
        b"BM"
        + struct.pack("<IHHIIHHHH", 26 + 21 * 112, 0, 0, 26, 12, 37, 21, 1, 24)
        + bytes(21 * 112),
    )


@pytest.mark.parametrize(
    ("name", "encoded"), [*encodings()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_stills_size_is_read_from_its_header_as_opencv_decodes_it(name, encoded):
    assert cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape == (21, 37, 3)
    assert images.still_size(encoded) == (37, 21)
    for length in range(40):
        assert images.still_size(encoded[:length]) in (None, (37, 21))


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """A valid PNG of a few kB whose 12000x12000 pixels would take 432 MB; and headers that lie."""
    row = b"\0" + bytes(1500)

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 1, 0, 0, 0, 0)
    )
    bomb += chunk(b"IDAT", zlib.compress(row * 12_000, 9)) + chunk(b"IEND", b"")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    lying = dict(encodings())["jpeg"].replace(
        struct.pack(">HH", 21, 37), struct.pack(">HH", 65_000, 60_000)
    )
    for content, size in ((bomb, "12000x12000"), (lying, "60000x65000")):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(
            MediaError,
            match=f"pictures.*{size} pixels.*67108864 .8192x8192.; scale.*file down",
        ):
            images.read_still(tmp_path / "a.png")


def test_a_webp_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """A lossless WebP whose header claims 16383x16383 pixels, the most that the format has."""
    encoded = bytearray(dict(encodings())["lossless webp"])
    assert encoded[12:16] == b"VP8L"
    encoded[21:25] = struct.pack("<I", 16_382 | 16_382 << 14)
    (tmp_path / "a.webp").write_bytes(encoded)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(MediaError):
        images.read_still(tmp_path / "a.webp")


@pytest.mark.filterwarnings("error")
def test_damaged_exif_data_give_no_warning(tmp_path):
    """Pillow warns of them; the picture is whole."""
    jpeg = dict(encodings())["jpeg"]
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x1a\x01\x05\0"
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    assert images.read_still(tmp_path / "a.jpg").shape == (21, 37, 3)


def test_the_largest_still(tmp_path):
    images.check_size(8192, 8192)
    with pytest.raises(MediaError):
        images.check_size(8193, 8192)


def test_content_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert images.content_hash(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):  # opening it would wait for ever
        images.content_hash(tmp_path / "pipe")
