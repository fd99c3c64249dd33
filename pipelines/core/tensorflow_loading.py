"""The import of TensorFlow without the lines that TensorFlow logs at every start."""

import os
import sys
import tempfile


def load_tensorflow() -> None:
    """Import TensorFlow and find its devices, without the lines that it logs at every start.

    The lines are shown if the import fails, or if the user has set TF_CPP_MIN_LOG_LEVEL.
    """
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL"):
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        standard_error = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            log.seek(0)
            os.write(standard_error, log.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            # TensorFlow reads the variable once. A command that this process starts chooses for
            # itself.
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]
