"""Sources of random arrays, and small sets on disk, for tests of plans, batches and what is read."""

import hashlib
from pathlib import Path

import numpy as np

from helpers.sources import random_source
from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip
from pipelines.records import schema
from pipelines.records.writer import SetWriter

FOUR = ("anger", "fear", "sadness", "calm")


def one_source(clips=20, **options):
    return random_source("a/visual", (FOUR * clips)[:clips], items=(3, 1, 2), **options)


def two_sources():
    """72 and 30 items; calm and surprise are in one of the two alone."""
    return [
        random_source("a/visual", FOUR * 9, items=(2,), seed=1),
        random_source(
            "b/audio", ("fear", "anger", "sadness", "surprise", "fear") * 3, items=(2,), seed=2
        ),
    ]


def three_sources():
    """48, 30 and 16 items, all of three emotions."""
    return [
        random_source("a/visual", FOUR[:3] * 8, items=(2,), seed=1),
        random_source("b/audio", FOUR[:3] * 5, items=(2,), seed=2),
        random_source("c/visual", (FOUR[:3] * 3)[:8], items=(2,), seed=3),
    ]


def write_set(folder: Path, domain: str, *, clips_per_shard: int = 2):
    """Write five clips of 1 to 3 faces or seconds of log-Mel, one of two parts; return what was written, clip by clip."""
    random = np.random.default_rng(4)
    emotions = ("fear", "anger", "surprise", "anger", "calm")
    clips = [
        Clip(
            f"s/{i}.x",
            folder / f"{i}.x",
            "toy",
            domain,
            f"toy:{i % 2}",
            emotion,
            f"toy:{i}",
            "text",
            str(i),
        )
        for i, emotion in enumerate(emotions)
    ]
    options = {"corpus": "toy", "domain": domain, "kind": "folder", "spec": vars(Spec())}
    writer = SetWriter(
        folder / "toy" / domain, clips=clips, options=options, clips_per_shard=clips_per_shard
    )
    writer.resume(lambda clip: "")
    written = []
    for index, clip in enumerate(clips):
        if domain == "visual":
            parts = [random.integers(0, 256, (1 + index % 3, 64, 64, 3)).astype(np.uint8)]
            serialised, items = [schema.serialise(clip, faces=parts[0])], len(parts[0])
        else:
            parts = [
                random.normal(size=(frames, 64)).astype(np.float32)
                for frames in ((70, 30) if index == 1 else (64 + 40 * index,))
            ]
            serialised = [
                schema.serialise(clip, part=part, log_mel=log_mel)
                for part, log_mel in enumerate(parts)
            ]
            items = sum(Spec().segment_count(len(log_mel)) for log_mel in parts)
        writer.add(
            clip,
            serialised,
            {
                "sha256": hashlib.sha256(clip.id.encode()).hexdigest(),
                "seconds": 1.0,
                "items": items,
            },
        )
        written.append(parts)
    writer.finish({})
    return clips, written
