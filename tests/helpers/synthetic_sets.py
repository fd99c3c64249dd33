"""Writes sets of records whose classes a tiny network learns in seconds, for tests of training."""

import dataclasses
from pathlib import Path

import numpy as np

from pipelines.building.findings import set_report
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip
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
    """Write `OUT/NAME/DOMAIN`: for each speaker and emotion `takes` clips of `items` faces or segments; return the folder.

    The first speaker has clips of the emotions `only_first` besides. With `published`, the side of each speaker, the split is the
    publisher's, nobody knows the speakers, and so many `copies` of clips of the first speaker stand on the last one's side.

    Every emotion has stripes of a width of its own, along the rows: a texture, for a network that pools over places. With `waveform` the
    log-Mels are those of a sound that is kept, a tone of the emotion's own and noise.
    """
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
    clips.sort(key=lambda clip: clip.id)
    options = {"corpus": name, "domain": domain, "kind": name, "spec": dataclasses.asdict(Spec())}
    writer = SetWriter(out / source, clips=clips, options=options, clips_per_shard=16)
    writer.resume(lambda clip: clip.id)
    copied = 0
    for number, clip in enumerate(clips):
        random = np.random.default_rng([seed, number, len(source)])
        width = 1 + 2 * EMOTIONS.index(clip.emotion)
        stripes = np.arange(64) // width % 2  # [64]
        row = {"sha256": f"{source} {clip.id}", "seconds": 1.0, "items": items}
        if clip.id.startswith(f"s{speakers}/") and copied < copies:
            row["sha256"], copied = f"{source} s1/{clip.id.partition('/')[2]}", copied + 1
        if domain == "visual":
            faces = random.integers(60, 160, (items, 64, 64, 3)) + 60 * stripes[:, None, None]
            writer.add(clip, [schema.serialise(clip, faces=faces.astype(np.uint8))], row)
        else:
            if waveform:
                pcm, log_mel = sound_of(
                    EMOTIONS.index(clip.emotion), frames=64 + 34 * (items - 1), random=random
                )
                writer.add(clip, [schema.serialise(clip, log_mel=log_mel, pcm=pcm)], row)
                continue
            log_mel = random.normal(-50, 4, (64 + 34 * (items - 1), 64)).astype(np.float32)
            log_mel += 10 * stripes
            writer.add(clip, [schema.serialise(clip, log_mel=log_mel)], row)
    writer.finish(set_report(writer.manifest()))
    return out / source


def sound_of(
    pitch: int, *, frames: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a tone with noise, int16 [samples], and its log-Mel [frames, 64]."""
    from pipelines.features import log_mel as log_mel_module

    samples = (frames - 1) * Spec().hop_samples + Spec().fft_samples
    tone = 0.2 * np.sin(
        2 * np.pi * (300 + 200 * pitch) / Spec().sample_rate_hz * np.arange(samples)
    )
    pcm = np.round(32768 * (tone + random.normal(0, 0.01, samples))).astype(np.int16)
    return pcm, log_mel_module.log_mel(pcm.astype(np.float32) / 32768).numpy()


def write_two_sources(folder: Path, *, waveform: bool = False, **stages: dict) -> tuple[Path, Path]:
    """Write a set of faces and one of segments, and an experiment on them; return the folder of records and the file."""
    write_set(folder / "records", "enterface/visual", speakers=5)
    write_set(folder / "records", "savee/audio", speakers=4, takes=3, seed=1, waveform=waveform)
    return folder / "records", write_experiment(folder / "toy.toml", **stages)


def write_experiment(path: Path, *, network: dict = TOY_NETWORK, **stages: dict) -> Path:
    """Write an experiment file; each stage by its name (`_` for `-`), with the keys of its table."""

    def value(entry) -> str:
        if isinstance(entry, (list, tuple)):
            return f"[{', '.join(map(value, entry))}]"
        if isinstance(entry, dict):
            return f"{{{', '.join(table(entry))}}}"
        return (
            repr(entry).lower() if isinstance(entry, bool) else repr(entry)
        )  # of numbers and plain strings, TOML as well

    def table(entries: dict) -> list[str]:
        return [f"{key} = {value(entry)}" for key, entry in entries.items()]

    lines = ["[network]", *table(network)]
    for name, entries in stages.items():
        lines += ["", "[[stages]]", *table({"name": name.replace("_", "-")} | entries)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
