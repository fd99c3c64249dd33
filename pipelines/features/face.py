"""Decode an encoded still picture to a 64x64x3 face, as a TensorFlow graph.

The served graph uses this module, because OpenCV cannot run in a graph. The result equals that of
`images.read_still` and `crops.resize_face`, to the grey level. The steps are those of OpenCV, in
its order and precision: bilinear in fixed point, by area in float32 with sequential sums.
"""

import functools

import numpy as np
import tensorflow as tf

from pipelines.core.spec import Spec

MAX_SIDE = 4096
"""A still with a longer side is refused, because it is no crop of a face and takes much memory."""
FIXED_POINT_ONE = 2048
"""The weights of OpenCV's bilinear resize are multiples of 1 / 2048."""
MIN_SHARE = 1e-3
"""OpenCV ignores a source pixel of which a target pixel covers less than this share."""
MAX_SECTIONS = 2**16
"""The most segments or chunks in which an orientation is searched for.

A file with millions of empty ones would keep a server busy.
"""
TEXT_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x8298)
"""Tags of Exif that OpenCV reads as text, whose entry holds the length and the offset."""
BYTES_OF_FRACTION_TAG = {0x011A: 8, 0x011B: 8, 0x013E: 16, 0x013F: 48, 0x0211: 24, 0x0214: 48}
"""Tags of Exif that OpenCV reads as fractions, and their bytes at the offset of the entry."""


