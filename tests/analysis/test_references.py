import json

import pytest

from kerasemo.analysis import references
from pipelines.core.errors import DataError, InputError
from pipelines.corpora import emodb

HEADER = "Nr.\tSatz\terkannt\tnatuerlich"


def written(folder, *lines, header=HEADER):
    """A file as EMO-DB's: carriage returns, non-breaking spaces, decimal commas."""
    path = folder / "erkennung.txt"
    path.write_bytes("\r\n".join([header, *lines, ""]).encode("iso-8859-1"))
    return path


def rated(number, file, recognised):
    return f"{number}\xa0 \xa0\t{file}\t{recognised}\xa0 \xa0 \xa0\t35,00\xa0 \xa0 \xa0"


def test_rates_are_read_as_shares(tmp_path):
    path = written(
        tmp_path,
        rated(1, "03a01Ab.wav", "65,00"),
        "",
        rated(2, "03a01Fa.wav", "87,50"),
        rated(3, "09a01Tc.wav", "0"),
    )
    assert references.read_listener_rates(path) == {"03a01Ab": 0.65, "03a01Fa": 0.875, "09a01Tc": 0}


def test_score_by_hand():
    """Anger: 1 and 1/2, mean 3/4; fear: 1/4. UA (3/4 + 1/4) / 2; WA (1 + 1/2 + 1/4) / 3. Clips that were not asked for do not count."""
    rates = {"a": 1.0, "b": 0.5, "c": 0.25, "not published": 0.1}
    score = references.listener_scores(rates, {"c": "fear", "b": "anger", "a": "anger"})
    assert score == {
        "clips": 3,
        "ua": 0.5,
        "wa": pytest.approx(7 / 12),
        "recalls": {"anger": 0.75, "fear": 0.25},
    }
    assert list(score["recalls"]) == ["anger", "fear"] and json.loads(json.dumps(score)) == score


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "3\t03a01Fa.wav\t90,00",
            "line 3 must be a number, a file and two percentages; received '3",
        ),
        ("3\t03a01Fa.wav\tmany\t75,00", "line 3 must be a number, a file and two percentages"),
        (
            rated(3, "03a01Fa.wav", "101,00"),
            "line 3 must give the percentage of a file, from 0 to 100, once",
        ),
        (
            rated(3, "03a01Fa.wav", "nan"),
            "line 3 must give the percentage of a file, from 0 to 100, once",
        ),
        (
            rated(3, "03a01Ab.wav", "90,00"),
            "line 3 must give the percentage of a file, from 0 to 100, once",
        ),
    ],
)
def test_malformed_lines_are_refused(tmp_path, line, message):
    with pytest.raises(DataError, match=f"erkennung.txt: {message}"):
        references.read_listener_rates(written(tmp_path, rated(1, "03a01Ab.wav", "65,00"), line))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(
        DataError,
        match="first line must be Nr. Satz erkannt natuerlich; received 'id,emotion'; give EMO-DB's",
    ):
        references.read_listener_rates(written(tmp_path, header="id,emotion"))
    with pytest.raises(InputError, match="cannot be read.* give EMO-DB's erkennung.txt"):
        references.read_listener_rates(tmp_path / "nowhere.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises((DataError, InputError), match="empty"):
        references.read_listener_rates(tmp_path / "empty.txt")


def test_clips_without_rates_are_refused():
    emotions = dict.fromkeys(["a", *"bcdefgh"], "fear")
    with pytest.raises(
        DataError,
        match=r"every clip, at least one.* \['b', 'c', 'd', 'e', 'f'\] and 2 more",
    ):
        references.listener_scores({"a": 1.0}, emotions)
    with pytest.raises(DataError, match="at least one"):
        references.listener_scores({"a": 1.0}, {})


def test_the_listeners_of_emodb(corpora):
    """816 were recorded. The 535 that were published were chosen for rates of at least 80 % (Burkhardt et al. 2005); the published mean
    of theirs is 93.5 %."""
    rates = references.read_listener_rates(corpora / "emodb" / "erkennung.txt")
    clips = {
        clip.path.stem: clip.emotion
        for clip in emodb.find_clips(corpora / "emodb", name="emodb").clips
    }
    assert len(rates) == 816 and len(clips) == 535
    score = references.listener_scores(rates, clips)
    assert score["clips"] == 535 and score["recalls"].keys() == set(clips.values())
    assert (
        score["wa"] == pytest.approx(0.935, abs=0.001) and min(rates[stem] for stem in clips) == 0.8
    )
    assert (
        score["ua"] == pytest.approx(sum(score["recalls"].values()) / 7)
        and sum(rates.values()) / 816 < 0.86
    )
