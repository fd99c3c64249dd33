"""The rules of the design that a walk over the code can check."""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted([*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "kerasemo").rglob("*.py")])

PIPELINES = [
    *(
        "spec",
        "machine",
        "cli",
        "progress",
        "ahead",
        "corpora",
        "decode",
        "planes",
        "video",
        "sound",
        "detectors",
        "tracking",
        "following",
        "faces",
    ),
    *("viewing", "reading", "watching", "workers"),
    *("drawing", "soundtrack", "overlay"),
    *(
        "mels",
        "stills",
        "tfio_sound",
        "records",
        "sets",
        "examine",
        "report",
        "markup",
        "spectrogram",
        "specimens",
        "page",
        "sample",
    ),
    *("decoding", "building", "build"),
]
"""From the bottom to the top: a module imports only what stands before it."""

KERASEMO = [
    *("settings", "folders", "allowed", "config", "losses", "checks", "inputs"),
    *("metrics", "intervals", "listeners", "calibration", "fusion", "seen", "matching"),
    *("normalization", "model", "dealing", "splits"),
    *("checkpoint", "stages"),
    *(
        "devices",
        "augment",
        "cache",
        "windows",
        "data",
        "utterances",
        "variants",
        "plans",
        "scores",
    ),
    *("monitor", "pictures", "board", "runs", "assignment", "loop"),
    *("schedules", "preparation", "epochs"),
    *("validation", "results", "transfer", "training"),
    *(
        "holdings",
        "chain",
        "lineage",
        "answered",
        "answers",
        "fused",
        "tables",
        "bundle",
        "served_scores",
        "evaluate",
    ),
    *("train", "space", "search", "tune"),
    *(
        "provenance",
        "served",
        "portable",
        "card",
        "runtimes",
        "parity",
        "probes",
        "serving_files",
        "export",
        "presets",
    ),
    *("markdown", "charts", "panels", "page", "captions", "prediction", "predicting", "predict"),
    *(
        "looks",
        "cells",
        "crew",
        "sweep",
        "published",
        "pooled",
        "differences",
        "tabulate",
        "tabulated",
        "plots",
        "results_page",
        "reproduced",
        "shown",
        "reproduce",
        "compare",
    ),
    *("wire", "wire_grpc", "asking", "client"),
    "__main__",
]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, *, top_level_only: bool = False) -> frozenset[str]:
    """Return the dotted names that a module imports; `from a import b` gives `a.b`."""
    anywhere, at_the_top = parsed_imports(path)
    return at_the_top if top_level_only else anywhere


