"""Find defects of a set in its manifest: copies, conflicting labels, damaged files.

A finding is a dictionary: `kind`, a few words; `grade`; `text`, one line; and `clips`, the ids
concerned, or `groups` of ids that belong together, with `labels` of each where these differ. The
grades: a `defect` of the corpus, a `notice` of what the build had to do with clips that it wrote, a
`fact` that is no fault.
"""

import contextlib
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.core.domains import DOMAINS
from pipelines.core.errors import DataError, InputError
from pipelines.core.text import pluralize, printable
from pipelines.corpora.clip import Defect, Reject

GRADES = ("defect", "notice", "fact")

ODD_SHARE = 0.05
"""A format of a smaller share of a set's clips, or of a single clip, counts as odd."""
UNEVEN_RATIO = 2.0
"""Emotions or speakers are uneven if one has this many times the clips of another."""

Row = Mapping[str, Any]
Finding = dict[str, Any]


def examine(
    manifest: Mapping[str, Any],
    *,
    other_manifests: Mapping[str, Mapping[str, Any]] | None = None,
    rejects: Sequence[Reject] = (),
    defects: Sequence[Defect] = (),
) -> list[Finding]:
    """Return the findings of one set, defects first.

    Args:
        manifest: The set's manifest.
        other_manifests: The manifests of other sets by source (`NAME/DOMAIN`), in which copies and
            shared utterances are looked for; the set itself may be among them.
        rejects: Files of this domain that the corpus' loader could not read.
        defects: Known defects of the published corpus that the loader met.
    """
    rows = manifest["clips"]
    findings = [
        _finding(defect.kind, "defect", defect.text, clips=defect.clips) for defect in defects
    ]
    findings += _copies(rows)
    for source, other_manifest in sorted((other_manifests or {}).items()):
        if source == f"{manifest['corpus']}/{manifest['domain']}":
            continue
        findings += _copies_in(manifest, source, other_manifest)
        findings += _shared_utterances(manifest, source, other_manifest)
    findings += _formats(rows)
    findings += _damage(rows)
    findings += _changed_clips(rows)
    findings += _uneven(rows)
    findings += _quarantined(manifest, rejects)
    return sorted(findings, key=lambda finding: GRADES.index(finding["grade"]))


def manifests_in(out: Path) -> dict[str, dict[str, Any]]:
    """Return the manifests of the sets in a folder by source (`NAME/DOMAIN`), sorted.

    A damaged set is left out.
    """
    from pipelines.records import reader  # brings tensorflow, which `examine` does without

    manifests = {}
    for path in sorted(out.glob("*/*/manifest.json")):
        if path.parent.name in DOMAINS:
            with contextlib.suppress(InputError, DataError):  # removed meanwhile, or damaged
                manifests[path.parent.relative_to(out).as_posix()] = reader.read_manifest(
                    path.parent
                )
    return manifests


def clip_names(finding: Finding) -> list[str]:
    """Return the clips of a finding, or a line for each of its groups.

    >>> clip_names({"groups": [["a.jpg", "b.jpg"]], "labels": [["anger", "fear"]]})
    ['a.jpg (anger) = b.jpg (fear)']
    """
    if "groups" not in finding:
        return finding.get("clips", [])
    if "labels" not in finding:
        return [" = ".join(group) for group in finding["groups"]]
    pairs = zip(finding["groups"], finding["labels"], strict=True)
    return [
        " = ".join(f"{id} ({label})" for id, label in zip(*pair, strict=True)) for pair in pairs
    ]


def finding_line(finding: Finding) -> str:
    """Return a finding in one line, with the first of its clips or groups."""
    names = [_shortened(name) for name in clip_names(finding)]
    max_names = 3 if "groups" in finding else 5
    if not names:
        return finding["text"]
    return f"{finding['text']}: {', '.join(names[:max_names])}" + (
        f" and {len(names) - max_names} more" if len(names) > max_names else ""
    )


def _shortened(group: str, max_members: int = 5) -> str:
    members = group.split(" = ")
    return (
        group
        if len(members) <= max_members
        else f"{' = '.join(members[:max_members])} and {len(members) - max_members} more"
    )


def _finding(kind: str, grade: str, text: str, **clips: Iterable) -> Finding:
    """Return a finding; `clips` is `clips=ids` or `groups=lists of ids`."""
    return {"kind": kind, "grade": grade, "text": text} | {
        key: list(value) for key, value in clips.items()
    }


def _grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> list[list[Row]]:
    """Return the groups of two and more rows that have one key, in the order of the rows.

    Rows without a key are in none.
    """
    groups = defaultdict(list)
    for row in rows:
        if key(row):
            groups[key(row)].append(row)
    return [group for group in groups.values() if len(group) > 1]


def _ids(groups: Iterable[Sequence[Row]]) -> list[list[str]]:
    return [[row["id"] for row in group] for group in groups]


def _are(count: int, noun: str) -> str:
    return f"{pluralize(count, noun)} {'is' if count == 1 else 'are'}"


