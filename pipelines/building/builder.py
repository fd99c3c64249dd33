"""Build the sets of a corpus.

The builder chooses the files to read, reuses the results of an earlier build, and writes records.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.building.graph import DecodingOptions, decode_files
from pipelines.core.domains import DOMAINS
from pipelines.core.errors import InputError
from pipelines.core.files import bytes_sha256
from pipelines.core.labels import LabelMap
from pipelines.core.spec import SAMPLE_MARKER, Spec, spaced_indices
from pipelines.core.tensorflow_loading import load_tensorflow
from pipelines.core.text import pluralize, printable
from pipelines.corpora import find_clips
from pipelines.corpora.clip import STILL_SUFFIXES, Clip, FoundClips, Reject

if TYPE_CHECKING:
    import numpy as np

    from pipelines.records.writer import SetWriter

logger = logging.getLogger(__name__)

CLIPS_PER_SHARD = 128
STILLS_PER_SHARD = 4096


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """The options of a build.

    Attributes:
        kind: The kind of the corpus, a key of `pipelines.corpora.LOADERS`.
        media: The folder of the clips, or the manifest of a `folder` corpus.
        out: The folder of the sets, `OUT/NAME/DOMAIN`.
        name: The name of the corpus in the sets; None: the kind.
        domains: The domains; empty: every domain of the corpus.
        faces: `detect`, or `as-is`: each picture is a face.
        detector: A name of `detectors.DETECTORS`.
        audio_decoder: `av` (the workers decode), or `tfio` (tensorflow-io decodes in the graph).
        waveform: Also store the sound as int16.
        workers: The number of processes; None: the number of processors of this process.
        limit: The number of clips of each domain, evenly spaced by name; None: all.
        song: Read the songs of RAVDESS too.
        label_map: The emotions of the user's own words, for a `folder` corpus.
        spec: The spec of the features.
    """

    kind: str
    media: Path
    out: Path
    name: str | None = None
    domains: tuple[str, ...] = ()
    faces: str = "detect"
    detector: str = "viola-jones"
    audio_decoder: str = "av"
    waveform: bool = False
    workers: int | None = None
    limit: int | None = None
    song: bool = False
    label_map: LabelMap | None = None
    spec: Spec = Spec()


def build(
    options: BuildOptions,
    *,
    on_start: Callable[[int], None] = lambda _total: None,
    on_file: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Build the sets of a corpus below `options.out`, and reuse the results of an earlier call.

    The log names the reused sets, the number of reused clips and every file that is left out.

    Args:
        options: What to build.
        on_start: Called with the number of files to read.
        on_file: Called after every file.

    Returns:
        `{"corpus", "domains": {domain: report}}`; see `findings.set_report`.

    Raises:
        InputError: No clip of the corpus was found, or an option has an unknown name.
        DataError: A list of clips is damaged.
        RunError: Another build writes the same set, or a worker process cannot start.
        StorageError: The disk is full, or `options.out` cannot be written.
    """
    loader_options: dict[str, Any] = {"song": True} if options.song else {}
    if options.label_map is not None:
        loader_options["labels"] = options.label_map
    found_clips = find_clips(
        options.kind,
        options.media,
        name=options.name,
        domains=options.domains or DOMAINS,
        **loader_options,
    )
    name = options.name or options.kind
    clips_of = {
        domain: [clip for clip in found_clips.clips if clip.domain == domain] for domain in DOMAINS
    }
    if options.limit:
        clips_of = {
            domain: [clips[index] for index in spaced_indices(len(clips), options.limit)]
            for domain, clips in clips_of.items()
        }
    _log_unknown_labels(found_clips.rejects)
    for reject in found_clips.rejects:
        if not clips_of[reject.domain] and not reject.unknown_label:  # no report has the file
            _log_quarantined(reject.id, reject.domain, reject.reason)
    _check_domains(options, name, clips_of)
    _check_decoders(options, has_pictures=bool(clips_of["visual"]))
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
                if n_reused := len(clips) - len(pending[domain]):
                    logger.info("%s: reusing %d of %d clips", writer.folder, n_reused, len(clips))
        tasks = _group_by_file(pending)
        detector = options.detector if options.faces == "detect" else None
        decoding = DecodingOptions(
            options.spec, options.workers, detector, options.audio_decoder, options.waveform
        )
        on_start(len(tasks))
        for clips, result in stack.enter_context(
            contextlib.closing(decode_files(tasks, decoding=decoding))
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
        reports = _finished(
            options.out, name, [d for d in DOMAINS if clips_of[d]], writers, found_clips
        )
    with_unknown_label = {
        (reject.id, reject.domain) for reject in found_clips.rejects if reject.unknown_label
    }
    for domain, report in reports.items():
        for row in report["quarantined"]:
            if (row["path"], domain) not in with_unknown_label:
                _log_quarantined(row["path"], domain, row["reason"])
    return {"corpus": name, "domains": reports}


def _check_domains(
    options: BuildOptions, name: str, clips_of: Mapping[str, Sequence[Clip]]
) -> None:
    """Raise InputError if a requested domain has no clip."""
    for domain in options.domains:
        if not clips_of[domain]:
            existing = " and ".join(
                f"{len(clips)} {other_domain}" for other_domain, clips in clips_of.items() if clips
            )
            raise InputError(
                f"{options.media}: no {domain} clip of {name}; it has {existing or 'none at all'}"
            )


def _check_decoders(options: BuildOptions, *, has_pictures: bool) -> None:
    """Raise InputError once for a detector or a decoder that cannot be used."""
    load_tensorflow()  # slow, so the other options are checked before
    if options.faces == "detect" and has_pictures:
        from pipelines.faces import detectors

        detectors.load_detector(options.detector)
    if options.audio_decoder == "tfio":
        from pipelines.features import audio_tfio

        audio_tfio.check_tfio()


def _log_unknown_labels(rejects: Iterable[Reject]) -> None:
    """Log one line for each unknown label, with the number of files."""
    files_of: dict[str, list[str]] = {}
    for reject in rejects:
        if reject.unknown_label and reject.id not in files_of.setdefault(reject.unknown_label, []):
            files_of[reject.unknown_label].append(reject.id)
    for word, files in files_of.items():
        text = (
            f"quarantined: {pluralize(len(files), 'file')} with the unknown label {word!r}, such "
            f"as {files[0]}; map the word with --labels FILE.toml"
        )
        logger.warning("%s", printable(text))


def _log_quarantined(path: str, domain: str, reason: str) -> None:
    logger.warning("%s", printable(f"quarantined: {path} ({domain}): {reason}"))


def _writer(
    domain: str,
    clips: Sequence[Clip],
    options: BuildOptions,
    sha256_of: Callable[[Clip], str],
) -> "SetWriter | None":
    """Return the writer of a set, or None where the folder already has this set."""
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
    out: Path,
    name: str,
    domains: Sequence[str],
    writers: Mapping[str, "SetWriter"],
    found_clips: FoundClips,
) -> dict[str, Any]:
    """Move the sets to their folders, write their reports and the page, and return the reports."""
    from pipelines.building import page
    from pipelines.building.findings import manifests_in, set_report
    from pipelines.core import files
    from pipelines.records import reader

    manifests = {
        d: writers[d].manifest() if d in writers else reader.read_manifest(out / name / d)
        for d in domains
    }
    other_manifests = manifests_in(out) | {
        f"{name}/{domain}": manifest for domain, manifest in manifests.items()
    }
    reports = {}
    for domain in domains:
        rejects = [reject for reject in found_clips.rejects if reject.domain == domain]
        reports[domain] = report = set_report(
            manifests[domain],
            rejects=rejects,
            defects=found_clips.defects,
            other_manifests=other_manifests,
        )
        if domain in writers:
            writers[domain].finish(report)
        elif files.read_json(path := out / name / domain / "report.json") != report:
            with files.storage_errors(path):
                files.write_json(path, report)
    page.write_corpus_page(out / name)
    return reports


