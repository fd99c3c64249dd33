"""Build the prediction of one clip while the clip is read.

The memory grows with the number of faces and segments, but not with pictures or sound.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kerasemo.metrics import fusion
from pipelines.core.domains import DOMAINS, domain_facts
from pipelines.core.spec import Spec
from pipelines.core.text import pluralize

WINDOW_SECONDS = 1.0
"""The time around a segment whose pictures of the main face are fused with the segment."""
MAX_SPECTROGRAM_COLUMNS = 1200


@dataclasses.dataclass(frozen=True, eq=False)
class ClipPrediction:
    """The prediction of one clip, with the pictures and the spectrogram of its report.

    Attributes:
        document: The JSON document: `path` and `sha256`; then `error`, or `visual`, `audio`,
            `fused` and `warnings`.
        pictures: Key frames: `{"seconds", "jpeg", "size", "boxes"}` each.
        spectrogram: `{"log_mel": float32 [columns, mel_filters] in dB, "seconds"}`, or None.
    """

    document: dict[str, Any]
    pictures: Sequence[dict[str, Any]] = ()
    spectrogram: dict[str, Any] | None = None

    @property
    def path(self) -> str:
        """The path of the clip."""
        return self.document["path"]

    @property
    def error(self) -> str:
        """Why the clip has no prediction; empty if it has one."""
        return self.document.get("error", "")

    @property
    def warnings(self) -> Sequence[str]:
        """The warnings for a reader of the prediction."""
        return self.document.get("warnings", ())

    def without_timelines(self) -> "ClipPrediction":
        """Return the prediction without timelines, pictures and spectrogram, which are large."""
        document = dict(self.document)
        for domain in (*DOMAINS, "fused"):
            if document.get(domain):
                entries = document[domain].items()
                document[domain] = {key: value for key, value in entries if key != "timeline"}
        return ClipPrediction(document)


class FaceObservation(NamedTuple):
    """The prediction of one face in one picture.

    Attributes:
        seconds: The time of the picture.
        face: The number of the person, from 1.
        box: Left, top, width and height in pixels.
        probabilities: float32 [labels].
    """

    seconds: float
    face: int
    box: tuple[int, ...]
    probabilities: np.ndarray


class SegmentObservation(NamedTuple):
    """The prediction of one segment of the sound.

    Attributes:
        start_seconds: The start of the segment.
        probabilities: float32 [labels].
        weight: 1 if the segment counts in the mean of the clip, 0 for a pause.
    """

    start_seconds: float
    probabilities: np.ndarray
    weight: float


class ClipPredictionBuilder:
    """Builds the prediction of one clip while the clip is read.

    Args:
        path: The clip.
        labels: The labels, in the order of the probabilities.
        domains: The domains in which the clip is read.
        fusion_parameters: The parameters of the fusion of face and voice.
        keep_spectrogram: Keep the spectrogram for a report.
        spec: The spec of the sound.
    """

    def __init__(
        self,
        path: Path,
        *,
        labels: Sequence[str],
        domains: Sequence[str],
        fusion_parameters: fusion.Fusion,
        keep_spectrogram: bool = False,
        spec: Spec = Spec(),
    ) -> None:
        self.path = path
        self._labels, self._domains = list(labels), tuple(domains)
        self._fusion, self._spec = fusion_parameters, spec
        self._faces: list[FaceObservation] = []
        self._segments: list[SegmentObservation] = []
        self._pictures: list[dict[str, Any]] = []
        self._columns = SpectrogramColumns(MAX_SPECTROGRAM_COLUMNS) if keep_spectrogram else None
        self._sound_start: float | None = None  # in seconds after the first picture
        self._refused: dict[str, str] = {}

    def add_faces(self, block: Mapping[str, np.ndarray], probabilities: np.ndarray) -> None:
        """Add the predictions of the faces in a message of a `StreamTask`."""
        rows = zip(
            block["seconds"].tolist(),
            block["face"].tolist(),
            block["boxes"].tolist(),
            probabilities,
            strict=True,
        )
        self._faces += [
            FaceObservation(seconds, face, tuple(box), row) for seconds, face, box, row in rows
        ]

    def add_sound(self, part: Mapping[str, Any], outputs: Mapping[str, np.ndarray]) -> None:
        """Add the outputs of the signature `timeline` for a part of the sound."""
        if self._sound_start is None:
            self._sound_start = part["start_seconds"]
            silent_frames = round(self._sound_start / self._spec.hop_seconds)
            if self._columns is not None and silent_frames:
                floor_db = 10 * np.log10(self._spec.power_floor)
                shape = (silent_frames, self._spec.mel_filters)
                self._columns.add(np.full(shape, floor_db, np.float32))
        starts = part["start_seconds"] + outputs["starts"][0].astype(np.float64)
        weights = outputs["weights"][0]
        rows = zip(starts.tolist(), outputs["probabilities"][0], weights.tolist(), strict=True)
        self._segments += [SegmentObservation(*row) for row in rows]
        if self._columns is not None:
            from pipelines.features import log_mel as log_mel_module

            self._columns.add(log_mel_module.log_mel(part["waveform"], spec=self._spec).numpy())

    def refuse(self, domain: str, reason: str) -> None:
        """Leave out a domain whose input the model refuses."""
        self._refused.setdefault(domain, reason)

    def add_pictures(self, pictures: Sequence[dict[str, Any]]) -> None:
        """Add key frames."""
        self._pictures += pictures

    def build(self, last_message: Mapping[str, Any]) -> ClipPrediction:
        """Return the prediction of the clip.

        Args:
            last_message: The last message of the `StreamTask`, with the facts or the error of each
                domain.
        """
        facts = {
            domain: last_message.get(domain, {"error": "not read"}) for domain in self._domains
        }
        for domain, reason in self._refused.items():
            if "error" not in facts[domain]:
                facts[domain] = {"error": reason}
        errors = {domain: entry["error"] for domain, entry in facts.items() if "error" in entry}
        pictures = () if "visual" in errors else self._pictures
        document = {"path": str(self.path), "sha256": last_message.get("sha256", "")}
        if len(errors) == len(facts):
            reasons = dict.fromkeys(errors.values())
            error = "; ".join(reasons) or "no face or sound that the model was trained on"
            return ClipPrediction(document | {"error": error}, pictures)
        usable = {domain: entry for domain, entry in facts.items() if domain not in errors}
        visual = self._visual(usable["visual"]) if "visual" in usable else None
        audio = self._audio(usable["audio"]) if "audio" in usable else None
        warnings = [
            f"no prediction by the {domain_facts(domain).person_part}: {reason}"
            for domain, reason in errors.items()
        ]
        warnings += self._warnings(visual, facts)
        document |= {
            "visual": visual,
            "audio": audio,
            "fused": self._fused(visual, audio) if visual and audio else None,
            "warnings": warnings,
        }
        return ClipPrediction(document, pictures, self._spectrogram(audio))

    def _spectrogram(self, audio: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if not audio or self._columns is None:
            return None
        return {"log_mel": self._columns.values(), "seconds": self._sound_end(audio)}

    def _sound_end(self, facts: Mapping[str, Any]) -> float:
        """Return the end of the sound, in seconds after the first picture."""
        return (self._sound_start or 0.0) + facts["seconds"]

    def _visual(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        faces_of: dict[int, list[FaceObservation]] = defaultdict(list)
        for observation in self._faces:
            faces_of[observation.face].append(observation)

        def count_and_area(person: int) -> tuple[int, float]:
            boxes = [observation.box for observation in faces_of[person]]
            return len(boxes), float(np.mean([width * height for _, _, width, height in boxes]))

        persons = []
        for person in sorted(faces_of, key=count_and_area, reverse=True):
            faces = faces_of[person]
            span = {
                "face": person,
                "from_seconds": round(faces[0].seconds, 3),
                "to_seconds": round(faces[-1].seconds, 3),
                "count": len(faces),
            }
            rows = np.stack([face.probabilities for face in faces])  # [faces, labels]
            persons.append(span | self._entry(rows.mean(axis=0, dtype=np.float64)))
        timeline = [
            {"seconds": round(seconds, 3), "face": face, "box": list(box)} | self._entry(row)
            for seconds, face, box, row in self._faces
        ]
        main = {key: persons[0][key] for key in ("emotion", "confidence", "probabilities")}
        clip_facts = {
            "seconds": round(facts["seconds"], 3),
            "size": facts["size"],
            "looked_at": facts["looked_at"],
        }
        return main | clip_facts | {"faces": persons, "timeline": timeline}

    def _audio(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        counted = [segment.probabilities for segment in self._segments if segment.weight]
        mean = np.stack(counted).mean(axis=0, dtype=np.float64)
        end = self._sound_end(facts)
        timeline = [
            {
                "seconds": round(start, 3),
                "to_seconds": round(min(start + self._spec.segment_seconds, max(end, start)), 3),
            }
            | self._entry(row)
            for start, row, _ in self._segments
        ]
        return self._entry(mean) | {"seconds": round(facts["seconds"], 3), "timeline": timeline}

    def _fused(self, visual: Mapping[str, Any], audio: Mapping[str, Any]) -> dict[str, Any]:
        fused = fusion.fuse(self._fusion, self._row(visual), self._row(audio))
        return self._entry(fused) | {
            "visual_weight": self._fusion.visual_weight,
            "temperature": self._fusion.temperature,
            "timeline": list(self._fused_timeline(visual["faces"][0]["face"])),
        }

    def _fused_timeline(self, main_face: int) -> Iterator[dict[str, Any]]:
        """Yield the fused prediction at the middle of each segment with the main face around it."""
        faces = [observation for observation in self._faces if observation.face == main_face]
        times = np.array([face.seconds for face in faces])
        rows = np.stack([face.probabilities for face in faces])  # [faces, labels]
        for segment in self._segments:
            middle = segment.start_seconds + self._spec.segment_seconds / 2
            first, end = np.searchsorted(
                times, (middle - WINDOW_SECONDS / 2, middle + WINDOW_SECONDS / 2)
            )
            if first < end:
                face = rows[first:end].mean(axis=0, dtype=np.float64)
                fused = fusion.fuse(self._fusion, face, segment.probabilities)
                yield {"seconds": round(middle, 3)} | self._entry(fused)

    def _warnings(
        self, visual: Mapping[str, Any] | None, facts: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[str]:
        if visual and len(visual["faces"]) > 1:
            main = visual["faces"][0]["face"]
            yield (
                f"{len(visual['faces'])} faces: the prediction is of face {main}, "
                "and the voice may be of another person"
            )
        for domain in DOMAINS:
            entry = facts.get(domain, {})
            if n_undecodable := entry.get("undecodable"):
                packets = pluralize(n_undecodable, domain_facts(domain).packet)
                yield f"{packets} did not decode"
            if (missing_seconds := entry.get("missing_seconds", 0)) > 0:
                yield f"the sound ends {missing_seconds:.2f} s before its header says"
        if (
            self._fusion.utterances == 0
            and set(facts) == set(DOMAINS)
            and not any("error" in entry for entry in facts.values())
        ):
            yield (
                "face and voice have equal weights: "
                "no validation clip of the model had face and voice"
            )

    def _entry(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Return the JSON document of probabilities [labels]."""
        best = int(np.argmax(probabilities))
        rounded = [round(float(value), 6) for value in probabilities]
        return {
            "emotion": self._labels[best],
            "confidence": rounded[best],
            "probabilities": dict(zip(self._labels, rounded, strict=True)),
        }

    def _row(self, entry: Mapping[str, Any]) -> np.ndarray:
        """Return the probabilities of a prediction, float64 [labels] with the sum 1."""
        row = np.array([entry["probabilities"][label] for label in self._labels])
        return row / row.sum()


