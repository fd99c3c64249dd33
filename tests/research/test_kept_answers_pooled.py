"""The differences of pooled scores: what the README and docs/results.md say of them is what the answers give."""

from pathlib import Path

import pytest

from helpers.kept_answers import (
    ABLATION,
    ANSWERS,
    BEGUN,
    BY_SPEAKER,
    LONGER,
    MEMBERS,
    README_TEXT,
    RESULTS_TEXT,
    SEEDS,
    TRANSFER,
    TWO,
    UPDATES,
    signed,
)
from kerasemo.analysis import comparison
from kerasemo.metrics import significance

pytestmark = pytest.mark.usefixtures("answers_read_once")

OPENSMILE, BY_OPENSMILE = ANSWERS / "opensmile-emodb.csv", BY_SPEAKER[1]
BESIDE_OPENSMILE = {  # a row of the table -> our answers, the stage of these, and openSMILE's
    "EMO-DB, each speaker in turn, three seeds": (SEEDS, "seeds", OPENSMILE),
    "the same, begun from FER-2013 and RAVDESS": (BEGUN, "both", OPENSMILE),
    "the same, two networks in one": (TWO, "members", OPENSMILE),
    "the same, twice the updates": (UPDATES, "updates", OPENSMILE),
    "EMO-DB, speakers shared": (
        ANSWERS / "emodb-speaker-dependent.csv",
        "",
        ANSWERS / "opensmile-emodb-speaker-dependent.csv",
    ),
    "RAVDESS": (ANSWERS / "ravdess.csv", "", ANSWERS / "opensmile-ravdess.csv"),
    "EMO-DB, both normalised by the test speaker (transductive)": (
        BY_SPEAKER[0],
        "by-speaker",
        BY_OPENSMILE,
    ),
}
FEW = [
    "+".join(f"{start}-{size}" for size in ("2", "5", "10", "20"))
    for start in ("scratch", "faces", "speech", "both")
]
QUESTIONS = {  # a row of the table -> files, and the pair that is compared
    "EMO-DB: begun from faces and other voices, less from scratch": (
        [(BEGUN, "both"), (SEEDS, "")],
        ("both", "seeds"),
    ),
    "EMO-DB: two networks in one, less one": ([(TWO, ""), (SEEDS, "")], ("members", "seeds")),
    "EMO-DB: twice the updates, less the recipe's": (
        [(UPDATES, ""), (SEEDS, "")],
        ("updates", "seeds"),
    ),
    "EMO-DB: normalised by the test speaker (transductive), less not": (
        [(BY_SPEAKER[0], ""), (SEEDS, "")],
        ("by-speaker", "seeds"),
    ),
    "few labels: after FER-2013, less from scratch": ([(TRANSFER, "")], (FEW[1], FEW[0])),
    "few labels: after RAVDESS, less from scratch": ([(TRANSFER, "")], (FEW[2], FEW[0])),
    "few labels: after both, less from scratch": ([(TRANSFER, "")], (FEW[3], FEW[0])),
    "10 labels: after both, less 2 500 updates from scratch": (
        [(TRANSFER, ""), (LONGER, "")],
        ("both-10", "scratch-10-longer"),
    ),
    "20 labels: after both, less 2 500 updates from scratch": (
        [(TRANSFER, ""), (LONGER, "")],
        ("both-20", "scratch-20-longer"),
    ),
    "validation: with the moving average, less without": ([(ABLATION, "")], ("usual", "no-ema")),
    "validation: with the falling rate, less a constant one": (
        [(ABLATION, "")],
        ("usual", "constant-rate"),
    ),
    "validation: two small networks in one, less one": (
        [(MEMBERS, ""), (ABLATION, "usual")],
        ("members", "usual"),
    ),
}


def compared(files: list[tuple[Path, str]], pair: tuple[str, str] | None = None) -> dict:
    (found,) = comparison.compare(
        files, [pair] if pair else [], sources=["emodb/audio"] if pair else []
    )["comparisons"]
    return found


def in_cells(found: dict, score: str) -> str:
    return f"{signed(found[score]['pooled'])}, {found[score]['pooled']['p']:.3f}"


@pytest.fixture(scope="module")
def beside() -> dict[str, dict]:
    """Our answers less openSMILE's, each with the p of UA that is corrected for all of them."""
    found = {
        name: compared([(ours, stage), (theirs, "")])
        for name, (ours, stage, theirs) in BESIDE_OPENSMILE.items()
    }
    corrected = significance.holm([one["ua"]["pooled"]["p"] for one in found.values()])
    return {
        name: one | {"p_holm": p} for (name, one), p in zip(found.items(), corrected, strict=True)
    }


def test_every_comparison_with_opensmile_is_what_the_answers_give(beside):
    for name, one in beside.items():
        own, wa = one["ua"], one["wa"]["pooled"]
        cells = (
            f"{in_cells(one, 'ua')} / {one['p_holm']:.2f}",
            f"{signed(own)}, {own['p']:.3f}",
            f"{signed(wa)}, {wa['p']:.3f}",
        )
        assert f"| {name} | {' | '.join(cells)} |" in RESULTS_TEXT


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_difference_of_pooled_scores_is_what_the_answers_give(name):
    found = compared(*QUESTIONS[name])
    cells = (
        in_cells(found, "ua"),
        f"{signed(found['ua'])}, {found['ua']['p']:.3f}",
        in_cells(found, "wa"),
    )
    assert f"| {name} | {' | '.join(cells)} |" in RESULTS_TEXT


def test_the_readme_compares_pooled_scores(beside):
    for name in ("EMO-DB, each speaker in turn, three seeds", "EMO-DB, speakers shared"):
        one = beside[name]["ua"]["pooled"]
        assert f"{signed(one)}, p = {one['p']:.2f}" in README_TEXT
    one = beside["RAVDESS"]
    said = f"{signed(one['ua']['pooled'])}, p = {one['ua']['pooled']['p']:.3f}, {one['p_holm']:.2f} corrected for the seven of"
    assert said in README_TEXT
    (begun,) = (
        compared(*question) for name, question in QUESTIONS.items() if "begun from faces" in name
    )
    own = begun["ua"]["pooled"]
    assert f"the second row less the first is {signed(own)}, p = {own['p']:.2f}" in README_TEXT
