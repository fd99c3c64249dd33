"""A build that is killed at any moment is finished by the next call, to the same bytes as one that was let be."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from helpers import media
from helpers.builds import content, emodb

PROGRAM = """
import os, signal, sys
from pipelines import build
from pipelines.building import builder
builder.CLIPS_PER_SHARD = 4
renames, rename = int(sys.argv[1]), os.replace
def replace(one, other):
    global renames
    if str(one).startswith(sys.argv[2]):
        renames -= 1
        if renames == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    rename(one, other)
os.replace = replace
sys.exit(build.main(["--corpus", "folder", "--media", sys.argv[3], "--out", sys.argv[2], "--workers", sys.argv[4]]))
"""
"""A build in shards of 4 clips that kills itself before the n-th renaming below its output; 0: never."""

RENAMES = 26
"""Ten shards and their lists, two manifests, two reports, two sets: at least so many renamings a build has."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Twenty-four sounds, six films with sound, and a file that is quarantined."""
    folder = emodb(tmp_path_factory.mktemp("interrupted") / "anger", 24)
    for number in range(6):
        sound = media.noise(0.5, 44_100, seed=number)
        media.write_video(folder / f"film{number}.mp4", media.film(6 + number), sound=sound)
    (folder / "text.wav").write_text("no sound")
    return folder.parent


def start(corpus, out, *, renames=0, workers=2):
    words = [sys.executable, "-c", PROGRAM, renames, out, corpus, workers]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.Popen(
        [*map(str, words)],
        cwd=media.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )


def finish(process):
    _, stderr = process.communicate(timeout=120)
    assert process.returncode in (0, -signal.SIGKILL), stderr.decode()[-3000:]
    return process.returncode


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """What an uninterrupted build with one worker makes, and in how many seconds once it has begun to write."""
    out = tmp_path_factory.mktemp("whole") / "out"
    process = start(corpus, out, workers=1)
    while not out.exists() and process.poll() is None:
        time.sleep(0.02)
    began = time.monotonic()
    assert finish(process) == 0
    return content(out), time.monotonic() - began


def check(corpus, out, whole):
    """One more call, uninterrupted, makes the set whole; a call after that makes nothing."""
    assert finish(start(corpus, out)) == 0
    assert content(out) == whole
    assert sorted(path.name for path in (out / "folder").iterdir()) == sorted(
        {name.split("/")[1] for name in whole}
    )


def kill_at_a_moment(corpus, out, whole, seed):
    draw = random.Random(seed)
    for _ in range(2):
        process = start(corpus, out, workers=draw.choice((1, 2)))
        while not out.exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, whole[1]))
        process.kill()
        finish(process)
    check(corpus, out, whole[0])


def kill_at_a_rename(corpus, out, whole, seed):
    assert (
        finish(start(corpus, out, renames=random.Random(seed).randint(1, RENAMES)))
        == -signal.SIGKILL
    )
    check(corpus, out, whole[0])


@pytest.mark.endurance
def test_killed_at_a_moment(corpus, whole, tmp_path):
    kill_at_a_moment(corpus, tmp_path / "out", whole, seed=0)


def test_killed_before_a_renaming(corpus, whole, tmp_path):
    kill_at_a_rename(corpus, tmp_path / "out", whole, seed=0)


@pytest.mark.endurance
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("kill", [kill_at_a_moment, kill_at_a_rename])
def test_killed_at_many_moments(corpus, whole, tmp_path, kill, seed):
    kill(corpus, tmp_path / "out", whole, seed)
