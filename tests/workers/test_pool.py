"""The pool of worker processes: a fault costs a single file, and no worker loads TensorFlow."""

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time

import cv2
import numpy as np
import pytest

from helpers import media
from pipelines.core.errors import DataError, StorageError
from pipelines.core.spec import Spec
from pipelines.media import images
from pipelines.media.audio import read_waveform
from pipelines.workers.pool import WorkerError, WorkerPool
from pipelines.workers.record_task import RecordTask

BROKEN_MODULE = "raise ImportError('soxr is broken here')"


def opencv_out_of_memory() -> cv2.error:
    """Return the error of OpenCV for a picture that does not fit into memory."""
    try:
        cv2.resize(np.zeros((2, 2), np.uint8), (1 << 30, 1 << 30))
    except cv2.error as error:
        return error
    raise AssertionError("OpenCV allocated 2**60 bytes")


def run_task(pool, task):
    """Return the merged messages of a task, without `more`."""
    *blocks, last_message = pool.read(task)
    assert all(message["more"] for message in blocks)
    assert not last_message["more"]
    merged = {}
    for message in (*blocks, last_message):
        merged |= message
    del merged["more"]
    return merged


def audio_task(path):
    return RecordTask(path, ("audio",))


def read_audio_entry(pool, path):
    return run_task(pool, audio_task(path))["audio"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return media.write_sound(tmp_path_factory.mktemp("sound") / "a.wav", media.noise(0.5, 16_000))


@pytest.fixture(scope="module")
def pool():
    """A pool of a single worker that counts as hanging after three seconds."""
    with WorkerPool(workers=1, stall_seconds=3.0) as pool:
        yield pool


def assert_pool_works(pool, sound):
    """Assert that a worker reads a good file as this process does."""
    entry = read_audio_entry(pool, sound)
    np.testing.assert_array_equal(entry["waveform"], read_waveform(sound)[0])


# Results


def test_worker_reads_both_domains_of_a_file(pool, tmp_path):
    path = media.write_video(tmp_path / "a.mp4", media.film(6), sound=media.noise(0.24, 44_100))
    result = run_task(pool, RecordTask(path, ("visual", "audio")))
    assert result["sha256"] == images.content_hash(path)
    assert result["visual"]["faces"].shape == (6, 64, 64, 3)
    assert result["visual"]["looked_at"] == 6
    np.testing.assert_array_equal(result["audio"]["waveform"], read_waveform(path)[0])
    assert "audio" not in run_task(pool, RecordTask(path, ("visual",)))


def test_video_without_sound_has_faces(pool, tmp_path):
    path = media.write_video(tmp_path / "mute.mp4", media.film(2))
    result = run_task(pool, RecordTask(path, ("visual", "audio")))
    assert "no sound track" in result["audio"]["error"]
    assert len(result["visual"]["faces"]) == 2


def test_sound_without_a_video_has_a_waveform(pool, sound):
    result = run_task(pool, RecordTask(sound, ("visual", "audio")))
    assert "no video stream" in result["visual"]["error"]
    assert result["audio"]["seconds"] == 0.5


def test_still_without_a_detector_is_a_face(pool, tmp_path):
    path = media.write_still(tmp_path / "a.png", np.full((48, 48, 3), 90, np.uint8))
    result = run_task(pool, RecordTask(path, ("visual",), still=True, detector=None))
    assert (result["visual"]["faces"] == 90).all()
    result = run_task(pool, RecordTask(path, ("visual",), still=True))
    assert "no face found" in result["visual"]["error"]


def test_long_sound_comes_in_blocks(pool, tmp_path):
    """130 s come in blocks of a minute; the last block has the fields of the track."""
    path = media.write_sound(tmp_path / "long.flac", media.noise(130, 16_000), codec="flac")
    messages = list(pool.read(audio_task(path)))
    assert [message["more"] for message in messages] == [True, True, False]
    blocks = [message["audio"]["waveform"] for message in messages]
    assert [block.size for block in blocks] == [960_000, 960_000, 160_000]
    assert ["seconds" in message["audio"] for message in messages] == [False, False, True]
    assert messages[-1]["audio"]["seconds"] == 130
    np.testing.assert_array_equal(np.concatenate(blocks), read_waveform(path)[0])


# Bad files


@pytest.mark.parametrize(
    ("trap", "reason", "retry"),
    [
        ("exit", "crashed .*status 7", None),
        (f"signal{signal.SIGSEGV}", "crashed .*status -11", None),
        (f"signal{signal.SIGABRT}", "crashed .*status -6", None),
        ("hang", "no progress for 3 s", "time"),
    ],
)
def test_crash_or_hang_costs_its_file_alone(pool, sound, trap, reason, retry):
    start = time.monotonic()
    result = run_task(pool, RecordTask(media.Trap(trap), ("visual", "audio")))
    assert result["visual"] == result["audio"]
    assert re.search(reason, result["audio"]["error"])
    assert result["audio"].get("retry") == retry
    assert time.monotonic() - start < 20
    assert_pool_works(pool, sound)


def read_with_error(monkeypatch, path, error):
    """Return the only message of a file whose decoder raises an error after the first block."""

    def read_blocks(*_, **__):
        yield np.zeros(9, np.float32)
        raise error

    monkeypatch.setattr("pipelines.media.audio.read_blocks", read_blocks)
    (message,) = audio_task(path).read(Spec())
    return message


@pytest.mark.parametrize("error", [DataError("cut off"), StorageError("out.mp4: disk full")])
def test_reason_is_the_message_of_an_error_of_the_project(monkeypatch, sound, error):
    message = read_with_error(monkeypatch, sound, error)
    assert message["audio"] == {"error": str(error)}
    assert not message["more"]


def test_reason_names_another_error_of_a_decoder(monkeypatch, sound):
    entry = read_with_error(monkeypatch, sound, ValueError("odd"))["audio"]
    assert re.search("decoder failed .*ValueError: odd", entry["error"])
    assert "retry" not in entry


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory"), opencv_out_of_memory()],
)
def test_file_that_needs_too_much_memory_is_retried(monkeypatch, sound, error):
    entry = read_with_error(monkeypatch, sound, error)["audio"]
    assert re.search(r"memory .*1\.5 GiB", entry["error"])
    assert entry["retry"] == "memory"


