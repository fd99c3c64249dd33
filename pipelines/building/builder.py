"""Build the sets of a corpus: which files to read, what to reuse of an earlier build, and what the records hold."""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.building.graph import Reading, decoded
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.files import bytes_sha256
from pipelines.core.spec import SAMPLE_MARKER, Spec, spaced_indices
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.core.text import printable
from pipelines.corpora import find_clips
from pipelines.corpora.clip import STILL_SUFFIXES, Clip, Found

logger = logging.getLogger(__name__)

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
    audio_decoder: str = "av"
    """What decodes sound: `av` (the workers), or `tfio` (tensorflow-io, in the graph)."""
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
) -> dict[str, Any]:
    """Build the sets of a corpus below `options.out`; finished work of an earlier call is kept.

    The log says which sets and clips are reused, and names every file that is left out.

    Args:
        options: What to build.
        on_start: Called with the number of files to read.
        on_file: Called after every file.

    Returns:
        `{"corpus", "domains": {domain: report}}`; see `findings.set_report`.

    Raises:
        InputError: Nothing of the corpus was found, or an option names what does not exist.
        DataError: A list of clips is damaged.
        RunError: Another build writes the same set, or a worker process cannot start.
        StorageError: The disk is full, or `options.out` cannot be written.
    """
    extra = {"song": True} if options.song else {}
    found = find_clips(
        options.kind, options.media, name=options.name, domains=options.domains or DOMAINS, **extra
    )
    name = options.name or options.kind
    clips_of = {
        domain: [clip for clip in found.clips if clip.domain == domain] for domain in DOMAINS
    }
    if options.limit:
        clips_of = {
            domain: [clips[index] for index in spaced_indices(len(clips), options.limit)]
            for domain, clips in clips_of.items()
        }
    for reject in found.rejects:
        if not clips_of[reject.domain]:  # no report holds it
            _log_quarantined(reject.id, reject.domain, reject.reason)
    for domain in options.domains:
        if not clips_of[domain]:
            raise InputError(
                f"{options.media}: no {domain} clip of {name}; it has {_domains_found(clips_of)}"
            )
    load_tensorflow()  # only now, so that a wrong option is refused at once
    if options.faces == "detect" and clips_of["visual"]:
        from pipelines.faces import detectors

        # A wrong name, or a package that is missing, is refused once, not for every file.
        detectors.load_detector(options.detector)
    if options.audio_decoder == "tfio":
        from pipelines.features import audio_tfio

        audio_tfio.check_tfio()
    from pipelines.media.images import content_hash

    hashes = functools.cache(content_hash)

    def sha256_of(clip: Clip) -> str:
        try:
            return hashes(clip.path)
        except OSError:
            return ""

    with contextlib.ExitStack() as stack:
        writers, pending = {}, {}
        for domain, clips in clips_of.items():
            if clips and (writer := _writer(domain, clips, options, sha256_of)) is not None:
                stack.callback(writer.close)
                writers[domain], pending[domain] = writer, writer.resume(sha256_of)
                if kept := len(clips) - len(pending[domain]):
                    logger.info("%s: reusing %d of %d clips", writer.folder, kept, len(clips))
        tasks = _group_by_file(pending)
        detector = options.detector if options.faces == "detect" else None
        reading = Reading(
            options.spec, options.workers, detector, options.audio_decoder, options.waveform
        )
        on_start(len(tasks))
        for clips, result in stack.enter_context(
            contextlib.closing(decoded(tasks, reading=reading))
        ):
            for domain, clip in clips.items():
                _write(
                    writers[domain],
                    clip,
                    result[domain],
                    result["sha256"] or sha256_of(clip),
                    options.spec,
                )
            on_file()
        reports = _finished(options.out, name, [d for d in DOMAINS if clips_of[d]], writers, found)
    for domain, report in reports.items():
        for row in report["quarantined"]:
            _log_quarantined(row["path"], domain, row["reason"])
    return {"corpus": name, "domains": reports}


def _log_quarantined(path: str, domain: str, reason: str) -> None:
    logger.warning("%s", printable(f"quarantined: {path} ({domain}): {reason}"))


def _writer(
    domain: str,
    clips: Sequence[Clip],
    options: Options,
    sha256_of: Callable[[Clip], str],
):
    """Return the writer of a set, or None where the folder holds this very set."""
    from pipelines.records.writer import SetWriter, is_current

    name = options.name or options.kind
    folder, set_options = options.out / name / domain, _set_options(options, name, domain)
    if is_current(folder, clips=clips, options=set_options, sha256_of=sha256_of):
        logger.info("%s: reusing the set, nothing has changed", folder)
        return None
    stills = all(clip.path.suffix.lower() in STILL_SUFFIXES for clip in clips)
    per_shard = STILLS_PER_SHARD if stills else CLIPS_PER_SHARD
    return SetWriter(folder, clips=clips, options=set_options, clips_per_shard=per_shard)


