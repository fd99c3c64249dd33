"""The answers behind the tables: what the README says is what they give."""

import pytest

from helpers.kept_answers import (
    ABLATION,
    ANSWERS,
    APART,
    BEGUN,
    BY_OPENSMILE,
    BY_SPEAKER,
    FACES,
    FIRST,
    LONGER,
    MEMBERS,
    MIRRORED,
    README_TEXT,
    RESULTS,
    RESULTS_TEXT,
    TOGETHER,
    TRANSFER,
    TWO,
    UPDATES,
    by_both,
    confusion,
    row_of,
    scored,
    shown,
    signed,
    told,
)
from kerasemo.analysis import comparison, prediction_tables

pytestmark = pytest.mark.usefixtures("answers_read_once")

ROWS = {
    "emodb-seeds": ("| EMO-DB audio, 7 | each speaker in turn", ("ua", "wa")),
    "emodb-speaker-dependent": (
        "| EMO-DB audio, 7 (pool of rows, without pauses) | speakers shared",
        ("ua", "wa"),
    ),
    "ravdess": ("| RAVDESS speech, actors 1 to 12, 8 |", ("ua", "wa")),
    "opensmile-ravdess": ("| RAVDESS speech, actors 1 to 12, 8 |", ("ua", "wa")),
    "opensmile-emodb": ("| EMO-DB audio, 7 | each speaker in turn", ("ua", "wa")),
    "opensmile-emodb-speaker-dependent": (
        "| EMO-DB audio, 7 (pool of rows, without pauses) | speakers shared",
        ("ua", "wa"),
    ),
}


AVERAGED = ("voices", "speakers-shared", "transfer", "faces")
"""Of the last weights of some trainings and of their average, in the order of the table."""
FACES_ARMS = {
    "no-flip": "without mirror images",
    "no-moves": "without shifts, scales, rotations",
    "no-light": "without brightness, contrast",
    "no-erasing": "without erasing",
    "no-changes": "without any of these changes",
    "no-smoothing": "without label smoothing",
    "no-ema": "without the moving average of the weights (0.999), drawn apart",
    "constant-rate": "constant rate in place of the cosine",
    "balanced": "with classes balanced",
    "mixup": "with mixup 0.2",
}
SIZES = ("2", "5", "10", "20", "all")
STARTS = ("faces", "speech", "both")


def test_every_file_is_known_and_small():
    others = [
        FIRST.stem,
        TRANSFER.stem,
        LONGER.stem,
        ABLATION.stem,
        APART.stem,
        BEGUN.stem,
        MEMBERS.stem,
        TWO.stem,
        UPDATES.stem,
        *(path.stem for path in BY_SPEAKER),
        BY_OPENSMILE.stem,
        *("ablation-faces", "mirrored-faces", "together-faces"),
        *(f"averaged-{name}" for name in AVERAGED),
    ]
    assert sorted(path.name.partition(".")[0] for path in ANSWERS.iterdir()) == sorted(
        [*ROWS, *others]
    )
    large = (TRANSFER, ANSWERS / "averaged-faces.csv", FACES, MIRRORED, TOGETHER)
    assert all(
        path.stat().st_size < (1_200_000 if path in large else 200_000)
        for path in ANSWERS.iterdir()
    )


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_the_results_is_what_the_answers_give(name):
    start, figures = ROWS[name]
    (score,) = comparison.compare([(ANSWERS / f"{name}.csv", "")])["rows"]
    assert score["side"] == "test"
    for figure in figures:
        assert f"{100 * score[figure]:.1f} {shown(score['interval'][figure])}" in row_of(start)


