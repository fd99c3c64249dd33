"""Builds the sets of a corpus: the tf.data graph files -> (worker processes) -> log-Mel, and what is kept of an earlier build."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.cli import load_tensorflow
from pipelines.corpora import find_clips
from pipelines.corpora.clip import STILL_SUFFIXES, Clip, Found
from pipelines.spec import DOMAINS, InputError, Spec, spaced_indices

CLIPS_PER_SHARD = 128
STILLS_PER_SHARD = 4096


@dataclasses.dataclass(frozen=True)
class Options:
    """What a build is asked for."""

    kind: str
    media: Path
    out: Path
    name: str | None = None
    domains: tuple[str, ...] = ()
    """Empty: every domain that the corpus has."""
    faces: str = "detect"
    """`detect`, or `as-is`: each picture is a face already."""
    detector: str = "viola-jones"
    """Which of `faces.DETECTORS` looks for the faces."""
    waveform: bool = False
    """Keep the int16 sound beside the log-Mel."""
    workers: int | None = None
    """None: as many as there are processors for this process."""
    limit: int | None = None
    """Only so many clips of each domain, evenly spaced over their names."""
    song: bool = False
    """RAVDESS: its songs too."""
    spec: Spec = Spec()


def build(
    options: Options,
    *,
    on_start: Callable[[int], None] = lambda total: None,
    on_file: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Build the sets of a corpus below `options.out`; finished work of an earlier call is kept.

    Args:
        options: What to build.
        on_start: Called with the number of files to read.
        on_file: Called after every file.
        tell: Called with a line about each set of which something is reused.

    Returns:
        `{"corpus", "domains": {domain: report}}`; see `report.set_report`.

    Raises:
        InputError: Nothing of the corpus was found.
    """
    extra = {"song": True} if options.song else {}
    found = find_clips(options.kind, options.media, name=options.name, domains=options.domains or DOMAINS, **extra)
    name = options.name or options.kind
    clips_of = {domain: [clip for clip in found.clips if clip.domain == domain] for domain in DOMAINS}
    if options.limit:
        clips_of = {domain: [clips[index] for index in spaced_indices(len(clips), options.limit)] for domain, clips in clips_of.items()}
    for domain in options.domains:
        if not clips_of[domain]:
            raise InputError(f"{options.media}: no {domain} clip of {name}; it has {_domains_found(clips_of)}")
    load_tensorflow()  # only now: a wrong word is answered at once
    from pipelines.decode import content_hash

    hashes = functools.cache(content_hash)

    def sha256_of(clip: Clip) -> str:
        try:
            return hashes(clip.path)
        except OSError:
            return ""

    with contextlib.ExitStack() as stack:
        writers, pending = {}, {}
        for domain, clips in clips_of.items():
            if clips and (writer := _writer(domain, clips, options, sha256_of, tell)) is not None:
                stack.callback(writer.close)
                writers[domain], pending[domain] = writer, writer.resume(sha256_of)
                if kept := len(clips) - len(pending[domain]):
                    tell(f"{writer.folder}: {kept} of {len(clips)} clips are there already, reused")
        tasks = _group_by_file(pending)
        on_start(len(tasks))
        for clips, result in stack.enter_context(contextlib.closing(_decoded(tasks, options))):
            for domain, clip in clips.items():
                _write(writers[domain], clip, result[domain], result["sha256"] or sha256_of(clip), options.spec)
            on_file()
        return {"corpus": name, "domains": _finished(options.out, name, [d for d in DOMAINS if clips_of[d]], writers, found)}


def _writer(domain: str, clips: Sequence[Clip], options: Options, sha256_of: Callable[[Clip], str], tell: Callable[[str], None]):
    """Return the writer of a set, or None where the very set is there already."""
    from pipelines import sets

    name = options.name or options.kind
    folder, set_options = options.out / name / domain, _set_options(options, name, domain)
    if sets.is_current(folder, clips=clips, options=set_options, sha256_of=sha256_of):
        tell(f"{folder}: there already, nothing has changed, reused")
        return None
    stills = all(clip.path.suffix.lower() in STILL_SUFFIXES for clip in clips)
    per_shard = STILLS_PER_SHARD if stills else CLIPS_PER_SHARD
    return sets.SetWriter(folder, clips=clips, options=set_options, clips_per_shard=per_shard)


