"""The pool of decoding processes: what goes wrong in one costs one file, and none of them loads tensorflow."""

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
from pipelines.workers import record_task
from pipelines.workers.pool import WorkerError, WorkerPool
from pipelines.workers.record_task import RecordTask


def opencv_out_of_memory() -> cv2.error:
    """Return what OpenCV raises for a picture that no memory can hold."""
    try:
        cv2.resize(np.zeros((2, 2), np.uint8), (1 << 30, 1 << 30))
    except cv2.error as error:
        return error
    raise AssertionError("OpenCV allocated 2**60 bytes")


OUT_OF_MEMORY = (
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    opencv_out_of_memory(),
)


def run(pool, task):
    """Return all that a pool says of a file."""
    *messages, last = pool.read(task)
    assert all(message["more"] for message in messages) and not last["more"]
    return {
        domain: entry
        for message in (*messages, last)
        for domain, entry in message.items()
        if domain != "more"
    }


def audio(path):
    return RecordTask(path, ("audio",))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return media.write_sound(tmp_path_factory.mktemp("sound") / "a.wav", media.noise(0.5, 16_000))


@pytest.fixture(scope="module")
def pool():
    """One worker that is taken to hang after three seconds."""
    with WorkerPool(workers=1, stall_seconds=3.0) as pool:
        yield pool


def reads(pool, sound):
    """Whether the pool still reads a good file, equal to what this process reads."""
    return np.array_equal(run(pool, audio(sound))["audio"]["waveform"], read_waveform(sound)[0])


def test_a_worker_reads_both_domains_of_a_file(pool, tmp_path):
    pictures = media.film(6)
    path = media.write_video(tmp_path / "a.mp4", pictures, sound=media.noise(0.24, 44_100))
    result = run(pool, RecordTask(path, ("visual", "audio")))
    assert result["sha256"] == images.content_hash(path)
    assert (result["visual"]["faces"].shape, result["visual"]["looked_at"]) == ((6, 64, 64, 3), 6)
    np.testing.assert_array_equal(result["audio"]["waveform"], read_waveform(path)[0])
    assert "audio" not in run(pool, RecordTask(path, ("visual",)))


def test_one_domain_may_be_bad_alone(pool, tmp_path, sound):
    mute = media.write_video(tmp_path / "mute.mp4", media.film(2))
    result = run(pool, RecordTask(mute, ("visual", "audio")))
    assert result["audio"] == {"error": "no sound track"} and len(result["visual"]["faces"]) == 2
    result = run(pool, RecordTask(sound, ("visual", "audio")))
    assert result["visual"] == {"error": "no video stream"} and result["audio"]["seconds"] == 0.5


def test_a_still_and_pictures_as_they_are(pool, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((48, 48, 3), 90, np.uint8))
    path = tmp_path / "a.png"
    assert (
        run(pool, RecordTask(path, ("visual",), still=True, detector=None))["visual"]["faces"] == 90
    ).all()
    assert run(pool, RecordTask(path, ("visual",), still=True))["visual"]["error"].startswith(
        "no face found in the image"
    )


@pytest.mark.parametrize(
    ("trap", "said"),
    [
        ("exit", r"decoder crashed \(exit status 7\)"),
        (f"signal{signal.SIGSEGV}", r"decoder crashed \(exit status -11\)"),
        (f"signal{signal.SIGABRT}", r"decoder crashed \(exit status -6\)"),
        ("hang", r"decoder made no progress for 3 s and was stopped"),
    ],
)
def test_a_crash_or_a_hang_costs_its_file_alone(pool, sound, trap, said):
    began = time.monotonic()
    result = run(pool, RecordTask(media.Trap(trap), ("visual", "audio")))
    assert result["visual"] == result["audio"]
    assert re.fullmatch(said, result["audio"]["error"]) and result["audio"].get("retry") == (
        "time" if trap == "hang" else None
    )
    assert time.monotonic() - began < 20
    assert reads(pool, sound)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("odd"), {"error": "decoder failed (ValueError: odd)"}),
        (DataError("cut off"), {"error": "cut off"}),
        (StorageError("out.mp4: disk full"), {"error": "out.mp4: disk full"}),
        *(
            (error, {"error": "takes more memory than the 1.5 GiB that it may", "retry": "memory"})
            for error in OUT_OF_MEMORY
        ),
    ],
)
def test_what_a_decoder_raises_is_the_files_reason(monkeypatch, sound, raised, said):
    def read_blocks(*_, **__):
        yield np.zeros(9, np.float32)
        raise raised

    monkeypatch.setattr("pipelines.media.audio.read_blocks", read_blocks)
    (message,) = record_task.read_file(audio(sound), Spec())
    assert message["audio"] == said and not message["more"]


