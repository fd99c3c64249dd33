"""The report of a corpus as one self-contained HTML page.

The page comes from the manifests, reports and records of the sets.
"""

import dataclasses
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from pipelines.building.findings import clip_names
from pipelines.core import files
from pipelines.core.domains import DOMAINS, domain_facts
from pipelines.core.errors import DataError, InputError
from pipelines.core.spec import Spec, spaced_indices
from pipelines.core.text import pluralize
from pipelines.faces.crops import NO_FACE
from pipelines.html import spectrogram
from pipelines.html.markup import (
    bar_table,
    data_uri,
    escape,
    folded,
    folded_list,
    heat_table,
    hertz,
    histogram,
    natural_key,
    page,
    section,
    table,
    ticks,
    tiles,
    time_marks,
)
from pipelines.records import reader

MAX_SPECTROGRAM_SECONDS = 6.0
"""The longest part of a clip in a spectrogram."""

Row = Mapping[str, Any]


class Spectrogram(NamedTuple):
    """The picture of a log-Mel, and the marks of its axes as shares of width and height."""

    row: Row
    picture: str
    """A data URI with one pixel per frame and Mel filter."""
    hertz: tuple[tuple[int, float], ...]
    """Frequencies, each with its share of the height from below."""
    seconds: tuple[tuple[float, float], ...]
    """Times, each with its share of the width from the left."""


def choose_clips(rows: Sequence[Row], count: int) -> dict[str, list[Row]]:
    """Return at most `count` clips of each emotion, evenly spread over its speakers.

    Each emotion starts with another speaker.
    """
    emotions = sorted({row["emotion"] for row in rows})
    chosen = {}
    for number, emotion in enumerate(emotions):
        of_emotion = sorted(
            (row for row in rows if row["emotion"] == emotion),
            key=lambda row: (row["speaker"], row["id"]),
        )
        shift = number * len(of_emotion) // (len(emotions) * min(count, len(of_emotion)))
        places = sorted(
            (place + shift) % len(of_emotion) for place in spaced_indices(len(of_emotion), count)
        )
        chosen[emotion] = [of_emotion[place] for place in places]
    return chosen


def face_pictures(
    folder: Path, manifest: Mapping[str, Any], count: int
) -> dict[str, list[tuple[Row, str]]]:
    """Return up to `count` clips of each emotion, each with its middle face as a data URI."""
    chosen = choose_clips(manifest["clips"], count)
    pictures = {
        row["id"]: _middle_face(record)
        for row, record in reader.read_first_records(
            folder, manifest, [row for rows in chosen.values() for row in rows]
        )
    }
    return {
        emotion: [(row, pictures[row["id"]]) for row in rows] for emotion, rows in chosen.items()
    }


def spectrograms(folder: Path, manifest: Mapping[str, Any]) -> list[Spectrogram]:
    """Return the spectrogram of one clip of each emotion, sorted by emotion."""
    chosen = [rows[0] for rows in choose_clips(manifest["clips"], 1).values()]
    spec = reader.spec_of(manifest)
    drawn = [
        _spectrogram_of(row, record, spec)
        for row, record in reader.read_first_records(folder, manifest, chosen)
    ]
    return sorted(drawn, key=lambda entry: entry.row["emotion"])


def _middle_face(record: Mapping[str, Any]) -> str:
    faces = record["faces"]  # [n, face_size, face_size, 3]
    face = cv2.cvtColor(faces[len(faces) // 2], cv2.COLOR_RGB2BGR)
    return data_uri(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 88])[1], "image/jpeg")


def _spectrogram_of(row: Row, record: Mapping[str, Any], spec: Spec) -> Spectrogram:
    log_mel = record["log_mel"]  # [frames, mel_filters]
    log_mel = log_mel[: round(MAX_SPECTROGRAM_SECONDS / spec.hop_seconds)]
    length = len(log_mel) * spec.hop_seconds
    return Spectrogram(
        row, spectrogram.spectrogram_uri(log_mel), spectrogram.hertz_marks(spec), time_marks(length)
    )


FILE = "report.html"
MAX_FACES, MAX_FACES_PER_EMOTION = 100, 11
FOLDED_SPEAKERS = 24
"""A table of more speakers is folded."""
MAX_SPEAKERS, MAX_NAMES, MAX_QUARANTINED, MAX_EXTREMES = 100, 40, 200, 5


@dataclasses.dataclass(frozen=True)
class _Set:
    """The manifest and the report of a set on disk."""

    folder: Path
    manifest: Mapping[str, Any]
    report: Mapping[str, Any]

    @property
    def domain(self) -> str:
        return self.manifest["domain"]

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        return self.manifest["clips"]


