"""Files that do not match or cannot be read: the rest is scored, and the reason is shown."""

import gzip

import pytest

from helpers.prediction_files import (
    FOUR_EMOTIONS,
    compared_json,
    random_rows,
    refusal,
    write_rows,
)
from kerasemo import compare
from kerasemo.analysis.prediction_tables import REQUIRED_COLUMNS

SOURCE_COLUMNS = ("stage", "source", *REQUIRED_COLUMNS)


@pytest.fixture
def rows():
    return random_rows(0.7, seed=1)


@pytest.fixture
def complete(tmp_path, rows):
    return write_rows(tmp_path / "complete.csv", rows)


def test_files_with_other_clips_are_refused(tmp_path, capsys, rows, complete):
    shorter = write_rows(tmp_path / "shorter.csv", rows[:-1])
    for paths, name in (((complete, shorter), "second"), ((shorter, complete), "first")):
        message = refusal(capsys, *paths)
        assert "1 clips" in message
        assert "'clip119'" in message
        assert name in message
    without_anger = [row for row in rows if row[2] != "anger"]
    message = refusal(capsys, complete, write_rows(tmp_path / "missing.csv", without_anger))
    assert "30 clips" in message
    assert "'clip0'" in message


def test_files_with_other_ids_are_refused_with_an_id_of_both(tmp_path, capsys, rows, complete):
    renamed = [(f"{clip}.wav", *values) for clip, *values in rows]
    message = refusal(capsys, complete, write_rows(tmp_path / "renamed.csv", renamed))
    assert "120 clips" in message
    assert "'clip0'" in message
    assert "'clip0.wav'" in message


def test_files_with_other_labels_are_refused(tmp_path, capsys, rows, complete):
    relabelled = [
        (clip, speaker, FOUR_EMOTIONS[(FOUR_EMOTIONS.index(label) + (index > 100)) % 4], prediction)
        for index, (clip, speaker, label, prediction) in enumerate(rows)
    ]
    message = refusal(capsys, complete, write_rows(tmp_path / "relabelled.csv", relabelled))
    assert "'clip101' is fear by mine:5 and happiness by mine:5" in message


def test_files_with_other_speakers_are_refused(tmp_path, capsys, rows, complete):
    moved = [(clip, f"mine:{5 - int(speaker[5:])}", *values) for clip, speaker, *values in rows]
    message = refusal(capsys, complete, write_rows(tmp_path / "moved.csv", moved))
    assert "'clip0' is anger by mine:0 and anger by mine:5" in message


def test_scores_are_shown_where_the_comparison_is_refused(tmp_path, capsys, rows, complete):
    shorter = write_rows(tmp_path / "shorter.csv", rows[:-1])
    assert compare.main([str(complete), str(shorter)]) == 1
    text = capsys.readouterr().out
    for word in ("complete", "119", "t over 6 speakers"):
        assert word in text


def without_speakers(rows):
    return [(clip, "", *emotions) for clip, _, *emotions in rows]


def test_a_file_without_speakers_takes_those_of_the_other_file(tmp_path, capsys, complete):
    other_rows = random_rows(0.4, seed=2)
    with_speakers = write_rows(tmp_path / "other.csv", other_rows)
    unnamed = write_rows(tmp_path / "unnamed.csv", without_speakers(other_rows))
    expected = compared_json(capsys, complete, with_speakers)["comparisons"][0]["ua"]
    for paths, sign in (((complete, unnamed), 1), ((unnamed, complete), -1)):
        difference = compared_json(capsys, *paths)["comparisons"][0]["ua"]
        assert difference["p"] == expected["p"]
        assert difference["difference"] == pytest.approx(sign * expected["difference"])
    scores = compared_json(capsys, unnamed)["rows"][0]
    assert scores["interval"]["ua"]["method"] == "bootstrap over 120 clips"
    assert scores["by_speaker"] == {}


def test_files_without_speakers_are_compared_clip_by_clip(tmp_path, capsys, rows):
    paths = [
        write_rows(tmp_path / name, without_speakers(of_file))
        for name, of_file in (("poor.csv", random_rows(0.4, seed=2)), ("good.csv", rows))
    ]
    (comparison,) = compared_json(capsys, *paths)["comparisons"]
    assert "over 120 clips" in comparison["ua"]["method"]
    assert comparison["ua"]["difference"] < 0


