"""Where the corpora are, and media that tests synthesise."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.longest import LONGEST

ROOT = Path(__file__).resolve().parents[1]
CORPORA = Path(os.environ.get("KERASEMO_CORPORA", ROOT.parent / "shared" / "corpora"))

# Each process of pytest-xdist computes with one thread, and so do the processes that tests start.
# Two threads for each of two processes on two processors take a tenth longer.
if "PYTEST_XDIST_WORKER" in os.environ:
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(variable, "1")

# pytest-xdist's processes ignore SIGINT, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config) -> None:
    if hasattr(
        config.option, "loadscopereorder"
    ):  # of pytest-xdist, which would begin with the file of most tests
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora; without the folder, the test is skipped by name."""
    if not (CORPORA / "emodb").is_dir():
        pytest.skip(f"no corpora at KERASEMO_CORPORA={CORPORA}")
    return CORPORA


@pytest.fixture(scope="session")
def command():
    """A function that runs `python -m WORDS...` in a process of its own and returns the finished process."""

    def run(*words, cwd=ROOT, timeout=600, check=None, **environment):
        process = subprocess.run(
            [sys.executable, "-m", *map(str, words)],
            cwd=cwd,
            timeout=timeout,
            capture_output=True,
            text=True,
            env={
                **{
                    name: value
                    for name, value in os.environ.items()
                    if name != "TF_CPP_MIN_LOG_LEVEL"
                },
                **environment,
            },
        )
        if check is not None:
            assert process.returncode == check, process.stdout[-2000:] + process.stderr[-4000:]
        return process

    return run


def shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Any:
    """Return what `make` does of a folder that is not there yet, as JSON gives it back.

    Processes of pytest-xdist share one: the first makes it, and the others wait, instead of the same work each.
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made.json").exists():
            (folder / "made.json").write_text(json.dumps(make(folder / str(os.getpid()))))
    return json.loads((folder / "made.json").read_text())


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """The folder of a bundle exported from a tiny trained run, `toy/`, beside `run/` and `records/`; not to be changed."""
    from helpers.bundles import make_bundle

    return Path(shared(tmp_path_factory, "exported", lambda folder: str(make_bundle(folder))))


@pytest.fixture(scope="session")
def emodb_records(corpora, command, tmp_path_factory) -> tuple[Path, dict]:
    """The records of the real EMO-DB, built by the command, and what it prints as JSON; not to be changed."""

    def build(folder: Path) -> dict:
        words = ("--corpus", "emodb", "--media", corpora / "emodb", "--out", folder, "--json")
        return {
            "folder": str(folder),
            "printed": json.loads(command("pipelines.build", *words, check=0).stdout),
        }

    records_folder = shared(tmp_path_factory, "emodb_records", build)
    return Path(records_folder["folder"]), records_folder["printed"]


@pytest.fixture(scope="session")
def fer2013_files(corpora, tmp_path_factory) -> list[tuple[str, str]]:
    """The name of each file in the archive of FER-2013 and the sha256 of its bytes, in the archive's order."""

    def unpacked(_: Path) -> list[tuple[str, str]]:
        with tarfile.open(corpora / "fer2013.tar.xz") as archive:
            return [
                (member.name, hashlib.sha256(archive.extractfile(member).read()).hexdigest())
                for member in archive
                if member.isfile()
            ]

    return [(name, digest) for name, digest in shared(tmp_path_factory, "fer2013", unpacked)]


@pytest.fixture(scope="session")
def toy_study(tmp_path_factory):
    """A finished reproduction, a `reproductions.ToyStudy`; not to be changed."""
    from helpers.reproductions import ToyStudy, make_toy_study

    return ToyStudy.from_json(
        shared(tmp_path_factory, "toy_study", lambda folder: make_toy_study(folder).to_json())
    )


@pytest.fixture
def toy_study_copy(toy_study, tmp_path) -> Path:
    """A copy of the run folder of the finished reproduction, which a test may change."""
    return Path(shutil.copytree(toy_study.run, tmp_path / "run"))
