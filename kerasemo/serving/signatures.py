"""The table of export signatures: names, inputs, outputs and domains.

Every other list of signatures derives from this table: the exported graph, the parity check, the
checks of requests, the client and the model card. To add a signature, write an entry here and the
method that computes it in `kerasemo.exporting.graph`.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pipelines.core.errors import InputError
from pipelines.core.spec import Spec

FORMATS = ("saved_model", "onnx", "litert")
"""The formats of bundles; the first is the default."""
LABELS = "labels"
"""A size of a shape: the number of labels of the model."""

MAX_SOUND_SECONDS = 600
"""The longest sound of a request, if its signature sets no other limit."""


@dataclasses.dataclass(frozen=True)
class SignatureTensor:
    """An input or output tensor of a signature.

    Attributes:
        name: The name of the tensor.
        dtype: The name of a TensorFlow dtype.
        axes: The sizes; a name such as `batch`: any size, LABELS: the number of labels.
        note: What holds for the values.
    """

    name: str
    dtype: str
    axes: tuple[int | str, ...]
    note: str = ""

    def shape_for(self, n_labels: int) -> list[int | None]:
        """Return the shape for a model with `n_labels` labels; None: any size."""
        sizes: dict[int | str, int | None] = {LABELS: n_labels}
        return [axis if isinstance(axis, int) else sizes.get(axis) for axis in self.axes]

    def describe(self) -> str:
        """Return dtype, shape and note, such as `float32 [n, labels] of 0 and 1`."""
        shape = f"{self.dtype} [{', '.join(map(str, self.axes))}]"
        return f"{shape} {self.note}" if self.note else shape


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature of an exported model.

    Attributes:
        name: The name of the signature.
        domain: The domain that the network must be trained on.
        inputs: The input tensors, in the order of the arguments of the graph's method.
        outputs: The output tensors.
        input_text: A description of the inputs for the model card.
        output_text: A description of the outputs for the model card; empty: their names.
        formats: The formats of bundles that have the signature.
        max_seconds: The longest sound of a row; None for other inputs.
        suffixes: The suffixes of files with the bytes of an input.
    """

    name: str
    domain: str
    inputs: tuple[SignatureTensor, ...]
    outputs: tuple[SignatureTensor, ...]
    input_text: str = ""
    output_text: str = ""
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
        """Whether the head of the network must be trained."""
        return "probabilities" in self.output_names

    def describe_inputs(self) -> str:
        """Return the inputs with dtypes, shapes and limits, for the message of an error."""
        inputs = ", ".join(f"{tensor.name} {tensor.describe()}" for tensor in self.inputs)
        return f"{inputs}, at most {self.max_seconds:g} s" if self.max_seconds else inputs

    def describe_outputs(self) -> str:
        """Return the outputs for the model card."""
        return self.output_text or ", ".join(self.output_names)

    def to_json(self, n_labels: int) -> dict[str, Any]:
        """Return `{"inputs": {name: [dtype, shape]}, "outputs": ...}`; null: any size."""
        return {
            side: {tensor.name: [tensor.dtype, tensor.shape_for(n_labels)] for tensor in tensors}
            for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs))
        }


_SPEC = Spec()
_PCM = f"{_SPEC.sample_rate_hz} Hz, mono, 16-bit PCM"
FACES = SignatureTensor("faces", "uint8", ("n", _SPEC.face_size, _SPEC.face_size, 3))
SEGMENTS = SignatureTensor("segments", "float32", ("n", _SPEC.mel_filters, _SPEC.segment_frames, 3))
WAVEFORM = SignatureTensor(
    "waveform", "float32", ("batch", "samples"), f"in [-1, 1] at {_SPEC.sample_rate_hz} Hz"
)
_FACE_BYTES = SignatureTensor("face_bytes", "string", ("n",), "of whole JPEG or PNG files")
_WAV_BYTES = SignatureTensor("wav_bytes", "string", ("batch",), f"of whole WAV files of {_PCM}")
_LENGTHS = SignatureTensor("lengths", "int32", ("batch",), "in samples")
_ONE_WAVEFORM = SignatureTensor("waveform", "float32", ("samples",), WAVEFORM.note)


def _mask(rows: str) -> SignatureTensor:
    return SignatureTensor("mask", "float32", (rows, LABELS), "of 0 and 1")


def _prediction(rows: str) -> tuple[SignatureTensor, ...]:
    return (
        SignatureTensor("probabilities", "float32", (rows, LABELS)),
        SignatureTensor("labels", "string", (rows, LABELS)),
        SignatureTensor("emotion", "string", (rows,)),
    )


def _embedding(rows: str) -> tuple[SignatureTensor, ...]:
    return (SignatureTensor("embedding", "float32", (rows, "size"), "of unit length"),)


def _portable_prediction(*rows: str) -> tuple[SignatureTensor, ...]:
    """Return the outputs of formats without errors; `valid` is false for a refused input."""
    return (
        SignatureTensor("probabilities", "float32", (*rows, LABELS)),
        SignatureTensor("valid", "bool", rows),
    )


