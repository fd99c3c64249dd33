"""Small sets of records, written as a build would."""

import contextlib
import dataclasses

import numpy as np

from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip
from pipelines.records import schema
from pipelines.records.writer import SetWriter

SPEC = Spec()
CLIP = Clip(
    "a/ü b.wav", None, "näme", "audio", "näme:01", "anger", "näme:01:anger:x", "x", "2", "train"
)


def clips(count, domain="visual"):
    return [
        dataclasses.replace(CLIP, id=f"{n:03d}", domain=domain, utterance=f"u{n}")
        for n in range(count)
    ]


def options(domain="visual", **more):
    return {"corpus": "näme", "domain": domain, "spec": dataclasses.asdict(SPEC), **more}


def sha256_of(clip):
    return f"hash of {clip.id}"


def faces_of(clip):
    return np.random.default_rng(int(clip.id)).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def write_set(folder, every=None, *, sha256_of=sha256_of, upto=None, bad=(), retry="", **more):
    """Write a set, or begin one: as a build would, which is stopped behind clip `upto`; return the clips that it read."""
    every = clips(10) if every is None else every
    writer = SetWriter(folder, clips=every, options=options(**more), clips_per_shard=4)
    with contextlib.closing(writer):
        read = [clip for clip in writer.resume(sha256_of) if clip in every[:upto]]
        for clip in read:
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
    return [clip.id for clip in read]


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def flip_a_bit(folder):
    data = bytearray((folder / "00001.tfrecord").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "00001.tfrecord").write_bytes(data)
