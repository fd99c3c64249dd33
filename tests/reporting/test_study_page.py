"""The page and the tables of a study show its document, whatever names it has."""

import csv
import io
import re

import pytest

from kerasemo.analysis import references
from kerasemo.reporting import charts, study_page, study_tables
from kerasemo.reporting.study_markdown import study_markdown


def score_row(**changed) -> dict:
    row = {
        "stage": "joint",
        "kind": "joint",
        "source": "emodb/audio",
        "protocol": "leave-one-speaker-out",
        "trained_on": "this stage",
        "stamps": [],
        "level": "clip",
        "n": 40,
        "different_clips": 30,
        "folds": [0, 1],
        "networks": 2,
        "ua": 0.8264,
        "wa": 0.81,
        "macro_f1": 0.79,
        "by_seed": [
            {"seed": 0, "ua": 0.82, "wa": 0.8, "macro_f1": 0.78},
            {"seed": 1, "ua": 0.8328, "wa": 0.82, "macro_f1": 0.8},
        ],
        "interval": {"ua": {"low": 0.7, "high": 0.9, "method": "t over 2 speakers"}, "wa": None},
        "chance": 0.5,
        "emotions": ["anger", "fear"],
        "confusion": [[30, 10], [4, 36]],
        "recalls": {"anger": 0.75, "fear": 0.9},
        "by_speaker": {
            "emodb:03": {"n": 20, "ua": 0.9, "wa": 0.9},
            "emodb:<b>": {"n": 20, "ua": 0.7, "wa": 0.7},
        },
        "without_corpus": {"ua": 0.75, "wa": 0.74, "macro_f1": 0.7},
    }
    return row | changed


def references_of(source: str) -> dict:
    document = {
        "chance": 0.5,
        "emotions": ["anger", "fear"],
        "published": [result._asdict() for result in references.published_results(source)],
    }
    if source == "emodb/audio":
        document["listeners"] = {"clips": 40, "ua": 0.93, "wa": 0.94, "recalls": {}}
    return document


@pytest.fixture
def study() -> dict:
    all_classes = {
        "n": 50,
        "emotions": ["anger", "fear", "calm"],
        "chance": 1 / 3,
        "ua": 0.55,
        "wa": 0.5,
    }
    difference = {
        "difference": 0.05,
        "low": -0.02,
        "high": 0.12,
        "p": 0.25,
        "p_holm": 0.5,
        "method": "sign-flip over 3 speakers, exact; t interval",
        "speakers": {"emodb:<b>": 0.05},
    }
    difference["pooled"] = difference | {"difference": 0.04}
    stages = {"stages": ["joint", "alone"]}
    test_evaluation = {
        "look": 1,
        "date": "2026-01-01",
        "command": "reproduce --final",
        "stages": ["joint"],
        "protocol": "speaker-independent",
        "folds": [0, 1],
        "seeds": [0, 1],
        "code": "0.1 (abc)",
        "networks": 4,
        "of_these": 4,
    }
    pairs = {"stage": "joint", "sources": "emodb/audio", "networks": 4}
    return {
        "experiment": "toy <1>",
        "protocol": "speaker-independent",
        "side": "test",
        "folds": [0, 1],
        "seeds": [0, 1],
        "command": "reproduce --final",
        "run": "run",
        "code": "0.1 (abc)",
        "versions": {"keras": "3"},
        "networks": 4,
        "training_seconds": 75.0,
        "looks": [test_evaluation],
        "rows": [
            score_row(),
            score_row(level="segment", n=400),
            score_row(source="ravdess/audio", trained_on="", all_classes=all_classes),
        ],
        "not_scored": {"joint": {"fer/visual": "the network has not been trained on visual yet"}},
        "pairs": [pairs | {"same": 0.2, "auc": 0.9, "eer": 0.15}],
        "comparisons": [
            {
                **stages,
                "source": "emodb/audio",
                "emotions": ["anger"],
                "ua": difference,
                "wa": difference,
            },
            {
                **stages,
                "source": "fer/visual",
                "emotions": [],
                "refused": "needs at least 2 speakers",
            },
        ],
        "beside": {source: references_of(source) for source in ("emodb/audio", "ravdess/audio")},
        "failed": [{"cell": "alone, fold 1, seed 0", "reason": "loss <nan>"}],
    }


