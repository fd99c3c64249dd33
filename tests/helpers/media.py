"""Synthesises media by PyAV, from arrays; no file of anybody's is needed."""

import functools
import os
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PICTURES_A_SECOND = 25


def noise(seconds: float, rate_hz: int, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return sound that differs between its channels and swells: float32 [channels, samples], peak 0.5."""
    samples = round(seconds * rate_hz)
    sound = np.random.default_rng(seed).standard_normal((channels, samples)) * np.linspace(
        0.05, 1, samples
    )
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def tone(seconds: float, rate_hz: int, *, hertz: float = 440.0, peak: float = 0.5) -> np.ndarray:
    """Return a sine: float32 [1, samples]."""
    return (
        peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)
    ).astype(np.float32)[None]


def write_sound(
    path: Path,
    sound: np.ndarray,
    *,
    rate_hz: int = 16_000,
    codec: str = "pcm_s16le",
    sample_format: str = "s16",
) -> Path:
    """Write float32 [channels, samples]; the container is the one of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = _sound_stream(
            container, sound, rate_hz=rate_hz, codec=codec, sample_format=sample_format
        )
        _encode_sound(container, stream, sound)
    return path


def write_video(
    path: Path,
    pictures: np.ndarray,
    *,
    codec: str = "libx264",
    sound: np.ndarray | None = None,
    rate_hz: int = 44_100,
    sound_codec: str = "aac",
    sample_format: str = "fltp",
    pixels: str = "yuv420p",
) -> Path:
    """Write uint8 [n, height, width, 3] RGB at 25 pictures a second, with or without sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=PICTURES_A_SECOND)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt, stream.bit_rate, stream.gop_size = pixels, 4_000_000, 5
        if sound is not None:
            sound_stream = _sound_stream(
                container, sound, rate_hz=rate_hz, codec=sound_codec, sample_format=sample_format
            )
        for picture in pictures:
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                )
            )
        container.mux(stream.encode(None))
        if sound is not None:
            _encode_sound(container, sound_stream, sound)
    return path


def write_uneven_video(path: Path, pictures: np.ndarray, stamps_ms: Sequence[int]) -> Path:
    """Write uint8 [n, height, width, 3] RGB, each shown at its own millisecond."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], "yuv420p"
        for stamp, picture in zip(stamps_ms, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = int(stamp), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_still(path: Path, picture: np.ndarray) -> Path:
    """Write uint8 [height, width, 3] RGB; the format is the one of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return path


def _sound_stream(container, sound: np.ndarray, *, rate_hz: int, codec: str, sample_format: str):
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
    stream = container.add_stream(codec, rate=rate_hz, layout=layout)
    stream.codec_context.format = sample_format
    return stream


def _encode_sound(container, stream, sound: np.ndarray) -> None:
    context = stream.codec_context
    resampler = av.AudioResampler(
        format=context.format,
        layout=context.layout,
        rate=context.sample_rate,
        frame_size=context.frame_size,
    )
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound, np.float32), format="fltp", layout=context.layout
    )
    frame.sample_rate, frame.pts = context.sample_rate, 0
    for part in (*resampler.resample(frame), *resampler.resample(None), None):
        container.mux(stream.encode(part))


def numbered_pictures(count: int, *, height: int = 96, width: int = 128) -> np.ndarray:
    """Return uint8 [count, height, width, 3] of which each has one grey level of its own, which `picture_number` reads."""
    levels = 40 + 170 * np.arange(count) // max(1, count - 1)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).astype(np.uint8)


def picture_number(picture: np.ndarray, count: int) -> int:
    """Return which of `numbered_pictures(count)` a decoded picture or crop of one is."""
    return round((float(picture.mean()) - 40) * max(1, count - 1) / 170)


@functools.lru_cache(maxsize=8)
def film(frames: int, *, seed: int = 0) -> np.ndarray:
    """Return pictures of a drawn head that Viola-Jones finds: uint8 [frames, 256, 320, 3], not to be written to."""
    from pipelines.synthetic.corpora import speaker_person
    from pipelines.synthetic.film import SCENES, film_clip

    person = speaker_person("savee", "DC", seed=seed)
    planes = film_clip(
        person,
        scene=SCENES["savee"],
        emotion="anger",
        loudness=np.zeros(frames),
        rng=np.random.default_rng(seed),
    )
    pictures = np.stack([cv2.cvtColor(plane, cv2.COLOR_YUV2RGB_I420) for plane in planes])
    pictures.setflags(write=False)
    return pictures


class Trap(type(Path())):
    """A path that does something to the worker that opens it; what it does is its name."""

    def __fspath__(self):
        name = self.name
        if name == "hang":
            time.sleep(600)
        elif name == "exit":
            os._exit(7)
        elif name == "raise":
            raise RuntimeError("the decoder's own surprise")
        elif name == "hungry":
            bytearray(64 << 30)
        elif name == "modules":
            raise OSError(1, " ".join(sorted({module.split(".")[0] for module in sys.modules})))
        elif name == "group":
            raise OSError(1, f"group {os.getpgrp()}")
        elif name == "print":
            os.write(1, b"\x80\x04 what a codec prints must not be taken for an answer")
        elif name.startswith("signal"):
            os.kill(os.getpid(), int(name.removeprefix("signal")))
        return super().__fspath__()