def test_the_table_of_transfer_is_what_the_answers_give():
    pairs = [(f"{start}-{size}", f"scratch-{size}") for size in SIZES for start in STARTS]
    result = comparison.compare([(TRANSFER, "")], pairs)
    scores = {row["stage"]: row for row in result["rows"] if row["source"] == "emodb/audio"}
    assert (
        all(row["n"] == 535 and row["side"] == "test" for row in scores.values())
        and len(scores) == 20
    )
    differences = {one["stages"][0]: one["ua"] for one in result["comparisons"]}
    for size in SIZES:
        scratch = scores[f"scratch-{size}"]
        cells = [f"{100 * scratch['ua']:.1f} {shown(scratch['interval']['ua'])}"]
        cells += [
            f"{100 * scores[stage]['ua']:.1f}, {told(differences[stage], 2)}"
            for stage in (f"{start}-{size}" for start in STARTS)
        ]
        assert f"| {size} | {' | '.join(cells)} |" in RESULTS_TEXT
    gains = ", ".join(
        f"{100 * differences[stage]['difference']:+.1f}" for stage in ("both-10", "both-20")
    )
    assert f"It comes of 10 and 20 ({gains})" in README_TEXT


def test_the_means_over_few_labels_are_what_the_answers_give():
    sides = ["+".join(f"{start}-{size}" for size in SIZES[:-1]) for start in ("scratch", *STARTS)]
    result = comparison.compare([(TRANSFER, "")], [(side, sides[0]) for side in sides[1:]])
    scores = {row["stage"]: row["ua"] for row in result["rows"] if row["source"] == "emodb/audio"}
    means = [100 * sum(scores[stage] for stage in side.split("+")) / 4 for side in sides]
    cells = [
        f"{mean:.1f}, {told(one['ua'], 3)}"
        for mean, one in zip(means[1:], result["comparisons"], strict=True)
    ]
    assert f"| {means[0]:.1f} | {' | '.join(cells)} |" in RESULTS_TEXT
    faces, voices, both = result["comparisons"]
    ua, wa = both["ua"], both["wa"]
    corrected = f"p = {ua['p']:.3f}, {ua['p_holm']:.3f} corrected for three"
    assert f"**{signed(ua).replace(' (', ' UA (')}, {corrected}**" in RESULTS_TEXT
    assert f"{signed(ua).replace(' (', ' UA on EMO-DB (')[:-1]}, {corrected}" in README_TEXT
    assert (
        f"{signed(wa)}, p = {wa['p']:.3f}, {wa['p_holm']:.2f} corrected for three" in RESULTS_TEXT
    )
    least, *gains = sorted(100 * one for one in ua["speakers"].values())
    assert least < 0 < gains[0] and len(gains) == 9
    assert (
        f"Nine of ten speakers gain in UA, by {gains[0]:.1f} to {gains[-1]:.1f}; one loses {-least:.1f}"
        in RESULTS_TEXT
    )
    alone = [signed(one["ua"]).partition(" ")[0] for one in (faces, voices)]
    assert f"faces alone ({alone[0]}) or voices alone ({alone[1]})" in README_TEXT


def test_what_faces_do_for_voices_is_what_the_answers_give():
    result = comparison.compare([(TRANSFER, "faces-speech"), (TRANSFER, "speech")])
    for row, how in zip(result["rows"], ("after FER-2013", "without"), strict=True):
        assert (
            row["n"] == 720
            and f"{100 * row['ua']:.1f} {shown(row['interval']['ua'])} {how}" in RESULTS_TEXT
        )
    (one,) = result["comparisons"]
    assert f"{signed(one['ua'])}, p = {one['ua']['p']:.2f}" in RESULTS_TEXT


