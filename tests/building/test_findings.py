"""What is odd in a set: each known defect on rows made for it, and on the real corpora."""

import hashlib
import json
from pathlib import PurePosixPath

import av
import pytest

from helpers.manifests import manifest, row
from pipelines.building.findings import examine, finding_line, manifests_in
from pipelines.corpora import find_clips, folder
from pipelines.corpora.clip import Defect, Reject


def found(*rows, **more):
    """Return the findings of a set by kind; none of them twice."""
    findings = examine(manifest(*rows), **more)
    assert len({finding["kind"] for finding in findings}) == len(findings)
    return {finding["kind"]: finding for finding in findings}


def only(finding_of):
    (finding,) = finding_of.values()
    return finding


def test_nothing_is_found_in_a_sound_set():
    assert (
        examine(
            manifest(
                *(
                    row(f"{n}", content=f"c{n}", rate_hz=16_000, channels=1, looked_at=1)
                    for n in range(9)
                )
            )
        )
        == []
    )


def test_byte_copies():
    rows = [
        row("a", content="1"),
        row("b", content="2"),
        *(row(id, sha256="a", content="1") for id in "cd"),
    ]
    finding = only(found(*rows, row("e", sha256=""), row("f", sha256="")))
    assert finding == {
        **{"kind": "byte copies", "grade": "defect"},
        **{"text": "3 files in 1 group are byte-identical", "groups": [["a", "c", "d"]]},
    }
    assert finding_line(finding) == "3 files in 1 group are byte-identical: a = c = d"


def test_copies_that_only_decoding_shows():
    """Of the byte copies a and b, c has the sound in another file; d and e are the video and the sound of one utterance."""
    rows = [row("a", content="1"), row("b", content="1", sha256="a"), row("c", content="1")]
    rows += [row("d", content="2"), row("e", content="2", utterance="d")]
    findings = found(*rows)
    assert findings["same content"]["groups"] == [["a", "b", "c"]]
    assert (
        findings["same content"]["text"]
        == "3 files in 1 group are the same once decoded, though not byte for byte"
    )
    assert findings["byte copies"]["groups"] == [["a", "b"]]
    assert findings["several files of an utterance"]["groups"] == [["d", "e"]]
    assert len(findings) == 3


def test_copies_with_conflicting_labels_and_speakers():
    """Once a group, whether its files are copies by bytes or by content; a speaker whom nobody knows is no other."""
    rows = [
        row("a", content="1"),
        row("b", sha256="a", content="1", emotion="fear"),
        row("c", content="1", speaker="s:2"),
    ]
    rows += [row("d"), row("e", sha256="d", speaker="")]
    findings = found(*rows)
    assert (
        findings["conflicting labels"]["groups"]
        == findings["copies of several speakers"]["groups"]
        == [["a", "b", "c"]]
    )
    assert (
        finding_line(findings["conflicting labels"])
        == "1 group of copies with more than one emotion: a (anger) = b (fear) = c (anger)"
    )
    assert findings["copies of several speakers"]["labels"] == [["s:1", "s:1", "s:2"]]


def test_copies_across_the_publishers_split():
    rows = [
        row("a", split="train"),
        row("b", sha256="a", split="test"),
        row("c", sha256="a", split="test"),
        row("d", split="validation"),
    ]
    findings = found(*rows)
    assert (
        findings["copies across splits"]["text"]
        == "2 files of the publisher's test split with a copy in train"
    )
    assert findings["copies across splits"]["groups"] == [["a", "b", "c"]]
    assert "copies across splits" not in found(
        row("a", split="test"), row("b", sha256="a", split="test")
    )


def test_copies_in_another_corpus_and_in_the_other_domain():
    """By bytes or by content; the one video that both domains are read from is no copy of itself."""
    rows = [row("a.mp4"), row("b.wav", content="2"), row("c.wav")]
    sight = manifest(row("a.mp4", sha256="a.mp4"), row("z.mp4", sha256="c.wav"), source="s/visual")
    other = manifest(row("x.flac", content="2"), row("a.mp4"), source="t/audio")
    groups = {
        finding["text"]: finding["groups"]
        for finding in examine(
            manifest(*rows), other_manifests={"s/visual": sight, "t/audio": other}
        )
        if finding["kind"] == "copies in another set"
    }
    assert groups == {
        "1 clip is in s/visual too": [["c.wav", "s/visual: z.mp4"]],
        "2 clips are in t/audio too": [["a.mp4", "t/audio: a.mp4"], ["b.wav", "t/audio: x.flac"]],
    }


