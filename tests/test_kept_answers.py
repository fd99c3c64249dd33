"""The answers behind the tables: what the README says is what they give."""

from pathlib import Path

import pytest

from kerasemo import compare

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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


def test_every_file_is_known_and_small():
    assert sorted(path.stem for path in ANSWERS.iterdir()) == sorted(ROWS)
    assert all(path.stat().st_size < 200_000 for path in ANSWERS.iterdir())


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
