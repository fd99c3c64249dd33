"""Answers that are kept in files: read, scored, compared, without TensorFlow."""

import csv
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as oracle

from kerasemo import answered, compare, intervals, pooled
from pipelines.spec import EMOTIONS, InputError

FOUR = ("anger", "fear", "happiness", "sadness")
NEEDED = ("id", "speaker", "emotion", "answer")


def clips(right: float, *, seed: int, speakers: int = 6, each: int = 20) -> list[tuple[str, str, str, str]]:
    """Return rows of NEEDED: of every speaker as many of each emotion, a share of them answered rightly."""
    draws = np.random.default_rng(seed)
    names = [(f"clip{i}", f"mine:{i // each}", FOUR[i % 4]) for i in range(speakers * each)]
    return [(*name, name[2] if draws.random() < right else FOUR[draws.integers(4)]) for name in names]


def write(path, rows, columns=NEEDED):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def as_json(capsys, *words) -> dict:
    assert compare.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


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
        good, poor = (oracle.balanced_accuracy_score([row[2] for row in own], [row[3] for row in own]) for own in pair)
        differences.append(good - poor)
    assert one["stages"] == ["good", "poor"] and one["ua"]["difference"] == pytest.approx(np.mean(differences))
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product((-1, 1), repeat=6)]
    assert one["ua"]["p"] == pytest.approx(np.mean([flip >= abs(sum(differences)) - 1e-9 for flip in flips]))
    assert one["ua"]["p_holm"] == one["ua"]["p"]


def test_p_values_are_corrected_for_their_number(tmp_path, capsys):
    """Three comparisons: the smallest p counts thrice, the next twice, and none falls below one before it."""
    paths = [write(tmp_path / f"{name}.csv", clips(right, seed=name)) for name, right in enumerate((0.8, 0.1, 0.6, 0.75))]
    found = [one["ua"] for one in as_json(capsys, *paths)["comparisons"]]
    p = sorted(one["p"] for one in found)
    expected = np.minimum(np.maximum.accumulate([3 * p[0], 2 * p[1], p[2]]), 1)
    assert sorted(one["p_holm"] for one in found) == pytest.approx(expected)
    assert all(one["p_holm"] >= one["p"] for one in found) and min(p) < 0.1 and len(set(p)) == 3
    assert intervals.holm([]) == []


