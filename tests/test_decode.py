"""Sound of every container -> waveform, against librosa; stills -> pictures; what is refused, and why."""

import hashlib
import os
import struct
import zlib

import cv2
import librosa
import media
import numpy as np
import pytest
from test_mels import librosa_log_mel

from pipelines import decode, mels
from pipelines.decode import MediaError
from pipelines.sound import read_waveform

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)
LOSSLESS = {
    "u8": ("wav", "pcm_u8", "u8"),
    "s16": ("wav", "pcm_s16le", "s16"),
    "s24": ("wav", "pcm_s24le", "s32"),
    "s32": ("wav", "pcm_s32le", "s32"),
    "float": ("wav", "pcm_f32le", "flt"),
    "double": ("wav", "pcm_f64le", "dbl"),
    "flac-s16": ("flac", "flac", "s16"),
    "flac-s24": ("flac", "flac", "s32"),
}


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_sound_equals_librosa(tmp_path, kind, rate_hz, channels):
    suffix, codec, sample_format = LOSSLESS[kind]
    sound = media.noise(0.3037, rate_hz, channels=channels)
    path = media.write_sound(tmp_path / f"a.{suffix}", sound, rate_hz=rate_hz, codec=codec, sample_format=sample_format)
    ours, seconds = read_waveform(path)
    theirs, _ = librosa.load(path, sr=16_000, mono=True)
    assert ours.dtype == np.float32 and seconds == sound.shape[1] / rate_hz
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(mels.log_mel(ours), librosa_log_mel(theirs), atol=1e-3)


def test_stereo_is_the_mean_of_its_channels(tmp_path):
    """Twice the same channel is as loud as one, not 3 dB louder; one channel of two is half as high."""
    one = media.tone(0.5, 16_000)
    mono, _ = read_waveform(media.write_sound(tmp_path / "mono.wav", one))
    for name, channels, share in (("both", (one, one), 1.0), ("left", (one, 0 * one), 0.5), ("five", (one, *[0 * one] * 5), 1 / 6)):
        ours, _ = read_waveform(media.write_sound(tmp_path / f"{name}.wav", np.concatenate(channels)))
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
def test_lossy_sound_is_as_long_as_loud_and_as_early(tmp_path, suffix, codec, sample_format, most_late, rate_hz):
    """A tone from 0.5 s on, in stereo; where the container tells the encoder's delay, it is taken off. LAME makes all 5 % quieter."""
    tone = media.tone(1.5, rate_hz) * (np.arange(round(1.5 * rate_hz)) >= 0.5 * rate_hz)
    sound = np.repeat(tone, 2, axis=0).astype(np.float32)
    path = media.write_sound(tmp_path / f"a.{suffix}", sound, rate_hz=rate_hz, codec=codec, sample_format=sample_format)
    ours, seconds = read_waveform(path)
    assert -0.001 < seconds - 1.5 < 0.13 and ours.size == pytest.approx(16_000 * seconds, abs=1)
    onset = np.argmax(np.abs(ours) > 0.2) / 16_000
    assert -0.001 < onset - 0.5 < most_late + 0.001
    assert np.sqrt(np.mean(ours[14_000:22_000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.06)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.wav", "empty file \\(0 bytes\\)"),
        ("text.wav", "not a media file that can be opened \\(Invalid data"),
        ("text.mp3", "not a media file that can be opened \\(Invalid data"),
        ("header.wav", "not a media file that can be opened|nothing could be decoded"),
        ("nan.wav", "sound track with NaN or infinite samples"),
        ("infinite.wav", "sound track with NaN or infinite samples"),
        ("zero.wav", "silent sound track \\(never above -60 dB of full scale\\)"),
        ("quiet.wav", "silent sound track"),
        ("short.wav", "too short: 31.9 ms of sound, expected at least 32 ms"),
        ("mute.mp4", "no sound track"),
        ("still.jpg", "no sound track"),
    ],
)
def test_bad_sound_is_refused_with_its_reason(tmp_path, name, said):
    path = tmp_path / name
    sound = media.noise(0.5, 16_000)
    if name == "empty.wav":
        path.touch()
    elif name.startswith("text"):
        path.write_text("this is no sound\n" * 200)
    elif name == "header.wav":
        path.write_bytes(media.write_sound(path, sound).read_bytes()[:44])
    elif name in ("nan.wav", "infinite.wav"):
        sound[0, 100] = np.nan if name == "nan.wav" else np.inf
        media.write_sound(path, sound, codec="pcm_f32le", sample_format="flt")
    elif name == "mute.mp4":
        media.write_video(path, media.numbered_pictures(3))
    elif name == "still.jpg":
        cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8))
    else:
        media.write_sound(path, {"zero.wav": 0 * sound, "quiet.wav": 0.0018 * sound, "short.wav": sound[:, :511]}[name])
    with pytest.raises(MediaError, match=said):
        read_waveform(path)


def test_the_shortest_sound_is_one_window_long(tmp_path):
    """512 samples are 1 frame; at 48 kHz 1534 samples are 511.33 at 16 kHz, rounded up as librosa does."""
    for rate_hz, samples in ((16_000, 512), (48_000, 1534)):
        path = media.write_sound(tmp_path / f"{rate_hz}.wav", media.noise(samples / rate_hz, rate_hz), rate_hz=rate_hz)
        assert read_waveform(path)[0].size == 512


