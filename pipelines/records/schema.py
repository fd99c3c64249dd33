"""The schema of records: the features of a clip in a TFRecord.

`FEATURES` is the one definition. `serialise` writes records, `deserialise` reads them as NumPy
arrays, and `parse` reads them inside a TensorFlow graph; all three derive from it.

A set is the folder `OUT/NAME/DOMAIN/`: numbered shards, `manifest.json`, `report.json`. Nothing in
the manifest depends on the time, the load of the machine or the place of the folder.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from pipelines.core.errors import DataError
from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip

SCHEMA = 1
"""The version of the schema. Raise it whenever older records can no longer be read."""

NAMES = ("id", "corpus", "domain", "speaker", "emotion", "utterance", "sentence", "take", "split")
"""The names of a clip that its record holds."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record."""

    kind: str
    """`text` (UTF-8), `integer` (int64) or `array` (the raw bytes of a little-endian array)."""
    domain: str = ""
    """The domain whose records hold the feature; empty: every domain."""
    dtype: np.dtype | None = None
    """The type of an array's items."""
    item_shape: tuple[str | int, ...] = ()
    """The sides of an array after its first side. A text names a field of the spec."""
    required: bool = True
    """Whether every record of the domain holds the feature. A missing array is read as empty."""

    def shape(self, spec: Spec) -> tuple[int, ...]:
        """Return the shape of an array; its first side is -1, because the data give it."""
        sides = (getattr(spec, side) if isinstance(side, str) else side for side in self.item_shape)
        return (-1, *sides)


FEATURES: dict[str, Feature] = {
    **{name: Feature("text") for name in NAMES},
    # The part of a long utterance, from 0.
    "part": Feature("integer"),
    # The faces of a clip in the order of time.
    "faces": Feature("array", "visual", np.dtype("u1"), ("face_size", "face_size", 3)),
    # The static log-Mel in dB, [frames, mel_filters].
    "log_mel": Feature("array", "audio", np.dtype("<f4"), ("mel_filters",)),
    # The sound at the spec's rate, [samples]; only sets that were built with `--waveform` hold it.
    "pcm": Feature("array", "audio", np.dtype("<i2"), required=False),
}
"""Every feature of a record, by its name in the TFRecord."""


def features_of(domain: str) -> dict[str, Feature]:
    """Return the features of a domain's records.

    >>> list(features_of("audio"))[-3:]
    ['part', 'log_mel', 'pcm']
    """
    return {name: feature for name, feature in FEATURES.items() if feature.domain in ("", domain)}


def serialise(clip: Clip, *, part: int = 0, **arrays: np.ndarray | None) -> bytes:
    """Return the record of one clip, or of one part of a clip, in one domain.

    Args:
        clip: The clip. The record holds its `NAMES`.
        part: The number of the part of a long utterance, from 0.
        **arrays: The arrays of the record by the names of `FEATURES`: `faces`, uint8 [n, face_size,
            face_size, 3]; `log_mel`, float32 [frames, mel_filters] static in dB; `pcm`, int16
            [samples]. None: the record does not hold the array.
    """
    features = {name: _bytes(getattr(clip, name).encode()) for name in NAMES}
    features["part"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[part]))
    for name, array in arrays.items():
        if array is not None:
            features[name] = _bytes(np.ascontiguousarray(array, FEATURES[name].dtype).tobytes())
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def deserialise(
    serialised: bytes | memoryview, *, domain: str, spec: Spec = Spec()
) -> dict[str, Any]:
    """Return the stored features of one record.

    A record is read here without tf.data, which takes twice as long to parse records of faces one
    by one.

    Args:
        serialised: The record.
        domain: `visual` or `audio`.
        spec: The spec that the set was built with.

    Returns:
        The clip's names (UTF-8 bytes), `part` (int) and the arrays of the domain, read-only:
        `faces`, uint8 [n, face_size, face_size, 3]; or `log_mel`, float32 [frames, mel_filters],
        static in dB, and `pcm`, int16 [samples], empty if the record does not hold the sound.

    Raises:
        DataError: The bytes are not a record of this schema.
    """
    try:
        stored = tf.train.Example.FromString(serialised).features.feature
        return {
            name: _value(feature, stored, name, spec)
            for name, feature in features_of(domain).items()
        }
    except (DecodeError, KeyError, IndexError, ValueError) as error:
        raise DataError("the bytes are not a record of this schema") from error


def _value(feature: Feature, stored: Mapping[str, tf.train.Feature], name: str, spec: Spec) -> Any:
    if name not in stored:  # the map of protobuf makes a missing entry when it is looked up
        if feature.required:
            raise KeyError(name)
        return np.zeros(0, feature.dtype).reshape(feature.shape(spec))
    if feature.kind == "integer":
        return stored[name].int64_list.value[0]
    value = stored[name].bytes_list.value[0]
    if feature.kind == "text":
        return value
    return np.frombuffer(value, feature.dtype).reshape(feature.shape(spec))


def parse(serialised: tf.Tensor, *, domain: str, spec: Spec = Spec()) -> dict[str, tf.Tensor]:
    """Return the stored features of one record inside a graph, such as that of `Dataset.map`.

    Args:
        serialised: A scalar string.
        domain: `visual` or `audio`.
        spec: The spec that the set was built with.

    Returns:
        What `deserialise` returns, as tensors: names as scalar strings, `part` as int64.
    """
    features = features_of(domain)
    expected = {
        name: tf.io.FixedLenFeature(
            [],
            tf.int64 if feature.kind == "integer" else tf.string,
            None if feature.required else "",
        )
        for name, feature in features.items()
    }
    record = tf.io.parse_single_example(serialised, expected)
    for name, feature in features.items():
        if feature.kind == "array":
            array = tf.io.decode_raw(record[name], tf.as_dtype(feature.dtype))
            record[name] = tf.reshape(array, feature.shape(spec))
    return record


def item_count(record: Mapping[str, Any], spec: Spec) -> int:
    """Return how many items for the network a record gives: faces, or segments, also pauses."""
    return len(record["faces"]) if "faces" in record else spec.segment_count(len(record["log_mel"]))
