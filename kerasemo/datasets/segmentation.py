"""Cut the audio of whole utterances into segments, as the settings of a stage ask for.

Records hold segments of one definition (`pipelines.features.log_mel`). A stage may ask for another
hop, may leave out pauses, and may first normalise the log-Mels of each speaker to the same mean and
scale in each Mel bin.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow as tf

from kerasemo.config.schema import StageConfig
from kerasemo.datasets import sources
from kerasemo.datasets.lazy_arrays import SegmentWindows
from pipelines.core.errors import DataError, InputError
from pipelines.core.spec import Spec
from pipelines.features.log_mel import active_frames, padded, segment_starts, with_deltas

SPEAKER_MEAN_DB, SPEAKER_SCALE_DB = -50.0, 10.0
"""Mean and scale of normalised log-Mels, so that gains and floors in dB keep their meaning."""


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """How the audio of records is cut into segments; by default as the records are."""

    hop_frames: int = 0
    """Frames between the starts of two segments; 0: the spec's."""
    by_speaker: bool = False
    """Whether log-Mels are normalised by the statistics of their speaker."""
    active_share: float = 0.0
    """Segments with a smaller fraction of active frames are left out; see `pipelines.core.spec`."""

    @classmethod
    def for_training(cls, config: StageConfig) -> Self:
        """Return how the training clips of a stage are cut."""
        return cls(config.train_hop_frames, config.speaker_normalization, config.active_share)

    @classmethod
    def for_scores(cls, config: StageConfig) -> Self:
        """Return how a stage cuts the clips that it predicts.

        >>> config = StageConfig("a", "supervised", ("x/audio",), test_hop_frames=8)
        >>> Segmentation.for_scores(config)
        Segmentation(hop_frames=8, by_speaker=False, active_share=0.0)
        """
        return cls(config.test_hop_frames, config.speaker_normalization, config.active_share)

    def changes(self, source: str) -> bool:
        """Return whether the items of a source are cut otherwise than its records."""
        return self != Segmentation() and source.endswith("/audio")

    def is_transductive(self, source: str) -> bool:
        """Return whether the prediction of a clip depends on other clips of its speaker."""
        return self.by_speaker and source.endswith("/audio")

    def reason_unreadable(self, source: str, rows: list[dict[str, Any]]) -> str:
        """Return why a source cannot be cut so; empty if it can.

        Args:
            source: `CORPUS/DOMAIN`.
            rows: The manifest's row of each clip.
        """
        n_unknown = sum(not row["speaker"] for row in rows)
        if not self.is_transductive(source) or not n_unknown:
            return ""
        return f"speaker_normalization needs the speaker of every clip; {n_unknown} clips have none"

    @property
    def spec(self) -> Spec:
        """The spec of the segments."""
        if not self.hop_frames:
            return Spec(active_share=self.active_share)
        return Spec(active_share=self.active_share, segment_hop_frames=self.hop_frames)


@dataclasses.dataclass(frozen=True, eq=False)
class UtteranceAudio:
    """The audio of a set, record by record."""

    name: str
    """The source, `CORPUS/audio`."""
    rows: tuple[dict[str, Any], ...]
    """The manifest's row of each clip."""
    clip_of: tuple[int, ...]
    """The clip of each record, an index of `rows`. A long clip has several records."""
    log_mels: tuple[np.ndarray, ...]
    """The static log-Mel of each record, float32 [frames, mel_filters] in dB."""
    waveforms: tuple[np.ndarray, ...]
    """The waveform of each record, int16 [samples]; empty where the records keep none."""
    corpus_emotions: frozenset[str]
    """The emotions of the corpus in all its domains."""
    unnormalized: tuple[np.ndarray, ...] = ()
    """The log-Mels before their normalisation, which tell pauses; empty without a normalisation."""

    @property
    def speakers(self) -> list[str]:
        """The speaker of each record."""
        return [self.rows[clip]["speaker"] for clip in self.clip_of]


def read_utterances(
    source: str, folder: Path, manifest: Mapping[str, Any], corpus_emotions: frozenset[str]
) -> UtteranceAudio:
    """Read the audio of a set; see `sources.read_set` for arguments and errors."""
    sources.check_spec(folder, manifest)
    records = list(sources.iterate_records(folder, manifest))
    return UtteranceAudio(
        source,
        tuple(manifest["clips"]),
        clip_of=tuple(clip for clip, _ in records),
        log_mels=tuple(record["log_mel"] for _, record in records),
        waveforms=tuple(record["pcm"] for _, record in records),
        corpus_emotions=corpus_emotions,
    )


