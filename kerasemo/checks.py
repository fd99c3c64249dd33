"""What must hold of an input of a graph, and what is said where it does not: errors that whoever runs the graph is told."""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

Check = tuple[tf.Tensor, list]
"""What must hold, and what is said with what came where it does not."""


def of_any_shape(
    function: Callable, inputs: Mapping[str, tf.TensorSpec]
) -> tf.types.experimental.PolymorphicFunction:
    """Return a function of a signature that takes any shape and itself says which were right.

    What a signature's shapes say is not checked by whoever runs the graph, and taken as true while it is optimised.
    """

    def of_right_shape(*given):
        return function(
            *(_of_shape(tensor, spec) for tensor, spec in zip(given, inputs.values(), strict=True))
        )

    return tf.function(
        of_right_shape,
        input_signature=[tf.TensorSpec(None, spec.dtype, spec.name) for spec in inputs.values()],
    )


def _of_shape(tensor: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """Return a tensor whose shape, but for the sizes that a spec leaves open, is the spec's.

    What goes on with it stands in a branch of its own: an operation that only waits for a check may be tried before it.
    """
    shape = spec.shape.as_list()
    told = [
        f"{spec.name}: expected the shape [{', '.join('n' if size is None else str(size) for size in shape)}]; received"
    ]

    def refused():
        with tf.control_dependencies(
            [tf.debugging.Assert(False, [*told, tf.shape(tensor)], summarize=8)]
        ):
            return tf.zeros([0 if size is None else size for size in shape], spec.dtype)

    def of_rank():
        sizes = tf.shape(tensor)
        fixed = [tf.equal(sizes[axis], size) for axis, size in enumerate(shape) if size is not None]
        return tf.cond(tf.reduce_all(fixed), lambda: tf.ensure_shape(tensor, shape), refused)

    rank = tf.shape(tf.shape(tensor))[
        0
    ]  # TensorFlow 2.21 takes tf.rank for what the branch below will ensure
    return tf.ensure_shape(tf.cond(tf.equal(rank, len(shape)), of_rank, refused), shape)


def checked(tensor: tf.Tensor, checks: Sequence[Check]) -> tf.Tensor:
    """Return a tensor that is there only where everything holds, one check after the other."""
    for holds, told in checks:
        with tf.control_dependencies([tf.debugging.Assert(holds, told, summarize=8)]):
            tensor = tf.identity(tensor)
    return tensor


def some(tensor: tf.Tensor, what: str) -> list[Check]:
    """Return the check that a batch is not empty."""
    return [
        (
            tf.shape(tensor)[0] > 0,
            [f"empty: expected at least one {what}; received the shape", tf.shape(tensor)],
        )
    ]


def finite(tensor: tf.Tensor) -> Check:
    """Return the check that there is neither NaN nor infinity."""
    return tf.reduce_all(tf.math.is_finite(tensor)), ["expected numbers; received NaN or infinity"]
