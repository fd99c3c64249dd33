"""What every command shares: usage errors in one line, a user's mistake without a traceback."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from pipelines.core.errors import InputError


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors are one line and exit status 2."""

    def __init__(self, **kwargs):
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs
        )

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def run_main(work: Callable[[], int], *, prog: str, resumes: bool = True) -> int:
    """Call `work` and return its exit status; a user's mistake becomes one line on stderr and status 1.

    A full disk or a folder that cannot be written is the user's to mend as well, so OSError is told likewise. `resumes` says whether the
    same command, after Ctrl-C, goes on from what is finished.
    """
    _open_closed_streams()
    try:
        return work()
    except InputError as error:
        message = str(error)
    except BrokenPipeError:
        message = "standard output: closed by who reads it"
    except OSError as error:
        message = f"{error.filename or 'input/output'}: {error.strerror or error}"
    except UnicodeEncodeError as error:  # tensorflow and JSON take no other
        message = f"{error.object!a}: a name that is not UTF-8; rename the file or folder"
    except KeyboardInterrupt:
        print(
            f"{prog}: interrupted{'; the same command goes on from what is finished' if resumes else ''}",
            file=sys.stderr,
        )
        return 130
    print(f"{prog}: error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _open_closed_streams() -> None:
    """Let what is written to a standard stream that was closed (`>&-`) go nowhere."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115 (for as long as the process)


def name_pairs(text: str) -> tuple[tuple[str, str], ...] | None:
    """Return the pairs of different names in a text, None where it is no such text.

    >>> name_pairs("joint:pooled,joint:alone"), name_pairs("joint:joint")
    ((('joint', 'pooled'), ('joint', 'alone')), None)
    """
    found = tuple(tuple(part.split(":")) for part in text.split(","))
    return (
        found
        if all(len(pair) == 2 and all(pair) and pair[0] != pair[1] for pair in found)
        else None
    )


def names(text: str) -> tuple[str, ...]:
    """Parse names such as pretrain,transfer or savee/audio (an argparse type); one that stands there twice counts once.

    >>> names("joint,pooled,joint")
    ('joint', 'pooled')
    """
    found = tuple(dict.fromkeys(text.split(",")))
    if "" in found:
        raise argparse.ArgumentTypeError(
            f"expected names with commas between them; received {text!r}"
        )
    return found


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