def rewrite(path):
    media.write_sound(path, media.noise(0.7, 16_000))


def remove(path):
    path.unlink()


@pytest.mark.parametrize("change", [rewrite, remove])
def test_file_that_changes_while_it_is_read_is_retried(monkeypatch, tmp_path, change):
    path = media.write_sound(tmp_path / "a.wav", media.noise(0.5, 16_000))
    content_hash = images.content_hash

    def hash_then_change(path, **options):
        digest = content_hash(path, **options)
        change(path)
        return digest

    monkeypatch.setattr("pipelines.media.images.content_hash", hash_then_change)
    *_, last_message = audio_task(path).read(Spec())
    assert "changed" in last_message["audio"]["error"]
    assert last_message["audio"]["retry"] == "changed"


def test_decoder_that_needs_too_much_memory_costs_its_file_alone(pool, sound):
    entry = read_audio_entry(pool, media.Trap("hungry"))
    assert "memory" in entry["error"]
    assert entry["retry"] == "memory"
    assert_pool_works(pool, sound)


def test_file_whose_worker_the_system_killed_is_retried(pool, sound):
    entry = read_audio_entry(pool, media.Trap(f"signal{signal.SIGKILL}"))
    assert "killed" in entry["error"]
    assert entry["retry"] == "memory"
    assert_pool_works(pool, sound)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.wav", "No such file"),
        ("pipe.wav", "not a regular file"),
        ("folder.wav", "not a regular file"),
    ],
)
def test_path_that_is_no_file_is_retried(pool, tmp_path, name, reason):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    result = run_task(pool, audio_task(tmp_path / name))
    assert result["sha256"] == ""
    assert reason in result["audio"]["error"]
    assert result["audio"]["retry"] == "unreadable"


def test_output_of_a_codec_is_not_a_message(sound, capfd):
    with WorkerPool(workers=1) as pool:
        assert "cannot be read" in read_audio_entry(pool, media.Trap("print"))["error"]
        assert_pool_works(pool, sound)
    assert capfd.readouterr() == ("", "")


