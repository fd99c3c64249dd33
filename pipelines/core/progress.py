"""A progress bar on standard error: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

SECONDS_BETWEEN_LINES = 15.0


class ProgressBar:
    """Shows how many steps of a work are done, the rate and the time left.

    Args:
        label: What the work is, such as the name of a stage.
        unit: What a step is, such as `images`.
    """

    def __init__(self, label: str, unit: str) -> None:
        self._label = label
        self._unit = unit
        self._done = 0
        self._total = 0
        self._start_time = self._last_line_time = time.monotonic()
        self._rich: Any = None
        self._task: Any = None

    def start(self, total: int) -> None:
        """Start with `total` steps; with 0 steps no bar is shown."""
        self._total, self._done = total, 0
        self._start_time = self._last_line_time = time.monotonic()
        if total and sys.stderr.isatty():
            self._rich = _rich_progress()
            self._task = self._rich.add_task(self._label, total=total, rate="", note="")
            self._rich.start()

    def advance(self, note: str = "", count: int = 1) -> None:
        """Count steps as done.

        Args:
            note: A remark on the present step.
            count: The number of steps.
        """
        self._done += count
        now = time.monotonic()
        seconds = now - self._start_time
        rate = f"{self._done / max(seconds, 1e-9):.1f} {self._unit}/s"
        if self._rich is not None:
            self._rich.update(self._task, advance=count, rate=rate, note=note)
            return
        is_due = now - self._last_line_time > SECONDS_BETWEEN_LINES
        is_end = self._done == self._total and seconds > 1.0
        if is_due or is_end:
            self._last_line_time = now
            seconds_left = (self._total - self._done) * seconds / max(self._done, 1)
            parts = (
                f"{self._label}: {self._done}/{self._total} {self._unit}",
                rate,
                note,
                f"{seconds_left:.0f} s left",
            )
            print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def note(self, note: str) -> None:
        """Show a remark on the present step, on a terminal only."""
        if self._rich is not None:
            self._rich.update(self._task, note=note)

    def stop(self) -> None:
        """Remove the bar."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None


def _rich_progress() -> Any:
    """Return the bar of a terminal, with its remark on a line of its own."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class ProgressWithNote(Progress):
        """A bar with its remark below, so that a long remark does not shorten the bar."""

        def get_renderables(self) -> Iterable[Any]:
            yield from super().get_renderables()
            for task in self.tasks:
                if task.fields["note"]:
                    yield Text(f"  {task.fields['note']}")

    return ProgressWithNote(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@contextlib.contextmanager
def progress_bar(label: str, *, unit: str) -> Iterator[ProgressBar]:
    """Yield a progress bar that is removed when the block ends; see `ProgressBar`."""
    bar = ProgressBar(label, unit)
    try:
        yield bar
    finally:
        bar.stop()
