"""Loaders of published corpora: names on disk -> clips, on synthesised layouts (empty files) and on real ones."""

import functools
from pathlib import Path

import pytest

from helpers.layouts import count, lay_files, only, reason, texts
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
    found = find_clips("emodb", corpora / "emodb")
    assert (len(found.clips), found.rejects, found.defects) == (535, (), ())
    letters = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "N": 79, "T": 62}
    assert count(found, "emotion") == {emodb.EMOTIONS[letter]: n for letter, n in letters.items()}
    assert sorted(count(found, "speaker")) == [
        f"emodb:{n}" for n in ("03", "08", "09", *range(10, 17))
    ]
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
    files = [f"{modality}-01-06-02-01-02-02.mp4" for modality in ("01", "02")] + [
        "03-01-06-02-01-02-02.wav"
    ]
    found = find_clips("ravdess", lay(*(f"Actor_02/{file}" for file in files)))
    assert [(clip.id[9:11], clip.domain) for clip in found.clips] == [
        *[("01", "visual"), ("01", "audio"), ("02", "visual"), ("02", "audio"), ("03", "audio")]
    ]
    assert count(found, "utterance") == {"ravdess:01-06-02-01-02-02": 5}
    assert count(found, "speaker") == {"ravdess:02": 5}
    assert (found.clips[0].emotion, found.clips[0].sentence, found.clips[0].take) == (
        "fear",
        "01",
        "02",
    )


def test_ravdess_song_only_when_asked_for(lay):
    media = lay("Actor_01/03-01-03-01-01-01-01.wav", "Actor_01/03-02-03-01-01-01-01.wav")
    found = find_clips("ravdess", media)
    assert [clip.id for clip in found.clips] == [
        "Actor_01/03-01-03-01-01-01-01.wav"
    ] and not found.rejects
    (songs,) = found.defects
    assert songs == (
        "songs",
        "1 song file left out, as song was not asked for",
        ("Actor_01/03-02-03-01-01-01-01.wav",),
    )
    found = find_clips("ravdess", media, song=True)
    assert len(count(found, "utterance")) == 2 and not found.defects


