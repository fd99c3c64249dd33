"""The TensorBoard events of a stage.

A resumed training writes the same events as an uninterrupted one.

The `logs/` of a stage holds a run for each axis, so that a resumed writer can tell TensorBoard from
which step on events come again: `train` and `validation` count epochs, `steps` and `speed` count
steps, `results` is written once at the end, and the folder itself holds the configuration. Only the
wall times and the run `speed` are not a function of the training.
"""

import io
import itertools
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tensorboard.compat.proto import event_pb2, summary_pb2, types_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.summary import session_end_pb
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.plugins.image.metadata import create_summary_metadata
from tensorboard.plugins.projector import projector_config_pb2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from pipelines.core.errors import StorageError

PREFIX = "events.out.tfevents."
"""The beginning of the names of event files. Seconds since 1970 follow, by which TensorBoard orders
files."""

LARGEST_SPRITE = 8192
"""The largest side, in pixels, of a picture that the embedding projector takes."""

CELL = 80
"""The side of a cell of the confusion matrix, in pixels."""

_file_numbers = itertools.count()


class TensorBoardWriter:
    """Writes the events of a stage.

    Args:
        folder: `RUN/STAGE/logs`.
        event_sizes: The sizes that `flush` returned for the checkpoint from which the training
            resumes. Event files are cut to these sizes, and other event files are deleted. None:
            all event files are deleted.

    Attributes:
        lost_files: Event files that are missing or too short. The training resumes without their
            events.

    Raises:
        StorageError: Here and in every other method: the disk is full, or the folder cannot be
            written.
    """

    def __init__(self, folder: Path, *, event_sizes: Mapping[str, int] | None) -> None:
        self._folder = folder
        self._files: dict[str, io.BufferedWriter] = {}
        expected = dict(event_sizes or {})
        if event_sizes is None:
            shutil.rmtree(folder, ignore_errors=True)
        for path in sorted(folder.rglob(PREFIX + "*")):
            name = path.relative_to(folder).as_posix()
            if name not in expected:
                path.unlink()
            elif path.stat().st_size > expected[name]:
                os.truncate(path, expected[name])
        sizes = {
            name: (folder / name).stat().st_size if (folder / name).is_file() else 0
            for name in expected
        }
        self.lost_files = sorted(name for name, size in expected.items() if sizes[name] != size)
        self._sizes = {name: size for name, size in sizes.items() if size}

    def write_configuration(self, document: Mapping[str, Any]) -> None:
        """Write configuration, versions and key as a table, unless the event files have it."""
        if not any("/" not in name for name in self._sizes):
            rows = "".join(f"| {name} | {value} |\n" for name, value in _table_rows(document))
            self._add("", 0, text_pb("configuration", f"| name | value |\n|---|---|\n{rows}"))

    def write_steps(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Write the values of steps.

        Args:
            rows: For each step its number in the stage, and its `loss` and terms.
        """
        for step, values in rows:
            self._scalars("steps", step, {f"step_{name}": value for name, value in values.items()})

    def write_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Write the values of an epoch; `val_NAME` goes to the run `validation` as `epoch_NAME`."""
        validation = {
            name.removeprefix("val_"): value
            for name, value in logs.items()
            if name.startswith("val_")
        }
        training = {name: value for name, value in logs.items() if not name.startswith("val_")}
        for run, values in (("train", training), ("validation", validation)):
            self._scalars(run, epoch, {f"epoch_{name}": value for name, value in values.items()})

    def write_speed(self, step: int, images_per_second: float) -> None:
        """Write the rate of the training in its own run, because it is not reproducible."""
        self._scalars("speed", step, {"images_per_second": images_per_second})

    def write_recall(
        self, epoch: int, source: str, emotions: Sequence[str], confusion: np.ndarray
    ) -> None:
        """Write the recall of each class that has clips, and the confusion matrix as a picture.

        Args:
            epoch: The epoch, from 1.
            source: `CORPUS/DOMAIN`.
            emotions: The names of the classes.
            confusion: int [classes, classes]; rows are labels, columns are predictions.
        """
        name = source.replace("/", "_")
        totals = confusion.sum(axis=1)
        recalls = {
            f"recall_{name}/{emotions[row]}": confusion[row, row] / totals[row]
            for row in np.flatnonzero(totals).tolist()
        }
        self._scalars("validation", epoch, recalls)
        title = f"{source}: clips, and shares of the label"
        picture = draw_confusion(confusion, emotions, title=title)
        self._add("validation", epoch, _image_pb(f"confusion/{name}", picture))

    def write_histograms(self, epoch: int, weights: Mapping[str, np.ndarray]) -> None:
        """Write the distribution of the values of each array."""
        for name, values in weights.items():
            self._add("train", epoch, histogram_pb(name, values))

    def write_projector(
        self, embeddings: np.ndarray, rows: Sequence[Mapping[str, str]], pictures: np.ndarray
    ) -> None:
        """Write the files of the embedding projector into the run `results`.

        Args:
            embeddings: float [clips, n].
            rows: The texts of each clip, all under the same names, such as emotion, corpus and
                speaker.
            pictures: uint8 [clips, 64, 64, 3].
        """
        self._begin("results", 0)
        folder = self._folder / "results"
        sheet, side = sprite(pictures)
        config = projector_config_pb2.ProjectorConfig()
        entry = config.embeddings.add(
            tensor_name="embedding", tensor_path="tensors.tsv", metadata_path="metadata.tsv"
        )
        entry.sprite.image_path = "sprite.png"
        entry.sprite.single_image_dim.extend([side, side])
        names = list(rows[0])
        table = [names, *([" ".join(str(row[name]).split()) for name in names] for row in rows)]
        metadata = "".join("\t".join(row_texts) + "\n" for row_texts in table)
        try:
            np.savetxt(folder / "tensors.tsv", embeddings, fmt="%.6g", delimiter="\t")
            (folder / "metadata.tsv").write_text(metadata, encoding="utf-8")
            (folder / "sprite.png").write_bytes(png(sheet))
            (folder / "projector_config.pbtxt").write_text(str(config), encoding="utf-8")
        except OSError as error:
            raise self._storage_error(folder, error) from error

    def write_hparams(
        self, settings: Mapping[str, float | str | bool], results: Mapping[str, float]
    ) -> None:
        """Write settings and results of a stage for the table of all runs of a folder."""
        self._add("results", 0, hparams_pb(dict(settings)))
        self._scalars("results", 0, results)
        end = session_end_pb(api_pb2.STATUS_SUCCESS)  # a message of TensorFlow's own class
        self._add("results", 0, summary_pb2.Summary.FromString(end.SerializeToString()))

    def flush(self) -> dict[str, int]:
        """Flush all events to the disk, and return the size of each event file by its path."""
        for run, file in self._files.items():
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise self._storage_error(self._folder / run, error) from error
            self._sizes[Path(file.name).relative_to(self._folder).as_posix()] = file.tell()
        return dict(self._sizes)

    def close(self) -> None:
        """Flush and close the event files."""
        self.flush()
        for file in self._files.values():
            file.close()
        self._files = {}

    def _scalars(self, run: str, step: int, values: Mapping[str, float]) -> None:
        if values:
            summaries = [scalar_pb(tag, float(value)) for tag, value in values.items()]
            self._add(
                run, step, summary_pb2.Summary(value=[summary.value[0] for summary in summaries])
            )

    def _add(self, run: str, step: int, summary: summary_pb2.Summary) -> None:
        self._begin(run, step)
        self._write(run, event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def _begin(self, run: str, step: int) -> None:
        """Open the event file of a run, unless it is open.

        It starts with a START event: TensorBoard then forgets older events of this step and later
            steps.
        """
        if run in self._files:
            return
        folder = self._folder / run
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Later than the files that are kept, however soon the training resumes.
            later_seconds = [
                int(path.name.removeprefix(PREFIX).split(".")[0]) + 1
                for path in folder.glob(PREFIX + "*")
            ]
            seconds = max([int(time.time()), *later_seconds])
            host, process = socket.gethostname(), os.getpid()
            name = f"{PREFIX}{seconds:010d}.{host}.{process}.{next(_file_numbers)}"
            self._files[run] = open(folder / name, "xb")  # noqa: SIM115 (it stays open)
        except OSError as error:
            raise self._storage_error(folder, error) from error
        self._write(run, event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(run, event_pb2.Event(wall_time=time.time(), step=step, session_log=start))

    def _write(self, run: str, event: event_pb2.Event) -> None:
        try:
            RecordWriter(self._files[run]).write(event.SerializeToString(deterministic=True))
        except OSError as error:
            raise self._storage_error(self._folder / run, error) from error

    def _storage_error(self, folder: Path, error: OSError) -> StorageError:
        """Close all files without writing their buffers, and return the error to raise."""
        for file in self._files.values():
            # Otherwise Python would write the buffer again at the end of the process.
            file.raw.close()
        self._files = {}
        return StorageError(
            f"{folder}: {error.strerror or error}; the events cannot be written: free space, and "
            "run the same command again, which resumes"
        )


def _table_rows(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the value of every entry, as cells of a Markdown table."""
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            yield from _table_rows(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(document, default=str).replace("|", "\\|")


def _image_pb(tag: str, picture: Image.Image) -> summary_pb2.Summary:
    strings = [str(picture.width).encode(), str(picture.height).encode(), png(picture)]
    metadata = create_summary_metadata(display_name=None, description=None)
    tensor = make_tensor_proto(strings, dtype=types_pb2.DT_STRING, shape=(3,))
    return summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]
    )


def png(picture: np.ndarray | Image.Image) -> bytes:
    """Return a picture as a PNG file; an array is uint8 [height, width, 3]."""
    file = io.BytesIO()
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    image.save(file, "PNG")
    return file.getvalue()


def draw_confusion(counts: np.ndarray, names: Sequence[str], *, title: str) -> Image.Image:
    """Draw a confusion matrix: each cell has a count and its share of the row; darker is larger.

    Args:
        counts: int [classes, classes]; rows are labels, columns are predictions.
        names: The names of the classes.
        title: The line above the matrix.
    """
    font, small = ImageFont.load_default(23), ImageFont.load_default(16)
    left, top = 26 + int(max(small.getlength(name) for name in names)), 74
    width = max(left + CELL * len(names) + 12, 24 + int(small.getlength(title)))
    image = Image.new("RGB", (width, top + CELL * len(names) + 12), "white")
    draw = ImageDraw.Draw(image)
    draw.text((12, 10), title, "black", small)
    draw.text((left + CELL * len(names) / 2, 42), "prediction", "#606060", small, anchor="mm")
    draw.text((left - 10, 60), "label", "#606060", small, anchor="rm")
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(names):
        y = top + CELL * row
        draw.text((left + CELL * row + CELL / 2, 60), name, "black", small, anchor="mm")
        draw.text((left - 10, y + CELL / 2), name, "black", small, anchor="rm")
        for column in range(len(names)):
            x, share = left + CELL * column, shares[row, column]
            fill = tuple(round(255 + share * (dark - 255)) for dark in (8, 48, 107))
            ink = "white" if share > 0.5 else "black"
            draw.rectangle((x, y, x + CELL, y + CELL), fill, "#c8c8c8")
            draw.text(
                (x + CELL / 2, y + CELL / 2 - 10), str(counts[row, column]), ink, font, anchor="mm"
            )
            draw.text(
                (x + CELL / 2, y + CELL / 2 + 16),
                f"{share:.0%}" if counts[row].any() else "-",
                ink,
                small,
                anchor="mm",
            )
    return image.quantize(64)  # a third of the bytes


def sprite(pictures: np.ndarray) -> tuple[np.ndarray, int]:
    """Return one square of pictures, row by row.

    The pictures are halved until the side of the square is at most LARGEST_SPRITE.

    Args:
        pictures: uint8 [pictures, side, side, 3].

    Returns:
        uint8 [rows * side, columns * side, 3], and the side of a picture in the square.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    while columns * pictures.shape[1] > LARGEST_SPRITE:
        count, side = pictures.shape[0], pictures.shape[1] // 2
        halves = pictures.reshape(count, side, 2, side, 2, 3)
        pictures = halves.mean(axis=(2, 4)).astype(np.uint8)
    side = pictures.shape[1]
    tiles = np.zeros((columns * columns, side, side, 3), np.uint8)
    tiles[: len(pictures)] = pictures
    grid = tiles.reshape(columns, columns, side, side, 3).swapaxes(1, 2)
    return grid.reshape(columns * side, columns * side, 3), side
