"""A corpus -> sets: what is in them, that they are reproducible, and that nothing is done twice."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers import media
from helpers.builds import EMODB_NAMES, build_json, content, emodb
from helpers.messages import mentions
from pipelines.building import builder
from pipelines.core.spec import Spec
from pipelines.faces import crops
from pipelines.features import log_mel
from pipelines.media import images
from pipelines.media.audio import read_waveform
from pipelines.records import reader


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Class folders: a video with sound, a sound, a still."""
    folder = tmp_path_factory.mktemp("corpus")
    pictures = media.film(24)
    media.write_video(
        folder / "joy/a.mp4", pictures, sound=media.noise(0.96, 44_100, channels=2), rate_hz=44_100
    )
    media.write_sound(folder / "sad/b.wav", media.noise(1.5, 16_000))
    (folder / "fear").mkdir()
    cv2.imwrite(str(folder / "fear/c.png"), pictures[5][..., ::-1])
    return folder


@pytest.fixture(scope="module")
def emodb_12(tmp_path_factory):
    return emodb(tmp_path_factory.mktemp("emodb"), 12)


def read(folder):
    return {
        (record["id"].decode(), int(record["part"])): record
        for record in reader.read_inputs(folder, reader.read_manifest(folder))
    }


def test_faces_and_segments_are_those_of_the_files(capsys, tmp_path, corpus):
    """The whole way: what a reader of the set gets is what the parts give for the file, and the JSON says so."""
    status, result, err = build_json(
        capsys,
        "--corpus",
        "folder",
        "--name",
        "mine",
        "--media",
        corpus,
        "--out",
        tmp_path,
        "--waveform",
    )
    assert status == 0 and "quarantined" not in err
    visual, audio = read(tmp_path / "mine/visual"), read(tmp_path / "mine/audio")
    np.testing.assert_array_equal(
        visual["joy/a.mp4", 0]["inputs"], crops.read_faces(corpus / "joy/a.mp4").faces
    )
    np.testing.assert_array_equal(
        visual["fear/c.png", 0]["inputs"], crops.read_still_face(corpus / "fear/c.png").faces
    )
    for id in ("joy/a.mp4", "sad/b.wav"):
        waveform, _ = read_waveform(corpus / id)
        np.testing.assert_allclose(
            audio[id, 0]["inputs"], log_mel.segments(log_mel.log_mel(waveform)), atol=1e-3
        )
        assert (
            np.abs(audio[id, 0]["pcm"] / 32768 - waveform[: len(audio[id, 0]["pcm"])]).max()
            <= 0.5 / 32768 + 1e-7
        )
    np.testing.assert_array_equal(
        audio["sad/b.wav", 0]["pcm"][:9], (media.noise(1.5, 16_000)[0] * 32768).round()[:9]
    )
    assert (
        visual["joy/a.mp4", 0]["utterance"] == audio["joy/a.mp4", 0]["utterance"] == b"mine:joy/a"
    )
    reports = result["domains"]
    assert (result["corpus"], list(reports)) == ("mine", ["visual", "audio"])
    assert {
        key: reports["visual"][key]
        for key in ("found", "written", "speakers", "emotions", "quarantined")
    } == {
        **{
            "found": 2,
            "written": 2,
            "speakers": {"unknown": 2},
            "emotions": {"fear": 1, "happiness": 1},
            "quarantined": [],
        }
    }
    assert reports["audio"]["emotions"] == {"happiness": 1, "sadness": 1}
    assert reports["audio"]["seconds"] == pytest.approx(
        1.5 + read_waveform(corpus / "joy/a.mp4")[1].seconds
    )
    assert reports["visual"] == json.loads((tmp_path / "mine/visual/report.json").read_text())


