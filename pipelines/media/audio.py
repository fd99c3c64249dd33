"""Read waveforms from media files in blocks: WAV and FLAC by soundfile, other formats by PyAV.

A waveform is the mean of the channels in float32, resampled as a whole by soxr with quality HQ, as
`librosa.load` does.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr

from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec
from pipelines.media.images import library_message

MAX_SECONDS = 4 * 3600
"""The largest length of an audio track."""
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
"""The sampling rates that an audio track may have."""
MAX_CHANNELS = 64
SAMPLES_PER_READ = 1 << 16
"""The number of samples of each channel in one read."""
MIN_MISSING_SECONDS = 0.05
"""The shortest missing end that is reported: lossy codecs round the length of a track to their
frames."""

SOUNDFILE_TYPES = {
    **dict.fromkeys(("PCM_U8", "PCM_S8", "PCM_16", "ULAW", "ALAW"), "int16"),
    **dict.fromkeys(("PCM_24", "PCM_32"), "int32"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "float32"),
}
"""Coding of a file -> the dtype that soundfile reads; this module scales integers, three times as
fast."""
PYAV_TYPES = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
"""Sample format of PyAV -> dtype."""
FORMATS_WITH_LENGTH = ("aiff", "au", "avi", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "wv")
"""Containers, by their names in PyAV, that state the length of their audio; others are estimated by
libav."""
STREAMED_SIZE = 0x7FFF_0000
"""A RIFF file that claims this size or more was written to a pipe, before its size was known."""


@dataclasses.dataclass(frozen=True)
class AudioTrack:
    """Facts about an audio track that was read."""

    seconds: float
    """Its length."""
    rate_hz: int
    """Its sampling rate, before resampling."""
    channels: int
    undecodable: int
    """Packets that could not be decoded. The audio after them starts too early by their length."""
    missing_seconds: float
    """The missing part of the length in the file's header, where it is known; 0.0 if nothing
    is."""


@dataclasses.dataclass
class _DecodingFacts:
    """The facts about a track that the decoders have found so far."""

    rate_hz: int = 0
    channels: int = 0
    undecodable: int = 0
    claimed_seconds: float = 0.0

    def count_undecodable(self, error: av.FFmpegError) -> None:
        """Count a packet that could not be decoded."""
        if isinstance(error, MemoryError):
            raise error
        self.undecodable += 1

    def check(self, rate_hz: int, channels: int) -> None:
        """Raise MediaError for an impossible audio track, before memory is allocated."""
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ or channels > MAX_CHANNELS:
            raise MediaError(
                f"sound track of {rate_hz} Hz in {channels} channels; expected {MIN_RATE_HZ} to "
                f"{MAX_RATE_HZ} Hz and at most {MAX_CHANNELS} channels"
            )
        if self.claimed_seconds > MAX_SECONDS:
            raise _too_long_error()
        if self.rate_hz not in (0, rate_hz):
            low, high = sorted((self.rate_hz, rate_hz))
            raise MediaError(f"sound track that changes its rate ({low}, {high} Hz)")


def read_waveform(
    path: Path, *, spec: Spec = Spec(), progress: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, AudioTrack]:
    """Return the first audio track as one mono waveform; see `read_blocks`.

    Returns:
        float32 [samples] at the spec's rate, and the facts about the track.
    """
    blocks = []
    reader = read_blocks(path, spec=spec, progress=progress)
    while True:
        try:
            blocks.append(next(reader))
        except StopIteration as end:
            return np.concatenate(blocks), end.value


def read_blocks(
    path: Path, *, spec: Spec = Spec(), progress: Callable[[], None] = lambda: None
) -> Generator[np.ndarray, None, AudioTrack]:
    """Yield the first audio track as a mono waveform at the spec's rate, block by block.

    The blocks together equal the resampled whole track, bit by bit.

    Args:
        path: An audio or video file.
        spec: Gives the rate, the length of a block (`part_samples`), the smallest length and the
            level of silence.
        progress: Called whenever audio was decoded.

    Yields:
        float32 [samples] in [-1, 1]; every block but the last has `part_samples`.

    Returns:
        The facts about the track, as the value of StopIteration.

    Raises:
        MediaError: The file has no audio track, nothing can be decoded, samples are NaN or
            infinite, the track is longer than `MAX_SECONDS`, or its rate is impossible or changes.
            At the end: the track is silent, or shorter than one FFT.
    """
    facts = _DecodingFacts()
    seconds = yield from _resampled(_mono(path, facts, progress), facts, spec)
    return AudioTrack(
        seconds,
        facts.rate_hz,
        facts.channels,
        facts.undecodable,
        _missing_seconds(path, seconds, facts.claimed_seconds),
    )


def resampled(mono: np.ndarray, *, rate_hz: int, channels: int, spec: Spec = Spec()) -> np.ndarray:
    """Return the mean of a track's channels at the spec's rate.

    Args:
        mono: float32 [samples]: the mean of the channels.
        rate_hz: The sampling rate of `mono`.
        channels: The number of channels of the track.
        spec: See `read_blocks`.

    Returns:
        float32 [samples] at the spec's rate.

    Raises:
        MediaError: See `read_blocks`.
    """
    facts = _DecodingFacts()
    facts.check(rate_hz, channels)
    facts.rate_hz = rate_hz
    return np.concatenate(list(_resampled([mono] if mono.size else [], facts, spec)))


def _resampled(
    parts: Iterable[np.ndarray], facts: _DecodingFacts, spec: Spec
) -> Generator[np.ndarray, None, float]:
    """Yield the blocks of `read_blocks` from parts at `facts.rate_hz`; return their seconds."""
    n_samples, peak, n_yielded = 0, 0.0, 0
    resample, waiting = None, []
    for part in parts:
        resample = resample or _resampler(facts.rate_hz, spec)
        n_samples += part.size
        if n_samples > MAX_SECONDS * facts.rate_hz:
            raise _too_long_error()
        low, high = part.min(), part.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise MediaError("sound track with NaN or infinite samples")
        peak = max(peak, -float(low), float(high))
        waiting.append(resample(part, False))
        while sum(map(len, waiting)) > spec.part_samples:
            joined = np.concatenate(waiting)
            n_yielded += spec.part_samples
            waiting = [joined[spec.part_samples :]]
            yield joined[: spec.part_samples]
    if resample is None:
        raise MediaError("sound track of which nothing could be decoded")
    seconds = n_samples / facts.rate_hz
    if peak < spec.silence_peak:
        silence_db = 20 * np.log10(spec.silence_peak)
        raise MediaError(f"silent sound track (never above {silence_db:.0f} dB of full scale)")
    n_expected = -(-n_samples * spec.sample_rate_hz // facts.rate_hz)  # rounded up, as by librosa
    if n_expected < spec.fft_samples:
        min_ms = 1000 * spec.fft_samples / spec.sample_rate_hz
        raise MediaError(
            f"too short: {seconds * 1000:.1f} ms of sound, expected at least {min_ms:.0f} ms"
        )
    n_left = n_expected - n_yielded
    rest = np.concatenate([*waiting, resample(np.zeros(0, np.float32), True)])[:n_left]
    rest = np.pad(rest, (0, n_left - rest.size))
    for start in range(0, rest.size, spec.part_samples):
        yield rest[start : start + spec.part_samples]
    return seconds


def _too_long_error() -> MediaError:
    return MediaError(
        f"sound track of more than {MAX_SECONDS / 3600:g} hours; expected clips: cut it into "
        "shorter files"
    )


def _resampler(rate_hz: int, spec: Spec) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Return a function that resamples one part after another; its flag marks the last part."""
    if rate_hz == spec.sample_rate_hz:
        return lambda part, last: part
    return soxr.ResampleStream(
        rate_hz, spec.sample_rate_hz, 1, dtype="float32", quality="HQ"
    ).resample_chunk


