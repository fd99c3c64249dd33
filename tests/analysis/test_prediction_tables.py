"""Prediction tables in CSV files: what is read, and what is refused."""

import numpy as np
import pytest

from helpers.prediction_files import FOUR_EMOTIONS
from kerasemo.analysis import pooling, prediction_tables
from pipelines.core.errors import DataError, InputError
from pipelines.core.labels import EMOTIONS

HEADER = "id,speaker,emotion,answer"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        ("id,speaker,emotion\nx,y,anger\n", "no column 'answer' .*expected .* UTF-8"),
        ("id;speaker;emotion;answer\na;s;fear;fear\n", "separator semicolons"),
        (f"{HEADER},Answer\na,s,fear,fear,anger\n", "duplicate column 'answer'"),
        (f"{HEADER}\na,s,fear,fear\n\nb,,fear,fear\n", "line 4: no speaker"),
        (
            f"{HEADER},side\na,s,fear,fear,test\nb,s,fear,fear,\n",
            "line 3: side, protocol, among and stamps",
        ),
        (f"{HEADER},among\na,s,fear,fear,fear smug\n", "among 'smug'; expected .*anger"),
        (f"{HEADER}\n", "no row below"),
        (f"{HEADER}\na,s,anger,fear\nb,s,anger", "line 3: 3 cells, expected 4"),
        (f"{HEADER}\na,s,anger,fear,fear\n", "line 2: 5 cells, expected 4"),
        (f"{HEADER}\na,s,smug,fear\n", "line 2: emotion 'smug'; expected anger, "),
        (f"{HEADER}\na,s,fear,\n", "line 2: answer ''; expected anger, "),
        (f"{HEADER}\na,s,fear,fear\na,s,fear,anger\n", "line 3: duplicate clip 'a'"),
        (f"{HEADER},fold\na,s,fear,fear,first\n", "line 2: fold 'first'; .*whole number"),
        (f"{HEADER},seed\na,s,fear,fear,{'1' * 5000}\n", "line 2: seed .*whole number"),
        (
            f"{HEADER},seed\na,s,fear,fear,0\na,s,anger,fear,1\n",
            "networks of mine with seeds 0 and 1",
        ),
        (b"\xff\xfe\x00\x01", "not a CSV file"),
    ],
)
def test_invalid_files_are_refused_with_path_and_line(tmp_path, text, message):
    path = tmp_path / "mine.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message) as error:
        prediction_tables.read_prediction_tables(path)
    assert str(error.value).startswith(str(path))


def test_a_missing_file_is_refused_with_its_path(tmp_path):
    path = tmp_path / "mine.csv"
    with pytest.raises(InputError, match="no such file") as error:
        prediction_tables.read_prediction_tables(path)
    assert str(error.value).startswith(str(path))


def test_spaces_and_capitals_of_headers_and_empty_columns_are_read(tmp_path):
    path = tmp_path / "mine.csv"
    text = (
        "\ufeff\r\n ID , Speaker,EMOTION,answer,stage,network,seed,fold\r\n"
        " a , s, Happy , fear ,,,,\r\n"
    )
    path.write_text(text, encoding="utf-8", newline="")
    (((stage, source), table),) = prediction_tables.read_prediction_tables(path).items()
    assert (stage, source) == ("mine", "")
    assert (table.pool.clips, table.pool.speakers) == (((0, "a"),), ("s",))
    assert table.emotions == ("fear", "happiness")


def random_pool(random, accuracy):
    """Return predictions of two seeds for 80 clips of two folds."""
    labels = np.array([EMOTIONS.index(FOUR_EMOTIONS[i % 4]) for i in range(80)])
    predictions = np.where(
        random.random((2, 80)) < accuracy, labels, labels[random.permutation(80)]
    )
    return prediction_tables.pooled_predictions(
        [(3 * (i // 40), f'a "clip", {i % 40}') for i in range(80)],
        [f"mine:{i // 8}" for i in range(80)],
        labels,
        predictions,
        seeds=(0, 1),
        open_predictions=np.where(
            random.random((2, 80)) < 0.5, predictions, EMOTIONS.index("surprise")
        ),
    )


def test_written_tables_are_read_with_equal_scores(tmp_path):
    random = np.random.default_rng(3)
    keys = [("joint", "emodb/audio"), ("pooled", "emodb/audio"), ("joint", "savee/audio")]
    facts = {
        "split": "test",
        "protocol": "speaker-independent",
        "stamps": ("deduplicated: 3", "as published"),
    }
    tables = {
        key: prediction_tables.PredictionTable(
            random_pool(random, accuracy), FOUR_EMOTIONS, **facts
        )
        for key, accuracy in zip(keys, (0.7, 0.3, 0.5), strict=True)
    }
    path = tmp_path / "answers.csv"
    prediction_tables.write_prediction_tables(path, tables)
    tables_read = prediction_tables.read_prediction_tables(path)
    assert list(tables_read) == keys
    for key, table in tables.items():
        for name in ("emotions", *facts):
            assert getattr(tables_read[key], name) == getattr(table, name)
        scores, scores_read = (
            pooling.score_pool(prediction_table.pool, shared=FOUR_EMOTIONS, corpus=FOUR_EMOTIONS)
            for prediction_table in (table, tables_read[key])
        )
        assert scores_read == scores
        assert scores["networks"] == 2
        assert scores["without_corpus"]["ua"] < scores["ua"]
