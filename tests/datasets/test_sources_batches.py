import gc
import itertools
import json
import weakref

import numpy as np
import pytest

from helpers.sources import SIZE, random_source, whole
from helpers.synthetic_sets import write_set as write_toy
from helpers.toy_sources import one_source, two_sources, write_set
from kerasemo.datasets import lazy_arrays, sampling
from kerasemo.datasets.batches import BatchShare, BatchStream
from kerasemo.datasets.sources import Subset, manifest_hash, read_source
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError, InputError, KerasemoError
from pipelines.core.labels import EMOTIONS

# Sources and subsets.


def test_a_source_names_its_labels_mask_and_domain():
    source = random_source("x/audio", ("surprise", "anger", "anger"), items=(1, 2))
    assert source.domain == DOMAINS.index("audio")
    assert source.labels.tolist() == [9, 0, 0] and source.labels.dtype == np.int32
    assert np.flatnonzero(source.mask).tolist() == [0, 9] and source.mask.dtype == np.float32
    assert source.items_of([0, 2]).tolist() == [0, 3] and source.items_of([]).tolist() == []
    assert Subset(source, np.array([3, 0])).labels.tolist() == [0, 9]


# Batches.


@pytest.mark.parametrize("kind", ["labelled", "pairs"])
def test_a_batch_is_what_its_indices_name(kind):
    sources = two_sources() if kind == "pairs" else [one_source()]
    sides = [whole(source) for source in sources]
    plan = (
        sampling.pair_sampler(sides, pairs=6, seed=1)
        if kind == "pairs"
        else sampling.item_sampler(sides[0], batch=6, seed=1)
    )
    stream = BatchStream(sources, plan, epochs=1)
    dataset, steps = stream.dataset, stream.steps
    drawn = plan(0)
    shape = (6, 2) if kind == "pairs" else (6,)
    assert {name: tuple(spec.shape) for name, spec in dataset.element_spec.items()} == {
        "image": (*shape, SIZE, SIZE, 3),
        "domain": shape,
        "seed": shape,
        "label": shape,
        "mask": (*shape, 10),
        "source": shape,
    }
    assert int(dataset.cardinality()) == steps == len(drawn["item"])
    count = 0
    for step, batch in enumerate(dataset.as_numpy_iterator()):
        for place in np.ndindex(shape):
            index = drawn["source"][step][place]
            source, item = sources[index], drawn["item"][step][place]
            np.testing.assert_array_equal(
                batch["image"][place], source.inputs[item].astype(np.float32)
            )
            assert EMOTIONS[batch["label"][place]] == source.rows[source.clip_of[item]]["emotion"]
            np.testing.assert_array_equal(batch["mask"][place], source.mask)
            assert batch["domain"][place] == source.domain and batch["source"][place] == index
        np.testing.assert_array_equal(batch["seed"], drawn["seed"][step])
        count += 1
    assert count == steps and batch["image"].dtype == (
        np.uint8 if kind == "labelled" else np.float32
    )


