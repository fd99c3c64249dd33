"""What was found in a corpus, as JSON and as lines; and the progress of long work."""

import sys
import types

import pytest

from pipelines import progress
from pipelines.corpora.clip import Reject
from pipelines.report import set_report, set_table


def row(id, *, speaker="s:1", emotion="anger", **more):
    return {"id": id, "speaker": speaker, "emotion": emotion, "utterance": id, "sha256": id, "seconds": 0.1, "items": 1, **more}


def manifest(*rows, quarantined=()):
    return {"clips": list(rows), "quarantined": list(quarantined)}


def test_counts_seconds_and_reasons():
    """Ten times 0.1 s are 1 s, not 0.9999999999999999."""
    rows = [row(f"{n}", speaker=("s:2", "s:1", "")[n % 3], emotion=("fear", "anger")[n % 2]) for n in range(10)]
    bad = [{"path": "y", "reason": "broken", "sha256": "h"}]
    report = set_report(manifest(*rows, quarantined=bad), rejects=[Reject("x", "audio", "odd name")], defects=["one folder is missing"])
    assert report == {
        "found": 12,
        "written": 10,
        "seconds": 1.0,
        "speakers": {"s:1": 3, "s:2": 4, "unknown": 3},
        "emotions": {"anger": 5, "fear": 5},
        "quarantined": [{"path": "x", "reason": "odd name"}, {"path": "y", "reason": "broken"}],
        "notes": ["one folder is missing"],
    }
    assert set_table("a/audio", report).splitlines() == [
        "a/audio: 10 of 12 clips written, 1.00 s, 2 speakers",
        "  anger 5, fear 5",
        "  note: one folder is missing",
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(f"{n}", padded=n > 0) for n in range(9)], "8 clips are shorter than one segment .*: 1, 2, 3, 4, 5 and 3 more"),
        ([row("a", looked_at=2), row("b", looked_at=1)], "1 clips have fewer faces than frames looked at: a"),
        ([row("a"), row("b", utterance="a"), row("c", utterance="a")], "2 clips are another file of an utterance"),
        ([row(f"{n}", sha256=f"{n // 2}") for n in range(5)], "4 files in 2 groups are byte-identical"),
    ],
)
def test_notes(rows, said):
    (note,) = set_report(manifest(*rows))["notes"]
    with pytest.raises(ValueError, match=said):
        raise ValueError(note)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is told to go."""
    time = types.SimpleNamespace(now=100.0, monotonic=lambda: time.now)
    monkeypatch.setattr(progress, "time", time)
    return time


def test_progress_without_a_terminal_is_a_line_now_and_then_with_rate_and_end(clock, capsys):
    with progress.bar("emodb", unit="files") as bar:
        bar.start(40)
        for _ in range(40):
            clock.now += 1
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"emodb: {n}/40 files, 1.0 files/s, {40 - n} s left" for n in (16, 32, 40)]


def test_short_work_shows_no_progress(clock, capsys):
    with progress.bar("emodb", unit="files") as bar:
        bar.start(0)
        bar.start(3)
        for _ in range(3):
            bar.advance()
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_taken_away_when_the_work_fails(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.raises(ValueError, match="work"), progress.bar("emodb", unit="files") as bar:
        bar.start(3)
        bar.advance("loss 0.5")
        assert bar._rich.finished is False
        raise ValueError("work")
    assert bar._rich is None
