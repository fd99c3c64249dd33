"""The rules of the design that a walk over the code can check."""

import ast
import functools
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.longest import LONGEST

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted([*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "kerasemo").rglob("*.py")])
HEAVY = {"tensorflow", "keras", "numpy", "pydantic", "cv2", "av", "scipy"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


PACKAGES = [name_of(path) for path in MODULES if path.name == "__init__.py"]
EXPORTING = [
    name
    for name in PACKAGES
    if "lazy_exports" in (ROOT / name.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")
]
"""Packages that re-export names of their modules."""


@functools.cache
def top_level_imports(path: Path) -> frozenset[str]:
    """Return the dotted names that a module imports when it is imported; `from a import b` gives `a.b`."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported_packages(start: str) -> set[str]:
    """Return every foreign package that the import of a module of ours brings in."""
    paths = {name_of(path): path for path in MODULES}
    waiting, packages, foreign = [start], set(), set()
    while waiting:
        name = waiting.pop()
        if name in packages:
            continue
        packages.add(name)
        for imported in top_level_imports(paths[name]):
            parts = imported.split(".")
            prefixes = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
            waiting += [prefix for prefix in prefixes if prefix in paths]
            foreign.add(parts[0])
    return foreign - {"pipelines", "kerasemo"}


def test_import_contracts_hold():
    """Layers, and what a package never imports, as setup.cfg declares."""
    pytest.importorskip("importlinter")
    words = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    finished = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-1000:]
    assert "0 broken" in finished.stdout


@pytest.mark.parametrize(
    ("start", "banned"),
    [
        ("kerasemo.export", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.predict", {"tensorflow", "keras", "numpy", "cv2", "av"}),
        ("pipelines.build", {"tensorflow", "cv2", "av", "numpy"}),
        ("pipelines.workers.stream_task", {"tensorflow", "keras", "cv2", "av", "numpy", "scipy"}),
        ("kerasemo.train", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.evaluate", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.reproduce", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.tune", {"tensorflow", "keras", "numpy"}),
        ("kerasemo.client", {"tensorflow", "keras", "numpy"}),
        *((package, HEAVY) for package in PACKAGES),
    ],
)
def test_heavy_imports_wait_until_there_is_work(start, banned):
    assert not imported_packages(start) & banned


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_what_it_is(package):
    docstring = importlib.import_module(package).__doc__
    assert docstring and len(docstring.split()) > 8


@pytest.mark.parametrize("package", EXPORTING)
def test_lazy_exports_agree_with_what_type_checkers_read(package):
    path = ROOT / package.replace(".", "/") / "__init__.py"
    (block,) = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for_checkers = {
        alias.name: node.module.removeprefix(f"{package}.")
        for node in block.body
        for alias in node.names
    }
    module = importlib.import_module(package)
    assert for_checkers == module._MODULE_OF and set(for_checkers) == set(module.__all__)
    assert len(module.__all__) == len(for_checkers)
    submodules = {name_of(path).rpartition(".")[2] for path in path.parent.glob("*.py")}
    assert not submodules & set(for_checkers), "a name of a module would hide the exported one"


@pytest.mark.parametrize("package", EXPORTING)
def test_every_exported_name_exists(package):
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "kerasemo/networks").glob("*.py"), *(ROOT / "kerasemo/losses").glob("*.py")]),
)
def test_network_and_losses_name_no_backend(path):
    if path.name == "inference.py":  # batches of a trained network, in a tf.function
        return
    backends = {name.split(".")[0] for name in top_level_imports(path)}
    assert not backends & {"tensorflow", "jax", "torch"}
    assert not re.search(r"\btf\.", path.read_text(encoding="utf-8"))


def test_ruff_is_content():
    pytest.importorskip("ruff")
    for words in (("check", "--no-cache"), ("format", "--check", "--no-cache")):
        command = [sys.executable, "-m", "ruff", *words, str(ROOT)]
        finished = subprocess.run(command, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout[-3000:]


def test_mypy_accepts_the_core():
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--no-incremental"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout[-3000:]


def public_definitions(kind: type) -> dict[str, list[str]]:
    """Return the modules that define each public class or function at their top level."""
    modules_of: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                modules_of.setdefault(node.name, []).append(name_of(path))
    return modules_of


def test_each_public_class_has_a_name_of_its_own():
    repeated = {
        name: names for name, names in public_definitions(ast.ClassDef).items() if names[1:]
    }
    assert not repeated


def test_each_exported_name_comes_from_one_package():
    packages_of: dict[str, list[str]] = {}
    for package in EXPORTING:
        for name in importlib.import_module(package).__all__:
            packages_of.setdefault(name, []).append(package)
    assert not {name: packages for name, packages in packages_of.items() if packages[1:]}


def test_weights_are_kept_without_anything_that_executes():
    """No pickle, no HDF5, no Lambda layer, no NumPy file that could hold objects."""
    executing = {"pickle", "dill", "joblib", "h5py", "marshal", "shelve"}
    for path in (ROOT / "kerasemo").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        imported = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in [getattr(node, "module", None) or node.names[0].name]
        }
        assert not imported & executing, path
        assert not re.search(r"\bLambda\(|allow_pickle|\.h5\b|save_weights|load_weights", text), (
            path
        )


def test_the_files_that_are_begun_first_exist():
    assert len(set(LONGEST)) == len(LONGEST)
    assert all((ROOT / "tests" / name).is_file() for name in LONGEST)
