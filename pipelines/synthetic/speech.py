"""Make the speech of the sample corpora by a source and a filter that depend on an emotion.

Pulses of the glottis and breath pass the resonances of a vocal tract that moves from vowel to
vowel, with fricatives and pauses between; no language is meant. How the emotions change the voice
follows Banse and Scherer, Journal of Personality and Social Psychology 70(3), 1996, and Juslin and
Laukka, Psychological Bulletin 129(5), 2003.
"""

import dataclasses

import numpy as np

TREMOR_HZ = 6.0
STEP_SECONDS = 0.005
"""Time between two values of everything that moves: pitch, loudness, formants."""
WINDOW_STEPS = 4
PEAK = 0.95
"""Louder clips are turned down to this."""


@dataclasses.dataclass(frozen=True)
class Prosody:
    """How an emotion differs from neutral speech.

    The whole difference, which a clip shows only a part of.
    """

    pitch_semitones: float = 0.0
    range_log2: float = 0.0
    """Of the melody: 1 doubles its range."""
    loudness_db: float = 0.0
    rate_log2: float = 0.0
    tilt_db_per_octave: float = 0.0
    """Positive: a tense, brilliant voice."""
    breath: float = 0.0
    jitter: float = 0.0
    """Standard deviation of the pitch from one pulse to the next, as a share."""
    formants_log2: float = 0.0
    """Positive: spread lips, a shorter tract."""
    rise_semitones: float = 0.0
    """From the beginning of the utterance to its end."""
    tremor_semitones: float = 0.0


PROSODIES = {
    "anger": Prosody(4.0, 0.7, 10.0, 0.25, 4.0, -0.08, 0.012, 0.05, -1.0, 0.0),
    "boredom": Prosody(-2.5, -1.2, -4.0, -0.45, -1.5, 0.05, 0.000, -0.03, -2.0, 0.0),
    "disgust": Prosody(-1.5, 0.0, -1.0, -0.25, 1.5, 0.20, 0.050, 0.10, -3.0, 0.0),
    "fear": Prosody(7.0, -0.3, 1.0, 0.45, 0.0, 0.35, 0.020, 0.03, 1.0, 1.0),
    "happiness": Prosody(5.0, 1.0, 5.0, 0.10, 1.5, 0.00, 0.000, 0.10, 2.0, 0.0),
    "neutral": Prosody(),
    "sadness": Prosody(-0.5, -0.7, -9.0, -0.45, -3.5, 0.40, 0.010, -0.06, -4.0, 0.1),
    "surprise": Prosody(6.0, 0.9, 2.0, -0.05, 0.0, 0.15, 0.000, 0.00, 10.0, 0.0),
}
CLIP_SPREAD = Prosody(0.8, 0.15, 1.2, 0.08, 0.5, 0.04, 0.003, 0.015, 1.0, 0.05)
"""Standard deviation of what a clip does that its emotion does not ask for."""
LEAST_INTENSITY = 0.7


@dataclasses.dataclass(frozen=True)
class Voice:
    """A speaker's voice."""

    pitch_hz: float
    range_semitones: float
    formant_scale: float
    tilt_db_per_octave: float
    breath: float
    syllables_per_second: float

    @staticmethod
    def drawn(rng: np.random.Generator, *, female: bool) -> "Voice":
        """Return a voice drawn from `rng`."""
        return Voice(
            pitch_hz=rng.uniform(175, 225) if female else rng.uniform(95, 130),
            range_semitones=rng.uniform(1.6, 2.6),
            formant_scale=rng.uniform(1.10, 1.20) if female else rng.uniform(0.95, 1.05),
            tilt_db_per_octave=rng.uniform(-7.5, -6.0),
            breath=rng.uniform(0.08, 0.18),
            syllables_per_second=rng.uniform(4.8, 5.8),
        )


