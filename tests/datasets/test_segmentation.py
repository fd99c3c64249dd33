"""Segments of whole utterances: at any hop, without pauses, and normalised by speaker."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from helpers.synthetic_sets import write_set
from helpers.toy_sources import write_set as write_toy_set
from kerasemo.config.schema import StageConfig
from kerasemo.datasets import sources
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.datasets.lazy_arrays import SegmentWindows
from kerasemo.datasets.segmentation import (
    SPEAKER_MEAN_DB,
    SPEAKER_SCALE_DB,
    Segmentation,
    UtteranceAudio,
    cut_utterances,
    normalize_by_speaker,
    speaker_statistics,
)
from pipelines.core.errors import DataError, InputError
from pipelines.core.spec import Spec
from pipelines.features.log_mel import segments


def random_audio(*frame_counts: int, speakers: tuple[str, ...] = ("s:1",)) -> UtteranceAudio:
    """Return utterances of rising loudness with these lengths; `speakers` take turns."""
    random = np.random.default_rng(0)
    log_mels = tuple(
        random.normal(-60 + 5 * index, 3 + index, (n_frames, 64)).astype(np.float32)
        for index, n_frames in enumerate(frame_counts)
    )
    return audio_of(*log_mels, speakers=speakers)


def audio_of(*log_mels: np.ndarray, speakers: tuple[str, ...] = ("s:1",)) -> UtteranceAudio:
    """Return an utterance of each log-Mel; `speakers` take turns."""
    rows = tuple(
        {"id": str(index), "speaker": speakers[index % len(speakers)], "emotion": "anger"}
        for index in range(len(log_mels))
    )
    return UtteranceAudio(
        "x/audio",
        rows,
        clip_of=tuple(range(len(log_mels))),
        log_mels=log_mels,
        waveforms=(),
        corpus_emotions=frozenset(["anger"]),
    )


def segments_of(audio: UtteranceAudio, *, spec: Spec = Spec()) -> np.ndarray:
    """Return all segments of utterances, [segments, 64, 64, 3]."""
    return cut_utterances(audio, spec=spec)[0].inputs[:]


def normalized(audio: UtteranceAudio) -> UtteranceAudio:
    return normalize_by_speaker(audio, speaker_statistics(audio))


@pytest.mark.parametrize("hop_frames", [1, 8, 17, 34, 64])
def test_segments_equal_those_of_the_feature_pipeline(hop_frames):
    """For lengths around one and two segments, and for utterances that are padded."""
    frame_counts = (3, 63, 64, 65, 97, 98, 99, 132, 200)
    audio = random_audio(*frame_counts)
    spec = Spec(segment_hop_frames=hop_frames)
    source, n_segments = cut_utterances(audio, spec=spec)
    expected = [segments(tf.constant(log_mel), spec=spec).numpy() for log_mel in audio.log_mels]
    np.testing.assert_array_equal(source.inputs[:], np.concatenate(expected))
    assert n_segments == [len(of_utterance) for of_utterance in expected]
    assert n_segments == [spec.segment_count(n_frames) for n_frames in frame_counts]
    np.testing.assert_array_equal(
        source.clip_of, np.repeat(np.arange(len(frame_counts)), n_segments)
    )


def test_segment_windows_are_indexed_as_an_array():
    random = np.random.default_rng(1)
    features = random.normal(size=(4, 50, 3)).astype(np.float32)
    starts = np.array([0, 3, 40, 41])
    windows = SegmentWindows(features, starts, spec=Spec(segment_frames=9))
    array = np.stack([features[:, start : start + 9] for start in starts])
    assert windows.shape == array.shape
    assert windows.dtype == array.dtype
    assert len(windows) == 4
    for indices in (
        slice(1, 3),
        slice(None),
        np.array([3, 0, 0]),
        np.array([[1, 2], [0, 3]]),
        np.array([], np.int64),
    ):
        np.testing.assert_array_equal(windows[indices], array[indices])


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_set(folder, "a/audio", speakers=3)
    write_set(folder, "a/visual", speakers=3)
    write_set(folder, "unknown/audio", speakers=3, published=("train", "validation", "test"))
    write_toy_set(folder, "audio")
    return folder


@pytest.mark.parametrize("name", ["a/audio", "toy/audio"])
def test_segments_at_the_hop_of_the_records_equal_the_records(records_folder, name):
    """A clip of toy/audio has two records, each with deltas of its frames alone."""
    recorded = sources.read_source(records_folder, name)
    source, _ = cut_utterances(RecordCatalog(records_folder).utterances(name))
    np.testing.assert_array_equal(source.inputs[:], recorded.inputs)
    np.testing.assert_array_equal(source.clip_of, recorded.clip_of)
    assert source.name == recorded.name
    assert source.rows == recorded.rows
    assert source.corpus_emotions == recorded.corpus_emotions


# Normalisation by speaker.


def test_normalization_gives_each_speaker_one_mean_and_scale_in_every_bin():
    """Over all frames of a speaker together, so a louder clip stays louder."""
    normal = normalized(random_audio(80, 100, 70, 120, speakers=("s:1", "s:2")))
    for first in (0, 1):
        frames = np.concatenate(normal.log_mels[first::2])
        np.testing.assert_allclose(frames.mean(axis=0), SPEAKER_MEAN_DB, atol=1e-3)
        np.testing.assert_allclose(frames.std(axis=0), SPEAKER_SCALE_DB, rtol=1e-2)
        assert normal.log_mels[first].mean() < normal.log_mels[first + 2].mean() - 5
        assert normal.log_mels[first].dtype == np.float32


def test_normalization_scales_deltas_as_log_mels():
    audio = random_audio(90, 90)
    scale = SPEAKER_SCALE_DB / (np.concatenate(audio.log_mels).std(axis=0) + 1e-3)  # [mel_filters]
    expected = segments_of(audio)[:2, ..., 1:] * scale[:, None, None]
    deltas = segments_of(normalized(audio))[:2, ..., 1:]
    np.testing.assert_allclose(deltas, expected, rtol=1e-3, atol=1e-3)


def test_normalization_of_a_speaker_does_not_depend_on_other_speakers():
    audio = random_audio(80, 100, 70, 120, speakers=("s:1", "s:2"))
    first_speaker = dataclasses.replace(
        audio, clip_of=audio.clip_of[::2], log_mels=audio.log_mels[::2]
    )
    for log_mel, expected in zip(
        normalized(audio).log_mels[::2], normalized(first_speaker).log_mels, strict=True
    ):
        np.testing.assert_array_equal(log_mel, expected)


def test_silence_is_normalized_to_the_mean():
    (log_mel,) = normalized(audio_of(np.full((80, 64), -100, np.float32))).log_mels
    np.testing.assert_allclose(log_mel, SPEAKER_MEAN_DB, atol=1e-3)


def voice_and_pause() -> tuple[UtteranceAudio, UtteranceAudio]:
    """Return an utterance, and the utterance with a pause at its end.

    The utterance has a range of 42 dB, which the normalisation makes smaller.
    """
    (log_mel,) = random_audio(120).log_mels
    voice = 7 * log_mel + 6 * 60
    pause = np.random.default_rng(0).normal(-110, 0.1, (200, 64)).astype(np.float32)
    return audio_of(voice), audio_of(np.concatenate([voice, pause]))


PAUSE_SPEC = Spec(active_share=0.5, segment_hop_frames=8)


def test_pauses_are_no_part_of_the_statistics_of_a_speaker():
    voice, with_pause = voice_and_pause()
    expected = speaker_statistics(voice, spec=PAUSE_SPEC)["s:1"]
    np.testing.assert_allclose(speaker_statistics(with_pause, spec=PAUSE_SPEC)["s:1"], expected)
    mean_with_pauses, _ = speaker_statistics(with_pause)["s:1"]
    assert (mean_with_pauses < expected[0] - 5).all()


def test_pauses_are_found_before_the_normalization():
    """A pause is closer to the voice after the normalisation, and would be kept."""
    _, with_pause = voice_and_pause()
    statistics = speaker_statistics(with_pause, spec=PAUSE_SPEC)
    normal = normalize_by_speaker(with_pause, statistics)
    recorded_segments, normal_segments = (
        segments_of(audio, spec=PAUSE_SPEC)[..., 0] for audio in (with_pause, normal)
    )
    mean, scale = (values[:, None] for values in statistics["s:1"])
    expected = (recorded_segments - mean) / scale * SPEAKER_SCALE_DB + SPEAKER_MEAN_DB
    np.testing.assert_allclose(normal_segments, expected, atol=1e-2)
    all_segments = segments_of(with_pause, spec=dataclasses.replace(PAUSE_SPEC, active_share=0.0))
    assert len(normal_segments) < len(all_segments)


def test_normalization_of_unknown_speakers_is_refused(records_folder):
    with pytest.raises(DataError, match="unknown/audio: speaker_normalization .* 18 .*leave"):
        RecordCatalog(records_folder).load("unknown/audio", Segmentation(by_speaker=True))


def test_reason_unreadable_counts_the_clips_without_speaker(records_folder):
    rows = RecordCatalog(records_folder).rows("unknown/audio")
    reason = Segmentation(by_speaker=True).reason_unreadable("unknown/audio", rows)
    assert "speaker_normalization" in reason
    assert "18 clips" in reason
    assert not Segmentation().reason_unreadable("unknown/audio", rows)
    known_rows = RecordCatalog(records_folder).rows("a/audio")
    assert not Segmentation(by_speaker=True).reason_unreadable("a/audio", known_rows)


def test_only_audio_that_is_normalized_by_speaker_is_transductive():
    by_speaker = Segmentation(by_speaker=True)
    assert by_speaker.is_transductive("a/audio")
    assert not by_speaker.is_transductive("a/visual")
    assert not Segmentation(8).is_transductive("a/audio")


# Sources of a catalog.


@pytest.fixture
def names_read(monkeypatch) -> list[str]:
    """Return a list that gets the name of a source whenever its records are read into an array."""
    names, read_set = [], sources.read_set

    def read_and_count(source, *arguments, **options):
        names.append(source)
        return read_set(source, *arguments, **options)

    monkeypatch.setattr(sources, "read_set", read_and_count)
    return names


def test_catalog_cuts_audio_as_the_settings_of_the_stage_say(records_folder):
    config = StageConfig("s", "supervised", ("a/audio",), test_hop_frames=17)
    for_scores = Segmentation.for_scores(config)
    catalog = RecordCatalog(records_folder)
    assert isinstance(catalog.load("a/audio").inputs, np.ndarray)
    assert len(catalog.load("a/audio").inputs) == 18 * 3
    assert len(catalog.load("a/audio", for_scores).inputs) == 18 * 5
    assert catalog.load("a/visual", for_scores).inputs.dtype == np.uint8


def test_catalog_reads_each_source_once(records_folder, names_read):
    catalog = RecordCatalog(records_folder)
    for segmentation in (Segmentation(), Segmentation(17)):
        for name in ("a/audio", "a/visual"):
            assert catalog.load(name, segmentation) is catalog.load(name, segmentation)
    assert catalog.load("a/visual", Segmentation(17)) is catalog.load("a/visual")
    assert names_read == ["a/audio", "a/visual"]


@pytest.mark.parametrize("segmentation", [Segmentation(), Segmentation(17)], ids=["records", "cut"])
def test_set_that_is_built_again_during_a_command_is_refused(tmp_path, segmentation):
    write_set(tmp_path, "a/audio", speakers=2)
    catalog = RecordCatalog(tmp_path)
    assert len(catalog.rows("a/audio")) == 12
    write_set(tmp_path / "other", "a/audio", speakers=3)
    for path in (tmp_path / "a" / "audio").iterdir():
        path.unlink()
    for path in (tmp_path / "other" / "a" / "audio").iterdir():
        path.rename(tmp_path / "a" / "audio" / path.name)
    with pytest.raises(DataError, match="a/audio: .*built again"):
        catalog.load("a/audio", segmentation)
    assert len(RecordCatalog(tmp_path).load("a/audio", segmentation).rows) == 18


def test_audio_that_does_not_fit_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES_IN_MEMORY", 1000)
    with pytest.raises(
        InputError, match=r"x/audio: 0\.0 GiB .*memory.*test_hop_frames.*speed and noise"
    ):
        cut_utterances(random_audio(70))