def test_utterances_of_both_domains_are_a_fact_and_of_several_files_a_notice():
    rows = [
        row("a.wav", utterance="a"),
        row("a.avi", utterance="a"),
        row("b.wav", utterance="b"),
        row("c.wav", utterance="c"),
    ]
    sight = manifest(
        row("a.avi", utterance="a", sha256="a.avi"), row("b.avi", utterance="b"), source="s/visual"
    )
    findings = found(
        *rows,
        other_manifests={
            "s/visual": sight,
            "t/visual": sight | {"corpus": "t", "clips": sight["clips"][1:]},
        },
    )
    shared = {
        "kind": "utterances in both domains",
        "grade": "fact",
        "text": "2 of 3 utterances are in s/visual too",
    }
    several = findings["several files of an utterance"]
    assert findings["utterances in both domains"] == shared and len(findings) == 2
    assert several["grade"] == "notice" and several["groups"] == [["a.wav", "a.avi"]]
    assert several["text"].startswith(
        "1 clip is another file of an utterance that is there already"
    )


def test_a_stereo_file_among_mono():
    rows = [row(f"{n}.wav", rate_hz=16_000, channels=1) for n in range(60)]
    finding = only(found(*rows, row("s.wav", rate_hz=48_000, channels=2)))
    assert (finding["kind"], finding["grade"], finding["clips"]) == (
        "odd sound format",
        "defect",
        ["s.wav"],
    )
    assert (
        finding["text"] == "1 .wav file is of 48 kHz stereo sound, where 60 of 61 have 16 kHz mono"
    )
    assert only(found(*rows, row("r.wav", rate_hz=16_000, channels=6)))["text"].startswith(
        "1 .wav file is of 16 kHz 6-channel sound"
    )
    assert (
        only(found(*rows[:2], row("s.wav", rate_hz=16_000, channels=2)))["kind"]
        == "odd sound format"
    )
    assert (
        only(found(*rows[:1], row("s.wav", rate_hz=16_000, channels=2)))["kind"] == "sound formats"
    )
    halves = [row(f"{n}.flv", rate_hz=44_100, channels=1) for n in range(30)]
    fact = only(found(*rows, *halves))
    assert (fact["kind"], fact["grade"], len(fact["clips"])) == ("sound formats", "fact", 30)
    assert (
        fact["text"] == "30 .flv files are of 44.1 kHz mono sound, where 60 of 90 have 16 kHz mono"
    )


@pytest.mark.parametrize(
    ("rows", "kind", "said"),
    [
        (
            [row("a", padded=True), row("b", padded=False)],
            "padded clips",
            "1 clip.*shorter.*segment.*padded.*floor: a",
        ),
        (
            [row("a", looked_at=2), row("b", looked_at=1)],
            "frames without a face",
            "1 clip.*fewer faces.*frames looked.*: a",
        ),
        (
            [row("a", undecodable=3), row("b", undecodable=1), row("c", undecodable=0)],
            "undecodable parts",
            "2 clips .* .4 in all.: a, b",
        ),
        (
            [row("a", missing_seconds=0.7), row("b", missing_seconds=0.0)],
            "truncated files",
            "1 file.*cut off: .*: a",
        ),
        (
            [row("a"), row("b"), row("c", emotion="fear")],
            "uneven emotions",
            "emotion anger.*2.0 times.*clips.*fear .2.*1.",
        ),
        (
            [row("a"), row("b"), row("c", speaker="s:2"), row("d", speaker="")],
            "uneven speakers",
            "speaker s:1.*2.0 times.*clips.*s:2",
        ),
    ],
)
def test_what_rows_tell(rows, kind, said):
    finding = only(found(*rows))
    assert finding["kind"] == kind
    with pytest.raises(ValueError, match=said):
        raise ValueError(finding_line(finding))