def test_ravdess_takes_the_actor_from_the_name_and_a_file_once(lay):
    name = "03-01-05-01-01-01-07.wav"
    found = find_clips("ravdess", lay(f"Actor_08/{name}", f"again/Actor_07/{name}"))
    assert count(found, "speaker") == {"ravdess:07": 1}
    assert found.defects == (
        (
            "files held twice",
            "1 file left out, as copies of a file of the same name",
            (f"again/Actor_07/{name}",),
        ),
        (
            "odd folders",
            "1 file in another actor's folder, taken by the name",
            (f"Actor_08/{name}",),
        ),
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
    assert (
        count(found, "domain") == {"visual": 3, "audio": 723}
        and not found.rejects
        and not found.defects
    )
    utterances = {Path(clip.id).stem: clip.utterance for clip in found.clips}
    assert utterances["01-01-01-01-01-01-01"] == utterances["03-01-01-01-01-01-01"]
    assert len(count(found, "utterance")) == 720 and len(count(found, "speaker")) == 12


# CREMA-D


def test_cremad_prefers_wav_to_mp3(lay):
    folders = {"VideoFlash": "flv", "AudioWAV": "wav", "AudioMP3": "mp3"}
    media = lay(
        *(f"{folder}/1001_IEO_SAD_HI.{end}" for folder, end in folders.items()), "AudioMP3/odd.mp3"
    )
    found = find_clips("cremad", media)
    assert [(clip.id.split("/")[0], clip.domain) for clip in found.clips] == [
        *(("AudioWAV", "audio"), ("VideoFlash", "visual"), ("VideoFlash", "audio"))
    ]
    assert count(found, "utterance") == {"cremad:1001:sadness:HI:IEO": 3} and not found.rejects
    assert texts(found) == ["1 file of AudioMP3 left out, as AudioWAV holds the same sound"]
    (media / "AudioWAV/1001_IEO_SAD_HI.wav").unlink()
    assert len(find_clips("cremad", media).clips) == 3


def test_cremad_names(lay):
    found = find_clips(
        "cremad", lay("1040_ITH_SAD_X.wav", "1040_ITH_JOY_XX.wav", "1040_ITH_SAD_ZZ.wav")
    )
    assert [clip.utterance for clip in found.clips] == ["cremad:1040:sadness:XX:ITH"]
    assert [reject.reason.split(";")[0].split(",")[0] for reject in found.rejects] == [
        *("unknown emotion code 'JOY'", "name is not CREMA-D's AAAA_SSS_EEE_LL")
    ]
    (odd,) = found.defects
    assert odd == (
        "odd names",
        "1 file with a name that ends in a single X, taken as intensity XX",
        ("1040_ITH_SAD_X.wav",),
    )


def test_real_cremad(corpora):
    found = find_clips("cremad", corpora / "crema-d")
    assert count(found, "domain") == {"visual": 6, "audio": 6} and not found.rejects
    assert set(count(found, "emotion").values()) == {2}


# eNTERFACE


@pytest.mark.parametrize(
    "id",
    [
        "subject 3/sadness/sentence 4/s3_sa_4.avi",
        "enterface database/Subject 3/Sadness/Sentence 4/S3_SA_4.AVI",
    ],
)
def test_enterface_names(lay, id):
    found = find_clips("enterface", lay(id))
    assert [(clip.id, clip.domain) for clip in found.clips] == [
        (id, "visual"),
        (id, "audio"),
    ] and not found.defects
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
    folder_wins = "than the folder, taken as the folder says"
    assert texts(found) == [
        "10 files of folder subject 11, named s12_*, taken as subject 11",
        "folder subject 12 is missing, as in the published copy",
        "1 file not cut into sentences, taken whole, with take `unsegmented`",
        "2 files with an odd name, taken as the folders say",
        f"1 file named after another emotion {folder_wins}",
        f"1 file named after another sentence {folder_wins}",
    ]
    clips_of = {defect.kind: defect.clips for defect in found.defects}
    assert len(clips_of["names of another subject"]) == 10 and clips_of["unsegmented"] == (
        "subject 6/anger/s6_an.avi",
    )
    assert clips_of["odd names"] == (
        "subject 16/surprise/sentence 3/s16_su_3avi",
        "subject 3/surprise/sentence 4/s_3_su_4.avi",
    )
    assert clips_of["names of another emotion"] == ("subject 13/anger/sentence 2/s13_fe_2.avi",)
    assert clips_of["names of another sentence"] == ("subject 13/anger/sentence 3/s13_an_4.avi",)
    assert count(found, "speaker") == {
        f"enterface:{n}": k for n, k in ((11, 10), (13, 3), (16, 1), (3, 1), (6, 1))
    }
    (whole,) = (clip for clip in found.clips if clip.take)
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
    found = find_clips("enterface", lay(*published_enterface()))
    assert (
        count(found, "domain") == {"visual": 42 * 30 + 6, "audio": 42 * 30 + 6}
        and not found.rejects
    )
    assert [(defect.kind, len(defect.clips)) for defect in found.defects] == [
        ("names of another subject", 30),
        ("missing subject", 0),
        ("unsegmented", 6),
        ("odd names", 23),
    ]
    assert texts(found)[0] == "30 files of folder subject 11, named s12_*, taken as subject 11"
    assert count(found, "speaker")["enterface:11"] == 60 and "enterface:12" not in count(
        found, "speaker"
    )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            "subject 1/boredom/sentence 1/s1_bo_1.avi",
            "unknown emotion folder 'boredom'; expected anger, disgust",
        ),
        ("s1_an_1.avi", "its folders are not eNTERFACE's subject N/<emotion>/sentence K/"),
        ("subject 1/anger/phrase 1/s1_an_1.avi", "its folders are not"),
    ],
)
def test_enterface_rejects(lay, bad, said):
    assert reason(
        find_clips("enterface", lay("subject 1/fear/sentence 1/s1_fe_1.avi", bad))
    ).startswith(said)
