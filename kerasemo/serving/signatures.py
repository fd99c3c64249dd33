"""The signatures of an exported model: inputs and outputs in words."""

from pipelines.core.spec import Spec

SIGNATURES = {
    "faces": ("faces uint8 [n, 64, 64, 3], RGB crops of faces", "probabilities, labels, emotion"),
    "face_bytes": (
        "face_bytes [n], JPEG or PNG files of such crops, of any size",
        "probabilities, labels, emotion",
    ),
    "faces_masked": (
        "faces, and mask float32 [n, labels]: 1 for what can be answered",
        "probabilities, labels, emotion",
    ),
    "embed_faces": ("faces", "embedding float32 [n, size], of unit length"),
    "speech": (
        "waveform float32 [batch, samples] in [-1, 1], 16 kHz, mono, 32 ms to 10 min",
        "probabilities, labels, emotion",
    ),
    "wav_bytes": (
        "wav_bytes [batch], WAV files, 16 kHz, mono, 16-bit",
        "probabilities, labels, emotion",
    ),
    "speech_masked": (
        "waveform, lengths int32 [batch] in samples, mask float32 [batch, labels]",
        "probabilities, labels, emotion",
    ),
    "embed_speech": ("waveform", "embedding float32 [batch, size], of unit length"),
    "segments": (
        "segments float32 [n, 64, 64, 3]: log-Mel (dB), delta, delta-delta",
        "probabilities, labels, emotion",
    ),
    "embed_segments": ("segments", "embedding float32 [n, size], of unit length"),
    "timeline": (
        "waveform float32 [batch, samples], at most 60 s",
        "probabilities [batch, segments, labels], starts in seconds, weights",
    ),
}
"""What each signature of a SavedModel takes, and what it gives."""

_SIZE = Spec().face_size
_FACES = f"faces uint8 [n, {_SIZE}, {_SIZE}, 3]"
_SEGMENTS = f"segments float32 [n, {Spec().mel_filters}, {Spec().segment_frames}, 3]"
_WAVEFORM = f"waveform float32 [batch, samples] in [-1, 1] at {Spec().sample_rate_hz} Hz"
_MASK = "mask float32 [n, labels] of 0 and 1"
TAKES = {
    "faces": _FACES,
    "face_bytes": "face_bytes, whole JPEG or PNG files",
    "faces_masked": f"{_FACES}, {_MASK}",
    "embed_faces": _FACES,
    "segments": _SEGMENTS,
    "embed_segments": _SEGMENTS,
    "speech": _WAVEFORM,
    "speech_masked": f"{_WAVEFORM}, lengths int32 [batch], {_MASK}",
    "embed_speech": _WAVEFORM,
    "timeline": f"{_WAVEFORM}, of at most {Spec().part_seconds:g} s",
    "wav_bytes": f"wav_bytes, whole WAV files of {Spec().sample_rate_hz} Hz, mono, 16-bit PCM",
}
"""What each signature is asked with, for those whom a server turned down."""