@pytest.mark.parametrize("step", [0, 1, 5])
def test_an_interrupted_training_sees_the_batches_it_would_have_seen(step):
    sources = two_sources()
    plan = sampling.pair_sampler([whole(source) for source in sources], pairs=6, seed=1)
    whole_stream = BatchStream(sources, plan, epochs=4)
    resumed_stream = BatchStream(sources, plan, first_epoch=2, first_step=step, epochs=2)
    steps = whole_stream.steps
    through = list(whole_stream.dataset.as_numpy_iterator())
    resumed = list(resumed_stream.dataset.as_numpy_iterator())
    assert len(through) == 4 * steps and len(resumed) == 2 * steps - step
    for one, other in zip(through[2 * steps + step :], resumed, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert (through[0]["seed"] != through[2 * steps]["seed"]).any()


def test_shares_of_a_batch_are_its_parts_in_a_row():
    """Of two machines of two devices each, the second: the third and the fourth part of every batch, one after the other."""
    sources = two_sources()
    plan = sampling.pair_sampler([whole(source) for source in sources], pairs=8, seed=1)
    every = BatchStream(sources, plan, epochs=2)
    second = BatchStream(sources, plan, first_step=1, epochs=2, share=BatchShare(2, 2, 4))
    steps = every.steps
    assert second.steps == steps and second.dataset.cardinality() == 2 * (2 * steps - 1)
    parts = list(second.dataset.as_numpy_iterator())
    for step, batch in enumerate(list(every.dataset.as_numpy_iterator())[1:]):
        for name, values in batch.items():
            np.testing.assert_array_equal(
                np.stack([part[name] for part in parts[2 * step : 2 * step + 2]]),
                values.reshape(4, 2, *values.shape[1:])[2:],
            )


def test_batches_without_end_go_on_to_the_next_epoch():
    source = one_source()
    plan = sampling.item_sampler(whole(source), batch=16, seed=1)
    stream = BatchStream([source], plan, first_epoch=3)
    batches = itertools.islice(stream.dataset.as_numpy_iterator(), 2 * stream.steps)
    seeds = [batch["seed"] for batch in batches]
    np.testing.assert_array_equal(
        np.stack(seeds), np.concatenate([plan(3)["seed"], plan(4)["seed"]])
    )


def test_nothing_of_the_batches_is_tuned_by_a_thread_that_their_end_would_wait_for():
    source = one_source()
    stream = BatchStream([source], sampling.item_sampler(whole(source), batch=16, seed=1))
    assert stream.dataset.options().autotune.enabled is False


@pytest.mark.parametrize("left", ["iterator", "stream"])
def test_arrays_live_as_long_as_their_stream_or_iterator(left):
    """The graphs of TensorFlow, which may live for ever, do not keep them."""
    source = one_source()
    kept = weakref.ref(source)
    stream = BatchStream([source], sampling.item_sampler(whole(source), batch=16, seed=1))
    iterator = iter(stream)
    next(iterator)
    del source
    if left == "iterator":
        del stream
        gc.collect()
        assert all(int(next(iterator)["label"][0]) >= 0 for _ in range(20))
        del iterator
    else:
        del iterator
        gc.collect()
        assert len(list(itertools.islice(stream.dataset.as_numpy_iterator(), 20))) == 20
        del stream
    gc.collect()
    assert kept() is None


def test_a_stream_can_be_iterated_again():
    """As the validation does in every epoch."""
    source = one_source()
    stream = BatchStream([source], sampling.item_sampler(whole(source), batch=16, seed=1), epochs=1)
    one, other = ([batch["seed"].numpy().tolist() for batch in stream] for _ in range(2))
    assert one == other and len(one) == stream.steps


# Records.


def test_a_set_is_read_as_it_was_written(tmp_path):
    clips, written = write_set(tmp_path, "visual")
    source = read_source(tmp_path, "toy/visual")
    assert source.name == "toy/visual" and [row["id"] for row in source.rows] == [
        clip.id for clip in clips
    ]
    assert [EMOTIONS[label] for label in source.labels] == [clip.emotion for clip in clips]
    assert source.inputs.dtype == np.uint8 and source.clip_of.tolist() == [
        0,
        1,
        1,
        2,
        2,
        2,
        3,
        4,
        4,
    ]
    np.testing.assert_array_equal(source.inputs, np.concatenate([faces for (faces,) in written]))


def test_a_long_clips_parts_are_one_clip(tmp_path):
    """70 and 30 frames are 2 + 1 segments of clip 1; the first channel of each segment is the log-Mel itself, a bin a row."""
    _, written = write_set(tmp_path, "audio")
    source = read_source(tmp_path, "toy/audio")
    assert source.inputs.dtype == np.float32 and source.inputs.shape[1:] == (64, 64, 3)
    assert np.bincount(source.clip_of).tolist() == [1, 3, 4, 5, 6]
    np.testing.assert_array_equal(source.inputs[0, ..., 0], written[0][0][:64].T)
    np.testing.assert_array_equal(source.inputs[2, ..., 0], written[1][0][-64:].T)
    assert np.abs(source.inputs[..., 1]).max() > 0


def test_a_damaged_shard_is_refused_by_its_name(tmp_path):
    write_set(tmp_path, "visual")
    shard = tmp_path / "toy" / "visual" / "00001.tfrecord"
    body = bytearray(shard.read_bytes())
    body[len(body) // 2] ^= 1
    shard.write_bytes(body)
    with pytest.raises(DataError, match=r"00001.tfrecord: .*build the set again"):
        read_source(tmp_path, "toy/visual")
    shard.write_bytes(body[:-1])
    with pytest.raises(DataError, match=r"00001.tfrecord: .*\d+ bytes, expected \d+"):
        read_source(tmp_path, "toy/visual")
    shard.unlink()
    with pytest.raises(DataError, match=r"00001.tfrecord: missing"):
        read_source(tmp_path, "toy/visual")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"items": 3},
            "toy/visual: 9 faces or segments, its manifest says 10; build the set again",
        ),
        (
            {"items": 1},
            r"toy/visual: more records of s/4.x than its manifest says; build the set again",
        ),
        ({"id": "s/5.x"}, r"toy/visual: more records of s/4.x than its manifest says"),
    ],
)
def test_a_manifest_of_other_records_is_refused(tmp_path, change, message):
    write_set(tmp_path, "visual")
    manifest = tmp_path / "toy" / "visual" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["clips"][-1] |= change
    manifest.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message):
        read_source(tmp_path, "toy/visual")


