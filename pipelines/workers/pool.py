"""The pool of worker processes that decode media: a file that crashes or hangs its decoder fails alone.

A worker is this package run as a program. It talks over its standard streams, never imports
TensorFlow, and is replaced when it dies or reports no progress for a while.
"""

import contextlib
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from pipelines.core.errors import RunError
from pipelines.core.spec import Spec
from pipelines.workers.record_task import Readable, Task

__all__ = ["STALL_SECONDS", "Pool", "Task", "WorkerError"]

STALL_SECONDS = 120.0
"""A worker that decodes nothing for this long is taken to hang."""
EXIT_SECONDS = 5.0
"""How long the end of a process is waited for after its stream ended."""


class WorkerError(RunError):
    """A worker process cannot start, died, or reports no progress.

    Attributes:
        retry: Why a later call is to read the file again: `time` or `memory`; empty: the file is to
            blame.
    """

    def __init__(self, message: str, *, retry: str = ""):
        super().__init__(message)
        self.retry = retry


class _Worker:
    def __init__(self):
        self._ready = False
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "pipelines.workers",
            ],  # -P: not what happens to lie in the working directory
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            process_group=0,  # Ctrl-C is for the build: a worker that it hit would look like a crash
        )
        self._heartbeats = select.poll()
        self._heartbeats.register(self._process.stdout, select.POLLIN)

    def wait_until_ready(self) -> None:
        """Wait for the first heartbeat, once.

        Raises:
            WorkerError: The process ended, or sent no heartbeat in time.
        """
        if self._ready:
            return
        try:
            self._receive(STALL_SECONDS)
            self._ready = True
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            self._wait_for_exit()
            self.close()
            raise WorkerError(
                f"a worker process cannot start (exit status {self._process.returncode}); "
                "the message of the process stands above",
                retry="time",
            ) from error

    def read(self, task: Readable, spec: Spec, stall_seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the messages of `task.read`.

        Raises:
            WorkerError: The process cannot start, died, or was stopped because it reported no
                progress for `stall_seconds`.
        """
        self.wait_until_ready()
        try:
            self._send((task, spec))
            more = True
            while more:
                message = self._receive(stall_seconds)
                if message is not None:  # None: a heartbeat
                    more = message["more"]
                    yield message
        except TimeoutError as error:
            self.close()
            raise WorkerError(
                f"decoder made no progress for {stall_seconds:.0f} s and was stopped", retry="time"
            ) from error
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            status = self._wait_for_exit()
            self.close()
            if status == -signal.SIGKILL:
                raise WorkerError(
                    "decoder was killed (by the system, when memory runs out)", retry="memory"
                ) from error
            raise WorkerError(f"decoder crashed (exit status {status})") from error

    def _send(self, message) -> None:
        self._process.stdin.write(framed(message))

    def _receive(self, stall_seconds: float):
        size = int.from_bytes(self._receive_bytes(8, stall_seconds), "little")
        return pickle.loads(self._receive_bytes(size, stall_seconds))

    def _receive_bytes(self, size: int, stall_seconds: float) -> bytearray:
        received = bytearray(size)
        left, source = memoryview(received), self._process.stdout
        while left:
            if not self._heartbeats.poll(1000 * stall_seconds):
                raise TimeoutError
            count = source.readinto(left)
            if not count:
                raise EOFError
            left = left[count:]
        return received

    def _wait_for_exit(self) -> int | None:
        """Return the exit status of a process whose stream ended; None if the process still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        return self._process.poll()

    def close(self) -> None:
        """End the process; a thread that waits for its answer finds the end of the stream."""
        self._process.kill()
        self._process.wait()


def framed(message) -> bytes:
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return len(content).to_bytes(8, "little") + content


class Pool:
    """Worker processes in which tasks are read; `read` may be called from several threads.

    >>> from pathlib import Path
    >>> with Pool(workers=1) as pool:
    ...     next(pool.read(Task(Path("missing.wav"), ("audio",))))["audio"]
    {'error': 'cannot be read (No such file or directory)', 'retry': 'unreadable'}
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
        try:
            for _ in range(self._count):
                self._idle.put(self._started())
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
                raise WorkerError("the pool is closed", retry="time")
            try:
                worker = _Worker()
            except OSError as error:
                raise WorkerError(
                    f"a worker process cannot start ({error.strerror})", retry="time"
                ) from error
            self._workers.add(worker)
            return worker

    def read(self, task: Readable) -> Iterator[dict[str, Any]]:
        """Have one file decoded by a worker; a crash or a hang becomes the error of the file.

        A worker is taken at once and held until the last message was drawn. A caller that reads
        several files at a time must draw from the earliest first, and call `read` in that order
        too: else all workers may wait for their turn.
        """
        worker = None
        while not self._closed:
            with contextlib.suppress(queue.Empty):
                worker = self._idle.get(timeout=1.0)
                break
        return self._messages(worker, task)

    def _messages(self, worker: _Worker | None, task: Readable) -> Iterator[dict[str, Any]]:
        try:
            worker = worker or self._started()
            yield from worker.read(task, self._spec, self._stall_seconds)
        except WorkerError as error:
            if worker is not None:
                with self._lock:
                    self._workers.discard(worker)
                worker.close()
                worker = None
            failure = self._failure(error)
            yield {"sha256": "", "more": False, **dict.fromkeys(task.domains, failure)}
        finally:
            self._idle.put(worker)

    def _failure(self, error: WorkerError) -> dict[str, str]:
        """Return the entry of a domain for an error; a pool that was closed ended its workers itself."""
        if self._closed:
            return {"error": "the pool is closed", "retry": "time"}
        return {"error": str(error)} | ({"retry": error.retry} if error.retry else {})
