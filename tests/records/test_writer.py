"""The writer of sets: what an interrupted build, or the set that is there, has of whole shards is not made again."""

import dataclasses
import errno
import os
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from helpers.record_sets import clips, content, flip_a_bit, options, sha256_of, write_set
from pipelines.core.errors import InputError, RunError, StorageError
from pipelines.records import reader
from pipelines.records.writer import SetWriter, is_current


@pytest.mark.parametrize(
    ("upto", "goes_on_from"), [(0, 0), (3, 0), (4, 4), (7, 4), (8, 8), (10, 10)]
)
def test_an_interrupted_set_goes_on_behind_its_last_shard_to_the_same_bytes(
    tmp_path, upto, goes_on_from
):
    write_set(tmp_path / "whole", bad=("005", "006"))
    write_set(tmp_path / "visual", upto=upto, bad=("005", "006"))
    assert not (tmp_path / "visual").exists()
    assert write_set(tmp_path / "visual", bad=("005", "006")) == [
        f"{n:03d}" for n in range(goes_on_from, 10)
    ]
    assert content(tmp_path / "visual") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["visual", "whole"]


def test_only_shards_of_the_same_media_labels_and_options_are_taken_over(tmp_path):
    folder = tmp_path / "visual"
    write_set(folder, upto=8)
    changed = lambda clip: "another" if clip.id == "006" else sha256_of(clip)  # noqa: E731
    assert write_set(folder, sha256_of=changed, upto=8)[0] == "004"
    relabelled = [
        dataclasses.replace(clip, emotion="fear") if clip.id == "002" else clip
        for clip in clips(10)
    ]
    assert write_set(folder, relabelled, sha256_of=changed, upto=8)[0] == "000"
    assert write_set(folder, relabelled[1:], sha256_of=changed, upto=8)[0] == "001"
    assert write_set(folder, upto=8)[0] == "000"
    assert write_set(folder, faces="as-is", upto=8)[0] == "000"
    assert write_set(folder, faces="as-is")[0] == "008"
    for count in (9, 10, 11):
        current = is_current(
            folder, clips=clips(count), options=options(faces="as-is"), sha256_of=sha256_of
        )
        assert current == (count == 10)


def test_a_damaged_shard_of_an_interrupted_set_is_written_again(tmp_path):
    write_set(tmp_path / "visual", upto=9)
    flip_a_bit(tmp_path / ".visual.building")
    assert write_set(tmp_path / "visual")[0] == "004"
    assert reader.verify(tmp_path / "visual")["records"] == 10


def test_a_set_is_replaced_only_when_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "visual"
    write_set(folder)
    before = content(folder)
    write_set(folder, upto=7, faces="as-is")
    assert content(folder) == before
    (folder / "notes.txt").write_text("a user's own")
    (tmp_path / ".visual.before").mkdir()  # of a build that was killed while it tidied up
    (tmp_path / ".visual.before/00000.tfrecord").touch()
    write_set(folder, faces="as-is")
    assert (
        reader.read_manifest(folder)["faces"] == "as-is"
        and (folder / "notes.txt").read_text() == "a user's own"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["visual"]


def test_a_file_in_the_sets_place_is_left_alone(tmp_path):
    (tmp_path / "visual").write_text("a user's own")
    with pytest.raises(InputError, match="expected a folder .*name another --out"):
        write_set(tmp_path / "visual")
    assert (tmp_path / "visual").read_text() == "a user's own"


def test_a_set_that_is_not_whole_is_not_finished(tmp_path):
    writer = SetWriter(tmp_path / "visual", clips=clips(2), options=options(), clips_per_shard=4)
    writer.resume(sha256_of)
    with pytest.raises(RuntimeError, match="before every clip"):
        writer.finish({})


def test_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
    class Full:
        def __init__(self, path):
            pass

        def write(self, record):
            raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.io, "TFRecordWriter", Full)
    with pytest.raises(StorageError, match="unfinished: No space left"):
        write_set(tmp_path / "visual")