def test_a_file_that_changes_or_vanishes_while_it_is_read(monkeypatch, tmp_path):
    """What was read of it is of no use; another call may read it."""
    for change in (
        lambda path: media.write_sound(path, media.noise(0.7, 16_000)),
        lambda path: path.unlink(),
    ):
        path = media.write_sound(tmp_path / "a.wav", media.noise(0.5, 16_000))
        original = images.content_hash

        def hashed(path, change=change, original=original, **more):
            digest = original(path, **more)
            change(path)
            return digest

        monkeypatch.setattr("pipelines.media.images.content_hash", hashed)
        *_, last = record_task.read_file(audio(path), Spec())
        assert last["audio"] == {"error": "changed while it was read", "retry": "changed"}
        monkeypatch.undo()


def test_long_sound_comes_in_blocks(pool, tmp_path):
    """130 s in blocks of a minute, the facts with the last; together they are the whole."""
    path = media.write_sound(tmp_path / "long.flac", media.noise(130, 16_000), codec="flac")
    messages = list(pool.read(audio(path)))
    assert [(message["more"], message["audio"]["waveform"].size) for message in messages] == [
        (True, 960_000)
    ] * 2 + [(False, 160_000)]
    assert ["seconds" in message["audio"] for message in messages] == [
        False,
        False,
        True,
    ] and messages[2]["audio"]["seconds"] == 130
    np.testing.assert_array_equal(
        np.concatenate([message["audio"]["waveform"] for message in messages]),
        read_waveform(path)[0],
    )


def test_a_decoder_that_wants_too_much_memory_costs_its_file_alone(pool, sound):
    result = run(pool, audio(media.Trap("hungry")))
    assert (
        result["audio"]["error"].startswith("takes more memory than the 1.5 GiB")
        and result["audio"]["retry"] == "memory"
    )
    assert reads(pool, sound)


def test_a_worker_that_the_system_kills_is_tried_again(pool, sound):
    result = run(pool, audio(media.Trap(f"signal{signal.SIGKILL}")))
    assert result["audio"] == {
        "error": "decoder was killed (by the system, when memory runs out)",
        "retry": "memory",
    }
    assert reads(pool, sound)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.wav", "No such file or directory"),
        ("pipe.wav", "not a regular file"),
        ("dir.wav", "not a regular file"),
    ],
)
def test_what_is_no_file_is_named(pool, tmp_path, name, said):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "dir.wav").mkdir()
    assert run(pool, audio(tmp_path / name)) == {
        "sha256": "",
        "audio": {"error": f"cannot be read ({said})", "retry": "unreadable"},
    }


def test_what_a_codec_prints_is_no_answer(sound, capfd):
    with WorkerPool(workers=1) as pool:
        assert run(pool, audio(media.Trap("print")))["audio"]["error"].startswith("cannot be read")
        assert reads(pool, sound)
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_from_the_keyboard_is_for_the_build_alone(pool):
    """It goes to every process of the group: a worker that it hit would look like one that crashed on its file."""
    assert run(pool, audio(media.Trap("group")))["audio"]["error"] not in (
        "",
        f"cannot be read (group {os.getpgrp()})",
    )


def test_a_worker_has_no_tensorflow(pool):
    modules = run(pool, audio(media.Trap("modules")))["audio"]["error"].split()
    assert {"av", "cv2", "numpy", "soxr", "pipelines"} <= set(modules)
    assert not {"tensorflow", "keras", "librosa", "kerasemo"} & set(modules)


