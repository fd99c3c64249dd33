"""Prediction results that pages are rendered from."""

import cv2
import numpy as np

LABELS = ["anger", "fear", "happiness", "sadness"]


MODEL = {
    "name": "sample-joint",
    "labels": LABELS,
    "document": {
        "name": "sample-joint",
        "signatures": {"faces": {}},
        "training": {"sources": ["savee/visual"]},
        "synthetic": False,
    },
    "card": "# sample-joint\n\n## Limits\n\n- acted speech\n",
}


NOTHING = {"pictures": [], "spectrogram": None}


def said(shares) -> dict:
    best = int(np.argmax(shares))
    probabilities = dict(zip(LABELS, map(float, shares), strict=True))
    return {
        "emotion": LABELS[best],
        "confidence": float(shares[best]),
        "probabilities": probabilities,
    }


def shares_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(len(LABELS)), count)


def clip(
    path="a/b.mp4", *, seconds=4.0, looked_at=16, faces=1, visual=True, audio=True, warnings=()
) -> dict:
    """Return what is said of a clip: its faces in turn, two voices' segments a second."""
    times = (np.arange(looked_at) + 0.5) * seconds / looked_at
    seen = [
        {
            "seconds": float(time),
            "face": 1 + place % faces,
            "box": [100, 60, 80, 90],
            **said(shares),
        }
        for place, (time, shares) in enumerate(zip(times, shares_of(looked_at), strict=True))
    ]
    people = []
    for face in range(1, faces + 1):
        own = [entry for entry in seen if entry["face"] == face]
        span = {
            "from_seconds": own[0]["seconds"],
            "to_seconds": own[-1]["seconds"],
            "count": len(own),
        }
        people.append({"face": face, **span, **said(shares_of(1, seed=face)[0])})
    heard = [
        {"seconds": start / 2, "to_seconds": start / 2 + 0.655, **said(shares)}
        for start, shares in enumerate(shares_of(int(2 * seconds), seed=1))
    ]
    main = {name: people[0][name] for name in ("emotion", "confidence", "probabilities")}
    both = [
        {name: entry[name] for name in ("seconds", "emotion", "confidence", "probabilities")}
        for entry in heard
    ]
    looks = {
        "seconds": seconds,
        "size": [640, 360],
        "looked_at": looked_at,
        "faces": people,
        "timeline": seen,
    }
    fused = {"visual_weight": 0.65, "temperature": 1.2, "timeline": both}
    return {
        "path": path,
        "sha256": "ab" * 32,
        "visual": main | looks if visual else None,
        "audio": said(shares_of(1, seed=8)[0]) | {"seconds": seconds, "timeline": heard}
        if audio
        else None,
        "fused": said(shares_of(1, seed=9)[0]) | fused if visual and audio else None,
        "warnings": list(warnings),
    }


def pictures(count=2, boxes=((1, 100, 60, 80, 90),)) -> list[dict]:
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


def heard(columns=120, seconds=4.0) -> dict:
    return {
        "log_mel": np.random.default_rng(0).uniform(-100, 0, (columns, 64)).astype(np.float32),
        "seconds": seconds,
    }
