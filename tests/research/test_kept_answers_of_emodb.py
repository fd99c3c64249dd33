"""The answers behind the rows and sections of EMO-DB, and of what is normalised by speaker: what is said of them is what they give."""

import pytest

from helpers.kept_answers import (
    ANSWERS,
    BEGUN,
    BY_OPENSMILE,
    BY_SPEAKER,
    FIRST,
    README_TEXT,
    RESULTS,
    RESULTS_TEXT,
    SEEDS,
    TWO,
    UPDATES,
    by_both,
    row_of,
    scored,
    shown,
    signed,
    told,
)
from kerasemo.analysis import comparison, prediction_tables

pytestmark = pytest.mark.usefixtures("answers_read_once")

OPENSMILE = ANSWERS / "opensmile-emodb.csv"


def check_row(row: dict, stage: str, start: str) -> None:
    """Check that a row of one seed, and its section, say what the answers to all test clips give."""
    assert (row["stage"], row["n"], row["side"]) == (stage, 535, "test")
    cells = scored(row)
    assert f"| 1 | {' | '.join(cells)} |" in row_of(start)
    assert f"**test UA {cells[0]}, WA {cells[1]}**" in RESULTS_TEXT


def test_what_three_seeds_of_emodb_answer_is_what_the_answers_give():
    beside = {"both": BEGUN, "members": TWO, "updates": UPDATES, "by-speaker": BY_SPEAKER[0]}
    files = [(SEEDS, ""), *((path, stage) for stage, path in beside.items())]
    result = comparison.compare(files, [(stage, "seeds") for stage in beside])
    seeds, *others = result["rows"]
    assert (seeds["n"], seeds["networks"], [one["seed"] for one in seeds["by_seed"]]) == (
        535,
        3,
        [0, 1, 2],
    )
    ua, wa = scored(seeds)
    assert f"**Test UA {ua}, WA {wa}**" in RESULTS_TEXT
    each = [[f"{100 * one[score]:.1f}" for one in seeds["by_seed"]] for score in ("ua", "wa")]
    said = [
        f"{score} {first}, {second} and {third}"
        for score, (first, second, third) in zip(("UA is", "WA"), each, strict=True)
    ]
    assert (
        ", ".join(said) in RESULTS_TEXT
        and f"(the first row's three: {', '.join(each[0])})" in README_TEXT
    )
    for row, one in zip(others, result["comparisons"], strict=True):
        assert (
            f", {100 * row['ua']:.1f} | {told(one['ua'], 2)} | {told(one['wa'], 2)} |"
            in RESULTS_TEXT
        )
    of_seeds, of_first = (
        comparison.compare([(path, ""), (OPENSMILE, "")])["comparisons"][0]
        for path in (SEEDS, FIRST)
    )
    alone_said = signed(of_first["ua"]).replace(" (", ", ").removesuffix(")")
    assert (
        f"the seeds averaged first: {'; '.join(by_both(of_seeds))} (by seed 0 alone {alone_said})"
        in RESULTS_TEXT
    )
    alone, first = (
        prediction_tables.read(path)[stage, "emodb/audio"].pool
        for path, stage in ((FIRST, "speech"), (SEEDS, "seeds"))
    )
    assert first.seeds[0] == 0 and dict(zip(first.clips, first.answers[0])) == dict(
        zip(alone.clips, alone.answers[0])
    )


def test_what_emodb_gains_from_faces_and_other_voices_is_what_the_answers_give():
    result = comparison.compare([(BEGUN, "both"), (FIRST, "speech")])
    both, scratch = result["rows"]
    assert scratch["n"] == 535
    check_row(both, "both", "| the same, begun from FER-2013 and then RAVDESS")
    (one,) = result["comparisons"]
    assert "**{}**; {}".format(*by_both(one)) in RESULTS_TEXT
    gains = sorted(100 * gain for gain in one["ua"]["speakers"].values())
    assert (
        sum(gain > 0 for gain in gains) == 7
        and f"gain, by up to {gains[-1]:.1f}; speaker 11 loses {-gains[0]:.1f}" in RESULTS_TEXT
    )
    (before,) = comparison.compare([(BEGUN, "faces-speech")])["rows"]
    assert (
        f"UA {100 * before['ua']:.1f}, {shown(before['interval']['ua'])[1:-1]}, on their own test actors"
        in RESULTS_TEXT
    )


