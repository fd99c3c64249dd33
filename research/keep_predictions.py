"""Store the predictions behind a published figure in a small file with reproducible bytes.

    python -m research.keep_predictions runs/emodb/tables/answers.csv \
        --take speech:emodb/audio=emodb --out research/predictions/emodb.csv.gz

The command reads tables of predictions (`answers.csv` of `kerasemo.reproduce`, or files written by this
command), keeps the columns that a comparison reads, and writes one gzip file. The same input gives the
same bytes with the same version of zlib, because the file holds no name and no time.
"""

import argparse
import csv
import gzip
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

COLUMNS = (
    "stage",
    "source",
    "side",
    "protocol",
    "network",
    "seed",
    "fold",
    "id",
    "speaker",
    "emotion",
    "answer",
    "among",
    "stamps",
)
"""The columns of the written file, in order. An optional column without information is left out."""

OPTIONAL = {"network": "0", "seed": "0", "among": "", "stamps": ""}
"""What the reader of a table assumes where one of these columns is missing or empty."""

Row = dict[str, str]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a table of predictions, `.csv` or `.csv.gz`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def take(rows: Sequence[Row], names: Mapping[tuple[str, str], str]) -> list[Row]:
    """Return the rows of some stages and sources, each under a new name of its stage.

    Args:
        rows: The rows of one or more tables.
        names: The new name of each (stage, source) to keep. Empty: keep everything unchanged.

    Raises:
        ValueError: No row has one of the (stage, source).
    """
    if not names:
        return [dict(row) for row in rows]
    present = {(row["stage"], row["source"]) for row in rows}
    if missing := sorted(set(names) - present):
        stage, source = missing[0]
        known = ", ".join(":".join(place) for place in sorted(present))
        raise ValueError(
            f"--take {stage}:{source}: no such stage and source; expected one of {known}"
        )
    return [
        row | {"stage": names[row["stage"], row["source"]]}
        for row in rows
        if (row["stage"], row["source"]) in names
    ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as `.csv.gz`, the rows of a clip next to each other, so that they compress well."""
    rows = [{name: row.get(name) or OPTIONAL.get(name, "") for name in COLUMNS} for row in rows]
    _drop_derivable_emotions(rows)
    used = [
        name
        for name in COLUMNS
        if name not in OPTIONAL or any(row[name] != OPTIONAL[name] for row in rows)
    ]
    clips = {clip: index for index, clip in enumerate(dict.fromkeys(map(_clip, rows)))}
    for _ in range(2):  # twice, so that the order of stages is that of the written file
        names = dict.fromkeys(row["stage"] for row in rows)
        stages = {stage: index for index, stage in enumerate(names)}
        rows.sort(key=lambda row: (clips[_clip(row)], stages[row["stage"]]))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, used, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with (
        open(path, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed,
    ):
        packed.write(text.getvalue().encode())


def _clip(row: Row) -> tuple[str, str, str]:
    return row["source"], row["fold"], row["id"]


def _drop_derivable_emotions(rows: Sequence[Row]) -> None:
    """Empty `among` where it lists exactly the emotions of the rows, which the reader assumes."""
    emotions_of: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        emotions_of.setdefault((row["stage"], row["source"]), set()).update(
            (row["emotion"], row["answer"])
        )
    for row in rows:
        if set(row["among"].split()) == emotions_of[row["stage"], row["source"]]:
            row["among"] = ""


def _named_place(text: str) -> tuple[tuple[str, str], str]:
    """Parse STAGE:SOURCE or STAGE:SOURCE=NAME (an argparse type).

    >>> _named_place("speech:emodb/audio=emodb"), _named_place("joint:emodb/audio")
    ((('speech', 'emodb/audio'), 'emodb'), (('joint', 'emodb/audio'), 'joint'))
    """
    place, _, name = text.partition("=")
    stage, colon, source = place.partition(":")
    if not (stage and colon and source):
        raise argparse.ArgumentTypeError(
            f"expected STAGE:SOURCE or STAGE:SOURCE=NAME; received {text!r}"
        )
    return (stage, source), name or stage


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, write the file, print its size, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m research.keep_predictions", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "tables", nargs="+", type=Path, metavar="FILE", help="tables of predictions"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.csv.gz", help="file to write"
    )
    parser.add_argument(
        "--take",
        nargs="+",
        type=_named_place,
        default=[],
        metavar="STAGE:SOURCE[=NAME]",
        help="stages to keep, each on one source (default: all)",
    )
    arguments = parser.parse_args(argv)
    try:
        rows = [row for path in arguments.tables for row in read_rows(path)]
        kept_rows = take(rows, dict(arguments.take))
    except (OSError, ValueError) as error:
        print(f"keep_predictions: {error}", file=sys.stderr)
        return 2
    write_rows(arguments.out, kept_rows)
    print(f"{arguments.out}: {len(kept_rows)} predictions, {arguments.out.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