@dataclasses.dataclass(frozen=True)
class Channel:
    """How a corpus's speech is recorded, and the vowels of its language."""

    sample_rate_hz: int
    syllables: int
    """In a sentence, give or take one."""
    level_db: float
    """Root mean square of neutral speech, full scale being 0."""
    noise_db: float
    hum_db: float
    echo_seconds: float
    vowels_hz: tuple[tuple[int, int, int], ...]
    """First three formants of a man's vowels."""


MIXED_VOWELS_HZ = (
    (300, 2200, 2900),
    (480, 1800, 2500),
    (720, 1250, 2500),
    (350, 850, 2400),
    (500, 1450, 2500),
)
ENGLISH_VOWELS_HZ = (
    (280, 2250, 2950),
    (570, 1750, 2500),
    (680, 1100, 2450),
    (320, 950, 2300),
    (480, 1300, 2400),
)
GERMAN_VOWELS_HZ = (
    (270, 2150, 3000),
    (400, 2050, 2600),
    (750, 1300, 2550),
    (380, 750, 2450),
    (300, 1650, 2200),
)
CHANNELS = {
    "enterface": Channel(48_000, 5, -30.0, -62.0, -66.0, 0.12, MIXED_VOWELS_HZ),
    "savee": Channel(44_100, 5, -28.0, -70.0, -80.0, 0.03, ENGLISH_VOWELS_HZ),
    "emodb": Channel(16_000, 8, -28.0, -72.0, -90.0, 0.02, GERMAN_VOWELS_HZ),
}