IMPORTED = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(f"pipelines.{name}")
    print(name, *sorted({"tensorflow", "keras", "librosa"} & set(sys.modules)))
"""


def test_no_module_of_the_workers_imports_tensorflow():
    """One after the other: the first line that names more than its module tells which one did."""
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
    words = [sys.executable, "-c", IMPORTED, *names]
    assert (
        subprocess.run(
            words, cwd=media.ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        == names
    )


def test_good_files_pass_while_others_crash_and_hang(sound):
    """Four threads and two workers: every bad file is named, every good one read."""
    paths = [
        sound,
        media.Trap("exit"),
        sound,
        media.Trap("hang"),
        sound,
        sound,
        media.Trap("exit"),
        sound,
    ]
    results = [None] * len(paths)
    with WorkerPool(workers=2, stall_seconds=3.0) as pool:

        def work(first):
            for index in range(first, len(paths), 4):
                results[index] = run(pool, audio(paths[index]))["audio"]

        threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert [path is sound for path in paths] == ["waveform" in result for result in results]


def test_a_worker_that_cannot_be_replaced_is_no_fault_of_the_file(sound, monkeypatch, tmp_path):
    with WorkerPool(workers=1) as pool:
        run(pool, audio(media.Trap("exit")))
        (tmp_path / "soxr.py").write_text("raise ImportError('soxr is broken here')")
        monkeypatch.syspath_prepend(tmp_path)
        result = run(pool, audio(sound))["audio"]
        assert (
            result["error"].startswith("a worker process cannot start (exit status 1)")
            and result["retry"] == "time"
        )
        monkeypatch.undo()
        assert reads(pool, sound)


def test_signs_of_progress_put_the_deadline_off(tmp_path, monkeypatch):
    """In place of the program of a worker, one that takes 2.4 s for an answer and gives a sign every 0.3 s."""
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
    (tmp_path / "pipelines/core").mkdir(parents=True)
    (tmp_path / "pipelines/__init__.py").touch()
    (tmp_path / "pipelines/core/__init__.py").touch()
    spec = (media.ROOT / "pipelines/core/spec.py").read_text()
    (tmp_path / "pipelines/core/spec.py").write_text(spec)
    (tmp_path / "pipelines/workers.py").write_text(textwrap.dedent(program))
    monkeypatch.syspath_prepend(tmp_path)
    with WorkerPool(workers=1, stall_seconds=1.2) as pool:
        assert run(pool, {"a": "task"}) == {"answer": "late"}


def test_workers_that_cannot_start_are_told_at_once(tmp_path, monkeypatch, capfd):
    """An installation that is broken is no fault of the files."""
    (tmp_path / "soxr.py").write_text("raise ImportError('soxr is broken here')")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        pytest.raises(WorkerError, match=r"a worker process cannot start \(exit status 1\)"),
        WorkerPool(workers=2),
    ):
        pass
    assert "soxr is broken here" in capfd.readouterr().err


def test_a_system_that_starts_no_process_is_no_fault_of_the_file(sound, monkeypatch):
    with WorkerPool(workers=1) as pool:
        run(pool, audio(media.Trap("exit")))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/no/such/program")
            result = run(pool, audio(sound))["audio"]
        assert result["retry"] == "time"
        assert result["error"] == "a worker process cannot start (No such file or directory)"
        assert reads(pool, sound)


def test_what_lies_in_the_working_directory_is_not_imported(tmp_path, monkeypatch, sound):
    (tmp_path / "soxr.py").write_text("raise ImportError('not this one')")
    monkeypatch.chdir(tmp_path)
    with WorkerPool(workers=1) as pool:
        assert reads(pool, sound)


def test_a_pool_that_is_closed_starts_no_worker(sound):
    with WorkerPool(workers=1) as pool:
        pass
    for _ in range(2):
        assert run(pool, audio(sound))["audio"]["error"].startswith("the pool is closed")
    assert not pool._workers
