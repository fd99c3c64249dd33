"""What TensorBoard shows of a stage: event files that a killed and resumed training writes as an uninterrupted one would.

A stage's `logs/` holds a run for each axis, so that a resumed writer can tell TensorBoard from where on things come twice:
`train` and `validation` count epochs, `steps` and `speed` count steps, `results` comes once, at the end, and the folder
itself holds the configuration. All but the wall times, and the run `speed`, is a function of the training.
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

from pipelines.core.errors import InputError

PREFIX = "events.out.tfevents."
"""What the names of event files begin with; then come seconds since 1970, with which TensorBoard puts them in order."""

_created = itertools.count()


class Board:
    """Writes the events of a stage.

    Args:
        folder: `RUN/STAGE/logs`.
        held: None to begin anew: what is there is removed. Else what `flush` returned when the checkpoint was written
            that the training goes on from: event files are cut to these sizes, and those that are not listed are deleted.

    Raises:
        InputError: Here and in every other method: the disk is full.
    """

    def __init__(self, folder: Path, *, held: Mapping[str, int] | None):
        self._folder = folder
        self._files: dict[str, io.BufferedWriter] = {}
        self._held = dict(held or {})
        if held is None:
            shutil.rmtree(folder, ignore_errors=True)
        for path in sorted(folder.rglob(PREFIX + "*")):
            name = path.relative_to(folder).as_posix()
            if name not in self._held:
                path.unlink()
            elif path.stat().st_size > self._held[name]:
                os.truncate(path, self._held[name])
        there = {
            name: (folder / name).stat().st_size if (folder / name).is_file() else 0
            for name in self._held
        }
        self.lost = sorted(name for name, size in self._held.items() if there[name] != size)
        """The event files that are listed, but missing or shorter: the training goes on without what they held."""
        self._held = {name: size for name, size in there.items() if size}

    def configuration(self, document: Mapping) -> None:
        """Write the resolved configuration, versions and key as a table; a training that goes on has it already."""
        if not any("/" not in name for name in self._held):
            rows = "".join(f"| {name} | {value} |\n" for name, value in _flat(document))
            self._add("", 0, text_pb("configuration", f"| name | value |\n|---|---|\n{rows}"))

    def steps(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Write values of single steps.

        Args:
            rows: Of each step its number in the stage and its `loss` and terms.
        """
        for step, values in rows:
            self._scalars("steps", step, {f"step_{name}": value for name, value in values.items()})

    def epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Write the values of an epoch; those named `val_NAME` go to the run `validation` as `epoch_NAME`."""
        validation = {
            name.removeprefix("val_"): value
            for name, value in logs.items()
            if name.startswith("val_")
        }
        training = {name: value for name, value in logs.items() if not name.startswith("val_")}
        for run, values in (("train", training), ("validation", validation)):
            self._scalars(run, epoch, {f"epoch_{name}": value for name, value in values.items()})

    def speed(self, step: int, images_per_second: float) -> None:
        """Write how fast the training is, in a run of its own: it is of the clock, not of the training."""
        self._scalars("speed", step, {"images_per_second": images_per_second})

    def recall(
        self, epoch: int, source: str, emotions: Sequence[str], confusion: np.ndarray
    ) -> None:
        """Write the recall of each class that has clips, and the confusion matrix as a picture.

        Args:
            epoch: The epoch.
            source: `NAME/DOMAIN`.
            emotions: The names of the classes.
            confusion: int [classes, classes]; rows are the truth, columns the answers.
        """
        name = source.replace("/", "_")
        totals = confusion.sum(axis=1)
        recalls = {
            emotions[row]: confusion[row, row] / totals[row] for row in np.flatnonzero(totals)
        }
        self._scalars(
            "validation",
            epoch,
            {f"recall_{name}/{emotion}": value for emotion, value in recalls.items()},
        )
        picture = draw_confusion(
            confusion, emotions, title=f"{source}: clips, and shares of the truth"
        )
        self._add("validation", epoch, _image_pb(f"confusion/{name}", picture))

    def histograms(self, epoch: int, weights: Mapping[str, np.ndarray]) -> None:
        """Write the distribution of each array's values."""
        for name, values in weights.items():
            self._add("train", epoch, histogram_pb(name, values))

    def projector(
        self, embeddings: np.ndarray, rows: Sequence[Mapping[str, str]], shown: np.ndarray
    ) -> None:
        """Write the files of the embedding projector into the run `results`.

        Args:
            embeddings: float [clips, size].
            rows: What each clip is labelled with, under the same names, such as emotion, corpus, domain and speaker.
            shown: uint8 [clips, 64, 64, 3], the clips' pictures.
        """
        self._begin("results", 0)
        folder = self._folder / "results"
        sheet, side = sprite(shown)
        config = projector_config_pb2.ProjectorConfig()
        entry = config.embeddings.add(
            tensor_name="embedding", tensor_path="tensors.tsv", metadata_path="metadata.tsv"
        )
        entry.sprite.image_path = "sprite.png"
        entry.sprite.single_image_dim.extend([side, side])
        names = list(rows[0])
        table = [names, *([" ".join(str(row[name]).split()) for name in names] for row in rows)]
        try:
            np.savetxt(folder / "tensors.tsv", embeddings, fmt="%.6g", delimiter="\t")
            (folder / "metadata.tsv").write_text(
                "".join("\t".join(line) + "\n" for line in table), encoding="utf-8"
            )
            (folder / "sprite.png").write_bytes(png(sheet))
            (folder / "projector_config.pbtxt").write_text(str(config), encoding="utf-8")
        except OSError as error:
            raise self._unwritten(folder, error) from error

    def hparams(
        self, settings: Mapping[str, float | str | bool], results: Mapping[str, float]
    ) -> None:
        """Write a stage's settings and what came of them, for the table of all stages, runs and trials below one folder."""
        self._add("results", 0, hparams_pb(dict(settings)))
        self._scalars("results", 0, results)
        end = session_end_pb(api_pb2.STATUS_SUCCESS)  # of TensorFlow's own class
        self._add("results", 0, summary_pb2.Summary.FromString(end.SerializeToString()))

    def flush(self) -> dict[str, int]:
        """Bring everything to the disk; return the size of each event file by its path below the folder."""
        for run, file in self._files.items():
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise self._unwritten(self._folder / run, error) from error
            self._held[Path(file.name).relative_to(self._folder).as_posix()] = file.tell()
        return dict(self._held)

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
        """Begin a run's event file with a START, upon which TensorBoard drops what it has read of this step and later ones."""
        if run in self._files:
            return
        folder = self._folder / run
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = [
                int(path.name.removeprefix(PREFIX).split(".")[0]) + 1
                for path in folder.glob(PREFIX + "*")
            ]
            seconds = max(
                [int(time.time()), *there]
            )  # after those that are kept, however soon the training goes on
            name = f"{PREFIX}{seconds:010d}.{socket.gethostname()}.{os.getpid()}.{next(_created)}"
            self._files[run] = open(folder / name, "xb")  # noqa: SIM115 (it stays open)
        except OSError as error:
            raise self._unwritten(folder, error) from error
        self._write(run, event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(run, event_pb2.Event(wall_time=time.time(), step=step, session_log=start))

    def _write(self, run: str, event: event_pb2.Event) -> None:
        try:
            RecordWriter(self._files[run]).write(event.SerializeToString(deterministic=True))
        except OSError as error:
            raise self._unwritten(self._folder / run, error) from error

    def _unwritten(self, folder: Path, error: OSError) -> InputError:
        for file in self._files.values():
            file.raw.close()  # what it holds cannot be written, and must not be tried again when the process ends
        self._files = {}
        return InputError(
            f"{folder}: {error.strerror or error}; the events cannot be written: make room, and the same command goes on"
        )


def _flat(document: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the value of every entry, as a Markdown table takes them."""
    if isinstance(document, Mapping) and document:
        for key, value in document.items():
            yield from _flat(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, json.dumps(document, default=str).replace("|", "\\|")


def _image_pb(tag: str, picture: Image.Image) -> summary_pb2.Summary:
    strings = [str(picture.width).encode(), str(picture.height).encode(), png(picture)]
    metadata = create_summary_metadata(display_name=None, description=None)
    tensor = make_tensor_proto(strings, dtype=types_pb2.DT_STRING, shape=(3,))
    return summary_pb2.Summary(
        value=[summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]
    )


LARGEST_SPRITE = 8192
"""Pixels a side that the embedding projector takes."""

CELL = 80
"""Pixels a side of a cell of the confusion matrix."""


def png(picture: np.ndarray | Image.Image) -> bytes:
    """Return a picture, uint8 [height, width, 3] where it is an array, as PNG."""
    file = io.BytesIO()
    (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, "PNG")
    return file.getvalue()


def draw_confusion(counts: np.ndarray, names: Sequence[str], *, title: str) -> Image.Image:
    """Draw a confusion matrix: in each cell the count and its share of the row, the darker the larger.

    Args:
        counts: int [classes, classes]; rows are the truth, columns the answers.
        names: The names of the classes.
        title: What stands above.
    """
    font, small = ImageFont.load_default(23), ImageFont.load_default(16)
    left, top = 26 + int(max(small.getlength(name) for name in names)), 74
    width = max(left + CELL * len(names) + 12, 24 + int(small.getlength(title)))
    image = Image.new("RGB", (width, top + CELL * len(names) + 12), "white")
    draw = ImageDraw.Draw(image)
    draw.text((12, 10), title, "black", small)
    draw.text((left + CELL * len(names) / 2, 42), "answer", "#606060", small, anchor="mm")
    draw.text((left - 10, 60), "truth", "#606060", small, anchor="rm")
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


def sprite(shown: np.ndarray) -> tuple[np.ndarray, int]:
    """Put pictures into one square, row by row; they are halved until it is at most LARGEST_SPRITE a side.

    Args:
        shown: uint8 [pictures, side, side, 3].

    Returns:
        uint8 [rows * side, columns * side, 3], and the side that the pictures have in it.
    """
    columns = math.ceil(math.sqrt(len(shown)))
    while columns * shown.shape[1] > LARGEST_SPRITE:
        count, side = shown.shape[0], shown.shape[1] // 2
        shown = shown.reshape(count, side, 2, side, 2, 3).mean(axis=(2, 4)).astype(np.uint8)
    side = shown.shape[1]
    whole = np.zeros((columns * columns, side, side, 3), np.uint8)
    whole[: len(shown)] = shown
    return whole.reshape(columns, columns, side, side, 3).swapaxes(1, 2).reshape(
        columns * side, columns * side, 3
    ), side
