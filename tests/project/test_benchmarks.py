"""Every benchmark runs, small, and prints its machine, its command and a ratio; what it measures is not a test's business."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.synthetic_sets import write_experiment, write_set

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "log_mel.py": ["--clips", "1", "--seconds", "1"],
    "face_finding.py": ["--clips", "1", "--every", "15"],
    "face_crops.py": ["--clips", "1"],
    "corpus_build.py": ["--clips", "4", "--whole", "0", "--seconds", "0.5"],
    "batches.py": ["--faces", "256"],
    "fit.py": ["--steps", "1", "--only", "joint"],
    "training_step.py": ["--steps", "1"],
    "predict.py": ["--seconds", "0.5", "--clips", "1", "--frames", "2"],
    "serving.py": ["--calls", "1", "--only", "faces"],
    "networks_at_once.py": ["--steps", "1", "--only", "small, batches of 16"],
}
"""Each script with the words that make it small."""
ON_RECORDS = {
    "start.py": ["--stage", "transfer", "--rounds", "1"],
}
"""Scripts that want records and an experiment."""
LONG = (
    *(
        "face_crops.py",
        "fit.py",
        "training_step.py",
        "networks_at_once.py",
        "predict.py",
        "serving.py",
        "start.py",
    ),
)
"""Scripts that trace, train or serve networks, or look for a face in every frame of a film: left to the long run."""
OTHERS = ["build_memory.py", "clips.py", "models.py", "timing.py"]
"""What test_memory.py runs, and what the scripts share."""


def test_every_benchmark_is_known():
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    assert [path.name for path in scripts] == sorted([*SMALL, *ON_RECORDS, *OTHERS])
    assert all(
        path.name in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
        for path in scripts
    )


def marked(scripts):
    return [
        pytest.param(script, marks=[pytest.mark.endurance] if script in LONG else [])
        for script in sorted(scripts)
    ]


@pytest.mark.parametrize("script", marked(SMALL))
def test_benchmark_runs(script):
    words = [sys.executable, str(ROOT / "benchmarks" / script), *SMALL[script], "--rounds", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "KERASEMO_CORPORA"}
    finished = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "processors; Python" in finished.stdout and f"benchmarks/{script}" in finished.stdout
    assert re.search(r" / .+: \d+\.\d\d \(from ", finished.stdout), finished.stdout


@pytest.mark.parametrize("script", marked(ON_RECORDS))
def test_benchmark_runs_on_records(script, tmp_path):
    write_set(tmp_path / "records", "a/audio", speakers=4)
    write_set(tmp_path / "records", "b/audio", speakers=4, seed=1)
    small = {"batch": 8, "epochs": 1}
    stages = {
        "transfer": {"kind": "supervised", "sources": ["a/audio"], **small},
        "contrastive": {
            "kind": "contrastive",
            "sources": ["a/audio", "b/audio"],
            "start_from": "transfer",
            **small,
        },
        "joint": {
            "kind": "joint",
            "sources": ["a/audio", "b/audio"],
            "start_from": "transfer",
            **small,
        },
    }
    experiment = write_experiment(tmp_path / "toy.toml", **stages)
    words = ["--records", tmp_path / "records", "--experiment", experiment, *ON_RECORDS[script]]
    command = [sys.executable, ROOT / "benchmarks" / script, *words]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert re.search(r"start to first step: \d+\.\d s", finished.stdout), finished.stdout
