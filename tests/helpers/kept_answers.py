"""The answers that are kept behind the results, and figures as the README and docs/results.md have them."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
README_TEXT, RESULTS_TEXT = (" ".join(text.split()) for text in (README, RESULTS))
"""Wherever their lines end."""
ANSWERS = ROOT / "research" / "predictions"

SEEDS, FIRST = (ANSWERS / f"{name}.csv" for name in ("emodb-seeds", "emodb"))
"""Of `emodb` with seeds 0 to 2, and with seed 0 alone, to test clips."""
TRANSFER, LONGER, ABLATION = (
    ANSWERS / f"{name}.csv" for name in ("transfer", "transfer-longer", "ablation-voices")
)
"""Of twenty-two stages, of two and of three; the others are of one each."""
APART = ANSWERS / "ablation-voices-apart.csv"
"""Of the two arms without a part, drawn apart from the usual one."""
MEMBERS = ANSWERS / "members-voices.csv"
"""Of two small networks in one, to validation clips."""
TWO = ANSWERS / "emodb-members.csv"
"""Of two networks of `emodb` in one, to test clips."""
BY_SPEAKER = [ANSWERS / f"{of}emodb-by-speaker.csv" for of in ("", "opensmile-")]
"""Each normalised by the test speaker's own statistics."""
BY_OPENSMILE = ANSWERS / "opensmile-ravdess-by-speaker.csv"
"""Likewise, of RAVDESS."""
FACES = ANSWERS / "ablation-faces.csv.gz"
"""Of eleven stages, to validation images."""
TOGETHER = ANSWERS / "together-faces.csv.gz"
"""Of all stages of `together-faces` that are compared, on every source, to test clips."""
MIRRORED = ANSWERS / "mirrored-faces.csv.gz"
"""Of each network of FACES, to an image and its mirror image and to the image alone."""
UPDATES = ANSWERS / "emodb-updates.csv"
"""Of `emodb` by twice the updates, to test clips."""
BEGUN = ANSWERS / "emodb-transfer.csv"
"""Of `both` on EMO-DB, and of what it began from on RAVDESS."""


def shown(found: dict) -> str:
    return f"({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def row_of(start: str, text: str = README) -> str:
    (row,) = [line for line in text.splitlines() if line.startswith(start)]
    return row


def scored(row: dict) -> list[str]:
    """Return UA and WA with their intervals as the results have them."""
    return [f"{100 * row[score]:.1f} {shown(row['interval'][score])}" for score in ("ua", "wa")]


def signed(found: dict) -> str:
    """Return a difference with its interval as the results have it."""
    return f"{100 * found['difference']:+.1f} {shown(found)}".replace("-", "\N{MINUS SIGN}")


def by_both(one: dict) -> tuple[str, str]:
    """Return the difference in UA and that in WA, each with its p, as the sections have them."""
    ua, wa = one["ua"], one["wa"]
    return (
        f"{signed(ua).replace(' (', ' UA (')}, p = {ua['p']:.2f}",
        f"WA {signed(wa)}, p = {wa['p']:.2f}",
    )


def told(found: dict, digits: int) -> str:
    return f"{signed(found)}, {found['p']:.3f} / {found['p_holm']:.{digits}f}"


def confusion(name: str, row: dict) -> str:
    """Return the confusion of a score as docs/results.md has it."""
    emotions = row["emotions"]
    lines = [
        f"| {name} | {' | '.join(emotions)} | recall |",
        f"|---|{'---|' * (len(emotions) + 1)}",
    ]
    for emotion, counts in zip(emotions, row["confusion"], strict=True):
        lines.append(
            f"| {emotion} | {' | '.join(map(str, counts))} | {100 * row['recalls'][emotion]:.0f} |"
        )
    return "\n".join(lines) + "\n"