def _missing_seconds(path: Path, seconds: float, claimed_seconds: float) -> float:
    """Return the missing seconds of a track, by its header or, for WAV, the size in its header."""
    size, start = path.stat().st_size, _first_bytes(path)
    claimed_size = int.from_bytes(start[4:8], "little") + 8
    is_wav = start[:4] == b"RIFF" and start[8:] == b"WAVE"
    if is_wav and size < claimed_size < STREAMED_SIZE:
        claimed_seconds = max(claimed_seconds, seconds * claimed_size / size)
    missing_seconds = claimed_seconds - seconds
    return missing_seconds if missing_seconds >= MIN_MISSING_SECONDS else 0.0


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(12)


def _mono(path: Path, facts: _DecodingFacts, progress: Callable[[], None]) -> Iterator[np.ndarray]:
    """Yield the mean of the channels, float32 [samples] each; the facts are complete at the end."""
    if path.stat().st_size == 0:
        raise MediaError("empty file (0 bytes)")
    start, n_done, is_damaged = _first_bytes(path), 0, False
    if start[:4] == b"fLaC" or start[8:12] == b"WAVE":
        try:
            with soundfile.SoundFile(path) as file:
                # A file that was written to a pipe claims no frames, or the largest number.
                if file.subtype in SOUNDFILE_TYPES and 0 < file.frames < 2**62:
                    is_damaged = True
                    for part in _decode_with_soundfile(file, facts):
                        progress()
                        n_done += part.size
                        yield part
                    return
        except soundfile.LibsndfileError:  # PyAV reports the damage, or skips it
            pass
    for part in _decode_with_pyav(path, facts, progress):
        # soundfile has decoded these samples already, with the same result.
        n_skipped = min(n_done, part.size)
        n_done -= n_skipped
        if n_skipped < part.size:
            yield part[n_skipped:]
    facts.undecodable = max(facts.undecodable, int(is_damaged))


