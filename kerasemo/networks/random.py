"""Random numbers as a pure function of seeds, without state: replicas and resumed runs draw the same."""

from keras import ops


def random_uniform(seed, n: int, *, first: int = 0):
    """Return uniform random numbers that are a pure function of one seed a row.

    The seed and the column's index are mixed by a 32-bit integer hash (two rounds of multiply and xor-shift).

    Args:
        seed: int32 [batch].
        n: Numbers a row.
        first: The index of the first of them: others are other numbers of the same seed.

    Returns:
        float32 [batch, n] in [0, 1).
    """

    def uint32(value):
        return ops.cast(value, "uint32")

    def mixed(bits):
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = ops.bitwise_xor(bits, ops.right_shift(bits, uint32(shift))) * uint32(factor)
        return ops.bitwise_xor(bits, ops.right_shift(bits, uint32(16)))

    column = mixed(uint32(ops.arange(first + 1, first + n + 1, dtype="int32")) * uint32(0x9E3779B9))
    bits = mixed(ops.bitwise_xor(mixed(uint32(seed))[:, None], column[None, :]))
    return ops.cast(ops.right_shift(bits, uint32(8)), "float32") * (1 / 2**24)
