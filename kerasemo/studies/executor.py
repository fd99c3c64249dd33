"""Networks of a sweep trained side by side, each in a process with its share of the machine.

A small network does not use a whole machine: one thread for each of several trainings uses the
processor_count better than all threads for one training after the other
(benchmarks/networks_at_once.py). With several GPUs each process has its own. A process that dies
costs the network that it trained; the process is replaced, and the network resumes when the command
runs again.
"""

import contextlib
import io
import logging
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from types import FrameType, TracebackType
from typing import Any, Self

from pipelines.core.errors import KerasemoError, StorageError
from pipelines.core.logs import handled_by
from pipelines.core.processes import end_with_parent, processor_count
from pipelines.core.tensorflow_loading import load_tensorflow

logger = logging.getLogger(__name__)

GRACE_SECONDS = 60.0
"""The time in which a stopped process must save its state."""

LINE, ENDED, STOPPED = "line", "ended", "stopped"
"""The kinds of message from a process: a log line, the end of a work, an error that ends
everything."""

STORAGE_ERROR, OTHER_ERROR = "storage", "other"
"""The kinds of error that end everything."""


class _TrainingProcess:
    """One process and the network that it works on.

    Args:
        number: The number of the process, from 0.
        n_processes: The number of processes that share the machine.
        create_sweep: See `ParallelExecutor`.
    """

    def __init__(self, number: int, n_processes: int, create_sweep: Callable[[], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, child_connection = context.Pipe()
        self.number = number
        self.digest = ""  # of the network in work; empty: the process is idle
        self._start_time = 0.0
        self.process = context.Process(
            target=_run_process, args=(child_connection, number, n_processes), daemon=True
        )
        self.process.start()
        child_connection.close()  # so that the end of the process closes the pipe
        # Sent, not an argument: it imports TensorFlow, whose first lines the process hides.
        self.connection.send(create_sweep)

    def start_work(self, work: str, digest: str) -> None:
        """Tell the process to do a work with a network."""
        self.digest, self._start_time = digest, time.monotonic()
        with contextlib.suppress(OSError):  # a dead process is noticed when its pipe is read
            self.connection.send((work, digest))

    @property
    def seconds(self) -> float:
        """The time since the present work started, in seconds."""
        return time.monotonic() - self._start_time

    def reason_of_death(self) -> str:
        """Return how the process ended."""
        self.process.join(GRACE_SECONDS)
        status = self.process.exitcode
        if status == -signal.SIGKILL:
            return (
                "its process was killed, as the system does when memory runs out: use fewer "
                "--jobs; the same command resumes"
            )
        return f"its process ended with status {status}; the same command resumes"


class ParallelExecutor:
    """Processes that train networks of a sweep; use it in a `with` statement.

    Args:
        create_sweep: Creates the sweep again in a process. The result has `networks` and
            `run_guarded` of `kerasemo.studies.sweep.Sweep`.
        jobs: The number of processes.
    """

    def __init__(self, create_sweep: Callable[[], Any], *, jobs: int) -> None:
        self._create_sweep = create_sweep
        self._jobs = jobs
        self._processes: list[_TrainingProcess] = []
        self._former_handler: Any = None

    def __enter__(self) -> Self:
        """Let SIGTERM stop the processes as Ctrl-C does."""
        if threading.current_thread() is threading.main_thread():
            self._former_handler = signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the processes; each saves its state first."""
        for process in self._processes:
            if process.process.is_alive():
                process.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for process in self._processes:
            self._wait_for_end(process, deadline)
        if self._former_handler is not None:
            signal.signal(signal.SIGTERM, self._former_handler)

    def _wait_for_end(self, process: _TrainingProcess, deadline: float) -> None:
        """Log the last lines of a process until it ends; kill it after the deadline."""
        with contextlib.suppress(EOFError, OSError):
            while process.connection.poll(max(0.0, deadline - time.monotonic())):
                kind, content = process.connection.recv()
                if kind == LINE:
                    logger.info("  %s", content)
        process.process.join(max(1.0, deadline - time.monotonic()))
        if process.process.is_alive():
            process.process.kill()
            process.process.join()

    def run(
        self,
        work: str,
        parents_of: Mapping[str, Sequence[str]],
        *,
        reason_to_skip: Callable[[str], str],
        on_start: Callable[[str], None],
        on_end: Callable[[str, str, float], None],
    ) -> None:
        """Do a work of `sweep.WORKS` with networks, each as soon as its parents are complete.

        Args:
            work: The name of the work.
            parents_of: Digest of each network -> the digests of those that it starts from.
            reason_to_skip: Returns why a network must be left out, or an empty string.
            on_start: Called with the digest of each network whose work starts.
            on_end: Called with the digest of each network whose work ended, the reason of its
                failure or an empty string, and the seconds of the work.

        Raises:
            StorageError: The disk is full; the other processes save their state.
            KerasemoError: The records of a process differ from the records of this process.
            KeyboardInterrupt: Ctrl-C or SIGTERM; the processes save their state.
        """
        waiting, unfinished = list(parents_of), set(parents_of)
        while unfinished:
            ready = [digest for digest in waiting if not unfinished & set(parents_of[digest])]
            for digest in ready:
                reason = reason_to_skip(digest)
                idle_process = None if reason else self._idle_process()
                if reason:
                    waiting.remove(digest)
                    unfinished.remove(digest)
                    on_end(digest, reason, 0.0)
                elif idle_process:
                    waiting.remove(digest)
                    on_start(digest)
                    idle_process.start_work(work, digest)
            busy = {process.connection: process for process in self._processes if process.digest}
            ready_connections = wait(list(busy))
            for connection, process in busy.items():
                result = self._receive(process) if connection in ready_connections else None
                if result:
                    unfinished.remove(result[0])
                    on_end(*result)

    def _receive(self, process: _TrainingProcess) -> tuple[str, str, float] | None:
        """Handle a message of a process; return the arguments of `on_end` if its work ended."""
        try:
            kind, content = process.connection.recv()
        except (EOFError, OSError):
            self._processes.remove(process)
            kind, content = ENDED, process.reason_of_death()
        if kind == LINE:
            logger.info("  %s", content)
            return None
        if kind == STOPPED:
            error_kind, message = content
            raise (StorageError if error_kind == STORAGE_ERROR else KerasemoError)(message)
        digest, process.digest = process.digest, ""
        return digest, content, process.seconds

    def _idle_process(self) -> _TrainingProcess | None:
        """Return an idle process, or start one up to the number of jobs; None if all are busy."""
        for process in self._processes:
            if not process.digest:
                return process
        if len(self._processes) == self._jobs:
            return None
        used_numbers = {process.number for process in self._processes}
        number = min(set(range(self._jobs)) - used_numbers)
        process = _TrainingProcess(number, self._jobs, self._create_sweep)
        self._processes.append(process)
        return process


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _LineWriter(io.TextIOBase):
    """A text stream that calls a function with each line.

    Args:
        send: Called with each line.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        self._send = send
        self._unfinished = ""

    def write(self, text: str) -> int:
        """Send the lines that the text completes."""
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        for line in lines:
            self._send(line)
        return len(text)


class _LineHandler(logging.Handler):
    """A log handler that calls a function with each message.

    Args:
        send: Called with each message.
    """

    def __init__(self, send: Callable[[str], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send the message of a record without its context, because the network precedes it."""
        self._send(record.getMessage())


def _run_process(connection: Connection, number: int, n_processes: int) -> None:
    """Do the work that the pipe names until the pipe closes: the main function of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and ends this process
    end_with_parent(saving_seconds=GRACE_SECONDS)
    present_network = ""

    def send_line(line: str) -> None:
        with contextlib.suppress(OSError):  # the parent has ended
            connection.send((LINE, f"{present_network}: {line.strip()}"))

    load_tensorflow()
    sys.stderr = _LineWriter(send_line)
    with handled_by(_LineHandler(send_line)):
        _take_share(number, n_processes)
        try:
            sweep = connection.recv()()
        except (KerasemoError, OSError) as error:  # such as records that were removed
            connection.send((STOPPED, _error_content(error)))
            return
        networks = {network.digest: network for network in sweep.networks}
        while True:
            try:
                work, digest = connection.recv()
            except (EOFError, OSError):
                return
            present_network = str(networks[digest])
            try:
                message: tuple[str, Any] = (ENDED, sweep.run_guarded(networks[digest], work))
            except (KerasemoError, OSError) as error:
                message = (STOPPED, _error_content(error))
            except KeyboardInterrupt:
                return
            connection.send(message)


def _error_content(error: Exception) -> tuple[str, str]:
    """Return the kind of an error that ends everything, and its message."""
    is_storage = isinstance(error, OSError)
    return (STORAGE_ERROR if is_storage else OTHER_ERROR), str(error)


def _take_share(number: int, n_processes: int) -> None:
    """Let this process compute with its share of the machine."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(max(1, processor_count() // n_processes))
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        gpu = gpus[number % len(gpus)]
        tf.config.set_visible_devices([gpu], "GPU")
        # Other processes may compute on it, too.
        tf.config.experimental.set_memory_growth(gpu, True)
