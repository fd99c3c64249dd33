"""Loaders: names on disk -> clips, on synthesised layouts (empty files: media are never opened) and on real ones."""

import collections
import os
import random
from pathlib import Path

import pytest

from pipelines.corpora import emodb, find_clips
from pipelines.spec import InputError


@pytest.fixture
def lay(tmp_path):
    """A function that makes empty files in a folder and returns the folder."""

    def lay_files(*ids: str) -> Path:
        for id in ids:
            (tmp_path / id).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / id).touch()
        return tmp_path

    return lay_files


def count(found, attribute: str) -> dict[str, int]:
    return dict(collections.Counter(getattr(clip, attribute) for clip in found.clips))


def only(found):
    """The one clip of `found`, which has nothing else."""
    assert not found.rejects and not found.defects
    (clip,) = found.clips
    return clip


def reason(found) -> str:
    """The one reason of all rejects."""
    (text,) = {reject.reason for reject in found.rejects}
    return text


# EMO-DB


@pytest.mark.parametrize("id", ["wav/03a01Wc.wav", "03a01Wc.WAV", "deep/er/03a01Wc.flac"])
def test_emodb_name(lay, id):
    clip = only(find_clips("emodb", lay(id)))
    assert (clip.id, clip.domain, clip.speaker, clip.emotion) == (id, "audio", "emodb:03", "anger")
    assert (clip.utterance, clip.sentence, clip.take) == ("emodb:03:anger:a01:c", "a01", "c")
    assert clip.path.is_file()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("03a01Xa.wav", "unknown emotion letter 'X'; expected W (anger), L (boredom)"),
        ("3a01Wa.wav", "name is not EMO-DB's <speaker><text><emotion><version>.wav"),
        ("03c01Wa.wav", "name is not EMO-DB's"),
        ("03a11Wa.wav", "name is not EMO-DB's"),
        ("03a01Wa copy.wav", "name is not EMO-DB's"),
    ],
)
def test_emodb_rejects_what_it_does_not_understand(lay, bad, said):
    found = find_clips("emodb", lay("03a01Wa.wav", bad))
    assert [(reject.id, reject.domain) for reject in found.rejects] == [(bad, "audio")]
    assert reason(found).startswith(said)


def test_hidden_and_other_files_are_not_listed(lay):
    media = lay("03a01Wa.wav", ".03a01Wb.wav", "._03a01Wa.wav", ".git/03a01Wc.wav", "erkennung.txt", "03a01Wa.png")
    assert only(find_clips("emodb", media)).id == "03a01Wa.wav"


def test_real_emodb(corpora):
    found = find_clips("emodb", corpora / "emodb")
    assert (len(found.clips), found.rejects, found.defects) == (535, (), ())
    letters = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "N": 79, "T": 62}
    assert count(found, "emotion") == {emodb.EMOTIONS[letter]: n for letter, n in letters.items()}
    assert sorted(count(found, "speaker")) == [f"emodb:{n}" for n in ("03", "08", "09", *range(10, 17))]
    assert len(count(found, "utterance")) == 535


# SAVEE


def test_savee_shares_an_utterance_between_sound_and_picture(lay):
    found = find_clips("savee", lay("AudioData/DC/a01.wav", "AudioVisualClip/DC/a01.avi"))
    assert [(clip.id, clip.domain) for clip in found.clips] == [
        ("AudioData/DC/a01.wav", "audio"),
        ("AudioVisualClip/DC/a01.avi", "visual"),
        ("AudioVisualClip/DC/a01.avi", "audio"),
    ]
    assert count(found, "utterance") == {"savee:DC:anger:a01": 3}
    assert count(found, "sentence") == {"a01": 3}


