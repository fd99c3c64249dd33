import numpy as np
import pytest

from kerasemo import metrics, scores, tables
from pipelines.spec import EMOTIONS


def a_score(labels, answers, *, corpus, trained):
    logits = 20 * np.eye(10)[[EMOTIONS.index(name) for name in answers]].astype(np.float32)
    truth = np.array([EMOTIONS.index(name) for name in labels])
    return scores.score_logits(logits, np.arange(len(truth)), truth, corpus=corpus, trained=trained)


@pytest.fixture
def result():
    trained = ["anger", "fear"]
    visual = a_score(("anger", "anger", "fear"), ("anger", "fear", "fear"), corpus=trained, trained=trained)
    foreign = a_score(("anger", "fear", "calm"), ("anger", "fear", "fear"), corpus=[*trained, "calm"], trained=trained)
    named = {"stage": "joint", "protocol": "speaker-independent", "fold": 2, "trained_on": ["a/visual", "b/visual"]}
    stage = {"stage": "pretrain", "kind": "supervised", "epochs": 8, "best_epoch": 5, "sources": {"a/visual": visual}}
    sources = {"a/visual": visual, "c/audio": foreign}
    return named | {"sources": sources, "not_scored": {"d/audio": "no clip"}, "stages": [stage], "run": "runs/x"}


def cells(out: str, start: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if line.strip().startswith(start)]
    return line.split()


def test_training_is_told_by_stage_and_by_source(result, capsys):
    tables.print_training(result)
    out = capsys.readouterr().out
    assert cells(out, "pretrain") == ["pretrain", "supervised", "a/visual", "5", "of", "8", "3", "0.750", "0.667", "0.500"]
    assert cells(out, "a/visual ")[:6] == ["a/visual", "3", "0.750", "0.667", "0.667", "0.500"]
    assert "Stage joint on the test side of every source (speaker-independent, fold 2; trained last on a/visual + b/visual)" in out
    assert "c/audio: over all its 3 emotions, untrained ones as recall 0: UA 0.667, WA 0.667" in out
    assert "d/audio: not scored: no clip" in out and "tensorboard --logdir runs/x" in out


def test_evaluation_shows_each_confusion(result, capsys):
    tables.print_evaluation(result)
    out = capsys.readouterr().out
    title = out.index("a/visual: confusion (rows: truth)")
    rows = [line.split() for line in out[title:].splitlines()[1:]]
    assert ["anger", "fear"] in rows and ["anger", "1", "1"] in rows and ["fear", "0", "1"] in rows


def test_a_contrastive_stage_is_told_by_its_area(result, capsys):
    score = metrics.evaluate([0, 1], np.eye(2), emotions=["anger", "fear"]) | {"pair_auc": 0.8125}
    tables.print_evaluation(result | {"sources": {"a/visual": score}, "not_scored": {}})
    out = capsys.readouterr().out
    assert "a/visual: same emotion or not, by distance: AUC 0.812" in out
    assert cells(out, "a/visual ") == ["a/visual", "2", "1.000", "1.000", "1.000", "0.500"]


def test_a_file_gets_whole_lines(result, capsys):
    """Nothing is cut off or wrapped, however long a path or a reason is."""
    reason = "the network has not been trained on audio yet, " * 5
    tables.print_training(result | {"run": "runs/" + "x" * 200, "not_scored": {"d/audio": reason}})
    out = capsys.readouterr().out
    assert "x" * 200 in out and f"d/audio: not scored: {reason.strip()}" in out
    long = {"enterface-of-another-name/visual": result["sources"]["a/visual"]}
    tables.print_evaluation(result | {"sources": long})
    assert "…" not in capsys.readouterr().out