def write_corpus_page(folder: Path) -> Path:
    """Write the page of a corpus into its folder, `OUT/NAME`, unless this very page is there.

    Return the file.

    Raises:
        InputError: There is no set in the folder.
        DataError: The report, the manifest or a record of a set is damaged.
        StorageError: The page cannot be written.
    """
    page, path = corpus_page(folder), folder / FILE
    if not path.is_file() or path.read_bytes() != page.encode():
        with files.storage_errors(path):
            files.write_text(path, page)
    return path


def corpus_page(folder: Path) -> str:
    """Return the page of a corpus from the sets in its folder, `OUT/NAME`.

    Raises InputError where there is none.
    """
    sets = [
        _read(folder / domain)
        for domain in DOMAINS
        if (folder / domain / "manifest.json").is_file()
    ]
    if not sets:
        raise InputError(
            f"{folder}: no set of records in the folder, expected {' or '.join(DOMAINS)}; "
            "make a set with python -m pipelines.build"
        )
    name = sets[0].manifest["corpus"]
    parts = {
        "Findings": _findings(sets),
        "Counts": _counts(sets),
        "Faces": _faces(sets),
        "Spectrograms": _spectrograms(sets),
        "Durations": _durations(sets),
        "Quarantine": _quarantine(sets),
        "Options": _options(sets),
    }
    contents = {title: lines for title, yielded in parts.items() if (lines := list(yielded))}
    sections = [section(title.lower(), title, *lines) for title, lines in contents.items()]
    links = "".join(f'<a href="#{title.lower()}">{title}</a>' for title in contents)
    header = (
        f"<h1>{escape(name)}</h1>"
        + "".join(map(_totals, sets))
        + f'<nav aria-label="Sections">{links}</nav>'
    )
    names = ", ".join(escape(f"{name}/{record_set.domain}") for record_set in sets)
    footer = f"Made by python -m pipelines.build from the sets {names}."
    return page(f"{name}: what is in the corpus", header, sections, footer)


def _read(folder: Path) -> _Set:
    report = files.read_json(folder / "report.json")
    if not isinstance(report, dict):
        raise DataError(f"{folder}: no whole report.json; build the set again")
    return _Set(folder, reader.read_manifest(folder), report)


def _totals(record_set: _Set) -> str:
    report, rows = record_set.report, record_set.rows
    speakers = {row["speaker"] for row in rows} - {""}
    items = sum(row["items"] for row in rows)
    figures = {
        "clips written": f"{report['written']:,}",
        "files found": f"{report['found']:,}",
        "quarantined": f"{len(report['quarantined']):,}",
        **({"length": _length(report["seconds"])} if report["seconds"] else {}),
        "faces" if record_set.domain == "visual" else "segments": f"{items:,}",
        "speakers": f"{len(speakers):,}" if speakers else "unknown",
        "emotions": f"{len(report['emotions'])}",
        "defects": f"{sum(finding['grade'] == 'defect' for finding in report.get('findings', []))}",
    }
    return (
        f"<h2>{escape(record_set.domain)} ({domain_facts(record_set.domain).person_part}s)</h2>"
        + tiles(figures, record_set.domain)
    )


