"""Loaders of published corpora: names on disk -> clips, on layouts of empty files and on real corpora."""

import functools
from pathlib import Path

import pytest

from helpers.layouts import count, lay_files, only, reason, texts
from helpers.messages import mentions, message_with
from pipelines.corpora import emodb, enterface, find_clips


@pytest.fixture
def lay(tmp_path):
    """A function that makes empty files in a folder and returns the folder."""
    return functools.partial(lay_files, tmp_path)


# EMO-DB


@pytest.mark.parametrize("id", ["wav/03a01Wc.wav", "03a01Wc.WAV", "deep/er/03a01Wc.flac"])
def test_emodb_name(lay, id):
    clip = only(find_clips("emodb", lay(id)))
    assert (clip.id, clip.domain, clip.speaker, clip.emotion) == (id, "audio", "emodb:03", "anger")
    assert (clip.utterance, clip.sentence, clip.take) == ("emodb:03:anger:a01:c", "a01", "c")
    assert clip.path.is_file()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("03a01Xa.wav", ("letter 'X'", "W (anger)", "L (boredom)")),
        ("3a01Wa.wav", ("EMO-DB", "<speaker><text><emotion><version>.wav")),
        ("03c01Wa.wav", ("EMO-DB", "name")),
        ("03a11Wa.wav", ("EMO-DB", "name")),
        ("03a01Wa copy.wav", ("EMO-DB", "name")),
    ],
)
def test_emodb_rejects_other_names(lay, bad, words):
    found_clips = find_clips("emodb", lay("03a01Wa.wav", bad))
    assert [(reject.id, reject.domain) for reject in found_clips.rejects] == [(bad, "audio")]
    assert mentions(reason(found_clips), *words)


def test_hidden_and_other_files_are_not_listed(lay):
    media = lay(
        "03a01Wa.wav",
        ".03a01Wb.wav",
        "._03a01Wa.wav",
        ".git/03a01Wc.wav",
        "erkennung.txt",
        "03a01Wa.png",
    )
    assert only(find_clips("emodb", media)).id == "03a01Wa.wav"


def test_real_emodb(corpora):
    found_clips = find_clips("emodb", corpora / "emodb")
    assert (len(found_clips.clips), found_clips.rejects, found_clips.defects) == (535, (), ())
    letters = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "N": 79, "T": 62}
    assert count(found_clips, "emotion") == {
        emodb.EMOTIONS[letter]: n for letter, n in letters.items()
    }
    assert sorted(count(found_clips, "speaker")) == [
        f"emodb:{n}" for n in ("03", "08", "09", *range(10, 17))
    ]
    assert len(count(found_clips, "utterance")) == 535


# SAVEE


def test_savee_shares_an_utterance_between_sound_and_picture(lay):
    found_clips = find_clips("savee", lay("AudioData/DC/a01.wav", "AudioVisualClip/DC/a01.avi"))
    assert [(clip.id, clip.domain) for clip in found_clips.clips] == [
        ("AudioData/DC/a01.wav", "audio"),
        ("AudioVisualClip/DC/a01.avi", "visual"),
        ("AudioVisualClip/DC/a01.avi", "audio"),
    ]
    assert count(found_clips, "utterance") == {"savee:DC:anger:a01": 3}
    assert count(found_clips, "sentence") == {"a01": 3}


@pytest.mark.parametrize(
    "id", ["KL/su15.wav", "SAVEE/AudioData/KL/su15.WAV", "AudioData/kl/su15.wav"]
)
def test_savee_layouts(lay, id):
    clip = only(find_clips("savee", lay(id)))
    assert (clip.speaker, clip.emotion, clip.utterance) == (
        "savee:KL",
        "surprise",
        "savee:KL:surprise:su15",
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("DC/x01.avi", ("code 'x'", "a (anger)")),
        ("DC/a16.avi", ("number 16", "01 to 15", "anger")),
        ("DC/happy.avi", ("SAVEE", "name")),
        ("XX/a01.avi", ("folder 'XX'", "speaker", "DC, JE, JK, KL")),
    ],
)
def test_savee_rejects_in_each_domain(lay, bad, words):
    found_clips = find_clips("savee", lay("DC/n30.wav", bad))
    assert [reject.domain for reject in found_clips.rejects] == ["visual", "audio"]
    assert mentions(reason(found_clips), *words)
    assert len(find_clips("savee", lay(), domains=("audio",)).rejects) == 1


# RAVDESS


def test_ravdess_modalities_are_one_utterance(lay):
    files = [f"{modality}-01-06-02-01-02-02.mp4" for modality in ("01", "02")] + [
        "03-01-06-02-01-02-02.wav"
    ]
    found_clips = find_clips("ravdess", lay(*(f"Actor_02/{file}" for file in files)))
    assert [(clip.id[9:11], clip.domain) for clip in found_clips.clips] == [
        *[("01", "visual"), ("01", "audio"), ("02", "visual"), ("02", "audio"), ("03", "audio")]
    ]
    assert count(found_clips, "utterance") == {"ravdess:01-06-02-01-02-02": 5}
    assert count(found_clips, "speaker") == {"ravdess:02": 5}
    assert (
        found_clips.clips[0].emotion,
        found_clips.clips[0].sentence,
        found_clips.clips[0].take,
    ) == (
        "fear",
        "01",
        "02",
    )


