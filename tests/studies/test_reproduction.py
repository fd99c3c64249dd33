"""Tests of reproductions: shared stages, tables, the test-set log and comparisons."""

import argparse
import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import recall_score

from helpers.messages import key_words
from helpers.reproductions import (
    NETWORKS,
    STAGES,
    prediction_rows,
    reproduce_logged,
    score_row,
    trained_networks,
)
from helpers.synthetic_sets import write_experiment
from kerasemo import reproduce
from kerasemo.analysis import comparison, pooling, prediction_tables
from kerasemo.analysis.prediction_tables import Predictions
from kerasemo.datasets.catalog import RecordCatalog
from kerasemo.evaluation.evaluator import evaluate_run
from kerasemo.runs import test_set_log
from kerasemo.runs.lineage import Lineage, find_lineage
from kerasemo.studies import results, sweep
from kerasemo.studies.reproduction import load_reproduced_experiment
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS


def modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_stage_that_does_not_depend_on_the_fold_is_trained_once(toy_study):
    assert "4 networks" in toy_study.lines[0]
    assert re.search("0 finished.* 4 to train", toy_study.lines[0])
    assert trained_networks(toy_study.lines) == NETWORKS
    folders = list((toy_study.run / "stages").iterdir())
    names = [folder.name.rpartition("-")[0] for folder in folders]
    assert sorted(names) == ["pretrain", "transfer", "transfer-2", "transfer-2"]
    stages = {folder.name: json.loads((folder / "stage.json").read_text()) for folder in folders}
    for name, stage in stages.items():
        assert name.rpartition("-")[2] == stage["digest"][:12]
    keys = [stage["key"] for stage in stages.values()]
    folds = sorted(key["fold"] for key in keys if key["stage"]["name"] == "transfer-2")
    assert folds == [0, 3]
    assert toy_study.document["networks"] == 4
    assert toy_study.document["failed"] == []


def test_log_has_the_score_and_the_remaining_time_of_each_network(toy_study):
    lines = [line for line in toy_study.lines if re.match(r"\[.*: validation ", line)]
    assert len(lines) == 4
    assert re.match(rf"\[1/4\] {NETWORKS[0]}: validation fer/visual UA \d", lines[0])
    assert re.search(r"3 left, .*\d+ (s|min)", lines[0])
    assert lines[3].endswith("none left")


def test_study_without_final_predicts_no_test_clip(toy_study):
    """The test speakers of emodb are 1 and 4; the next ones are the validation speakers.

    The validation split of ravdess, which has three speakers, is made by utterances.
    """
    assert toy_study.document["side"] == "validation"
    assert toy_study.document["looks"] == []
    assert not (toy_study.run / test_set_log.FILE_NAME).exists()
    assert not list(toy_study.run.rglob("test-*"))
    for path in toy_study.run.glob("stages/*/metrics.json"):
        assert json.loads(path.read_text())["scored"] == "validation"

    def rows(stage, source):
        return prediction_rows(toy_study.run, "validation", stage, source)

    for stage in ("pretrain", "transfer", "transfer-2"):
        of_faces = rows(stage, "fer/visual")
        assert of_faces
        assert not [row for row in of_faces if "s4" in row["id"]]
    for stage in ("transfer", "transfer-2"):
        for source, speakers in {
            "ravdess/audio": {"ravdess:2", "ravdess:3"},
            "emodb/audio": {"emodb:2", "emodb:5"},
        }.items():
            of_source = rows(stage, source)
            assert of_source
            assert {row["speaker"] for row in of_source} <= speakers