def _length(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _name(speaker: str) -> str:
    """Return a speaker without the name of the corpus, which is the title of the page."""
    return speaker.partition(":")[2] or "unknown"


def _counts(sets: Sequence[_Set]) -> Iterator[str]:
    for caption, field in (
        ("Clips of each emotion", "emotion"),
        ("Clips of each side of the publisher's split", "split"),
    ):
        counts = {
            record_set.domain: dict(
                sorted(Counter(row[field] for row in record_set.rows if row.get(field)).items())
            )
            for record_set in sets
        }
        if any(counts.values()):
            yield bar_table(caption, field, counts)
    speakers = {
        record_set.domain: _by_speaker(record_set.rows)
        for record_set in sets
        if any(row["speaker"] for row in record_set.rows)
    }
    if not speakers:
        yield '<p class="soft">The speakers are unknown.</p>'
        return
    totals = {
        domain: {speaker: counts.total() for speaker, counts in speaker_counts.items()}
        for domain, speaker_counts in speakers.items()
    }
    yield bar_table(
        "Clips of each speaker",
        "speaker",
        {domain: _first(counts) for domain, counts in totals.items()},
    )
    alike = len(speakers) == 2 and speakers["visual"] == speakers["audio"]
    for domain, speaker_counts in speakers.items():
        if not (alike and domain == "audio"):
            scope = "in each of both domains" if alike else domain
            caption = f"Clips of each speaker and emotion, {scope}"
            emotions = sorted({emotion for counts in speaker_counts.values() for emotion in counts})
            crossed = heat_table(caption, "speaker", _first(speaker_counts), emotions, domain)
            yield folded(caption, crossed) if len(speaker_counts) > FOLDED_SPEAKERS else crossed
    if (most := max(map(len, speakers.values()))) > MAX_SPEAKERS:
        yield f'<p class="soft">The first {MAX_SPEAKERS} of {most} speakers.</p>'


def _by_speaker(rows: Sequence[Mapping[str, Any]]) -> dict[str, Counter]:
    counts_of: dict[str, Counter] = defaultdict(Counter)
    for row in rows:
        counts_of[_name(row["speaker"])][row["emotion"]] += 1
    return dict(sorted(counts_of.items(), key=lambda entry: natural_key(entry[0])))


def _first(counts: Mapping[str, Any]) -> dict[str, Any]:
    return dict(list(counts.items())[:MAX_SPEAKERS])


def _durations(sets: Sequence[_Set]) -> Iterator[str]:
    for record_set in sets:
        rows = sorted(
            (row for row in record_set.rows if row["seconds"]),
            key=lambda row: (row["seconds"], row["id"]),
        )
        if not rows:
            continue
        seconds = [row["seconds"] for row in rows]
        middle = (
            f"{pluralize(len(rows), 'clip')} from {seconds[0]:.2f} to {seconds[-1]:.2f} s, "
            f"median {statistics.median(seconds):.2f} s"
        )
        yield f"<h3>{escape(record_set.domain)}</h3><p>{escape(middle)}</p>" + histogram(
            seconds, "s", record_set.domain, f"Histogram of durations: {middle}"
        )
        ends = (
            {"shortest": rows[:MAX_EXTREMES], "longest": rows[::-1][:MAX_EXTREMES]}
            if len(rows) > 2 * MAX_EXTREMES
            else {"": rows}
        )
        for which, chosen in ends.items():
            clip_rows = [
                (row["id"], row["emotion"], _name(row["speaker"]), f"{row['seconds']:.2f}")
                for row in chosen
            ]
            yield table(
                f"The {which} clips".replace("  ", " "),
                ("clip", "emotion", "speaker", "seconds"),
                clip_rows,
                numbers=(3,),
                paths=(0,),
            )


def _faces(sets: Sequence[_Set]) -> Iterator[str]:
    for record_set in sets:
        if record_set.domain != "visual" or not record_set.rows:
            continue
        yield from _found_rate(record_set)
        emotions = len({row["emotion"] for row in record_set.rows})
        title = "speaker" if any(row["speaker"] for row in record_set.rows) else "name"
        yield f"<h3>A face of some clips, with its {title}</h3>"
        for emotion, pictures in face_pictures(
            record_set.folder,
            record_set.manifest,
            min(MAX_FACES // emotions, MAX_FACES_PER_EMOTION),
        ).items():
            items = "".join(_crop(row, picture) for row, picture in pictures)
            yield f'<div class="crops"><h4>{escape(emotion)}</h4><ul>{items}</ul></div>'


def _crop(row: Mapping[str, Any], picture: str) -> str:
    name = escape(row["id"])
    below = escape(_name(row["speaker"]) if row["speaker"] else row["id"].rpartition("/")[2])
    alt = f"{escape(row['emotion'])}, face of {name}"
    return (
        f'<li><img src="{picture}" width="64" height="64" alt="{alt}" title="{name}">'
        f"<span>{below}</span></li>"
    )


def _found_rate(record_set: _Set) -> Iterator[str]:
    """Yield the share of the searched frames with a face."""
    if record_set.manifest.get("faces") == "as-is":
        yield "<p>Each picture was used as a face (--faces as-is), without a search for faces.</p>"
        return
    faceless = sum(row["reason"].startswith(NO_FACE) for row in record_set.report["quarantined"])
    looked_at, n_faces = (
        sum(row.get("looked_at", 0) for row in record_set.rows),
        sum(row["items"] for row in record_set.rows),
    )
    clips = len(record_set.rows) + faceless
    figures = {
        "clips with a face": f"{100 * len(record_set.rows) / clips:.1f} %",
        "clips without any": f"{faceless:,}",
        "frames with a face": f"{100 * n_faces / looked_at:.1f} %" if looked_at else "unknown",
        "frames looked at": f"{looked_at:,}",
    }
    yield (
        tiles(figures, "visual")
        + '<p class="soft">Frames are those of the clips that have a face.</p>'
    )
    fewest = sorted(
        (row for row in record_set.rows if row.get("looked_at", 0) > row["items"]),
        key=lambda row: (row["items"] / row["looked_at"], row["id"]),
    )
    if fewest:
        clip_rows = [
            (row["id"], row["emotion"], f"{row['items']} of {row['looked_at']}")
            for row in fewest[:MAX_EXTREMES]
        ]
        yield table(
            "Clips with the fewest faces",
            ("clip", "emotion", "frames with a face"),
            clip_rows,
            numbers=(2,),
            paths=(0,),
        )


def _spectrograms(sets: Sequence[_Set]) -> Iterator[str]:
    for record_set in sets:
        if record_set.domain != "audio" or not record_set.rows:
            continue
        yield (
            '<p class="soft">Log-Mel power of a clip of each emotion over time (s) and frequency '
            f"(Hz), at most the first {MAX_SPECTROGRAM_SECONDS:g} s; bright is loud, black is "
            f"{spectrogram.RANGE_DB:g} dB below the loudest.</p>"
        )
        figures = "".join(map(_spectrogram, spectrograms(record_set.folder, record_set.manifest)))
        yield f'<div class="plots">{figures}</div>'


def _spectrogram(drawn: Spectrogram) -> str:
    row = drawn.row
    label = f"Spectrogram of {row['id']}, {row['emotion']}, {row['seconds']:.2f} s"
    return (
        f'<figure><div class="plot">{hertz(drawn.hertz)}'
        f'<img src="{drawn.picture}" alt="{escape(label)}">{ticks(drawn.seconds)}</div>'
        f"<figcaption><b>{escape(row['emotion'])}</b> {escape(_name(row['speaker']))}, "
        f"{row['seconds']:.2f} s<br>"
        f"{escape(row['id'])}</figcaption></figure>"
    )


def _findings(sets: Sequence[_Set]) -> Iterator[str]:
    """Yield each finding once, because a defect of published files is one of both domains."""
    domains_of: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for record_set in sets:
        for finding in record_set.report.get("findings", []):
            if finding["kind"] != "quarantined":
                domains_of.setdefault(
                    f"{finding['kind']} {finding['text']} {clip_names(finding)[:1]}", (finding, [])
                )[1].append(record_set.domain)
    if not domains_of:
        yield "<p>Nothing odd was found.</p>"
        return
    grades = ("defect", "notice", "fact")
    items = "".join(
        _finding(*entry)
        for entry in sorted(domains_of.values(), key=lambda entry: grades.index(entry[0]["grade"]))
    )
    yield f'<ul class="findings">{items}</ul>'


def _finding(finding: Mapping[str, Any], domains: Sequence[str]) -> str:
    names, grade = clip_names(finding), escape(finding["grade"])
    list_of_names = (
        folded_list(
            pluralize(len(names), "group" if "groups" in finding else "file"), names, MAX_NAMES
        )
        if names
        else ""
    )
    return (
        f'<li class="{grade}"><b>{escape(finding["kind"])}</b> <span class="grade">{grade}</span> '
        f'<span class="soft">{" and ".join(domains)}</span>'
        f"<p>{escape(finding['text'])}.</p>{list_of_names}</li>"
    )


def _quarantine(sets: Sequence[_Set]) -> Iterator[str]:
    rows = [
        (row["path"], record_set.domain, row["reason"])
        for record_set in sets
        for row in record_set.report["quarantined"]
    ]
    if not rows:
        yield "<p>Every file that was found could be used.</p>"
        return
    reasons = Counter(reason for *_, reason in rows)
    if len(rows) > len(reasons):
        reason_rows = [(reason, f"{count:,}") for reason, count in reasons.most_common(20)]
        yield table("Reasons", ("reason", "files"), reason_rows, numbers=(1,))
    yield table(
        "Files that were left out",
        ("file", "domain", "reason"),
        rows[:MAX_QUARANTINED],
        paths=(0,),
    )
    if len(rows) > MAX_QUARANTINED:
        yield (
            f'<p class="soft">The first {MAX_QUARANTINED} of {len(rows):,}; '
            "all are in report.json.</p>"
        )


def _options(sets: Sequence[_Set]) -> Iterator[str]:
    names = ("kind", "faces", "detector", "waveform", "schema")
    options = {
        name: [str(record_set.manifest.get(name, "")) for record_set in sets]
        for name in names
        if any(name in record_set.manifest for record_set in sets)
    }
    spec = {
        name: [str(record_set.manifest["spec"].get(name, "")) for record_set in sets]
        for name in sets[0].manifest["spec"]
    }
    columns = ("number", *(record_set.domain for record_set in sets))
    yield table(
        "Options and the numbers of the records",
        columns,
        [(name, *values) for name, values in (options | spec).items()],
    )
