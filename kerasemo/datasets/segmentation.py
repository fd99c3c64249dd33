"""Sound read as whole utterances: as a stage scores it where its settings ask for other segments than the records were cut to.

`test_hop_frames` cuts segments of the same definition (`pipelines.features.log_mel`) at another hop out of the utterance's log-Mel, with the deltas
of the whole; `active_share` leaves pauses out.
`speaker_normalization` first gives the log-Mels of every speaker the same mean and scale in each Mel bin.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kerasemo.datasets import sources
from kerasemo.datasets.lazy_arrays import Windows
from pipelines.core.errors import InputError
from pipelines.core.spec import Spec
from pipelines.features.log_mel import active_frames, padded, segment_starts, with_deltas
from pipelines.records import reader

MEAN_DB, SCALE_DB = -50.0, 10.0
"""What the log-Mels of a speaker become in each Mel bin, so that gains and floors in dB still mean something."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """How the sound of records is cut into segments; by default as `pipelines.records` has it."""

    hop_frames: int = 0
    """From one segment to the next; 0: the spec's."""
    by_speaker: bool = False
    """Whether log-Mels are normalised by their speaker's own statistics."""
    active_share: float = 0.0
    """Segments of fewer active frames are left out; see `pipelines.core.spec.Spec`."""

    @classmethod
    def of(cls, stage: Mapping[str, Any]) -> "Cut":
        """Return what a stage's settings, as its key has them, ask for where it is scored.

        >>> Cut.of({"name": "a", "test_hop_frames": 8})
        Cut(hop_frames=8, by_speaker=False, active_share=0.0)
        """
        return cls(
            stage.get("test_hop_frames", 0),
            stage.get("speaker_normalization", False),
            stage.get("active_share", 0.0),
        )

    @property
    def spec(self) -> Spec:
        """The spec of the segments."""
        hop = {"segment_hop_frames": self.hop_frames} if self.hop_frames else {}
        return Spec(active_share=self.active_share, **hop)


@dataclasses.dataclass(frozen=True, eq=False)
class Utterances:
    """The sound of a set: what each record holds."""

    name: str
    """`NAME/audio`."""
    rows: tuple[Mapping[str, Any], ...]
    """The manifest's row of each clip."""
    clip_of: tuple[int, ...]
    """Of each record its clip, an index of `rows`: long ones have several."""
    log_mels: tuple[np.ndarray, ...]
    """Static, float32 [frames, mel_filters] in dB."""
    waveforms: tuple[np.ndarray, ...]
    """int16 [samples]; empty where the records keep none."""
    corpus_emotions: frozenset[str]
    recorded: tuple[np.ndarray, ...] = ()
    """The log-Mels as they were before they were normalised, by which pauses are told; empty: they are as recorded."""


def read(records_folder: Path, source: str) -> Utterances:
    """Read the utterances of a set of sound; raises what `sources.read_source` does."""
    folder = sources.set_folder(records_folder, source)
    manifest, emotions = sources.checked_manifest(folder)
    found = [
        (clip, record["log_mel"], record["pcm"])
        for clip, record in sources.clip_records(folder, manifest)
    ]
    clip_of, log_mels, waveforms = zip(*found, strict=True) if found else ((), (), ())
    return Utterances(source, tuple(manifest["clips"]), clip_of, log_mels, waveforms, emotions)


def cut(utterances: Utterances, *, spec: Spec = Spec()) -> sources.Source:
    """Return the segments of some utterances, cut at the spec's hop.

    Raises:
        InputError: They are too long for the memory.
    """
    return cut_records(utterances, spec=spec)[0]


def cut_records(utterances: Utterances, *, spec: Spec) -> tuple[sources.Source, list[int]]:
    """Return what `cut` does, and how many segments each record has."""
    size = 4 * 3 * sum(log_mel.size for log_mel in utterances.log_mels)
    if not sources.fits_memory(size):
        raise InputError(
            f"{utterances.name}: {size / 2**30:.1f} GiB of log-Mels, too much for the memory; leave out test_hop_frames, "
            "active_share, speaker_normalization and the speed and noise of augment"
        )

    @tf.function(input_signature=[tf.TensorSpec([None, spec.mel_filters])] * 2)
    def features_of(static, recorded):
        features = tf.transpose(
            with_deltas(padded(static, spec=spec), spec=spec), [1, 0, 2]
        )  # [mel_filters, frames, 3]
        return features, segment_starts(padded(recorded, spec=spec), spec=spec)

    recorded = utterances.recorded or utterances.log_mels
    made = [
        [part.numpy() for part in features_of(*both)]
        for both in zip(utterances.log_mels, recorded, strict=True)
    ]
    first = np.cumsum([0, *(features.shape[1] for features, _ in made)])
    starts = [own + at for (_, own), at in zip(made, first, strict=False)]
    joined = (
        np.concatenate([features for features, _ in made], axis=1)
        if made
        else np.zeros((spec.mel_filters, 0, 3), np.float32)
    )
    windows = Windows(joined, np.concatenate(starts or [np.zeros(0)]).astype(np.int64), spec=spec)
    counts = [len(own) for own in starts]
    clip_of = np.repeat(np.array(utterances.clip_of, np.int64), counts)
    return sources.Source(
        utterances.name, utterances.rows, windows, clip_of, utterances.corpus_emotions
    ), counts