def _decode_with_soundfile(
    file: soundfile.SoundFile, facts: _DecodingFacts
) -> Iterator[np.ndarray]:
    facts.claimed_seconds = file.frames / file.samplerate
    facts.check(file.samplerate, file.channels)
    facts.rate_hz, facts.channels = file.samplerate, file.channels
    dtype = SOUNDFILE_TYPES[file.subtype]
    while True:
        samples = file.read(SAMPLES_PER_READ, dtype=dtype, always_2d=True)  # [samples, channels]
        if not samples.size:
            return
        yield _mean_of_channels(samples.T)


def _decode_with_pyav(
    path: Path, facts: _DecodingFacts, progress: Callable[[], None]
) -> Iterator[np.ndarray]:
    with _open_audio(path) as container:
        if not container.streams.audio:
            raise MediaError("no sound track")
        stream = container.streams.audio[0]
        if stream.codec_context.name == "flac":
            # Without the check, a damaged frame would become noise.
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
        # An MP3 file states its length only in the frame of its encoder, which also gives the
        # delay.
        is_mp3_with_length = container.format.name == "mp3" and stream.start_time
        if container.format.name in FORMATS_WITH_LENGTH or is_mp3_with_length:
            facts.claimed_seconds = float(
                max(stream.duration or 0, stream.frames) * stream.time_base
            )
        facts.check(stream.rate or MIN_RATE_HZ, stream.channels)
        frames: list[Sequence[np.ndarray]] = []  # the channels of each frame
        n_samples, frame_format = 0, None
        for frame in _decoded_frames(container, stream, facts):
            progress()
            rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
            format_here = (rate_hz, channels, frame.format.name)
            if format_here != frame_format or n_samples >= SAMPLES_PER_READ:
                facts.check(rate_hz, channels)
                facts.rate_hz, facts.channels = rate_hz, max(facts.channels, channels)
                if frames:
                    yield _mean_of_frames(frames)
                frames, n_samples, frame_format = [], 0, format_here
            frames.append(_frame_channels(frame, channels))
            n_samples += frame.samples
        if frames:
            yield _mean_of_frames(frames)


def _mean_of_frames(frames: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    return _mean_of_channels([np.concatenate(channel) for channel in zip(*frames, strict=True)])


@functools.cache
def _audio_codecs() -> str:
    """Return the names of the audio decoders.

    With these alone, no picture of a video is decoded.
    """
    codecs = []
    for name in av.codecs_available:
        with contextlib.suppress(av.codec.codec.UnknownCodecError):  # an encoder
            codecs += [name] if av.Codec(name, "r").type == "audio" else []
    return ",".join(sorted(codecs))


def _open_audio(path: Path) -> Any:
    """Return a media file, opened for its audio; raise MediaError if it cannot be opened."""
    # One packet: to learn whether the samples of a WAV file are AC-3 or DTS, PyAV would read
    # megabytes.
    try:
        return av.open(
            str(path),
            metadata_errors="replace",
            options={"max_probe_packets": "1", "codec_whitelist": _audio_codecs()},
        )
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(
            f"not a media file that can be opened ({library_message(error)})"
        ) from error


def _decoded_frames(container: Any, stream: Any, facts: _DecodingFacts) -> Iterator[Any]:
    """Yield the decoded frames of a stream, and count the packets that cannot be decoded."""
    try:
        for packet in container.demux(stream):
            try:
                yield from packet.decode()
            except av.FFmpegError as error:
                facts.count_undecodable(error)
    except av.FFmpegError as error:  # a truncated container; the frames before are good
        facts.count_undecodable(error)


def _frame_channels(frame: Any, count: int) -> Sequence[np.ndarray]:
    """Return the channels of a frame, [samples] each, in its dtype. They keep the frame alive."""
    name = frame.format.name
    dtype = PYAV_TYPES[name.removesuffix("p")]
    if name[-1] == "p" or count == 1:
        return [np.frombuffer(plane, dtype, frame.samples) for plane in frame.planes]
    return np.frombuffer(frame.planes[0], dtype, frame.samples * count).reshape(-1, count).T


def _mean_of_channels(channels: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of integer or float channels [samples], as float32 [samples] in [-1, 1]."""
    first, *further_channels = channels
    mean = first.astype(np.float32)
    for channel in further_channels:
        mean += channel
    count, full_scale = 1 + len(further_channels), 1
    if first.dtype == np.uint8:
        mean -= 128 * count
        full_scale = 128
    elif first.dtype.kind == "i":
        full_scale = 2 ** (8 * first.dtype.itemsize - 1)
    if count * full_scale > 1:
        mean *= np.float32(1 / (count * full_scale))
    return mean