def _copies(rows: Sequence[Row]) -> list[Finding]:
    """Find copies within the set by bytes and by content, with their labels and splits."""
    by_bytes = _grouped(rows, lambda row: row.get("sha256"))
    by_content = [
        group
        for group in _grouped(rows, lambda row: row.get("content"))
        if len({row["sha256"] for row in group}) > 1
        and len({row["utterance"] for row in group}) > 1  # a video and its sound apart
    ]
    findings = []
    for kind, groups, description in (
        ("byte copies", by_bytes, "byte-identical"),
        ("same content", by_content, "the same once decoded, though not byte for byte"),
    ):
        if groups:
            n_files, n_groups = sum(map(len, groups)), len(groups)
            text = (
                f"{pluralize(n_files, 'file')} in {pluralize(n_groups, 'group')} are {description}"
            )
            findings.append(_finding(kind, "defect", text, groups=_ids(groups)))
    wider = {group[0]["content"] for group in by_content}
    copies = [group for group in by_bytes if group[0].get("content") not in wider] + by_content
    for kind, field in (
        ("conflicting labels", "emotion"),
        ("copies of several speakers", "speaker"),
    ):
        if groups := [group for group in copies if len({row[field] for row in group} - {""}) > 1]:
            labels = [[row[field] or "unknown" for row in group] for group in groups]
            text = f"{pluralize(len(groups), 'group')} of copies with more than one {field}"
            findings.append(_finding(kind, "defect", text, groups=_ids(groups), labels=labels))
    for split, other_split in itertools.combinations(("train", "validation", "test"), 2):
        if groups := [
            group for group in copies if {split, other_split} <= {row.get("split") for row in group}
        ]:
            count = sum(row["split"] == other_split for group in groups for row in group)
            text = (
                f"{pluralize(count, 'file')} of the publisher's {other_split} split with a copy in "
                f"{split}"
            )
            findings.append(_finding("copies across splits", "defect", text, groups=_ids(groups)))
    return findings


def _copies_in(
    manifest: Mapping[str, Any], source: str, other_manifest: Mapping[str, Any]
) -> list[Finding]:
    """Find clips that another set holds too.

    A file that is read in both domains of its corpus is no copy.
    """
    same_corpus = manifest["corpus"] == other_manifest["corpus"]
    known = defaultdict(list)
    for row in other_manifest["clips"]:
        for field in ("sha256", "content"):
            if row.get(field):
                known[row[field]].append(row["id"])
    pairs = []
    for row in manifest["clips"]:
        copies = known.get(row.get("sha256")) or known.get(row.get("content")) or []
        if copies and not (same_corpus and row["id"] in copies):
            pairs.append([row["id"], f"{source}: {copies[0]}"])
    if not pairs:
        return []
    return [
        _finding(
            "copies in another set",
            "defect",
            f"{_are(len(pairs), 'clip')} in {source} too",
            groups=pairs,
        )
    ]


def _shared_utterances(
    manifest: Mapping[str, Any], source: str, other_manifest: Mapping[str, Any]
) -> list[Finding]:
    """Count the utterances that the set and the other domain of its corpus share."""
    if manifest["corpus"] != other_manifest["corpus"]:
        return []
    other_utterances = {row["utterance"] for row in other_manifest["clips"]}
    utterances = {row["utterance"] for row in manifest["clips"]}
    if not (shared := utterances & other_utterances):
        return []
    text = f"{len(shared)} of {pluralize(len(utterances), 'utterance')} are in {source} too"
    return [_finding("utterances in both domains", "fact", text)]


def _formats(rows: Sequence[Row]) -> list[Finding]:
    """Find sound with a rate or channels that few clips of the set have.

    If several formats are common, the finding lists them.
    """
    formats = defaultdict(list)
    for row in rows:
        if row.get("rate_hz") and row.get("channels"):
            formats[
                PurePosixPath(row["id"]).suffix.lower(), row["rate_hz"], row["channels"]
            ].append(row["id"])
    counts = Counter()
    for (_, rate_hz, channels), ids in formats.items():
        counts[rate_hz, channels] += len(ids)
    if len(counts) < 2:
        return []
    total, (usual, most) = counts.total(), counts.most_common(1)[0]
    findings = []
    for (suffix, *format), ids in sorted(formats.items()):
        if tuple(format) != usual:
            odd = len(ids) <= max(1, ODD_SHARE * total) < most
            text = (
                f"{_are(len(ids), f'{suffix} file'.strip())} of {_format(*format)} sound, "
                f"where {most} of {total} have {_format(*usual)}"
            )
            findings.append(
                _finding(
                    "odd sound format" if odd else "sound formats",
                    "defect" if odd else "fact",
                    text,
                    clips=ids,
                )
            )
    return findings


def _format(rate_hz: int, channels: int) -> str:
    return (
        f"{rate_hz / 1000:g} kHz {({1: 'mono', 2: 'stereo'}).get(channels, f'{channels}-channel')}"
    )


