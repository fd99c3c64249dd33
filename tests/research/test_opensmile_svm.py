"""openSMILE's functionals and a linear SVM, the baseline for voices, as research/opensmile_svm.py scores them."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers.synthetic_sets import write_set
from kerasemo.datasets import sources
from kerasemo.metrics import classification
from pipelines.records import reader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def functionals_set(tmp_path_factory):
    """A set of four speakers without its sound, and what was kept of it: functionals that say the emotion, and the speaker louder."""
    folder = tmp_path_factory.mktemp("functionals")
    rows = reader.read_manifest(write_set(folder / "records", "a/audio", speakers=4))["clips"]
    random, classes = np.random.default_rng(0), sorted({row["emotion"] for row in rows})
    speakers = [int(row["speaker"].removeprefix("a:")) for row in rows]
    features = random.normal(size=(len(rows), 6))
    features[:, :3] += (
        5 * np.eye(3)[[classes.index(row["emotion"]) for row in rows]]
        + 100 * np.array(speakers)[:, None]
    )
    name = f"a-audio-{sources.manifest_hash(folder / 'records' / 'a' / 'audio')[:12]}.npy"
    (folder / "kept").mkdir()
    np.save(folder / "kept" / name, features.astype(np.float32))
    return folder


def score_functionals(folder, *words, out="kept"):
    words = [
        "--records",
        folder / "records",
        "--out",
        folder / out,
        "--tables",
        "a/audio:speaker-independent",
        *words,
    ]
    return subprocess.run(
        [sys.executable, "-m", "research.opensmile_svm", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_functionals_are_scored_over_the_clips_of_all_folds(functionals_set):
    """Speaker by speaker the emotion is plain. The CSV says again what the JSON says of it."""
    finished = score_functionals(functionals_set, "--json")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "processors; Python" in finished.stderr
    usual, own = json.loads(finished.stdout)
    assert (usual["folds"], usual["clips"], usual["normalization"], own["normalization"]) == (
        4,
        24,
        "none",
        "speaker",
    )
    assert (
        usual["UA"]["value"] < own["UA"]["value"] > 0.9
        and own["UA"]["interval"] == "t over 4 speakers"
    )
    for table in (usual, own):
        with open(
            functionals_set / "kept" / f"a-audio-speaker-independent-{table['normalization']}.csv",
            encoding="utf-8",
        ) as file:
            answered = list(csv.DictReader(file))
        classes = sorted({row["emotion"] for row in answered})
        labels, answers = (
            [classes.index(row[name]) for row in answered] for name in ("emotion", "answer")
        )
        assert table["UA"]["value"] == pytest.approx(
            classification.unweighted_accuracy(labels, answers, n_classes=3)
        )
        assert {(row["speaker"], row["fold"]) for row in answered} == {
            (f"a:{fold + 1}", str(fold)) for fold in range(4)
        }


def test_functionals_print_a_table_and_say_what_is_missing(functionals_set):
    finished = score_functionals(functionals_set, "--refit")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "processors; Python" in finished.stdout and "research.opensmile_svm" in finished.stdout
    assert re.search(
        r"\| a/audio \| speaker-independent \| 4 \| 24 \| each speaker's own: transductive \| 1?\d\d\.\d \(",
        finished.stdout,
    )
    finished = score_functionals(functionals_set, out="nothing-kept")
    assert (
        finished.returncode == 1 and "needs a set that was built with --waveform" in finished.stderr
    )


TONES = """
import numpy as np, opensmile
from research import opensmile_svm
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
    finished = subprocess.run(
        [sys.executable, "-c", TONES], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert finished.stdout.strip() == "(6373,) float32 True 2.0", finished.stderr[-2000:]
