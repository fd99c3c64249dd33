"""The loader of any labelled media: class folders and CSV manifests, on empty files."""

import functools

import pytest

from helpers.layouts import count, lay_files, reason
from helpers.messages import key_words, mentions
from pipelines.core.errors import DataError, InputError
from pipelines.core.labels import LabelMap
from pipelines.corpora import find_clips


@pytest.fixture
def lay(tmp_path):
    """A function that makes empty files in a folder and returns the folder."""
    return functools.partial(lay_files, tmp_path)


# Class folders


def test_class_folders_with_the_publishers_split(lay):
    media = lay(
        "train/angry/a.jpg",
        "val/Happy/deep/b.png",
        "TESTING/fear/c.mp4",
        "train/smug/d.jpg",
        "e.jpg",
    )
    found_clips = find_clips("folder", media, name="fer2013")
    assert [(clip.id, clip.domain, clip.emotion, clip.split) for clip in found_clips.clips] == [
        ("TESTING/fear/c.mp4", "visual", "fear", "test"),
        ("TESTING/fear/c.mp4", "audio", "fear", "test"),
        ("train/angry/a.jpg", "visual", "anger", "train"),
        ("val/Happy/deep/b.png", "visual", "happiness", "validation"),
    ]
    assert (
        found_clips.clips[2].utterance == "fer2013:train/angry/a"
        and found_clips.clips[2].speaker == ""
    )
    assert [reject.id for reject in found_clips.rejects] == ["e.jpg", "train/smug/d.jpg"]
    assert found_clips.rejects[0].reason.startswith("lies in no class folder")
    assert found_clips.rejects[1].reason.startswith(
        "unknown emotion 'smug'; expected anger, boredom, calm"
    )


def test_class_folders_without_a_split(lay):
    found_clips = find_clips("folder", lay("joy/a.wav", "joy/a.mp4", "sad/a.wav"))
    assert count(found_clips, "utterance") == {"folder:joy/a": 3, "folder:sad/a": 1}
    assert count(found_clips, "split") == {"": 4}
    lay("test/joy/b.wav")
    with pytest.raises(
        DataError, match="must have a split, or none; 4 of 5 clips have none, such as joy/a.mp4"
    ):
        find_clips("folder", lay())


# Manifests


def test_manifest(lay):
    media = lay("x/a.mp4", "x/b.wav", "c.jpg")
    header = "Path;emotion;speaker;domain;utterance;sentence;take"
    rows = ["x/a.mp4;Joy;ann;;u1;s;t", "", f"{media}/x/./b.wav;sad;;audio", "c.jpg;anger;;;;;"]
    (media / "manifest.csv").write_text("\n".join([header, *rows]), encoding="utf-8-sig")
    for place in (media, media / "manifest.csv"):
        found_clips = find_clips("folder", place, name="mine")
        assert [
            (clip.id, clip.domain, clip.emotion, clip.speaker, clip.utterance)
            for clip in found_clips.clips
        ] == [
            ("c.jpg", "visual", "anger", "", "mine:c"),
            ("x/a.mp4", "visual", "happiness", "mine:ann", "mine:u1"),
            ("x/a.mp4", "audio", "happiness", "mine:ann", "mine:u1"),
            ("x/b.wav", "audio", "sadness", "", "mine:x/b"),
        ]
        assert (found_clips.clips[1].sentence, found_clips.clips[1].take, found_clips.rejects) == (
            "s",
            "t",
            (),
        )


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("gone.wav,joy,,", ("missing",)),
        ("b.wav,smug,,", ("emotion 'smug'", "anger")),
        ("b.wav,joy,dev,", ("split 'dev'", "train, validation or test")),
        ("b.wav,joy,,visual", ("domain 'visual'", "audio")),
        ("../b.wav,joy,,", ("path", "outside")),
        ("/etc/b.wav,joy,,", ("path", "outside")),
        ("./a.wav,sad,,", ("path", "line 2")),
        ("notes.txt,joy,,", ("media", "suffix")),
        (",joy,,", ("no path",)),
        ("b.wav,joy,,,more", ("fields", "'more'")),
    ],
)
def test_bad_row_is_rejected_alone(lay, row, words):
    media = lay("a.wav", "b.wav", "notes.txt")
    (media / "manifest.csv").write_text(
        f"path,emotion,split,domain\na.wav,joy,,\n{row}\n", encoding="utf-8"
    )
    found_clips = find_clips("folder", media)
    assert [clip.id for clip in found_clips.clips] == ["a.wav"]
    assert mentions(reason(found_clips), "line 3 of manifest.csv", *words)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (
            "path,emotion,mood\na.wav,joy,x\n",
            "name.*columns path.*emotion, .*unknown column 'mood'",
        ),
        ("path\na.wav\n", "no column 'emotion'"),
        ("path,emotion,path\n", "column twice"),
        ("", "no column 'path'"),
        ('path,emotion\n"a.wav,joy\n', "CSV.*line 2"),
        (
            "path,emotion,split\na.wav,joy,train\nb.wav,joy,\n",
            "1 of 2 clips have none, such as b.wav",
        ),
        (b"path,emotion\n\xfc.wav,joy\n", "must be UTF-8, but byte 13 is not"),
    ],
)
def test_a_bad_manifest_is_one_line(lay, text, pattern):
    media = lay("a.wav", "b.wav")
    (media / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=pattern) as error:
        find_clips("folder", media / "manifest.csv")
    assert "\n" not in str(error.value)


