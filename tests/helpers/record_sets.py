"""Small sets of records, written as a build writes them."""

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip
from pipelines.records import schema
from pipelines.records.writer import SetWriter

SPEC = Spec()
CLIP = Clip(
    "a/ü b.wav", None, "näme", "audio", "näme:01", "anger", "näme:01:anger:x", "x", "2", "train"
)


def clips(count: int, domain: str = "visual") -> list[Clip]:
    """Return clips `000`, `001` and so on, each of another utterance."""
    return [
        dataclasses.replace(CLIP, id=f"{number:03d}", domain=domain, utterance=f"u{number}")
        for number in range(count)
    ]


def options(domain: str = "visual", **more: Any) -> dict[str, Any]:
    """Return the options of a set, with those in `more`."""
    return {"corpus": "näme", "domain": domain, "spec": dataclasses.asdict(SPEC), **more}


def sha256_of(clip: Clip) -> str:
    """Return what stands for the hash of a clip's file."""
    return f"hash of {clip.id}"


def faces_of(clip: Clip) -> np.ndarray:
    """Return the three faces of a clip, uint8 [3, 64, 64, 3], which its id decides."""
    return np.random.default_rng(int(clip.id)).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def write_set(
    folder: Path,
    every: Sequence[Clip] | None = None,
    *,
    sha256_of: Callable[[Clip], str] = sha256_of,
    upto: int | None = None,
    bad: Collection[str] = (),
    retry: str = "",
    **more: Any,
) -> list[str]:
    """Write a set of faces, 4 clips in a shard, or resume an interrupted one.

    Args:
        folder: The set.
        every: The clips of the set; None: ten clips.
        sha256_of: Returns the hash of a clip's file.
        upto: The number of clips after which the build is interrupted; None: the set is finished.
        bad: The ids of clips that are quarantined.
        retry: See `SetWriter.quarantine`.
        more: Further options of the set.

    Returns:
        The ids of the clips that this build read.
    """
    every = clips(10) if every is None else every
    writer = SetWriter(folder, clips=every, options=options(**more), clips_per_shard=4)
    with contextlib.closing(writer):
        read_clips = [clip for clip in writer.resume(sha256_of) if clip in every[:upto]]
        for clip in read_clips:
            if clip.id in bad:
                writer.quarantine(clip, "broken", sha256=sha256_of(clip), retry=retry)
            else:
                writer.add(
                    clip,
                    [schema.serialise(clip, faces=faces_of(clip))],
                    {"sha256": sha256_of(clip), "seconds": 1.5, "items": 3},
                )
        if upto is None:
            writer.finish({"written": len(every) - len(bad)})
    return [clip.id for clip in read_clips]


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file of a folder by its name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def flip_a_bit(folder: Path) -> None:
    """Damage the second shard of a set."""
    path = folder / "00001.tfrecord"
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
