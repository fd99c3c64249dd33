import numpy as np
import pytest

from kerasemo.evaluation import scoring
from kerasemo.metrics import classification
from kerasemo.reporting import terminal
from pipelines.core.labels import EMOTIONS


def scores_of(labels, predictions, *, corpus, trained):
    """Return the scores of clips that were predicted with certainty."""
    logits = 20 * np.eye(10)[[EMOTIONS.index(name) for name in predictions]].astype(np.float32)
    clip_of = np.arange(len(labels))
    shared = set(corpus) & set(trained)
    probabilities = scoring.ClipProbabilities(
        scoring.mean_clip_probabilities(logits, clip_of, shared),
        scoring.mean_clip_probabilities(logits, clip_of, trained),
    )
    label_indices = np.array([EMOTIONS.index(name) for name in labels])
    return scoring.score_clips(
        probabilities, label_indices, corpus_emotions=corpus, trained_emotions=trained
    )


def pair_scores(**auc_and_eer):
    """Return a document as `verification.score_pairs` does, with (AUC, EER) of each couple."""
    names = {"a": "a/visual", "c": "c/audio", "ac": "a/visual + c/audio", "b": "b/visual"}
    couples = {
        names[name]: {"pairs": 120, "same": 0.25, "auc": auc, "eer": eer}
        for name, (auc, eer) in auc_and_eer.items()
    }
    sources = [source for source in couples if "+" not in source]
    scatter = {
        source: {"clips": 3, "within": 0.5, "between": 0.1, "ratio": auc_and_eer["a"][0]}
        for source in [*sources, "together"]
    }
    scatter["together"]["clips"] = 3 * len(sources)
    return {"couples": couples, "scatter": scatter}


@pytest.fixture
def result():
    trained = ["anger", "fear"]
    trained_source = scores_of(
        ("anger", "anger", "fear"), ("anger", "fear", "fear"), corpus=trained, trained=trained
    )
    other_source = scores_of(
        ("anger", "fear", "calm"),
        ("anger", "fear", "fear"),
        corpus=[*trained, "calm"],
        trained=trained,
    )
    stage = {
        "stage": "pretrain",
        "kind": "supervised",
        "epochs": 8,
        "best_epoch": 5,
        "sources": {"a/visual": trained_source},
    }
    return {
        "stage": "joint",
        "protocol": "speaker-independent",
        "fold": 2,
        "trained_on": ["a/visual", "b/visual"],
        "sources": {"a/visual": trained_source, "c/audio": other_source},
        "not_scored": {"d/audio": "no clip"},
        "stages": [stage],
        "run": "runs/x",
        "matching": {
            "stage_before": "transfer",
            "before": pair_scores(a=(0.6, 0.4375)),
            "after": pair_scores(a=(0.8, 0.25), ac=(0.7, 0.3), c=(None, None)),
        },
    }


def cells(out: str, start: str) -> list[str]:
    return next(line for line in out.splitlines() if line.strip().startswith(start)).split()


def lines(out: str) -> list[str]:
    """Return the lines with single spaces between the words."""
    return [" ".join(line.split()) for line in out.splitlines()]


def line_with(out: str, *words: str) -> str:
    """Return the only line that has all words."""
    (line,) = (line for line in lines(out) if all(word in line for word in words))
    return line


def test_training_is_shown_by_stage_and_by_source(result, capsys):
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
    assert line_with(out, "joint", "fold 2", "a/visual + b/visual")
    assert line_with(out, "c/audio:", "3 emotions", "UA 0.667, WA 0.667")
    assert "d/audio: not scored: no clip" in out
    assert "tensorboard --logdir runs/x" in out


def test_a_fused_row_shows_its_fusion_and_whether_it_was_fitted(result, capsys):
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
    fusion = line_with(out, "a/fused:", "weights")
    assert "0.65 and 0.35, temperature 1.25, fitted on 17" in fusion
    fusion = line_with(out, "b/fused:", "weights")
    assert "0.50 and 0.50, temperature 1.00, not fitted" in fusion
    assert "a/visual: face and voice" not in out
    assert "a/fused: confusion" in out


