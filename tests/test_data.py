import collections
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from sources import SIZE, random_source, whole

from kerasemo import data, plans
from pipelines import records
from pipelines.corpora.clip import Clip
from pipelines.sets import SetWriter
from pipelines.spec import DOMAINS, EMOTIONS, InputError, Spec

FOUR = ("anger", "fear", "sadness", "calm")


def one_source(clips=20, **options):
    return random_source("a/visual", (FOUR * clips)[:clips], items=(3, 1, 2), **options)


def two_sources():
    """72 and 30 items; calm and surprise are in one of the two alone."""
    return [
        random_source("a/visual", FOUR * 9, items=(2,), seed=1),
        random_source("b/audio", ("fear", "anger", "sadness", "surprise", "fear") * 3, items=(2,), seed=2),
    ]


def three_sources():
    """48, 30 and 16 items, all of three emotions."""
    return [
        random_source("a/visual", FOUR[:3] * 8, items=(2,), seed=1),
        random_source("b/audio", FOUR[:3] * 5, items=(2,), seed=2),
        random_source("c/visual", (FOUR[:3] * 3)[:8], items=(2,), seed=3),
    ]


def emotions_of_pairs(sources, drawn):
    """The labels that a plan's items have, of the shape of `item`."""
    labels = [source.labels[source.clip_of] for source in sources]
    return np.array([labels[index][item] for item, index in zip(drawn["item"].flat, drawn["source"].flat)]).reshape(drawn["item"].shape)


def same_plan(one, other):
    assert one.keys() == other.keys() == {"item", "source", "seed"}
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


# Sources and sides.


def test_a_source_names_its_labels_mask_and_domain():
    source = random_source("x/audio", ("surprise", "anger", "anger"), items=(1, 2))
    assert source.domain == DOMAINS.index("audio")
    assert source.labels.tolist() == [9, 0, 0] and source.labels.dtype == np.int32
    assert np.flatnonzero(source.mask).tolist() == [0, 9] and source.mask.dtype == np.float32
    assert source.items_of([0, 2]).tolist() == [0, 3] and source.items_of([]).tolist() == []
    assert data.Side(source, np.array([3, 0])).labels.tolist() == [0, 9]


# Labelled plans.


def test_every_item_once_an_epoch_and_the_rest_of_a_batch_dropped():
    side = data.Side(one_source(), np.arange(5, 40))
    drawn = plans.labelled_plan(side, batch=8, seed=0)(0)
    assert drawn["item"].shape == drawn["source"].shape == drawn["seed"].shape == (4, 8)
    assert len(np.unique(drawn["item"])) == 32 and set(drawn["item"].flat) <= set(range(5, 40))
    assert not drawn["source"].any()


def test_no_item_is_left_out_for_good():
    side = whole(one_source())
    plan = plans.labelled_plan(side, batch=16, seed=0)
    assert len(side.items) % 16
    assert set(np.concatenate([plan(epoch)["item"].ravel() for epoch in range(6)])) == set(side.items)


@pytest.mark.parametrize("kind", ["labelled", "pairs"])
def test_a_plan_is_a_function_of_seed_and_epoch_alone(kind):
    sources = two_sources()

    def plan(seed):
        if kind == "labelled":
            return plans.labelled_plan(whole(sources[0]), batch=8, seed=seed)
        return plans.pair_plan([whole(source) for source in sources], pairs=6, seed=seed)

    first, again = plan(3), plan(3)
    drawn = [first(epoch) for epoch in (0, 1, 2)]
    for epoch in (2, 0, 1):  # in another order
        same_plan(again(epoch), drawn[epoch])
    for other in (drawn[1], drawn[2], plan(4)(0), plan(4)(1)):
        for name in ("item", "seed"):
            assert (other[name] != drawn[0][name]).mean() > 0.4
    seeds = np.concatenate([one["seed"].ravel() for one in drawn])
    assert len(np.unique(seeds)) == len(seeds) and seeds.min() >= 0


def test_seeds_of_masks_are_not_those_of_the_order():
    """The streams of one epoch are apart: SeedSequence takes [1, 2], [1, 2, 0] and [1, 2, 0, 0] for the same."""
    streams = [plans._random(1, 2, *stream).integers(0, 2**31, 8).tolist() for stream in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))]
    assert len({tuple(stream) for stream in streams}) == len(streams)


def test_a_batch_larger_than_the_side_is_refused():
    with pytest.raises(InputError, match="a/visual: 4 faces or segments, fewer than a batch of 5; make it smaller"):
        plans.labelled_plan(data.Side(one_source(), np.arange(4)), batch=5, seed=0)


# Plans of pairs.


