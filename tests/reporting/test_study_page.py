"""The page and the tables of a reproduction say what its document says, whatever is in it."""

import csv
import io
import re

import pytest

from kerasemo.analysis import references
from kerasemo.reporting import charts, study_markdown, study_page, study_tables


def row(**more) -> dict:
    found = {
        **{
            "stage": "joint",
            "kind": "joint",
            "source": "emodb/audio",
            "protocol": "leave-one-speaker-out",
            "trained_on": "this stage",
        },
        **{
            "stamps": [],
            "level": "clip",
            "n": 40,
            "different_clips": 30,
            "folds": [0, 1],
            "networks": 2,
            "ua": 0.8264,
            "wa": 0.81,
            "macro_f1": 0.79,
        },
        "by_seed": [
            {"seed": 0, "ua": 0.82, "wa": 0.8, "macro_f1": 0.78},
            {"seed": 1, "ua": 0.8328, "wa": 0.82, "macro_f1": 0.8},
        ],
        "interval": {"ua": {"low": 0.7, "high": 0.9, "method": "t over 2 speakers"}, "wa": None},
        **{
            "chance": 0.5,
            "emotions": ["anger", "fear"],
            "confusion": [[30, 10], [4, 36]],
            "recalls": {"anger": 0.75, "fear": 0.9},
        },
        "by_speaker": {
            "emodb:03": {"n": 20, "ua": 0.9, "wa": 0.9},
            "emodb:<b>": {"n": 20, "ua": 0.7, "wa": 0.7},
        },
        "without_corpus": {"ua": 0.75, "wa": 0.74, "macro_f1": 0.7},
    }
    return found | more


@pytest.fixture
def document() -> dict:
    foreign = row(
        source="ravdess/audio",
        trained_on="",
        all_classes={
            "n": 50,
            "emotions": ["anger", "fear", "calm"],
            "chance": 1 / 3,
            "ua": 0.55,
            "wa": 0.5,
        },
    )
    compared = {
        "difference": 0.05,
        "low": -0.02,
        "high": 0.12,
        "p": 0.25,
        "p_holm": 0.5,
        "method": "sign-flip over 3 speakers, exact; t interval",
        "speakers": {"emodb:<b>": 0.05},
    }
    compared["pooled"] = compared | {"difference": 0.04}
    look = {
        "look": 1,
        "date": "2026-01-01",
        "command": "reproduce --final",
        "stages": ["joint"],
        "protocol": "speaker-independent",
    }
    look |= {"folds": [0, 1], "seeds": [0, 1], "code": "0.1 (abc)", "networks": 4, "of_these": 4}
    return {
        **{
            "experiment": "toy <1>",
            "protocol": "speaker-independent",
            "side": "test",
            "folds": [0, 1],
            "seeds": [0, 1],
        },
        **{
            "command": "reproduce --final",
            "run": "run",
            "code": "0.1 (abc)",
            "versions": {"keras": "3"},
            "networks": 4,
        },
        **{
            "training_seconds": 75.0,
            "looks": [look],
            "rows": [row(), row(level="segment", n=400), foreign],
        },
        "not_scored": {"joint": {"fer/visual": "the network has not been trained on visual yet"}},
        "pairs": [
            {
                "stage": "joint",
                "sources": "emodb/audio",
                "networks": 4,
                "same": 0.2,
                "auc": 0.9,
                "eer": 0.15,
            }
        ],
        "comparisons": [
            {
                "stages": ["joint", "alone"],
                "source": "emodb/audio",
                "emotions": ["anger"],
                "ua": compared,
                "wa": compared,
            },
            {
                "stages": ["joint", "alone"],
                "source": "fer/visual",
                "emotions": [],
                "refused": "needs at least 2 speakers",
            },
        ],
        "beside": {
            source: {
                "chance": 0.5,
                "emotions": ["anger", "fear"],
                "published": [one._asdict() for one in references.published_results(source)],
                **(
                    {"listeners": {"clips": 40, "ua": 0.93, "wa": 0.94, "recalls": {}}}
                    if source == "emodb/audio"
                    else {}
                ),
            }
            for source in ("emodb/audio", "ravdess/audio")
        },
        "failed": [{"cell": "alone, fold 1, seed 0", "reason": "loss <nan>"}],
    }


