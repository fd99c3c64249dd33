"""A pool of worker processes that decode media, so that a crash or a hang fails one file only.

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
from typing import Any, Self

from pipelines.core.errors import RunError
from pipelines.core.spec import Spec
from pipelines.workers.record_task import Readable

STALL_SECONDS = 120.0
"""A worker without progress for this time counts as hanging."""
EXIT_SECONDS = 5.0
"""The time in which a process must end after its stream ended."""


class WorkerError(RunError):
    """A worker process cannot start, died, or reports no progress.

    Attributes:
        retry: Why a later call is to read the file again: `time` or `memory`; empty: the file is to
            blame.
    """

    def __init__(self, message: str, *, retry: str = "") -> None:
        super().__init__(message)
        self.retry = retry


class _Worker:
    """One worker process."""

    def __init__(self) -> None:
        self._is_ready = False
        self._process = subprocess.Popen(
            # -P: do not import modules from the working directory.
            [sys.executable, "-P", "-m", "pipelines.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            process_group=0,  # Ctrl-C stops the parent; in a worker it would look like a crash
        )
        self._heartbeats = select.poll()
        self._heartbeats.register(self._process.stdout, select.POLLIN)

    def wait_until_ready(self) -> None:
        """Wait for the first heartbeat, once.

        Raises:
            WorkerError: The process ended, or sent no heartbeat in time.
        """
        if self._is_ready:
            return
        try:
            self._receive(STALL_SECONDS)
            self._is_ready = True
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

    def _send(self, task: tuple[Readable, Spec]) -> None:
        self._process.stdin.write(to_message_bytes(task))

    def _receive(self, stall_seconds: float) -> dict[str, Any] | None:
        size = int.from_bytes(self._receive_bytes(8, stall_seconds), "little")
        return pickle.loads(self._receive_bytes(size, stall_seconds))

    def _receive_bytes(self, size: int, stall_seconds: float) -> bytearray:
        received = bytearray(size)
        remaining, source = memoryview(received), self._process.stdout
        while remaining:
            if not self._heartbeats.poll(1000 * stall_seconds):
                raise TimeoutError
            count = source.readinto(remaining)
            if not count:
                raise EOFError
            remaining = remaining[count:]
        return received

    def _wait_for_exit(self) -> int | None:
        """Return the exit status of a process whose stream ended; None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        return self._process.poll()

    def close(self) -> None:
        """End the process; a thread that waits for its messages gets the end of the stream."""
        self._process.kill()
        self._process.wait()


def to_message_bytes(message: object) -> bytes:
    """Return an object as its pickled bytes, after their number in 8 bytes."""
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return len(content).to_bytes(8, "little") + content


class WorkerPool:
    """Worker processes that read media files. Several threads can call `read`.

    Use the pool in a `with` statement, which starts and ends its processes.

    >>> from pathlib import Path
    >>> from pipelines.workers.record_task import RecordTask
    >>> with WorkerPool(workers=1) as pool:
    ...     next(pool.read(RecordTask(Path("missing.wav"), ("audio",))))["audio"]
    {'error': 'cannot be read (No such file or directory)', 'retry': 'unreadable'}

    Args:
        workers: The number of processes.
        spec: The spec of the features.
        stall_seconds: A worker without progress for this time is stopped.

    Raises:
        WorkerError: A process cannot start.
    """

    def __init__(
        self, *, workers: int, spec: Spec = Spec(), stall_seconds: float = STALL_SECONDS
    ) -> None:
        self._spec = spec
        self._stall_seconds = stall_seconds
        self._count = workers
        self._idle: queue.Queue[_Worker | None] = queue.Queue()
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        """Start the processes and wait until they are ready."""
        try:
            for _ in range(self._count):
                self._idle.put(self._started())
            for worker in self._workers:
                worker.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """End the processes."""
        with self._lock:
            self._is_closed = True
            for worker in self._workers:
                worker.close()
            self._workers.clear()

    def _started(self) -> _Worker:
        with self._lock:
            if self._is_closed:
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
        """Yield the messages of a task from a worker. A crash or a hang becomes an error message.

        The call takes a worker immediately and keeps the worker until the caller has the last
        message. A caller with several tasks must call `read` and take messages in the same order,
        otherwise all workers can wait for each other.
        """
        worker = None
        while not self._is_closed:
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
        """Return the entry of a domain for an error. A closed pool has ended its workers itself."""
        if self._is_closed:
            return {"error": "the pool is closed", "retry": "time"}
        return {"error": str(error)} | ({"retry": error.retry} if error.retry else {})