def test_ravdess_leaves_out_songs_by_default(lay):
    media = lay("Actor_01/03-01-03-01-01-01-01.wav", "Actor_01/03-02-03-01-01-01-01.wav")
    found_clips = find_clips("ravdess", media)
    assert [clip.id for clip in found_clips.clips] == [
        "Actor_01/03-01-03-01-01-01-01.wav"
    ] and not found_clips.rejects
    (songs,) = found_clips.defects
    assert (songs.kind, songs.clips) == ("songs", ("Actor_01/03-02-03-01-01-01-01.wav",))
    assert "1 song file" in songs.text
    found_clips = find_clips("ravdess", media, song=True)
    assert len(count(found_clips, "utterance")) == 2 and not found_clips.defects


def test_ravdess_reads_the_actor_from_the_name_and_each_file_once(lay):
    name = "03-01-05-01-01-01-07.wav"
    found_clips = find_clips("ravdess", lay(f"Actor_08/{name}", f"again/Actor_07/{name}"))
    assert count(found_clips, "speaker") == {"ravdess:07": 1}
    assert [(defect.kind, defect.clips) for defect in found_clips.defects] == [
        ("files held twice", (f"again/Actor_07/{name}",)),
        ("odd folders", (f"Actor_08/{name}",)),
    ]
    assert all("1 file" in text for text in texts(found_clips))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("03-01-05-01-01-01.wav", ("RAVDESS", "MM-VC-EE-II-SS-RR-AA")),
        ("03-01-05-01-01-01-1.wav", ("RAVDESS", "name")),
        ("04-01-05-01-01-01-01.wav", ("modality 04", "01 to 03")),
        ("03-01-09-01-01-01-01.wav", ("emotion 09", "01 to 08")),
        ("03-01-05-01-01-01-25.wav", ("actor 25", "01 to 24")),
        ("03-03-05-01-01-01-01.wav", ("vocal channel 03",)),
    ],
)
def test_ravdess_rejects(lay, bad, words):
    found_clips = find_clips("ravdess", lay("03-01-05-01-01-01-01.wav", bad))
    assert mentions(reason(found_clips), *words)


def test_real_ravdess(corpora):
    found_clips = find_clips("ravdess", corpora / "ravdess")
    assert (
        count(found_clips, "domain") == {"visual": 3, "audio": 723}
        and not found_clips.rejects
        and not found_clips.defects
    )
    utterances = {Path(clip.id).stem: clip.utterance for clip in found_clips.clips}
    assert utterances["01-01-01-01-01-01-01"] == utterances["03-01-01-01-01-01-01"]
    assert len(count(found_clips, "utterance")) == 720 and len(count(found_clips, "speaker")) == 12


# CREMA-D


def test_cremad_prefers_wav_to_mp3(lay):
    folders = {"VideoFlash": "flv", "AudioWAV": "wav", "AudioMP3": "mp3"}
    media = lay(
        *(f"{folder}/1001_IEO_SAD_HI.{end}" for folder, end in folders.items()), "AudioMP3/odd.mp3"
    )
    found_clips = find_clips("cremad", media)
    assert [(clip.id.split("/")[0], clip.domain) for clip in found_clips.clips] == [
        *(("AudioWAV", "audio"), ("VideoFlash", "visual"), ("VideoFlash", "audio"))
    ]
    assert (
        count(found_clips, "utterance") == {"cremad:1001:sadness:HI:IEO": 3}
        and not found_clips.rejects
    )
    assert message_with(texts(found_clips), "1 file", "AudioMP3", "AudioWAV")
    (media / "AudioWAV/1001_IEO_SAD_HI.wav").unlink()
    assert len(find_clips("cremad", media).clips) == 3


def test_cremad_names(lay):
    found_clips = find_clips(
        "cremad", lay("1040_ITH_SAD_X.wav", "1040_ITH_JOY_XX.wav", "1040_ITH_SAD_ZZ.wav")
    )
    assert [clip.utterance for clip in found_clips.clips] == ["cremad:1040:sadness:XX:ITH"]
    wrong_emotion, wrong_intensity = (reject.reason for reject in found_clips.rejects)
    assert "'JOY'" in wrong_emotion
    assert mentions(wrong_intensity, "CREMA-D", "AAAA_SSS_EEE_LL")
    (odd,) = found_clips.defects
    assert (odd.kind, odd.clips) == ("odd names", ("1040_ITH_SAD_X.wav",))
    assert mentions(odd.text, "1 file", "intensity XX")


