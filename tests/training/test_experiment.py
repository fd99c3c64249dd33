"""The chain in a run folder, end to end, on sets that a tiny network learns."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.logs import logged_lines
from helpers.messages import key_words, mentions
from helpers.synthetic_sets import write_experiment, write_set
from kerasemo.datasets import leakage_gate, splits
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.training.experiment import TrainingOptions, train_experiment
from pipelines.core.errors import DataError, InputError
from pipelines.core.labels import EMOTIONS
from pipelines.records import reader

ROOT = Path(__file__).resolve().parents[2]
BOTH = ["enterface/visual", "savee/visual"]
FAST = {"batch": 16, "learning_rate": 1e-2}
STAGES = {
    "pretrain": {"kind": "supervised", "sources": ["enterface/visual"], "epochs": 20, **FAST},
    "transfer": {
        "kind": "supervised",
        "sources": ["savee/audio"],
        "start_from": "pretrain",
        "epochs": 15,
        **FAST,
    },
    "contrastive": {
        "kind": "contrastive",
        "sources": BOTH,
        "start_from": "transfer",
        "epochs": 2,
        "batch": 16,
    },
    "joint": {
        "kind": "joint",
        "sources": BOTH,
        "start_from": "transfer",
        "epochs": 8,
        "batch": 16,
        "learning_rate": 3e-3,
    },
}


@pytest.fixture(scope="module")
def records_folder(tmp_path_factory) -> Path:
    """enterface of 6 speakers, savee of 4 in both domains (with an emotion more), and an audio corpus that nothing trains on."""
    out = tmp_path_factory.mktemp("records")
    write_set(out, "enterface/visual", speakers=6)
    write_set(out, "savee/visual", speakers=4, emotions=EMOTIONS[:4], takes=3, seed=1)
    write_set(out, "savee/audio", speakers=4, emotions=EMOTIONS[:4], takes=3, seed=2)
    write_set(out, "foreign/audio", speakers=1, emotions=EMOTIONS[2:6], seed=3)
    return out


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    return write_experiment(tmp_path_factory.mktemp("experiment") / "toy.toml", **STAGES)


@pytest.fixture(scope="module")
def run(records_folder, experiment, tmp_path_factory):
    """A finished joint stage: its run folder and what the training returned."""
    folder = tmp_path_factory.mktemp("run")
    with logged_lines() as lines:
        result = train_experiment(TrainingOptions("joint", str(experiment), records_folder, folder))
    return folder, result, lines


def test_joint_stage_trains_the_stages_of_its_chain_alone(run):
    folder, result, log = run
    assert [line for line in log if ": supervised" in line or ": joint" in line] == [
        "pretrain: supervised on enterface/visual",
        "transfer: supervised on savee/audio",
        "joint: joint on enterface/visual + savee/visual",
    ]
    assert [stage["stage"] for stage in result["stages"]] == ["pretrain", "transfer", "joint"]
    assert not (folder / "contrastive").exists()


def test_the_result_keeps_the_contract(run):
    _, result, _ = run
    assert (result["stage"], result["protocol"], result["fold"]) == (
        "joint",
        "speaker-independent",
        0,
    )
    assert result["trained_on"] == ["enterface/visual", "savee/visual"]
    assert list(result["sources"]) == [
        "enterface/visual",
        "savee/audio",
        "savee/visual",
        "savee/fused",
    ]
    for source, score in result["sources"].items():
        assert {
            "clips",
            "ua",
            "wa",
            "macro_f1",
            "chance",
            "confusion",
            "emotions",
            "calibration_error",
        } <= set(score), source
        assert np.sum(score["confusion"]) == score["clips"]
        assert score["chance"] == 1 / len(score["emotions"])
    json.dumps(result)


def test_every_stage_learns_and_transfers(run):
    """Three or four emotions that stripes give away: well above twice chance on an unseen speaker, in both domains."""
    _, result, _ = run
    for stage in result["stages"]:
        for source, score in stage["sources"].items():
            assert score["ua"] >= 2 * score["chance"], (stage["stage"], source)


def test_stage_folder_holds_all_documented_files(run):
    folder, result, _ = run
    for stage in result["stages"]:
        here = folder / stage["stage"]
        document = json.loads((here / "stage.json").read_text())
        assert document["key"]["stage"]["name"] == stage["stage"]
        assert {"python", "tensorflow", "keras"} <= set(document["versions"])
        assert document["key"]["seed"] == 0
        checkpoint_names = sorted(path.name for path in (here / "checkpoints").iterdir())
        assert (
            sum(name.startswith("step-") for name in checkpoint_names) == 3
            and f"best-{stage['best_epoch']:08d}.safetensors" in checkpoint_names
        )
        metrics = json.loads((here / "metrics.json").read_text())
        assert len(metrics["history"]) == stage["epochs"]
        assert metrics["best_epoch"] == 1 + max(
            range(stage["epochs"]),
            key=lambda epoch: (
                metrics["history"][epoch]["val_ua"],
                -metrics["history"][epoch]["val_loss"],
            ),
        )
    weights = load_file(folder / "joint" / "weights.safetensors")
    assert set(weights) >= {"normalization/mean", "stage1_conv1/kernel", "head/kernel"}
    best = load_file(
        folder
        / "joint"
        / "checkpoints"
        / f"best-{result['stages'][-1]['best_epoch']:08d}.safetensors"
    )
    np.testing.assert_array_equal(weights["head/kernel"], best["head/kernel"])


def test_predictions_are_those_of_the_test_speakers_alone(run):
    folder, result, _ = run
    with open(folder / "joint" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["speaker"] for row in rows} == {"enterface:1", "savee:1"}
    for source in result["trained_on"]:
        source_rows = [row for row in rows if row["source"] == source]
        score = result["sources"][source]
        assert len(source_rows) == score["clips"]
        assert np.mean([row["emotion"] == row["answer"] for row in source_rows]) == pytest.approx(
            score["wa"]
        )
        assert all(
            abs(sum(float(row[emotion]) for emotion in EMOTIONS) - 1) < 1e-4 for row in source_rows
        )


def test_no_speaker_or_utterance_is_in_two_splits_over_all_domains(records_folder):
    rows = {
        source: reader.read_manifest(records_folder / source)["clips"]
        for source in ("enterface/visual", "savee/visual", "savee/audio")
    }
    for fold in range(6):
        sides = leakage_gate.split_sources(rows, protocol="speaker-independent", fold=fold)
        for name in ("speaker", "utterance"):
            names_of = {side: set() for side in splits.SPLITS}
            for source, ids in sides.clip_ids.items():
                for row in rows[source]:
                    for side in splits.SPLITS:
                        if row["id"] in ids[side]:
                            names_of[side].add(row[name])
            assert (
                names_of["train"]
                and names_of["test"]
                and not names_of["train"] & names_of["test"]
                and not names_of["validation"] & names_of["test"]
            )
            if name == "utterance":
                assert not names_of["train"] & names_of["validation"]


def test_finished_stages_are_not_trained_again(run, records_folder, experiment):
    folder, result, _ = run
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}
    with logged_lines() as lines:
        again = train_experiment(TrainingOptions("joint", str(experiment), records_folder, folder))
    assert len(lines) == 3
    for stage, line in zip(("pretrain", "transfer", "joint"), lines, strict=True):
        assert line.startswith(f"{stage}: ") and "reused" in line
    assert again == result
    assert {
        path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()
    } == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"settings": ("joint.margin=0.8",)},
            ("stage.margin: 0.6", "0.8 requested"),
        ),
        (
            {"fold": 6},
            ("--fold 6", "6 folds", "0 to 5"),
        ),
        ({"fold": 1}, ("fold: 0", "1 requested", "enterface/visual")),
        ({"seed": 3}, ("seed: 0", "3 requested")),
        ({"epochs": 1}, ("stage.epochs: 8", "1 requested")),
        (
            {"settings": ("pretrain.batch=8",)},
            ("stage.batch: 16", "8 requested"),
        ),
    ],
)
def test_other_key_is_refused_with_the_difference(run, records_folder, experiment, change, words):
    folder, _, _ = run
    with pytest.raises(InputError) as error:
        train_experiment(
            TrainingOptions("joint", str(experiment), records_folder, folder, **change)
        )
    assert mentions(str(error.value), *words)
    assert "name another --run" in str(error.value) or "fold" in change


def test_epochs_option_leaves_finished_stages_valid(run, records_folder, experiment, tmp_path):
    """A stage that is done with its own epochs is reused; the next one runs with --epochs."""
    folder, _, _ = run
    shutil.copytree(folder / "pretrain", tmp_path / "pretrain")
    result = train_experiment(
        TrainingOptions("transfer", str(experiment), records_folder, tmp_path, epochs=1)
    )
    assert [stage["epochs"] for stage in result["stages"]] == [20, 1]


def test_the_contrastive_stage_is_scored_by_pairs_and_by_class_means(
    run, records_folder, experiment, tmp_path
):
    folder, _, _ = run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    result = train_experiment(
        TrainingOptions("contrastive", str(experiment), records_folder, tmp_path)
    )
    for source in ("enterface/visual", "savee/visual"):
        score = result["sources"][source]
        assert 0.5 < score["pair_auc"] <= 1
        assert score["ua"] > score["chance"]
        assert score["emotions"] == list(
            EMOTIONS[:3] if source == "enterface/visual" else EMOTIONS[:4]
        )
    assert "contrastive stage" in result["not_scored"]["savee/audio"]
    history = json.loads((tmp_path / "contrastive" / "metrics.json").read_text())["history"]
    assert set(history[0]) == {"loss", "contrastive", "val_loss", "val_contrastive", "val_pair_auc"}


def test_evaluate_repeats_the_scores_and_scores_foreign_corpora(run, records_folder):
    folder, trained, _ = run
    result = evaluate_run(folder, records_folder)
    assert result["stage"] == "joint"
    for source, score in trained["sources"].items():
        assert result["sources"][source] == score
    foreign = result["sources"]["foreign/audio"]
    assert foreign["emotions"] == [
        "calm",
        "contempt",
    ]  # of calm, contempt, disgust, fear only these were trained
    assert foreign["clips"] == 4
    assert foreign["all_classes"]["emotions"] == ["calm", "contempt", "disgust", "fear"]
    assert foreign["all_classes"]["ua"] == pytest.approx(foreign["ua"] / 2)
    by_stage = evaluate_run(folder, records_folder, "pretrain")
    assert set(by_stage["sources"]) == {"enterface/visual", "savee/visual"}
    assert "trained on audio" in by_stage["not_scored"]["savee/audio"]


def test_evaluate_refuses_records_with_another_split(run, records_folder, tmp_path):
    folder, _, _ = run
    shutil.copytree(records_folder, tmp_path / "records")
    shutil.rmtree(tmp_path / "records" / "enterface")
    write_set(tmp_path / "records", "enterface/visual", speakers=7)
    with pytest.raises(DataError, match=key_words("stage 'pretrain'", "another split")):
        evaluate_run(folder, tmp_path / "records")


def test_evaluate_refuses_records_without_those_of_the_training(run, records_folder, tmp_path):
    """Under another name, or without its other corpora, a clip that was trained on would pass for unseen."""
    folder, _, _ = run
    shutil.copytree(records_folder / "enterface", tmp_path / "renamed")
    with pytest.raises(
        InputError,
        match="enterface/visual, savee/audio, savee/visual are missing.* stage 'joint'",
    ):
        evaluate_run(folder, tmp_path)
    with pytest.raises(InputError, match=key_words("CORPUS/DOMAIN", "records")):
        evaluate_run(folder, records_folder / "savee")


def test_additional_domain_of_a_corpus_changes_the_key(records_folder, experiment, tmp_path):
    """The mask of the logits has the emotions of all domains, so a stage of before is not the same."""
    shutil.copytree(records_folder / "enterface", tmp_path / "records" / "enterface")
    options = TrainingOptions(
        "pretrain", str(experiment), tmp_path / "records", tmp_path / "run", epochs=1
    )
    train_experiment(options)
    write_set(tmp_path / "records", "enterface/audio", speakers=6, emotions=EMOTIONS[:5], seed=9)
    with pytest.raises(InputError, match="emotions.enterface/visual"):
        train_experiment(options)


def test_copy_in_a_scored_corpus_is_refused_before_training(records_folder, tmp_path):
    shutil.copytree(records_folder, tmp_path / "records")
    manifest = json.loads(
        (tmp_path / "records" / "foreign" / "audio" / "manifest.json").read_text()
    )
    manifest["clips"][0]["sha256"] = "enterface/visual s4/anger0.avi"
    (tmp_path / "records" / "foreign" / "audio" / "manifest.json").write_text(json.dumps(manifest))
    stages = {
        **STAGES,
        "other": {
            "kind": "supervised",
            "sources": ["foreign/audio"],
            "start_from": "pretrain",
            "batch": 4,
        },
    }
    experiment = write_experiment(tmp_path / "toy.toml", **stages)
    with pytest.raises(DataError, match="two splits"):
        train_experiment(
            TrainingOptions("pretrain", str(experiment), tmp_path / "records", tmp_path / "run")
        )
    assert not (tmp_path / "run").exists()


def test_corpus_under_two_names_is_refused_before_training(records_folder, experiment, tmp_path):
    """Speaker 2 is validated on in the corpus of 6 speakers, and trained on in that of 4."""
    shutil.copytree(records_folder, tmp_path / "records")
    for manifest in (tmp_path / "records" / "savee").glob("*/manifest.json"):
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"kind": "enterface"}))
    with pytest.raises(
        DataError,
        match=key_words("speaker 'enterface:2'", "two splits", "enterface/visual", "savee/"),
    ):
        train_experiment(
            TrainingOptions("transfer", str(experiment), tmp_path / "records", tmp_path / "run")
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stage", "expected"),
    [("finetune", "stage 'finetune'"), (None, "finished stage")],
)
def test_evaluate_names_the_missing_stage(run, records_folder, tmp_path, stage, expected):
    folder = run[0] if stage else tmp_path
    with pytest.raises(InputError, match=expected):
        evaluate_run(folder, records_folder, stage)


def test_a_damaged_shard_is_found_before_the_first_step(records_folder, experiment, tmp_path):
    shutil.copytree(records_folder, tmp_path / "records")
    shard = tmp_path / "records" / "enterface" / "visual" / "00000.tfrecord"
    body = bytearray(shard.read_bytes())
    body[1000] ^= 1
    shard.write_bytes(body)
    with pytest.raises(DataError, match=r"00000\.tfrecord: damaged"):
        train_experiment(
            TrainingOptions("pretrain", str(experiment), tmp_path / "records", tmp_path / "run")
        )


def test_speaker_dependent_protocol(records_folder, experiment, tmp_path):
    options = TrainingOptions(
        "pretrain",
        str(experiment),
        records_folder,
        tmp_path,
        protocol="speaker-dependent",
        fold=2,
        epochs=1,
    )
    result = train_experiment(options)
    assert (result["protocol"], result["fold"]) == ("speaker-dependent", 2)
    with open(tmp_path / "pretrain" / "predictions.csv", newline="") as file:
        assert len({row["speaker"] for row in csv.DictReader(file)}) > 1
