"""A set that is too large for the memory is a memory-mapped file with the same bytes."""

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
from kerasemo.datasets import array_cache, sources
from kerasemo.datasets.batches import BatchStream
from kerasemo.datasets.sampling import item_sampler
from kerasemo.datasets.sources import fits_memory, manifest_hash, read_source
from pipelines.core.errors import DataError, StorageError
from pipelines.records import reader


@pytest.fixture
def cache_folder(tmp_path, monkeypatch) -> Path:
    """Let no set fit the memory; return the folder of the files."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(array_cache, "default_folder", lambda: folder)
    monkeypatch.setattr(sources, "MAX_BYTES_IN_MEMORY", 100)
    return folder


@pytest.fixture
def folder_reads(monkeypatch) -> list[Path]:
    """Return a list that gets the folder of a set whenever its records are read."""
    folders, read_inputs = [], reader.read_inputs

    def read_and_count(folder, manifest):
        folders.append(folder)
        return read_inputs(folder, manifest)

    monkeypatch.setattr(reader, "read_inputs", read_and_count)
    return folders


def read_in_memory(folder, source, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sources, "MAX_BYTES_IN_MEMORY", 2**30)
        return read_source(folder, source)


@pytest.mark.parametrize("domain", ["visual", "audio"])
def test_mapped_source_equals_the_source_in_memory(
    tmp_path, cache_folder, folder_reads, monkeypatch, domain
):
    write_set(tmp_path, domain)
    expected = read_in_memory(tmp_path, f"toy/{domain}", monkeypatch)
    mapped = [read_source(tmp_path, f"toy/{domain}") for _ in range(2)]
    assert len(folder_reads) == 2  # into the memory, and into the file that both maps share
    assert not isinstance(expected.inputs, np.memmap)
    for source in mapped:
        assert isinstance(source.inputs, np.memmap)
        assert source.inputs.dtype == expected.inputs.dtype
        assert source.clip_of.dtype == expected.clip_of.dtype
        np.testing.assert_array_equal(source.inputs, expected.inputs)
        np.testing.assert_array_equal(source.clip_of, expected.clip_of)
        assert source.rows == expected.rows
        assert source.emotions == expected.emotions


@pytest.mark.parametrize("domain", ["visual", "audio"])
def test_batches_of_a_mapped_source_equal_those_in_memory(
    tmp_path, cache_folder, monkeypatch, domain
):
    write_set(tmp_path, domain)
    in_memory = read_in_memory(tmp_path, f"toy/{domain}", monkeypatch)
    mapped = read_source(tmp_path, f"toy/{domain}")
    expected_stream, stream = (
        BatchStream([source], item_sampler(whole(source), batch=4, seed=1), epochs=2)
        for source in (in_memory, mapped)
    )
    batches = list(stream.dataset.as_numpy_iterator())
    assert len(batches) == 2 * stream.steps
    for expected, batch in zip(expected_stream.dataset.as_numpy_iterator(), batches, strict=True):
        assert batch.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name])


def test_mapped_source_is_read_only(tmp_path, cache_folder):
    write_set(tmp_path, "visual")
    source = read_source(tmp_path, "toy/visual")
    with pytest.raises(ValueError, match="read-only"):
        source.inputs[0] = 0


def test_array_fits_memory_up_to_a_quarter_of_it_and_two_gibibytes():
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    max_bytes = min(2 * 2**30, memory_bytes // 4)
    assert fits_memory(max_bytes)
    assert not fits_memory(max_bytes + 1)


def test_each_set_has_its_file_outside_of_the_records(tmp_path, cache_folder):
    for name, clips_per_shard in (("first", 2), ("second", 3)):
        write_set(tmp_path / name, "visual", clips_per_shard=clips_per_shard)
        paths = sorted((tmp_path / name).rglob("*"))
        read_source(tmp_path / name, "toy/visual")
        assert sorted((tmp_path / name).rglob("*")) == paths
    suffixes = sorted(path.suffix for path in cache_folder.iterdir())
    assert suffixes == [".bin", ".bin", ".json", ".json", ".lock", ".lock"]


def flip_bit(path):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def array_path(folder):
    (path,) = folder.glob("*.bin")
    return path


def description_path(folder):
    (path,) = folder.glob("*.json")
    return path


def change_description(folder, **changes):
    path = description_path(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGES = {
    "bit of the array": lambda folder: flip_bit(array_path(folder)),
    "truncated array": lambda folder: os.truncate(array_path(folder), 1000),
    "no array": lambda folder: array_path(folder).unlink(),
    "no description": lambda folder: description_path(folder).unlink(),
    "truncated description": lambda folder: os.truncate(description_path(folder), 40),
    "description of another type": lambda folder: description_path(folder).write_text("[]"),
    "another layout": lambda folder: change_description(folder, layout=0),
    "another shape": lambda folder: change_description(folder, shape=[1, 2, 3]),
    "interrupted write": lambda folder: array_path(folder).rename(
        array_path(folder).with_suffix(".bin.tmp")
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_file_is_written_again(tmp_path, cache_folder, folder_reads, damage):
    write_set(tmp_path, "visual")
    expected = read_source(tmp_path, "toy/visual").inputs.copy()
    damage(cache_folder)
    folder_reads.clear()
    np.testing.assert_array_equal(read_source(tmp_path, "toy/visual").inputs, expected)
    assert len(folder_reads) == 1
    read_source(tmp_path, "toy/visual")
    assert len(folder_reads) == 1
    assert not list(cache_folder.glob("*.tmp"))


def test_damaged_shard_is_refused_although_its_array_is_cached(tmp_path, cache_folder):
    write_set(tmp_path, "visual")
    read_source(tmp_path, "toy/visual")
    flip_bit(tmp_path / "toy" / "visual" / "00001.tfrecord")
    with pytest.raises(DataError, match=r"00001\.tfrecord: .*build"):
        read_source(tmp_path, "toy/visual")


def test_manifest_of_other_records_leaves_no_file(tmp_path, cache_folder):
    write_set(tmp_path, "visual")
    manifest_path = tmp_path / "toy" / "visual" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["clips"][-1]["items"] += 1
    manifest_path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="9 faces or segments, .*manifest .*10"):
        read_source(tmp_path, "toy/visual")
    assert [path.suffix for path in cache_folder.iterdir()] == [".lock"]


def test_full_disk_is_reported_in_one_line(tmp_path, cache_folder):
    write_set(tmp_path, "visual")
    cache_folder.mkdir()
    key = manifest_hash(tmp_path / "toy" / "visual")
    (cache_folder / f"{key}.bin.tmp").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"cache/.*: No space left.* 0\.0 GiB") as refused:
        read_source(tmp_path, "toy/visual")
    assert "\n" not in str(refused.value)
    assert [path.suffix for path in cache_folder.iterdir()] == [".lock"]


def test_cache_folder_that_is_a_file_is_refused(tmp_path, cache_folder):
    write_set(tmp_path, "visual")
    cache_folder.write_text("")
    with pytest.raises(StorageError, match="cache/.*: File exists"):
        read_source(tmp_path, "toy/visual")


SLOW_READER = """
import hashlib, pathlib, sys, time
from kerasemo.datasets import array_cache, sources
from pipelines.records import reader
folder = pathlib.Path(sys.argv[1])
array_cache.default_folder = lambda: folder / "cache"
sources.MAX_BYTES_IN_MEMORY = 100
read_inputs = reader.read_inputs
def read_slowly(folder, manifest):
    print("reading", flush=True)
    for record in read_inputs(folder, manifest):
        time.sleep(0.3)
        yield record
reader.read_inputs = read_slowly
print(hashlib.sha256(sources.read_source(folder, "toy/visual").inputs.tobytes()).hexdigest())
"""


def test_second_process_waits_for_the_first_and_uses_its_file(tmp_path, cache_folder, folder_reads):
    """This process reads the source while another process writes the file."""
    write_set(tmp_path, "visual")
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2"}
    errors_path = tmp_path / "errors"
    with open(errors_path, "w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_READER, tmp_path],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
    deadline = threading.Timer(120, process.kill)
    deadline.start()
    try:
        with process:
            assert process.stdout.readline() == "reading\n", errors_path.read_text()[-2000:]
            inputs = read_source(tmp_path, "toy/visual").inputs
            other_output = process.stdout.read()
    finally:
        deadline.cancel()
    assert process.returncode == 0, errors_path.read_text()[-2000:]
    assert not folder_reads
    assert other_output.split() == [hashlib.sha256(inputs.tobytes()).hexdigest()]
