"""Sets of records whose emotions a tiny network learns in seconds, for tests of training."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.building.findings import set_report
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip
from pipelines.features.log_mel import log_mel
from pipelines.records import schema
from pipelines.records.writer import SetWriter

TOY_NETWORK = {"widths": [8, 16], "convolutions": 1, "groups": 4, "embedding": 16, "dropout": 0.2}


def write_set(
    out: Path,
    source: str,
    *,
    speakers: int = 5,
    emotions: tuple[str, ...] = EMOTIONS[:3],
    takes: int = 2,
    items: int = 3,
    seed: int = 0,
    only_first: tuple[str, ...] = (),
    published: tuple[str, ...] = (),
    copies: int = 0,
    waveform: bool = False,
) -> Path:
    """Write the set `OUT/SOURCE`.

    Each emotion has horizontal stripes of another width: a texture, because a network pools over
    places.

    Args:
        out: The folder of sets.
        source: `CORPUS/DOMAIN`.
        speakers: The number of speakers.
        emotions: The emotions of every speaker.
        takes: Clips of each speaker and emotion.
        items: Faces or segments of each clip.
        seed: The seed of the noise.
        only_first: Further emotions of the first speaker.
        published: The split of each speaker, as made by a publisher who does not tell the speakers;
            empty: the set has no split and known speakers.
        copies: So many clips of the last speaker are copies of clips of the first speaker.
        waveform: Whether records have a waveform, a tone of another pitch for each emotion, and
            its log-Mel.

    Returns:
        The folder of the set.
    """
    clips = _clips(
        source,
        speakers=speakers,
        emotions=emotions,
        takes=takes,
        only_first=only_first,
        published=published,
    )
    name, _, domain = source.partition("/")
    options = {"corpus": name, "domain": domain, "kind": name, "spec": dataclasses.asdict(Spec())}
    writer = SetWriter(out / source, clips=clips, options=options, clips_per_shard=16)
    writer.resume(lambda clip: clip.id)
    n_copies = 0
    n_frames = 64 + 34 * (items - 1)
    for number, clip in enumerate(clips):
        random = np.random.default_rng([seed, number, len(source)])
        stripes = _stripes(clip.emotion)
        row = {"sha256": f"{source} {clip.id}", "seconds": 1.0, "items": items}
        if clip.id.startswith(f"s{speakers}/") and n_copies < copies:
            row["sha256"] = f"{source} s1/{clip.id.partition('/')[2]}"
            n_copies += 1
        if domain == "visual":
            faces = random.integers(60, 160, (items, 64, 64, 3)) + 60 * stripes[:, None, None]
            record = schema.serialise(clip, faces=faces.astype(np.uint8))
        elif waveform:
            pitch = EMOTIONS.index(clip.emotion)
            pcm, log_mel_of_tone = sound_of(pitch, frames=n_frames, random=random)
            record = schema.serialise(clip, log_mel=log_mel_of_tone, pcm=pcm)
        else:
            noise = random.normal(-50, 4, (n_frames, 64)).astype(np.float32)
            record = schema.serialise(clip, log_mel=noise + (10 * stripes).astype(np.float32))
        writer.add(clip, [record], row)
    writer.finish(set_report(writer.manifest()))
    return out / source


def _clips(
    source: str,
    *,
    speakers: int,
    emotions: tuple[str, ...],
    takes: int,
    only_first: tuple[str, ...],
    published: tuple[str, ...],
) -> list[Clip]:
    """Return the clips of a set, sorted by id; see `write_set`."""
    name, _, domain = source.partition("/")
    suffix = "avi" if domain == "visual" else "wav"
    clips = [
        Clip(
            id=f"s{speaker}/{emotion}{take}.{suffix}",
            path=Path(f"s{speaker}"),
            corpus=name,
            domain=domain,
            speaker="" if published else f"{name}:{speaker}",
            emotion=emotion,
            utterance=f"{name}:{speaker}:{emotion}:{take}",
            sentence=str(take),
            split=published[speaker - 1] if published else "",
        )
        for speaker in range(1, speakers + 1)
        for emotion in (*emotions, *(only_first if speaker == 1 else ()))
        for take in range(takes)
    ]
    return sorted(clips, key=lambda clip: clip.id)


def _stripes(emotion: str) -> np.ndarray:
    """Return the stripes of an emotion, 0 or 1 for each of 64 rows or Mel bins."""
    width = 1 + 2 * EMOTIONS.index(emotion)
    return np.arange(64) // width % 2


def sound_of(
    pitch: int, *, frames: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a tone with noise, int16 [samples], and its log-Mel, float32 [frames, 64].

    Args:
        pitch: The tone has 300 + 200 * pitch Hz.
        frames: The number of frames of the log-Mel.
        random: Draws the noise.
    """
    spec = Spec()
    n_samples = (frames - 1) * spec.hop_samples + spec.fft_samples
    seconds = np.arange(n_samples) / spec.sample_rate_hz
    tone = 0.2 * np.sin(2 * np.pi * (300 + 200 * pitch) * seconds)
    pcm = np.round(32768 * (tone + random.normal(0, 0.01, n_samples))).astype(np.int16)
    return pcm, log_mel(pcm.astype(np.float32) / 32768).numpy()


def write_two_sources(
    folder: Path, *, waveform: bool = False, **stages: dict[str, Any]
) -> tuple[Path, Path]:
    """Write a set of faces, a set of segments, and an experiment on both.

    Returns:
        The folder of records, and the experiment file.
    """
    write_set(folder / "records", "enterface/visual", speakers=5)
    write_set(folder / "records", "savee/audio", speakers=4, takes=3, seed=1, waveform=waveform)
    return folder / "records", write_experiment(folder / "toy.toml", **stages)


def write_experiment(
    path: Path, *, network: Mapping[str, Any] = TOY_NETWORK, **stages: dict[str, Any]
) -> Path:
    """Write an experiment file.

    Args:
        path: The file.
        network: The table `network`.
        stages: The table of each stage by its name, with `_` for `-`.

    Returns:
        The file.
    """
    lines = ["[network]", *_toml_lines(network)]
    for name, table in stages.items():
        lines += ["", "[[stages]]", *_toml_lines({"name": name.replace("_", "-")} | table)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml_lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml_value(value)}" for key, value in table.items()]


def _toml_value(value: Any) -> str:
    """Return a value in TOML, which writes numbers and plain strings as Python does."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(_toml_lines(value))}}}"
    return repr(value).lower() if isinstance(value, bool) else repr(value)
