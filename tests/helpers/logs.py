"""The log lines of the project, as a command shows them."""

import contextlib
import logging
from collections.abc import Iterator

from pipelines.core.logs import format_record, handled_by


class _ListHandler(logging.Handler):
    """Appends each line to a list."""

    def __init__(self, lines: list[str]):
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(format_record(record))


@contextlib.contextmanager
def logged_lines() -> Iterator[list[str]]:
    """Yield a list that gets each line that the project logs in the block."""
    lines: list[str] = []
    with handled_by(_ListHandler(lines)):
        yield lines
