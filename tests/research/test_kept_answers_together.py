"""One network for faces and voices, and a face beside its mirror image: what is said of them is what the answers give."""

import functools

import numpy as np
import pytest

from helpers.kept_answers import MIRRORED, README_TEXT, RESULTS_TEXT, TOGETHER, shown, signed
from kerasemo.analysis import comparison, differences, prediction_tables
from kerasemo.metrics import classification, significance

pytestmark = pytest.mark.usefixtures("answers_read_once")

SINGLE = {
    "fer2013/visual": "single-faces",
    "ravdess/audio": "single-ravdess",
    "emodb/audio": "single-emodb",
}
"""The network of each set alone, in the order of the tables."""
SETS = {
    "fer2013/visual": "FER-2013",
    "ravdess/audio": "RAVDESS",
    "emodb/audio": "EMO-DB",
    "ravdess/audio + emodb/audio": "mean of the voices",
}
ARMS = {
    "": "a network for each set alone",
    "pooled": "one network, cross-entropy alone",
    "joint": "one network, joint: with the contrastive loss",
    "then-emodb": "one set after the other, 1 000 updates each",
}
MINUS = "\N{MINUS SIGN}"
VOICES = "ravdess/audio + emodb/audio"
OTHERS = {
    "pooled": "without the contrastive loss",
    "": "a network for each set",
    "then-emodb": "one set after the other",
}


@functools.cache
def result() -> dict:
    return comparison.compare(
        [(TOGETHER, "")], [("joint", other) for other in ("pooled", *SINGLE.values(), "then-emodb")]
    )


def scores() -> dict[tuple[str, str], dict]:
    return {(row["stage"], row["source"]): row for row in result()["rows"]}


def score_lines() -> list[str]:
    found, lines = scores(), []
    for arm, said in ARMS.items():
        rows = [found[arm or single, source] for source, single in SINGLE.items()]
        cells = [f"{100 * row['ua']:.1f} {shown(row['interval']['ua'])}" for row in rows]
        lines.append(
            f"| {said} | {' | '.join(cells)} | {100 * sum(row['ua'] for row in rows) / 3:.1f} |"
        )
    return lines


def compared() -> list[dict]:
    """Return the twelve comparisons that were asked for, corrected for each other."""
    found = []
    for other in OTHERS:
        alone = [
            one | {"stages": ["joint", other]}
            for source, single in SINGLE.items()
            for one in result()["comparisons"]
            if one["source"] == source and one["stages"] == ["joint", other or single]
        ]
        found += alone + differences.together(alone)
    assert len(found) == 12
    return differences.corrected(found)


