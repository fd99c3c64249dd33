"""Locks between processes."""

import errno
import fcntl
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from pipelines.core import locks

HOLD = """
import sys
from pathlib import Path
from pipelines.core.locks import locked
with locked(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds a lock until its input closes."""
    words = [sys.executable, "-c", HOLD, tmp_path / "lock"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=ROOT, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_of_another_process_is_refused_until_that_process_ends(holder, tmp_path):
    with pytest.raises(BlockingIOError), locks.locked(tmp_path / "lock", wait=False):
        pass
    holder.kill()
    with locks.locked(tmp_path / "lock", wait=True):
        pass


@pytest.mark.parametrize("number", locks.WITHOUT_LOCKS)
def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch, number):
    def unsupported(*_):
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locks.locked(tmp_path / "lock", wait=True):
        assert (tmp_path / "lock").exists()


def test_other_errors_are_raised(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="broken"), locks.locked(tmp_path / "lock", wait=False):
        pass


def test_a_folder_is_locked_without_a_file_of_its_own(tmp_path):
    with locks.locked_folder(tmp_path, wait=False):
        with pytest.raises(BlockingIOError), locks.locked_folder(tmp_path, wait=False):
            pass
        assert not list(tmp_path.iterdir())
    with locks.locked_folder(tmp_path, wait=False):
        pass
