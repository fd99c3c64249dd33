"""The import of TensorFlow without the lines that TensorFlow logs at every start."""

import os
import sys
import tempfile


def load_tensorflow() -> None:
    """Import tensorflow and find its devices, without the lines that it logs about itself on every start.

    Its log is shown when the import fails, or when TF_CPP_MIN_LOG_LEVEL is set: that asks for it.
    """
    if "tensorflow" in sys.modules or os.environ.get("TF_CPP_MIN_LOG_LEVEL"):
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    with tempfile.TemporaryFile() as log:
        screen = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            log.seek(0)
            os.write(screen, log.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
            # TensorFlow reads the variable once. A command that this process starts chooses for itself.
            del os.environ["TF_CPP_MIN_LOG_LEVEL"]
