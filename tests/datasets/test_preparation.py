"""What a stage makes of the sides that it is given."""

import dataclasses
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from helpers.sources import random_source, whole
from helpers.synthetic_sets import write_set
from kerasemo.config.schema import AugmentConfig, NetworkConfig, StageConfig
from kerasemo.datasets import segmentation, sources, subsets
from kerasemo.datasets.segmentation import Segmentation
from kerasemo.datasets.waveform_variants import VariedSource
from kerasemo.training import stage_task
from kerasemo.training.stage_task import StageTask
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS


def some_rows():
    """Of anger 12 clips, of each of three speakers 4; of fear 7, of which the third speaker has one."""
    anger = [
        {"id": f"a{speaker}{take}", "speaker": f"s:{speaker}", "emotion": "anger"}
        for speaker in range(3)
        for take in range(4)
    ]
    fear = [
        {"id": f"f{speaker}{take}", "speaker": f"s:{speaker}", "emotion": "fear"}
        for speaker, take in ((0, 0), (2, 0))
    ]
    return (
        anger
        + fear
        + [{"id": f"f1{take}", "speaker": "s:1", "emotion": "fear"} for take in range(5)]
    )


def drawn(count, *, seed=0, rows=None):
    rows = some_rows() if rows is None else rows
    return [rows[clip] for clip in subsets.labelled_clips(rows, count, seed=seed)]


def test_so_many_clips_of_each_class_and_all_where_there_are_fewer():
    for count, expected in (
        (1, {"anger": 1, "fear": 1}),
        (5, {"anger": 5, "fear": 5}),
        (9, {"anger": 9, "fear": 7}),
    ):
        assert Counter(row["emotion"] for row in drawn(count)) == expected
    assert drawn(100) == some_rows()


def test_fewer_clips_are_among_more():
    chosen = [{row["id"] for row in drawn(count)} for count in (1, 2, 3, 5, 8, 12)]
    assert all(one < other for one, other in itertools.pairwise(chosen))


def test_speakers_take_turns():
    for seed in range(5):
        for count in (3, 4, 6, 8):
            met = Counter(
                row["speaker"] for row in drawn(count, seed=seed) if row["emotion"] == "anger"
            )
            assert len(met) == 3 and max(met.values()) - min(met.values()) <= 1
        assert len({row["speaker"] for row in drawn(3, seed=seed) if row["emotion"] == "fear"}) == 3


def test_what_is_drawn_depends_on_seed_and_ids_alone():
    """Neither on the order of the rows nor on clips of another class."""
    ids = {row["id"] for row in drawn(2)}
    assert {row["id"] for row in drawn(2, rows=some_rows()[::-1])} == ids
    assert {row["id"] for row in drawn(2, rows=some_rows()[:12])} == {
        id for id in ids if id.startswith("a")
    }
    assert len({frozenset(row["id"] for row in drawn(2, seed=seed)) for seed in range(10)}) > 5


