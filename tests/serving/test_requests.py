"""What the client refuses before it sends anything, and how it sends WAV files."""

import base64
import struct

import numpy as np
import pytest
import tensorflow as tf

from helpers import serving_stub
from helpers.serving_requests import still, wav
from kerasemo.serving import requests
from kerasemo.serving.client import Client
from kerasemo.serving.transport import ServingError
from pipelines.core.errors import InputError

LOUD = np.full((1, 600), 0.5, np.float32)


@pytest.fixture
def stub():
    with serving_stub.running() as one:
        yield one


SOUND = wav()[44:]


def form(*, sample_bytes=2, second_bytes=32_000):
    """The `fmt ` chunk of 16 kHz, mono and 16-bit PCM."""
    return struct.pack("<HHIIHH", 1, 1, 16_000, second_bytes, sample_bytes, 16)


FORM = form()


def riff(*chunks, told=None):
    """A WAV file of chunks: names, contents and, where the head does not say the truth, the size that it claims."""
    body = b"WAVE"
    for name, content, *claimed in chunks:
        body += (
            name
            + struct.pack("<I", *(claimed or [len(content)]))
            + content
            + bytes(len(content) % 2)
        )
    return b"RIFF" + struct.pack("<I", len(body) if told is None else told) + body


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("method", "words", "expected"),
    [
        (
            "faces",
            (np.zeros((1, 64, 64, 3), np.float32),),
            r"faces must be uint8 \[n, 64, 64, 3\].*received float32 \[1, 64, 64, 3\]",
        ),
        ("faces", (np.zeros((64, 64, 3), np.uint8),), r"received uint8 \[64, 64, 3\]"),
        ("faces", (np.zeros((0, 64, 64, 3), np.uint8),), "n of at least 1"),
        ("faces", ([[1, 2], [3]],), "rows of unequal lengths"),
        ("faces", ("a.jpg",), "received an array of <U5"),
        ("embed_faces", (np.zeros((1, 32, 64, 3), np.uint8),), r"received uint8 \[1, 32, 64, 3\]"),
        ("segments", (np.zeros((1, 64, 64, 3), np.int16),), "segments must be float32"),
        (
            "segments",
            (changed(np.zeros((2, 64, 64, 3)), (1, 2, 3, 0), np.nan),),
            r"received nan at \[1, 2, 3, 0\]",
        ),
        ("embed_segments", (np.zeros((1, 64, 60, 3)),), r"received float64 \[1, 64, 60, 3\]"),
        ("speech", (LOUD[0],), r"received float32 \[600\]; one row a waveform"),
        ("speech", (LOUD[:0],), r"received float32 \[0, 600\]"),
        ("speech", ([],), "received an empty list"),
        (
            "speech",
            ((LOUD * 32767).astype(np.int16),),
            "received int16 .*divide int16 samples by 32768",
        ),
        ("speech", (LOUD * 32767,), "received a peak of 16383.5 in row 0; divide int16"),
        ("speech", (LOUD[:, :511],), "512 to 9600000 samples .600 s.; received 511"),
        ("speech", (np.zeros((1, 9_600_001), np.float32),), "received 9600001; cut longer sound"),
        ("speech", (changed(LOUD, (0, 5), np.inf),), r"received inf at \[0, 5\]"),
        (
            "speech",
            (np.concatenate([LOUD, LOUD * 1e-4]),),
            "must reach 0.001 of full scale; .* peak of 5e-05 in row 1; it is silent",
        ),
        (
            "speech",
            ([LOUD[0], LOUD],),
            r"waveform 1 of the list must have one dimension; received float32 \[1, 600\]",
        ),
        ("embed_speech", (LOUD[:, :100],), "received 100"),
        (
            "timeline",
            (np.full((1, 960_001), 0.5, np.float32),),
            r"960000 samples .60 s.; received 960001",
        ),
        (
            "face_bytes",
            (still(),),
            r"must be a list of bytes, one a file; received bytes; pass \[path.read_bytes",
        ),
        ("face_bytes", (["a.jpg"],), "must be a list of bytes"),
        ("face_bytes", ([],), "received an empty list"),
        ("face_bytes", ([still(), b""],), "received an empty file"),
        ("face_bytes", ([still(), b"GIF89a"],), "face_bytes 1 must be a JPEG or PNG file"),
        (
            "wav_bytes",
            ([b"RIFF....AVI "],),
            "wav_bytes 0 must be a WAV file, 16000 Hz, mono, 16-bit PCM",
        ),
        (
            "wav_bytes",
            ([wav(), wav(rate_hz=44_100)],),
            "wav_bytes 1 .*received 44100 Hz, 1 channels, 16 bits.*ffmpeg",
        ),
        ("wav_bytes", ([wav(channels=2)],), "2 channels"),
        ("wav_bytes", ([wav(bits=8)],), "8 bits"),
        ("wav_bytes", ([wav(samples=100)],), "received 100"),
        ("wav_bytes", ([wav(peak=0)],), "it is silent"),
        ("wav_bytes", ([wav()[:30]],), "received 30 bytes that begin b'RIFF"),
        (
            "wav_bytes",
            ([wav(), wav()[:-9000]],),
            "wav_bytes 1 .*received a truncated file, 9000 of 18000 bytes of sound; ffmpeg",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FORM), (b"data", SOUND), (b"data", SOUND))],),
            "received a file with two data chunks",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FORM), (b"fmt ", FORM), (b"data", SOUND))],),
            "received a file with two fmt chunks",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", form(sample_bytes=4)), (b"data", SOUND))],),
            "4 bytes per sample and 32000 per second, expected 2",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", form(second_bytes=1)), (b"data", SOUND))],),
            "2 bytes per sample and 1 per second, expected 2",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FORM), (b"data", SOUND[:-1]))],),
            "received sound of 17999 bytes, which ends within a sample",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FORM), (b"data", b""), (b"LIST", SOUND))],),
            "512 to 9600000 samples .600 s.; received 0",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FORM[:14]), (b"data", SOUND))],),
            "received 18042 bytes that begin b'RIFF",
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FORM), (b"LIST", SOUND))],),
            "received 18044 bytes that begin b'RIFF",
        ),
    ],
)
def test_a_wrong_input_is_told_before_it_is_sent(stub, method, words, expected):
    with pytest.raises(InputError, match=expected) as caught:
        getattr(Client(stub.url), method)(*words)
    assert (
        not isinstance(caught.value, ServingError)
        and str(caught.value).count("; ") == 2
        and "\n" not in str(caught.value)
    )
    assert not stub.asked


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            {"lengths": [600], "mask": [[1, 1, 1]]},
            r"mask must be float32 \[1, 2\] .*received int64 \[1, 3\]",
        ),
        ({"lengths": [600], "mask": [[0, 0]]}, r"received \[0.0, 0.0\] in row 0"),
        ({"lengths": [600], "mask": [[0.5, 1]]}, r"received \[0.5, 1.0\]"),
        (
            {"lengths": [601], "mask": [[1, 1]]},
            "lengths must be .* 512 to 600.*received 601 to 601",
        ),
        ({"lengths": [100], "mask": [[1, 1]]}, "received 100 to 100"),
        ({"lengths": [600.0], "mask": [[1, 1]]}, r"received float64 \[1\]"),
        ({"lengths": [600, 600], "mask": [[1, 1]]}, r"received int64 \[2\]"),
    ],
)
def test_wrong_lengths_and_masks_are_told_before_they_are_sent(stub, words, expected):
    with pytest.raises(InputError, match=expected):
        Client(stub.url).speech_masked(LOUD, **words)
    assert not [path for path, _ in stub.asked if path.endswith(":predict")]


