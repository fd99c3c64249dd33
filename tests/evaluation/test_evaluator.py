"""Tests of the scores of pairs of test clips, before and after the stages of a short chain."""

import json
import shutil
from pathlib import Path

import pytest

from helpers.synthetic_sets import write_experiment, write_set
from kerasemo import evaluate
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.evaluation import scoring
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.metrics import verification
from kerasemo.networks.inference import NetworkPredictor
from kerasemo.runs.run_folder import read_finished_stage
from kerasemo.training.experiment import TrainingOptions, train_experiment
from pipelines.core.labels import EMOTIONS

SOURCES = ["enterface/visual", "savee/visual"]
BOTH_SOURCES = " + ".join(SOURCES)
STAGES = {
    "pretrain": {"kind": "supervised", "sources": SOURCES[:1], "epochs": 1, "batch": 16},
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "epochs": 1,
        "batch": 16,
    },
    "contrastive": {
        "kind": "contrastive",
        "sources": SOURCES,
        "start_from": "pretrain",
        "epochs": 1,
        "batch": 16,
    },
    "joint": {
        "kind": "joint",
        "sources": SOURCES,
        "start_from": "pretrain",
        "epochs": 6,
        "batch": 16,
        "learning_rate": 5e-3,
    },
}
PAIR_COUNTS = {"enterface/visual": 66, "savee/visual": 66, BOTH_SOURCES: 144}
"""Each source has 12 test clips of one speaker: 12 x 11 / 2 and 12 x 12 pairs."""


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records")
    write_set(out, "enterface/visual", speakers=4, takes=4)
    write_set(out, "savee/visual", speakers=4, emotions=EMOTIONS[:4], takes=3, seed=1)
    write_set(out, "savee/audio", speakers=4, emotions=EMOTIONS[:4], takes=3, seed=2)
    return out


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> str:
    return str(write_experiment(tmp_path_factory.mktemp("experiment") / "toy.toml", **STAGES))


@pytest.fixture(scope="module")
def run(records_folder, experiment, tmp_path_factory) -> tuple[Path, dict]:
    """The run folder of a joint stage, and the result of the training."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train_experiment(TrainingOptions("joint", experiment, records_folder, folder))


def test_joint_stage_improves_the_scores_of_pairs(run):
    """Every emotion has equal stripes in both corpora, so pairs of equal emotions get nearer."""
    _, result = run
    matching = result["matching"]
    assert matching["stage_before"] == "pretrain"
    for network in ("after", "before"):
        scores = matching[network]["couples"]
        assert {couple: score["pairs"] for couple, score in scores.items()} == PAIR_COUNTS
        assert list(matching[network]["scatter"]) == [*SOURCES, "together"]
        assert matching[network]["scatter"]["together"]["clips"] == 24
    after, before = (matching[network]["couples"][BOTH_SOURCES] for network in ("after", "before"))
    assert after["same"] == before["same"] == 3 * 4 * 3 / 144
    assert after["auc"] > before["auc"] > 0.5
    assert after["eer"] < before["eer"] < 0.5
    between_after, between_before = (
        matching[network]["scatter"]["together"]["between"] for network in ("after", "before")
    )
    assert between_after > 2 * between_before
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(("stage", "network"), [("joint", "after"), ("pretrain", "before")])
def test_pair_scores_are_those_of_the_stage_network_on_the_test_clips(
    run, records_folder, stage, network
):
    folder, result = run
    catalog = RecordCatalog(records_folder)
    splits = catalog.split([*SOURCES, "savee/audio"], protocol="speaker-independent", fold=0)
    predict = read_finished_stage(folder / stage).load_network().predictor()
    embedded = {}
    for source in SOURCES:
        subset = catalog.subset(splits, source, "test")
        outputs = scoring.predict_subset(predict, subset)
        embedded[source] = scoring.embedded_clips(outputs, subset)
        corpus = source.partition("/")[0]
        assert all(name.startswith(f"{corpus}:1:") for name in embedded[source].utterances)
    expected = verification.score_pairs(embedded, seed=verification.PAIRS_SEED)
    for couple, score in expected["couples"].items():
        assert result["matching"][network]["couples"][couple] == pytest.approx(score, abs=1e-6)
    for source, score in expected["scatter"].items():
        assert result["matching"][network]["scatter"][source] == pytest.approx(score, rel=1e-4)


def test_network_and_the_network_before_each_predict_the_test_clips_once(
    run, records_folder, monkeypatch
):
    folder, result = run
    item_counts, predict = {}, NetworkPredictor.__call__

    def predict_and_count(predictor, inputs, domain, **options):
        item_counts[predictor] = item_counts.get(predictor, 0) + len(inputs)
        return predict(predictor, inputs, domain, **options)

    monkeypatch.setattr(NetworkPredictor, "__call__", predict_and_count)
    evaluation = evaluate_run(folder, records_folder, "joint", sources=SOURCES)
    assert list(item_counts.values()) == [24 * 3] * 2
    assert evaluation["matching"] == result["matching"]
    assert evaluation["sources"] == result["sources"]


def test_stage_in_a_new_domain_has_no_pair_scores_before_it(
    run, records_folder, experiment, tmp_path
):
    """The network before the stage knows only faces, so its pairs are of faces.

    No utterance is paired with itself in the other domain.
    """
    folder, _ = run
    shutil.copytree(folder / "pretrain", tmp_path / "pretrain")
    result = train_experiment(TrainingOptions("transfer", experiment, records_folder, tmp_path))
    matching = result["matching"]
    assert set(result["sources"]) == {*SOURCES, "savee/audio", "savee/fused"}
    assert matching["stage_before"] == "pretrain"
    assert set(matching["before"]["couples"]) == set(PAIR_COUNTS)
    assert len(matching["after"]["couples"]) == 6
    assert matching["after"]["couples"]["savee/audio + savee/visual"]["pairs"] == 12 * 12 - 12


def test_first_stage_has_no_stage_before(run, records_folder):
    folder, _ = run
    matching = evaluate_run(folder, records_folder, "pretrain")["matching"]
    assert matching["stage_before"] is None
    assert matching["before"] is None
    assert set(matching["after"]["couples"]) == set(PAIR_COUNTS)


def test_contrastive_stage_is_scored_by_pairs_before_and_after(
    run, records_folder, experiment, tmp_path, capsys
):
    folder, _ = run
    shutil.copytree(folder / "pretrain", tmp_path / "pretrain")
    result = train_experiment(TrainingOptions("contrastive", experiment, records_folder, tmp_path))
    for network in ("after", "before"):
        assert set(result["matching"][network]["couples"]) == set(PAIR_COUNTS)
    assert result["sources"]["enterface/visual"]["pair_auc"] > 0.5
    arguments = ["--run", str(tmp_path), "--records", str(records_folder)]
    assert evaluate.main([*arguments, "--stage", "contrastive"]) == 0
    assert "pretrain → contrastive" in capsys.readouterr().out

    path = tmp_path / "contrastive" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scored": "validation"}))
    result = evaluate_run(tmp_path, records_folder, "contrastive")
    assert not result["sources"]
    assert "validation split" in result["not_scored"]["savee/visual"]
    assert result["matching"]["after"] == {"couples": {}, "scatter": {}}