class SpectrogramColumns:
    """A spectrogram of any length in a limited number of columns.

    Pairs of neighbouring columns are averaged when twice the limit is reached.

    >>> columns = SpectrogramColumns(2)
    >>> columns.add(np.arange(8.0)[:, None])
    >>> columns.values()[:, 0].tolist()
    [1.5, 5.5]
    """

    def __init__(self, max_columns: int) -> None:
        self._max_columns, self._frames_per_column = max_columns, 1
        self._columns: list[np.ndarray] = []
        self._remainder: np.ndarray | None = None  # frames that do not fill a column

    def add(self, log_mel: np.ndarray) -> None:
        """Add the frames of a log-Mel, float32 [frames, filters]."""
        joined = log_mel if self._remainder is None else np.concatenate([self._remainder, log_mel])
        size = self._frames_per_column
        n_used = len(joined) // size * size
        self._columns += list(joined[:n_used].reshape(-1, size, joined.shape[1]).mean(axis=1))
        remainder = joined[n_used:]
        while len(self._columns) >= 2 * self._max_columns:
            if len(self._columns) % 2:
                last_frames = np.repeat(self._columns.pop()[None], self._frames_per_column, axis=0)
                remainder = np.concatenate([last_frames, remainder])
            pairs = zip(self._columns[::2], self._columns[1::2], strict=True)
            self._columns = [(left + right) / 2 for left, right in pairs]
            self._frames_per_column *= 2
        self._remainder = remainder

    def values(self) -> np.ndarray:
        """Return float32 [columns, filters], without the frames that do not fill a column.

        Raises:
            ValueError: No frame was added.
        """
        if self._remainder is None:
            raise ValueError("a spectrogram needs at least one frame; received none, add a log-Mel")
        columns = np.stack(self._columns or [self._remainder.mean(axis=0)]).astype(np.float32)
        n_merged = -(-len(columns) // self._max_columns)
        n_used = len(columns) // n_merged * n_merged
        return columns[:n_used].reshape(-1, n_merged, columns.shape[1]).mean(axis=1)


def captions(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the boxes of all faces and the bars of the main face, the voice and both.

    Args:
        document: `ClipPrediction.document` of a clip without an error.

    Returns:
        The captions of a `pipelines.overlay.writer.OverlayTask`.
    """
    visual, audio, fused = document["visual"], document["audio"], document["fused"]
    faces: dict[int, dict[str, list]] = {}
    for entry in sorted(visual["timeline"] if visual else (), key=lambda entry: entry["seconds"]):
        face = faces.setdefault(entry["face"], {"seconds": [], "boxes": [], "texts": []})
        face["seconds"].append(entry["seconds"])
        face["boxes"].append(list(entry["box"]))
        face["texts"].append(f"{entry['emotion']} {100 * entry['confidence']:.0f}%")
    bars = []
    if visual:
        main = visual["faces"][0]["face"]
        entries = [entry for entry in visual["timeline"] if entry["face"] == main]
        bars.append(_bars("face", [(entry["seconds"], entry) for entry in entries]))
    if audio:
        middles = [(entry["seconds"] + entry["to_seconds"]) / 2 for entry in audio["timeline"]]
        bars.append(_bars("voice", zip(middles, audio["timeline"], strict=True)))
    if fused:
        bars.append(_bars("both", [(entry["seconds"], entry) for entry in fused["timeline"]]))
    return {"faces": faces, "bars": [group for group in bars if group["seconds"]]}


def _bars(title: str, entries: Iterable[tuple[float, Mapping[str, Any]]]) -> dict[str, Any]:
    ordered = sorted(entries, key=lambda entry: entry[0])
    labels = list(ordered[0][1]["probabilities"]) if ordered else []
    values = [[entry["probabilities"][label] for label in labels] for _, entry in ordered]
    return {
        "title": title,
        "seconds": [seconds for seconds, _ in ordered],
        "labels": labels,
        "values": values,
    }