def test_scores_are_pooled_over_the_clips_of_all_folds(toy_study):
    rows = prediction_rows(toy_study.run, "validation", "transfer-2", "emodb/audio")
    labels, predictions = ([row[name] for row in rows] for name in ("emotion", "answer"))
    score = score_row(toy_study.document, "transfer-2", "emodb/audio")
    assert (score["n"], score["folds"], score["networks"]) == (len(rows), [0, 3], 1)
    assert score["trained_on"] == "this stage"
    assert score["ua"] == pytest.approx(
        recall_score(labels, predictions, average="macro", labels=sorted(set(labels)))
    )
    assert score["wa"] == pytest.approx(np.mean(np.array(labels) == np.array(predictions)))
    assert np.sum(score["confusion"]) == len(rows)
    assert score["chance"] == 1 / 3
    of_segments = score_row(toy_study.document, "transfer-2", "emodb/audio", "segment")
    n_segments = sum(int(row[f"items_{emotion}"]) for row in rows for emotion in EMOTIONS)
    assert of_segments["n"] == n_segments == 3 * len(rows)


def test_scores_name_the_stage_that_was_trained_on_the_source(toy_study):
    row = score_row(toy_study.document, "transfer-2", "ravdess/audio")
    assert row["trained_on"] == "a stage before"
    reason = toy_study.document["not_scored"]["pretrain"]["emodb/audio"]
    assert "audio" in reason


def test_scores_name_the_split_of_the_source(toy_study):
    of_faces = score_row(toy_study.document, "pretrain", "fer/visual", "image")
    assert re.search("publisher.* 1 network", of_faces["protocol"])
    copies, publisher = of_faces["stamps"]
    assert re.search(key_words("deduplicated", "4 copies"), copies)
    assert "publisher" in publisher
    of_audio = score_row(toy_study.document, "transfer-2", "emodb/audio")
    words = ("leave-one-speaker-out", "0, 3 of 6", "1 network")
    assert re.search(key_words(*words), of_audio["protocol"])