def test_what_is_written_is_read_again(tmp_path, capsys):
    """Pools of two stages, two seeds, two folds: each with the scores it had."""
    draws = np.random.default_rng(3)
    labels = np.array([EMOTIONS.index(FOUR[i % 4]) for i in range(80)])

    def pool(right):
        answers = np.where(draws.random((2, 80)) < right, labels, labels[draws.permutation(80)])
        return answered.Pool(
            folds=(0, 3),
            seeds=(0, 1),
            clips=tuple((3 * (i // 40), f'a "clip", {i % 40}') for i in range(80)),
            speakers=tuple(f"mine:{i // 8}" for i in range(80)),
            labels=labels,
            answers=answers,
            without_corpus=np.full_like(answers, -1),
            items=np.zeros((2, 80, len(EMOTIONS)), int),
        )

    pools = {("joint", "emodb/audio"): pool(0.7), ("pooled", "emodb/audio"): pool(0.3), ("joint", "savee/audio"): pool(0.5)}
    answered.write(tmp_path / "answers.csv", pools)
    again = answered.read(tmp_path / "answers.csv")
    assert list(again) == list(pools)
    for place, one in pools.items():
        both = [pooled.score(own, shared=FOUR, corpus=FOUR) for own in (one, again[place])]
        assert both[0] == both[1] and both[0]["networks"] == 2
    found = as_json(capsys, f"{tmp_path / 'answers.csv'}:joint", f"{tmp_path / 'answers.csv'}:pooled")
    expected = pooled.compare(pools["joint", "emodb/audio"], pools["pooled", "emodb/audio"], emotions=FOUR)
    assert [(one["source"], one["ua"]["difference"]) for one in found["comparisons"]] == [("emodb/audio", expected["difference"])]
    assert found["comparisons"][0]["ua"]["p"] == expected["p"] < 0.05
    assert [(row["stage"], row["source"]) for row in found["rows"]] == [*list(pools)[::2], list(pools)[1]]
    whole = as_json(capsys, tmp_path / "answers.csv")
    assert [one["stages"] for one in whole["comparisons"]] == [["joint", "pooled"]] and len(whole["rows"]) == 3


def test_a_file_of_ones_own_meets_that_of_a_reproduction(tmp_path, capsys):
    """It names neither stage nor source, calls happiness happy and has another order. A stage in two files is told by file."""
    rows = clips(0.7, seed=1)
    ours = write(tmp_path / "answers.csv", [("speech", "emodb/audio", *row) for row in rows], ("stage", "source", *NEEDED))
    said = {"happiness": "Happy", "sadness": "sad"}
    own = [(who, clip, said.get(truth, truth), said.get(answer, answer)) for clip, who, truth, answer in reversed(clips(0.6, seed=5))]
    theirs = write(tmp_path / "svm.csv", own, ("speaker", "id", "emotion", "answer"))
    found = as_json(capsys, f"{ours}:speech", theirs)
    (one,) = found["comparisons"]
    assert one["stages"] == ["speech", "svm"] and one["source"] == "emodb/audio" and one["emotions"] == list(FOUR)
    means = [np.mean([own["ua"] for own in row["by_speaker"].values()]) for row in found["rows"]]
    assert one["ua"]["difference"] == pytest.approx(means[0] - means[1])
    (tmp_path / "other").mkdir()
    copy = write(tmp_path / "other" / "answers.csv", [("speech", "emodb/audio", *row) for row in rows], ("stage", "source", *NEEDED))
    twice = as_json(capsys, ours, copy)
    assert [row["stage"] for row in twice["rows"]] == [f"{ours}:speech", f"{copy}:speech"] and twice["comparisons"][0]["ua"]["p"] == 1


def test_what_cannot_be_compared_is_said_and_the_rest_is_printed(tmp_path, capsys):
    rows = clips(0.7, seed=1)
    whole, part = write(tmp_path / "whole.csv", rows), write(tmp_path / "part.csv", rows[:-1])
    nobody = write(tmp_path / "nobody.csv", [(row[0], "", *row[2:]) for row in rows])
    alone = write(tmp_path / "alone.csv", [("alone", "savee/audio", *row) for row in rows], ("stage", "source", *NEEDED))
    other = write(tmp_path / "other.csv", [("other", "emodb/audio", *row) for row in rows], ("stage", "source", *NEEDED))
    assert compare.main([str(whole), str(part)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "not asked about the same" in text and "whole" in text and "119" in text
    assert compare.main([str(nobody), str(whole), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert "at least 2 speakers" in found["comparisons"][0]["refused"]
    assert found["rows"][0]["interval"]["ua"]["method"] == "bootstrap over 120 clips" and not found["rows"][0]["by_speaker"]
    assert compare.main([str(alone), str(other), "--json"]) == 1
    assert "no source that both" in json.loads(capsys.readouterr().out)["comparisons"][0]["refused"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("", "the file is empty"),
        ("id,speaker,emotion\nx,y,anger\n", "no column 'answer' (id, speaker, emotion)"),
        ("id,speaker,emotion,answer\n", "no row below"),
        ("id,speaker,emotion,answer\na,s,anger,fear\nb,s,anger", "line 3: expected 4 cells"),
        ("id,speaker,emotion,answer\na,s,anger,fear,fear\n", "line 2: expected 4 cells"),
        ("id,speaker,emotion,answer\na,s,smug,fear\n", "line 2: emotion 'smug'; expected anger, "),
        ("id,speaker,emotion,answer\na,s,fear,\n", "line 2: answer ''; expected anger, "),
        ("id,speaker,emotion,answer\na,s,fear,fear\na,s,fear,anger\n", "line 3: clip 'a' for the second time"),
        ("id,speaker,emotion,answer,fold\na,s,fear,fear,first\n", "line 2: fold 'first'; expected a whole number"),
        ("id,speaker,emotion,answer,seed\na,s,fear,fear,0\na,s,anger,fear,1\n", "networks 0 and 1 (mine) were not asked about the same"),
        (b"\xff\xfe\x00\x01", "no text of a CSV"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_line(tmp_path, capsys, text, told):
    path = tmp_path / "mine.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        answered.read(path)
    assert told in str(error.value) and str(error.value).startswith(str(path))
    assert compare.main([str(path)]) == 1
    assert told in capsys.readouterr().err


def test_stages_that_are_not_there_or_twice_there_are_told(tmp_path, capsys):
    path = write(tmp_path / "answers.csv", [("joint", *row) for row in clips(0.7, seed=1)], ("stage", *NEEDED))
    for words, told in (
        ([f"{path}:pooled"], "no stage 'pooled'; expected one of joint"),
        ([f"{path}:joint", str(path)], "named twice"),
        ([str(tmp_path)], "a folder"),
    ):
        assert compare.main(words) == 1
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        compare.main([":joint"])
    assert usage.value.code == 2 and "expected FILE or FILE:STAGE" in capsys.readouterr().err


def test_tensorflow_is_not_loaded(tmp_path):
    path = write(tmp_path / "answers.csv", clips(0.7, seed=1))
    code = f"import sys; from kerasemo import compare; compare.main([{str(path)!r}]); print('tensorflow' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split()[-1] == "False" and "bootstrap" not in finished.stdout and "t over 6 speakers" in finished.stdout