def test_a_missing_set_is_refused_with_the_command_that_builds_it(tmp_path):
    expected = f"no records of savee/audio; make them with: python -m pipelines.build --corpus savee --media FOLDER --out {tmp_path}"
    with pytest.raises(InputError, match=expected):
        read_source(tmp_path, "savee/audio")


def test_the_hash_of_a_set_is_that_of_its_manifest(tmp_path):
    write_set(tmp_path / "one", "visual")
    write_set(tmp_path / "two", "visual")
    write_set(tmp_path / "three", "visual", clips_per_shard=3)
    one, two, three = (
        manifest_hash(tmp_path / name / "toy" / "visual") for name in ("one", "two", "three")
    )
    assert one == two != three


def test_what_is_gathered_slice_by_slice_is_the_whole(tmp_path):
    """Of one source and of two, in the order of the items."""
    for name in ("a/visual", "b/visual"):
        write_toy(tmp_path, name, seed=len(name))
    sources = [read_source(tmp_path, name) for name in ("a/visual", "b/visual")]
    sides = [
        Subset(source, np.random.default_rng(0).permutation(len(source.inputs))[:-1])
        for source in sources
    ]
    for chosen in (sides[:1], sides):
        whole = np.concatenate([side.source.inputs[side.items] for side in chosen])
        gathered = lazy_arrays.GatheredItems(
            [side.source.inputs for side in chosen], [side.items for side in chosen]
        )
        assert gathered.shape == whole.shape and len(gathered) == len(whole)
        for part in (
            slice(0, 3),
            slice(len(sides[0].items) - 2, len(sides[0].items) + 2),
            slice(0, len(whole)),
        ):
            np.testing.assert_array_equal(gathered[part], whole[part])
    np.testing.assert_array_equal(sides[1].inputs[0:9], sides[1].source.inputs[sides[1].items[:9]])


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("hop_seconds", 0.02, "another spec .hop_seconds 0.02, expected 0.01."),
        ("blur", 1, "another version .blur."),
    ],
)
def test_records_of_another_spec_are_refused(tmp_path, field, value, said):
    manifest = write_toy(tmp_path, "a/audio") / "manifest.json"
    document = json.loads(manifest.read_text())
    document["spec"] |= {"frames_per_clip": 3}  # does not matter
    manifest.write_text(json.dumps(document))
    assert len(read_source(tmp_path, "a/audio").rows)
    document["spec"][field] = value
    manifest.write_text(json.dumps(document))
    with pytest.raises(KerasemoError, match=said + ".*build the set again"):
        read_source(tmp_path, "a/audio")
