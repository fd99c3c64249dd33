"""Small synthetic corpora in the genuine layouts of eNTERFACE'05, SAVEE and EMO-DB."""

import concurrent.futures
import contextlib
import dataclasses
import json
import multiprocessing
import signal
import wave
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.core import files
from pipelines.core.errors import InputError, RunError
from pipelines.core.locks import locked_folder
from pipelines.core.processes import processor_count
from pipelines.core.spec import SAMPLE_MARKER
from pipelines.corpora import emodb, enterface, savee

if TYPE_CHECKING:
    import numpy as np

    from pipelines.synthetic.head import Person
    from pipelines.synthetic.speech import Voice

RECIPE = 1
"""To be raised with every change that gives other clips for the same seed."""

SUBJECTS = ("1", "2", "3", "4", "5", "6")
BERLINERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
WOMEN = {"enterface": ("3", "6"), "savee": (), "emodb": ("08", "09", "13", "14", "16")}
"""Those of SAVEE and EMO-DB are as in the genuine corpora."""

VIDEO_CODEC, VIDEO_QUANTISER = "mpeg4", "5"
MP3_BITS_PER_SECOND = 96_000


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One act of speaking and the files that hold it, as paths below the output folder."""

    corpus: str
    speaker: str
    emotion: str
    text: str
    """Decides the sounds of the sentence; the same for all emotions, so that the words do not tell
    the emotion."""
    video: str | None = None
    audio: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the utterance."""
        return tuple(file for file in (self.video, self.audio) if file)


def plan_utterances() -> tuple[Utterance, ...]:
    """Return every utterance of the sample corpora, in a fixed order."""
    planned = []
    for subject in SUBJECTS:
        for code, emotion in enterface.EMOTIONS.items():
            for sentence in "123":
                folder = f"enterface/subject {subject}/{emotion}/sentence {sentence}"
                video = f"{folder}/s{subject}_{code}_{sentence}.avi"
                planned.append(Utterance("enterface", subject, emotion, sentence, video=video))
    for speaker in savee.SPEAKERS:
        for code, emotion in savee.EMOTIONS.items():
            for number in range(1, 9 if emotion == "neutral" else 5):
                video = f"savee/AudioVisualClip/{speaker}/{code}{number:02d}.avi"
                audio = f"savee/AudioData/{speaker}/{code}{number:02d}.wav"
                planned.append(
                    Utterance("savee", speaker, emotion, f"{number:02d}", video=video, audio=audio)
                )
    for row, speaker in enumerate(BERLINERS):
        for column, (letter, emotion) in enumerate(emodb.EMOTIONS.items()):
            texts = [TEXTS[(3 * row + column + 2 * step) % len(TEXTS)] for step in range(3)]
            takes = [f"{text}{letter}a" for text in texts]
            if (
                row + column
            ) % 4 == 0:  # now and then a sentence is said twice, as in the genuine corpus
                texts[2], takes[2] = texts[1], f"{texts[1]}{letter}b"
            for text, take in zip(texts, takes, strict=True):
                planned.append(
                    Utterance(
                        "emodb", speaker, emotion, text, audio=f"emodb/wav/{speaker}{take}.wav"
                    )
                )
    return tuple(planned)


def write_samples(
    out: Path,
    *,
    seed: int = 0,
    workers: int | None = None,
    utterances: Sequence[Utterance] | None = None,
    on_clip: Callable[[Utterance], None] | None = None,
) -> dict[str, Path]:
    """Write the sample corpora below `out`, and keep the files of an earlier call.

    A second process that writes to the same folder waits for the first.

    Args:
        out: A folder, which is made if it does not exist.
        seed: Another seed gives other speakers and other clips.
        workers: Number of processes; None takes one for each processor, 1 writes in this process.
        utterances: Some of `plan_utterances()`; None takes all.
        on_clip: Called after each utterance.

    Returns:
        For each corpus the folder that its loader takes as media.

    Raises:
        InputError: `out` holds something else, such as the samples of another seed.
        RunError: A worker process died.
        StorageError: `out` cannot be written.
    """
    out = Path(out)
    utterances = plan_utterances() if utterances is None else utterances
    workers = processor_count() if workers is None else workers
    with contextlib.ExitStack() as stack:
        with files.storage_errors(out):
            _make_folder(out)
            stack.enter_context(locked_folder(out, wait=True))
            _claim_folder(out, seed=seed)
        if workers == 1:
            for utterance in utterances:
                _write_utterance(utterance, out, seed)
                if on_clip is not None:
                    on_clip(utterance)
        else:
            tasks = [(utterance, out, seed) for utterance in utterances]
            _write_all(tasks, workers=workers, on_clip=on_clip)
    return {
        corpus: out / corpus
        for corpus in dict.fromkeys(utterance.corpus for utterance in utterances)
    }


def speaker_person(corpus: str, speaker: str, *, seed: int) -> "Person":
    """Return what a speaker of the samples looks like."""
    from pipelines.synthetic.film import ACTING
    from pipelines.synthetic.head import Person

    rng = _rng(seed, "face", corpus, speaker)
    return Person.drawn(rng, female=speaker in WOMEN[corpus], rest_spread=ACTING.rest_spread)


