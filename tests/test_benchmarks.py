"""Every benchmark runs, small, and prints its machine, its command and a ratio; what it measures is not a test's business."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_sets import write_experiment, write_set

from kerasemo import data, metrics
from pipelines import records

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "log_mel.py": ["--clips", "1", "--seconds", "1"],
    "face_finding.py": ["--clips", "1", "--every", "15"],
    "face_crops.py": ["--clips", "1"],
    "corpus_build.py": ["--clips", "4", "--whole", "0", "--seconds", "0.5"],
    "batches.py": ["--faces", "256"],
    "fit.py": ["--steps", "1", "--only", "joint"],
    "training_step.py": ["--steps", "1"],
    "network_front.py": ["--updates", "1", "--only", "half the widths"],
    "predict.py": ["--seconds", "0.5", "--clips", "1", "--frames", "2"],
    "serving.py": ["--calls", "1", "--only", "faces"],
    "networks_at_once.py": ["--steps", "1", "--only", "small, batches of 16"],
}
"""Each script with the words that make it small."""
ON_RECORDS = {
    "joint_options.py": ["--epochs", "1", "--only", "contrastive"],
    "start.py": ["--stage", "transfer", "--rounds", "1"],
}
"""Scripts that want records and an experiment."""
LONG = (
    *("face_crops.py", "fit.py", "training_step.py", "network_front.py", "networks_at_once.py", "predict.py", "serving.py"),
    *("joint_options.py", "start.py"),
)
"""Scripts that trace, train or serve networks, or look for a face in every frame of a film: left to the long run."""
ON_FUNCTIONALS = "opensmile_svm.py"
"""The script that wants what openSMILE makes of the sound of records."""
MANY_NETWORKS = [f"many_{name}.py" for name in ("arrays", "batches", "network", "scores", "sounds", "steps", "training")]
"""What test_many_networks.py runs."""
OTHERS = ["averaged_weights.py", "build_memory.py", "clips.py", "models.py", "timing.py"]
"""What test_averaged_weights.py and test_memory.py run, and what the scripts share."""


def test_every_benchmark_is_short_and_known():
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    assert [path.name for path in scripts] == sorted([*SMALL, *ON_RECORDS, ON_FUNCTIONALS, *MANY_NETWORKS, *OTHERS])
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 150 for path in scripts)
    assert all(path.name in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8") for path in scripts)


def marked(scripts):
    return [pytest.param(script, marks=[pytest.mark.endurance] if script in LONG else []) for script in sorted(scripts)]


@pytest.mark.parametrize("script", marked(SMALL))
def test_benchmark_runs(script):
    words = [sys.executable, str(ROOT / "benchmarks" / script), *SMALL[script], "--rounds", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "KERASEMO_CORPORA"}
    finished = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
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
        "contrastive": {"kind": "contrastive", "sources": ["a/audio", "b/audio"], "start_from": "transfer", **small},
        "joint": {"kind": "joint", "sources": ["a/audio", "b/audio"], "start_from": "transfer", **small},
    }
    experiment = write_experiment(tmp_path / "toy.toml", **stages)
    words = ["--records", tmp_path / "records", "--experiment", experiment, *ON_RECORDS[script]]
    words += ["--out", tmp_path / "out"] if script == "joint_options.py" else []
    command = [sys.executable, ROOT / "benchmarks" / script, *words]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-2000:]
    expected = r"start to first step: \d+\.\d s" if script == "start.py" else r"\| contrastive stage \| \d\.\d{3} \|"
    assert re.search(expected, finished.stdout), finished.stdout


@pytest.fixture(scope="module")
def functionals_set(tmp_path_factory):
    """A set of four speakers without its sound, and what was kept of it: functionals that say the emotion, and the speaker louder."""
    folder = tmp_path_factory.mktemp("functionals")
    rows = records.read_manifest(write_set(folder / "records", "a/audio", speakers=4))["clips"]
    random, classes = np.random.default_rng(0), sorted({row["emotion"] for row in rows})
    speakers = [int(row["speaker"].removeprefix("a:")) for row in rows]
    features = random.normal(size=(len(rows), 6))
    features[:, :3] += 5 * np.eye(3)[[classes.index(row["emotion"]) for row in rows]] + 100 * np.array(speakers)[:, None]
    name = f"a-audio-{data.manifest_hash(folder / 'records' / 'a' / 'audio')[:12]}.npy"
    (folder / "kept").mkdir()
    np.save(folder / "kept" / name, features.astype(np.float32))
    return folder


def score_functionals(folder, *words, out="kept"):
    words = ["--records", folder / "records", "--out", folder / out, "--tables", "a/audio:speaker-independent", *words]
    return subprocess.run([sys.executable, ROOT / "benchmarks" / ON_FUNCTIONALS, *words], capture_output=True, text=True, timeout=300)


def test_functionals_are_scored_over_the_clips_of_all_folds(functionals_set):
    """Speaker by speaker the emotion is plain. The CSV says again what the JSON says of it."""
    finished = score_functionals(functionals_set, "--json")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "processors; Python" in finished.stderr
    usual, own = json.loads(finished.stdout)
    assert (usual["folds"], usual["clips"], usual["normalization"], own["normalization"]) == (4, 24, "none", "speaker")
    assert usual["UA"]["value"] < own["UA"]["value"] > 0.9 and own["UA"]["interval"] == "t over 4 speakers"
    for table in (usual, own):
        with open(functionals_set / "kept" / f"a-audio-speaker-independent-{table['normalization']}.csv", encoding="utf-8") as file:
            answered = list(csv.DictReader(file))
        classes = sorted({row["emotion"] for row in answered})
        labels, answers = ([classes.index(row[name]) for row in answered] for name in ("emotion", "answer"))
        assert table["UA"]["value"] == pytest.approx(metrics.unweighted_accuracy(labels, answers, n_classes=3))
        assert {(row["speaker"], row["fold"]) for row in answered} == {(f"a:{fold + 1}", str(fold)) for fold in range(4)}


def test_functionals_print_a_table_and_say_what_is_missing(functionals_set):
    finished = score_functionals(functionals_set, "--refit")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "processors; Python" in finished.stdout and f"benchmarks/{ON_FUNCTIONALS}" in finished.stdout
    assert re.search(r"\| a/audio \| speaker-independent \| 4 \| 24 \| each speaker's own: transductive \| 1?\d\d\.\d \(", finished.stdout)
    finished = score_functionals(functionals_set, out="nothing-kept")
    assert finished.returncode == 1 and "needs a set that was built with --waveform" in finished.stderr


TONES = """
import numpy as np, opensmile, opensmile_svm
seconds = np.arange(16_000) / 16_000
low, high = (
    opensmile_svm.functionals((5_000 * sum(np.sin(2 * np.pi * hz * k * seconds) / k for k in range(1, 8))).astype(np.int16))
    for hz in (120, 240)
)
place = opensmile.Smile(feature_set="ComParE_2016", feature_level="func").feature_names.index("F0final_sma_amean")
print(low.shape, low.dtype, np.isfinite(low).all(), round(float(high[place] / low[place]), 1))
"""


def test_functionals_are_those_of_compare_2016():
    """An octave higher the mean fundamental frequency is twice as high. (openSMILE crashes in a process that has TensorFlow.)"""
    pytest.importorskip("opensmile")
    finished = subprocess.run([sys.executable, "-c", TONES], cwd=ROOT / "benchmarks", capture_output=True, text=True, timeout=100)
    assert finished.stdout.strip() == "(6373,) float32 True 2.0", finished.stderr[-2000:]
