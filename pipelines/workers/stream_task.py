"""The task of a worker process in a prediction: read the faces, key frames and sound of one clip.

The worker processes of `pool.WorkerPool` read a `StreamTask`, as they read a
`record_task.RecordTask` of the build.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.core.domains import DOMAINS
from pipelines.core.spec import Spec
from pipelines.workers.record_task import (
    CHANGED_ERROR,
    entry_or_error,
    file_state,
    start_message,
)

MIN_SOUND_DELAY_SECONDS = 0.05
"""A smaller difference between the starts of sound and picture is the delay of a codec."""

Messages = Generator[dict[str, Any], None, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class StreamTask:
    """One media file to read for a prediction.

    Attributes:
        path: The file.
        still: The file is a still picture.
        detector: A name of `detectors.DETECTORS`; None: each picture is a face.
        faces_per_second: The number of frames per second of a video that are searched. In a short
            video, `Spec.frames_per_clip` frames are searched in total.
        pictures: The number of key frames to send.
        picture_width: The largest width of a key frame in pixels.
        domains: The domains to read.
    """

    path: Path
    still: bool = False
    detector: str | None = "viola-jones"
    faces_per_second: float = 4.0
    pictures: int = 0
    picture_width: int = 480
    domains: tuple[str, ...] = DOMAINS

    def read(
        self, spec: Spec, *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Read the file. The memory does not grow with the length of the clip.

        A further face of a video counts if it is found in two frames, one of a still picture if it
        is found once. The sound comes after the faces, in the parts of a record.

        Yields:
            Messages with `more` set. Each has one of these entries:

            - `length`: the duration in seconds, in the first message, if the file tells it.
            - `at`: the time in seconds up to which the clip was read, alone or with another entry.
            - `visual`: `{"seconds": float64 [n], "face": int64 [n], "boxes": int64 [n, 4], "faces":
              uint8 [n, 64, 64, 3]}` with no more than 64 faces in the order of time. `face` is the
              number of a person, from 1. A box has left, top, width and height in pixels of the
              upright picture.
            - `pictures`: `[{"seconds", "jpeg": bytes, "size": [width, height], "boxes": [[face,
              left, top, width, height]]}]`. The size and the boxes are those of the full picture;
              the JPEG can be smaller.
            - `audio`: `{"waveform": float32 [samples], "start_seconds"}`, a part of the sound.

            The last message is `{"more": False, "sha256"}` with an entry for each domain: `visual`
            as `stream.view_video` returns it, `audio` as `audio.AudioTrack`. The entry can be
            `{"error": reason}`, which also stands for the earlier messages, with `retry` where
            another call can succeed. An error of one domain does not concern the other one.
        """
        first_state, last = start_message(self.path, self.domains, progress=progress)
        if first_state is None:
            yield last | {"more": False}
            return
        length, delay = (0.0, 0.0) if self.still else length_and_delay(self.path)
        if length:
            yield {"more": True, "length": length}
        read_sound = partial(self._sound, delay_seconds=delay)
        for domain, messages in (("visual", self._faces), ("audio", read_sound)):
            if domain in self.domains:
                last[domain] = yield from _facts_or_error(messages(spec, progress))
        if file_state(self.path, missing_ok=True) != first_state:
            last |= dict.fromkeys(self.domains, CHANGED_ERROR)
        yield last | {"more": False}

    def _faces(self, spec: Spec, progress: Callable[[], None]) -> Messages:
        from pipelines.faces.stream import ViewOptions, view_still, view_video

        view = ViewOptions(self.detector, self.faces_per_second, self.pictures, self.picture_width)
        if self.still:
            return (yield from view_still(self.path, spec=spec, view=view))
        return (yield from view_video(self.path, spec=spec, view=view, progress=progress))

    def _sound(self, spec: Spec, progress: Callable[[], None], *, delay_seconds: float) -> Messages:
        from pipelines.core.errors import MediaError

        if self.still:
            raise MediaError("no sound track: a still picture")
        return (
            yield from read_parts(
                self.path, spec=spec, delay_seconds=delay_seconds, progress=progress
            )
        )


def length_and_delay(path: Path) -> tuple[float, float]:
    """Return the duration of a clip and the delay of its sound after its first picture, in seconds.

    A number that the file does not tell is 0. The delay is also 0 for sound that starts before the
    picture, or less than `MIN_SOUND_DELAY_SECONDS` after it.
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
                "delay": starts[1] - starts[0] if len(starts) == 2 else 0.0,
            }

    facts = entry_or_error(read)  # an error of the file comes back when the file is read
    delay = facts.get("delay", 0.0)
    return facts.get("length", 0.0), delay if delay > MIN_SOUND_DELAY_SECONDS else 0.0


def read_parts(
    path: Path,
    *,
    spec: Spec,
    delay_seconds: float = 0.0,
    progress: Callable[[], None] = lambda: None,
) -> Messages:
    """Yield the sound of a file in the parts of a record, and return the facts of the track.

    The sound of a file with several parts is read twice, because the cuts depend on its length.

    Args:
        path: The file.
        spec: The sample rate and the length of parts.
        delay_seconds: The time at which the sound starts.
        progress: Called after every block.

    Yields:
        `{"audio": {"waveform", "start_seconds"}, "at"}`.

    Raises:
        MediaError: As `audio.read_blocks` does.
    """
    import numpy as np

    from pipelines.media import audio

    first, samples, track = None, 0, None
    blocks = audio.read_blocks(path, spec=spec, progress=progress)
    while track is None:
        try:
            block = next(blocks)
            first = block if first is None else first
            samples += block.size
        except StopIteration as stop:
            track = stop.value
    edges = spec.part_edges(spec.frame_count(samples))
    # The first block is never longer than a part, so a sound of one block has one part.
    blocks = (
        iter([first])
        if samples == first.size
        else audio.read_blocks(path, spec=spec, progress=progress)
    )
    buffer, buffer_start = np.zeros(0, np.float32), 0  # the start as a sample of the track
    for frames in pairwise(edges):
        start, end = spec.samples_of(*frames)
        while buffer_start + buffer.size < end:
            buffer = np.concatenate([buffer, next(blocks)])
        part = {
            "waveform": buffer[start - buffer_start : end - buffer_start].copy(),
            "start_seconds": delay_seconds + start / spec.sample_rate_hz,
        }
        yield {"audio": part, "at": delay_seconds + end / spec.sample_rate_hz}
        buffer = buffer[end - buffer_start - spec.fft_samples :]
        buffer_start = end - spec.fft_samples
    return dataclasses.asdict(track)


def _facts_or_error(messages: Messages) -> Messages:
    """Yield the messages, and return the facts that they return or the error that they raise."""

    def advance() -> dict[str, Any]:
        try:
            return {"message": next(messages)}
        except StopIteration as end:
            return {"facts": end.value}

    while "message" in (step := entry_or_error(advance)):
        yield step["message"] | {"more": True}
    return step.get("facts", step)
