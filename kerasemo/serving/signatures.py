"""The table of export signatures: names, inputs, outputs and domains.

Every other list of signatures derives from `SIGNATURES`: the exported graph, the parity check, the
checks of requests, the client and the model card.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

from pipelines.core.errors import InputError
from pipelines.core.spec import Spec

BUNDLE_FORMATS = ("saved_model", "onnx", "litert")
"""The formats of exported models; the first is the default."""
MAX_SOUND_SECONDS = 600
"""Sound of a request may last this long where a signature sets no other limit."""

OPEN_AXES = ("n", "batch", "samples", "segments", "size")
"""Axes of any size: rows, rows of sound, samples, segments of a clip, numbers of an embedding."""
LABEL_AXIS = "labels"
"""The axis with an entry for each label of the model."""


@dataclasses.dataclass(frozen=True)
class TensorFormat:
    """An input or output of a signature.

    Attributes:
        name: The name in requests and responses.
        dtype: The TensorFlow name of the dtype, such as `float32` or `string`.
        axes: For each axis a number, a name of `OPEN_AXES`, `LABEL_AXIS`, or a field of `Spec`.
        note: What holds for the values, in words.
    """

    name: str
    dtype: str
    axes: tuple[str | int, ...]
    note: str = ""

    def shape(self, *, spec: Spec, n_labels: int) -> list[int | None]:
        """Return the size of each axis; None means any size."""
        return [_axis_size(axis, spec, n_labels) for axis in self.axes]

    def describe_type(self) -> str:
        """Return dtype and shape in words, such as `uint8 [n, 64, 64, 3]`."""
        sizes = [
            axis if axis in (*OPEN_AXES, LABEL_AXIS) else _axis_size(axis, Spec(), 0)
            for axis in self.axes
        ]
        return f"{self.dtype} [{', '.join(map(str, sizes))}]"

    def describe(self) -> str:
        """Return dtype, shape and note in words."""
        return self.describe_type() + (f" {self.note}" if self.note else "")


def _axis_size(axis: str | int, spec: Spec, n_labels: int) -> int | None:
    if isinstance(axis, int):
        return axis
    if axis == LABEL_AXIS:
        return n_labels
    return None if axis in OPEN_AXES else getattr(spec, axis)


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of an exported model.

    Attributes:
        name: The name in requests.
        domain: The domain of its inputs; a model without the domain lacks the signature.
        inputs: Its inputs, in the order of the graph's arguments.
        outputs: Its outputs.
        card_inputs: The inputs in the words of the model card.
        card_outputs: The outputs in the words of the model card; empty for their names alone.
        formats: The bundle formats that have the signature.
        max_seconds: How long the sound of a row may be; None for other inputs.
        suffixes: Suffixes of files whose bytes are an input.
    """

    name: str
    domain: str
    inputs: tuple[TensorFormat, ...]
    outputs: tuple[TensorFormat, ...]
    card_inputs: str = ""
    card_outputs: str = ""
    formats: tuple[str, ...] = ("saved_model",)
    max_seconds: float | None = None
    suffixes: tuple[str, ...] = ()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return tuple(tensor.name for tensor in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(tensor.name for tensor in self.outputs)

    @property
    def needs_head(self) -> bool:
        """Whether the outputs come from the head, which a contrastive stage does not train."""
        return "probabilities" in self.output_names

    def to_json(self, *, spec: Spec, n_labels: int) -> dict[str, Any]:
        """Return `{"inputs": {name: [dtype, shape]}, "outputs": ...}`; null for any size."""
        return {
            side: {
                tensor.name: [tensor.dtype, tensor.shape(spec=spec, n_labels=n_labels)]
                for tensor in tensors
            }
            for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs))
        }

    def describe_outputs(self) -> str:
        """Return all outputs in the words of the model card."""
        return self.card_outputs or ", ".join(self.output_names)

    def describe_inputs(self) -> str:
        """Return all inputs in words, for the message about a request that a server rejected."""
        inputs = ", ".join(f"{tensor.name} {tensor.describe()}" for tensor in self.inputs)
        return inputs + (f", at most {self.max_seconds:g} s" if self.max_seconds else "")


FACES = TensorFormat("faces", "uint8", ("n", "face_size", "face_size", 3))
FACE_BYTES = TensorFormat("face_bytes", "string", ("n",), "of whole JPEG or PNG files")
SEGMENTS = TensorFormat("segments", "float32", ("n", "mel_filters", "segment_frames", 3))
WAVEFORM = TensorFormat(
    "waveform", "float32", ("batch", "samples"), f"in [-1, 1] at {Spec().sample_rate_hz} Hz"
)
WAV_BYTES = TensorFormat(
    "wav_bytes",
    "string",
    ("batch",),
    f"of whole WAV files of {Spec().sample_rate_hz} Hz, mono, 16-bit PCM",
)
LENGTHS = TensorFormat("lengths", "int32", ("batch",), "in samples")


def _mask(rows: str) -> TensorFormat:
    return TensorFormat("mask", "float32", (rows, LABEL_AXIS), "of 0 and 1")


def _prediction(rows: str) -> tuple[TensorFormat, ...]:
    return (
        TensorFormat("probabilities", "float32", (rows, LABEL_AXIS)),
        TensorFormat("labels", "string", (rows, LABEL_AXIS)),
        TensorFormat("emotion", "string", (rows,)),
    )


def _embedding(rows: str) -> tuple[TensorFormat, ...]:
    return (TensorFormat("embedding", "float32", (rows, "size"), "of unit length"),)