def decode_face(encoded: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return the picture of a JPEG or PNG file, turned upright and resized to a face.

    Args:
        encoded: The bytes of the file, a scalar string. The picture is a crop of a face, as for a
            build with `--faces as-is`.
        spec: The size of a face.

    Returns:
        uint8 [face_size, face_size, 3].

    Raises:
        tf.errors.InvalidArgumentError: The bytes are no JPEG or PNG, are truncated or CMYK, or the
            picture has a side above `MAX_SIDE`.
    """
    code = tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32)  # [bytes]
    is_jpeg = _starts_with(encoded, b"\xff\xd8\xff")
    is_png = _starts_with(encoded, b"\x89PNG\r\n\x1a\n")
    expected = "expected the bytes of a JPEG or PNG file; received"
    is_known = tf.debugging.Assert(
        is_jpeg | is_png, [expected, tf.strings.length(encoded), "bytes of something else"]
    )
    with tf.control_dependencies([is_known]):
        rgb = tf.cond(
            is_jpeg, lambda: _decode_jpeg(encoded, code), lambda: _decode_png(encoded, code)
        )
    return resize_in_graph(rgb, spec=spec)


def _starts_with(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    length = tf.minimum(len(magic), tf.strings.length(encoded))
    return tf.equal(tf.strings.substr(encoded, 0, length), magic)


def _check_size(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    is_allowed = (height >= 1) & (width >= 1) & (height <= MAX_SIDE) & (width <= MAX_SIDE)
    return tf.debugging.Assert(
        is_allowed,
        [f"expected a picture of at most {MAX_SIDE} pixels a side; received", width, "x", height],
    )


def _decode_jpeg(encoded: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    is_rgb = tf.debugging.Assert(
        channels <= 3, ["expected a JPEG in grey or colour; received one in CMYK; save it as RGB"]
    )
    with tf.control_dependencies([is_rgb, _check_size(height, width)]):
        rgb = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return turned_upright(rgb, jpeg_orientation(code))


def _decode_png(encoded: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    has_header = tf.debugging.Assert(
        tf.size(code) >= 33,
        ["expected the bytes of a whole PNG file; received", tf.size(code), "bytes"],
    )
    with tf.control_dependencies([has_header]):
        width, height = _number(code, 16, 4), _number(code, 20, 4)
    with tf.control_dependencies([_check_size(height, width)]):
        rgb = tf.io.decode_png(encoded, channels=3)
    return turned_upright(rgb, png_orientation(code))


def _number(
    code: tf.Tensor, position: tf.Tensor | int, size: int, *, is_big_endian: tf.Tensor | bool = True
) -> tf.Tensor:
    """Return the numbers of `size` bytes at positions of any shape, int32 of the same shape.

    A byte beyond the end counts as 0. A number from 2**31 on comes out negative.
    """
    places = tf.convert_to_tensor(position)[..., None] + tf.range(size)
    is_inside = (places >= 0) & (places < tf.size(code))
    digits = tf.where(is_inside, tf.gather(code, tf.where(is_inside, places, 0)), 0)
    digits = tf.where(is_big_endian, digits, digits[..., ::-1])
    return tf.reduce_sum(tf.bitwise.left_shift(digits, 8 * tf.range(size - 1, -1, -1)), axis=-1)


def jpeg_orientation(code: tf.Tensor) -> tf.Tensor:
    """Return the orientation of a JPEG, 1 to 8; 1 (upright) where the file holds no valid one.

    As in OpenCV, the first Exif segment that holds an orientation counts. Bytes between two
    segments, such as the fill bytes before a marker, are skipped.

    Args:
        code: The bytes of the file, int32 [bytes].

    Source: Exif 2.3 (JEITA CP-3451C), 4.5.2; segments of JPEG ITU-T T.81 B.1.1.
    """
    size, markers = tf.size(code), code[1:]
    has_no_length = (
        (markers <= 1) | ((markers >= 0xD0) & (markers <= 0xD7)) | tf.equal(markers, 0xFF)
    )
    is_start = tf.equal(code[:-1], 0xFF) & ~has_no_length
    # The starts of segments, and the end of the file.
    starts = tf.cast(tf.where(tf.concat([is_start, [True, True]], 0))[:, 0], tf.int32)

    def first_start_from(position: tf.Tensor | int) -> tf.Tensor:
        return tf.gather(starts, tf.searchsorted(starts, [tf.minimum(position, size)]))[0]

    def is_segment(position: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
        return (
            (orientation < 0)
            & (position < size)
            & tf.not_equal(_number(code, position + 1, 1), 0xDA)
        )

    def next_segment(position: tf.Tensor, orientation: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = tf.maximum(2, _number(code, position + 2, 2))
        tiff = code[position + 10 : tf.maximum(position + 10, position + 2 + length)]
        is_exif = (
            _equals(code, position, b"\xff\xe1")
            & _equals(code, position + 4, b"Exif")
            & _equals(code, position + 8, b"\0\0")
            & (tf.size(tiff) > 0)
        )
        orientation = tf.cond(is_exif, lambda: tiff_orientation(tiff), lambda: orientation)
        return first_start_from(position + 2 + length), orientation

    _, orientation = tf.while_loop(
        is_segment,
        next_segment,
        (first_start_from(2), tf.constant(-1)),
        maximum_iterations=MAX_SECTIONS,
    )
    return _valid_orientation(orientation)


def png_orientation(code: tf.Tensor) -> tf.Tensor:
    """Return the orientation of a PNG, 1 to 8; 1 (upright) where the file holds no valid one.

    As in OpenCV, the orientation is read from the first eXIf chunk with a TIFF header and a correct
    CRC, before or after the picture data. The orientation of an animation is ignored.

    Args:
        code: The bytes of the file, int32 [bytes].

    Source: chunks of PNG, third edition (W3C), 5.3 and 11.3.4.5; acTL 11.3.6.1.
    """

    def is_chunk(
        position: tf.Tensor, _start: tf.Tensor, _end: tf.Tensor, _is_animated: tf.Tensor
    ) -> tf.Tensor:
        return (position + 12 <= tf.size(code)) & ~_equals(code, position + 4, b"IEND")

    def next_chunk(
        position: tf.Tensor, start: tf.Tensor, end: tf.Tensor, is_animated: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        length = tf.clip_by_value(_number(code, position, 4), 0, tf.size(code))
        is_first_exif = (start < 0) & _equals(code, position + 4, b"eXIf")
        is_tiff = _equals(code, position + 8, b"II*\0") | _equals(code, position + 8, b"MM\0*")
        crc = tf.cast(_number(code, position + 8 + length, 4), tf.int64) & 0xFFFFFFFF
        is_valid = tf.cond(
            is_first_exif & is_tiff,
            lambda: tf.equal(_crc32(code[position + 4 : position + 8 + length]), crc),
            lambda: False,
        )
        has_frames = _equals(code, position + 4, b"acTL") & (_number(code, position + 8, 4) > 1)
        return (
            position + 12 + length,
            tf.where(is_valid, position + 8, start),
            tf.where(is_valid, position + 8 + length, end),
            is_animated | has_frames,
        )

    first_state = (tf.constant(8), tf.constant(-1), tf.constant(0), tf.constant(False))
    _, start, end, is_animated = tf.while_loop(
        is_chunk, next_chunk, first_state, maximum_iterations=MAX_SECTIONS
    )
    return _valid_orientation(
        tf.cond((start >= 0) & ~is_animated, lambda: tiff_orientation(code[start:end]), lambda: -1)
    )


def _valid_orientation(orientation: tf.Tensor) -> tf.Tensor:
    return tf.where((orientation >= 1) & (orientation <= 8), orientation, 1)


def _equals(code: tf.Tensor, position: tf.Tensor, expected: bytes) -> tf.Tensor:
    """Return whether the bytes at a position are the expected ones, at most four."""
    return tf.equal(_number(code, position, len(expected)), int.from_bytes(expected, "big"))


def tiff_orientation(tiff: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the first directory of a TIFF, or -1 where it holds none.

    The number is not checked. As in OpenCV, the first entry of the tag counts, and no entry after
    one that refers to bytes beyond the end.

    Args:
        tiff: The contents of an Exif segment or an eXIf chunk, from the byte order on; int32
            [bytes].

    Source: Exif 2.3 (JEITA CP-3451C), 4.5.2, 4.6.2 and 4.6.4 A (tag 0x0112).
    """
    size = tf.size(tiff)
    is_big_endian = tf.not_equal(_number(tiff, 0, 2), 0x4949)  # "II"

    def number(position: tf.Tensor | int, size: int) -> tf.Tensor:
        return _number(tiff, position, size, is_big_endian=is_big_endian)

    directory = number(4, 4)
    is_tiff = (size >= 8) & tf.equal(number(2, 2), 42) & (directory >= 0) & (directory < size)
    count = tf.where(is_tiff, number(directory, 2), 0)
    entries = tf.where(is_tiff, directory, 0) + 2 + 12 * tf.range(count)  # [entries]
    tags, values = (number(entries + place, 2) for place in (0, 8))
    lengths, offsets = (number(entries + place, 4) for place in (4, 8))
    is_text = tf.reduce_any(tf.equal(tags[:, None], TEXT_TAGS), axis=1)
    is_fraction = tf.equal(tags[:, None], list(BYTES_OF_FRACTION_TAG))  # [entries, tags]
    fraction_bytes = tf.reduce_sum(
        tf.where(is_fraction, list(BYTES_OF_FRACTION_TAG.values()), 0), axis=1
    )
    lengths = tf.where(is_text, lengths, fraction_bytes)
    # The entry itself holds a text of at most four bytes.
    offsets = tf.where(is_text & (lengths >= 0) & (lengths <= 4), 8, offsets)
    is_inside = (lengths >= 0) & (offsets >= 0) & (offsets <= size - tf.maximum(lengths, 0))
    is_broken = (is_text | tf.reduce_any(is_fraction, axis=1)) & ~is_inside
    is_orientation = tf.equal(tags, 0x0112) & (entries + 10 <= size)
    first = tf.where(is_orientation | is_broken)[:1, 0]
    return tf.reduce_max(tf.concat([tf.gather(tf.where(is_broken, -1, values), first), [-1]], 0))


def _crc32(code: tf.Tensor) -> tf.Tensor:
    """Return the CRC-32 of four or more bytes, int64 (PNG, third edition, Annex D).

    The register of a CRC is linear in the bytes. The register of two blocks is that of the left
    one, advanced by a zero for each byte of the right one, xor that of the right one. The function
    joins neighbouring blocks in pairs until one block remains.

    Args:
        code: int32 [bytes].
    """
    remainders = np.arange(256)
    for _ in range(8):  # the polynomial of the CRC, lowest bit first
        remainders = np.where(remainders & 1, 0xEDB88320, 0) ^ remainders >> 1
    # int64 [4, 256]: advances a register by one zero byte, see `_advanced`.
    one_byte = tf.constant(np.stack([remainders, *(np.arange(256) << bits for bits in (0, 8, 16))]))
    preset = tf.where(tf.range(tf.size(code)) < 4, 0xFF, 0)

    def join_pairs(blocks: tf.Tensor, table: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # A zero before the first block does not change the result.
        blocks = tf.pad(blocks, [[tf.size(blocks) % 2, 0]])
        joined = tf.bitwise.bitwise_xor(_advanced(blocks[::2], table), blocks[1::2])
        return joined, _advanced(table, table)

    # [bytes]
    blocks = _advanced(tf.cast(tf.bitwise.bitwise_xor(code, preset), tf.int64), one_byte)
    shapes = (tf.TensorShape([None]), one_byte.shape)
    blocks, _ = tf.while_loop(
        lambda blocks, _table: tf.size(blocks) > 1,
        join_pairs,
        (blocks, one_byte),
        shape_invariants=shapes,
    )
    return tf.bitwise.bitwise_xor(blocks[0], 0xFFFFFFFF)


def _advanced(registers: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Return registers of a CRC after as many zero bytes as the table stands for.

    Args:
        registers: int64 of any shape.
        table: int64 [4, 256], the register after each value of each byte.
    """
    parts = [
        tf.gather(table[place], tf.bitwise.right_shift(registers, 8 * place) & 0xFF)
        for place in range(4)
    ]
    return functools.reduce(tf.bitwise.bitwise_xor, parts)


def turned_upright(rgb: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn a picture [height, width, channels] by its orientation (Exif 2.3, tag 0x0112)."""
    rgb = tf.cond(orientation >= 5, lambda: tf.transpose(rgb, [1, 0, 2]), lambda: rgb)
    is_mirrored = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
    is_upside_down = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
    rgb = tf.cond(is_mirrored, lambda: tf.reverse(rgb, [1]), lambda: rgb)
    return tf.cond(is_upside_down, lambda: tf.reverse(rgb, [0]), lambda: rgb)


def resize_in_graph(rgb: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Resize a picture as `pipelines.faces.crops.resize_face` does.

    Args:
        rgb: uint8 [height, width, 3].
        spec: The size of a face.

    Returns:
        uint8 [face_size, face_size, 3].
    """
    side = spec.face_size
    shrinks = tf.reduce_min(tf.shape(rgb)[:2]) > side
    face = tf.cond(shrinks, lambda: _resize_by_area(rgb, side), lambda: _bilinear(rgb, side))
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
    # [side, side, 3]
    above, below = (tf.bitwise.right_shift(tf.gather(lines, row), 4) for row in (top, bottom))
    parts = (
        tf.bitwise.right_shift(part * weight[:, None, None], 16)
        for part, weight in ((above, weights[0]), (below, weights[1]))
    )
    return tf.cast(tf.bitwise.right_shift(tf.add_n(list(parts)) + 2, 2), tf.uint8)


def _neighbours(
    length: tf.Tensor, side: int
) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
    """Return the two source pixels around each target pixel, and their weights.

    Beyond the border both are the same pixel. The two weights stay, because OpenCV rounds the part
    of each line separately. For columns OpenCV gives one pixel the whole weight, with equal sums.

    Args:
        length: The number of source pixels.
        side: The number of target pixels.

    Returns:
        int32 [side] each: the first pixel, the second pixel, and the two weights in 1 / 2048.
    """
    scale = tf.cast(length, tf.float64) / side
    place = tf.cast((tf.range(side, dtype=tf.float64) + 0.5) * scale - 0.5, tf.float32)
    share = place - tf.floor(place)
    first = tf.cast(tf.floor(place), tf.int32)
    weights = [
        tf.cast(tf.round(weight * FIXED_POINT_ONE), tf.int32) for weight in (1.0 - share, share)
    ]
    return tf.maximum(first, 0), tf.minimum(first + 1, length - 1), tuple(weights)


def _resize_by_area(rgb: tf.Tensor, side: int) -> tf.Tensor:
    rows, columns = tf.unstack(tf.shape(rgb)[:2])
    is_whole_factor = tf.equal(rows % side, 0) & tf.equal(columns % side, 0)
    return tf.cond(
        is_whole_factor, lambda: _mean_of_blocks(rgb, side), lambda: _mean_of_areas(rgb, side)
    )


def _mean_of_blocks(rgb: tf.Tensor, side: int) -> tf.Tensor:
    """Shrink by whole factors: each target pixel is the mean of a block."""
    down, across = tf.shape(rgb)[0] // side, tf.shape(rgb)[1] // side
    blocks = tf.reshape(tf.cast(rgb, tf.int32), [side, down, side, across, 3])
    sums = tf.reduce_sum(blocks, axis=[1, 3])  # [side, side, 3]
    scaled = tf.cast(sums, tf.float32) * (1.0 / tf.cast(down * across, tf.float32))
    # OpenCV rounds the mean of a block of 2x2 in integers.
    halves_up = tf.cast(tf.bitwise.right_shift(sums + 2, 2), tf.uint8)
    return tf.where(
        tf.equal(down, 2) & tf.equal(across, 2), halves_up, tf.cast(tf.round(scaled), tf.uint8)
    )


def _mean_of_areas(rgb: tf.Tensor, side: int) -> tf.Tensor:
    """Shrink by any factor: each target pixel is the mean of the area that it covers."""
    lines = _weighted_sums(
        tf.transpose(tf.cast(rgb, tf.float32), [1, 0, 2]), side
    )  # [side, rows, 3]
    sums = _weighted_sums(tf.transpose(lines, [1, 0, 2]), side)  # [side, side, 3]
    return tf.cast(tf.clip_by_value(tf.round(sums), 0.0, 255.0), tf.uint8)


def _weighted_sums(lines: tf.Tensor, side: int) -> tf.Tensor:
    """Return for each target line the weighted sum of the lines that it covers, added in order.

    Args:
        lines: float32 [length, ...].
        side: The number of target lines.

    Returns:
        float32 [side, ...].
    """
    length = tf.shape(lines)[0]
    scale = tf.cast(length, tf.float64) / side
    begin = tf.range(side, dtype=tf.float64) * scale
    end = begin + scale
    width = tf.minimum(scale, tf.cast(length, tf.float64) - begin)
    last = tf.minimum(tf.cast(tf.floor(end), tf.int32), length - 1)
    first = tf.minimum(tf.cast(tf.math.ceil(begin), tf.int32), last)
    before = tf.cast(first, tf.float64) - begin
    after = end - tf.cast(last, tf.float64)

    def add(step: tf.Tensor, sums: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        place = first - 1 + step  # starts with the line that is covered in part
        share = tf.where(
            tf.equal(place, first - 1),
            before,
            tf.where(tf.equal(place, last), after, tf.ones_like(width)),
        )
        share = tf.where(
            (share > MIN_SHARE) & (place <= last),
            tf.minimum(tf.minimum(share, 1.0), width),
            tf.zeros_like(width),
        )
        weight = tf.cast(share / width, tf.float32)
        covered = tf.gather(lines, tf.clip_by_value(place, 0, length - 1))
        return step + 1, sums + covered * weight[:, None, None]

    max_lines = tf.cast(tf.math.ceil(scale), tf.int32) + 2
    zeros = tf.zeros(tf.concat([[side], tf.shape(lines)[1:]], axis=0))
    return tf.while_loop(lambda step, _: step < max_lines, add, (0, zeros), parallel_iterations=1)[
        1
    ]