def test_the_page_needs_nothing_but_itself_and_takes_no_markup_from_names(document):
    page = study_page.study_page(document)
    assert not re.search(
        r"https?:|<script|<link(?! rel=\"icon\" href=\"data:,\")|@import|url\(", page
    )
    for name, escaped in (
        ("toy <1>", "toy &lt;1&gt;"),
        ("emodb:<b>", "emodb:&lt;b&gt;"),
        ("loss <nan>", "loss &lt;nan&gt;"),
    ):
        assert name not in page and escaped in page
    assert page.count("<section") == 6 and page.count("</section>") == 6


def test_the_page_has_scores_intervals_matrices_speakers_and_looks(document):
    page = study_page.study_page(document)
    assert "82.6 (70.0 to 90.0)" in page and "left:70.00%;width:20.00%" in page
    assert (
        '<s class="chance" style="left:50.00%">' in page
        and '<s class="listeners" style="left:93.00%">' in page
    )
    assert re.search(
        r'heat right" style="--h:0.75">30</td><td class="n heat" style="--h:0.25">10</td>', page
    )
    assert (
        "lowest &lt;b&gt;: 70.0" in page
        and '<em style="left:90.00%" title="emodb:03: 90.0">' in page
    )
    assert "<b>82.6</b>" in page and "82.6 / 55.0" in page
    assert "+5.0 (-2.0 to +12.0)" in page and "needs at least 2 speakers" in page
    assert "Every evaluation of the test split" in page and "reproduce --final" in page


def test_markdown_says_the_same_beside_what_others_reach(document):
    text = study_markdown.study_markdown(document)
    assert (
        "| joint | emodb/audio | clip | 40 | 82.6 | 70.0 to 90.0 | 81.0 |  | 79.0 | 82.0, 83.3 | 50.0 | 75.0 |"
        in text
    )
    assert (
        "| joint | ravdess/audio | clip | 40 | 82.6 |" in text
        and "| 55.0 | 33.3 | no stage |" in text
    )
    assert "| joint | **82.6** | 82.6 / 55.0 | 82.6 |" in text
    assert "| listeners | the same clips | 93.0 | 94.0 |" in text and "| chance |  | 50.0 |" in text
    assert "| joint − alone | emodb/audio | UA | +5.0 | -2.0 to 12.0 | 0.25 | 0.5 |" in text
    assert "| joint − alone | emodb/audio | WA, pooled | +4.0 | -2.0 to 12.0 | 0.25 | 0.5 |" in text
    document["comparisons"][0]["ua"] = document["comparisons"][0]["ua"] | {
        "speakers": {}
    }  # over images both are one
    assert "| UA, pooled |" not in study_markdown.study_markdown(document)
    assert "evaluation 1 of 1" in text
    assert "- joint, emodb/audio: 30 different clips" in text
    assert "- FAILED: alone, fold 1, seed 0: loss <nan>" in text
    assert "- joint, fer/visual: not scored: the network" in text
    for line in text.splitlines():
        if line.startswith("| the paper"):
            assert line.split("|")[2].strip() == "protocol unknown"


def test_csv_has_a_line_for_each_stage_source_and_level(document):
    rows = list(csv.DictReader(io.StringIO(study_tables.study_csv(document))))
    assert [(one["source"], one["level"]) for one in rows] == [
        ("emodb/audio", "clip"),
        ("emodb/audio", "segment"),
        ("ravdess/audio", "clip"),
    ]
    assert (rows[0]["ua"], rows[0]["ua_low"], rows[0]["wa_low"], rows[0]["folds"]) == (
        "0.826400",
        "0.700000",
        "",
        "0, 1",
    )
    assert (
        rows[0]["ua_without_corpus"],
        rows[2]["ua_all_classes"],
        rows[2]["chance_all_classes"],
    ) == ("0.750000", "0.550000", "0.333333")


def test_intervals_that_reach_past_the_axis_end_at_it():
    drawn = charts.bars(
        "UA",
        [charts.Bar("a", 0.9, 0.6, 1.3, "audio"), charts.Bar("b", 0.1, -0.2, 0.3, "audio")],
        marks={},
    )
    assert "left:60.00%;width:40.00%" in drawn and "left:0.00%;width:30.00%" in drawn
    assert "(60.0 to 130.0)" in drawn