ALL_SIGNATURES: Sequence[Signature] = (
    Signature(
        "faces",
        "visual",
        (FACES,),
        _prediction("n"),
        "faces uint8 [n, 64, 64, 3], RGB crops of faces",
    ),
    Signature(
        "face_bytes",
        "visual",
        (_FACE_BYTES,),
        _prediction("n"),
        "face_bytes [n], JPEG or PNG files of such crops, of any size",
        suffixes=(".jpg", ".jpeg", ".png"),
    ),
    Signature(
        "faces_masked",
        "visual",
        (FACES, _mask("n")),
        _prediction("n"),
        "faces, and mask float32 [n, labels]: 1 for what can be answered",
    ),
    Signature(
        "embed_faces",
        "visual",
        (FACES,),
        _embedding("n"),
        "faces",
        "embedding float32 [n, size], of unit length",
    ),
    Signature(
        "speech",
        "audio",
        (WAVEFORM,),
        _prediction("batch"),
        "waveform float32 [batch, samples] in [-1, 1], 16 kHz, mono, 32 ms to 10 min",
        max_seconds=MAX_SOUND_SECONDS,
    ),
    Signature(
        "wav_bytes",
        "audio",
        (_WAV_BYTES,),
        _prediction("batch"),
        "wav_bytes [batch], WAV files, 16 kHz, mono, 16-bit",
        max_seconds=MAX_SOUND_SECONDS,
        suffixes=(".wav",),
    ),
    Signature(
        "speech_masked",
        "audio",
        (WAVEFORM, _LENGTHS, _mask("batch")),
        _prediction("batch"),
        "waveform, lengths int32 [batch] in samples, mask float32 [batch, labels]",
        max_seconds=MAX_SOUND_SECONDS,
    ),
    Signature(
        "embed_speech",
        "audio",
        (WAVEFORM,),
        _embedding("batch"),
        "waveform",
        "embedding float32 [batch, size], of unit length",
        max_seconds=MAX_SOUND_SECONDS,
    ),
    Signature(
        "segments",
        "audio",
        (SEGMENTS,),
        _prediction("n"),
        "segments float32 [n, 64, 64, 3]: log-Mel (dB), delta, delta-delta",
    ),
    Signature(
        "embed_segments",
        "audio",
        (SEGMENTS,),
        _embedding("n"),
        "segments",
        "embedding float32 [n, size], of unit length",
    ),
    Signature(
        "timeline",
        "audio",
        (WAVEFORM,),
        (
            SignatureTensor("probabilities", "float32", ("batch", "segments", LABELS)),
            SignatureTensor("starts", "float32", ("batch", "segments"), "in seconds"),
            SignatureTensor("weights", "float32", ("batch", "segments"), "of 0 and 1"),
        ),
        "waveform float32 [batch, samples], at most 60 s",
        "probabilities [batch, segments, labels], starts in seconds, weights",
        max_seconds=_SPEC.part_seconds,
    ),
    Signature("faces", "visual", (FACES,), _portable_prediction("n"), formats=("onnx", "litert")),
    Signature(
        "segments", "audio", (SEGMENTS,), _portable_prediction("n"), formats=("onnx", "litert")
    ),
    Signature(
        "speech",
        "audio",
        (_ONE_WAVEFORM,),
        _portable_prediction(),
        formats=("litert",),
        max_seconds=_SPEC.part_seconds,
    ),
)
"""The table: the signatures of all formats, in the order of a bundle's document."""


def select_signatures(
    format: str, *, domains: Collection[str], has_head: bool = True
) -> dict[str, Signature]:
    """Return the signatures of an exported model by name, in the order of a bundle's document.

    Args:
        format: `saved_model`, `onnx` or `litert`.
        domains: The domains that the network was trained on.
        has_head: Whether the head was trained; if not, there are only signatures of embeddings.

    >>> list(select_signatures("onnx", domains=["visual"]))
    ['faces']
    """
    return {
        signature.name: signature
        for signature in ALL_SIGNATURES
        if format in signature.formats
        and signature.domain in domains
        and (has_head or not signature.needs_head)
    }


SIGNATURES: Mapping[str, Signature] = {
    signature.name: signature for signature in ALL_SIGNATURES if "saved_model" in signature.formats
}
"""Every signature of a SavedModel by its name, in the order of a bundle's document.

The first is the default.
"""


def _signatures_of_items(*, needs_head: bool) -> dict[str, str]:
    """Return for each domain the signature whose only input is the items of the network."""
    return {
        signature.domain: signature.name
        for signature in SIGNATURES.values()
        if signature.inputs in ((FACES,), (SEGMENTS,)) and signature.needs_head == needs_head
    }


ITEM_SIGNATURES = _signatures_of_items(needs_head=True)
"""Domain -> the signature of single faces or segments. Its input has the same name."""
EMBEDDING_SIGNATURES = _signatures_of_items(needs_head=False)
"""Domain -> the signature of the embeddings of single faces or segments."""


def find_signature(name: str) -> Signature:
    """Return the signature of a SavedModel by its name.

    Raises:
        InputError: No signature has this name.
    """
    if name not in SIGNATURES:
        raise InputError(f"signature must be one of {', '.join(SIGNATURES)}; received {name!r}")
    return SIGNATURES[name]


def file_signature(suffix: str) -> Signature | None:
    """Return the signature for the bytes of files with a suffix, or None.

    >>> file_signature(".WAV").name
    'wav_bytes'
    """
    for signature in SIGNATURES.values():
        if suffix.lower() in signature.suffixes:
            return signature
    return None
