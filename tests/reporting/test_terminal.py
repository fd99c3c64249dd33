import numpy as np
import pytest

from kerasemo.evaluation import scoring
from kerasemo.metrics import classification
from kerasemo.reporting import terminal
from pipelines.core.labels import EMOTIONS


def a_score(labels, predictions, *, corpus, trained):
    """Return the scores of clips that were predicted with certainty."""
    logits = 20 * np.eye(10)[[EMOTIONS.index(name) for name in predictions]].astype(np.float32)
    clip_of = np.arange(len(labels))
    shared = set(corpus) & set(trained)
    probabilities = scoring.ClipProbabilities(
        scoring.mean_clip_probabilities(logits, clip_of, shared),
        scoring.mean_clip_probabilities(logits, clip_of, trained),
    )
    return scoring.score_clips(
        probabilities,
        np.array([EMOTIONS.index(name) for name in labels]),
        corpus_emotions=corpus,
        trained_emotions=trained,
    )


def pairs(**couples):
    """What `verification.score_pairs` gives, of (AUC, EER) a couple; the scatter of both sources and together."""
    named = {"a": "a/visual", "c": "c/audio", "ac": "a/visual + c/audio", "b": "b/visual"}
    scores_of = {
        named[name]: {"pairs": 120, "same": 0.25, "auc": auc, "eer": eer}
        for name, (auc, eer) in couples.items()
    }
    sources = [source for source in scores_of if "+" not in source]
    spread = {
        source: {"clips": 3, "within": 0.5, "between": 0.1, "ratio": couples["a"][0]}
        for source in [*sources, "together"]
    }
    spread["together"]["clips"] = 3 * len(sources)
    return {"couples": scores_of, "scatter": spread}


@pytest.fixture
def result():
    trained = ["anger", "fear"]
    visual = a_score(
        ("anger", "anger", "fear"), ("anger", "fear", "fear"), corpus=trained, trained=trained
    )
    foreign = a_score(
        ("anger", "fear", "calm"),
        ("anger", "fear", "fear"),
        corpus=[*trained, "calm"],
        trained=trained,
    )
    named = {
        "stage": "joint",
        "protocol": "speaker-independent",
        "fold": 2,
        "trained_on": ["a/visual", "b/visual"],
    }
    stage = {
        "stage": "pretrain",
        "kind": "supervised",
        "epochs": 8,
        "best_epoch": 5,
        "sources": {"a/visual": visual},
    }
    sources = {"a/visual": visual, "c/audio": foreign}
    second_task = {
        "stage_before": "transfer",
        "before": pairs(a=(0.6, 0.4375)),
        "after": pairs(a=(0.8, 0.25), ac=(0.7, 0.3), c=(None, None)),
    }
    rest = {
        "not_scored": {"d/audio": "no clip"},
        "stages": [stage],
        "run": "runs/x",
        "matching": second_task,
    }
    return named | {"sources": sources} | rest


def cells(out: str, start: str) -> list[str]:
    return next(line for line in out.splitlines() if line.strip().startswith(start)).split()


def rows(out: str) -> list[str]:
    """The lines with single spaces between the words."""
    return [" ".join(line.split()) for line in out.splitlines()]


def test_training_is_told_by_stage_and_by_source(result, capsys):
    terminal.print_training(result)
    out = capsys.readouterr().out
    assert cells(out, "pretrain") == [
        "pretrain",
        "supervised",
        "a/visual",
        "5",
        "of",
        "8",
        "3",
        "0.750",
        "0.667",
        "0.500",
    ]
    assert cells(out, "source ")[4:] == ["macro-F1", "chance", "ECE", "UA,", "corpus", "unknown"]
    assert cells(out, "a/visual ") == [
        "a/visual",
        "3",
        "0.750",
        "0.667",
        "0.667",
        "0.500",
        "0.333",
        "0.750",
    ]
    (title,) = [line for line in out.splitlines() if line.startswith("Stage joint")]
    assert "test split" in title and "fold 2" in title and "a/visual + b/visual" in title
    (line,) = [line for line in out.splitlines() if line.startswith("c/audio: ")]
    assert "all 3 emotions" in line and "UA 0.667, WA 0.667" in line
    assert "d/audio: not scored: no clip" in out and "tensorboard --logdir runs/x" in out


def test_a_fused_row_tells_its_fusion_and_whether_it_was_fitted(result, capsys):
    fitted = {"visual_weight": 0.65, "temperature": 1.25, "utterances": 17}
    unfitted = {"visual_weight": 0.5, "temperature": 1.0, "utterances": 0}
    rows = {
        f"{corpus}/fused": result["sources"]["a/visual"] | {"fusion": fusion}
        for corpus, fusion in (("a", fitted), ("b", unfitted))
    }
    result["sources"] |= rows
    terminal.print_evaluation(result)
    out = capsys.readouterr().out
    assert cells(out, "a/fused ") == ["a/fused", *cells(out, "a/visual ")[1:]]
    assert (
        "a/fused: face and voice together: weights 0.65 and 0.35, temperature 1.25, fitted on 17 validation utterances\n"
        in out
    )
    assert (
        "b/fused: face and voice together: weights 0.50 and 0.50, temperature 1.00, not fitted: no validation utterance"
        in out
    )
    assert "a/visual: face and voice" not in out and "a/fused: confusion" in out


