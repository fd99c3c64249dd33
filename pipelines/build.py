"""`python -m pipelines.build`: a folder of clips -> sets of records, one a domain."""

import argparse
import dataclasses
import functools
import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.cli import Parser, load_tensorflow, positive_int, run_main
from pipelines.corpora import LOADERS, find_clips
from pipelines.corpora.clip import STILL_SUFFIXES, Clip
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
    load_tensorflow()  # only now: a wrong word is answered at once
    from pipelines import records, sets
    from pipelines.decode import content_hash
    from pipelines.report import set_report

    hashes = functools.cache(content_hash)

    def sha256_of(clip: Clip) -> str:
        try:
            return hashes(clip.path)
        except OSError:
            return ""

    writers, start = {}, {}
    clips_of = {domain: [clip for clip in found.clips if clip.domain == domain] for domain in DOMAINS}
    if options.limit:
        clips_of = {domain: [clips[index] for index in spaced_indices(len(clips), options.limit)] for domain, clips in clips_of.items()}
    for domain, clips in clips_of.items():
        if not clips:
            if domain in options.domains:
                raise InputError(f"{options.media}: no {domain} clip of {name}; it has {_domains_found(clips_of)}")
            continue
        folder = options.out / name / domain
        set_options = _set_options(options, name, domain)
        if sets.is_current(folder, clips=clips, options=set_options, sha256_of=sha256_of):
            tell(f"{folder}: there already, nothing has changed, reused")
            continue
        stills = all(clip.path.suffix.lower() in STILL_SUFFIXES for clip in clips)
        per_shard = STILLS_PER_SHARD if stills else CLIPS_PER_SHARD
        writers[domain] = sets.SetWriter(folder, clips=clips, options=set_options, clips_per_shard=per_shard)
        start[domain] = writers[domain].resume(sha256_of)
        if start[domain]:
            tell(f"{folder}: goes on behind clip {start[domain]} of {len(clips)}")
    tasks = _group_by_file({domain: clips_of[domain][start[domain] :] for domain in writers})
    on_start(len(tasks))
    for clips, result in _decoded(tasks, options):
        for domain, clip in clips.items():
            _write(writers[domain], clip, result[domain], result["sha256"] or sha256_of(clip), options)
        on_file()
    reports = {}
    for domain, clips in clips_of.items():
        if not clips:
            continue
        folder = options.out / name / domain
        manifest = writers[domain].manifest() if domain in writers else records.read_manifest(folder)
        rejects = [reject for reject in found.rejects if reject.domain == domain]
        reports[domain] = set_report(manifest, rejects=rejects, defects=found.defects)
        if domain in writers:
            writers[domain].finish(reports[domain])
        else:
            records.write_json(folder / "report.json", reports[domain])
    return {"corpus": name, "domains": reports}


def _domains_found(clips_of: Mapping[str, Sequence[Clip]]) -> str:
    return " and ".join(f"{len(clips)} {domain}" for domain, clips in clips_of.items() if clips) or "none at all"


def _set_options(options: Options, name: str, domain: str) -> dict[str, Any]:
    """Return what decides a set's bytes beside its media, as its manifest holds it."""
    own = {"faces": options.faces} if domain == "visual" else {"waveform": options.waveform}
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


def _decoded(tasks: Sequence[Mapping[str, Clip]], options: Options):
    """Yield (clips, result) in order: the tf.data graph files -> (worker processes) -> log-Mel."""
    import numpy as np
    import tensorflow as tf

    from pipelines import mels
    from pipelines.workers import Pool, Task, processors

    if not tasks:
        return
    spec = options.spec
    workers = min(options.workers or processors(), len(tasks))
    results: dict[int, dict[str, Any]] = {}
    no_faces = np.zeros((0, spec.face_size, spec.face_size, 3), np.uint8)
    with Pool(workers=workers, spec=spec) as pool:

        def decode(index):
            clip = next(iter(tasks[index].values()))
            still = clip.path.suffix.lower() in STILL_SUFFIXES
            task = Task(clip.path, tuple(tasks[index]), still=still, detect=options.faces == "detect")
            result = results[int(index)] = pool.run(task)
            faces = result.get("visual", {}).pop("faces", no_faces)
            return faces, result.get("audio", {}).get("waveform", np.zeros(0, np.float32))

        def decode_and_measure(index):
            faces, waveform = tf.numpy_function(decode, [index], [tf.uint8, tf.float32])
            waveform.set_shape([None])
            return index, faces, mels.log_mel(waveform, spec=spec)

        dataset = tf.data.Dataset.range(len(tasks)).map(decode_and_measure, num_parallel_calls=workers, deterministic=True)
        threads = tf.data.Options()
        threads.threading.private_threadpool_size = workers + 2  # decode() waits in them for its process
        for index, faces, log_mel in dataset.prefetch(workers).with_options(threads).as_numpy_iterator():
            result = results.pop(int(index))
            result.get("visual", {})["faces"] = faces
            result.get("audio", {})["log_mel"] = log_mel
            yield tasks[index], result


