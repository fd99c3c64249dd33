"""What TensorFlow is told before it is loaded, so that XLA makes one operation of the many between two convolutions of a CPU.

The convolutions stay oneDNN's. TensorFlow has no switch for that but an environment variable, which it reads once.
"""

import os
import sys

VARIABLE = "TF_XLA_FLAGS"
FLAGS = "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_ops_to_cluster=FUSIBLE --tf_xla_enable_lazy_compilation=false"
"""Clusters on CPUs as well, and of operations alone that XLA can fuse: elementwise ones, sums, changes of shape and type."""


def ask(compiler: str) -> None:
    """Tell TensorFlow, and the processes that are started, where `compiler` is `fused` and TensorFlow is not loaded yet."""
    if compiler == "fused" and not told() and "tensorflow" not in sys.modules:
        os.environ[VARIABLE] = " ".join(filter(None, (os.environ.get(VARIABLE), FLAGS)))


def told() -> bool:
    """Return whether the environment tells TensorFlow."""
    return FLAGS in os.environ.get(VARIABLE, "")