def _finished(out: Path, name: str, domains: Sequence[str], writers: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """Put the sets in their places, write what is to be said of them, and return the reports."""
    from pipelines import page, records
    from pipelines.examine import manifests_in
    from pipelines.report import set_report

    manifests = {d: writers[d].manifest() if d in writers else records.read_manifest(out / name / d) for d in domains}
    beside = manifests_in(out) | {f"{name}/{domain}": manifest for domain, manifest in manifests.items()}
    reports = {}
    for domain in domains:
        rejects = [reject for reject in found.rejects if reject.domain == domain]
        reports[domain] = report = set_report(manifests[domain], rejects=rejects, defects=found.defects, beside=beside)
        if domain in writers:
            writers[domain].finish(report)
        elif records.read_json(path := out / name / domain / "report.json") != report:
            records.write_json(path, report)
    page.write(out / name)
    return reports


def _domains_found(clips_of: Mapping[str, Sequence[Clip]]) -> str:
    return " and ".join(f"{len(clips)} {domain}" for domain, clips in clips_of.items() if clips) or "none at all"


def _set_options(options: Options, name: str, domain: str) -> dict[str, Any]:
    """Return what decides a set's bytes beside its media, as its manifest holds it."""
    if domain == "visual":
        own = {"faces": options.faces, "detector": options.detector if options.faces == "detect" else None}
    else:
        own = {"waveform": options.waveform}
    # How many faces a clip has does not concern its sound.
    spec = options.spec if domain == "visual" else dataclasses.replace(options.spec, frames_per_clip=Spec.frames_per_clip)
    return {"corpus": name, "domain": domain, "kind": options.kind, **own, "spec": dataclasses.asdict(spec)}


def _group_by_file(clips_of: Mapping[str, Sequence[Clip]]) -> list[dict[str, Clip]]:
    """Return {domain: clip} for each file, sorted: a video is opened once for both domains."""
    groups: dict[Path, dict[str, Clip]] = {}
    for domain, clips in clips_of.items():
        for clip in clips:
            groups.setdefault(clip.path, {})[domain] = clip
    return sorted(groups.values(), key=lambda clips: min(clip.id for clip in clips.values()))


def _decoded(tasks: Sequence[Mapping[str, Clip]], options: Options) -> Iterator[tuple[Mapping[str, Clip], dict[str, Any]]]:
    """Yield (clips, result) in order: the tf.data graph files -> (worker processes) -> log-Mel.

    The result has the file's `sha256` and, for each domain, an error or what was read; of sound its `log_mel` in blocks.
    """
    import numpy as np
    import tensorflow as tf

    from pipelines import mels
    from pipelines.reading import Task
    from pipelines.workers import Pool, processors

    if not tasks:
        return
    spec = options.spec
    workers = min(options.workers or processors(), len(tasks))
    measure = tf.function(lambda waveform: mels.log_mel(waveform, spec=spec), input_signature=[tf.TensorSpec([None], tf.float32)])
    under_way: dict[int, tuple[dict[str, Any], Iterator[dict[str, Any]]]] = {}
    turn, started = threading.Condition(), 0

    def first_of(index):
        nonlocal started
        clip = next(iter(tasks[index].values()))
        still = clip.path.suffix.lower() in STILL_SUFFIXES
        detector = options.detector if options.faces == "detect" else None
        with turn:  # in order, as the pool asks
            turn.wait_for(lambda: started == index)
            messages = pool.read(Task(clip.path, tuple(tasks[index]), still=still, detector=detector))
            started += 1
            turn.notify_all()
        message = next(messages)
        under_way[int(index)] = message, messages
        return message.get("audio", {}).get("waveform", np.zeros(0, np.float32))

    def first_and_log_mel(index):
        waveform = tf.numpy_function(first_of, [index], tf.float32)
        return index, measure(tf.ensure_shape(waveform, [None]))

    with Pool(workers=workers, spec=spec) as pool:
        # Two calls more than workers: none of them waits while the log-Mel of its file is taken.
        dataset = tf.data.Dataset.range(len(tasks)).map(first_and_log_mel, num_parallel_calls=workers + 2, deterministic=True)
        threads = tf.data.Options()
        threads.threading.private_threadpool_size = workers + 4  # first_of() waits in them for its process
        # Under a name, so that it outlives the pool: it waits for its threads, which wait for the pool.
        log_mels = dataset.prefetch(workers).with_options(threads).as_numpy_iterator()
        for index, log_mel in log_mels:
            yield tasks[index], _whole(*under_way.pop(int(index)), log_mel, measure, options)


def _whole(message: dict[str, Any], messages: Iterator[dict[str, Any]], log_mel, measure, options: Options) -> dict[str, Any]:
    """Draw what is still to come of a file and return all that was read of it, the log-Mel in blocks: `log_mel` is the first."""
    import numpy as np

    spec, result = options.spec, message
    sound = result.get("audio", {})
    blocks, pcm, rest = [log_mel], [], None
    while "waveform" in sound:
        waveform = sound.pop("waveform")
        if options.waveform:
            pcm.append(np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16))
        if rest is not None:
            waveform = np.concatenate([rest, waveform])
            blocks.append(measure(waveform).numpy())
        rest = waveform[len(blocks[-1]) * spec.hop_samples :]
        message = next(messages, {})
        sound = message.get("audio", {})
        result["audio"] |= sound
        result |= {domain: entry for domain, entry in message.items() if domain in DOMAINS and "error" in entry}
    for _ in messages:  # the worker is free again
        pass
    result.get("audio", {}).update(log_mel=blocks, pcm=pcm)
    return result


