"""Files of answers that others wrote: what is taken, and what is told."""

import pytest

from kerasemo.analysis import prediction_tables
from pipelines.core.errors import DataError, InputError


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "no such file"),
        ("", "the file is empty"),
        ("\n \n", "the file is empty"),
        (
            "id,speaker,emotion\nx,y,anger\n",
            "no column 'answer' among id, speaker, emotion; expected a CSV file",
        ),
        ("id;speaker;emotion;answer\na;s;fear;fear\n", "semicolons"),
        (
            "id,speaker,emotion,answer,Answer\na,s,fear,fear,anger\n",
            "duplicate column 'answer'",
        ),
        (
            "id,speaker,emotion,answer\na,s,fear,fear\n\nb,,fear,fear\n",
            "line 4: no speaker",
        ),
        (
            "id,speaker,emotion,answer,side\na,s,fear,fear,test\nb,s,fear,fear,\n",
            "line 3: side, protocol",
        ),
        (
            "id,speaker,emotion,answer,among\na,s,fear,fear,fear smug\n",
            "among 'smug'; expected some of",
        ),
        ("id,speaker,emotion,answer\n", "no row below"),
        (
            "id,speaker,emotion,answer\na,s,anger,fear\nb,s,anger",
            "line 3: 3 cells, expected 4 as in",
        ),
        ("id,speaker,emotion,answer\na,s,anger,fear,fear\n", "line 2: 5 cells, expected 4"),
        ("id,speaker,emotion,answer\na,s,smug,fear\n", "line 2: emotion 'smug'; expected anger, "),
        ("id,speaker,emotion,answer\na,s,fear,\n", "line 2: answer ''; expected anger, "),
        (
            "id,speaker,emotion,answer\na,s,fear,fear\na,s,fear,anger\n",
            "line 3: duplicate clip 'a'",
        ),
        (
            "id,speaker,emotion,answer,fold\na,s,fear,fear,first\n",
            "line 2: fold 'first'; expected a whole number",
        ),
        (
            f"id,speaker,emotion,answer,seed\na,s,fear,fear,{'1' * 5000}\n",
            "expected a whole number",
        ),
        (
            "id,speaker,emotion,answer,seed\na,s,fear,fear,0\na,s,anger,fear,1\n",
            "the networks of mine with seeds 0 and 1",
        ),
        (b"\xff\xfe\x00\x01", "not a CSV file"),
    ],
)
def test_a_file_that_is_none_is_told_with_its_line(tmp_path, text, told):
    path = tmp_path / "mine.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    error_class = InputError if text is None else DataError
    with pytest.raises(error_class) as error:
        prediction_tables.read_prediction_tables(path)
    assert told in str(error.value) and str(error.value).startswith(str(path))


def test_headers_with_spaces_and_capitals_and_empty_columns_are_taken(tmp_path):
    text = "\ufeff\r\n ID , Speaker,EMOTION,answer,stage,network,seed,fold\r\n a , s, Happy , fear ,,,,\r\n"
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8", newline="")
    (((stage, source), kept),) = prediction_tables.read_prediction_tables(
        tmp_path / "mine.csv"
    ).items()
    assert (stage, source, kept.pool.clips, kept.pool.speakers) == ("mine", "", ((0, "a"),), ("s",))
    assert kept.emotions == ("fear", "happiness")
