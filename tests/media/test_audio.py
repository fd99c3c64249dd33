"""Sound files of every container -> waveform, against librosa and what was written; damaged, cut, lying and long ones."""

import itertools
import resource
import struct

import av
import cv2
import librosa
import numpy as np
import pytest
import soundfile
import soxr

from helpers import media
from helpers.log_mel_oracle import librosa_log_mel
from pipelines.core.errors import MediaError
from pipelines.core.spec import Spec
from pipelines.features import log_mel
from pipelines.media import audio
from pipelines.media.audio import read_waveform

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)
LOSSLESS = {
    "u8": ("wav", "pcm_u8", "u8"),
    "s16": ("wav", "pcm_s16le", "s16"),
    "s24": ("wav", "pcm_s24le", "s32"),
    "s32": ("wav", "pcm_s32le", "s32"),
    "float": ("wav", "pcm_f32le", "flt"),
    "double": ("wav", "pcm_f64le", "dbl"),
    "mu-law": ("wav", "pcm_mulaw", "s16"),
    "flac-s16": ("flac", "flac", "s16"),
    "flac-s24": ("flac", "flac", "s32"),
    "aiff-s16": ("aiff", "pcm_s16be", "s16"),
    "caf-s32": ("caf", "pcm_s32le", "s32"),
}


CODED = [
    pytest.param(kind, rate_hz, channels, marks=[] if usual else [pytest.mark.endurance])
    for kind, rate_hz, channels in itertools.product(LOSSLESS, RATES_HZ, (1, 2, 6))
    for usual in [rate_hz == 44_100 or (channels == 2 and kind in ("s16", "flac-s16"))]
]
"""Each kind in one, two and six channels of 44.1 kHz, and two kinds in stereo at every rate; all else in the long run."""


@pytest.mark.parametrize(("kind", "rate_hz", "channels"), CODED)
def test_sound_equals_librosa(tmp_path, kind, rate_hz, channels):
    suffix, codec, sample_format = LOSSLESS[kind]
    sound_written = media.noise(0.3037, rate_hz, channels=channels)
    path = media.write_sound(
        tmp_path / f"a.{suffix}",
        sound_written,
        rate_hz=rate_hz,
        codec=codec,
        sample_format=sample_format,
    )
    ours, track = read_waveform(path)
    theirs, _ = librosa.load(path, sr=16_000, mono=True)
    assert track == audio.AudioTrack(sound_written.shape[1] / rate_hz, rate_hz, channels, 0, 0.0)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(log_mel.log_mel(ours), librosa_log_mel(theirs), atol=1e-3)


