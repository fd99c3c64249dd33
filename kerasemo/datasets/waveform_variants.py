"""Training clips at other speeds and with noise, made once of the waveforms that their records keep, and drawn from in every epoch.

A change of the waveform takes a Mel spectrogram of its own, which would cost too much at every step: `augment.variants` changed versions
of each training clip are kept beside it, cut by the same definition, and an example shows the clip as it is or one of them, each as
likely. Validation and test clips, class weights and the statistics of the inputs know nothing of them.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import soxr
import tensorflow as tf

from kerasemo.config.schema import AugmentConfig
from kerasemo.datasets import segmentation
from kerasemo.datasets.segmentation import Utterances
from kerasemo.datasets.sources import Side, Source
from pipelines.core.errors import InputError
from pipelines.core.spec import Spec
from pipelines.features import log_mel as log_mel_module

QUIETEST = 0.1
"""The least noise, as a share of the most: 20 dB below it."""


@dataclasses.dataclass(frozen=True, eq=False)
class VariedSource(Source):
    """A source that holds its items in other versions as well, behind those that are its own."""

    versions: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.int64))
    """int64 [own items, versions]: the items that show each of its own otherwise."""


def asked(changes: AugmentConfig) -> bool:
    """Tell whether changes need the waveform."""
    return bool(changes.speed or changes.noise)


def varied_side(
    side: Side,
    of: Utterances,
    changes: AugmentConfig,
    *,
    seed: int,
    finish: Callable[[Utterances], Utterances] = lambda others: others,
    spec: Spec = Spec(),
) -> Side:
    """Return a training side of sound of which every clip is there in `changes.variants` other versions.

    Args:
        side: The training side of a source.
        of: What the source's records hold.
        changes: How far speed and noise go.
        seed: Of every draw.
        finish: What is done to the log-Mels before they are cut, such as a normalisation.
        spec: How they are cut.

    Returns:
        The same segments of the same clips, of a `VariedSource`.

    Raises:
        InputError: The records keep no waveforms, or there is no room in the memory.
    """
    clips = set(side.source.clip_of[side.items].tolist())
    kept = [record for record, clip in enumerate(of.clip_of) if clip in clips]
    if any(not len(of.waveforms[record]) for record in kept):
        raise InputError(
            f"{of.name}: its records keep no waveforms, which speed and noise of augment change; build them again with "
            "python -m pipelines.build --waveform, or leave out speed and noise"
        )
    count = changes.variants
    log_mel = tf.function(
        lambda waveform: log_mel_module.log_mel(waveform, spec=spec),
        input_signature=[tf.TensorSpec([None])],
    )
    log_mels = [of.log_mels[record] for record in kept]
    for variant in range(count):
        for record in kept:
            random = np.random.default_rng([seed, record, variant])
            waveform = of.waveforms[record].astype(np.float32) / 32768
            log_mels.append(
                log_mel(
                    changed_waveform(
                        waveform, changes, place=variant / count, random=random, spec=spec
                    )
                ).numpy()
            )
    clip_of = tuple(of.clip_of[record] for record in kept)
    everything = dataclasses.replace(
        of, clip_of=clip_of * (1 + count), log_mels=tuple(log_mels), waveforms=()
    )
    source, items = segmentation.cut_records(finish(everything), spec=spec)
    first = np.cumsum([0, *items])
    own = len(kept)
    versions = np.zeros((first[own], count), np.int64)
    for record in range(own):
        for variant in range(count):
            other = (1 + variant) * own + record
            places = np.round(np.linspace(0, items[other] - 1, items[record])).astype(
                np.int64
            )  # about the same part of the utterance
            versions[first[record] : first[record + 1], variant] = first[other] + places
    given = {field.name: getattr(source, field.name) for field in dataclasses.fields(Source)}
    return Side(VariedSource(**given, versions=versions), np.arange(first[own]))


def changed_waveform(
    waveform: np.ndarray,
    changes: AugmentConfig,
    *,
    place: float,
    random: np.random.Generator,
    spec: Spec = Spec(),
) -> np.ndarray:
    """Return sound at another speed, its pitch with it, and with white noise.

    Args:
        waveform: float32 [samples] in [-1, 1].
        changes: `speed`: the speed is in [1 - speed, 1 + speed]; `noise`: its amplitude is at most this share of the sound's, at least
            a tenth of that, evenly in dB; `variants`: parts that the range of speeds is drawn from, so that all of it is met.
        place: Which of these parts, as a share of the range, in [0, 1).
        random: Of the draws.
        spec: The sampling rate, and how long it stays at least.

    Returns:
        float32 [samples / speed], not cut off at 1.
    """
    drawn = random.random(2)
    factor = 1 + changes.speed * (2 * (place + drawn[0] / changes.variants) - 1)
    if changes.speed:
        waveform = soxr.resample(
            waveform, factor * spec.sample_rate_hz, spec.sample_rate_hz, quality="HQ"
        )
        waveform = np.pad(waveform, (0, max(0, spec.fft_samples - len(waveform))))
    if changes.noise:
        amplitude = changes.noise * QUIETEST ** drawn[1] * np.sqrt(np.mean(np.square(waveform)))
        waveform = waveform + amplitude * random.standard_normal(len(waveform), np.float32)
    return waveform.astype(np.float32)