def speak(
    voice: Voice,
    *,
    channel: Channel,
    emotion: str,
    text_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a sentence, float32 [samples] in [-1, 1], and its loudness, float [steps] in [0, 1].

    `text_rng` chooses the sounds of the sentence, `rng` how they are spoken.
    """
    target = np.array(dataclasses.astuple(PROSODIES[emotion])) * rng.uniform(LEAST_INTENSITY, 1.0)
    prosody = Prosody(
        *(
            target + np.array(dataclasses.astuple(CLIP_SPREAD)) * rng.normal(0, 1, target.size)
        ).tolist()
    )
    score = _sentence(voice, prosody, channel=channel, text_rng=text_rng, rng=rng)
    waveform = _sound(voice, prosody, score, rate_hz=channel.sample_rate_hz, rng=rng)
    waveform = _recorded(
        waveform, channel=channel, level_db=channel.level_db + prosody.loudness_db, rng=rng
    )
    return waveform, score.voiced / max(score.voiced.max(), 1e-9)


@dataclasses.dataclass(frozen=True)
class _Score:
    """What the vocal tract does, a value each STEP_SECONDS.

    Arrays [steps] and `formants_hz` [steps, 3].
    """

    pitch_hz: np.ndarray
    voiced: np.ndarray
    hiss: np.ndarray
    hiss_hz: np.ndarray
    formants_hz: np.ndarray


def _smooth(track: np.ndarray, seconds: float) -> np.ndarray:
    """Return `track` (float [steps] or [steps, n]) averaged over a Hann window of `seconds`."""
    steps = max(3, round(seconds / STEP_SECONDS)) | 1
    window = np.hanning(steps + 2)[1:-1]
    padded = np.pad(track, [(steps // 2, steps // 2)] + [(0, 0)] * (track.ndim - 1), mode="edge")
    return np.apply_along_axis(np.convolve, 0, padded, window / window.sum(), mode="valid")


def _sentence(
    voice: Voice,
    prosody: Prosody,
    *,
    channel: Channel,
    text_rng: np.random.Generator,
    rng: np.random.Generator,
) -> _Score:
    """Lay the syllables of a sentence out in time."""
    seconds_per_syllable = 1 / (voice.syllables_per_second * 2**prosody.rate_log2)
    silence = (0.0, 0.0, 4000.0, 500.0, 1500.0, 2500.0, 0.0)
    sounds = [
        (0.08, *silence)
    ]  # of each: seconds, voiced, hiss, its frequency, three formants, accent
    count = channel.syllables + int(text_rng.integers(-1, 2))
    for index in range(count):
        vowel = channel.vowels_hz[text_rng.integers(len(channel.vowels_hz))]
        onset, accent = text_rng.choice(3, p=[0.35, 0.25, 0.4]), text_rng.uniform(-0.4, 1.0)
        hiss_hz = text_rng.uniform(2800, 6000)
        length = seconds_per_syllable * rng.uniform(0.85, 1.15)
        if onset == 0:  # fricative
            sounds.append((0.35 * length, 0.0, 0.30, hiss_hz, *vowel, accent))
        elif onset == 1:  # plosive: closure and burst
            sounds.append((0.22 * length, 0.0, 0.0, hiss_hz, *vowel, accent))
            sounds.append((0.10 * length, 0.0, 0.45, 0.6 * hiss_hz, *vowel, accent))
        else:  # nasal or liquid
            sounds.append((0.28 * length, 0.35, 0.0, hiss_hz, 300.0, 1300.0, 2300.0, accent))
        stress = 0.75 + 0.25 * accent
        sounds.append((0.66 * length, stress, 0.0, hiss_hz, *vowel, accent))
        if index == count // 2:
            sounds.append((rng.uniform(0.3, 0.6) * seconds_per_syllable, *silence))
    sounds.append((0.10, *silence))
    table = np.array(sounds)
    steps = np.maximum(1, np.round(table[:, 0] / STEP_SECONDS).astype(int))
    tracks = np.repeat(table[:, 1:], steps, axis=0)  # [steps, 7]
    time = np.linspace(0, 1, len(tracks))
    melody = (
        _smooth(tracks[:, 6], 0.12)
        + 0.6 * (0.5 - time)
        + _smooth(rng.normal(0, 1.5, len(tracks)), 0.15)
    )
    tremor = prosody.tremor_semitones * np.sin(
        2 * np.pi * (TREMOR_HZ * STEP_SECONDS * np.arange(len(tracks)) + rng.uniform())
    )
    semitones = prosody.pitch_semitones + voice.range_semitones * 2**prosody.range_log2 * melody
    semitones += prosody.rise_semitones * (time**2 - 0.3) + tremor
    return _Score(
        pitch_hz=voice.pitch_hz * 2 ** (semitones / 12),
        voiced=_smooth(tracks[:, 0], 0.05) * (1 + 0.35 * tremor),
        hiss=_smooth(tracks[:, 1], 0.02),
        hiss_hz=tracks[:, 2],
        formants_hz=_smooth(tracks[:, 3:6], 0.06) * voice.formant_scale * 2**prosody.formants_log2,
    )


def _sound(
    voice: Voice, prosody: Prosody, score: _Score, *, rate_hz: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the sound of a score, float [samples], at any level."""
    hop = round(STEP_SECONDS * rate_hz)
    steps = len(score.voiced)
    samples = steps * hop
    at_samples = np.arange(samples) / hop
    pitch_hz = np.interp(at_samples, np.arange(steps), score.pitch_hz)
    pitch_hz *= 1 + max(0.002, prosody.jitter) * np.interp(
        at_samples, np.arange(steps), rng.normal(0, 1, steps)
    )
    voiced, hiss = (
        np.interp(at_samples, np.arange(steps), track) for track in (score.voiced, score.hiss)
    )
    cycles = np.cumsum(pitch_hz / rate_hz)
    closures = np.flatnonzero(np.diff(np.floor(cycles)) > 0) + 1
    pulses = np.zeros(samples)
    pulses[closures] = np.sqrt(rate_hz / pitch_hz[closures]) * rng.uniform(
        0.9, 1.1, closures.size
    )  # of power 1
    breath = np.clip(voice.breath + prosody.breath, 0.02, 0.8)

    frequency_hz = np.fft.rfftfreq(_transform_size(hop), 1 / rate_hz)
    tract = _resonances(score.formants_hz, voice.formant_scale, frequency_hz)  # [steps, bins]
    octaves = np.log2(np.maximum(frequency_hz, 150) / 150)
    glottis = 10 ** ((voice.tilt_db_per_octave + prosody.tilt_db_per_octave) * octaves / 20) * (
        frequency_hz > 50
    )
    rush = 10 ** (-5.0 * octaves / 20) * (frequency_hz > 200)
    teeth = np.exp(-((np.log2(np.maximum(frequency_hz, 50) / score.hiss_hz[:, None]) / 0.5) ** 2))
    air = rng.normal(0, 1, samples)
    return (
        _filtered(voiced * np.sqrt(1 - breath**2) * pulses, tract * glottis, hop)
        + _filtered(0.6 * breath * voiced * air, tract * rush, hop)
        + _filtered(0.35 * hiss * air, teeth, hop)
    )


def _resonances(
    formants_hz: np.ndarray, formant_scale: float, frequency_hz: np.ndarray
) -> np.ndarray:
    """Return the gain of a cascade of resonators (Klatt, JASA 67(3), 1980): float [steps, bins]."""
    steps = len(formants_hz)
    higher = np.broadcast_to(formant_scale * np.array([3500.0, 4500.0, 5500.0, 6600.0]), (steps, 4))
    gain = np.ones((steps, frequency_hz.size))
    for centre_hz in np.concatenate([formants_hz, higher], axis=1).T[..., None]:  # [steps, 1]
        ratio = frequency_hz / centre_hz
        bandwidth = (50 + 0.04 * centre_hz) / centre_hz
        # The skirt above a resonance is held at -4 dB, for the glottis alone gives the tilt.
        gain *= np.maximum(
            1 / np.sqrt((1 - ratio**2) ** 2 + (ratio * bandwidth) ** 2),
            np.where(ratio > 1, 0.6, 0.0),
        )
    return gain


def _transform_size(hop: int) -> int:
    """Return a power of two that fits a window of WINDOW_STEPS hops and the filter's ringing."""
    return 1 << (2 * WINDOW_STEPS * hop - 1).bit_length()


def _filtered(source: np.ndarray, gain: np.ndarray, hop: int) -> np.ndarray:
    """Return `source` (float [steps * hop]) after the zero-phase filter of gain [steps, bins]."""
    window_samples, size = WINDOW_STEPS * hop, _transform_size(hop)
    before = (size - window_samples) // 2
    padded = np.pad(source, window_samples // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, window_samples)[::hop][: len(gain)]
    window = np.hanning(window_samples + 1)[:-1] * 2 / WINDOW_STEPS  # the windows add up to 1
    pieces = np.roll(
        np.fft.irfft(np.fft.rfft(windows * window, size) * gain, size), before, axis=1
    )  # [steps, size]
    sound = np.zeros(len(gain) * hop + size)
    for index, piece in enumerate(pieces):
        sound[index * hop : index * hop + size] += piece
    start = before + window_samples // 2
    return sound[start : start + source.size]


def _recorded(
    waveform: np.ndarray, *, channel: Channel, level_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the sound as the corpus's microphone takes it, float32 within -1 to 1."""
    rate_hz, samples = channel.sample_rate_hz, waveform.size
    echo = (
        np.exp(
            -6.9 * np.arange(int(channel.echo_seconds * rate_hz)) / (channel.echo_seconds * rate_hz)
        )
        * 0.03
    )
    echo *= rng.normal(0, 1, echo.size) * np.sqrt(16_000 / rate_hz)
    echo[0] = 1.0
    size = 1 << (samples + echo.size - 1).bit_length()
    waveform = np.fft.irfft(np.fft.rfft(waveform, size) * np.fft.rfft(echo, size), size)[:samples]
    waveform *= 10 ** ((level_db + rng.normal(0, 1)) / 20) / np.sqrt(np.mean(waveform**2))
    waveform += 10 ** (channel.noise_db / 20) * rng.normal(0, 1, samples)
    waveform += 10 ** (channel.hum_db / 20) * np.sin(
        2 * np.pi * (50 * np.arange(samples) / rate_hz + rng.uniform())
    )
    return (waveform / max(1.0, np.abs(waveform).max() / PEAK)).astype(np.float32)
