"""Write a copy of a video with faces framed and probabilities drawn, sound kept.

May import `pipelines.core`, `pipelines.media` and `pipelines.workers`. Never imports TensorFlow.
"""

from typing import TYPE_CHECKING

from pipelines.core.lazy import lazy_exports

if TYPE_CHECKING:
    from pipelines.overlay.writer import OverlayTask

__all__ = ["OverlayTask"]

_MODULE_OF = {"OverlayTask": "writer"}

__getattr__, __dir__ = lazy_exports(__name__, _MODULE_OF)
