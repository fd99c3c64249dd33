"""Media files of every container -> waveform and frames, against librosa and what was written."""

import hashlib
import os
import re
import struct

import av
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
VIDEOS = {
    "mp4-h264-aac": ("mp4", "libx264", "aac", "fltp"),
    "avi-h264-aac": ("avi", "libx264", "aac", "fltp"),
    "avi-mpeg4-mp3": ("avi", "mpeg4", "libmp3lame", "fltp"),
    "avi-mjpeg-pcm": ("avi", "mjpeg", "pcm_s16le", "s16"),
    "flv-flv1-mp3": ("flv", "flv", "libmp3lame", "fltp"),
    "mpg-mpeg1-mp2": ("mpg", "mpeg1video", "mp2", "s16"),
    "mov-h264-aac": ("mov", "libx264", "aac", "fltp"),
    "mkv-mpeg4-flac": ("mkv", "mpeg4", "flac", "s16"),
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


# Pictures


@pytest.mark.parametrize("kind", VIDEOS)
def test_video_gives_the_wanted_pictures_and_the_sound(tmp_path, kind):
    """Every picture has a grey level of its own, so that the order of presentation is seen."""
    suffix, codec, sound_codec, sample_format = VIDEOS[kind]
    path = media.write_video(
        tmp_path / f"a.{suffix}",
        media.numbered_pictures(20),
        codec=codec,
        sound=media.noise(0.8, 44_100, channels=2),
        sound_codec=sound_codec,
        sample_format=sample_format,
        pixels="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )
    count, seconds = decode.count_frames(path)
    assert count == 20 and seconds == pytest.approx(0.8)
    signs = []
    read = list(decode.read_frames(path, (19, 7, 0, 7, 12), progress=lambda: signs.append(1)))
    assert [index for index, _ in read] == [0, 7, 12, 19] and len(signs) == 20
    for index, frame in read:
        assert frame.rgb().shape == (96, 128, 3) and frame.luma.shape == (96, 128)
        assert media.picture_number(frame.rgb(), 20) == index
    waveform, seconds = read_waveform(path)
    assert waveform.size == pytest.approx(0.8 * 16_000, abs=0.08 * 16_000) and seconds == pytest.approx(waveform.size / 16_000, abs=1e-3)


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [("mjpeg", "yuvj420p"), ("ffv1", "yuv420p"), ("ffv1", "yuv420p10le"), ("ffv1", "gray"), ("rawvideo", "bgr24"), ("png", "rgb24")],
)
def test_luma_is_the_grey_of_the_picture(tmp_path, codec, pixels):
    """The width is no multiple of any codec's block. Luma of limited range is 16 + 219/255 of grey."""
    ramp = np.linspace(20, 230, 118)[None, :, None] * np.array([1.0, 0.7, 0.4])
    pictures = np.repeat(np.repeat(ramp, 70, axis=0)[None], 3, axis=0).round().astype(np.uint8)
    path = media.write_video(tmp_path / "a.avi", pictures, codec=codec, pixels=pixels)
    ((_, frame),) = decode.read_frames(path, [1])
    grey = cv2.cvtColor(frame.rgb(), cv2.COLOR_RGB2GRAY)
    if pixels != "gray":
        assert np.abs(frame.rgb().astype(int) - pictures[1]).mean() < 4
    expected = 16 + grey * (219 / 255) if pixels == "yuv420p" else grey
    assert frame.luma.dtype == np.uint8 and frame.luma.shape == (70, 118)
    np.testing.assert_allclose(frame.luma, expected, atol=6)


def test_a_video_filmed_upright_is_turned(tmp_path):
    """Phones store the picture sideways and the turn (clockwise by a quarter) in the track's matrix."""
    pictures = media.film(3)
    path = media.write_video(tmp_path / "a.mp4", np.rot90(pictures, 1, axes=(1, 2)))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    ((_, frame),) = decode.read_frames(path, [2])
    assert frame.luma.shape == (256, 320) and np.abs(frame.rgb().astype(int) - pictures[2]).mean() < 4


def test_a_truncated_video_gives_what_is_there(tmp_path):
    path = media.write_video(tmp_path / "a.avi", media.numbered_pictures(20, height=240, width=320), codec="mjpeg", pixels="yuvj420p")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count, _ = decode.count_frames(path)
    assert 5 < count < 15
    read = list(decode.read_frames(path, range(20)))
    assert [media.picture_number(frame.rgb(), 20) for _, frame in read][:-1] == list(range(len(read) - 1)) and len(read) >= count - 1


def test_a_packet_that_does_not_decode_is_passed_over(tmp_path):
    """Pictures 3 and 4 of 8 are wiped out; and a reader that fails in the middle ends the stream there."""
    path = media.write_video(tmp_path / "a.avi", media.numbered_pictures(8), codec="mjpeg", pixels="yuvj420p")
    content = path.read_bytes()
    starts = [match.start() for match in re.finditer(b"\xff\xd8\xff", content)]
    assert len(starts) == 8
    for start, end in ((starts[3], starts[4] - 8), (starts[4], starts[5] - 8)):  # 8: the next chunk's name and size
        content = content[:start] + bytes(end - start) + content[end:]
    path.write_bytes(content)
    numbers = [media.picture_number(frame.rgb(), 8) for _, frame in decode.read_frames(path, range(8))]
    assert numbers == [0, 1, 2, 5, 6, 7]

    class Packet:
        def decode(self):
            return ["frame"]

    class Container:
        def demux(self, stream):
            yield Packet()
            raise av.error.InvalidDataError(1, "the end is missing")

    assert list(decode.decoded(Container(), None)) == ["frame"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("empty.mp4", "empty file"), ("text.mp4", "not a media file"), ("cut.mp4", "not a media file"), ("sound.wav", "no video stream")],
)
def test_a_bad_video_is_refused_with_its_reason(tmp_path, name, said):
    path = tmp_path / name
    if name == "cut.mp4":
        whole = media.write_video(path, media.numbered_pictures(20)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif name == "sound.wav":
        media.write_sound(path, media.noise(0.1, 16_000))
    else:
        path.write_text("" if name == "empty.mp4" else "no film\n" * 100)
    for read in (decode.count_frames, lambda path: list(decode.read_frames(path, [0]))):
        with pytest.raises(MediaError, match=said):
            read(path)


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


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_a_bad_still_is_refused(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(MediaError, match=rf"not an image that can be decoded \({len(content)} bytes\)"):
        decode.read_still(tmp_path / "a.jpg")


def test_content_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert decode.content_hash(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):  # opening it would wait for ever
        decode.content_hash(tmp_path / "pipe")
