"""Times shuffled batches of 64 faces as a training step takes them, from records and from what others keep faces in.

    python benchmarks/batches.py [--faces 16384] [--rounds 5]

Every side gives uint8 [64, 64, 64, 3] and 64 labels a batch, the faces in a new random order, the rest dropped. Cold: from
nothing read to the end of the first epoch, with the files in the page cache; warm: EPOCHS epochs after it. The limit gathers
from a memory-mapped array into memory that is there, with NumPy alone. The faces are synthesised.
"""

import argparse
import collections
import functools
import importlib.util
import itertools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import timing

BATCH, PER_CLIP, SHAPE, EPOCHS = 64, 16, (64, 64, 3), 4


class FaceFiles(tuple):
    """Paths of .npy files of a face each with their labels, as torch's DataLoader takes them."""

    def __getitem__(self, index: int):
        import numpy as np

        path, label = super().__getitem__(index)
        return np.load(path), label


def write(folder: Path, faces, labels) -> None:
    """Write the faces as records, as one array, as a file each, and as one ArrayRecord where that is installed."""
    import dataclasses

    import numpy as np

    from pipelines.core.labels import EMOTIONS
    from pipelines.core.spec import Spec
    from pipelines.corpora.clip import Clip
    from pipelines.records import schema
    from pipelines.records.writer import SetWriter

    options = {
        "corpus": "bench",
        "domain": "visual",
        "kind": "bench",
        "spec": dataclasses.asdict(Spec()),
    }
    named = [(f"{n:07d}", EMOTIONS[label]) for n, label in enumerate(labels[::PER_CLIP])]
    clips = [
        Clip(f"{n}.avi", Path("."), "bench", "visual", "b:1", emotion, f"b:{n}")
        for n, emotion in named
    ]
    writer = SetWriter(
        folder / "bench" / "visual", clips=clips, options=options, clips_per_shard=256
    )
    writer.resume(lambda clip: clip.id)
    for clip, crops in zip(clips, faces.reshape(-1, PER_CLIP, *SHAPE), strict=True):
        writer.add(
            clip,
            [schema.serialise(clip, faces=crops)],
            {"sha256": clip.id, "seconds": 1.0, "items": PER_CLIP},
        )
    writer.finish({})
    np.save(folder / "faces.npy", faces)
    (folder / "files").mkdir()
    for number, face in enumerate(faces):
        np.save(folder / "files" / f"{number}.npy", face)
    if importlib.util.find_spec("array_record"):
        from array_record.python.array_record_module import ArrayRecordWriter

        record_writer = ArrayRecordWriter(
            str(folder / "faces.array_record"), "group_size:1,uncompressed"
        )
        for face, label in zip(faces, labels, strict=True):
            record_writer.write(bytes([label]) + face.tobytes())
        record_writer.close()


def sides_of(folder: Path, labels) -> dict[str, Callable]:
    """Return what opens a side for so many epochs, and returns what gives their batches; say which side is not installed."""
    import numpy as np
    import tensorflow as tf

    from kerasemo.datasets import batches as batches_module
    from kerasemo.datasets import sampling, sources
    from pipelines.core.labels import EMOTIONS
    from pipelines.records import schema

    def ours(epochs: int):
        source = sources.read_source(folder, "bench/visual")
        plan = sampling.item_sampler(
            sources.Subset(source, np.arange(len(labels))), batch=BATCH, seed=0
        )
        return functools.partial(iter, batches_module.BatchStream([source], plan, epochs=epochs)[0])

    def limit(epochs: int):
        faces, out, random = (
            np.load(folder / "faces.npy", mmap_mode="r"),
            np.empty((BATCH, *SHAPE), np.uint8),
            np.random.default_rng(0),
        )
        whole = len(faces) // BATCH * BATCH
        drawn = (
            item
            for _ in itertools.count()
            for item in random.permutation(len(faces))[:whole].reshape(-1, BATCH)
        )
        gathered = (
            (np.take(faces, item, axis=0, out=out, mode="clip"), labels[item]) for item in drawn
        )
        return lambda: itertools.islice(gathered, epochs * whole // BATCH)

    def one_by_one(epochs: int):
        def faces_and_labels(serialised):
            record = schema.parse(serialised, domain="visual")
            label = tf.argmax(
                tf.cast(tf.constant(EMOTIONS) == record["emotion"], tf.int32), output_type=tf.int32
            )
            return record["faces"], tf.repeat(label, tf.shape(record["faces"])[0])

        files = sorted(str(path) for path in (folder / "bench" / "visual").glob("*.tfrecord"))
        dataset = tf.data.TFRecordDataset(files).map(
            faces_and_labels, num_parallel_calls=tf.data.AUTOTUNE
        )
        dataset = dataset.unbatch().shuffle(4096).batch(BATCH, drop_remainder=True)
        return functools.partial(iter, dataset.repeat(epochs).prefetch(tf.data.AUTOTUNE))

    def loader(workers: int, epochs: int):
        import torch

        words = (
            {"num_workers": workers, "multiprocessing_context": "spawn", "persistent_workers": True}
            if workers
            else {}
        )
        files = FaceFiles(
            (folder / "files" / f"{number}.npy", label) for number, label in enumerate(labels)
        )
        made = torch.utils.data.DataLoader(
            files, batch_size=BATCH, shuffle=True, drop_last=True, **words
        )
        return lambda: itertools.chain.from_iterable(itertools.repeat(made, epochs))

    def array_record(epochs: int):
        import grain

        source = grain.sources.ArrayRecordDataSource([str(folder / "faces.array_record")])
        parsed = (
            grain.MapDataset.source(source)
            .seed(0)
            .shuffle()
            .map(
                lambda record: (
                    np.frombuffer(record, np.uint8, offset=1).reshape(SHAPE),
                    np.int32(record[0]),
                )
            )
        )
        return lambda: parsed.batch(BATCH, drop_remainder=True).repeat(epochs).to_iter_dataset()

    sides = {
        "kerasemo.datasets.batches.batches": ours,
        "limit: gather from a memmap": limit,
        "tf.data, one by one": one_by_one,
    }
    rivals = {
        f"DataLoader over .npy, {workers} workers": ("torch", functools.partial(loader, workers))
        for workers in (0, 2)
    }
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
    labels = np.repeat(random.integers(0, 6, arguments.faces // PER_CLIP), PER_CLIP).astype(
        np.int32
    )
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), random.integers(0, 256, (len(labels), *SHAPE), np.uint8), labels)
        sides = sides_of(Path(name), labels)
        opened = {side: opens(EPOCHS) for side, opens in sides.items()}
        warm = {
            side: lambda batches=batches: collections.deque(batches(), maxlen=0)
            for side, batches in opened.items()
        }
        cold = {
            side: lambda opens=opens: collections.deque(opens(1)(), maxlen=0)
            for side, opens in sides.items()
        }
        for title, turns, epochs in (
            ("warm", warm, EPOCHS),
            ("cold, the page cache warm", cold, 1),
        ):
            taken = timing.seconds_in_turns(turns, arguments.rounds)
            timing.report(
                f"batches of {BATCH} uint8 faces, labels, {title}",
                taken,
                amount=epochs * steps * BATCH,
                unit="faces/s",
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
