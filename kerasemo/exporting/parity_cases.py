"""Calls that compare an exported model with the Keras model: clips of the training records."""

import dataclasses
import io
import itertools
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from kerasemo.evaluation import scoring
from kerasemo.metrics import classification, verification
from kerasemo.networks.inference import NetworkOutputs
from kerasemo.serving.parity import Call, Inputs
from kerasemo.serving.signatures import SIGNATURES, Signature, select_signatures
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec, spaced_indices
from pipelines.features import log_mel
from pipelines.records import reader

CLIPS_PER_SOURCE = 6
FACES_PER_CLIP = 2
GRIFFIN_LIM_ITERATIONS = 8

STILL_SIZES = ((64, 64), (48, 48), (200, 170), (128, 128), (90, 131), (64, 80))
"""Width and height of the stills, in pixels."""

Expected = dict[str, np.ndarray]
"""Name of an output -> its value by the Keras model."""

CallAndExpected = tuple[Call, Expected]


class ParityCases:
    """Calls of signatures, and the outputs of the Keras model for the same inputs.

    Args:
        predict: Runs the Keras model; see `inference.NetworkPredictor`.
        labels: The emotions that the exported model predicts.
        folder: The records.
        sources: The sources whose clips are used: those that the network was trained on.
        spec: How audio is cut into segments; only `segment_hop_frames` may differ from the records.

    Attributes:
        waveforms: float32 [samples] of each audio clip.
        n_resynthesized: How many waveforms were made from log-Mels, because the records keep none.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray, int], NetworkOutputs],
        *,
        labels: Sequence[str],
        folder: Path,
        sources: Sequence[str],
        spec: Spec = Spec(),
    ) -> None:
        self._predict = predict
        self._labels = list(labels)
        self._spec = spec
        self._columns = [EMOTIONS.index(label) for label in labels]
        self._items: dict[str, list[np.ndarray]] = {domain: [] for domain in DOMAINS}
        self._masks: dict[str, np.ndarray] = {}
        self.waveforms: list[np.ndarray] = []
        self.n_resynthesized = 0
        for source in sources:
            self._read_clips(folder / source, source.partition("/")[2])

    def _read_clips(self, folder: Path, domain: str) -> None:
        """Read some clips of a set."""
        manifest = reader.read_manifest(folder)
        clips = manifest["clips"]
        emotions = {row["emotion"] for row in clips}
        mask = np.isin(self._labels, list(emotions)).astype(np.float32)
        chosen = {clips[index]["id"] for index in spaced_indices(len(clips), CLIPS_PER_SOURCE)}
        for record in reader.read_inputs(folder, manifest):
            if record["id"].decode() not in chosen or record["part"]:
                continue
            self._masks.setdefault(domain, mask)
            if domain == "visual":
                self._items[domain].append(record["inputs"][:FACES_PER_CLIP])
                continue
            self._items[domain].append(record["inputs"])
            if len(record["pcm"]):
                self.waveforms.append(record["pcm"].astype(np.float32) / 32768)
            else:
                self.waveforms.append(resynthesize(record["inputs"]))
                self.n_resynthesized += 1

    def calls(self, signatures: Sequence[str]) -> list[CallAndExpected]:
        """Return the calls of signatures of a SavedModel.

        The inputs and outputs in the table of signatures choose the cases of each.
        """
        calls: list[CallAndExpected] = []
        for name in signatures:
            for case in self._cases(SIGNATURES[name]):
                expected = self._expected_outputs(SIGNATURES[name], case)
                calls.append(((name, case.inputs), expected))
        return calls

    def portable_calls(self, signatures: Sequence[str]) -> list[CallAndExpected]:
        """Return the calls of functions that return `valid` instead of an error.

        One input of each function is not valid.
        """
        calls: list[CallAndExpected] = []
        portable = select_signatures("litert", domains=DOMAINS)
        for signature in signatures:
            domain, (input_name,) = portable[signature].domain, portable[signature].input_names
            if input_name == "waveform":
                calls += self._portable_waveform_calls(signature)
                continue
            items = np.concatenate(self._items[domain])
            invalid = np.full_like(items[:1], 0 if domain == "visual" else np.nan)
            no_probabilities = np.full((1, len(self._labels)), np.nan)
            probabilities = np.concatenate([self._probabilities(items, domain), no_probabilities])
            expected = {
                "probabilities": probabilities.astype(np.float32),
                "valid": np.arange(len(items) + 1) < len(items),
            }
            calls.append(((signature, {input_name: np.concatenate([items, invalid])}), expected))
        return calls

    def _portable_waveform_calls(self, signature: str) -> list[CallAndExpected]:
        calls: list[CallAndExpected] = []
        for waveform in self.waveforms:
            segments, clip_of = self._cut_segments([waveform])
            of_segments = self._probabilities(segments, "audio")
            (probabilities,) = classification.mean_probabilities(of_segments, clip_of)
            expected = {
                "probabilities": probabilities.astype(np.float32),
                "valid": np.array(True),
            }
            calls.append(((signature, {"waveform": waveform}), expected))
        silence = np.zeros(self._spec.sample_rate_hz, np.float32)
        no_probabilities = np.full(len(self._labels), np.nan, np.float32)
        expected = {"probabilities": no_probabilities, "valid": np.array(False)}
        return [*calls, ((signature, {"waveform": silence}), expected)]

    def _outputs(self, items: np.ndarray, domain: str) -> NetworkOutputs:
        return self._predict(items, DOMAINS.index(domain))

    def _probabilities(
        self, items: np.ndarray, domain: str, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Return the probabilities of items: [items, labels]."""
        logits = scoring.head_logits(self._outputs(items, domain))[:, self._columns]
        bool_mask = np.ones(len(self._labels), bool) if mask is None else mask.astype(bool)
        return classification.masked_softmax(logits, bool_mask)

    def _named(self, probabilities: np.ndarray) -> Expected:
        labels = np.array(self._labels)
        return {
            "probabilities": probabilities,
            "labels": np.tile(labels, (len(probabilities), 1)),
            "emotion": labels[probabilities.argmax(axis=1)],
        }

    def _expected_outputs(self, signature: Signature, case: "_Case") -> Expected:
        """Return the outputs of a signature that the Keras model computes for a case."""
        if "embedding" in signature.output_names:
            embeddings = self._outputs(case.items, signature.domain).embedding
            if case.clip_of is not None:
                embeddings = verification.clip_embeddings(embeddings, case.clip_of)
            return {"embedding": embeddings}
        mask = self._masks[signature.domain] if "mask" in signature.input_names else None
        probabilities = self._probabilities(case.items, signature.domain, mask)
        if case.weights is not None:
            return {"probabilities": probabilities[None], "weights": case.weights[None]}
        if case.clip_of is not None:
            probabilities = classification.mean_probabilities(probabilities, case.clip_of)
        return self._named(probabilities)

    def _cases(self, signature: Signature) -> Iterator["_Case"]:
        """Yield the cases for the inputs and outputs of a signature."""
        if "weights" in signature.output_names:
            cases = self._timeline_cases()
        elif "lengths" in signature.input_names:
            cases = self._padded_waveform_cases()
        else:
            cases = {
                "faces": self._face_cases,
                "face_bytes": self._face_file_cases,
                "segments": self._segment_cases,
                "waveform": self._waveform_cases,
                "wav_bytes": self._wav_file_cases,
            }[signature.input_names[0]]()
        for case in cases:
            if "mask" not in signature.input_names:
                yield case
                continue
            n_rows = len(case.inputs[signature.input_names[0]])
            mask = np.tile(self._masks[signature.domain], (n_rows, 1))
            yield dataclasses.replace(case, inputs={**case.inputs, "mask": mask})

    def _face_cases(self) -> Iterator["_Case"]:
        all_faces = np.concatenate(self._items["visual"])
        for faces in (all_faces, all_faces[:1]):
            yield _Case({"faces": faces}, faces)

    def _face_file_cases(self) -> Iterator["_Case"]:
        """Yield faces as stills of several sizes.

        The Keras model gets them as a build reads them.
        """
        from pipelines.faces import crops
        from pipelines.media import images

        faces = np.concatenate(self._items["visual"])[: len(STILL_SIZES)]
        files, decoded_faces = [], []
        with tempfile.TemporaryDirectory() as folder:
            for number, (face, size) in enumerate(zip(faces, STILL_SIZES, strict=False)):
                kind = "PNG" if number % 2 else "JPEG"
                path = Path(folder) / f"{number}.{kind.lower()}"
                Image.fromarray(face).resize(size).save(path, kind)
                files.append(path.read_bytes())
                still = images.read_still(path)
                decoded_faces.append(crops.resize_face(still, spec=self._spec))
        yield _Case({"face_bytes": files}, np.stack(decoded_faces))

    def _segment_cases(self) -> Iterator["_Case"]:
        segments = np.concatenate(self._items["audio"])
        yield _Case({"segments": segments}, segments)

    def _cut_segments(self, waveforms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the segments of waveforms as in records, and the waveform of each segment."""
        of_waveforms = []
        for waveform in waveforms:
            static = log_mel.log_mel(tf.constant(waveform), spec=self._spec)
            parts = [
                log_mel.segments(static[start:end], spec=self._spec)
                for start, end in itertools.pairwise(self._spec.part_edges(len(static)))
            ]
            of_waveforms.append(np.concatenate(parts))
        counts = [len(segments) for segments in of_waveforms]
        return np.concatenate(of_waveforms), np.repeat(np.arange(len(counts)), counts)

    def _waveform_cases(self) -> Iterator["_Case"]:
        """Yield each waveform, a waveform of more than one part, and a batch."""
        joined = np.concatenate(self.waveforms)
        long_waveform = np.resize(joined, round(1.3 * self._spec.part_samples))
        for waveform in (*self.waveforms, long_waveform):
            yield _Case({"waveform": waveform[None]}, *self._cut_segments([waveform]))
        n_samples = min(map(len, self.waveforms))
        batch = [waveform[:n_samples] for waveform in self.waveforms]
        yield _Case({"waveform": np.stack(batch)}, *self._cut_segments(batch))

    def _wav_file_cases(self) -> Iterator["_Case"]:
        files, decoded_waveforms = [], []
        for waveform in self.waveforms:
            pcm = np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2")
            files.append(wav_file(pcm, rate_hz=self._spec.sample_rate_hz))
            decoded_waveforms.append(pcm.astype(np.float32) / 32768)
        yield _Case({"wav_bytes": files}, *self._cut_segments(decoded_waveforms))

    def _padded_waveform_cases(self) -> Iterator["_Case"]:
        lengths = np.array([len(waveform) for waveform in self.waveforms], np.int32)
        padded = np.zeros((len(lengths), lengths.max()), np.float32)
        for row, waveform in zip(padded, self.waveforms, strict=True):
            row[: len(waveform)] = waveform
        inputs = {"waveform": padded, "lengths": lengths}
        yield _Case(inputs, *self._cut_segments(self.waveforms))

    def _timeline_cases(self) -> Iterator["_Case"]:
        with_pauses = dataclasses.replace(self._spec, active_share=0.0)
        for waveform in self.waveforms:
            static = log_mel.padded(
                log_mel.log_mel(tf.constant(waveform), spec=self._spec), spec=self._spec
            )
            segments = log_mel.segments(static, spec=with_pauses).numpy()
            is_active = log_mel.active_segments(static, spec=self._spec).numpy()
            inputs = {"waveform": waveform[None]}
            yield _Case(inputs, segments, weights=is_active.astype(np.float32))


@dataclasses.dataclass(frozen=True)
class _Case:
    """Inputs of a signature, and the items that the Keras model gets for them.

    Attributes:
        inputs: The inputs, but the mask.
        items: Faces or segments.
        clip_of: The row of each item, int [items]; None: each item is a row.
        weights: Of a timeline, float32 [items]: 1 for a segment that counts in the mean.
    """

    inputs: Inputs
    items: np.ndarray
    clip_of: np.ndarray | None = None
    weights: np.ndarray | None = None


def resynthesize(segments: np.ndarray, *, spec: Spec = Spec()) -> np.ndarray:
    """Return a waveform whose log-Mel is close to the log-Mel of a clip (Griffin and Lim).

    Args:
        segments: float32 [segments, mel_filters, segment_frames, 3], overlapping.
        spec: Gives the sizes of windows and hops.

    Returns:
        float32 [samples], with a peak of 0.5.
    """
    import librosa

    hop = spec.segment_hop_frames
    static = np.concatenate(
        [*(segment[:, :hop, 0] for segment in segments[:-1]), segments[-1][:, :, 0]], axis=1
    )
    waveform = librosa.feature.inverse.mel_to_audio(
        10 ** (static / 10),
        sr=spec.sample_rate_hz,
        n_fft=spec.fft_samples,
        hop_length=spec.hop_samples,
        win_length=spec.window_samples,
        window="hamming",
        n_iter=GRIFFIN_LIM_ITERATIONS,
        fmin=spec.lower_hz,
        fmax=spec.upper_hz,
    ).astype(np.float32)
    return waveform * np.float32(0.5 / max(np.abs(waveform).max(), 1e-6))


def wav_file(pcm: np.ndarray, *, rate_hz: int) -> bytes:
    """Return the bytes of a mono WAV file.

    Args:
        pcm: int16 [samples].
        rate_hz: The sampling rate.
    """
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.astype("<i2").tobytes())
    return buffer.getvalue()