def test_the_page_loads_nothing_from_outside(study):
    page = study_page.study_page(study)
    assert not re.search(
        r"https?:|<script|<link(?! rel=\"icon\" href=\"data:,\")|@import|url\(", page
    )
    assert page.count("<section") == page.count("</section>") == 6


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("toy <1>", "toy &lt;1&gt;"),
        ("emodb:<b>", "emodb:&lt;b&gt;"),
        ("loss <nan>", "loss &lt;nan&gt;"),
    ],
)
def test_names_on_the_page_are_escaped(study, name, escaped):
    page = study_page.study_page(study)
    assert name not in page
    assert escaped in page


@pytest.mark.parametrize(
    "markup",
    [
        # A score with its interval, chance and listeners.
        "82.6 (70.0 to 90.0)",
        "left:70.00%;width:20.00%",
        '<s class="chance" style="left:50.00%">',
        '<s class="listeners" style="left:93.00%">',
        # The confusion matrix.
        'heat right" style="--h:0.75">30</td><td class="n heat" style="--h:0.25">10</td>',
        # The speakers.
        "lowest &lt;b&gt;: 70.0",
        '<em style="left:90.00%" title="emodb:03: 90.0">',
        # The matrix of sources.
        "<b>82.6</b>",
        "82.6 / 55.0",
        # The comparisons.
        "+5.0 (-2.0 to +12.0)",
        "needs at least 2 speakers",
        # The evaluations of the test split.
        'id="looks"',
        "reproduce --final",
    ],
)
def test_the_page_shows(study, markup):
    assert markup in study_page.study_page(study)


@pytest.mark.parametrize(
    "line",
    [
        "| joint | emodb/audio | clip | 40 | 82.6 | 70.0 to 90.0 | 81.0 |  | 79.0 "
        "| 82.0, 83.3 | 50.0 | 75.0 |",
        "| joint | ravdess/audio | clip | 40 | 82.6 |",
        "| 55.0 | 33.3 | no stage |",
        "| joint | **82.6** | 82.6 / 55.0 | 82.6 |",
        "| listeners | the same clips | 93.0 | 94.0 |",
        "| chance |  | 50.0 |",
        "| joint − alone | emodb/audio | UA | +5.0 | -2.0 to 12.0 | 0.25 | 0.5 |",
        "| joint − alone | emodb/audio | WA, pooled | +4.0 | -2.0 to 12.0 | 0.25 | 0.5 |",
        "evaluation 1 of 1",
        "joint, emodb/audio: 30 different clips",
        "FAILED: alone, fold 1, seed 0: loss <nan>",
        "joint, fer/visual: not scored: the network",
    ],
)
def test_markdown_shows(study, line):
    assert line in study_markdown(study)


def test_published_results_of_the_paper_have_an_unknown_protocol(study):
    lines = study_markdown(study).splitlines()
    protocols = [line.split("|")[2].strip() for line in lines if line.startswith("| the paper")]
    assert set(protocols) == {"protocol unknown"}


def test_a_comparison_over_images_has_no_pooled_row(study):
    comparison = study["comparisons"][0]
    comparison["ua"] = comparison["ua"] | {"speakers": {}}
    assert "| UA, pooled |" not in study_markdown(study)


def test_csv_has_a_line_for_each_stage_source_and_level(study):
    rows = list(csv.DictReader(io.StringIO(study_tables.study_csv(study))))
    assert [(row["source"], row["level"]) for row in rows] == [
        ("emodb/audio", "clip"),
        ("emodb/audio", "segment"),
        ("ravdess/audio", "clip"),
    ]
    expected = {"ua": "0.826400", "ua_low": "0.700000", "wa_low": "", "folds": "0, 1"}
    assert {name: rows[0][name] for name in expected} == expected
    assert rows[0]["ua_without_corpus"] == "0.750000"
    assert rows[2]["ua_all_classes"] == "0.550000"
    assert rows[2]["chance_all_classes"] == "0.333333"


def test_intervals_outside_the_axis_end_at_it():
    markup = charts.bars(
        "UA",
        [charts.Bar("a", 0.9, 0.6, 1.3, "audio"), charts.Bar("b", 0.1, -0.2, 0.3, "audio")],
        marks={},
    )
    assert "left:60.00%;width:40.00%" in markup
    assert "left:0.00%;width:30.00%" in markup
    assert "(60.0 to 130.0)" in markup
