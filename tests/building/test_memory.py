"""The memory of a build, its workers included, is bounded; benchmarks/build_memory.py measures it."""

import re
import subprocess
import sys

import pytest

from helpers import media

pytest.importorskip("psutil", reason="psutil looks at the memory")


def peaks_gib(*words) -> list[float]:
    words = [sys.executable, "benchmarks/build_memory.py", *map(str, words)]
    process = subprocess.run(words, cwd=media.ROOT, capture_output=True, text=True, timeout=1800)
    assert process.returncode == 0, process.stderr[-3000:]
    return [float(peak) for peak in re.findall(r"peak (\d+\.\d\d) GiB", process.stdout)]


def test_a_long_video_and_many_clips():
    """Six minutes and 40 clips already fill every buffer that there is."""
    video, with_waveform, *corpora = peaks_gib("--hours", 0.1, "--clips", 40)
    assert max(video, with_waveform) <= 1.5 and len(corpora) == 1 and max(corpora) <= 2


@pytest.mark.endurance
def test_two_hours_and_thousands_of_clips():
    video, with_waveform, *corpora = peaks_gib("--hours", 2, "--clips", 1000, 8000)
    assert max(video, with_waveform) <= 1.5 and len(corpora) == 2 and max(corpora) <= 2
