"""Videos whose frames tests know."""

import contextlib
from fractions import Fraction

import av
import numpy as np

COUNT = 47


KINDS = {
    "h264-b-frames": ("mp4", "libx264", "yuv420p", {"bf": "3", "g": "12", "b-pyramid": "normal"}),
    "h264-open-gop": (
        "mkv",
        "libx264",
        "yuv420p",
        {"bf": "3", "g": "12", "x264-params": "open-gop=1:scenecut=0"},
    ),
    "h264-no-idr": (
        "mkv",
        "libx264",
        "yuv420p",
        {"x264-params": "intra-refresh=1:keyint=12:bframes=0"},
    ),
    "h264-ts": ("ts", "libx264", "yuv420p", {"bf": "2", "g": "12"}),
    "h264-flv": ("flv", "libx264", "yuv420p", {"bf": "2", "g": "12"}),
    "h264-avi": ("avi", "libx264", "yuv420p", {"bf": "2", "g": "12"}),
    "h264-intra": ("mov", "libx264", "yuv420p", {"g": "1"}),
    "h265": ("mp4", "libx265", "yuv420p", {"x265-params": "keyint=12:bframes=3:log-level=none"}),
    "mpeg4-avi": ("avi", "mpeg4", "yuv420p", {"g": "12"}),
    "mpeg4-avi-b": ("avi", "mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
    "mpeg4-mkv-b": ("mkv", "mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
    "mpeg1": ("mpg", "mpeg1video", "yuv420p", {"g": "12", "bf": "2"}),
    "msmpeg4": ("avi", "msmpeg4", "yuv420p", {"g": "12"}),
    "mpeg2-ts": ("ts", "mpeg2video", "yuv420p", {"g": "12", "bf": "2"}),
    "flv1": ("flv", "flv", "yuv420p", {"g": "12"}),
    "mjpeg": ("avi", "mjpeg", "yuvj420p", {}),
    "vp8": ("webm", "libvpx", "yuv420p", {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp9": (
        "webm",
        "libvpx-vp9",
        "yuv420p",
        {"g": "12", "auto-alt-ref": "1", "lag-in-frames": "8"},
    ),
    "raw": ("avi", "rawvideo", "bgr24", {}),
}


def moving_pictures(count: int = COUNT, *, height: int = 72, width: int = 96) -> np.ndarray:
    """Return pictures of a texture that moves and changes, so that none is like another: uint8 [count, height, width, 3]."""
    random = np.random.default_rng(0)
    texture = random.integers(
        0, 256, (height // 4 + 2 * count, width // 4 + 2 * count, 3), np.uint8
    )
    views = [texture[n : n + height // 4, 2 * n : 2 * n + width // 4] for n in range(count)]
    return np.stack(
        [
            np.kron(view // 2 + 2 * n, np.ones((4, 4, 1))).astype(np.uint8)
            for n, view in enumerate(views)
        ]
    )


def write(path, kind: str, pictures=None):
    """Write moving pictures in one of the `KINDS`."""
    suffix, codec, pixels, options = KINDS[kind]
    pictures = moving_pictures() if pictures is None else pictures
    path = path.with_suffix(f".{suffix}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = (
            *pictures.shape[1:3],
            pixels,
            1_000_000,
        )
        stream.thread_count = 1
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def straight(path) -> list[np.ndarray]:
    """Return all pictures in RGB, decoded by PyAV from the first to the last."""
    pictures = []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for packet in container.demux(container.streams.video[0]):
            with contextlib.suppress(av.FFmpegError):
                pictures += [picture.to_ndarray(format="rgb24") for picture in packet.decode()]
    return pictures
