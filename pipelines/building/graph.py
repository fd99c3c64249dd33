"""Decode media files with worker processes, and compute the log-Mel in a tf.data graph."""

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import RunError
from pipelines.core.spec import Spec
from pipelines.corpora.clip import STILL_SUFFIXES, Clip

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    Measure = Callable[[tf.Tensor], tf.Tensor]
    """Returns the log-Mel of a waveform."""


class StalledError(RunError):
    """A decoder inside this process hangs. The process must end without waiting for the decoder."""


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
    """How files are decoded.

    Attributes:
        spec: The spec of the features.
        workers: The number of processes; None: the number of processors of this process.
        detector: The name of a detector; None: each picture is a face.
        audio_decoder: `av` or `tfio`.
        waveform: Also return the sound as int16.
    """

    spec: Spec = Spec()
    workers: int | None = None
    detector: str | None = "viola-jones"
    audio_decoder: str = "av"
    waveform: bool = False


def decode_files(
    tasks: Sequence[Mapping[str, Clip]], *, decoding: DecodingOptions
) -> Iterator[tuple[Mapping[str, Clip], dict[str, Any]]]:
    """Decode files, each in the domains of its task.

    Yields:
        Each task with its result, in order. The result has the `sha256` of the file and an entry
        for each domain. The entry is an error, or the faces with their counts, or the `log_mel`
        and, with `waveform`, the `pcm` of the sound in blocks, with the facts of the track.

    Raises:
        StalledError: tensorflow-io does not return from a file.
        WorkerError: The worker processes cannot start.
    """
    import numpy as np
    import tensorflow as tf

    from pipelines.core.processes import processor_count
    from pipelines.features import log_mel as log_mel_module
    from pipelines.workers import pool as pool_module
    from pipelines.workers.pool import WorkerPool
    from pipelines.workers.record_task import RecordTask

    if not tasks:
        return
    spec = decoding.spec
    processes = min(decoding.workers or processor_count(), len(tasks))
    measure = tf.function(
        lambda waveform: log_mel_module.log_mel(waveform, spec=spec),
        input_signature=[tf.TensorSpec([None], tf.float32)],
    )
    unfinished: dict[int, tuple[dict[str, Any], Iterator[dict[str, Any]]]] = {}
    turn, started = threading.Condition(), 0
    in_graph = decoding.audio_decoder == "tfio"
    domains_of = [
        tuple(domain for domain in task if not (in_graph and domain == "audio")) for task in tasks
    ]
    sounds = (
        _sounds_in_graph(
            [task["audio"].path for task in tasks if "audio" in task], measure, decoding
        )
        if in_graph
        else iter(())
    )

    def first_block(index: int) -> np.ndarray:
        nonlocal started
        clip = next(iter(tasks[index].values()))
        still = clip.path.suffix.lower() in STILL_SUFFIXES
        with turn:  # the pool needs its tasks in order
            turn.wait_for(lambda: started == index)
            messages = pool.read(
                RecordTask(clip.path, domains_of[index], still=still, detector=decoding.detector)
            )
            started += 1
            turn.notify_all()
        message = next(messages)
        unfinished[int(index)] = message, messages
        return message.get("audio", {}).get("waveform", np.zeros(0, np.float32))

    def first_log_mel(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        waveform = tf.numpy_function(first_block, [index], tf.float32)
        return index, measure(tf.ensure_shape(waveform, [None]))

    with WorkerPool(workers=processes, spec=spec, stall_seconds=pool_module.STALL_SECONDS) as pool:
        # Two more calls than workers, so that no worker waits for the log-Mel of its file.
        dataset = tf.data.Dataset.range(len(tasks)).map(
            first_log_mel, num_parallel_calls=processes + 2, deterministic=True
        )
        threads = tf.data.Options()
        # `first_block` waits for its process in one of these threads.
        threads.threading.private_threadpool_size = processes + 4
        # The end of the dataset would wait for the thread of autotune, for seconds.
        threads.autotune.enabled = False
        # The variable keeps the iterator longer than the pool: it waits for its threads, which
        # wait for the pool.
        log_mels = dataset.prefetch(processes).with_options(threads).as_numpy_iterator()
        # Ctrl-C does not interrupt `next` of TensorFlow, but it interrupts the wait for a thread.
        reader = ThreadPoolExecutor(1)
        while element := reader.submit(next, log_mels, ()).result():
            index, log_mel = element
            result = _complete_result(*unfinished.pop(int(index)), log_mel, measure, decoding)
            if in_graph and "audio" in tasks[index]:
                result["audio"] = next(sounds)
            yield tasks[index], result


def _sounds_in_graph(
    paths: Sequence[Path], measure: "Measure", decoding: DecodingOptions
) -> Iterator[dict[str, Any]]:
    """Yield the log-Mel of each file by tensorflow-io with the facts of the track, or an error."""
    import tensorflow as tf

    from pipelines.features import audio_tfio
    from pipelines.workers.pool import STALL_SECONDS

    def read(path: tf.Tensor) -> dict[str, tf.Tensor]:
        track = audio_tfio.read_waveform_tfio(path, spec=decoding.spec)
        return track | {"log_mel": measure(track["waveform"])}

    tracks = iter(
        tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).map(
            read, num_parallel_calls=2, deterministic=True
        )
    )
    for path in paths:
        results: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

        def advance(results: "queue.SimpleQueue[dict[str, Any]]" = results) -> None:
            try:
                results.put({name: value.numpy() for name, value in next(tracks).items()})
            except tf.errors.OpError as error:
                results.put({"error": audio_tfio.tfio_message(error)})
            except Exception as error:  # otherwise the wait below would end as a hang
                results.put({"error": f"decoder failed ({type(error).__name__}: {error})"})

        threading.Thread(target=advance, daemon=True).start()
        try:
            track = results.get(timeout=STALL_SECONDS)
        except queue.Empty as error:
            raise StalledError(
                f"{path}: tensorflow-io does not return from this file; "
                f"remove the file, or {audio_tfio.REMEDY}"
            ) from error
        if "error" not in track:
            waveform = track.pop("waveform")
            facts = {name: value.item() for name, value in track.items() if name != "log_mel"}
            track = facts | {
                "log_mel": [track["log_mel"]],
                "pcm": [_pcm(waveform)] if decoding.waveform else [],
            }
        yield track


def _pcm(waveform: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)


def _complete_result(
    message: dict[str, Any],
    messages: Iterator[dict[str, Any]],
    log_mel: "np.ndarray",
    measure: "Measure",
    decoding: DecodingOptions,
) -> dict[str, Any]:
    """Read the remaining messages of a file, and return all its data with the log-Mel in blocks."""
    import numpy as np

    spec, result = decoding.spec, message
    sound = result.get("audio", {})
    blocks, pcm, rest = [log_mel], [], None
    while "waveform" in sound:
        waveform = sound.pop("waveform")
        if decoding.waveform:
            pcm.append(_pcm(waveform))
        if rest is not None:
            waveform = np.concatenate([rest, waveform])
            blocks.append(measure(waveform).numpy())
        rest = waveform[len(blocks[-1]) * spec.hop_samples :]
        message = next(messages, {})
        sound = message.get("audio", {})
        result["audio"] |= sound
        result |= {
            domain: entry
            for domain, entry in message.items()
            if domain in DOMAINS and "error" in entry
        }
    for _ in messages:  # the worker is free again
        pass
    result.get("audio", {}).update(log_mel=blocks, pcm=pcm)
    return result