def _write(writer, clip: Clip, result: Mapping[str, Any], sha256: str, spec: Spec) -> None:
    """Write one clip of one domain to its set, or quarantine it."""
    from pipelines import records

    if "error" in result:
        writer.quarantine(clip, result["error"], sha256=sha256, retry=result.get("retry", ""))
        return
    row = {"sha256": sha256} | {key: value for key, value in result.items() if key not in ("faces", "waveform", "log_mel", "pcm")}
    if clip.domain == "visual":
        faces = result["faces"]
        writer.add(clip, [records.serialise(clip, faces=faces)], row | {"items": len(faces), "content": _digest([faces])})
        return
    blocks = result["log_mel"]
    frames = sum(map(len, blocks))
    parts = -(-frames // spec.frame_count(spec.part_samples))
    edges = [round(part * frames / parts) for part in range(parts + 1)]
    items = sum(spec.segment_count(end - first) for first, end in itertools.pairwise(edges))
    row |= {"items": items, "padded": frames < spec.segment_frames, "content": _digest(blocks)}
    writer.add(clip, _parts(clip, blocks, result["pcm"], edges, spec), row)


def _digest(arrays: Sequence) -> str:
    """Return a hash of what was read, by which two files of the same content are told."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def _parts(clip: Clip, blocks: Sequence, pcm: Sequence, edges: Sequence[int], spec: Spec) -> Iterator[bytes]:
    """Yield the records of an utterance, cut at the edges (frames)."""
    from pipelines import records

    for part, (first, end) in enumerate(itertools.pairwise(edges)):
        samples = (first * spec.hop_samples, (end - 1) * spec.hop_samples + spec.fft_samples)
        sound = _cut(pcm, *samples) if pcm else None
        yield records.serialise(clip, part=part, log_mel=_cut(blocks, first, end), pcm=sound)


def _cut(blocks: Sequence, first: int, end: int):
    """Return what of an array that is held in blocks lies from `first` up to `end`; the whole is never put together."""
    import numpy as np

    starts = itertools.accumulate((len(block) for block in blocks), initial=0)
    return np.concatenate([block[max(0, first - start) : max(0, end - start)] for start, block in zip(starts, blocks, strict=False)])