def test_tables_are_written_in_every_format(toy_study):
    folder, document = toy_study.run / "tables", toy_study.document
    assert json.loads((folder / "tables.json").read_text()) == document
    text = (folder / "tables.md").read_text()
    title = text.partition("\n")[0]
    assert re.search(key_words("toy", "validation split", "speaker-independent"), title)
    assert re.search(r"\| WavLM-large \| 5 folds.* \| 92.6 \| 92.7 \|", text)
    for word in ("protocol unknown", "| chance |", "95 %", "2 speakers", "pooled score"):
        assert word in text
    with open(folder / "tables.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(document["rows"])
    assert float(rows[0]["ua"]) == pytest.approx(document["rows"][0]["ua"], abs=1e-6)
    page = (folder / "page.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "http" not in page
    assert "<script" not in page
    for source in ("fer/visual", "ravdess/audio", "emodb/audio"):
        assert f"<h2>{source}</h2>" in page


def test_predictions_file_gives_the_scores_of_the_study(toy_study):
    """`answers.csv` has a row for each clip, and none for segments."""
    path = toy_study.run / "tables" / "answers.csv"
    tables = prediction_tables.read_prediction_tables(path)
    rows = [row for row in toy_study.document["rows"] if row["level"] in ("clip", "image")]
    assert list(tables) == [(row["stage"], row["source"]) for row in rows]
    scores = ["n", "ua", "wa", "macro_f1", "by_seed", "confusion", "by_speaker"]
    compared_rows = comparison.compare_files([(path, "")])["rows"]
    for row, compared_row in zip(rows, compared_rows, strict=True):
        for name in (*scores, "networks", "folds", "emotions"):
            assert compared_row[name] == row[name], name
        for name in ("all_classes", "without_corpus"):
            assert compared_row.get(name, {}).get("ua") == row.get(name, {}).get("ua")
        remark, *stamps = compared_row["stamps"]
        assert "validation split" in remark
        assert stamps == row["stamps"]


def test_same_command_trains_no_network_again(toy_study, toy_study_copy):
    before = modification_times(toy_study_copy / "stages")
    document, lines = reproduce_logged(toy_study.options(toy_study_copy))
    for place, (line, network) in enumerate(zip(lines[1:], NETWORKS, strict=True), 1):
        assert line.startswith(f"[{place}/4] {network}: already trained")
    assert document["rows"] == toy_study.document["rows"]
    assert modification_times(toy_study_copy / "stages") == before


def test_networks_with_changed_settings_share_the_run_folder(toy_study, toy_study_copy):
    settings = ("transfer-2.batch=12",)
    options = toy_study.options(toy_study_copy, folds=(3,), settings=settings)
    _, lines = reproduce_logged(options)
    assert trained_networks(lines) == [NETWORKS[3]]
    assert len(list((toy_study_copy / "stages").iterdir())) == 5


def test_scores_are_the_mean_over_the_requested_seeds(toy_study, toy_study_copy):
    """Seed 2 is trained alone. Seeds 0 and 2 are then scored together, without a training."""
    requested = {"stages": ("pretrain",), "folds": (0,)}
    first, lines = reproduce_logged(toy_study.options(toy_study_copy, seeds=(2,), **requested))
    assert first["seeds"] == [2]
    expected = [NETWORKS[0].replace("seed 0", "seed 2")]
    assert trained_networks(lines) == expected
    document, lines = reproduce_logged(toy_study.options(toy_study_copy, seeds=(0, 2), **requested))
    assert trained_networks(lines) == []
    assert document["seeds"] == [0, 2]
    row = score_row(document, "pretrain", "fer/visual", "image")
    assert [score["seed"] for score in row["by_seed"]] == [0, 2]
    assert row["networks"] == 2
    assert row["ua"] == pytest.approx(np.mean([score["ua"] for score in row["by_seed"]]))


@pytest.mark.parametrize("text", ["0", "-1", "1,x", ",", "1,-2", ""])
def test_invalid_seeds_are_an_error(text):
    with pytest.raises(argparse.ArgumentTypeError, match=key_words("whole number", "at least")):
        reproduce.parse_seeds(text)


def test_final_predicts_the_test_split_after_an_entry_in_the_test_set_log(
    toy_study, toy_study_copy
):
    document, lines = reproduce_logged(toy_study.options(toy_study_copy, final=True))
    (line,) = [line for line in lines if line.startswith("test split")]
    assert re.search(key_words("evaluation 1", "4 networks", "(0 "), line)
    (entry,) = test_set_log.read_test_set_log(toy_study_copy)
    assert entry["command"] == "reproduce again"
    assert entry["stages"] == ["pretrain", "transfer", "transfer-2"]
    assert (entry["folds"], entry["seeds"]) == ([0, 3], [0])
    assert entry["protocol"] == "speaker-independent"
    assert len(entry["keys"]) == 4
    assert re.fullmatch(r"\S+ \([0-9a-f]{12}\)", entry["code"])
    rows = prediction_rows(toy_study_copy, "test", "transfer-2", "emodb/audio")
    assert {row["speaker"] for row in rows} == {"emodb:1", "emodb:4"}
    rows = prediction_rows(toy_study_copy, "test", "transfer-2", "fer/visual")
    assert {row["id"].partition("/")[0] for row in rows} == {"s4"}
    text = (toy_study_copy / "tables" / "tables.md").read_text()
    assert "evaluation 1 of 1" in text
    assert document["side"] == "test"


def test_untrained_corpus_is_entirely_in_the_test_split(toy_study, toy_study_copy):
    document, _ = reproduce_logged(toy_study.options(toy_study_copy, final=True))
    assert len(prediction_rows(toy_study_copy, "test", "transfer", "emodb/audio")) == 36
    row = score_row(document, "transfer", "emodb/audio")
    assert "whole corpus" in row["protocol"]
    assert "1 network" in row["protocol"]
    assert row["trained_on"] == ""


def test_stored_test_predictions_are_read_without_a_new_evaluation(
    toy_study, toy_study_copy, monkeypatch
):
    options = toy_study.options(toy_study_copy, final=True)
    document, _ = reproduce_logged(options)

    def fail(*_):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(Lineage, "load_network", fail)
    second, lines = reproduce_logged(options)
    assert re.search(key_words("4 networks", "before"), lines[-1])
    assert second["rows"] == document["rows"]
    assert len(test_set_log.read_test_set_log(toy_study_copy)) == 1


def test_interrupted_evaluation_resumes_and_new_networks_are_a_new_evaluation(
    toy_study, toy_study_copy, monkeypatch
):
    write, n_calls = sweep.write_stage_predictions, 0

    def interrupt_after_two(*arguments):
        nonlocal n_calls
        n_calls += 1
        if n_calls > 2:
            raise KeyboardInterrupt
        write(*arguments)

    options = toy_study.options(toy_study_copy, final=True)
    with monkeypatch.context() as patch:
        patch.setattr(sweep, "write_stage_predictions", interrupt_after_two)
        with pytest.raises(KeyboardInterrupt):
            reproduce_logged(options)
    _, lines = reproduce_logged(options)
    pattern = key_words("evaluation 1", "2 networks", "(2 ")
    assert [line for line in lines if re.match(pattern, line)]
    assert len(test_set_log.read_test_set_log(toy_study_copy)) == 1

    document, lines = reproduce_logged(
        toy_study.options(toy_study_copy, folds=(1, 3), stages=("transfer-2",), final=True)
    )
    expected = [network.replace("fold 0", "fold 1") for network in NETWORKS[1:3]]
    assert trained_networks(lines) == expected
    pattern = key_words("evaluation 2", "1 network", "(1 ")
    assert [line for line in lines if re.match(pattern, line)]
    counts = [(entry["look"], entry["networks"], entry["of_these"]) for entry in document["looks"]]
    assert counts == [(1, 4, 3), (2, 1, 1)]


def test_copies_in_training_give_a_new_key_and_a_stamp(toy_study, toy_study_copy):
    options = toy_study.options(toy_study_copy, stages=("pretrain",), keep_copies=True, final=True)
    document, lines = reproduce_logged(options)
    assert trained_networks(lines) == [NETWORKS[0]]
    assert len(list((toy_study_copy / "stages").glob("pretrain-*"))) == 2
    row = score_row(document, "pretrain", "fer/visual", "image")
    assert re.search(key_words("as published", "4 copies"), row["stamps"][0])
    (path,) = toy_study_copy.glob("stages/pretrain-*/test-scored.json")
    key = json.loads((path.parent / "stage.json").read_text())["key"]
    assert key["keep_copies"] is True
    result = evaluate_run(
        toy_study_copy / "stages", toy_study.records, path.parent.name, sources=["fer/visual"]
    )
    assert result["sources"]["fer/visual"]["copies_in_training"] == 4
    assert result["sources"]["fer/visual"]["ua"] == pytest.approx(row["ua"])


def test_keeping_copies_needs_a_corpus_with_a_publisher_split(toy_study, tmp_path):
    """A corpus with a publisher split does not count if no requested stage uses it."""
    alone = STAGES["transfer_2"] | {"start_from": ""}
    for stages in ({"alone": alone}, {"alone": alone, "pretrain": STAGES["pretrain"]}):
        experiment = write_experiment(tmp_path / "changed.toml", **stages)
        options = toy_study.options(
            tmp_path / "run", experiment=experiment, stages=("alone",), keep_copies=True
        )
        with pytest.raises(InputError, match=key_words("--keep-copies", "FER-2013")):
            reproduce_logged(options)


def test_stages_are_compared_if_they_predicted_the_same_clips_of_two_speakers(
    toy_study, toy_study_copy
):
    pairs = (("transfer-2", "transfer"), ("transfer-2", "pretrain"))
    options = toy_study.options(toy_study_copy, compare=pairs, final=True)
    document, _ = reproduce_logged(options)
    by_source = {
        (tuple(compared["stages"]), compared["source"]): compared
        for compared in document["comparisons"]
    }
    # Fold 3 is fold 0 of ravdess, with one test speaker.
    assert "2 speakers" in by_source[pairs[0], "ravdess/audio"]["refused"]
    # Stage transfer predicted all of emodb, stage transfer-2 two folds.
    assert "24 clips" in by_source[pairs[0], "emodb/audio"]["refused"]
    of_faces = by_source[pairs[1], "fer/visual"]["ua"]  # the speakers are unknown
    assert "images" in of_faces["method"]
    assert of_faces["speakers"] == {}


def test_comparison_of_two_speakers_is_by_sign_flips(toy_study, toy_study_copy):
    alone = STAGES["transfer_2"] | {"start_from": ""}
    experiment = write_experiment(toy_study_copy / "toy.toml", **STAGES, alone=alone)
    pair = ("transfer-2", "alone")
    document, _ = reproduce_logged(
        toy_study.options(toy_study_copy, experiment=experiment, compare=(pair,), stages=pair)
    )
    (compared,) = document["comparisons"]
    assert compared["source"] == "emodb/audio"
    assert re.search(key_words("sign-flip", "2 speakers", "exact"), compared["ua"]["method"])
    assert list(compared["ua"]["speakers"]) == ["emodb:2", "emodb:5"]


def test_lineage_of_a_stage_folder_has_all_earlier_stages(toy_study):
    (folder,) = [
        path.parent
        for path in toy_study.run.glob("stages/transfer-2-*/stage.json")
        if json.loads(path.read_text())["key"]["fold"] == 3
    ]
    lineage = find_lineage(folder.parent, folder.name)
    assert [stage.name for stage in lineage.stages] == ["pretrain", "transfer", "transfer-2"]
    assert [stage.key.fold for stage in lineage.stages] == [0, 0, 3]
    splits = lineage.split(RecordCatalog(toy_study.records), ["emodb/audio"])
    test_ids = splits.clip_ids["emodb/audio"]["test"]
    assert test_ids
    assert all(clip_id.startswith("s4/") for clip_id in test_ids)


# Comparisons of several sources.

SAVEE = ["savee/visual", "savee/audio"]


def pool_with_correct_clips(n_correct: list[int], first_speaker: int = 0):
    """Return pooled predictions of two speakers with 4 clips of one emotion each.

    Args:
        n_correct: The number of correct clips of each speaker.
        first_speaker: The number of the first speaker.
    """
    predictions = np.array(
        [0 if clip < n_right else 1 for n_right in n_correct for clip in range(4)]
    )
    one_hot = np.eye(len(EMOTIONS), dtype=int)[predictions]
    of_network = Predictions(
        ids=tuple(map(str, range(8))),
        speakers=tuple(f"savee:{first_speaker + clip // 4}" for clip in range(8)),
        labels=np.zeros(8, int),
        predictions=predictions,
        probabilities=one_hot.astype(float),
        open_predictions=predictions,
        item_counts=one_hot,
    )
    return pooling.pool_folds({(0, 0): of_network}, folds=1)


@pytest.fixture(scope="module")
def savee_pools():
    """Predictions of stages a and b for faces and voices of the same two speakers."""
    return {
        ("a", "savee/visual"): pool_with_correct_clips([4, 2]),
        ("a", "savee/audio"): pool_with_correct_clips([3, 3]),
        ("b", "savee/visual"): pool_with_correct_clips([2, 2]),
        ("b", "savee/audio"): pool_with_correct_clips([3, 4]),
    }


def compare_savee(pools, pair):
    trained = {"emotions": list(EMOTIONS[:2]), "trained_on": "this stage"}
    rows = [{"stage": stage, "source": source} | trained for stage, source in pools]
    return results.compare_stages(SAVEE, pair, pools, rows)


def test_speaker_in_two_sources_counts_once_with_the_mean_difference(savee_pools):
    of_faces, of_voices, of_sources = compare_savee(savee_pools, ("a", "b"))
    assert of_faces["ua"]["speakers"] == {"savee:0": 0.5, "savee:1": 0.0}
    assert of_voices["ua"]["speakers"] == {"savee:0": 0.0, "savee:1": -0.25}
    assert of_sources["source"] == "savee/visual + savee/audio"
    assert of_sources["ua"]["speakers"] == {"savee:0": 0.25, "savee:1": -0.125}
    assert of_sources["ua"]["difference"] == 0.0625


def test_stage_is_compared_with_a_stage_for_each_source(savee_pools):
    expected = [compared["ua"] for compared in compare_savee(savee_pools, ("a", "b"))]
    stage_of_source = {"savee/visual": "face", "savee/audio": "voice"}
    pools = {
        (stage if stage == "a" else stage_of_source[source], source): pool
        for (stage, source), pool in savee_pools.items()
    }
    comparisons = compare_savee(pools, ("a", "voice+face"))
    assert [compared["stages"] for compared in comparisons] == [["a", "voice + face"]] * 3
    assert [compared["ua"] for compared in comparisons] == expected


def test_stage_is_compared_with_the_mean_of_stages_that_were_trained_on_the_source(savee_pools):
    pools = savee_pools | {("c", "savee/visual"): pool_with_correct_clips([0, 2])}
    of_faces, *_ = compare_savee(pools, ("a", "b+c"))
    assert of_faces["ua"]["speakers"] == {"savee:0": 0.75, "savee:1": 0.0}


def test_mean_over_sources_needs_two_speakers_of_the_same_sources(savee_pools):
    """Only one of the three speakers is in the two sources."""
    shifted = pool_with_correct_clips([3, 3], first_speaker=1)
    pools = savee_pools | {(stage, "savee/audio"): shifted for stage in "ab"}
    of_faces, of_voices, of_sources = compare_savee(pools, ("a", "b"))
    assert "ua" in of_faces
    assert "ua" in of_voices
    assert "2 speakers" in of_sources["refused"]


def test_listeners_are_scored_on_the_clips_that_a_stage_of_the_source_predicts(toy_study, tmp_path):
    """Stage transfer was not trained on emodb and predicts all clips, so its clips do not count.

    A clip without a rate is an error. Clip `s9/extra.wav` has no rate, so it must be left out.
    """
    rows = prediction_rows(toy_study.run, "validation", "transfer-2", "emodb/audio")
    clip_ids = sorted({row["id"] for row in rows})
    rates = tmp_path / "erkennung.txt"
    names = sorted({Path(clip_id).name for clip_id in [*clip_ids, "s9/anger0.wav"]})
    lines = [f"{number} {name} 90,00 80,00" for number, name in enumerate(names, 1)]
    text = "\n".join(["Nr. Satz erkannt natuerlich", *lines]) + "\n"
    rates.write_text(text, encoding="iso-8859-1")

    def pool(of_clips):
        return SimpleNamespace(clips=tuple((0, clip_id) for clip_id in of_clips))

    pools = {
        ("transfer", "emodb/audio"): pool([*clip_ids, "s9/anger0.wav", "s9/extra.wav"]),
        ("transfer-2", "emodb/audio"): pool(clip_ids),
    }
    records = [{"id": clip_id, "emotion": "anger"} for clip_id in [*clip_ids, "s9/extra.wav"]]
    catalog = SimpleNamespace(emotions=lambda source: ["anger"], rows=lambda source: records)
    experiment = load_reproduced_experiment(toy_study.options(tmp_path))
    references = results.source_references(
        catalog, experiment, "emodb/audio", pools, listener_rates=rates
    )
    assert references["listeners"]["wa"] == 0.9
    assert references["listeners"]["clips"] == len({Path(clip_id).stem for clip_id in clip_ids})