def _portable_prediction(*rows: str) -> tuple[TensorFormat, ...]:
    """Return the outputs of formats without errors: `valid` is false where an input is refused."""
    return (
        TensorFormat("probabilities", "float32", (*rows, LABEL_AXIS)),
        TensorFormat("valid", "bool", rows),
    )


SIGNATURES = (
    Signature(
        "faces",
        "visual",
        (FACES,),
        _prediction("n"),
        card_inputs="faces uint8 [n, 64, 64, 3], RGB crops of faces",
    ),
    Signature(
        "face_bytes",
        "visual",
        (FACE_BYTES,),
        _prediction("n"),
        card_inputs="face_bytes [n], JPEG or PNG files of such crops, of any size",
        suffixes=(".jpg", ".jpeg", ".png"),
    ),
    Signature(
        "faces_masked",
        "visual",
        (FACES, _mask("n")),
        _prediction("n"),
        card_inputs="faces, and mask float32 [n, labels]: 1 for what can be answered",
    ),
    Signature(
        "embed_faces",
        "visual",
        (FACES,),
        _embedding("n"),
        card_inputs="faces",
        card_outputs="embedding float32 [n, size], of unit length",
    ),
    Signature(
        "speech",
        "audio",
        (WAVEFORM,),
        _prediction("batch"),
        card_inputs="waveform float32 [batch, samples] in [-1, 1], 16 kHz, mono, 32 ms to 10 min",
        max_seconds=MAX_SOUND_SECONDS,
    ),
    Signature(
        "wav_bytes",
        "audio",
        (WAV_BYTES,),
        _prediction("batch"),
        card_inputs="wav_bytes [batch], WAV files, 16 kHz, mono, 16-bit",
        max_seconds=MAX_SOUND_SECONDS,
        suffixes=(".wav",),
    ),
    Signature(
        "speech_masked",
        "audio",
        (WAVEFORM, LENGTHS, _mask("batch")),
        _prediction("batch"),
        card_inputs="waveform, lengths int32 [batch] in samples, mask float32 [batch, labels]",
        max_seconds=MAX_SOUND_SECONDS,
    ),
    Signature(
        "embed_speech",
        "audio",
        (WAVEFORM,),
        _embedding("batch"),
        card_inputs="waveform",
        card_outputs="embedding float32 [batch, size], of unit length",
        max_seconds=MAX_SOUND_SECONDS,
    ),
    Signature(
        "segments",
        "audio",
        (SEGMENTS,),
        _prediction("n"),
        card_inputs="segments float32 [n, 64, 64, 3]: log-Mel (dB), delta, delta-delta",
    ),
    Signature(
        "embed_segments",
        "audio",
        (SEGMENTS,),
        _embedding("n"),
        card_inputs="segments",
        card_outputs="embedding float32 [n, size], of unit length",
    ),
    Signature(
        "timeline",
        "audio",
        (WAVEFORM,),
        (
            TensorFormat("probabilities", "float32", ("batch", "segments", LABEL_AXIS)),
            TensorFormat("starts", "float32", ("batch", "segments"), "in seconds"),
            TensorFormat("weights", "float32", ("batch", "segments"), "of 0 and 1"),
        ),
        card_inputs="waveform float32 [batch, samples], at most 60 s",
        card_outputs="probabilities [batch, segments, labels], starts in seconds, weights",
        max_seconds=Spec().part_seconds,
    ),
    Signature("faces", "visual", (FACES,), _portable_prediction("n"), formats=("onnx", "litert")),
    Signature(
        "segments", "audio", (SEGMENTS,), _portable_prediction("n"), formats=("onnx", "litert")
    ),
    Signature(
        "speech",
        "audio",
        (TensorFormat("waveform", "float32", ("samples",), WAVEFORM.note),),
        _portable_prediction(),
        formats=("litert",),
        max_seconds=Spec().part_seconds,
    ),
)
"""All signatures, in the order of the bundle's document and of the model card."""

SAVED_MODEL_SIGNATURES = {
    signature.name: signature for signature in SIGNATURES if "saved_model" in signature.formats
}
"""The signatures of a SavedModel by name."""


def select_signatures(
    format: str, *, domains: Collection[str], has_head: bool = True
) -> dict[str, Signature]:
    """Return the signatures of an exported model by name, in the order of the table.

    Args:
        format: One of `BUNDLE_FORMATS`.
        domains: The domains that the network was trained on.
        has_head: False for a network whose head was not trained: only embeddings remain.

    >>> list(select_signatures("onnx", domains=["visual"]))
    ['faces']
    """
    return {
        signature.name: signature
        for signature in SIGNATURES
        if format in signature.formats
        and signature.domain in domains
        and (has_head or not signature.needs_head)
    }


def find_signature(name: str) -> Signature:
    """Return the SavedModel signature of a name.

    Raises:
        InputError: The table has no such signature.
    """
    if name not in SAVED_MODEL_SIGNATURES:
        expected = ", ".join(SAVED_MODEL_SIGNATURES)
        raise InputError(f"signature must be one of {expected}; received {name!r}")
    return SAVED_MODEL_SIGNATURES[name]


def file_signature(suffix: str) -> Signature | None:
    """Return the signature that takes files with a suffix; None if no signature does.

    >>> file_signature(".WAV").name
    'wav_bytes'
    """
    for signature in SAVED_MODEL_SIGNATURES.values():
        if suffix.lower() in signature.suffixes:
            return signature
    return None
