"""Sources of random arrays, and small sets on disk, for tests of samplers, batches and records."""

import hashlib
from pathlib import Path

import numpy as np

from helpers.sources import random_source
from kerasemo.datasets.sources import Source
from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip
from pipelines.records import schema
from pipelines.records.writer import SetWriter

FOUR_EMOTIONS = ("anger", "fear", "sadness", "calm")


def one_source(n_clips: int = 20, *, seed: int = 0) -> Source:
    """Return a source whose clips have 3, 1 or 2 items."""
    emotions = (FOUR_EMOTIONS * n_clips)[:n_clips]
    return random_source("a/visual", emotions, items=(3, 1, 2), seed=seed)


def two_sources() -> list[Source]:
    """Return sources of 72 and 30 items; only the first has calm, only the second has surprise."""
    emotions = ("fear", "anger", "sadness", "surprise", "fear") * 3
    return [
        random_source("a/visual", FOUR_EMOTIONS * 9, seed=1),
        random_source("b/audio", emotions, seed=2),
    ]


def three_sources() -> list[Source]:
    """Return sources of 48, 30 and 16 items, each with the same three emotions."""
    return [
        random_source("a/visual", FOUR_EMOTIONS[:3] * 8, seed=1),
        random_source("b/audio", FOUR_EMOTIONS[:3] * 5, seed=2),
        random_source("c/visual", (FOUR_EMOTIONS[:3] * 3)[:8], seed=3),
    ]


def write_set(
    folder: Path, domain: str, *, clips_per_shard: int = 2
) -> tuple[list[Clip], list[list[np.ndarray]]]:
    """Write a set of five clips, `FOLDER/toy/DOMAIN`.

    A visual clip has 1 to 3 faces. An audio clip has one log-Mel; the second clip, as a long
    clip, has two.

    Returns:
        The clips, and for each clip its records: uint8 faces or float32 log-Mels.
    """
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
    records_by_clip = []
    for index, clip in enumerate(clips):
        if domain == "visual":
            records = [random.integers(0, 256, (1 + index % 3, 64, 64, 3)).astype(np.uint8)]
            serialised = [schema.serialise(clip, faces=records[0])]
            n_items = len(records[0])
        else:
            frame_counts = (70, 30) if index == 1 else (64 + 40 * index,)
            records = [
                random.normal(size=(n_frames, 64)).astype(np.float32) for n_frames in frame_counts
            ]
            serialised = [
                schema.serialise(clip, part=part, log_mel=log_mel)
                for part, log_mel in enumerate(records)
            ]
            n_items = sum(Spec().segment_count(len(log_mel)) for log_mel in records)
        sha256 = hashlib.sha256(clip.id.encode()).hexdigest()
        writer.add(clip, serialised, {"sha256": sha256, "seconds": 1.0, "items": n_items})
        records_by_clip.append(records)
    writer.finish({})
    return clips, records_by_clip
