"""What was found in a corpus, as JSON and as lines; and the progress of long work."""

import os
import pty
import subprocess
import sys
import types
from pathlib import Path

import pytest

from helpers.manifests import manifest, row
from helpers.messages import mentions
from pipelines.building.findings import set_report, set_table
from pipelines.core import progress
from pipelines.corpora.clip import Defect, Reject

ROOT = Path(__file__).resolve().parents[2]


def test_counts_seconds_and_reasons():
    """Ten times 0.1 s are 1 s, not 0.9999999999999999."""
    rows = [
        row(f"{n}", speaker=("s:2", "s:1", "")[n % 3], emotion=("fear", "anger")[n % 2])
        for n in range(10)
    ]
    bad = [{"path": "y", "reason": "broken", "sha256": "h"}]
    lost = Defect("lost folder", "folder missing")
    report = set_report(
        manifest(*rows, quarantined=bad), rejects=[Reject("x", "audio", "odd name")], defects=[lost]
    )
    assert report == {
        "found": 12,
        "written": 10,
        "seconds": 1.0,
        "speakers": {"s:1": 3, "s:2": 4, "unknown": 3},
        "emotions": {"anger": 5, "fear": 5},
        "quarantined": [{"path": "x", "reason": "odd name"}, {"path": "y", "reason": "broken"}],
        "findings": [
            {
                "kind": "lost folder",
                "grade": "defect",
                "text": "folder missing",
                "clips": [],
            },
            {
                "kind": "quarantined",
                "grade": "fact",
                "text": "quarantined: 2 of 12 files",
                "clips": ["x", "y"],
            },
        ],
        "notes": ["folder missing"],
    }
    assert set_table("a/audio", report).splitlines() == [
        "a/audio: 10 of 12 clips written, 1.00 s, 2 speakers",
        "  anger 5, fear 5",
        "  note: folder missing",
    ]


def test_notes_are_the_findings_with_a_few_of_their_clips():
    rows = [row(f"{n}", padded=n > 0, sha256=f"{n // 2}") for n in range(9)]
    report = set_report(
        manifest(*rows, source="a/visual"),
        other_manifests={"a/audio": manifest(*rows, source="a/audio")},
    )
    copies, padded = report["notes"]
    assert mentions(copies, "8 files", "4 groups", "0 = 1, 2 = 3, 4 = 5 and 1 more")
    assert mentions(padded, "8 clips", "1, 2, 3, 4, 5 and 3 more")
    assert [finding["kind"] for finding in report["findings"]] == [
        "byte copies",
        "padded clips",
        "utterances in both domains",
    ]
    assert set_table("a/visual", report).splitlines()[2:] == [
        f"  note: {note}" for note in report["notes"]
    ]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is told to go."""
    time = types.SimpleNamespace(now=100.0, monotonic=lambda: time.now)
    monkeypatch.setattr(progress, "time", time)
    return time


def test_progress_without_a_terminal_is_a_line_now_and_then_with_rate_and_end(clock, capsys):
    with progress.progress_bar("emodb", unit="files") as bar:
        bar.start(40)
        for _ in range(40):
            clock.now += 1
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"emodb: {n}/40 files, 1.0 files/s, {40 - n} s left" for n in (16, 32, 40)]


def test_short_work_shows_no_progress(clock, capsys):
    with progress.progress_bar("emodb", unit="files") as bar:
        bar.start(0)
        bar.start(3)
        for _ in range(3):
            bar.advance()
    assert capsys.readouterr() == ("", "")


def test_steps_are_counted_in_blocks_and_what_is_noted_stands_between_rate_and_end(clock, capsys):
    with progress.progress_bar("joint", unit="images") as bar:
        bar.start(640)
        for step in range(5):
            clock.now += 8
            bar.advance(f"epoch {step + 1}/5", 128)
    lines = [
        f"joint: {n}/640 images, 16.0 images/s, epoch {n // 128}/5, {(640 - n) / 16:.0f} s left"
        for n in (256, 512, 640)
    ]
    assert capsys.readouterr().err.splitlines() == lines


def test_a_long_note_takes_nothing_from_the_bar_of_a_terminal():
    """80 columns, of which the note alone needs more."""
    code = (
        "from pipelines.core import progress\n"
        "with progress.progress_bar('joint', unit='images') as bar:\n"
        "    bar.start(64)\n    bar.advance('epoch 1/2, step 3/4, ' + 'contrastive 0.25, ' * 5, 32)\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-c", code],
        stderr=theirs,
        check=True,
        env=environment,
        cwd=ROOT,
        timeout=60,
    )
    os.close(theirs)
    bar_text = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert (
        "joint" in bar_text
        and "32/64" in bar_text
        and "images/s" in bar_text
        and "-:--:--" in bar_text
        and "…" not in bar_text
    )
    assert "epoch 1/2, step 3/4" in bar_text and bar_text.count("contrastive 0.25") >= 4


def test_progress_on_a_terminal_is_taken_away_when_the_work_fails(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with (
        pytest.raises(ValueError, match="work"),
        progress.progress_bar("emodb", unit="files") as bar,
    ):
        bar.start(3)
        bar.advance("loss 0.5")
        assert bar._rich.finished is False
        raise ValueError("work")
    assert bar._rich is None
