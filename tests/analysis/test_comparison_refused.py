"""Files of answers that are not alike, or not there: what can be compared is, and the rest is refused in words."""

import gzip

import pytest

from helpers.answer_files import FOUR, NEEDED, as_json, clips, refused, write
from kerasemo import compare


def test_what_is_not_alike_is_not_compared(tmp_path, capsys):
    """Neither other clips, nor the same ones of other emotions or other speakers; the scores are printed all the same."""
    rows = clips(0.7, seed=1)

    def of(name, changed):
        return write(
            tmp_path / f"{name}.csv", [changed(place, *row) for place, row in enumerate(rows)]
        )

    whole = of("whole", lambda place, *row: row)
    part = write(tmp_path / "part.csv", rows[:-1])
    text = refused(capsys, whole, part)
    assert "1 clips, for example 'clip119', are missing in the second" in text
    assert "'clip119', are missing in the first" in refused(capsys, part, whole)
    names = of("names", lambda place, clip, *row: (f"{clip}.wav", *row))
    text = refused(capsys, whole, names)
    assert "120 clips, for example 'clip0', are missing in the second" in text
    assert "'clip0.wav'" in text
    truth = of(
        "truth",
        lambda place, clip, who, truth, answer: (
            clip,
            who,
            FOUR[(FOUR.index(truth) + (place > 100)) % 4],
            answer,
        ),
    )
    text = refused(capsys, whole, truth)
    assert all(word in text for word in ("'clip101'", "fear", "happiness", "mine:5"))
    moved = of("moved", lambda place, clip, who, *row: (clip, f"mine:{5 - int(who[5:])}", *row))
    text = refused(capsys, whole, moved)
    assert all(word in text for word in ("'clip0'", "mine:0", "mine:5"))
    missing = write(tmp_path / "missing.csv", [row for row in rows if row[2] != "anger"])
    assert "30 clips, for example 'clip0'" in refused(capsys, whole, missing)
    assert compare.main([str(whole), str(part)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "whole" in text and "119" in text and "t over 6 speakers" in text


def test_speakers_that_one_file_does_not_name_are_those_of_the_other(tmp_path, capsys):
    rows, others = clips(0.7, seed=1), clips(0.4, seed=2)
    whole, other = write(tmp_path / "whole.csv", rows), write(tmp_path / "other.csv", others)
    nobody = write(tmp_path / "nobody.csv", [(row[0], "", *row[2:]) for row in others])
    expected = as_json(capsys, whole, other)["comparisons"][0]["ua"]
    for paths, sign in (((whole, nobody), 1), ((nobody, whole), -1)):
        found = as_json(capsys, *paths)
        assert found["comparisons"][0]["ua"]["p"] == expected["p"]
        assert found["comparisons"][0]["ua"]["difference"] == pytest.approx(
            sign * expected["difference"]
        )
    row = found["rows"][0]
    assert row["interval"]["ua"]["method"] == "bootstrap over 120 clips" and not row["by_speaker"]
    again = write(tmp_path / "again.csv", [(row[0], "", *row[2:]) for row in rows])
    (found,) = as_json(capsys, nobody, again)["comparisons"]  # clip by clip, where nobody names any
    assert "over 120 clips" in found["ua"]["method"] and found["ua"]["difference"] < 0
    alone = write(tmp_path / "alone.csv", [(row[0], "mine:0", *row[2:]) for row in rows])
    assert "at least 2 speakers" in refused(capsys, alone, nobody)


@pytest.mark.parametrize(
    ("column", "said"),
    [("side", ("test", "validation")), ("protocol", ("speaker-independent", "speaker-dependent"))],
)
def test_other_sides_and_protocols_are_not_compared(tmp_path, capsys, column, said):
    paths = [
        write(
            tmp_path / f"{word}.csv",
            [(*row, word) for row in clips(0.7, seed=1)],
            (*NEEDED, column),
        )
        for word in said
    ]
    text = refused(capsys, *paths)
    kind = {"side": "split", "protocol": "protocol"}[column]
    assert f"different {kind}s: {said[0]} and {said[1]}" in text
    unsaid = write(tmp_path / "unsaid.csv", clips(0.7, seed=1))
    assert compare.main([str(paths[1]), str(unsaid)]) == 0
    assert ("a little too high" in capsys.readouterr().out) == (column == "side")


def test_one_comparison_that_cannot_be_made_leaves_the_others(tmp_path, capsys):
    names, rows = ("stage", "source", *NEEDED), clips(0.7, seed=1)
    alone = write(tmp_path / "alone.csv", [("alone", "savee/audio", *row) for row in rows], names)
    other = write(tmp_path / "other.csv", [("other", "emodb/audio", *row) for row in rows], names)
    text = refused(capsys, alone, other)
    assert "no common source ('savee/audio' and 'emodb/audio')" in text
    again = write(tmp_path / "again.csv", [("again", "savee/audio", *row) for row in rows], names)
    found = as_json(capsys, alone, other, again)["comparisons"]
    assert "refused" in found[0] and found[1]["ua"]["p"] == found[1]["ua"]["p_holm"] == 1
    escape = write(
        tmp_path / "escape.csv", [("\x1b[31mred", "savee/audio", *row) for row in rows], names
    )
    assert compare.main([str(escape)]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_stages_that_are_not_there_are_told(tmp_path, capsys):
    path = write(
        tmp_path / "answers.csv",
        [("joint", *row) for row in clips(0.7, seed=1)],
        ("stage", *NEEDED),
    )
    for words, told in (
        ([f"{path}:pooled"], "no stage 'pooled'; expected one of joint"),
        ([f"{tmp_path}/none.csv:joint"], "none.csv:joint: no such file"),
        ([f"{tmp_path}/{'long' * 100}.csv"], "name too long"),
        ([str(tmp_path)], "a folder"),
    ):
        assert compare.main(words) == 1
        assert told in capsys.readouterr().err.replace("File name", "name")
    with pytest.raises(SystemExit) as usage:
        compare.main(["answers.csv:"])
    assert usage.value.code == 2 and "expected FILE or FILE:STAGE" in capsys.readouterr().err


def test_a_compressed_file_is_read_and_a_broken_one_is_told(tmp_path, capsys):
    whole = write(tmp_path / "whole.csv", clips(0.7, seed=1))
    packed = tmp_path / "whole.csv.gz"
    packed.write_bytes(gzip.compress(whole.read_bytes()))
    (own,), (again,) = (as_json(capsys, path)["rows"] for path in (whole, packed))
    assert own == again and own["stage"] == "whole"
    for content, told in (
        (packed.read_bytes()[:-200], "end-of-stream"),
        (whole.read_bytes(), "not a gzipped file"),
    ):
        broken = tmp_path / "broken.csv.gz"
        broken.write_bytes(content)
        assert compare.main([str(broken)]) == 1
        error = capsys.readouterr().err.lower()
        assert (
            "broken.csv.gz: " in error
            and "gzip" in error
            and told in error
            and "traceback" not in error
        )
    broken.write_bytes(packed.read_bytes()[:40] + b"\xff" * 40 + packed.read_bytes()[80:])
    assert compare.main([str(broken)]) == 1
    assert "broken.csv.gz: " in capsys.readouterr().err
