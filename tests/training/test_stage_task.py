"""The clips of a stage, cut, labelled and varied as its settings say."""

from pathlib import Path

import numpy as np
import pytest

from helpers.logs import logged_lines
from helpers.synthetic_sets import write_set
from kerasemo.config.schema import AugmentConfig, NetworkConfig, StageConfig
from kerasemo.datasets import segmentation
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.leakage_gate import GatedSplits
from kerasemo.datasets.segmentation import Segmentation
from kerasemo.datasets.sources import corpus_of
from kerasemo.datasets.splits import SPLITS, CorpusSplit
from kerasemo.runs.run_folder import StageKey
from kerasemo.training.stage_task import StageData, check_subsets, load_stage_data
from pipelines.core.errors import DataError, InputError
from pipelines.core.labels import EMOTIONS

SPEAKER_OF_SPLIT = {"train": 1, "validation": 2, "test": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Records of audio with waveforms, of audio without, and of faces."""
    out = tmp_path_factory.mktemp("records")
    write_set(out, "sound/audio", speakers=3, waveform=True)
    write_set(out, "silent/audio", speakers=3)
    write_set(out, "faces/visual", speakers=3)
    return out


@pytest.fixture(scope="module")
def catalog(folder) -> RecordCatalog:
    return RecordCatalog(folder)


def splits_by_speaker(catalog: RecordCatalog, source: str) -> GatedSplits:
    """Return splits in which the first speaker is train, the second validation, the third test."""
    corpus = corpus_of(source)
    ids = {
        split: tuple(
            row["id"]
            for row in catalog.rows(source)
            if row["speaker"].endswith(f":{SPEAKER_OF_SPLIT[split]}")
        )
        for split in SPLITS
    }
    corpus_split = CorpusSplit(corpus, "speaker-independent", 0, 3, False, "speakers", {})
    nothing = {split: () for split in SPLITS}
    return GatedSplits({corpus: corpus_split}, {source: ids}, {source: nothing})


def load(catalog: RecordCatalog, source: str = "sound/audio", **settings) -> StageData:
    """Return the clips of a stage with these settings."""
    key = StageKey(
        StageConfig("s", "supervised", (source,), **settings),
        NetworkConfig(),
        records={},
        sides={},
        emotions={},
        protocol="speaker-independent",
        fold=0,
        seed=0,
        parent="",
        keep_copies=False,
    )
    splits = splits_by_speaker(catalog, source)
    return load_stage_data(key, catalog, splits, trained_emotions=EMOTIONS[:3], draw_seed=5)


def clip_ids(subset) -> list[str]:
    return [subset.source.rows[clip]["id"] for clip in subset.clips]


def test_stage_without_such_settings_gets_the_recorded_segments(catalog):
    data = load(catalog)
    for (subset,) in data.subsets.values():
        assert subset.source is catalog.load("sound/audio")
        assert len(subset.items) == 3 * 6
    facts = data.split_facts["sound/audio"]
    assert (facts["train"], facts["validation"], facts["test"]) == (6, 6, 6)
    assert "train_not_labelled" not in facts


def test_labelled_clips_are_training_clips_alone_and_are_logged(catalog):
    with logged_lines() as lines:
        labelled = load(catalog, labelled=1)
    everything = load(catalog)
    chosen = set(clip_ids(labelled.subsets["train"][0]))
    assert len(chosen) == 3 and chosen < set(clip_ids(everything.subsets["train"][0]))
    for split in ("validation", "test"):
        (subset,), (expected,) = labelled.subsets[split], everything.subsets[split]
        np.testing.assert_array_equal(subset.items, expected.items)
    facts = labelled.split_facts["sound/audio"]
    assert (facts["train"], facts["train_not_labelled"], facts["test"]) == (3, 3, 6)
    (line,) = lines
    assert line.startswith("s: sound/audio: ") and "3 of 6 clips" in line

    with logged_lines() as lines:
        load(catalog, labelled=20)
    (line,) = lines
    assert "6 of 6 clips" in line
    assert all(f"2 of {emotion}" in line for emotion in ("anger", "boredom", "calm"))


def test_test_hop_cuts_only_scored_clips(catalog):
    plain, dense = load(catalog), load(catalog, test_hop_frames=17)
    assert dense.subsets["train"][0].source is plain.subsets["train"][0].source
    for split in ("validation", "test"):
        (subset,), (expected,) = dense.subsets[split], plain.subsets[split]
        assert clip_ids(subset) == clip_ids(expected)
        assert len(subset.items) == 5 * 6 > len(expected.items) == 3 * 6
        # Frames 0, 34 and 68 among 0, 17, 34, 51 and 68.
        every_other = np.concatenate([np.arange(clip, clip + 5, 2) for clip in range(0, 30, 5)])
        np.testing.assert_array_equal(subset.inputs[0:30][every_other], expected.inputs[0:18])


def test_faces_are_not_changed_by_settings_of_audio(catalog):
    augment = AugmentConfig(speed=0.1, flip=0.5)
    data = load(catalog, "faces/visual", test_hop_frames=17, augment=augment)
    for (subset,) in data.subsets.values():
        assert subset.source is catalog.load("faces/visual")


def test_speakers_are_normalised_in_every_split(catalog):
    plain, normal = load(catalog), load(catalog, speaker_normalization=True)
    for split, (subset,) in normal.subsets.items():
        (expected,) = plain.subsets[split]
        assert clip_ids(subset) == clip_ids(expected)
        assert len(subset.items) == len(expected.items)
        static = subset.inputs[0 : len(subset.items)][..., 0]
        assert abs(static.mean() - segmentation.SPEAKER_MEAN_DB) < 2
        assert abs(static.std() - segmentation.SPEAKER_SCALE_DB) < 2


def test_variants_are_of_the_labelled_training_clips_alone(catalog):
    data = load(
        catalog,
        labelled=1,
        augment=AugmentConfig(noise=0.2, variants=3),
        test_hop_frames=17,
    )
    (train,) = data.subsets["train"]
    assert train.source.variants.shape == (9, 3)
    assert len(train.source.inputs) == 4 * 9
    assert {train.source.rows[clip]["id"] for clip in train.source.clip_of} == set(clip_ids(train))
    assert len(clip_ids(train)) == 3
    (labelled,) = load(catalog, labelled=1).subsets["train"]
    np.testing.assert_allclose(train.inputs[0:9], labelled.inputs[0:9], atol=1e-3)
    for split in ("validation", "test"):
        assert data.subsets[split][0].source.variants is None


def test_variants_are_normalised_by_the_statistics_of_the_unchanged_clips(catalog):
    augment = AugmentConfig(noise=0.5, variants=1)
    data = load(catalog, speaker_normalization=True, augment=augment)
    source = data.subsets["train"][0].source
    unchanged = source.inputs[np.arange(18)][..., 0]
    noisy = source.inputs[source.variants[:, 0]][..., 0]
    normal = catalog.load("sound/audio", Segmentation(by_speaker=True))
    np.testing.assert_allclose(unchanged, normal.inputs[0:18][..., 0], atol=1e-3)
    # Noise raises quiet bins, and the statistics do not undo it.
    assert (noisy - unchanged).mean() > 3


def test_variants_need_waveforms(catalog):
    for augment in (AugmentConfig(speed=0.1), AugmentConfig(noise=0.1)):
        with pytest.raises(DataError, match="silent/audio: .*no waveforms, .*--waveform, or leave"):
            load(catalog, "silent/audio", augment=augment)
    data = load(catalog, "silent/audio", augment=AugmentConfig(gain_db=3.0))
    assert data.subsets["train"][0].source.variants is None


def test_every_problem_of_the_clips_is_listed(catalog):
    (subset,) = load(catalog).subsets["train"]
    nothing = subset.with_clips(np.array([], np.int64))
    anger = subset.with_clips(subset.clips[:1])
    subsets = {"train": [anger], "validation": [nothing], "test": [subset]}
    with pytest.raises(InputError) as caught:
        check_subsets(subsets, ["surprise"], where="in fold 2")
    message = str(caught.value)
    for expected in (
        "no clip in the validation split in fold 2",
        "trained on surprise",
        "no clip of boredom, calm in the train split",
    ):
        assert expected in message
