"""The answers behind the tables: what the README says is what they give."""

from pathlib import Path

import pytest

from kerasemo import compare

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
ANSWERS = ROOT / "benchmarks" / "answers"


def shown(found: dict) -> str:
    return f"({100 * found['low']:.1f} to {100 * found['high']:.1f})"


def row_of(start: str) -> str:
    (row,) = [line for line in README.splitlines() if line.startswith(start)]
    return row


ROWS = {
    "emodb": ("| EMO-DB audio, 7 | each speaker in turn", ("ua", "wa")),
    "ravdess": ("| RAVDESS speech, actors 1 to 12, 8 |", ("ua", "wa")),
    "opensmile-ravdess": ("| RAVDESS speech, actors 1 to 12, 8 |", ("ua",)),
    "opensmile-emodb": ("| EMO-DB audio, 7 | each speaker in turn", ("ua",)),
    "opensmile-emodb-speaker-dependent": ("| EMO-DB audio, 7 * | speaker-dependent", ("wa",)),
}


TRANSFER, LONGER = ANSWERS / "transfer.csv", ANSWERS / "transfer-longer.csv"
"""Of twenty-two stages and of two; the others are of one each."""
SIZES = ("2", "5", "10", "20", "all")
STARTS = ("faces", "speech", "both")


def test_every_file_is_known_and_small():
    assert sorted(path.stem for path in ANSWERS.iterdir()) == sorted([*ROWS, TRANSFER.stem, LONGER.stem])
    assert all(path.stat().st_size < (1_200_000 if path == TRANSFER else 200_000) for path in ANSWERS.iterdir())


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_results_is_what_the_answers_give(name):
    start, figures = ROWS[name]
    (score,) = compare.compare([(ANSWERS / f"{name}.csv", "")])["rows"]
    assert score["side"] == "test"
    for figure in figures:
        assert f"{100 * score[figure]:.1f} {shown(score['interval'][figure])}" in row_of(start)


@pytest.mark.parametrize("name", ["emodb", "ravdess"])
def test_the_difference_from_opensmile_is_what_the_answers_give(name):
    (found,) = compare.compare([(ANSWERS / f"{file}.csv", "") for file in (name, f"opensmile-{name}")])["comparisons"]
    by, p = found["ua"], found["ua"]["p"]
    said = f"{100 * by['difference']:+.1f} UA, {shown(by).strip('()')}, p = {p:.3f}"
    assert said.replace("-", "−") in README


def told(found: dict, digits: int) -> str:
    """Return a difference as the tables of the results have it."""
    return f"{100 * found['difference']:+.1f} {shown(found)}, {found['p']:.3f} / {found['p_holm']:.{digits}f}".replace(
        "-", "\N{MINUS SIGN}"
    )


def test_the_table_of_transfer_is_what_the_answers_give():
    pairs = [(f"{start}-{size}", f"scratch-{size}") for size in SIZES for start in STARTS]
    result = compare.compare([(TRANSFER, "")], pairs)
    scores = {row["stage"]: row for row in result["rows"] if row["source"] == "emodb/audio"}
    assert all(row["n"] == 535 and row["side"] == "test" for row in scores.values()) and len(scores) == 20
    differences = iter(result["comparisons"])
    for size in SIZES:
        scratch = scores[f"scratch-{size}"]
        cells = [f"{100 * scratch['ua']:.1f} {shown(scratch['interval']['ua'])}"]
        cells += [f"{100 * scores[f'{start}-{size}']['ua']:.1f}, {told(next(differences)['ua'], 2)}" for start in STARTS]
        assert f"| {size} | {' | '.join(cells)} |" in RESULTS
    of_both = {one["stages"][0]: f"{100 * one['ua']['difference']:+.1f}" for one in result["comparisons"]}
    assert f"It comes of 10 and 20 ({of_both['both-10']}, {of_both['both-20']})" in README


