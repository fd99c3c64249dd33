"""Tests of inputs that the client rejects before a request, and of the WAV files that it sends."""

import base64
import struct

import numpy as np
import pytest
import tensorflow as tf

from helpers import serving_stub
from helpers.messages import key_words
from helpers.serving_requests import still, wav
from kerasemo.serving import requests
from kerasemo.serving.client import Client
from pipelines.core.errors import InputError

LOUD = np.full((1, 600), 0.5, np.float32)
SOUND = wav()[44:]
"""The samples of the file, without its header."""


@pytest.fixture
def stub():
    with serving_stub.running() as server:
        yield server


def fmt_chunk(*, sample_bytes=2, second_bytes=32_000):
    """Return the content of a `fmt ` chunk of 16 kHz, mono and 16-bit PCM."""
    return struct.pack("<HHIIHH", 1, 1, 16_000, second_bytes, sample_bytes, 16)


FMT = fmt_chunk()


def riff(*chunks, claimed_size=None):
    """Return a WAV file of chunks.

    Args:
        chunks: Name and content of each chunk, and a wrong size for its header if there is a third.
        claimed_size: A wrong size for the header of the file; None: the right size.
    """
    body = b"WAVE"
    for name, content, *wrong_size in chunks:
        header = name + struct.pack("<I", *(wrong_size or [len(content)]))
        body += header + content + bytes(len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body) if claimed_size is None else claimed_size) + body


def changed(array, index, value):
    """Return a copy of an array with another value at an index."""
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        (
            "faces",
            (np.zeros((1, 64, 64, 3), np.float32),),
            ("faces", "uint8 [n, 64, 64, 3]", "float32 [1, 64, 64, 3]"),
        ),
        ("faces", (np.zeros((64, 64, 3), np.uint8),), ("received uint8 [64, 64, 3]",)),
        ("faces", (np.zeros((0, 64, 64, 3), np.uint8),), ("faces", "at least 1")),
        ("faces", ([[1, 2], [3]],), ("rows", "unequal lengths")),
        ("faces", ("a.jpg",), ("array", "<U5")),
        ("embed_faces", (np.zeros((1, 32, 64, 3), np.uint8),), ("received uint8 [1, 32, 64, 3]",)),
        ("segments", (np.zeros((1, 64, 64, 3), np.int16),), ("segments", "float32")),
        (
            "segments",
            (changed(np.zeros((2, 64, 64, 3)), (1, 2, 3, 0), np.nan),),
            ("received nan", "[1, 2, 3, 0]"),
        ),
        ("embed_segments", (np.zeros((1, 64, 60, 3)),), ("received float64 [1, 64, 60, 3]",)),
        ("speech", (LOUD[0],), ("received float32 [600]",)),
        ("speech", (LOUD[:0],), ("received float32 [0, 600]",)),
        ("speech", ([],), ("empty list",)),
        (
            "speech",
            ((LOUD * 32767).astype(np.int16),),
            ("int16", "by 32768"),
        ),
        ("speech", (LOUD * 32767,), ("16383.5", "row 0", "divide")),
        ("speech", (LOUD[:, :511],), ("512 to 9600000", "received 511")),
        ("speech", (np.zeros((1, 9_600_001), np.float32),), ("received 9600001",)),
        ("speech", (changed(LOUD, (0, 5), np.inf),), ("received inf", "[0, 5]")),
        (
            "speech",
            (np.concatenate([LOUD, LOUD * 1e-4]),),
            ("5e-05", "row 1", "silent"),
        ),
        (
            "speech",
            ([LOUD[0], LOUD],),
            ("waveform 1", "dimension", "received float32 [1, 600]"),
        ),
        ("embed_speech", (LOUD[:, :100],), ("received 100",)),
        (
            "timeline",
            (np.full((1, 960_001), 0.5, np.float32),),
            ("960000 samples", "received 960001"),
        ),
        (
            "face_bytes",
            (still(),),
            ("face_bytes", "list", "received bytes", "read_bytes"),
        ),
        ("face_bytes", (["a.jpg"],), ("face_bytes", "list")),
        ("face_bytes", ([],), ("empty list",)),
        ("face_bytes", ([still(), b""],), ("empty file",)),
        ("face_bytes", ([still(), b"GIF89a"],), ("face_bytes 1", "JPEG", "PNG")),
        (
            "wav_bytes",
            ([b"RIFF....AVI "],),
            ("wav_bytes 0", "16000 Hz", "16-bit PCM"),
        ),
        (
            "wav_bytes",
            ([wav(), wav(rate_hz=44_100)],),
            ("wav_bytes 1", "44100 Hz", "1 channels", "ffmpeg"),
        ),
        ("wav_bytes", ([wav(channels=2)],), ("2 channels",)),
        ("wav_bytes", ([wav(bits=8)],), ("8 bits",)),
        ("wav_bytes", ([wav(samples=100)],), ("received 100",)),
        ("wav_bytes", ([wav(peak=0)],), ("silent",)),
        ("wav_bytes", ([wav()[:30]],), ("received 30 bytes", "b'RIFF")),
        (
            "wav_bytes",
            ([wav(), wav()[:-9000]],),
            ("wav_bytes 1", "truncated", "9000 of 18000", "ffmpeg"),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FMT), (b"data", SOUND), (b"data", SOUND))],),
            ("wav_bytes", "two data"),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FMT), (b"fmt ", FMT), (b"data", SOUND))],),
            ("wav_bytes", "two fmt"),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", fmt_chunk(sample_bytes=4)), (b"data", SOUND))],),
            ("4 bytes", "32000 per"),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", fmt_chunk(second_bytes=1)), (b"data", SOUND))],),
            ("2 bytes", "1 per"),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FMT), (b"data", SOUND[:-1]))],),
            ("17999 bytes",),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FMT), (b"data", b""), (b"LIST", SOUND))],),
            ("512 to 9600000", "received 0"),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FMT[:14]), (b"data", SOUND))],),
            ("received 18042 bytes", "b'RIFF"),
        ),
        (
            "wav_bytes",
            ([riff((b"fmt ", FMT), (b"LIST", SOUND))],),
            ("received 18044 bytes", "b'RIFF"),
        ),
    ],
)
def test_wrong_input_is_an_error_before_a_request(stub, method, arguments, words):
    with pytest.raises(InputError, match=key_words(*words)) as caught:
        getattr(Client(stub.url), method)(*arguments)
    message = str(caught.value)
    assert message.count("; ") == 2 and "\n" not in message  # expected; received; remedy
    assert not stub.requests


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            {"lengths": [600], "mask": [[1, 1, 1]]},
            ("mask", "float32 [1, 2]", "received int64 [1, 3]"),
        ),
        ({"lengths": [600], "mask": [[0, 0]]}, ("received [0.0, 0.0]", "row 0")),
        ({"lengths": [600], "mask": [[0.5, 1]]}, ("received [0.5, 1.0]",)),
        (
            {"lengths": [601], "mask": [[1, 1]]},
            ("lengths", "512 to 600", "received 601 to 601"),
        ),
        ({"lengths": [100], "mask": [[1, 1]]}, ("received 100 to 100",)),
        ({"lengths": [600.0], "mask": [[1, 1]]}, ("received float64 [1]",)),
        ({"lengths": [600, 600], "mask": [[1, 1]]}, ("received int64 [2]",)),
    ],
)
def test_wrong_lengths_or_mask_is_an_error_before_a_request(stub, arguments, words):
    with pytest.raises(InputError, match=key_words(*words)):
        Client(stub.url).speech_masked(LOUD, **arguments)
    assert not [path for path, _ in stub.requests if path.endswith(":predict")]


