"""Times the input pipeline against its plain alternatives, in turns, and prints ratios.

    python benchmarks/input_pipeline.py [--faces 16384] [--clips 20] [--rounds 5]

Batches: shuffled batches of 64 faces as a training step takes them, against tf.data that parses one by one, shuffles in a
buffer and batches. Log-Mel: sound files to log-Mels with deltas, against librosa; one thread. The media are synthesised.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipelines.cli import load_tensorflow

BATCH = 64


def seconds_in_turns(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Run every side once unmeasured, then all in turn `rounds` times; return the seconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for side in sides.values():
        side()
    for _ in range(rounds):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            taken[name].append(time.perf_counter() - began)
    return taken


def report(title: str, taken: dict[str, list[float]], *, amount: float, unit: str) -> None:
    """Print each side's median rate, and the median ratio of the first to the second, round by round."""
    print(title)
    for name, values in taken.items():
        print(f"  {name:<34} {amount / statistics.median(values):12.0f} {unit}")
    first, other = taken
    ratios = [theirs / ours for ours, theirs in zip(taken[first], taken[other], strict=True)]
    print(f"  {first} / {other}: {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def batches_benchmark(folder: Path, faces: int, rounds: int) -> None:
    """Time shuffled batches of faces."""
    import dataclasses

    import numpy as np
    import tensorflow as tf

    from kerasemo import data, plans
    from pipelines import records, sets
    from pipelines.corpora.clip import Clip
    from pipelines.report import set_report
    from pipelines.spec import EMOTIONS, Spec

    per_clip = 16
    names = [f"{n:06d}" for n in range(faces // per_clip)]
    clips = [Clip(f"{name}.avi", Path("."), "bench", "visual", "bench:1", EMOTIONS[int(name) % 6], f"bench:{name}") for name in names]
    options = {"corpus": "bench", "domain": "visual", "spec": dataclasses.asdict(Spec())}
    writer = sets.SetWriter(folder / "bench" / "visual", clips=clips, options=options, clips_per_shard=256)
    writer.resume(lambda clip: clip.id)
    random = np.random.default_rng(0)
    for clip in clips:
        crops = random.integers(0, 256, (per_clip, 64, 64, 3), np.uint8)
        writer.add(clip, [records.serialise(clip, faces=crops)], {"sha256": clip.id, "seconds": 1.0, "items": per_clip})
    writer.finish(set_report(writer.manifest()))
    source = data.read_source(folder, "bench/visual")
    side = data.Side(source, np.arange(len(source.inputs)))
    ours, steps = data.batches([source], plans.labelled_plan(side, batch=BATCH, seed=0), epochs=1)
    files = sorted(str(path) for path in (folder / "bench" / "visual").glob("*.tfrecord"))
    emotions = tf.constant(EMOTIONS)

    def faces_and_labels(serialised):
        record = records.parse(serialised, domain="visual")
        label = tf.argmax(tf.cast(emotions == record["emotion"], tf.int32))
        return tf.cast(record["inputs"], tf.float32), tf.repeat(label, tf.shape(record["inputs"])[0])

    plain = tf.data.TFRecordDataset(files).map(faces_and_labels, num_parallel_calls=tf.data.AUTOTUNE)
    plain = plain.unbatch().shuffle(4096).batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    def drain(dataset) -> None:
        for _ in dataset:
            pass

    sides = {"kerasemo.data.batches": lambda: drain(ours), "parse, unbatch, shuffle, batch": lambda: drain(plain)}
    taken = seconds_in_turns(sides, rounds)
    report(f"records -> shuffled batches of {BATCH} float32 faces, warm", taken, amount=steps * BATCH, unit="faces/s")


def mels_benchmark(folder: Path, clips: int, rounds: int) -> None:
    """Time sound files to log-Mels with deltas."""
    import librosa
    import numpy as np
    import soundfile
    import tensorflow as tf

    from pipelines import mels, sound

    rate_hz, clip_seconds = 44_100, 4.0
    paths = [folder / f"{n}.wav" for n in range(clips)]
    for n, path in enumerate(paths):
        soundfile.write(path, 0.1 * np.random.default_rng(n).standard_normal(round(rate_hz * clip_seconds)), rate_hz)
    measure = tf.function(lambda waveform: mels.with_deltas(mels.log_mel(waveform)), input_signature=[tf.TensorSpec([None])])

    def ours() -> None:
        for path in paths:
            measure(sound.read_waveform(path)[0])

    def theirs() -> None:
        for path in paths:
            waveform, _ = librosa.load(path, sr=16_000)
            power = librosa.feature.melspectrogram(
                y=waveform, sr=16_000, n_fft=512, win_length=400, hop_length=160, window="hamming", center=False, n_mels=64, fmin=20
            )
            static = librosa.power_to_db(power, amin=1e-10, top_db=None)
            np.stack([static, librosa.feature.delta(static), librosa.feature.delta(static, order=2)])

    taken = seconds_in_turns({"pipelines": ours, "librosa": theirs}, rounds)
    report("44.1 kHz wav -> log-Mel with deltas, one thread", taken, amount=clips * clip_seconds, unit="s of sound/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=16_384)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before the libraries start their threads
    load_tensorflow()
    import tensorflow as tf

    from kerasemo.runs import versions
    from pipelines.workers import processors

    tf.config.threading.set_intra_op_parallelism_threads(1)
    print(f"{platform.machine()}, {processors()} processors; {versions()}")
    print("$ python " + " ".join(sys.argv))
    with tempfile.TemporaryDirectory() as folder:
        batches_benchmark(Path(folder), arguments.faces, arguments.rounds)
        mels_benchmark(Path(folder), arguments.clips, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