def test_a_served_model_tells_what_it_was_trained_on(result, capsys):
    counts = {"left_out": 96, "trained_speakers": 2, "publisher_split": True}
    sources = {
        "a/visual": result["sources"]["a/visual"] | counts,
        "c/audio": result["sources"]["c/audio"] | dict.fromkeys(counts, 0),
    }
    matching = result["matching"] | {"stage_before": None, "before": None}
    of_model = {
        "model": "sample-joint",
        "trained_on": ["a/visual", "b/visual"],
        "not_scored": {"b/visual": "all"},
        "matching": matching,
    }
    terminal.print_model_evaluation(of_model | {"sources": sources})
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("Model sample-joint") and "a/visual + b/visual" in lines[0]
    assert any(line.startswith("a/visual: 96 clips") for line in lines)
    assert any(line.startswith("a/visual: 2 of") and "speakers" in line for line in lines)
    assert "a/visual: the publisher" in out and "b/visual: not scored: all\n" in out
    assert "c/audio: 0" not in out and "left out" not in out.split("c/audio: over all")[1]
    assert "a/visual: confusion" in out and "By their distance\n" in out


def test_evaluation_shows_each_confusion(result, capsys):
    terminal.print_evaluation(result)
    out = capsys.readouterr().out
    title = out.index("a/visual: confusion")
    rows = [line.split() for line in out[title:].splitlines()[1:]]
    assert ["anger", "fear"] in rows and ["anger", "1", "1"] in rows and ["fear", "0", "1"] in rows


def test_pairs_and_scatter_are_told_before_and_after(result, capsys):
    """c/audio is new to the stage: nothing before, neither of its couples nor of all together."""
    terminal.print_evaluation(result)
    out = capsys.readouterr().out
    title = out.index(
        "Do two test clips show the same emotion? By their distance (transfer → joint)"
    )
    scatter = out.index("Scatter of the clips within and between the emotions (transfer → joint)")
    told = rows(out[title:scatter])
    assert "a/visual 120 0.250 0.600 → 0.800 0.438 → 0.250" in told
    assert "a/visual + c/audio 120 0.250 0.700 0.300" in told
    assert "c/audio 120 0.250 – –" in told
    told = rows(out[scatter:])
    assert "a/visual 3 0.500 → 0.500 0.100 → 0.100 0.600 → 0.800" in told
    assert "together 6 0.500 0.100 0.800" in told


def test_training_tells_the_pairs_of_what_it_was_trained_on(result, capsys):
    terminal.print_training(result)
    out = capsys.readouterr().out
    told = rows(out[out.index("Do two test clips") :])
    assert "a/visual 120 0.250 0.600 → 0.800 0.438 → 0.250" in told
    assert not [row for row in told if "c/audio" in row] and "Scatter" not in out


def test_the_first_stage_has_no_before(result, capsys):
    result["matching"] |= {"before": None, "stage_before": None}
    terminal.print_evaluation(result)
    out = capsys.readouterr().out
    assert "By their distance\n" in out and "→" not in out


def test_a_contrastive_stage_is_told_by_its_area(result, capsys):
    score = classification.classification_scores([0, 1], np.eye(2), emotions=["anger", "fear"]) | {
        "pair_auc": 0.8125
    }
    terminal.print_evaluation(
        result
        | {
            "sources": {"a/visual": score},
            "not_scored": {},
            "matching": {"after": pairs(b=(1.0, 0.0), a=(1.0, 0.0)), "before": None},
        }
    )
    out = capsys.readouterr().out
    assert "a/visual: same emotion or not, by distance: AUC 0.812" in out
    assert cells(out, "a/visual ") == ["a/visual", "2", "1.000", "1.000", "1.000", "0.500"]


def test_a_file_gets_whole_lines(result, capsys):
    """Nothing is cut off or wrapped, however long a path or a reason is."""
    reason = "the network has not been trained on audio yet, " * 5
    terminal.print_training(
        result | {"run": "runs/" + "x" * 200, "not_scored": {"d/audio": reason}}
    )
    out = capsys.readouterr().out
    assert "x" * 200 in out and f"d/audio: not scored: {reason.strip()}" in out
    long = {"enterface-of-another-name/visual": result["sources"]["a/visual"]}
    terminal.print_evaluation(result | {"sources": long})
    assert "…" not in capsys.readouterr().out
