"""Media file -> waveform, in blocks: WAV and FLAC by soundfile, everything else by PyAV, then soxr; no tensorflow.

Whatever decodes it, a waveform is the mean of the channels in float32, resampled as one whole by soxr's HQ, as `librosa.load` does.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec
from pipelines.media.images import reason

LONGEST_SECONDS = 4 * 3600
RATES_HZ = (1_000, 768_000)  # the least and the highest that a track may have
MOST_CHANNELS = 64
READ_SAMPLES = 1 << 16  # of each channel, at a time
LEAST_MISSING_SECONDS = 0.05
"""Lossy codecs round a track's length to their frames; less than this is not called missing."""

SOUNDFILE_TYPES = {
    **dict.fromkeys(("PCM_U8", "PCM_S8", "PCM_16", "ULAW", "ALAW"), "int16"),
    **dict.fromkeys(("PCM_24", "PCM_32"), "int32"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "float32"),
}
"""What soundfile reads each coding as: integers are scaled here, which is three times as fast."""
PYAV_TYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
COUNTED = ("aiff", "au", "avi", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "wv")
"""PyAV's names of the containers that say how long their sound is; of others it is guessed from the file's size."""
STREAMED = 0x7FFF_0000
"""A RIFF file of this size or more was written to a pipe, before its size was known."""


@dataclasses.dataclass(frozen=True)
class Track:
    """What was read of a sound track."""

    seconds: float
    """Its length before resampling."""
    rate_hz: int
    """The rate before resampling."""
    channels: int
    undecodable: int
    """Packets that did not decode; the sound that comes after them is earlier by what they held."""
    missing_seconds: float
    """How much longer the file's header says that the track is, as far as it can be known; 0.0 when it is whole."""


@dataclasses.dataclass
class _Facts:
    """What the decoders find out as they go."""

    rate_hz: int = 0
    channels: int = 0
    undecodable: int = 0
    claimed_seconds: float = 0.0

    def count(self, error: av.FFmpegError) -> None:
        if isinstance(error, MemoryError):
            raise error
        self.undecodable += 1

    def check(self, rate_hz: int, channels: int) -> None:
        """Raise MediaError for what no sound track is, before anything is allocated for it."""
        if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1] or channels > MOST_CHANNELS:
            expected = (
                f"expected {RATES_HZ[0]} to {RATES_HZ[1]} Hz and at most {MOST_CHANNELS} channels"
            )
            raise MediaError(f"sound track of {rate_hz} Hz in {channels} channels; {expected}")
        if self.claimed_seconds > LONGEST_SECONDS:
            raise _too_long()
        if self.rate_hz not in (0, rate_hz):
            raise MediaError(
                f"sound track that changes its rate ({min(self.rate_hz, rate_hz)}, {max(self.rate_hz, rate_hz)} Hz)"
            )


def read_waveform(
    path: Path, *, spec: Spec = Spec(), progress: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, Track]:
    """Read the first sound track as one mono waveform, float32 [samples] at the spec's rate; see `read_blocks`."""
    blocks, reader = [], read_blocks(path, spec=spec, progress=progress)
    while True:
        try:
            blocks.append(next(reader))
        except StopIteration as end:
            return np.concatenate(blocks), end.value


def read_blocks(
    path: Path, *, spec: Spec = Spec(), progress: Callable[[], None] = lambda: None
) -> Generator[np.ndarray, None, Track]:
    """Read the first sound track as a mono waveform at the spec's rate, block by block.

    The blocks together are what resampling the whole at once gives, bit by bit.

    Args:
        path: A sound or video file.
        spec: The rate, the length of a block (`part_samples`), the least length and the level that counts as silence.
        progress: Called whenever some sound was decoded.

    Yields:
        float32 [samples] in [-1, 1], each but the last of `part_samples`, the last of at most as many.

    Returns:
        The track, as the value of StopIteration.

    Raises:
        MediaError: No sound track, nothing decodes, NaN or infinity, longer than `LONGEST_SECONDS`, a rate that changes or
            that no sound has; only at the end: silent, or shorter than one analysis window.
    """
    facts = _Facts()
    seconds = yield from _resampled(_mono(path, facts, progress), facts, spec)
    return Track(
        seconds,
        facts.rate_hz,
        facts.channels,
        facts.undecodable,
        _missing_seconds(path, seconds, facts.claimed_seconds),
    )


