"""Every fold and seed of an experiment in one table: shared stages, looks at the test side, comparisons."""

import argparse
import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import recall_score

from helpers.reproductions import CELLS, STAGES, begun, options, predictions, row
from helpers.synthetic_sets import write_experiment
from kerasemo import reproduce
from kerasemo.analysis import comparison, pooling, prediction_tables
from kerasemo.analysis.prediction_tables import Predictions
from kerasemo.evaluation import evaluator
from kerasemo.runs import lineage, test_set_log
from kerasemo.studies import reproduction, results
from pipelines.core.errors import InputError
from pipelines.core.labels import EMOTIONS


def test_what_does_not_depend_on_the_fold_is_trained_once(toy_run):
    folder, document, log = toy_run
    assert log[0].startswith("4 networks (3 stages, folds 0, 3, seeds 0): 0 are there, 4 to train")
    assert begun(log) == CELLS
    names = sorted(path.name.rpartition("-")[0] for path in (folder / "stages").iterdir())
    assert names == ["pretrain", "transfer", "transfer-2", "transfer-2"]
    keys = {
        path.parent.name: json.loads(path.read_text())
        for path in (folder / "stages").glob("*/stage.json")
    }
    for name, held in keys.items():
        assert name.rpartition("-")[2] == held["digest"][:12]
    assert sorted((held["key"]["stage"]["name"], held["key"]["fold"]) for held in keys.values())[
        -2:
    ] == [
        ("transfer-2", 0),
        ("transfer-2", 3),
    ]
    assert document["networks"] == 4 and document["failed"] == []


def test_each_cell_says_how_long_it_took_and_what_is_left(toy_run):
    done = [line for line in toy_run[2] if "validation" in line and line.startswith("[")]
    assert len(done) == 4
    assert re.search(
        r"^\[1/4\] pretrain, fold 0, seed 0: validation fer/visual UA .*; [\d.]+ an hour, 3 left, about \d+ (s|min)",
        done[0],
    )
    assert done[3].endswith("none left")


def test_without_final_no_test_clip_is_looked_at(toy_run):
    """Of emodb the test speakers of folds 0 and 3 are 1 and 4, and the next ones validate; ravdess' three validate by utterances."""
    folder, document, _ = toy_run
    assert document["side"] == "validation" and document["looks"] == []
    assert not (folder / test_set_log.NAME).exists() and not list(folder.rglob("test-*"))
    for path in folder.glob("stages/*/metrics.json"):
        assert json.loads(path.read_text())["scored"] == "validation"
    for stage in ("pretrain", "transfer", "transfer-2"):
        rows = predictions(folder, "validation", stage)
        assert rows and all("s4" not in own["id"] for own in rows if own["source"] == "fer/visual")
        assert {one["speaker"] for one in rows if one["source"] == "ravdess/audio"} <= {
            "ravdess:2",
            "ravdess:3",
        }
        assert {one["speaker"] for one in rows if one["source"] == "emodb/audio"} <= {
            "emodb:2",
            "emodb:5",
        }


def test_scores_are_pooled_over_the_clips_of_both_folds(toy_run):
    folder, document, _ = toy_run
    rows = [
        own
        for own in predictions(folder, "validation", "transfer-2")
        if own["source"] == "emodb/audio"
    ]
    truth, said = ([own[name] for own in rows] for name in ("emotion", "answer"))
    found = row(document, "transfer-2", "emodb/audio")
    assert (found["n"], found["folds"], found["networks"], found["trained_on"]) == (
        len(rows),
        [0, 3],
        1,
        "this stage",
    )
    assert found["ua"] == pytest.approx(
        recall_score(truth, said, average="macro", labels=sorted(set(truth)))
    )
    assert found["wa"] == pytest.approx(np.mean([one == other for one, other in zip(truth, said)]))
    assert np.sum(found["confusion"]) == len(rows) and found["chance"] == 1 / 3
    segments = row(document, "transfer-2", "emodb/audio", "segment")
    assert (
        segments["n"]
        == 3 * len(rows)
        == sum(int(own[f"items_{emotion}"]) for own in rows for emotion in EMOTIONS)
    )
    assert row(document, "transfer-2", "ravdess/audio")["trained_on"] == "a stage before"
    assert "not been trained on audio" in document["not_scored"]["pretrain"]["emodb/audio"]


