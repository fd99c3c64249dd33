"""Predict the emotions of clips with a bundle.

Worker processes read the clips. The bundle predicts the faces of several clips in one batch.
"""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.inference.clip_prediction import ClipPrediction, ClipPredictionBuilder
from kerasemo.metrics import fusion
from kerasemo.serving.bundle import Bundle
from pipelines.core.domains import domain_facts
from pipelines.core.errors import InputError
from pipelines.core.processes import processor_count
from pipelines.core.spec import Spec
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.corpora.clip import STILL_SUFFIXES, domains_of, media_files
from pipelines.workers.pool import STALL_SECONDS, WorkerPool
from pipelines.workers.stream_task import StreamTask

FACES_PER_BATCH = 128
MAX_WAITING_MESSAGES = 8
"""The most messages that wait for the network. Readers are faster than the network."""
MAX_CLIPS_AHEAD = 64
"""The most clips that are read while the prediction of an earlier clip is incomplete."""


@dataclasses.dataclass(frozen=True)
class ReadingOptions:
    """The options of reading clips.

    Attributes:
        faces_per_second: The number of frames per second that are searched.
        detector: The name of a detector; None: each picture is a face.
        workers: The number of processes; None: the number of processors of this process.
        pictures: The number of key frames of each clip; above 0, its spectrogram is kept too.
    """

    faces_per_second: float = 4.0
    detector: str | None = "viola-jones"
    workers: int | None = None
    pictures: int = 0


def expand_clips(names: Sequence[Path]) -> list[Path]:
    """Return the clips of files and folders, without duplicates.

    A folder without media is returned as a clip, and its prediction is an error.

    Raises:
        OSError: A folder cannot be read.
    """
    clips = []
    for name in names:
        if not name.is_dir():
            clips.append(name)
            continue
        clips += [name / id for id in media_files(name) if domains_of(Path(id))] or [name]
    return list(dict.fromkeys(clips))


def predict_clips(
    bundle: Bundle,
    clips: Sequence[Path],
    *,
    reading: ReadingOptions = ReadingOptions(),
    spec: Spec = Spec(),
    on_seconds: Callable[[Path, float, float], None] = lambda _path, _seconds, _duration: None,
) -> Iterator[ClipPrediction]:
    """Yield the prediction of each clip, in the order of the clips.

    The prediction of a clip that cannot be read has an `error`.

    Args:
        bundle: The exported model.
        clips: The files.
        reading: How the clips are read.
        spec: The spec of the model's inputs.
        on_seconds: Called with a clip, the seconds that were read, and its duration in seconds.

    Raises:
        InputError: The bundle predicts no emotions.
        DataError: The bundle is damaged.
        RunError: A worker process cannot start.
    """
    if not {"timeline", "faces"} & set(bundle.signatures):
        raise InputError(
            f"{bundle.folder}: the model predicts no emotions, because a contrastive stage trained "
            "it; export another stage"
        )
    prediction_run = _PredictionRun(bundle, clips, reading, spec, on_seconds)
    with WorkerPool(
        workers=min(reading.workers or processor_count(), max(1, len(clips))),
        spec=spec,
        stall_seconds=STALL_SECONDS,
    ) as pool:
        yield from prediction_run.run(pool)


