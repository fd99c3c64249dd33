"""Read a clip for prediction, in messages: faces of all persons, key frames and audio.

Worker processes run a `StreamTask`, as they run the `record_task.RecordTask` of a build. The module
imports decoders only when a task needs them, so that tasks are quick to import.
"""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec
from pipelines.workers.record_task import (
    CHANGED_ENTRY,
    DecoderMessages,
    begin_message,
    call_decoder,
    file_state,
    relay_messages,
)

MAX_CODEC_DELAY_SECONDS = 0.05
"""Audio that starts later than the picture by at most this counts as starting with the picture."""


@dataclasses.dataclass(frozen=True)
class StreamTask:
    """A media file to read for prediction, in one or both domains."""

    path: Path
    still: bool = False
    detector: str | None = "viola-jones"
    """A name of `detectors.DETECTORS`; None: each picture is a face."""
    faces_per_second: float = 4.0
    """Frames of a video in which faces are searched, per second; at least `Spec.frames_per_clip`
    in all."""
    pictures: int = 0
    """Number of key frames."""
    picture_width: int = 480
    """Maximum width of a key frame's JPEG, in pixels."""
    domains: tuple[str, ...] = DOMAINS

    def read(
        self, spec: Spec, *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Read the file. Memory does not grow with the length of the clip.

        A face of a video is sent if its person is seen in at least two frames. Every face of a
        still image is sent. Audio is cut into parts as it is for records, and follows the faces.

        Args:
            spec: Sizes and counts of faces and audio.
            progress: Called often while the file is read.

        Yields:
            Messages in which `more` is true, each with one of:
                `length`: the duration of the clip in seconds, if the file says it; comes first.
                `at`: the time in seconds up to which the clip was read; alone, or with the next
                    entries.
                `visual`: `{"seconds": float64 [n], "face": int64 [n], "boxes": int64 [n, 4],
                    "faces": uint8 [n, 64, 64, 3]}` with at most 64 faces in the order of time.
                    `face` is the number of a person, from 1. A box is left, top, width and height
                    in pixels of the upright picture.
                `pictures`: `[{"seconds", "jpeg": bytes, "size": [width, height], "boxes": [[face,
                    left, top, width, height]]}]`. Size and boxes are in pixels of the full picture;
                    the JPEG may be smaller.
                `audio`: `{"waveform": float32 [samples], "start_seconds"}`, a part of the audio.
            The last message is `{"more": False, "sha256"}` with the facts of each domain: `visual`
            as `stream.stream_video` returns them, and `audio` with the fields of `audio.Track`.
            The entry of a domain that failed is `{"error": reason}`, with `retry` if a later call
            may succeed; it replaces what came before. An error of one domain does not affect the
            other domain.
        """
        state_before, last_message = begin_message(self.path, self.domains, progress=progress)
        if state_before is None:
            yield last_message | {"more": False}
            return
        length_seconds, audio_start_seconds = 0.0, 0.0
        if not self.still:
            length_seconds, audio_start_seconds = read_clip_times(self.path)
        if length_seconds:
            yield {"more": True, "length": length_seconds}
        if "visual" in self.domains:
            last_message["visual"] = yield from relay_messages(
                self._read_faces(spec, progress), wrap=_with_more
            )
        if "audio" in self.domains:
            last_message["audio"] = yield from relay_messages(
                self._read_audio(spec, progress, audio_start_seconds), wrap=_with_more
            )
        if file_state(self.path, missing_ok=True) != state_before:
            last_message |= dict.fromkeys(self.domains, CHANGED_ENTRY)
        yield last_message | {"more": False}

    def _read_faces(self, spec: Spec, progress: Callable[[], None]) -> DecoderMessages:
        from pipelines.faces.stream import FaceStreamOptions, stream_still, stream_video

        options = FaceStreamOptions(
            detector=self.detector,
            faces_per_second=self.faces_per_second,
            pictures=self.pictures,
            picture_width=self.picture_width,
        )
        if self.still:
            return (yield from stream_still(self.path, spec=spec, options=options))
        return (yield from stream_video(self.path, spec=spec, options=options, progress=progress))

    def _read_audio(
        self, spec: Spec, progress: Callable[[], None], audio_start_seconds: float
    ) -> DecoderMessages:
        if self.still:
            raise MediaError("no sound track: a still picture")
        return (
            yield from read_audio_parts(
                self.path,
                spec=spec,
                audio_start_seconds=audio_start_seconds,
                progress=progress,
            )
        )


def read_clip_times(path: Path) -> tuple[float, float]:
    """Return the duration of a clip and the start of its audio, as its file says.

    Args:
        path: A media file.

    Returns:
        (length, audio start) in seconds. The length is 0 if the file does not say it or cannot be
        opened. The audio start counts from the first picture. It is 0 if the audio starts with the
        picture (see `MAX_CODEC_DELAY_SECONDS`) or before it.
    """
    import av

    from pipelines.media.images import open_media

    def read_times() -> dict[str, Any]:
        with open_media(path) as container:
            start_seconds = [
                float((streams[0].start_time or 0) * (streams[0].time_base or 0))
                for streams in (container.streams.video, container.streams.audio)
                if streams
            ]
            times = {"length": (container.duration or 0) / av.time_base, "audio_start": 0.0}
            if len(start_seconds) == 2:
                video_start, audio_start = start_seconds
                times["audio_start"] = audio_start - video_start
            return times

    times = call_decoder(read_times)
    if "error" in times:  # reading the faces or the audio reports the same error
        return 0.0, 0.0
    audio_start = times["audio_start"]
    return times["length"], audio_start if audio_start > MAX_CODEC_DELAY_SECONDS else 0.0


def read_audio_parts(
    path: Path,
    *,
    spec: Spec,
    audio_start_seconds: float = 0.0,
    progress: Callable[[], None] = lambda: None,
) -> DecoderMessages:
    """Yield the parts into which records cut audio, and return the facts of the track.

    Audio of several parts is decoded twice, because the edges of the parts depend on its length.

    Args:
        path: A media file.
        spec: Sample rate and length of a part.
        audio_start_seconds: Start of the audio, counted from the first picture.
        progress: Called whenever some audio was decoded.

    Yields:
        `{"audio": {"waveform", "start_seconds"}, "at"}`: float32 [samples] at the rate of the spec,
        and the start and end of the part in seconds from the first picture.

    Returns:
        The fields of `audio.Track`.

    Raises:
        MediaError: See `audio.read_blocks`.
    """
    import numpy as np

    from pipelines.media import audio

    first_block, n_samples = None, 0
    blocks = audio.read_blocks(path, spec=spec, progress=progress)
    track = None
    while track is None:
        try:
            block = next(blocks)
        except StopIteration as end:
            track = end.value
        else:
            first_block = block if first_block is None else first_block
            n_samples += block.size
    part_edges = spec.part_edges(spec.frame_count(n_samples))
    if n_samples == first_block.size:
        # A block is never longer than a part, so the audio is a single part.
        blocks = iter([first_block])
    else:
        blocks = audio.read_blocks(path, spec=spec, progress=progress)
    buffer, buffer_start = np.zeros(0, np.float32), 0  # buffer_start is an index of samples
    for first_frame, end_frame in pairwise(part_edges):
        start, end = spec.samples_of(first_frame, end_frame)
        while buffer_start + buffer.size < end:
            buffer = np.concatenate([buffer, next(blocks)])
        part = {
            "waveform": buffer[start - buffer_start : end - buffer_start].copy(),
            "start_seconds": audio_start_seconds + start / spec.sample_rate_hz,
        }
        yield {"audio": part, "at": audio_start_seconds + end / spec.sample_rate_hz}
        # The next part begins at least one FFT window before the end of this part.
        buffer = buffer[end - buffer_start - spec.fft_samples :]
        buffer_start = end - spec.fft_samples
    return dataclasses.asdict(track)


def _with_more(message: dict[str, Any]) -> dict[str, Any]:
    return message | {"more": True}
