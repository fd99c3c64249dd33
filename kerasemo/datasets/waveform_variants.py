"""Versions of training clips at other speeds and with noise, made once from waveforms.

A changed waveform needs a new log-Mel, which would cost too much at every step. So
`augment.variants` changed versions of each training clip are kept next to it, and in every epoch an
example shows the clip or one of the versions, each with the same probability. Validation and test
clips, class weights and the statistics of the inputs do not see the versions.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import soxr
import tensorflow as tf

from kerasemo.config.schema import AugmentConfig
from kerasemo.datasets import segmentation
from kerasemo.datasets.segmentation import UtteranceAudio
from kerasemo.datasets.sources import Subset
from pipelines.core.errors import DataError
from pipelines.core.spec import Spec
from pipelines.features import log_mel as log_mel_module

MIN_NOISE = 0.1
"""The least noise as a fraction of the most: 20 dB below it."""


def changes_waveform(strengths: AugmentConfig) -> bool:
    """Return whether an augmentation needs the waveform."""
    return bool(strengths.speed or strengths.noise)


def with_variants(
    subset: Subset,
    audio: UtteranceAudio,
    strengths: AugmentConfig,
    *,
    seed: int,
    normalize: Callable[[UtteranceAudio], UtteranceAudio] = lambda audio: audio,
    spec: Spec = Spec(),
) -> Subset:
    """Return the training clips of an audio source with changed versions of each.

    Args:
        subset: The training clips.
        audio: All utterances of the source.
        strengths: The largest changes of speed and noise.
        seed: The seed of all changes.
        normalize: Applied to utterances before they are cut.
        spec: Gives hop and length of a segment.

    Returns:
        The same segments of the same clips. The source also has the segments of the versions, and
            its
        `variants` name them.

    Raises:
        DataError: The records have no waveforms.
        InputError: The versions do not fit the memory.
    """
    clips = set(subset.clips.tolist())
    records = [record for record, clip in enumerate(audio.clip_of) if clip in clips]
    if any(not len(audio.waveforms[record]) for record in records):
        raise DataError(
            f"{audio.name}: the records have no waveforms, which speed and noise of augment "
            "change; build them again with python -m pipelines.build --waveform, or leave out "
            "speed and noise"
        )
    n_variants = strengths.variants
    log_mel = tf.function(
        lambda waveform: log_mel_module.log_mel(waveform, spec=spec),
        input_signature=[tf.TensorSpec([None])],
    )
    log_mels = [audio.log_mels[record] for record in records]
    for variant in range(n_variants):
        for record in records:
            changed = change_waveform(
                audio.waveforms[record].astype(np.float32) / 32768,
                strengths,
                speed_part=variant / n_variants,
                random=np.random.default_rng([seed, record, variant]),
                spec=spec,
            )
            log_mels.append(log_mel(changed).numpy())
    clip_of = tuple(audio.clip_of[record] for record in records)
    all_versions = dataclasses.replace(
        audio, clip_of=clip_of * (1 + n_variants), log_mels=tuple(log_mels), waveforms=()
    )
    source, n_segments = segmentation.cut_utterances(normalize(all_versions), spec=spec)
    first = np.cumsum([0, *n_segments])  # the first segment of each record and version
    n_records = len(records)
    n_unchanged = first[n_records]
    variants = np.zeros((n_unchanged, n_variants), np.int64)
    for record in range(n_records):
        for variant in range(n_variants):
            version = (1 + variant) * n_records + record
            # The segments of a version at about the same places of the utterance.
            places = np.round(np.linspace(0, n_segments[version] - 1, n_segments[record]))
            variants[first[record] : first[record + 1], variant] = first[version] + places.astype(
                np.int64
            )
    return Subset(dataclasses.replace(source, variants=variants), np.arange(n_unchanged))


def change_waveform(
    waveform: np.ndarray,
    strengths: AugmentConfig,
    *,
    speed_part: float,
    random: np.random.Generator,
    spec: Spec = Spec(),
) -> np.ndarray:
    """Return a waveform at another speed, with another pitch, and with white noise.

    The speed is in [1 - speed, 1 + speed]. The range is divided into `strengths.variants` equal
    parts, so that the versions of a clip cover it. The amplitude of the noise is between a tenth of
    `strengths.noise` and all of it, as a fraction of the waveform's own, evenly in dB.

    Args:
        waveform: float32 [samples] in [-1, 1].
        strengths: The largest changes.
        speed_part: The start of the part of the range of speeds, a fraction in [0, 1).
        random: Draws speed and noise.
        spec: Gives the sampling rate and the smallest length.

    Returns:
        float32 [samples / speed]; values may exceed 1.
    """
    draws = random.random(2)
    speed = 1 + strengths.speed * (2 * (speed_part + draws[0] / strengths.variants) - 1)
    if strengths.speed:
        rate = speed * spec.sample_rate_hz
        waveform = soxr.resample(waveform, rate, spec.sample_rate_hz, quality="HQ")
        waveform = np.pad(waveform, (0, max(0, spec.fft_samples - len(waveform))))
    if strengths.noise:
        level = np.sqrt(np.mean(np.square(waveform)))
        amplitude = strengths.noise * MIN_NOISE ** draws[1] * level
        waveform = waveform + amplitude * random.standard_normal(len(waveform), np.float32)
    return waveform.astype(np.float32)
