"""The task of a worker process in a build: read the faces and the sound of one media file."""

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from pipelines.core.spec import Spec

MEMORY_BYTES = 3 << 29
"""The memory that a worker can allocate for a file (1.5 GiB). A file that needs more fails
alone."""
OPENCV_NO_MEMORY = -4
"""The `code` of a `cv2.error` when an allocation failed: `cv2.Error.StsNoMem`."""
CHANGED_ERROR = {"error": "changed while it was read", "retry": "changed"}


class Readable(Protocol):
    """A task of a worker process."""

    @property
    def domains(self) -> tuple[str, ...]:
        """The entries of the message that report a crash or a hang."""

    def read(self, spec: Spec, *, progress: Callable[[], None]) -> Iterator[dict[str, Any]]:
        """Yield the messages of the file. All messages but the last one have `more` set."""


@dataclasses.dataclass(frozen=True)
class RecordTask:
    """One media file to read in one or both domains.

    Attributes:
        path: The file.
        domains: The domains to read.
        still: The file is a still picture.
        detector: A name of `detectors.DETECTORS`; None: each picture is a face.
    """

    path: Path
    domains: tuple[str, ...]
    still: bool = False
    detector: str | None = "viola-jones"

    def read(
        self, spec: Spec, *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Yield the messages of `read_file`."""
        return read_file(self, spec, progress=progress)


def read_file(
    task: RecordTask, spec: Spec, *, progress: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any]]:
    """Read one media file, with long sound in blocks.

    Yields:
        A message `{"sha256", "more"}` with an entry for each domain. The entry is `{"error":
        reason}`, with `retry` where another call can succeed. Otherwise the entry has the faces
        with their counts, or the `waveform` with the facts of its track. With `more` set, the
        waveform continues in the next message; only the last message has the facts. An error in a
        later message also stands for the earlier ones.
    """
    first_state, message = start_message(task.path, task.domains, progress=progress)
    if first_state is None:
        yield message | {"more": False}
        return
    if "visual" in task.domains:
        message["visual"] = entry_or_error(lambda: _faces(task, spec, progress))
    sound = _sound(task, spec, progress) if "audio" in task.domains else [({}, False)]
    for audio, more in sound:
        if audio:
            message["audio"] = audio
        if not more and file_state(task.path, missing_ok=True) != first_state:
            message |= dict.fromkeys(task.domains, CHANGED_ERROR)
        yield message | {"more": more}
        message = {}


def start_message(
    path: Path, domains: tuple[str, ...], *, progress: Callable[[], None] = lambda: None
) -> tuple[tuple[int, ...] | None, dict[str, Any]]:
    """Return the state of a file and the start of its message.

    For a file that cannot be read, the state is None and each domain has an error.
    """
    from pipelines.media import images

    try:
        return file_state(path), {"sha256": images.content_hash(path, progress=progress)}
    except OSError as error:
        return None, {"sha256": ""} | dict.fromkeys(domains, _unreadable(error))
    except MemoryError as error:
        return None, {"sha256": ""} | dict.fromkeys(domains, _failure(error))


def file_state(path: Path, *, missing_ok: bool = False) -> tuple[int, ...]:
    """Return numbers that change when the file changes; with `missing_ok`, () for a missing file.

    Raises:
        OSError: The file is missing or cannot be read.
    """
    try:
        facts = os.stat(path)
    except OSError:
        if missing_ok:
            return ()
        raise
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _faces(task: RecordTask, spec: Spec, progress: Callable[[], None]) -> dict[str, Any]:
    from pipelines.faces import crops, detectors

    detect = None if task.detector is None else detectors.load_detector(task.detector)
    if task.still:
        return dataclasses.asdict(crops.read_still_face(task.path, spec=spec, detect=detect))
    return dataclasses.asdict(
        crops.read_faces(task.path, spec=spec, detect=detect, progress=progress)
    )


def _sound(
    task: RecordTask, spec: Spec, progress: Callable[[], None]
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield the entries of the sound, and whether more follow.

    An entry is `{"waveform": block}`. The last one also has the facts of the track, or is an error.
    """
    from pipelines.media.audio import read_blocks

    blocks = read_blocks(task.path, spec=spec, progress=progress)

    def advance() -> dict[str, Any]:
        try:
            return {"waveform": next(blocks)}
        except StopIteration as end:
            return dataclasses.asdict(end.value)

    entry = entry_or_error(advance)
    while "error" not in entry:
        following = entry_or_error(advance)
        if "waveform" not in following:
            entry = following if "error" in following else entry | following
            break
        yield entry, True
        entry = following
    yield entry, False


def entry_or_error(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call a decoder, and return its entry or the error that it raised.

    The error is the message of a KerasemoError. Any other error of a decoder fails this file alone.
    """
    from pipelines.core.errors import KerasemoError

    try:
        return read()
    except KerasemoError as error:
        return {"error": str(error)}
    except Exception as error:
        return _failure(error)


def _unreadable(error: OSError) -> dict[str, str]:
    """Return the entry of a file that a later call may find, such as one on an absent disk."""
    return {"error": f"cannot be read ({error.strerror})", "retry": "unreadable"}


def _failure(error: Exception) -> dict[str, str]:
    if (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or getattr(error, "code", None) == OPENCV_NO_MEMORY
    ):
        return {
            "error": f"takes more memory than the {MEMORY_BYTES / 2**30:.1f} GiB that it may",
            "retry": "memory",
        }
    return {"error": f"decoder failed ({type(error).__name__}: {error})"}