def test_stereo_is_the_mean_of_its_channels(tmp_path):
    """Twice the same channel is as loud as one, not 3 dB louder; one channel of two is half as high."""
    left = media.tone(0.5, 16_000)
    mono, _ = read_waveform(media.write_sound(tmp_path / "mono.wav", left))
    for name, channels, share in (
        ("both", (left, left), 1.0),
        ("left", (left, 0 * left), 0.5),
        ("five", (left, *[0 * left] * 5), 1 / 6),
    ):
        for suffix, codec in (("wav", "pcm_s16le"), ("flac", "flac"), ("aiff", "pcm_s16be")):
            ours, _ = read_waveform(
                media.write_sound(
                    tmp_path / f"{name}.{suffix}", np.concatenate(channels), codec=codec
                )
            )
            np.testing.assert_allclose(ours, share * mono, atol=2e-5)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize(
    ("suffix", "codec", "sample_format", "most_late"),
    [
        ("m4a", "aac", "fltp", 0.001),
        ("mp3", "libmp3lame", "fltp", 0.001),
        ("mp3", "libmp3lame", "s16p", 0.001),
        ("avi", "libmp3lame", "fltp", 0.07),
    ],
)
def test_lossy_sound_is_as_long_as_loud_and_as_early(
    tmp_path, suffix, codec, sample_format, most_late, rate_hz
):
    """A tone from 0.5 s on, in stereo; where the container tells the encoder's delay, it is taken off. LAME makes all 5 % quieter."""
    tone = media.tone(1.5, rate_hz) * (np.arange(round(1.5 * rate_hz)) >= 0.5 * rate_hz)
    stereo = np.repeat(tone, 2, axis=0).astype(np.float32)
    path = media.write_sound(
        tmp_path / f"a.{suffix}", stereo, rate_hz=rate_hz, codec=codec, sample_format=sample_format
    )
    ours, track = read_waveform(path)
    assert -0.001 < track.seconds - 1.5 < 0.13 and ours.size == pytest.approx(
        16_000 * track.seconds, abs=1
    )
    assert (track.undecodable, track.missing_seconds) == (0, 0.0)
    onset = np.argmax(np.abs(ours) > 0.2) / 16_000
    assert -0.001 < onset - 0.5 < most_late + 0.001
    assert np.sqrt(np.mean(ours[14_000:22_000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.06)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("empty.wav", "empty file \\(0 bytes\\)"),
        ("text.wav", "media file.*opened \\(Invalid data"),
        ("text.mp3", "media file.*opened \\(Invalid data"),
        ("header.wav", "media file.*opened|nothing.*decoded"),
        ("nan.wav", "sound track.*NaN.*infinite samples"),
        ("infinite.wav", "sound track.*NaN.*infinite samples"),
        ("zero.wav", "silent sound track \\(never.*-60 dB.*full scale\\)"),
        ("quiet.wav", "silent sound track"),
        ("short.wav", "too short: 31.9 ms of sound, expected at least 32 ms"),
        ("mute.mp4", "no sound track"),
        ("still.jpg", "no sound track"),
    ],
)
def test_bad_sound_is_refused_with_its_reason(tmp_path, name, pattern):
    path = tmp_path / name
    noise = media.noise(0.5, 16_000)
    if name == "empty.wav":
        path.touch()
    elif name.startswith("text"):
        path.write_text("this is no sound\n" * 200)
    elif name == "header.wav":
        path.write_bytes(media.write_sound(path, noise).read_bytes()[:44])
    elif name in ("nan.wav", "infinite.wav"):
        noise[0, 100] = np.nan if name == "nan.wav" else np.inf
        media.write_sound(path, noise, codec="pcm_f32le", sample_format="flt")
    elif name == "mute.mp4":
        media.write_video(path, media.numbered_pictures(3))
    elif name == "still.jpg":
        cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8))
    else:
        media.write_sound(
            path,
            {"zero.wav": 0 * noise, "quiet.wav": 0.0018 * noise, "short.wav": noise[:, :511]}[name],
        )
    with pytest.raises(MediaError, match=pattern):
        read_waveform(path)


def test_the_shortest_sound_is_one_window_long(tmp_path):
    """512 samples are 1 frame; at 48 kHz 1534 samples are 511.33 at 16 kHz, rounded up as librosa does."""
    for rate_hz, samples in ((16_000, 512), (48_000, 1534)):
        path = media.write_sound(
            tmp_path / f"{rate_hz}.wav", media.noise(samples / rate_hz, rate_hz), rate_hz=rate_hz
        )
        assert read_waveform(path)[0].size == 512


def test_sound_that_changes_its_rate_is_refused(tmp_path):
    both = tmp_path / "both.mp3"
    for hz in (44_100, 22_050):
        part = media.write_sound(
            tmp_path / f"{hz}.mp3",
            media.noise(1, hz),
            rate_hz=hz,
            codec="libmp3lame",
            sample_format="fltp",
        )
        both.write_bytes((both.read_bytes() if both.exists() else b"") + part.read_bytes())
    with pytest.raises(MediaError, match=r"changes its rate \(22050, 44100 Hz\)"):
        read_waveform(both)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 192_000])
