"""Clips -> predictions: worker processes read, the bundle answers, faces of several clips in one batch."""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kerasemo.inference.clip_prediction import Prediction
from kerasemo.metrics import fusion
from kerasemo.serving.bundle import Bundle
from pipelines.core.errors import InputError, KerasemoError
from pipelines.core.processes import processor_count
from pipelines.core.spec import Spec
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.corpora.clip import STILL_SUFFIXES, domains_of, media_files
from pipelines.workers.pool import STALL_SECONDS, WorkerPool
from pipelines.workers.stream_task import StreamTask

FACES_AT_ONCE = 128
"""A batch of faces waits for no more."""
WAITING = 8
"""Messages that wait for the network, at most: readers are faster, and memory is not to grow."""
AHEAD = 64
"""Clips that are read while an earlier one is not finished, at most; results come in the order of the clips."""

Said = tuple[dict[str, Any], dict[str, Any]]
"""What is said of a clip, and what a page shows beside it."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How clips are read."""

    faces_per_second: float = 4.0
    detector: str | None = "viola-jones"
    """None: each picture is a face already."""
    workers: int | None = None
    """None: as many as there are processors for this process."""
    pictures: int = 0
    """Key frames that are kept of each clip; above 0 its spectrogram is kept too."""


def find_clips(names: Sequence[Path]) -> list[Path]:
    """Return the clips that names mean: files as they are, of folders all media in them; OSError where one cannot be read."""
    found = []
    for name in names:
        if not name.is_dir():
            found.append(name)
            continue
        found += [name / id for id in media_files(name) if domains_of(Path(id))] or [
            name
        ]  # an empty one is told in its place
    return list(dict.fromkeys(found))


def predict(
    bundle: Bundle,
    clips: Sequence[Path],
    *,
    reading: Reading = Reading(),
    spec: Spec = Spec(),
    on_seconds: Callable[[Path, float, float], None] = lambda path, seconds, of: None,
) -> Iterator[Said]:
    """Yield what is said of each clip, in their order, as soon as it and those before it are read.

    A clip that cannot be read has an `error`; the others go on.

    Args:
        bundle: The exported model.
        clips: Files.
        reading: How they are read.
        spec: The numbers of its inputs.
        on_seconds: Called with a clip, how far it has been read, and how long it is said to be.
    """
    if not {"timeline", "faces"} & set(bundle.signatures):
        raise InputError(
            f"{bundle.folder}: a model that answers nothing (it was trained by a contrastive stage); export another stage"
        )
    work = _Work(bundle, clips, reading, spec, on_seconds)
    with WorkerPool(
        workers=min(reading.workers or processor_count(), max(1, len(clips))),
        spec=spec,
        stall_seconds=STALL_SECONDS,
    ) as pool:
        yield from work.run(pool)


