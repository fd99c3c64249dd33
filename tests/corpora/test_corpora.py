"""What holds for every loader: wrong words, names, links and the order of a directory."""

import functools
import os
import random

import pytest

from helpers.layouts import lay_files, only, reason
from helpers.messages import mentions
from pipelines.core.errors import InputError
from pipelines.corpora import find_clips


@pytest.fixture
def lay(tmp_path):
    """A function that makes empty files in a folder and returns the folder."""
    return functools.partial(lay_files, tmp_path)


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        ({"kind": "iemocap"}, "corpus.*enterface, savee, .*; received 'iemocap'"),
        ({"media": "gone"}, "folder.*holds wav/.*does.*exist"),
        ({"media": "03a01Wa.wav"}, "must be a folder .*; it is a file"),
        ({"name": "a/b"}, "name.*letters, .*; received 'a/b'"),
        ({"name": ""}, "name.*letters"),
        ({"domains": ("sound",)}, "domains.*some.*visual, audio; received sound"),
        ({"domains": ()}, "domains.*some.*visual, audio; received none"),
        (
            {"domains": ("visual",)},
            "no visual clip.*emodb .*found 1 audio clip, but none.*requested domains",
        ),
        ({"song": True}, "corpus emodb.*no option 'song'"),
        (
            {"kind": "savee"},
            "no visual.*audio clip.*savee.*such.*03a01Wa.wav .name.*SAVEE's",
        ),
        ({"media": "empty"}, "found no file; name the folder"),
        ({"media": "papers"}, "found 1 file, none.*layout.*readme.txt"),
    ],
)
def test_wrong_argument_is_one_line(lay, words, pattern):
    media = lay("03a01Wa.wav", "papers/readme.txt")
    (media / "empty").mkdir()
    words = {"kind": "emodb", **words, "media": media / words.get("media", "")}
    with pytest.raises(InputError, match=pattern) as error:
        find_clips(words.pop("kind"), words.pop("media"), **words)
    assert "\n" not in str(error.value)


def test_only_songs_says_why_nothing_is_found(lay):
    with pytest.raises(InputError, match=r"1 song file.*song"):
        find_clips("ravdess", lay("Actor_01/03-02-03-01-01-01-01.wav"))


def test_name_is_in_corpus_speaker_and_utterance(lay):
    clip = only(find_clips("emodb", lay("03a01Wa.wav"), name="berlin-2"))
    assert (clip.corpus, clip.speaker, clip.utterance) == (
        "berlin-2",
        "berlin-2:03",
        "berlin-2:03:anger:a01:a",
    )


def test_a_name_that_is_not_utf8_is_rejected(lay):
    media = lay("03a01Wa.wav")
    try:
        (media / os.fsdecode(b"03a01W\xfc.wav")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found_clips = find_clips("emodb", media)
    assert (len(found_clips.clips), found_clips.rejects[0].id) == (1, r"03a01W\udcfc.wav")
    assert mentions(reason(found_clips), "UTF-8", "rename")


def test_links_are_followed_without_end(lay):
    media = lay("real/joy/a.wav", "set/readme.txt")
    (media / "set/joy").symlink_to(media / "real/joy")
    (media / "real/joy/loop").symlink_to(media / "set")
    assert [clip.id for clip in find_clips("folder", media / "set").clips] == ["joy/a.wav"]


def test_nothing_depends_on_the_order_of_the_directory(lay, monkeypatch):
    media = lay(
        *(
            f"b {n}/Actor_0{n}/03-01-0{e}-01-01-01-0{n}.wav"
            for n in range(1, 6)
            for e in range(1, 9)
        ),
        *(f"b/Actor_0{n}/03-01-0{e}-01-01-01-0{n}.mp4" for n in range(3, 8) for e in range(1, 10)),
    )
    expected = find_clips("ravdess", media)
    assert [clip.id for clip in expected.clips] == sorted(clip.id for clip in expected.clips)
    assert len(expected.defects) == 1 and expected.rejects
    scandir, chance = os.scandir, random.Random(0)

    class Shuffled:
        """What os.scandir returns, in another order each time."""

        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: chance.random())

        def __next__(self):
            if not self.entries:
                raise StopIteration
            return self.entries.pop()

        def __iter__(self):
            return self

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    for _ in range(3):
        assert find_clips("ravdess", media) == expected