def test_good_files_pass_while_others_crash_and_hang(sound):
    """Four threads share two workers."""
    crash, hang = media.Trap("exit"), media.Trap("hang")
    paths = [sound, crash, sound, hang, sound, sound, crash, sound]
    entries = [None] * len(paths)
    with WorkerPool(workers=2, stall_seconds=3.0) as pool:

        def read_every_fourth(first):
            for index in range(first, len(paths), 4):
                entries[index] = read_audio_entry(pool, paths[index])

        threads = [threading.Thread(target=read_every_fourth, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert ["waveform" in entry for entry in entries] == [path is sound for path in paths]


# Workers


def test_worker_has_its_own_process_group(pool):
    """Ctrl-C is sent to a group. A worker that it ended would look like a crash of its file."""
    entry = read_audio_entry(pool, media.Trap("group"))
    (group,) = re.findall(r"group (\d+)", entry["error"])
    assert int(group) != os.getpgrp()


def test_worker_has_no_tensorflow(pool):
    modules = set(read_audio_entry(pool, media.Trap("modules"))["error"].split())
    assert {"av", "cv2", "numpy", "soxr", "pipelines"} <= modules
    assert not {"tensorflow", "keras", "librosa", "kerasemo"} & modules


IMPORT_PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"pipelines.{name}")
    print(name, *sorted({"tensorflow", "keras", "librosa"} & set(sys.modules)))
"""


def test_no_module_of_a_worker_imports_tensorflow():
    """Modules are imported in turn; a line with further names shows the module that fails."""
    names = [
        "core.spec",
        "core.cli",
        "core.progress",
        "corpora",
        "media.images",
        "faces.crops",
        "workers.pool",
        "build",
    ]
    process = subprocess.run(
        [sys.executable, "-c", IMPORT_PROGRAM, *names],
        cwd=media.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.splitlines() == names


def test_file_is_retried_if_its_worker_cannot_be_replaced(sound, monkeypatch, tmp_path):
    with WorkerPool(workers=1) as pool:
        read_audio_entry(pool, media.Trap("exit"))
        (tmp_path / "soxr.py").write_text(BROKEN_MODULE)
        monkeypatch.syspath_prepend(tmp_path)
        entry = read_audio_entry(pool, sound)
        assert re.search("cannot start .*status 1", entry["error"])
        assert entry["retry"] == "time"
        monkeypatch.undo()
        assert_pool_works(pool, sound)


def test_file_is_retried_if_the_system_starts_no_process(sound, monkeypatch):
    with WorkerPool(workers=1) as pool:
        read_audio_entry(pool, media.Trap("exit"))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/no/such/program")
            entry = read_audio_entry(pool, sound)
        assert re.search("cannot start .*No such file", entry["error"])
        assert entry["retry"] == "time"
        assert_pool_works(pool, sound)


def test_heartbeats_extend_the_deadline(tmp_path, monkeypatch):
    """A program in place of the worker's answers after 2.4 s, with a heartbeat every 0.3 s."""
    program = """
        import pickle, sys, time
        def send(message):
            content = pickle.dumps(message)
            sys.stdout.buffer.write(len(content).to_bytes(8, "little") + content)
            sys.stdout.flush()
        send(None)
        sys.stdin.buffer.read(8)
        pickle.load(sys.stdin.buffer)
        for _ in range(8):
            time.sleep(0.3)
            send(None)
        send({"answer": "late", "more": False})
        time.sleep(600)
    """
    core = tmp_path / "pipelines/core"
    core.mkdir(parents=True)
    (tmp_path / "pipelines/__init__.py").touch()
    (core / "__init__.py").touch()
    (core / "spec.py").write_text((media.ROOT / "pipelines/core/spec.py").read_text())
    (tmp_path / "pipelines/workers.py").write_text(textwrap.dedent(program))
    monkeypatch.syspath_prepend(tmp_path)
    with WorkerPool(workers=1, stall_seconds=1.2) as pool:
        assert run_task(pool, {"a": "task"}) == {"answer": "late"}


def test_workers_that_cannot_start_raise_at_once(tmp_path, monkeypatch, capfd):
    (tmp_path / "soxr.py").write_text(BROKEN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(WorkerError, match=r"cannot start .*status 1") as raised,
        WorkerPool(workers=2),
    ):
        pass
    assert raised.value.retry == "time"
    assert "soxr is broken here" in capfd.readouterr().err


def test_modules_in_the_working_directory_are_not_imported(tmp_path, monkeypatch, sound):
    (tmp_path / "soxr.py").write_text(BROKEN_MODULE)
    monkeypatch.chdir(tmp_path)
    with WorkerPool(workers=1) as pool:
        assert_pool_works(pool, sound)


def test_closed_pool_starts_no_worker(sound):
    with WorkerPool(workers=1) as pool:
        pass
    for _ in range(2):
        entry = read_audio_entry(pool, sound)
        assert "closed" in entry["error"]
        assert entry["retry"] == "time"
    assert not pool._workers