def test_files_with_one_speaker_are_refused(tmp_path, capsys, rows):
    one_speaker = [(clip, "mine:0", *emotions) for clip, _, *emotions in rows]
    paths = [
        write_rows(tmp_path / "one.csv", one_speaker),
        write_rows(tmp_path / "unnamed.csv", without_speakers(rows)),
    ]
    assert "at least 2 speakers" in refusal(capsys, *paths)


@pytest.mark.parametrize(
    ("column", "name", "values"),
    [
        ("side", "split", ("test", "validation")),
        ("protocol", "protocol", ("speaker-independent", "speaker-dependent")),
    ],
)
def test_files_with_other_splits_or_protocols_are_refused(
    tmp_path, capsys, rows, column, name, values
):
    paths = [
        write_rows(
            tmp_path / f"{value}.csv", [(*row, value) for row in rows], (*REQUIRED_COLUMNS, column)
        )
        for value in values
    ]
    message = refusal(capsys, *paths)
    assert f"different {name}s" in message
    assert f"{values[0]} and {values[1]}" in message


@pytest.mark.parametrize(
    ("column", "value", "is_marked"),
    [("side", "validation", True), ("protocol", "speaker-dependent", False)],
)
def test_a_file_that_names_no_split_is_compared_and_validation_scores_are_marked(
    tmp_path, capsys, rows, complete, column, value, is_marked
):
    columns = (*REQUIRED_COLUMNS, column)
    path = write_rows(tmp_path / "marked.csv", [(*row, value) for row in rows], columns)
    assert compare.main([str(path), str(complete)]) == 0
    assert ("too high" in capsys.readouterr().out) == is_marked


@pytest.fixture
def source_file(tmp_path, rows):
    """Return a function that writes one stage for one source."""

    def write(stage, source):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        return write_rows(path, [(stage, source, *row) for row in rows], SOURCE_COLUMNS)

    return write


def test_files_without_a_common_source_are_refused(source_file, capsys):
    message = refusal(
        capsys, source_file("first", "savee/audio"), source_file("second", "emodb/audio")
    )
    assert "'savee/audio' and 'emodb/audio'" in message


def test_a_refused_comparison_leaves_the_others(source_file, capsys):
    refused, compared = compared_json(
        capsys,
        source_file("first", "savee/audio"),
        source_file("second", "emodb/audio"),
        source_file("third", "savee/audio"),
    )["comparisons"]
    assert "refused" in refused
    assert compared["ua"]["p"] == compared["ua"]["p_holm"] == 1


def test_control_characters_of_names_are_not_printed(source_file, capsys):
    assert compare.main([str(source_file("\x1b[31mred", "savee/audio"))]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_missing_stages_and_files_are_refused(tmp_path, capsys, rows):
    columns = ("stage", *REQUIRED_COLUMNS)
    path = write_rows(tmp_path / "answers.csv", [("joint", *row) for row in rows], columns)
    for argument, message in (
        (f"{path}:pooled", "no stage 'pooled'; expected one of joint"),
        (f"{tmp_path}/none.csv:joint", "none.csv:joint: no such file"),
        (f"{tmp_path}/{'long' * 100}.csv", "name too long"),
        (str(tmp_path), "folder"),
    ):
        assert compare.main([argument]) == 1
        assert message.lower() in capsys.readouterr().err.lower()


def test_an_empty_stage_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as usage:
        compare.main(["answers.csv:"])
    assert usage.value.code == 2
    assert "FILE:STAGE" in capsys.readouterr().err


def test_a_gzip_file_is_scored_as_the_plain_file(tmp_path, capsys, complete):
    compressed = tmp_path / "complete.csv.gz"
    compressed.write_bytes(gzip.compress(complete.read_bytes()))
    (plain,), (of_gzip,) = (compared_json(capsys, path)["rows"] for path in (complete, compressed))
    assert of_gzip == plain
    assert plain["stage"] == "complete"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda plain, compressed: compressed[:-200], "end-of-stream"),
        (lambda plain, compressed: plain, "not a gzipped file"),
        (lambda plain, compressed: compressed[:40] + b"\xff" * 40 + compressed[80:], ""),
    ],
    ids=["truncated", "not compressed", "overwritten"],
)
def test_a_damaged_gzip_file_is_refused(tmp_path, capsys, complete, damage, message):
    plain = complete.read_bytes()
    damaged = tmp_path / "damaged.csv.gz"
    damaged.write_bytes(damage(plain, gzip.compress(plain)))
    assert compare.main([str(damaged)]) == 1
    error = capsys.readouterr().err.lower()
    assert "damaged.csv.gz: " in error
    assert message in error
    assert "traceback" not in error
