"""What TensorFlow is told before it is loaded, so that XLA makes one operation of the many between two convolutions of a CPU.

The convolutions stay oneDNN's. TensorFlow has no switch for that but an environment variable, which it reads once.
"""

import contextlib
import os
import sys

VARIABLE = "TF_XLA_FLAGS"
FLAGS = "--tf_xla_ops_to_cluster=FUSIBLE --tf_xla_enable_lazy_compilation=false"
"""In `scope`, from the first time on, what XLA can fuse is compiled: elementwise operations, sums, changes of shape and type."""


def ask(compiler: str) -> None:
    """Tell TensorFlow, and the processes that are started, where `compiler` is `fused` and TensorFlow is not loaded yet."""
    if compiler == "fused" and not told() and "tensorflow" not in sys.modules:
        os.environ[VARIABLE] = " ".join(filter(None, (os.environ.get(VARIABLE), FLAGS)))


def told() -> bool:
    """Return whether the environment tells TensorFlow."""
    return FLAGS in os.environ.get(VARIABLE, "")


def scope(fused: bool) -> contextlib.AbstractContextManager:
    """Return the context in which TensorFlow's operations are compiled so, or one that changes nothing.

    The step of a training belongs there, whose shapes are always the same. Every other shape is compiled anew and kept in mapped memory,
    of which Linux gives a process 65 530 pieces: log-Mels of clips of every length, compiled so, used them up in four trainings.
    """
    import tensorflow as tf

    return tf.xla.experimental.jit_scope() if fused else contextlib.nullcontext()