def test_what_longer_training_from_scratch_leaves_is_what_the_answers_give():
    files = [
        (LONGER, ""),
        *((TRANSFER, f"{start}-{size}") for start in ("both", "scratch") for size in ("10", "20")),
    ]
    pairs = [(f"both-{size}", f"scratch-{size}-longer") for size in ("10", "20")]
    pairs += [(f"scratch-{size}-longer", f"scratch-{size}") for size in ("10", "20")]
    result = comparison.compare(files, pairs)
    longer = result["rows"][:2]
    assert (
        " and ".join(f"{100 * row['ua']:.1f} {shown(row['interval']['ua'])}" for row in longer)
        in RESULTS_TEXT
    )
    left, more = (
        [one["ua"] for one in result["comparisons"][places]] for places in (slice(2), slice(2, 4))
    )
    assert all(f"**{signed(one)}, p = {one['p']:.2f}**" in RESULTS_TEXT for one in left)
    assert f"({'; '.join(signed(one).replace(' (', ', ')[:-1] for one in left)})" in README_TEXT
    assert (
        f"{100 * more[0]['difference']:.1f} and {100 * more[1]['difference']:.1f} above 1 000"
        in RESULTS_TEXT
    )


def test_what_parts_of_the_recipe_for_faces_add_is_what_the_answers_give():
    """Of ten arms less the usual one; of the last two, which add a part, the other way."""
    arms = [
        "no-flip",
        "no-moves",
        "no-light",
        "no-erasing",
        "no-changes",
        "no-smoothing",
        "no-ema",
        "constant-rate",
    ]
    result = comparison.compare(
        [(FACES, "")],
        [*(("usual", arm) for arm in arms), ("balanced", "usual"), ("mixup", "usual")],
    )
    scores = {row["stage"]: row for row in result["rows"]}
    assert len(scores) == 11 and all(
        (row["n"], row["side"]) == (3543, "validation") for row in scores.values()
    )
    assert f"| **usual recipe** | {' | '.join(scored(scores['usual']))} | | |" in RESULTS_TEXT
    for arm, one in zip([*arms, "balanced", "mixup"], result["comparisons"], strict=True):
        row = next(
            line for line in RESULTS.splitlines() if line.startswith(f"| {FACES_ARMS[arm]} |")
        )  # the table of voices is below
        ua, wa, *adds = (cell.strip(" *") for cell in row.split("|")[2:-1])
        assert [ua, wa] == [f"{100 * scores[arm][name]:.1f}" for name in ("ua", "wa")]
        for said, name in zip(adds, ("ua", "wa"), strict=True):
            difference, p = said.rsplit(", ", 1)
            assert difference == signed(one[name])
            assert [float(part) for part in p.split(" / ")] == pytest.approx(
                [one[name]["p"], one[name]["p_holm"]], rel=0.2, abs=0.006
            )
    smoothing, mixup = (
        signed(result["comparisons"][place]["ua"]).replace(" (", ", ") for place in (5, -1)
    )
    assert f"({smoothing.replace(', ', ' UA, ', 1)}" in README_TEXT and f"({mixup}" in README_TEXT


def test_what_parts_of_the_recipe_for_voices_add_is_what_the_answers_give():
    result = comparison.compare([(ABLATION, "")], [("usual", "no-ema"), ("usual", "constant-rate")])
    usual, *others = ([100 * row["ua"], 100 * row["wa"]] for row in result["rows"])
    assert all(row["n"] == 535 and row["side"] == "validation" for row in result["rows"])
    intervals = [shown(result["rows"][0]["interval"][name]) for name in ("ua", "wa")]
    cells = [f"{score:.1f} {interval}" for score, interval in zip(usual, intervals, strict=True)]
    assert f"| **usual recipe** | {' | '.join(cells)} | | |" in RESULTS_TEXT
    for (ua, wa), one in zip(others, result["comparisons"], strict=True):
        adds = [told(one[name], 2) for name in ("ua", "wa")]
        assert f"| {ua:.1f} | {wa:.1f} | {' | '.join(adds)} |" in RESULTS_TEXT
    no_ema, last = (
        prediction_tables.read(path)[name, "emodb/audio"]
        for path, name in ((ABLATION, "no-ema"), (ANSWERS / "averaged-voices.csv", "last"))
    )
    of_last = dict(zip(last.pool.clips, last.pool.answers[0], strict=True))
    others = sum(
        of_last[clip] != answer
        for clip, answer in zip(no_ema.pool.clips, no_ema.pool.answers[0], strict=True)
    )
    assert f"({others} of 535 answers are others)" in RESULTS_TEXT


