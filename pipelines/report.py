"""What was found in a corpus: the JSON that stands beside a set, and its table."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.cli import printable
from pipelines.corpora.clip import Defect, Reject
from pipelines.examine import examine, line_of


def set_report(
    manifest: Mapping[str, Any],
    *,
    rejects: Sequence[Reject] = (),
    defects: Sequence[Defect] = (),
    beside: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return the report of one set.

    Args:
        manifest: The set's manifest.
        rejects: Files of this domain that the corpus' loader could not take.
        defects: Known defects of the published corpus that were met.
        beside: The manifests of other sets by source (`NAME/DOMAIN`), in which copies and shared utterances are looked for.

    Returns:
        `found` (files), `written`, `seconds` (of the written clips), `speakers` and `emotions` (clips of each),
        `quarantined` (path and reason), `findings` (of `examine`), and `notes`: those lines of them that a reader should know.
    """
    rows = manifest["clips"]
    quarantined = [{"path": reject.id, "reason": reject.reason} for reject in rejects]
    quarantined += [
        {"path": row["path"], "reason": row["reason"]} for row in manifest["quarantined"]
    ]
    speakers = Counter(row["speaker"] or "unknown" for row in rows)
    emotions = Counter(row["emotion"] for row in rows)
    findings = examine(manifest, beside=beside, rejects=rejects, defects=defects)
    return {
        "found": len(rows) + len(quarantined),
        "written": len(rows),
        "seconds": math.fsum(row["seconds"] for row in rows),
        "speakers": dict(sorted(speakers.items())),
        "emotions": dict(sorted(emotions.items())),
        "quarantined": sorted(quarantined, key=lambda row: row["path"]),
        "findings": findings,
        "notes": [line_of(finding) for finding in findings if finding["grade"] != "fact"],
    }


def set_table(source: str, report: Mapping[str, Any]) -> str:
    """Return the report of a set as lines for people; what is quarantined is told elsewhere."""
    lines = [
        f"{source}: {report['written']} of {report['found']} clips written, {report['seconds']:.2f} s, {_people(report['speakers'])}",
        "  " + ", ".join(f"{emotion} {count}" for emotion, count in report["emotions"].items()),
        *(f"  note: {printable(note)}" for note in report["notes"]),
    ]
    return "\n".join(lines)


def _people(speakers: Mapping[str, int]) -> str:
    known = len(speakers) - ("unknown" in speakers)
    return f"{known} speaker{'s' * (known != 1)}" if known else "speakers unknown"