def test_the_means_over_few_labels_and_what_faces_do_for_voices_are_what_the_answers_give():
    sides = ["+".join(f"{start}-{size}" for size in SIZES[:-1]) for start in ("scratch", *STARTS)]
    result = compare.compare([(TRANSFER, "")], [(side, sides[0]) for side in sides[1:]])
    scores = {row["stage"]: row["ua"] for row in result["rows"] if row["source"] == "emodb/audio"}
    means = [100 * sum(scores[stage] for stage in side.split("+")) / 4 for side in sides]
    cells = [f"{mean:.1f}, {told(one['ua'], 3)}" for mean, one in zip(means[1:], result["comparisons"], strict=True)]
    assert f"| {means[0]:.1f} | {' | '.join(cells)} |" in RESULTS
    both = result["comparisons"][-1]["ua"]
    figures = f"{100 * both['difference']:+.1f} UA ({100 * both['low']:.1f} to {100 * both['high']:.1f})"
    assert f"**{figures}, p = {both['p']:.3f}, {both['p_holm']:.3f} corrected for three**" in RESULTS
    assert f"{figures.replace('UA (', 'UA on EMO-DB (')[:-1]}, p = {both['p']:.3f}, {both['p_holm']:.3f} corrected for three" in README
    wa = result["comparisons"][-1]["wa"]
    assert f"{100 * wa['difference']:+.1f} {shown(wa)}, p = {wa['p']:.3f}, {wa['p_holm']:.2f} corrected for three" in RESULTS
    least, *gains = sorted(100 * one for one in both["speakers"].values())
    assert (
        least < 0 < gains[0] and f"Nine of ten speakers gain in UA, by {gains[0]:.1f} to {gains[-1]:.1f}; one loses {-least:.1f}" in RESULTS
    )
    faces, voices = (f"{100 * one['ua']['difference']:+.1f}".replace("-", "\N{MINUS SIGN}") for one in result["comparisons"][:2])
    assert f"faces alone ({faces}) or voices alone ({voices})" in README
    actors = {row["stage"]: row for row in result["rows"] if row["source"] == "ravdess/audio"}
    for stage, how in (("faces-speech", "after FER-2013"), ("speech", "without")):
        assert f"{100 * actors[stage]['ua']:.1f} {shown(actors[stage]['interval']['ua'])} {how}" in RESULTS
    (of_faces,) = compare.compare([(TRANSFER, "")], [("faces-speech", "speech")])["comparisons"]
    said = f"{100 * of_faces['ua']['difference']:+.1f} {shown(of_faces['ua'])}, p = {of_faces['ua']['p']:.2f}"
    assert said.replace("-", "\N{MINUS SIGN}") in RESULTS


def test_what_longer_training_from_scratch_leaves_is_what_the_answers_give():
    result = compare.compare([(TRANSFER, ""), (LONGER, "")], [(f"both-{size}", f"scratch-{size}-longer") for size in ("10", "20")])
    scores = {row["stage"]: row for row in result["rows"]}
    longer, gains = (scores[f"scratch-{size}-longer"] for size in ("10", "20")), []
    assert " and ".join(f"{100 * row['ua']:.1f} {shown(row['interval']['ua'])}" for row in longer) in RESULTS
    for one in result["comparisons"]:
        figures = f"{100 * one['ua']['difference']:+.1f} {shown(one['ua'])}".replace("-", "\N{MINUS SIGN}")
        assert f"**{figures}, p = {one['ua']['p']:.2f}**" in RESULTS
        gains.append(figures.replace(" (", ", ").rstrip(")"))
    assert f"({'; '.join(gains)})" in README
    beside = [(f"scratch-{size}-longer", f"scratch-{size}") for size in ("10", "20")]
    more = [f"{100 * one['ua']['difference']:.1f}" for one in compare.compare([(TRANSFER, ""), (LONGER, "")], beside)["comparisons"]]
    assert f"{' and '.join(more)} above 1 000" in RESULTS
