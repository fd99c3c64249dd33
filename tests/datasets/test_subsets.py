"""The labelled clips of a stage, and the weights of classes."""

import itertools
from collections import Counter

import numpy as np
import pytest

from helpers.sources import random_source, whole
from kerasemo.config.schema import StageConfig
from kerasemo.datasets import sources, subsets
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
    return [rows[clip] for clip in subsets.choose_labelled(rows, count, seed=seed)]


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


def test_the_drawn_clips_never_change():
    """Published results depend on the draw."""
    assert [row["id"] for row in drawn(2)] == ["a03", "a21", "f00", "f11"]
    assert [row["id"] for row in drawn(2, seed=[0, 1])] == ["a10", "a21", "f00", "f11"]


def test_labelled_clips_have_one_order_for_all_folds_or_one_for_each_fold():
    source = random_source("a/audio", ("anger", "fear", "sadness") * 6, items=(2,))

    def chosen(fold: int, labelled_by: str) -> tuple[int, ...]:
        config = StageConfig("s", "supervised", ("a/audio",), labelled=1, labelled_by=labelled_by)
        subset = subsets.labelled_subset(whole(source), config, seed=0, fold=fold)
        return tuple(subset.clips.tolist())

    assert len({chosen(fold, "seed") for fold in range(8)}) == 1
    assert len({chosen(fold, "fold") for fold in range(8)}) > 3


def test_all_clips_are_used_without_the_setting():
    train = whole(random_source("a/audio", ("anger", "fear"), items=(2,)))
    config = StageConfig("s", "supervised", ("a/audio",))
    assert subsets.labelled_subset(train, config, seed=0, fold=0) is train