def test_what_is_asked_for_is_built(capsys, tmp_path, corpus):
    words = ("--corpus", "folder", "--media", corpus, "--out", tmp_path)
    _, result, _ = build_json(
        capsys, *words, "--domain", "visual", "--faces", "as-is", "--frames-per-clip", "3"
    )
    assert list(result["domains"]) == ["visual"] and not (tmp_path / "folder/audio").exists()
    faces_of = {
        id: record["inputs"] for (id, _), record in read(tmp_path / "folder/visual").items()
    }
    assert faces_of["joy/a.mp4"].shape == (3, 64, 64, 3)
    whole = images.read_still(corpus / "fear/c.png")
    np.testing.assert_array_equal(
        faces_of["fear/c.png"][0], cv2.resize(whole, (64, 64), interpolation=cv2.INTER_AREA)
    )
    _, result, _ = build_json(capsys, *words, "--domain", "audio", "--limit", "1")
    assert result["domains"]["audio"]["emotions"] == {"sadness": 1}  # the one in the middle


def test_nothing_depends_on_the_place_the_time_or_the_workers(capsys, tmp_path, emodb_12):
    moved = tmp_path / "elsewhere with a longer name"
    for path in sorted(emodb_12.rglob("*.wav"), reverse=True):
        (moved / path.relative_to(emodb_12)).parent.mkdir(parents=True, exist_ok=True)
        (moved / path.relative_to(emodb_12)).write_bytes(path.read_bytes())
    for place, workers, out in ((emodb_12, 1, "one"), (moved, 2, "deep/two")):
        assert (
            build_json(
                capsys,
                "--corpus",
                "emodb",
                "--media",
                place,
                "--out",
                tmp_path / out,
                "--workers",
                workers,
            )[0]
            == 0
        )
    assert content(tmp_path / "one") == content(tmp_path / "deep/two")
    assert sorted(content(tmp_path / "one")) == [
        *(f"emodb/audio/{name}" for name in ("00000.tfrecord", "manifest.json", "report.json")),
        "emodb/report.html",
    ]
    manifest = (tmp_path / "one/emodb/audio/manifest.json").read_text()
    assert (
        str(tmp_path) not in manifest
        and str(emodb_12) not in manifest
        and time.strftime("%Y-") not in manifest
    )


def test_nothing_is_done_twice_and_what_changed_is_done_anew(capsys, tmp_path):
    folder, out = emodb(tmp_path / "media", 4), tmp_path / "records"
    words = ("--corpus", "emodb", "--media", folder, "--out", out)
    set_folder = out / "emodb/audio"

    def built(*more):
        """Build again; return whether the set was reused, and its clips."""
        before = (set_folder / "00000.tfrecord").stat().st_ino if set_folder.exists() else None
        status, result, err = build_json(capsys, *words, *more)
        assert status == 0
        reused = before == (set_folder / "00000.tfrecord").stat().st_ino
        assert (f"{set_folder}: reusing the set" in err) == reused
        return reused, result["domains"]["audio"]["written"]

    assert built() == (False, 4)
    whole = content(out)
    assert built() == (True, 4) and content(out) == whole
    assert built("--frames-per-clip", 3) == (True, 4)  # does not concern the sound
    assert built("--waveform") == (False, 4)
    assert built() == (False, 4) and content(out) == whole
    path = folder / "wav" / EMODB_NAMES[2]
    old = path.read_bytes()
    media.write_sound(path, media.noise(0.4, 16_000, seed=99))
    assert built() == (False, 4) and content(out) != whole
    path.write_bytes(old)
    assert built() == (False, 4) and content(out) == whole
    extra = media.write_sound(folder / "wav" / EMODB_NAMES[4], media.noise(0.3, 16_000, seed=4))
    assert built() == (False, 5)
    extra.unlink()
    assert built() == (False, 4) and content(out) == whole
    shard = set_folder / "00000.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")
    assert built() == (False, 4) and content(out) == whole


