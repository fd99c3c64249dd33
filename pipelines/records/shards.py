"""Shards: the frames of a TFRecord file, the checksum of a file, and where damage begins."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from pipelines.core.errors import DataError
from pipelines.core.files import file_sha256

LENGTH_BYTES, CHECKSUM_BYTES = 8, 4


class Buffer(Protocol):
    """Bytes that can be sliced: bytes, a memoryview, or a file mapped into memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> Any: ...


class RecordFrame(NamedTuple):
    """The place of one record in a TFRecord file."""

    offset: int
    """The byte where the record begins."""
    data: slice
    """The bytes of the record itself; `buffer[frame.data]` reads them."""
    end: int
    """The byte where the next record begins."""


def iterate_tfrecord(buffer: Buffer) -> Iterator[RecordFrame]:
    """Yield the place of each record, without reading the data of the records.

    A record is framed as uint64 length, uint32 masked CRC-32C of the length, byte data[length],
    uint32 masked CRC-32C of the data; the numbers are little-endian. Source: TensorFlow, "TFRecord
    and tf.train.Example", section "TFRecords format details". The checksums are not verified here:
    the manifest holds a checksum of the whole file.

    Args:
        buffer: The bytes of a TFRecord file.

    Raises:
        DataError: A record reaches beyond the end of the file; the message names the byte where the
            record begins.
    """
    offset = 0
    while offset < len(buffer):
        length = buffer[offset : offset + LENGTH_BYTES]
        start = offset + LENGTH_BYTES + CHECKSUM_BYTES
        stop = start + int.from_bytes(length, "little")
        if stop + CHECKSUM_BYTES > len(buffer):
            raise DataError(f"no whole record at byte {offset}")
        yield RecordFrame(offset, slice(start, stop), stop + CHECKSUM_BYTES)
        offset = stop + CHECKSUM_BYTES


def check_shard(path: Path, shard: Mapping[str, Any]) -> None:
    """Compare the size and the checksum of a shard with its row of the manifest.

    Raises:
        DataError: The shard is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path}: missing; build the set again")
    size = path.stat().st_size
    if size != shard["bytes"]:
        difference = f"{size} bytes, expected {shard['bytes']}"
    elif file_sha256(path) != shard["sha256"]:
        difference = "its checksum is not the manifest's"
    else:
        return
    raise DataError(f"{path}: damaged: {first_damage(path)} ({difference}); build the set again")


def first_damage(path: Path) -> str:
    """Return a text about the place where the damage of a shard begins."""
    count = 0
    try:
        for _ in tf.data.TFRecordDataset([str(path)]):
            count += 1
    except tf.errors.OpError:
        return f"record {count} at byte {_offset(path, count)} cannot be read"
    return f"all {count} records can be read, but they are not the records that the build wrote"


def _offset(path: Path, number: int) -> int:
    """Return the byte where a record begins that comes after `number` whole records."""
    offset = 0
    for frame in itertools.islice(iterate_tfrecord(path.read_bytes()), number):
        offset = frame.end
    return offset