def small(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def difference_line(one: dict) -> str:
    ua, wa = one["ua"], one["wa"]
    cells = [f"{signed(ua)}, {small(ua['p'])} / {small(ua['p_holm'])}"]
    cells += [f"{signed(found)}, {small(found['p'])}" for found in (ua["pooled"], wa)]
    return f"| {OTHERS[one['stages'][1]]} | {SETS[one['source']]} | {' | '.join(cells)} |"


@functools.cache
def pairs_of_networks() -> list[float]:
    """Return what the contrastive loss adds to UA on FER-2013 in each of the six pairs of networks that begin alike."""
    kept = prediction_tables.read(TOGETHER)
    with_loss, without = (kept[stage, "fer2013/visual"].pool for stage in ("joint", "pooled"))
    assert with_loss.clips == without.clips and (with_loss.labels == without.labels).all()
    accuracies = [
        [classification.unweighted_accuracy(own.labels, said, n_classes=10) for said in own.answers]
        for own in (with_loss, without)
    ]
    return np.subtract(*accuracies).tolist()


def test_its_answers_are_those_of_all_test_clips():
    found = scores()
    for (stage, source), row in found.items():
        assert row["side"] == "test" and row["protocol"] == "speaker-independent"
        own = source in SINGLE and stage in (SINGLE[source], "joint", "pooled", "then-emodb")
        assert (
            not own
            or row["n"]
            == {"fer2013/visual": 3589, "ravdess/audio": 720, "emodb/audio": 278}[source]
        )
        assert not own or row["networks"] == (
            6 if source == "fer2013/visual" and stage != "single-faces" else 1
        )


@pytest.mark.parametrize("place", range(len(ARMS)))
def test_a_row_of_scores_is_what_the_answers_give(place):
    assert score_lines()[place] in RESULTS_TEXT


@pytest.mark.parametrize("place", range(12))
def test_a_difference_is_what_the_answers_give(place):
    assert difference_line(compared()[place]) in RESULTS_TEXT


def over_pairs() -> str:
    """Return the mean over the pairs, with their t interval and the p of their signs, as the texts have it."""
    found = significance.paired(
        {str(place): gain for place, gain in enumerate(pairs_of_networks())},
        dict.fromkeys("012345", 0.0),
    )
    return f"{100 * found.low:.1f} to {100 * found.high:.1f}, p = {found.p:.2f}".replace("-", MINUS)


def test_six_pairs_of_networks_are_told_apart():
    gains = ", ".join(
        f"{100 * gain:+.1f}".replace("-", MINUS) for gain in sorted(pairs_of_networks())
    )
    assert (
        f"the six pairs of networks have {gains} ({over_pairs()})" in RESULTS_TEXT
        and f"({over_pairs()})" in README_TEXT
    )


def test_the_networks_of_one_set_on_the_other_voices_are_what_the_answers_give():
    for stage, source in (("single-ravdess", "emodb/audio"), ("single-emodb", "ravdess/audio")):
        row = scores()[stage, source]
        cells = f"{100 * row['ua']:.1f} {shown(row['interval']['ua'])} | {100 * row['all_classes']['ua']:.1f} |"
        assert f"on {SETS[source]} | {cells}" in RESULTS_TEXT and row["networks"] == 6


def test_the_readme_says_what_the_answers_give():
    found = {(one["stages"][1], one["source"]): one["ua"] for one in compared()}
    less, faces, voices = (
        found["", VOICES],
        found["pooled", "fer2013/visual"],
        found["pooled", VOICES],
    )
    assert (
        f"{signed(less)}, p {small(less['p'])}, {small(less['p_holm'])} corrected for twelve"
        in README_TEXT
    )
    assert (
        f"{signed(faces)}, p {small(faces['p'])}, {small(faces['p_holm'])} corrected" in README_TEXT
    )
    assert f"{signed(voices)}, p = {voices['p']:.2f}" in README_TEXT
    for arm in ARMS:
        figures = [
            f"{100 * scores()[arm or single, source]['ua']:.1f}"
            for source, single in SINGLE.items()
        ]
        assert f"{figures[0]}, {figures[1]} and {figures[2]}" in README_TEXT


def test_what_a_mirror_image_adds_is_what_the_answers_give():
    """Of eleven networks that were trained without it, each with a part of its own less or more, on validation images."""
    arms = dict.fromkeys(stage.rpartition("-")[0] for stage, _ in prediction_tables.read(MIRRORED))
    together = tuple("+".join(f"{arm}-{how}" for arm in arms) for how in ("mirrored", "plain"))
    result = comparison.compare(
        [(MIRRORED, "")], [together, *((f"{arm}-mirrored", f"{arm}-plain") for arm in arms)]
    )
    assert len(arms) == 11 and all(
        (row["n"], row["side"]) == (3543, "validation") for row in result["rows"]
    )
    mean, *each = result["comparisons"]
    said = "; ".join(
        f"{name.upper()} {signed(mean[name])}, p {small(mean[name]['p'])}" for name in ("ua", "wa")
    )
    gains = ", ".join(
        f"{100 * gain:+.1f}".replace("-", MINUS)
        for gain in sorted(one["wa"]["difference"] for one in each)
    )
    assert f"{said}, of each network in WA {gains}" in RESULTS_TEXT