@pytest.mark.parametrize("id", ["KL/su15.wav", "SAVEE/AudioData/KL/su15.WAV", "AudioData/kl/su15.wav"])
def test_savee_layouts(lay, id):
    clip = only(find_clips("savee", lay(id)))
    assert (clip.speaker, clip.emotion, clip.utterance) == ("savee:KL", "surprise", "savee:KL:surprise:su15")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("DC/x01.avi", "unknown emotion code 'x'; expected a (anger)"),
        ("DC/a16.avi", "number 16 is not among SAVEE's 01 to 15 of anger"),
        ("DC/happy.avi", "name is not SAVEE's"),
        ("XX/a01.avi", "folder 'XX' names no speaker; expected DC, JE, JK, KL"),
    ],
)
def test_savee_rejects_in_each_domain(lay, bad, said):
    found = find_clips("savee", lay("DC/n30.wav", bad))
    assert [reject.domain for reject in found.rejects] == ["visual", "audio"]
    assert reason(found).startswith(said)
    assert len(find_clips("savee", lay(), domains=("audio",)).rejects) == 1


# RAVDESS


def test_ravdess_modalities_are_one_utterance(lay):
    files = [f"{modality}-01-06-02-01-02-02.mp4" for modality in ("01", "02")] + ["03-01-06-02-01-02-02.wav"]
    found = find_clips("ravdess", lay(*(f"Actor_02/{file}" for file in files)))
    assert [(clip.id[9:11], clip.domain) for clip in found.clips] == [
        *[("01", "visual"), ("01", "audio"), ("02", "visual"), ("02", "audio"), ("03", "audio")]
    ]
    assert count(found, "utterance") == {"ravdess:01-06-02-01-02-02": 5}
    assert count(found, "speaker") == {"ravdess:02": 5}
    assert (found.clips[0].emotion, found.clips[0].sentence, found.clips[0].take) == ("fear", "01", "02")


def test_ravdess_song_only_when_asked_for(lay):
    media = lay("Actor_01/03-01-03-01-01-01-01.wav", "Actor_01/03-02-03-01-01-01-01.wav")
    found = find_clips("ravdess", media)
    assert [clip.id for clip in found.clips] == ["Actor_01/03-01-03-01-01-01-01.wav"] and not found.rejects
    assert found.defects[0].startswith("1 song files, such as Actor_01/03-02-")
    found = find_clips("ravdess", media, song=True)
    assert len(count(found, "utterance")) == 2 and not found.defects


def test_ravdess_takes_the_actor_from_the_name_and_a_file_once(lay):
    name = "03-01-05-01-01-01-07.wav"
    found = find_clips("ravdess", lay(f"Actor_08/{name}", f"again/Actor_07/{name}"))
    assert count(found, "speaker") == {"ravdess:07": 1}
    assert found.defects == (
        f"1 files, such as again/Actor_07/{name}, left out: copies of a file of the same name",
        f"1 files, such as Actor_08/{name}, in another actor's folder: taken by their names",
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("03-01-05-01-01-01.wav", "name is not RAVDESS's MM-VC-EE-II-SS-RR-AA"),
        ("03-01-05-01-01-01-1.wav", "name is not RAVDESS's"),
        ("04-01-05-01-01-01-01.wav", "modality 04 is not among RAVDESS's 01 to 03"),
        ("03-01-09-01-01-01-01.wav", "emotion 09 is not among RAVDESS's 01 to 08"),
        ("03-01-05-01-01-01-25.wav", "actor 25 is not among RAVDESS's 01 to 24"),
        ("03-03-05-01-01-01-01.wav", "vocal channel 03 is not among"),
    ],
)
def test_ravdess_rejects(lay, bad, said):
    assert reason(find_clips("ravdess", lay("03-01-05-01-01-01-01.wav", bad))).startswith(said)


def test_real_ravdess(corpora):
    found = find_clips("ravdess", corpora / "ravdess")
    assert count(found, "domain") == {"visual": 3, "audio": 723} and not found.rejects and not found.defects
    utterances = {Path(clip.id).stem: clip.utterance for clip in found.clips}
    assert utterances["01-01-01-01-01-01-01"] == utterances["03-01-01-01-01-01-01"]
    assert len(count(found, "utterance")) == 720 and len(count(found, "speaker")) == 12


# CREMA-D


