"""Encoded still -> 64x64x3 face, as a graph: what `images.read_still` and `crops.resize_face` give, to the grey level.

For the served graph, where OpenCV cannot go. The steps are OpenCV's own, in its order and its precision: bilinear in fixed point, by area
in float32, sums one after the other.
"""

import functools

import numpy as np
import tensorflow as tf

from pipelines.core.spec import Spec

MOST_SIDE = 4096
"""A still with a longer side is refused: it is no crop of a face, and costs memory."""
FIXED_POINT = 2048
"""OpenCV's weights of a bilinear resize are multiples of 1 / 2048."""
LEAST_SHARE = 1e-3
"""OpenCV leaves out what a target pixel covers of a source pixel's width below this share."""
MOST_PARTS = 2**16
"""An orientation is looked for in so many segments or chunks: millions of empty ones would keep a server busy."""
TEXTS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x8298)
"""Tags of Exif that OpenCV reads as text: the length and the place of it are in the entry."""
NUMBERS = {0x011A: 8, 0x011B: 8, 0x013E: 16, 0x013F: 48, 0x0211: 24, 0x0214: 48}
"""Tags of Exif that OpenCV reads as fractions, and the bytes that they take at the place that the entry tells."""


def decode_face(encoded: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the picture of a JPEG or PNG file as a face: upright, and resized to the size of a face.

    Args:
        encoded: A scalar string, the bytes of the file: a crop of a face, as a build with `--faces as-is` takes it.
        spec: The size of a face.

    Returns:
        uint8 [face_size, face_size, 3].

    Raises:
        tf.errors.InvalidArgumentError: No JPEG or PNG, truncated, CMYK, or a side above `MOST_SIDE`.
    """
    code = tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32)  # [bytes]
    is_jpeg = _begins(encoded, b"\xff\xd8\xff")
    is_png = _begins(encoded, b"\x89PNG\r\n\x1a\n")
    expected = "expected the bytes of a JPEG or PNG file; received"
    known = tf.debugging.Assert(
        is_jpeg | is_png, [expected, tf.strings.length(encoded), "bytes of something else"]
    )
    with tf.control_dependencies([known]):
        rgb = tf.cond(is_jpeg, lambda: _jpeg(encoded, code), lambda: _png(encoded, code))
    return resize_face(rgb, spec=spec)


def _begins(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    length = tf.minimum(len(magic), tf.strings.length(encoded))
    return tf.equal(tf.strings.substr(encoded, 0, length), magic)


def _checked(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    allowed = (height >= 1) & (width >= 1) & (height <= MOST_SIDE) & (width <= MOST_SIDE)
    return tf.debugging.Assert(
        allowed,
        [f"expected a picture of at most {MOST_SIDE} pixels a side; received", width, "x", height],
    )


def _jpeg(encoded: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    plain = tf.debugging.Assert(
        channels <= 3, ["expected a JPEG in grey or colour; received one in CMYK; save it as RGB"]
    )
    with tf.control_dependencies([plain, _checked(height, width)]):
        rgb = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(rgb, jpeg_orientation(code))


def _png(encoded: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    whole = tf.debugging.Assert(
        tf.size(code) >= 33,
        ["expected the bytes of a whole PNG file; received", tf.size(code), "bytes"],
    )
    with tf.control_dependencies([whole]):
        width, height = _number(code, 16, 4), _number(code, 20, 4)
    with tf.control_dependencies([_checked(height, width)]):
        rgb = tf.io.decode_png(encoded, channels=3)
    return upright(rgb, png_orientation(code))


def _number(
    code: tf.Tensor, at: tf.Tensor | int, size: int, *, big: tf.Tensor | bool = True
) -> tf.Tensor:
    """Return the unsigned numbers of `size` bytes at places of any shape; 0 for what lies beyond the end, below 0 from 2**31 on."""
    places = tf.convert_to_tensor(at)[..., None] + tf.range(size)
    inside = (places >= 0) & (places < tf.size(code))
    digits = tf.where(inside, tf.gather(code, tf.where(inside, places, 0)), 0)
    digits = tf.where(big, digits, digits[..., ::-1])
    return tf.reduce_sum(tf.bitwise.left_shift(digits, 8 * tf.range(size - 1, -1, -1)), axis=-1)


def jpeg_orientation(code: tf.Tensor) -> tf.Tensor:
    """Return how a JPEG says that it is to be turned, 1 to 8; 1, upright, where it says nothing that can be.

    As OpenCV does: the first of its Exif segments that holds an orientation counts. Whatever lies between two segments, such as the
    fill bytes that may precede a marker, is stepped over.

    Args:
        code: int32 [bytes], the file.

    Source: Exif 2.3 (JEITA CP-3451C), 4.5.2; segments of JPEG ITU-T T.81 B.1.1.
    """
    size, kinds = tf.size(code), code[1:]
    alone = (kinds <= 1) | ((kinds >= 0xD0) & (kinds <= 0xD7)) | tf.equal(kinds, 0xFF)
    begins = tf.cast(
        tf.where(tf.concat([tf.equal(code[:-1], 0xFF) & ~alone, [True, True]], 0))[:, 0], tf.int32
    )  # of segments, or the end

    def segment_from(at):
        return tf.gather(begins, tf.searchsorted(begins, [tf.minimum(at, size)]))[0]

    def is_segment(at, found):
        return (found < 0) & (at < size) & tf.not_equal(_number(code, at + 1, 1), 0xDA)

    def next_segment(at, found):
        length = tf.maximum(2, _number(code, at + 2, 2))
        tiff = code[at + 10 : tf.maximum(at + 10, at + 2 + length)]
        is_exif = (
            _holds(code, at, b"\xff\xe1")
            & _holds(code, at + 4, b"Exif")
            & _holds(code, at + 8, b"\0\0")
            & (tf.size(tiff) > 0)
        )
        found = tf.cond(is_exif, lambda: tiff_orientation(tiff), lambda: found)
        return segment_from(at + 2 + length), found

    _, found = tf.while_loop(
        is_segment, next_segment, (segment_from(2), tf.constant(-1)), maximum_iterations=MOST_PARTS
    )
    return _turned(found)


def png_orientation(code: tf.Tensor) -> tf.Tensor:
    """Return how a PNG says that it is to be turned, 1 to 8; 1, upright, where it says nothing that can be.

    As OpenCV does: the first eXIf chunk that begins as a TIFF and that has the right CRC counts, before the lines or behind them; of
    an animation none does.

    Args:
        code: int32 [bytes], the file.

    Source: chunks of PNG, third edition (W3C), 5.3 and 11.3.4.5; acTL 11.3.6.1.
    """

    def is_chunk(at, start, end, animated):
        return (at + 12 <= tf.size(code)) & ~_holds(code, at + 4, b"IEND")

    def next_chunk(at, start, end, animated):
        length = tf.clip_by_value(_number(code, at, 4), 0, tf.size(code))
        is_first = (start < 0) & _holds(code, at + 4, b"eXIf")  # of those that count
        is_tiff = _holds(code, at + 8, b"II*\0") | _holds(code, at + 8, b"MM\0*")
        crc = tf.cast(_number(code, at + 8 + length, 4), tf.int64) & 0xFFFFFFFF
        counts = tf.cond(
            is_first & is_tiff,
            lambda: tf.equal(_crc32(code[at + 4 : at + 8 + length]), crc),
            lambda: False,
        )
        animated |= _holds(code, at + 4, b"acTL") & (_number(code, at + 8, 4) > 1)
        return (
            at + 12 + length,
            tf.where(counts, at + 8, start),
            tf.where(counts, at + 8 + length, end),
            animated,
        )

    states = (tf.constant(8), tf.constant(-1), tf.constant(0), tf.constant(False))
    _, start, end, animated = tf.while_loop(
        is_chunk, next_chunk, states, maximum_iterations=MOST_PARTS
    )
    return _turned(
        tf.cond((start >= 0) & ~animated, lambda: tiff_orientation(code[start:end]), lambda: -1)
    )


def _turned(found: tf.Tensor) -> tf.Tensor:
    return tf.where((found >= 1) & (found <= 8), found, 1)


def _holds(code: tf.Tensor, at: tf.Tensor, expected: bytes) -> tf.Tensor:  # at most 4 bytes
    return tf.equal(_number(code, at, len(expected)), int.from_bytes(expected, "big"))


def tiff_orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the first directory of a TIFF, whatever number it is; -1 where there is none.

    As OpenCV does: the first entry counts, and none behind an entry that refers to what lies beyond the end.

    Args:
        tiff: int32 [bytes], what an Exif segment or an eXIf chunk holds, from its byte order on.

    Source: Exif 2.3 (JEITA CP-3451C), 4.5.2, 4.6.2 and 4.6.4 A (tag 0x0112).
    """
    size = tf.size(tiff)
    big = tf.not_equal(_number(tiff, 0, 2), 0x4949)  # "II"
    directory = _number(tiff, 4, 4, big=big)
    is_tiff = (
        (size >= 8)
        & tf.equal(_number(tiff, 2, 2, big=big), 42)
        & (directory >= 0)
        & (directory < size)
    )
    count = tf.where(is_tiff, _number(tiff, directory, 2, big=big), 0)
    entries = tf.where(is_tiff, directory, 0) + 2 + 12 * tf.range(count)  # [entries]
    tags, values = (_number(tiff, entries + place, 2, big=big) for place in (0, 8))
    lengths, offsets = (_number(tiff, entries + place, 4, big=big) for place in (4, 8))
    is_text = tf.reduce_any(tf.equal(tags[:, None], TEXTS), axis=1)
    is_number = tf.equal(tags[:, None], list(NUMBERS))  # [entries, tags]
    lengths = tf.where(
        is_text, lengths, tf.reduce_sum(tf.where(is_number, list(NUMBERS.values()), 0), axis=1)
    )
    offsets = tf.where(is_text & (lengths >= 0) & (lengths <= 4), 8, offsets)
    inside = (lengths >= 0) & (offsets >= 0) & (offsets <= size - tf.maximum(lengths, 0))
    broken = (is_text | tf.reduce_any(is_number, axis=1)) & ~inside
    is_orientation = tf.equal(tags, 0x0112) & (entries + 10 <= size)
    first = tf.where(is_orientation | broken)[:1, 0]
    return tf.reduce_max(tf.concat([tf.gather(tf.where(broken, -1, values), first), [-1]], 0))


def _crc32(code: tf.Tensor) -> tf.Tensor:
    """Return the CRC-32 of int32 [bytes], four or more of them, as int64 (PNG, third edition, Annex D).

    Its register is linear in the bytes: that of two blocks is that of the left one, led on by as many zeros as the right one has bytes,
    xor that of the right one. So blocks are joined in pairs until one is left.
    """
    firsts = np.arange(256)
    for _ in range(8):
        firsts = (
            np.where(firsts & 1, 0xEDB88320, 0) ^ firsts >> 1
        )  # its polynomial, from the lowest bit up
    byte_on = tf.constant(
        np.stack([firsts, *(np.arange(256) << shift for shift in (0, 8, 16))])
    )  # int64 [4, 256], as `_led` takes it
    preset = tf.where(tf.range(tf.size(code)) < 4, 0xFF, 0)

    def joined(blocks, on):
        blocks = tf.pad(blocks, [[tf.size(blocks) % 2, 0]])  # a zero in front changes nothing
        return tf.bitwise.bitwise_xor(_led(blocks[::2], on), blocks[1::2]), _led(on, on)

    blocks = _led(tf.cast(tf.bitwise.bitwise_xor(code, preset), tf.int64), byte_on)  # [bytes]
    shapes = (tf.TensorShape([None]), byte_on.shape)
    blocks, _ = tf.while_loop(
        lambda blocks, on: tf.size(blocks) > 1, joined, (blocks, byte_on), shape_invariants=shapes
    )
    return tf.bitwise.bitwise_xor(blocks[0], 0xFFFFFFFF)


def _led(registers: tf.Tensor, on: tf.Tensor) -> tf.Tensor:
    """Return registers of a CRC, int64 of any shape, led on by zeros: `on` [4, 256] says where each value of each byte leads."""
    parts = [
        tf.gather(on[place], tf.bitwise.right_shift(registers, 8 * place) & 0xFF)
        for place in range(4)
    ]
    return functools.reduce(tf.bitwise.bitwise_xor, parts)


def upright(rgb: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Return a picture [height, width, channels] turned as its orientation says (Exif 2.3, tag 0x0112)."""
    rgb = tf.cond(orientation >= 5, lambda: tf.transpose(rgb, [1, 0, 2]), lambda: rgb)
    across = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
    down = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
    rgb = tf.cond(across, lambda: tf.reverse(rgb, [1]), lambda: rgb)
    return tf.cond(down, lambda: tf.reverse(rgb, [0]), lambda: rgb)


def resize_face(rgb: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return what `pipelines.faces.crops.resize_face` does of uint8 [height, width, 3]: uint8 [face_size, face_size, 3]."""
    side = spec.face_size
    shrinks = tf.reduce_min(tf.shape(rgb)[:2]) > side
    face = tf.cond(shrinks, lambda: _by_area(rgb, side), lambda: _bilinear(rgb, side))
    return tf.ensure_shape(face, [side, side, 3])


def _bilinear(rgb: tf.Tensor, side: int) -> tf.Tensor:
    rows, columns = tf.unstack(tf.shape(rgb)[:2])
    pixels = tf.cast(rgb, tf.int32)
    left, right, weights = _neighbours(columns, side)
    lines = (
        tf.gather(pixels, left, axis=1) * weights[0][:, None]
        + tf.gather(pixels, right, axis=1) * weights[1][:, None]
    )
    top, bottom, weights = _neighbours(rows, side)
    above, below = (
        tf.bitwise.right_shift(tf.gather(lines, row), 4) for row in (top, bottom)
    )  # [side, side, 3]
    parts = (
        tf.bitwise.right_shift(part * weight[:, None, None], 16)
        for part, weight in ((above, weights[0]), (below, weights[1]))
    )
    return tf.cast(tf.bitwise.right_shift(tf.add_n(list(parts)) + 2, 2), tf.uint8)


def _neighbours(
    length: tf.Tensor, side: int
) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Return for each of `side` pixels the two of `length` that it lies between, and what each weighs in 1 / 2048.

    Beyond the border both are the same one; the weights stay, because OpenCV rounds each line's part by itself. (Of columns it
    gives one of them all, which is the same sum.)
    """
    scale = tf.cast(length, tf.float64) / side
    place = tf.cast((tf.range(side, dtype=tf.float64) + 0.5) * scale - 0.5, tf.float32)
    share = place - tf.floor(place)
    first = tf.cast(tf.floor(place), tf.int32)
    weights = [tf.cast(tf.round(weight * FIXED_POINT), tf.int32) for weight in (1.0 - share, share)]
    return tf.maximum(first, 0), tf.minimum(first + 1, length - 1), tuple(weights)


def _by_area(rgb: tf.Tensor, side: int) -> tf.Tensor:
    rows, columns = tf.unstack(tf.shape(rgb)[:2])
    even = tf.equal(rows % side, 0) & tf.equal(columns % side, 0)
    return tf.cond(even, lambda: _by_blocks(rgb, side), lambda: _by_shares(rgb, side))


def _by_blocks(rgb: tf.Tensor, side: int) -> tf.Tensor:
    """Resize by whole factors: the mean of each block."""
    down, across = tf.shape(rgb)[0] // side, tf.shape(rgb)[1] // side
    blocks = tf.reshape(tf.cast(rgb, tf.int32), [side, down, side, across, 3])
    sums = tf.reduce_sum(blocks, axis=[1, 3])  # [side, side, 3]
    scaled = tf.cast(sums, tf.float32) * (1.0 / tf.cast(down * across, tf.float32))
    halves_up = tf.cast(
        tf.bitwise.right_shift(sums + 2, 2), tf.uint8
    )  # OpenCV's way with blocks of 2x2
    return tf.where(
        tf.equal(down, 2) & tf.equal(across, 2), halves_up, tf.cast(tf.round(scaled), tf.uint8)
    )


def _by_shares(rgb: tf.Tensor, side: int) -> tf.Tensor:
    """Resize by any factor above 1: the mean of what each target pixel covers."""
    lines = _sums(tf.transpose(tf.cast(rgb, tf.float32), [1, 0, 2]), side)  # [side, rows, 3]
    sums = _sums(tf.transpose(lines, [1, 0, 2]), side)  # [side, side, 3]
    return tf.cast(tf.clip_by_value(tf.round(sums), 0.0, 255.0), tf.uint8)


def _sums(lines: tf.Tensor, side: int) -> tf.Tensor:
    """Return the weighted sums of the lines [length, ...] that each of `side` covers, added one after the other."""
    length = tf.shape(lines)[0]
    scale = tf.cast(length, tf.float64) / side
    begin = tf.range(side, dtype=tf.float64) * scale
    end = begin + scale
    width = tf.minimum(scale, tf.cast(length, tf.float64) - begin)
    last = tf.minimum(tf.cast(tf.floor(end), tf.int32), length - 1)
    first = tf.minimum(tf.cast(tf.math.ceil(begin), tf.int32), last)
    before = tf.cast(first, tf.float64) - begin
    after = end - tf.cast(last, tf.float64)

    def add(step, sums):
        place = first - 1 + step  # from the one that is covered in part
        share = tf.where(
            tf.equal(place, first - 1),
            before,
            tf.where(tf.equal(place, last), after, tf.ones_like(width)),
        )
        share = tf.where(
            (share > LEAST_SHARE) & (place <= last),
            tf.minimum(tf.minimum(share, 1.0), width),
            tf.zeros_like(width),
        )
        weight = tf.cast(share / width, tf.float32)
        covered = tf.gather(lines, tf.clip_by_value(place, 0, length - 1))
        return step + 1, sums + covered * weight[:, None, None]

    most = tf.cast(tf.math.ceil(scale), tf.int32) + 2
    zeros = tf.zeros(tf.concat([[side], tf.shape(lines)[1:]], axis=0))
    return tf.while_loop(lambda step, _: step < most, add, (0, zeros), parallel_iterations=1)[1]
