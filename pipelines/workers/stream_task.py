"""One clip -> what is needed to predict its emotion, in messages: faces of all persons, key frames and sound; no tensorflow.

A `Watch` is read by the worker processes of `pool.Pool`, as the build's `record_task.Task` is.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.core.domains import DOMAINS
from pipelines.core.spec import Spec
from pipelines.workers.record_task import CHANGED, begun, guarded, state

AT_ONCE_SECONDS = 0.05
"""Codecs' delays are shorter than this."""

Messages = Generator[dict[str, Any], None, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Watch:
    """One media file to watch and listen to."""

    path: Path
    still: bool = False
    detector: str | None = "viola-jones"
    """A name of `detectors.DETECTORS`; None: each picture is a face already."""
    faces_per_second: float = 4.0
    """How many frames of each second of a video are looked at; of a short one, `Spec.frames_per_clip` in all."""
    pictures: int = 0
    """How many key frames are sent."""
    picture_width: int = 480
    """The widest that a key frame is sent."""
    domains: tuple[str, ...] = DOMAINS

    def read(
        self, spec: Spec, *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Read the file, in as little memory for two hours as for one minute.

        A video's further faces are those that are seen twice; one of a still needs to be seen once. The sound is cut as a
        record is, and comes after the faces.

        Yields:
            Messages in which `more` is set, each with one of:
                `length`: how many seconds the clip is long, as far as its file says so, first;
                `at`: up to which of them it has been read, beside what was read or alone;
                `visual`: `{"seconds": float64 [n], "face": int64 [n], "boxes": int64 [n, 4], "faces": uint8 [n, 64, 64, 3]}`,
                    at most 64 in the order of time; `face` is the number of a person, from 1; a box is left, top, width and
                    height in pixels of the upright picture.
                `pictures`: `[{"seconds", "jpeg": bytes, "size": [width, height], "boxes": [[face, left, top, width, height]]}]`;
                    size and boxes are of the full picture, the JPEG may be smaller.
                `audio`: `{"waveform": float32 [samples], "start_seconds"}`, a part of the sound.
            Last `{"more": False, "sha256"}` with the facts of each domain: `visual` as `stream.view_video` returns them,
            `audio` as `audio.AudioTrack`; or `{"error": reason}`, which stands for what came before, with `retry` where another
            call may read it. An error of one domain leaves the other as it is.
        """
        before, last = begun(self.path, self.domains, progress=progress)
        if before is None:
            yield last | {"more": False}
            return
        length, begins = (0.0, 0.0) if self.still else said_of(self.path)
        if length:
            yield {"more": True, "length": length}
        listen = partial(self._listen, begins_seconds=begins)
        for domain, messages in (("visual", self._view), ("audio", listen)):
            if domain in self.domains:
                last[domain] = yield from _guarded(messages(spec, progress))
        if state(self.path, missing_ok=True) != before:
            last |= dict.fromkeys(self.domains, CHANGED)
        yield last | {"more": False}

    def _view(self, spec: Spec, progress: Callable[[], None]) -> Messages:
        from pipelines.faces.stream import View, view_still, view_video

        view = View(self.detector, self.faces_per_second, self.pictures, self.picture_width)
        if self.still:
            return (yield from view_still(self.path, spec=spec, view=view))
        return (yield from view_video(self.path, spec=spec, view=view, progress=progress))

    def _listen(
        self, spec: Spec, progress: Callable[[], None], *, begins_seconds: float
    ) -> Messages:
        from pipelines.core.errors import MediaError

        if self.still:
            raise MediaError("no sound track: a still picture")
        return (
            yield from read_parts(
                self.path, spec=spec, begins_seconds=begins_seconds, progress=progress
            )
        )


def said_of(path: Path) -> tuple[float, float]:
    """Return how long a file says that it is, and how much later than its first picture its sound begins, in seconds.

    0 for what it does not say, and for a sound that begins within `AT_ONCE_SECONDS` of the picture, or before it.
    """
    import av

    from pipelines.media.images import open_media

    def read() -> dict[str, Any]:
        with open_media(path) as container:
            streams = [own[0] for own in (container.streams.video, container.streams.audio) if own]
            starts = [
                float((stream.start_time or 0) * (stream.time_base or 0)) for stream in streams
            ]
            return {
                "length": (container.duration or 0) / av.time_base,
                "begins": starts[1] - starts[0] if len(starts) == 2 else 0.0,
            }

    said = guarded(read)  # what is wrong with the file is told by who reads it
    begins = said.get("begins", 0.0)
    return said.get("length", 0.0), begins if begins > AT_ONCE_SECONDS else 0.0


def read_parts(
    path: Path,
    *,
    spec: Spec,
    begins_seconds: float = 0.0,
    progress: Callable[[], None] = lambda: None,
) -> Messages:
    """Yield `{"audio": {"waveform", "start_seconds"}, "at"}` for the parts that records are cut into; return the facts of the track.

    `begins_seconds` is when the sound begins.

    Where there are several parts, the sound is read twice: where they are cut depends on how long all of it is.

    Raises:
        MediaError: As `audio.read_blocks` does.
    """
    import numpy as np

    from pipelines.media import audio

    first, samples, blocks, track = (
        None,
        0,
        audio.read_blocks(path, spec=spec, progress=progress),
        None,
    )
    while track is None:
        try:
            block = next(blocks)
            first = block if first is None else first
            samples += block.size
        except StopIteration as end:
            track = end.value
    edges = spec.part_edges(spec.frame_count(samples))
    # The first block is never longer than a part may be: where it is all, there is one part.
    blocks = (
        iter([first])
        if samples == first.size
        else audio.read_blocks(path, spec=spec, progress=progress)
    )
    held, start = (
        np.zeros(0, np.float32),
        0,
    )  # what is held of the sound, and at which sample that begins
    for frames in pairwise(edges):
        begins, ends = spec.samples_of(*frames)
        while start + held.size < ends:
            held = np.concatenate([held, next(blocks)])
        part = {
            "waveform": held[begins - start : ends - start].copy(),
            "start_seconds": begins_seconds + begins / spec.sample_rate_hz,
        }
        yield {"audio": part, "at": begins_seconds + ends / spec.sample_rate_hz}
        held, start = held[ends - start - spec.fft_samples :], ends - spec.fft_samples
    return dataclasses.asdict(track)


def _guarded(messages: Messages) -> Messages:
    """Yield the messages, and return what they return, or the error that they end in."""

    def advance() -> dict[str, Any]:
        try:
            return {"message": next(messages)}
        except StopIteration as end:
            return {"facts": end.value}

    while "message" in (step := guarded(advance)):
        yield step["message"] | {"more": True}
    return step.get("facts", step)