class _Work:
    """The clips that are under way."""

    def __init__(
        self, bundle: Bundle, clips: Sequence[Path], reading: Reading, spec: Spec, on_seconds
    ):
        self._bundle, self._clips, self._reading, self._spec, self._on_seconds = (
            bundle,
            clips,
            reading,
            spec,
            on_seconds,
        )
        self._messages: queue.Queue[tuple[int, dict[str, Any] | BaseException]] = queue.Queue(
            WAITING
        )
        self._under_way: dict[int, Prediction] = {}
        self._faces: list[tuple[int, dict[str, np.ndarray]]] = []
        self._done: dict[int, Said] = {}
        self._lengths: dict[int, float] = {}
        self._known = bundle.training_files()
        self._given = 0
        self._turn, self._next = threading.Condition(), 0

    def run(self, pool: WorkerPool) -> Iterator[Said]:
        """Yield the results in order."""
        for _ in range(min(self._reading.workers or processor_count(), max(1, len(self._clips)))):
            threading.Thread(target=self._read, args=(pool,), daemon=True).start()
        load_tensorflow()  # while the first clips are read
        while self._given < len(self._clips):
            index, message = self._messages.get()
            if isinstance(message, BaseException):
                raise message
            self._take(index, message)
            while (said := self._done.pop(self._given, None)) is not None:
                with self._turn:
                    self._given += 1
                    self._turn.notify_all()
                yield said

    def _read(self, pool: WorkerPool) -> None:
        """Have clips read, one after the other, and pass on what comes of them."""
        try:
            while True:
                with self._turn:
                    index = self._next
                    if index >= len(self._clips):
                        return
                    self._next += 1
                    self._turn.wait_for(lambda index=index: index < self._given + AHEAD)
                    messages = pool.read(self._task(index))  # in order, as the pool asks
                for message in messages:
                    self._messages.put((index, message))
        except BaseException as error:  # told where the results are drawn
            self._messages.put((-1, error))

    def _asked(self, path: Path) -> tuple[str, ...]:
        """Return the domains of a file that the model was trained on."""
        return tuple(domain for domain in domains_of(path) if domain in self._bundle.domains)

    def _task(self, index: int) -> StreamTask:
        path = self._clips[index]
        still = path.suffix.lower() in STILL_SUFFIXES
        asked = self._asked(path)
        return StreamTask(
            path,
            still,
            self._reading.detector,
            self._reading.faces_per_second,
            pictures=self._reading.pictures,
            domains=asked,
        )

    def _take(self, index: int, message: dict[str, Any]) -> None:
        """Take a message of a clip; the faces of several are answered together."""
        path = self._clips[index]
        if index not in self._under_way:
            fused = fusion.Fusion(**self._bundle.fusion)
            made = {
                "labels": self._bundle.labels,
                "asked": self._asked(path),
                "fused": fused,
                "shown": self._reading.pictures > 0,
            }
            self._under_way[index] = Prediction(path, **made, spec=self._spec)
        if message["more"]:
            if "visual" in message:
                self._faces.append((index, message["visual"]))
                if sum(len(block["faces"]) for _, block in self._faces) >= FACES_AT_ONCE:
                    self._answer_faces()
            if "audio" in message:
                self._answer_sound(index, message["audio"])
            if "pictures" in message:
                self._under_way[index].add_pictures(message["pictures"])
            if "length" in message:
                self._lengths[index] = message["length"]
            if "at" in message and index in self._lengths:
                self._on_seconds(path, message["at"], self._lengths[index])
            return
        if any(waiting == index for waiting, _ in self._faces):
            self._answer_faces()
        if length := self._lengths.pop(index, 0.0):
            self._on_seconds(path, length, length)
        self._done[index] = self._finished(index, message)

    def _finished(self, index: int, last: dict[str, Any]) -> Said:
        path, prediction = self._clips[index], self._under_way.pop(index)
        readable = domains_of(path)
        if path.is_dir():
            return {
                "path": str(path),
                "sha256": "",
                "error": "no video, sound or picture in it; expected such as .mp4, .wav or .jpg",
            }, {}
        if not _is_utf8(path):
            return {
                "path": str(path),
                "sha256": "",
                "error": "a name that is not UTF-8; rename the file",
            }, {}
        if not readable:
            odd = f"not media by its suffix {path.suffix!r}; expected such as .mp4, .wav or .jpg"
            return {
                "path": str(path),
                "sha256": "",
                "error": odd if path.exists() else "no such file or folder",
            }, {}
        said, extras = prediction.finish(last)
        untrained = [domain for domain in readable if domain not in self._bundle.domains]
        if "warnings" in said:
            if said["sha256"] in self._known:
                said["warnings"].append(
                    "the model was trained on this very file, or its epoch was chosen on it"
                )
            titles = {"visual": "faces", "audio": "voices"}
            said["warnings"] += [
                f"the model was not trained on {titles[domain]}" for domain in untrained
            ]
        elif len(untrained) == len(readable):
            said["error"] = (
                f"the model was trained on {' and '.join(self._bundle.domains)} alone, and this is {' and '.join(untrained)}"
            )
        return said, extras

    def _answer_sound(self, index: int, part: dict[str, Any]) -> None:
        """Answer a part of a clip's sound; what the model refuses costs this clip's voice alone."""
        try:
            answers = self._bundle.ask("timeline", waveform=part["waveform"][None])
        except KerasemoError as error:
            self._under_way[index].refuse("audio", str(error))
        else:
            self._under_way[index].add_sound(part, answers)

    def _answer_faces(self) -> None:
        """Answer all faces that wait, in one batch."""
        faces = np.concatenate([block["faces"] for _, block in self._faces])
        probabilities = self._bundle.ask("faces", faces=faces)["probabilities"]
        start = 0
        for index, block in self._faces:
            end = start + len(block["faces"])
            self._under_way[index].add_faces(block, probabilities[start:end])
            start = end
        self._faces.clear()


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
