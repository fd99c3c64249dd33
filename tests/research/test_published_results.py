"""The published figures are those of the kept predictions (research/results.py)."""

import copy
import gzip

import pytest

from research import keep_predictions, results, tables

SMALL = {
    "predictions": [
        {
            "file": "emodb.csv.gz",
            "source": "emodb/audio",
            "split": "test",
            "stages": ["emodb"],
            "recalls": True,
        },
        {
            "file": "emodb-updates.csv.gz",
            "source": "emodb/audio",
            "split": "test",
            "stages": ["emodb-updates"],
        },
    ],
    "families": [
        {
            "name": "updates",
            "comparisons": [
                {
                    "name": "more",
                    "first": "emodb-updates",
                    "second": "emodb",
                    "source": "emodb/audio",
                }
            ],
        }
    ],
    "recorded": [
        {
            "name": "earlier",
            "source": "emodb/audio",
            "split": "test",
            "clips": 535,
            "figures": {"ua": [0.5, 0.4, 0.6]},
        }
    ],
    "targets": [{"score": "emodb", "measure": "ua", "targets": [0.7, 0.75, 0.8]}],
    "tables": [],
}
"""Two rows of results and their comparison."""


@pytest.fixture
def changed_predictions(tmp_path):
    """A folder with the predictions of SMALL, one of which is another one than published."""
    for group in SMALL["predictions"]:
        (tmp_path / group["file"]).write_bytes((results.PREDICTIONS / group["file"]).read_bytes())
    path = tmp_path / "emodb.csv.gz"
    rows = keep_predictions.read_rows(path)
    right = next(row for row in rows if row["answer"] == row["emotion"] == "anger")
    right["answer"] = "fear"
    keep_predictions.write_rows(path, rows)
    return tmp_path


@pytest.mark.endurance
def test_every_published_figure_is_that_of_the_kept_predictions():
    assert results.check(results.read_config(), results.PREDICTIONS, results.GOLDEN) == []


def test_published_figures_of_a_row_are_those_of_its_kept_predictions():
    """The row of EMO-DB, with its seeds and recalls; the other rows are under endurance."""
    (group,) = (
        group
        for group in results.read_config()["predictions"]
        if group["file"] == "emodb.csv.gz" and "emodb" in group["stages"]
    )
    config = {**SMALL, "predictions": [group], "families": [], "recorded": []}
    golden = results.read_golden(results.GOLDEN)
    recomputed = results.recompute(config, results.PREDICTIONS)
    expected = {place: golden[place] for place in recomputed}
    assert ("emodb", "ua") in expected
    assert results.differing_figures(expected, recomputed) == []


def test_one_changed_prediction_makes_the_check_fail(
    changed_predictions, tmp_path_factory, monkeypatch, capsys
):
    golden = tmp_path_factory.mktemp("golden") / "results.csv"
    results.write_golden(results.recompute(SMALL, results.PREDICTIONS), golden)
    monkeypatch.setattr(results, "read_config", lambda: SMALL)
    monkeypatch.setattr(results, "GOLDEN", golden)
    monkeypatch.setattr(results, "PREDICTIONS", changed_predictions)
    assert results.main(["--check"]) == 1
    printed = capsys.readouterr().out
    differing = {line.partition(":")[0] for line in printed.splitlines()}
    assert {"emodb, ua", "emodb, wa", "emodb, seed 0, ua", "emodb, recall_anger"} <= differing
    assert {"more, ua", "more, ua_by_speaker"} <= differing
    assert not {name for name in differing if name.startswith(("emodb-updates", "earlier"))}


def test_a_file_that_no_figure_reads_makes_the_check_fail(changed_predictions, tmp_path_factory):
    golden = tmp_path_factory.mktemp("golden") / "results.csv"
    results.write_golden(results.recompute(SMALL, changed_predictions), golden)
    assert results.check(SMALL, changed_predictions, golden) == []
    (changed_predictions / "old.csv.gz").touch()
    (problem,) = results.check(SMALL, changed_predictions, golden)
    assert "old.csv.gz" in problem


