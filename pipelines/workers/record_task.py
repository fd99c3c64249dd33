"""Read a media file for a build, in messages. A worker process runs this module.

The module imports decoders only when a task needs them, so that tasks are quick to import.
"""

import dataclasses
import errno
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol

from pipelines.core.errors import KerasemoError
from pipelines.core.spec import Spec

MEMORY_LIMIT_BYTES = 3 << 29
"""Memory that reading a file may allocate (1.5 GiB). A file that needs more fails alone."""
OPENCV_NO_MEMORY = -4
"""The `code` of a `cv2.error` after a failed allocation: `cv2.Error.StsNoMem`."""
CHANGED_ENTRY = {"error": "changed while it was read", "retry": "changed"}
"""The entry of a domain for a file that changed between its first and its last message."""

DecoderMessages = Generator[dict[str, Any], None, dict[str, Any]]
"""Yields the messages of a decoder and returns the facts of the file."""


class WorkerTask(Protocol):
    """A task for a worker process: it reads a file and yields messages.

    All messages except the last have a true value of `more`.
    """

    @property
    def domains(self) -> tuple[str, ...]:
        """The keys of a message that receive the error of a crash or a hang."""

    def read(self, spec: Spec, *, progress: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Read the file and yield its messages; call `progress` often."""


@dataclasses.dataclass(frozen=True)
class RecordTask:
    """A media file to read for a build, in one or both domains."""

    path: Path
    domains: tuple[str, ...]
    still: bool = False
    detector: str | None = "viola-jones"
    """A name of `detectors.DETECTORS`; None: each picture is a face."""

    def read(
        self, spec: Spec, *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Read the file, and long audio in blocks.

        Args:
            spec: Sizes and counts of faces and audio.
            progress: Called often while the file is read.

        Yields:
            Messages `{"sha256", "more"}` with an entry for each domain. The entry of a domain that
            failed is `{"error": reason}`, with `retry` if a later call may succeed. The entry
            `visual` has the fields of `crops.ClipFaces`. The entry `audio` has a block of the
            `waveform`, float32 [samples]. If `more` is true, the waveform continues in the next
            message. The last message has the fields of `audio.Track` too. An error in a later
            message replaces what came before.
        """
        state_before, message = begin_message(self.path, self.domains, progress=progress)
        if state_before is None:
            yield message | {"more": False}
            return
        if "visual" in self.domains:
            message["visual"] = call_decoder(lambda: self._read_faces(spec, progress))
        if "audio" not in self.domains:
            yield self._with_changes(message, state_before) | {"more": False}
            return
        for audio_entry, more in self._read_audio(spec, progress):
            message["audio"] = audio_entry
            if not more:
                message = self._with_changes(message, state_before)
            yield message | {"more": more}
            message = {}

    def _with_changes(
        self, message: dict[str, Any], state_before: tuple[int, ...]
    ) -> dict[str, Any]:
        """Return the last message, with an error for every domain if the file changed."""
        if file_state(self.path, missing_ok=True) == state_before:
            return message
        return message | dict.fromkeys(self.domains, CHANGED_ENTRY)

    def _read_faces(self, spec: Spec, progress: Callable[[], None]) -> dict[str, Any]:
        from pipelines.faces import crops, detectors

        detect = None if self.detector is None else detectors.load_detector(self.detector)
        if self.still:
            clip_faces = crops.read_still_face(self.path, spec=spec, detect=detect)
        else:
            clip_faces = crops.read_faces(self.path, spec=spec, detect=detect, progress=progress)
        return dataclasses.asdict(clip_faces)

    def _read_audio(
        self, spec: Spec, progress: Callable[[], None]
    ) -> Iterator[tuple[dict[str, Any], bool]]:
        """Yield (entry, more); the last entry has the fields of the track, or is an error."""
        from pipelines.media.audio import read_blocks

        blocks = read_blocks(self.path, spec=spec, progress=progress)

        def read_next() -> dict[str, Any]:
            try:
                return {"waveform": next(blocks)}
            except StopIteration as end:
                return dataclasses.asdict(end.value)

        entry = call_decoder(read_next)
        while "error" not in entry:
            next_entry = call_decoder(read_next)
            if "error" in next_entry:
                entry = next_entry
                break
            if "waveform" not in next_entry:
                entry |= next_entry
                break
            yield entry, True
            entry = next_entry
        yield entry, False


def begin_message(
    path: Path, domains: tuple[str, ...], *, progress: Callable[[], None] = lambda: None
) -> tuple[tuple[int, ...] | None, dict[str, Any]]:
    """Return the state of a file and the beginning of its message.

    Args:
        path: A media file.
        domains: The keys that receive the error of a file that cannot be read.
        progress: Called after every chunk of the file.

    Returns:
        (state, message). The state is that of `file_state`, or None if the file cannot be read. The
        message has the `sha256` of the file. If the file cannot be read, `sha256` is empty and
        every domain has an error.
    """
    from pipelines.media import images

    try:
        return file_state(path), {"sha256": images.content_hash(path, progress=progress)}
    except OSError as error:
        # A later call may find the file, for example on a network disk that was not mounted.
        entry = {"error": f"cannot be read ({error.strerror})", "retry": "unreadable"}
    except MemoryError as error:
        entry = _error_entry(error)
    return None, {"sha256": "", **dict.fromkeys(domains, entry)}


def file_state(path: Path, *, missing_ok: bool = False) -> tuple[int, ...]:
    """Return numbers that change when a file changes.

    Args:
        path: A file.
        missing_ok: Return an empty tuple for a missing file.

    Returns:
        Device, inode, size in bytes, and time of the last change in nanoseconds.

    Raises:
        OSError: The file is missing or its folder cannot be read, and `missing_ok` is false.
    """
    try:
        status = os.stat(path)
    except OSError:
        if missing_ok:
            return ()
        raise
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def call_decoder(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of a decoder, or the entry of the error that it raises.

    The message of the project's errors is the reason. Any other error of a decoder fails its file
    alone.

    Args:
        read: Decodes a part of a file.

    Returns:
        The result of `read`, or `{"error": reason}`, with `retry` if a later call may succeed.
    """
    try:
        return read()
    except KerasemoError as error:
        return {"error": str(error)}
    except Exception as error:
        return _error_entry(error)


def relay_messages(
    messages: DecoderMessages, *, wrap: Callable[[dict[str, Any]], dict[str, Any]]
) -> DecoderMessages:
    """Yield the messages of a decoder, and return its facts or the entry of its error.

    Args:
        messages: The decoder.
        wrap: Maps a message of the decoder to a message of the worker.

    Yields:
        The wrapped messages.

    Returns:
        The facts that the decoder returns, or the entry of `call_decoder` for its error.
    """

    def read_next() -> dict[str, Any]:
        try:
            return {"message": next(messages)}
        except StopIteration as end:
            return {"facts": end.value}

    while True:
        step = call_decoder(read_next)
        if "message" not in step:
            return step.get("facts", step)
        yield wrap(step["message"])


def _error_entry(error: Exception) -> dict[str, str]:
    is_out_of_memory = (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or getattr(error, "code", None) == OPENCV_NO_MEMORY
    )
    if is_out_of_memory:
        limit_gib = MEMORY_LIMIT_BYTES / 2**30
        return {
            "error": f"needs more memory than the limit of {limit_gib:.1f} GiB",
            "retry": "memory",
        }
    return {"error": f"decoder failed ({type(error).__name__}: {error})"}
