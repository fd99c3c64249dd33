"""Time shuffled batches of 64 faces from records, against other ways to store faces.

    python benchmarks/batches.py [--faces 16384] [--rounds 5]

Each way gives uint8 [64, 64, 64, 3] and 64 labels a batch. The faces are in a new random order in
every epoch, and the rest that fills no batch is dropped. Cold: from the files, which are in the
page cache, to the end of the first epoch. Warm: EPOCHS epochs afterwards. The limit gathers faces
from a memory-mapped array into allocated memory, with NumPy alone. The faces are synthesised.
"""

import argparse
import collections
import dataclasses
import functools
import importlib.util
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import timing

BATCH = 64
FACES_PER_CLIP = 16
SHAPE = (64, 64, 3)
EPOCHS = 4

Epochs = Callable[[], Iterable[Any]]
"""Returns the batches of some epochs."""


class FaceFiles(tuple):
    """Paths of .npy files with one face each, and their labels, as a data set of torch."""

    def __getitem__(self, index: int):
        import numpy as np

        path, label = super().__getitem__(index)
        return np.load(path), label


def write_records(folder: Path, faces, labels) -> None:
    """Write a set of records."""
    from pipelines.core.labels import EMOTIONS
    from pipelines.core.spec import Spec
    from pipelines.corpora.clip import Clip
    from pipelines.records import schema
    from pipelines.records.writer import SetWriter

    clips = [
        Clip(
            f"{number:07d}.avi",
            Path("."),
            "bench",
            "visual",
            "b:1",
            EMOTIONS[label],
            f"b:{number:07d}",
        )
        for number, label in enumerate(labels[::FACES_PER_CLIP])
    ]
    options = {
        "corpus": "bench",
        "domain": "visual",
        "kind": "bench",
        "spec": dataclasses.asdict(Spec()),
    }
    set_folder = folder / "bench" / "visual"
    writer = SetWriter(set_folder, clips=clips, options=options, clips_per_shard=256)
    writer.resume(lambda clip: clip.id)
    of_clips = faces.reshape(-1, FACES_PER_CLIP, *SHAPE)
    for clip, of_clip in zip(clips, of_clips, strict=True):
        row = {"sha256": clip.id, "seconds": 1.0, "items": FACES_PER_CLIP}
        writer.add(clip, [schema.serialise(clip, faces=of_clip)], row)
    writer.finish({})


def write_alternatives(folder: Path, faces, labels) -> None:
    """Write the faces as one array, as a file each, and as one ArrayRecord if it is installed."""
    import numpy as np

    np.save(folder / "faces.npy", faces)
    (folder / "files").mkdir()
    for number, face in enumerate(faces):
        np.save(folder / "files" / f"{number}.npy", face)
    if importlib.util.find_spec("array_record"):
        from array_record.python.array_record_module import ArrayRecordWriter

        path = str(folder / "faces.array_record")
        writer = ArrayRecordWriter(path, "group_size:1,uncompressed")
        for face, label in zip(faces, labels, strict=True):
            writer.write(bytes([label]) + face.tobytes())
        writer.close()


# Each function below opens the files of a folder for a number of epochs.


def open_batch_stream(folder: Path, labels, epochs: int) -> Epochs:
    """Return the batches of `kerasemo.datasets.batches`."""
    import numpy as np

    from kerasemo.datasets import sampling
    from kerasemo.datasets.batches import BatchStream
    from kerasemo.datasets.sources import Subset, read_source

    source = read_source(folder, "bench/visual")
    subset = Subset(source, np.arange(len(labels)))
    sampler = sampling.item_sampler(subset, batch=BATCH, seed=0)
    stream = BatchStream([source], sampler, epochs=epochs)

    def batches():
        yield from stream.dataset  # keeps the stream referenced

    return batches


def open_memory_map(folder: Path, labels, epochs: int) -> Epochs:
    """Return batches that NumPy gathers from a memory-mapped array."""
    import numpy as np

    faces = np.load(folder / "faces.npy", mmap_mode="r")
    batch, random = np.empty((BATCH, *SHAPE), np.uint8), np.random.default_rng(0)
    n_steps = len(faces) // BATCH

    def batches():
        for _ in range(epochs):
            order = random.permutation(len(faces))[: n_steps * BATCH]
            for items in order.reshape(-1, BATCH):
                yield np.take(faces, items, axis=0, out=batch, mode="clip"), labels[items]

    return batches