def test_sound_before_the_padding_must_not_be_silent(stub):
    with pytest.raises(InputError, match="it is silent"):
        Client(stub.url).speech_masked(
            np.concatenate([LOUD * 0, LOUD], axis=1), lengths=[600], mask=[[1, 1]]
        )


FILES = {
    "as it is": wav(),
    "an odd chunk before": riff((b"fmt ", FORM), (b"LIST", b"INFOx"), (b"data", SOUND)),
    "chunks before and behind": riff(
        (b"JUNK", bytes(28)),
        (b"fmt ", FORM),
        (b"data", SOUND),
        (b"LIST", b"INFO"),
        (b"id3 ", b"ID3"),
    ),
    "half a chunk behind": riff((b"fmt ", FORM), (b"data", SOUND), (b"LIST", b"INFO", 400)),
    "bytes behind": wav() + b"\0\0\0",
    "a longer form": riff((b"fmt ", FORM + bytes(2)), (b"data", SOUND)),
    "a stream": riff(
        (b"fmt ", FORM), (b"LIST", b"INFO"), (b"data", SOUND, 0xFFFFFFFF), told=0xFFFFFFFF
    ),
    "a stream of size 0": riff((b"fmt ", FORM), (b"data", SOUND, 0), told=0),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_wav_file_goes_with_a_plain_head_and_its_own_samples(stub, kind):
    (sent,) = requests.check_wavs([FILES[kind]])
    assert sent == wav()
    sound, rate_hz = tf.audio.decode_wav(sent)
    assert rate_hz == 16_000
    np.testing.assert_array_equal(sound[:, 0] * 32_768, np.frombuffer(SOUND, "<i2"))
    Client(stub.url).wav_bytes([FILES[kind]])
    assert base64.b64decode(stub.asked[-1][1]["inputs"]["wav_bytes"][0]["b64"]) == wav()