def test_a_file_that_crashes_its_decoder_is_not_tried_again(capsys, tmp_path, monkeypatch):
    """In place of soxr, one that kills the process for a sound of 8 kHz."""
    crash = (
        "import os\nclass ResampleStream:\n    def __init__(self, *_, **__):\n        os.abort()\n"
    )
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow/soxr.py").write_text(crash)
    monkeypatch.syspath_prepend(tmp_path / "shadow")
    folder = emodb(tmp_path / "media", 5)
    media.write_sound(folder / "wav" / EMODB_NAMES[1], media.noise(0.5, 8_000), rate_hz=8_000)
    words = ("--corpus", "emodb", "--media", folder, "--out", tmp_path / "out", "--workers", "1")
    status, result, err = build_json(capsys, *words)
    row = {"path": f"wav/{EMODB_NAMES[1]}", "reason": "decoder crashed (exit status -6)"}
    assert (
        status,
        result["domains"]["audio"]["written"],
        result["domains"]["audio"]["quarantined"],
    ) == (0, 4, [row])
    assert (
        f"quarantined: wav/{EMODB_NAMES[1]} (audio): decoder crashed" in err
        and "Traceback" not in err
    )
    assert "reusing the set" in build_json(capsys, *words)[2]


def test_sound_over_a_minute_is_cut_into_parts_of_one_utterance(capsys, tmp_path):
    """130 s are 12 997 frames: 3 parts of at most 5 997 (60 s), of 4 332 or 4 333; together they are the whole."""
    media.write_sound(tmp_path / "media/joy/long.flac", media.noise(130, 16_000), codec="flac")
    _, result, _ = build_json(
        capsys, "--corpus", "folder", "--media", tmp_path / "media", "--out", tmp_path, "--waveform"
    )
    assert (result["domains"]["audio"]["written"], result["domains"]["audio"]["seconds"]) == (
        1,
        130.0,
    )
    parts = read(tmp_path / "folder/audio")
    assert [part for _, part in parts] == [0, 1, 2] and {
        record["utterance"] for record in parts.values()
    } == {b"folder:joy/long"}
    (row,) = reader.read_manifest(tmp_path / "folder/audio")["clips"]
    assert row["records"] == 3 and row["items"] == sum(
        len(record["inputs"]) for record in parts.values()
    )
    whole = log_mel.log_mel(read_waveform(tmp_path / "media/joy/long.flac")[0]).numpy()
    edges = (0, 4332, 8665, 12997)
    for (_, part), record in parts.items():
        static = whole[edges[part] : edges[part + 1]]
        np.testing.assert_allclose(record["inputs"], log_mel.segments(static), atol=1e-3)
        assert Spec().frame_count(len(record["pcm"])) == len(static)


def test_short_clips_and_copies_are_named_in_the_notes(capsys, tmp_path):
    """0.655 s are one segment; what is shorter is padded, down to 32 ms."""
    for name, seconds in (("a", 0.032), ("b", 0.661), ("c", 0.663)):
        media.write_sound(tmp_path / f"media/joy/{name}.wav", media.noise(seconds, 16_000))
    (tmp_path / "media/sad").mkdir()
    (tmp_path / "media/sad/d.wav").write_bytes((tmp_path / "media/joy/c.wav").read_bytes())
    _, result, _ = build_json(
        capsys, "--corpus", "folder", "--media", tmp_path / "media", "--out", tmp_path
    )
    copies, conflict, padded = result["domains"]["audio"]["notes"]
    assert mentions(copies, "2 files", "joy/c.wav = sad/d.wav")
    assert mentions(conflict, "1 group", "joy/c.wav (happiness) = sad/d.wav (sadness)")
    assert mentions(padded, "2 clips", "joy/a.wav, joy/b.wav")
    assert {
        id: len(record["inputs"]) for (id, _), record in read(tmp_path / "folder/audio").items()
    } == {**{"joy/a.wav": 1, "joy/b.wav": 1, "joy/c.wav": 1, "sad/d.wav": 1}}


STOPPED_BUILD = """
import os, sys
from pipelines import build
from pipelines.building import builder
builder.CLIPS_PER_SHARD, whole, left = 8, build.build, int(sys.argv[1])
def on_file():
    global left
    left -= 1
    if left == 0:
        os.killpg(0, int(sys.argv[2]))
build.build = lambda options, **more: whole(options, **more | {"on_file": on_file})
sys.exit(build.main(sys.argv[3:]))
"""