def test_every_class_weighs_the_same_in_sum_and_an_item_one_on_average():
    source = random_source("a/visual", ("anger", "fear", "fear", "fear", "calm"), items=(2,))
    other = random_source("b/audio", ("anger", "fear"), items=(1,))
    weights = subsets.class_weights([whole(source), sources.Subset(other, np.array([1]))])
    assert weights.shape == (2, 10) and weights.dtype == np.float32
    each = weights[0][source.labels[source.clip_of]]
    assert each.mean() == pytest.approx(1) and set(np.flatnonzero(weights[0])) == {
        EMOTIONS.index(e) for e in ("anger", "fear", "calm")
    }
    sums = [
        each[source.labels[source.clip_of] == label].sum() for label in np.flatnonzero(weights[0])
    ]
    assert sums == pytest.approx([10 / 3] * 3)
    assert np.flatnonzero(weights[1]).tolist() == [EMOTIONS.index("fear")] and weights[1].max() == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A set of sound with waveforms, one without, and one of faces."""
    out = tmp_path_factory.mktemp("records")
    write_set(out, "sound/audio", speakers=3, waveform=True)
    write_set(out, "silent/audio", speakers=3)
    write_set(out, "faces/visual", speakers=3)
    return out


def an_assignment(folder: Path, source="sound/audio", **settings) -> StageTask:
    """The first speaker trains, the second validates, the third tests."""
    stage = StageConfig("s", "supervised", (source,), **settings)
    loaded = sources.read_source(folder, source)
    speakers = {
        name: [n for n, row in enumerate(loaded.rows) if row["speaker"].endswith(f":{who}")]
        for name, who in SPEAKERS.items()
    }
    sides = {
        name: [sources.Subset(loaded, loaded.items_of(clips))] for name, clips in speakers.items()
    }
    split = {source: {"train": 6, "validation": 6, "test": 6}}
    key = {"stage": dataclasses.asdict(stage), "seed": 0, "protocol": "p", "fold": 0}
    common = {
        "folder": folder,
        "emotions": list(EMOTIONS[:3]),
        "parent": None,
        "seed": 5,
        "strategy": None,
        "choice": None,
    }
    return StageTask(
        stage=stage,
        network=NetworkConfig(),
        key=key,
        sides=sides,
        split=split,
        records=folder,
        **common,
    )


SPEAKERS = {"train": 1, "validation": 2, "test": 3}


def clips_of(side):
    return sorted({side.source.rows[clip]["id"] for clip in side.source.clip_of[side.items]})


def prepared(folder, **given):
    said = []
    before = an_assignment(folder, **given)
    return before, stage_task.load_stage_data(before, log=said.append), said


def test_a_stage_that_asks_for_nothing_gets_its_sides_as_they_are(folder):
    before, after, said = prepared(folder)
    assert not said and after.split == before.split
    for name, (side,) in after.sides.items():
        assert side is before.sides[name][0]


def test_labelled_clips_are_of_the_training_side_alone_and_are_told(folder):
    before, after, said = prepared(folder, labelled=1)
    assert len(clips_of(after.sides["train"][0])) == 3 and set(
        clips_of(after.sides["train"][0])
    ) < set(clips_of(before.sides["train"][0]))
    assert all(after.sides[name][0] is before.sides[name][0] for name in ("validation", "test"))
    assert after.split == {
        "sound/audio": {"train": 3, "train_not_labelled": 3, "validation": 6, "test": 6}
    }
    assert said == ["s: sound/audio: trained on 3 of 6 clips, 1 a class"]
    *_, said = prepared(folder, labelled=20)
    assert said == [
        "s: sound/audio: trained on 6 of 6 clips, 20 a class; all where there are fewer: of anger there are 2, of boredom there are 2, "
        "of calm there are 2"
    ]


def test_labelled_clips_are_of_one_order_for_all_folds_or_of_one_for_each(folder):
    def of(fold, by):
        work = an_assignment(folder, labelled=1, labelled_by=by)
        return tuple(
            clips_of(subsets.labelled_subset(work.sides["train"][0], {**work.key, "fold": fold}))
        )

    assert len({of(fold, "seed") for fold in range(8)}) == 1
    assert len({of(fold, "fold") for fold in range(8)}) > 3


def test_the_drawn_clips_never_change():
    """Published results depend on the draw."""
    assert [row["id"] for row in drawn(2)] == ["a03", "a21", "f00", "f11"]
    assert [row["id"] for row in drawn(2, seed=[0, 1])] == ["a10", "a21", "f00", "f11"]


def test_a_hop_is_for_the_sides_that_are_scored(folder):
    before, after, _ = prepared(folder, test_hop_frames=17)
    assert after.sides["train"][0] is before.sides["train"][0]
    for name in ("validation", "test"):
        (side,), (whole_side,) = after.sides[name], before.sides[name]
        assert (
            clips_of(side) == clips_of(whole_side)
            and len(side.items) == 5 * 6 > len(whole_side.items) == 3 * 6
        )
        every_other = np.concatenate(
            [np.arange(clip, clip + 5, 2) for clip in range(0, 30, 5)]
        )  # 0, 34 and 68 of 0, 17 ... 68
        np.testing.assert_array_equal(side.inputs[0:30][every_other], whole_side.inputs[0:18])


def test_faces_are_cut_by_nothing(folder):
    before, after, _ = prepared(
        folder,
        source="faces/visual",
        test_hop_frames=17,
        augment=AugmentConfig(speed=0.1, flip=0.5),
    )
    assert all(after.sides[name][0] is before.sides[name][0] for name in before.sides)


def test_speakers_are_normalised_on_all_sides(folder):
    before, after, _ = prepared(folder, speaker_normalization=True)
    for name, (side,) in after.sides.items():
        assert clips_of(side) == clips_of(before.sides[name][0]) and len(side.items) == len(
            before.sides[name][0].items
        )
        static = side.inputs[0 : len(side.items)][..., 0]
        assert (
            abs(static.mean() - segmentation.MEAN_DB) < 2
            and abs(static.std() - segmentation.SCALE_DB) < 2
        )


def test_versions_are_of_the_labelled_training_clips_alone(folder):
    before, after, _ = prepared(
        folder, labelled=1, augment=AugmentConfig(noise=0.2, variants=3), test_hop_frames=17
    )
    (train,) = after.sides["train"]
    assert (
        isinstance(train.source, VariedSource)
        and train.source.versions.shape == (9, 3)
        and len(train.source.inputs) == 4 * 9
    )
    assert {train.source.rows[clip]["id"] for clip in train.source.clip_of} == set(
        clips_of(train)
    ) and len(clips_of(train)) == 3
    labelled = subsets.labelled_subset(before.sides["train"][0], before.key)
    np.testing.assert_allclose(train.inputs[0:9], labelled.inputs[0:9], atol=1e-3)
    for name in ("validation", "test"):
        assert not isinstance(after.sides[name][0].source, VariedSource)


def test_versions_are_normalised_by_the_statistics_of_the_speakers_own_clips(folder):
    _, after, _ = prepared(
        folder, speaker_normalization=True, augment=AugmentConfig(noise=0.5, variants=1)
    )
    source = after.sides["train"][0].source
    own, noisy = (source.inputs[items][..., 0] for items in (np.arange(18), source.versions[:, 0]))
    normal = segmentation.read_cut(folder, "sound/audio", Segmentation(by_speaker=True))
    np.testing.assert_allclose(own, normal.inputs[0:18][..., 0], atol=1e-3)
    assert (
        noisy - own
    ).mean() > 3  # noise raises what is quiet, and the statistics do not take that back


def test_versions_need_waveforms(folder):
    for changes in (AugmentConfig(speed=0.1), AugmentConfig(noise=0.1)):
        with pytest.raises(
            InputError,
            match="silent/audio: its records keep no waveforms, .* build them again with .*--waveform, or leave",
        ):
            prepared(folder, source="silent/audio", augment=changes)
    _, after, _ = prepared(folder, source="silent/audio", augment=AugmentConfig(gain_db=3.0))
    assert not isinstance(after.sides["train"][0].source, VariedSource)
