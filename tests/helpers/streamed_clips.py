"""Collect the messages of a `pipelines.workers.stream_task.StreamTask`."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.spec import Spec
from pipelines.workers.stream_task import StreamTask

MAX_MESSAGE_FACES = 64


@dataclasses.dataclass(frozen=True)
class StreamedClip:
    """All messages of a clip."""

    faces: dict[str, np.ndarray] | None
    """`seconds`, `face`, `boxes` and `faces` of all messages, or None without a face."""
    pictures: list[dict[str, Any]]
    """Key frames."""
    audio_parts: list[dict[str, Any]]
    last_message: dict[str, Any]


def collect_messages(messages: Iterable[dict[str, Any]]) -> StreamedClip:
    """Return the messages of a clip, after a check of their form."""
    *blocks, last_message = messages
    assert all(block["more"] for block in blocks)
    assert not last_message["more"]
    for block in blocks:
        contents = block.keys() & {"length", "visual", "pictures", "audio"}
        is_time_alone = block.keys() == {"more", "at"}
        assert len(contents) == (0 if is_time_alone else 1)
    face_blocks = [block["visual"] for block in blocks if "visual" in block]
    assert all(0 < len(block["faces"]) <= MAX_MESSAGE_FACES for block in face_blocks)
    faces = None
    if face_blocks:
        faces = {
            name: np.concatenate([block[name] for block in face_blocks]) for name in face_blocks[0]
        }
    return StreamedClip(
        faces,
        [picture for block in blocks for picture in block.get("pictures", [])],
        [block["audio"] for block in blocks if "audio" in block],
        last_message,
    )


def stream_clip(path: Path, **options: Any) -> StreamedClip:
    """Return all messages of a `StreamTask` with these options, read in this process."""
    return collect_messages(StreamTask(path, **options).read(Spec()))
