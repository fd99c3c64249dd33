"""`--audio-decoder tfio`: the same sets as the default's, where tensorflow-io's compiled ops load; a hang does not last."""

import subprocess
import sys

import numpy as np
import pytest

from helpers import media
from helpers.builds import build_json
from pipelines.core.errors import InputError
from pipelines.features import audio_tfio
from pipelines.records import reader


@pytest.fixture(scope="module")
def ops_load():
    try:
        audio_tfio.check_tfio()
    except InputError as error:
        pytest.skip(str(error))


def test_the_sets_are_those_of_the_default(capsys, tmp_path, ops_load):
    """WAV, FLAC and MP3 at several rates; what it cannot read is quarantined alone, with the remedy."""
    joy = tmp_path / "media/joy"
    for name, rate_hz, channels, more in (
        ("a.wav", 16_000, 1, {}),
        ("b.wav", 44_100, 2, {}),
        ("c.flac", 48_000, 1, {"codec": "flac"}),
        ("d.mp3", 44_100, 2, {"codec": "libmp3lame", "sample_format": "fltp"}),
    ):
        media.write_sound(
            joy / name, media.noise(0.9, rate_hz, channels=channels), rate_hz=rate_hz, **more
        )
    media.write_video(joy / "e.mp4", media.film(6), sound=media.noise(0.5, 44_100))
    (joy / "f.wav").write_text("no sound")
    words = ("--corpus", "folder", "--media", tmp_path / "media", "--waveform", "--out")
    results = {
        decoder: build_json(capsys, *words, tmp_path / decoder, "--audio-decoder", decoder)
        for decoder in ("av", "tfio")
    }
    (_, av, _), (status, tfio, _) = results.values()
    assert (
        status == 0
        and tfio["domains"]["visual"]["written"] == av["domains"]["visual"]["written"] == 1
    )
    reasons = {row["path"]: row["reason"] for row in tfio["domains"]["audio"]["quarantined"]}
    assert reasons.keys() == {"joy/e.mp4", "joy/f.wav"} and all(
        "--audio-decoder tfio" in reason for reason in reasons.values()
    )
    read = {}
    for decoder in ("av", "tfio"):
        folder = tmp_path / decoder / "folder/audio"
        read[decoder] = {
            record["id"].decode(): record
            for record in reader.read_inputs(folder, reader.read_manifest(folder))
        }
    assert list(read["tfio"]) == ["joy/a.wav", "joy/b.wav", "joy/c.flac", "joy/d.mp3"]
    for id, ours in read["tfio"].items():
        np.testing.assert_allclose(ours["pcm"] / 32768, read["av"][id]["pcm"] / 32768, atol=1e-4)
        np.testing.assert_allclose(
            ours["inputs"], read["av"][id]["inputs"], atol=0.2
        )  # dB: where there is next to nothing
    for row, tfio_row in zip(
        *(
            reader.read_manifest(tmp_path / decoder / "folder/audio")["clips"][:4]
            for decoder in read
        ),
        strict=True,
    ):
        assert (row["seconds"], row["rate_hz"], row["channels"]) == (
            tfio_row["seconds"],
            tfio_row["rate_hz"],
            tfio_row["channels"],
        )


STALLED = """
import sys, time
import tensorflow as tf
from pipelines import build
from pipelines.features import audio_tfio
from pipelines.workers import pool
pool.STALL_SECONDS = 2.0
audio_tfio.check_tfio = lambda: None
def read_waveform(path, *, spec):
    def never():
        time.sleep(600)
        return 0.0
    return {"waveform": tf.ensure_shape(tf.numpy_function(never, [], tf.float32), [None])}
audio_tfio.read_waveform_tfio = read_waveform
sys.exit(build.main(sys.argv[1:]))
"""


def test_a_file_that_it_does_not_come_back_from_is_named(tmp_path):
    """In place of tensorflow-io, a step of the graph that does not end; the command does."""
    path = media.write_sound(tmp_path / "media/joy/a.wav", media.noise(0.7, 16_000))
    words = [
        "--corpus",
        "folder",
        "--media",
        tmp_path / "media",
        "--out",
        tmp_path / "out",
        "--audio-decoder",
        "tfio",
    ]
    process = subprocess.run(
        [sys.executable, "-c", STALLED, *map(str, words)],
        cwd=media.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 1, process.stderr
    assert f"error: {path}: tensorflow-io" in process.stderr
    assert "--audio-decoder tfio" in process.stderr


def test_where_it_is_not_installed_the_option_says_so(capsys, tmp_path):
    try:
        audio_tfio.check_tfio()
    except InputError:
        media.write_sound(tmp_path / "media/joy/a.wav", media.noise(0.7, 16_000))
        words = (
            "--corpus",
            "folder",
            "--media",
            tmp_path / "media",
            "--out",
            tmp_path / "out",
            "--audio-decoder",
            "tfio",
        )
        status, result, err = build_json(capsys, *words)
        assert (status, result) == (1, None) and len(err.splitlines()) == 1
        assert "TensorFlow 2.17" in err and "pip install 'kerasemo[tfio]'" in err
        assert not (tmp_path / "out").exists()
    else:
        pytest.skip("tensorflow-io's compiled ops load here")
