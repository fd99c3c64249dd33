"""One media file -> what is read of it, in messages: what a worker process does for the build; no tensorflow."""

import dataclasses
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from pipelines.core.spec import Spec

MEMORY_BYTES = 3 << 29
"""What the reading of a file may allocate (1.5 GiB); one that wants more costs itself alone."""
OPENCV_NO_MEMORY = -4
"""The `code` of a `cv2.error` when an allocation failed: `cv2.Error.StsNoMem`."""
CHANGED = {"error": "changed while it was read", "retry": "changed"}


class Readable(Protocol):
    """What a worker process can read: the messages of a file, of which all but the last have `more` set."""

    @property
    def domains(self) -> tuple[str, ...]:
        """Which of them a crash or a hang is told of."""

    def read(self, spec: Spec, *, progress: Callable[[], None]) -> Iterator[dict[str, Any]]: ...


@dataclasses.dataclass(frozen=True)
class Task:
    """One media file to read in one or both domains."""

    path: Path
    domains: tuple[str, ...]
    still: bool = False
    detector: str | None = "viola-jones"
    """A name of `faces.DETECTORS`; None: each picture is a face already."""

    def read(
        self, spec: Spec, *, progress: Callable[[], None] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """Yield the messages of `read_file`."""
        return read_file(self, spec, progress=progress)


def read_file(
    task: Task, spec: Spec, *, progress: Callable[[], None] = lambda: None
) -> Iterator[dict[str, Any]]:
    """Read one media file, long sound in blocks.

    Yields:
        A message `{"sha256", "more"}` with an entry for each domain: `{"error": reason}`, with `retry` where another call
        may read it; else the faces with their counts, or the `waveform` with the facts of its track. With `more`
        set, the waveform goes on in another message, and only the last of them holds the facts. An error in a later
        message stands for what came before.
    """
    before, message = begun(task.path, task.domains, progress=progress)
    if before is None:
        yield message | {"more": False}
        return
    if "visual" in task.domains:
        message["visual"] = guarded(lambda: _faces(task, spec, progress))
    sound = _sound(task, spec, progress) if "audio" in task.domains else [({}, False)]
    for audio, more in sound:
        if audio:
            message["audio"] = audio
        if not more and state(task.path, missing_ok=True) != before:
            message |= dict.fromkeys(task.domains, CHANGED)
        yield message | {"more": more}
        message = {}


def begun(
    path: Path, domains: tuple[str, ...], *, progress: Callable[[], None] = lambda: None
) -> tuple[tuple[int, ...] | None, dict[str, Any]]:
    """Return the state of a file and the beginning of its message; where it cannot be read, None and an error for each domain."""
    from pipelines.media import images

    try:
        return state(path), {"sha256": images.content_hash(path, progress=progress)}
    except OSError as error:
        return None, {"sha256": ""} | dict.fromkeys(domains, _unreadable(error))
    except MemoryError as error:
        return None, {"sha256": ""} | dict.fromkeys(domains, _failure(error))


def state(path: Path, *, missing_ok: bool = False) -> tuple[int, ...]:
    """Return what changes when a file does; () where it is missing, if it may be."""
    try:
        facts = os.stat(path)
    except OSError:
        if missing_ok:
            return ()
        raise
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _faces(task: Task, spec: Spec, progress: Callable[[], None]) -> dict[str, Any]:
    from pipelines.faces import crops, detectors

    detect = None if task.detector is None else detectors.detector(task.detector)
    if task.still:
        return dataclasses.asdict(crops.read_still_face(task.path, spec=spec, detect=detect))
    return dataclasses.asdict(
        crops.read_faces(task.path, spec=spec, detect=detect, progress=progress)
    )


def _sound(
    task: Task, spec: Spec, progress: Callable[[], None]
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield ({"waveform": block}, more), the last with the facts of the track; or an error, after which nothing comes."""
    from pipelines.media.audio import read_blocks

    blocks = read_blocks(task.path, spec=spec, progress=progress)

    def advance() -> dict[str, Any]:
        try:
            return {"waveform": next(blocks)}
        except StopIteration as end:
            return dataclasses.asdict(end.value)

    held = guarded(advance)
    while "error" not in held:
        following = guarded(advance)
        if "waveform" not in following:
            held = following if "error" in following else held | following
            break
        yield held, True
        held = following
    yield held, False


def guarded(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Call a decoder, and return an error that it raises as the entry of its file.

    The message of an error of the project is the reason as it stands. Any other error of a decoder
    fails this file alone.
    """
    from pipelines.core.errors import KerasemoError

    try:
        return read()
    except KerasemoError as error:
        return {"error": str(error)}
    except Exception as error:
        return _failure(error)


def _unreadable(error: OSError) -> dict[str, str]:
    """Another call may find the file, such as one on a disk that was away."""
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
