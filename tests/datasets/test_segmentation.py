"""Segments that are cut out of whole utterances: of the one definition, at any hop, and normalised by speaker."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from helpers.synthetic_sets import write_set
from helpers.toy_sources import write_set as write_odd_set
from kerasemo.config.schema import StageConfig
from kerasemo.datasets import segmentation, sources
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.lazy_arrays import SegmentWindows
from kerasemo.datasets.segmentation import Segmentation
from pipelines.core.errors import DataError, InputError
from pipelines.core.spec import Spec
from pipelines.features.log_mel import segments


def some_utterances(*frames, speakers=("s:1",), seed=0):
    random = np.random.default_rng(seed)
    rows = tuple(
        {"id": str(n), "speaker": speakers[n % len(speakers)], "emotion": "anger"}
        for n in range(len(frames))
    )
    log_mels = tuple(
        random.normal(-60 + 5 * n, 3 + n, (count, 64)).astype(np.float32)
        for n, count in enumerate(frames)
    )
    return segmentation.UtteranceAudio(
        "x/audio", rows, tuple(range(len(frames))), log_mels, (), frozenset(["anger"])
    )


@pytest.mark.parametrize("hop", [1, 8, 17, 34, 64])
def test_segments_are_those_of_the_one_definition(hop):
    """Of utterances of every length around one and two segments, and of one that is padded."""
    frames = (3, 63, 64, 65, 97, 98, 99, 132, 200)
    of = some_utterances(*frames)
    spec = Spec(segment_hop_frames=hop)
    source, counts = segmentation.cut_utterances(of, spec=spec)
    expected = [segments(tf.constant(log_mel), spec=spec).numpy() for log_mel in of.log_mels]
    np.testing.assert_array_equal(source.inputs[0 : len(source.inputs)], np.concatenate(expected))
    np.testing.assert_array_equal(
        source.clip_of, np.repeat(np.arange(len(frames)), [len(part) for part in expected])
    )
    assert (
        counts
        == [len(part) for part in expected]
        == [spec.segment_count(count) for count in frames]
    )


def test_windows_are_indexed_as_the_array_that_they_stand_for():
    random = np.random.default_rng(1)
    features, starts = random.normal(size=(4, 50, 3)).astype(np.float32), np.array([0, 3, 40, 41])
    windows = SegmentWindows(features, starts, spec=Spec(segment_frames=9))
    whole = np.stack([features[:, start : start + 9] for start in starts])
    assert windows.shape == whole.shape and len(windows) == 4 and windows.dtype == np.float32
    for which in (
        slice(1, 3),
        slice(None),
        np.array([3, 0, 0]),
        np.array([[1, 2], [0, 3]]),
        np.array([], np.int64),
    ):
        np.testing.assert_array_equal(windows[which], whole[which])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("records")
    write_set(out, "a/audio", speakers=3)
    write_set(out, "a/visual", speakers=3)
    write_set(out, "unknown/audio", speakers=3, published=("train", "validation", "test"))
    write_odd_set(out, "audio")
    return out


@pytest.mark.parametrize("source", ["a/audio", "toy/audio"])
def test_at_the_hop_of_the_records_a_source_is_as_they_have_it(folder, source):
    """Also of a clip of two parts, each with deltas of its own."""
    recorded, cut = (
        sources.read_source(folder, source),
        segmentation.cut_utterances(RecordCatalog(folder).utterances(source))[0],
    )
    np.testing.assert_array_equal(cut.inputs[0 : len(cut.inputs)], recorded.inputs)
    np.testing.assert_array_equal(cut.clip_of, recorded.clip_of)
    assert (cut.name, cut.rows, cut.corpus_emotions) == (
        recorded.name,
        recorded.rows,
        recorded.corpus_emotions,
    )


def test_a_speakers_log_mels_get_one_mean_and_scale_in_every_bin():
    """Over all of the speaker's clips together, each frame once; what a clip is louder than the speaker's others stays."""
    of = some_utterances(80, 100, 70, 120, speakers=("s:1", "s:2"))
    normal = segmentation.normalize_by_speaker(of, segmentation.speaker_statistics(of))
    for first in (0, 1):
        own = np.concatenate(normal.log_mels[first::2])
        np.testing.assert_allclose(own.mean(axis=0), segmentation.SPEAKER_MEAN_DB, atol=1e-3)
        np.testing.assert_allclose(own.std(axis=0), segmentation.SPEAKER_SCALE_DB, rtol=1e-2)
        assert normal.log_mels[first].mean() < normal.log_mels[first + 2].mean() - 5
        assert normal.log_mels[first].dtype == np.float32


def test_deltas_are_scaled_as_the_log_mels_are():
    of = some_utterances(90, 90)
    normal = segmentation.normalize_by_speaker(of, segmentation.speaker_statistics(of))
    ratio = segmentation.SPEAKER_SCALE_DB / (
        np.concatenate(of.log_mels).std(axis=0) + 1e-3
    )  # [mel_filters]
    before, after = (segmentation.cut_utterances(one)[0].inputs[0:2] for one in (of, normal))
    np.testing.assert_allclose(
        after[..., 1:], before[..., 1:] * ratio[:, None, None], rtol=1e-3, atol=1e-3
    )


def test_a_speaker_is_normalised_alike_whatever_others_are_there():
    of = some_utterances(80, 100, 70, 120, speakers=("s:1", "s:2"))
    alone = dataclasses.replace(of, clip_of=of.clip_of[::2], log_mels=of.log_mels[::2])
    together, apart = (
        segmentation.normalize_by_speaker(one, segmentation.speaker_statistics(one))
        for one in (of, alone)
    )
    for one, other in zip(together.log_mels[::2], apart.log_mels, strict=True):
        np.testing.assert_array_equal(one, other)


def test_pauses_are_those_of_the_recorded_sound_and_no_part_of_a_speakers_statistics():
    """Normalised, a pause is not as far below the voice as it was heard to be; and its length says nothing of the voice."""
    spec = Spec(active_share=0.5, segment_hop_frames=8)
    voice = some_utterances(120)
    voice = dataclasses.replace(
        voice, log_mels=(7 * voice.log_mels[0] + 6 * 60,)
    )  # so wide a range is pressed together
    pause = np.full((200, 64), -110, np.float32) + np.random.default_rng(0).normal(
        0, 0.1, (200, 64)
    ).astype(np.float32)
    with_pause = dataclasses.replace(voice, log_mels=(np.concatenate([voice.log_mels[0], pause]),))
    alone, both = (segmentation.speaker_statistics(of, spec=spec) for of in (voice, with_pause))
    (speaker,) = alone
    np.testing.assert_allclose(both[speaker], alone[speaker])
    assert (segmentation.speaker_statistics(with_pause)[speaker][0] < alone[speaker][0] - 5).all()
    normal = segmentation.normalize_by_speaker(with_pause, both)
    recorded, made = (
        segmentation.cut_utterances(of, spec=spec)[0].inputs[:][..., 0]
        for of in (with_pause, normal)
    )
    mean, scale = both[speaker]
    expected = (recorded - mean[:, None]) / scale[
        :, None
    ] * segmentation.SPEAKER_SCALE_DB + segmentation.SPEAKER_MEAN_DB
    np.testing.assert_allclose(made, expected, atol=1e-2)  # the same segments
    assert len(made) < len(
        segmentation.cut_utterances(with_pause, spec=dataclasses.replace(spec, active_share=0.0))[
            0
        ].inputs
    )


def test_silence_is_normalised_to_the_mean():
    of = dataclasses.replace(some_utterances(80), log_mels=(np.full((80, 64), -100, np.float32),))
    (normal,) = segmentation.normalize_by_speaker(of, segmentation.speaker_statistics(of)).log_mels
    np.testing.assert_allclose(normal, segmentation.SPEAKER_MEAN_DB, atol=1e-3)


def test_an_unknown_speaker_is_refused(folder):
    by_speaker = Segmentation(by_speaker=True)
    with pytest.raises(
        DataError, match="unknown/audio: speaker_normalization .* 18 .* none; leave"
    ):
        RecordCatalog(folder).load("unknown/audio", by_speaker)
    rows = RecordCatalog(folder).rows("unknown/audio")
    assert "18 clips have none" in by_speaker.reason_unreadable("unknown/audio", rows)
    assert not Segmentation().reason_unreadable("unknown/audio", rows)


def test_scored_clips_are_cut_as_the_settings_say_and_arrays_are_kept(folder, monkeypatch):
    names_read = []
    read_set = sources.read_set

    def counted_read_set(source, *arguments, **options):
        names_read.append(source)
        return read_set(source, *arguments, **options)

    monkeypatch.setattr(sources, "read_set", counted_read_set)
    catalog = RecordCatalog(folder)
    stage = StageConfig("s", "supervised", ("a/audio",), test_hop_frames=17)
    assert isinstance(catalog.load("a/audio").inputs, np.ndarray) and names_read == ["a/audio"]
    for_scores = Segmentation.for_scores(stage)
    assert len(catalog.load("a/audio", for_scores).inputs) == 18 * 5
    assert catalog.load("a/visual", for_scores).inputs.dtype == np.uint8
    assert catalog.load("a/audio", for_scores) is catalog.load("a/audio", for_scores)
    assert catalog.load("a/visual", for_scores) is catalog.load("a/visual")
    assert names_read == ["a/audio", "a/visual"]


def test_a_set_that_is_built_again_meanwhile_is_refused(tmp_path):
    write_set(tmp_path, "a/audio", speakers=2)
    catalog = RecordCatalog(tmp_path)
    assert len(catalog.rows("a/audio")) == 12
    write_set(tmp_path / "other", "a/audio", speakers=3)
    for path in (tmp_path / "a" / "audio").iterdir():
        path.unlink()
    for path in (tmp_path / "other" / "a" / "audio").iterdir():
        path.rename(tmp_path / "a" / "audio" / path.name)
    with pytest.raises(DataError):
        catalog.load("a/audio", Segmentation(17))
    assert len(RecordCatalog(tmp_path).load("a/audio", Segmentation(17)).rows) == 18


def test_faces_and_other_settings_are_not_transductive():
    by_speaker = Segmentation(by_speaker=True)
    assert by_speaker.is_transductive("a/audio")
    assert not by_speaker.is_transductive("a/visual")
    assert not Segmentation(8).is_transductive("a/audio")


def test_what_is_too_long_for_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES_IN_MEMORY", 1000)
    with pytest.raises(
        InputError,
        match="x/audio: 0.0 GiB of log-Mels .* memory; leave out test_hop_frames, .* speed and noise",
    ):
        segmentation.cut_utterances(some_utterances(70))
