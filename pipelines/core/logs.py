"""Log lines of commands on standard error.

Packages log to `logging.getLogger(__name__)` and attach no handler. Only a command shows the lines.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any

LOGGERS = ("kerasemo", "pipelines")
"""The loggers above all modules of the project."""


class ContextLogger(logging.LoggerAdapter):
    """Log under a context, such as the name of a stage.

    The attribute `context` of a record has the context. The message does not have it, so that no
    code parses the message.

    Args:
        logger: Where the records go.
        context: What the records are about.
    """

    def __init__(self, logger: logging.Logger, context: str) -> None:
        super().__init__(logger, {"context": context})

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the context to a record."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


def format_record(record: logging.LogRecord) -> str:
    """Return a record as a line: `CONTEXT: MESSAGE`, or the message alone.

    >>> record = logging.makeLogRecord({"msg": "resuming after epoch %d", "args": (2,)})
    >>> format_record(record)
    'resuming after epoch 2'
    >>> record.context = "joint"
    >>> format_record(record)
    'joint: resuming after epoch 2'
    """
    context = getattr(record, "context", "")
    return f"{context}: {record.getMessage()}" if context else record.getMessage()


class _StandardErrorHandler(logging.Handler):
    """Write each record as a line to what `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        print(format_record(record), file=sys.stderr, flush=True)


@contextlib.contextmanager
def shown_on_stderr(level: int = logging.INFO) -> Iterator[None]:
    """Show the project's log lines on standard error until the block ends.

    Handlers of the root logger do not get the lines meanwhile: some packages install such a
    handler, and a line would be shown twice.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    propagated = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.propagate = False
    try:
        with handled_by(_StandardErrorHandler(), level):
            yield
    finally:
        for logger, former in zip(loggers, propagated, strict=True):
            logger.propagate = former


@contextlib.contextmanager
def handled_by(handler: logging.Handler, level: int = logging.INFO) -> Iterator[None]:
    """Give the project's log records to a handler within the block."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(min(level, logger.level or level))
    try:
        yield
    finally:
        for logger, former in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(former)
