"""Answers that are kept in files: read, scored, compared, without TensorFlow."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as oracle

from helpers.answer_files import FOUR, NEEDED, as_json, clips, write
from kerasemo import compare
from kerasemo.analysis import differences as differences_module
from kerasemo.analysis import pooling, prediction_tables
from kerasemo.metrics import significance
from pipelines.core.labels import EMOTIONS


def test_scores_are_those_of_scikit_learn_and_differences_those_of_the_speakers(tmp_path, capsys):
    rows = {"good": clips(0.7, seed=1), "poor": clips(0.4, seed=2)}
    paths = {name: write(tmp_path / f"{name}.csv", own) for name, own in rows.items()}
    found = as_json(capsys, *paths.values())
    for row, (name, own) in zip(found["rows"], rows.items(), strict=True):
        truth, answers = [one[2] for one in own], [one[3] for one in own]
        assert (row["stage"], row["n"], row["emotions"]) == (name, 120, list(FOUR))
        assert row["ua"] == pytest.approx(oracle.balanced_accuracy_score(truth, answers))
        assert row["wa"] == pytest.approx(oracle.accuracy_score(truth, answers))
        assert row["macro_f1"] == pytest.approx(oracle.f1_score(truth, answers, average="macro"))
        assert row["confusion"] == oracle.confusion_matrix(truth, answers, labels=FOUR).tolist()
        assert row["interval"]["ua"]["method"] == "t over 6 speakers"
    (one,) = found["comparisons"]
    differences = []
    for who in range(6):
        pair = [[row for row in own if row[1] == f"mine:{who}"] for own in rows.values()]
        good, poor = (
            oracle.balanced_accuracy_score([row[2] for row in own], [row[3] for row in own])
            for own in pair
        )
        differences.append(good - poor)
    assert one["stages"] == ["good", "poor"] and one["ua"]["difference"] == pytest.approx(
        np.mean(differences)
    )
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=6)]
    assert one["ua"]["p"] == pytest.approx(
        np.mean([flip >= abs(sum(differences)) - 1e-9 for flip in flips])
    )
    assert one["ua"]["p_holm"] == one["ua"]["p"]


def test_p_values_are_corrected_for_their_number(tmp_path, capsys):
    """Three comparisons: the smallest p counts thrice, the next twice, and none falls below one before it."""
    paths = [
        write(tmp_path / f"{name}.csv", clips(right, seed=name))
        for name, right in enumerate((0.8, 0.1, 0.6, 0.75))
    ]
    found = [one["ua"] for one in as_json(capsys, *paths)["comparisons"]]
    p = sorted(one["p"] for one in found)
    expected = np.minimum(np.maximum.accumulate([3 * p[0], 2 * p[1], p[2]]), 1)
    assert sorted(one["p_holm"] for one in found) == pytest.approx(expected)
    assert all(one["p_holm"] >= one["p"] for one in found) and min(p) < 0.1 and len(set(p)) == 3
    assert significance.holm_correction([]) == []


def test_what_is_written_is_read_again(tmp_path, capsys):
    """Pools of two stages, two seeds, two folds: each with the scores it had."""
    draws = np.random.default_rng(3)
    labels = np.array([EMOTIONS.index(FOUR[i % 4]) for i in range(80)])

    def pool(right):
        answers = np.where(draws.random((2, 80)) < right, labels, labels[draws.permutation(80)])
        return prediction_tables.PooledPredictions(
            folds=(0, 3),
            seeds=(0, 1),
            clips=tuple((3 * (i // 40), f'a "clip", {i % 40}') for i in range(80)),
            speakers=tuple(f"mine:{i // 8}" for i in range(80)),
            labels=labels,
            predictions=answers,
            open_predictions=np.where(
                draws.random((2, 80)) < 0.5, answers, EMOTIONS.index("surprise")
            ),
            item_counts=np.zeros((2, 80, len(EMOTIONS)), int),
        )

    pools = {
        ("joint", "emodb/audio"): pool(0.7),
        ("pooled", "emodb/audio"): pool(0.3),
        ("joint", "savee/audio"): pool(0.5),
    }
    facts = {
        "split": "test",
        "protocol": "speaker-independent",
        "stamps": ("deduplicated: 3", "as published"),
    }
    kept = {
        place: prediction_tables.PredictionTable(own, FOUR, **facts) for place, own in pools.items()
    }
    prediction_tables.write_prediction_tables(tmp_path / "answers.csv", kept)
    again = prediction_tables.read_prediction_tables(tmp_path / "answers.csv")
    assert list(again) == list(pools)
    for place, one in kept.items():
        assert all(
            getattr(one, name) == getattr(again[place], name) for name in ("emotions", *facts)
        )
        both = [
            pooling.score_pool(own.pool, shared=FOUR, corpus=FOUR) for own in (one, again[place])
        ]
        assert (
            both[0] == both[1]
            and both[0]["networks"] == 2
            and both[0]["without_corpus"]["ua"] < both[0]["ua"]
        )
    found = as_json(
        capsys, f"{tmp_path / 'answers.csv'}:joint", f"{tmp_path / 'answers.csv'}:pooled"
    )
    expected = differences_module.difference_of_stages(
        pools["joint", "emodb/audio"], pools["pooled", "emodb/audio"], emotions=FOUR
    )
    assert [(one["source"], one["ua"]["difference"]) for one in found["comparisons"]] == [
        ("emodb/audio", expected["difference"])
    ]
    assert (
        found["comparisons"][0]["ua"]["p"] == expected["p"] < 0.05
        and found["comparisons"][0]["ua"]["pooled"]["p"] == expected["pooled"]["p"]
    )
    assert [(row["stage"], row["source"]) for row in found["rows"]] == [
        *list(pools)[::2],
        list(pools)[1],
    ]
    whole = as_json(capsys, f"{tmp_path / 'answers.csv'}:pooled", tmp_path / "answers.csv")
    assert [one["stages"] for one in whole["comparisons"]] == [["pooled", "joint"]] and len(
        whole["rows"]
    ) == 3
    assert (
        whole["rows"][0]["stamps"] == list(facts["stamps"]) and whole["rows"][0]["side"] == "test"
    )


def test_what_could_not_be_answered_counts_in_no_shared_score(tmp_path, capsys):
    """As of a reproduction: a network that knows two of four emotions is scored and compared on their clips, and on all as recall 0."""
    rows = [(*row, "anger fear") for row in clips(0.8, seed=1)]
    rows = [row if row[3] in FOUR[:2] else (*row[:3], "fear", row[4]) for row in rows]
    known = write(tmp_path / "two.csv", rows, (*NEEDED, "among"))
    every = write(tmp_path / "four.csv", clips(0.6, seed=2))
    found = as_json(capsys, known, every)
    two, _ = found["rows"]
    own = [row for row in rows if row[2] in FOUR[:2]]
    assert (two["n"], two["chance"], two["emotions"]) == (60, 0.5, list(FOUR[:2]))
    assert two["ua"] == pytest.approx(
        oracle.balanced_accuracy_score([row[2] for row in own], [row[3] for row in own])
    )
    assert (
        two["all_classes"]["ua"] == pytest.approx(two["ua"] / 2)
        and two["all_classes"]["chance"] == 0.25
    )
    assert found["comparisons"][0]["emotions"] == list(FOUR[:2])
    compare.main([str(known)])
    assert f"over all 4 classes UA {50 * two['ua']:.1f}" in " ".join(
        capsys.readouterr().out.split()
    )
    more = write(
        tmp_path / "more.csv",
        [(*row[:3], "joy" if row[3] == "sadness" else "bored") for row in clips(0.6, seed=2)],
    )
    outside = as_json(capsys, more)["rows"][0]
    assert np.sum(outside["confusion"]) == 120 and outside["emotions"] == [
        "anger",
        "boredom",
        "fear",
        "happiness",
        "sadness",
    ]


def test_pairs_are_chosen(tmp_path, capsys):
    names = ("stage", *NEEDED)
    stages = {"scratch-5": 0.4, "after-5": 0.6, "scratch-20": 0.5, "after-20": 0.8}
    rows = [
        (stage, *row)
        for number, (stage, right) in enumerate(stages.items())
        for row in clips(right, seed=number)
    ]
    path = write(tmp_path / "answers.csv", rows, names)
    found = as_json(capsys, path, "--compare", "after-5:scratch-5,after-20:scratch-20")[
        "comparisons"
    ]
    assert [one["stages"] for one in found] == [
        ["after-5", "scratch-5"],
        ["after-20", "scratch-20"],
    ]
    assert all(one["ua"]["difference"] > 0 for one in found)
    assert compare.main([str(path), "--compare", "after-5:scratch"]) == 1
    assert (
        "--compare: no stage 'scratch' in these files; expected some of scratch-5, after-5"
        in capsys.readouterr().err
    )
    for wrong in ("after-5", "a:b:c", "a:a", "a:"):
        with pytest.raises(SystemExit):
            compare.main([str(path), "--compare", wrong])
        assert "expected pairs of two stages such as joint:pooled" in capsys.readouterr().err


def test_the_mean_of_several_stages_is_compared_speaker_by_speaker(tmp_path, capsys):
    """They may be of several files and in another order."""
    rights = {"scratch-5": 0.4, "after-5": 0.6, "scratch-20": 0.5, "after-20": 0.8}
    paths = {}
    for number, (stage, right) in enumerate(rights.items()):
        rows = [(stage, *row) for row in clips(right, seed=number)]
        paths[stage] = write(
            tmp_path / f"{stage}.csv", rows[:: 1 if number % 2 else -1], ("stage", *NEEDED)
        )
    asked = "after-5:scratch-5,after-20:scratch-20,after-5+after-20:scratch-5+scratch-20"
    *alone, both = as_json(capsys, *paths.values(), "--compare", asked)["comparisons"]
    assert both["stages"] == ["after-5+after-20", "scratch-5+scratch-20"]
    for name in ("ua", "wa"):
        for who, difference in both[name]["speakers"].items():
            assert difference == pytest.approx(
                np.mean([one[name]["speakers"][who] for one in alone])
            )
    assert both["ua"]["p_holm"] <= 3 * both["ua"]["p"] + 1e-9
    (one,) = as_json(capsys, *paths.values(), "--compare", "after-5:scratch-5+scratch-20")[
        "comparisons"
    ]
    assert 0 < one["ua"]["difference"] < 1
    less = write(
        tmp_path / "less.csv",
        [("less", *row) for row in clips(0.5, seed=9)[:-1]],
        ("stage", *NEEDED),
    )
    assert (
        compare.main([str(less), *map(str, paths.values()), "--compare", "after-5+less:scratch-5"])
        == 1
    )
    assert "'clip119', are missing in the second" in capsys.readouterr().err
    assert (
        compare.main([str(less), *map(str, paths.values()), "--compare", "after-5+after:scratch-5"])
        == 1
    )
    assert "no stage 'after' in these files" in capsys.readouterr().err


def test_several_sources_are_compared_together_too_each_counting_alike(tmp_path, capsys):
    names, facts = ("stage", "source", *NEEDED), {"emodb/audio": (0.8, 6), "savee/audio": (0.7, 4)}
    rows = {stage: [] for stage in ("joint", "pooled")}
    for number, (source, (right, speakers)) in enumerate(facts.items()):
        for stage, share in (("joint", right), ("pooled", 0.4)):
            drawn = clips(share, seed=10 * number + len(stage), speakers=speakers)
            rows[stage] += [
                (stage, source, clip, f"{source}:{who}", *said) for clip, who, *said in drawn
            ]
    path = write(tmp_path / "answers.csv", [*rows["joint"], *rows["pooled"]], names)
    *alone, both = as_json(capsys, path)["comparisons"]
    assert [one["source"] for one in alone] == list(facts) and both[
        "source"
    ] == "emodb/audio + savee/audio"
    assert both["ua"]["difference"] == pytest.approx(
        np.mean([one["ua"]["difference"] for one in alone])
    )
    assert len(both["ua"]["speakers"]) == 10 and all(
        one["ua"]["p_holm"] >= one["ua"]["p"] for one in (*alone, both)
    )
    compare.main([str(path)])
    text = " ".join(capsys.readouterr().out.split())
    assert "3 comparisons" in text
    found = as_json(capsys, path, "--sources", "emodb/audio")
    assert [row["source"] for row in found["rows"]] == ["emodb/audio"] * 2
    (one,) = found["comparisons"]
    assert (
        one["ua"]["difference"] == alone[0]["ua"]["difference"]
        and one["ua"]["p_holm"] == one["ua"]["p"] == alone[0]["ua"]["p"]
    )
    assert compare.main([str(path), "--sources", "emodb/audio,emodb/visual"]) == 1
    assert (
        "no source 'emodb/visual' in these files; expected some of 'emodb/audio', 'savee/audio'"
        in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        compare.main([str(path), "--sources", "emodb/audio,"])
    assert (
        "expected names with commas between them; received 'emodb/audio,'"
        in capsys.readouterr().err
    )


def test_a_file_of_ones_own_meets_that_of_a_reproduction(tmp_path, capsys):
    """It names neither stage nor source, calls happiness happy and has another order. A stage in two files is told by file."""
    rows = clips(0.7, seed=1)
    ours = write(
        tmp_path / "answers.csv",
        [("speech", "emodb/audio", *row) for row in rows],
        ("stage", "source", *NEEDED),
    )
    said = {"happiness": "Happy", "sadness": "sad"}
    own = [
        (who, clip, said.get(truth, truth), said.get(answer, answer))
        for clip, who, truth, answer in reversed(clips(0.6, seed=5))
    ]
    theirs = write(tmp_path / "svm.csv", own, ("speaker", "id", "emotion", "answer"))
    found = as_json(capsys, f"{ours}:speech", theirs)
    (one,) = found["comparisons"]
    assert (
        one["stages"] == ["speech", "svm"]
        and one["source"] == "emodb/audio"
        and one["emotions"] == list(FOUR)
    )
    means = [np.mean([own["ua"] for own in row["by_speaker"].values()]) for row in found["rows"]]
    assert one["ua"]["difference"] == pytest.approx(means[0] - means[1])
    (tmp_path / "other").mkdir()
    copy = write(
        tmp_path / "other" / "answers.csv",
        [("speech", "emodb/audio", *row) for row in rows],
        ("stage", "source", *NEEDED),
    )
    twice = as_json(capsys, ours, copy)
    assert [row["stage"] for row in twice["rows"]] == [
        f"{ours}:speech",
        f"{copy}:speech",
    ] and twice["comparisons"][0]["ua"]["p"] == 1


def test_tensorflow_is_not_loaded(tmp_path):
    path = write(tmp_path / "answers.csv", clips(0.7, seed=1))
    code = f"import sys; from kerasemo import compare; compare.main([{str(path)!r}]); print('tensorflow' in sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (
        finished.stdout.split()[-1] == "False"
        and "bootstrap" not in finished.stdout
        and "t over 6 speakers" in finished.stdout
    )