class _PredictionRun:
    """The state of the clips between reading and prediction."""

    def __init__(
        self,
        bundle: Bundle,
        clips: Sequence[Path],
        reading: ReadingOptions,
        spec: Spec,
        on_seconds: Callable[[Path, float, float], None],
    ) -> None:
        self._bundle, self._clips, self._reading, self._spec = bundle, clips, reading, spec
        self._on_seconds = on_seconds
        self._messages: queue.Queue[tuple[int, dict[str, Any] | BaseException]] = queue.Queue(
            MAX_WAITING_MESSAGES
        )
        self._builders: dict[int, ClipPredictionBuilder] = {}
        self._waiting_faces: list[tuple[int, dict[str, np.ndarray]]] = []
        self._finished: dict[int, ClipPrediction] = {}
        self._durations: dict[int, float] = {}
        self._training_files = bundle.training_clips().files
        self._yielded_count = 0
        self._condition, self._next_index = threading.Condition(), 0

    def run(self, pool: WorkerPool) -> Iterator[ClipPrediction]:
        """Yield the predictions in the order of the clips."""
        for _ in range(min(self._reading.workers or processor_count(), max(1, len(self._clips)))):
            threading.Thread(target=self._read, args=(pool,), daemon=True).start()
        load_tensorflow()  # the workers read the first clips at the same time
        while self._yielded_count < len(self._clips):
            index, message = self._messages.get()
            if isinstance(message, BaseException):
                raise message
            self._add_message(index, message)
            while self._yielded_count in self._finished:
                prediction = self._finished.pop(self._yielded_count)
                with self._condition:
                    self._yielded_count += 1
                    self._condition.notify_all()
                yield prediction

    def _read(self, pool: WorkerPool) -> None:
        """Read one clip after another, and put the messages in the queue."""
        try:
            while True:
                with self._condition:
                    index = self._next_index
                    if index >= len(self._clips):
                        return
                    self._next_index += 1
                    while index >= self._yielded_count + MAX_CLIPS_AHEAD:
                        self._condition.wait()
                    messages = pool.read(self._task(index))  # in the order of the clips
                for message in messages:
                    self._messages.put((index, message))
        except BaseException as error:  # `run` raises it
            self._messages.put((-1, error))

    def _domains(self, path: Path) -> tuple[str, ...]:
        """Return the domains of a file that the model was trained on."""
        return tuple(domain for domain in domains_of(path) if domain in self._bundle.domains)

    def _task(self, index: int) -> StreamTask:
        path = self._clips[index]
        return StreamTask(
            path,
            path.suffix.lower() in STILL_SUFFIXES,
            self._reading.detector,
            self._reading.faces_per_second,
            pictures=self._reading.pictures,
            domains=self._domains(path),
        )

    def _add_message(self, index: int, message: dict[str, Any]) -> None:
        """Add a message of a clip, and predict a full batch of faces or a part of sound."""
        path = self._clips[index]
        if index not in self._builders:
            self._builders[index] = ClipPredictionBuilder(
                path,
                labels=self._bundle.labels,
                domains=self._domains(path),
                fusion_parameters=fusion.Fusion(**self._bundle.fusion),
                keep_spectrogram=self._reading.pictures > 0,
                spec=self._spec,
            )
        if message["more"]:
            if "visual" in message:
                self._waiting_faces.append((index, message["visual"]))
                if sum(len(block["faces"]) for _, block in self._waiting_faces) >= FACES_PER_BATCH:
                    self._predict_faces()
            if "audio" in message:
                self._predict_sound(index, message["audio"])
            if "pictures" in message:
                self._builders[index].add_pictures(message["pictures"])
            if "length" in message:
                self._durations[index] = message["length"]
            if "at" in message and index in self._durations:
                self._on_seconds(path, message["at"], self._durations[index])
            return
        if any(clip_index == index for clip_index, _ in self._waiting_faces):
            self._predict_faces()
        if duration := self._durations.pop(index, 0.0):
            self._on_seconds(path, duration, duration)
        self._finished[index] = self._build(index, message)

    def _build(self, index: int, last_message: dict[str, Any]) -> ClipPrediction:
        """Return the prediction of a clip after its last message."""
        path, builder = self._clips[index], self._builders.pop(index)
        error = _path_error(path)
        if error:
            return ClipPrediction({"path": str(path), "sha256": "", "error": error})
        prediction = builder.build(last_message)
        domains = domains_of(path)
        untrained = [domain for domain in domains if domain not in self._bundle.domains]
        if prediction.error:
            if len(untrained) < len(domains):
                return prediction
            error = (
                f"the model was trained only on {' and '.join(self._bundle.domains)}, "
                f"and the clip is {' and '.join(untrained)}"
            )
            return dataclasses.replace(prediction, document=prediction.document | {"error": error})
        warnings = list(prediction.warnings)
        if prediction.document["sha256"] in self._training_files:
            warnings.append(
                "the model was trained on this file, or the epoch of its weights was chosen on it"
            )
        warnings += [
            f"the model was not trained on {domain_facts(domain).person_part}s"
            for domain in untrained
        ]
        return dataclasses.replace(
            prediction, document=prediction.document | {"warnings": warnings}
        )

    def _predict_sound(self, index: int, part: dict[str, Any]) -> None:
        """Predict a part of a clip's sound, or leave out a voice that the graph refuses."""
        try:
            outputs = self._bundle.predict("timeline", waveform=part["waveform"][None])
        except InputError as error:
            self._builders[index].refuse("audio", str(error))
        else:
            self._builders[index].add_sound(part, outputs)

    def _predict_faces(self) -> None:
        """Predict all waiting faces in one batch."""
        faces = np.concatenate([block["faces"] for _, block in self._waiting_faces])
        probabilities = self._bundle.predict("faces", faces=faces)["probabilities"]
        start = 0
        for index, block in self._waiting_faces:
            end = start + len(block["faces"])
            self._builders[index].add_faces(block, probabilities[start:end])
            start = end
        self._waiting_faces.clear()


def _path_error(path: Path) -> str:
    """Return why a path cannot be read as a clip, or an empty string."""
    if path.is_dir():
        return "no video, sound or picture in the folder; expected such as .mp4, .wav or .jpg"
    if not _is_utf8(path):
        return "a name that is not UTF-8; rename the file"
    if domains_of(path):
        return ""
    if not path.exists():
        return "no such file or folder"
    return f"not media by its suffix {path.suffix!r}; expected such as .mp4, .wav or .jpg"


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
