"""The pool of worker processes that decode media: a file that crashes or hangs its decoder costs itself alone.

A worker is this package run as a program. It talks over its standard streams, never imports tensorflow, and is
replaced when it dies or shows no progress for a while.
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

from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.spec import Spec
from pipelines.workers.record_task import Readable, Task

__all__ = ["STALL_SECONDS", "Pool", "Task"]

STALL_SECONDS = 120.0
"""A worker that decodes nothing for this long is taken to hang."""


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
        self._signs = select.poll()
        self._signs.register(self._process.stdout, select.POLLIN)

    def wait_until_ready(self) -> None:
        """Wait for the first sign, once; raises InputError when there is none."""
        if self._ready:
            return
        try:
            self._receive(STALL_SECONDS)
            self._ready = True
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
            self.close()
            raise InputError(
                f"a worker process cannot start (exit status {self.exit_status}); its own message stands above"
            ) from error

    def read(self, task: Readable, spec: Spec, stall_seconds: float) -> Iterator[dict[str, Any]]:
        """Yield what `task.read` does; raises EOFError when the worker dies, TimeoutError when it was stopped for hanging."""
        self.wait_until_ready()
        try:
            self._send((task, spec))
            more = True
            while more:
                message = self._receive(stall_seconds)
                if message is not None:  # None: a sign of progress
                    more = message["more"]
                    yield message
        except TimeoutError:
            self.close()
            raise
        except (OSError, ValueError, pickle.UnpicklingError) as error:
            raise EOFError from error

    def _send(self, message) -> None:
        self._process.stdin.write(framed(message))

    def _receive(self, stall_seconds: float):
        size = int.from_bytes(self._receive_bytes(8, stall_seconds), "little")
        return pickle.loads(self._receive_bytes(size, stall_seconds))

    def _receive_bytes(self, size: int, stall_seconds: float) -> bytearray:
        received = bytearray(size)
        left, source = memoryview(received), self._process.stdout
        while left:
            if not self._signs.poll(1000 * stall_seconds):
                raise TimeoutError
            count = source.readinto(left)
            if not count:
                raise EOFError
            left = left[count:]
        return received

    @property
    def exit_status(self) -> int | None:
        return self._process.poll()

    def wait(self) -> None:
        self._process.wait()

    def close(self) -> None:
        """End the process; who waits for its answer finds the end of the stream."""
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
                raise EOFError
            worker = _Worker()
            self._workers.add(worker)
            return worker

    def read(self, task: Readable) -> Iterator[dict[str, Any]]:
        """Have one file decoded by a worker; a crash or a hang becomes the file's own error.

        A worker is taken at once and held until the last message was drawn. Whoever has several under way must draw from
        the earliest first, and call `read` in that order too: else all workers may wait for their turn.
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
        except (EOFError, TimeoutError, KerasemoError) as error:
            failure = self._failure(worker, error)
            if worker is not None:
                with self._lock:
                    self._workers.discard(worker)
                worker.close()
                worker = None
            yield {"sha256": "", "more": False, **dict.fromkeys(task.domains, failure)}
        finally:
            self._idle.put(worker)

    def _failure(self, worker: _Worker | None, error: Exception) -> dict[str, str]:
        if isinstance(error, InputError):  # the worker, not the file
            return {"error": str(error), "retry": "time"}
        if isinstance(error, TimeoutError):
            return {
                "error": f"decoder made no progress for {self._stall_seconds:.0f} s and was stopped",
                "retry": "time",
            }
        if worker is None or self._closed:
            return {"error": "the pool is closed", "retry": "time"}
        worker.wait()
        if worker.exit_status == -signal.SIGKILL:
            return {
                "error": "decoder was killed (by the system, when memory runs out)",
                "retry": "memory",
            }
        return {"error": f"decoder crashed (exit status {worker.exit_status})"}