def _set_options(options: BuildOptions, name: str, domain: str) -> dict[str, Any]:
    """Return the options for the manifest, which with the media decide the bytes of a set."""
    if domain == "visual":
        domain_options = {
            "faces": options.faces,
            "detector": options.detector if options.faces == "detect" else None,
        }
    else:
        domain_options = {"waveform": options.waveform, "audio_decoder": options.audio_decoder}
    # The number of faces of a clip does not change its sound.
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
        **domain_options,
        **from_samples,
        "spec": dataclasses.asdict(spec),
    }


def _group_by_file(clips_of: Mapping[str, Sequence[Clip]]) -> list[dict[str, Clip]]:
    """Return the clip of each domain for each file, so that a video is opened once."""
    groups: dict[Path, dict[str, Clip]] = {}
    for domain, clips in clips_of.items():
        for clip in clips:
            groups.setdefault(clip.path, {})[domain] = clip
    return sorted(groups.values(), key=lambda clips: min(clip.id for clip in clips.values()))


def _write(
    writer: "SetWriter", clip: Clip, result: Mapping[str, Any], sha256: str, spec: Spec
) -> None:
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
            row | {"items": len(faces), "content": _content_hash([faces])},
        )
        return
    blocks = result["log_mel"]
    frames = sum(map(len, blocks))
    edges = spec.part_edges(frames)
    items = sum(spec.segment_count(end - first) for first, end in itertools.pairwise(edges))
    row |= {
        "items": items,
        "padded": frames < spec.segment_frames,
        "content": _content_hash(blocks),
    }
    writer.add(clip, _parts(clip, blocks, result["pcm"], edges, spec), row)


def _content_hash(arrays: Sequence["np.ndarray"]) -> str:
    """Return a hash of decoded arrays, which is the same for two files of the same content."""
    return bytes_sha256(array.tobytes() for array in arrays)[:32]


def _parts(
    clip: Clip,
    blocks: Sequence["np.ndarray"],
    pcm: Sequence["np.ndarray"],
    edges: Sequence[int],
    spec: Spec,
) -> Iterator[bytes]:
    """Yield the records of an utterance, cut at the edges (frames)."""
    from pipelines.records import schema

    for part, (first, end) in enumerate(itertools.pairwise(edges)):
        sound = _cut(pcm, *spec.samples_of(first, end)) if pcm else None
        yield schema.serialise(clip, part=part, log_mel=_cut(blocks, first, end), pcm=sound)


def _cut(blocks: Sequence["np.ndarray"], first: int, end: int) -> "np.ndarray":
    """Return the items from `first` up to `end` of an array that is stored in blocks."""
    import numpy as np

    starts = itertools.accumulate((len(block) for block in blocks), initial=0)
    return np.concatenate(
        [
            block[max(0, first - start) : max(0, end - start)]
            for start, block in zip(starts, blocks, strict=False)
        ]
    )
