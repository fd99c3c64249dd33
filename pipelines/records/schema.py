"""The schema of records: the features of a clip in a TFRecord.

A set is the folder `OUT/NAME/DOMAIN/`: numbered shards, `manifest.json`, `report.json`. Nothing in the manifest depends on
time, load or the place of the folder.
"""

import numpy as np
import tensorflow as tf

from pipelines.core.spec import Spec
from pipelines.corpora.clip import Clip
from pipelines.features import log_mel as log_mel_module

SCHEMA = 1
"""Raised whenever a record of before can no longer be read."""

NAMES = ("id", "corpus", "domain", "speaker", "emotion", "utterance", "sentence", "take", "split")
"""The names of a clip that its record holds, as UTF-8."""

FEATURES = {
    **{name: tf.io.FixedLenFeature([], tf.string) for name in NAMES},
    "part": tf.io.FixedLenFeature([], tf.int64),  # of a long utterance, from 0
    "faces": tf.io.FixedLenFeature([], tf.string, ""),  # uint8 [n, face_size, face_size, 3]
    "log_mel": tf.io.FixedLenFeature(
        [], tf.string, ""
    ),  # little-endian float32 [frames, mel_filters], static
    "pcm": tf.io.FixedLenFeature(
        [], tf.string, ""
    ),  # little-endian int16 [samples] at the spec's rate, on request
}
"""What a record holds, and how tensorflow is to parse it."""


def serialise(
    clip: Clip,
    *,
    part: int = 0,
    faces: np.ndarray | None = None,
    log_mel: np.ndarray | None = None,
    pcm: np.ndarray | None = None,
) -> bytes:
    """Return the record of one clip (or of one part of it) in one domain.

    Args:
        clip: Whose names are stored.
        part: Which part of a long utterance this is.
        faces: uint8 [n, face_size, face_size, 3], for a visual clip.
        log_mel: float32 [frames, mel_filters] static log-Mel in dB, for an audio clip.
        pcm: int16 [samples], the sound itself.
    """
    feature = {name: _bytes(getattr(clip, name).encode()) for name in NAMES}
    feature["part"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[part]))
    for name, array, dtype in (
        ("faces", faces, "u1"),
        ("log_mel", log_mel, "<f4"),
        ("pcm", pcm, "<i2"),
    ):
        if array is not None:
            feature[name] = _bytes(np.ascontiguousarray(array, dtype).tobytes())
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(
        deterministic=True
    )


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def parse(serialised: tf.Tensor, *, domain: str, spec: Spec = Spec()) -> dict[str, tf.Tensor]:
    """Parse one record.

    Args:
        serialised: A scalar string.
        domain: `visual` or `audio`.
        spec: The spec that the set was built with.

    Returns:
        The clip's names (scalar strings), `part` (int64) and `inputs`: uint8 [n, 64, 64, 3] faces, or float32
        [n, 64, 64, 3] segments with deltas; for audio also `log_mel` (float32 [frames, 64], static) and `pcm` (int16
        [samples], empty unless it was stored).
    """
    parsed = tf.io.parse_single_example(serialised, FEATURES)
    record = {name: parsed[name] for name in (*NAMES, "part")}
    if domain == "visual":
        pixels = tf.io.decode_raw(parsed["faces"], tf.uint8)
        return record | {"inputs": tf.reshape(pixels, [-1, spec.face_size, spec.face_size, 3])}
    static = tf.reshape(tf.io.decode_raw(parsed["log_mel"], tf.float32), [-1, spec.mel_filters])
    return record | {
        "inputs": log_mel_module.segments(static, spec=spec),
        "log_mel": static,
        "pcm": tf.io.decode_raw(parsed["pcm"], tf.int16),
    }