def test_real_cremad(corpora):
    found_clips = find_clips("cremad", corpora / "crema-d")
    assert count(found_clips, "domain") == {"visual": 6, "audio": 6} and not found_clips.rejects
    assert set(count(found_clips, "emotion").values()) == {2}


# eNTERFACE


@pytest.mark.parametrize(
    "id",
    [
        "subject 3/sadness/sentence 4/s3_sa_4.avi",
        "enterface database/Subject 3/Sadness/Sentence 4/S3_SA_4.AVI",
    ],
)
def test_enterface_names(lay, id):
    found_clips = find_clips("enterface", lay(id))
    assert [(clip.id, clip.domain) for clip in found_clips.clips] == [
        (id, "visual"),
        (id, "audio"),
    ] and not found_clips.defects
    clip = found_clips.clips[0]
    assert (clip.speaker, clip.emotion, clip.sentence) == ("enterface:3", "sadness", "sa4")
    assert count(found_clips, "utterance") == {"enterface:3:sadness:4": 2}


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
    found_clips = find_clips("enterface", media, domains=("audio",))
    expected_words = [
        ("10 files", "subject 11", "s12_*"),
        ("subject 12", "missing"),
        ("1 file", "`unsegmented`"),
        ("2 files", "odd name"),
        ("1 file", "another emotion"),
        ("1 file", "another sentence"),
    ]
    for text, words in zip(texts(found_clips), expected_words, strict=True):
        assert mentions(text, *words)
    clips_of = {defect.kind: defect.clips for defect in found_clips.defects}
    assert len(clips_of["names of another subject"]) == 10 and clips_of["unsegmented"] == (
        "subject 6/anger/s6_an.avi",
    )
    assert clips_of["odd names"] == (
        "subject 16/surprise/sentence 3/s16_su_3avi",
        "subject 3/surprise/sentence 4/s_3_su_4.avi",
    )
    assert clips_of["names of another emotion"] == ("subject 13/anger/sentence 2/s13_fe_2.avi",)
    assert clips_of["names of another sentence"] == ("subject 13/anger/sentence 3/s13_an_4.avi",)
    assert count(found_clips, "speaker") == {
        f"enterface:{n}": k for n, k in ((11, 10), (13, 3), (16, 1), (3, 1), (6, 1))
    }
    (whole,) = (clip for clip in found_clips.clips if clip.take)
    assert (whole.sentence, whole.take, whole.utterance) == (
        "",
        "unsegmented",
        "enterface:6:anger:unsegmented",
    )
    lost_dot = {
        clip.domain for clip in find_clips("enterface", media).clips if clip.id.endswith("3avi")
    }
    assert lost_dot == {"visual", "audio"}


def published_enterface() -> list[str]:
    """Return the names of the published copy: 43 folders of subjects, and three kinds of oddity in them."""
    ids = []
    for subject in (n for n in range(1, 45) if n != 12):
        for code, emotion in enterface.EMOTIONS.items():
            folder, named = f"subject {subject}/{emotion}", 12 if subject == 11 else subject
            if subject == 6:
                ids.append(f"{folder}/s6_{code}.avi")
            else:
                ids += [f"{folder}/sentence {k}/s{named}_{code}_{k}.avi" for k in range(1, 6)]
    odd = {
        "subject 16/surprise/sentence 3/s16_su_3.avi": "subject 16/surprise/sentence 3/s16_su_3avi"
    }
    odd |= {
        id: id.replace("/s3_", "/s_3_")
        for id in [id for id in ids if id.startswith("subject 3/")][:22]
    }
    return [odd.get(id, id) for id in ids]


def test_enterface_as_published(lay):
    """42 subjects of 30 clips and 6 files of subject 6; 22 + 1 odd names."""
    found_clips = find_clips("enterface", lay(*published_enterface()))
    assert (
        count(found_clips, "domain") == {"visual": 42 * 30 + 6, "audio": 42 * 30 + 6}
        and not found_clips.rejects
    )
    assert [(defect.kind, len(defect.clips)) for defect in found_clips.defects] == [
        ("names of another subject", 30),
        ("missing subject", 0),
        ("unsegmented", 6),
        ("odd names", 23),
    ]
    assert mentions(texts(found_clips)[0], "30 files", "subject 11", "s12_*")
    assert count(found_clips, "speaker")["enterface:11"] == 60 and "enterface:12" not in count(
        found_clips, "speaker"
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (
            "subject 1/boredom/sentence 1/s1_bo_1.avi",
            ("folder 'boredom'", "anger, disgust"),
        ),
        ("s1_an_1.avi", ("eNTERFACE", "subject N/<emotion>/sentence K/")),
        ("subject 1/anger/phrase 1/s1_an_1.avi", ("eNTERFACE", "folders")),
    ],
)
def test_enterface_rejects(lay, bad, words):
    found_clips = find_clips("enterface", lay("subject 1/fear/sentence 1/s1_fe_1.avi", bad))
    assert mentions(reason(found_clips), *words)
