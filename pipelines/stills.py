"""Encoded still -> 64x64x3 face, as a graph: what `decode.read_still` and `faces.resize_face` give, to the grey level.

For the served graph, where OpenCV cannot go. The steps are OpenCV's own, in its order and its precision: bilinear in fixed point, by area
in float32, sums one after the other.
"""

import tensorflow as tf

from pipelines.spec import Spec

MOST_SIDE = 4096
"""A still with a longer side is refused: it is no crop of a face, and costs memory."""
FIXED_POINT = 2048
"""OpenCV's weights of a bilinear resize are multiples of 1 / 2048."""
LEAST_SHARE = 1e-3
"""OpenCV leaves out what a target pixel covers of a source pixel's width below this share."""


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
    known = tf.debugging.Assert(is_jpeg | is_png, [expected, tf.strings.length(encoded), "bytes of something else"])
    with tf.control_dependencies([known]):
        rgb = tf.cond(is_jpeg, lambda: _jpeg(encoded, code), lambda: _png(encoded, code))
    return resize_face(rgb, spec=spec)


def _begins(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    length = tf.minimum(len(magic), tf.strings.length(encoded))
    return tf.equal(tf.strings.substr(encoded, 0, length), magic)


def _checked(height: tf.Tensor, width: tf.Tensor) -> tf.Operation:
    allowed = (height >= 1) & (width >= 1) & (height <= MOST_SIDE) & (width <= MOST_SIDE)
    return tf.debugging.Assert(allowed, [f"expected a picture of at most {MOST_SIDE} pixels a side; received", width, "x", height])


def _jpeg(encoded: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    height, width, channels = tf.unstack(tf.io.extract_jpeg_shape(encoded))
    plain = tf.debugging.Assert(channels <= 3, ["expected a JPEG in grey or colour; received one in CMYK; save it as RGB"])
    with tf.control_dependencies([plain, _checked(height, width)]):
        rgb = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return upright(rgb, jpeg_orientation(code))


def _png(encoded: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    whole = tf.debugging.Assert(tf.size(code) >= 33, ["expected the bytes of a whole PNG file; received", tf.size(code), "bytes"])
    with tf.control_dependencies([whole]):
        width, height = _number(code, 16, 4, big=True), _number(code, 20, 4, big=True)
    with tf.control_dependencies([_checked(height, width)]):
        return tf.io.decode_png(encoded, channels=3)


def _number(code: tf.Tensor, at: tf.Tensor | int, size: int, *, big: tf.Tensor | bool) -> tf.Tensor:
    """Return the unsigned number of `size` bytes at a place; 0 for what lies beyond the end."""
    places = at + tf.range(size)
    inside = (places >= 0) & (places < tf.size(code))
    digits = tf.where(inside, tf.gather(code, tf.where(inside, places, 0)), 0)
    digits = tf.where(big, digits, digits[::-1])
    return tf.reduce_sum(tf.bitwise.left_shift(digits, 8 * tf.range(size - 1, -1, -1)))


def jpeg_orientation(code: tf.Tensor) -> tf.Tensor:
    """Return how a JPEG says that it is to be turned, 1 to 8; 1, upright, where it says nothing that can be.

    Args:
        code: int32 [bytes], the file.

    Source: Exif 2.3 (JEITA CP-3451C), 4.5.2 and 4.6.4 A (tag 0x0112); segments of JPEG ITU-T T.81 B.1.1.
    """
    size = tf.size(code)

    def is_segment(at, found):
        marker = _number(code, at + 1, 1, big=True)
        return (found < 0) & (at + 4 < size) & tf.equal(_number(code, at, 1, big=True), 0xFF) & tf.not_equal(marker, 0xDA)

    def next_segment(at, found):
        is_exif = tf.equal(_number(code, at, 2, big=True), 0xFFE1) & tf.equal(_number(code, at + 4, 4, big=True), 0x45786966)  # "Exif"
        length = tf.maximum(2, _number(code, at + 2, 2, big=True))
        return at + 2 + length, tf.where(is_exif, at + 10, found)

    _, start = tf.while_loop(is_segment, next_segment, (tf.constant(2), tf.constant(-1)))  # of the TIFF inside
    big = tf.equal(_number(code, start, 2, big=True), 0x4D4D)  # "MM"
    directory = start + _number(code, start + 4, 4, big=big)
    count = tf.where((directory >= start) & (directory < size), _number(code, directory, 2, big=big), 0)
    entries = directory + 2 + 12 * tf.range(tf.minimum(count, 512))  # [entries]
    tags = tf.map_fn(lambda at: _number(code, at, 2, big=big), entries)
    values = tf.map_fn(lambda at: _number(code, at + 8, 2, big=big), entries)
    orientation = tf.reduce_max(tf.where(tf.equal(tags, 0x0112), values, 1))
    return tf.where((start >= 0) & (count > 0) & (orientation >= 1) & (orientation <= 8), orientation, 1)


def upright(rgb: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Return a picture [height, width, channels] turned as its orientation says (Exif 2.3, tag 0x0112)."""
    rgb = tf.cond(orientation >= 5, lambda: tf.transpose(rgb, [1, 0, 2]), lambda: rgb)
    across = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
    down = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
    rgb = tf.cond(across, lambda: tf.reverse(rgb, [1]), lambda: rgb)
    return tf.cond(down, lambda: tf.reverse(rgb, [0]), lambda: rgb)


def resize_face(rgb: tf.Tensor, *, spec: Spec = Spec()) -> tf.Tensor:
    """Return what `pipelines.faces.resize_face` does of uint8 [height, width, 3]: uint8 [face_size, face_size, 3]."""
    side = spec.face_size
    shrinks = tf.reduce_min(tf.shape(rgb)[:2]) > side
    face = tf.cond(shrinks, lambda: _by_area(rgb, side), lambda: _bilinear(rgb, side))
    return tf.ensure_shape(face, [side, side, 3])


def _bilinear(rgb: tf.Tensor, side: int) -> tf.Tensor:
    rows, columns = tf.unstack(tf.shape(rgb)[:2])
    pixels = tf.cast(rgb, tf.int32)
    left, right, weights = _neighbours(columns, side)
    lines = tf.gather(pixels, left, axis=1) * weights[0][:, None] + tf.gather(pixels, right, axis=1) * weights[1][:, None]
    top, bottom, weights = _neighbours(rows, side)
    above, below = (tf.bitwise.right_shift(tf.gather(lines, row), 4) for row in (top, bottom))  # [side, side, 3]
    parts = (tf.bitwise.right_shift(part * weight[:, None, None], 16) for part, weight in ((above, weights[0]), (below, weights[1])))
    return tf.cast(tf.bitwise.right_shift(tf.add_n(list(parts)) + 2, 2), tf.uint8)


def _neighbours(length: tf.Tensor, side: int) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
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
    halves_up = tf.cast(tf.bitwise.right_shift(sums + 2, 2), tf.uint8)  # OpenCV's way with blocks of 2x2
    return tf.where(tf.equal(down, 2) & tf.equal(across, 2), halves_up, tf.cast(tf.round(scaled), tf.uint8))


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
        share = tf.where(tf.equal(place, first - 1), before, tf.where(tf.equal(place, last), after, tf.ones_like(width)))
        share = tf.where((share > LEAST_SHARE) & (place <= last), tf.minimum(tf.minimum(share, 1.0), width), tf.zeros_like(width))
        weight = tf.cast(share / width, tf.float32)
        covered = tf.gather(lines, tf.clip_by_value(place, 0, length - 1))
        return step + 1, sums + covered * weight[:, None, None]

    most = tf.cast(tf.math.ceil(scale), tf.int32) + 2
    zeros = tf.zeros(tf.concat([[side], tf.shape(lines)[1:]], axis=0))
    return tf.while_loop(lambda step, _: step < most, add, (0, zeros), parallel_iterations=1)[1]
