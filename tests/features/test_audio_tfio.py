"""tensorflow-io in the graph against the default decoder, and the one line that says where it does not load."""

import re

import numpy as np
import pytest
import tensorflow as tf

from helpers import media
from helpers.messages import mentions
from pipelines.core.errors import InputError
from pipelines.features import audio_tfio, log_mel
from pipelines.media.audio import read_waveform


def _loads() -> bool:
    try:
        audio_tfio.check_tfio()
    except InputError:
        return False
    return True


LOADS = _loads()
needs_tfio = pytest.mark.skipif(
    not LOADS, reason="tensorflow-io's compiled ops do not load here (extra tfio)"
)
READ = {
    "u8": ("wav", "pcm_u8", "u8"),
    "s16": ("wav", "pcm_s16le", "s16"),
    "s24": ("wav", "pcm_s24le", "s32"),
    "s32": ("wav", "pcm_s32le", "s32"),
    "float": ("wav", "pcm_f32le", "flt"),
    "flac-s16": ("flac", "flac", "s16"),
    "flac-s24": ("flac", "flac", "s32"),
    "mp3": ("mp3", "libmp3lame", "fltp"),
}


@pytest.mark.skipif(LOADS, reason="tensorflow-io's compiled ops load here")
def test_where_the_ops_do_not_load_one_line_names_the_remedy():
    with pytest.raises(
        InputError,
        match=r"tensorflow-io beside TensorFlow 2.17.*pip install 'kerasemo\[tfio\]'",
    ) as raised:
        audio_tfio.check_tfio()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("error", [ModuleNotFoundError, ImportError, NotImplementedError])
def test_an_op_that_is_missing_is_told(monkeypatch, error):
    """As tensorflow-io fails when it is not there, and when its library has an undefined symbol."""

    def fail(name):
        raise error("undefined symbol: _ZN10tensorflow")

    monkeypatch.setattr("importlib.import_module", fail)
    why = "it is not installed" if error is ModuleNotFoundError else "its compiled ops do not load"
    with pytest.raises(InputError, match=f"{why}: pip install"):
        audio_tfio.check_tfio()


@needs_tfio
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("kind", READ)
def test_the_graph_reads_what_the_default_reads(tmp_path, kind, rate_hz, channels):
    suffix, codec, sample_format = READ[kind]
    noise = media.noise(0.5, rate_hz, channels=channels)
    path = media.write_sound(
        tmp_path / f"a.{suffix}", noise, rate_hz=rate_hz, codec=codec, sample_format=sample_format
    )
    (read,) = tf.data.Dataset.from_tensors(str(path)).map(audio_tfio.read_waveform_tfio)
    expected, track = read_waveform(path)
    np.testing.assert_allclose(read["waveform"], expected, atol=1e-4 if kind == "mp3" else 1e-6)
    np.testing.assert_allclose(
        log_mel.log_mel(read["waveform"]),
        log_mel.log_mel(expected),
        atol=1e-2 if kind == "mp3" else 1e-3,
    )
    assert (float(read["seconds"]), int(read["rate_hz"]), int(read["channels"])) == (
        track.seconds,
        rate_hz,
        channels,
    )


@needs_tfio
def test_an_extended_header(tmp_path):
    """24 bits in 6 channels: the WAV's tag is in a GUID."""
    path = media.write_sound(
        tmp_path / "a.wav",
        media.noise(0.5, 16_000, channels=6),
        codec="pcm_s24le",
        sample_format="s32",
    )
    assert path.read_bytes()[20:22] == b"\xfe\xff"
    read = audio_tfio.read_waveform_tfio(tf.constant(str(path)))
    np.testing.assert_allclose(read["waveform"], read_waveform(path)[0], atol=1e-6)


@needs_tfio
def test_a_bad_file_costs_itself_alone(tmp_path):
    """The dataset goes on, in order; each error has its reason, and what only tensorflow-io cannot read its remedy."""
    noise = media.noise(1, 16_000)
    flac = media.write_sound(tmp_path / "whole.flac", noise, codec="flac").read_bytes()
    written = {
        "good.wav": "",
        "zero.wav": r"silent sound track \(never above -60 dB of full scale\)",
        "short.wav": "too short: 31.2 ms of sound, expected at least 32 ms",
        "film.mp4": "tensorflow-io reads WAV, FLAC and MP3 only: leave out --audio-decoder tfio",
        "empty.wav": "tensorflow-io reads WAV, FLAC and MP3 only: leave out --audio-decoder tfio",
        "double.wav": "WAV of a coding that tensorflow-io does not read: leave out --audio-decoder tfio",
        "header.wav": "WAV that does not start with its format: leave out --audio-decoder tfio",
        "cut.wav": r"tensorflow-io cannot decode it \(EOF reached\): leave out --audio-decoder tfio",
        "cut.flac": r"tensorflow-io cannot decode it \(unable to read at: \d+\): leave out --audio-decoder tfio",
        "missing.wav": r"tensorflow-io cannot decode it \(.*missing.wav; No such file or directory\): leave out --audio-decoder tfio",
        "good.flac": "",
    }
    media.write_sound(tmp_path / "good.wav", noise)
    media.write_sound(tmp_path / "zero.wav", 0 * noise)
    media.write_sound(tmp_path / "short.wav", noise[:, :500])
    media.write_video(
        tmp_path / "film.mp4", media.numbered_pictures(3), sound=noise, rate_hz=16_000
    )
    (tmp_path / "empty.wav").touch()
    media.write_sound(tmp_path / "double.wav", noise, codec="pcm_f64le", sample_format="dbl")
    (tmp_path / "header.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:44])
    (tmp_path / "cut.wav").write_bytes((tmp_path / "good.wav").read_bytes()[:20_000])
    (tmp_path / "cut.flac").write_bytes(flac[: len(flac) // 2])
    (tmp_path / "good.flac").write_bytes(flac)
    paths = [str(tmp_path / name) for name in written]
    elements = iter(
        tf.data.Dataset.from_tensor_slices(paths).map(
            audio_tfio.read_waveform_tfio, num_parallel_calls=2, deterministic=True
        )
    )
    for name, expected in written.items():
        if not expected:
            np.testing.assert_array_equal(
                next(elements)["waveform"], read_waveform(tmp_path / name)[0]
            )
            continue
        with pytest.raises(tf.errors.OpError) as raised:
            next(elements)
        assert re.fullmatch(expected, audio_tfio.tfio_message(raised.value)), (
            audio_tfio.tfio_message(raised.value)
        )


@needs_tfio
def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_tfio, "MAX_BYTES", 10_000)
    path = media.write_sound(tmp_path / "a.wav", media.noise(1, 16_000))
    with pytest.raises(tf.errors.OpError) as raised:
        audio_tfio.read_waveform_tfio(tf.constant(str(path)))
    assert mentions(audio_tfio.tfio_message(raised.value), "0 MiB", "--audio-decoder tfio")