def _damage(rows: Sequence[Row]) -> list[Finding]:
    findings = []
    if broken := [row for row in rows if row.get("undecodable")]:
        parts = sum(row["undecodable"] for row in broken)
        text = f"{_are(len(broken), 'clip')} without parts that do not decode ({parts} in all)"
        findings.append(
            _finding("undecodable parts", "defect", text, clips=[row["id"] for row in broken])
        )
    if short := [row["id"] for row in rows if row.get("missing_seconds")]:
        text = f"{_are(len(short), 'file')} cut off: shorter than the file itself says"
        findings.append(_finding("truncated files", "defect", text, clips=short))
    return findings


def _changed_clips(rows: Sequence[Row]) -> list[Finding]:
    """Find clips that were written with a change, such as padding."""
    findings = []
    files = _grouped(rows, lambda row: row["utterance"])
    if again := sum(len(group) - 1 for group in files):
        text = (
            f"{_are(again, 'clip')} another file of an utterance that is there already; "
            "a split, a batch or a score uses one of them"
        )
        findings.append(
            _finding("several files of an utterance", "notice", text, groups=_ids(files))
        )
    if padded := [row["id"] for row in rows if row.get("padded")]:
        text = f"{_are(len(padded), 'clip')} shorter than one segment and padded with their floor"
        findings.append(_finding("padded clips", "notice", text, clips=padded))
    if fewer := [row["id"] for row in rows if row.get("looked_at", 0) > row["items"]]:
        text = f"{pluralize(len(fewer), 'clip')} with fewer faces than frames looked at"
        findings.append(_finding("frames without a face", "notice", text, clips=fewer))
    return findings


def _uneven(rows: Sequence[Row]) -> list[Finding]:
    findings = []
    for field in ("emotion", "speaker"):
        counts = Counter(row[field] for row in rows if row[field]).most_common()
        if len(counts) > 1 and counts[0][1] >= UNEVEN_RATIO * counts[-1][1]:
            (most, highest), (least, lowest) = counts[0], counts[-1]
            text = (
                f"{field} {most} has {highest / lowest:.1f} times the clips of {least} "
                f"({highest} and {lowest})"
            )
            findings.append(_finding(f"uneven {field}s", "fact", text))
    return findings


def _quarantined(manifest: Mapping[str, Any], rejects: Sequence[Reject]) -> list[Finding]:
    bad = manifest["quarantined"]
    ids = sorted([reject.id for reject in rejects] + [row["path"] for row in bad])
    if not ids:
        return []
    text = f"quarantined: {len(ids)} of {pluralize(len(ids) + len(manifest['clips']), 'file')}"
    if again := sum(bool(row.get("retry")) for row in bad):
        text += (
            f"; {again} of them are read again by the next build: "
            "time, memory or the reading failed them, not the file"
        )
    return [_finding("quarantined", "fact", text, clips=ids)]


def set_report(
    manifest: Mapping[str, Any],
    *,
    rejects: Sequence[Reject] = (),
    defects: Sequence[Defect] = (),
    other_manifests: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the report of one set.

    Args:
        manifest: The set's manifest.
        rejects: Files of this domain that the corpus' loader could not read.
        defects: Known defects of the published corpus that were met.
        other_manifests: The manifests of other sets by source (`NAME/DOMAIN`), in which copies and
            shared utterances are looked for.

    Returns:
        `found` (files), `written`, `seconds` (of the written clips), `speakers` and `emotions`
            (clips of each),
        `quarantined` (path and reason), `findings` (of `examine`), and `notes`: those lines of them
            that a reader should know.
    """
    rows = manifest["clips"]
    quarantined = [{"path": reject.id, "reason": reject.reason} for reject in rejects]
    quarantined += [
        {"path": row["path"], "reason": row["reason"]} for row in manifest["quarantined"]
    ]
    speakers = Counter(row["speaker"] or "unknown" for row in rows)
    emotions = Counter(row["emotion"] for row in rows)
    findings = examine(manifest, other_manifests=other_manifests, rejects=rejects, defects=defects)
    return {
        "found": len(rows) + len(quarantined),
        "written": len(rows),
        "seconds": math.fsum(row["seconds"] for row in rows),
        "speakers": dict(sorted(speakers.items())),
        "emotions": dict(sorted(emotions.items())),
        "quarantined": sorted(quarantined, key=lambda row: row["path"]),
        "findings": findings,
        "notes": [finding_line(finding) for finding in findings if finding["grade"] != "fact"],
    }


def set_table(source: str, report: Mapping[str, Any]) -> str:
    """Return the report of a set as text lines, without the quarantined files."""
    lines = [
        f"{source}: {report['written']} of {report['found']} clips written, "
        f"{report['seconds']:.2f} s, {_speaker_count(report['speakers'])}",
        "  " + ", ".join(f"{emotion} {count}" for emotion, count in report["emotions"].items()),
        *(f"  note: {printable(note)}" for note in report["notes"]),
    ]
    return "\n".join(lines)


def _speaker_count(speakers: Mapping[str, int]) -> str:
    known = len(speakers) - ("unknown" in speakers)
    return pluralize(known, "speaker") if known else "speakers unknown"
