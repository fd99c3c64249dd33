"""Synthesised clips that the benchmarks time. Not a benchmark itself."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

EMOTIONS = {
    "anger": "an",
    "disgust": "di",
    "fear": "fe",
    "happiness": "ha",
    "sadness": "sa",
    "surprise": "su",
}


def write_film(
    path: Path,
    *,
    seconds: float,
    codec: str = "mpeg4",
    seed: int = 0,
    size: tuple[int, int] = (720, 576),
) -> Path:
    """Write a talking head, 25 pictures a second, with 48 kHz sound, as eNTERFACE'05 has it; of another size the head grows with it."""
    import dataclasses

    import av
    import numpy as np

    from pipelines.synthetic.corpora import speaker_person
    from pipelines.synthetic.film import SCENES, film_clip

    random = np.random.default_rng(seed)
    loudness = np.abs(np.sin(np.arange(round(25 * seconds)) / 3))
    person = speaker_person("enterface", str(1 + seed % 6), seed=seed)
    scene, (width, height) = SCENES["enterface"], size
    scene = dataclasses.replace(
        scene, width=width, height=height, unit_pixels=scene.unit_pixels * height / scene.height
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt, video.bit_rate = (
            width,
            height,
            "yuv420p",
            3_000_000,
        )
        audio = container.add_stream(
            "pcm_s16le" if path.suffix == ".avi" else "aac", rate=48_000, layout="mono"
        )
        for plane in film_clip(person, scene=scene, emotion="anger", loudness=loudness, rng=random):
            container.mux(video.encode(av.VideoFrame.from_ndarray(plane, format="yuv420p")))
        container.mux(video.encode(None))
        sound = (0.1 * random.standard_normal((1, round(48_000 * seconds)))).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        resampler = av.AudioResampler(
            format=audio.codec_context.format,
            layout="mono",
            rate=48_000,
            frame_size=audio.frame_size or 1024,
        )
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            container.mux(audio.encode(part))
    return path


def enterface_names() -> Iterator[str]:
    """Yield names of clips in eNTERFACE'05's layout: 1 290 of 43 subjects, then more."""
    for subject, (emotion, code), sentence in itertools.product(
        range(1, 400), EMOTIONS.items(), range(1, 6)
    ):
        yield f"subject {subject}/{emotion}/sentence {sentence}/s{subject}_{code}_{sentence}.avi"


def write_enterface(folder: Path, *, clips: int, films: int = 12, seconds: float = 3.06) -> Path:
    """Write a corpus of so many clips in eNTERFACE'05's layout, copies of a few films."""
    originals = [
        write_film(folder.with_name(f"{folder.name}-film{seed}.avi"), seconds=seconds, seed=seed)
        for seed in range(films)
    ]
    for name, original in zip(
        itertools.islice(enterface_names(), clips), itertools.cycle(originals), strict=False
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, folder / name)
    return folder


def remux(path: Path, original: Path, *, seconds: float) -> Path:
    """Write a long clip out of the packets of a short one, over and over, without encoding."""
    import av

    with av.open(str(original)) as source, av.open(str(path), "w") as target:
        streams = {
            stream.index: target.add_stream_from_template(stream)
            for stream in source.streams
            if stream.type in ("video", "audio")
        }
        packets = [packet for packet in source.demux() if packet.size]
        turn_seconds = (
            source.duration / av.time_base + 0.1
        )  # a codec's delay must not reach into the turn before
        for turn in range(round(seconds / turn_seconds)):
            for packet in packets:
                stream = streams[packet.stream.index]
                copy = av.Packet(bytes(packet))
                later = round(turn * turn_seconds / packet.time_base)
                copy.pts, copy.dts, copy.duration = (
                    packet.pts + later,
                    packet.dts + later,
                    packet.duration,
                )
                copy.is_keyframe, copy.time_base, copy.stream = (
                    packet.is_keyframe,
                    packet.time_base,
                    stream,
                )
                target.mux(copy)
    return path


def write_720p(
    folder: Path, *, seconds: float, count: int, films: int = 4
) -> tuple[Path, list[Path]]:
    """Write 1280x720 H.264 with AAC: a long clip, of the packets of 10 s over and over, and `count` of 3.3 s, copies of a few films."""
    size = (1280, 720)
    film = write_film(folder / "film.mp4", seconds=min(10.0, seconds), codec="libx264", size=size)
    long = film if seconds <= 10.0 else remux(folder / "long.mp4", film, seconds=seconds)
    originals = [folder / f"original{seed}.mp4" for seed in range(min(films, count))]
    for seed, path in enumerate(originals):
        write_film(path, seconds=min(3.3, seconds), codec="libx264", seed=seed, size=size)
    return long, [
        shutil.copyfile(originals[number % films], folder / f"short{number}.mp4")
        for number in range(count)
    ]