def test_what_the_loader_met_and_what_is_quarantined():
    bad = [
        {"path": "y", "reason": "no end", "sha256": "h", "retry": "time"},
        {"path": "x", "reason": "broken", "sha256": "i"},
    ]
    findings = examine(
        manifest(row("a"), quarantined=bad),
        rejects=[Reject("z", "audio", "odd")],
        defects=[Defect("odd names", "1 file", ("a",))],
    )
    assert [(finding["kind"], finding["grade"], finding["clips"]) for finding in findings] == [
        ("odd names", "defect", ["a"]),
        ("quarantined", "fact", ["x", "y", "z"]),
    ]
    assert findings[1]["text"].startswith(
        "quarantined: 3 of 4 files; 1 of them are read again by the next build"
    )


def test_manifests_are_those_of_the_whole_sets_in_a_folder(tmp_path):
    for source in ("other/visual", "other/audio", "broken/audio", "other/notes", "deep/er/audio"):
        (tmp_path / source).mkdir(parents=True)
        held = manifest(row("a"), source=source) | {"schema": 1, "spec": {}, "shards": []}
        (tmp_path / source / "manifest.json").write_text(
            "{" if source.startswith("broken") else json.dumps(held)
        )
    beside = manifests_in(tmp_path)
    assert (
        list(beside) == ["other/audio", "other/visual"]
        and beside["other/audio"]["clips"][0]["id"] == "a"
    )


def test_a_set_is_not_beside_itself():
    held = manifest(row("a"), row("b"))
    assert examine(held, other_manifests={"s/audio": held}) == []


def test_real_ravdess(corpora):
    """Two takes that are one file, and one file that is still as it was published, 48 kHz stereo; two videos of that sound too."""
    rows = []
    for clip in find_clips("ravdess", corpora / "ravdess", domains=("audio",)).clips:
        with av.open(str(clip.path)) as container:
            sound = {
                "rate_hz": container.streams.audio[0].rate,
                "channels": container.streams.audio[0].channels,
            }
        digest = hashlib.sha256(clip.path.read_bytes()).hexdigest()
        rows.append(
            row(
                clip.id,
                sha256=digest,
                utterance=clip.utterance,
                emotion=clip.emotion,
                speaker=clip.speaker,
                **sound,
            )
        )
    findings = examine(manifest(*rows))
    (copies,) = (finding for finding in findings if finding["kind"] == "byte copies")
    assert copies["groups"] == [
        ["Actor_07/03-01-03-01-02-01-07.flac", "Actor_07/03-01-03-01-02-02-07.flac"]
    ]
    odd = {
        PurePosixPath(finding["clips"][0]).suffix: finding["clips"]
        for finding in findings
        if finding["kind"] == "odd sound format"
    }
    assert (
        len(odd[".mp4"]) == 3
        and odd[".wav"] == ["Actor_01/03-01-02-01-01-02-01.wav"]
        and len(odd) == 2
    )
    assert not {"conflicting labels", "copies of several speakers"} & {
        finding["kind"] for finding in findings
    }


def test_real_fer2013(fer2013_files):
    """1 516 groups of byte-identical files, 57 of them with conflicting labels; 288 test images are copies of training images."""
    rows = []
    for name, digest in fer2013_files:
        id = PurePosixPath(name).relative_to("fer2013")
        labels = folder.labels_of(id)
        rows.append(
            row(str(id), sha256=digest, speaker="", emotion=labels.emotion, split=labels.split)
        )
    findings = examine(manifest(*rows))
    texts = [finding["text"] for finding in findings]
    assert texts[:2] == [
        "3369 files in 1516 groups are byte-identical",
        "57 groups of copies with more than one emotion",
    ]
    assert "288 files of the publisher's test split with a copy in train" in texts
    assert (len(rows), len(findings[0]["groups"]), sum(map(len, findings[0]["groups"]))) == (
        35_887,
        1516,
        3369,
    )
    assert all(len(set(labels)) > 1 for labels in findings[1]["labels"])