def test_a_manifest_without_a_row_holds_no_clip(lay):
    (lay() / "manifest.csv").write_text("path\temotion\n")
    with pytest.raises(InputError, match="found no row.*header"):
        find_clips("folder", lay() / "manifest.csv")


OWN_WORDS = LabelMap({"Angst": "fear", "froh": "happiness", "悲伤": "sadness"})


def test_own_words_in_any_language_name_class_folders(lay):
    media = lay("angst/a.wav", "Froh/b.wav", "悲伤/c.wav", "joy/d.wav")
    found_clips = find_clips("folder", media, labels=OWN_WORDS)
    emotions = {clip.id: clip.emotion for clip in found_clips.clips}
    assert emotions == {
        "angst/a.wav": "fear",
        "Froh/b.wav": "happiness",
        "悲伤/c.wav": "sadness",
        "joy/d.wav": "happiness",
    }


def test_manifest_may_name_label_and_subject(lay):
    media = lay("a.wav", "b.wav")
    (media / "manifest.csv").write_text(
        "path,label,subject\na.wav,Angst,ann\nb.wav,sad,ben\n", encoding="utf-8"
    )
    found_clips = find_clips("folder", media, name="mine", labels=OWN_WORDS)
    assert [(clip.speaker, clip.emotion) for clip in found_clips.clips] == [
        ("mine:ann", "fear"),
        ("mine:ben", "sadness"),
    ]


def test_label_and_emotion_in_one_manifest_are_refused(lay):
    media = lay("a.wav")
    (media / "manifest.csv").write_text("path,label,emotion\na.wav,joy,joy\n", encoding="utf-8")
    with pytest.raises(DataError, match="column twice"):
        find_clips("folder", media)


def test_rejects_keep_the_unknown_label(lay):
    found_clips = find_clips("folder", lay("joy/a.wav", "joy/b.wav", "froh/c.wav"))
    (reject,) = found_clips.rejects
    assert (reject.id, reject.unknown_label) == ("froh/c.wav", "froh")


def test_more_than_half_unknown_labels_are_refused_with_the_remedy(lay):
    media = lay("joy/a.wav", "froh/b.wav", "froh/c.wav", "ernst/d.mp4", "sad/e.wav")
    words = ("3 of 5 files", "'froh' (2)", "'ernst' (1)", "--labels", "--list-labels")
    with pytest.raises(InputError, match=key_words(*words)):
        find_clips("folder", media)


def test_half_unknown_labels_are_accepted(lay):
    found_clips = find_clips("folder", lay("joy/a.wav", "froh/b.wav"))
    assert [clip.id for clip in found_clips.clips] == ["joy/a.wav"]
