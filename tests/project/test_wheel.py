"""The installed wheel: what it carries, and that it works from another folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a clean copy of the sources, built with the environment's own setuptools."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for package in ("kerasemo", "pipelines", "tests", "benchmarks", "research", "saved_models"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                (source / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
                (source / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    words = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(source),
    ]
    finished = subprocess.run(words, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_the_two_packages_the_experiments_and_the_presets_alone(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"kerasemo", "pipelines"}
    presets = ROOT / "kerasemo" / "presets"
    shipped = {
        path.relative_to(ROOT).as_posix()
        for path in presets.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert "kerasemo/presets/emodb-speech/1/saved_model.pb" in shipped
    assert {name for name in names if not name.endswith(".py")} == shipped | {
        f"kerasemo/config/experiments/{name}.toml"
        for name in (
            "emodb",
            "emodb-transfer",
            "fer2013",
            "open",
            "paper",
            "ravdess",
            "sample",
        )
    }
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in ("kerasemo", "pipelines")
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name for name in names if name.endswith(".py")} == ours


def test_the_installed_wheel_works_from_another_folder(wheel, tmp_path):
    """Installed beside the environment's packages, found before any checkout, and run where there is nothing else."""
    site = tmp_path / "site"
    words = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    finished = subprocess.run(words, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
    } | {"PYTHONPATH": str(site)}

    def run(*words):
        return subprocess.run(
            [*map(str, words)],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    where = run(
        sys.executable,
        "-c",
        "import kerasemo, pipelines; print(kerasemo.__file__); print(pipelines.__file__)",
    ).stdout.split()
    assert all(Path(path).is_relative_to(site) for path in where) and len(where) == 2
    written = run(
        *(sys.executable, "-c"),
        "from pathlib import Path; from pipelines.sample import plan_utterances, write_samples; "
        "write_samples(Path('media'), workers=1, utterances=[u for u in plan_utterances() if u.corpus == 'emodb'][:12])",
    )
    assert written.returncode == 0, written.stderr
    built = run(
        sys.executable,
        site / "bin" / "kerasemo",
        "build",
        "--corpus",
        "emodb",
        "--media",
        "media/emodb",
        "--out",
        "records",
    )
    assert built.returncode == 0, built.stderr
    assert "emodb/audio: 12 of 12 clips written" in built.stdout
    verified = run(sys.executable, "-m", "pipelines.build", "--verify", "records")
    assert (verified.returncode, verified.stderr) == (0, "")
    unknown = run(sys.executable, "-m", "kerasemo.train", "--stage", "none")
    assert "it has pretrain, finetune, transfer, transfer-2" in unknown.stderr
