"""What a thread makes while its results are used: the next pictures are decoded while faces are looked for in these."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

HELD = 4
"""The most results that wait to be used."""


class Signs:
    """Passes signs of progress on, in the thread that made this alone: those of other threads wait for `pass_on`.

    What is told of progress, such as a worker process, need not heed several threads then.
    """

    def __init__(self, progress: Callable[[], None]):
        self._progress, self._owner, self._waiting = progress, threading.get_ident(), False

    def __call__(self) -> None:
        if threading.get_ident() == self._owner:
            self._progress()
        else:
            self._waiting = True

    def pass_on(self) -> None:
        """Pass on what came from other threads; to be called by the one that made this."""
        if self._waiting:
            self._waiting = False
            self._progress()


def read_ahead(
    made: Generator[Any, None, None], signs: Signs, *, held: int = HELD
) -> Iterator[Any]:
    """Yield what a generator does, and raise what it raises, while a thread draws the next ones from it, and closes it.

    Close it (`contextlib.closing`) before what the generator reads from is closed; that waits until the thread has ended.

    >>> list(read_ahead((letter for letter in "abc"), Signs(lambda: None)))
    ['a', 'b', 'c']
    """
    results: queue.Queue[tuple[str, Any]] = queue.Queue(held)
    unwanted = threading.Event()

    def put(*result) -> None:
        while not unwanted.is_set():
            try:
                return results.put(result, timeout=0.1)
            except queue.Full:
                continue

    def draw() -> None:
        try:
            with closing(made):
                for item in made:
                    put("item", item)
                    if unwanted.is_set():
                        return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        while True:
            signs.pass_on()
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
        unwanted.set()
        thread.join()
