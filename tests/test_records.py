"""The schema: what is stored comes back; what is damaged is named; and the writer of sets."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from pipelines import mels, records, sets
from pipelines.corpora.clip import Clip
from pipelines.spec import InputError, Spec

SPEC = Spec()
CLIP = Clip("a/ü b.wav", None, "näme", "audio", "näme:01", "anger", "näme:01:anger:x", "x", "2", "train")


def clips(count, domain="visual"):
    return [dataclasses.replace(CLIP, id=f"{n:03d}", domain=domain, utterance=f"u{n}") for n in range(count)]


def options(domain="visual", **more):
    return {"corpus": "näme", "domain": domain, "spec": dataclasses.asdict(SPEC), **more}


def sha256_of(clip):
    return f"hash of {clip.id}"


def faces_of(clip):
    return np.random.default_rng(int(clip.id)).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def write_set(folder, every=None, *, sha256_of=sha256_of, upto=None, bad=(), **more):
    """Write a set, or begin one: as a build would, which is stopped behind clip `upto`; return the clips that it read."""
    every = clips(10) if every is None else every
    writer = sets.SetWriter(folder, clips=every, options=options(**more), clips_per_shard=4)
    start = writer.resume(sha256_of)
    for clip in every[start:upto]:
        if clip.id in bad:
            writer.quarantine(clip, "broken", sha256=sha256_of(clip))
        else:
            writer.add(clip, [records.serialise(clip, faces=faces_of(clip))], {"sha256": sha256_of(clip), "seconds": 1.5, "items": 3})
    if upto is None:
        writer.finish({"written": len(every) - len(bad)})
    return [clip.id for clip in every[start:upto]]


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# The schema


def test_names_and_faces_come_back():
    faces = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    record = records.parse(tf.constant(records.serialise(CLIP, faces=faces)), domain="visual")
    np.testing.assert_array_equal(record["inputs"], faces)
    assert {name: record[name].numpy().decode() for name in records.NAMES} == {name: getattr(CLIP, name) for name in records.NAMES}
    assert record["part"] == 0


@pytest.mark.parametrize("frames", [1, 30, 64, 200])
def test_segments_and_sound_come_back(frames):
    static = np.random.default_rng(frames).normal(-40, 12, (frames, 64)).astype(np.float32)
    pcm = np.arange(-300, 300, dtype=np.int16)
    record = records.parse(tf.constant(records.serialise(CLIP, part=2, log_mel=static, pcm=pcm)), domain="audio")
    np.testing.assert_array_equal(record["inputs"], mels.segments(static))
    np.testing.assert_array_equal(record["pcm"], pcm)
    assert record["part"] == 2 and len(record["inputs"]) == SPEC.segment_count(frames)
    assert records.parse(tf.constant(records.serialise(CLIP, log_mel=static)), domain="audio")["pcm"].shape == (0,)


def test_equal_clips_have_equal_bytes():
    one, other = (records.serialise(CLIP, faces=np.zeros((1, 64, 64, 3), np.uint8)) for _ in range(2))
    assert one == other


# Sets


def test_a_set_is_read_in_order_and_verified(tmp_path):
    write_set(tmp_path / "visual", bad=("005",))
    manifest = records.read_manifest(tmp_path / "visual")
    assert records.verify(tmp_path / "visual") == {"shards": 3, "clips": 9, "records": 9}
    assert [(shard["file"], shard["clips"], shard["records"]) for shard in manifest["shards"]] == [
        *(("00000.tfrecord", 4, 4), ("00001.tfrecord", 3, 3), ("00002.tfrecord", 2, 2))
    ]
    assert manifest["quarantined"] == [{"path": "005", "reason": "broken", "sha256": "hash of 005"}]
    assert list(content(tmp_path / "visual")) == [*(f"0000{n}.tfrecord" for n in range(3)), "manifest.json", "report.json"]
    assert records.spec_of(manifest) == SPEC and manifest["schema"] == records.SCHEMA
    read = list(records.read(tmp_path / "visual", manifest))
    assert [record["id"].decode() for record in read] == [row["id"] for row in manifest["clips"]]
    for record, clip in zip(read, (clip for clip in clips(10) if clip.id != "005"), strict=True):
        np.testing.assert_array_equal(record["inputs"], faces_of(clip))


def test_a_set_of_which_nothing_could_be_used(tmp_path):
    write_set(tmp_path / "visual", clips(3), bad=("000", "001", "002"))
    assert records.verify(tmp_path / "visual") == {"shards": 1, "clips": 0, "records": 0}


def _rewrite(change):
    def damage(folder):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return damage


def _other_record(folder):
    """A shard whose checksum is right and whose records are not the manifest's."""
    with tf.io.TFRecordWriter(str(folder / "00001.tfrecord")) as writer:
        for clip in clips(4):
            writer.write(records.serialise(clip, faces=faces_of(clip)))
    facts = {"bytes": (folder / "00001.tfrecord").stat().st_size, "sha256": records.file_sha256(folder / "00001.tfrecord")}
    _rewrite(lambda manifest: manifest["shards"][1].update(facts))(folder)


def _no_record(folder):
    (folder / "00002.tfrecord").write_bytes(b"no record " * 9)
    facts = {"bytes": 90, "sha256": records.file_sha256(folder / "00002.tfrecord")}
    _rewrite(lambda manifest: manifest["shards"][2].update(facts))(folder)


