"""Builds of clips whose labels are the user's own words."""

import json

import pytest

from helpers import media
from helpers.builds import build_json
from helpers.messages import mentions
from pipelines import build
from pipelines.core.labels import EMOTIONS
from pipelines.records import reader


@pytest.fixture
def clips(tmp_path):
    """A folder of sounds in classes with German, Chinese, English and unknown names."""
    folder = tmp_path / "media"
    for number, label in enumerate(("Angst", "Angst", "快乐", "sad", "smug", "smug")):
        path = folder / label / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        media.write_sound(path, media.noise(0.7, 16_000, seed=number))
    return folder


@pytest.fixture
def label_file(tmp_path):
    path = tmp_path / "labels.toml"
    path.write_text('[labels]\n"Angst" = "fear"\n"快乐" = "joy"\n', encoding="utf-8")
    return path


def arguments(clips, tmp_path, *more):
    return ("--corpus", "folder", "--media", clips, "--out", tmp_path / "out", *more)


def test_own_words_are_built_and_unknown_words_have_one_line_each(
    capsys, tmp_path, clips, label_file
):
    words = arguments(clips, tmp_path, "--labels", label_file)
    status, result, err = build_json(capsys, *words)
    assert status == 0
    assert result["domains"]["audio"]["emotions"] == {"fear": 2, "happiness": 1, "sadness": 1}
    lines = [line for line in err.splitlines() if "smug" in line]
    assert len(lines) == 1
    assert mentions(lines[0], "2 files", "'smug'", "--labels")
    (quarantined, _) = result["domains"]["audio"]["quarantined"]
    assert quarantined["path"] == "smug/4.wav"


def test_other_words_for_the_same_files_build_the_set_again(capsys, tmp_path, clips, label_file):
    build_json(capsys, *arguments(clips, tmp_path, "--labels", label_file))
    label_file.write_text('[labels]\n"Angst" = "anger"\n"快乐" = "joy"\n', encoding="utf-8")
    _, result, _ = build_json(capsys, *arguments(clips, tmp_path, "--labels", label_file))
    assert result["domains"]["audio"]["emotions"] == {"anger": 2, "happiness": 1, "sadness": 1}
    rows = reader.read_manifest(tmp_path / "out/folder/audio")["clips"]
    assert {row["emotion"] for row in rows} == {"anger", "happiness", "sadness"}


def test_mostly_unknown_words_fail_before_a_file_is_decoded(capsys, tmp_path, clips):
    status, result, err = build_json(capsys, *arguments(clips, tmp_path))
    assert (status, result) == (1, None)
    assert mentions(err, "5 of 6 files", "'Angst'", "--labels", "--list-labels")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_published_corpus_takes_no_own_words(capsys, tmp_path, clips, label_file):
    words = ("--corpus", "emodb", "--media", clips, "--out", tmp_path / "out")
    status, _, err = build_json(capsys, *words, "--labels", label_file)
    assert status == 1
    assert mentions(err, "emodb", "labels")


def test_known_words_are_listed(capsys):
    assert build.main(["--list-labels"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(EMOTIONS)
    assert "scared" in lines[EMOTIONS.index("fear")]
    assert build.main(["--list-labels", "--json"]) == 0
    assert "scared" in json.loads(capsys.readouterr().out)["fear"]
