import json

import pytest

from kerasemo.analysis import references
from pipelines.core.errors import DataError, InputError
from pipelines.corpora import emodb

HEADER = "Nr.\tSatz\terkannt\tnatuerlich"


def write_rates(folder, *lines, header=HEADER):
    """Write a file as EMO-DB has it: carriage returns, no-break spaces, decimal commas."""
    path = folder / "erkennung.txt"
    path.write_bytes("\r\n".join([header, *lines, ""]).encode("iso-8859-1"))
    return path


def rate_line(number, file, recognised):
    return f"{number}\xa0 \xa0\t{file}\t{recognised}\xa0 \xa0 \xa0\t35,00\xa0 \xa0 \xa0"


def test_rates_are_read_as_fractions(tmp_path):
    path = write_rates(
        tmp_path,
        rate_line(1, "03a01Ab.wav", "65,00"),
        "",
        rate_line(2, "03a01Fa.wav", "87,50"),
        rate_line(3, "09a01Tc.wav", "0"),
    )
    assert references.read_listener_rates(path) == {"03a01Ab": 0.65, "03a01Fa": 0.875, "09a01Tc": 0}


def test_scores_equal_a_calculation_by_hand():
    """Anger: 1 and 1/2, mean 3/4; fear: 1/4. UA (3/4 + 1/4) / 2; WA (1 + 1/2 + 1/4) / 3."""
    rates = {"a": 1.0, "b": 0.5, "c": 0.25, "other": 0.1}
    scores = references.listener_scores(rates, {"c": "fear", "b": "anger", "a": "anger"})
    assert scores == {
        "clips": 3,
        "ua": 0.5,
        "wa": pytest.approx(7 / 12),
        "recalls": {"anger": 0.75, "fear": 0.25},
    }
    assert list(scores["recalls"]) == ["anger", "fear"]
    assert json.loads(json.dumps(scores)) == scores


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3\t03a01Fa.wav\t90,00", "line 3 .* two percentages.*'3"),
        ("3\t03a01Fa.wav\tmany\t75,00", "line 3 .* two percentages"),
        (rate_line(3, "03a01Fa.wav", "101,00"), "line 3 .* from 0 to 100"),
        (rate_line(3, "03a01Fa.wav", "nan"), "line 3 .* from 0 to 100"),
        (rate_line(3, "03a01Ab.wav", "90,00"), "line 3 .* once"),
    ],
)
def test_malformed_lines_are_refused(tmp_path, line, message):
    path = write_rates(tmp_path, rate_line(1, "03a01Ab.wav", "65,00"), line)
    with pytest.raises(DataError, match=rf"erkennung\.txt: {message}"):
        references.read_listener_rates(path)


def test_files_of_another_format_are_refused(tmp_path):
    path = write_rates(tmp_path, header="id,emotion")
    with pytest.raises(DataError, match="Nr. Satz erkannt natuerlich.* 'id,emotion'"):
        references.read_listener_rates(path)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match=r"empty\.txt: .*first line.*erkennung\.txt"):
        references.read_listener_rates(tmp_path / "empty.txt")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.txt: .*read.*erkennung\.txt"):
        references.read_listener_rates(tmp_path / "nowhere.txt")


def test_clips_without_rates_are_refused():
    emotions = dict.fromkeys("abcdefgh", "fear")
    with pytest.raises(DataError, match=r"\['b', 'c', 'd', 'e', 'f'\] and 2 more"):
        references.listener_scores({"a": 1.0}, emotions)
    with pytest.raises(DataError, match="at least one"):
        references.listener_scores({"a": 1.0}, {})


def test_scores_of_the_listeners_of_emodb_equal_the_published_mean(corpora):
    """The mean rate of the published utterances is 93.5 % (Burkhardt et al. 2005).

    816 utterances were recorded. The 535 published ones were chosen for rates of at least 80 %.
    """
    rates = references.read_listener_rates(corpora / "emodb" / "erkennung.txt")
    clips = {
        clip.path.stem: clip.emotion
        for clip in emodb.find_clips(corpora / "emodb", name="emodb").clips
    }
    assert (len(rates), len(clips)) == (816, 535)
    scores = references.listener_scores(rates, clips)
    assert scores["clips"] == 535
    assert scores["recalls"].keys() == set(clips.values())
    assert scores["wa"] == pytest.approx(0.935, abs=0.001)
    assert min(rates[stem] for stem in clips) == 0.8
    assert scores["ua"] == pytest.approx(sum(scores["recalls"].values()) / 7)
    assert sum(rates.values()) / 816 < 0.86