def open_tf_data(folder: Path, labels, epochs: int) -> Epochs:
    """Return batches of tf.data, which shuffles faces one by one in a buffer."""
    import tensorflow as tf

    from pipelines.core.labels import EMOTIONS
    from pipelines.records import schema

    def faces_and_labels(serialised):
        record = schema.parse(serialised, domain="visual")
        is_label = tf.cast(tf.constant(EMOTIONS) == record["emotion"], tf.int32)
        label = tf.argmax(is_label, output_type=tf.int32)
        return record["faces"], tf.repeat(label, tf.shape(record["faces"])[0])

    shards = sorted(str(path) for path in (folder / "bench" / "visual").glob("*.tfrecord"))
    dataset = tf.data.TFRecordDataset(shards)
    dataset = dataset.map(faces_and_labels, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.unbatch().shuffle(4096).batch(BATCH, drop_remainder=True)
    return functools.partial(iter, dataset.repeat(epochs).prefetch(tf.data.AUTOTUNE))


def open_data_loader(folder: Path, labels, epochs: int, *, workers: int) -> Epochs:
    """Return batches of torch's DataLoader over a file for each face."""
    import torch

    options = {}
    if workers:
        options = {
            "num_workers": workers,
            "multiprocessing_context": "spawn",
            "persistent_workers": True,
        }
    files = FaceFiles(
        (folder / "files" / f"{number}.npy", label) for number, label in enumerate(labels)
    )
    loader = torch.utils.data.DataLoader(
        files, batch_size=BATCH, shuffle=True, drop_last=True, **options
    )
    return lambda: itertools.chain.from_iterable(itertools.repeat(loader, epochs))


def open_array_record(folder: Path, labels, epochs: int) -> Epochs:
    """Return batches of Grain over an ArrayRecord."""
    import grain
    import numpy as np

    def parse(record: bytes):
        face = np.frombuffer(record, np.uint8, offset=1).reshape(SHAPE)
        return face, np.int32(record[0])

    source = grain.sources.ArrayRecordDataSource([str(folder / "faces.array_record")])
    dataset = grain.MapDataset.source(source).seed(0).shuffle().map(parse)
    return lambda: dataset.batch(BATCH, drop_remainder=True).repeat(epochs).to_iter_dataset()


def installed_ways() -> dict[str, Callable[[Path, Any, int], Epochs]]:
    """Return the function that opens each way, by name; print which package is not installed."""
    ways = {
        "kerasemo BatchStream": open_batch_stream,
        "limit: gather from a memmap": open_memory_map,
        "tf.data, one by one": open_tf_data,
    }
    optional = {
        f"DataLoader over .npy, {workers} workers": (
            "torch",
            functools.partial(open_data_loader, workers=workers),
        )
        for workers in (0, 2)
    }
    optional["ArrayRecord, Grain"] = ("grain", open_array_record)
    for name, (package, function) in optional.items():
        if importlib.util.find_spec(package):
            ways[name] = function
        else:
            print(f"{package} is not installed: without {name}")
    return ways


def consume(batches: Iterable[Any]) -> None:
    collections.deque(batches, maxlen=0)


def main() -> int:
    """Time all ways, warm and cold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=16_384)
    arguments = timing.begin(parser, cores=2, packages=("tensorflow",))
    import numpy as np

    random, n_steps = np.random.default_rng(0), arguments.faces // BATCH
    of_clips = random.integers(0, 6, arguments.faces // FACES_PER_CLIP)
    labels = np.repeat(of_clips, FACES_PER_CLIP).astype(np.int32)
    faces = random.integers(0, 256, (len(labels), *SHAPE), np.uint8)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_records(folder, faces, labels)
        write_alternatives(folder, faces, labels)
        ways = installed_ways()
        opened = {name: way(folder, labels, EPOCHS) for name, way in ways.items()}
        warm = {
            name: lambda batches=batches: consume(batches()) for name, batches in opened.items()
        }
        cold = {
            name: lambda way=way: consume(way(folder, labels, 1)()) for name, way in ways.items()
        }
        for title, functions, epochs in (
            ("warm", warm, EPOCHS),
            ("cold, the page cache warm", cold, 1),
        ):
            seconds = timing.seconds_in_turns(functions, arguments.rounds)
            timing.report(
                f"batches of {BATCH} uint8 faces, labels, {title}",
                seconds,
                amount=epochs * n_steps * BATCH,
                unit="faces/s",
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