def test_cremad_prefers_wav_to_mp3(lay):
    folders = {"VideoFlash": "flv", "AudioWAV": "wav", "AudioMP3": "mp3"}
    media = lay(*(f"{folder}/1001_IEO_SAD_HI.{end}" for folder, end in folders.items()), "AudioMP3/odd.mp3")
    found = find_clips("cremad", media)
    assert [(clip.id.split("/")[0], clip.domain) for clip in found.clips] == [
        *(("AudioWAV", "audio"), ("VideoFlash", "visual"), ("VideoFlash", "audio"))
    ]
    assert count(found, "utterance") == {"cremad:1001:sadness:HI:IEO": 3} and not found.rejects
    assert found.defects == ("1 files of AudioMP3 left out: AudioWAV holds the same sound",)
    (media / "AudioWAV/1001_IEO_SAD_HI.wav").unlink()
    assert len(find_clips("cremad", media).clips) == 3


def test_cremad_names(lay):
    found = find_clips("cremad", lay("1040_ITH_SAD_X.wav", "1040_ITH_JOY_XX.wav", "1040_ITH_SAD_ZZ.wav"))
    assert [clip.utterance for clip in found.clips] == ["cremad:1040:sadness:XX:ITH"]
    assert [reject.reason.split(";")[0].split(",")[0] for reject in found.rejects] == [
        *("unknown emotion code 'JOY'", "name is not CREMA-D's AAAA_SSS_EEE_LL")
    ]
    assert found.defects == ("1 clips end in a single X, such as 1040_ITH_SAD_X.wav: taken as intensity XX",)


def test_real_cremad(corpora):
    found = find_clips("cremad", corpora / "crema-d")
    assert count(found, "domain") == {"visual": 6, "audio": 6} and not found.rejects
    assert set(count(found, "emotion").values()) == {2}


# eNTERFACE


@pytest.mark.parametrize("id", ["subject 3/sadness/sentence 4/s3_sa_4.avi", "enterface database/Subject 3/Sadness/Sentence 4/S3_SA_4.AVI"])
def test_enterface_names(lay, id):
    found = find_clips("enterface", lay(id))
    assert [(clip.id, clip.domain) for clip in found.clips] == [(id, "visual"), (id, "audio")] and not found.defects
    clip = found.clips[0]
    assert (clip.speaker, clip.emotion, clip.sentence) == ("enterface:3", "sadness", "sa4")
    assert count(found, "utterance") == {"enterface:3:sadness:4": 2}


def test_enterface_known_defects(lay):
    media = lay(
        *(f"subject 11/anger/sentence {k}/s12_an_{k}.avi" for k in range(1, 6)),
        *(f"subject 11/fear/sentence {k}/s12_fe_{k}.avi" for k in range(1, 6)),
        "subject 13/anger/sentence 1/s13_an_1.avi",
        "subject 13/anger/sentence 2/s13_fe_2.avi",
        "subject 13/anger/sentence 3/s13_an_4.avi",
        "subject 6/anger/s6_an.avi",
        "subject 3/surprise/sentence 4/s_3_su_4.avi",
        "subject 16/surprise/sentence 3/s16_su_3avi",
        "subject 16/surprise/sentence 3/Thumbs.db",
    )
    found = find_clips("enterface", media, domains=("audio",))
    folder_wins = "than their folder: taken as the folder says"
    assert found.defects == (
        "10 clips of folder subject 11 are named s12_*: taken as subject 11",
        "folder subject 12 is missing, as in the published copy",
        "1 clips, such as subject 6/anger/s6_an.avi, are not cut into sentences: taken whole, with take `unsegmented`",
        "2 clips, such as subject 16/surprise/sentence 3/s16_su_3avi, have an odd name: taken as their folders say",
        f"1 clips, such as subject 13/anger/sentence 2/s13_fe_2.avi, name another emotion {folder_wins}",
        f"1 clips, such as subject 13/anger/sentence 3/s13_an_4.avi, name another sentence {folder_wins}",
    )
    assert count(found, "speaker") == {f"enterface:{n}": k for n, k in ((11, 10), (13, 3), (16, 1), (3, 1), (6, 1))}
    (whole,) = (clip for clip in found.clips if clip.take)
    assert (whole.sentence, whole.take, whole.utterance) == ("", "unsegmented", "enterface:6:anger:unsegmented")
    lost_dot = {clip.domain for clip in find_clips("enterface", media).clips if clip.id.endswith("3avi")}
    assert lost_dot == {"visual", "audio"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("subject 1/boredom/sentence 1/s1_bo_1.avi", "unknown emotion folder 'boredom'; expected anger, disgust"),
        ("s1_an_1.avi", "its folders are not eNTERFACE's subject N/<emotion>/sentence K/"),
        ("subject 1/anger/phrase 1/s1_an_1.avi", "its folders are not"),
    ],
)
def test_enterface_rejects(lay, bad, said):
    assert reason(find_clips("enterface", lay("subject 1/fear/sentence 1/s1_fe_1.avi", bad))).startswith(said)