@functools.cache
def parsed_imports(path: Path) -> list[frozenset[str]]:
    """Return what a module imports anywhere, and at its top level."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    for nodes in (ast.walk(tree), tree.body):
        names = set()
        for node in nodes:
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        found.append(frozenset(names))
    return found


def reached(start: str, *, top_level_only: bool = True, inside: bool = False) -> set[str]:
    """Return every package that a module of ours brings in, through others of ours; with `inside` those others."""
    ours = {name_of(path): path for path in MODULES}
    waiting, seen, outside = [start], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for imported in imports_of(ours[name], top_level_only=top_level_only):
            parts = imported.split(".")
            inner = [
                ".".join(parts[:n]) for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in ours
            ]
            waiting += inner
            outside |= {parts[0]} - {"pipelines", "kerasemo"}
    return seen if inside else outside


@pytest.mark.parametrize(("package", "order"), [("pipelines", PIPELINES), ("kerasemo", KERASEMO)])
def test_modules_import_only_what_stands_below_them(package, order):
    for path in MODULES:
        name = name_of(path)
        if not name.startswith(f"{package}.") or name == "kerasemo.experiments":
            continue
        own = name.split(".")[1]
        own = "sample" if own.startswith("sample_") else own
        assert own in order, f"{name} has no place in the order of {package}"
        for imported in imports_of(path):
            parts = imported.split(".")
            if parts[0] == package and len(parts) > 1:
                other = "sample" if parts[1].startswith("sample_") else parts[1]
                if other != own and other != "__version__":
                    assert order.index(other) < order.index(own), f"{name} imports {imported}"


def test_pipelines_know_nothing_of_networks():
    for path in MODULES:
        if name_of(path).startswith("pipelines"):
            assert not {
                name for name in imports_of(path) if name.split(".")[0] in ("kerasemo", "keras")
            }, path


@pytest.mark.parametrize(
    ("start", "banned"),
    [
        ("pipelines.workers", {"tensorflow", "keras"}),
        ("pipelines.decode", {"tensorflow", "keras"}),
        ("pipelines.faces", {"tensorflow", "keras"}),
        ("pipelines.watching", {"tensorflow", "keras"}),
        ("pipelines.overlay", {"tensorflow", "keras"}),
        ("kerasemo.page", {"tensorflow", "keras"}),
        ("kerasemo.train", {"cv2", "av"}),
        ("kerasemo.evaluate", {"cv2", "av"}),
        ("kerasemo.reproduce", {"cv2", "av"}),
        ("kerasemo.tune", {"cv2", "av"}),
        ("kerasemo.client", {"keras", "cv2", "av"}),
    ],
)
def test_bans_hold_for_all_that_is_ever_imported(start, banned):
    assert not reached(start, top_level_only=False) & banned


@pytest.mark.parametrize("verb", ["predict", "client", "parity"])
def test_who_asks_an_export_never_reaches_the_network(verb):
    ours = reached(f"kerasemo.{verb}", top_level_only=False, inside=True)
    assert not ours & {
        "kerasemo.model",
        "kerasemo.stages",
        "kerasemo.served",
        "kerasemo.runs",
        "kerasemo.config",
    }
    assert "keras" not in reached(f"kerasemo.{verb}", top_level_only=False)


@pytest.mark.parametrize(
    ("start", "banned"),
    [
        ("kerasemo.export", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.predict", {"tensorflow", "keras", "numpy", "cv2", "av"}),
        ("pipelines", {"tensorflow", "cv2", "av", "keras"}),
        ("pipelines.build", {"tensorflow", "cv2", "av", "numpy"}),
        ("pipelines.watching", {"tensorflow", "keras", "cv2", "av", "numpy", "scipy"}),
        ("kerasemo.train", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.evaluate", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.reproduce", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.tune", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.client", {"tensorflow", "keras", "numpy"}),
    ],
)
def test_bans_hold_before_there_is_work(start, banned):
    assert not reached(start) & banned


@pytest.mark.parametrize("module", ["kerasemo.model", "kerasemo.normalization", "kerasemo.losses"])
def test_network_and_losses_name_no_backend(module):
    path = ROOT / (module.replace(".", "/") + ".py")
    assert not {
        name for name in imports_of(path) if name.split(".")[0] in ("tensorflow", "jax", "torch")
    }
    assert not re.search(r"\btf\.", path.read_text(encoding="utf-8"))


def test_no_module_is_longer_than_300_lines():
    long = {
        name_of(path): count
        for path in MODULES
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 300
    }
    assert not long


def test_ruff_is_content():
    pytest.importorskip("ruff")
    finished = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", ROOT], capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout


def test_weights_are_kept_without_anything_that_executes():
    """No pickle, no HDF5, no Lambda layer, no NumPy file that could hold objects."""
    for path in (ROOT / "kerasemo").rglob("*.py"):
        assert not {name.split(".")[0] for name in imports_of(path)} & {
            "pickle",
            "dill",
            "joblib",
            "h5py",
            "marshal",
            "shelve",
        }, path
        assert not re.search(
            r"\bLambda\(|allow_pickle|\.h5\b|save_weights|load_weights",
            path.read_text(encoding="utf-8"),
        ), path


def test_the_files_that_are_begun_first_are_there():
    from conftest import LONGEST

    assert len(set(LONGEST)) == len(LONGEST) and all(
        (ROOT / "tests" / f"test_{name}.py").is_file() for name in LONGEST
    )