def stopped_build(after, signal_number, words, **environment):
    """Run a build in shards of 8 in a process group of its own, which gets the signal behind so many files."""
    words = [sys.executable, "-c", STOPPED_BUILD, after, int(signal_number), *words]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment}
    return subprocess.run(
        [*map(str, words)],
        cwd=media.ROOT,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        env=environment,
    )


def processes_with(word):
    """Return the ids of processes that have a word in their environment; none where there is no /proc."""
    process_ids = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes():
                process_ids.append(path.parent.name)
    return process_ids


def test_a_stopped_build_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """Killed (-9) behind the 30th of 60 files, where 3 shards of 8 are finished; then stopped by Ctrl-C behind 12 more."""
    folder, out, mark = emodb(tmp_path / "media", 60), tmp_path / "out", uuid.uuid4().hex
    words = ("--corpus", "emodb", "--media", folder, "--out", out, "--workers", 2)
    killed = stopped_build(30, signal.SIGKILL, words, KERASEMO_TEST=mark)
    assert killed.returncode == -signal.SIGKILL and not (out / "emodb/audio").exists()
    deadline = time.monotonic() + 20
    while processes_with(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not processes_with(mark)  # the workers end with the build
    stopped = stopped_build(12, signal.SIGINT, words)
    assert stopped.returncode == 130 and mentions(stopped.stderr, "interrupted", "resumes")
    assert (
        "Traceback" not in stopped.stderr
        and f"{out}/emodb/audio: reusing 24 of 60 clips\n" in stopped.stderr
    )
    assert not (out / "emodb/audio").exists()
    monkeypatch.setattr(builder, "CLIPS_PER_SHARD", 8)
    totals = []
    for place, workers in ((out, 2), (tmp_path / "whole", 1)):
        builder.build(
            builder.BuildOptions("emodb", folder, place, workers=workers), on_start=totals.append
        )
    assert totals == [60 - 24 - 8, 60]
    assert content(out) == content(tmp_path / "whole")
    assert reader.verify(out / "emodb/audio") == {"shards": 8, "clips": 60, "records": 60}


def test_a_file_that_hung_is_tried_again_with_its_shard_alone(capsys, tmp_path, monkeypatch):
    """In place of soxr, one that hangs for a sound of 8 kHz; at the next call it does not, and nothing else is read again."""
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "soxr.py").write_text(
        "import time\nclass ResampleStream:\n    def __init__(self, *_, **__):\n        time.sleep(600)\n"
    )
    folder = emodb(tmp_path / "media", 9)
    slow = sorted(EMODB_NAMES[:9])[4]
    media.write_sound(folder / "wav" / slow, media.noise(0.5, 8_000), rate_hz=8_000)
    words = ("--corpus", "emodb", "--media", folder, "--out", tmp_path / "out", "--workers", "1")
    monkeypatch.setattr(builder, "CLIPS_PER_SHARD", 3)
    with monkeypatch.context() as patched:
        patched.syspath_prepend(shadow)
        patched.setattr("pipelines.workers.pool.STALL_SECONDS", 3.0)
        _, result, _ = build_json(capsys, *words)
    row = {"path": f"wav/{slow}", "reason": "decoder made no progress for 3 s and was stopped"}
    assert (
        result["domains"]["audio"]["quarantined"] == [row]
        and result["domains"]["audio"]["written"] == 8
    )
    status, result, err = build_json(capsys, *words)
    assert (
        status,
        result["domains"]["audio"]["written"],
        result["domains"]["audio"]["quarantined"],
    ) == (0, 9, [])
    assert f"{tmp_path}/out/emodb/audio: reusing 6 of 9 clips\n" in err
    build_json(capsys, *words[:4], "--out", tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert "reusing the set" in build_json(capsys, *words)[2]