@pytest.mark.parametrize("suffix", ["wav", "mka"])
def test_blocks_are_what_resampling_the_whole_gives(tmp_path, suffix, rate_hz):
    """11.3 s in blocks of 1 s, read by soundfile and by PyAV; the length is rounded up."""
    noise = media.noise(11.3001, rate_hz)
    path = media.write_sound(
        tmp_path / f"a.{suffix}", noise, rate_hz=rate_hz, codec="pcm_f32le", sample_format="flt"
    )
    blocks, reader = [], audio.read_blocks(path, spec=Spec(part_seconds=1.0))
    while (block := next(reader, None)) is not None:
        blocks.append(block)
    assert [block.size for block in blocks[:-1]] == [16_000] * 11 and 0 < blocks[-1].size <= 16_000
    whole = (
        noise[0] if rate_hz == 16_000 else soxr.resample(noise[0], rate_hz, 16_000, quality="HQ")
    )
    ours = np.concatenate(blocks)
    assert ours.size == -(-noise.shape[1] * 16_000 // rate_hz) and abs(ours.size - whole.size) <= 1
    np.testing.assert_array_equal(ours[: whole.size], whole[: ours.size])
    np.testing.assert_array_equal(read_waveform(path)[0], ours)


def test_a_long_track_is_read_in_little_memory(tmp_path):
    """2 h of 8 kHz are 230 MB as float32, and 460 MB at 16 kHz; what reading adds stays below 60 MB."""
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
        for _ in range(120):
            file.write(np.tile(media.tone(1, 8_000)[0], 60))
    assert sum(
        block.size
        for block in audio.read_blocks(
            media.write_sound(tmp_path / "warm.wav", media.tone(1, 8_000), rate_hz=8_000)
        )
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signs = []
    samples = sum(block.size for block in audio.read_blocks(path, progress=lambda: signs.append(1)))
    assert samples == 7200 * 16_000 and len(signs) > 800
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


@pytest.mark.parametrize("suffix", ["wav", "mka"])
def test_a_track_that_is_too_long_is_refused(tmp_path, monkeypatch, suffix):
    """The header of a WAV tells, so that nothing is decoded; Matroska's does not."""
    monkeypatch.setattr(audio, "MAX_SECONDS", 9)
    signs = []
    for seconds in (9, 9.5):
        path = media.write_sound(tmp_path / f"a.{suffix}", media.noise(seconds, 16_000))
        if seconds == 9:
            assert read_waveform(path)[0].size == 144_000
            continue
        with pytest.raises(
            MediaError,
            match=r"sound track.*more.*0.0025 hours.*clips: cut.*into shorter files",
        ):
            read_waveform(path, progress=lambda: signs.append(1))
    assert bool(signs) == (suffix == "mka")


@pytest.mark.parametrize(("field", "value"), [("rate", 999), ("rate", 768_001), ("channels", 65)])
def test_a_header_of_no_sound_is_refused_before_reading(tmp_path, field, value):
    path = media.write_sound(tmp_path / "a.wav", media.noise(1, 16_000))
    content = bytearray(path.read_bytes())
    start = content.index(b"fmt ") + 8
    rate_hz, channels = (value, 1) if field == "rate" else (16_000, value)
    content[start + 2 : start + 14] = struct.pack(
        "<HIIH", channels, rate_hz, 2 * rate_hz * channels, 2 * channels
    )
    path.write_bytes(content)
    with pytest.raises(
        MediaError,
        match=f"sound track.*{rate_hz} Hz.*{channels} channels.*1000.*768000 Hz.*64",
    ):
        read_waveform(path, progress=lambda: pytest.fail("decoded"))


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "aiff", "avi"])
def test_a_truncated_sound_gives_what_is_there_and_says_what_is_missing(tmp_path, kind):
    codec, sample_format = {
        "flac": ("flac", "s16"),
        "mp3": ("libmp3lame", "fltp"),
        "aiff": ("pcm_s16be", "s16"),
    }.get(kind, ("pcm_s16le", "s16"))
    path = media.write_sound(
        tmp_path / f"a.{kind}", media.noise(4, 16_000), codec=codec, sample_format=sample_format
    )
    whole, track = read_waveform(path)
    assert (track.undecodable, track.missing_seconds) == (0, 0.0)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ours, track = read_waveform(path)
    assert 1.0 < track.seconds < 3.0 and track.seconds + track.missing_seconds == pytest.approx(
        4.0, abs=0.02
    )
    same = ours.size - 600  # the last packet is cut
    np.testing.assert_allclose(ours[:same], whole[:same], atol=1e-6)


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_wav_written_to_a_pipe_is_whole(tmp_path, size):
    path = media.write_sound(tmp_path / "a.wav", media.noise(1, 16_000))
    whole, content = read_waveform(path)[0], bytearray(path.read_bytes())
    for position in (4, content.index(b"data") + 4):
        content[position : position + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    ours, track = read_waveform(path)
    np.testing.assert_array_equal(ours, whole)
    assert track == audio.AudioTrack(1.0, 16_000, 1, 0, 0.0)


@pytest.mark.parametrize(
    ("suffix", "codec", "sample_format"),
    [("flac", "flac", "s16"), ("mp3", "libmp3lame", "fltp"), ("m4a", "aac", "fltp")],
)
def test_what_does_not_decode_is_counted(tmp_path, suffix, codec, sample_format):
    """Some bytes of the middle are wiped out: the sound before is as it was, and the track that much shorter."""
    path = media.write_sound(
        tmp_path / f"a.{suffix}", media.noise(8, 16_000), codec=codec, sample_format=sample_format
    )
    whole, track = read_waveform(path)
    assert track.undecodable == 0
    content, middle = bytearray(path.read_bytes()), path.stat().st_size // 2
    content[middle : middle + 1000] = np.random.default_rng(0).bytes(1000)
    path.write_bytes(content)
    ours, track = read_waveform(path)
    assert track.undecodable > 0 and 7 < track.seconds <= 8.1
    np.testing.assert_allclose(ours[: 3 * 16_000], whole[: 3 * 16_000], atol=1e-6)


def test_one_flipped_bit_of_a_flac_is_noticed(tmp_path):
    path = media.write_sound(tmp_path / "a.flac", media.noise(8, 16_000), codec="flac")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    _, track = read_waveform(path)
    assert track.undecodable == 1 and 0 < track.missing_seconds < 0.5


def test_real_sound_equals_librosa(corpora):
    for name in (
        "emodb/wav/03a01Fa.wav",
        "ravdess/Actor_01/03-01-02-01-01-02-01.wav",
        "ravdess/Actor_02/03-01-05-02-01-01-02.flac",
    ):
        ours, track = read_waveform(corpora / name)
        theirs, rate_hz = librosa.load(corpora / name, sr=None, mono=False)
        assert (track.rate_hz, track.channels) == (rate_hz, 1 if theirs.ndim == 1 else len(theirs))
        np.testing.assert_allclose(ours, librosa.load(corpora / name, sr=16_000)[0], atol=1e-6)


def test_real_films_are_whole(corpora):
    films = [
        *(corpora / "ravdess/Actor_01").glob("01-*.mp4"),
        *(corpora / "crema-d").rglob("*.flv"),
        *(corpora / "grid").glob("*.mpg"),
    ]
    assert len(films) > 15
    for path in films:
        ours, track = read_waveform(path)
        with av.open(str(path)) as container:
            decoded = sum(frame.samples for frame in container.decode(audio=0))
        assert (track.undecodable, track.missing_seconds) == (
            0,
            0.0,
        ) and track.seconds == pytest.approx(decoded / track.rate_hz)
        assert ours.size == -(-decoded * 16_000 // track.rate_hz)