@pytest.mark.parametrize("name", ["sync_file", "write_json"])
def test_a_disk_that_is_full_at_the_end_of_a_shard_is_a_storage_error(tmp_path, monkeypatch, name):
    def refuse(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(f"pipelines.records.writer.{name}", refuse)
    with pytest.raises(StorageError, match="building/.*: No space left"):
        write_set(tmp_path / "visual")
    monkeypatch.undo()
    write_set(tmp_path / "visual")
    assert reader.verify(tmp_path / "visual")["records"] == 10


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("a user's own")
    with pytest.raises(StorageError, match="file.*: Not a directory"):
        write_set(tmp_path / "file/visual")


def test_only_the_shard_of_what_is_tried_again_is_written_again(tmp_path):
    folder = tmp_path / "visual"
    write_set(folder)
    whole = content(folder)
    shutil.rmtree(folder)
    write_set(folder, bad=("005",), retry="time")
    current = {"clips": clips(10), "options": options(), "sha256_of": sha256_of}
    assert not is_current(folder, **current)
    inodes = {name: (folder / name).stat().st_ino for name in ("00000.tfrecord", "00002.tfrecord")}
    assert write_set(folder) == ["004", "005", "006", "007"]
    assert content(folder) == whole and is_current(folder, **current)
    assert inodes == {name: (folder / name).stat().st_ino for name in inodes}
    write_set(folder, bad=("005",), faces="as-is")  # no reason to try again
    assert is_current(folder, clips=clips(10), options=options(faces="as-is"), sha256_of=sha256_of)


def test_a_shard_that_was_damaged_since_is_written_again_alone(tmp_path):
    folder = tmp_path / "visual"
    write_set(folder)
    whole = content(folder)
    flip_a_bit(folder)
    assert write_set(folder) == ["004", "005", "006", "007"] and content(folder) == whole


@pytest.mark.parametrize("links", [True, False])
def test_a_build_killed_while_it_put_the_set_into_place_is_finished(tmp_path, monkeypatch, links):
    """Between the two renames, with and without hard links, there is no set; nothing of it is lost or made again."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    folder = tmp_path / "visual"
    write_set(folder)
    whole = content(folder)
    for place in (".visual.building", ".visual.before"):
        folder.rename(tmp_path / place)
        assert write_set(folder) == [] and content(folder) == whole
        assert [path.name for path in tmp_path.iterdir()] == ["visual"]


def test_one_build_at_a_time(tmp_path):
    """Another process that writes the same set is refused in one line; a killed one leaves no lock behind."""
    writer = SetWriter(tmp_path / "visual", clips=clips(2), options=options(), clips_per_shard=4)
    writer.resume(sha256_of)
    with pytest.raises(
        RunError,
        match="visual: another build .*wait .*--out",
    ):
        write_set(tmp_path / "visual")
    writer.close()
    code = "import fcntl, os, signal, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); os.kill(os.getpid(), signal.SIGKILL)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / ".visual.building"], check=False
        ).returncode
        == -9
    )
    assert len(write_set(tmp_path / "visual")) == 10


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    """Class folders of media where the set should stand, with files of theirs that are named like a set's."""
    folder = tmp_path / "visual"
    (folder / "anger").mkdir(parents=True)
    for name in ("anger/a.jpg", "report.json", "00001.json"):
        (folder / name).write_text("a user's own")
    with pytest.raises(
        InputError,
        match="visual: .*something else.*set.*records; name another --out.*--name",
    ):
        write_set(folder)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "00001.json",
        "a.jpg",
        "anger",
        "report.json",
        "visual",
    ]


def test_a_set_that_is_a_link_to_another_disk_stays_one(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "visual").symlink_to(tmp_path / "large")
    for more in ({}, {"faces": "as-is"}):
        write_set(tmp_path / "visual", **more)
        assert (tmp_path / "visual").is_symlink() and reader.verify(tmp_path / "large")[
            "records"
        ] == 10
        assert sorted(path.name for path in tmp_path.iterdir()) == ["large", "visual"]
