"""The progress bar of long work, on standard error: a rate and an end on a terminal, now and then a line elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator

LINE_EVERY_SECONDS = 15.0


class Bar:
    """Counts steps of work whose number is told by `start`."""

    def __init__(self, label: str, unit: str):
        self._label, self._unit = label, unit
        self._done, self._total = 0, 0
        self._began = self._told = time.monotonic()
        self._rich = None

    def start(self, total: int) -> None:
        """Say how many steps there are; with none, no bar is shown."""
        self._total, self._done = total, 0
        self._began = self._told = time.monotonic()
        if total and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )
            from rich.text import Text

            class Noted(Progress):
                """A bar with its note below, where a long one takes nothing from it."""

                def get_renderables(self):
                    yield from super().get_renderables()
                    yield from (
                        Text(f"  {task.fields['note']}")
                        for task in self.tasks
                        if task.fields["note"]
                    )

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
            )
            self._rich = Noted(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._task = self._rich.add_task(self._label, total=total, rate="", note="")
            self._rich.start()

    def advance(self, note: str = "", count: int = 1) -> None:
        """Count some steps done; `note` says more of them."""
        self._done += count
        now = time.monotonic()
        rate = f"{self._done / max(now - self._began, 1e-9):.1f} {self._unit}/s"
        if self._rich is not None:
            self._rich.update(self._task, advance=count, rate=rate, note=note)
        elif now - self._told > LINE_EVERY_SECONDS or (
            self._done == self._total and now - self._began > 1.0
        ):
            self._told = now
            left = (self._total - self._done) * (now - self._began) / max(self._done, 1)
            parts = (
                f"{self._label}: {self._done}/{self._total} {self._unit}",
                rate,
                note,
                f"{left:.0f} s left",
            )
            print(", ".join(filter(None, parts)), file=sys.stderr, flush=True)

    def note(self, note: str) -> None:
        """Say more of the step that is under way, on a terminal."""
        if self._rich is not None:
            self._rich.update(self._task, note=note)

    def stop(self) -> None:
        """Take the bar away."""
        if self._rich is not None:
            self._rich.stop()
            self._rich = None


@contextlib.contextmanager
def bar(label: str, *, unit: str) -> Iterator[Bar]:
    """A bar that is taken away when the work ends, however it ends."""
    shown = Bar(label, unit)
    try:
        yield shown
    finally:
        shown.stop()
