"""Every benchmark runs, small, and prints its machine, its command and a ratio; what it measures is not a test's business."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"input_pipeline.py": ["--faces", "256", "--clips", "1", "--rounds", "1"]}


def test_every_benchmark_is_short_and_known():
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    assert [path.name for path in scripts] == sorted(SMALL)
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 150 for path in scripts)
    assert all(path.name in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8") for path in scripts)


@pytest.mark.parametrize("script", sorted(SMALL))
def test_benchmark_runs(script):
    words = [sys.executable, str(ROOT / "benchmarks" / script), *SMALL[script]]
    finished = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "tensorflow" in finished.stdout and f"benchmarks/{script}" in finished.stdout
    assert len(re.findall(r" / .+: \d+\.\d\d \(from ", finished.stdout)) == 2
