"""A pool of worker processes that decode media: a file that crashes its decoder fails alone.

A worker runs this package as a program and communicates over its standard streams. It never imports
TensorFlow. The pool replaces a worker that dies or sends no heartbeat for a while.
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
from pipelines.workers.record_task import WorkerTask

STALL_SECONDS = 120.0
"""A worker without a message or a heartbeat for this long counts as hanging."""
EXIT_SECONDS = 5.0
"""Maximum wait for the exit of a process after the end of its output stream."""
LENGTH_BYTES = 8
"""Size of the length, an unsigned little-endian integer, before the content of a message."""

_BROKEN_STREAM = (EOFError, OSError, ValueError, pickle.UnpicklingError)
"""What reading from or writing to a worker raises if the worker died."""


class WorkerError(RunError):
    """A worker process cannot start, died, or sends no heartbeat.

    Attributes:
        retry: Why a later call may succeed: `time` or `memory`; empty if the file is the cause.
    """

    def __init__(self, message: str, *, retry: str = "") -> None:
        super().__init__(message)
        self.retry = retry


class _Worker:
    """A worker process and its streams."""

    def __init__(self) -> None:
        self._is_ready = False
        python_path = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(
            # -P keeps the working directory off the path: its files could shadow modules.
            [sys.executable, "-P", "-m", "pipelines.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, "PYTHONPATH": python_path},
            # Without its own group, Ctrl-C would end the worker, as if its file had crashed it.
            process_group=0,
        )
        self._output_poll = select.poll()
        self._output_poll.register(self._process.stdout, select.POLLIN)

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
        except _BROKEN_STREAM as error:
            self._wait_for_exit()
            self.close()
            raise WorkerError(
                f"a worker process cannot start (exit status {self._process.returncode}); "
                "its error message is printed above",
                retry="time",
            ) from error

    def read(self, task: WorkerTask, spec: Spec, stall_seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the messages of `task.read`.

        Raises:
            WorkerError: The process cannot start, died, or was stopped because it sent no heartbeat
                for `stall_seconds`.
        """
        self.wait_until_ready()
        try:
            self._send((task, spec))
            more = True
            while more:
                message = self._receive(stall_seconds)
                if message is not None:  # None is a heartbeat
                    more = message["more"]
                    yield message
        except TimeoutError as error:
            self.close()
            raise WorkerError(
                f"decoder made no progress for {stall_seconds:.0f} s and was stopped", retry="time"
            ) from error
        except _BROKEN_STREAM as error:
            exit_status = self._wait_for_exit()
            self.close()
            if exit_status == -signal.SIGKILL:
                raise WorkerError(
                    "decoder was killed (by the system, when memory runs out)", retry="memory"
                ) from error
            raise WorkerError(f"decoder crashed (exit status {exit_status})") from error

    def _send(self, message: Any) -> None:
        self._process.stdin.write(encode_message(message))

    def _receive(self, stall_seconds: float) -> Any:
        size = int.from_bytes(self._receive_bytes(LENGTH_BYTES, stall_seconds), "little")
        return pickle.loads(self._receive_bytes(size, stall_seconds))

    def _receive_bytes(self, size: int, stall_seconds: float) -> bytearray:
        content = bytearray(size)
        missing = memoryview(content)
        while missing:
            if not self._output_poll.poll(1000 * stall_seconds):
                raise TimeoutError
            n_read = self._process.stdout.readinto(missing)
            if not n_read:
                raise EOFError
            missing = missing[n_read:]
        return content

    def _wait_for_exit(self) -> int | None:
        """Return the exit status of a process whose output ended, or None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_SECONDS)
        return self._process.poll()

    def close(self) -> None:
        """End the process. A thread that waits for a message sees the end of the stream."""
        self._process.kill()
        self._process.wait()


def encode_message(message: Any) -> bytes:
    """Return a message as it is sent: the length in `LENGTH_BYTES` bytes and the pickled message.

    Args:
        message: Any object that can be pickled.
    """
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return len(content).to_bytes(LENGTH_BYTES, "little") + content


class WorkerPool:
    """Run tasks in worker processes. Several threads may call `read`.

    The processes start on entering the context and end on leaving it.

    >>> from pathlib import Path
    >>> from pipelines.workers.record_task import RecordTask
    >>> with WorkerPool(workers=1) as pool:
    ...     next(pool.read(RecordTask(Path("missing.wav"), ("audio",))))["audio"]
    {'error': 'cannot be read (No such file or directory)', 'retry': 'unreadable'}

    Args:
        workers: Number of processes, at least 1.
        spec: Passed to every task.
        stall_seconds: A worker without a message or a heartbeat for this long is stopped.

    Raises:
        WorkerError: On entering the context: a worker process cannot start.
    """

    def __init__(
        self, *, workers: int, spec: Spec = Spec(), stall_seconds: float = STALL_SECONDS
    ) -> None:
        self._spec = spec
        self._stall_seconds = stall_seconds
        self._n_workers = workers
        # None stands for a worker that ended; the next task replaces it.
        self._idle_workers: queue.Queue[_Worker | None] = queue.Queue()
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        try:
            for _ in range(self._n_workers):
                self._idle_workers.put(self._start_worker())
            for worker in self._workers:
                worker.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._is_closed = True
            for worker in self._workers:
                worker.close()
            self._workers.clear()

    def _start_worker(self) -> _Worker:
        with self._lock:
            if self._is_closed:
                raise WorkerError("the worker pool is closed", retry="time")
            try:
                worker = _Worker()
            except OSError as error:
                raise WorkerError(
                    f"a worker process cannot start ({error.strerror})", retry="time"
                ) from error
            self._workers.add(worker)
            return worker

    def read(self, task: WorkerTask) -> Iterator[dict[str, Any]]:
        """Run a task in a worker, and return an iterator over its messages.

        A crash or a hang of the worker becomes the error of the file. The call waits for a worker,
        and the worker is busy until the last message is drawn. A caller that runs several tasks at
        a time must draw from the earliest task first, and must call `read` in the same order.
        Otherwise all workers may wait for their turn.

        Args:
            task: The task; it can be pickled.

        Returns:
            The messages of `task.read`. If the worker fails, the last message has an empty
            `sha256`, and an `error` for each of `task.domains`, with `retry` if a later call may
            succeed.
        """
        worker = None
        while not self._is_closed:
            with contextlib.suppress(queue.Empty):
                worker = self._idle_workers.get(timeout=1.0)
                break
        return self._receive_messages(worker, task)

    def _receive_messages(
        self, worker: _Worker | None, task: WorkerTask
    ) -> Iterator[dict[str, Any]]:
        try:
            worker = worker or self._start_worker()
            yield from worker.read(task, self._spec, self._stall_seconds)
        except WorkerError as error:
            if worker is not None:
                with self._lock:
                    self._workers.discard(worker)
                worker.close()
                worker = None
            entry = self._error_entry(error)
            yield {"sha256": "", "more": False, **dict.fromkeys(task.domains, entry)}
        finally:
            self._idle_workers.put(worker)

    def _error_entry(self, error: WorkerError) -> dict[str, str]:
        if self._is_closed:  # the pool itself ended the worker, so the file is not the cause
            return {"error": "the worker pool is closed", "retry": "time"}
        if error.retry:
            return {"error": str(error), "retry": error.retry}
        return {"error": str(error)}
