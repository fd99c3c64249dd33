"""A few clips of a set as pictures: face crops and spectrograms, for its page."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow as tf

from pipelines import records, spectrogram
from pipelines.markup import data_uri, time_marks
from pipelines.spec import Spec, spaced_indices

LONGEST_SECONDS = 6.0
"""What is shown of a spectrogram."""

Row = Mapping[str, Any]


class Spectrogram(NamedTuple):
    """The picture of a log-Mel and where its axes have their marks, as shares of its width and height."""

    row: Row
    picture: str
    """A data URI; as wide as there are frames, as high as there are Mel filters."""
    hertz: tuple[tuple[int, float], ...]
    """(frequency, share of the height from below)."""
    seconds: tuple[tuple[float, float], ...]
    """(time, share of the width from the left)."""


def spread(rows: Sequence[Row], count: int) -> dict[str, list[Row]]:
    """Return at most `count` clips of each emotion, evenly spread over its speakers; each emotion starts with another one."""
    emotions = sorted({row["emotion"] for row in rows})
    chosen = {}
    for number, emotion in enumerate(emotions):
        own = sorted(
            (row for row in rows if row["emotion"] == emotion),
            key=lambda row: (row["speaker"], row["id"]),
        )
        shift = number * len(own) // (len(emotions) * min(count, len(own)))
        places = sorted((place + shift) % len(own) for place in spaced_indices(len(own), count))
        chosen[emotion] = [own[place] for place in places]
    return chosen


def crops(
    folder: Path, manifest: Mapping[str, Any], count: int
) -> dict[str, list[tuple[Row, str]]]:
    """Return for each emotion at most `count` clips, each with the middle one of its faces as a data URI."""
    chosen = spread(manifest["clips"], count)
    spec = records.spec_of(manifest)
    pictures = {
        row["id"]: _middle_face(serialised, spec)
        for row, serialised in _serialised(
            folder, manifest, [row for rows in chosen.values() for row in rows]
        )
    }
    return {
        emotion: [(row, pictures[row["id"]]) for row in rows] for emotion, rows in chosen.items()
    }


def spectrograms(folder: Path, manifest: Mapping[str, Any]) -> list[Spectrogram]:
    """Return the spectrogram of one clip of each emotion, sorted by emotion."""
    chosen = [rows[0] for rows in spread(manifest["clips"], 1).values()]
    spec = records.spec_of(manifest)
    drawn = [
        _spectrogram_of(row, serialised, spec)
        for row, serialised in _serialised(folder, manifest, chosen)
    ]
    return sorted(drawn, key=lambda one: one.row["emotion"])


def _middle_face(serialised: bytes, spec: Spec) -> str:
    faces = records.parse(serialised, domain="visual", spec=spec)[
        "inputs"
    ].numpy()  # [n, face_size, face_size, 3]
    face = cv2.cvtColor(faces[len(faces) // 2], cv2.COLOR_RGB2BGR)
    return data_uri(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 88])[1], "image/jpeg")


def _spectrogram_of(row: Row, serialised: bytes, spec: Spec) -> Spectrogram:
    feature = records.FEATURES["log_mel"]  # `parse` yields the segments that are made of it
    stored = tf.io.parse_single_example(serialised, {"log_mel": feature})["log_mel"].numpy()
    log_mel = np.frombuffer(stored, "<f4").reshape(-1, spec.mel_filters)  # [frames, mel_filters]
    log_mel = log_mel[: round(LONGEST_SECONDS / spec.hop_seconds)]
    length = len(log_mel) * spec.hop_seconds
    return Spectrogram(
        row, spectrogram.picture(log_mel), spectrogram.hertz_marks(spec), time_marks(length)
    )


def _serialised(
    folder: Path, manifest: Mapping[str, Any], rows: Sequence[Row]
) -> Iterator[tuple[Row, bytes]]:
    """Yield (row, its first record) for some rows of the manifest, in its order, without reading what lies between them."""
    wanted = {row["id"] for row in rows}
    place = dict.fromkeys(
        range(len(manifest["shards"])), 0
    )  # the number of the next clip's record, in each shard
    numbers: dict[int, dict[int, Row]] = {shard: {} for shard in place}
    for row in manifest["clips"]:
        if row["id"] in wanted:
            numbers[row["shard"]][place[row["shard"]]] = row
        place[row["shard"]] += row["records"]
    for shard, at in numbers.items():
        if at:
            path = folder / manifest["shards"][shard]["file"]
            with (
                open(path, "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            ):
                yield from (
                    (at[number], payload) for number, payload in _payloads(mapped, at.keys())
                )


def _payloads(mapped: mmap.mmap, numbers) -> Iterator[tuple[int, bytes]]:
    """Yield (number, data) of some records of a shard: 8 bytes of length, 4 of checksum, the data, 4 of checksum."""
    offset = 0
    for number in range(max(numbers) + 1):
        length = int.from_bytes(mapped[offset : offset + 8], "little")
        if number in numbers:
            yield number, mapped[offset + 12 : offset + 12 + length]
        offset += 12 + length + 4
