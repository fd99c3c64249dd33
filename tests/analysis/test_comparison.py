"""Prediction tables in files are scored and compared, without TensorFlow."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics

from helpers.prediction_files import FOUR_EMOTIONS, compared_json, random_rows, write_rows
from kerasemo import compare
from kerasemo.analysis import differences, prediction_tables
from kerasemo.analysis.prediction_tables import REQUIRED_COLUMNS
from kerasemo.metrics import significance

STAGE_COLUMNS = ("stage", *REQUIRED_COLUMNS)
SOURCE_COLUMNS = ("stage", "source", *REQUIRED_COLUMNS)


def labels_and_predictions(rows):
    return [row[2] for row in rows], [row[3] for row in rows]


def words_of_output(capsys) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_scores_equal_those_of_sklearn(tmp_path, capsys):
    rows_of_stage = {"good": random_rows(0.7, seed=1), "poor": random_rows(0.4, seed=2)}
    paths = [write_rows(tmp_path / f"{name}.csv", rows) for name, rows in rows_of_stage.items()]
    scores_of_stages = compared_json(capsys, *paths)["rows"]
    assert [scores["stage"] for scores in scores_of_stages] == ["good", "poor"]
    for scores, rows in zip(scores_of_stages, rows_of_stage.values(), strict=True):
        labels, predictions = labels_and_predictions(rows)
        expected = {
            "n": 120,
            "emotions": list(FOUR_EMOTIONS),
            "ua": pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predictions)),
            "wa": pytest.approx(sklearn.metrics.accuracy_score(labels, predictions)),
            "macro_f1": pytest.approx(
                sklearn.metrics.f1_score(labels, predictions, average="macro")
            ),
            "confusion": sklearn.metrics.confusion_matrix(
                labels, predictions, labels=FOUR_EMOTIONS
            ).tolist(),
        }
        assert {name: scores[name] for name in expected} == expected
        assert scores["interval"]["ua"]["method"] == "t over 6 speakers"


def test_the_difference_is_the_mean_over_speakers_and_p_counts_sign_flips(tmp_path, capsys):
    rows_of_stage = {"good": random_rows(0.7, seed=1), "poor": random_rows(0.4, seed=2)}
    paths = [write_rows(tmp_path / f"{name}.csv", rows) for name, rows in rows_of_stage.items()]
    (comparison,) = compared_json(capsys, *paths)["comparisons"]
    by_speaker = []
    for speaker in range(6):
        good, poor = (
            sklearn.metrics.balanced_accuracy_score(
                *labels_and_predictions([row for row in rows if row[1] == f"mine:{speaker}"])
            )
            for rows in rows_of_stage.values()
        )
        by_speaker.append(good - poor)
    assert comparison["stages"] == ["good", "poor"]
    assert comparison["ua"]["difference"] == pytest.approx(np.mean(by_speaker))
    sums = [abs(np.dot(signs, by_speaker)) for signs in itertools.product((-1, 1), repeat=6)]
    p = np.mean(np.array(sums) >= abs(sum(by_speaker)) - 1e-9)
    assert comparison["ua"]["p"] == comparison["ua"]["p_holm"] == pytest.approx(p)


def test_p_values_are_corrected_for_the_number_of_comparisons(tmp_path, capsys):
    """Of three p values the smallest counts three times, the next twice; none decreases."""
    paths = [
        write_rows(tmp_path / f"{number}.csv", random_rows(accuracy, seed=number))
        for number, accuracy in enumerate((0.8, 0.1, 0.6, 0.75))
    ]
    comparisons = compared_json(capsys, *paths)["comparisons"]
    p = sorted(comparison["ua"]["p"] for comparison in comparisons)
    expected = np.minimum(np.maximum.accumulate([3 * p[0], 2 * p[1], p[2]]), 1)
    corrected = sorted(comparison["ua"]["p_holm"] for comparison in comparisons)
    assert corrected == pytest.approx(expected)
    assert all(comparison["ua"]["p_holm"] >= comparison["ua"]["p"] for comparison in comparisons)
    assert min(p) < 0.1
    assert len(set(p)) == 3
    assert significance.holm_correction([]) == []


@pytest.fixture
def answers_csv(tmp_path):
    """Write two stages for one source and one of them for another; return the path and the tables."""
    random, path, tables = np.random.default_rng(3), tmp_path / "answers.csv", {}
    labels = random.choice([0, 3, 5, 7], 80)
    for stage, source, accuracy in (
        ("joint", "emodb/audio", 0.7),
        ("pooled", "emodb/audio", 0.3),
        ("joint", "savee/audio", 0.5),
    ):
        pool = prediction_tables.pooled_predictions(
            [(3 * (i // 40), f'a "clip", {i % 40}') for i in range(80)],
            [f"mine:{i // 8}" for i in range(80)],
            labels,
            np.where(random.random((2, 80)) < accuracy, labels, labels[random.permutation(80)]),
            seeds=(0, 1),
        )
        tables[stage, source] = prediction_tables.PredictionTable(
            pool,
            tuple(prediction_tables.EMOTIONS[label] for label in sorted(set(labels))),
            split="test",
            protocol="speaker-independent",
            stamps=("deduplicated: 3", "as published"),
        )
    prediction_tables.write_prediction_tables(path, tables)
    return path, tables


def test_stages_of_one_file_are_compared_as_the_pools_in_memory(answers_csv, capsys):
    path, tables = answers_csv
    document = compared_json(capsys, f"{path}:joint", f"{path}:pooled")
    tables_of_source = [tables[stage, "emodb/audio"] for stage in ("joint", "pooled")]
    expected = differences.difference_of_stages(
        *(table.pool for table in tables_of_source), emotions=tables_of_source[0].emotions
    )
    (comparison,) = document["comparisons"]
    assert comparison["source"] == "emodb/audio"
    assert comparison["ua"]["difference"] == expected["difference"]
    assert comparison["ua"]["p"] == expected["p"] < 0.05
    assert comparison["ua"]["pooled"]["p"] == expected["pooled"]["p"]
    assert [(row["stage"], row["source"]) for row in document["rows"]] == [
        ("joint", "emodb/audio"),
        ("joint", "savee/audio"),
        ("pooled", "emodb/audio"),
    ]


def test_a_file_that_is_given_twice_has_each_stage_once(answers_csv, capsys):
    path, tables = answers_csv
    document = compared_json(capsys, f"{path}:pooled", path)
    assert [comparison["stages"] for comparison in document["comparisons"]] == [["pooled", "joint"]]
    assert len(document["rows"]) == len(tables)
    assert document["rows"][0]["stamps"] == ["deduplicated: 3", "as published"]
    assert document["rows"][0]["side"] == "test"


@pytest.fixture
def two_of_four_emotions(tmp_path):
    """Write predictions of two of four emotions; return the path and the rows."""
    rows = [
        (*row, "anger fear") if row[3] in FOUR_EMOTIONS[:2] else (*row[:3], "fear", "anger fear")
        for row in random_rows(0.8, seed=1)
    ]
    return write_rows(tmp_path / "two.csv", rows, (*REQUIRED_COLUMNS, "among")), rows


def test_emotions_that_cannot_be_predicted_have_recall_0_in_the_scores_of_all_classes_only(
    two_of_four_emotions, tmp_path, capsys
):
    path, rows = two_of_four_emotions
    of_all_emotions = write_rows(tmp_path / "four.csv", random_rows(0.6, seed=2))
    document = compared_json(capsys, path, of_all_emotions)
    scores = document["rows"][0]
    predictable = [row for row in rows if row[2] in FOUR_EMOTIONS[:2]]
    recall = sklearn.metrics.balanced_accuracy_score(*labels_and_predictions(predictable))
    assert (scores["n"], scores["chance"], scores["emotions"]) == (60, 0.5, ["anger", "fear"])
    assert scores["ua"] == pytest.approx(recall)
    assert scores["all_classes"]["ua"] == pytest.approx(recall / 2)
    assert scores["all_classes"]["chance"] == 0.25
    assert document["comparisons"][0]["emotions"] == ["anger", "fear"]


def test_the_terminal_shows_the_score_of_all_classes(two_of_four_emotions, capsys):
    path, _ = two_of_four_emotions
    scores = compared_json(capsys, path)["rows"][0]
    compare.main([str(path)])
    assert f"all 4 classes UA {50 * scores['ua']:.1f}" in words_of_output(capsys)


def test_predictions_of_emotions_without_clips_are_wrong_predictions(tmp_path, capsys):
    rows = [
        (*row[:3], "joy" if row[3] == "sadness" else "bored") for row in random_rows(0.6, seed=2)
    ]
    scores = compared_json(capsys, write_rows(tmp_path / "mine.csv", rows))["rows"][0]
    assert np.sum(scores["confusion"]) == 120
    assert scores["emotions"] == ["anger", "boredom", "fear", "happiness", "sadness"]


@pytest.fixture
def four_stages(tmp_path):
    """Write four stages into a file each, every second in reversed order; return their paths."""
    accuracies = {"scratch-5": 0.4, "after-5": 0.6, "scratch-20": 0.5, "after-20": 0.8}
    paths = []
    for number, (stage, accuracy) in enumerate(accuracies.items()):
        rows = [(stage, *row) for row in random_rows(accuracy, seed=number)]
        step = 1 if number % 2 else -1
        paths.append(write_rows(tmp_path / f"{stage}.csv", rows[::step], STAGE_COLUMNS))
    return paths


def test_pairs_of_stages_are_compared(four_stages, capsys):
    pairs = "after-5:scratch-5,after-20:scratch-20"
    comparisons = compared_json(capsys, *four_stages, "--compare", pairs)["comparisons"]
    assert [comparison["stages"] for comparison in comparisons] == [
        ["after-5", "scratch-5"],
        ["after-20", "scratch-20"],
    ]
    assert all(comparison["ua"]["difference"] > 0 for comparison in comparisons)


@pytest.mark.parametrize(
    ("pairs", "stage"),
    [("after-5:scratch", "scratch"), ("after-5+after:scratch-5", "after")],
)
def test_unknown_stages_of_pairs_are_refused(four_stages, capsys, pairs, stage):
    assert compare.main([*map(str, four_stages), "--compare", pairs]) == 1
    error = capsys.readouterr().err
    assert f"--compare: no stage '{stage}'" in error
    assert "scratch-5, after-5" in error


@pytest.mark.parametrize("pairs", ["after-5", "a:b:c", "a:a", "a:"])
def test_malformed_pairs_are_refused(four_stages, capsys, pairs):
    with pytest.raises(SystemExit):
        compare.main([str(four_stages[0]), "--compare", pairs])
    assert "joint:pooled" in capsys.readouterr().err


def test_the_mean_of_stages_is_compared_speaker_by_speaker(four_stages, capsys):
    pairs = "after-5:scratch-5,after-20:scratch-20,after-5+after-20:scratch-5+scratch-20"
    document = compared_json(capsys, *four_stages, "--compare", pairs)
    *single, of_means = document["comparisons"]
    assert of_means["stages"] == ["after-5+after-20", "scratch-5+scratch-20"]
    for name in ("ua", "wa"):
        for speaker, difference in of_means[name]["speakers"].items():
            mean = np.mean([comparison[name]["speakers"][speaker] for comparison in single])
            assert difference == pytest.approx(mean)
    assert of_means["ua"]["p_holm"] <= 3 * of_means["ua"]["p"] + 1e-9


def test_a_stage_is_compared_with_the_mean_of_two(four_stages, capsys):
    pair = "after-5:scratch-5+scratch-20"
    (comparison,) = compared_json(capsys, *four_stages, "--compare", pair)["comparisons"]
    assert 0 < comparison["ua"]["difference"] < 1


def test_the_mean_of_stages_with_other_clips_is_refused(four_stages, tmp_path, capsys):
    rows = [("less", *row) for row in random_rows(0.5, seed=9)[:-1]]
    path = write_rows(tmp_path / "less.csv", rows, STAGE_COLUMNS)
    paths = [*map(str, four_stages), str(path)]
    assert compare.main([*paths, "--compare", "after-5+less:scratch-5"]) == 1
    assert "'clip119'" in capsys.readouterr().err


@pytest.fixture
def two_sources(tmp_path):
    """Write two stages for two sources with 6 and 4 speakers; return the path."""
    rows_of_stage = {"joint": [], "pooled": []}
    sources = (("emodb/audio", 0.8, 6), ("savee/audio", 0.7, 4))
    for number, (source, accuracy_of_joint, speakers) in enumerate(sources):
        for stage, accuracy in (("joint", accuracy_of_joint), ("pooled", 0.4)):
            seed = 10 * number + len(stage)
            rows_of_stage[stage] += [
                (stage, source, clip, f"{source}:{speaker}", *emotions)
                for clip, speaker, *emotions in random_rows(accuracy, seed=seed, speakers=speakers)
            ]
    rows = [*rows_of_stage["joint"], *rows_of_stage["pooled"]]
    return write_rows(tmp_path / "answers.csv", rows, SOURCE_COLUMNS)


def test_several_sources_are_also_compared_on_their_mean(two_sources, capsys):
    *single, of_mean = compared_json(capsys, two_sources)["comparisons"]
    assert [comparison["source"] for comparison in single] == ["emodb/audio", "savee/audio"]
    assert of_mean["source"] == "emodb/audio + savee/audio"
    mean = np.mean([comparison["ua"]["difference"] for comparison in single])
    assert of_mean["ua"]["difference"] == pytest.approx(mean)
    assert len(of_mean["ua"]["speakers"]) == 10
    for comparison in (*single, of_mean):
        assert comparison["ua"]["p_holm"] >= comparison["ua"]["p"]


def test_the_terminal_shows_the_number_of_comparisons(two_sources, capsys):
    compare.main([str(two_sources)])
    assert "3 comparisons" in words_of_output(capsys)


def test_named_sources_alone_are_scored_and_compared(two_sources, capsys):
    of_all = compared_json(capsys, two_sources)["comparisons"][0]["ua"]
    document = compared_json(capsys, two_sources, "--sources", "emodb/audio")
    assert [row["source"] for row in document["rows"]] == ["emodb/audio"] * 2
    (comparison,) = document["comparisons"]
    assert comparison["ua"]["difference"] == of_all["difference"]
    assert comparison["ua"]["p_holm"] == comparison["ua"]["p"] == of_all["p"]


def test_unknown_and_malformed_sources_are_refused(two_sources, capsys):
    assert compare.main([str(two_sources), "--sources", "emodb/audio,emodb/visual"]) == 1
    error = capsys.readouterr().err
    assert "no source 'emodb/visual'" in error
    assert "'emodb/audio', 'savee/audio'" in error
    with pytest.raises(SystemExit):
        compare.main([str(two_sources), "--sources", "emodb/audio,"])
    assert "'emodb/audio,'" in capsys.readouterr().err


def test_a_file_without_stage_and_source_is_compared_with_one_of_a_reproduction(tmp_path, capsys):
    """The file also has synonyms of emotions, and another order of rows and columns."""
    rows = [("speech", "emodb/audio", *row) for row in random_rows(0.7, seed=1)]
    predictions = write_rows(tmp_path / "answers.csv", rows, SOURCE_COLUMNS)
    synonyms = {"happiness": "Happy", "sadness": "sad"}
    svm_rows = [
        (speaker, clip, *(synonyms.get(emotion, emotion) for emotion in emotions))
        for clip, speaker, *emotions in reversed(random_rows(0.6, seed=5))
    ]
    svm = write_rows(tmp_path / "svm.csv", svm_rows, ("speaker", "id", "emotion", "answer"))
    document = compared_json(capsys, f"{predictions}:speech", svm)
    (comparison,) = document["comparisons"]
    assert comparison["stages"] == ["speech", "svm"]
    assert comparison["source"] == "emodb/audio"
    assert comparison["emotions"] == list(FOUR_EMOTIONS)
    means = [
        np.mean([scores["ua"] for scores in row["by_speaker"].values()]) for row in document["rows"]
    ]
    assert comparison["ua"]["difference"] == pytest.approx(means[0] - means[1])


def test_a_stage_that_is_in_two_files_is_named_by_its_file(tmp_path, capsys):
    rows = [("speech", "emodb/audio", *row) for row in random_rows(0.7, seed=1)]
    (tmp_path / "other").mkdir()
    paths = [
        write_rows(folder / "answers.csv", rows, SOURCE_COLUMNS)
        for folder in (tmp_path, tmp_path / "other")
    ]
    document = compared_json(capsys, *paths)
    assert [row["stage"] for row in document["rows"]] == [f"{path}:speech" for path in paths]
    assert document["comparisons"][0]["ua"]["p"] == 1


def test_compare_does_not_load_tensorflow(tmp_path):
    path = write_rows(tmp_path / "answers.csv", random_rows(0.7, seed=1))
    code = (
        "import sys; from kerasemo import compare; "
        f"compare.main([{str(path)!r}]); print('tensorflow' in sys.modules)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.split()[-1] == "False"
    assert "t over 6 speakers" in process.stdout
    assert "bootstrap" not in process.stdout