# Class folders


def test_class_folders_with_the_publishers_split(lay):
    media = lay("train/angry/a.jpg", "val/Happy/deep/b.png", "TESTING/fear/c.mp4", "train/smug/d.jpg", "e.jpg")
    found = find_clips("folder", media, name="fer2013")
    assert [(clip.id, clip.domain, clip.emotion, clip.split) for clip in found.clips] == [
        ("TESTING/fear/c.mp4", "visual", "fear", "test"),
        ("TESTING/fear/c.mp4", "audio", "fear", "test"),
        ("train/angry/a.jpg", "visual", "anger", "train"),
        ("val/Happy/deep/b.png", "visual", "happiness", "validation"),
    ]
    assert found.clips[2].utterance == "fer2013:train/angry/a" and found.clips[2].speaker == ""
    assert [reject.id for reject in found.rejects] == ["e.jpg", "train/smug/d.jpg"]
    assert found.rejects[0].reason.startswith("lies in no class folder")
    assert found.rejects[1].reason.startswith("unknown emotion 'smug'; expected anger, boredom, calm")


def test_class_folders_without_a_split(lay):
    found = find_clips("folder", lay("joy/a.wav", "joy/a.mp4", "sad/a.wav"))
    assert count(found, "utterance") == {"folder:joy/a": 3, "folder:sad/a": 1}
    assert count(found, "split") == {"": 4}
    lay("test/joy/b.wav")
    with pytest.raises(InputError, match="a split is expected for all .* 4 of 5 have none, such as joy/a.mp4"):
        find_clips("folder", lay())


# Manifests


def test_manifest(lay):
    media = lay("x/a.mp4", "x/b.wav", "c.jpg")
    header = "Path;emotion;speaker;domain;utterance;sentence;take"
    rows = ["x/a.mp4;Joy;ann;;u1;s;t", "", f"{media}/x/./b.wav;sad;;audio", "c.jpg;anger;;;;;"]
    (media / "manifest.csv").write_text("\n".join([header, *rows]), encoding="utf-8-sig")
    for place in (media, media / "manifest.csv"):
        found = find_clips("folder", place, name="mine")
        assert [(clip.id, clip.domain, clip.emotion, clip.speaker, clip.utterance) for clip in found.clips] == [
            ("c.jpg", "visual", "anger", "", "mine:c"),
            ("x/a.mp4", "visual", "happiness", "mine:ann", "mine:u1"),
            ("x/a.mp4", "audio", "happiness", "mine:ann", "mine:u1"),
            ("x/b.wav", "audio", "sadness", "", "mine:x/b"),
        ]
        assert (found.clips[1].sentence, found.clips[1].take, found.rejects) == ("s", "t", ())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("gone.wav,joy,,", "file is missing: "),
        ("b.wav,smug,,", "unknown emotion 'smug'; expected anger"),
        ("b.wav,joy,dev,", "bad split 'dev'; expected train, validation or test"),
        ("b.wav,joy,,visual", "bad domain 'visual'; expected audio for this file"),
        ("../b.wav,joy,,", "path is outside the manifest's folder"),
        ("/etc/b.wav,joy,,", "path is outside the manifest's folder"),
        ("./a.wav,sad,,", "path is listed already, in line 2"),
        ("notes.txt,joy,,", "is not media by its suffix"),
        (",joy,,", "has no path"),
        ("b.wav,joy,,,more", "has more fields than the header, such as 'more'"),
    ],
)
def test_a_bad_row_costs_itself_alone(lay, row, said):
    media = lay("a.wav", "b.wav", "notes.txt")
    (media / "manifest.csv").write_text(f"path,emotion,split,domain\na.wav,joy,,\n{row}\n", encoding="utf-8")
    found = find_clips("folder", media)
    assert [clip.id for clip in found.clips] == ["a.wav"]
    assert reason(found).startswith(f"line 3 of manifest.csv: {said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,emotion,mood\na.wav,joy,x\n", "must name the columns path and emotion, .*unknown column 'mood'"),
        ("path\na.wav\n", "it has no column 'emotion'"),
        ("path,emotion,path\n", "it has a column twice"),
        ("", "it has no column 'path'"),
        ("path\temotion\n", "found no row below the header"),
        ('path,emotion\n"a.wav,joy\n', "is not valid CSV near line 2"),
        ("path,emotion,split\na.wav,joy,train\nb.wav,joy,\n", "1 of 2 have none, such as b.wav"),
        (b"path,emotion\n\xfc.wav,joy\n", "is expected to be UTF-8; byte 13 is not"),
    ],
)
def test_a_bad_manifest_is_one_line(lay, text, said):
    media = lay("a.wav", "b.wav")
    (media / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=said) as error:
        find_clips("folder", media / "manifest.csv")
    assert "\n" not in str(error.value)