def test_a_source_that_lacks_nothing_says_how_it_was_split(toy_run):
    document = toy_run[1]
    assert (
        row(document, "pretrain", "fer/visual", "image")["protocol"]
        == "the corpus's own, 1 network a clip"
    )
    assert (
        row(document, "transfer-2", "emodb/audio")["protocol"]
        == "leave-one-speaker-out (folds 0, 3 of 6), 1 network a clip"
    )
    stamps = row(document, "pretrain", "fer/visual", "image")["stamps"]
    assert stamps == [
        "deduplicated: 4 copies of clips on a later side left out",
        "the publisher's own split, whatever the protocol",
    ]


def test_the_tables_are_there_in_every_form(toy_run):
    folder, document, _ = toy_run
    assert json.loads((folder / "tables" / "tables.json").read_text()) == document
    text = (folder / "tables" / "tables.md").read_text()
    assert (
        "# toy: validation side, speaker-independent" in text
        and "the test side was not looked at" in text
    )
    assert "| WavLM-large | 5 folds, all speakers in train and test | 92.6 | 92.7 |" in text
    assert "protocol unknown" in text and "| chance |" in text
    assert (
        "95 %: " in text
        and "t over 2 speakers" in text
        and "not the pooled score beside it" in text
    )
    with open(folder / "tables" / "tables.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(document["rows"])
    assert float(rows[0]["ua"]) == pytest.approx(document["rows"][0]["ua"], abs=1e-6)
    page = (folder / "tables" / "page.html").read_text()
    assert page.startswith("<!doctype html>") and "http" not in page and "<script" not in page
    for source in ("fer/visual", "ravdess/audio", "emodb/audio"):
        assert f"<h2>{source}</h2>" in page


def test_the_answers_are_kept_and_score_the_same_again(toy_run):
    """Rows of clips alone: `answers.csv` has none of segments."""
    folder, document, _ = toy_run
    kept = prediction_tables.read_prediction_tables(folder / "tables" / "answers.csv")
    rows = [own for own in document["rows"] if own["level"] in ("clip", "image")]
    assert list(kept) == [(own["stage"], own["source"]) for own in rows]
    for own, again in zip(
        rows,
        comparison.compare_files([(folder / "tables" / "answers.csv", "")])["rows"],
        strict=True,
    ):
        for name in (
            "n",
            "networks",
            "folds",
            "emotions",
            "ua",
            "wa",
            "macro_f1",
            "by_seed",
            "confusion",
            "by_speaker",
        ):
            assert again[name] == own[name], name
        assert again.get("all_classes", {}).get("ua") == own.get("all_classes", {}).get("ua")
        assert again.get("without_corpus", {}).get("ua") == own.get("without_corpus", {}).get("ua")
        assert again["stamps"] == [
            "the validation side, on which the epoch is chosen where there are several: then a little too high",
            *own["stamps"],
        ]


def test_the_same_command_does_nothing_twice_and_says_so(toy_given, toy_run, toy_copy):
    before = {
        path: path.stat().st_mtime_ns
        for path in sorted((toy_copy / "stages").rglob("*"))
        if path.is_file()
    }
    log = []
    again = reproduction.reproduce(options(toy_given, toy_copy), log=log.append)
    assert log[1:] == [
        f"[{place}/4] {cell}: done before, reused" for place, cell in enumerate(CELLS, 1)
    ]
    assert again["rows"] == toy_run[1]["rows"]
    assert {
        path: path.stat().st_mtime_ns
        for path in sorted((toy_copy / "stages").rglob("*"))
        if path.is_file()
    } == before


def test_other_settings_stand_beside_in_one_run_folder(toy_given, toy_copy):
    log = []
    reproduction.reproduce(
        options(toy_given, toy_copy, folds=(3,), settings=("transfer-2.batch=12",)), log=log.append
    )
    assert begun(log) == ["transfer-2, fold 3, seed 0"]
    assert len(list((toy_copy / "stages").iterdir())) == 5


def test_seeds_are_counted_or_named_and_those_that_are_there_are_pooled(toy_given, toy_copy):
    """Another seed is trained by itself; what both say is then scored together, without training."""
    log = []
    asked = {"stages": ("pretrain",), "folds": (0,)}
    alone = reproduction.reproduce(
        options(toy_given, toy_copy, seeds=(2,), **asked), log=log.append
    )
    assert alone["seeds"] == [2] and begun(log) == ["pretrain, fold 0, seed 2"]
    both = reproduction.reproduce(
        options(toy_given, toy_copy, seeds=(0, 2), **asked), log=log.append
    )
    assert len(begun(log)) == 1 and both["seeds"] == [0, 2]
    found = row(both, "pretrain", "fer/visual", "image")
    assert [one["seed"] for one in found["by_seed"]] == [0, 2] and found["networks"] == 2
    assert found["ua"] == pytest.approx(np.mean([one["ua"] for one in found["by_seed"]]))


@pytest.mark.parametrize("text", ["0", "-1", "1,x", ",", "1,-2", ""])
def test_what_is_no_seed_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of at least"):
        reproduce.seeds(text)


def test_final_looks_once_and_writes_it_down_first(toy_given, toy_copy, monkeypatch):
    log, asked = [], []
    made = reproduction.reproduce(options(toy_given, toy_copy, final=True), log=log.append)
    assert [line for line in log if "look 1, by 4 networks (0 were asked before)" in line]
    (look,) = test_set_log.read_test_set_log(toy_copy)
    assert (look["command"], look["stages"], look["folds"], look["seeds"]) == (
        "reproduce again",
        ["pretrain", "transfer", "transfer-2"],
        [0, 3],
        [0],
    )
    assert (
        look["protocol"] == "speaker-independent"
        and len(look["keys"]) == 4
        and re.fullmatch(r"\S+ \([0-9a-f]{12}\)", look["code"])
    )
    rows = predictions(toy_copy, "test", "transfer-2")
    assert {own["speaker"] for own in rows if own["source"] == "emodb/audio"} == {
        "emodb:1",
        "emodb:4",
    }
    assert {own["id"].partition("/")[0] for own in rows if own["source"] == "fer/visual"} == {"s4"}
    foreign = [
        own for own in predictions(toy_copy, "test", "transfer") if own["source"] == "emodb/audio"
    ]
    assert len(foreign) == 36  # all of the corpus: no stage before was trained on it
    assert (
        row(made, "transfer", "emodb/audio")["protocol"]
        == "all of the corpus, which was not trained on, 1 network a clip"
    )
    assert row(made, "transfer", "emodb/audio")["trained_on"] == ""
    text = (toy_copy / "tables" / "tables.md").read_text()
    assert "look 1 at the test side; there were 1 in this run folder" in text

    monkeypatch.setattr(lineage.Lineage, "network", lambda *words: asked.append(words))
    log = []
    again = reproduction.reproduce(options(toy_given, toy_copy, final=True), log=log.append)
    assert (
        "all 4 networks were asked before; their answers are read again, which is no new look"
        in log[-1]
        and not asked
    )
    assert again["rows"] == made["rows"] and len(test_set_log.read_test_set_log(toy_copy)) == 1


def test_new_cells_are_a_new_look_and_an_interrupted_look_goes_on(toy_given, toy_copy, monkeypatch):
    from kerasemo.evaluation import stage_predictions

    real, count = stage_predictions.write_stage_predictions, 0

    def stop_after_two(*words):
        nonlocal count
        count += 1
        if count > 2:
            raise KeyboardInterrupt
        real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(stage_predictions, "write_stage_predictions", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            reproduction.reproduce(options(toy_given, toy_copy, final=True))
    log = []
    reproduction.reproduce(options(toy_given, toy_copy, final=True), log=log.append)
    assert (
        "test side: look 1, by 2 networks (2 were asked before)" in log
        and len(test_set_log.read_test_set_log(toy_copy)) == 1
    )
    log = []
    document = reproduction.reproduce(
        options(toy_given, toy_copy, folds=(1, 3), stages=("transfer-2",), final=True),
        log=log.append,
    )
    assert begun(log) == ["transfer, fold 1, seed 0", "transfer-2, fold 1, seed 0"]
    assert "test side: look 2, by 1 network (1 were asked before)" in log
    assert [(look["look"], look["networks"], look["of_these"]) for look in document["looks"]] == [
        (1, 4, 3),
        (2, 1, 1),
    ]


def test_copies_stay_only_where_they_are_asked_for_with_another_key_and_a_stamp(
    toy_given, toy_copy
):
    log = []
    document = reproduction.reproduce(
        options(toy_given, toy_copy, stages=("pretrain",), keep_copies=True, final=True),
        log=log.append,
    )
    assert (
        begun(log) == ["pretrain, fold 0, seed 0"]
        and len(list((toy_copy / "stages").glob("pretrain-*"))) == 2
    )
    assert (
        row(document, "pretrain", "fer/visual", "image")["stamps"][0]
        == "as published: 4 copies of test clips stay in training"
    )
    (name,) = [path.parent.name for path in toy_copy.glob("stages/pretrain-*/test-scored.json")]
    assert (
        json.loads((toy_copy / "stages" / name / "stage.json").read_text())["key"]["keep_copies"]
        is True
    )
    found = evaluator.evaluate(
        evaluator.Options(toy_copy / "stages", toy_given[0], name, ("fer/visual",))
    )
    assert found["sources"]["fer/visual"]["copies_in_training"] == 4
    assert found["sources"]["fer/visual"]["ua"] == pytest.approx(
        row(document, "pretrain", "fer/visual", "image")["ua"]
    )
    without = write_experiment(
        toy_copy / "none.toml", alone=STAGES["transfer_2"] | {"start_from": ""}
    )
    with pytest.raises(InputError, match="--keep-copies is for corpora that their publisher split"):
        reproduction.reproduce(options((toy_given[0], without), toy_copy, keep_copies=True))


def test_stages_are_compared_where_both_were_asked_about_two_speakers(toy_given, toy_copy):
    pairs = (("transfer-2", "transfer"), ("transfer-2", "pretrain"))
    document = reproduction.reproduce(options(toy_given, toy_copy, compare=pairs, final=True))
    by_source = {(tuple(one["stages"]), one["source"]): one for one in document["comparisons"]}
    assert (
        "at least 2 speakers" in by_source[pairs[0], "ravdess/audio"]["refused"]
    )  # fold 3 is its fold 0: one test speaker
    assert (
        "same clips" in by_source[pairs[0], "emodb/audio"]["refused"]
    )  # of transfer all of it, of transfer-2 two folds
    faces = by_source[pairs[1], "fer/visual"]["ua"]  # whose speakers nobody knows
    assert "images" in faces["method"] and faces["speakers"] == {}
    more = write_experiment(
        toy_copy / "toy.toml", **STAGES, alone=STAGES["transfer_2"] | {"start_from": ""}
    )
    pair = ("transfer-2", "alone")
    (found,) = reproduction.reproduce(
        options((toy_given[0], more), toy_copy, compare=(pair,), stages=pair)
    )["comparisons"]
    assert (
        found["source"] == "emodb/audio"
        and found["ua"]["method"] == "sign-flip over 2 speakers, exact; t interval"
    )
    assert list(found["ua"]["speakers"]) == ["emodb:2", "emodb:5"]


def test_a_stage_is_found_by_its_folder_with_those_before_it(toy_given, toy_run):
    (name,) = [
        path.parent.name
        for path in toy_run[0].glob("stages/transfer-2-*/stage.json")
        if json.loads(path.read_text())["key"]["fold"] == 3
    ]
    of = lineage.find_lineage(toy_run[0] / "stages", name)
    assert [stage["stage"] for stage in of.stages] == ["pretrain", "transfer", "transfer-2"]
    assert [stage["fold"] for stage in of.stages] == [0, 0, 3]
    assert of.sides(
        toy_given[0], asked=["emodb/audio"], there=["emodb/audio", "fer/visual", "ravdess/audio"]
    )


def test_a_person_who_is_compared_by_face_and_by_voice_counts_once():
    """Of a speaker's two differences the mean is taken, whichever source comes last."""
    sources = ["savee/visual", "savee/audio"]
    eye = np.eye(len(EMOTIONS), dtype=int)

    def of(
        right: list[int], first: int = 0
    ):  # 2 speakers of 4 clips of one emotion, so many of each right
        said = np.array([0 if clip < count else 1 for count in right for clip in range(4)])
        ids, speakers = (
            tuple(map(str, range(8))),
            tuple(f"savee:{first + number // 4}" for number in range(8)),
        )
        own = Predictions(
            ids, speakers, np.zeros(8, int), said, np.eye(len(EMOTIONS))[said], said, eye[said]
        )
        return pooling.pool_folds({(0, 0): own}, folds=1)

    pools = {
        ("a", sources[0]): of([4, 2]),
        ("a", sources[1]): of([3, 3]),
        ("b", sources[0]): of([2, 2]),
        ("b", sources[1]): of([3, 4]),
    }

    def compared(pools, pair):
        rows = [
            {
                "stage": stage,
                "source": source,
                "emotions": list(EMOTIONS[:2]),
                "trained_on": "this stage",
            }
            for stage, source in pools
        ]
        return results._compared(
            SimpleNamespace(held=SimpleNamespace(sources=sources)), pair, pools, rows
        )

    *alone, both = compared(pools, ("a", "b"))
    assert [one["ua"]["speakers"] for one in alone] == [
        {"savee:0": 0.5, "savee:1": 0.0},
        {"savee:0": 0.0, "savee:1": -0.25},
    ]
    assert both["source"] == "savee/visual + savee/audio" and both["ua"]["speakers"] == {
        "savee:0": 0.25,
        "savee:1": -0.125,
    }
    assert both["ua"]["difference"] == 0.0625
    singles = {
        ("face" if source == sources[0] else "voice", source): pool
        for (stage, source), pool in pools.items()
        if stage == "b"
    }
    of_singles = compared(
        {place: pool for place, pool in pools.items() if place[0] == "a"} | singles,
        ("a", "voice+face"),
    )
    assert [one["stages"] for one in of_singles] == [["a", "voice + face"]] * 3
    assert [one["ua"] for one in of_singles] == [one["ua"] for one in (*alone, both)]
    (mean, *_) = compared(
        pools | {("c", sources[0]): of([0, 2])}, ("a", "b+c")
    )  # of two that were trained on it
    assert mean["ua"]["speakers"] == {"savee:0": 0.75, "savee:1": 0.0}
    half = pools | {
        (stage, sources[1]): of([3, 3], first=1) for stage in "ab"
    }  # of three speakers one is in both
    *whole, refused = compared(half, ("a", "b"))
    assert (
        all("ua" in one for one in whole)
        and "at least 2 speakers of each, or of the same several sources" in refused["refused"]
    )


def test_listeners_are_asked_about_the_clips_that_a_stage_of_the_source_answers(
    toy_given, toy_run, tmp_path
):
    """Of the stage before, which knows nothing of emodb, all of it is scored; of emodb's own two folds alone."""
    ids = {
        own["id"]
        for own in predictions(toy_run[0], "validation", "transfer-2")
        if own["source"] == "emodb/audio"
    }
    pools = {}
    for name, clips in (("transfer", [*ids, "s9/anger0.wav"]), ("transfer-2", sorted(ids))):
        pools[name, "emodb/audio"] = SimpleNamespace(clips=tuple((0, clip) for clip in clips))
    rates = tmp_path / "erkennung.txt"
    names = sorted({Path(clip).name for clip in [*ids, "s9/anger0.wav"]})
    lines = [f"{number} {name} 90,00 80,00" for number, name in enumerate(names, 1)]
    rates.write_text(
        "\n".join(["Nr. Satz erkannt natuerlich", *lines]) + "\n", encoding="iso-8859-1"
    )
    experiment = reproduction.load_reproduced_experiment(options(toy_given, tmp_path))
    rows = [{"id": clip, "emotion": "anger"} for clip in [*ids, "s9/extra.wav"]]
    held = SimpleNamespace(emotions={"emodb/audio": ["anger"]}, rows={"emodb/audio": rows})
    sweep = SimpleNamespace(
        held=held, plan=SimpleNamespace(stages=("transfer", "transfer-2"), experiment=experiment)
    )
    pools["transfer", "emodb/audio"].clips += (
        (0, "s9/extra.wav"),
    )  # without a rate: would be refused
    found = results._beside(sweep, "emodb/audio", pools, rates)["listeners"]
    assert found["wa"] == 0.9 and found["clips"] == len({Path(clip).stem for clip in ids})
