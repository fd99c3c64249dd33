"""The pool of worker processes that decode media: a file that crashes or hangs its decoder costs itself alone.

A worker is this module run as a program. It talks over its standard streams, never imports tensorflow, and is
replaced when it dies or shows no progress for a while.
"""

import contextlib
import dataclasses
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pipelines.spec import InputError, Spec

STALL_SECONDS = 120.0
"""A worker that decodes nothing for this long is taken to hang."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One media file to read in one or both domains."""

    path: Path
    domains: tuple[str, ...]
    still: bool = False
    detect: bool = True
    """Look for a face; otherwise each picture is a face already."""


def decode_file(task: Task, spec: Spec, *, progress=lambda: None) -> dict[str, Any]:
    """Read one media file.

    Returns:
        `sha256` of the file and, for each domain, either the arrays read or `{"error": reason}`.
    """
    from pipelines import decode, faces, sound

    detect = faces.detect_face if task.detect else None

    def visual() -> dict[str, Any]:
        if task.still:
            found = faces.read_still_face(task.path, spec=spec, detect=detect)
        else:
            found = faces.read_faces(task.path, spec=spec, detect=detect, progress=progress)
        return dataclasses.asdict(found)

    def audio() -> dict[str, Any]:
        waveform, seconds = sound.read_waveform(task.path, spec=spec, progress=progress)
        return {"waveform": waveform, "seconds": seconds}

    result: dict[str, Any] = {"sha256": ""}
    try:
        result["sha256"] = decode.content_hash(task.path)
    except OSError as error:
        return result | dict.fromkeys(task.domains, {"error": f"cannot be read ({error.strerror})"})
    for domain, read in (("visual", visual), ("audio", audio)):
        if domain in task.domains:
            try:
                result[domain] = read()
            except decode.MediaError as error:
                result[domain] = {"error": str(error)}
            except MemoryError:
                result[domain] = {"error": "takes more memory than there is"}
            except Exception as error:  # a decoder's own surprise costs this file alone
                result[domain] = {"error": f"decoder failed ({type(error).__name__}: {error})"}
    return result


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    def __init__(self):
        self._ready = False
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipelines.workers"],  # -P: not what happens to lie in the working directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            process_group=0,  # Ctrl-C is for the build: a worker that it hit would look like a crash
        )

    def wait_until_ready(self) -> None:
        """Wait for the first sign, once; raises InputError when there is none."""
        if self._ready:
            return
        try:
            pickle.load(self._process.stdout)
            self._ready = True
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            self._process.wait()
            raise InputError(f"a worker process cannot start (exit status {self.exit_status}); its own message stands above") from error

    def _send(self, message) -> None:
        pickle.dump(message, self._process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        self._process.stdin.flush()

    def run(self, task: Task, spec: Spec, stall_seconds: float) -> dict[str, Any]:
        """Return the result of a task; raises EOFError when the worker dies, TimeoutError when it was stopped for hanging."""
        self.wait_until_ready()
        stalled = threading.Event()
        last_sign = time.monotonic()
        done = threading.Event()

        def watch() -> None:
            while not done.wait(min(1.0, stall_seconds / 4)):
                if time.monotonic() - last_sign > stall_seconds:
                    stalled.set()
                    self._process.kill()
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            self._send((task, spec))
            while (message := pickle.load(self._process.stdout)) is None:  # None: a sign of progress
                last_sign = time.monotonic()
            return message
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:  # ValueError: closed meanwhile
            self._process.wait()
            if stalled.is_set():
                raise TimeoutError from error
            raise EOFError from error
        finally:
            done.set()
            watcher.join()

    @property
    def exit_status(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class Pool:
    """Worker processes for `decode_file`; `run` may be called from as many threads as there are workers.

    >>> with Pool(workers=1) as pool:
    ...     pool.run(Task(Path("missing.wav"), ("audio",)))["audio"]
    {'error': 'cannot be read (No such file or directory)'}
    """

    def __init__(self, *, workers: int, spec: Spec = Spec(), stall_seconds: float = STALL_SECONDS):
        self._spec = spec
        self._stall_seconds = stall_seconds
        self._count = workers
        self._idle: queue.Queue[_Worker | None] = queue.Queue()
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> "Pool":
        for _ in range(self._count):
            self._idle.put(self._started())
        try:
            for worker in self._workers:
                worker.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.close()
            self._workers.clear()

    def _started(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise EOFError
            worker = _Worker()
            self._workers.add(worker)
            return worker

    def run(self, task: Task) -> dict[str, Any]:
        """Decode one file in a worker; a crash or a hang becomes the file's own error."""
        worker = self._idle.get()
        try:
            worker = worker or self._started()
            return worker.run(task, self._spec, self._stall_seconds)
        except (EOFError, TimeoutError, InputError) as error:
            if isinstance(error, TimeoutError):
                reason = f"decoder made no progress for {self._stall_seconds:.0f} s and was stopped"
            else:
                reason = f"decoder crashed (exit status {worker.exit_status})" if worker else "the pool is closed"
            if worker is not None:
                with self._lock:
                    self._workers.discard(worker)
                worker.close()
                worker = None
            return {"sha256": "", **dict.fromkeys(task.domains, {"error": reason})}
        finally:
            self._idle.put(worker)


def _serve() -> None:
    """Answer tasks from standard input on standard output until it closes; what codecs print of a bad file is dropped."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import cv2

    from pipelines import faces, sound  # noqa: F401  (what fails here is shown)

    cv2.setNumThreads(1)
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    tasks = sys.stdin.buffer
    last_sign = time.monotonic()

    def send(message) -> None:
        pickle.dump(message, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()

    def progress() -> None:
        nonlocal last_sign
        if time.monotonic() - last_sign > 1.0:
            last_sign = time.monotonic()
            send(None)

    try:
        send(None)
        while True:
            task, spec = pickle.load(tasks)
            send(decode_file(task, spec, progress=progress))
    except (EOFError, BrokenPipeError):  # the build has what it wanted, or was stopped
        return


if __name__ == "__main__":
    # As the module of this name, so that what is pickled is found under it on both sides.
    from pipelines import workers

    workers._serve()