Statistics = dict[str, tuple[np.ndarray, np.ndarray]]
"""Speaker -> mean and standard deviation, float64 [mel_filters] in dB."""


def speaker_statistics(utterances: Utterances, *, spec: Spec = Spec()) -> Statistics:
    """Return the statistics of each speaker over all frames of all clips; InputError where a clip's speaker is not known.

    Where the spec leaves pauses out, over the active frames alone: how long the pauses are says nothing of a voice.
    """
    speakers = [utterances.rows[clip]["speaker"] for clip in utterances.clip_of]
    if not all(speakers):
        raise InputError(
            f"{utterances.name}: speaker_normalization needs every clip's speaker; {speakers.count('')} have none; leave it out"
        )
    statistics = {}
    heard = [
        log_mel[active_frames(log_mel, spec=spec).numpy()] if spec.active_share else log_mel
        for log_mel in utterances.log_mels
    ]
    for speaker in sorted(set(speakers)):
        own = np.concatenate(
            [log_mel for log_mel, name in zip(heard, speakers, strict=True) if name == speaker]
        )
        statistics[speaker] = (
            own.mean(axis=0, dtype=np.float64),
            own.std(axis=0, dtype=np.float64) + 1e-3,
        )  # [mel_filters]
    return statistics


def normalized_by_speaker(utterances: Utterances, statistics: Statistics) -> Utterances:
    """Return utterances whose log-Mels have, by the statistics of their speakers, the same mean and scale in every Mel bin."""
    speakers = [utterances.rows[clip]["speaker"] for clip in utterances.clip_of]
    return dataclasses.replace(
        utterances,
        recorded=utterances.recorded or utterances.log_mels,
        log_mels=tuple(
            (
                (log_mel - statistics[speaker][0]) / statistics[speaker][1] * SCALE_DB + MEAN_DB
            ).astype(np.float32)
            for log_mel, speaker in zip(utterances.log_mels, speakers, strict=True)
        ),
    )


def read_cut(records_folder: Path, source: str, how: Cut) -> sources.Source:
    """Return a source with its sound cut as asked; faces, and sound where nothing is asked, as `sources.read_source` reads them.

    The last few are kept, because a stage's training, its scores and those of what comes after ask for the same.
    """
    if how == Cut() or source.endswith("/visual"):
        return sources.read_source(records_folder, source)
    records_folder = records_folder.resolve()
    return _kept(
        records_folder,
        source,
        how,
        sources.manifest_hash(sources.set_folder(records_folder, source)),
    )


@functools.lru_cache(maxsize=4)
def _kept(records_folder: Path, source: str, how: Cut, manifest: str) -> sources.Source:
    utterances = read(records_folder, source)
    return cut(finisher(utterances, how)(utterances), spec=how.spec)


def finisher(utterances: Utterances, how: Cut) -> Callable[[Utterances], Utterances]:
    """Return what is done to the log-Mels of a set before they are cut, or to other versions of them: what the set's own ask for."""
    if not how.by_speaker:
        return lambda others: others
    statistics = speaker_statistics(utterances, spec=how.spec)
    return lambda others: normalized_by_speaker(others, statistics)


def is_transductive(source: str, stage: Mapping[str, Any]) -> bool:
    """Tell whether a stage's answers to a source's clips depend on other clips of the same speakers."""
    return Cut.of(stage).by_speaker and source.endswith("/audio")


def why_not_read(records_folder: Path, source: str, stage: Mapping[str, Any]) -> str:
    """Return why a source cannot be read as a stage scores it, though its records are whole; empty where it can."""
    if not is_transductive(source, stage):
        return ""
    rows = reader.read_manifest(sources.set_folder(records_folder, source))["clips"]
    unknown = sum(not row["speaker"] for row in rows)
    return (
        f"speaker_normalization needs every clip's speaker, and {unknown} have none"
        if unknown
        else ""
    )


def loader(
    records_folder: Path,
    stage: Mapping[str, Any],
    load: Callable[[str], sources.Source] | None = None,
) -> Callable[[str], sources.Source]:
    """Return what reads a source as a stage scores it.

    Args:
        records_folder: The records.
        stage: Its settings, as its key has them.
        load: Reads a source as the records have it, where that is all that is asked for; None: from the records, each time.
    """
    how = Cut.of(stage)

    def read_as_scored(source: str) -> sources.Source:
        as_recorded = how == Cut() or source.endswith("/visual")
        return load(source) if load and as_recorded else read_cut(records_folder, source, how)

    return read_as_scored
