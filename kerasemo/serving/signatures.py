"""The signatures of an exported model: what each takes and returns.

To add a signature, write an entry here and the method that computes it in
`kerasemo.exporting.graph`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from pipelines.core.spec import Spec

LABELS = "labels"
"""A size of a shape: the number of labels of the model."""

PROBABILITIES = ("probabilities", "labels", "emotion")
EMBEDDING = ("embedding",)


@dataclasses.dataclass(frozen=True)
class SignatureInput:
    """An input tensor of a signature.

    Attributes:
        name: The name of the input.
        dtype: The name of a TensorFlow dtype.
        shape: The sizes; None: any size, LABELS: the number of labels.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]

    def shape_for(self, n_labels: int) -> list[int | None]:
        """Return the shape for a model with `n_labels` labels."""
        return [n_labels if isinstance(size, str) else size for size in self.shape]


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature of a SavedModel.

    Attributes:
        name: The name of the signature.
        domain: The domain that the network must be trained on.
        inputs: The input tensors.
        outputs: The names of the outputs.
        input_text: A description of the inputs for the model card and for errors.
        output_text: A description of the outputs for the model card.
    """

    name: str
    domain: str
    inputs: tuple[SignatureInput, ...]
    outputs: tuple[str, ...]
    input_text: str
    output_text: str

    @property
    def needs_head(self) -> bool:
        """Whether the head of the network must be trained."""
        return self.outputs != EMBEDDING


_SPEC = Spec()
_FACES = SignatureInput("faces", "uint8", (None, _SPEC.face_size, _SPEC.face_size, 3))
_FACE_BYTES = SignatureInput("face_bytes", "string", (None,))
_WAVEFORM = SignatureInput("waveform", "float32", (None, None))
_WAV_BYTES = SignatureInput("wav_bytes", "string", (None,))
_LENGTHS = SignatureInput("lengths", "int32", (None,))
_MASK = SignatureInput("mask", "float32", (None, LABELS))
_SEGMENTS = SignatureInput(
    "segments", "float32", (None, _SPEC.mel_filters, _SPEC.segment_frames, 3)
)

_PROBABILITIES_TEXT = ", ".join(PROBABILITIES)

_ALL: Sequence[Signature] = (
    Signature(
        "faces",
        "visual",
        (_FACES,),
        PROBABILITIES,
        "faces uint8 [n, 64, 64, 3], RGB crops of faces",
        _PROBABILITIES_TEXT,
    ),
    Signature(
        "face_bytes",
        "visual",
        (_FACE_BYTES,),
        PROBABILITIES,
        "face_bytes [n], JPEG or PNG files of such crops, of any size",
        _PROBABILITIES_TEXT,
    ),
    Signature(
        "faces_masked",
        "visual",
        (_FACES, _MASK),
        PROBABILITIES,
        "faces, and mask float32 [n, labels]: 1 for what can be answered",
        _PROBABILITIES_TEXT,
    ),
    Signature(
        "embed_faces",
        "visual",
        (_FACES,),
        EMBEDDING,
        "faces",
        "embedding float32 [n, size], of unit length",
    ),
    Signature(
        "speech",
        "audio",
        (_WAVEFORM,),
        PROBABILITIES,
        "waveform float32 [batch, samples] in [-1, 1], 16 kHz, mono, 32 ms to 10 min",
        _PROBABILITIES_TEXT,
    ),
    Signature(
        "wav_bytes",
        "audio",
        (_WAV_BYTES,),
        PROBABILITIES,
        "wav_bytes [batch], WAV files, 16 kHz, mono, 16-bit",
        _PROBABILITIES_TEXT,
    ),
    Signature(
        "speech_masked",
        "audio",
        (_WAVEFORM, _LENGTHS, _MASK),
        PROBABILITIES,
        "waveform, lengths int32 [batch] in samples, mask float32 [batch, labels]",
        _PROBABILITIES_TEXT,
    ),
    Signature(
        "embed_speech",
        "audio",
        (_WAVEFORM,),
        EMBEDDING,
        "waveform",
        "embedding float32 [batch, size], of unit length",
    ),
    Signature(
        "segments",
        "audio",
        (_SEGMENTS,),
        PROBABILITIES,
        "segments float32 [n, 64, 64, 3]: log-Mel (dB), delta, delta-delta",
        _PROBABILITIES_TEXT,
    ),
    Signature(
        "embed_segments",
        "audio",
        (_SEGMENTS,),
        EMBEDDING,
        "segments",
        "embedding float32 [n, size], of unit length",
    ),
    Signature(
        "timeline",
        "audio",
        (_WAVEFORM,),
        ("probabilities", "starts", "weights"),
        "waveform float32 [batch, samples], at most 60 s",
        "probabilities [batch, segments, labels], starts in seconds, weights",
    ),
)

SIGNATURES: Mapping[str, Signature] = {signature.name: signature for signature in _ALL}
"""Every signature by its name, in the order of a bundle's document; the first is the default."""

ITEM_SIGNATURES = {"visual": "faces", "audio": "segments"}
"""Domain -> the signature of single faces or segments. Its input has the same name."""
EMBEDDING_SIGNATURES = {"visual": "embed_faces", "audio": "embed_segments"}
"""Domain -> the signature of the embeddings of single faces or segments."""
