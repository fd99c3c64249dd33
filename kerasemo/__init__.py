"""Joint deep cross-domain transfer learning for the recognition of emotions with Keras."""

import os

# oneDNN's convolutions, which TensorFlow takes by itself only on processors with AVX-512 VNNI or
# AMX.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__version__ = "0.1.0"
