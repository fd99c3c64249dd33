"""Times shuffled batches of 64 faces as a training step takes them, from records and from what others keep faces in.

    python benchmarks/batches.py [--faces 16384] [--rounds 5]

Every side gives uint8 [64, 64, 64, 3] and 64 labels a batch, the faces in a new random order, the rest dropped. Cold: from
nothing read to the end of the first epoch, with the files in the page cache; warm: EPOCHS epochs after it. The limit gathers
from a memory-mapped array into memory that is there, with NumPy alone. The faces are synthesised.
"""

import argparse
import functools
import importlib.util
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import timing

BATCH, PER_CLIP, SHAPE, EPOCHS = 64, 16, (64, 64, 3), 4
Side = Callable[[int], Callable[[], Iterable]]
"""Opens what a side reads for so many epochs; what it returns gives their batches whenever it is called."""


class FaceFiles:
    """A face a .npy file, as torch's DataLoader takes it."""

    def __init__(self, folder: Path, labels):
        self._folder, self._labels = folder, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int):
        import numpy as np

        return np.load(self._folder / f"{index}.npy"), self._labels[index]


def write(folder: Path, faces, labels) -> None:
    """Write the faces as records, as one array, as a file each, and as one ArrayRecord where that is installed."""
    import dataclasses

    import numpy as np

    from pipelines import records, sets
    from pipelines.corpora.clip import Clip
    from pipelines.spec import EMOTIONS, Spec

    options = {"corpus": "bench", "domain": "visual", "kind": "bench", "spec": dataclasses.asdict(Spec())}
    clips = [
        Clip(f"{n:07d}.avi", Path("."), "bench", "visual", "b:1", EMOTIONS[label], f"b:{n}") for n, label in enumerate(labels[::PER_CLIP])
    ]
    writer = sets.SetWriter(folder / "bench" / "visual", clips=clips, options=options, clips_per_shard=256)
    writer.resume(lambda clip: clip.id)
    for clip, crops in zip(clips, faces.reshape(-1, PER_CLIP, *SHAPE), strict=True):
        writer.add(clip, [records.serialise(clip, faces=crops)], {"sha256": clip.id, "seconds": 1.0, "items": PER_CLIP})
    writer.finish({})
    np.save(folder / "faces.npy", faces)
    (folder / "files").mkdir()
    for number, face in enumerate(faces):
        np.save(folder / "files" / f"{number}.npy", face)
    if importlib.util.find_spec("array_record"):
        from array_record.python.array_record_module import ArrayRecordWriter

        record_writer = ArrayRecordWriter(str(folder / "faces.array_record"), "group_size:1,uncompressed")
        for face, label in zip(faces, labels, strict=True):
            record_writer.write(bytes([label]) + face.tobytes())
        record_writer.close()


def sides_of(folder: Path, labels) -> dict[str, Side]:
    """Return every side by its name, ours first; say what is not installed."""
    import numpy as np
    import tensorflow as tf

    from kerasemo import data, plans
    from pipelines import records
    from pipelines.spec import EMOTIONS

    def ours(epochs: int):
        source = data.read_source(folder, "bench/visual")
        plan = plans.labelled_plan(data.Side(source, np.arange(len(source.inputs))), batch=BATCH, seed=0)
        dataset, _ = data.batches([source], plan, epochs=epochs)
        return lambda: dataset

    def limit(epochs: int):
        faces, out, random = np.load(folder / "faces.npy", mmap_mode="r"), np.empty((BATCH, *SHAPE), np.uint8), np.random.default_rng(0)

        def batches():
            for _ in range(epochs):
                for item in random.permutation(len(faces))[: len(faces) // BATCH * BATCH].reshape(-1, BATCH):
                    yield np.take(faces, item, axis=0, out=out, mode="clip"), labels[item]

        return batches

    def one_by_one(epochs: int):
        def faces_and_labels(serialised):
            record = records.parse(serialised, domain="visual")
            label = tf.argmax(tf.cast(tf.constant(EMOTIONS) == record["emotion"], tf.int32), output_type=tf.int32)
            return record["inputs"], tf.repeat(label, tf.shape(record["inputs"])[0])

        files = sorted(str(path) for path in (folder / "bench" / "visual").glob("*.tfrecord"))
        dataset = tf.data.TFRecordDataset(files).map(faces_and_labels, num_parallel_calls=tf.data.AUTOTUNE)
        dataset = dataset.unbatch().shuffle(4096).batch(BATCH, drop_remainder=True)
        dataset = dataset.repeat(epochs).prefetch(tf.data.AUTOTUNE)
        return lambda: dataset

    def loader(workers: int, epochs: int):
        import torch

        words = {"num_workers": workers, "multiprocessing_context": "spawn", "persistent_workers": True} if workers else {}
        files = FaceFiles(folder / "files", labels)
        made = torch.utils.data.DataLoader(files, batch_size=BATCH, shuffle=True, drop_last=True, **words)
        return lambda: itertools.chain.from_iterable(itertools.repeat(made, epochs))

    def array_record(epochs: int):
        import grain

        source = grain.sources.ArrayRecordDataSource([str(folder / "faces.array_record")])
        parsed = (
            grain.MapDataset.source(source)
            .seed(0)
            .shuffle()
            .map(lambda record: (np.frombuffer(record, np.uint8, offset=1).reshape(SHAPE), np.int32(record[0])))
        )
        return lambda: parsed.batch(BATCH, drop_remainder=True).repeat(epochs).to_iter_dataset()

    sides = {"kerasemo.data.batches": ours, "limit: gather from a memmap": limit, "tf.data, one by one": one_by_one}
    rivals = {f"DataLoader over .npy, {workers} workers": ("torch", functools.partial(loader, workers)) for workers in (0, 2)}
    for name, (package, side) in {**rivals, "ArrayRecord, Grain": ("grain", array_record)}.items():
        if importlib.util.find_spec(package):
            sides[name] = side
        else:
            print(f"{package} is not installed: without {name}")
    return sides


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=16_384)
    arguments = timing.begin(parser, cores=2, packages=("tensorflow",))
    import numpy as np

    random, steps = np.random.default_rng(0), arguments.faces // BATCH
    labels = np.repeat(random.integers(0, 6, arguments.faces // PER_CLIP), PER_CLIP).astype(np.int32)
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), random.integers(0, 256, (len(labels), *SHAPE), np.uint8), labels)
        sides = sides_of(Path(name), labels)

        def drain(batches: Callable[[], Iterable], epochs: int) -> None:
            if sum(1 for _ in batches()) != steps * epochs:
                raise RuntimeError(f"expected {steps * epochs} batches")

        turns = {side: functools.partial(drain, opens(EPOCHS), EPOCHS) for side, opens in sides.items()}
        taken = timing.seconds_in_turns(turns, arguments.rounds)
        timing.report(f"batches of {BATCH} uint8 faces with labels, warm", taken, amount=EPOCHS * steps * BATCH, unit="faces/s")
        turns = {side: lambda opens=opens: drain(opens(1), 1) for side, opens in sides.items()}
        taken = timing.seconds_in_turns(turns, arguments.rounds)
        timing.report("the same, cold (page cache warm)", taken, amount=steps * BATCH, unit="faces/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
