"""A set that is too large for the memory is a map of a file, the same bit for bit."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.paths import PYTHONPATH
from helpers.sources import whole
from helpers.toy_sources import write_set
from kerasemo.datasets import array_cache, batches, sampling
from kerasemo.datasets import sources as sources_module
from kerasemo.datasets.sources import fits_memory, manifest_hash, read_source
from pipelines.core.errors import DataError, StorageError
from pipelines.records import reader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """The folder of the files; no set fits into the memory."""
    monkeypatch.setattr(array_cache, "default_folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(sources_module, "MAX_BYTES_IN_MEMORY", 100)
    return tmp_path / "kept"


@pytest.fixture
def count_reads(monkeypatch) -> list:
    """Grows by one whenever records are read."""
    reads, read = [], reader.read_inputs
    monkeypatch.setattr(reader, "read_inputs", lambda *words: reads.append(1) or read(*words))
    return reads


def in_memory(folder, source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sources_module, "MAX_BYTES_IN_MEMORY", 2**30)
        return read_source(folder, source)


@pytest.mark.parametrize("domain", ["visual", "audio"])
def test_a_map_holds_what_the_memory_would(tmp_path, kept, count_reads, monkeypatch, domain):
    write_set(tmp_path, domain)
    expected = in_memory(tmp_path, f"toy/{domain}", monkeypatch)
    sources = [read_source(tmp_path, f"toy/{domain}") for _ in range(2)]
    assert len(count_reads) == 2  # for the memory, and once for both maps
    for source in sources:
        assert isinstance(source.inputs, np.memmap) and not isinstance(expected.inputs, np.memmap)
        assert (
            source.inputs.dtype == expected.inputs.dtype
            and source.clip_of.dtype == expected.clip_of.dtype
        )
        np.testing.assert_array_equal(source.inputs, expected.inputs)
        np.testing.assert_array_equal(source.clip_of, expected.clip_of)
        assert (source.rows, source.emotions) == (expected.rows, expected.emotions)
    one, other = (
        list(
            batches.BatchStream(
                [source], sampling.item_sampler(whole(source), batch=4, seed=1), epochs=2
            )
        )
        for source in (expected, sources[0])
    )
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_map_cannot_be_written_to(tmp_path, kept):
    write_set(tmp_path, "visual")
    source = read_source(tmp_path, "toy/visual")
    with pytest.raises(ValueError, match="read-only"):
        source.inputs[0] = 0


def test_memory_is_taken_up_to_a_limit():
    there_is = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = min(2 * 2**30, there_is // 4)
    assert fits_memory(limit) and not fits_memory(limit + 1)


def test_nothing_is_left_beside_the_records_and_two_sets_have_two_files(tmp_path, kept):
    for name, size in (("one", 2), ("two", 3)):
        write_set(tmp_path / name, "visual", clips_per_shard=size)
        before = sorted((tmp_path / name).rglob("*"))
        read_source(tmp_path / name, "toy/visual")
        assert sorted((tmp_path / name).rglob("*")) == before
    assert sorted(path.suffix for path in kept.iterdir()) == [
        ".bin",
        ".bin",
        ".json",
        ".json",
        ".lock",
        ".lock",
    ]


def flip_a_byte(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


DAMAGES = {
    "a byte of the file": lambda folder: flip_a_byte(next(folder.glob("*.bin"))),
    "the end of the file": lambda folder: os.truncate(next(folder.glob("*.bin")), 1000),
    "no file": lambda folder: next(folder.glob("*.bin")).unlink(),
    "no facts": lambda folder: next(folder.glob("*.json")).unlink(),
    "half of the facts": lambda folder: os.truncate(next(folder.glob("*.json")), 40),
    "facts of something else": lambda folder: next(folder.glob("*.json")).write_text("[]"),
    "facts of another layout": lambda folder: change_facts(folder, layout=0),
    "facts of another shape": lambda folder: change_facts(folder, shape=[1, 2, 3]),
    "what was interrupted": lambda folder: next(folder.glob("*.bin")).rename(
        next(folder.glob("*.bin")).with_suffix(".bin.tmp")
    ),
}


def change_facts(folder, **facts):
    path = next(folder.glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_written_again(tmp_path, kept, count_reads, monkeypatch, damage):
    write_set(tmp_path, "visual")
    expected = read_source(tmp_path, "toy/visual").inputs.copy()
    DAMAGES[damage](kept)
    count_reads.clear()
    np.testing.assert_array_equal(read_source(tmp_path, "toy/visual").inputs, expected)
    assert len(count_reads) == 1
    read_source(tmp_path, "toy/visual")
    assert len(count_reads) == 1 and not list(kept.glob("*.tmp"))


def test_a_damaged_shard_is_refused_although_there_is_a_map(tmp_path, kept):
    write_set(tmp_path, "visual")
    read_source(tmp_path, "toy/visual")
    flip_a_byte(tmp_path / "toy" / "visual" / "00001.tfrecord")
    with pytest.raises(DataError, match="00001.tfrecord: .*build the set again"):
        read_source(tmp_path, "toy/visual")


def test_a_manifest_of_other_records_leaves_nothing(tmp_path, kept):
    write_set(tmp_path, "visual")
    manifest = tmp_path / "toy" / "visual" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["clips"][-1]["items"] += 1
    manifest.write_text(json.dumps(document))
    with pytest.raises(DataError, match="9 faces or segments, its manifest says 10"):
        read_source(tmp_path, "toy/visual")
    assert [path.suffix for path in kept.iterdir()] == [".lock"]


def test_a_full_disk_is_said_in_one_line(tmp_path, kept):
    write_set(tmp_path, "visual")
    kept.mkdir()
    (kept / f"{manifest_hash(tmp_path / 'toy' / 'visual')}.bin.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"kept/.*: No space left on device; 0.0 GiB") as caught:
        read_source(tmp_path, "toy/visual")
    assert "\n" not in str(caught.value) and [path.suffix for path in kept.iterdir()] == [".lock"]


def test_a_folder_that_is_none_is_refused(tmp_path, kept):
    write_set(tmp_path, "visual")
    kept.write_text("")
    with pytest.raises(StorageError, match="kept.*: (File exists|Not a directory)"):
        read_source(tmp_path, "toy/visual")


READ = """
import sys, pathlib, hashlib, time
from kerasemo.datasets import array_cache, sources
from pipelines.records import reader
out = pathlib.Path(sys.argv[1])
array_cache.default_folder = lambda: out / "kept"
sources.MAX_BYTES_IN_MEMORY = 100
read = reader.read_inputs
def slowly(*words):
    print("reads", flush=True)
    for record in read(*words):
        time.sleep(0.3)
        yield record
reader.read_inputs = slowly
print(hashlib.sha256(sources.read_source(out, "toy/visual").inputs.tobytes()).hexdigest())
"""


def test_two_processes_at_once_write_it_once(tmp_path, kept, count_reads):
    """This one asks while the other reads."""
    write_set(tmp_path, "visual")
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2"}
    with open(tmp_path / "errors", "w") as errors:
        words = [sys.executable, "-c", READ, tmp_path]
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        )
    deadline = threading.Timer(120, process.kill)
    deadline.start()
    try:
        with process:
            assert process.stdout.readline() == "reads\n", (tmp_path / "errors").read_text()[-2000:]
            ours = read_source(tmp_path, "toy/visual").inputs
            theirs = process.stdout.read()
    finally:
        deadline.cancel()
    assert process.returncode == 0, (tmp_path / "errors").read_text()[-2000:]
    assert not count_reads and theirs.split() == [hashlib.sha256(ours.tobytes()).hexdigest()]
