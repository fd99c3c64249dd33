"""Sources of random arrays, made without media or records."""

import numpy as np

from kerasemo.datasets.sources import Source, Subset
from pipelines.core.labels import EMOTIONS

SIZE = 16
"""Side of the faces and segments: `Spec(face_size=SIZE)`."""


def random_source(name: str, emotions, *, items=(2,), seed: int = 0) -> Source:
    """Return a source with a clip for each of `emotions`, of `items` faces or segments in turn.

    An item's upper left corner leans to its clip's emotion, so that there is something to learn.
    """
    random = np.random.default_rng(seed)
    clip_of = np.repeat(np.arange(len(emotions)), np.resize(items, len(emotions)))
    corpus, _, domain = name.partition("/")
    rows = [
        {
            "id": f"{clip:03d}",
            "speaker": f"{corpus}:{clip % 3}",
            "emotion": emotion,
            "utterance": f"{corpus}:{clip}",
        }
        for clip, emotion in enumerate(emotions)
    ]
    shape = (len(clip_of), SIZE, SIZE, 3)
    lean = np.array([EMOTIONS.index(emotion) for emotion in emotions])[
        clip_of, None, None, None
    ] / len(EMOTIONS)
    unit = random.uniform(size=shape)
    unit[:, :8, :8] = 0.3 * unit[:, :8, :8] + 0.7 * lean
    inputs = (
        (255 * unit).astype(np.uint8)
        if domain == "visual"
        else (100 * unit - 100).astype(np.float32)
    )
    return Source(name, tuple(rows), inputs, clip_of)


def whole(source: Source) -> Subset:
    """Return all items of a source as one subset."""
    return Subset(source, np.arange(len(source.inputs)))