def _finished(
    out: Path, name: str, domains: Sequence[str], writers: Mapping[str, Any], found: Found
) -> dict[str, Any]:
    """Put the sets in their places, write what is to be said of them, and return the reports."""
    from pipelines.building import page
    from pipelines.building.findings import manifests_in, set_report
    from pipelines.core import files
    from pipelines.records import reader

    manifests = {
        d: writers[d].manifest() if d in writers else reader.read_manifest(out / name / d)
        for d in domains
    }
    beside = manifests_in(out) | {
        f"{name}/{domain}": manifest for domain, manifest in manifests.items()
    }
    reports = {}
    for domain in domains:
        rejects = [reject for reject in found.rejects if reject.domain == domain]
        reports[domain] = report = set_report(
            manifests[domain], rejects=rejects, defects=found.defects, beside=beside
        )
        if domain in writers:
            writers[domain].finish(report)
        elif files.read_json(path := out / name / domain / "report.json") != report:
            with files.storage_errors(path):
                files.write_json(path, report)
    page.write(out / name)
    return reports


def _domains_found(clips_of: Mapping[str, Sequence[Clip]]) -> str:
    return (
        " and ".join(f"{len(clips)} {domain}" for domain, clips in clips_of.items() if clips)
        or "none at all"
    )


def _set_options(options: Options, name: str, domain: str) -> dict[str, Any]:
    """Return what decides a set's bytes beside its media, as its manifest holds it."""
    if domain == "visual":
        own = {
            "faces": options.faces,
            "detector": options.detector if options.faces == "detect" else None,
        }
    else:
        own = {"waveform": options.waveform, "audio_decoder": options.audio_decoder}
    # How many faces a clip has does not concern its sound.
    spec = (
        options.spec
        if domain == "visual"
        else dataclasses.replace(options.spec, frames_per_clip=Spec.frames_per_clip)
    )
    from_samples = (
        {"synthetic": True} if (options.media.absolute().parent / SAMPLE_MARKER).is_file() else {}
    )
    return {
        "corpus": name,
        "domain": domain,
        "kind": options.kind,
        **own,
        **from_samples,
        "spec": dataclasses.asdict(spec),
    }


def _group_by_file(clips_of: Mapping[str, Sequence[Clip]]) -> list[dict[str, Clip]]:
    """Return {domain: clip} for each file, sorted: a video is opened once for both domains."""
    groups: dict[Path, dict[str, Clip]] = {}
    for domain, clips in clips_of.items():
        for clip in clips:
            groups.setdefault(clip.path, {})[domain] = clip
    return sorted(groups.values(), key=lambda clips: min(clip.id for clip in clips.values()))


def _write(writer, clip: Clip, result: Mapping[str, Any], sha256: str, spec: Spec) -> None:
    """Write one clip of one domain to its set, or quarantine it."""
    from pipelines.records import schema

    if "error" in result:
        writer.quarantine(clip, result["error"], sha256=sha256, retry=result.get("retry", ""))
        return
    row = {"sha256": sha256} | {
        key: value
        for key, value in result.items()
        if key not in ("faces", "waveform", "log_mel", "pcm")
    }
    if clip.domain == "visual":
        faces = result["faces"]
        writer.add(
            clip,
            [schema.serialise(clip, faces=faces)],
            row | {"items": len(faces), "content": _digest([faces])},
        )
        return
    blocks = result["log_mel"]
    frames = sum(map(len, blocks))
    edges = spec.part_edges(frames)
    items = sum(spec.segment_count(end - first) for first, end in itertools.pairwise(edges))
    row |= {"items": items, "padded": frames < spec.segment_frames, "content": _digest(blocks)}
    writer.add(clip, _parts(clip, blocks, result["pcm"], edges, spec), row)


def _digest(arrays: Sequence) -> str:
    """Return a hash of what was decoded. Two files of the same content have the same hash."""
    return bytes_sha256(array.tobytes() for array in arrays)[:32]


def _parts(
    clip: Clip, blocks: Sequence, pcm: Sequence, edges: Sequence[int], spec: Spec
) -> Iterator[bytes]:
    """Yield the records of an utterance, cut at the edges (frames)."""
    from pipelines.records import schema

    for part, (first, end) in enumerate(itertools.pairwise(edges)):
        sound = _cut(pcm, *spec.samples_of(first, end)) if pcm else None
        yield schema.serialise(clip, part=part, log_mel=_cut(blocks, first, end), pcm=sound)


def _cut(blocks: Sequence, first: int, end: int):
    """Return what of an array that is held in blocks lies from `first` up to `end`; the whole is never put together."""
    import numpy as np

    starts = itertools.accumulate((len(block) for block in blocks), initial=0)
    return np.concatenate(
        [
            block[max(0, first - start) : max(0, end - start)]
            for start, block in zip(starts, blocks, strict=False)
        ]
    )