def test_a_figure_that_is_missing_or_new_is_reported():
    figures = results.recompute(SMALL, results.PREDICTIONS)
    fewer = {place: figure for place, figure in figures.items() if place != ("emodb", "ua")}
    for first, second in ((figures, fewer), (fewer, figures)):
        (problem,) = results.differing_figures(first, second)
        assert problem.startswith("emodb, ua")


def test_a_family_must_list_all_comparisons_that_are_corrected_together():
    config = copy.deepcopy(SMALL)
    config["families"][0]["comparisons"][0]["source"] = "ravdess/audio"
    with pytest.raises(ValueError, match="comparisons"):
        results.recompute(config, results.PREDICTIONS)


def test_predictions_for_another_split_are_refused():
    config = copy.deepcopy(SMALL)
    config["predictions"][0]["split"] = "validation"
    with pytest.raises(ValueError, match="emodb.csv.gz.*validation"):
        results.recompute(config, results.PREDICTIONS)


def test_kept_files_are_the_same_bytes_again(tmp_path):
    """No file holds a time, a name or a column without information."""
    for path in sorted(results.PREDICTIONS.iterdir()):
        rows = keep_predictions.read_rows(path)
        keep_predictions.write_rows(tmp_path / path.name, rows)
        again = (tmp_path / path.name).read_bytes()
        assert gzip.decompress(again) == gzip.decompress(path.read_bytes())
        assert again[4:8] == path.read_bytes()[4:8] == bytes(4)  # the time in a gzip header


def test_stages_are_taken_under_new_names(tmp_path, capsys):
    table = tmp_path / "answers.csv"
    header = "stage,source,side,protocol,network,seed,fold,id,speaker,emotion,answer,among,stamps,n"
    rows = [
        "a,x/audio,test,p,0,0,0,1.wav,x:1,anger,fear,anger fear,,9",
        "a,x/audio,test,p,0,0,1,2.wav,x:2,fear,anger,anger fear,,9",
        "a,y/audio,test,p,0,0,0,1.wav,y:1,anger,fear,anger fear,,9",
        "b,x/audio,test,p,0,0,0,1.wav,x:1,anger,anger,anger calm fear,,9",
    ]
    table.write_text("\n".join([header, *rows, ""]))
    out = tmp_path / "kept.csv.gz"
    words = [str(table), "--out", str(out), "--take"]
    assert keep_predictions.main([*words, "a:x/audio=first", "b:x/audio"]) == 0
    assert gzip.decompress(out.read_bytes()).decode().splitlines() == [
        "stage,source,side,protocol,fold,id,speaker,emotion,answer,among",
        "first,x/audio,test,p,0,1.wav,x:1,anger,fear,",
        "b,x/audio,test,p,0,1.wav,x:1,anger,anger,anger calm fear",
        "first,x/audio,test,p,1,2.wav,x:2,fear,anger,",
    ]
    assert keep_predictions.main([*words, "c:x/audio"]) == 2
    assert "c:x/audio" in capsys.readouterr().err


def test_cells_of_tables_show_intervals_marks_and_targets():
    figures = results.recompute(SMALL, results.PREDICTIONS)
    lines = [["three seeds", "emodb"], ["before", "earlier"]]
    table = tables.render({"kind": "scores", "heading": "row", "lines": lines}, SMALL, figures)
    header, _, first, second = table.splitlines()
    assert header == "| row | seeds | UA | WA | macro-F1 | target |"
    score = figures["emodb", "ua"]
    assert f"{100 * score.value:.1f} ({100 * score.low:.1f} to {100 * score.high:.1f})" in first
    assert "UA 70 reached, UA 75 reached (interval begins below), UA 80 **missed**" in first
    assert "50.0 (40.0 to 60.0)†" in second


def test_a_table_replaces_the_one_between_its_comments():
    start = "<!-- table scores: written by python -m research.results --write -->"
    page = f"before\n{start}\n| old |\n<!-- end of table scores -->\nafter\n"
    assert tables.replace_table(page, "scores", "| new |") == page.replace("old", "new")
    with pytest.raises(ValueError, match="scores"):
        tables.replace_table("no comments", "scores", "| new |")
