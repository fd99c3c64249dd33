"""The parser with one-line errors and the main function without tracebacks of every command."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from pipelines.core import logs
from pipelines.core.errors import KerasemoError


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors are one line and exit status 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and the message on one line."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run_main(work: Callable[[], int], *, prog: str, resumes: bool = True) -> int:
    """Call `work` and return its exit status; show the log lines of the project meanwhile.

    A user's mistake, a bad file or a full disk becomes one line on standard error and status 1.

    Args:
        work: The command's work, which returns an exit status.
        prog: The command's name, for messages.
        resumes: Whether the same command resumes after Ctrl-C.
    """
    _open_closed_streams()
    try:
        with logs.shown_on_stderr():
            return work()
    except KerasemoError as error:
        message = str(error)
    except BrokenPipeError:
        message = "standard output was closed by the reader"
    except OSError as error:
        message = f"{error.filename or 'input/output'}: {error.strerror or error}"
    except UnicodeEncodeError as error:  # TensorFlow and JSON accept no other name
        message = f"{error.object!a}: the name is not UTF-8; rename the file or folder"
    except KeyboardInterrupt:
        hint = "; the same command resumes from what is finished" if resumes else ""
        print(f"{prog}: interrupted{hint}", file=sys.stderr)
        return 130
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _open_closed_streams() -> None:
    """Open a standard stream that was closed (`>&-`) as a stream that discards its text."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_WRONLY)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            # Open until the process ends.
            stream = open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def name_pairs(text: str) -> tuple[tuple[str, str], ...] | None:
    """Return the pairs of different names in a text; None if the text does not have this form.

    >>> name_pairs("joint:pooled,joint:alone"), name_pairs("joint:joint")
    ((('joint', 'pooled'), ('joint', 'alone')), None)
    """
    pairs = []
    for part in text.split(","):
        names_of_pair = part.split(":")
        if len(names_of_pair) != 2 or not all(names_of_pair):
            return None
        first, second = names_of_pair
        if first == second:
            return None
        pairs.append((first, second))
    return tuple(pairs)


def names(text: str) -> tuple[str, ...]:
    """Parse names such as `pretrain,transfer` or `savee/audio` (an argparse type).

    A name that occurs twice counts once.

    >>> names("joint,pooled,joint")
    ('joint', 'pooled')
    """
    parsed = tuple(dict.fromkeys(text.split(",")))
    if "" in parsed:
        raise argparse.ArgumentTypeError(
            f"expected names with commas between them; received {text!r}"
        )
    return parsed


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1 (an argparse type)."""
    value = int(text) if text.isdigit() and len(text) < 10 else 0
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 1; received {text!r}"
        )
    return value


def natural_int(text: str) -> int:
    """Parse a whole number of at least 0 (an argparse type)."""
    if not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(
            f"expected a whole number of at least 0; received {text!r}"
        )
    return int(text)