def test_a_model_shows_the_clips_that_it_was_trained_on(result, capsys):
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
    assert line_with(out, "sample-joint", "trained on a/visual + b/visual")
    assert line_with(out, "a/visual: 96 clips left out")
    assert line_with(out, "a/visual: 2 of 3 clips", "speakers")
    assert line_with(out, "a/visual:", "publisher")
    assert line_with(out, "b/visual: not scored: all")
    assert "c/audio: 0" not in out
    assert "left out" not in out.split("c/audio: over all")[1]
    assert "a/visual: confusion" in out
    assert "By their distance\n" in out


def test_evaluation_shows_each_confusion(result, capsys):
    terminal.print_evaluation(result)
    out = capsys.readouterr().out
    matrix = lines(out[out.index("a/visual: confusion") :])
    for row in ("anger fear", "anger 1 1", "fear 0 1"):
        assert row in matrix


def test_pairs_and_scatter_are_shown_before_and_after_the_stage(result, capsys):
    """The network has no scores of c/audio, and so none of all sources, before the stage."""
    terminal.print_evaluation(result)
    out = capsys.readouterr().out
    scatter_start = out.index("Scatter of the clips")
    pairs = out[out.index("Do two test clips") : scatter_start]
    assert "(transfer → joint)" in pairs
    assert "a/visual 120 0.250 0.600 → 0.800 0.438 → 0.250" in lines(pairs)
    assert "a/visual + c/audio 120 0.250 0.700 0.300" in lines(pairs)
    assert "c/audio 120 0.250 – –" in lines(pairs)
    scatter = out[scatter_start:]
    assert "(transfer → joint)" in scatter
    assert "a/visual 3 0.500 → 0.500 0.100 → 0.100 0.600 → 0.800" in lines(scatter)
    assert "together 6 0.500 0.100 0.800" in lines(scatter)


def test_training_shows_the_pairs_of_the_trained_sources_only(result, capsys):
    terminal.print_training(result)
    out = capsys.readouterr().out
    pairs = out[out.index("Do two test clips") :]
    assert "a/visual 120 0.250 0.600 → 0.800 0.438 → 0.250" in lines(pairs)
    assert "c/audio" not in pairs
    assert "Scatter" not in out


def test_the_first_stage_has_no_scores_before(result, capsys):
    result["matching"] |= {"before": None, "stage_before": None}
    terminal.print_evaluation(result)
    out = capsys.readouterr().out
    assert "By their distance\n" in out
    assert "→" not in out


def test_a_contrastive_stage_has_the_area_under_the_curve(result, capsys):
    scores = classification.classification_scores([0, 1], np.eye(2), emotions=["anger", "fear"])
    matching = {"after": pair_scores(b=(1.0, 0.0), a=(1.0, 0.0)), "before": None}
    terminal.print_evaluation(
        result
        | {
            "sources": {"a/visual": scores | {"pair_auc": 0.8125}},
            "not_scored": {},
            "matching": matching,
        }
    )
    out = capsys.readouterr().out
    assert line_with(out, "a/visual:", "AUC 0.812")
    assert cells(out, "a/visual ") == ["a/visual", "2", "1.000", "1.000", "1.000", "0.500"]


def test_long_paths_and_reasons_are_neither_cut_nor_wrapped_in_a_file(result, capsys):
    reason = "the network has not been trained on audio yet, " * 5
    terminal.print_training(
        result | {"run": "runs/" + "x" * 200, "not_scored": {"d/audio": reason}}
    )
    out = capsys.readouterr().out
    assert "x" * 200 in out
    assert f"d/audio: not scored: {reason.strip()}" in out
    sources = {"enterface-of-another-name/visual": result["sources"]["a/visual"]}
    terminal.print_evaluation(result | {"sources": sources})
    assert "…" not in capsys.readouterr().out
