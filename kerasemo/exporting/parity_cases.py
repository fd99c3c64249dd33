"""Real clips that an export is tried on, and what the Keras model answers to them."""

import dataclasses
import io
import itertools
import tempfile
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from kerasemo.metrics import classification, verification
from kerasemo.networks.inference import NetworkOutputs
from kerasemo.serving.parity import Call
from pipelines.core.domains import DOMAINS
from pipelines.core.labels import EMOTIONS
from pipelines.core.spec import Spec, spaced_indices
from pipelines.features import log_mel
from pipelines.records import reader

CLIPS = 6
"""How many clips of each source are tried."""
FACES_EACH, GRIFFIN_LIM_ROUNDS = 2, 8

Expected = dict[str, np.ndarray]
Pair = tuple[Call, Expected]


class ParityCases:
    """What a network that is exported is asked, and its own answers.

    Args:
        predict: Runs the Keras model; see `inference.NetworkPredictor`.
        labels: The emotions that the export answers.
        folder: The records.
        sources: Those that the network was trained on; their clips are taken.
        spec: By which sound is cut into segments; that of the records but for `segment_hop_frames`.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray, int], NetworkOutputs],
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
        self.n_resynthesized = 0
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
                self.n_resynthesized += 1

    def calls(self, signatures: Sequence[str]) -> list[Pair]:
        """Return what each of some signatures is asked, with the Keras model's answers."""
        made: Mapping[str, Callable[[], Iterator[Pair]]] = {
            "faces": self._faces,
            "face_bytes": self._face_bytes,
            "faces_masked": self._faces_masked,
            "embed_faces": lambda: self._embedded("embed_faces", "faces", "visual"),
            "segments": self._segments,
            "embed_segments": lambda: self._embedded("embed_segments", "segments", "audio"),
            "speech": self._speech,
            "wav_bytes": self._wav_bytes,
            "speech_masked": self._speech_masked,
            "embed_speech": self._embedded_speech,
            "timeline": self._timeline,
        }
        return [pair for signature in signatures for pair in made[signature]()]

    def portable_calls(self, signatures: Sequence[str]) -> list[Pair]:
        """Return the same for the formats that know no errors: an input that is not valid among them."""
        pairs = []
        for signature in signatures:
            if signature == "speech":
                for waveform in self.waveforms:
                    expected = {
                        "probabilities": self._speech_answers([waveform])[0].astype(np.float32),
                        "valid": np.array(True),
                    }
                    pairs.append((("speech", {"waveform": waveform}), expected))
                silence = {
                    "probabilities": np.full(len(self._labels), np.nan, np.float32),
                    "valid": np.array(False),
                }
                pairs.append(
                    (
                        ("speech", {"waveform": np.zeros(self._spec.sample_rate_hz, np.float32)}),
                        silence,
                    )
                )
                continue
            domain = "visual" if signature == "faces" else "audio"
            items = np.concatenate(self._items[domain])
            bad = (
                np.zeros_like(items[:1]) if domain == "visual" else np.full_like(items[:1], np.nan)
            )
            answers = np.concatenate(
                [self._answers(items, domain), np.full((1, len(self._labels)), np.nan)]
            ).astype(np.float32)
            expected = {"probabilities": answers, "valid": np.arange(len(items) + 1) < len(items)}
            pairs.append(((signature, {signature: np.concatenate([items, bad])}), expected))
        return pairs

    def _answers(
        self, items: np.ndarray, domain: str, mask: np.ndarray | None = None
    ) -> np.ndarray:
        logits = self._predict(items, DOMAINS.index(domain)).logits[:, self._columns]
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

    def _faces(self) -> Iterator[Pair]:
        faces = np.concatenate(self._items["visual"])
        yield ("faces", {"faces": faces}), self._named(self._answers(faces, "visual"))
        yield ("faces", {"faces": faces[:1]}), self._named(self._answers(faces[:1], "visual"))

    def _face_bytes(self) -> Iterator[Pair]:
        """Yield faces as stills of several sizes, read for the Keras model as a build reads them."""
        from pipelines.faces import crops
        from pipelines.media import images

        pictures = [Image.fromarray(face) for face in np.concatenate(self._items["visual"])[:6]]
        sizes = ((64, 64), (48, 48), (200, 170), (128, 128), (90, 131), (64, 80))
        files, read = [], []
        with tempfile.TemporaryDirectory() as scratch:
            for number, (picture, size) in enumerate(zip(pictures, sizes, strict=False)):
                kind = "PNG" if number % 2 else "JPEG"
                path = Path(scratch) / f"{number}.{kind.lower()}"
                picture.resize(size).save(path, kind)
                files.append(path.read_bytes())
                read.append(crops.resize_face(images.read_still(path), spec=self._spec))
        yield (
            ("face_bytes", {"face_bytes": files}),
            self._named(self._answers(np.stack(read), "visual")),
        )

    def _faces_masked(self) -> Iterator[Pair]:
        faces, mask = np.concatenate(self._items["visual"]), self._masks["visual"]
        yield (
            ("faces_masked", {"faces": faces, "mask": np.tile(mask, (len(faces), 1))}),
            self._named(self._answers(faces, "visual", mask)),
        )

    def _segments(self) -> Iterator[Pair]:
        segments = np.concatenate(self._items["audio"])
        yield ("segments", {"segments": segments}), self._named(self._answers(segments, "audio"))

    def _embedded(self, signature: str, name: str, domain: str) -> Iterator[Pair]:
        items = np.concatenate(self._items[domain])
        yield (
            (signature, {name: items}),
            {"embedding": self._predict(items, DOMAINS.index(domain)).embedding},
        )

    def _speech_answers(
        self, waveforms: Sequence[np.ndarray], mask: np.ndarray | None = None
    ) -> np.ndarray:
        segments, clip_of = self._segments_of(waveforms)
        return classification.mean_probabilities(self._answers(segments, "audio", mask), clip_of)

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

    def _speech(self) -> Iterator[Pair]:
        for waveform in (*self.waveforms, self._long()):
            yield (
                ("speech", {"waveform": waveform[None]}),
                self._named(self._speech_answers([waveform])),
            )
        shortest = min(map(len, self.waveforms))
        together = [waveform[:shortest] for waveform in self.waveforms]
        yield (
            ("speech", {"waveform": np.stack(together)}),
            self._named(self._speech_answers(together)),
        )

    def _long(self) -> np.ndarray:
        """Return sound of more than one part, of the clips over and over."""
        joined = np.concatenate(self.waveforms)
        return np.resize(joined, round(1.3 * self._spec.part_samples))

    def _wav_bytes(self) -> Iterator[Pair]:
        files, read = [], []
        for waveform in self.waveforms:
            pcm = np.clip(np.round(waveform * 32768), -32768, 32767).astype("<i2")
            files.append(wav_file(pcm, rate_hz=self._spec.sample_rate_hz))
            read.append(pcm.astype(np.float32) / 32768)
        yield ("wav_bytes", {"wav_bytes": files}), self._named(self._speech_answers(read))

    def _speech_masked(self) -> Iterator[Pair]:
        lengths, mask = (
            np.array([len(waveform) for waveform in self.waveforms], np.int32),
            self._masks["audio"],
        )
        padded = np.zeros((len(lengths), lengths.max()), np.float32)
        for row, waveform in zip(padded, self.waveforms, strict=True):
            row[: len(waveform)] = waveform
        inputs = {"waveform": padded, "lengths": lengths, "mask": np.tile(mask, (len(lengths), 1))}
        yield ("speech_masked", inputs), self._named(self._speech_answers(self.waveforms, mask))

    def _embedded_speech(self) -> Iterator[Pair]:
        for waveform in self.waveforms:
            segments, clip_of = self._segments_of([waveform])
            embeddings = self._predict(segments, DOMAINS.index("audio")).embedding
            yield (
                ("embed_speech", {"waveform": waveform[None]}),
                {"embedding": verification.clip_embeddings(embeddings, clip_of)},
            )

    def _timeline(self) -> Iterator[Pair]:
        for waveform in self.waveforms:
            static = log_mel.padded(
                log_mel.log_mel(tf.constant(waveform), spec=self._spec), spec=self._spec
            )
            every = log_mel.segments(
                static, spec=dataclasses.replace(self._spec, active_share=0.0)
            ).numpy()
            weights = log_mel.active_segments(static, spec=self._spec).numpy().astype(np.float32)
            yield (
                ("timeline", {"waveform": waveform[None]}),
                {"probabilities": self._answers(every, "audio")[None], "weights": weights[None]},
            )


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