def cut_utterances(
    audio: UtteranceAudio, *, spec: Spec = Spec()
) -> tuple[sources.Source, list[int]]:
    """Return the segments of utterances as a source, and the number of segments of each record.

    Args:
        audio: The utterances.
        spec: Gives hop, length and the smallest fraction of active frames of a segment.

    Raises:
        InputError: The features are too large for the memory.
    """
    n_bytes = 4 * 3 * sum(log_mel.size for log_mel in audio.log_mels)
    if not sources.fits_memory(n_bytes):
        raise InputError(
            f"{audio.name}: {n_bytes / 2**30:.1f} GiB of log-Mels do not fit the memory; leave out "
            "test_hop_frames, active_share, speaker_normalization, and speed and noise of augment"
        )

    @tf.function(input_signature=[tf.TensorSpec([None, spec.mel_filters])] * 2)
    def features_and_starts(
        log_mel: tf.Tensor, unnormalized: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        features = with_deltas(padded(log_mel, spec=spec), spec=spec)  # [frames, mel_filters, 3]
        starts = segment_starts(padded(unnormalized, spec=spec), spec=spec)
        return tf.transpose(features, [1, 0, 2]), starts

    features, starts, n_frames = [], [], 0
    for log_mel, unnormalized in zip(
        audio.log_mels, audio.unnormalized or audio.log_mels, strict=True
    ):
        of_record, starts_in_record = features_and_starts(log_mel, unnormalized)
        features.append(of_record.numpy())
        starts.append(starts_in_record.numpy() + n_frames)
        n_frames += of_record.shape[1]
    empty = np.zeros((spec.mel_filters, 0, 3), np.float32)
    windows = SegmentWindows(
        np.concatenate(features, axis=1) if features else empty,
        np.concatenate(starts or [np.zeros(0)]).astype(np.int64),
        spec=spec,
    )
    counts = [len(of_record) for of_record in starts]
    clip_of = np.repeat(np.array(audio.clip_of, np.int64), counts)
    return sources.Source(audio.name, audio.rows, windows, clip_of, audio.corpus_emotions), counts


SpeakerStatistics = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Speaker -> mean and standard deviation of the log-Mels, float64 [mel_filters] in dB."""


def speaker_statistics(audio: UtteranceAudio, *, spec: Spec = Spec()) -> SpeakerStatistics:
    """Return the statistics of each speaker over all frames of all clips.

    If the spec leaves out pauses, the statistics are over the active frames: the length of pauses
    says nothing about a voice.

    Raises:
        DataError: A clip has no speaker.
    """
    speakers = audio.speakers
    if not all(speakers):
        raise DataError(
            f"{audio.name}: speaker_normalization needs the speaker of every clip; "
            f"{speakers.count('')} records have none; leave the setting out"
        )
    log_mels = list(audio.log_mels)
    if spec.active_share:
        log_mels = [
            log_mel[active_frames(log_mel, spec=spec).numpy()] for log_mel in audio.log_mels
        ]
    statistics = {}
    for speaker in sorted(set(speakers)):
        frames = np.concatenate(
            [log_mel for log_mel, name in zip(log_mels, speakers, strict=True) if name == speaker]
        )
        mean = frames.mean(axis=0, dtype=np.float64)  # [mel_filters]
        statistics[speaker] = mean, frames.std(axis=0, dtype=np.float64) + 1e-3
    return statistics


def normalize_by_speaker(audio: UtteranceAudio, statistics: SpeakerStatistics) -> UtteranceAudio:
    """Return utterances whose log-Mels have one mean and scale for every speaker and Mel bin."""
    log_mels = []
    for log_mel, speaker in zip(audio.log_mels, audio.speakers, strict=True):
        mean, deviation = statistics[speaker]
        normalized = (log_mel - mean) / deviation * SPEAKER_SCALE_DB + SPEAKER_MEAN_DB
        log_mels.append(normalized.astype(np.float32))
    return dataclasses.replace(
        audio, unnormalized=audio.unnormalized or audio.log_mels, log_mels=tuple(log_mels)
    )


def normalization(
    audio: UtteranceAudio, segmentation: Segmentation
) -> Callable[[UtteranceAudio], UtteranceAudio]:
    """Return the function that normalises utterances, or changed versions, before cutting.

    Args:
        audio: All unchanged utterances of the set, which give the statistics.
        segmentation: Whether to normalise by speaker.
    """
    if not segmentation.by_speaker:
        return lambda utterances: utterances
    statistics = speaker_statistics(audio, spec=segmentation.spec)
    return lambda utterances: normalize_by_speaker(utterances, statistics)
