"""The baseline for voices: openSMILE functionals and a linear SVM (research/opensmile_svm.py)."""

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
    """Return a folder with a set of four speakers and stored functionals of its clips.

    The functionals tell the emotion, but a large offset for each speaker hides it.
    """
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
    """Run the script on the set of a folder and return the finished process."""
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
    """Standardised by speaker, the functionals tell the emotion. The CSV gives the UA of the JSON."""
    finished = score_functionals(functionals_set, "--json")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "processors; Python" in finished.stderr
    plain, by_speaker = json.loads(finished.stdout)
    assert (plain["folds"], plain["clips"]) == (4, 24)
    assert (plain["normalization"], by_speaker["normalization"]) == ("none", "speaker")
    assert by_speaker["UA"]["value"] > max(0.9, plain["UA"]["value"])
    assert by_speaker["UA"]["interval"] == "t over 4 speakers"
    for table in (plain, by_speaker):
        with open(
            functionals_set / "kept" / f"a-audio-speaker-independent-{table['normalization']}.csv",
            encoding="utf-8",
        ) as file:
            rows = list(csv.DictReader(file))
        classes = sorted({row["emotion"] for row in rows})
        labels, predictions = (
            [classes.index(row[name]) for row in rows] for name in ("emotion", "answer")
        )
        assert table["UA"]["value"] == pytest.approx(
            classification.unweighted_average_recall(labels, predictions, n_classes=3)
        )
        assert {(row["speaker"], row["fold"]) for row in rows} == {
            (f"a:{fold + 1}", str(fold)) for fold in range(4)
        }


def test_a_table_is_printed_and_missing_sound_is_reported(functionals_set):
    finished = score_functionals(functionals_set, "--refit")
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "processors; Python" in finished.stdout and "research.opensmile_svm" in finished.stdout
    assert re.search(
        r"\| a/audio \| speaker-independent \| 4 \| 24 \| each speaker's own: transductive \| 1?\d\d\.\d \(",
        finished.stdout,
    )
    finished = score_functionals(functionals_set, out="nothing-kept")
    assert finished.returncode == 1 and "--waveform" in finished.stderr


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
    """One octave doubles the mean fundamental frequency.

    A new process, because openSMILE crashes in a process that has imported TensorFlow.
    """
    pytest.importorskip("opensmile")
    finished = subprocess.run(
        [sys.executable, "-c", TONES], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert finished.stdout.strip() == "(6373,) float32 True 2.0", finished.stderr[-2000:]
