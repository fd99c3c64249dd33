"""What a test reads by `pipelines.workers.stream_task.StreamTask`, put together."""

import numpy as np

from pipelines.core.spec import Spec
from pipelines.workers.stream_task import StreamTask


def gathered(messages):
    """Return {"seconds", "face", "boxes", "faces"} of all messages, the key frames, the parts of sound and the last message."""
    *blocks, last = messages
    assert all(block["more"] for block in blocks) and not last["more"]
    assert all(
        len(block.keys() & {"length", "visual", "pictures", "audio"})
        == ("at" not in block or len(block) > 2)
        for block in blocks
    )
    rows = [block["visual"] for block in blocks if "visual" in block]
    assert all(0 < len(block["faces"]) <= 64 for block in rows)
    seen = (
        {name: np.concatenate([block[name] for block in rows]) for name in rows[0]}
        if rows
        else None
    )
    return (
        seen,
        [picture for block in blocks for picture in block.get("pictures", [])],
        [b["audio"] for b in blocks if "audio" in b],
        last,
    )


def watch(path, **options):
    return gathered(StreamTask(path, **options).read(Spec()))
