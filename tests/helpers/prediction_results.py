"""Predictions of clips, which pages are rendered from."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from kerasemo.inference.clip_prediction import ClipPrediction

LABELS = ["anger", "fear", "happiness", "sadness"]


class Model(NamedTuple):
    """What a page shows of a bundle."""

    document: dict[str, Any]
    card: str
    labels: Sequence[str]


MODEL = Model(
    {
        "name": "sample-joint",
        "signatures": {"faces": {}},
        "training": {"sources": ["savee/visual"]},
        "synthetic": False,
    },
    "# sample-joint\n\n## Limits\n\n- acted speech\n",
    LABELS,
)

BOX = (100, 60, 80, 90)
"""Left, top, width and height of a face, in pixels."""


def prediction_of(distribution: np.ndarray) -> dict[str, Any]:
    """Return the prediction for a distribution over LABELS."""
    best = int(np.argmax(distribution))
    return {
        "emotion": LABELS[best],
        "confidence": float(distribution[best]),
        "probabilities": dict(zip(LABELS, map(float, distribution), strict=True)),
    }


def random_predictions(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return predictions for random distributions."""
    random = np.random.default_rng(seed)
    return [prediction_of(row) for row in random.dirichlet(np.ones(len(LABELS)), count)]


def failed_prediction(path: str, error: str) -> ClipPrediction:
    """Return the result of a clip that could not be read."""
    return ClipPrediction({"path": path, "sha256": "", "error": error})


def clip_prediction(
    path: str = "a/b.mp4",
    *,
    seconds: float = 4.0,
    n_pictures: int = 16,
    faces: int = 1,
    visual: bool = True,
    audio: bool = True,
    warnings: Sequence[str] = (),
    pictures: Sequence[dict[str, Any]] = (),
    spectrogram: dict[str, Any] | None = None,
) -> ClipPrediction:
    """Return the prediction for a clip whose faces take turns, with two audio segments a second."""
    times = (np.arange(n_pictures) + 0.5) * seconds / n_pictures
    of_pictures = [
        {"seconds": float(time), "face": 1 + place % faces, "box": list(BOX), **prediction}
        for place, (time, prediction) in enumerate(
            zip(times, random_predictions(n_pictures), strict=True)
        )
    ]
    of_faces = [_face_prediction(face, of_pictures) for face in range(1, faces + 1)]
    main_face = {name: of_faces[0][name] for name in ("emotion", "confidence", "probabilities")}
    of_segments = [
        {"seconds": start / 2, "to_seconds": start / 2 + 0.655, **prediction}
        for start, prediction in enumerate(random_predictions(int(2 * seconds), seed=1))
    ]
    of_both = [
        {name: entry[name] for name in ("seconds", "emotion", "confidence", "probabilities")}
        for entry in of_segments
    ]
    by_face = main_face | {
        "seconds": seconds,
        "size": [640, 360],
        "looked_at": n_pictures,
        "faces": of_faces,
        "timeline": of_pictures,
    }
    (by_voice,) = random_predictions(1, seed=8)
    by_voice |= {"seconds": seconds, "timeline": of_segments}
    (fused,) = random_predictions(1, seed=9)
    fused |= {"visual_weight": 0.65, "temperature": 1.2, "timeline": of_both}
    document = {
        "path": path,
        "sha256": "ab" * 32,
        "visual": by_face if visual else None,
        "audio": by_voice if audio else None,
        "fused": fused if visual and audio else None,
        "warnings": list(warnings),
    }
    return ClipPrediction(document, pictures, spectrogram)


def _face_prediction(face: int, of_pictures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the prediction for a face, and the time in which it is seen."""
    times = [entry["seconds"] for entry in of_pictures if entry["face"] == face]
    (prediction,) = random_predictions(1, seed=face)
    return {
        "face": face,
        "from_seconds": times[0],
        "to_seconds": times[-1],
        "count": len(times),
        **prediction,
    }


def key_pictures(
    count: int = 2, boxes: Sequence[Sequence[int]] = ((1, *BOX),)
) -> list[dict[str, Any]]:
    """Return grey pictures, one a second, with boxes (face, left, top, width, height)."""
    jpeg = cv2.imencode(".jpg", np.full((180, 320, 3), 90, np.uint8))[1].tobytes()
    return [
        {
            "seconds": 0.5 + place,
            "jpeg": jpeg,
            "size": [640, 360],
            "boxes": [list(box) for box in boxes],
        }
        for place in range(count)
    ]


def random_spectrogram(columns: int = 120, seconds: float = 4.0) -> dict[str, Any]:
    """Return a log-Mel of random values, and the seconds that it spans."""
    log_mel = np.random.default_rng(0).uniform(-100, 0, (columns, 64))
    return {"log_mel": log_mel.astype(np.float32), "seconds": seconds}
