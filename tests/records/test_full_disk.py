"""What the system refuses while a set is written is told in one line; what was finished stays, and the next call goes on."""

import os
import subprocess
import sys

from helpers import media
from helpers.builds import EMODB_NAMES, build_json, content, emodb
from pipelines.building import builder

PROGRAM = """
import resource, sys
from pipelines import build
from pipelines.building import builder
builder.CLIPS_PER_SHARD = 8
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(build.main(sys.argv[2:]))
"""
"""A build whose files cannot grow beyond so many bytes, as on a disk that is full."""


def build_within(most_bytes, folder, out):
    words = [
        sys.executable,
        "-c",
        PROGRAM,
        most_bytes,
        "--corpus",
        "emodb",
        "--media",
        folder,
        "--out",
        out,
        "--workers",
        1,
    ]
    environment = {
        name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    return subprocess.run(
        [*map(str, words)],
        cwd=media.ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )


def test_a_disk_that_fills_up(capsys, tmp_path, monkeypatch):
    """The second of three shards does not fit any more."""
    folder, out = emodb(tmp_path / "media", 24), tmp_path / "out"
    for seed, name in enumerate(sorted(EMODB_NAMES[:24])[8:16]):
        media.write_sound(folder / "wav" / name, media.noise(1.5, 16_000, seed=seed))
    before = content(folder)
    process = build_within(150_000, folder, out)
    assert process.returncode == 1, process.stderr
    (line,) = [
        line for line in process.stderr.splitlines() if not line.startswith("emodb: ")
    ]  # progress
    assert (
        line.startswith(
            f"python -m pipelines.build: error: {out}/emodb/.audio.building/unfinished: "
        )
        and "File too large" in line
    )
    assert not (out / "emodb/audio").exists() and content(folder) == before
    first = content(out / "emodb/.audio.building")
    assert {"00000.tfrecord", "00000.json"} <= first.keys()
    monkeypatch.setattr(builder, "CLIPS_PER_SHARD", 8)
    words = ("--corpus", "emodb", "--media", folder, "--workers", 1, "--out")
    status, _, err = build_json(capsys, *words, out)
    assert status == 0 and f"{out}/emodb/audio: reusing 8 of 24 clips\n" in err
    assert content(out / "emodb/audio")["00000.tfrecord"] == first["00000.tfrecord"]
    assert build_json(capsys, *words, tmp_path / "whole")[0] == 0
    assert content(out) == content(tmp_path / "whole")