def resampled(mono: np.ndarray, *, rate_hz: int, channels: int, spec: Spec = Spec()) -> np.ndarray:
    """Return float32 [samples], the mean of a track's channels, at the spec's rate; refuses it as `read_blocks` does."""
    facts = _Facts()
    facts.check(rate_hz, channels)
    facts.rate_hz = rate_hz
    return np.concatenate(list(_resampled([mono] if mono.size else [], facts, spec)))


def _resampled(
    parts: Iterable[np.ndarray], facts: _Facts, spec: Spec
) -> Generator[np.ndarray, None, float]:
    """Yield blocks as `read_blocks` does, of parts at `facts.rate_hz`; return the seconds that the parts last."""
    samples, peak, given = 0, 0.0, 0
    resample, waiting = None, []
    for part in parts:
        resample = resample or _resampler(facts.rate_hz, spec)
        samples += part.size
        if samples > LONGEST_SECONDS * facts.rate_hz:
            raise _too_long()
        low, high = part.min(), part.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise MediaError("sound track with NaN or infinite samples")
        peak = max(peak, -float(low), float(high))
        waiting.append(resample(part, False))
        while sum(map(len, waiting)) > spec.part_samples:
            joined = np.concatenate(waiting)
            given += spec.part_samples
            waiting = [joined[spec.part_samples :]]
            yield joined[: spec.part_samples]
    if resample is None:
        raise MediaError("sound track of which nothing could be decoded")
    seconds = samples / facts.rate_hz
    if peak < spec.silence_peak:
        raise MediaError(
            f"silent sound track (never above {20 * np.log10(spec.silence_peak):.0f} dB of full scale)"
        )
    expected = -(-samples * spec.sample_rate_hz // facts.rate_hz)  # rounded up, as librosa does
    if expected < spec.fft_samples:
        least_ms = 1000 * spec.fft_samples / spec.sample_rate_hz
        raise MediaError(
            f"too short: {seconds * 1000:.1f} ms of sound, expected at least {least_ms:.0f} ms"
        )
    rest = np.concatenate([*waiting, resample(np.zeros(0, np.float32), True)])[: expected - given]
    rest = np.pad(rest, (0, expected - given - rest.size))
    for start in range(0, rest.size, spec.part_samples):
        yield rest[start : start + spec.part_samples]
    return seconds


def _too_long() -> MediaError:
    return MediaError(
        f"sound track of more than {LONGEST_SECONDS / 3600:g} hours; expected clips: cut it into shorter files"
    )


def _resampler(rate_hz: int, spec: Spec) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Return a function of (part, whether it is the last) that continues from call to call."""
    if rate_hz == spec.sample_rate_hz:
        return lambda part, last: part
    return soxr.ResampleStream(
        rate_hz, spec.sample_rate_hz, 1, dtype="float32", quality="HQ"
    ).resample_chunk


def _missing_seconds(path: Path, seconds: float, claimed_seconds: float) -> float:
    """Return how much of a track is missing, by its header or, for WAV, by the size that the file should have."""
    size, start = path.stat().st_size, _start(path)
    intended = int.from_bytes(start[4:8], "little") + 8
    if start[:4] == b"RIFF" and start[8:] == b"WAVE" and size < intended < STREAMED:
        claimed_seconds = max(claimed_seconds, seconds * intended / size)
    missing = claimed_seconds - seconds
    return missing if missing >= LEAST_MISSING_SECONDS else 0.0


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(12)


def _mono(path: Path, facts: _Facts, progress: Callable[[], None]) -> Iterator[np.ndarray]:
    """Yield the mean of the channels, float32 [samples] each, and learn the facts; they are complete at the end."""
    if path.stat().st_size == 0:
        raise MediaError("empty file (0 bytes)")
    start, done, damaged = _start(path), 0, False
    if start[:4] == b"fLaC" or start[8:12] == b"WAVE":
        try:
            with soundfile.SoundFile(path) as file:
                # No frames, or as many as there can be: the file was written to a pipe.
                if file.subtype in SOUNDFILE_TYPES and 0 < file.frames < 2**62:
                    damaged = True
                    for part in _by_soundfile(file, facts):
                        progress()
                        done += part.size
                        yield part
                    return
        except soundfile.LibsndfileError:  # PyAV says what is wrong, or passes over it
            pass
    for part in _by_pyav(path, facts, progress):
        skipped = min(done, part.size)  # soundfile had these; both decode them to the same
        done -= skipped
        if skipped < part.size:
            yield part[skipped:]
    facts.undecodable = max(facts.undecodable, int(damaged))


def _by_soundfile(file: soundfile.SoundFile, facts: _Facts) -> Iterator[np.ndarray]:
    facts.claimed_seconds = file.frames / file.samplerate
    facts.check(file.samplerate, file.channels)
    facts.rate_hz, facts.channels = file.samplerate, file.channels
    while (
        samples := file.read(READ_SAMPLES, dtype=SOUNDFILE_TYPES[file.subtype], always_2d=True)
    ).size:  # [samples, channels]
        yield _mean(samples.T)


def _by_pyav(path: Path, facts: _Facts, progress: Callable[[], None]) -> Iterator[np.ndarray]:
    with _opened(path) as container:
        if not container.streams.audio:
            raise MediaError("no sound track")
        stream = container.streams.audio[0]
        if stream.codec_context.name == "flac":
            stream.codec_context.options = {
                "err_detect": "crccheck+explode"
            }  # else a damaged frame is heard as noise
        # MP3: only a file with an encoder's own frame, which tells the delay too, says how long it is.
        if container.format.name in COUNTED or (
            container.format.name == "mp3" and stream.start_time
        ):
            facts.claimed_seconds = float(
                max(stream.duration or 0, stream.frames) * stream.time_base
            )
        facts.check(stream.rate or RATES_HZ[0], stream.channels)
        held, size, kind = [], 0, None
        for frame in _frames(container, stream, facts):
            progress()
            rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
            if (rate_hz, channels, frame.format.name) != kind or size >= READ_SAMPLES:
                facts.check(rate_hz, channels)
                facts.rate_hz, facts.channels = rate_hz, max(facts.channels, channels)
                if held:
                    yield _mean([np.concatenate(channel) for channel in zip(*held)])
                held, size, kind = [], 0, (rate_hz, channels, frame.format.name)
            held.append(_channels(frame, channels))
            size += frame.samples
        if held:
            yield _mean([np.concatenate(channel) for channel in zip(*held)])


@functools.cache
def _sound_codecs() -> str:
    """Return the names of the decoders of sound: probing a video then decodes no picture, which takes longer than its sound."""

    codecs = []
    for name in av.codecs_available:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):  # encodes only
            codecs += [name] if av.Codec(name, "r").type == "audio" else []
    return ",".join(sorted(codecs))


def _opened(path: Path):
    """Open a media file for its sound; raises MediaError when it is none."""
    # One packet: to learn whether a WAV's samples hide AC-3 or DTS, PyAV would look at megabytes of them.
    try:
        return av.open(
            str(path),
            metadata_errors="replace",
            options={"max_probe_packets": "1", "codec_whitelist": _sound_codecs()},
        )
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(f"not a media file that can be opened ({reason(error)})") from error


def _frames(container, stream, facts: _Facts) -> Iterator:
    """Yield what decodes of a stream, and count what does not."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                facts.count(error)
    except av.FFmpegError as error:  # the container breaks off: what came before it is good
        facts.count(error)


def _channels(frame, count: int) -> Sequence[np.ndarray]:
    """Return a frame's channels, each [samples], as they are stored; they keep the frame."""
    name = frame.format.name
    dtype = PYAV_TYPES[name.removesuffix("p")]
    if name[-1] == "p" or count == 1:
        return [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes]
    return np.frombuffer(frame.planes[0], dtype, frame.samples * count).reshape(-1, count).T


def _mean(channels: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of channels of integers or floats, each [samples], as float32 [samples] in [-1, 1]."""
    first, *others = channels
    mean = first.astype(np.float32)
    for channel in others:
        mean += channel
    count, full_scale = 1 + len(others), 1
    if first.dtype == np.uint8:
        mean -= 128 * count
        full_scale = 128
    elif first.dtype.kind == "i":
        full_scale = 2 ** (8 * first.dtype.itemsize - 1)
    if count * full_scale > 1:
        mean *= np.float32(1 / (count * full_scale))
    return mean
