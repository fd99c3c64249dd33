"""Cells of a sweep trained side by side, each by a process with its share of the processors, or a GPU of its own where there are several.

A small network does not fill a machine: a thread for each of several trainings makes more of the processors than all threads for one
after the other (benchmarks/networks_at_once.py). A process that dies costs the cell that it had; it is replaced, and what the cell has
saved is gone on with next time.
"""

import contextlib
import io
import multiprocessing
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.processes import end_with_parent, processors
from pipelines.core.tensorflow_loading import load_tensorflow

GRACE_SECONDS = 60.0
"""How long a process that was told to end may take to save what it has."""


class _Member:
    """One process and what it is at."""

    def __init__(self, number: int, jobs: int, remake: Callable[..., Any]):
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.number = number
        self.digest = ""
        """Of the cell that it is at; empty: none."""
        self.began = 0.0
        self.process = context.Process(target=_serve, args=(theirs, number, jobs), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is heard here
        self.connection.send(
            remake
        )  # and no argument: what it needs is imported only when TensorFlow's first lines can be hidden

    def give(self, work: str, digest: str) -> None:
        self.digest, self.began = digest, time.monotonic()
        with contextlib.suppress(
            OSError
        ):  # it has died, which is heard when its answer is waited for
            self.connection.send((work, digest))

    def died(self) -> str:
        """Return how the process ended."""
        self.process.join(GRACE_SECONDS)
        status = self.process.exitcode
        if status == -signal.SIGKILL:
            return "its process was killed (by the system, when memory runs out: try fewer --jobs); the same command goes on with it"
        return f"its process ended (exit status {status}); the same command goes on with it"


class Crew:
    """Processes that work at the cells of a sweep; to be used in a `with`.

    Args:
        remake: Makes, in a process of its own, the sweep again: called with `log`, it returns what has `cells` and `guarded`.
        jobs: How many processes.
        log: Called with each line about what they do.
    """

    def __init__(self, remake: Callable[..., Any], *, jobs: int, log: Callable[[str], None]):
        self._remake = remake
        self._jobs, self._log = jobs, log
        self._members: list[_Member] = []
        self._handler: Any = None

    def __enter__(self) -> "Crew":
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, _interrupted)
        return self

    def __exit__(self, *_) -> None:
        for member in self._members:
            if member.process.is_alive():
                member.process.terminate()  # a training saves first
        end = time.monotonic() + GRACE_SECONDS
        for member in self._members:
            with contextlib.suppress(
                EOFError, OSError
            ):  # until it has ended, or is waited for no longer
                while member.connection.poll(max(0.0, end - time.monotonic())):
                    kind, text = member.connection.recv()
                    if kind == "line":
                        self._log(text)
            member.process.join(max(1.0, end - time.monotonic()))
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)

    def do(
        self,
        work: str,
        cells: Mapping[str, Sequence[str]],
        *,
        refused: Callable[[str], str],
        begun: Callable[[str], None],
        ended: Callable[[str, str, float], None],
    ) -> None:
        """Have one of `sweep.WORKS` done to some cells, the first that can be done first.

        Args:
            work: Its name.
            cells: Their digests, each with those of the cells that it starts from: it waits for them where they are among these.
            refused: Tells why one that could begin is not to; empty: it is.
            begun: Called with each that begins.
            ended: Called with each that has ended, why it failed (empty: it did not), and how many seconds it took.

        Raises:
            InputError: A disk is full, or the like: what is under way saves, and nothing else begins.
            KeyboardInterrupt: Ctrl-C or SIGTERM; likewise.
        """
        waiting, left = list(cells), set(cells)
        while left:
            for digest in [digest for digest in waiting if not left & set(cells[digest])]:
                if reason := refused(digest):
                    waiting.remove(digest)
                    left.remove(digest)
                    ended(digest, reason, 0.0)
                elif member := self._idle():
                    waiting.remove(digest)
                    begun(digest)
                    member.give(work, digest)
            busy = {member.connection: member for member in self._members if member.digest}
            for connection in wait(list(busy)):
                if over := self._heard(busy[connection]):
                    left.remove(over[0])
                    ended(*over)

    def _heard(self, member: _Member) -> tuple[str, str, float] | None:
        """Take what a process says; return what `ended` is called with where it says that it is done, or has died."""
        try:
            kind, text = member.connection.recv()
        except (EOFError, OSError):
            self._members.remove(member)
            kind, text = "ended", member.died()
        if kind == "line":
            self._log(text)
            return None
        if kind == "stops":
            raise InputError(text)
        digest, member.digest = member.digest, ""
        return digest, text, time.monotonic() - member.began

    def _idle(self) -> _Member | None:
        """Return a process that is at nothing, a new one where there may be one more."""
        for member in self._members:
            if not member.digest:
                return member
        if len(self._members) == self._jobs:
            return None
        number = min(set(range(self._jobs)) - {member.number for member in self._members})
        self._members.append(_Member(number, self._jobs, self._remake))
        return self._members[-1]


def _interrupted(*_) -> None:
    raise KeyboardInterrupt


class _Lines(io.TextIOBase):
    """A standard error whose lines are handed to the process that shows them."""

    def __init__(self, say: Callable[[str], None]):
        self._say, self._open = say, ""

    def write(self, text: str) -> int:
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._say(line)
        return len(text)


def _serve(connection: Connection, number: int, jobs: int) -> None:
    """Do what the connection asks for until it closes."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the one that is over all, which then ends this
    end_with_parent(saving_seconds=GRACE_SECONDS)
    where = ""

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # nobody listens any more
            connection.send(
                ("line", f"  {where}: {line.strip().removeprefix(where.partition(',')[0] + ': ')}")
            )

    load_tensorflow()
    sys.stderr = _Lines(say)
    _take_share(number, jobs)
    try:
        made = connection.recv()(log=say)
    except (KerasemoError, OSError) as error:  # such as records that are no longer there
        connection.send(("stops", str(error)))
        return
    cells = {cell.digest: cell for cell in made.cells}
    while True:
        try:
            work, digest = connection.recv()
        except (EOFError, OSError):
            return
        where = str(cells[digest])
        try:
            answer = ("ended", made.guarded(cells[digest], work))
        except (KerasemoError, OSError) as error:
            answer = ("stops", str(error))
        except KeyboardInterrupt:
            return
        connection.send(answer)


def _take_share(number: int, jobs: int) -> None:
    """Let this process compute with its part of the machine alone."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(max(1, processors() // jobs))
    if gpus := tf.config.list_physical_devices("GPU"):
        own = gpus[number % len(gpus)]
        tf.config.set_visible_devices([own], "GPU")
        tf.config.experimental.set_memory_growth(own, True)  # others may work on it as well
