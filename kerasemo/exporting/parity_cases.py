"""Real clips that an export is tried on, and what the Keras model answers to them."""

import dataclasses
import io
import itertools
import tempfile
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from kerasemo.metrics import classification, verification
from kerasemo.networks import inference
from kerasemo.serving.parity import Inputs, SignatureCall
from kerasemo.serving.signatures import Signature, find_signature, select_signatures
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec, spaced_indices
from pipelines.features import log_mel
from pipelines.records import reader

CLIPS = 6
"""How many clips of each source are tried."""
FACES_EACH, GRIFFIN_LIM_ROUNDS = 2, 8

Expected = dict[str, np.ndarray]
Pair = tuple[SignatureCall, Expected]


class Probes:
    """What a network that is exported is asked, and its own answers.

    Args:
        predict: Runs the Keras model; see `inference.predictor`.
        labels: The emotions that the export answers.
        folder: The records.
        sources: Those that the network was trained on; their clips are taken.
        spec: By which sound is cut into segments; that of the records but for `segment_hop_frames`.
    """

    def __init__(
        self,
        predict: inference.Predict,
        *,
        labels: Sequence[str],
        folder: Path,
        sources: Sequence[str],
        spec: Spec = Spec(),
    ):
        self._predict, self._labels, self._spec = predict, list(labels), spec
        self._columns = [EMOTIONS.index(label) for label in labels]
        self._items: dict[str, list[np.ndarray]] = {domain: [] for domain in DOMAINS}
        self._masks: dict[str, np.ndarray] = {}
        self.waveforms: list[np.ndarray] = []
        self.resynthesised = 0
        """Of how many clips the sound was made anew from its log-Mel, because the records do not keep it."""
        for source in sources:
            self._take(folder / source, source.partition("/")[2])

    def _take(self, folder: Path, domain: str) -> None:
        manifest = reader.read_manifest(folder)
        emotions = {row["emotion"] for row in manifest["clips"]}
        mask = np.isin(self._labels, list(emotions)).astype(np.float32)
        wanted = {
            manifest["clips"][index]["id"]
            for index in spaced_indices(len(manifest["clips"]), CLIPS)
        }
        for record in reader.read_inputs(folder, manifest):
            if record["id"].decode() not in wanted or record["part"]:
                continue
            if domain == "visual":
                self._items[domain].append(record["inputs"][:FACES_EACH])
                self._masks.setdefault(domain, mask)
                continue
            self._items[domain].append(record["inputs"])
            self._masks.setdefault(domain, mask)
            if len(record["pcm"]):
                self.waveforms.append(record["pcm"].astype(np.float32) / 32768)
            else:
                self.waveforms.append(sound_of(record["inputs"]))
                self.resynthesised += 1

    def calls(self, signatures: Sequence[str]) -> list[Pair]:
        """Return calls of SavedModel signatures, with the outputs of the Keras model.

        Args:
            signatures: Names of the table in `kerasemo.serving.signatures`.
        """
        pairs = []
        for name in signatures:
            signature = find_signature(name)
            for case in self._cases(signature):
                call = SignatureCall(name, case.inputs)
                pairs.append((call, self._expected_outputs(signature, case)))
        return pairs

    def portable_calls(self, signatures: Sequence[str]) -> list[Pair]:
        """Return the same for the formats that know no errors: an input that is not valid among them."""
        pairs = []
        portable = select_signatures("litert", domains=DOMAINS)
        for signature in signatures:
            known = portable[signature]
            (input_name,) = known.input_names
            if input_name == "waveform":
                for waveform in self.waveforms:
                    segments, clip_of = self._segments_of([waveform])
                    probabilities = classification.mean_probabilities(
                        self._answers(segments, "audio"), clip_of
                    )
                    expected = {
                        "probabilities": probabilities[0].astype(np.float32),
                        "valid": np.array(True),
                    }
                    pairs.append((SignatureCall(signature, {"waveform": waveform}), expected))
                silence = {
                    "probabilities": np.full(len(self._labels), np.nan, np.float32),
                    "valid": np.array(False),
                }
                second = {"waveform": np.zeros(self._spec.sample_rate_hz, np.float32)}
                pairs.append((SignatureCall(signature, second), silence))
                continue
            domain = known.domain
            items = np.concatenate(self._items[domain])
            bad = (
                np.zeros_like(items[:1]) if domain == "visual" else np.full_like(items[:1], np.nan)
            )
            answers = np.concatenate(
                [self._answers(items, domain), np.full((1, len(self._labels)), np.nan)]
            ).astype(np.float32)
            expected = {"probabilities": answers, "valid": np.arange(len(items) + 1) < len(items)}
            inputs = {input_name: np.concatenate([items, bad])}
            pairs.append((SignatureCall(signature, inputs), expected))
        return pairs

    def _answers(
        self, items: np.ndarray, domain: str, mask: np.ndarray | None = None
    ) -> np.ndarray:
        logits = self._predict(items, DOMAINS.index(domain))["logits"][:, self._columns]
        return classification.masked_softmax(
            logits, np.ones(len(self._labels), bool) if mask is None else mask.astype(bool)
        )

    def _named(self, answers: np.ndarray) -> Expected:
        labels = np.array(self._labels)
        return {
            "probabilities": answers,
            "labels": np.tile(labels, (len(answers), 1)),
            "emotion": labels[answers.argmax(axis=1)],
        }

    def _expected_outputs(self, signature: Signature, case: "_Case") -> Expected:
        """Return what the Keras model computes for the items of a case, as the outputs."""
        domain = signature.domain
        if "embedding" in signature.output_names:
            embeddings = self._predict(case.items, DOMAINS.index(domain))["embedding"]
            if case.clip_of is not None:
                embeddings = verification.clip_embeddings(embeddings, case.clip_of)
            return {"embedding": embeddings}
        mask = self._masks[domain] if "mask" in signature.input_names else None
        probabilities = self._answers(case.items, domain, mask)
        if case.weights is not None:
            return {"probabilities": probabilities[None], "weights": case.weights[None]}
        if case.clip_of is not None:
            probabilities = classification.mean_probabilities(probabilities, case.clip_of)
        return self._named(probabilities)

    def _cases(self, signature: Signature) -> Iterator["_Case"]:
        """Yield cases of a signature, chosen by its first input and by its outputs."""
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
            rows = len(case.inputs[signature.input_names[0]])
            mask = np.tile(self._masks[signature.domain], (rows, 1))
            yield dataclasses.replace(case, inputs={**case.inputs, "mask": mask})

    def _face_cases(self) -> Iterator["_Case"]:
        faces = np.concatenate(self._items["visual"])
        yield _Case({"faces": faces}, faces)
        yield _Case({"faces": faces[:1]}, faces[:1])

    def _face_file_cases(self) -> Iterator["_Case"]:
        """Yield faces as stills of several sizes, read for the Keras model as a build reads them."""
        from pipelines.faces import crops
        from pipelines.media import images

        pictures = [Image.fromarray(face) for face in np.concatenate(self._items["visual"])[:6]]
        sizes = ((64, 64), (48, 48), (200, 170), (128, 128), (90, 131), (64, 80))
        files, faces = [], []
        with tempfile.TemporaryDirectory() as scratch:
            for number, (picture, size) in enumerate(zip(pictures, sizes, strict=False)):
                kind = "PNG" if number % 2 else "JPEG"
                path = Path(scratch) / f"{number}.{kind.lower()}"
                picture.resize(size).save(path, kind)
                files.append(path.read_bytes())
                faces.append(crops.resize_face(images.read_still(path), spec=self._spec))
        yield _Case({"face_bytes": files}, np.stack(faces))

    def _segment_cases(self) -> Iterator["_Case"]:
        segments = np.concatenate(self._items["audio"])
        yield _Case({"segments": segments}, segments)

    def _waveform_cases(self) -> Iterator["_Case"]:
        """Yield each waveform, one of more than a part, and all in one batch."""
        for waveform in (*self.waveforms, self._long()):
            yield _Case({"waveform": waveform[None]}, *self._segments_of([waveform]))
        shortest = min(map(len, self.waveforms))
        batch = [waveform[:shortest] for waveform in self.waveforms]
        yield _Case({"waveform": np.stack(batch)}, *self._segments_of(batch))

    def _segments_of(self, waveforms: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return the segments of some waveforms, as records hold them, and whose each is."""
        parts = []
        for waveform in waveforms:
            static = log_mel.log_mel(tf.constant(waveform), spec=self._spec)
            edges = self._spec.part_edges(len(static))
            cut = [
                log_mel.segments(static[first:end], spec=self._spec)
                for first, end in itertools.pairwise(edges)
            ]
            parts.append(np.concatenate(cut))
        return np.concatenate(parts), np.repeat(
            np.arange(len(parts)), [len(part) for part in parts]
        )

    def _long(self) -> np.ndarray:
        """Return sound of more than one part, of the clips over and over."""
        joined = np.concatenate(self.waveforms)
        return np.resize(joined, round(1.3 * self._spec.part_samples))

    def _wav_file_cases(self) -> Iterator["_Case"]:
        files, waveforms = [], []
        for waveform in self.waveforms:
            pcm = np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2")
            files.append(wav_file(pcm, rate_hz=self._spec.sample_rate_hz))
            waveforms.append(pcm.astype(np.float32) / 32768)
        yield _Case({"wav_bytes": files}, *self._segments_of(waveforms))

    def _padded_waveform_cases(self) -> Iterator["_Case"]:
        lengths = np.array([len(waveform) for waveform in self.waveforms], np.int32)
        padded = np.zeros((len(lengths), lengths.max()), np.float32)
        for row, waveform in zip(padded, self.waveforms, strict=True):
            row[: len(waveform)] = waveform
        inputs = {"waveform": padded, "lengths": lengths}
        yield _Case(inputs, *self._segments_of(self.waveforms))

    def _timeline_cases(self) -> Iterator["_Case"]:
        for waveform in self.waveforms:
            static = log_mel.padded(
                log_mel.log_mel(tf.constant(waveform), spec=self._spec), spec=self._spec
            )
            segments = log_mel.segments(
                static, spec=dataclasses.replace(self._spec, active_share=0.0)
            ).numpy()
            weights = log_mel.active_segments(static, spec=self._spec).numpy().astype(np.float32)
            yield _Case({"waveform": waveform[None]}, segments, weights=weights)


@dataclasses.dataclass(frozen=True)
class _Case:
    """Inputs of a signature, and the items that the Keras model reads for them."""

    inputs: Inputs
    items: np.ndarray
    """Faces or segments."""
    clip_of: np.ndarray | None = None
    """The row of each item, int [items]; None if every item is a row."""
    weights: np.ndarray | None = None
    """float32 [items]: 1 for a segment that counts in the clip's mean; None but for a timeline."""


def sound_of(segments: np.ndarray, *, spec: Spec = Spec()) -> np.ndarray:
    """Return sound whose log-Mel is about that of a clip's segments, float32 [samples]: Griffin and Lim's, by librosa.

    Args:
        segments: float32 [segments, mel_filters, segment_frames, 3], overlapping.
    """
    import librosa

    hop = spec.segment_hop_frames
    static = np.concatenate(
        [*(segment[:, :hop, 0] for segment in segments[:-1]), segments[-1][:, :, 0]], axis=1
    )
    made = librosa.feature.inverse.mel_to_audio(
        10 ** (static / 10),
        sr=spec.sample_rate_hz,
        n_fft=spec.fft_samples,
        hop_length=spec.hop_samples,
        win_length=spec.window_samples,
        window="hamming",
        n_iter=GRIFFIN_LIM_ROUNDS,
        fmin=spec.lower_hz,
        fmax=spec.upper_hz,
    ).astype(np.float32)
    return made * np.float32(0.5 / max(np.abs(made).max(), 1e-6))


def wav_file(pcm: np.ndarray, *, rate_hz: int) -> bytes:
    """Return the bytes of a mono WAV file of int16 [samples]."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.astype("<i2").tobytes())
    return held.getvalue()
