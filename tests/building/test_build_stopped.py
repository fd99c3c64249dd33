"""Ctrl-C is heeded while a decoder hangs, and what a loader rejects is named also where its domain has nothing."""

import logging
import os
import signal
import subprocess
import sys
import time

from helpers import media
from helpers.builds import build_json, emodb
from helpers.messages import mentions
from pipelines.building import builder

HANGING = "import time\nclass ResampleStream:\n    def __init__(self, *_, **__):\n        time.sleep(600)\n"


def test_ctrl_c_while_a_decoder_hangs(tmp_path):
    """In place of soxr, one that hangs; the stall deadline is two minutes, the command ends in seconds."""
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow/soxr.py").write_text(HANGING)
    media.write_sound(tmp_path / "media/joy/a.wav", media.noise(0.5, 8_000), rate_hz=8_000)
    words = [
        sys.executable,
        "-m",
        "pipelines.build",
        "--corpus",
        "folder",
        "--media",
        tmp_path / "media",
        "--out",
        tmp_path / "out",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "shadow"), str(media.ROOT)]),
    }
    process = subprocess.Popen([*map(str, words)], cwd=media.ROOT, env=environment, **pipes)
    deadline = time.monotonic() + 60
    while not (tmp_path / "out/folder/.audio.building").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3.0)  # the worker has started, and hangs
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in stderr and "Traceback" not in stderr


def test_reuse_and_files_that_are_left_out_are_log_records(tmp_path, caplog):
    folder = emodb(tmp_path / "media", 2)
    (folder / "wav/03a01Na.wav").write_bytes(b"no sound")
    options = builder.BuildOptions("emodb", folder, tmp_path / "out", workers=1)
    with caplog.at_level(logging.INFO, logger="pipelines"):
        builder.build(options)
        (record,) = caplog.records
        assert record.levelname == "WARNING" and record.name == "pipelines.building.builder"
        assert "quarantined: wav/03a01Na.wav (audio): " in record.getMessage()
        caplog.clear()
        builder.build(options)
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert levels[f"{tmp_path}/out/emodb/audio: reusing the set, nothing has changed"] == "INFO"
    assert sorted(levels.values()) == ["INFO", "WARNING"]


def test_what_is_rejected_in_a_domain_without_a_clip_is_named(capsys, tmp_path):
    folder = emodb(tmp_path / "joy", 2).parent
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/grey.png").write_bytes(b"no picture")
    status, result, err = build_json(
        capsys,
        "--corpus",
        "folder",
        "--media",
        folder,
        "--out",
        tmp_path.parent / f"{tmp_path.name}-out",
    )
    assert status == 0 and list(result["domains"]) == ["audio"]
    assert mentions(err, "quarantined: 1 file", "holiday/grey.png", "'holiday'")