def test_how_much_a_draw_does_is_what_the_answers_give():
    result = comparison.compare([(ABLATION, "usual"), (APART, "")])
    usual, *others = (row["ua"] for row in result["rows"])
    alike = [
        row["ua"]
        for row in comparison.compare([(ABLATION, "no-ema"), (ABLATION, "constant-rate")])["rows"]
    ]
    less_and_more = f"drawn alike, have {100 * (usual - alike[0]):.1f} less and {100 * (alike[1] - usual):.1f} more"
    assert less_and_more in RESULTS_TEXT
    more = [f"{100 * (other - usual):.1f}" for other in others]
    by = [signed(one["ua"]).replace(" (", ", ").removesuffix(")") for one in result["comparisons"]]
    told = f"they had {more[0]} points more, pooled ({by[0]}, as the last columns count), with a constant rate {more[1]} ({by[1]})"
    assert told in RESULTS_TEXT and f"once differed by {more[0]} UA pooled" in README_TEXT


def test_what_the_moving_average_changes_is_what_the_answers_give():
    of_ua = []
    for name in AVERAGED:
        result = comparison.compare([(ANSWERS / f"averaged-{name}.csv", "")])
        averaged, last = result["rows"]
        assert (averaged["stage"], last["stage"], averaged["side"]) == (
            "averaged",
            "last",
            "validation",
        )
        (one,) = result["comparisons"]
        of_ua.append(one["ua"])
        cells = [f"{100 * row['ua']:.1f}" for row in (averaged, last)]
        cells += [f"{signed(one[score])}, {one[score]['p']:.3f}" for score in ("ua", "wa")]
        assert f"| {' | '.join(cells)} |" in RESULTS_TEXT
    pools = prediction_tables.read(ANSWERS / "averaged-voices.csv")
    moved = sum(
        (
            pools["averaged", "emodb/audio"].pool.answers
            != pools["last", "emodb/audio"].pool.answers
        ).ravel()
    )
    assert f"moves {moved} of 535 answers about voices" in RESULTS_TEXT
    faces = of_ua[-1]
    costs = f"{-100 * faces['difference']:.1f} ({-100 * faces['high']:.1f} to {-100 * faces['low']:.1f}; one network)"
    assert f"cost a short training on faces {costs}" in README_TEXT


def test_what_a_second_member_adds_is_what_the_answers_give():
    result = comparison.compare([(MEMBERS, ""), (ABLATION, "usual")])
    two, alone = result["rows"]
    assert (two["n"], two["side"], alone["n"]) == (535, "validation", 535)
    (one,) = result["comparisons"]
    scores = [
        f"{score.upper()} {100 * two[score]:.1f} {shown(two['interval'][score])}"
        for score in ("ua", "wa")
    ]
    told = "**{}**, {}".format(*by_both(one))
    assert (
        f"{', '.join(scores)}; less one network ({100 * alone['ua']:.1f}): {told}" in RESULTS_TEXT
    )
    assert f"on validation clips [{signed(one['ua']).replace(' (', ' UA, ')[:-1]}]" in README_TEXT


CONFUSIONS = {
    "EMO-DB, each speaker in turn, three seeds together": "emodb-seeds",
    "EMO-DB, speakers shared": "emodb-speaker-dependent",
    "RAVDESS": "ravdess",
}


@pytest.mark.parametrize("name", CONFUSIONS)
def test_a_confusion_is_what_the_answers_give(name):
    (row,) = comparison.compare([(ANSWERS / f"{CONFUSIONS[name]}.csv", "")])["rows"]
    assert confusion(name, row) in RESULTS and f"macro-F1 {100 * row['macro_f1']:.1f}" in RESULTS
