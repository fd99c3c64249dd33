"""Sources and subsets, and how they are read from records."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.sources import random_source
from helpers.synthetic_sets import write_set as write_synthetic_set
from helpers.toy_sources import write_set
from kerasemo.datasets.lazy_arrays import GatheredItems
from kerasemo.datasets.sources import Subset, manifest_hash, read_source
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError, InputError
from pipelines.core.labels import EMOTIONS


def test_source_has_labels_mask_and_domain():
    source = random_source("x/audio", ("surprise", "anger", "anger"), items=(1, 2))
    anger, surprise = EMOTIONS.index("anger"), EMOTIONS.index("surprise")
    assert source.domain == DOMAINS.index("audio")
    assert source.labels.tolist() == [surprise, anger, anger]
    assert source.labels.dtype == np.int32
    assert np.flatnonzero(source.mask).tolist() == [anger, surprise]
    assert source.mask.dtype == np.float32


def test_items_of_clips_are_ascending():
    source = random_source("x/audio", ("surprise", "anger", "anger"), items=(1, 2))
    assert source.items_of([2, 0]).tolist() == [0, 3]
    assert source.items_of([]).tolist() == []


def test_subset_has_the_labels_of_its_items():
    source = random_source("x/audio", ("surprise", "anger", "anger"), items=(1, 2))
    subset = Subset(source, np.array([3, 0]))
    assert [EMOTIONS[label] for label in subset.labels] == ["anger", "surprise"]


def test_visual_set_is_read_as_written(tmp_path):
    clips, records_by_clip = write_set(tmp_path, "visual")
    source = read_source(tmp_path, "toy/visual")
    assert source.name == "toy/visual"
    assert [row["id"] for row in source.rows] == [clip.id for clip in clips]
    assert [EMOTIONS[label] for label in source.labels] == [clip.emotion for clip in clips]
    assert source.inputs.dtype == np.uint8
    assert source.clip_of.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4]
    faces = np.concatenate([record for (record,) in records_by_clip])
    np.testing.assert_array_equal(source.inputs, faces)


def test_records_of_a_long_clip_are_read_as_one_clip(tmp_path):
    """The two records of clip 1 have 70 and 30 frames: 2 + 1 segments.

    The first channel of a segment is the log-Mel, a Mel bin in each row.
    """
    _, records_by_clip = write_set(tmp_path, "audio")
    source = read_source(tmp_path, "toy/audio")
    assert source.inputs.dtype == np.float32
    assert source.inputs.shape[1:] == (64, 64, 3)
    assert np.bincount(source.clip_of).tolist() == [1, 3, 4, 5, 6]
    np.testing.assert_array_equal(source.inputs[0, ..., 0], records_by_clip[0][0][:64].T)
    np.testing.assert_array_equal(source.inputs[2, ..., 0], records_by_clip[1][0][-64:].T)
    assert np.abs(source.inputs[..., 1]).max() > 0


def test_damaged_shard_is_refused(tmp_path):
    write_set(tmp_path, "visual")
    shard = tmp_path / "toy" / "visual" / "00001.tfrecord"
    body = bytearray(shard.read_bytes())
    body[len(body) // 2] ^= 1
    shard.write_bytes(body)
    with pytest.raises(DataError, match=r"00001\.tfrecord: .*build"):
        read_source(tmp_path, "toy/visual")


def test_truncated_shard_is_refused(tmp_path):
    write_set(tmp_path, "visual")
    shard = tmp_path / "toy" / "visual" / "00001.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"00001\.tfrecord: .*\d+ bytes, expected \d+"):
        read_source(tmp_path, "toy/visual")


def test_missing_shard_is_refused(tmp_path):
    write_set(tmp_path, "visual")
    (tmp_path / "toy" / "visual" / "00001.tfrecord").unlink()
    with pytest.raises(DataError, match=r"00001\.tfrecord: missing"):
        read_source(tmp_path, "toy/visual")


def edit_manifest(folder: Path, *, last_clip: dict[str, Any]) -> None:
    """Change the row of the last clip in a manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["clips"][-1] |= last_clip
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("last_clip", "message"),
    [
        pytest.param({"items": 3}, "9 faces or segments, .*manifest .*10", id="fewer records"),
        pytest.param({"items": 1}, r"more records of s/4\.x .*manifest", id="more records"),
        pytest.param({"id": "s/5.x"}, r"more records of s/4\.x .*manifest", id="other clip"),
    ],
)
def test_manifest_of_other_records_is_refused(tmp_path, last_clip, message):
    write_set(tmp_path, "visual")
    edit_manifest(tmp_path / "toy" / "visual", last_clip=last_clip)
    with pytest.raises(DataError, match=f"toy/visual: {message}.*build"):
        read_source(tmp_path, "toy/visual")


def test_missing_set_is_refused_with_the_command_that_builds_it(tmp_path):
    command = rf"python -m pipelines\.build --corpus savee .*--out {tmp_path}"
    with pytest.raises(InputError, match=f"savee/audio.*{command}"):
        read_source(tmp_path, "savee/audio")


def test_hash_of_a_set_is_the_hash_of_its_manifest(tmp_path):
    """The manifest has the checksum of each shard, so other shards have another hash."""
    hashes = []
    for name, clips_per_shard in (("first", 2), ("same", 2), ("other", 3)):
        write_set(tmp_path / name, "visual", clips_per_shard=clips_per_shard)
        hashes.append(manifest_hash(tmp_path / name / "toy" / "visual"))
    first, same, changed = hashes
    assert first == same
    assert first != changed


@pytest.mark.parametrize("n_sources", [1, 2])
def test_gathered_items_equal_the_items_of_all_sources(n_sources):
    sources = [
        random_source(name, ("anger", "fear") * 4, seed=seed)
        for seed, name in enumerate(("a/visual", "b/visual"))
    ][:n_sources]
    random = np.random.default_rng(0)
    items = [random.permutation(len(source.inputs))[:-1] for source in sources]
    gathered = GatheredItems([source.inputs for source in sources], items)
    expected = np.concatenate(
        [source.inputs[chosen] for source, chosen in zip(sources, items, strict=True)]
    )
    assert gathered.shape == expected.shape
    assert len(gathered) == len(expected)
    n_first = len(items[0])
    for part in (slice(0, 3), slice(n_first - 2, n_first + 2), slice(0, len(expected))):
        np.testing.assert_array_equal(gathered[part], expected[part])


def test_inputs_of_a_subset_are_those_of_its_items():
    source = random_source("a/visual", ("anger", "fear") * 4)
    items = np.random.default_rng(0).permutation(len(source.inputs))[:-1]
    np.testing.assert_array_equal(Subset(source, items).inputs[0:9], source.inputs[items[:9]])


def write_set_with_spec(folder: Path, **fields: Any) -> None:
    """Write the set a/audio with changed fields of the spec in its manifest."""
    path = write_synthetic_set(folder, "a/audio") / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["spec"] |= fields
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("hop_seconds", 0.02, r"another spec .*hop_seconds 0\.02, expected 0\.01"),
        ("blur", 1, "another version .*blur"),
    ],
)
def test_records_of_another_spec_are_refused(tmp_path, field, value, message):
    write_set_with_spec(tmp_path, **{field: value})
    with pytest.raises(DataError, match=f"{message}.*build"):
        read_source(tmp_path, "a/audio")


def test_records_with_another_number_of_frames_per_clip_are_read(tmp_path):
    write_set_with_spec(tmp_path, frames_per_clip=3)
    assert read_source(tmp_path, "a/audio").rows
