"""Sources of random arrays, made without media or records."""

from collections.abc import Sequence

import numpy as np

from kerasemo.datasets.sources import Source, Subset
from pipelines.core.labels import EMOTIONS

SIZE = 16
"""Height and width of the faces and segments in pixels: `Spec(face_size=SIZE)`."""


def random_source(
    name: str, emotions: Sequence[str], *, items: Sequence[int] = (2,), seed: int = 0
) -> Source:
    """Return a source with one clip of each of `emotions`.

    The upper left corner of an item is brighter for later emotions, so a network can learn them.

    Args:
        name: `CORPUS/DOMAIN`.
        emotions: The emotion of each clip.
        items: The number of faces or segments of the clips, repeated as often as needed.
        seed: The seed of the random arrays.
    """
    random = np.random.default_rng(seed)
    clip_of = np.repeat(np.arange(len(emotions)), np.resize(items, len(emotions)))
    corpus, _, domain = name.partition("/")
    rows = tuple(
        {
            "id": f"{clip:03d}",
            "speaker": f"{corpus}:{clip % 3}",
            "emotion": emotion,
            "utterance": f"{corpus}:{clip}",
        }
        for clip, emotion in enumerate(emotions)
    )
    labels = np.array([EMOTIONS.index(emotion) for emotion in emotions])
    brightness = labels[clip_of, None, None, None] / len(EMOTIONS)
    pixels = random.uniform(size=(len(clip_of), SIZE, SIZE, 3))
    pixels[:, :8, :8] = 0.3 * pixels[:, :8, :8] + 0.7 * brightness
    if domain == "visual":
        return Source(name, rows, (255 * pixels).astype(np.uint8), clip_of)
    return Source(name, rows, (100 * pixels - 100).astype(np.float32), clip_of)


def whole(source: Source) -> Subset:
    """Return all items of a source as one subset."""
    return Subset(source, np.arange(len(source.inputs)))