def speaker_voice(corpus: str, speaker: str, *, seed: int) -> "Voice":
    """Return what a speaker of the samples sounds like."""
    from pipelines.synthetic.speech import Voice

    return Voice.drawn(_rng(seed, "voice", corpus, speaker), female=speaker in WOMEN[corpus])


def _rng(seed: int, *names: str) -> "np.random.Generator":
    import numpy as np

    return np.random.default_rng([seed, zlib.crc32("/".join(names).encode())])


def _make_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--out expects a folder, but {out} is a file; name another folder")
    out.mkdir(parents=True, exist_ok=True)


def _claim_folder(out: Path, *, seed: int) -> None:
    """Write the marker of the folder, or check that an earlier call with the same seed wrote it."""
    marker, expected = out / SAMPLE_MARKER, json.dumps({"recipe": RECIPE, "seed": seed})
    if marker.exists():
        content = marker.read_text("utf-8", errors="replace").strip()
        if content != expected:
            raise InputError(
                f"{marker} holds {content or 'nothing'}, expected {expected}: the folder holds "
                "other samples; name another --out or delete the folder"
            )
        return
    for corpus in WOMEN:
        if (out / corpus).exists():
            raise InputError(
                f"{out / corpus} exists, but no {SAMPLE_MARKER} marks it as samples; name another "
                "--out"
            )
    files.write_text(marker, expected + "\n")


def _write_all(
    tasks: list[tuple], *, workers: int, on_clip: Callable[[Utterance], None] | None
) -> None:
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker
    )
    try:
        futures = {pool.submit(_write_utterance, *task): task[0] for task in tasks}
        for future in concurrent.futures.as_completed(futures):
            future.result()
            if on_clip is not None:
                on_clip(futures[future])
    except BrokenProcessPool as error:
        raise RunError(
            "a worker process died, perhaps because memory ran out; "
            "the same command with fewer --workers resumes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    cv2.setNumThreads(1)


def _write_utterance(utterance: Utterance, out: Path, seed: int) -> None:
    """Write the missing files of one utterance, each atomically."""
    missing = [file for file in utterance.files if not (out / file).exists()]
    if not missing:
        return
    from pipelines.synthetic.speech import CHANNELS, speak

    channel = CHANNELS[utterance.corpus]
    waveform, loudness = speak(
        speaker_voice(utterance.corpus, utterance.speaker, seed=seed),
        channel=channel,
        emotion=utterance.emotion,
        text_rng=_rng(seed, "text", utterance.corpus, utterance.text),
        rng=_rng(seed, "speech", *utterance.files),
    )
    pcm = (waveform * 32767).astype("<i2")
    for file in missing:
        path = out / file
        with files.storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic_path(path) as temporary:
                if file == utterance.audio:
                    _write_wav(temporary, pcm, rate_hz=channel.sample_rate_hz)
                else:
                    _write_avi(temporary, utterance, pcm=pcm, loudness=loudness, seed=seed)


def _write_wav(path: Path, pcm: "np.ndarray", *, rate_hz: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(pcm.tobytes())


def _write_avi(
    path: Path, utterance: Utterance, *, pcm: "np.ndarray", loudness: "np.ndarray", seed: int
) -> None:
    """Film the utterance and write picture and sound.

    `pcm` is int16 [samples], `loudness` float [steps].
    """
    import av
    import numpy as np

    from pipelines.synthetic.film import SCENES, film_clip
    from pipelines.synthetic.speech import CHANNELS, STEP_SECONDS

    scene, rate_hz = SCENES[utterance.corpus], CHANNELS[utterance.corpus].sample_rate_hz
    frame_seconds = (
        np.arange(np.ceil(len(pcm) / rate_hz * scene.frames_per_second)) / scene.frames_per_second
    )
    film = film_clip(
        speaker_person(utterance.corpus, utterance.speaker, seed=seed),
        scene=scene,
        emotion=utterance.emotion,
        loudness=np.interp(frame_seconds, np.arange(len(loudness)) * STEP_SECONDS, loudness),
        rng=_rng(seed, "film", utterance.video),
    )
    # One thread and a fixed quantiser: the bytes depend on nothing but the pictures.
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        options = {"qmin": VIDEO_QUANTISER, "qmax": VIDEO_QUANTISER}
        video = container.add_stream(VIDEO_CODEC, rate=scene.frames_per_second, options=options)
        video.width, video.height, video.pix_fmt, video.thread_count = (
            scene.width,
            scene.height,
            "yuv420p",
            1,
        )
        # SAVEE's two files of an utterance have the same samples; eNTERFACE's sound is compressed
        # to save room.
        sound = container.add_stream(
            "pcm_s16le" if utterance.audio else "mp3", rate=rate_hz, layout="mono"
        )
        if not utterance.audio:
            sound.bit_rate = MP3_BITS_PER_SECOND
        for planes in film:
            container.mux(video.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
