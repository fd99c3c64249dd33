"""The second task in an evaluation: pairs of test clips before and after the stages of a short chain that a tiny network learns."""

import json
import shutil
from pathlib import Path

import pytest

from helpers.synthetic_sets import write_experiment, write_set
from kerasemo import evaluate
from kerasemo.datasets import catalog, leakage_gate, sources
from kerasemo.evaluation import evaluator, scoring
from kerasemo.metrics import verification
from kerasemo.networks import inference
from kerasemo.runs import run_folder
from kerasemo.training.experiment import TrainingOptions, train_experiment
from pipelines.core.labels import EMOTIONS

BOTH = ["enterface/visual", "savee/visual"]
STAGES = {
    "pretrain": {"kind": "supervised", "sources": BOTH[:1], "epochs": 1, "batch": 16},
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "epochs": 1,
        "batch": 16,
    },
    "contrastive": {
        "kind": "contrastive",
        "sources": BOTH,
        "start_from": "pretrain",
        "epochs": 1,
        "batch": 16,
    },
    "joint": {
        "kind": "joint",
        "sources": BOTH,
        "start_from": "pretrain",
        "epochs": 6,
        "batch": 16,
        "learning_rate": 5e-3,
    },
}
PAIRS = {"enterface/visual": 66, "savee/visual": 66, "enterface/visual + savee/visual": 144}
"""Of 12 test clips of one speaker in each: 12 x 11 / 2 and 12 x 12."""


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("records")
    write_set(out, "enterface/visual", speakers=4, takes=4)
    write_set(out, "savee/visual", speakers=4, emotions=EMOTIONS[:4], takes=3, seed=1)
    write_set(out, "savee/audio", speakers=4, emotions=EMOTIONS[:4], takes=3, seed=2)
    return out


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment") / "toy.toml", **STAGES)


@pytest.fixture(scope="module")
def run(records_folder, experiment, tmp_path_factory) -> tuple[Path, dict]:
    """The run folder of a joint stage, and what the training returned."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train_experiment(
        TrainingOptions("joint", str(experiment), records_folder, folder)
    )


def test_the_joint_stage_is_better_at_matching_than_what_it_started_from(run):
    """Every emotion has stripes of its own in both corpora, and the joint stage is trained to bring those of one together."""
    _, result = run
    found = result["matching"]
    assert found["stage_before"] == "pretrain"
    for network in ("after", "before"):
        assert {
            couple: score["pairs"] for couple, score in found[network]["couples"].items()
        } == PAIRS
        assert list(found[network]["scatter"]) == [*BOTH, "together"]
        assert found[network]["scatter"]["together"]["clips"] == 24
    across = {
        network: found[network]["couples"][" + ".join(BOTH)] for network in ("after", "before")
    }
    assert across["after"]["same"] == across["before"]["same"] == 3 * 4 * 3 / 144
    assert (
        across["after"]["auc"] > across["before"]["auc"] > 0.5
        and across["after"]["eer"] < across["before"]["eer"] < 0.5
    )
    between = {
        network: found[network]["scatter"]["together"]["between"] for network in ("after", "before")
    }
    assert between["after"] > 2 * between["before"]
    json.dumps(result, allow_nan=False)


def test_each_side_of_it_is_what_its_own_network_says_of_the_test_clips(run, records_folder):
    folder, result = run
    rows = catalog.rows_by_source(
        records_folder, ["enterface/visual", "savee/visual", "savee/audio"]
    )
    sides = leakage_gate.split_sources(rows, protocol="speaker-independent", fold=0)
    for stage, network in (("joint", "after"), ("pretrain", "before")):
        predict = inference.predictor(
            run_folder.load_network(folder / stage, run_folder.read_finished_stage(folder / stage))
        )
        embedded = {}
        for name in BOTH:
            side = catalog.side_of(sources.read_source(records_folder, name), sides, "test")
            embedded[name] = scoring.embedded_clips(scoring.predict_subset(predict, side), side)
            assert {
                utterance.rpartition(":")[0].rpartition(":")[0]
                for utterance in embedded[name].utterances
            } == {f"{name.split('/')[0]}:1"}
        expected = verification.score_pairs(embedded, seed=verification.PAIRS_SEED)
        for couple, score in expected["couples"].items():
            assert result["matching"][network]["couples"][couple] == pytest.approx(score, abs=1e-6)
        for source, score in expected["scatter"].items():
            assert result["matching"][network]["scatter"][source] == pytest.approx(score, rel=1e-4)


def test_the_network_runs_once_over_the_test_clips_and_that_of_before_once(
    run, records_folder, monkeypatch
):
    folder, result = run
    items, make = [], inference.predictor

    def counting(model, heads):
        predict = make(model, heads=heads)
        seen = {}
        items.append(seen)

        def counted(inputs, domain):
            seen["items"] = seen.get("items", 0) + len(inputs)
            return predict(inputs, domain)

        return counted

    monkeypatch.setattr(inference, "predictor", counting)
    again = evaluator.evaluate(
        evaluator.Options(folder, records_folder, "joint", sources=tuple(BOTH))
    )
    assert items == [{"items": 24 * 3}] * 2
    assert again["matching"] == result["matching"] and again["sources"] == result["sources"]


def test_a_stage_in_a_new_domain_has_nothing_before_there(
    run, records_folder, experiment, tmp_path
):
    """The visual network has not seen a sound: its couples are the visual ones. No utterance meets itself in the other domain."""
    folder, _ = run
    shutil.copytree(folder / "pretrain", tmp_path / "pretrain")
    result = train_experiment(
        TrainingOptions("transfer", str(experiment), records_folder, tmp_path)
    )
    found = result["matching"]
    assert (
        set(result["sources"]) == {*BOTH, "savee/audio", "savee/fused"}
        and found["stage_before"] == "pretrain"
    )
    assert set(found["before"]["couples"]) == set(PAIRS)
    assert len(found["after"]["couples"]) == 6
    assert found["after"]["couples"]["savee/audio + savee/visual"]["pairs"] == 12 * 12 - 12


def test_the_first_stage_has_no_before_and_a_contrastive_one_has(
    run, records_folder, experiment, tmp_path, capsys
):
    folder, _ = run
    first = evaluator.evaluate(evaluator.Options(folder, records_folder, "pretrain"))["matching"]
    assert (
        first["stage_before"] is None
        and first["before"] is None
        and set(first["after"]["couples"]) == set(PAIRS)
    )
    shutil.copytree(folder / "pretrain", tmp_path / "pretrain")
    result = train_experiment(
        TrainingOptions("contrastive", str(experiment), records_folder, tmp_path)
    )
    assert (
        set(result["matching"]["after"]["couples"])
        == set(result["matching"]["before"]["couples"])
        == set(PAIRS)
    )
    assert result["sources"]["enterface/visual"]["pair_auc"] > 0.5
    assert (
        evaluate.main(
            ["--run", str(tmp_path), "--records", str(records_folder), "--stage", "contrastive"]
        )
        == 0
    )
    assert "By their distance (pretrain → contrastive)" in capsys.readouterr().out
    kept = tmp_path / "contrastive" / "metrics.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"scored": "validation"}))
    result = evaluator.evaluate(evaluator.Options(tmp_path, records_folder, "contrastive"))
    assert (
        not result["sources"]
        and "this one was on the validation side" in result["not_scored"]["savee/visual"]
    )
    assert result["matching"]["after"] == {"couples": {}, "scatter": {}}