def test_sound_before_the_padding_must_not_be_silent(stub):
    with pytest.raises(InputError, match=key_words("silent")):
        Client(stub.url).speech_masked(
            np.concatenate([LOUD * 0, LOUD], axis=1), lengths=[600], mask=[[1, 1]]
        )


FILES = {
    "plain": wav(),
    "chunk of odd size before": riff((b"fmt ", FMT), (b"LIST", b"INFOx"), (b"data", SOUND)),
    "chunks before and after": riff(
        (b"JUNK", bytes(28)),
        (b"fmt ", FMT),
        (b"data", SOUND),
        (b"LIST", b"INFO"),
        (b"id3 ", b"ID3"),
    ),
    "half a chunk after": riff((b"fmt ", FMT), (b"data", SOUND), (b"LIST", b"INFO", 400)),
    "bytes after": wav() + b"\0\0\0",
    "longer fmt chunk": riff((b"fmt ", FMT + bytes(2)), (b"data", SOUND)),
    "stream": riff(
        (b"fmt ", FMT), (b"LIST", b"INFO"), (b"data", SOUND, 0xFFFFFFFF), claimed_size=0xFFFFFFFF
    ),
    "stream of size 0": riff((b"fmt ", FMT), (b"data", SOUND, 0), claimed_size=0),
}


@pytest.mark.parametrize("name", FILES)
def test_wav_file_is_sent_as_a_plain_header_and_its_samples(stub, name):
    (checked,) = requests.check_wavs([FILES[name]])
    assert checked == wav()
    sound, rate_hz = tf.audio.decode_wav(checked)
    assert rate_hz == 16_000
    np.testing.assert_array_equal(sound[:, 0] * 32_768, np.frombuffer(SOUND, "<i2"))
    Client(stub.url).wav_bytes([FILES[name]])
    assert base64.b64decode(stub.requests[-1][1]["inputs"]["wav_bytes"][0]["b64"]) == wav()