@pytest.mark.parametrize("sources", [two_sources(), three_sources()], ids=["two", "three"])
@pytest.mark.parametrize("pairs", [6, 12])
def test_pairs_are_of_two_sources_and_each_source_has_its_share(sources, pairs):
    """Of each batch, and of each half of it: what each of two replicas sees."""
    sides = [data.Side(source, np.arange(len(source.inputs) - 3)) for source in sources]
    for epoch in range(3):
        drawn = plans.pair_plan(sides, pairs=pairs, seed=1)(epoch)
        item, source = drawn["item"], drawn["source"]
        assert item.shape == source.shape == drawn["seed"].shape == (len(item), pairs, 2)
        assert (source[..., 0] != source[..., 1]).all()
        for index, side in enumerate(sides):
            assert np.isin(item[source == index], side.items).all()
            for part in (source, source[:, : pairs // 2], source[:, pairs // 2 :]):
                assert ((part == index).sum(axis=(1, 2)) == part[0].size // len(sides)).all()


@pytest.mark.parametrize(
    ("sources", "pairs"),
    [([one_source()], 6), (two_sources(), 6), (two_sources(), 5), (two_sources(), 1), (three_sources(), 3), (three_sources(), 6)],
)
def test_half_of_the_pairs_show_one_emotion(sources, pairs):
    """In each batch, give or take one, unless fewer can; so that it is half of an epoch."""
    drawn = plans.pair_plan([whole(source) for source in sources], pairs=pairs, seed=0)(0)
    labels = emotions_of_pairs(sources, drawn)
    same = labels[..., 0] == labels[..., 1]
    able = np.isin(
        labels[..., 0], [EMOTIONS.index(name) for name in ("anger", "fear", "sadness", *(["calm"] if len(sources) == 1 else []))]
    )
    assert same.sum(axis=1).max() <= pairs / 2 + 1
    assert (same.sum(axis=1) >= np.minimum(able.sum(axis=1), np.ceil(pairs / 2 - 1))).all()
    assert abs(same.mean() - 0.5) <= 0.05


def test_matches_that_a_step_lacks_are_made_up_for_one_a_step():
    """Of 4 pairs a step 2 shall match. Where none of the first two steps can, four are lacking: the next four steps have 3 each.

    Where all of the first two must, four are too many: the next four steps have 1 each.
    """
    random = np.random.default_rng(0)
    late = np.repeat([False, True], [8, 24])
    for can_match, can_differ, expected in (
        (late, np.ones(32, bool), [0, 0, 3, 3, 3, 3, 2, 2]),
        (np.ones(32, bool), late, [4, 4, 1, 1, 1, 1, 2, 2]),
    ):
        same = plans._matching(can_match, can_differ, share=4, late=0, random=random)
        assert same.reshape(8, 4).sum(axis=1).tolist() == expected


def test_half_as_nearly_as_can_be_when_most_items_have_no_match():
    """One clip in nine can match: all that can do so, in whatever batch they stand."""
    most = random_source("a/visual", ("calm", "boredom", "contempt") * 6 + ("anger",) * 2, items=(1,))
    few = random_source("b/visual", ("anger", "fear"), items=(1,))
    drawn = plans.pair_plan([whole(most), whole(few)], pairs=4, seed=0)(0)
    labels = emotions_of_pairs([most, few], drawn)
    assert (labels[labels[..., 0] == EMOTIONS.index("anger")] == EMOTIONS.index("anger")).all()
    assert (labels[..., 0] == labels[..., 1]).sum() == 2


def test_pairs_that_cannot_differ_match():
    """The second source has fear alone: fear can only match, anger only differ."""
    sources = [random_source("a/visual", ("anger", "fear", "fear") * 4, items=(1,)), random_source("b/visual", ("fear",) * 4, items=(1,))]
    labels = emotions_of_pairs(sources, plans.pair_plan([whole(source) for source in sources], pairs=3, seed=0)(0))
    assert set(map(tuple, labels.reshape(-1, 2).tolist())) == {(0, 5), (5, 5)}


def test_a_class_of_one_source_makes_pairs_of_different_emotions_only():
    sources = two_sources()
    alone = [EMOTIONS.index(name) for name in ("calm", "surprise")]
    met = collections.Counter()
    for epoch in range(4):
        labels = emotions_of_pairs(sources, plans.pair_plan([whole(source) for source in sources], pairs=6, seed=0)(epoch))
        for one, other in labels.reshape(-1, 2):
            if one in alone or other in alone:
                assert one != other
                met.update({int(one), int(other)} & set(alone))
    assert min(met[label] for label in alone) > 10


@pytest.mark.parametrize(("sources", "pairs"), [([one_source()], 4), (two_sources(), 6), (three_sources(), 6)])
def test_every_item_of_the_largest_source_stands_first_once_an_epoch(sources, pairs):
    for epoch in range(3):
        drawn = plans.pair_plan([whole(source) for source in sources], pairs=pairs, seed=0)(epoch)
        first = drawn["item"][..., 0][drawn["source"][..., 0] == 0]
        assert len(np.unique(first)) == len(first) > len(sources[0].inputs) - pairs
        assert len(first) == drawn["item"][..., 0].size * max(1, len(sources) - 1) // max(1, len(sources) * (len(sources) - 1) // 2)


def test_the_items_of_the_smaller_source_take_turns():
    """Within a class none is met twice more often than another."""
    sources = two_sources()
    drawn = plans.pair_plan([whole(source) for source in sources], pairs=6, seed=0)(0)
    labels = sources[1].labels[sources[1].clip_of]
    met = np.bincount(drawn["item"][..., 1].ravel(), minlength=len(labels))
    for label in np.unique(labels):
        assert met[labels == label].max() - met[labels == label].min() <= 1
    assert met.min() >= 1


def test_no_clip_is_paired_with_itself():
    """Nor when it is the only one of its emotion: then its items can only be of pairs that differ."""
    source = random_source("a/visual", (*FOUR[:2] * 6, "calm"), items=(3, 2, 4))
    for epoch in range(8):
        drawn = plans.pair_plan([whole(source)], pairs=4, seed=0)(epoch)
        assert not drawn["source"].any()
        clips = source.clip_of[drawn["item"]]
        assert (clips[..., 0] != clips[..., 1]).all()


@pytest.mark.parametrize(
    ("emotions", "pairs", "message"),
    [
        ((("anger",) * 4, ("fear",) * 4), 2, "s0/visual and s1/visual share no emotion, so no pair can show the same one"),
        ((("anger",) * 4, ("anger",) * 4), 2, "s0/visual and s1/visual: anger is the only emotion, so no pair can show different ones"),
        ((("anger", "fear"), ("anger", "fear"), ("calm", "anger")), 4, "4 pairs a step, expected a multiple of 3; set batch .* of 6"),
        ((("anger", "fear"), ("anger",)), 0, "0 pairs a step, expected a multiple of 1"),
        ((("anger", "fear"), ("anger",)), 3, "s0/visual: 2 faces or segments, too few for 3 pairs a step; make it smaller"),
        ((("anger", "fear", "calm"),), 1, "^s0/visual has no emotion of two clips, so no pair can show the same one"),
        ((("anger",) * 4,), 1, "^s0/visual: anger is the only emotion"),
    ],
)
def test_pairs_that_cannot_be_drawn_are_refused(emotions, pairs, message):
    sides = [whole(random_source(f"s{index}/visual", names, items=(1,))) for index, names in enumerate(emotions)]
    with pytest.raises(InputError, match=message) as caught:
        plans.pair_plan(sides, pairs=pairs, seed=0)
    assert "\n" not in str(caught.value)


# Batches.


@pytest.mark.parametrize("kind", ["labelled", "pairs"])
def test_a_batch_is_what_its_indices_name(kind):
    sources = two_sources() if kind == "pairs" else [one_source()]
    sides = [whole(source) for source in sources]
    plan = plans.pair_plan(sides, pairs=6, seed=1) if kind == "pairs" else plans.labelled_plan(sides[0], batch=6, seed=1)
    dataset, steps = data.batches(sources, plan, epochs=1)
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
            np.testing.assert_array_equal(batch["image"][place], source.inputs[item].astype(np.float32))
            assert EMOTIONS[batch["label"][place]] == source.rows[source.clip_of[item]]["emotion"]
            np.testing.assert_array_equal(batch["mask"][place], source.mask)
            assert batch["domain"][place] == source.domain and batch["source"][place] == index
        np.testing.assert_array_equal(batch["seed"], drawn["seed"][step])
        count += 1
    assert count == steps and batch["image"].dtype == np.float32


def test_an_interrupted_training_sees_the_batches_it_would_have_seen():
    sources = two_sources()
    plan = plans.pair_plan([whole(source) for source in sources], pairs=6, seed=1)
    through, steps = data.batches(sources, plan, epochs=4)
    resumed, _ = data.batches(sources, plan, first_epoch=2, epochs=2)
    through, resumed = list(through.as_numpy_iterator()), list(resumed.as_numpy_iterator())
    assert len(through) == 4 * steps and len(resumed) == 2 * steps
    for one, other in zip(through[2 * steps :], resumed, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert (through[0]["seed"] != through[2 * steps]["seed"]).any()


def test_batches_without_end_go_on_to_the_next_epoch():
    source = one_source()
    plan = plans.labelled_plan(whole(source), batch=16, seed=1)
    dataset, steps = data.batches([source], plan, first_epoch=3)
    seeds = [batch["seed"] for batch in itertools.islice(dataset.as_numpy_iterator(), 2 * steps)]
    np.testing.assert_array_equal(np.stack(seeds), np.concatenate([plan(3)["seed"], plan(4)["seed"]]))


def test_a_dataset_can_be_gone_through_again():
    """As validation is, every epoch."""
    source = one_source()
    dataset, steps = data.batches([source], plans.labelled_plan(whole(source), batch=16, seed=1), epochs=1)
    one, other = ([batch["seed"].tolist() for batch in dataset.as_numpy_iterator()] for _ in range(2))
    assert one == other and len(one) == steps


# Records.

SHORT = Spec(face_size=SIZE)


def write_set(folder: Path, domain: str, *, clips_per_shard: int = 2):
    """Write five clips of 1 to 3 faces or seconds of log-Mel, one of two parts; return what was written, clip by clip."""
    random = np.random.default_rng(4)
    emotions = ("fear", "anger", "surprise", "anger", "calm")
    clips = [
        Clip(f"s/{i}.x", folder / f"{i}.x", "toy", domain, f"toy:{i % 2}", emotion, f"toy:{i}", "text", str(i))
        for i, emotion in enumerate(emotions)
    ]
    spec = SHORT if domain == "visual" else Spec()
    options = {"corpus": "toy", "domain": domain, "kind": "folder", "spec": vars(spec)}
    writer = SetWriter(folder / "toy" / domain, clips=clips, options=options, clips_per_shard=clips_per_shard)
    writer.resume(lambda clip: "")
    written = []
    for index, clip in enumerate(clips):
        if domain == "visual":
            parts = [random.integers(0, 256, (1 + index % 3, SIZE, SIZE, 3)).astype(np.uint8)]
            serialised, items = [records.serialise(clip, faces=parts[0])], len(parts[0])
        else:
            parts = [random.normal(size=(frames, 64)).astype(np.float32) for frames in ((70, 30) if index == 1 else (64 + 40 * index,))]
            serialised = [records.serialise(clip, part=part, log_mel=log_mel) for part, log_mel in enumerate(parts)]
            items = sum(spec.segment_count(len(log_mel)) for log_mel in parts)
        writer.add(clip, serialised, {"sha256": hashlib.sha256(clip.id.encode()).hexdigest(), "seconds": 1.0, "items": items})
        written.append(parts)
    writer.finish({})
    return clips, written


def test_a_set_is_read_as_it_was_written(tmp_path):
    clips, written = write_set(tmp_path, "visual")
    source = data.read_source(tmp_path, "toy/visual")
    assert source.name == "toy/visual" and [row["id"] for row in source.rows] == [clip.id for clip in clips]
    assert [EMOTIONS[label] for label in source.labels] == [clip.emotion for clip in clips]
    assert source.inputs.dtype == np.uint8 and source.clip_of.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 4]
    np.testing.assert_array_equal(source.inputs, np.concatenate([faces for (faces,) in written]))


def test_a_long_clips_parts_are_one_clip(tmp_path):
    """70 and 30 frames are 2 + 1 segments of clip 1; the first channel of each segment is the log-Mel itself, a bin a row."""
    _, written = write_set(tmp_path, "audio")
    source = data.read_source(tmp_path, "toy/audio")
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
    with pytest.raises(InputError, match=r"00001.tfrecord: damaged .*build the set again"):
        data.read_source(tmp_path, "toy/visual")
    shard.write_bytes(body[:-1])
    with pytest.raises(InputError, match=r"00001.tfrecord: \d+ bytes, expected \d+"):
        data.read_source(tmp_path, "toy/visual")
    shard.unlink()
    with pytest.raises(InputError, match=r"00001.tfrecord: missing"):
        data.read_source(tmp_path, "toy/visual")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items": 3}, "toy/visual: 9 faces or segments, its manifest says 10; build the set again"),
        ({"items": 1}, r"toy/visual: holds more of s/4.x than its manifest says; build the set again"),
        ({"id": "s/5.x"}, r"toy/visual: holds more of s/4.x than its manifest says"),
    ],
)
def test_a_manifest_of_other_records_is_refused(tmp_path, change, message):
    write_set(tmp_path, "visual")
    manifest = tmp_path / "toy" / "visual" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["clips"][-1] |= change
    manifest.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        data.read_source(tmp_path, "toy/visual")


def test_a_missing_set_is_refused_with_the_command_that_builds_it(tmp_path):
    expected = f"no records of savee/audio; make them with: python -m pipelines.build --corpus savee --media FOLDER --out {tmp_path}"
    with pytest.raises(InputError, match=expected):
        data.read_source(tmp_path, "savee/audio")


def test_the_hash_of_a_set_is_that_of_its_manifest(tmp_path):
    write_set(tmp_path / "one", "visual")
    write_set(tmp_path / "two", "visual")
    write_set(tmp_path / "three", "visual", clips_per_shard=3)
    one, two, three = (data.manifest_hash(tmp_path / name / "toy" / "visual") for name in ("one", "two", "three"))
    assert one == two != three
