"""The files of FER-2013, of which the archive is unpacked once for all tests."""

import fcntl
import hashlib
import json
import os
import tarfile
from pathlib import Path


def fer2013_files(corpora: Path, tmp_path_factory) -> list[tuple[str, str]]:
    """Return the name of each file in the archive and the sha256 of its bytes, in the archive's order.

    Processes of pytest-xdist share one list: the first makes it, and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "fer2013"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "files.json").exists():
            with tarfile.open(corpora / "fer2013.tar.xz") as archive:
                files = [(one.name, hashlib.sha256(archive.extractfile(one).read()).hexdigest()) for one in archive if one.isfile()]
            (folder / "unfinished").write_text(json.dumps(files), encoding="utf-8")
            os.replace(folder / "unfinished", folder / "files.json")
    return [(name, digest) for name, digest in json.loads((folder / "files.json").read_text(encoding="utf-8"))]
