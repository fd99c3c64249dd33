"""What was found in a corpus: the JSON that stands beside a set, and its table."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.corpora.clip import Reject


def set_report(manifest: Mapping[str, Any], *, rejects: Sequence[Reject] = (), defects: Sequence[str] = ()) -> dict[str, Any]:
    """Return the report of one set.

    Args:
        manifest: The set's manifest.
        rejects: Files of this domain that the corpus' loader could not take.
        defects: Known defects of the published corpus that were met.

    Returns:
        `found` (files), `written`, `seconds` (of the written clips), `speakers` and `emotions` (clips of each),
        `quarantined` (path and reason), and `notes`: what a reader should know of clips that were written.
    """
    rows = manifest["clips"]
    quarantined = [{"path": reject.id, "reason": reject.reason} for reject in rejects]
    quarantined += [{"path": row["path"], "reason": row["reason"]} for row in manifest["quarantined"]]
    speakers = Counter(row["speaker"] or "unknown" for row in rows)
    emotions = Counter(row["emotion"] for row in rows)
    return {
        "found": len(rows) + len(quarantined),
        "written": len(rows),
        "seconds": math.fsum(row["seconds"] for row in rows),
        "speakers": dict(sorted(speakers.items())),
        "emotions": dict(sorted(emotions.items())),
        "quarantined": sorted(quarantined, key=lambda row: row["path"]),
        "notes": [*defects, *_notes(rows)],
    }


def set_table(source: str, report: Mapping[str, Any]) -> str:
    """Return the report of a set as lines for people; what is quarantined is told elsewhere."""
    lines = [
        f"{source}: {report['written']} of {report['found']} clips written, {report['seconds']:.2f} s, {_people(report['speakers'])}",
        "  " + ", ".join(f"{emotion} {count}" for emotion, count in report["emotions"].items()),
        *(f"  note: {note}" for note in report["notes"]),
    ]
    return "\n".join(lines)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes = []
    shared = Counter(row["utterance"] for row in rows)
    again = sum(count - 1 for count in shared.values())
    if again:
        notes.append(f"{again} clips are another file of an utterance that is there already; a side, a batch or a score uses one of them")
    padded = [row["id"] for row in rows if row.get("padded")]
    if padded:
        notes.append(f"{len(padded)} clips are shorter than one segment and padded with their floor: {_some(padded)}")
    fewer = [row["id"] for row in rows if row.get("looked_at", 0) > row["items"]]
    if fewer:
        notes.append(f"{len(fewer)} clips have fewer faces than frames looked at: {_some(fewer)}")
    copies = Counter(row["sha256"] for row in rows)
    same = sum(count for count in copies.values() if count > 1)
    if same:
        groups = sum(count > 1 for count in copies.values())
        notes.append(f"{same} files in {groups} groups are byte-identical")
    return notes


def _people(speakers: Mapping[str, int]) -> str:
    known = len(speakers) - ("unknown" in speakers)
    return f"{known} speaker{'s' * (known != 1)}" if known else "speakers unknown"


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
