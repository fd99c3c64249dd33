"""What is said of one clip: gathered part by part while it is read, in memory that does not grow with its pictures or sound."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.metrics import fusion
from pipelines.core.domains import DOMAINS
from pipelines.core.spec import Spec
from pipelines.core.text import pluralize

WINDOW_SECONDS = 1.0
"""The voice's answer at a time is fused with the main face's over so long around it."""
MOST_COLUMNS = 1200
"""Of the spectrogram that is shown."""
TITLES = {"visual": "face", "audio": "voice"}


class Prediction:
    """Gathers the answers to one clip.

    Args:
        path: The clip.
        labels: What can be answered, in the order of the probabilities.
        asked: The domains in which the clip is read.
        fused: How its answers become one.
        shown: Keep what a page shows beside the answers.
        spec: Of the sound.
    """

    def __init__(
        self,
        path: Path,
        *,
        labels: Sequence[str],
        asked: Sequence[str],
        fused: fusion.Fusion,
        shown: bool = False,
        spec: Spec = Spec(),
    ):
        self.path = path
        self._labels, self._asked, self._fusion, self._spec = (
            list(labels),
            tuple(asked),
            fused,
            spec,
        )
        self._faces: list[
            tuple[float, int, tuple[int, ...], np.ndarray]
        ] = []  # seconds, person, box, probabilities
        self._segments: list[
            tuple[float, np.ndarray, float]
        ] = []  # when each begins, its answer, whether it counts
        self._pictures: list[dict[str, Any]] = []
        self._columns = Columns(MOST_COLUMNS) if shown else None
        self._begins: float | None = None  # when the sound does, after the first picture
        self._refused: dict[str, str] = {}

    def add_faces(self, block: Mapping[str, np.ndarray], probabilities: np.ndarray) -> None:
        """Take the answers to the faces of a block of `pipelines.workers.stream_task.StreamTask`."""
        rows = zip(
            block["seconds"].tolist(),
            block["face"].tolist(),
            block["boxes"].tolist(),
            probabilities,
            strict=True,
        )
        self._faces += [(seconds, face, tuple(box), answer) for seconds, face, box, answer in rows]

    def add_sound(self, part: Mapping[str, Any], answers: Mapping[str, np.ndarray]) -> None:
        """Take the answers of the signature `timeline` to a part of the sound."""
        if self._begins is None:
            self._begins = part["start_seconds"]
            if self._columns is not None and (
                frames := round(self._begins / self._spec.hop_seconds)
            ):
                self._columns.add(
                    np.full(
                        (frames, self._spec.mel_filters),
                        10 * np.log10(self._spec.power_floor),
                        np.float32,
                    )
                )
        starts = part["start_seconds"] + answers["starts"][0].astype(np.float64)
        weights = answers["weights"][0]
        self._segments += list(
            zip(starts.tolist(), answers["probabilities"][0], weights.tolist(), strict=True)
        )
        if self._columns is not None:
            from pipelines.features import log_mel as log_mel_module

            self._columns.add(log_mel_module.log_mel(part["waveform"], spec=self._spec).numpy())

    def refuse(self, domain: str, reason: str) -> None:
        """Take it that the model refuses what was read in a domain: nothing is said of that."""
        self._refused.setdefault(domain, reason)

    def add_pictures(self, pictures: Sequence[dict[str, Any]]) -> None:
        """Take key frames."""
        self._pictures += pictures

    def finish(self, last: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is said of the clip, and what a page shows beside it, once it has been read.

        Args:
            last: The last message of `pipelines.workers.stream_task.StreamTask`: the facts of each domain, or why there is nothing of it.
        """
        facts = {domain: last.get(domain, {"error": "not read"}) for domain in self._asked}
        facts |= {
            domain: {"error": reason}
            for domain, reason in self._refused.items()
            if "error" not in facts[domain]
        }
        errors = {domain: own["error"] for domain, own in facts.items() if "error" in own}
        named = {"path": str(self.path), "sha256": last.get("sha256", "")}
        extras = {"pictures": [] if "visual" in errors else self._pictures, "spectrogram": None}
        if len(errors) == len(facts):
            reasons = dict.fromkeys(errors.values())
            return named | {
                "error": "; ".join(reasons) or "nothing in it that the model was trained on"
            }, extras
        visual = (
            self._visual(facts["visual"]) if "visual" in facts and "visual" not in errors else None
        )
        audio = self._audio(facts["audio"]) if "audio" in facts and "audio" not in errors else None
        fused = self._fused(visual, audio) if visual and audio else None
        if audio and self._columns is not None:
            extras["spectrogram"] = {
                "log_mel": self._columns.values(),
                "seconds": self._begins + audio["seconds"],
            }
        warnings = [
            f"no answer by the {TITLES[domain]}: {reason}" for domain, reason in errors.items()
        ]
        warnings += self._warnings(visual, facts)
        return named | {
            "visual": visual,
            "audio": audio,
            "fused": fused,
            "warnings": warnings,
        }, extras

    def _visual(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        of_face: dict[int, list[int]] = defaultdict(list)
        for place, (_, face, _, _) in enumerate(self._faces):
            of_face[face].append(place)

        def weight(face: int) -> tuple[int, float]:  # how often, then how large
            boxes = [self._faces[place][2] for place in of_face[face]]
            return len(boxes), float(np.mean([width * height for _, _, width, height in boxes]))

        persons = []
        for face in sorted(of_face, key=weight, reverse=True):
            own = [self._faces[place] for place in of_face[face]]
            span = {
                "face": face,
                "from_seconds": round(own[0][0], 3),
                "to_seconds": round(own[-1][0], 3),
                "count": len(own),
            }
            persons.append(
                span
                | self._answer(np.mean([answer for *_, answer in own], axis=0, dtype=np.float64))
            )
        timeline = [
            {"seconds": round(seconds, 3), "face": face, "box": list(box)} | self._answer(answer)
            for seconds, face, box, answer in self._faces
        ]
        main = {key: persons[0][key] for key in ("emotion", "confidence", "probabilities")}
        own = {
            "seconds": round(facts["seconds"], 3),
            "size": facts["size"],
            "looked_at": facts["looked_at"],
        }
        return main | own | {"faces": persons, "timeline": timeline}

    def _audio(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        mean = np.mean(
            [answer for _, answer, weight in self._segments if weight], axis=0, dtype=np.float64
        )
        end = self._begins + facts["seconds"]
        timeline = [
            {
                "seconds": round(start, 3),
                "to_seconds": round(min(start + self._spec.segment_seconds, max(end, start)), 3),
            }
            | self._answer(answer)
            for start, answer, _ in self._segments
        ]
        return self._answer(mean) | {"seconds": round(facts["seconds"], 3), "timeline": timeline}

    def _fused(self, visual: Mapping[str, Any], audio: Mapping[str, Any]) -> dict[str, Any]:
        whole = fusion.fuse(self._fusion, self._row(visual), self._row(audio))
        own = {"visual_weight": self._fusion.visual_weight, "temperature": self._fusion.temperature}
        return (
            self._answer(whole)
            | own
            | {"timeline": list(self._fused_timeline(visual["faces"][0]["face"]))}
        )

    def _fused_timeline(self, main: int) -> Iterator[dict[str, Any]]:
        """Yield the fused answer in the middle of every segment around which the main face was seen."""
        seen = [(seconds, answer) for seconds, face, _, answer in self._faces if face == main]
        times, answers = (
            np.array([seconds for seconds, _ in seen]),
            np.stack([answer for _, answer in seen]),
        )
        for start, voice, _ in self._segments:
            middle = start + self._spec.segment_seconds / 2
            first, end = np.searchsorted(
                times, (middle - WINDOW_SECONDS / 2, middle + WINDOW_SECONDS / 2)
            )
            if first < end:
                face = answers[first:end].mean(axis=0, dtype=np.float64)
                yield {"seconds": round(middle, 3)} | self._answer(
                    fusion.fuse(self._fusion, face, voice)
                )

    def _warnings(
        self, visual: Mapping[str, Any] | None, facts: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[str]:
        if visual and len(visual["faces"]) > 1:
            main = visual["faces"][0]["face"]
            yield f"{len(visual['faces'])} faces: the answer is that of face {main}, and the voice may be another's"
        for domain in DOMAINS:
            own = facts.get(domain, {})
            if lost := own.get("undecodable"):
                yield f"{pluralize(lost, 'picture' if domain == 'visual' else 'packet')} did not decode"
            if (missing := own.get("missing_seconds", 0)) > 0:
                yield f"the sound ends {missing:.2f} s before its header says"
        if (
            self._fusion.utterances == 0
            and set(facts) == set(DOMAINS)
            and not any("error" in own for own in facts.values())
        ):
            yield "face and voice are weighted alike: the model's validation clips had none with both"

    def _answer(self, probabilities: np.ndarray) -> dict[str, Any]:
        best = int(np.argmax(probabilities))
        rounded = [round(float(value), 6) for value in probabilities]
        return {
            "emotion": self._labels[best],
            "confidence": rounded[best],
            "probabilities": dict(zip(self._labels, rounded, strict=True)),
        }

    def _row(self, answer: Mapping[str, Any]) -> np.ndarray:
        row = np.array([answer["probabilities"][label] for label in self._labels])
        return row / row.sum()


class Columns:
    """A spectrogram of any length in at most so many columns: neighbours are averaged whenever there are twice as many.

    >>> columns = Columns(2)
    >>> columns.add(np.arange(8.0)[:, None])
    >>> columns.values()[:, 0].tolist()
    [1.5, 5.5]
    """

    def __init__(self, most: int):
        self._most, self._each = most, 1
        self._held: list[np.ndarray] = []
        self._rest: np.ndarray | None = None

    def add(self, log_mel: np.ndarray) -> None:
        """Take float32 [frames, filters]."""
        joined = log_mel if self._rest is None else np.concatenate([self._rest, log_mel])
        whole = len(joined) // self._each * self._each
        self._held += list(joined[:whole].reshape(-1, self._each, joined.shape[1]).mean(axis=1))
        self._rest = joined[whole:]
        while len(self._held) >= 2 * self._most:
            if len(self._held) % 2:
                self._rest = np.concatenate(
                    [np.repeat(self._held.pop()[None], self._each, axis=0), self._rest]
                )
            self._held = [
                (one + other) / 2
                for one, other in zip(self._held[::2], self._held[1::2], strict=True)
            ]
            self._each *= 2

    def values(self) -> np.ndarray:
        """Return float32 [columns, filters] of all but the frames that fill no column."""
        held = np.stack(self._held or [self._rest.mean(axis=0)]).astype(np.float32)
        count = -(-len(held) // self._most)
        whole = len(held) // count * count
        return held[:whole].reshape(-1, count, held.shape[1]).mean(axis=1)


def captions(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the boxes of all faces and the bars of the main face, the voice and both, as plain data.

    Args:
        result: What was said of one clip that could be read.
    """
    visual, audio, fused = result["visual"], result["audio"], result["fused"]
    faces: dict[int, dict[str, list]] = {}
    for entry in sorted(visual["timeline"] if visual else (), key=lambda entry: entry["seconds"]):
        own = faces.setdefault(entry["face"], {"seconds": [], "boxes": [], "texts": []})
        own["seconds"].append(entry["seconds"])
        own["boxes"].append(list(entry["box"]))
        own["texts"].append(f"{entry['emotion']} {100 * entry['confidence']:.0f}%")
    bars = []
    if visual:
        main = visual["faces"][0]["face"]
        bars.append(
            _bars(
                "face",
                [
                    (entry["seconds"], entry)
                    for entry in visual["timeline"]
                    if entry["face"] == main
                ],
            )
        )
    if audio:
        bars.append(
            _bars(
                "voice",
                [
                    ((entry["seconds"] + entry["to_seconds"]) / 2, entry)
                    for entry in audio["timeline"]
                ],
            )
        )
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
