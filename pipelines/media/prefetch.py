"""Compute the next results, such as decoded frames, in a thread while the current one is used."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

MAX_WAITING = 4
"""The largest number of results that wait to be used."""


class ThreadProgress:
    """Passes signs of progress on in one thread only: the thread that created the object.

    Signs of other threads wait for `pass_on`. The receiver, such as the pipe of a worker process,
    does not have to be thread-safe.

    Args:
        progress: Called for each sign.
    """

    def __init__(self, progress: Callable[[], None]) -> None:
        self._progress = progress
        self._owner = threading.get_ident()
        self._is_waiting = False

    def __call__(self) -> None:
        """Give a sign of progress, from any thread."""
        if threading.get_ident() == self._owner:
            self._progress()
        else:
            self._is_waiting = True

    def pass_on(self) -> None:
        """Pass on the signs of other threads; call it in the thread that created the object."""
        if self._is_waiting:
            self._is_waiting = False
            self._progress()


def read_ahead(
    items: Generator[Any, None, None],
    progress: ThreadProgress,
    *,
    max_waiting: int = MAX_WAITING,
) -> Iterator[Any]:
    """Yield the items of a generator while a thread computes the next ones.

    Close the result (`contextlib.closing`) before the files that the generator reads. Closing waits
    until the thread has ended.

    Args:
        items: The generator. Its errors are raised here.
        progress: Its waiting signs are passed on here.
        max_waiting: The largest number of results that wait.

    >>> list(read_ahead((letter for letter in "abc"), ThreadProgress(lambda: None)))
    ['a', 'b', 'c']
    """
    results: queue.Queue[tuple[str, Any]] = queue.Queue(max_waiting)
    is_closed = threading.Event()

    def put(kind: str, result: Any) -> None:
        while not is_closed.is_set():
            try:
                return results.put((kind, result), timeout=0.1)
            except queue.Full:
                continue

    def compute() -> None:
        try:
            with closing(items):
                for item in items:
                    put("item", item)
                    if is_closed.is_set():
                        return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        while True:
            progress.pass_on()
            try:
                kind, result = results.get(timeout=1.0)
            except queue.Empty:
                continue
            if kind == "error":
                raise result
            if kind == "end":
                return
            yield result
    finally:
        is_closed.set()
        thread.join()
