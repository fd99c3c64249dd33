"""Step 1 of many networks at once: records of sound -> one file of arrays for a machine that has JAX alone.

    python benchmarks/many_arrays.py --records DIR --out arrays.npz [--tables SOURCE:PROTOCOL ...] [--active-share 0.4]

Of sets that keep the waveform (`pipelines.build --waveform`): the log-Mel of every clip as recorded and at other speeds, where its segments
begin, and its side under every protocol and fold, through the gate. `many_training.py` takes it from there.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import timing

TABLES = ["emodb/audio:speaker-independent", "emodb/audio:speaker-dependent", "ravdess/audio:speaker-independent"]


def sides_of_folds(records_folder: Path, table: str) -> list[dict[str, str]]:
    """Return for each fold of a table the side of every clip, by its id, as the gate let them pass."""
    from kerasemo import chain, holdings, splits

    source, _, protocol = table.partition(":")
    folds = holdings.Holdings(records_folder, [source]).folds([source], protocol=protocol)[source]
    found = []
    for fold in range(folds):
        sides = chain.gated_sides(records_folder, [source], trained_on=[source], protocol=protocol, fold=fold)
        found.append({clip: side for side in splits.SIDES for clip in sides.ids[source][side]})
    return found


def log_mels_at(waveform: np.ndarray, speed: float) -> np.ndarray:
    """Return the log-Mel of a sound at a speed, its pitch with it: float32 [frames, 64] in dB.

    Args:
        waveform: int16 [samples] at the spec's rate.
        speed: 1.1 is faster.
    """
    import soxr

    from pipelines import mels
    from pipelines.spec import Spec

    spec = Spec()
    samples = soxr.resample(waveform.astype(np.float32) / 2**15, speed * spec.sample_rate_hz, spec.sample_rate_hz, quality="HQ")
    samples = np.pad(samples, (0, max(0, spec.fft_samples - len(samples))))
    return mels.log_mel(samples).numpy()


def arrays_of(records_folder: Path, source: str, clips: set[str], *, speeds: list[float], active_share: float) -> dict[str, np.ndarray]:
    """Return the arrays of a source, of the clips of some ids.

    Returns:
        `log_mels` float16 [frames, 64], clip after clip as recorded, then again at each speed; `frames` int32 [1 + speeds, clips]: how many
        each has; `starts` int32 [segments]: the first frame of each segment in the clip as recorded, `clip_of` int32 [segments]: its clip;
        and of each clip its `labels` (int32, indices of EMOTIONS), `ids`, `speakers` and `sources`.
    """
    from kerasemo import utterances
    from pipelines import mels
    from pipelines.spec import EMOTIONS

    read = utterances.read(records_folder, source)
    spec = utterances.Cut(active_share=active_share).spec
    kept = [place for place, clip in enumerate(read.clip_of) if read.rows[clip]["id"] in clips]
    if len(kept) != len(clips) or not all(len(read.waveforms[place]) for place in kept):
        sys.exit(f"{source}: needs records that were built with --waveform, of clips of a minute at most")
    rows = [read.rows[read.clip_of[place]] for place in kept]
    versions = [[read.log_mels[place] for place in kept]]
    versions += [[log_mels_at(read.waveforms[place], speed) for place in kept] for speed in speeds]
    versions = [[mels.padded(log_mel, spec=spec).numpy() for log_mel in version] for version in versions]
    starts = [mels.segment_starts(log_mel, spec=spec).numpy() for log_mel in versions[0]]
    return {
        "log_mels": np.concatenate([log_mel for version in versions for log_mel in version]).astype(np.float16),
        "frames": np.array([[len(log_mel) for log_mel in version] for version in versions], np.int32),
        "starts": np.concatenate(starts).astype(np.int32),
        "clip_of": np.repeat(np.arange(len(kept), dtype=np.int32), [len(own) for own in starts]),
        "labels": np.array([EMOTIONS.index(row["emotion"]) for row in rows], np.int32),
        **{f"{name}s": np.array([row[name] for row in rows]) for name in ("id", "speaker")},
        "sources": np.array([source] * len(rows)),
    }


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of several sources as one's, and `firsts` int32 [1 + speeds, clips]: where in `log_mels` each clip begins."""
    clips, frames = 0, 0
    for part in parts:
        part["clip_of"] += clips
        ends = np.cumsum(part["frames"]).reshape(part["frames"].shape)
        part["firsts"] = (frames + ends - part["frames"]).astype(np.int32)
        clips, frames = clips + len(part["labels"]), frames + len(part["log_mels"])
    along = {"frames": 1, "firsts": 1}
    return {name: np.concatenate([part[name] for part in parts], axis=along.get(name, 0)) for name in parts[0]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=TABLES, metavar="SOURCE:PROTOCOL", help="(default: %(default)s)")
    parser.add_argument("--speeds", nargs="*", type=float, default=[0.9, 1.1], help="beside the clips as recorded (default: %(default)s)")
    parser.add_argument("--active-share", type=float, default=0.0, help="segments of fewer active frames are left out (default: all stay)")
    arguments = timing.begin(parser, cores=2, packages=("tensorflow", "librosa", "soxr"))
    from kerasemo import splits

    side_of = {table: sides_of_folds(arguments.records, table) for table in arguments.tables}
    parts = []
    for source in dict.fromkeys(table.partition(":")[0] for table in arguments.tables):
        clips = {clip for table, folds in side_of.items() if table.startswith(f"{source}:") for fold in folds for clip in fold}
        how = {"speeds": arguments.speeds, "active_share": arguments.active_share}
        parts.append(arrays_of(arguments.records, source, clips, **how))
    arrays = joined(parts)
    names = list(zip(arrays["sources"], arrays["ids"], strict=True))
    for table, folds in side_of.items():
        source = table.partition(":")[0]
        # -1: not of this source, or a second file of an utterance.
        places = [[splits.SIDES.index(fold[clip]) if of == source and clip in fold else -1 for of, clip in names] for fold in folds]
        arrays[f"sides of {table}"] = np.array(places, np.int8)  # [folds, clips]
        counts = [", ".join(f"{side} {row.count(place)}" for place, side in enumerate(splits.SIDES)) for row in places]
        print(f"{table}: {len(folds)} folds, the first of {counts[0]} clips")
    np.savez(arguments.out, active_share=arguments.active_share, sides=np.array(splits.SIDES), **arrays)
    print(f"{arguments.out}: {len(names)} clips, {len(arrays['starts'])} segments, {arguments.out.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
