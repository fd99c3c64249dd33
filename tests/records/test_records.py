"""The schema: what is stored comes back, and what is damaged is named."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

from helpers.record_sets import (
    CLIP,
    SPEC,
    clips,
    content,
    faces_of,
    flip_a_bit,
    options,
    sha256_of,
    write_set,
)
from pipelines.core.errors import DataError, InputError
from pipelines.core.files import file_sha256
from pipelines.features import log_mel
from pipelines.records import reader, schema, shards
from pipelines.records.writer import SetWriter, is_current

# The schema


def test_names_and_faces_come_back():
    faces = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    record = schema.deserialise(schema.serialise(CLIP, faces=faces), domain="visual")
    np.testing.assert_array_equal(record["faces"], faces)
    assert {name: record[name].decode() for name in schema.NAMES} == {
        name: getattr(CLIP, name) for name in schema.NAMES
    }
    assert record["part"] == 0 and schema.item_count(record, SPEC) == 5


@pytest.mark.parametrize("frames", [1, 30, 64, 200])
def test_log_mel_and_sound_come_back(frames):
    static = np.random.default_rng(frames).normal(-40, 12, (frames, 64)).astype(np.float32)
    pcm = np.arange(-300, 300, dtype=np.int16)
    serialised = schema.serialise(CLIP, part=2, log_mel=static, pcm=pcm)
    record = schema.deserialise(serialised, domain="audio")
    np.testing.assert_array_equal(record["log_mel"], static)
    np.testing.assert_array_equal(record["pcm"], pcm)
    assert record["part"] == 2
    assert schema.item_count(record, SPEC) == len(log_mel.segments(static))
    without_sound = schema.deserialise(schema.serialise(CLIP, log_mel=static), domain="audio")
    assert without_sound["pcm"].shape == (0,)


@pytest.mark.parametrize(
    ("serialised", "domain"),
    [
        (b"no record", "visual"),
        (b"", "visual"),
        (schema.serialise(CLIP), "visual"),
        (schema.serialise(CLIP, faces=np.zeros((1, 64, 64, 3))), "audio"),
        (schema.serialise(CLIP, faces=np.zeros((1, 64, 63, 3))), "visual"),
        (tf.train.Example().SerializeToString(), "audio"),
    ],
)
def test_what_is_no_record_of_the_domain_is_a_data_error(serialised, domain):
    with pytest.raises(DataError, match="record.*schema"):
        schema.deserialise(serialised, domain=domain)


def test_equal_clips_have_equal_bytes():
    first, second = (
        schema.serialise(CLIP, faces=np.zeros((1, 64, 64, 3), np.uint8)) for _ in range(2)
    )
    assert first == second


# Sets


def test_a_set_is_read_in_order_and_verified(tmp_path):
    write_set(tmp_path / "visual", bad=("005",))
    manifest = reader.read_manifest(tmp_path / "visual")
    assert reader.verify(tmp_path / "visual") == {"shards": 3, "clips": 9, "records": 9}
    assert [(shard["file"], shard["clips"], shard["records"]) for shard in manifest["shards"]] == [
        *(("00000.tfrecord", 4, 4), ("00001.tfrecord", 3, 3), ("00002.tfrecord", 2, 2))
    ]
    assert manifest["quarantined"] == [
        {"path": "005", "reason": "broken", "sha256": "hash of 005", "shard": 1}
    ]
    assert list(content(tmp_path / "visual")) == [
        *(f"0000{n}.tfrecord" for n in range(3)),
        "manifest.json",
        "report.json",
    ]
    assert reader.spec_of(manifest) == SPEC and manifest["schema"] == schema.SCHEMA
    read = list(reader.read_features(tmp_path / "visual", manifest))
    assert [record["id"].decode() for record in read] == [row["id"] for row in manifest["clips"]]
    for record, clip in zip(read, (clip for clip in clips(10) if clip.id != "005"), strict=True):
        np.testing.assert_array_equal(record["faces"], faces_of(clip))
    rows = [manifest["clips"][place] for place in (8, 1, 4)]
    pairs = list(reader.read_first_records(tmp_path / "visual", manifest, rows))
    assert [row["id"] for row, _ in pairs] == ["001", "004", "009"]
    for row, record in pairs:
        assert record["id"].decode() == row["id"]


def test_a_set_of_which_nothing_could_be_used(tmp_path):
    write_set(tmp_path / "visual", clips(3), bad=("000", "001", "002"))
    assert reader.verify(tmp_path / "visual") == {"shards": 1, "clips": 0, "records": 0}


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
            writer.write(schema.serialise(clip, faces=faces_of(clip)))
    facts = {
        "bytes": (folder / "00001.tfrecord").stat().st_size,
        "sha256": file_sha256(folder / "00001.tfrecord"),
    }
    _rewrite(lambda manifest: manifest["shards"][1].update(facts))(folder)


def _no_record(folder):
    (folder / "00002.tfrecord").write_bytes(b"no record " * 9)
    facts = {"bytes": 90, "sha256": file_sha256(folder / "00002.tfrecord")}
    _rewrite(lambda manifest: manifest["shards"][2].update(facts))(folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (flip_a_bit, "00001.tfrecord: damaged: record 2 at byte 74204 .*checksum"),
        (
            lambda folder: os.truncate(folder / "00001.tfrecord", 1000),
            "00001.tfrecord: damaged: record 0 at byte 0 .*1000 bytes, expected",
        ),
        (lambda folder: (folder / "00002.tfrecord").unlink(), "00002.tfrecord: missing"),
        (
            lambda folder: os.truncate(folder / "manifest.json", 100),
            "manifest.json: damaged",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text("[]"),
            "manifest.json: damaged",
        ),
        (
            _rewrite(lambda manifest: manifest.update(schema=0)),
            "manifest.json: schema version 0, expected 1",
        ),
        (
            _rewrite(lambda manifest: manifest.pop("schema")),
            "manifest.json: schema version None, expected 1",
        ),
        (
            _rewrite(lambda manifest: manifest["spec"].pop("face_size")),
            "face_size.*build.*set again",
        ),
        (
            _rewrite(lambda manifest: manifest["clips"].pop()),
            r"00002.tfrecord: record 1 at byte 3\d{4} .*2 records, expected 1",
        ),
        (
            _rewrite(lambda m: m["clips"][5].update(emotion="fear")),
            "00001.tfrecord: record 1 at byte 37102",
        ),
        (_rewrite(lambda m: m["shards"][0].pop("bytes")), "manifest.json: damaged .*shards"),
        (_rewrite(lambda m: m["clips"][3].pop("id")), "manifest.json: damaged .*clips"),
        (_rewrite(lambda m: m["clips"][3].pop("items")), "manifest.json: damaged .*clips"),
        (_other_record, "00001.tfrecord: record 0 at byte 0 .*4 records, expected 4"),
        (_no_record, "00002.tfrecord: no record.*schema.*byte 0"),
    ],
)
def test_damage_is_named_and_mended_by_building_again(tmp_path, damage, words):
    folder = tmp_path / "visual"
    write_set(folder)
    whole = content(folder)
    damage(folder)
    with pytest.raises(DataError, match=words) as error:
        reader.verify(folder)
    assert "\n" not in str(error.value) and "build" in str(error.value)
    current = is_current(folder, clips=clips(10), options=options(), sha256_of=sha256_of)
    if damage in (_other_record, _no_record):  # nothing but a forger makes these
        assert current
    else:
        assert not current
        write_set(folder)
        assert content(folder) == whole


def test_a_folder_without_a_manifest_is_no_set(tmp_path):
    folder = tmp_path / "visual"
    write_set(folder)
    whole = content(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match="visual: no set.*records .*python -m pipelines.build"):
        reader.verify(folder)
    assert not is_current(folder, clips=clips(10), options=options(), sha256_of=sha256_of)
    write_set(folder)
    assert content(folder) == whole


def test_find_sets(tmp_path):
    for folder in ("b/visual", "a/visual", "a/audio", "a/.visual.before", "a/.audio.building"):
        write_set(tmp_path / folder, clips(1))
    (tmp_path / "notes").mkdir()
    names = lambda folders: [str(path.relative_to(tmp_path)) for path in folders]  # noqa: E731
    assert names(reader.find_sets(tmp_path)) == ["a/audio", "a/visual", "b/visual"]
    assert names(reader.find_sets(tmp_path / "a")) == ["a/audio", "a/visual"]
    assert names(reader.find_sets(tmp_path / "a/visual")) == ["a/visual"]
    assert reader.find_sets(tmp_path / "notes") == []


@pytest.mark.parametrize("domain", ["visual", "audio"])
def test_arrays_and_the_graph_hold_the_same_features(tmp_path, domain):
    """`deserialise` and `parse` derive from one table; here TensorFlow reads the files itself."""
    writer = SetWriter(
        tmp_path / domain, clips=clips(6, domain), options=options(domain), clips_per_shard=4
    )
    for clip in writer.resume(sha256_of):
        static = (
            np.random.default_rng(int(clip.id))
            .normal(-40, 12, (70 + int(clip.id), 64))
            .astype(np.float32)
        )
        content = (
            {"faces": faces_of(clip)}
            if domain == "visual"
            else {"log_mel": static, "pcm": np.arange(9, dtype=np.int16)}
        )
        writer.add(
            clip,
            [schema.serialise(clip, part=part, **content) for part in range(2)],
            {"sha256": "", "items": 3, "seconds": 1.0},
        )
    writer.finish({})
    files = [str(path) for path in sorted((tmp_path / domain).glob("*.tfrecord"))]
    parsed = tf.data.TFRecordDataset(files).map(
        lambda serialised: schema.parse(serialised, domain=domain)
    )
    manifest = reader.read_manifest(tmp_path / domain)
    read = list(reader.read_features(tmp_path / domain, manifest))
    assert len(read) == 12
    for ours, theirs in zip(read, parsed.as_numpy_iterator(), strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    for record, stored in zip(reader.read_inputs(tmp_path / domain, manifest), read, strict=True):
        expected = stored["faces"] if domain == "visual" else log_mel.segments(stored["log_mel"])
        np.testing.assert_array_equal(record["inputs"], expected)
        assert len(record["inputs"]) == schema.item_count(stored, SPEC)


# Frames of TFRecord files


def test_frames_are_those_that_tensorflow_reads(tmp_path):
    contents = [b"", b"a", bytes(300), b"the last"]
    with tf.io.TFRecordWriter(str(tmp_path / "a")) as writer:
        for content in contents:
            writer.write(content)
    buffer = (tmp_path / "a").read_bytes()
    frames = list(shards.iterate_tfrecord(buffer))
    assert [buffer[frame.data] for frame in frames] == contents
    assert [frame.offset for frame in frames] == [0, *(frame.end for frame in frames[:-1])]
    assert frames[-1].end == len(buffer)
    for length in range(len(buffer)):
        whole = [frame for frame in frames if frame.end <= length]
        if length in (0, *(frame.end for frame in frames)):
            assert list(shards.iterate_tfrecord(buffer[:length])) == whole
            continue
        offset = whole[-1].end if whole else 0
        with pytest.raises(DataError, match=f"byte {offset}$"):
            list(shards.iterate_tfrecord(buffer[:length]))