# All kinds


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"kind": "iemocap"}, "corpus must be one of enterface, savee, .*; received 'iemocap'"),
        ({"media": "gone"}, "must be a folder that holds wav/.*; there is none"),
        ({"media": "03a01Wa.wav"}, "must be a folder .*; it is a file"),
        ({"name": "a/b"}, "name must be letters, .*; received 'a/b'"),
        ({"name": ""}, "name must be letters"),
        ({"domains": ("sound",)}, "domains must be some of visual, audio; received sound"),
        ({"domains": ()}, "domains must be some of visual, audio; received none"),
        ({"domains": ("visual",)}, "no visual clip of emodb .*found 1 audio clips, but none in the domains"),
        ({"song": True}, "corpus emodb has no option 'song'"),
        ({"kind": "savee"}, "no visual or audio clip of savee in .*such as 03a01Wa.wav .name is not SAVEE's"),
        ({"media": "empty"}, "found no file; name the folder"),
        ({"media": "papers"}, "found 1 files, none of them such media, such as readme.txt"),
    ],
)
def test_a_wrong_word_is_one_line(lay, words, said):
    media = lay("03a01Wa.wav", "papers/readme.txt")
    (media / "empty").mkdir()
    words = {"kind": "emodb", **words, "media": media / words.get("media", "")}
    with pytest.raises(InputError, match=said) as error:
        find_clips(words.pop("kind"), words.pop("media"), **words)
    assert "\n" not in str(error.value)


def test_only_songs_says_why_nothing_is_found(lay):
    with pytest.raises(InputError, match=r"found 1 song files, .* left out: song was not asked for"):
        find_clips("ravdess", lay("Actor_01/03-02-03-01-01-01-01.wav"))


def test_name_is_in_corpus_speaker_and_utterance(lay):
    clip = only(find_clips("emodb", lay("03a01Wa.wav"), name="berlin-2"))
    assert (clip.corpus, clip.speaker, clip.utterance) == ("berlin-2", "berlin-2:03", "berlin-2:03:anger:a01:a")


def test_a_name_that_is_not_utf8_is_rejected(lay):
    media = lay("03a01Wa.wav")
    try:
        (media / os.fsdecode(b"03a01W\xfc.wav")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = find_clips("emodb", media)
    assert (len(found.clips), found.rejects[0].id) == (1, r"03a01W\udcfc.wav")
    assert reason(found) == "name is not UTF-8; rename the file"


def test_links_are_followed_without_end(lay):
    media = lay("real/joy/a.wav", "set/readme.txt")
    (media / "set/joy").symlink_to(media / "real/joy")
    (media / "real/joy/loop").symlink_to(media / "set")
    assert [clip.id for clip in find_clips("folder", media / "set").clips] == ["joy/a.wav"]


def test_nothing_depends_on_the_order_of_the_directory(lay, monkeypatch):
    media = lay(
        *(f"b {n}/Actor_0{n}/03-01-0{e}-01-01-01-0{n}.wav" for n in range(1, 6) for e in range(1, 9)),
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