def _flip(folder):
    data = bytearray((folder / "00001.tfrecord").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "00001.tfrecord").write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip, "00001.tfrecord: damaged .its checksum is not the manifest's.; build the set again"),
        (lambda folder: os.truncate(folder / "00001.tfrecord", 1000), "00001.tfrecord: 1000 bytes, expected .*; build"),
        (lambda folder: (folder / "00002.tfrecord").unlink(), "00002.tfrecord: missing; build the set again"),
        (lambda folder: (folder / "manifest.json").unlink(), "no set of records .no manifest.json.; make it with"),
        (lambda folder: os.truncate(folder / "manifest.json", 100), "manifest.json: damaged .*; build the set again"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "manifest.json: damaged .*; build the set again"),
        (_rewrite(lambda manifest: manifest.update(schema=0)), "manifest.json: schema version 0, expected 1; build the set again"),
        (_rewrite(lambda manifest: manifest.pop("schema")), "manifest.json: schema version None, expected 1"),
        (_rewrite(lambda manifest: manifest["clips"].pop()), "record 9 is not the manifest's .10 records, expected 9."),
        (_other_record, "record 4 is not the manifest's .10 records, expected 10."),
        (_no_record, "corrupted record at 0.*; build the set again"),
    ],
)
def test_damage_is_named_and_mended_by_building_again(tmp_path, damage, said):
    folder = tmp_path / "visual"
    write_set(folder)
    whole = content(folder)
    damage(folder)
    with pytest.raises(InputError, match=said) as error:
        records.verify(folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    current = sets.is_current(folder, clips=clips(10), options=options(), sha256_of=sha256_of)
    if damage in (_other_record, _no_record):  # nothing but a forger makes these
        assert current
    else:
        assert not current
        write_set(folder)
        assert content(folder) == whole


def test_find_sets(tmp_path):
    for folder in ("b/visual", "a/visual", "a/audio", "a/.visual.before", "a/.audio.building"):
        write_set(tmp_path / folder, clips(1))
    (tmp_path / "notes").mkdir()
    names = lambda found: [str(path.relative_to(tmp_path)) for path in found]  # noqa: E731
    assert names(records.find_sets(tmp_path)) == ["a/audio", "a/visual", "b/visual"]
    assert names(records.find_sets(tmp_path / "a")) == ["a/audio", "a/visual"]
    assert names(records.find_sets(tmp_path / "a/visual")) == ["a/visual"]
    assert records.find_sets(tmp_path / "notes") == []


# An interrupted build


@pytest.mark.parametrize(("upto", "goes_on_from"), [(0, 0), (3, 0), (4, 4), (7, 4), (8, 8), (10, 10)])
def test_an_interrupted_set_goes_on_behind_its_last_shard_to_the_same_bytes(tmp_path, upto, goes_on_from):
    write_set(tmp_path / "whole", bad=("005", "006"))
    write_set(tmp_path / "visual", upto=upto, bad=("005", "006"))
    assert not (tmp_path / "visual").exists()
    assert write_set(tmp_path / "visual", bad=("005", "006")) == [f"{n:03d}" for n in range(goes_on_from, 10)]
    assert content(tmp_path / "visual") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["visual", "whole"]


def test_only_shards_of_the_same_media_labels_and_options_are_taken_over(tmp_path):
    folder = tmp_path / "visual"
    write_set(folder, upto=8)
    changed = lambda clip: "another" if clip.id == "006" else sha256_of(clip)  # noqa: E731
    assert write_set(folder, sha256_of=changed, upto=8)[0] == "004"
    relabelled = [dataclasses.replace(clip, emotion="fear") if clip.id == "002" else clip for clip in clips(10)]
    assert write_set(folder, relabelled, sha256_of=changed, upto=8)[0] == "000"
    assert write_set(folder, relabelled[1:], sha256_of=changed, upto=8)[0] == "001"
    assert write_set(folder, upto=8)[0] == "000"
    assert write_set(folder, faces="as-is", upto=8)[0] == "000"
    assert write_set(folder, faces="as-is")[0] == "008"
    for count in (9, 10, 11):
        current = sets.is_current(folder, clips=clips(count), options=options(faces="as-is"), sha256_of=sha256_of)
        assert current == (count == 10)


def test_a_damaged_shard_of_an_interrupted_set_is_written_again(tmp_path):
    write_set(tmp_path / "visual", upto=9)
    _flip(tmp_path / ".visual.building")
    assert write_set(tmp_path / "visual")[0] == "004"
    assert records.verify(tmp_path / "visual")["records"] == 10


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
    assert records.read_manifest(folder)["faces"] == "as-is" and (folder / "notes.txt").read_text() == "a user's own"
    assert [path.name for path in tmp_path.iterdir()] == ["visual"]


def test_a_file_in_the_sets_place_is_left_alone(tmp_path):
    (tmp_path / "visual").write_text("a user's own")
    with pytest.raises(InputError, match="expected a folder for the set; it is a file"):
        write_set(tmp_path / "visual")
    assert (tmp_path / "visual").read_text() == "a user's own"


def test_a_set_that_is_not_whole_is_not_finished(tmp_path):
    writer = sets.SetWriter(tmp_path / "visual", clips=clips(2), options=options(), clips_per_shard=4)
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
    with pytest.raises(OSError, match="No space left on device"):
        write_set(tmp_path / "visual")
