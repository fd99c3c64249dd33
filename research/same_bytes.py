"""Build and train the sample chain with commit 572569c and with the working tree, and compare the bytes of the results.

    python research/same_bytes.py [--epochs N] [--keep DIR]

Both chains run on this machine, one after the other, because processors differ in the last digits of a weight. Compared are the
synthesised media, the records, every tensor of every checkpoint that a stage keeps, the predictions, the scores and the printed result.
Left out is what names the code itself: versions, keys and the prose of HTML reports.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]
BASELINE = "572569c"
TEXT_OF_THE_CODE = {"key", "digest", "versions", "run", "code", "command"}
"""JSON members that say which code, command or folder made a result."""


def train_chain(tree: Path, folder: Path, *, epochs: int | None) -> None:
    """Synthesise, build and train the sample chain with the code of one tree; raise CalledProcessError when the command fails."""
    words = [
        sys.executable,
        "-m",
        "kerasemo.train",
        "--stage",
        "joint",
        "--run",
        str(folder / "run"),
        "--json",
    ]
    words += ["--epochs", str(epochs)] if epochs else []
    environment = os.environ | {"PYTHONPATH": str(tree), "TF_CPP_MIN_LOG_LEVEL": "2"}
    finished = subprocess.run(
        words, cwd=tree, env=environment, stdout=subprocess.PIPE, check=True, text=True
    )
    (folder / "result.json").write_text(finished.stdout, encoding="utf-8")


def without_code(document: object) -> object:
    """Return a JSON document without the members that name the code that made it."""
    if isinstance(document, dict):
        return {
            name: without_code(value)
            for name, value in document.items()
            if name not in TEXT_OF_THE_CODE
        }
    return [without_code(value) for value in document] if isinstance(document, list) else document


def contents(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (name, digest) of every compared part below a folder."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if (
            not path.is_file()
            or path.suffix == ".html"
            or "/logs/" in name
            or path.name in ("stage.json", "time.json", "lock")
        ):
            continue
        if path.suffix == ".safetensors":
            with safe_open(path, "numpy") as file:
                for tensor in sorted(file.keys()):
                    yield (
                        f"{name}: {tensor}",
                        hashlib.sha256(file.get_tensor(tensor).tobytes()).hexdigest(),
                    )
        elif path.suffix == ".json":
            document = without_code(json.loads(path.read_text(encoding="utf-8")))
            yield name, hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
        else:
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--epochs", type=int, help="epochs of every stage (default: those of the experiment)"
    )
    parser.add_argument(
        "--keep",
        type=Path,
        help="keep both results in this folder; a finished baseline there is used again",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary) / "results"
        before, after = folder / "before", folder / "after"
        if not (before / "result.json").is_file():
            tree = Path(temporary) / "tree"
            subprocess.run(
                ["git", "worktree", "add", "--detach", str(tree), BASELINE], cwd=ROOT, check=True
            )
            before.mkdir(parents=True, exist_ok=True)
            try:
                train_chain(tree, before, epochs=arguments.epochs)
            finally:
                subprocess.run(
                    ["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True
                )
        after.mkdir(parents=True)
        train_chain(ROOT, after, epochs=arguments.epochs)
        found = [dict(contents(side)) for side in (before, after)]
    names = sorted(found[0].keys() | found[1].keys())
    differing = [name for name in names if found[0].get(name) != found[1].get(name)]
    for name in differing:
        state = (
            "differs"
            if name in found[0] and name in found[1]
            else "only before"
            if name in found[0]
            else "only after"
        )
        print(f"{state}: {name}")
    print(f"{len(names) - len(differing)} of {len(names)} parts are equal")
    return 1 if differing or not names else 0


if __name__ == "__main__":
    sys.exit(main())
