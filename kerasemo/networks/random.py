"""Random numbers that depend on seeds alone, not on replicas or on a resumed run."""

from keras import KerasTensor, ops


def random_uniform(seed: KerasTensor, n: int, *, first: int = 0) -> KerasTensor:
    """Return uniform random numbers that are a pure function of one seed for each row.

    A 32-bit integer hash (two rounds of multiply and xor-shift) mixes the seed and the index of the
    column.

    Args:
        seed: int32 [batch].
        n: The number of columns.
        first: The index of the first column. Other indices give other numbers.

    Returns:
        float32 [batch, n] in [0, 1).
    """

    def uint32(value: int | KerasTensor) -> KerasTensor:
        return ops.cast(value, "uint32")

    def mix(bits: KerasTensor) -> KerasTensor:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = ops.bitwise_xor(bits, ops.right_shift(bits, uint32(shift))) * uint32(factor)
        return ops.bitwise_xor(bits, ops.right_shift(bits, uint32(16)))

    column = mix(uint32(ops.arange(first + 1, first + n + 1, dtype="int32")) * uint32(0x9E3779B9))
    bits = mix(ops.bitwise_xor(mix(uint32(seed))[:, None], column[None, :]))
    return ops.cast(ops.right_shift(bits, uint32(8)), "float32") * (1 / 2**24)