def _write(writer, clip: Clip, result: Mapping[str, Any], sha256: str, options: Options) -> None:
    """Write one clip of one domain to its set, or quarantine it."""
    import numpy as np

    from pipelines import records

    spec = options.spec
    if "error" in result:
        writer.quarantine(clip, result["error"], sha256=sha256)
    elif clip.domain == "visual":
        faces = result["faces"]
        row = {"sha256": sha256, "seconds": result["seconds"], "items": len(faces), "looked_at": result["looked_at"]}
        writer.add(clip, [records.serialise(clip, faces=faces)], row)
    else:
        log_mel = result["log_mel"]  # [frames, mel_filters]
        parts = -(-len(log_mel) // spec.frame_count(spec.part_samples))
        edges = np.linspace(0, len(log_mel), parts + 1).round().astype(int)
        serialised, items = [], 0
        for part, (first, end) in enumerate(itertools.pairwise(edges)):
            pcm = None
            if options.waveform:
                samples = slice(first * spec.hop_samples, (end - 1) * spec.hop_samples + spec.fft_samples)
                pcm = np.clip(np.round(result["waveform"][samples] * 32768), -32768, 32767)
            serialised.append(records.serialise(clip, part=part, log_mel=log_mel[first:end], pcm=pcm))
            items += spec.segment_count(end - first)
        row = {"sha256": sha256, "seconds": result["seconds"], "items": items, "padded": len(log_mel) < spec.segment_frames}
        writer.add(clip, serialised, row)


def _parser() -> Parser:
    parser = Parser(prog="python -m pipelines.build", description="Turn a folder of clips into records, one set a domain.")
    parser.add_argument("--corpus", type=_kind, metavar="KIND", help="enterface, savee, emodb, ravdess, cremad or folder")
    parser.add_argument("--media", type=Path, metavar="DIR", help="the folder of clips (or, for folder, a CSV manifest)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the sets go: DIR/NAME/DOMAIN")
    parser.add_argument("--name", help="the corpus' name in the sets (default: KIND)")
    parser.add_argument("--domain", type=_domains, default=(), metavar="visual,audio", help="only these domains (default: all there are)")
    parser.add_argument("--faces", choices=("detect", "as-is"), default="detect", help="as-is: each picture is a face already")
    parser.add_argument("--frames-per-clip", type=positive_int, default=Spec.frames_per_clip, metavar="N", help="default: %(default)s")
    parser.add_argument("--workers", type=positive_int, metavar="N", help="processes that decode (default: one a processor)")
    parser.add_argument("--waveform", action="store_true", help="keep the sound (int16) beside the log-Mel")
    parser.add_argument("--song", action="store_true", help="ravdess: the songs too")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="only N clips of each domain, evenly spaced over their names")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="instead of building: verify a set, or every set in a folder")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output instead of a table")
    return parser


def _kind(text: str) -> str:
    if text not in LOADERS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(LOADERS)}; received {text!r}; for any other corpus use folder")
    return text


def _domains(text: str) -> tuple[str, ...]:
    domains = tuple(dict.fromkeys(text.split(",")))
    if not set(domains) <= set(DOMAINS):
        raise argparse.ArgumentTypeError(f"expected visual, audio or visual,audio; received {text!r}")
    return domains


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, build or verify, print, and return the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.verify is not None:
        return run_main(lambda: _verify(arguments.verify, as_json=arguments.json), prog=parser.prog)
    missing = [f"--{name}" for name in ("corpus", "media", "out") if getattr(arguments, name) is None]
    if missing:
        parser.error(f"missing {', '.join(missing)}")
    words = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Options) if hasattr(arguments, field.name)}
    options = Options(arguments.corpus, **words, domains=arguments.domain, spec=Spec(frames_per_clip=arguments.frames_per_clip))
    return run_main(lambda: _build(options, as_json=arguments.json), prog=parser.prog)


def _build(options: Options, *, as_json: bool) -> int:
    from pipelines import progress
    from pipelines.report import set_table

    with progress.bar(options.name or options.kind, unit="files") as bar:
        result = build(options, on_start=bar.start, on_file=bar.advance, tell=lambda line: print(line, file=sys.stderr))
    nothing = [domain for domain, report in result["domains"].items() if not report["written"]]
    if as_json:
        print(json.dumps(result, ensure_ascii=False, indent=1))
    else:
        for domain, report in result["domains"].items():
            print(set_table(f"{result['corpus']}/{domain}", report))
    for domain, report in result["domains"].items():
        for row in report["quarantined"]:
            print(f"quarantined: {row['path']} ({domain}): {row['reason']}", file=sys.stderr)
    if len(nothing) == len(result["domains"]):
        raise InputError(f"{options.media}: no clip could be used; the reasons are in {options.out / result['corpus']}/DOMAIN/report.json")
    return 0


def _verify(folder: Path, *, as_json: bool) -> int:
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; expected a set of records or a folder of sets")
    load_tensorflow()
    from pipelines import records

    sets = records.find_sets(folder)
    if not sets:
        raise InputError(f"{folder}: no set of records in it (no manifest.json); make one with python -m pipelines.build")
    counts = {str(path): records.verify(path) for path in sets}
    if as_json:
        print(json.dumps(counts, indent=1))
    else:
        for path, count in counts.items():
            print(f"{path}: whole: {count['shards']} shards, {count['clips']} clips, {count['records']} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