def test_sound_that_changes_its_rate_is_refused(tmp_path):
    parts = [
        media.write_sound(tmp_path / f"{hz}.mp3", media.noise(1, hz), rate_hz=hz, codec="libmp3lame", sample_format="fltp")
        for hz in (44_100, 22_050)
    ]
    both = tmp_path / "both.mp3"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(MediaError, match=r"changes its rate \(22050, 44100 Hz\)"):
        read_waveform(both)


def test_a_truncated_sound_gives_what_is_there(tmp_path):
    path = media.write_sound(tmp_path / "a.wav", media.noise(1, 16_000))
    path.write_bytes(path.read_bytes()[:20_000])
    assert 0.6 < read_waveform(path)[1] < 0.63


# Stills


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.webp"])
def test_a_still_is_read_in_rgb(tmp_path, name):
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30] = (200, 100, 20)
    picture[:, 30:] = (10, 60, 220)
    cv2.imwrite(str(tmp_path / name), picture[..., ::-1])
    read = decode.read_still(tmp_path / name)
    assert read.dtype == np.uint8 and read.shape == (40, 60, 3)
    tolerance = 0 if name in ("a.png", "a.bmp") else 8
    np.testing.assert_allclose(read[5:-5, 5:25].astype(int), picture[5:-5, 5:25], atol=tolerance)
    np.testing.assert_allclose(read[5:-5, 35:55].astype(int), picture[5:-5, 35:55], atol=tolerance)


@pytest.mark.parametrize(
    ("shape", "dtype"), [((20, 30), np.uint8), ((20, 30, 4), np.uint8), ((20, 30, 3), np.uint16), ((20, 30), np.uint16)]
)
def test_grey_alpha_and_16_bit_stills(tmp_path, shape, dtype):
    """100 of 255, or the same of 65535, everywhere; what is see-through is read as it is coloured."""
    scale = 257 if dtype == np.uint16 else 1
    cv2.imwrite(str(tmp_path / "a.png"), np.full(shape, 100 * scale, dtype))
    read = decode.read_still(tmp_path / "a.png")
    assert read.shape == (20, 30, 3) and (read == 100).all()


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", b"BM", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0", b"RIFF----WEBPVP8 "]
)
def test_a_bad_still_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(MediaError, match=rf"not an image that can be decoded \({len(content)} bytes\)"):
        decode.read_still(tmp_path / "a.jpg")


def encodings():
    """Yield a name and the bytes of a 37x21 picture in every still format, and in the variants of each header."""
    picture = np.random.default_rng(0).integers(0, 256, (21, 37, 3), np.uint8)
    variants = {
        "jpeg": (".jpg", []),
        "progressive jpeg": (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]),
        "png": (".png", []),
        "bmp": (".bmp", []),
        "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
        "lossless webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    }
    for name, (suffix, options) in variants.items():
        yield name, cv2.imencode(suffix, picture, options)[1].tobytes()
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(jpeg)) + jpeg  # in an Exif segment; its size is not the picture's
    yield (
        "jpeg with a thumbnail",
        jpeg[:2] + thumbnail.replace(struct.pack(">HH", 21, 37), struct.pack(">HH", 5, 6)) + b"\xff\xff" + jpeg[3:],
    )
    lossless = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    header = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (36).to_bytes(3, "little") + (20).to_bytes(3, "little")
    yield "extended webp", lossless[:4] + struct.pack("<I", len(lossless) + 10) + b"WEBP" + header + lossless[12:]
    yield "bmp of OS/2", b"BM" + struct.pack("<IHHIIHHHH", 26 + 21 * 112, 0, 0, 26, 12, 37, 21, 1, 24) + bytes(21 * 112)


@pytest.mark.parametrize(("name", "encoded"), [*encodings()], ids=lambda value: value if isinstance(value, str) else "")
def test_a_stills_size_is_read_from_its_header_as_opencv_decodes_it(name, encoded):
    assert cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR).shape == (21, 37, 3)
    assert decode.still_size(encoded) == (37, 21)
    for length in range(40):
        assert decode.still_size(encoded[:length]) in (None, (37, 21))


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """A valid PNG of a few kB whose 12000x12000 pixels would take 432 MB; and headers that lie."""
    row = b"\0" + bytes(1500)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 1, 0, 0, 0, 0))
    bomb += chunk(b"IDAT", zlib.compress(row * 12_000, 9)) + chunk(b"IEND", b"")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    lying = dict(encodings())["jpeg"].replace(struct.pack(">HH", 21, 37), struct.pack(">HH", 65_000, 60_000))
    for content, size in ((bomb, "12000x12000"), (lying, "60000x65000")):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(MediaError, match=f"pictures of {size} pixels, expected at most 67108864 .8192x8192.; scale the file down"):
            decode.read_still(tmp_path / "a.png")


def test_the_largest_still(tmp_path):
    decode.check_size(8192, 8192)
    with pytest.raises(MediaError):
        decode.check_size(8193, 8192)


def test_content_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert decode.content_hash(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):  # opening it would wait for ever
        decode.content_hash(tmp_path / "pipe")