def test_what_two_members_of_emodb_answer_is_what_the_answers_give():
    result = comparison.compare([(TWO, ""), (FIRST, ""), (OPENSMILE, "")])
    two = result["rows"][0]
    check_row(two, "members", "| the same, from scratch, by two networks in one")
    one, opensmile = result["comparisons"]
    assert "drawn apart), speaker by speaker: **{}**; {}".format(*by_both(one)) in RESULTS_TEXT
    assert f"Less openSMILE: {'; '.join(by_both(opensmile))}" in RESULTS_TEXT
    assert f"two less one is {signed(one['ua']).replace(' (', ' UA (')} on [EMO-DB's" in README_TEXT
    assert two["recalls"]["boredom"] == result["rows"][1]["recalls"]["boredom"] == 45 / 81
    assert "of 81 bored clips each recognises 45" in RESULTS_TEXT


def test_what_the_test_speakers_own_statistics_add_is_what_the_answers_give():
    result = comparison.compare([(BY_SPEAKER[0], ""), (FIRST, ""), (BY_SPEAKER[1], "")])
    own, _, opensmile = result["rows"]
    assert (own["stage"], own["n"], own["side"]) == ("by-speaker", 535, "test")
    assert all("transductive" in " ".join(row["stamps"]) for row in (own, opensmile))
    cells = scored(own)
    theirs = f"UA {100 * opensmile['ua']:.1f} {shown(opensmile['interval']['ua'])}"
    assert (
        f"| EMO-DB audio, 7 | each speaker in turn, 10 folds | 1 | {' | '.join(cells)} | {theirs} |"
        in RESULTS_TEXT
    )
    assert f"**test UA {cells[0]}, WA {cells[1]}**" in RESULTS_TEXT
    for one, place in zip(result["comparisons"], ("77.5, float32): ", "85.3: "), strict=True):
        assert f"{place}{', '.join(by_both(one))}" in RESULTS_TEXT
    (all_three,) = comparison.compare([(BY_SPEAKER[0], ""), (SEEDS, "")])["comparisons"]
    gain = f"{signed(all_three['ua']['pooled'])} to the first row"
    assert f"EMO-DB {cells[0]}, {gain}, openSMILE + SVM {100 * opensmile['ua']:.1f}" in README_TEXT


def test_what_opensmile_answers_of_ravdess_normalised_by_speaker_is_what_its_answers_give():
    (row,) = comparison.compare([(BY_OPENSMILE, "")])["rows"]
    assert (row["n"], row["side"]) == (720, "test") and "transductive" in " ".join(row["stamps"])
    line = row_of("| RAVDESS speech, actors 1 to 12, 8 | 6 folds of 2 actors | 1 |", RESULTS)
    assert (
        line.endswith(f"| UA {scored(row)[0]} |")
        and f"openSMILE + SVM {100 * row['ua']:.1f}; EMO-DB" in README_TEXT
    )


def test_what_twice_the_updates_answer_is_what_the_answers_give():
    result = comparison.compare([(UPDATES, ""), (FIRST, ""), (OPENSMILE, "")])
    own = result["rows"][0]
    check_row(own, "updates", "| the same, from scratch, by [twice the updates]")
    one, opensmile = result["comparisons"]
    assert (
        "77.5, float32, drawn apart), speaker by speaker: **{}**; {}".format(*by_both(one))
        in RESULTS_TEXT
    )
    assert f"Less openSMILE: {'; '.join(by_both(opensmile))}" in RESULTS_TEXT
    assert (
        f"of 81 bored clips {round(81 * own['recalls']['boredom'])} are recognised" in RESULTS_TEXT
    )
